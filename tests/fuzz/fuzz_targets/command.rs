//! Any line is a command or a mistake. A command means the same in other case, with white space behind it, and, if it is
//! MAIL or RCPT, printed from what was parsed; nothing below 32 and no DEL is in any.
#![no_main]
use libfuzzer_sys::fuzz_target;
use penstock::smtp::command::{Body, Command, Mail, Parameter, Rcpt, verb};
use penstock::smtp::parameter::{Hold, Ret};
use penstock::smtp::path::{ForwardPath, ReversePath};

fn print_mail(mail: &Mail) -> Vec<u8> {
    let mut line = b"MAIL FROM:<".to_vec();
    if let ReversePath::Mailbox(mailbox) = mail.reverse_path {
        line.extend_from_slice(mailbox.as_bytes());
    }
    line.push(b'>');
    let mut parameter = |name: &str, value: &[u8]| line.extend([b" ", name.as_bytes(), value].concat());
    if let Some(size) = mail.size {
        parameter("SIZE=", size.to_string().as_bytes());
    }
    if mail.given.contains(Parameter::Body) {
        let body = match mail.body {
            Body::SevenBit => "7BIT",
            Body::EightBitMime => "8BITMIME",
            Body::BinaryMime => "BINARYMIME",
        };
        parameter("BODY=", body.as_bytes());
    }
    if mail.smtputf8 {
        parameter("SMTPUTF8", b"");
    }
    if mail.require_tls {
        parameter("REQUIRETLS", b"");
    }
    if let Some(auth) = mail.auth {
        parameter("AUTH=", auth.as_bytes());
    }
    if let Some(ret) = mail.ret {
        parameter("RET=", if ret == Ret::Full { b"FULL" } else { b"HDRS" });
    }
    if let Some(envid) = mail.envid {
        assert!(envid.as_bytes().len() <= 100);
        parameter("ENVID=", envid.as_bytes());
    }
    match mail.hold {
        Some(Hold::For(seconds)) => parameter("HOLDFOR=", seconds.to_string().as_bytes()),
        Some(Hold::Until(epoch_s)) => {
            let moment = jiff::Timestamp::from_second(epoch_s as i64).expect("it was parsed");
            parameter("HOLDUNTIL=", moment.to_string().as_bytes());
        }
        None => {}
    }
    line
}

fn print_rcpt(rcpt: &Rcpt) -> Vec<u8> {
    let path = match rcpt.path {
        ForwardPath::Postmaster => b"postmaster",
        ForwardPath::Mailbox(mailbox) => mailbox.as_bytes(),
    };
    let mut line = [b"RCPT TO:<", path, b">"].concat();
    if let Some(notify) = rcpt.notify {
        line.extend([b" NOTIFY=", notify.as_str().as_bytes()].concat());
    }
    if let Some(orcpt) = rcpt.orcpt {
        assert!(orcpt.as_bytes().len() <= 500);
        line.extend([b" ORCPT=", orcpt.as_bytes()].concat());
    }
    line
}

fuzz_target!(|line: &[u8]| {
    let parsed = Command::parse(line);
    assert_eq!(Command::parse(&[line, b" \t "].concat()), parsed);
    let mut lower = line.to_vec();
    lower[..verb(line).len()].make_ascii_lowercase();
    assert_eq!(Command::parse(&lower), parsed);
    let Ok(command) = parsed else { return };
    let visible = line.trim_ascii_end();
    assert!(!visible.iter().any(|octet| *octet < b' ' || *octet == 127));
    let printed = match command {
        Command::Mail(mail) => print_mail(&mail),
        Command::Rcpt(rcpt) => print_rcpt(&rcpt),
        _ => return,
    };
    assert_eq!(Command::parse(&printed), Ok(command), "{}", printed.escape_ascii());
});

//! Any line is a command or a mistake; a path that was parsed prints as it was written.
#![no_main]
use libfuzzer_sys::fuzz_target;
use penstock::smtp::command::{Command, Rcpt};
use penstock::smtp::path::{ForwardPath, ReversePath};

fuzz_target!(|line: &[u8]| {
    let mailbox = match Command::parse(line) {
        Ok(Command::Mail(mail)) => match mail.reverse_path {
            ReversePath::Mailbox(mailbox) => mailbox,
            ReversePath::Null => return,
        },
        Ok(Command::Rcpt(Rcpt { path: ForwardPath::Mailbox(mailbox), .. })) => mailbox,
        _ => return,
    };
    let printed = [mailbox.local_part(), b"@", mailbox.domain()].concat();
    assert_eq!(printed, mailbox.as_bytes());
    assert!(!printed.iter().any(|octet| *octet < b' ' || *octet == 127));
});

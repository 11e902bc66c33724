use super::*;
use crate::smtp::command::Command;
use crate::smtp::xtext;
use proptest::prelude::*;

fn mail(parameters: &str) -> Result<Mail<'_>, Mistake> {
    Mail::parse(ReversePath::Null, parameters.as_bytes())
}

fn rcpt(parameters: &str) -> Result<Rcpt<'_>, Mistake> {
    Rcpt::parse(ForwardPath::Postmaster, parameters.as_bytes())
}

/// Each value that is refused, with the parameter that it is refused for.
#[track_caller]
fn refused(keyword: &str, parameter: Parameter, values: &[&str]) {
    for value in values {
        let text = format!("{keyword}{value}");
        let mistake = match parameter {
            Parameter::Notify | Parameter::Orcpt => rcpt(&text).err(),
            _ => mail(&text).err(),
        };
        assert_eq!(mistake, Some(Mistake::Value(parameter)), "{text:?}");
    }
}

// covers: 5.8
#[test]
fn size() {
    for (text, octets) in [
        ("SIZE=0", 0),
        ("size=00000000000000000012", 12),
        ("SIZE=18446744073709551615", u64::MAX),
        ("SIZE=18446744073709551617", u64::MAX),
        ("SIZE=99999999999999999999", u64::MAX),
    ] {
        assert_eq!(mail(text).map(|mail| mail.size), Ok(Some(octets)), "{text}");
    }
    let values =
        ["", "=", "=x", "=1x", "=-1", "=+1", "=1.5", "=0x10", "=100000000000000000000", "=000000000000000000000"];
    refused("SIZE", Parameter::Size, &values);
}

// covers: 5.10 5.13
#[test]
fn body_and_the_two_without_a_value() {
    assert_eq!(mail("BODY=7bit").map(|mail| mail.body), Ok(Body::SevenBit));
    assert_eq!(mail("body=8BITMIME").map(|mail| mail.body), Ok(Body::EightBitMime));
    assert_eq!(mail("BODY=BINARYMIME").map(|mail| mail.body), Ok(Body::BinaryMime));
    let both = mail("SmtpUtf8 requiretls").expect("legal");
    assert!(both.smtputf8 && both.require_tls);
    refused("BODY", Parameter::Body, &["", "=", "=8BIT", "=7BIT,8BITMIME", "=8BITMIMEx", "==7BIT"]);
    refused("SMTPUTF8", Parameter::SmtpUtf8, &["=", "=1", "=yes"]);
    refused("REQUIRETLS", Parameter::RequireTls, &["=", "=1", "=yes"]);
}

// covers: 5.12
#[test]
fn auth() {
    assert_eq!(mail("AUTH=<>").map(|mail| mail.auth), Ok(Some(Submitter::Unknown)));
    for value in ["anna@example.edu", "e+3Dmc2@example.com", "+22a+20b+22@example.edu", "j+C3+B6rg@example.edu"] {
        let text = format!("AUTH={value}");
        let auth = mail(&text).expect(&text).auth.expect("given");
        assert!(matches!(auth, Submitter::Mailbox(_)), "{text}");
        assert_eq!(auth.as_bytes(), value.as_bytes());
    }
    let long = format!("={}@b", "+61".repeat(64));
    assert!(mail(&format!("AUTH{long}")).is_ok());
    let values =
        ["", "=", "=anna", "=a@", "=<a@b>", "=a+b", "=+3C+3E", "=a@b+0D+0A", "=a@b+00", "=a@b+2", "=a+FF@b", "=a@b=c"];
    refused("AUTH", Parameter::Auth, &values);
    refused("AUTH", Parameter::Auth, &[&format!("={}@b", "+61".repeat(65)), &format!("={}", "+61".repeat(200))]);
}

// covers: 5.11
#[test]
fn ret_and_envid() {
    assert_eq!(mail("RET=full").map(|mail| mail.ret), Ok(Some(Ret::Full)));
    assert_eq!(mail("ret=HDRS").map(|mail| mail.ret), Ok(Some(Ret::Headers)));
    refused("RET", Parameter::Ret, &["", "=", "=HEADERS", "=FULL,HDRS"]);
    let longest = format!("ENVID={}", "a".repeat(100));
    for text in ["ENVID=QQ314159", "envid=a+20b+2Bc+3D", "ENVID=<x@y>", &longest] {
        let envid = mail(text).expect(text).envid.expect("given");
        assert_eq!(envid.as_bytes(), &text.as_bytes()[6..]);
    }
    let too_long = format!("={}", "a".repeat(101));
    refused("ENVID", Parameter::Envid, &["", "=", "=a+b", "=a+0A", "=+00", "=+7F", "=+C3+A9", "=a=b", "=é", &too_long]);
}

// covers: 3.6
#[test]
fn hold() {
    assert_eq!(mail("HOLDFOR=1").map(|mail| mail.hold), Ok(Some(Hold::For(1))));
    assert_eq!(mail("holdfor=999999999").map(|mail| mail.hold), Ok(Some(Hold::For(999_999_999))));
    for (date, epoch_s) in [
        ("2026-11-22T06:30:00Z", 1_795_329_000),
        ("2026-11-22t07:30:00+01:00", 1_795_329_000),
        ("2026-11-22T06:30:00-00:00", 1_795_329_000),
        ("2026-11-22T06:29:59.000000001z", 1_795_329_000),
        ("2026-11-22T06:30:00.0Z", 1_795_329_000),
        ("1969-12-31T23:59:59Z", 0),
        ("0001-01-01T00:00:00Z", 0),
        ("2028-02-29T00:00:00Z", 1_835_395_200),
    ] {
        let text = format!("HOLDUNTIL={date}");
        assert_eq!(mail(&text).map(|mail| mail.hold), Ok(Some(Hold::Until(epoch_s))), "{text}");
    }
    refused("HOLDFOR", Parameter::HoldFor, &["", "=", "=0", "=01", "=1000000000", "=-1", "=1s", "=1.5"]);
    let dates = [
        "",
        "=",
        "=1795329000",
        "=2026-11-22",
        "=2026-11-22T06:30:00",
        "=2026-11-22T06:30Z",
        "=20261122T063000Z",
        "=2026-11-22T06:30:00,5Z",
        "=2026-11-22T06:30:00.Z",
        "=2026-11-22T06:30:00+0100",
        "=2026-11-22T06:30:00+01",
        "=2026-11-22T06:30:00+01:00:00",
        "=2026-11-22T06:30:00+25:00",
        "=2026-11-22T06:30:00Z[Europe/Berlin]",
        "=2026-13-22T06:30:00Z",
        "=2026-02-29T06:30:00Z",
        "=2026-11-22T24:30:00Z",
        "=2026-11-22T06:60:00Z",
        "=2026-11-22_06:30:00Z",
        "=+002026-11-22T06:30:00Z",
        "=2026-11-22T06:30:00.0000000000000000000000000000001Z\u{e9}",
    ];
    refused("HOLDUNTIL", Parameter::HoldUntil, &dates);
    assert_eq!(mail("HOLDFOR=1 HOLDUNTIL=2026-11-22T06:30:00Z"), Err(Mistake::Value(Parameter::HoldUntil)));
    assert_eq!(mail("HOLDUNTIL=2026-11-22T06:30:00Z HOLDFOR=1"), Err(Mistake::Value(Parameter::HoldFor)));
}

// covers: 5.11
#[test]
fn notify() {
    for (text, form) in [
        ("NOTIFY=NEVER", "NEVER"),
        ("notify=never", "NEVER"),
        ("NOTIFY=DELAY,success", "SUCCESS,DELAY"),
        ("NOTIFY=FAILURE", "FAILURE"),
        ("NOTIFY=FAILURE,DELAY,SUCCESS", "SUCCESS,FAILURE,DELAY"),
    ] {
        let notify = rcpt(text).expect(text).notify.expect("given");
        assert_eq!(notify.as_str(), form);
        assert_eq!(Notify::parse(form.as_bytes()), Some(notify));
        assert_eq!(
            (notify.success(), notify.failure(), notify.delay()),
            (form.contains("SUCCESS"), form.contains("FAILURE"), form.contains("DELAY")),
        );
    }
    let values = [
        "",
        "=",
        "=,",
        "=NEVER,FAILURE",
        "=FAILURE,NEVER",
        "=DELAY,DELAY",
        "=DELAY,",
        "=,DELAY",
        "=DELAY;FAILURE",
        "=ALWAYS",
    ];
    refused("NOTIFY", Parameter::Notify, &values);
}

// covers: 5.11
#[test]
fn orcpt() {
    let longest = format!("rfc822;{}", "a".repeat(493));
    for value in [
        "rfc822;ben@example.org",
        "RFC822;not+20a+20mailbox",
        "rfc822;a+2Bb@example.org",
        "x400;/c=us".replace('=', "+3D").as_str(),
        "utf-8;ben@example.org",
        r"utf-8;j\x{F6}rg@example.org",
        r"UTF-8;a\x{2B}b\x{3d}\x{5C}\x{20}@example.org",
        "utf-8;jörg@bücher.example",
        r"utf-8;\x{1F600}\x{10FFFD}@example.org".replace("10FFFD", "10FFFC").as_str(),
        &longest,
    ] {
        let text = format!("ORCPT={value}");
        let orcpt = rcpt(&text).unwrap_or_else(|mistake| panic!("{text}: {mistake:?}")).orcpt.expect("given");
        assert_eq!(orcpt.as_bytes(), value.as_bytes());
        assert_eq!([orcpt.address_type(), b";", orcpt.address()].concat(), value.as_bytes());
        assert_eq!(orcpt.is_ascii(), value.is_ascii());
    }
    let too_long = format!("=rfc822;{}", "a".repeat(494));
    let values = [
        "",
        "=",
        "=rfc822",
        "=rfc822;",
        "=;a@b",
        "=ben@example.org",
        "=rfc 822;a@b",
        "=rfc@822;a@b",
        "=rfc822;a+b",
        "=rfc822;a+0D+0A",
        "=rfc822;jörg@example.org",
        "=rfc822;j+C3+B6rg@example.org",
        "=é;a@b",
        "=utf-8;",
        "=utf-8;a+2Bb",
        r"=utf-8;\",
        r"=utf-8;\x",
        r"=utf-8;\x{}",
        r"=utf-8;\x{F6",
        r"=utf-8;\x{0F6}",
        r"=utf-8;\x{6}",
        r"=utf-8;\x{61}",
        r"=utf-8;\x{0A}",
        r"=utf-8;\x{7F}",
        r"=utf-8;\x{85}",
        r"=utf-8;\x{D800}",
        r"=utf-8;\x{202E}",
        r"=utf-8;\x{110000}",
        r"=utf-8;\x{+F6}",
        "=utf-8;a\u{202e}b",
        &too_long,
    ];
    for value in values {
        let words = rcpt(&format!("ORCPT{value}")).err();
        // A space starts another parameter.
        let expected = Mistake::Value(Parameter::Orcpt);
        assert_eq!(words, Some(expected), "{value:?}");
    }
}

// covers: 1.7 5.7 5.11
#[test]
fn each_once_in_any_order_and_none_unknown() {
    let all = "SIZE=1 BODY=7BIT SMTPUTF8 REQUIRETLS AUTH=<> RET=FULL ENVID=x HOLDFOR=1";
    let whole = mail(all).expect("legal");
    let mut words: Vec<&str> = all.split(' ').collect();
    for word in &words {
        assert!(matches!(mail(&format!("{all} {word}")), Err(Mistake::Value(_))), "{word} twice");
        assert!(matches!(mail(&format!("{} {all}", word.to_lowercase())), Err(Mistake::Value(_))), "{word} twice");
    }
    words.reverse();
    assert_eq!(mail(&words.join("   ")), Ok(whole));
    assert_eq!(mail(&all.to_lowercase().replace("=X", "=x")).map(|mail| mail.given), Ok(whole.given));
    for word in [
        "XYZZY",
        "XYZZY=1",
        "X-1=",
        "SIZES=1",
        "SIZ",
        "NOTIFY=NEVER",
        "ORCPT=rfc822;a@b",
        "TRANSID=<x>",
        "SMTPUTF",
        "8BITMIME",
    ] {
        assert_eq!(mail(word), Err(Mistake::Parameter), "{word}");
    }
    for word in ["XYZZY", "SIZE=1", "RET=FULL", "NOTIFYX=NEVER"] {
        assert_eq!(rcpt(word), Err(Mistake::Parameter), "{word}");
    }
    for word in ["=", "=1", "-X", "A_B", "é", "A:B=1", "<>"] {
        assert_eq!(mail(word), Err(Mistake::Argument), "{word}");
    }
    assert_eq!(rcpt("NOTIFY=NEVER NOTIFY=NEVER"), Err(Mistake::Value(Parameter::Notify)));
    assert_eq!(rcpt("ORCPT=rfc822;a ORCPT=rfc822;a"), Err(Mistake::Value(Parameter::Orcpt)));
}

#[test]
fn what_was_given_is_known() {
    const OFFERED: Parameters = Parameters::of(&[Parameter::Size, Parameter::Body]);
    assert!(mail("").expect("legal").given.are_among(Parameters::default()));
    assert!(mail("BODY=7BIT").expect("legal").given.are_among(OFFERED));
    assert!(!mail("BODY=7BIT RET=FULL").expect("legal").given.are_among(OFFERED));
    assert!(mail("RET=FULL").expect("legal").given.contains(Parameter::Ret));
    assert!(!mail("RET=FULL").expect("legal").given.contains(Parameter::Envid));
    assert!(OFFERED.and(Parameters::of(&[Parameter::Ret])).contains(Parameter::Ret));
}

/// The commands as they are written: the printer that the parser is held against.
fn print_mail(mail: &Mail) -> Vec<u8> {
    let mut out = b"MAIL FROM:<".to_vec();
    if let ReversePath::Mailbox(mailbox) = mail.reverse_path {
        out.extend_from_slice(mailbox.as_bytes());
    }
    out.push(b'>');
    let mut word = |text: &[u8]| {
        out.push(b' ');
        out.extend_from_slice(text);
    };
    if let Some(size) = mail.size {
        word(format!("SIZE={size}").as_bytes());
    }
    if mail.given.contains(Parameter::Body) {
        let (name, _) = BODIES.iter().find(|(_, body)| *body == mail.body).expect("in the table");
        word(&[b"BODY=", *name].concat());
    }
    if mail.smtputf8 {
        word(b"SMTPUTF8");
    }
    if mail.require_tls {
        word(b"REQUIRETLS");
    }
    if let Some(auth) = &mail.auth {
        word(&[b"AUTH=", auth.as_bytes()].concat());
    }
    if let Some(ret) = mail.ret {
        let (name, _) = RETS.iter().find(|(_, other)| *other == ret).expect("in the table");
        word(&[b"RET=", *name].concat());
    }
    if let Some(envid) = &mail.envid {
        word(&[b"ENVID=", envid.as_bytes()].concat());
    }
    match mail.hold {
        Some(Hold::For(seconds)) => word(format!("HOLDFOR={seconds}").as_bytes()),
        Some(Hold::Until(epoch_s)) => {
            let time = jiff::Timestamp::from_second(epoch_s as i64).expect("in range");
            word(format!("HOLDUNTIL={time}").as_bytes());
        }
        None => {}
    }
    out
}

fn print_rcpt(rcpt: &Rcpt) -> Vec<u8> {
    let path = match rcpt.path {
        ForwardPath::Postmaster => &b"postmaster"[..],
        ForwardPath::Mailbox(mailbox) => mailbox.as_bytes(),
    };
    let mut out = [b"RCPT TO:<", path, b">"].concat();
    if let Some(notify) = rcpt.notify {
        out.extend_from_slice(&[b" NOTIFY=", notify.as_str().as_bytes()].concat());
    }
    if let Some(orcpt) = &rcpt.orcpt {
        out.extend_from_slice(&[b" ORCPT=", orcpt.as_bytes()].concat());
    }
    out
}

fn encoded(plain: &str) -> String {
    let mut out = Vec::new();
    xtext::encode(plain.as_bytes(), &mut out);
    String::from_utf8(out).expect("xtext is ASCII")
}

/// RFC 6533 section 3.
fn embedded(address: &str) -> String {
    let special = |character: char| " +=\\".contains(character);
    address
        .chars()
        .map(|character| match special(character) {
            true => format!("\\x{{{:02X}}}", character as u32),
            false => character.to_string(),
        })
        .collect()
}

fn mailboxes() -> impl Strategy<Value = String> {
    let local = prop_oneof![
        "[a-zA-Z0-9!#$%&'*+/=?^_`{|}~-]{1,12}(\\.[a-z0-9|$-]{1,5}){0,3}",
        "\"([a-z @<>().,;:\\[\\]]|\\\\[ -~]){0,20}\"",
        "[a-zäöüßéя中]{1,8}"
    ];
    let domain = prop_oneof![
        "[a-z0-9_]{1,8}(\\.[a-z]([a-z0-9-]{0,6}[a-z0-9])?){0,4}",
        any::<[u8; 4]>().prop_map(|octets| format!("[{}]", std::net::Ipv4Addr::from(octets))),
        any::<[u16; 8]>().prop_map(|groups| format!("[IPv6:{}]", std::net::Ipv6Addr::from(groups))),
        "[a-zäöüé]{1,8}\\.example",
    ];
    (local, domain).prop_map(|(local, domain)| format!("{local}@{domain}"))
}

fn mail_parameters() -> impl Strategy<Value = Vec<String>> {
    let one = prop_oneof![
        any::<u64>().prop_map(|size| format!("SIZE={size}")),
        "BODY=(7BIT|8BITMIME|BINARYMIME)",
        Just("SMTPUTF8".to_string()),
        Just("REQUIRETLS".to_string()),
        Just("AUTH=<>".to_string()),
        mailboxes().prop_map(|mailbox| format!("AUTH={}", encoded(&mailbox))),
        "RET=(FULL|HDRS)",
        "[ -~]{1,30}".prop_map(|plain| format!("ENVID={}", encoded(&plain))),
        (1u32..1_000_000_000).prop_map(|seconds| format!("HOLDFOR={seconds}")),
        (0i64..200_000_000_000)
            .prop_map(|epoch_s| format!("HOLDUNTIL={}", jiff::Timestamp::from_second(epoch_s).expect("in range"))),
    ];
    proptest::collection::vec(one, 0..8)
}

proptest! {
    #[test]
    fn mail_prints_and_parses(mailbox in mailboxes(), parameters in mail_parameters()) {
        let line = format!("MAIL FROM:<{mailbox}> {}", parameters.join(" "));
        let names: std::collections::HashSet<&str> =
            parameters.iter().map(|text| text.split('=').next().expect("one")).map(|name| name.trim_end_matches("UNTIL").trim_end_matches("FOR")).collect();
        match Command::parse(line.as_bytes()) {
            Ok(Command::Mail(mail)) => {
                let printed = print_mail(&mail);
                prop_assert_eq!(Command::parse(&printed), Ok(Command::Mail(mail)));
            }
            Err(Mistake::Value(_)) => prop_assert!(names.len() < parameters.len(), "{}", line),
            other => prop_assert!(false, "{}: {:?}", line, other),
        }
    }

    #[test]
    fn rcpt_prints_and_parses(mailbox in mailboxes(), events in 0u8..9, orcpt in proptest::option::of(mailboxes())) {
        let notify = match events {
            0 => "NOTIFY=NEVER".to_string(),
            8 => String::new(),
            _ => {
                let words = ["SUCCESS", "FAILURE", "DELAY"];
                let chosen: Vec<&str> = (0..3).filter(|bit| events >> bit & 1 != 0).map(|bit| words[bit]).collect();
                format!("NOTIFY={}", chosen.join(","))
            }
        };
        let orcpt = match orcpt {
            Some(address) if address.is_ascii() => format!("ORCPT=rfc822;{}", encoded(&address)),
            Some(address) => format!("ORCPT=utf-8;{}", embedded(&address)),
            None => String::new(),
        };
        let line = format!("RCPT TO:<{mailbox}> {notify} {orcpt}");
        let Ok(Command::Rcpt(rcpt)) = Command::parse(line.as_bytes()) else { panic!("{line}") };
        let printed = print_rcpt(&rcpt);
        prop_assert_eq!(Command::parse(&printed), Ok(Command::Rcpt(rcpt)));
    }

    #[test]
    fn any_parameters_are_parsed_or_refused(text in "([A-Z]{2,10}|SIZE|BODY|AUTH|ENVID|RET|HOLDFOR|HOLDUNTIL|NOTIFY|ORCPT)[ =+;,\\\\{}<>@0-9A-Fa-zTZ:.-]{0,40}") {
        let _ = (mail(&text), rcpt(&text));
    }
}

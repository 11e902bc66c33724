//! Command lines from pieces of the grammar, and the pieces that one of two parsers refuses.

use proptest::prelude::*;

pub const KEYWORDS: [&str; 11] =
    ["SIZE", "BODY", "SMTPUTF8", "REQUIRETLS", "AUTH", "RET", "ENVID", "HOLDFOR", "HOLDUNTIL", "NOTIFY", "ORCPT"];
pub const BAD_PATHS: [&str; 10] = [
    "<a@b..c>",
    "<a@-b>",
    "<a@[1.2]>",
    "<a@b",
    "<@x:a@b>",
    "<a b@c>",
    "<.a@b>",
    "<a@b!c>",
    "<\"a\"b@c>",
    "<a\u{202e}@b>",
];
pub const BAD_DATES: [&str; 4] =
    ["2026-02-30T00:00:00Z", "2026-1-2T3:4:5Z", "2026-11-22T06:30:00.Z", "02026-11-22T06:30:00Z"];

fn parameters() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "SIZE=0",
        "size=1000",
        "SIZE=18446744073709551614",
        "SIZE=99999999999999999999",
        "SIZE=000000000000000000001",
        "SIZE=",
        "SIZE",
        "SIZE=-1",
        "SIZE=1x",
        "BODY=7BIT",
        "body=8bitmime",
        "BODY=BINARYMIME",
        "BODY=6BIT",
        "BODY=",
        "SMTPUTF8",
        "smtputf8",
        "SMTPUTF8=1",
        "REQUIRETLS",
        "REQUIRETLS=",
        "AUTH=<>",
        "AUTH=a@b",
        "AUTH=e+3Dmc2@b",
        "AUTH=+C3+B6@b",
        "AUTH=anna",
        "AUTH=a+xb@c",
        "AUTH=",
        "RET=FULL",
        "ret=hdrs",
        "RET=ALL",
        "RET",
        "ENVID=QQ314159",
        "ENVID=a+20b",
        "ENVID=a+2b",
        "ENVID=a+0D+0A",
        "ENVID=a=b",
        "ENVID=",
        "ENVID=+41+41+41+41+41+41+41+41+41+41+41+41+41+41+41+41+41+41+41+41+41+41+41+41+41+41+41+41+41+41+41+41+41+41+41",
        "HOLDFOR=1",
        "HOLDFOR=999999999",
        "HOLDFOR=1000000000",
        "HOLDFOR=0",
        "HOLDFOR=01",
        "HOLDFOR=x",
        "HOLDUNTIL=2026-11-22T06:30:00Z",
        "HOLDUNTIL=2026-11-22t07:30:00+01:00",
        "HOLDUNTIL=1960-01-01T00:00:00Z",
        "HOLDUNTIL=2026-11-22T06:30:00.5Z",
        "HOLDUNTIL=2026-02-30T00:00:00Z",
        "HOLDUNTIL=2026-1-2T3:4:5Z",
        "HOLDUNTIL=2026-11-22T06:30:00.Z",
        "HOLDUNTIL=02026-11-22T06:30:00Z",
        "HOLDUNTIL=tomorrow",
        "HOLDUNTIL=2026-11-22T25:30:00Z",
        "NOTIFY=NEVER",
        "notify=success,delay",
        "NOTIFY=FAILURE",
        "NOTIFY=NEVER,FAILURE",
        "NOTIFY=DELAY,DELAY",
        "NOTIFY=",
        "NOTIFY=x",
        "ORCPT=rfc822;a@b",
        "orcpt=RFC822;a+2Bb@c",
        "ORCPT=utf-8;j\\x{F6}rg@b",
        "ORCPT=x400;x",
        "ORCPT=rfc822",
        "ORCPT=rfc822;",
        "ORCPT=rfc822;a+xb",
        "ORCPT=rfc822;a+C3+B6",
        "XYZZY",
        "XYZZY=1",
        "MT-PRIORITY=3",
        "CONPERM",
        "BY=120;R",
        "CONNEG",
        ">",
        "=1",
    ])
}

/// Lines from pieces of the grammar, each piece right or wrong in one way.
pub fn lines() -> impl Strategy<Value = String> {
    let path = prop::sample::select(
        [
            "<a@b>",
            "<>",
            "<anna.student@example.edu>",
            "<\"a>b\"@c>",
            "<\"a\\\"b\"@c>",
            "<postmaster>",
            "<a@[192.0.2.1]>",
            "<jörg@münchen.example>",
            "<a@b>x",
            "a@b",
            "",
        ]
        .into_iter()
        .chain(BAD_PATHS)
        .collect::<Vec<&str>>(),
    );
    let head = prop::sample::select(vec![
        "MAIL FROM:",
        "mail from:",
        "MAIL FROM: ",
        "RCPT TO:",
        "rcpt to: ",
        "MAIL FROM : ",
        "MAIL TO:",
        "MAIL ",
        "RCPT FROM:",
    ]);
    let envelope = (head, path, prop::collection::vec(parameters(), 0..4), prop::sample::select(vec!["", " ", "  "]))
        .prop_map(|(head, path, words, end)| {
            let words: Vec<String> = words.iter().map(|word| format!(" {word}")).collect();
            format!("{head}{path}{}{end}", words.concat())
        });
    let verb = prop::sample::select(vec![
        "EHLO", "helo", "DATA", "rset", "NOOP", "QUIT", "VRFY", "EXPN", "HELP", "STARTTLS", "BDAT", "bdat", "AUTH",
        "ETRN", "FOO", "MAILX", "",
    ]);
    let argument = prop::sample::select(vec![
        "",
        " ",
        " x",
        " client.example",
        " [192.0.2.1]",
        " PC 7",
        " 5",
        " 5 LAST",
        " 5 last",
        " 5 LAST x",
        " 5 FIRST",
        " LAST",
        " 5x",
        " 99999999999999999999999",
        " PLAIN",
        " plain AGFubmEAc2VzYW1l",
        " PLAIN =",
        " PLAIN a b",
        " X-UNKNOWN",
        " é",
        " a\u{1}b",
        " \u{7f}",
    ]);
    prop_oneof![3 => envelope, 1 => (verb, argument).prop_map(|(verb, argument)| format!("{verb}{argument}"))]
}

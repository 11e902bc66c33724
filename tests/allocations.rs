//! No command costs an allocation, whatever parameters it carries: what is parsed is borrowed from its line.

use penstock::policy::{Domains, Recipients};
use penstock::smtp::command::Command;

const LINES: [&str; 12] = [
    "EHLO laptop-anna.campus.example.edu",
    "AUTH PLAIN AGFubmEAc2VzYW1l",
    "MAIL FROM:<anna.student@example.edu> SIZE=48213 BODY=8BITMIME SMTPUTF8 REQUIRETLS AUTH=e+3Dmc2@example.com RET=HDRS \
     ENVID=QQ314159+2B26 HOLDUNTIL=2026-11-22T06:30:00.5+01:00",
    "MAIL FROM:<\"anna \\\"b\\\"\"@[IPv6:2001:db8::1]> HOLDFOR=60 AUTH=<>",
    "MAIL FROM:<jörg@münchen.example> SMTPUTF8",
    "RCPT TO:<ben.tutor@lab.example.edu> NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;ben+2Btutor@example.edu",
    "RCPT TO:<zoë@例え.テスト> ORCPT=utf-8;zo\\x{EB}@example.org",
    "BDAT 86 LAST",
    "MAIL FROM:<a@b> XYZZY=1",
    "MAIL FROM:<a@-b>",
    "RCPT TO:<a\u{202e}@b>",
    "FOO",
];

#[test]
fn no_command_costs_an_allocation() {
    for line in LINES {
        let counted = allocation_counter::measure(|| {
            let _ = Command::parse(line.as_bytes());
        });
        assert_eq!(counted.count_total, 0, "{line}");
    }
    let domains = Domains::new(["münchen.example", "example.edu"]);
    for name in ["München.example", "XN--MNCHEN-3YA.example", "Example.EDU", "example.org"] {
        let counted = allocation_counter::measure(|| {
            let _ = domains.contains(name.as_bytes());
        });
        assert_eq!(counted.count_total, 0, "{name}");
    }
    let mut recipients = Recipients::default();
    assert!(recipients.add(b"anna", b"example.edu") && recipients.add("j\u{f6}rg".as_bytes(), b"example.edu"));
    for name in ["ANNA", "anna+lists", "\"an\\na\"", "J\u{d6}RG", "jo\u{308}rg+lists", "nobody"] {
        let counted = allocation_counter::measure(|| {
            let known = recipients.contains(name.as_bytes(), b"Example.EDU");
            assert_eq!(known, name != "nobody", "{name}");
        });
        assert_eq!(counted.count_total, 0, "{name}");
    }
    // The counter counts.
    assert!(allocation_counter::measure(|| drop(vec![0u8; 10])).count_total > 0);
}

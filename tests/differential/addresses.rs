//! Mailboxes against `addr-spec`, which knows RFC 5322 and no limits.

use crate::{Difference, generated, settle};
use addr_spec::AddrSpec;
use penstock::smtp::path::Mailbox;
use proptest::prelude::*;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Local part without its quoting, and domain.
type Reading = Option<(String, String)>;

#[derive(Debug)]
struct Case {
    text: String,
    ours: Reading,
    theirs: Reading,
}

impl Case {
    /// Only they take it.
    fn refused(&self) -> bool {
        self.ours.is_none() && self.theirs.is_some()
    }

    fn their_domain(&self) -> &str {
        self.theirs.as_ref().map_or("", |(_, domain)| domain)
    }

    /// The domain without its brackets, if it is a literal.
    fn literal(&self) -> Option<&str> {
        self.their_domain().strip_prefix('[')?.strip_suffix(']')
    }
}

const DIFFERENCES: [Difference<Case>; 9] = [
    Difference {
        reason: "RFC 5321 section 4.5.3.1 limits local part, label and path; RFC 5322 does not",
        explains: |case| {
            let octets_before_at = case.text.rfind('@').unwrap_or(0);
            case.refused()
                && (octets_before_at > 64
                    || case.text.len() > 254
                    || case.their_domain().split('.').any(|label| label.len() > 63))
        },
    },
    Difference {
        reason: "RFC 5322's domain is any dot-atom; RFC 5321's labels are letters, digits and inner hyphens",
        explains: |case| {
            let odd = |c: char| c.is_ascii() && !c.is_ascii_alphanumeric() && !"-_.".contains(c);
            let edge = |label: &str| label.starts_with('-') || label.ends_with('-');
            let domain = case.their_domain();
            case.refused() && case.literal().is_none() && (domain.contains(odd) || domain.split('.').any(edge))
        },
    },
    Difference {
        reason: "RFC 5322's literal is any text; RFC 5321's is an address, and no tag but IPv6 is registered",
        explains: |case| {
            let is_address = |text: &str| match text.split_at_checked(5) {
                Some((tag, address)) if tag.eq_ignore_ascii_case("IPv6:") => address.parse::<Ipv6Addr>().is_ok(),
                _ => text.parse::<Ipv4Addr>().is_ok(),
            };
            case.refused() && case.literal().is_some_and(|literal| !is_address(literal))
        },
    },
    Difference {
        reason: "RFC 5321 section 4.1.3: :: stands for two groups at least",
        explains: |case| {
            let groups = |literal: &str| literal.split(':').skip(1).filter(|group| !group.is_empty()).count();
            case.refused() && case.literal().is_some_and(|literal| literal.contains("::") && groups(literal) > 6)
        },
    },
    Difference {
        reason: "what deceives the reader of a log or a header is in no address that we take",
        explains: |case| case.refused() && case.text.contains(DECEIVING),
    },
    Difference {
        reason: "a U-label is one that IDNA knows: RFC 6531 section 3.3",
        explains: |case| {
            let domain = case.their_domain();
            case.refused() && !domain.is_ascii() && idna::domain_to_ascii_strict(domain).is_err()
        },
    },
    Difference {
        reason: "RFC 5321's quoted pair is a backslash and printable ASCII; theirs takes tabs and more than ASCII",
        explains: |case| {
            let escaped = |(backslash, character): (char, char)| backslash == '\\' && !(' '..='~').contains(&character);
            case.refused() && case.text.chars().zip(case.text.chars().skip(1)).any(escaped)
        },
    },
    Difference {
        reason: "a semicolon is no atext (RFC 5322 section 3.2.3); theirs forgot it",
        explains: |case| case.refused() && case.text.contains(';') && !case.text.contains('"'),
    },
    Difference {
        reason: "RFC 5321's qtext holds the space; theirs has it in folding white space only, which is off",
        explains: |case| case.ours.is_some() && case.theirs.is_none() && case.text.contains(' '),
    },
];

const DECEIVING: [char; 7] = ['\u{85}', '\u{a0}', '\u{200b}', '\u{202e}', '\u{2028}', '\u{feff}', '\u{fffe}'];

const PICKED: [&str; 40] = [
    "anna@example.edu",
    "anna.b+c@example.edu",
    "a;b@example.edu",
    "\"a;b\"@example.edu",
    "\"\"@example.edu",
    "\"a b\"@example.edu",
    "\"a\\\"b\"@example.edu",
    "\"a\\\tb\"@example.edu",
    "\"a\\éb\"@example.edu",
    "\"a\tb\"@example.edu",
    "\"a\"b@example.edu",
    "\"a\".b@example.edu",
    "a\"b\"@example.edu",
    "a@b@c",
    "a..b@c",
    ".a@b",
    "a.@b",
    "a@b.",
    "a@.b",
    "a@",
    "@b",
    "a",
    "",
    "a b@c",
    "(c)a@b",
    "a@b(c)",
    "<a@b>",
    "a@[192.0.2.1]",
    "a@[192.0.2.01]",
    "a@[192.0.2]",
    "a@[IPv6:2001:db8::1]",
    "a@[IPv6:1:2:3:4:5:6:7::]",
    "a@[tag:text]",
    "a@[]",
    "a@[192.0.2.1",
    "jörg@münchen.example",
    "a@-b.example",
    "a@b!c",
    "a@m\u{308}\u{308}.\u{308}a",
    "a\u{202e}b@example.edu",
];

/// Texts from pieces that mean something to an address, put together at random or in its order.
fn texts() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a",
        "b-c",
        "x_y",
        ".",
        "..",
        "@",
        "\"",
        "\\",
        "[",
        "]",
        "IPv6:",
        "::1",
        "1:2:3:4:5:6:7::",
        "192.0.2.1",
        " ",
        "<",
        ">",
        ",",
        ";",
        ":",
        "(",
        ")",
        "ü",
        "中",
        "\u{202e}",
        "\u{85}",
        "\u{feff}",
        "-",
        "!",
        "$(x)",
        "|",
        "/",
        "xn--mnchen-3ya",
        "example",
        "\t",
        "\r",
        "\u{7f}",
        "%",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    ]);
    let any = prop::collection::vec(piece, 0..9).prop_map(|pieces| pieces.concat());
    let local = prop_oneof!["[a-c.!$|/;-]{1,9}", "\"([a-c @.;<>]|\\\\[ -~]){0,9}\"", "[aäß中.]{1,6}"];
    let domain = prop_oneof![
        "[a-c0-9._-]{1,9}",
        "[a-c][a-z0-9_]{0,4}(\\.[a-c]{1,4}){0,2}",
        "[aäß.-]{1,6}",
        "\\[(IPv6:[0-9a-f:]{2,16}|[0-9.]{5,13})\\]"
    ];
    prop_oneof![any, (local, domain).prop_map(|(local, domain)| format!("{local}@{domain}"))]
}

// covers: 5.4 5.5 5.6
#[test]
fn every_difference_about_an_address_has_its_reason() {
    let picked = PICKED.iter().map(|text| text.to_string());
    let mut taken = 0;
    let mut differing = Vec::new();
    for text in picked.chain(generated(texts(), 20_000)) {
        let case = Case { ours: ours(&text), theirs: theirs(&text), text };
        taken += usize::from(case.ours.is_some());
        if case.ours != case.theirs {
            differing.push(case);
        }
    }
    assert!(taken > 3_000, "only {taken} addresses were legal");
    settle(&DIFFERENCES, &differing);
}

fn ours(text: &str) -> Reading {
    let mailbox = Mailbox::parse(text.as_bytes())?;
    let text = |octets: &[u8]| String::from_utf8(octets.to_vec()).expect("parsed as UTF-8");
    Some((unquoted(&text(mailbox.local_part())), text(mailbox.domain())))
}

fn theirs(text: &str) -> Reading {
    let address: AddrSpec = text.parse().ok()?;
    let domain = address.domain().to_string();
    let domain = if address.is_literal() { format!("[{domain}]") } else { domain };
    Some((address.local_part().to_string(), domain))
}

fn unquoted(local_part: &str) -> String {
    let Some(inside) = local_part.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return local_part.to_string();
    };
    let mut characters = inside.chars();
    let mut plain = String::new();
    while let Some(character) = characters.next() {
        plain.push(if character == '\\' { characters.next().expect("a whole pair") } else { character });
    }
    plain
}

//! Any octets are a mailbox or none. A mailbox keeps the limits of RFC 5321, holds nothing that could end a line, a path
//! or a field or deceive a reader, prints as it was written, and reads alike inside brackets.
#![no_main]
use libfuzzer_sys::fuzz_target;
use penstock::policy::domain_name::DomainName;
use penstock::smtp::path::{ForwardPath, Mailbox, ReversePath, path_length};

/// May stand in an address: no controls, no white space but a quoted space, none of what turns a line around.
fn is_harmless(character: char) -> bool {
    let turns = matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    character == ' ' || !character.is_control() && !character.is_whitespace() && !turns
}

fn check(mailbox: Mailbox) {
    let (text, local, domain) = (mailbox.as_bytes(), mailbox.local_part(), mailbox.domain());
    assert_eq!([local, b"@", domain].concat(), text);
    assert_eq!(Mailbox::parse(text), Some(mailbox));
    assert!((1..=64).contains(&local.len()) && (1..=255).contains(&domain.len()) && text.len() <= 254);
    assert!(std::str::from_utf8(text).expect("UTF-8").chars().all(is_harmless));
    assert!(local.starts_with(b"\"") || !local.iter().any(|octet| b" <>()[]\\,;:@\"".contains(octet)));
    check_domain(domain, text.len());
    // What reads commands finds the end of the path where the path ends.
    let path = [b"<", text, b">"].concat();
    assert_eq!(ReversePath::parse(&path), Some(ReversePath::Mailbox(mailbox)));
    assert_eq!(ForwardPath::parse(&path), Some(ForwardPath::Mailbox(mailbox)));
    for behind in [&b""[..], b" SIZE=1", b"> <x@y>"] {
        assert_eq!(path_length(&[&path, behind].concat()), Some(path.len()));
    }
}

fn check_domain(domain: &[u8], mailbox_bytes: usize) {
    if domain.starts_with(b"[") {
        return assert!(domain.is_ascii() && domain.ends_with(b"]") && !domain.contains(&b' '));
    }
    assert!(domain.iter().all(|octet| octet.is_ascii_alphanumeric() || *octet >= 128 || b"-_.".contains(octet)));
    let name = DomainName::new(domain).expect("it is one");
    let upper = domain.to_ascii_uppercase();
    assert_eq!(DomainName::new(&upper).expect("the same").as_str(), name.as_str());
    assert_eq!(DomainName::new(name.as_str().as_bytes()).expect("in its one form").as_str(), name.as_str());
    if mailbox_bytes - domain.len() + name.as_str().len() <= 254 {
        assert!(Mailbox::parse(format!("a@{}", name.as_str()).as_bytes()).is_some());
    }
}

fuzz_target!(|text: &[u8]| {
    if let Some(mailbox) = Mailbox::parse(text) {
        check(mailbox);
    }
    let length = path_length(text);
    assert!(length.is_none_or(|length| text[length - 1] == b'>'));
    match ReversePath::parse(text) {
        Some(ReversePath::Mailbox(mailbox)) => check(mailbox),
        Some(ReversePath::Null) => assert_eq!(text, b"<>"),
        None => {}
    }
    match ForwardPath::parse(text) {
        Some(ForwardPath::Mailbox(mailbox)) => check(mailbox),
        Some(ForwardPath::Postmaster) => assert!(text.eq_ignore_ascii_case(b"<postmaster>")),
        None => {}
    }
});

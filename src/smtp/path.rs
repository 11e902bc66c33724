//! Mailboxes and paths, parsed strictly: a [`Mailbox`] is legal because it exists. RFC 5321 sections 4.1.2 and 4.1.3,
//! RFC 6531 section 3.3.
//!
//! ```text
//!  <local-part@domain>      local-part: dot-atom or quoted string, 64 octets
//!  <local-part@[literal]>   domain: labels of letters, digits and hyphens, 255 octets; or IPv4 or IPv6 in brackets
//!  <>                       reverse-path only
//!  <postmaster>             forward-path only, any case
//! ```
//!
//! Where this differs from the grammar:
//!
//! | what | here | why |
//! |---|---|---|
//! | underscore in a label | taken | real host names have them |
//! | source route `<@a:b@c>` (RFC 5321 appendix C) | refused | nothing honest sends it, and relaying was tricked by it |
//! | `[tag:...]` but `IPv6:` | refused | no other tag was ever registered |
//! | `[010.0.0.1]` | refused | octal to some readers, decimal to others |
//! | controls, white space, invisible and bidirectional format characters above 127 | refused | they reach logs and headers |
//! | U-labels | as UTS 46 maps and checks them | two spellings of one domain must be one domain |
//! | more than 256 octets with the brackets | refused | RFC 5321 section 4.5.3.1.3: the next server need not take it |
//!
//! Octets above 127 are taken if they are UTF-8, and the caller asks [`Mailbox::is_ascii`]. A local part is only octets,
//! whatever a shell, a file system or a data base would read into it: it is kept and passed on unchanged.

mod characters;
mod domain;

pub(super) use characters::is_ordinary;
use domain::is_domain;

/// RFC 5321 section 4.5.3.1.1, octets.
pub const LOCAL_PART_BYTES_MAX: usize = 64;
/// RFC 5321 section 4.5.3.1.3, octets with the angle brackets.
pub const PATH_BYTES_MAX: usize = 256;

/// A legal mailbox, borrowed from the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mailbox<'a> {
    whole: &'a [u8],
    /// Where the `@` between local part and domain stands: `0 < at < whole.len() - 1`.
    at: usize,
}

impl<'a> Mailbox<'a> {
    /// Parses `local-part@domain`.
    pub fn parse(text: &'a [u8]) -> Option<Mailbox<'a>> {
        if text.len() + 2 > PATH_BYTES_MAX {
            return None;
        }
        if !text.is_ascii() && !std::str::from_utf8(text).ok()?.chars().all(is_ordinary) {
            return None;
        }
        let at = local_part_end(text)?;
        let domain = text.get(at + 1..)?;
        let legal = (1..=LOCAL_PART_BYTES_MAX).contains(&at) && text[at] == b'@' && is_domain(domain);
        legal.then_some(Mailbox { whole: text, at })
    }

    /// As it was written.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.whole
    }

    /// Before the `@`, quotes included.
    pub fn local_part(&self) -> &'a [u8] {
        &self.whole[..self.at]
    }

    /// Behind the `@`.
    pub fn domain(&self) -> &'a [u8] {
        &self.whole[self.at + 1..]
    }

    /// Can it be sent without SMTPUTF8?
    pub fn is_ascii(&self) -> bool {
        self.whole.is_ascii()
    }

    /// Might another server read a further address in the local part (`u%r@l`, `r!u@l`, `"u@r"@l`)?
    pub fn hides_a_route(&self) -> bool {
        self.local_part().iter().any(|octet| matches!(octet, b'%' | b'!' | b'@' | b':' | b'"'))
    }
}

/// The argument of MAIL FROM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReversePath<'a> {
    /// `<>`: a notification, not to be answered.
    Null,
    /// A mailbox.
    Mailbox(Mailbox<'a>),
}

impl<'a> ReversePath<'a> {
    /// Parses a path with its angle brackets.
    pub fn parse(text: &'a [u8]) -> Option<ReversePath<'a>> {
        match text {
            b"<>" => Some(ReversePath::Null),
            _ => Mailbox::parse(in_brackets(text)?).map(ReversePath::Mailbox),
        }
    }
}

/// The argument of RCPT TO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardPath<'a> {
    /// `<postmaster>` without a domain. RFC 5321 section 4.5.1.
    Postmaster,
    /// A mailbox.
    Mailbox(Mailbox<'a>),
}

impl<'a> ForwardPath<'a> {
    /// Parses a path with its angle brackets.
    pub fn parse(text: &'a [u8]) -> Option<ForwardPath<'a>> {
        let inside = in_brackets(text)?;
        if inside.eq_ignore_ascii_case(b"postmaster") {
            return Some(ForwardPath::Postmaster);
        }
        Mailbox::parse(inside).map(ForwardPath::Mailbox)
    }
}

/// How many octets of `text` the path at its start takes: up to the `>` outside a quoted string.
pub fn path_length(text: &[u8]) -> Option<usize> {
    if text.first() != Some(&b'<') {
        return None;
    }
    let mut quoted = false;
    let mut at = 1;
    while let Some(&octet) = text.get(at) {
        match octet {
            b'\\' if quoted => at += 1,
            b'"' => quoted = !quoted,
            b'>' if !quoted => return Some(at + 1),
            _ => {}
        }
        at += 1;
    }
    None
}

fn in_brackets(text: &[u8]) -> Option<&[u8]> {
    text.strip_prefix(b"<")?.strip_suffix(b">")
}

/// Where the local part at the start of `text` ends, if it is one.
fn local_part_end(text: &[u8]) -> Option<usize> {
    if text.first() == Some(&b'"') { quoted_string_end(text) } else { dot_string_end(text) }
}

fn dot_string_end(text: &[u8]) -> Option<usize> {
    let end = text.iter().position(|&octet| octet == b'@')?;
    let atoms = &text[..end];
    let legal = atoms.split(|&octet| octet == b'.').all(|atom| !atom.is_empty() && atom.iter().all(is_atext));
    legal.then_some(end)
}

fn quoted_string_end(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        match *text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' if matches!(text.get(at + 1)?, 32..=126) => at += 2,
            b'\\' => return None,
            32..=126 | 128.. => at += 1,
            _ => return None,
        }
    }
}

pub(super) fn is_atext(octet: &u8) -> bool {
    octet.is_ascii_alphanumeric() || *octet >= 128 || b"!#$%&'*+-/=?^_`{|}~".contains(octet)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mailboxes() {
        for text in [
            "a@b",
            "anna.b+c@example.edu",
            "x_y@a_b.example",
            "\"a b\"@example.edu",
            "\"a\\\"b@c\"@example.edu",
            "u@[192.0.2.1]",
            "u@[IPv6:2001:db8::1]",
            "jörg@münchen.example",
            "o'neil/=?@example.org",
            "a@xn--mnchen-3ya.example",
        ] {
            let mailbox = Mailbox::parse(text.as_bytes()).unwrap_or_else(|| panic!("{text} is legal"));
            assert_eq!(mailbox.as_bytes(), text.as_bytes());
            let printed = [mailbox.local_part(), b"@", mailbox.domain()].concat();
            assert_eq!(printed, text.as_bytes());
        }
        for text in [
            "",
            "@",
            "a",
            "a@",
            "@b",
            "a@b@c",
            "a..b@c",
            ".a@c",
            "a.@c",
            "a b@c",
            "a@b..c",
            "a@-b",
            "a@b-",
            "a@b c",
            "a@.b",
            "a@b.",
            "\"a@b",
            "\"a\"b@c",
            "\"a\\\"@b",
            "a@[192.0.2]",
            "a@[]",
            "a@[IPv6:x]",
            "a@[192.0.2.1",
            "<a@b>",
            "a@b>",
            "@x:a@b",
            "a\u{7f}@b",
            "a\r@b",
            "(a)@b",
        ] {
            assert_eq!(Mailbox::parse(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(Mailbox::parse(b"a\xff@b"), None);
    }

    // covers: 5.6
    #[test]
    fn lengths() {
        let mailbox =
            |local: usize, domain: &str| Mailbox::parse(format!("{}@{domain}", "a".repeat(local)).as_bytes()).is_some();
        assert!(mailbox(64, "example.edu"));
        assert!(!mailbox(65, "example.edu"));
        let label = "a".repeat(63);
        assert!(mailbox(1, &label));
        assert!(!mailbox(1, &format!("{label}a")));
        // 252 octets of domain, and what is left of the path's 256.
        let long = format!("{label}.{label}.{label}.{}", "a".repeat(60));
        assert!(mailbox(1, &long));
        assert!(!mailbox(2, &long));
        let shorter = format!("{label}.{label}.{}", "a".repeat(61));
        assert!(mailbox(64, &shorter));
        assert!(!mailbox(64, &format!("{shorter}a")));
        assert!(!mailbox(65, "b"));
    }

    // covers: 5.18
    #[test]
    fn what_a_shell_would_read_is_only_octets() {
        for local in [
            "-oQ/tmp/x",
            "|/bin/sh",
            "/etc/passwd",
            "\"$(id)\"",
            "`id`",
            "a'--",
            "${run{x}}",
            "\"; rm -rf $HOME\"",
            "\"../../x\"",
        ] {
            let text = format!("{local}@example.edu");
            let mailbox = Mailbox::parse(text.as_bytes()).unwrap_or_else(|| panic!("{text} is legal"));
            assert_eq!((mailbox.local_part(), mailbox.as_bytes()), (local.as_bytes(), text.as_bytes()));
        }
    }

    // covers: 1.3 1.9
    #[test]
    fn what_deceives_a_reader_is_refused_on_both_sides() {
        for trick in ["\u{85}", "\u{2028}", "\u{2029}", "\u{202e}", "\u{200b}", "\u{feff}", "\u{3000}", "\u{fffe}"] {
            for text in
                [format!("a{trick}b@example.edu"), format!("\"a{trick}b\"@example.edu"), format!("a@b{trick}ü.example")]
            {
                assert_eq!(Mailbox::parse(text.as_bytes()), None, "{text:?}");
            }
        }
        // Overlong forms, surrogates, and past the last character.
        for octets in [&b"\xc0\xaf"[..], b"\xe0\x80\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc3", b"\x80"] {
            assert_eq!(Mailbox::parse(&[b"a", octets, b"@example.edu"].concat()), None, "{octets:x?}");
        }
    }

    #[test]
    fn paths() {
        assert_eq!(ReversePath::parse(b"<>"), Some(ReversePath::Null));
        assert!(matches!(ReversePath::parse(b"<a@b>"), Some(ReversePath::Mailbox(_))));
        assert_eq!(ForwardPath::parse(b"<PostMaster>"), Some(ForwardPath::Postmaster));
        for text in ["", "a@b", "<a@b", "a@b>", "<<a@b>>", "<@x:a@b>"] {
            assert_eq!(ReversePath::parse(text.as_bytes()), None, "{text}");
            assert_eq!(ForwardPath::parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(ForwardPath::parse(b"<>"), None);
        assert_eq!(ReversePath::parse(b"<postmaster>"), None);
    }

    #[test]
    fn where_a_path_ends() {
        assert_eq!(path_length(b"<a@b> SIZE=1"), Some(5));
        assert_eq!(path_length(b"<\"a>b\"@c> X"), Some(9));
        assert_eq!(path_length(b"<\"a\\\">\"@c>"), Some(10));
        assert_eq!(path_length(b"<a@b"), None);
        assert_eq!(path_length(b"a@b>"), None);
    }

    #[test]
    fn hidden_routes() {
        for text in ["u%r@l", "r!u@l", "\"u@r\"@l"] {
            assert!(Mailbox::parse(text.as_bytes()).expect(text).hides_a_route(), "{text}");
        }
        assert!(!Mailbox::parse(b"anna.b+c@example.edu").expect("legal").hides_a_route());
    }
}

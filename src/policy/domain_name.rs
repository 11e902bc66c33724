//! A domain name in the one form in which two spellings of it are equal: lower case, A-labels. RFC 5890 section 2.3.2.1.
//!
//! ```text
//!  MÜNCHEN.example         -.
//!  XN--MNCHEN-3YA.example  -+->  xn--mnchen-3ya.example
//!  münchen.example         -'
//! ```
//!
//! U-labels are checked and mapped as UTS 46 says (IDNA 2008 without transitional processing): no unassigned,
//! invisible or bidirectional trick characters, no label that is no label, 253 octets in A-labels. A name that is ASCII
//! already is only put in lower case: what its A-labels mean is not looked at. Nothing is allocated.

use idna::uts46::{AsciiDenyList, ErrorPolicy, Hyphens, ProcessingSuccess, Uts46, verify_dns_length};
use std::fmt;

/// RFC 5321 section 4.5.3.1.2, octets.
pub const DOMAIN_BYTES_MAX: usize = 255;

/// A domain name in lower case, non-ASCII labels as A-labels; at most [`DOMAIN_BYTES_MAX`] octets.
#[derive(Clone, Copy)]
pub struct DomainName {
    octets: [u8; DOMAIN_BYTES_MAX],
    /// `length <= octets.len()`; the octets before it are ASCII.
    length: usize,
}

/// What a U-label may not become: ASCII beside letters, digits, hyphen, and the underscore of real host names.
const DENIED: AsciiDenyList = AsciiDenyList::new(true, "!\"#$%&'()*+,/:;<=>?@[\\]^`{|}~");
/// Full stops that UTS 46 reads as dots. In a mail address nothing but U+002E is one (RFC 6531 section 3.3).
const OTHER_DOTS: [char; 3] = ['\u{3002}', '\u{ff0e}', '\u{ff61}'];

impl DomainName {
    /// Puts a name in its one form. None: too long, not UTF-8, or its U-labels are none.
    pub fn new(text: &[u8]) -> Option<DomainName> {
        let mut name = DomainName { octets: [0; DOMAIN_BYTES_MAX], length: 0 };
        if text.is_ascii() {
            name.octets.get_mut(..text.len())?.copy_from_slice(text);
            name.length = text.len();
            name.octets.make_ascii_lowercase();
            return Some(name);
        }
        if std::str::from_utf8(text).ok()?.contains(OTHER_DOTS) {
            return None;
        }
        let processed = Uts46::new().process(
            text,
            DENIED,
            Hyphens::CheckFirstLast,
            ErrorPolicy::FailFast,
            |_, _, _| false,
            &mut name,
            None,
        );
        let legal = processed == Ok(ProcessingSuccess::WroteToSink)
            && name.length <= DOMAIN_BYTES_MAX
            && verify_dns_length(name.as_str(), false);
        legal.then_some(name)
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.octets[..self.length]).unwrap_or_default()
    }
}

/// What [`Uts46::process`] writes to. It panics if a write fails within a U-label (idna 1.1.0, its `From` for errors of
/// Punycode), so what there is no room for is only counted.
impl fmt::Write for DomainName {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.length.saturating_add(text.len());
        if let Some(place) = self.octets.get_mut(self.length..end) {
            place.copy_from_slice(text.as_bytes());
        }
        self.length = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_form_for_every_spelling() {
        for (text, form) in [
            ("Example.EDU", "example.edu"),
            ("münchen.example", "xn--mnchen-3ya.example"),
            ("MÜNCHEN.Example", "xn--mnchen-3ya.example"),
            ("mu\u{308}nchen.example", "xn--mnchen-3ya.example"),
            ("XN--MNCHEN-3YA.example", "xn--mnchen-3ya.example"),
            ("a_b.münchen.example", "a_b.xn--mnchen-3ya.example"),
            ("straße.example", "xn--strae-oqa.example"),
            ("例え.テスト", "xn--r8jz45g.xn--zckzah"),
            ("مثال.إختبار", "xn--mgbh0fb.xn--kgbechtv"),
            ("[192.0.2.1]", "[192.0.2.1]"),
            ("", ""),
        ] {
            assert_eq!(DomainName::new(text.as_bytes()).as_ref().map(DomainName::as_str), Some(form), "{text}");
        }
    }

    #[test]
    fn what_is_no_name() {
        for text in [
            "a\u{3002}münchen.example",
            "a\u{ff0e}example",
            "münchen..example",
            "münchen.example.",
            ".münchen",
            "-münchen.example",
            "münchen-.example",
            "mün chen.example",
            "mün/chen.example",
            "\u{2100}.example",
            "\u{ff20}.example",
            "mün\u{202e}chen.example",
            "mün\u{2028}chen.example",
            "mün\u{85}chen.example",
            "\u{200d}münchen.example",
            "mün\u{fdd0}.example",
            "\u{e000}.example",
            "אa.example",
            "\u{308}a.example",
            "xn--a.münchen",
        ] {
            assert!(DomainName::new(text.as_bytes()).is_none(), "{text:?}");
        }
        assert!(DomainName::new(b"m\xfcnchen.example").is_none());
        assert!(DomainName::new("ü".repeat(60).as_bytes()).is_none());
        // Too long in A-labels only, or only within one.
        assert!(DomainName::new("ü.".repeat(80).as_bytes()).is_none());
        assert!(DomainName::new(format!("ü{}", "a".repeat(240)).as_bytes()).is_none());
        assert!(DomainName::new(format!("{}ü{}", "ü.".repeat(60), "a".repeat(70)).as_bytes()).is_none());
        assert!(DomainName::new(&[b'a'; DOMAIN_BYTES_MAX]).is_some());
        assert!(DomainName::new(&[b'a'; DOMAIN_BYTES_MAX + 1]).is_none());
    }
}

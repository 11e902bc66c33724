//! What may stand behind the `@`: a domain name or an address literal. RFC 5321 sections 2.3.5, 4.1.2 and 4.1.3, RFC 6531
//! section 3.3.

use crate::policy::domain_name::{DOMAIN_BYTES_MAX, DomainName};
use std::net::{Ipv4Addr, Ipv6Addr};

/// RFC 1035 section 2.3.4, octets.
const LABEL_BYTES_MAX: usize = 63;

/// Is it a domain name or an address literal?
pub(super) fn is_domain(text: &[u8]) -> bool {
    if text.is_empty() || text.len() > DOMAIN_BYTES_MAX {
        return false;
    }
    if let Some(literal) = text.strip_prefix(b"[") {
        return literal.strip_suffix(b"]").is_some_and(is_address_literal);
    }
    text.split(|octet| *octet == b'.').all(is_label) && (text.is_ascii() || DomainName::new(text).is_some())
}

/// The octets of a non-ASCII label are not counted here: it is its A-label that has a limit, and [`DomainName`] knows it.
fn is_label(label: &[u8]) -> bool {
    let edges = label.first().zip(label.last());
    edges.is_some_and(|(first, last)| *first != b'-' && *last != b'-')
        && label.iter().all(|&octet| octet.is_ascii_alphanumeric() || octet >= 128 || octet == b'-' || octet == b'_')
        && (label.len() <= LABEL_BYTES_MAX || !label.is_ascii())
}

/// IPv4 and IPv6. General-address-literal asks for a tag that a standards-track RFC has registered, and `IPv6` is the
/// only one: every other tag is refused.
fn is_address_literal(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return false };
    match text.split_at_checked(5) {
        Some((tag, address)) if tag.eq_ignore_ascii_case("IPv6:") => is_ipv6(address),
        // Where the grammar allows leading zeros, `[010.0.0.1]` is one host to some and another to others (RFC 6943
        // section 3.1.1): Rust's parser refuses them, and so do we.
        _ => text.parse::<Ipv4Addr>().is_ok(),
    }
}

/// Rust's parser follows RFC 4291. RFC 5321 differs in one thing: `::` stands for two groups at least, so that no more
/// than six are written beside it.
fn is_ipv6(text: &str) -> bool {
    if text.parse::<Ipv6Addr>().is_err() {
        return false;
    }
    let written = text.split(':').filter(|group| !group.is_empty()).count() + usize::from(text.contains('.'));
    !text.contains("::") || written <= 6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_literals() {
        for text in [
            "192.0.2.1",
            "255.255.255.255",
            "IPv6:::",
            "IPv6:::1",
            "ipv6:2001:DB8::",
            "IPv6:2001:db8:0:0:0:0:0:1",
            "IPv6:1:2:3:4:5:6::",
            "IPv6:1::3:4:5:6:7",
            "IPv6:::ffff:192.0.2.1",
            "IPv6:1:2:3:4:5:6:192.0.2.1",
            "IPv6:1:2::3:4:192.0.2.1",
        ] {
            assert!(is_domain(format!("[{text}]").as_bytes()), "{text}");
        }
        for text in [
            "",
            "192.0.2",
            "192.0.2.1.1",
            "192.0.2.256",
            "192.0.2.01",
            "192.0.2.1 ",
            " 192.0.2.1",
            "0x7f.1",
            "127.1",
            "2001:db8::1",
            "IPv6:",
            "IPv6:2001:db8:0:0:0:0:1",
            "IPv6:1:2:3:4:5:6:7::",
            "IPv6:::2:3:4:5:6:7:8",
            "IPv6:1:2:3:4:5::192.0.2.1",
            "IPv6:1::2::3",
            "IPv6:12345::",
            "IPv6:fe80::1%eth0",
            "IPv6:[::1]",
            "IPv6:::192.0.2.1:1",
            "IPv4:192.0.2.1",
            "x400:c=us",
            "tag:content",
            "192.0.2.1]",
            "[192.0.2.1]",
        ] {
            assert!(!is_domain(format!("[{text}]").as_bytes()), "{text}");
        }
        assert!(!is_domain(b"[192.0.2.1"));
        assert!(!is_domain(b"192.0.2.1]"));
        assert!(!is_domain(b"[192.0.2.1].example"));
    }

    #[test]
    fn a_u_label_is_as_long_as_its_a_label() {
        let label = "日".repeat(25);
        assert!(label.len() > LABEL_BYTES_MAX && is_domain(label.as_bytes()));
        assert!(!is_domain("日本".repeat(40).as_bytes()));
    }
}

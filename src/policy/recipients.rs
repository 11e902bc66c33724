//! Who can be written to in our own domains: addresses, and domains where anybody can. RFC 5321 section 3.3.
//!
//! | in the table | taken |
//! |---|---|
//! | `anna@example.edu` | `anna`, `Anna`, `"anna"` and `anna+lists` at `example.edu` |
//! | `anna+lists@example.edu` | that one; by itself it says nothing of `anna` |
//! | `@example.org` | everybody at `example.org` |
//! | nothing at all | `postmaster`, at each of our domains (RFC 5321 section 4.5.1) |
//!
//! Local parts are compared in lower case, in normalisation form C (RFC 6532 section 3.1) and without quotes; they are
//! passed on as the client gave them. Domains are compared in their one form ([`DomainName`]). A look-up allocates nothing.

use super::Domains;
use super::domain_name::DomainName;
use std::collections::HashSet;
use unicode_normalization::UnicodeNormalization;

/// Addresses and whole domains.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recipients {
    addresses: HashSet<Box<str>>,
    domains: HashSet<Box<str>>,
}

/// An address in the form in which two spellings are equal. A local part has 64 octets at most, three times as many in
/// another case and normalised; a domain has 255.
struct Key {
    octets: [u8; 512],
    /// `length <= octets.len()`; the octets before it are UTF-8.
    length: usize,
}

impl Recipients {
    /// Adds an address, its local part with quotes if it has any. False: this can be no address.
    pub fn add(&mut self, local_part: &[u8], domain: &[u8]) -> bool {
        let key = domain_name(domain).and_then(|domain| Key::of(local_part, &domain));
        key.map(|key| self.addresses.insert(key.as_str().into())).is_some()
    }

    /// Adds a domain where everybody can be written to. False: this can be no domain.
    pub fn add_domain(&mut self, domain: &[u8]) -> bool {
        domain_name(domain).map(|domain| self.domains.insert(domain.as_str().into())).is_some()
    }

    /// Can this address be written to?
    pub fn contains(&self, local_part: &[u8], domain: &[u8]) -> bool {
        let Some(domain) = domain_name(domain) else { return false };
        if self.domains.contains(domain.as_str()) {
            return true;
        }
        let Some(key) = Key::of(local_part, &domain) else { return false };
        let local = &key.as_str()[..key.length - domain.as_str().len() - 1];
        if local == "postmaster" || self.addresses.contains(key.as_str()) {
            return true;
        }
        match local.find('+') {
            None | Some(0) => false,
            Some(end) => {
                Key::joined(&local[..end], &domain).is_some_and(|without| self.addresses.contains(without.as_str()))
            }
        }
    }

    /// Addresses and domains together.
    pub fn count(&self) -> usize {
        self.addresses.len() + self.domains.len()
    }

    /// An address or domain that is in none of `domains`, so that it means nothing.
    pub fn outside(&self, domains: &Domains) -> Option<&str> {
        let addresses = self.addresses.iter().map(|address| (&**address, domain_of(address)));
        let whole = self.domains.iter().map(|domain| (&**domain, &**domain));
        addresses.chain(whole).find(|(_, domain)| !domains.contains(domain.as_bytes())).map(|(entry, _)| entry)
    }

    /// Is there anybody in `domain`?
    pub fn has_any_in(&self, domain: &str) -> bool {
        let Some(domain) = domain_name(domain.as_bytes()) else { return false };
        self.domains.contains(domain.as_str())
            || self.addresses.iter().any(|address| domain_of(address) == domain.as_str())
    }
}

impl Key {
    fn of(local_part: &[u8], domain: &DomainName) -> Option<Key> {
        let mut key = Key { octets: [0; 512], length: 0 };
        let quoted = local_part.len() > 1 && local_part.starts_with(b"\"") && local_part.ends_with(b"\"");
        let inside = if quoted { &local_part[1..local_part.len() - 1] } else { local_part };
        if inside.is_ascii() {
            let mut octets = inside.iter();
            while let Some(&octet) = octets.next() {
                let octet = if quoted && octet == b'\\' { *octets.next()? } else { octet };
                key.push(&[octet.to_ascii_lowercase()])?;
            }
        } else {
            let mut escaped = false;
            let without_escapes = std::str::from_utf8(inside).ok()?.chars().filter(|character| {
                escaped = quoted && !escaped && *character == '\\';
                !escaped
            });
            for character in without_escapes.flat_map(char::to_lowercase).nfc() {
                key.push(character.encode_utf8(&mut [0; 4]).as_bytes())?;
            }
        }
        key.at(domain)
    }

    /// Of a local part that is in its form already.
    fn joined(local_part: &str, domain: &DomainName) -> Option<Key> {
        let mut key = Key { octets: [0; 512], length: 0 };
        key.push(local_part.as_bytes())?;
        key.at(domain)
    }

    fn at(mut self, domain: &DomainName) -> Option<Key> {
        self.push(b"@")?;
        self.push(domain.as_str().as_bytes())?;
        Some(self)
    }

    fn push(&mut self, octets: &[u8]) -> Option<()> {
        let end = self.length + octets.len();
        self.octets.get_mut(self.length..end)?.copy_from_slice(octets);
        self.length = end;
        Some(())
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.octets[..self.length]).unwrap_or_default()
    }
}

fn domain_name(domain: &[u8]) -> Option<DomainName> {
    DomainName::new(domain.strip_suffix(b".").unwrap_or(domain))
}

/// No domain name holds an `@`.
fn domain_of(address: &str) -> &str {
    address.rsplit_once('@').map_or("", |(_, domain)| domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Recipients {
        let mut table = Recipients::default();
        for (local_part, domain) in [
            ("Anna", "Example.edu"),
            ("ben+lab", "example.edu"),
            ("\"o \\\"k\"", "example.edu"),
            ("j\u{f6}rg", "m\u{fc}nchen.example"),
            ("+x", "example.edu"),
        ] {
            assert!(table.add(local_part.as_bytes(), domain.as_bytes()));
        }
        assert!(table.add_domain(b"Open.example"));
        table
    }

    // covers: 4.7
    #[test]
    fn who_is_known() {
        let table = table();
        for (address, known) in [
            ("anna@example.edu", true),
            ("ANNA@EXAMPLE.EDU", true),
            ("\"anna\"@example.edu", true),
            ("\"an\\na\"@example.edu", true),
            ("anna+lists@example.edu", true),
            ("anna+a+b@example.edu", true),
            ("anna@example.org", false),
            ("ann@example.edu", false),
            ("annaa@example.edu", false),
            ("anna.b@example.edu", false),
            ("ben+lab@example.edu", true),
            ("ben@example.edu", false),
            ("ben+other@example.edu", false),
            ("\"O \\\"K\"@example.edu", true),
            ("J\u{d6}RG@m\u{fc}nchen.example", true),
            ("jo\u{308}rg@M\u{dc}NCHEN.example", true),
            ("j\u{f6}rg+x@xn--mnchen-3ya.example", true),
            ("jorg@m\u{fc}nchen.example", false),
            ("whoever@open.example", true),
            ("\"a@b\"@open.example", true),
            ("whoever@sub.open.example", false),
            ("Postmaster@example.edu", true),
            ("postmaster@elsewhere.example", true),
            ("postmaster+x@example.edu", false),
            ("+x@example.edu", true),
            ("+@example.edu", false),
        ] {
            let (local_part, domain) = address.rsplit_once('@').expect(address);
            assert_eq!(table.contains(local_part.as_bytes(), domain.as_bytes()), known, "{address}");
        }
    }

    #[test]
    fn what_does_not_fit_is_unknown_and_never_panics() {
        let mut table = table();
        let long = "\u{23a}".repeat(400);
        assert!(!table.add(long.as_bytes(), b"example.edu"));
        assert!(!table.contains(long.as_bytes(), b"example.edu"));
        assert!(!table.contains(b"\xff", b"example.edu"));
        assert!(!table.contains(b"", b"example.edu") && !table.contains(b"\"\"", b"open"));
        assert!(!table.contains(b"anna", &[b'a'; 300]) && !table.add_domain(b"\xff"));
    }

    #[test]
    fn what_an_operator_should_know() {
        let table = table();
        let all = ["example.edu", "m\u{fc}nchen.example", "open.example"];
        assert_eq!(table.outside(&Domains::new(all)), None);
        assert_eq!(table.outside(&Domains::new([all[0], all[1]])), Some("open.example"));
        assert_eq!(table.outside(&Domains::new([all[0], all[2]])), Some("j\u{f6}rg@xn--mnchen-3ya.example"));
        assert!(all.iter().all(|domain| table.has_any_in(domain)) && !table.has_any_in("edu"));
        assert_eq!(table.count(), 6);
    }
}

//! Senders that a route is for: whole domains, and single addresses.

use crate::policy::Domains;
use crate::policy::domain_name::DomainName;
use std::collections::HashSet;

/// Reverse-paths. A local part is compared without regard to ASCII case: who configures "anna@" means "Anna@" too.
#[derive(Debug)]
pub struct Senders {
    /// Everybody in these.
    domains: Domains,
    /// Local part and domain in the one form that each is compared in.
    addresses: HashSet<(Vec<u8>, String)>,
}

impl Senders {
    /// From configured names: `@example.edu`, or `anna@example.edu`.
    pub fn new(names: &[String]) -> Senders {
        let (domains, addresses): (Vec<_>, Vec<_>) = names.iter().partition(|name| name.starts_with('@'));
        Senders {
            domains: Domains::new(domains.iter().map(|name| &name[1..])),
            addresses: addresses.iter().filter_map(|name| form(name.as_bytes())).collect(),
        }
    }

    /// Is the route for all senders?
    pub fn is_empty(&self) -> bool {
        self.domains.is_empty() && self.addresses.is_empty()
    }

    /// Is `reverse_path` one of them? The null one never is.
    pub fn contains(&self, reverse_path: &[u8]) -> bool {
        self.domains.contains(super::domain(reverse_path))
            || !self.addresses.is_empty() && form(reverse_path).is_some_and(|address| self.addresses.contains(&address))
    }
}

fn form(path: &[u8]) -> Option<(Vec<u8>, String)> {
    let at = memchr::memrchr(b'@', path)?;
    let domain = path[at + 1..].strip_suffix(b".").unwrap_or(&path[at + 1..]);
    Some((path[..at].to_ascii_lowercase(), DomainName::new(domain)?.as_str().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_and_addresses_in_any_spelling() {
        let names = ["@math.example.edu", "anna@example.edu", "b@münchen.example"].map(str::to_owned);
        let senders = Senders::new(&names);
        for (path, is_one) in [
            ("x@math.example.edu", true),
            ("x@MATH.example.edu.", true),
            ("\"a@b\"@math.example.edu", true),
            ("x@sub.math.example.edu", false),
            ("Anna@Example.EDU", true),
            ("anna@example.org", false),
            ("xanna@example.edu", false),
            ("b@xn--mnchen-3ya.example", true),
            ("", false),
            ("anna", false),
        ] {
            assert_eq!(senders.contains(path.as_bytes()), is_one, "{path}");
        }
        assert!(!senders.is_empty() && Senders::new(&[]).is_empty() && !Senders::new(&[]).contains(b""));
    }
}

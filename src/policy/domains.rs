//! A set of domains, compared without regard to ASCII case (RFC 5321 section 2.4).

use std::collections::HashSet;

/// Domains in lower case, without a trailing dot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Domains {
    names: HashSet<String>,
}

impl Domains {
    /// From configured names.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Domains {
        Domains { names: names.into_iter().map(|name| name.trim_end_matches('.').to_ascii_lowercase()).collect() }
    }

    /// Is `domain` one of them?
    pub fn contains(&self, domain: &[u8]) -> bool {
        let Ok(domain) = std::str::from_utf8(domain) else { return false };
        let domain = domain.strip_suffix('.').unwrap_or(domain);
        if domain.bytes().any(|octet| octet.is_ascii_uppercase()) {
            self.names.contains(&domain.to_ascii_lowercase())
        } else {
            self.names.contains(domain)
        }
    }

    /// Is the set empty?
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_and_a_final_dot_do_not_matter_but_a_label_does() {
        let domains = Domains::new(["Example.EDU", "lab.example.edu."]);
        for name in ["example.edu", "EXAMPLE.edu", "example.edu.", "lab.example.edu"] {
            assert!(domains.contains(name.as_bytes()), "{name}");
        }
        for name in ["", ".", "xexample.edu", "www.example.edu", "example.edu.evil.org"] {
            assert!(!domains.contains(name.as_bytes()), "{name}");
        }
        assert!(!domains.contains(b"example.edu\xff"));
    }
}

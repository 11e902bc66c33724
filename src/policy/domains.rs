//! A set of domains, compared without regard to case (RFC 5321 section 2.4), and U-labels equal to their A-labels.

use super::domain_name::DomainName;
use std::collections::HashSet;

/// Domains in lower case and A-labels, without a trailing dot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Domains {
    names: HashSet<String>,
}

impl Domains {
    /// From configured names. What is no domain name is in no set.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Domains {
        let form = |name: &str| Some(DomainName::new(name.trim_end_matches('.').as_bytes())?.as_str().to_string());
        Domains { names: names.into_iter().filter_map(form).collect() }
    }

    /// Is `domain` one of them?
    pub fn contains(&self, domain: &[u8]) -> bool {
        let domain = domain.strip_suffix(b".").unwrap_or(domain);
        DomainName::new(domain).is_some_and(|name| self.names.contains(name.as_str()))
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

    #[test]
    fn u_labels_and_a_labels_are_the_same_domain() {
        for configured in ["münchen.example", "xn--mnchen-3ya.example"] {
            let domains = Domains::new([configured]);
            for name in ["münchen.example", "Xn--Mnchen-3ya.EXAMPLE", "MÜNCHEN.example"] {
                assert!(domains.contains(name.as_bytes()), "{configured}: {name}");
            }
            assert!(!domains.contains("munchen.example".as_bytes()));
        }
    }
}

//! The mechanisms and sets of them.

use std::fmt;

/// A mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// RFC 4616.
    Plain,
    /// draft-murchison-sasl-login: obsolete, and what many mail programs and copiers still prefer.
    Login,
    /// RFC 5802, RFC 7677.
    ScramSha256,
    /// The same, bound to the TLS channel that it runs in.
    ScramSha256Plus,
}

/// Every mechanism and its name on the wire, in the order in which EHLO lists them. Programs choose by their own
/// preference; the few that take the first they know are old, and get one that every server has.
pub(super) const MECHANISMS: [(Mechanism, &str); 4] = [
    (Mechanism::Plain, "PLAIN"),
    (Mechanism::Login, "LOGIN"),
    (Mechanism::ScramSha256, "SCRAM-SHA-256"),
    (Mechanism::ScramSha256Plus, "SCRAM-SHA-256-PLUS"),
];

impl Mechanism {
    /// By its name, case-insensitive (RFC 4954 section 4).
    pub fn parse(name: &[u8]) -> Option<Mechanism> {
        MECHANISMS.iter().find(|row| row.1.as_bytes().eq_ignore_ascii_case(name)).map(|row| row.0)
    }

    /// Its name as EHLO and AUTH have it.
    pub fn name(self) -> &'static str {
        MECHANISMS[self as usize].1
    }

    /// Does it need keys that were derived from the password beforehand, and no password?
    pub fn is_scram(self) -> bool {
        matches!(self, Mechanism::ScramSha256 | Mechanism::ScramSha256Plus)
    }
}

/// A set of mechanisms; empty: nobody can log in.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Mechanisms(u8);

impl Mechanisms {
    /// No mechanism.
    pub const NONE: Mechanisms = Mechanisms(0);
    /// Those that carry the password: whoever can check one can check these.
    pub const PASSWORD: Mechanisms = Mechanisms(1 << Mechanism::Plain as u8 | 1 << Mechanism::Login as u8);
    /// Those that need stored keys.
    pub const SCRAM: Mechanisms = Mechanisms(1 << Mechanism::ScramSha256 as u8 | 1 << Mechanism::ScramSha256Plus as u8);
    /// Every mechanism.
    pub const ALL: Mechanisms = Mechanisms::PASSWORD.with(Mechanisms::SCRAM);

    /// How many there can be in a set.
    pub const COUNT: usize = MECHANISMS.len();

    /// Both sets.
    pub const fn with(self, other: Mechanisms) -> Mechanisms {
        Mechanisms(self.0 | other.0)
    }

    /// This set without what is in the other.
    pub const fn without(self, other: Mechanisms) -> Mechanisms {
        Mechanisms(self.0 & !other.0)
    }

    /// Is it one of them?
    pub fn contains(self, mechanism: Mechanism) -> bool {
        self.0 & 1 << mechanism as u8 != 0
    }

    /// Are there any of the other set in this one?
    pub fn meets(self, other: Mechanisms) -> bool {
        self.0 & other.0 != 0
    }

    /// Are there none?
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// In the order in which EHLO lists them.
    pub fn iter(self) -> impl Iterator<Item = Mechanism> {
        MECHANISMS.into_iter().map(|row| row.0).filter(move |mechanism| self.contains(*mechanism))
    }
}

impl FromIterator<Mechanism> for Mechanisms {
    fn from_iter<I: IntoIterator<Item = Mechanism>>(mechanisms: I) -> Mechanisms {
        Mechanisms(mechanisms.into_iter().fold(0, |set, mechanism| set | 1 << mechanism as u8))
    }
}

impl fmt::Debug for Mechanisms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_name_and_back() {
        for (name, mechanism) in [
            ("PLAIN", Some(Mechanism::Plain)),
            ("plain", Some(Mechanism::Plain)),
            ("LoGiN", Some(Mechanism::Login)),
            ("scram-sha-256", Some(Mechanism::ScramSha256)),
            ("SCRAM-SHA-256-PLUS", Some(Mechanism::ScramSha256Plus)),
            ("", None),
            ("PLAINX", None),
            ("PLAI", None),
            ("CRAM-MD5", None),
            ("SCRAM-SHA-1", None),
        ] {
            assert_eq!(Mechanism::parse(name.as_bytes()), mechanism, "{name}");
        }
        for (mechanism, name) in MECHANISMS {
            assert_eq!(mechanism.name(), name, "the table is in the order of the enum");
        }
    }

    #[test]
    fn sets() {
        let all: Vec<&str> = Mechanisms::ALL.iter().map(Mechanism::name).collect();
        assert_eq!(all, ["PLAIN", "LOGIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"]);
        assert_eq!(Mechanisms::ALL.without(Mechanisms::SCRAM), Mechanisms::PASSWORD);
        let login: Mechanisms = [Mechanism::Login, Mechanism::Login].into_iter().collect();
        assert!(login.contains(Mechanism::Login) && !login.contains(Mechanism::Plain) && !login.is_empty());
        assert!(login.meets(Mechanisms::PASSWORD) && !login.meets(Mechanisms::SCRAM));
        assert!(Mechanisms::NONE.is_empty() && Mechanisms::default() == Mechanisms::NONE);
    }
}

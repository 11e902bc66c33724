//! How users name themselves: `username_form` of the configuration.
//!
//! | form | `Ann` | `Ann@Home.example` (the configured domain) | `ann@other.example` |
//! |---|---|---|---|
//! | `either` | `ann` | `ann` | `ann@other.example` |
//! | `require-domain` | refused | `ann@home.example` | `ann@other.example` |
//! | `append-domain` | `ann@home.example` | `ann@home.example` | `ann@other.example` |
//!
//! Names are compared without regard to case (Unicode lower case), because phones capitalise the first letter and
//! directories do the same. The entries of the users file pass through the same rule as what a client says, so the two
//! meet whichever way either is written.

/// `username_form` of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsernameForm {
    /// `user` and `user@domain` are the same account.
    Either,
    /// Only `user@domain`.
    RequireDomain,
    /// `user` becomes `user@domain`.
    AppendDomain,
}

impl UsernameForm {
    /// The one name of the account that `user` names, or none if this form does not accept it: a domain missing where
    /// it is required, nothing before or behind the `@`, or more than one `@`. `domain`: the configured one, in any case;
    /// without it `append-domain` accepts no bare names.
    pub fn canonical(self, user: &str, domain: Option<&str>) -> Option<String> {
        let user = user.to_lowercase();
        let Some((local, given)) = user.split_once('@') else {
            return match self {
                _ if user.is_empty() => None,
                UsernameForm::Either => Some(user),
                UsernameForm::RequireDomain => None,
                UsernameForm::AppendDomain => domain.map(|domain| format!("{user}@{}", domain.to_lowercase())),
            };
        };
        // With two of them `a@b@home.example` would lose its domain and be taken for the account `a@b`.
        if local.is_empty() || given.is_empty() || given.contains('@') {
            return None;
        }
        let ours = domain.is_some_and(|domain| domain.to_lowercase() == given);
        Some(if self == UsernameForm::Either && ours { local.to_owned() } else { user })
    }
}

#[cfg(test)]
mod tests {
    use super::UsernameForm::{AppendDomain, Either, RequireDomain};
    use proptest::prelude::*;

    #[test]
    fn every_form_with_every_kind_of_name() {
        let ours = Some("Home.Example");
        for (form, domain, user, canonical) in [
            (Either, ours, "Ann", Some("ann")),
            (Either, ours, "ann@HOME.example", Some("ann")),
            (Either, ours, "Ann@Other.Example", Some("ann@other.example")),
            (Either, ours, "ann@sub.home.example", Some("ann@sub.home.example")),
            (Either, None, "Ann", Some("ann")),
            (Either, None, "ann@home.example", Some("ann@home.example")),
            (RequireDomain, ours, "ann", None),
            (RequireDomain, ours, "Ann@Home.example", Some("ann@home.example")),
            (RequireDomain, ours, "ann@other.example", Some("ann@other.example")),
            (RequireDomain, None, "ann@home.example", Some("ann@home.example")),
            (AppendDomain, ours, "Ann", Some("ann@home.example")),
            (AppendDomain, ours, "ann@HOME.example", Some("ann@home.example")),
            (AppendDomain, ours, "ann@other.example", Some("ann@other.example")),
            (AppendDomain, None, "ann", None),
            (Either, ours, "J\u{D6}RG", Some("j\u{F6}rg")),
        ] {
            assert_eq!(form.canonical(user, domain).as_deref(), canonical, "{form:?} {domain:?} {user}");
        }
    }

    #[test]
    fn what_is_no_name_in_any_form() {
        for form in [Either, RequireDomain, AppendDomain] {
            for user in ["", "@", "@home.example", "ann@", "ann@b@home.example", "ann@@home.example"] {
                assert_eq!(form.canonical(user, Some("home.example")), None, "{form:?} {user}");
            }
        }
    }

    proptest! {
        /// A canonical name is its own canonical name: else writing it into the users file would lose the account.
        #[test]
        fn canonical_names_stay_as_they_are(user in "\\PC{0,6}(@(home.example|[a-zA-Z.]{0,4}))?") {
            for form in [Either, RequireDomain, AppendDomain] {
                if let Some(name) = form.canonical(&user, Some("home.EXAMPLE")) {
                    prop_assert_eq!(form.canonical(&name, Some("home.EXAMPLE")), Some(name));
                }
            }
        }
    }
}

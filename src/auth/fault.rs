//! Why a login was refused, for the log alone: the client hears one answer, at one time, whatever it was.
//!
//! **Names.** Whoever types into the wrong field sends the password as the user name, so a name may stand in the log only if
//! it cannot be that: it is an account's, or it has a domain that ours have (`ana@example.edu`, a slip), or lacks only that
//! (`anna`). Any other is withheld. (Postfix and Dovecot log every name.) A hash of it would be no better: a password can
//! be guessed against it.

use super::users::{Names, Users};
use crate::sasl::Mechanism;

/// What stands in the log in place of a name that may be a password.
pub const WITHHELD: &str = "(withheld, may be a password)";

/// Why a login was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The account is there, and this is not its password.
    WrongPassword,
    /// Nobody has this name.
    NoSuchUser,
    /// The name is none in the configured form: how it ought to be.
    Name(&'static str),
    /// The account is there and cannot be used by SCRAM.
    NoKeys,
}

impl Fault {
    /// What was wrong with a login by `mechanism` as `user`, which was refused.
    pub fn of(user: &str, mechanism: Mechanism, names: &Names, users: &Users) -> Fault {
        match names.account(user) {
            Err(what) => Fault::Name(what),
            Ok(account) if users.name(&account).is_none() => Fault::NoSuchUser,
            Ok(account) if mechanism.is_scram() && users.scram(&account).is_none() => Fault::NoKeys,
            Ok(_) => Fault::WrongPassword,
        }
    }

    /// For the log.
    pub fn name(self) -> &'static str {
        match self {
            Fault::WrongPassword => "wrong password",
            Fault::NoSuchUser => "no such user",
            Fault::Name(what) => what,
            Fault::NoKeys => "no SCRAM keys: the password must be set anew with penstock user add --scram",
        }
    }
}

/// `user`, a name as a client gave it, or [`WITHHELD`].
pub fn shown<'a>(user: &'a str, names: &Names, users: &Users) -> &'a str {
    let is_account = |name: &str| names.account(name).is_ok_and(|account| users.name(&account).is_some());
    let is_ours = |domain: &str| {
        users.has_domain(domain) || names.domain.as_ref().is_some_and(|own| own.to_lowercase() == domain)
    };
    let may_show = is_account(user)
        || match user.rsplit_once('@') {
            Some((_, domain)) => is_ours(&domain.to_lowercase()),
            None => users.domains().any(|domain| is_account(&format!("{user}@{domain}"))),
        };
    if may_show { user } else { WITHHELD }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{hash, users};
    use crate::policy::UsernameForm;
    use crate::sasl::Keys;

    fn users(names: &Names, list: &[(&str, bool)]) -> Users {
        let hash = hash::create(b"sesame", hash::Cost { memory_kib: 8, passes: 1, lanes: 1 }).expect("a hash");
        let keys = Keys::derive("sesame", b"salt", 4096).print();
        let line = |(name, scram): &(&str, bool)| match scram {
            true => format!("{name}:{hash}:{}\n", *keys),
            false => format!("{name}:{hash}\n"),
        };
        let text: String = list.iter().map(line).collect();
        Users::new(users::parse(text.as_bytes(), names).expect("users"), 1).expect("users")
    }

    #[test]
    fn every_fault_has_its_reason() {
        let names = Names { form: UsernameForm::RequireDomain, domain: None };
        let users = users(&names, &[("anna@example.edu", false), ("ben@example.edu", true)]);
        let form = Fault::Name("a user name must have the form user@domain here");
        for (user, mechanism, fault) in [
            ("ANNA@example.edu", Mechanism::Plain, Fault::WrongPassword),
            ("anna@example.edu", Mechanism::ScramSha256, Fault::NoKeys),
            ("ben@example.edu", Mechanism::ScramSha256Plus, Fault::WrongPassword),
            ("cleo@example.edu", Mechanism::ScramSha256, Fault::NoSuchUser),
            ("anna", Mechanism::Login, form),
        ] {
            assert_eq!(Fault::of(user, mechanism, &names, &users), fault, "{user}");
        }
        assert!(Fault::NoKeys.name().contains("penstock user add --scram"), "a remedy");
    }

    #[test]
    fn a_password_in_the_wrong_field_is_not_shown() {
        for (form, account) in [
            (UsernameForm::Either, "anna"),
            (UsernameForm::Either, "anna@lab.example.edu"),
            (UsernameForm::AppendDomain, "anna@example.edu"),
            (UsernameForm::RequireDomain, "anna@example.edu"),
        ] {
            let names = Names { form, domain: Some("Example.edu".into()) };
            let users = users(&names, &[(account, false)]);
            for user in ["anna", "Anna", account, "ana@example.edu", "ana@EXAMPLE.EDU"] {
                assert_eq!(shown(user, &names, &users), user, "{form:?}");
            }
            let lab = shown("ana@lab.example.edu", &names, &users);
            assert_eq!(lab != WITHHELD, account.ends_with("@lab.example.edu"), "some account has that domain, or none");
            for password in ["sesame", "hunter2", "P@ssw0rd", "anna1", "a b:c", "x@", "@", "anna@example.org"] {
                assert_eq!(shown(password, &names, &users), WITHHELD, "{form:?}");
            }
        }
    }
}

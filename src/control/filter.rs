//! Which messages are meant: by sender, recipient, domain, user, age and status, all of which must fit.

use crate::auth::users::Names;
use serde_json::{Map, Value, json};

/// What each text must be, in words.
const WANTED: [(&str, &str); 4] = [
    ("sender", "an address such as anna@example.edu, @example.edu for all of a domain, or <> for notifications"),
    ("recipient", "an address such as ben@example.org, or @example.org for all of a domain"),
    ("domain", "what stands behind the @ of an address, such as example.org"),
    ("user", "a user name"),
];

/// How a message stands, or one of its recipients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Waits for its turn, and was not tried since the server's start.
    Waiting,
    /// Was tried, or its destination cannot be reached: it is tried again.
    Deferred,
    /// A delivery is under way.
    Sending,
    /// Is on hold by an operator's order.
    Held,
    /// Its sender asked for a later time (RFC 4865).
    Scheduled,
    /// Its fate is being written down.
    Recording,
}

impl Status {
    /// All, with their names.
    pub const NAMES: [(Status, &'static str); 6] = [
        (Status::Waiting, "waiting"),
        (Status::Deferred, "deferred"),
        (Status::Sending, "sending"),
        (Status::Held, "held"),
        (Status::Scheduled, "scheduled"),
        (Status::Recording, "recording"),
    ];

    /// As it is written.
    pub fn name(self) -> &'static str {
        Status::NAMES.iter().find(|(status, _)| *status == self).map_or("", |(_, name)| name)
    }

    /// What is written so.
    pub fn named(name: &str) -> Option<Status> {
        Status::NAMES.iter().find(|(_, known)| *known == name).map(|(status, _)| *status)
    }
}

/// What a filter looks at.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// Reverse-path; empty for `<>`.
    pub sender: &'a [u8],
    /// The authenticated user.
    pub user: Option<&'a [u8]>,
    /// Recipients for whom something is left to do.
    pub recipients: Vec<&'a [u8]>,
    /// Since its arrival, seconds.
    pub age_s: u64,
    /// How it stands.
    pub status: Status,
}

/// Empty: all messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// The sender's address; `<>` is the empty one, `@domain` all of a domain.
    pub sender: Option<String>,
    /// A recipient's address, or `@domain`.
    pub recipient: Option<String>,
    /// A recipient's domain.
    pub domain: Option<String>,
    /// The user who submitted it.
    pub user: Option<String>,
    /// At least so old, seconds.
    pub older_s: Option<u64>,
    /// At most so old, seconds.
    pub younger_s: Option<u64>,
    /// How it stands.
    pub status: Option<Status>,
    /// The account of that user, which fits too: set where it is known which names are the same account, not in a request.
    pub account: Option<String>,
}

impl Filter {
    /// The same, for messages of the account that a login as its user is in.
    pub fn of_account(self, names: &Names) -> Filter {
        let account = self.user.as_deref().and_then(|user| names.account(user).ok());
        Filter { account, ..self }
    }

    /// Is it for messages of some recipients?
    pub fn names_recipients(&self) -> bool {
        self.recipient.is_some() || self.domain.is_some()
    }

    /// Does it name this recipient, or none?
    pub fn names_recipient(&self, path: &[u8]) -> bool {
        self.recipient.as_deref().is_none_or(|wanted| is_address(wanted, path))
            && self.domain.as_deref().is_none_or(|wanted| is_in(wanted, path))
    }

    /// The filter, if there is anything that it could fit. Errors: what was wanted, for whoever has typed it: an empty list
    /// would say that nothing is queued.
    pub fn checked(mut self) -> Result<Filter, String> {
        for (name, text, is_named) in [
            ("sender", &mut self.sender, is_sender as fn(&str) -> bool),
            ("recipient", &mut self.recipient, is_recipient),
            ("domain", &mut self.domain, is_domain),
            ("user", &mut self.user, |user| !user.is_empty()),
        ] {
            let Some(text) = text else { continue };
            *text = without_brackets(text.trim()).to_owned();
            if !is_named(text) {
                let wanted = WANTED.iter().find(|(known, _)| *known == name).map_or("", |(_, wanted)| wanted);
                return Err(format!("{name} is {wanted}, not {text:?}"));
            }
        }
        match (self.older_s, self.younger_s) {
            (Some(older_s), Some(younger_s)) if older_s > younger_s => {
                Err(format!("no message is older than {older_s} s and younger than {younger_s} s"))
            }
            _ => Ok(self),
        }
    }

    /// Are all messages meant?
    pub fn is_all(&self) -> bool {
        *self == Filter::default()
    }

    /// Is a message meant?
    pub fn matches(&self, facts: &Facts) -> bool {
        let fits = |wanted: &Option<String>, fits: &dyn Fn(&str) -> bool| wanted.as_deref().is_none_or(fits);
        fits(&self.sender, &|wanted| is_address(wanted, facts.sender))
            && fits(&self.user, &|wanted| facts.user.is_some_and(|user| is_user(wanted, user) || self.is_account(user)))
            && fits(&self.recipient, &|wanted| facts.recipients.iter().any(|path| is_address(wanted, path)))
            && fits(&self.domain, &|wanted| facts.recipients.iter().any(|path| is_in(wanted, path)))
            && self.older_s.is_none_or(|least| facts.age_s >= least)
            && self.younger_s.is_none_or(|most| facts.age_s <= most)
            && self.status.is_none_or(|status| facts.status == status)
    }

    /// As it stands in a request.
    pub fn to_json(&self) -> Value {
        let mut object = Map::new();
        for (name, text) in self.texts() {
            if let Some(text) = text {
                object.insert(name.into(), json!(text));
            }
        }
        for (name, number) in [("older_s", self.older_s), ("younger_s", self.younger_s)] {
            if let Some(number) = number {
                object.insert(name.into(), json!(number));
            }
        }
        if let Some(status) = self.status {
            object.insert("status".into(), json!(status.name()));
        }
        Value::Object(object)
    }

    /// From a request. Errors: what is wrong with it. What is not understood must not mean "all messages".
    pub fn from_json(value: &Value) -> Result<Filter, String> {
        let mut filter = Filter::default();
        for (name, value) in value.as_object().ok_or("a filter is an object")? {
            let text = || value.as_str().map(str::to_owned).ok_or_else(|| format!("{name} is a string"));
            let number = || value.as_u64().ok_or_else(|| format!("{name} is a number"));
            match name.as_str() {
                "sender" => filter.sender = Some(text()?),
                "recipient" => filter.recipient = Some(text()?),
                "domain" => filter.domain = Some(text()?),
                "user" => filter.user = Some(text()?),
                "older_s" => filter.older_s = Some(number()?),
                "younger_s" => filter.younger_s = Some(number()?),
                "status" => {
                    let name = text()?;
                    filter.status = Some(Status::named(&name).ok_or_else(|| format!("there is no status {name}"))?);
                }
                other => return Err(format!("there is no filter {other}")),
            }
        }
        filter.checked()
    }

    /// For the log.
    pub fn describe(&self) -> String {
        if self.is_all() { "all".into() } else { self.to_json().to_string() }
    }

    fn is_account(&self, user: &[u8]) -> bool {
        self.account.as_ref().is_some_and(|account| account.as_bytes() == user)
    }

    fn texts(&self) -> [(&'static str, Option<&String>); 4] {
        [
            ("sender", self.sender.as_ref()),
            ("recipient", self.recipient.as_ref()),
            ("domain", self.domain.as_ref()),
            ("user", self.user.as_ref()),
        ]
    }
}

/// As an address is written in a log line or a header field.
pub fn without_brackets(text: &str) -> &str {
    let inner = text.strip_prefix('<').and_then(|text| text.strip_suffix('>'));
    inner.filter(|inner| !inner.is_empty()).unwrap_or(text)
}

fn is_sender(text: &str) -> bool {
    text == "<>" || is_whole_address(text)
}

/// RFC 5321 section 4.5.1: one recipient has no domain.
fn is_recipient(text: &str) -> bool {
    text.eq_ignore_ascii_case("postmaster") || is_whole_address(text)
}

/// With a domain, and perhaps nothing in front of it.
fn is_whole_address(text: &str) -> bool {
    text.rsplit_once('@').is_some_and(|(_, domain)| is_domain(domain))
}

/// As `@domain` too, which means the same.
fn is_domain(text: &str) -> bool {
    let domain = text.strip_prefix('@').unwrap_or(text);
    !domain.is_empty() && !domain.contains(['@', ' ', '<', '>', '*']) && !domain.ends_with('.')
}

/// Case counts nowhere: an operator types what a person has told.
fn is_address(wanted: &str, path: &[u8]) -> bool {
    match wanted {
        "<>" => path.is_empty(),
        _ if wanted.starts_with('@') => is_in(&wanted[1..], path),
        _ => path.eq_ignore_ascii_case(wanted.as_bytes()),
    }
}

fn is_in(domain: &str, path: &[u8]) -> bool {
    let at = memchr::memrchr(b'@', path);
    at.is_some_and(|at| path[at + 1..].eq_ignore_ascii_case(domain.trim_start_matches('@').as_bytes()))
}

/// `anna` is also anna of any domain.
fn is_user(wanted: &str, user: &[u8]) -> bool {
    let local = memchr::memchr(b'@', user).map_or(user, |at| &user[..at]);
    user.eq_ignore_ascii_case(wanted.as_bytes()) || local.eq_ignore_ascii_case(wanted.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(text: &str) -> Filter {
        Filter::from_json(&serde_json::from_str(text).expect("JSON")).expect("a filter")
    }

    #[test]
    fn each_condition_alone_and_all_together() {
        let facts = Facts {
            sender: b"Anna@Example.edu",
            user: Some(b"anna@example.edu"),
            recipients: vec![b"ben@example.org", b"cleo@sub.example.org"],
            age_s: 100,
            status: Status::Deferred,
        };
        for (text, expected) in [
            ("{}", true),
            (r#"{"sender":"anna@example.edu"}"#, true),
            (r#"{"sender":"nna@example.edu"}"#, false),
            (r#"{"sender":"@example.edu"}"#, true),
            (r#"{"sender":"@le.edu"}"#, false),
            (r#"{"sender":"<>"}"#, false),
            (r#"{"recipient":"cleo@sub.example.org"}"#, true),
            (r#"{"recipient":"dan@example.org"}"#, false),
            (r#"{"recipient":"@example.org"}"#, true),
            (r#"{"domain":"EXAMPLE.org"}"#, true),
            (r#"{"domain":"org"}"#, false),
            (r#"{"user":"anna"}"#, true),
            (r#"{"user":"anna@example.edu"}"#, true),
            (r#"{"user":"ann"}"#, false),
            (r#"{"older_s":100}"#, true),
            (r#"{"older_s":101}"#, false),
            (r#"{"younger_s":100}"#, true),
            (r#"{"younger_s":99}"#, false),
            (r#"{"status":"deferred"}"#, true),
            (r#"{"status":"held"}"#, false),
            (r#"{"user":"anna","status":"deferred","domain":"example.org","older_s":1}"#, true),
            (r#"{"user":"anna","status":"deferred","domain":"example.com","older_s":1}"#, false),
        ] {
            assert_eq!(filter(text).matches(&facts), expected, "{text}");
        }
        let bounce = Facts { sender: b"", user: None, ..facts };
        assert!(filter(r#"{"sender":"<>"}"#).matches(&bounce));
        assert!(!filter(r#"{"user":"anna"}"#).matches(&bounce));
    }

    /// As a login does it.
    #[test]
    fn who_is_named_in_another_form_is_the_same_account() {
        use crate::policy::UsernameForm::{self, AppendDomain, Either};
        let domain = Some("example.edu".to_owned());
        let names = |form: UsernameForm| Names { form, domain: domain.clone() };
        for (form, wanted, user, expected) in [
            (Either, "Anna@Example.edu", "anna", true),
            (Either, "anna@example.edu", "anna@example.edu", true),
            (Either, "anna@example.org", "anna", false),
            (Either, "anna@example.edu", "joanna", false),
            (Either, "anna@example.edu", "anna@example.org", false),
            (AppendDomain, "anna", "anna@example.edu", true),
            (AppendDomain, "anna@example.edu", "anna", false),
        ] {
            let filter = Filter { user: Some(wanted.into()), ..Filter::default() }.of_account(&names(form));
            let facts = Facts {
                sender: b"",
                user: Some(user.as_bytes()),
                recipients: vec![],
                age_s: 0,
                status: Status::Waiting,
            };
            assert_eq!(filter.matches(&facts), expected, "{form:?} {wanted} {user}");
        }
    }

    #[test]
    fn what_cannot_fit_says_what_was_wanted() {
        let wrong = Filter { domain: Some("ben@example.org".into()), ..Filter::default() };
        let said = wrong.checked().expect_err("no domain");
        assert!(said.contains("behind the @") && said.contains("ben@example.org"), "{said}");
        for (typed, meant) in
            [("<ben@example.org>", "ben@example.org"), (" @example.org", "@example.org"), ("Postmaster", "Postmaster")]
        {
            let filter = Filter { recipient: Some(typed.into()), ..Filter::default() };
            assert_eq!(filter.checked().expect("an address").recipient.as_deref(), Some(meant));
        }
        let bounces = Filter { sender: Some("<>".into()), ..Filter::default() };
        assert_eq!(bounces.clone().checked(), Ok(bounces));
    }

    #[test]
    fn what_is_written_is_read_and_the_rest_is_refused() {
        let text =
            r#"{"domain":"a","older_s":1,"recipient":"b@a","sender":"c@e","status":"held","user":"d","younger_s":2}"#;
        assert_eq!(filter(text).to_json().to_string(), text);
        assert!(filter("{}").is_all() && !filter(text).is_all());
        for wrong in [
            r#"{"sender":"anna"}"#,
            r#"{"recipient":"ben"}"#,
            r#"{"recipient":"<>"}"#,
            r#"{"domain":"ben@example.org"}"#,
            r#"{"domain":"*.example.org"}"#,
            r#"{"domain":"@"}"#,
            r#"{"sender":""}"#,
            r#"{"user":" "}"#,
            r#"{"older_s":2,"younger_s":1}"#,
            r#"{"sendr":"a"}"#,
            r#"{"older_s":"1"}"#,
            r#"{"status":"lost"}"#,
            "[]",
            r#"{"user":null}"#,
        ] {
            assert!(Filter::from_json(&serde_json::from_str(wrong).expect("JSON")).is_err(), "{wrong}");
        }
    }
}

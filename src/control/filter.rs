//! Which messages are meant: by sender, recipient, domain, user, age and status, all of which must fit.

use serde_json::{Map, Value, json};

/// How a message stands, or one of its recipients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Waits for its first try.
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
}

impl Filter {
    /// Are all messages meant?
    pub fn is_all(&self) -> bool {
        *self == Filter::default()
    }

    /// Is a message meant?
    pub fn matches(&self, facts: &Facts) -> bool {
        let fits = |wanted: &Option<String>, fits: &dyn Fn(&str) -> bool| wanted.as_deref().is_none_or(fits);
        fits(&self.sender, &|wanted| is_address(wanted, facts.sender))
            && fits(&self.user, &|wanted| facts.user.is_some_and(|user| is_user(wanted, user)))
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
        Ok(filter)
    }

    /// For the log.
    pub fn describe(&self) -> String {
        if self.is_all() { "all".into() } else { self.to_json().to_string() }
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

/// Case counts nowhere: an operator types what a person has told.
fn is_address(wanted: &str, path: &[u8]) -> bool {
    match wanted {
        "<>" | "" => path.is_empty(),
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

    #[test]
    fn what_is_written_is_read_and_the_rest_is_refused() {
        let text =
            r#"{"domain":"a","older_s":1,"recipient":"b","sender":"c","status":"held","user":"d","younger_s":2}"#;
        assert_eq!(filter(text).to_json().to_string(), text);
        assert!(filter("{}").is_all() && !filter(text).is_all());
        for wrong in [r#"{"sendr":"a"}"#, r#"{"older_s":"1"}"#, r#"{"status":"lost"}"#, "[]", r#"{"user":null}"#] {
            assert!(Filter::from_json(&serde_json::from_str(wrong).expect("JSON")).is_err(), "{wrong}");
        }
    }
}

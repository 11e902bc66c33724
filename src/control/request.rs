//! What may be asked, as one line of JSON.
//!
//! ```text
//!  {"do":"list","filter":{"user":"anna"},"limit":100}
//!  {"do":"show","ids":["0AB12CD34EF56"],"headers":true}
//!  {"do":"delete","ids":["0AB12CD34EF56"],"bounce":true}
//!  {"do":"hold","filter":{"sender":"anna@example.edu"}}
//!  {"do":"trace","what":"ben@example.org","limit":20}
//! ```

use super::filter::{Filter, without_brackets};
use crate::spool::QueueId;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// Octets of a request.
pub const REQUEST_BYTES_MAX: usize = 64 << 10;
/// Messages that a trace tells of at most.
pub const TRACED_MAX: u64 = 1000;

/// What is asked for, as permissions see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Where is a message?
    Trace,
    /// How much is queued.
    Stats,
    /// Envelopes of what is queued.
    List,
    /// All that is known of a message, but for what it says.
    Show,
    /// Its header.
    Headers,
    /// Try now.
    Flush,
    /// Begin nothing.
    Hold,
    /// Go on.
    Release,
    /// As if it had just arrived.
    Requeue,
    /// Out of the queue.
    Delete,
}

impl Deed {
    /// All of them.
    pub const ALL: [Deed; 10] = [
        Deed::Trace,
        Deed::Stats,
        Deed::List,
        Deed::Show,
        Deed::Headers,
        Deed::Flush,
        Deed::Hold,
        Deed::Release,
        Deed::Requeue,
        Deed::Delete,
    ];

    /// As it is written, in requests and in the log.
    pub fn name(self) -> &'static str {
        match self {
            Deed::Trace => "trace",
            Deed::Stats => "stats",
            Deed::List => "list",
            Deed::Show => "show",
            Deed::Headers => "headers",
            Deed::Flush => "flush",
            Deed::Hold => "hold",
            Deed::Release => "release",
            Deed::Requeue => "requeue",
            Deed::Delete => "delete",
        }
    }
}

/// Which messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// These, each once, in order.
    Ids(Vec<u64>),
    /// All that fit.
    Filter(Filter),
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// How much is queued.
    Stats,
    /// Rows, at most `limit` of them; 0: all.
    List {
        /// Which.
        selection: Selection,
        /// At most so many; 0: all.
        limit: u64,
    },
    /// Everything about messages, with their header.
    Show {
        /// Which.
        ids: Vec<u64>,
        /// The header too.
        headers: bool,
    },
    /// Changes messages.
    Act {
        /// How: one of the last five deeds.
        deed: Deed,
        /// Which.
        selection: Selection,
        /// Of a deletion: the sender is told.
        bounce: bool,
    },
    /// Where is my message?
    Trace {
        /// A queue id, a user or an address.
        what: String,
        /// Messages, the latest first.
        limit: u64,
    },
}

impl Request {
    /// What permissions it takes.
    pub fn deed(&self) -> Deed {
        match self {
            Request::Stats => Deed::Stats,
            Request::List { .. } => Deed::List,
            Request::Show { headers: false, .. } => Deed::Show,
            Request::Show { headers: true, .. } => Deed::Headers,
            Request::Act { deed, .. } => *deed,
            Request::Trace { .. } => Deed::Trace,
        }
    }

    /// What it is about, for the log.
    pub fn object(&self) -> String {
        match self {
            Request::Stats => "queue".into(),
            Request::List { selection, .. } | Request::Act { selection, .. } => match selection {
                Selection::Ids(ids) => names(ids).join(" "),
                Selection::Filter(filter) => filter.describe(),
            },
            Request::Show { ids, .. } => names(ids).join(" "),
            Request::Trace { what, .. } => what.clone(),
        }
    }

    /// One line, without its end.
    pub fn to_json(&self) -> Value {
        let mut object = Map::new();
        object.insert("do".into(), json!(if let Request::Show { .. } = self { "show" } else { self.deed().name() }));
        match self {
            Request::Stats => {}
            Request::List { selection, limit } => {
                select(&mut object, selection);
                object.insert("limit".into(), json!(limit));
            }
            Request::Show { ids, headers } => {
                object.insert("ids".into(), json!(names(ids)));
                object.insert("headers".into(), json!(headers));
            }
            Request::Act { selection, bounce, .. } => {
                select(&mut object, selection);
                object.insert("bounce".into(), json!(bounce));
            }
            Request::Trace { what, limit } => {
                object.insert("what".into(), json!(what));
                object.insert("limit".into(), json!(limit));
            }
        }
        Value::Object(object)
    }

    /// Reads a line. Errors: what is wrong with it, for whoever sent it.
    pub fn parse(line: &[u8]) -> Result<Request, String> {
        let value: Value = serde_json::from_slice(line).map_err(|error| format!("this is no JSON: {error}"))?;
        let object = value.as_object().ok_or("a request is an object")?;
        let name = object.get("do").and_then(Value::as_str).ok_or("a request says what to do")?;
        let deed = Deed::ALL.into_iter().find(|deed| deed.name() == name && *deed != Deed::Headers);
        let deed =
            deed.ok_or_else(|| format!("there is nothing called {name}; is the server older than this command?"))?;
        let flag = |name: &str| object.get(name).is_some_and(|value| value == &Value::Bool(true));
        let limit = |most: u64| object.get("limit").and_then(Value::as_u64).unwrap_or(0).min(most);
        Ok(match deed {
            Deed::Stats => Request::Stats,
            Deed::List => Request::List { selection: selection(object)?, limit: limit(u64::MAX) },
            Deed::Show | Deed::Headers => Request::Show { ids: ids(object)?, headers: flag("headers") },
            Deed::Trace => {
                let what = object.get("what").and_then(Value::as_str).unwrap_or_default();
                let what = without_brackets(what.trim()).to_owned();
                if what.is_empty() {
                    return Err("a trace is of a queue id, a user or an address".into());
                }
                // Nobody's name: that would be all notifications.
                if what == "<>" || what.starts_with('@') || what.ends_with('@') {
                    return Err(format!(
                        "a trace is of a queue id, a user, or an address such as ben@example.org, not {what:?}; penstock \
                         queue list --domain shows what is queued for all of a domain, --sender '<>' notifications"
                    ));
                }
                Request::Trace { what, limit: limit(TRACED_MAX).max(1) }
            }
            deed => {
                Request::Act { deed, selection: selection(object)?, bounce: flag("bounce") && deed == Deed::Delete }
            }
        })
    }
}

fn names(ids: &[u64]) -> Vec<String> {
    ids.iter().map(|id| QueueId(*id).to_string()).collect()
}

fn select(object: &mut Map<String, Value>, selection: &Selection) {
    match selection {
        Selection::Ids(ids) => object.insert("ids".into(), json!(names(ids))),
        Selection::Filter(filter) => object.insert("filter".into(), filter.to_json()),
    };
}

/// One of the two must be there: silence must not mean "all".
fn selection(object: &Map<String, Value>) -> Result<Selection, String> {
    match (object.get("ids"), object.get("filter")) {
        (Some(_), None) => Ok(Selection::Ids(ids(object)?)),
        (None, Some(filter)) => Ok(Selection::Filter(Filter::from_json(filter)?)),
        _ => Err("say which messages: ids, or a filter".into()),
    }
}

fn ids(object: &Map<String, Value>) -> Result<Vec<u64>, String> {
    let listed = object.get("ids").and_then(Value::as_array).ok_or("say which messages: ids")?;
    let mut known = BTreeSet::new();
    let mut ids = Vec::new();
    for value in listed {
        let id: QueueId =
            value.as_str().and_then(|text| text.parse().ok()).ok_or_else(|| format!("{value} is no queue id"))?;
        if known.insert(id.0) {
            ids.push(id.0);
        }
    }
    if ids.is_empty() { Err("name a message".into()) } else { Ok(ids) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let some = || Selection::Ids(vec![7, 5]);
        let filter = || Selection::Filter(Filter { user: Some("anna".into()), ..Filter::default() });
        let mut requests = vec![
            Request::Stats,
            Request::List { selection: filter(), limit: 9 },
            Request::List { selection: some(), limit: 0 },
            Request::Show { ids: vec![7], headers: false },
            Request::Show { ids: vec![7], headers: true },
            Request::Trace { what: "ben@example.org".into(), limit: 20 },
            Request::Act { deed: Deed::Delete, selection: some(), bounce: true },
        ];
        for deed in [Deed::Flush, Deed::Hold, Deed::Release, Deed::Requeue, Deed::Delete] {
            requests.push(Request::Act { deed, selection: filter(), bounce: false });
        }
        for request in requests {
            assert_eq!(Request::parse(request.to_json().to_string().as_bytes()), Ok(request.clone()), "{request:?}");
        }
    }

    #[test]
    fn a_header_takes_more_than_the_envelope() {
        let show = |headers| Request::Show { ids: vec![7], headers };
        assert_eq!((show(false).deed(), show(true).deed()), (Deed::Show, Deed::Headers));
    }

    #[test]
    fn what_is_not_understood_is_refused_and_never_means_all() {
        let id = QueueId(7).to_string();
        for line in [
            "",
            "{",
            "[]",
            "{}",
            r#"{"do":"headers"}"#,
            r#"{"do":"shutdown"}"#,
            r#"{"do":"delete"}"#,
            r#"{"do":"delete","ids":[]}"#,
            r#"{"do":"delete","ids":["x"]}"#,
            r#"{"do":"delete","ids":"x"}"#,
            r#"{"do":"hold","filter":{"usr":"a"}}"#,
            r#"{"do":"hold","filter":null}"#,
            r#"{"do":"show"}"#,
            r#"{"do":"trace"}"#,
            r#"{"do":"trace","what":" "}"#,
            r#"{"do":"trace","what":"@far.example"}"#,
            r#"{"do":"trace","what":"<@far.example>"}"#,
            r#"{"do":"trace","what":"ben@"}"#,
            r#"{"do":"trace","what":"<>"}"#,
            r#"{"do":"hold","filter":{"domain":"ben@example.org"}}"#,
        ] {
            assert!(Request::parse(line.as_bytes()).is_err(), "{line}");
        }
        let both = format!(r#"{{"do":"delete","ids":["{id}"],"filter":{{}}}}"#);
        assert!(Request::parse(both.as_bytes()).is_err());
        let twice = format!(r#"{{"do":"hold","ids":["{id}","{id}"],"bounce":true}}"#);
        let once = Request::Act { deed: Deed::Hold, selection: Selection::Ids(vec![7]), bounce: false };
        assert_eq!(Request::parse(twice.as_bytes()), Ok(once));
    }
}

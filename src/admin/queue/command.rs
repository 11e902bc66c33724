//! The command line of `penstock queue`, and the requests that it means.

use super::Server;
use crate::control::filter::{Filter, Status};
use crate::control::request::{Deed, Request, Selection};
use crate::spool::QueueId;
use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};

/// What there is to do.
#[allow(missing_docs)] // What is documented here is the help.
#[derive(Debug, Subcommand)]
pub enum QueueCommand {
    /// What is queued, oldest first (what is to be sent later, or was requeued, counts from then): age, size, status, next try, sender, recipients, and why it is not delivered
    List {
        #[command(flatten)]
        server: Server,
        #[command(flatten)]
        which: Which,
        /// At most so many; 0, as without it: all
        #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
        limit: u64,
    },
    /// Everything about messages: envelope, recipients, the last reply of each and its next try
    Show {
        #[command(flatten)]
        server: Server,
        /// Queue ids
        #[arg(required = true, value_parser = queue_id, value_name = "QUEUE-ID")]
        ids: Vec<u64>,
        /// The message's header too; for postmasters
        #[arg(long)]
        headers: bool,
    },
    /// How much is queued, by status and destination
    Stats {
        #[command(flatten)]
        server: Server,
    },
    /// Try now; without a choice, everything. What its sender wants to be sent later waits for its time all the same
    Flush {
        #[command(flatten)]
        server: Server,
        #[command(flatten)]
        which: Which,
    },
    /// Begin no more deliveries until released; the time on hold does not count
    Hold {
        #[command(flatten)]
        server: Server,
        #[command(flatten)]
        which: Which,
        /// All messages
        #[arg(long, conflicts_with_all = ["ids", "filter"])]
        all: bool,
    },
    /// Let held messages go
    Release {
        #[command(flatten)]
        server: Server,
        #[command(flatten)]
        which: Which,
        /// All messages
        #[arg(long, conflicts_with_all = ["ids", "filter"])]
        all: bool,
    },
    /// Try now, and count a message's time anew, as if it had just arrived; a held one is released. What its sender wants to
    /// be sent later is left alone, unless its queue id is named
    Requeue {
        #[command(flatten)]
        server: Server,
        #[command(flatten)]
        which: Which,
        /// All messages
        #[arg(long, conflicts_with_all = ["ids", "filter"])]
        all: bool,
    },
    /// Take messages out of the queue for ever. Nobody is told
    Delete {
        #[command(flatten)]
        server: Server,
        #[command(flatten)]
        which: Which,
        /// All messages
        #[arg(long, conflicts_with_all = ["ids", "filter"])]
        all: bool,
        /// Tell the senders that they were not delivered
        #[arg(long)]
        bounce: bool,
    },
}

/// Which messages: ids, or all that fit.
#[derive(Clone, Debug, Default, Args)]
pub struct Which {
    /// Queue ids
    #[arg(value_parser = queue_id, value_name = "QUEUE-ID", conflicts_with = "filter")]
    ids: Vec<u64>,
    #[command(flatten)]
    filter: FilterArguments,
}

/// All that are given must fit.
#[derive(Clone, Debug, Default, Args)]
#[group(id = "filter", multiple = true)]
pub struct FilterArguments {
    /// From this address, @domain, or <> for notifications
    #[arg(long, value_name = "ADDRESS")]
    sender: Option<String>,
    /// To this address or @domain. An order is for the whole message, all its recipients
    #[arg(long, value_name = "ADDRESS")]
    recipient: Option<String>,
    /// To anyone in this domain. An order is for the whole message, all its recipients
    #[arg(long, value_name = "DOMAIN")]
    domain: Option<String>,
    /// Submitted by this user, in any form that is taken at login
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Here for longer than this: 90s, 15m, 3h, 2d
    #[arg(long, value_name = "AGE", value_parser = age_s)]
    older: Option<u64>,
    /// Here for less than this
    #[arg(long, value_name = "AGE", value_parser = age_s)]
    younger: Option<u64>,
    /// waiting, deferred, sending, held, scheduled or recording
    #[arg(long, value_parser = PossibleValuesParser::new(Status::NAMES.map(|(_, name)| name)))]
    status: Option<String>,
}

impl QueueCommand {
    /// Where to ask, and what. Errors: no message is named.
    pub fn request(self) -> Result<(Server, Request), String> {
        let act = |server, deed, which: Which, all, bounce| {
            let selection = which.selection()?;
            let named = all || selection != Selection::Filter(Filter::default());
            let refusal =
                || format!("say which messages to {}: queue ids, a filter such as --sender, or --all", name(deed));
            named.then_some((server, Request::Act { deed, selection, bounce })).ok_or_else(refusal)
        };
        match self {
            QueueCommand::List { server, which, limit } => {
                Ok((server, Request::List { selection: which.selection()?, limit }))
            }
            QueueCommand::Show { server, ids, headers } => Ok((server, Request::Show { ids, headers })),
            QueueCommand::Stats { server } => Ok((server, Request::Stats)),
            QueueCommand::Flush { server, which } => act(server, Deed::Flush, which, true, false),
            QueueCommand::Hold { server, which, all } => act(server, Deed::Hold, which, all, false),
            QueueCommand::Release { server, which, all } => act(server, Deed::Release, which, all, false),
            QueueCommand::Requeue { server, which, all } => act(server, Deed::Requeue, which, all, false),
            QueueCommand::Delete { server, which, all, bounce } => act(server, Deed::Delete, which, all, bounce),
        }
    }
}

fn name(deed: Deed) -> &'static str {
    deed.name()
}

impl Which {
    /// Errors: a filter that nothing could fit.
    fn selection(self) -> Result<Selection, String> {
        if !self.ids.is_empty() {
            return Ok(Selection::Ids(self.ids));
        }
        let FilterArguments { sender, recipient, domain, user, older, younger, status } = self.filter;
        let status = status.and_then(|name| Status::named(&name));
        let filter =
            Filter { sender, recipient, domain, user, older_s: older, younger_s: younger, status, account: None };
        Ok(Selection::Filter(filter.checked()?))
    }
}

fn queue_id(text: &str) -> Result<u64, String> {
    let id: Result<QueueId, _> = text.parse();
    id.map(|id| id.0)
        .map_err(|_| "a queue id has 13 digits and capital consonants, as log lines and bounces show it".into())
}

/// Seconds of an age with its unit.
fn age_s(text: &str) -> Result<u64, String> {
    let (digits, unit) = text.split_at(text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len()));
    let factor = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err("write 90s, 15m, 3h or 2d".into()),
    };
    let number: u64 = digits.parse().map_err(|_| "write 90s, 15m, 3h or 2d")?;
    number.checked_mul(factor).ok_or_else(|| "that is older than anything".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(subcommand)]
        command: QueueCommand,
    }

    fn request(line: &str) -> Result<Request, String> {
        let words = ["queue"].into_iter().chain(line.split(' ')).chain(["--socket", "s"]);
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        line.command.request().map(|(_, request)| request)
    }

    #[test]
    fn what_is_typed_and_what_is_meant() {
        let id = QueueId(7).to_string();
        let ids = || Selection::Ids(vec![7]);
        let act = |deed, selection, bounce| Ok(Request::Act { deed, selection, bounce });
        let older = Selection::Filter(Filter { older_s: Some(7200), domain: Some("a".into()), ..Filter::default() });
        assert_eq!(request(&format!("hold {id}")), act(Deed::Hold, ids(), false));
        assert_eq!(request(&format!("delete --bounce {id}")), act(Deed::Delete, ids(), true));
        assert_eq!(request("release --older 2h --domain a"), act(Deed::Release, older.clone(), false));
        assert_eq!(request("flush"), act(Deed::Flush, Selection::Filter(Filter::default()), false));
        assert_eq!(request("requeue --all"), act(Deed::Requeue, Selection::Filter(Filter::default()), false));
        assert_eq!(request("list --older 2h --domain a --limit 3"), Ok(Request::List { selection: older, limit: 3 }));
        assert_eq!(request(&format!("show --headers {id}")), Ok(Request::Show { ids: vec![7], headers: true }));
    }

    #[test]
    fn nothing_is_changed_by_mistake() {
        let id = QueueId(7).to_string();
        for line in [
            "delete".into(),
            "hold".into(),
            "requeue --bounce".into(),
            "show".into(),
            format!("delete {id} --sender a@b"),
            format!("delete {id} --all"),
            "delete --all --sender a@b".into(),
            "delete ABC".into(),
            "list --status lost".into(),
            "list --older 3".into(),
            "list --older 3w".into(),
            "list --older h".into(),
            "list --older 99999999999999999999d".into(),
            "list --domain ben@example.org".into(),
            "delete --sender anna".into(),
            "hold --recipient <>".into(),
            "list --older 2h --younger 1h".into(),
        ] {
            assert!(request(&line).is_err(), "{line}");
        }
    }
}

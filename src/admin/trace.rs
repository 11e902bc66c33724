//! `penstock trace`: where is my message, in words that whoever answers the telephone can read out.
//!
//! ```text
//! 0AB12CD34EF56  accepted 2026-11-22T11:00:00Z from 192.0.2.1:4711, user anna, sender anna@example.edu
//!   ben@example.org: delivered 2026-11-22T11:00:01Z. mail.example.org:25 took it and said: 250 2.0.0 Ok: queued as 1234
//!   cleo@example.com: not delivered yet. The last answer, of mx.example.com at 2026-11-22T11:00:02Z: 450 4.2.1 full.
//!     It is tried again in 12m.
//! ```
//!
//! Everything that happened, each try with its time, is in `--json`.

use super::complain;
use super::queue::print::{age, clean, moment, number, sender, string};
use super::queue::{Server, run};
use crate::control::request::Request;
use crate::control::tally::UNREADABLE;
use serde_json::Value;
use std::fmt::Write;
use std::process::ExitCode;

/// The command line.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    server: Server,
    /// A queue id, a user, or an address of a sender or recipient
    #[arg(value_name = "QUEUE-ID|USER|ADDRESS")]
    what: String,
    /// At most so many messages, the latest
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: u64,
}

/// Asks and prints.
pub fn trace(arguments: &Arguments) -> ExitCode {
    let Arguments { server, what, limit } = arguments;
    // Read as the server would read it: a stopped one's spool is asked by ourselves.
    let request = Request::Trace { what: what.clone(), limit: (*limit).max(1) };
    match Request::parse(request.to_json().to_string().as_bytes()) {
        Ok(request) => run(server, &request),
        Err(reason) => {
            complain(&format!("penstock: {reason}\n"));
            ExitCode::from(2)
        }
    }
}

/// A message, for people. `paused`: the relay is, and delivers nothing.
pub fn message(trace: &Value, now_ms: u64, paused: bool) -> String {
    let at = (now_ms, paused);
    let (queue, mut out) = (&trace["queue"], String::new());
    let known = if trace["accepted_ms"].is_u64() || queue.is_null() { trace } else { queue };
    let accepted = if known["accepted_ms"].is_u64() { &known["accepted_ms"] } else { &known["arrival_ms"] };
    // A String takes everything that is written.
    let _ = write!(out, "{}", string(&trace["id"]));
    match accepted.is_u64() {
        true => {
            let user = known["user"].as_str().map(|user| format!(", user {}", clean(user))).unwrap_or_default();
            let client = match clean(string(&known["client"])) {
                none if none.is_empty() => "by this server itself".to_owned(),
                client => format!("from {client}"),
            };
            let _ = writeln!(out, "  accepted {} {client}{user}, sender {}", moment(accepted), sender(known));
        }
        false => out.push_str(
            "  its acceptance was not kept: it was before the days that are kept, or the disk had no room then\n",
        ),
    }
    for recipient in trace["recipients"].as_array().into_iter().flatten() {
        out.push_str(&of_recipient(recipient, queue, at));
    }
    if trace["recipients"].as_array().is_none_or(Vec::is_empty) {
        for waiting in queue["recipients"].as_array().into_iter().flatten() {
            let _ = writeln!(out, "  {}: {}", clean(string(&waiting["address"])), still_queued(waiting, queue, at));
        }
    }
    for act in trace["events"].as_array().into_iter().flatten().filter(|event| is_order(string(&event["what"]))) {
        let (what, who) = (string(&act["what"]).replace('_', " "), clean(string(&act["who"])));
        let _ = writeln!(out, "  {what} by {who} at {}", moment(&act["at_ms"]));
    }
    out
}

fn is_order(what: &str) -> bool {
    ["held", "released", "requeued", "deleted", "sent_back"].contains(&what)
}

fn of_recipient(recipient: &Value, queue: &Value, at: (u64, bool)) -> String {
    let (who, text) = (clean(string(&recipient["who"])), clean(string(&recipient["text"])));
    let (then, address) = (moment(&recipient["at_ms"]), clean(string(&recipient["address"])));
    let said = match (who.is_empty(), text.is_empty()) {
        (_, true) => String::new(),
        (true, false) => format!(" The reason: {text}"),
        (false, false) => format!(" {who} said: {text}"),
    };
    let words = match string(&recipient["now"]) {
        "delivered" => format!("delivered {then}. {who} took it and said: {text}"),
        "failed" => format!("NOT delivered; the sender was told so {then}.{said}"),
        "failed_silently" => format!("NOT delivered {then}; the sender must not be told.{said}"),
        "deleted" => format!("NOT delivered; {who} deleted it {then}"),
        "sent_back" => format!("NOT delivered; {who} sent it back {then}"),
        "queued" if queue["status"] == UNREADABLE => {
            "not delivered yet: it is in the queue, but its record on the disk cannot be read, which is for the postmaster".into()
        }
        "queued" => match waiting_for(queue, string(&recipient["address"])) {
            Some(waiting) => still_queued(waiting, queue, at),
            // Done, and in this moment being written down.
            None => "in this moment being written down as done; ask again".into(),
        },
        _ => "not in the queue any more, and what became of it was not kept".into(),
    };
    format!("  {address}: {words}\n")
}

/// In traces addresses are in small letters.
fn waiting_for<'a>(queue: &'a Value, address: &str) -> Option<&'a Value> {
    let recipients = queue["recipients"].as_array()?;
    recipients.iter().find(|recipient| string(&recipient["address"]).eq_ignore_ascii_case(address))
}

fn still_queued(waiting: &Value, queue: &Value, (now_ms, paused): (u64, bool)) -> String {
    let next = match number(&waiting["next_try_ms"]).saturating_sub(now_ms) / 1000 {
        _ if paused => "The relay is paused: it is neither tried nor given up until that ends".to_owned(),
        0 => format!("It is tried again now; it is given up {}", moment(&queue["expires_ms"])),
        seconds => format!("It is tried again in {}; it is given up {}", age(seconds), moment(&queue["expires_ms"])),
    };
    let last = match (waiting["reply"].as_str(), waiting["server"].as_str()) {
        (Some(reply), Some(server)) => format!(" The last answer, of {}: {}.", clean(server), sentence(reply)),
        (Some(reply), None) => format!(" The reason: {}.", sentence(reply)),
        (None, _) => String::new(),
    };
    match string(&waiting["status"]) {
        "held" => format!("on hold since {}, until the postmaster releases it.{last}", moment(&queue["held_since_ms"])),
        "sending" => "being delivered in this moment".into(),
        "scheduled" => format!("not sent yet: its sender asked for {}", moment(&waiting["next_try_ms"])),
        "recording" => "in this moment being written down as done; ask again".into(),
        "deferred" => format!("not delivered yet.{last} {next}"),
        _ if paused => "waits, as the relay is paused".into(),
        _ => "waits for its turn to be sent".into(),
    }
}

/// A reply in the middle of other words: its own full stop is not doubled.
fn sentence(reply: &str) -> String {
    clean(reply.trim_end().trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn in_words_for_the_help_desk() {
        let recipient = |address: &str, now: &str| json!({ "address": address, "now": now, "at_ms": 1_795_345_200_000u64, "who": "mx", "text": "250 Ok\u{1b}" });
        let waiting = json!({
            "address": "Cleo@example.org", "status": "deferred", "reply": "450 full", "server": "mx2", "next_try_ms": 720_000,
        });
        let trace = json!({
            "id": "0AB12CD34EF56", "accepted_ms": 1_795_345_200_000u64, "user": "anna", "client": "192.0.2.1:4", "sender": "a@b",
            "recipients": [recipient("ben@x", "delivered"), recipient("cleo@example.org", "queued"), recipient("dan@x", "failed"),
                           recipient("eva@x", "unknown")],
            "events": [{ "what": "held", "who": "root", "at_ms": 1_795_345_200_000u64 }, { "what": "late", "who": "x" }],
            "queue": { "recipients": [waiting], "expires_ms": 1_795_345_200_000u64 },
        });
        let text = message(&trace, 0, false);
        let expected = [
            "0AB12CD34EF56  accepted 2026-11-22T11:00:00Z from 192.0.2.1:4, user anna, sender a@b",
            "  ben@x: delivered 2026-11-22T11:00:00Z. mx took it and said: 250 Ok\\u{1b}",
            "  cleo@example.org: not delivered yet. The last answer, of mx2: 450 full. It is tried again in 12m; it is given up 2026-11-22T11:00:00Z",
            "  dan@x: NOT delivered; the sender was told so 2026-11-22T11:00:00Z. mx said: 250 Ok\\u{1b}",
            "  eva@x: not in the queue any more, and what became of it was not kept",
            "  held by root at 2026-11-22T11:00:00Z",
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
        let paused = message(&trace, 0, true);
        assert!(paused.contains("450 full. The relay is paused") && !paused.contains("tried again in"), "{paused}");
    }

    #[test]
    fn what_is_queued_is_told_without_a_trace() {
        let queue = json!({
            "arrival_ms": 1_795_345_200_000u64, "sender": "", "client": "", "held_since_ms": 1_795_345_200_000u64,
            "recipients": [{ "address": "ben@x", "status": "held" }],
        });
        let text = message(&json!({ "id": "0AB12CD34EF56", "recipients": [], "queue": queue }), 0, false);
        assert!(text.contains("accepted 2026-11-22T11:00:00Z by this server itself, sender <>"), "{text}");
        assert!(text.contains("ben@x: on hold since 2026-11-22T11:00:00Z"), "{text}");
    }
}

//! Messages as rows: what the queue knows of each, beside what its envelope says.

use super::filter::{Facts, Filter, Status};
use crate::relay::operator::Described;
use crate::relay::queue::{Part, Standing};
use crate::smtp::envelope::View;
use crate::spool::{Location, QueueId};
use serde_json::{Value, json};

/// Recipients in a row of a list; all of them are in what is shown of one message.
const RECIPIENTS_LISTED: usize = 3;

/// How a message stands at `now`: the most pressing of its parts.
pub fn status(standing: &Standing<Location>, now: u64) -> Status {
    if standing.parts.iter().any(|part| part.flying) {
        return Status::Sending;
    }
    if standing.held_ms.is_some() {
        return Status::Held;
    }
    let parts = || standing.parts.iter();
    match () {
        () if parts().any(|part| of_part(part, now) == Status::Deferred) => Status::Deferred,
        () if parts().any(|part| of_part(part, now) == Status::Waiting) => Status::Waiting,
        () if standing.parts.is_empty() => Status::Recording,
        () => Status::Scheduled,
    }
}

/// Is all that is left of it to be sent later, as its sender wants it?
pub fn is_for_later(standing: &Standing<Location>, now: u64) -> bool {
    !standing.parts.is_empty() && standing.parts.iter().all(|part| of_part(part, now) == Status::Scheduled)
}

fn of_part(part: &Part, now: u64) -> Status {
    match () {
        () if part.flying => Status::Sending,
        // Whether or not its destination can be reached now: nobody has tried it, nor is to.
        () if part.attempts == 0 && part.own_due_ms > now => Status::Scheduled,
        () if part.attempts > 0 || part.reason.is_some() => Status::Deferred,
        () => Status::Waiting,
    }
}

/// Does the filter mean this message?
pub fn matches(filter: &Filter, described: &Described, view: &View, now: u64) -> bool {
    let standing = &described.standing;
    let open = standing.parts.iter().flat_map(|part| &part.recipients).chain(&standing.recording);
    let path = |&recipient: &u32| view.recipients.get(recipient as usize).map(|recipient| recipient.path);
    filter.matches(&Facts {
        sender: view.reverse_path,
        user: view.user,
        recipients: open.filter_map(path).collect(),
        age_s: now.saturating_sub(view.arrival_ms) / 1000,
        status: status(standing, now),
    })
}

/// How many recipients, for whom something is left to do, the filter does not name: what is ordered is for them too.
pub fn beside(filter: &Filter, described: &Described, view: &View) -> usize {
    if !filter.names_recipients() {
        return 0;
    }
    let open = described.standing.parts.iter().flat_map(|part| &part.recipients);
    let path = |&recipient: &u32| view.recipients.get(recipient as usize).map(|recipient| recipient.path);
    open.filter_map(path).filter(|path| !filter.names_recipient(path)).count()
}

/// The row of a message; `content_bytes`: what its record holds. With `whole` all recipients, and all of the envelope.
pub fn row(described: &Described, view: &View, content_bytes: usize, whole: bool, now: u64) -> Value {
    let standing = &described.standing;
    let bytes = view.spilled.map_or(content_bytes as u64, |spilled| spilled.length);
    let open = open_recipients(described, view, now);
    let count = open.len();
    let listed: Vec<Value> = open.into_iter().take(if whole { usize::MAX } else { RECIPIENTS_LISTED }).collect();
    let mut row = json!({
        "id": QueueId(standing.id).to_string(),
        "status": status(standing, now).name(),
        "sender": text(view.reverse_path),
        "user": view.user.map(text),
        "arrival_ms": view.arrival_ms,
        "age_s": now.saturating_sub(view.arrival_ms) / 1000,
        "bytes": bytes + view.prepended.len() as u64,
        "recipients_left": count,
        "recipients_total": view.recipients.len(),
        "recipients": listed,
        "expires_ms": standing.expire_ms,
        "held_since_ms": standing.held_ms,
    });
    if let Some(object) = row.as_object_mut().filter(|_| whole) {
        for (name, value) in [
            ("client", Some(text(view.peer))),
            ("hello", Some(text(view.helo))),
            ("listener", Some(text(view.listener))),
            ("tls", view.tls.map(text)),
            ("envid", view.envid.map(text)),
            (
                "body",
                Some(["7BIT", "8BITMIME", "BINARYMIME"].get(usize::from(view.body)).copied().unwrap_or("?").into()),
            ),
        ] {
            object.insert(name.into(), json!(value));
        }
        object.insert("smtputf8".into(), json!(view.smtputf8));
        object.insert("require_tls".into(), json!(view.require_tls));
        object.insert("hold_until_ms".into(), json!(view.hold_until_ms));
    }
    row
}

/// Recipients for whom something is left to do, those with a last word first.
fn open_recipients(Described { standing, destinations, .. }: &Described, view: &View, now: u64) -> Vec<Value> {
    let address =
        |recipient: u32| view.recipients.get(recipient as usize).map_or_else(String::new, |one| text(one.path));
    let mut rows = Vec::new();
    for (part, destination) in standing.parts.iter().zip(destinations) {
        let status = match (of_part(part, now), standing.held_ms) {
            (status, None) | (status @ Status::Sending, _) => status,
            (_, Some(_)) => Status::Held,
        };
        let next_try_ms = (!part.flying && standing.held_ms.is_none()).then_some(part.due_ms);
        // Beside what its sender wants it is no news that nobody could be reached so far.
        let reason = part.reason.as_ref().filter(|_| status != Status::Scheduled);
        let reply = reason.map(|reason| format!("{} {}", reason.reply.code, reason.reply.text));
        let server = reason.and_then(|reason| reason.server.as_deref());
        for &recipient in &part.recipients {
            rows.push(json!({
                "address": address(recipient),
                "status": status.name(),
                "destination": destination,
                "attempts": part.attempts,
                "reply": reply,
                "server": server,
                "next_try_ms": next_try_ms,
            }));
        }
    }
    rows.sort_by_key(|row| row["reply"].is_null());
    for &recipient in &standing.recording {
        rows.push(json!({ "address": address(recipient), "status": Status::Recording.name() }));
    }
    rows
}

/// Octets of a peer's as text.
pub fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(flying: bool, attempts: u16, due_ms: u64) -> Part {
        Part { recipients: vec![0], destination: 0, flying, attempts, due_ms, own_due_ms: due_ms, reason: None }
    }

    fn standing(parts: Vec<Part>, held_ms: Option<u64>) -> Standing<Location> {
        Standing { id: 1, at: Location::sample(), expire_ms: 1000, held_ms, parts, recording: vec![] }
    }

    #[test]
    fn a_message_stands_as_its_most_pressing_part() {
        let (flying, deferred, waiting, later) =
            (part(true, 0, 0), part(false, 1, 99), part(false, 0, 5), part(false, 0, 99));
        for (parts, held, expected) in [
            (vec![], None, Status::Recording),
            (vec![later.clone()], None, Status::Scheduled),
            (vec![later.clone(), waiting.clone()], None, Status::Waiting),
            (vec![waiting.clone(), deferred.clone()], None, Status::Deferred),
            (vec![waiting, deferred.clone(), flying.clone()], None, Status::Sending),
            (vec![deferred], Some(1), Status::Held),
            (vec![flying], Some(1), Status::Sending),
        ] {
            let standing = standing(parts, held);
            assert_eq!(status(&standing, 10), expected, "{standing:?}");
        }
    }

    /// As nobody can be reached, it would be due with its destination's pause.
    #[test]
    fn what_its_sender_wants_later_is_so_though_its_destination_is_down() {
        use crate::relay::queue::Reason;
        use crate::smtp::client::Reply;
        let down = |own_due_ms, attempts| {
            let reason = Some(Reason { reply: Reply::ours(451, "4.4.1 refused".into()), server: None });
            Part { own_due_ms, reason, ..part(false, attempts, 99) }
        };
        for (parts, held, expected, for_later) in [
            (vec![down(50, 0)], None, Status::Scheduled, true),
            (vec![down(50, 0)], Some(1), Status::Held, true),
            (vec![down(5, 0)], None, Status::Deferred, false),
            (vec![down(50, 1)], None, Status::Deferred, false),
            (vec![down(50, 0), down(5, 0)], None, Status::Deferred, false),
            (vec![], None, Status::Recording, false),
        ] {
            let standing = standing(parts, held);
            assert_eq!((status(&standing, 10), is_for_later(&standing, 10)), (expected, for_later), "{standing:?}");
        }
    }
}

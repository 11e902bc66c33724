//! What became of a message, as a row: each recipient with what is known of it now, and everything that happened.

use crate::spool::QueueId;
use crate::trace::line::What;
use crate::trace::search::Traced;
use serde_json::{Value, json};

/// The row of a message; `queued`: how it stands, if it is still in the queue.
pub fn row(id: u64, traced: &Traced, queued: Option<Value>) -> Value {
    let recipients: Vec<Value> = traced
        .recipients
        .iter()
        .map(|(&index, address)| {
            let is_waiting = queued.as_ref().is_some_and(|queued| waits(queued, address));
            // A delivery was under way when the others were deleted.
            let last = traced.last_of(index).filter(|line| !(is_waiting && line.recipients.is_empty()));
            json!({
                "address": address,
                "now": fate(last.map(|line| line.what), queued.is_some()),
                "at_ms": last.map(|line| line.at_ms),
                "who": last.map(|line| &line.who),
                "text": last.map(|line| &line.text),
            })
        })
        .collect();
    let events: Vec<Value> = traced
        .events
        .iter()
        .map(|line| {
            let address = |index: &u32| traced.recipients.get(index);
            let addresses: Vec<&String> = line.recipients.iter().filter_map(address).collect();
            json!({ "at_ms": line.at_ms, "what": line.what.name(), "recipients": addresses, "who": line.who, "text": line.text })
        })
        .collect();
    json!({
        "id": QueueId(id).to_string(),
        "accepted_ms": traced.accepted_ms,
        "user": traced.user,
        "client": traced.client,
        "sender": traced.sender,
        "recipients": recipients,
        "events": events,
        "tries_left_out": traced.left_out,
        "queue": queued,
    })
}

/// Is this recipient still to be served? In traces addresses are in small letters.
fn waits(queued: &Value, address: &str) -> bool {
    let is_it = |one: &Value| {
        one["status"] != "recording" && one["address"].as_str().is_some_and(|text| text.eq_ignore_ascii_case(address))
    };
    queued["recipients"].as_array().is_some_and(|all| all.iter().any(is_it))
}

/// What is to be said of a recipient whose last event was this.
fn fate(last: Option<What>, is_queued: bool) -> &'static str {
    match (last, is_queued) {
        (Some(What::Delivered | What::Failed | What::FailedSilently | What::Deleted | What::SentBack), _) => {
            last.map_or("", What::name)
        }
        (_, true) => "queued",
        // Lines are dropped rather than mail held up.
        (_, false) => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::line::Line;

    #[test]
    fn who_was_being_delivered_to_was_not_deleted() {
        let line = Line {
            at_ms: 5,
            what: What::Deleted,
            id: 7,
            envelope: None,
            recipients: vec![],
            who: "root".into(),
            text: "".into(),
        };
        let recipients = (0..).zip(["a@b", "c@d"].map(str::to_owned)).collect();
        let traced = Traced { recipients, events: vec![line], ..Traced::default() };
        let queued = json!({ "recipients": [{ "address": "C@d", "status": "sending" }] });
        let row = row(7, &traced, Some(queued));
        assert_eq!((&row["recipients"][0]["now"], &row["recipients"][1]["now"]), (&json!("deleted"), &json!("queued")));
    }

    #[test]
    fn each_recipient_has_what_is_known_of_it_now() {
        let line = |what, recipients: &[u32]| Line {
            at_ms: 5,
            what,
            id: 7,
            envelope: None,
            recipients: recipients.to_vec(),
            who: "mx".into(),
            text: "t".into(),
        };
        let recipients = ["a@b", "c@d", "e@f", "g@h"].into_iter().map(str::to_owned);
        let traced = Traced {
            recipients: (0..).zip(recipients).collect(),
            events: vec![line(What::Delivered, &[0]), line(What::Deferred, &[1]), line(What::Failed, &[2])],
            ..Traced::default()
        };
        for (queued, expected) in [
            (Some(json!({})), ["delivered", "queued", "failed", "queued"]),
            (None, ["delivered", "unknown", "failed", "unknown"]),
        ] {
            let row = row(7, &traced, queued);
            let now: Vec<&str> = (0..4).map(|at| row["recipients"][at]["now"].as_str().expect("text")).collect();
            assert_eq!(now, expected);
            assert_eq!(row["events"][1]["recipients"], json!(["c@d"]));
        }
    }
}

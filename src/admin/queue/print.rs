//! Lines of an answer, for people or as they are.
//!
//! ```text
//! ID             AGE    SIZE  STATUS    NEXT  FROM -> TO
//! 0AB12CD34EF56   3h    4.1K  deferred  12m   anna@example.edu -> ben@example.org (+2)
//!                 mail.example.org: 450 4.2.1 mailbox full
//! ```

use crate::admin::trace;
use crate::control::request::Request;
use crate::control::tally::{NOTHING, UNDER_WAY, UNREADABLE};
use crate::log::{is_dangerous, is_joiner};
use serde_json::Value;
use std::fmt::Write;

/// What stands above all else where nothing goes out.
const PAUSED: &str = "the relay is paused (relay.paused = true): nothing is delivered or returned until that is changed and \
                      the server started again\n";

/// What an order has left as it was.
const LEFT: [(&str, &str); 3] = [
    ("scheduled", "left alone, to be sent later as the sender asked"),
    ("under_way", "left alone, being delivered in this moment"),
    ("nothing", "with nothing to try"),
];

/// Makes text of each line of an answer, and remembers how it ended.
pub struct Printer {
    json: bool,
    /// Rows are of one message each.
    whole: bool,
    headed: bool,
    now_ms: u64,
    /// What was asked, for what is said of one message.
    deed: &'static str,
    /// The relay delivers nothing and gives nothing up.
    paused: bool,
    failed: bool,
    ended: Option<Result<(), String>>,
}

impl Printer {
    /// For the answer to `request`, at `now_ms`.
    pub fn new(request: &Request, json: bool, now_ms: u64) -> Printer {
        let whole = matches!(request, Request::Show { .. });
        let deed = request.deed().name();
        Printer { json, whole, headed: false, now_ms, deed, paused: false, failed: false, ended: None }
    }

    /// What is to be printed of a line; it may be nothing.
    pub fn line(&mut self, line: &Value) -> String {
        let acted = &line["acted"];
        self.failed |= acted.is_object() && acted["result"] != "done" && acted["result"] != NOTHING;
        if let Some(reason) = line["error"].as_str() {
            self.ended = Some(Err(reason.to_owned()));
            return String::new();
        }
        if line["end"].is_object() {
            self.ended = Some(Ok(()));
        }
        self.paused |= line["relay"]["paused"] == true;
        if self.json {
            return escaped(&line.to_string()) + "\n";
        }
        match line {
            _ if line["relay"]["paused"] == true => PAUSED.into(),
            _ if line["message"].is_object() && self.whole => self.message(&line["message"]),
            _ if line["message"].is_object() => self.row(&line["message"]),
            _ if acted.is_object() => self.acted(acted),
            _ if line["stats"].is_object() => stats(&line["stats"]),
            _ if line["trace"].is_object() => trace::message(&line["trace"], self.now_ms, self.paused),
            _ => self.end(&line["end"]),
        }
    }

    /// How it ended: was everything done, or the server's refusal; none: it has not.
    pub fn ended(self) -> Option<Result<bool, String>> {
        self.ended.map(|ended| ended.map(|()| !self.failed))
    }

    fn row(&mut self, row: &Value) -> String {
        let mut out = String::new();
        if !std::mem::replace(&mut self.headed, true) {
            out.push_str("ID             AGE     SIZE  STATUS     NEXT  FROM -> TO\n");
        }
        let first = &row["recipients"][0];
        let next = if self.paused { "-".into() } else { self.until(&first["next_try_ms"]) };
        let more = match number(&row["recipients_left"]) {
            0 | 1 => String::new(),
            count => format!(" (+{})", count - 1),
        };
        let to = first["address"].as_str().unwrap_or_default();
        // A String takes everything.
        let _ = writeln!(
            out,
            "{:<13} {:>4} {:>8}  {:<9} {:>5}  {} -> {}{more}",
            string(&row["id"]),
            age(number(&row["age_s"])),
            size(number(&row["bytes"])),
            string(&row["status"]),
            next,
            sender(row),
            clean(to),
        );
        if let Some(reply) = first["reply"].as_str() {
            let _ = writeln!(out, "               {}{}", said_by(first), clean(reply));
        }
        out
    }

    fn message(&self, row: &Value) -> String {
        let mut out = String::new();
        let mut fact = |name: &str, value: String| {
            let _ = writeln!(out, "  {name:<11} {value}");
        };
        let user = row["user"].as_str().map(|user| format!(", user {}", clean(user))).unwrap_or_default();
        let tls = row["tls"].as_str().map_or_else(|| ", in the clear".into(), |tls| format!(", {}", clean(tls)));
        let arrived = format!("{}, {} ago", moment(&row["arrival_ms"]), age(number(&row["age_s"])));
        fact("arrived", format!("{arrived}, from {}{user}{tls}", clean(string(&row["client"]))));
        fact("listener", clean(string(&row["listener"])));
        fact("sender", sender(row));
        fact("size", size(number(&row["bytes"])));
        if row["held_since_ms"].is_u64() {
            fact("held since", moment(&row["held_since_ms"]));
        } else {
            fact("given up", format!("{}, {}", moment(&row["expires_ms"]), self.when(&row["expires_ms"])));
        }
        if row["hold_until_ms"].is_u64() {
            fact("not before", moment(&row["hold_until_ms"]));
        }
        let (left, total) = (number(&row["recipients_left"]), number(&row["recipients_total"]));
        fact("recipients", format!("{left} of {total} left"));
        for recipient in row["recipients"].as_array().into_iter().flatten() {
            out.push_str(&self.recipient(recipient));
        }
        if let Some(header) = row["header"].as_str() {
            out.push_str("  header\n");
            header.lines().for_each(|line| out.push_str(&format!("    {}\n", clean(line))));
        } else if let Some(why) = row["header"]["error"].as_str() {
            out.push_str(&format!("  header: {}\n", clean(why)));
        }
        format!("{}  {}\n{out}", string(&row["id"]), string(&row["status"]))
    }

    fn recipient(&self, recipient: &Value) -> String {
        let mut out = format!("    {}: {}", clean(string(&recipient["address"])), string(&recipient["status"]));
        let tries = number(&recipient["attempts"]);
        if tries > 0 {
            let _ = write!(out, ", {tries} {}", if tries == 1 { "try" } else { "tries" });
        }
        if let Some(destination) = recipient["destination"].as_str() {
            let _ = write!(out, ", goes to {}", clean(destination));
        }
        if recipient["next_try_ms"].is_u64() {
            let _ = write!(out, ", next try {}", self.when(&recipient["next_try_ms"]));
        }
        if let Some(reply) = recipient["reply"].as_str() {
            let _ = write!(out, "\n      {}{}", said_by(recipient), clean(reply));
        }
        out + "\n"
    }

    fn acted(&self, acted: &Value) -> String {
        let id = string(&acted["id"]);
        let result = match string(&acted["result"]) {
            "done" => self.done(acted),
            NOTHING => "nothing to try: held, under way, or its sender asked for a later time".into(),
            UNDER_WAY => {
                "not deleted: in this moment it is being delivered, or written down as done; look again".into()
            }
            "unknown" => "not in the queue: delivered, given up or deleted; penstock trace tells".into(),
            "busy" => "busy; try again in a moment".into(),
            UNREADABLE => {
                "in the queue, but its record on the disk cannot be read: the disk, or the log, says why".into()
            }
            other => clean(other),
        };
        let others = match number(&acted["others"]) {
            0 => String::new(),
            others => format!(" ({} in it beside those that were chosen)", recipients(others)),
        };
        format!("{id}  {result}{others}\n")
    }

    fn done(&self, acted: &Value) -> String {
        let done = if self.deed == "delete" { "deleted".into() } else { format!("{}: done", self.deed) };
        let told = match acted["told"].as_u64() {
            Some(0) => "; its sender is not told: it has none, or wants to be told of nothing",
            _ => "",
        };
        let late = match number(&acted["under_way"]) {
            0 => String::new(),
            late => format!("; to {} it is being delivered in this moment, look again", recipients(late)),
        };
        format!("{done} for {}{told}{late}", recipients(number(&acted["recipients"])))
    }

    fn end(&self, end: &Value) -> String {
        match (self.deed, number(&end["messages"])) {
            ("list", 0) => "no messages\n".into(),
            ("list", count) if end["more"] == true => match end["of"].as_u64() {
                Some(all) => format!("the first {count} of {}\n", messages(all)),
                None => format!("the first {}; more fit\n", messages(count)),
            },
            ("list", count) => messages(count) + "\n",
            ("trace", 0) => {
                "nothing is known of it: it was not accepted here in the days that are kept, or not under this name\n"
                    .into()
            }
            ("trace", count) if end["more"] == true => {
                format!(
                    "these are the latest {count}; there are more: ask with a larger --limit, or for one by its queue id\n"
                )
            }
            ("stats" | "show" | "headers" | "trace", _) => String::new(),
            (deed, count) => {
                let left: String = LEFT
                    .iter()
                    .map(|(name, why)| match number(&end[name]) {
                        0 => String::new(),
                        some => format!("; {} {why}", messages(some)),
                    })
                    .collect();
                format!("{deed}: {}{left}\n", messages(count))
            }
        }
    }

    /// When something comes that does not come while the relay is paused.
    fn when(&self, moment_ms: &Value) -> String {
        match self.until(moment_ms) {
            _ if self.paused => "not while the relay is paused".into(),
            now if now == "now" => now,
            later => format!("in {later}"),
        }
    }

    /// From now until a moment.
    fn until(&self, moment_ms: &Value) -> String {
        match moment_ms.as_u64() {
            Some(moment) if moment <= self.now_ms => "now".into(),
            Some(moment) => age((moment - self.now_ms) / 1000),
            None => "-".into(),
        }
    }
}

fn recipients(count: u64) -> String {
    if count == 1 { "1 recipient".into() } else { format!("{count} recipients") }
}

fn messages(count: u64) -> String {
    if count == 1 { "1 message".into() } else { format!("{count} messages") }
}

fn stats(stats: &Value) -> String {
    let mut out = String::new();
    if stats["paused"] == true {
        out.push_str(PAUSED);
    }
    let _ = writeln!(out, "messages    {}", number(&stats["messages"]));
    let _ =
        writeln!(out, "recipients  {}\noldest      {}", number(&stats["recipients"]), age(number(&stats["oldest_s"])));
    let _ = writeln!(out, "on hold     {}", number(&stats["held"]));
    if number(&stats["unreadable"]) > 0 {
        let _ = writeln!(out, "unreadable  {} (kept; the log says why)", number(&stats["unreadable"]));
    }
    for (title, counts) in [("by status", &stats["status"]), ("waiting, by destination", &stats["destinations"])] {
        let _ = writeln!(out, "{title}");
        for (name, count) in counts.as_object().into_iter().flatten() {
            let _ = writeln!(out, "  {:>9}  {}", number(count), clean(name));
        }
    }
    out
}

/// Whoever gave the last reply; ours have no name.
fn said_by(recipient: &Value) -> String {
    recipient["server"].as_str().map(|server| format!("{}: ", clean(server))).unwrap_or_default()
}

/// `<>` if it is empty.
pub fn sender(row: &Value) -> String {
    match string(&row["sender"]) {
        "" => "<>".into(),
        sender => clean(sender),
    }
}

/// Empty if it is none.
pub fn string(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// 0 if it is none.
pub fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

/// `45s`, `12m`, `3h`, `5d`.
pub fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Octets: `812`, `4.1K`, `12.0M`.
fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => bytes.to_string(),
        1024..1_048_576 => format!("{}.{}K", bytes / 1024, bytes % 1024 * 10 / 1024),
        _ => format!("{}.{}M", bytes / 1_048_576, bytes % 1_048_576 * 10 / 1_048_576),
    }
}

/// RFC 3339, in seconds.
pub fn moment(epoch_ms: &Value) -> String {
    let seconds = i64::try_from(number(epoch_ms) / 1000).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX).to_string()
}

/// JSON with everything spelt out that a terminal would obey or not show: outside of strings it has nothing of the kind.
fn escaped(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for character in json.chars() {
        match is_dangerous(character) || is_joiner(character) {
            true => character.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}"))),
            false => out.push(character),
        }
    }
    out
}

/// Without what a terminal would obey, and on one line: the lines of a reply could pretend to be ours.
pub fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\t' | '\n' => out.push(' '),
            _ if is_dangerous(character) => out.extend(character.escape_default()),
            _ => out.push(character),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn printer(request: &Request) -> Printer {
        Printer::new(request, false, 1_000_000)
    }

    fn list() -> Request {
        Request::List { selection: crate::control::request::Selection::Filter(Default::default()), limit: 0 }
    }

    #[test]
    fn ages_and_sizes() {
        for (seconds, expected) in
            [(0, "0s"), (59, "59s"), (60, "1m"), (3599, "59m"), (3600, "1h"), (172_799, "47h"), (172_800, "2d")]
        {
            assert_eq!(age(seconds), expected);
        }
        for (bytes, expected) in [(0, "0"), (1023, "1023"), (1024, "1.0K"), (4200, "4.1K"), (12 << 20, "12.0M")] {
            assert_eq!(size(bytes), expected);
        }
    }

    #[test]
    fn a_row_says_why_and_when() {
        let mut printer = printer(&list());
        let row = json!({ "message": {
            "id": "0AB12CD34EF56", "age_s": 10_800, "bytes": 4200, "status": "deferred", "sender": "", "recipients_left": 3,
            "recipients": [{"address": "b\u{1b}[2J@example.org", "reply": "450 4.2.1 full\u{7}", "server": "mx",
                            "next_try_ms": 1_720_000}],
        }});
        let text = printer.line(&row);
        assert_eq!(
            text,
            "ID             AGE     SIZE  STATUS     NEXT  FROM -> TO\n\
             0AB12CD34EF56   3h     4.1K  deferred    12m  <> -> b\\u{1b}[2J@example.org (+2)\n               mx: 450 4.2.1 full\\u{7}\n"
        );
        assert!(!printer.line(&row).contains("STATUS"), "one heading");
        assert_eq!(printer.line(&json!({ "end": { "messages": 2 } })), "2 messages\n");
        assert_eq!(printer.ended(), Some(Ok(true)));
    }

    /// For programs, and for whoever looks at what they get.
    #[test]
    fn json_has_nothing_that_a_terminal_obeys_and_means_the_same() {
        let row = json!({ "message": { "sender": "x\u{202e}gpj.\u{9b}2J\u{7f}\u{1b}\u{e0041}é\u{200d}" } });
        let text = Printer::new(&list(), true, 0).line(&row);
        assert!(!text.trim_end().chars().any(|one| is_dangerous(one) || is_joiner(one)), "{text}");
        assert!(text.contains("x\\u202egpj.\\u009b2J\\u007f\\u001b\\udb40\\udc41é\\u200d"), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON"), row);
    }

    #[test]
    fn a_pause_stands_above_everything() {
        let mut printer = printer(&list());
        assert!(printer.line(&json!({ "relay": { "paused": true } })).starts_with("the relay is paused"));
        assert!(stats(&json!({ "messages": 3, "paused": true })).starts_with("the relay is paused"));
        assert!(stats(&json!({ "messages": 3, "paused": false })).starts_with("messages    3\n"));
    }

    #[test]
    fn nothing_is_next_while_the_relay_is_paused() {
        let show = Request::Show { ids: vec![1], headers: false };
        let one = json!({ "message": {
            "expires_ms": 1_720_000, "recipients": [{ "address": "ben@example.org", "next_try_ms": 5 }],
        }});
        let text = printer(&show).line(&one);
        assert!(text.contains(", next try now\n") && text.contains("Z, in 12m\n"), "{text}");
        let mut paused = printer(&show);
        paused.line(&json!({ "relay": { "paused": true } }));
        let text = paused.line(&one);
        assert_eq!(text.matches("not while the relay is paused").count(), 2, "{text}");
    }

    #[test]
    fn what_was_left_alone_is_said() {
        let all = crate::control::request::Selection::Filter(Default::default());
        let request = Request::Act { deed: crate::control::request::Deed::Requeue, selection: all, bounce: false };
        let said = printer(&request).line(&json!({ "end": { "messages": 2, "scheduled": 1 } }));
        assert_eq!(said, "requeue: 2 messages; 1 message left alone, to be sent later as the sender asked\n");
    }

    #[test]
    fn what_was_not_done_and_what_is_not_shown_is_said() {
        use crate::control::request::{Deed, Selection};
        let all = || Selection::Filter(Default::default());
        let act = |deed| Request::Act { deed, selection: all(), bounce: false };
        for (request, end, expected) in [
            (
                act(Deed::Delete),
                json!({ "messages": 0, "under_way": 1 }),
                "delete: 0 messages; 1 message left alone, being delivered in this moment\n",
            ),
            (
                act(Deed::Flush),
                json!({ "messages": 1, "nothing": 2 }),
                "flush: 1 message; 2 messages with nothing to try\n",
            ),
            (list(), json!({ "messages": 2, "more": true, "of": 9 }), "the first 2 of 9 messages\n"),
            (list(), json!({ "messages": 2, "more": true, "of": null }), "the first 2 messages; more fit\n"),
            (list(), json!({ "messages": 2, "more": false, "of": 2 }), "2 messages\n"),
        ] {
            assert_eq!(printer(&request).line(&json!({ "end": end })), expected);
        }
        let acted = json!({ "acted": { "id": "0AB12CD34EF56", "result": "done", "recipients": 3, "others": 2 } });
        let said = printer(&act(Deed::Delete)).line(&acted);
        assert!(said.contains("deleted for 3 recipients (2 recipients in it beside"), "{said}");
    }

    /// A server's reply has as many lines as it likes.
    #[test]
    fn a_reply_cannot_pretend_to_be_another_row() {
        let reply = "450-4.2.1 full\n0AB12CD34EF57   1s     1.0K  held         -  a@b -> c@d\n1000 messages";
        let row = json!({ "message": { "recipients": [{ "address": "b@example.org", "reply": reply }] } });
        let text = printer(&list()).line(&row);
        assert_eq!((text.lines().count(), text.matches("1000 messages").count()), (3, 1), "{text}");
    }

    #[test]
    fn what_was_not_done_fails_the_command() {
        for (result, expected) in
            [("done", true), ("unknown", false), ("busy", false), (UNDER_WAY, false), (NOTHING, true)]
        {
            let mut printer = printer(&list());
            printer.line(&json!({ "acted": { "id": "0AB12CD34EF56", "result": result } }));
            printer.line(&json!({ "end": { "messages": 1 } }));
            assert_eq!(printer.ended(), Some(Ok(expected)), "{result}");
        }
        let mut refused = printer(&list());
        assert_eq!(refused.line(&json!({ "error": "no" })), "");
        assert_eq!(refused.ended(), Some(Err("no".into())));
        assert_eq!(printer(&list()).ended(), None, "cut off");
    }
}

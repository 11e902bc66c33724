//! A request's answer, line by line: rows, and a last line that says how it ended.
//!
//! ```text
//!  {"relay":{"paused":true}}      first, if it is so
//!  {"message":{..}}   {"acted":{"id":..,"result":..}}   {"stats":{..}}   {"trace":{..}}
//!  {"end":{"messages":12,"scheduled":0,..}}   or   {"error":".."}
//! ```
//!
//! What stands in the last one, [`Tally`] says.

use super::filter::Filter;
use super::listing::{self, text};
use super::peer::Peer;
use super::permission;
use super::request::{Deed, Request, Selection};
use super::source::Source;
use super::tally::{self, Tally};
use super::tracing;
use crate::auth::users::Names;
use crate::clock::now_ms;
use crate::log::{Level, event};
use crate::relay::content;
use crate::relay::operator::{Answer, Counts, Described, Done, IDS_MAX, Question};
use crate::smtp::envelope::{Order, View};
use crate::spool::{QueueId, Reader};
use crate::trace::line::What;
use crate::trace::search::{self, Traced};
use crate::trace::{self, Traces};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Octets of a header that are shown.
const HEADER_BYTES_MAX: usize = 256 << 10;
/// Messages whose traces are put together at once.
const TRACED_AT_ONCE: usize = 16;
/// Why an order ended early, and of which messages it is not known whether it was done.
type Unanswered = (Cut, Vec<u64>);
/// Messages, how many recipients of some were not asked for, and those that cannot be read.
type Meant = (Vec<u64>, HashMap<u64, usize>, Vec<u64>);
/// Messages of which one record of deletions may tell.
const DELETED_AT_ONCE: usize = 32;
/// So often a message may be moved while it is looked for.
const MOVED_MAX: u32 = 3;
/// An envelope in stored form and the octets of the content beside it, or why there is none.
type Read = Result<(Vec<u8>, usize), String>;
/// What is busy is asked again after this time, so many times.
const BUSY_PAUSE: Duration = Duration::from_millis(100);
const BUSY_TRIES: u32 = 50;
/// An answer takes no longer.
const ANSWER_LIMIT: Duration = Duration::from_secs(600);

/// What an answer is made from.
pub struct Answering {
    /// The queue.
    pub source: Source,
    /// The spool's directory.
    pub spool: PathBuf,
    /// Where acts are kept.
    pub traces: Traces,
    /// Which names are the same account.
    pub names: Names,
}

/// Why an answer ends early.
pub enum Cut {
    /// Nobody reads it.
    Gone,
    /// One line for whoever asks.
    Because(String),
}

impl From<String> for Cut {
    fn from(reason: String) -> Cut {
        Cut::Because(reason)
    }
}

/// Takes a line of the answer. False: nobody reads it any more.
type Out<'a> = &'a mut dyn FnMut(&Value) -> bool;

/// Answers `request` of `peer`, who may be refused, and says so in the log.
pub fn answer(answering: &mut Answering, peer: &Peer, request: &Request, out: Out) {
    let deed = request.deed();
    let allowed = permission::may(peer.rank, deed);
    audit(if allowed { "operator asks" } else { "operator refused" }, peer, deed)
        .field("object", request.object())
        .emit();
    if !allowed {
        let who = "members of control.postmaster_group, root and the server's own user";
        out(&json!({ "error": format!("{} may not {}; that is for {who}", peer.name, deed.name()) }));
        return;
    }
    carry_out(answering, Some(peer), request, out);
}

/// Answers `request`, whoever asks. Without a peer nothing is changed, and no line in the log says so.
pub fn carry_out(answering: &mut Answering, peer: Option<&Peer>, request: &Request, out: Out) {
    let (mut tally, is_stats) = (Tally::default(), *request == Request::Stats);
    let noted = if is_stats { Ok(()) } else { answering.note_a_pause(out) };
    let ended = noted.and_then(|()| match request {
        Request::Stats => answering.stats(&mut tally, out),
        Request::List { selection, limit } => answering.list(selection, *limit, &mut tally, out),
        Request::Show { ids, headers } => answering.show(ids, *headers, &mut tally, out),
        Request::Act { deed, selection, bounce } => match peer {
            Some(peer) => answering.act(peer, *deed, selection, *bounce, &mut tally, out),
            None => Err(Cut::Because(format!("{} takes a running server", deed.name()))),
        },
        Request::Trace { what, limit } => answering.trace(what, *limit, &mut tally, out),
    });
    match ended {
        Ok(()) => drop(out(&tally.to_json())),
        Err(Cut::Because(reason)) => drop(out(&json!({ "error": reason }))),
        Err(Cut::Gone) => {}
    }
}

fn audit(what: &'static str, peer: &Peer, deed: Deed) -> crate::log::Event {
    event(Level::Info, what).field("uid", peer.uid).field("user", &peer.name).field("act", deed.name())
}

impl Answering {
    fn count(&mut self) -> Result<Counts, Cut> {
        match self.source.ask(Question::Count)? {
            Answer::Count(counts) => Ok(counts),
            _ => Err(misunderstood()),
        }
    }

    /// Whoever wonders why nothing goes out is told first.
    fn note_a_pause(&mut self, out: Out) -> Result<(), Cut> {
        match self.count()?.paused && !out(&json!({ "relay": { "paused": true } })) {
            true => Err(Cut::Gone),
            false => Ok(()),
        }
    }

    fn stats(&mut self, tally: &mut Tally, out: Out) -> Result<(), Cut> {
        let counts = self.count()?;
        let mut statuses: BTreeMap<&str, u64> = BTreeMap::new();
        let (mut oldest_s, mut recipients, now) = (0u64, 0u64, now_ms());
        let unreadable = self.each(&Selection::Filter(Default::default()), &mut |one, view, _| {
            *statuses.entry(listing::status(&one.standing, now).name()).or_default() += 1;
            oldest_s = oldest_s.max(now.saturating_sub(view.arrival_ms) / 1000);
            recipients += one.standing.parts.iter().map(|part| part.recipients.len() as u64).sum::<u64>();
            Ok(true)
        })?;
        if !unreadable.is_empty() {
            statuses.insert(tally::UNREADABLE, unreadable.len() as u64);
        }
        let mut destinations: BTreeMap<String, usize> = BTreeMap::new();
        for (name, waiting) in counts.destinations {
            *destinations.entry(name).or_default() += waiting;
        }
        let stats = json!({ "stats": {
            "messages": counts.messages, "recipients": recipients, "held": counts.held, "unreadable": counts.unreadable,
            "oldest_s": oldest_s, "status": statuses, "destinations": destinations, "paused": counts.paused,
        }});
        tally.messages = counts.messages as u64;
        if out(&stats) { Ok(()) } else { Err(Cut::Gone) }
    }

    fn list(&mut self, selection: &Selection, limit: u64, tally: &mut Tally, out: Out) -> Result<(), Cut> {
        let now = now_ms();
        if matches!(selection, Selection::Filter(filter) if filter.is_all()) {
            tally.of = Some(self.count()?.messages as u64);
        }
        let unreadable = self.each(selection, &mut |one, view, bytes| {
            tally.more = limit > 0 && tally.messages == limit;
            if tally.more {
                return Ok(false);
            }
            tally.messages += 1;
            let row = listing::row(one, view, bytes, false, now);
            if out(&json!({ "message": row })) { Ok(true) } else { Err(Cut::Gone) }
        })?;
        say_unreadable(&unreadable, out)
    }

    fn show(&mut self, ids: &[u64], headers: bool, tally: &mut Tally, out: Out) -> Result<(), Cut> {
        let mut reader = Reader::new(&self.spool);
        let (mut shown, now) = (Vec::new(), now_ms());
        let unreadable = self.each(&Selection::Ids(ids.to_vec()), &mut |one, view, bytes| {
            let mut row = listing::row(one, view, bytes, true, now);
            if headers {
                row["header"] =
                    header(&mut reader, one, view).map_or_else(|why| json!({ "error": why }), Value::String);
            }
            shown.push(one.standing.id);
            if out(&json!({ "message": row })) { Ok(true) } else { Err(Cut::Gone) }
        })?;
        say_unreadable(&unreadable, out)?;
        for &id in ids.iter().filter(|id| !shown.contains(id) && !unreadable.contains(id)) {
            let row = json!({ "acted": { "id": QueueId(id).to_string(), "result": "unknown" } });
            if !out(&row) {
                return Err(Cut::Gone);
            }
        }
        tally.messages = shown.len() as u64;
        Ok(())
    }

    fn act(
        &mut self,
        peer: &Peer,
        deed: Deed,
        selection: &Selection,
        bounce: bool,
        tally: &mut Tally,
        out: Out,
    ) -> Result<(), Cut> {
        let (ids, others, unreadable) = self.meant(deed, selection, tally)?;
        // Whether they were meant, nobody knows. By their ids they can be deleted, say, all the same.
        say_unreadable(&unreadable, out)?;
        let named = matches!(selection, Selection::Ids(_));
        let at_once = match (deed, bounce) {
            (Deed::Delete, true) => 1,
            (Deed::Delete, false) => DELETED_AT_ONCE,
            _ => IDS_MAX,
        };
        for some in ids.chunks(at_once) {
            let (mut all, ended) = self.do_to(deed, some.to_vec(), bounce);
            // Delivered since it was found: nobody has asked for this one.
            all.retain(|(_, done)| *done != Done::Unknown || named);
            // Whether or not anybody hears of it.
            all.iter().for_each(|&(id, done)| self.keep(peer, deed, id, done));
            for (id, done) in all {
                tally.count(deed, done);
                let (recipients, under_way, told) = match done {
                    Done::Done { recipients, under_way, told } => (recipients, under_way, told),
                    _ => (0, 0, 0),
                };
                let row = json!({ "acted": {
                    "id": QueueId(id).to_string(), "result": tally::result(deed, done), "recipients": recipients,
                    "under_way": under_way, "others": others.get(&id).copied().unwrap_or(0),
                    "told": bounce.then_some(told),
                }});
                if !out(&row) {
                    return Err(Cut::Gone);
                }
            }
            if let Err((cut, unanswered)) = ended {
                for id in unanswered {
                    let line = audit("operator acts", peer, deed).field("queue_id", QueueId(id));
                    line.field("result", "not known, the relay did not answer").emit();
                }
                return Err(cut);
            }
        }
        Ok(())
    }

    /// The messages of an order. Who names one by its id means it; of all that fit those are left out for which it is nothing,
    /// and those that would go out before the time that their senders asked for (RFC 4865), which are counted. Beside them, of
    /// whom a message is chosen by a recipient, how many others it is for.
    fn meant(&mut self, deed: Deed, selection: &Selection, tally: &mut Tally) -> Result<Meant, Cut> {
        let (mut ids, mut others, mut unreadable, now) = (Vec::new(), HashMap::new(), Vec::new(), now_ms());
        match selection {
            Selection::Ids(named) => ids.clone_from(named),
            Selection::Filter(filter) => {
                unreadable = self.each(selection, &mut |one, view, _| {
                    let beside = listing::beside(filter, one, view);
                    if beside > 0 {
                        others.insert(one.standing.id, beside);
                    }
                    let sends = matches!(deed, Deed::Flush | Deed::Requeue);
                    match () {
                        () if sends && listing::is_for_later(&one.standing, now) => tally.scheduled += 1,
                        // Only what is held can be released.
                        () if deed == Deed::Release && one.standing.held_ms.is_none() => {}
                        () => ids.push(one.standing.id),
                    }
                    Ok(true)
                })?
            }
        }
        Ok((ids, others, unreadable))
    }

    /// Every act has its line in the log, and what was done is part of what became of the message.
    fn keep(&self, peer: &Peer, deed: Deed, id: u64, done: Done) {
        let result = tally::result(deed, done);
        audit("operator acts", peer, deed).field("queue_id", QueueId(id)).field("result", result).emit();
        let what = match (deed, done) {
            // Nobody's copy was taken out.
            _ if result != "done" => return,
            (Deed::Hold, Done::Done { .. }) => What::Held,
            (Deed::Release, Done::Done { .. }) => What::Released,
            (Deed::Requeue, Done::Done { .. }) => What::Requeued,
            // Not everybody is told: no notification answers another, and NOTIFY=NEVER is obeyed.
            (Deed::Delete, Done::Done { told: 1.., .. }) => What::SentBack,
            (Deed::Delete, Done::Done { .. }) => What::Deleted,
            _ => return,
        };
        self.traces.happened(what, id, &[], &peer.name, "");
    }

    /// What became of messages, from the traces, and how those stand that are still queued.
    fn trace(&mut self, what: &str, limit: u64, tally: &mut Tally, out: Out) -> Result<(), Cut> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let account = self.names.account(what).ok();
        // One more tells whether there are more; that is the oldest.
        let one_more = limit.saturating_add(1);
        let found = search::find(&self.spool.join(trace::DIRECTORY), what, account.as_deref(), one_more);
        let (mut traced, is_cut) = (found.messages, found.is_cut);
        if traced.is_empty() {
            traced = self.queued_about(what, one_more)?;
        }
        if traced.len() > limit {
            traced.remove(0);
            tally.more = true;
        }
        tally.more |= is_cut;
        tally.messages = traced.len() as u64;
        let now = now_ms();
        let mut traced = traced.into_iter();
        loop {
            // A row tells of each recipient: some are made at a time.
            let some: Vec<_> = traced.by_ref().take(TRACED_AT_ONCE).collect();
            if some.is_empty() {
                return Ok(());
            }
            let mut rows = BTreeMap::new();
            let unreadable =
                self.each(&Selection::Ids(some.iter().map(|(id, _)| *id).collect()), &mut |one, view, bytes| {
                    rows.insert(one.standing.id, listing::row(one, view, bytes, true, now));
                    Ok(true)
                })?;
            for id in unreadable {
                rows.insert(id, json!({ "status": tally::UNREADABLE, "recipients": [] }));
            }
            for (id, traced) in some {
                if !out(&json!({ "trace": tracing::row(id, &traced, rows.remove(&id)) })) {
                    return Err(Cut::Gone);
                }
            }
        }
    }

    /// Of what is queued, for which there are no traces: the latest, the oldest of them first.
    fn queued_about(&mut self, what: &str, limit: usize) -> Result<Vec<(u64, Traced)>, Cut> {
        if let Ok(QueueId(id)) = what.parse() {
            let mut found = Vec::new();
            let unreadable = self.each(&Selection::Ids(vec![id]), &mut |one, _, _| {
                found.push(one.standing.id);
                Ok(true)
            })?;
            return Ok(found.into_iter().chain(unreadable).map(|id| (id, Traced::default())).collect());
        }
        let mut found = BTreeSet::new();
        let now = now_ms();
        let named = Some(what.to_owned());
        let filters = [
            Filter { user: named.clone(), ..Filter::default() }.of_account(&self.names),
            Filter { sender: named.clone(), ..Filter::default() },
            Filter { recipient: named, ..Filter::default() },
        ];
        self.each(&Selection::Filter(Filter::default()), &mut |one, view, _| {
            if filters.iter().any(|filter| listing::matches(filter, one, view, now)) {
                found.insert((view.arrival_ms, one.standing.id));
            }
            if found.len() > limit {
                found.pop_first();
            }
            Ok(true)
        })?;
        Ok(found.into_iter().map(|(_, id)| (id, Traced::default())).collect())
    }

    /// Asks until none of the messages is busy, or for five seconds. What was done, and why it ended early, if it did, with
    /// those of which it is not known.
    fn do_to(&mut self, deed: Deed, mut ids: Vec<u64>, bounce: bool) -> (Vec<(u64, Done)>, Result<(), Unanswered>) {
        let mut all = Vec::new();
        for tries in 0..BUSY_TRIES {
            let question = match (deed, &ids[..]) {
                (_, []) => break,
                (Deed::Hold, _) => Question::Order(Order::Hold, ids.clone()),
                (Deed::Release, _) => Question::Order(Order::Release, ids.clone()),
                (Deed::Requeue, _) => Question::Order(Order::Requeue, ids.clone()),
                (Deed::Delete, [id]) if bounce => Question::Return(*id),
                (Deed::Delete, _) => Question::Delete(ids.clone()),
                _ => Question::Flush(ids.clone()),
            };
            let done = match self.source.ask(question) {
                Ok(Answer::Done(done)) => done,
                Ok(_) => return (all, Err((misunderstood(), ids))),
                Err(why) => return (all, Err((why.into(), ids))),
            };
            let is_last = tries + 1 == BUSY_TRIES;
            let (busy, done): (Vec<_>, Vec<_>) =
                done.into_iter().partition(|(_, done)| *done == Done::Busy && !is_last);
            all.extend(done);
            ids = busy.into_iter().map(|(id, _)| id).collect();
            if !ids.is_empty() {
                std::thread::sleep(BUSY_PAUSE);
            }
        }
        (all, Ok(()))
    }

    /// Every message that is meant, until `f` says false: in the order in which they are named, or of those that fit the one
    /// first whose time counts from the earliest moment. What is delivered meanwhile is left out. Returns those that are queued and
    /// cannot be read.
    fn each(
        &mut self,
        selection: &Selection,
        f: &mut dyn FnMut(&Described, &View, usize) -> Result<bool, Cut>,
    ) -> Result<Vec<u64>, Cut> {
        let (begun, now) = (Instant::now(), now_ms());
        let (ids, filter) = match selection {
            Selection::Ids(ids) => (ids.clone(), Filter::default()),
            Selection::Filter(filter) => {
                let Answer::Ids(mut aged) = self.source.ask(Question::Ids)? else { return Err(misunderstood()) };
                // Not by ids alone: those of one core are all above those of another.
                aged.sort_unstable();
                (aged.into_iter().map(|(_, id)| id).collect(), filter.clone().of_account(&self.names))
            }
        };
        let (mut reader, mut unreadable) = (Reader::new(&self.spool), Vec::new());
        for page in ids.chunks(IDS_MAX) {
            if begun.elapsed() > ANSWER_LIMIT {
                return Err(Cut::Because("this takes too long; narrow it down".into()));
            }
            let question = Question::Describe(page.to_vec());
            let Answer::Described(page) = self.source.ask(question)? else { return Err(misunderstood()) };
            for mut one in page {
                if filter.status.is_some_and(|status| status != listing::status(&one.standing, now)) {
                    continue;
                }
                let Some(read) = self.envelope(&mut reader, &mut one)? else { continue };
                let Ok((envelope, bytes)) = &read else {
                    unreadable.push(one.standing.id);
                    continue;
                };
                let Ok(view) = View::parse(envelope) else { continue };
                if listing::matches(&filter, &one, &view, now) && !f(&one, &view, *bytes)? {
                    return Ok(unreadable);
                }
            }
        }
        Ok(unreadable)
    }

    /// What the record of a message says of it, and the octets of its content there. It may have been moved since it was
    /// described. None: it is not queued any more. Errors: it is, and cannot be read.
    fn envelope(&mut self, reader: &mut Reader, one: &mut Described) -> Result<Option<Read>, Cut> {
        for _ in 0..MOVED_MAX {
            let read = reader.envelope(one.reference);
            if read.is_ok() {
                return Ok(Some(read));
            }
            let question = Question::Describe(vec![one.standing.id]);
            let Answer::Described(again) = self.source.ask(question)? else { return Err(misunderstood()) };
            match again.into_iter().next() {
                None => return Ok(None),
                Some(again) if again.standing.at == one.standing.at => return Ok(Some(read)),
                Some(again) => *one = again,
            }
        }
        Ok(None)
    }
}

/// One line for each of these messages, which are queued and cannot be read.
fn say_unreadable(ids: &[u64], out: Out) -> Result<(), Cut> {
    let row = |&id: &u64| json!({ "acted": { "id": QueueId(id).to_string(), "result": tally::UNREADABLE } });
    if ids.iter().map(row).all(|row| out(&row)) { Ok(()) } else { Err(Cut::Gone) }
}

/// The relay answers what it is asked; anything else is a bug, and no reason to stop.
fn misunderstood() -> Cut {
    Cut::Because("the relay answered something else".into())
}

fn header(reader: &mut Reader, one: &Described, view: &View) -> Result<String, String> {
    let mut stored = reader.read(one.reference)?;
    let (header, _) = content::beginning(view, &mut stored.content, false, HEADER_BYTES_MAX)?;
    Ok(text(&header))
}

#[cfg(test)]
mod tests;

//! From an id, a user or an address to what became of the messages.
//!
//! The latest day is searched first and no more days than it takes. A needle with the tabs around it is looked for in the
//! octets of the file (memchr's memmem), so an address is found whole or not at all; then the lines of those messages are
//! collected from their day on. Nothing is indexed: who asks waits for the disk, who delivers mail does not.

use super::line::{self, ID_AT, Line, What};
use super::writer;
use crate::spool::QueueId;
use memchr::memmem::Finder;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Octets read at once.
const CHUNK: usize = 1 << 20;
/// A line has no more: a hundred recipients of 256 octets, escaped.
const LINE_BYTES_MAX: usize = 256 << 10;
/// Tries of one message that are told: of many recipients, over days.
const LINES_MAX: usize = 2000;
/// What became of its recipients, and of orders, is told beside those; there are fewer recipients.
const FATES_MAX: usize = 20_000;
/// Octets of lines of all messages that are told, about what they take in memory: a thousand messages may have been to a
/// thousand recipients each.
const TOLD_BYTES_MAX: usize = 16 << 20;

/// What is known of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traced {
    /// When it was accepted, milliseconds since the Unix epoch; none: not in the days that are kept.
    pub accepted_ms: Option<u64>,
    /// The authenticated user.
    pub user: Option<String>,
    /// The client's address and port.
    pub client: String,
    /// The reverse-path.
    pub sender: String,
    /// By their index.
    pub recipients: BTreeMap<u32, String>,
    /// What happened since, in order.
    pub events: Vec<Line>,
    /// Tries that are left out, as there were so many.
    pub left_out: usize,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// Messages with their queue ids, in the order of their arrival: ids are in order on each core alone.
    pub messages: Vec<(u64, Traced)>,
    /// Older ones are left out, as there is too much to be told of all of them.
    pub is_cut: bool,
}

/// The latest `limit` messages that `what` is about: a queue id, a user (`anna` is also anna of any domain) or an address; and
/// those of `account`, which is the same user's.
pub fn find(directory: &Path, what: &str, account: Option<&str>, limit: usize) -> Found {
    let files = writer::files(directory);
    let id: Option<QueueId> = what.parse().ok();
    let mut needles: Vec<String> = match id {
        Some(id) => vec![format!("\t{id}\t")],
        // With the names of their fields, because an address may have a `=` and another one behind it.
        None if what.contains('@') => {
            let ends = [("u", '\t'), ("f", '\t'), ("t", '\t'), ("t", '\n')];
            ends.map(|(field, end)| format!("\t{field}={}{end}", line::written(what))).into()
        }
        None => vec![format!("\tu={}\t", line::written(what)), format!("\tu={}@", line::written(what))],
    };
    let own = account.filter(|_| id.is_none()).map(|account| format!("\tu={}\t", line::written(account)));
    if let Some(own) = own.filter(|own| !needles.contains(own)) {
        needles.push(own);
    }
    // Never more than are wanted: somebody may have sent a million.
    let mut ids = BTreeSet::new();
    let mut days = 0;
    for file in &files {
        days += 1;
        let mut begun = false;
        let is_accepted = |text: &[u8]| text.get(14) == Some(&b'A');
        let _ = matching(file, &needles, &mut |text| {
            if let Some(found) = id_of(text).filter(|_| id.is_some() || is_accepted(text)) {
                begun |= is_accepted(text);
                // Of one message lines of other times are found, too.
                let at_ms = if id.is_some() { 0 } else { at_ms_of(text) };
                ids.insert((at_ms, found));
                if ids.len() > limit {
                    ids.pop_first();
                }
            }
        });
        // Of one message: back to the day on which it was accepted.
        if ids.len() >= limit && (id.is_none() || begun) {
            break;
        }
    }
    collect(&files[..days], ids.into_iter().map(|(_, id)| id).collect())
}

/// All lines of these messages, the oldest first; of the latest, where that is more than [`TOLD_BYTES_MAX`].
fn collect(files: &[PathBuf], ids: Vec<u64>) -> Found {
    let mut traced: HashMap<String, (Traced, usize)> =
        ids.iter().map(|&id| (QueueId(id).to_string(), Default::default())).collect();
    let mut oldest = ids.iter().map(|&id| QueueId(id).to_string());
    let (mut told_bytes, mut is_cut) = (0, false);
    for file in files.iter().rev() {
        let _ = lines(file, &mut |text| {
            let Some(name) = text.get(ID_AT).and_then(|name| std::str::from_utf8(name).ok()) else { return };
            let Some((known, bytes)) = traced.get_mut(name) else { return };
            if line::parse(text).is_some_and(|line| known.take(line)) {
                *bytes += text.len() + size_of::<Line>();
                told_bytes += text.len() + size_of::<Line>();
            }
            while told_bytes > TOLD_BYTES_MAX && traced.len() > 1 {
                told_bytes -= oldest.next().and_then(|name| traced.remove(&name)).map_or(0, |(_, bytes)| bytes);
                is_cut = true;
            }
        });
    }
    let told = ids.iter().filter_map(|&id| Some((id, traced.remove(&QueueId(id).to_string())?.0)));
    let messages = told.filter(|(_, traced)| *traced != Traced::default()).collect();
    Found { messages, is_cut }
}

impl Traced {
    /// False: there are too many of that kind.
    fn take(&mut self, line: Line) -> bool {
        let most = if matches!(line.what, What::Deferred | What::Late) { LINES_MAX } else { LINES_MAX + FATES_MAX };
        if self.events.len() >= most {
            self.left_out += 1;
            return false;
        }
        match line.envelope {
            Some(accepted) => {
                self.accepted_ms.get_or_insert(line.at_ms);
                (self.user, self.client, self.sender) = (accepted.user, accepted.client, accepted.sender);
                self.recipients.extend((accepted.first..).zip(accepted.recipients));
            }
            None => self.events.push(line),
        }
        true
    }

    /// The last that happened to a recipient and was about it.
    pub fn last_of(&self, recipient: u32) -> Option<&Line> {
        let about = |line: &&Line| line.recipients.contains(&recipient) && line.what != What::Late;
        let orders = |line: &&Line| matches!(line.what, What::Deleted | What::SentBack) && line.recipients.is_empty();
        let settled = |line: &&Line| matches!(line.what, What::Delivered | What::Failed | What::FailedSilently);
        let own = || self.events.iter().rev().find(about);
        // What was deleted is what had not been settled before.
        own().filter(settled).or_else(|| self.events.iter().rev().find(orders)).or_else(own)
    }
}

fn id_of(line: &[u8]) -> Option<u64> {
    let name = std::str::from_utf8(line.get(ID_AT)?).ok()?;
    name.parse::<QueueId>().ok().map(|id| id.0)
}

/// When what a line tells of happened.
fn at_ms_of(line: &[u8]) -> u64 {
    let digits = line.get(..ID_AT.start - 3).and_then(|digits| std::str::from_utf8(digits).ok());
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// Calls `f` with each line, without its end, in which one of the needles stands. A line with two may come twice.
fn matching(file: &Path, needles: &[String], f: &mut dyn FnMut(&[u8])) -> io::Result<()> {
    let finders: Vec<Finder> = needles.iter().map(Finder::new).collect();
    chunks(file, &mut |chunk| {
        for finder in &finders {
            let mut from = 0;
            while let Some(at) = finder.find(&chunk[from..]).map(|at| at + from) {
                let start = memchr::memrchr(b'\n', &chunk[..at]).map_or(0, |end| end + 1);
                let end = memchr::memchr(b'\n', &chunk[at..]).map_or(chunk.len(), |end| end + at);
                f(&chunk[start..end]);
                from = (end + 1).min(chunk.len());
            }
        }
    })
}

fn lines(file: &Path, f: &mut dyn FnMut(&[u8])) -> io::Result<()> {
    chunks(file, &mut |chunk| chunk.split(|&octet| octet == b'\n').for_each(&mut *f))
}

/// Whole lines, many at a time, the last with its end.
fn chunks(file: &Path, f: &mut dyn FnMut(&[u8])) -> io::Result<()> {
    let mut file = File::open(file)?;
    let mut buffer = Vec::with_capacity(CHUNK + LINE_BYTES_MAX);
    loop {
        let read = file.by_ref().take(CHUNK as u64).read_to_end(&mut buffer)?;
        let end = memchr::memrchr(b'\n', &buffer).map_or(0, |end| end + 1);
        f(&buffer[..end]);
        buffer.drain(..end);
        // What has no end by now is no line.
        if buffer.len() > LINE_BYTES_MAX {
            buffer.clear();
        }
        if read == 0 {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::envelope::{Recipient, View};

    fn accepted(id: u64, user: &'static str, sender: &'static str, to: &[&'static str]) -> String {
        let recipients = to.iter().map(|to| Recipient { path: to.as_bytes(), ..Recipient::default() }).collect();
        let view = View {
            arrival_ms: 1_795_345_200_000 + id,
            user: Some(user.as_bytes()),
            reverse_path: sender.as_bytes(),
            recipients,
            ..View::default()
        };
        line::accepted(id, &view)
    }

    fn happened(what: What, id: u64, recipients: &[u32]) -> String {
        line::happened(1_795_345_300_000, what, id, recipients, "mx", "250 Ok")
    }

    impl Found {
        fn ids(&self) -> Vec<u64> {
            self.messages.iter().map(|(id, _)| *id).collect()
        }
    }

    fn kept() -> tempfile::TempDir {
        let directory = tempfile::tempdir().expect("a directory");
        let first = accepted(1, "anna", "anna@example.edu", &["ben@example.org", "cleo@example.org"])
            + &happened(What::Deferred, 1, &[0, 1])
            + &accepted(2, "joanna@example.edu", "joanna@example.edu", &["xben@example.org"])
            + &happened(What::Delivered, 2, &[0]);
        let second = happened(What::Delivered, 1, &[0])
            + &accepted(3, "anna@example.edu", "Anna@example.edu", &["dan@example.com"])
            + &accepted(4, "eve", "bounce=ben@example.org", &["list=dan@example.com", "x=cleo@example.org"])
            + "1795345200000\tA\t00";
        std::fs::write(directory.path().join("2026-11-21.trace"), first).expect("written");
        std::fs::write(directory.path().join("2026-11-22.trace"), second).expect("written");
        directory
    }

    #[test]
    fn by_id_user_and_address_and_by_nothing_less() {
        let kept = kept();
        let one = QueueId(1).to_string();
        for (what, expected) in [
            (&*one, &[1][..]),
            (&one.to_lowercase(), &[1]),
            ("anna", &[1, 3]),
            ("joanna", &[2]),
            ("ann", &[]),
            ("anna@example.edu", &[1, 3]),
            ("ANNA@Example.Edu", &[1, 3]),
            ("ben@example.org", &[1]),
            ("cleo@example.org", &[1]),
            ("ben@example.or", &[]),
            ("dan@example.com", &[3]),
            ("x=cleo@example.org", &[4]),
            ("bounce=ben@example.org", &[4]),
            ("", &[]),
        ] {
            let found = find(kept.path(), what, None, 20).ids();
            assert_eq!(found, expected, "{what}");
        }
        assert_eq!(find(kept.path(), "eve@example.edu", Some("eve"), 9).ids(), [4]);
        assert_eq!(find(kept.path(), "anna", None, 1).ids(), [3], "the latest");
    }

    /// Of two cores the second's ids are all above the first's, and those of a spool taken over anywhere.
    #[test]
    fn the_latest_are_those_that_came_last_whatever_their_ids() {
        let directory = tempfile::tempdir().expect("a directory");
        let line = |arrival_ms, id| {
            let view = View { arrival_ms, user: Some(b"anna"), ..View::default() };
            let recipients = vec![Recipient { path: b"ben@example.org", ..Recipient::default() }];
            line::accepted(id, &View { recipients, ..view })
        };
        let core = 1 << 36;
        let yesterday = line(1_795_300_000_000, core + 1) + &line(1_795_300_000_001, core + 2);
        let today = line(1_795_345_200_003, core + 3)
            + &line(1_795_345_200_002, 8)
            + &line(1_795_345_200_009, 9)
            + &happened(What::Delivered, 9, &[0]);
        std::fs::write(directory.path().join("2026-11-21.trace"), yesterday).expect("written");
        std::fs::write(directory.path().join("2026-11-22.trace"), today).expect("written");
        for (limit, expected) in
            [(1, &[9][..]), (2, &[core + 3, 9]), (3, &[8, core + 3, 9]), (4, &[core + 2, 8, core + 3, 9])]
        {
            assert_eq!(find(directory.path(), "anna", None, limit).ids(), expected, "{limit}");
        }
        assert_eq!(find(directory.path(), &QueueId(9).to_string(), None, 1).messages[0].1.events.len(), 1);
    }

    #[test]
    fn what_happened_on_other_days_is_found_too() {
        let kept = kept();
        let (id, found) = find(kept.path(), "cleo@example.org", None, 20).messages.remove(0);
        assert_eq!(id, 1);
        assert_eq!((found.accepted_ms, found.user.as_deref()), (Some(1_795_345_200_001), Some("anna")));
        let whats: Vec<What> = found.events.iter().map(|line| line.what).collect();
        assert_eq!(whats, [What::Deferred, What::Delivered]);
        assert_eq!(found.last_of(0).expect("an event").what, What::Delivered);
        assert_eq!(found.last_of(1).expect("an event").what, What::Deferred);
    }

    #[test]
    fn what_an_operator_deleted_was_not_delivered_before() {
        let mut traced = Traced::default();
        for text in
            [happened(What::Delivered, 1, &[0]), happened(What::Deferred, 1, &[1]), happened(What::Deleted, 1, &[])]
        {
            traced.take(line::parse(text.trim_end().as_bytes()).expect("a line"));
        }
        assert_eq!(traced.last_of(0).expect("an event").what, What::Delivered);
        assert_eq!(traced.last_of(1).expect("an event").what, What::Deleted);
    }

    #[test]
    fn lines_are_found_wherever_a_chunk_ends() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut text = String::new();
        let mut id = 10;
        while text.len() < 3 * CHUNK {
            text += &accepted(id, "ben", "ben@example.edu", &["somebody@example.org"]);
            id += 1;
        }
        std::fs::write(directory.path().join("2026-11-22.trace"), text).expect("written");
        let count = (id - 10) as usize;
        assert_eq!(find(directory.path(), "somebody@example.org", None, count + 1).messages.len(), count);
        assert_eq!(find(directory.path(), "ben@example.edu", None, 20).ids(), (id - 20..id).collect::<Vec<_>>());
    }

    /// A list of a thousand, each greylisted by name three times and then taken: what became of them is not left out.
    #[test]
    fn however_often_it_was_tried_what_became_of_it_is_told() {
        let directory = tempfile::tempdir().expect("a directory");
        let tries = (0..3000).map(|line| happened(What::Deferred, 1, &[line % 1000]));
        let fates = (0..1000).map(|recipient| happened(What::Delivered, 1, &[recipient]));
        let text: String = [accepted(1, "anna", "anna@example.edu", &["ben@example.org"])]
            .into_iter()
            .chain(tries)
            .chain(fates)
            .collect();
        std::fs::write(directory.path().join("2026-11-22.trace"), text).expect("written");
        let (_, traced) = find(directory.path(), "anna", None, 1).messages.remove(0);
        let is_delivered = |&index: &u32| traced.last_of(index).is_some_and(|line| line.what == What::Delivered);
        assert_eq!((0..1000).filter(is_delivered).count(), 1000);
        assert_eq!((traced.events.len(), traced.left_out), (LINES_MAX + 1000, 1000));
    }

    /// Forty that were tried thousands of times: those that are older are left out, whole.
    #[test]
    fn what_is_told_is_bounded_and_of_each_message_as_much_as_of_one_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut text: String =
            (1..=40).map(|id| accepted(id, "anna", "anna@example.edu", &["ben@example.org"])).collect();
        let reply = "x".repeat(200);
        for id in (0..40 * LINES_MAX as u64).map(|line| 1 + line % 40) {
            text += &line::happened(1_795_345_300_000, What::Deferred, id, &[0], "mx", &reply);
        }
        std::fs::write(directory.path().join("2026-11-22.trace"), text).expect("written");
        let found = find(directory.path(), "anna", None, 1000);
        assert!(found.is_cut && !find(directory.path(), "anna", None, 3).is_cut);
        let ids = found.ids();
        assert!((10..40).contains(&ids.len()) && ids.iter().copied().eq(ids[0]..=40), "{ids:?}");
        assert!(found.messages.iter().all(|(_, traced)| traced.events.len() == LINES_MAX));
        assert_eq!(find(directory.path(), &QueueId(1).to_string(), None, 1).messages[0].1.events.len(), LINES_MAX);
    }
}

//! What is sent: messages that look like mail, from a seed. No I/O, no clock.
//!
//! ```text
//!  X-Penstock-Ledger: 0000000000000007-0001-0000002a    <- the tag; first field, so that what a server puts on top
//!  From: student00042@example.edu                          stands before it and the checksum covers all from here on
//!  To: ...                                              header: put together for each message, constant length
//!  Subject, Date, Message-ID, MIME-Version, ...
//!                                                       body: lines of 60 to 76 characters, some with a leading dot,
//!  text ...                                             made once for each thread and shared by all its messages
//! ```
//!
//! Promises: the same seed, plan and thread give the same messages in the same order; every message is exactly
//! [`Plan::size`] octets, before dots are stuffed; tags are unique in a run, and between runs of different seeds; a
//! message costs no generation, only a header of a few hundred octets.

use penstock::message::date::push_date;
use penstock::smtp::path::Mailbox;
use std::rc::Rc;

/// The field that carries the tag; with its colon and space.
pub const TAG_FIELD: &str = "X-Penstock-Ledger: ";

/// The share of lines that start with a dot: one in this many.
const DOT_LINE_EVERY: u64 = 24;
/// Characters of a full line, without CRLF.
const LINE_MIN: u64 = 60;
const LINE_MAX: u64 = 76;

/// Words of the body; none ends up looking like a command or a header field.
const WORDS: [&str; 32] = [
    "the",
    "lecture",
    "notes",
    "for",
    "week",
    "one",
    "are",
    "attached",
    "please",
    "send",
    "your",
    "coursework",
    "before",
    "Friday",
    "noon",
    "library",
    "opens",
    "at",
    "nine",
    "and",
    "closes",
    "late",
    "room",
    "has",
    "changed",
    "to",
    "north",
    "building",
    "with",
    "regards",
    "seminar",
    "timetable",
];

/// A small generator, good enough for names and sizes (SplitMix64, Steele and others 2014).
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// From a seed; equal seeds give equal numbers.
    pub fn new(seed: u64) -> Random {
        Random { state: seed }
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u64
    }
}

/// A name with at most one number in it: `student{40000}@example.edu` stands for `student00000@example.edu` to
/// `student39999@example.edu`. Numbers are padded with zeros, so that all names are equally long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    before: String,
    after: String,
    names: u64,
    digits: usize,
}

impl Template {
    /// Errors: what is wrong with `text`.
    pub fn parse(text: &str) -> Result<Template, String> {
        let Some((before, rest)) = text.split_once('{') else {
            return Ok(Template { before: text.into(), after: String::new(), names: 1, digits: 0 });
        };
        let mistake = || format!("\"{text}\": expected one number in braces, as in student{{40000}}@example.edu");
        let (number, after) = rest.split_once('}').ok_or_else(mistake)?;
        let names = number.parse::<u64>().ok().filter(|&names| names > 0).ok_or_else(mistake)?;
        if after.contains(['{', '}']) {
            return Err(mistake());
        }
        let digits = (names - 1).to_string().len();
        Ok(Template { before: before.into(), after: after.into(), names, digits })
    }

    /// How many names there are.
    pub fn names(&self) -> u64 {
        self.names
    }

    /// Name `number`, counted round.
    pub fn name(&self, number: u64) -> String {
        match self.digits {
            0 => self.before.clone(),
            digits => format!("{}{:0digits$}{}", self.before, number % self.names, self.after),
        }
    }
}

/// What kind of messages.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Equal seeds give equal messages.
    pub seed: u64,
    /// Octets of content, as it is after dots are unstuffed.
    pub size: u64,
    /// Recipients of each message.
    pub recipients: u32,
    /// Reverse-paths.
    pub from: Template,
    /// Forward-paths.
    pub to: Template,
    /// For the Date field: milliseconds since the Unix epoch.
    pub date_ms: u64,
}

/// One message; the memory is used again for the next.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// Names the message in the ledger.
    pub tag: String,
    /// Without angle brackets.
    pub reverse_path: String,
    /// Without angle brackets; no two are equal.
    pub recipients: Vec<String>,
    /// The header with the empty line behind it; the body is [`Workload::body`].
    pub header: String,
}

/// The messages of one thread.
#[derive(Debug)]
pub struct Workload {
    plan: Plan,
    thread: u32,
    sequence: u32,
    random: Random,
    date: String,
    header_bytes: usize,
    body: Rc<[u8]>,
}

impl Workload {
    /// The messages of thread number `thread`. Errors: what in the plan cannot be done, with a remedy.
    pub fn new(plan: Plan, thread: u32) -> Result<Workload, String> {
        for template in [&plan.from, &plan.to] {
            let name = template.name(0);
            Mailbox::parse(name.as_bytes())
                .ok_or_else(|| format!("\"{name}\" is no mailbox: expected local@domain"))?;
        }
        if plan.to.names() < u64::from(plan.recipients) {
            let (wanted, names) = (plan.recipients, plan.to.names());
            return Err(format!(
                "--recipients {wanted} but --to names only {names}: use a number, as in user{{1000}}@.."
            ));
        }
        let mut date = String::new();
        push_date(plan.date_ms, &mut date);
        let random = Random::new(plan.seed ^ u64::from(thread).wrapping_mul(0xd6e8_feb8_6659_fd93));
        let mut workload = Workload { plan, thread, sequence: 0, random, date, header_bytes: 0, body: Rc::default() };
        workload.measure()?;
        Ok(workload)
    }

    /// The body of every message of this thread.
    pub fn body(&self) -> Rc<[u8]> {
        self.body.clone()
    }

    /// Octets of every message.
    pub fn size(&self) -> u64 {
        self.plan.size
    }

    /// A number below `bound`, from the workload's seed.
    pub fn draw(&mut self, bound: u64) -> u64 {
        self.random.below(bound)
    }

    /// Puts the next message into `message`.
    pub fn next(&mut self, message: &mut Message) {
        let from = self.random.bits() % self.plan.from.names();
        let to = self.random.bits() % self.plan.to.names();
        message.tag = format!("{:016x}-{:04x}-{:08x}", self.plan.seed, self.thread, self.sequence);
        self.sequence = self.sequence.wrapping_add(1);
        message.reverse_path = self.plan.from.name(from);
        message.recipients.clear();
        message.recipients.extend((0..u64::from(self.plan.recipients)).map(|index| self.plan.to.name(to + index)));
        message.header.clear();
        push_header(message, &self.date);
        debug_assert!(self.header_bytes == 0 || message.header.len() == self.header_bytes);
    }

    /// Learns the header's length from a sample, which is forgotten, and makes the body that fills the rest.
    fn measure(&mut self) -> Result<(), String> {
        let random = self.random.clone();
        let mut sample = Message::default();
        self.next(&mut sample);
        (self.random, self.sequence) = (random, 0);
        self.header_bytes = sample.header.len();
        let least = self.header_bytes as u64 + 2;
        if self.plan.size < least {
            let size = self.plan.size;
            return Err(format!("--size {size} is too small: the header alone needs {least} octets"));
        }
        let body_bytes = usize::try_from(self.plan.size).map_err(|_| "--size is too large".to_string())?;
        self.body = body(&mut self.random.clone(), body_bytes - self.header_bytes).into();
        Ok(())
    }
}

fn push_header(message: &mut Message, date: &str) {
    let Message { tag, reverse_path, recipients, header } = message;
    for part in [TAG_FIELD, tag, "\r\nFrom: ", reverse_path, "\r\nTo: "] {
        header.push_str(part);
    }
    for (index, recipient) in recipients.iter().enumerate() {
        header.push_str(if index == 0 { "" } else { ",\r\n " });
        header.push_str(recipient);
    }
    for part in ["\r\nSubject: Coursework, week one [", &tag[22..], "]\r\nDate: ", date, "\r\nMessage-ID: <", tag] {
        header.push_str(part);
    }
    header.push_str("@loadgen.penstock.invalid>\r\nMIME-Version: 1.0\r\n");
    header.push_str("Content-Type: text/plain; charset=us-ascii\r\nUser-Agent: penstock-loadgen\r\n\r\n");
}

/// `size` octets of lines, at least 2; the last line may be short.
fn body(random: &mut Random, size: usize) -> Vec<u8> {
    let mut body = Vec::with_capacity(size);
    while body.len() < size {
        let rest = size - body.len();
        let mut line = (LINE_MIN + random.below(LINE_MAX - LINE_MIN + 1)) as usize;
        if rest <= line + 2 {
            line = rest - 2;
        } else if rest == line + 3 {
            // One octet alone cannot be a line.
            line -= 1;
        }
        push_line(random, line, &mut body);
    }
    body
}

fn push_line(random: &mut Random, length: usize, out: &mut Vec<u8>) {
    let end = out.len() + length;
    if random.below(DOT_LINE_EVERY) == 0 {
        out.push(b'.');
    }
    while out.len() < end {
        out.extend_from_slice(WORDS[random.below(WORDS.len() as u64) as usize].as_bytes());
        out.push(b' ');
    }
    out.truncate(end);
    if length > 0 {
        // A line that ends in white space may be changed on its way.
        out[end - 1] = b',';
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(size: u64) -> Plan {
        Plan {
            seed: 7,
            size,
            recipients: 3,
            from: Template::parse("student{40000}@example.edu").expect("template"),
            to: Template::parse("staff{12}@example.org").expect("template"),
            date_ms: 1_760_000_000_000,
        }
    }

    fn contents(size: u64, thread: u32, count: usize) -> Vec<(Message, Vec<u8>)> {
        let mut workload = Workload::new(plan(size), thread).expect("a plan");
        let body = workload.body();
        let make = |_| {
            let mut message = Message::default();
            workload.next(&mut message);
            let content = [message.header.as_bytes(), &body].concat();
            (message, content)
        };
        (0..count).map(make).collect()
    }

    #[test]
    fn templates_name_what_they_say() {
        let template = Template::parse("user{100}@example.edu").expect("template");
        assert_eq!((template.name(7), template.names()), ("user07@example.edu".into(), 100));
        assert_eq!(template.name(100), "user00@example.edu");
        assert_eq!(Template::parse("a@b.example").expect("template").name(9), "a@b.example");
        for bad in ["a{@b", "a{0}@b", "a{x}@b", "a{1}{2}@b"] {
            assert!(Template::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_size_is_met_to_the_octet_and_every_line_is_one() {
        for size in (500..760).chain([4096, 100_000]) {
            for (_, content) in contents(size, 0, 2) {
                assert_eq!(content.len() as u64, size);
                assert!(content.ends_with(b"\r\n"));
                let text = String::from_utf8(content).expect("ASCII");
                assert!(text.is_ascii());
                assert_eq!(text.matches('\n').count(), text.matches("\r\n").count());
                assert_eq!(text.matches('\r').count(), text.matches("\r\n").count());
                assert!(text.lines().all(|line| line.len() <= 78), "{text}");
            }
        }
    }

    #[test]
    fn bodies_have_dots_to_stuff_and_full_lines() {
        let (_, content) = contents(20_000, 0, 1).remove(0);
        let text = String::from_utf8(content).expect("ASCII");
        let (_, body) = text.split_once("\r\n\r\n").expect("a header and a body");
        assert!(body.lines().filter(|line| line.starts_with('.')).count() > 3);
        let (last, full) =
            body.lines().collect::<Vec<_>>().split_last().map(|(l, f)| (l.len(), f.to_vec())).expect("lines");
        assert!(full.iter().all(|line| (59..=76).contains(&line.len())) && last <= 76);
    }

    #[test]
    fn the_seed_decides_and_tags_are_unique() {
        let tags = |thread| contents(1000, thread, 50).into_iter().map(|(message, _)| message.tag).collect::<Vec<_>>();
        let same = contents(1000, 0, 50).into_iter().map(|(_, content)| content);
        assert!(same.eq(contents(1000, 0, 50).into_iter().map(|(_, content)| content)));
        let mut all = [tags(0), tags(1)].concat();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 100);
    }

    #[test]
    fn the_tag_comes_first_and_senders_and_recipients_differ() {
        let messages = contents(1000, 3, 20);
        for (message, content) in &messages {
            assert!(content.starts_with(format!("{TAG_FIELD}{}\r\n", message.tag).as_bytes()));
            let mut recipients = message.recipients.clone();
            recipients.sort();
            recipients.dedup();
            assert_eq!(recipients.len(), 3);
        }
        assert_ne!(messages[0].0.reverse_path, messages[1].0.reverse_path);
    }

    #[test]
    fn what_cannot_be_done_is_said() {
        let refused = |change: fn(&mut Plan)| {
            let mut plan = plan(1000);
            change(&mut plan);
            Workload::new(plan, 0).expect_err("refused")
        };
        assert!(refused(|plan| plan.size = 40).contains("--size 40 is too small"));
        assert!(refused(|plan| plan.recipients = 13).contains("--recipients 13"));
        assert!(refused(|plan| plan.from = Template::parse("nobody").expect("template")).contains("no mailbox"));
    }
}

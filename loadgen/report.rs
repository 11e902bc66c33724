//! What was measured: counters, failures by kind, and a histogram for each span of a session.
//!
//! ```text
//!  session  |------------------------------------------------------------------------------|
//!  connect  |--|                                    message  |------------------|
//!  greeting    |--|                                 envelope |------|                MAIL .. 354
//!  ehlo           |--|           |--|               content         |-----------|    first octet .. 250
//!  starttls          |--|                                                            command .. 220
//!  handshake            |--------|
//!  auth                             |---------|                                      AUTH .. 235
//! ```
//!
//! Each thread has a [`Recorder`]; the report merges them. Times are in microseconds, with three significant digits.
//! The load is a closed loop: a connection sends its next message when the last one is answered, so a server that
//! stalls is also asked less. Read the maximum and the throughput together.

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// The longest time that is told apart: an hour, in microseconds.
const LONGEST_US: u64 = 3_600_000_000;
/// Different kinds of failures that are told apart.
const KINDS_MAX: usize = 100;

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// TCP.
    Connect,
    /// Waiting for 220.
    Greeting,
    /// EHLO and its reply; twice in a session with STARTTLS.
    Ehlo,
    /// STARTTLS and its reply.
    StartTls,
    /// The TLS handshake.
    Handshake,
    /// AUTH and its replies.
    Auth,
    /// MAIL, RCPT, DATA up to 354.
    Envelope,
    /// Content, up to the reply to its end.
    Content,
    /// Envelope and content.
    Message,
    /// All, from connecting to the reply to QUIT.
    Session,
}

const SPANS: [(Span, &str); 10] = [
    (Span::Connect, "connect"),
    (Span::Greeting, "greeting"),
    (Span::Ehlo, "ehlo"),
    (Span::StartTls, "starttls"),
    (Span::Handshake, "handshake"),
    (Span::Auth, "auth"),
    (Span::Envelope, "envelope"),
    (Span::Content, "content"),
    (Span::Message, "message"),
    (Span::Session, "session"),
];

const QUANTILES: [(f64, &str); 5] = [(0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9"), (1.0, "max")];

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages answered 250 for at least one recipient.
    pub accepted: u64,
    /// Octets of their content.
    pub accepted_bytes: u64,
    /// Messages refused in the envelope or after the content.
    pub refused: u64,
    /// Messages whose connection broke between the start of their content and the reply to it.
    pub unknown: u64,
    /// Sessions that came to the reply to QUIT.
    pub sessions: u64,
    /// Sessions that did not.
    pub broken_sessions: u64,
}

/// How often something went wrong, and what was said the first time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Failure {
    count: u64,
    example: String,
}

/// What one thread saw.
#[derive(Clone, Debug)]
pub struct Recorder {
    /// Counters.
    pub counts: Counts,
    failures: BTreeMap<String, Failure>,
    spans: Vec<Histogram<u64>>,
}

impl Default for Recorder {
    fn default() -> Recorder {
        let histogram = Histogram::new_with_bounds(1, LONGEST_US, 3).expect("bounds that a histogram can have");
        Recorder {
            counts: Counts::default(),
            failures: BTreeMap::new(),
            spans: SPANS.iter().map(|_| histogram.clone()).collect(),
        }
    }
}

impl Recorder {
    /// One span took `time`.
    pub fn timed(&mut self, span: Span, time: Duration) {
        let time_us = u64::try_from(time.as_micros()).unwrap_or(LONGEST_US);
        self.spans[span as usize].saturating_record(time_us.max(1));
    }

    /// Something went wrong: where and how (a reply code, an error's name) counts, `example` is kept once.
    pub fn failed(&mut self, kind: &str, example: &str) {
        let full = self.failures.len() >= KINDS_MAX && !self.failures.contains_key(kind);
        let failure = self.failures.entry(if full { "others" } else { kind }.into()).or_default();
        failure.count += 1;
        if failure.example.is_empty() {
            failure.example = example.into();
        }
    }

    /// Adds what another thread saw.
    pub fn merge(&mut self, other: &Recorder) {
        let (counts, more) = (&mut self.counts, &other.counts);
        counts.accepted += more.accepted;
        counts.accepted_bytes += more.accepted_bytes;
        counts.refused += more.refused;
        counts.unknown += more.unknown;
        counts.sessions += more.sessions;
        counts.broken_sessions += more.broken_sessions;
        for (kind, failure) in &other.failures {
            let mine = self.failures.entry(kind.clone()).or_insert(Failure { count: 0, ..failure.clone() });
            mine.count += failure.count;
        }
        for (mine, more) in self.spans.iter_mut().zip(&other.spans) {
            mine.add(more).expect("equal bounds");
        }
    }

    fn timed_spans(&self) -> impl Iterator<Item = (&'static str, &Histogram<u64>)> {
        SPANS.iter().map(|&(span, name)| (name, &self.spans[span as usize])).filter(|(_, times)| !times.is_empty())
    }
}

/// A run, over.
#[derive(Debug)]
pub struct Report {
    /// All threads together.
    pub seen: Recorder,
    /// From the first connection to the end of the last.
    pub elapsed: Duration,
    /// Processor time of this process during the run: user, system.
    pub cpu: (Duration, Duration),
    /// What the workload was made from.
    pub seed: u64,
    /// io_uring or epoll.
    pub driver: &'static str,
    /// Threads.
    pub threads: u32,
}

impl Report {
    /// Did the run do what it was to do? Not strict: something was accepted. Strict: and nothing went wrong.
    pub fn is_success(&self, strict: bool) -> bool {
        let counts = &self.seen.counts;
        counts.accepted > 0 && (!strict || (self.seen.failures.is_empty() && counts.refused + counts.unknown == 0))
    }

    /// For people.
    pub fn text(&self) -> String {
        let counts = &self.seen.counts;
        let (user, system) = self.cpu;
        let mut text = format!(
            "accepted {} messages in {:.2} s: {:.1} messages/s, {:.2} MiB/s\n\
             refused {}, unknown {}; sessions {}, broken {}\n\
             own CPU {:.2} s user + {:.2} s system{} ({}, threads {}); seed {}\n",
            counts.accepted,
            self.elapsed.as_secs_f64(),
            self.messages_per_s(),
            self.mib_per_s(),
            counts.refused,
            counts.unknown,
            counts.sessions,
            counts.broken_sessions,
            user.as_secs_f64(),
            system.as_secs_f64(),
            self.cpu_us_per_message().map_or(String::new(), |us| format!(" = {us:.1} us/message")),
            self.driver,
            self.threads,
            self.seed,
        );
        let _ = write!(text, "\n{:<10}{:>9}", "ms", "count");
        QUANTILES.iter().for_each(|(_, name)| _ = write!(text, "{name:>10}"));
        for (name, times) in self.seen.timed_spans() {
            let _ = write!(text, "\n{name:<10}{:>9}", times.len());
            QUANTILES.iter().for_each(|&(quantile, _)| _ = write!(text, "{:>10.3}", milliseconds(times, quantile)));
        }
        text.push('\n');
        for (kind, Failure { count, example }) in &self.seen.failures {
            let _ = write!(text, "\n{count:>9} x {kind}{}{example}", if example.is_empty() { "" } else { ": " });
        }
        if !self.seen.failures.is_empty() {
            text.push('\n');
        }
        text
    }

    /// For programs: one object on one line; times in microseconds.
    pub fn json(&self) -> String {
        let counts = &self.seen.counts;
        let spans: Map<String, Value> =
            self.seen.timed_spans().map(|(name, times)| (name.into(), span(times))).collect();
        let failures: Map<String, Value> =
            self.seen.failures.iter().map(|(kind, f)| (kind.clone(), failure(f))).collect();
        let object = json!({
            "accepted": counts.accepted,
            "accepted_bytes": counts.accepted_bytes,
            "refused": counts.refused,
            "unknown": counts.unknown,
            "sessions": counts.sessions,
            "broken_sessions": counts.broken_sessions,
            "elapsed_s": self.elapsed.as_secs_f64(),
            "messages_per_s": self.messages_per_s(),
            "mib_per_s": self.mib_per_s(),
            "cpu_user_s": self.cpu.0.as_secs_f64(),
            "cpu_system_s": self.cpu.1.as_secs_f64(),
            "cpu_us_per_message": self.cpu_us_per_message(),
            "seed": self.seed,
            "io": self.driver,
            "threads": self.threads,
            "spans_us": spans,
            "failures": failures,
        });
        format!("{object}\n")
    }

    fn messages_per_s(&self) -> f64 {
        self.seen.counts.accepted as f64 / self.elapsed.as_secs_f64().max(1e-6)
    }

    fn mib_per_s(&self) -> f64 {
        self.seen.counts.accepted_bytes as f64 / f64::from(1 << 20) / self.elapsed.as_secs_f64().max(1e-6)
    }

    /// None: nothing was accepted.
    fn cpu_us_per_message(&self) -> Option<f64> {
        let us = (self.cpu.0 + self.cpu.1).as_secs_f64() * 1e6;
        (self.seen.counts.accepted > 0).then(|| us / self.seen.counts.accepted as f64)
    }
}

fn milliseconds(times: &Histogram<u64>, quantile: f64) -> f64 {
    times.value_at_quantile(quantile) as f64 / 1000.0
}

fn span(times: &Histogram<u64>) -> Value {
    let mut object = json!({ "count": times.len(), "mean": times.mean() });
    for (quantile, name) in QUANTILES {
        object[name] = times.value_at_quantile(quantile).into();
    }
    object
}

fn failure(failure: &Failure) -> Value {
    json!({ "count": failure.count, "example": failure.example })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Report {
        let mut one = Recorder::default();
        let mut two = Recorder::default();
        for millisecond in 1..=100 {
            one.timed(Span::Message, Duration::from_millis(millisecond));
        }
        two.timed(Span::Message, Duration::from_millis(500));
        one.counts = Counts { accepted: 100, accepted_bytes: 100 << 20, ..Counts::default() };
        two.counts = Counts { accepted: 1, refused: 1, ..Counts::default() };
        two.failed("content 451", "4.3.0 \"disk\"");
        two.failed("content 451", "again");
        one.merge(&two);
        let cpu = (Duration::from_millis(101), Duration::from_millis(101));
        Report { seen: one, elapsed: Duration::from_secs(2), cpu, seed: 7, driver: "epoll", threads: 2 }
    }

    #[test]
    fn threads_are_merged_and_quantiles_are_right() {
        let report = sample();
        let json: Value = serde_json::from_str(&report.json()).expect("JSON");
        assert_eq!(json["accepted"], 101);
        assert_eq!(json["messages_per_s"], 50.5);
        assert_eq!(json["mib_per_s"], 50.0);
        assert_eq!(json["cpu_us_per_message"], 2000.0);
        assert_eq!(json["failures"]["content 451"], json!({ "count": 2, "example": "4.3.0 \"disk\"" }));
        let message = &json["spans_us"]["message"];
        let about = |name: &str, us: u64| {
            let value = message[name].as_u64().expect(name);
            assert!(value.abs_diff(us) <= us / 500, "{name} {value}");
        };
        assert_eq!(message["count"], 101);
        about("p50", 51_000);
        about("p99", 100_000);
        about("max", 500_000);
        assert!(json["spans_us"]["auth"].is_null());
    }

    #[test]
    fn text_shows_what_happened() {
        let text = sample().text();
        assert!(text.contains("accepted 101 messages in 2.00 s: 50.5 messages/s, 50.00 MiB/s"), "{text}");
        assert!(text.contains("        2 x content 451: 4.3.0 \"disk\""), "{text}");
        assert!(text.lines().any(|line| line.starts_with("message ") && line.contains("51.0")), "{text}");
    }

    #[test]
    fn success_is_something_accepted_and_strictly_nothing_wrong() {
        let mut report = sample();
        assert!(report.is_success(false) && !report.is_success(true));
        report.seen = Recorder::default();
        assert!(!report.is_success(false));
        assert!(report.text().contains("0.10 s system (epoll"), "nothing to divide by: {}", report.text());
        let json: Value = serde_json::from_str(&report.json()).expect("JSON");
        assert!(json["cpu_us_per_message"].is_null() && json.get("cpu_us_per_message").is_some());
        report.seen.counts.accepted = 1;
        assert!(report.is_success(true));
    }

    #[test]
    fn kinds_of_failures_are_bounded() {
        let mut recorder = Recorder::default();
        (0..1000).for_each(|kind| recorder.failed(&kind.to_string(), ""));
        assert_eq!(recorder.failures.len(), KINDS_MAX + 1);
        assert_eq!(recorder.failures["others"].count, 900);
    }
}

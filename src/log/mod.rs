//! Log lines: one an event, for people or as JSON, without ever stopping a core.
//!
//! ```text
//!  core, relay, ...                                                     log thread
//!  event().field().emit() -> line in the thread's own buffer
//!                              \--copy under a lock--> 1 MiB queue --one write a batch--> standard error
//! ```
//!
//! It promises: each event is exactly one line of valid UTF-8 without control characters, whatever a peer put into its
//! values; a value is cut at [`VALUE_BYTES_MAX`]; a line does not allocate once its thread has warmed up; a slow
//! standard error costs lines, never time: lines past the queue's bound are dropped, counted and reported. Before
//! [`init`], and in tests, lines are written at once.
//!
//! ```text
//! 2026-09-21T08:15:30.123Z info    message accepted queue_id=0AB12CD34EF56 client=192.0.2.1:4711 user="anna"
//! {"time":"2026-09-21T08:15:30.123Z","level":"info","event":"message accepted","queue_id":"0AB12CD34EF56",...}
//! ```
//!
//! In JSON every value is a string, numbers too, so that a field has one type for ever. Octets that are no UTF-8 become
//! `\xHH` in the text and U+FFFD in JSON.

mod characters;
mod escape;
mod queue;

pub use characters::{is_dangerous, is_joiner};
use escape::Escape;
use jiff::Timestamp;
use queue::Queue;
use std::cell::Cell;
use std::fmt::{Display, Write};
use std::io::Write as _;
use std::sync::OnceLock;
use std::time::Duration;

/// Octets of a value, before escaping, that reach the log; the rest becomes one `…`.
pub const VALUE_BYTES_MAX: usize = 512;

/// Octets of a line past which it takes no more fields.
const LINE_BYTES_MAX: usize = 16 << 10;

/// An error of the system in words, without the ` (os error 111)` that tells people nothing.
pub fn without_number(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" (os error ") {
        Some((words, number)) if number.ends_with(')') => words.to_owned(),
        _ => text,
    }
}

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A line of text for people.
    Human,
    /// One JSON object.
    Json,
}

/// How much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For the curious.
    Debug,
    /// What happens.
    Info,
    /// What an operator should look at.
    Warning,
    /// What an operator must look at.
    Error,
}

impl Level {
    /// As in the configuration and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warning => "warning",
            Level::Error => "error",
        }
    }
}

/// What [`init`] sets.
struct Settings {
    format: Format,
    least: Level,
    queue: Queue,
}

static SETTINGS: OnceLock<Settings> = OnceLock::new();

/// Sets the format and the least level that is written, and starts the log thread. Once; a second call changes nothing.
/// Errors: the thread could not be started.
pub fn init(format: Format, least: Level) -> std::io::Result<()> {
    let mut first = false;
    let settings = SETTINGS.get_or_init(|| {
        first = true;
        Settings { format, least, queue: Queue::new() }
    });
    if first {
        let writer = || settings.queue.drain(std::io::stderr());
        std::thread::Builder::new().name("log".to_owned()).spawn(writer)?;
    }
    Ok(())
}

/// Waits until everything that was emitted so far is written, for at most two seconds: a standard error that nobody
/// reads must not keep the process from ending.
pub fn flush() {
    if let Some(settings) = SETTINGS.get() {
        settings.queue.flush(Duration::from_secs(2));
    }
}

#[cfg(test)]
thread_local! {
    /// This thread's lines are not written: it does the same thing thousands of times.
    pub static QUIET: Cell<bool> = const { Cell::new(false) };
}

thread_local! {
    /// The memory of the thread's last line, for its next one.
    static SPARE: Cell<String> = const { Cell::new(String::new()) };
}

/// A line being put together.
#[must_use = "an event is written by emit"]
pub struct Event {
    format: Format,
    /// None: below the least level, nothing is put together.
    line: Option<String>,
}

/// Starts a line. `what` is a constant phrase that operators can search for.
pub fn event(level: Level, what: &'static str) -> Event {
    let (format, least) = match SETTINGS.get() {
        Some(settings) => (settings.format, settings.least),
        None => (Format::Human, Level::Debug),
    };
    #[cfg(test)]
    if QUIET.get() {
        return Event { format, line: None };
    }
    match level < least {
        true => Event { format, line: None },
        false => Event::start(SPARE.take(), format, Timestamp::now(), level, what),
    }
}

impl Event {
    /// A line in the memory of `line`.
    fn start(mut line: String, format: Format, time: Timestamp, level: Level, what: &'static str) -> Event {
        line.clear();
        // Writing to a String cannot fail.
        let _ = match format {
            Format::Human => write!(line, "{time:.3} {:<7} {what}", level.name()),
            Format::Json => {
                write!(line, "{{\"time\":\"{time:.3}\",\"level\":\"{}\",\"event\":\"{what}\"", level.name())
            }
        };
        Event { format, line: Some(line) }
    }

    /// Adds a field; the value is escaped, and cut at [`VALUE_BYTES_MAX`]. In text it stands in quotes if it has to.
    pub fn field(mut self, name: &'static str, value: impl Display) -> Event {
        let Some((line, mut escape)) = self.open(name) else { return self };
        let start = line.len();
        let _ = write!(escape.to(line), "{value}");
        match escape.format() {
            Format::Human if escape::is_plain(&line[start..]) => {}
            Format::Human => {
                line.insert(start, '"');
                line.push('"');
            }
            Format::Json => line.push('"'),
        }
        self
    }

    /// Adds octets that a peer sent; escaped, cut at [`VALUE_BYTES_MAX`], always in quotes.
    pub fn octets(mut self, name: &'static str, value: &[u8]) -> Event {
        let Some((line, mut escape)) = self.open(name) else { return self };
        if escape.format() == Format::Human {
            line.push('"');
        }
        escape.to(line).octets(value);
        line.push('"');
        self
    }

    /// Writes the line.
    pub fn emit(self) {
        let Some(line) = self.finish() else { return };
        match SETTINGS.get() {
            Some(settings) => settings.queue.push(line.as_bytes()),
            // In tests through the harness, which keeps it for the tests that fail.
            None if cfg!(test) => eprint!("{line}"),
            None => {
                let _ = std::io::stderr().write_all(line.as_bytes());
            }
        }
        SPARE.set(line);
    }

    /// The line with its end, or none if it is below the least level.
    fn finish(self) -> Option<String> {
        let mut line = self.line?;
        line.push_str(if self.format == Format::Json { "}\n" } else { "\n" });
        Some(line)
    }

    /// Writes what stands before a value. None: the line takes no more.
    fn open(&mut self, name: &'static str) -> Option<(&mut String, Escape)> {
        let line = self.line.as_mut().filter(|line| line.len() < LINE_BYTES_MAX)?;
        let _ = match self.format {
            Format::Human => write!(line, " {name}="),
            Format::Json => write!(line, ",\"{name}\":\""),
        };
        Some((line, Escape::new(self.format, VALUE_BYTES_MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(format: Format, add: impl FnOnce(Event) -> Event) -> String {
        let time: Timestamp = "2026-09-21T08:15:30.123456Z".parse().expect("a time");
        let event = Event::start(String::new(), format, time, Level::Info, "message accepted");
        add(event).finish().expect("a line")
    }

    #[test]
    fn a_line_for_people_and_the_same_as_json() {
        let add = |event: Event| {
            event
                .field("client", "192.0.2.1:4711")
                .octets("user", b"anna")
                .field("reason", "no \"such\" user")
                .field("size", 12)
        };
        assert_eq!(
            line(Format::Human, add),
            "2026-09-21T08:15:30.123Z info    message accepted client=192.0.2.1:4711 user=\"anna\" \
             reason=\"no \\\"such\\\" user\" size=12\n"
        );
        assert_eq!(
            line(Format::Json, add),
            "{\"time\":\"2026-09-21T08:15:30.123Z\",\"level\":\"info\",\"event\":\"message accepted\",\
             \"client\":\"192.0.2.1:4711\",\"user\":\"anna\",\"reason\":\"no \\\"such\\\" user\",\"size\":\"12\"}\n"
        );
    }

    #[test]
    fn what_a_terminal_would_obey_is_spelt_out() {
        let value = "\u{1b}[2J\r\n\u{9b}\u{202e}\u{2028}\0\u{7f}\\".as_bytes();
        let text = line(Format::Human, |event| event.octets("helo", value));
        assert!(text.ends_with("helo=\"\\u{1b}[2J\\r\\n\\u{9b}\\u{202e}\\u{2028}\\u{0}\\u{7f}\\\\\"\n"), "{text}");
        assert!(line(Format::Human, |event| event.octets("helo", b"a\xff")).ends_with("helo=\"a\\xff\"\n"));
        assert!(line(Format::Human, |event| event.field("helo", "")).ends_with("helo=\"\"\n"));
    }

    #[test]
    fn errors_are_in_words() {
        assert_eq!(without_number(&std::io::Error::from_raw_os_error(111)), "Connection refused");
        assert_eq!(without_number(&std::io::Error::other("no (os error")), "no (os error");
    }

    #[test]
    fn long_values_and_long_lines_are_cut() {
        for format in [Format::Human, Format::Json] {
            let long = line(format, |event| event.octets("a", &[b'x'; 5000]).field("b", "y".repeat(5000)));
            assert_eq!(long.matches('x').count(), VALUE_BYTES_MAX);
            assert_eq!(long.matches('y').count(), VALUE_BYTES_MAX);
            assert_eq!(long.matches('…').count(), 2);
            let endless = line(format, |event| (0..1000).fold(event, |event, _| event.octets("a", &[0; 5000])));
            assert!(endless.len() < LINE_BYTES_MAX + 10 * VALUE_BYTES_MAX, "{}", endless.len());
        }
    }

    proptest! {
        /// Any octets give one line of printable text, and JSON that reads back to them.
        #[test]
        fn any_octets_give_one_clean_line(octets in proptest::collection::vec(any::<u8>(), 0..700), text in any::<String>()) {
            for format in [Format::Human, Format::Json] {
                let line = line(format, |event| event.octets("octets", &octets).field("text", &text));
                let (last, body) = (line.chars().last(), line.trim_end_matches('\n'));
                prop_assert_eq!(last, Some('\n'));
                prop_assert!(!body.chars().any(is_dangerous), "{}", body);
            }
            let json = line(Format::Json, |event| event.octets("octets", &octets).field("text", &text));
            let value: serde_json::Value = serde_json::from_str(&json).expect("valid JSON");
            let cut = |text: &str| -> String {
                let mut end = text.len().min(VALUE_BYTES_MAX);
                while !text.is_char_boundary(end) { end -= 1; }
                if end < text.len() { format!("{}…", &text[..end]) } else { text.to_owned() }
            };
            let text = cut(&text);
            prop_assert_eq!(value["text"].as_str(), Some(&*text));
            if octets.len() <= VALUE_BYTES_MAX {
                prop_assert_eq!(value["octets"].as_str(), Some(&*String::from_utf8_lossy(&octets)));
            }
        }
    }
}

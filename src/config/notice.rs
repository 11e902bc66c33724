//! What there is to say about a configuration file: mistakes, which keep Penstock from starting, and warnings, which do
//! not. Each names its line, what is wrong and how to mend it:
//!
//! ```text
//! penstock.toml:12: unknown key "recipient_max" in [limits]; did you mean "recipients_max"?
//! penstock.toml:31: warning: nobody may send to anyone here; list your domains in local_domains
//! ```

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Does it keep Penstock from starting?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// It does.
    Mistake,
    /// It does not, but an operator will want to know.
    Warning,
}

/// One thing to say about one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Mistake or warning.
    pub severity: Severity,
    /// Counted from 1.
    pub line: usize,
    /// What is wrong.
    pub what: String,
    /// How to mend it.
    pub remedy: String,
}

/// All that there is to say about one file, in the order of its lines.
#[derive(Clone, Debug)]
pub struct Notices {
    file: PathBuf,
    /// Offset of the first octet of each line but the first.
    line_starts: Vec<usize>,
    list: Vec<Notice>,
}

impl Notices {
    /// None yet, for `text` read from `file`.
    pub fn new(file: &Path, text: &str) -> Notices {
        let line_starts = memchr::memchr_iter(b'\n', text.as_bytes()).map(|at| at + 1).collect();
        Notices { file: file.to_owned(), line_starts, list: Vec::new() }
    }

    /// The line, counted from 1, of an offset in the text.
    pub fn line(&self, offset: usize) -> usize {
        1 + self.line_starts.partition_point(|start| *start <= offset)
    }

    /// A mistake at an offset of the text.
    pub fn mistake(&mut self, at: &Range<usize>, what: impl Into<String>, remedy: impl Into<String>) {
        let line = self.line(at.start);
        self.add(Severity::Mistake, line, what.into(), remedy.into());
    }

    /// A warning at an offset of the text.
    pub fn warning(&mut self, at: &Range<usize>, what: impl Into<String>, remedy: impl Into<String>) {
        let line = self.line(at.start);
        self.add(Severity::Warning, line, what.into(), remedy.into());
    }

    /// Adds one behind those of the same and earlier lines.
    fn add(&mut self, severity: Severity, line: usize, what: String, remedy: String) {
        let at = self.list.partition_point(|other| other.line <= line);
        self.list.insert(at, Notice { severity, line, what, remedy });
    }

    /// Is any of them a mistake?
    pub fn has_mistakes(&self) -> bool {
        self.list.iter().any(|notice| notice.severity == Severity::Mistake)
    }

    /// In the order of lines.
    pub fn iter(&self) -> impl Iterator<Item = &Notice> {
        self.list.iter()
    }
}

impl fmt::Display for Notices {
    /// One a line, each ended by a newline. Control characters that came from the file are escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for notice in &self.list {
            let kind = if notice.severity == Severity::Warning { "warning: " } else { "" };
            let text = format!("{}:{}: {kind}{}; {}", self.file.display(), notice.line, notice.what, notice.remedy);
            for character in text.chars() {
                match character.is_control() {
                    true => write!(f, "{}", character.escape_default())?,
                    false => write!(f, "{character}")?,
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// The name among `known` that `given` was probably meant to be.
pub fn nearest<'a>(given: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |name: &str| name.to_lowercase().replace('-', "_");
    let given = plain(given);
    let known: Vec<&str> = known.collect();
    let distances = known.iter().map(|name| (strsim::damerau_levenshtein(&given, &plain(name)), *name));
    let slip = distances.min().filter(|(distance, name)| *distance <= 1 + name.len() / 4);
    slip.map(|(_, name)| name).or_else(|| {
        let mut longer = known.iter().filter(|name| given.len() >= SHORT_FORM_MIN && plain(name).starts_with(&given));
        longer.next().filter(|_| longer.next().is_none()).copied()
    })
}

/// Letters of a name that are taken for its short form, as in "err" for "error", if no other name begins with them.
const SHORT_FORM_MIN: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_from_one_and_kept_in_order() {
        let mut notices = Notices::new(Path::new("f.toml"), "a\nbb\n\nc");
        for (offset, line) in [(0, 1), (1, 1), (2, 2), (4, 2), (5, 3), (6, 4), (99, 4)] {
            assert_eq!(notices.line(offset), line, "offset {offset}");
        }
        notices.warning(&(6..7), "late", "hurry");
        notices.mistake(&(2..4), "early\u{1b}[2J", "wait");
        assert!(notices.has_mistakes());
        assert_eq!(notices.to_string(), "f.toml:2: early\\u{1b}[2J; wait\nf.toml:4: warning: late; hurry\n");
    }

    #[test]
    fn a_slip_is_recognised_and_a_stranger_is_not() {
        let known = ["recipients_max", "drain_s", "idle_timeout_s"];
        for (given, meant) in [
            ("recipient_max", Some("recipients_max")),
            ("recipients-max", Some("recipients_max")),
            ("Drain_s", Some("drain_s")),
            ("idle_timeout", Some("idle_timeout_s")),
            ("DRAIN-S", Some("drain_s")),
            ("recip", Some("recipients_max")),
            ("re", None),
            ("colour", None),
        ] {
            assert_eq!(nearest(given, known.into_iter()), meant, "{given}");
        }
        let levels = ["debug", "info", "warning", "error"];
        for (given, meant) in [("warn", Some("warning")), ("ERR", Some("error")), ("deb", Some("debug")), ("x", None)] {
            assert_eq!(nearest(given, levels.into_iter()), meant, "{given}");
        }
        assert_eq!(nearest("connections", ["connections_per_core", "connections_per_address"].into_iter()), None);
    }
}

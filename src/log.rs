//! stub: works, but writes directly.
use std::fmt::{Display, Write};

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
/// A line being put together.
#[must_use = "an event is written by emit"]
pub struct Event {
    line: String,
}
/// Starts a line. `what` is a constant phrase that operators can search for.
pub fn event(level: Level, what: &'static str) -> Event {
    Event { line: format!("{level:?} {what}") }
}
impl Event {
    /// Adds a field; the value is escaped.
    pub fn field(mut self, name: &'static str, value: impl Display) -> Event {
        let _ = write!(self.line, " {name}={value}");
        self
    }
    /// Adds octets that a peer sent; escaped and cut to 512.
    pub fn octets(mut self, name: &'static str, value: &[u8]) -> Event {
        let _ = write!(self.line, " {name}={}", value.escape_ascii());
        self
    }
    /// Writes the line.
    pub fn emit(self) {
        eprintln!("{}", self.line);
    }
}

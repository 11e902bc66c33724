//! Why a connection ended: one line in the log, and a counter, for each reason.
//!
//! | [`End`] | what the client was told | line | counter |
//! |---|---|---|---|
//! | `Over` | as the session says | debug | - |
//! | `Failed` | nothing: it has gone, or broke TLS | debug if it has gone, else info | - |
//! | `Handshake` | an alert | said where it failed | `tls_failed` |
//! | `TimedOut` | 421 4.4.2, if it reads | info, with the reason | `timed_out_..` |
//! | `Displaced` | 421 4.3.2 | info | `connections_displaced` |
//! | `NoHeader` | nothing | said where it failed | - |
//! | `Refused` | 421 4.7.0 | one a minute for each network | `networks_refused` |
//! | `EarlyTalker` | 554 5.5.0 | warning | `early_talkers` |
//! | `CutOff` | nothing: the time to drain is over | debug | - |

use super::connection::Connection;
use super::patience::Reason;
use super::tally::Due;
use crate::clock::now_ms;
use crate::log::{Event, Level, event};
use crate::metrics::{Counter, Counters};
use crate::policy::TlsMode;
use crate::smtp::Session;
use std::io::{self, ErrorKind};

/// Why a connection ended.
#[derive(Debug)]
pub enum End {
    /// The session closed it.
    Over,
    /// The client closed it, or the network or TLS failed.
    Failed(io::Error),
    /// The proxy did not say who its client is.
    NoHeader,
    /// The proxy's client has too many connections.
    Refused,
    /// The TLS handshake failed.
    Handshake,
    /// A limit has passed.
    TimedOut(Reason),
    /// Its place was given to somebody else.
    Displaced,
    /// The client spoke before our greeting.
    EarlyTalker,
    /// The server stops, and the time to finish is over.
    CutOff,
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> End {
        End::Failed(error)
    }
}

/// What a connection that begins in the clear showed of its client's will to use TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tls {
    /// Nothing yet, or it was not needed.
    #[default]
    Unknown,
    /// It was told to use TLS first: 530 or 538.
    Told,
    /// It has begun a handshake.
    Begun,
}

impl Connection {
    /// Logs and counts.
    pub(super) fn log_end(&self, end: &End) {
        let counters = &self.core.counters;
        let line = match end {
            End::Over | End::CutOff | End::Handshake | End::NoHeader | End::Refused => {
                self.event(Level::Debug, "connection closed")
            }
            End::Failed(error) if has_gone(error) => self.event(Level::Debug, "connection closed"),
            End::Failed(error) => self.event(Level::Info, "connection ended").field("reason", error),
            End::TimedOut(reason) => {
                counter(counters, *reason).add(1);
                let line = self.event(Level::Info, "timed out").field("reason", reason.name());
                self.with_meaning(line)
            }
            End::Displaced => {
                counters.connections_displaced.add(1);
                self.event(Level::Info, "displaced").field("reason", "too many connections")
            }
            End::EarlyTalker => {
                counters.early_talkers.add(1);
                self.with_meaning(self.event(Level::Warning, "client spoke before the greeting"))
            }
        };
        line.field("messages", self.accepted).emit();
    }

    fn with_meaning(&self, line: Event) -> Event {
        match self.meaning {
            Some(meaning) => line.field("meaning", meaning),
            None => line,
        }
    }

    /// Notes a client that ended in the clear although it needed TLS: its own setting, or somebody between us who takes
    /// STARTTLS out of our answer (RFC 3207 section 6).
    pub(super) fn note_unsecured(&self, session: &Session) {
        let mode = self.service().rules.tls;
        let left = mode == TlsMode::Required && session.has_greeted();
        if session.is_secured() || self.tls == Tls::Begun || !(left || self.tls == Tls::Told) {
            return;
        }
        self.core.counters.never_secured.add(1);
        if let Some(due) = self.core.admission.note_unsecured(self.index as usize, self.peer.ip(), now_ms()) {
            log_unsecured(&self.service().name, due);
        }
    }
}

/// One line about all such clients of a network at a listener.
pub fn log_unsecured(listener: &str, due: Due) {
    let line = event(Level::Warning, "client never used STARTTLS").field("listener", listener);
    let line = match due.network {
        Some(network) => line.field("network", network),
        None => line.field("network", "others"),
    };
    line.field("seen", due.seen).emit();
}

/// As far as the client is concerned: not worth a line.
fn has_gone(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

fn counter(counters: &Counters, reason: Reason) -> &Counter {
    match reason {
        Reason::Idle => &counters.timed_out_idle,
        Reason::Line => &counters.timed_out_line,
        Reason::Exchange => &counters.timed_out_exchange,
        Reason::Login => &counters.timed_out_login,
        Reason::Transaction => &counters.timed_out_transaction,
        Reason::Slow => &counters.timed_out_slow,
        Reason::Reply => &counters.timed_out_reply,
        Reason::Handshake => &counters.timed_out_handshake,
    }
}

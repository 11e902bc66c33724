//! Why there is no connection, or no longer one: what it means, and the words for it.

use super::Unopened;
use crate::smtp::client::{Phase, Reply, Trouble};

/// Why a connection did not get ready.
pub enum OpenError {
    /// In the TLS handshake: a network may cause it.
    Handshake(String),
    /// In the TLS handshake: the certificate.
    Certificate(String),
    /// TLS is not to be had.
    NoTls(String),
    /// It is ourselves.
    Loop,
    /// 4xx before the first transaction.
    Busy(String),
    Other(String),
}

impl OpenError {
    /// Will it be the same the next time?
    pub fn is_lasting(&self) -> bool {
        match self {
            OpenError::Certificate(_) | OpenError::NoTls(_) | OpenError::Loop => true,
            OpenError::Handshake(_) | OpenError::Busy(_) | OpenError::Other(_) => false,
        }
    }
}

/// What an error means for a message, and the words for it.
pub fn unopened((error, remote): (OpenError, String)) -> Unopened {
    match error {
        OpenError::Handshake(why) | OpenError::Certificate(why) => {
            Unopened::Unreachable(format!("{remote}: TLS handshake: {why}"))
        }
        OpenError::Busy(why) => Unopened::Busy(format!("{remote}: {why}")),
        OpenError::NoTls(why) | OpenError::Other(why) => Unopened::Unreachable(format!("{remote}: {why}")),
        OpenError::Loop => {
            let text = format!("5.4.6 mail loops back to myself: {remote} has our own name");
            Unopened::Refused(Reply::ours(554, text))
        }
    }
}

/// Why a connection is lost, and when.
pub fn lost(phase: Phase, why: &str) -> String {
    let when = match phase {
        Phase::Greeting => "before its greeting",
        Phase::Hello => "in EHLO",
        Phase::StartTls => "in STARTTLS",
        Phase::Auth => "in AUTH",
        Phase::Ready => "between messages",
        Phase::Envelope => "in MAIL, RCPT or DATA",
        Phase::Content => "in the content or before the reply to it",
        Phase::Quit => "in QUIT",
    };
    format!("{why} ({when})")
}

/// What a server did.
pub fn shown(trouble: &Trouble) -> String {
    match trouble {
        Trouble::Temporary(reply) | Trouble::Permanent(reply) => format!("it said {} {}", reply.code, reply.text),
        Trouble::LoginRefused(reply) => {
            format!(
                "it refuses our login: {} {}; look at username and password_file of the route",
                reply.code, reply.text
            )
        }
        Trouble::NoMechanism => {
            "it offers no AUTH mechanism that we know; remove username from the route, perhaps".into()
        }
        Trouble::TlsNotOffered => "TLS is required and not offered".into(),
        Trouble::Loop => "it has our own name: mail would go in a circle".into(),
        Trouble::Garbled(seen) => format!("it does not speak SMTP: {seen}"),
    }
}

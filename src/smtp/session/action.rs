//! What a session and its driver say to each other: actions and questions one way, answers the other.

use crate::sasl::{Credentials, Keys, Proof};
use crate::smtp::xclient::Xclient;
use std::sync::Arc;

/// What the driver must do before it calls `step` again. Every wait flushes `out` first.
#[derive(Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// All input was consumed: flush, read more.
    NeedInput,
    /// Many replies are written and input is left: flush, go on. Short commands with long answers must not fill memory.
    Flush,
    /// A user's recipient would be taken: does it fit the account's rate? -> [`Answer::Granted`] or [`Answer::Refused`].
    /// Only where [`Rules::limits_users`](super::Rules::limits_users).
    Recipient,
    /// A message starts: reserve room and a queue id -> [`Answer::Begun`] or [`Answer::Refused`].
    Begin,
    /// Append to the message being received; dots are unstuffed already. No answer is awaited.
    Body(&'a [u8]),
    /// Make envelope and content durable -> [`Answer::Committed`] or [`Answer::Refused`].
    Commit,
    /// Forget the message being received. No answer is awaited.
    Abort,
    /// Find out -> the answers that the question names.
    Ask(Question),
    /// Flush, drop unread input, shake hands -> [`Answer::TlsStarted`]. A failed handshake ends the connection.
    StartTls,
    /// Flush and close.
    Close,
}

/// What only the driver can find out.
#[derive(Debug, PartialEq, Eq)]
pub enum Question {
    /// Check the password -> [`Answer::Accepted`], [`Answer::Rejected`], [`Answer::Braked`] or [`Answer::Unavailable`].
    Password(Credentials),
    /// XCLIENT named the client: whom to take it for -> [`Answer::Client`], or [`Answer::Rejected`] if LOGIN cannot be a user.
    Client(Box<Xclient>),
    /// Find the SCRAM keys of this user, or make some up -> [`Answer::ScramKeys`], [`Answer::Braked`] or
    /// [`Answer::Unavailable`].
    ScramKeys(String),
    /// A client proved, right or wrong, that it knows the password -> as for a password; a wrong one is never accepted.
    Proof(Proof),
}

/// What the driver answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To Recipient: it is counted.
    Granted,
    /// To Begin: there is room, and this is the queue id as it is printed.
    Begun(QueueName),
    /// To Recipient, Begin and Commit.
    Refused(Refusal),
    /// To Commit: the message is durable.
    Committed,
    /// To Ask: right; the user in canonical form.
    Accepted(Arc<str>),
    /// To Ask: unknown user or wrong password.
    Rejected,
    /// To Ask: too many of those; nothing was checked, or nothing is told.
    Braked,
    /// To Ask: keys of the user or made-up ones, and random text of printable ASCII without a comma.
    ScramKeys {
        /// The keys.
        keys: Keys,
        /// Our part of the nonce.
        nonce: String,
    },
    /// To Ask: cannot be checked now.
    Unavailable,
    /// To Ask: the client that XCLIENT named. `trusted`: its network may relay; `user`: LOGIN in canonical form.
    Client {
        /// The address that was given is of a trusted network.
        trusted: bool,
        /// Who is logged in already.
        user: Option<Arc<str>>,
    },
    /// To StartTls.
    TlsStarted,
}

/// A queue id as it is printed: 13 letters and digits, kept without an allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueName(pub [u8; 13]);

impl QueueName {
    /// The letters and digits.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("?")
    }
}

/// Why a message or a recipient is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 450 4.7.1: too many recipients of this user.
    OverRate,
    /// 452 4.3.1: no room now.
    NoRoom,
    /// 451 4.3.0: the disk failed.
    DiskTrouble,
    /// 554 5.4.6: more than 100 Received fields.
    TooManyHops,
    /// 552 5.3.4: the header is too large.
    HeaderTooBig,
    /// 554 5.6.0: the header has too many fields.
    TooManyFields,
}

//! stub
use crate::sasl::Credentials;
use crate::smtp::Envelope;
use std::sync::Arc;

/// What one listener lets its clients do; constant after start, replaced as a whole on reload.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Our name in the greeting.
    pub hostname: String,
    /// Role of the listener.
    pub role: crate::policy::Role,
    /// How TLS starts.
    pub tls: crate::policy::TlsMode,
    /// SIZE: octets.
    pub message_bytes_max: u64,
    /// Recipients per message.
    pub recipients_max: u32,
    /// Domains anybody may send to (role smtp).
    pub local_domains: Arc<crate::policy::Domains>,
}

/// Server side of one connection.
pub struct Session {}

/// What the driver must do before it calls `step` again. Every wait flushes `out` first.
#[derive(Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// All input consumed: read more.
    NeedInput,
    /// A message starts: reserve room and a queue id -> answered(Begun)
    Begin,
    /// Append to the message being received; dots are already unstuffed. No answer is awaited.
    Body(&'a [u8]),
    /// Make envelope and content durable -> answered(Committed | Refused)
    Commit,
    /// Forget the message being received. No answer is awaited.
    Abort,
    /// Check the password -> answered(Verdict)
    Ask(Credentials),
    /// Flush, drop unread input, shake hands -> answered(TlsStarted)
    StartTls,
    /// Flush and close.
    Close,
}

/// What the driver answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To Begin: room is there, this is the queue id.
    Begun(crate::spool::QueueId),
    /// To Begin or Commit: a temporary error.
    Refused(Refusal),
    /// To Commit: durable.
    Committed,
    /// To Ask: the password was right. The canonical user is in `Session::user`.
    Accepted,
    /// To Ask: unknown user or wrong password.
    Rejected,
    /// To Ask: cannot be checked now.
    Unavailable,
    /// To StartTls.
    TlsStarted,
}

/// Why a message is refused for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 452 4.3.1
    NoRoom,
    /// 451 4.3.0
    DiskTrouble,
    /// 554 5.4.6
    TooManyHops,
    /// 421 4.3.2
    ShuttingDown,
}

impl Session {
    /// A new session. `secured`: TLS is already up (implicit). `trusted`: the client's network may relay.
    pub fn new(_rules: Arc<Rules>, _trusted: bool, _secured: bool, _out: &mut Vec<u8>) -> Session {
        todo!()
    }
    /// Consumes a prefix of `input`, writes replies to `out`.
    pub fn step<'a>(&mut self, _input: &'a [u8], _out: &mut Vec<u8>) -> (usize, Action<'a>) {
        todo!()
    }
    /// The driver's answer to the outstanding action.
    pub fn answered(&mut self, _answer: Answer, _out: &mut Vec<u8>) {
        todo!()
    }
    /// The envelope of the current transaction.
    pub fn envelope(&mut self) -> &mut Envelope {
        todo!()
    }
}

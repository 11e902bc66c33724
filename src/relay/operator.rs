//! What an operator asks the relay, and what it answers: a line to its thread, from any other.
//!
//! ```text
//!  control thread --Question--> bounded channel --> relay thread, between its turns --Answer--> control thread
//! ```
//!
//! Promises: the relay never waits for who asks; a question costs it one turn, of as many messages as it names; an order is
//! answered when it is durable. What a message's envelope says is read by who asks ([`crate::spool::Reader`]), not here.

use crate::relay::queue::Standing;
use crate::smtp::envelope::Order;
use crate::spool::{CommitError, Location, Reference};
use futures_channel::mpsc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

/// Where recipients go whose domain no route takes.
pub const NO_ROUTE: &str = "no route";
/// Messages in one question, at most.
pub const IDS_MAX: usize = 256;
/// At its start the relay reads the whole spool before it answers.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// What is asked. Lists of ids are of [`IDS_MAX`] at most, each once.
#[derive(Debug)]
pub enum Question {
    /// How much there is.
    Count,
    /// The ids of all messages.
    Ids,
    /// How these stand; those that are not there any more are left out.
    Describe(Vec<u64>),
    /// Tries these now.
    Flush(Vec<u64>),
    /// Orders something of each.
    Order(Order, Vec<u64>),
    /// Deletes them and tells nobody.
    Delete(Vec<u64>),
    /// Deletes one and tells its sender that it was not delivered.
    Return(u64),
}

/// What is answered.
#[derive(Debug)]
pub enum Answer {
    /// To [`Question::Count`].
    Count(Counts),
    /// To [`Question::Ids`]: each behind the moment from which its time counts, in no order.
    Ids(Vec<(u64, u64)>),
    /// To [`Question::Describe`].
    Described(Vec<Described>),
    /// To the others: what became of each message.
    Done(Vec<(u64, Done)>),
}

/// How much there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages in the queue.
    pub messages: usize,
    /// Of them on hold by an operator's order.
    pub held: usize,
    /// Records that this version cannot read, kept as they are.
    pub unreadable: usize,
    /// Each destination, and how many transactions wait for it.
    pub destinations: Vec<(String, usize)>,
    /// Nothing is delivered or returned: the configuration says so.
    pub paused: bool,
}

/// A message as it stands.
#[derive(Debug)]
pub struct Described {
    /// Its state.
    pub standing: Standing<Location>,
    /// The name of the destination of each part.
    pub destinations: Vec<String>,
    /// Where to read what its envelope says.
    pub reference: Reference,
}

/// What became of a message that something was ordered of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// It is done, for so many recipients.
    Done {
        /// For whom.
        recipients: usize,
        /// For whom it is too late: a delivery to them is under way.
        under_way: usize,
        /// Of a deletion: of how many of its recipients the sender is told.
        told: usize,
    },
    /// It is not in the queue.
    Unknown,
    /// Not now; in a moment.
    Busy,
    /// The disk refused: nothing was done.
    Refused(CommitError),
    /// The message cannot be read, so nobody can be told of it.
    Unreadable,
}

/// A question on its way.
pub struct Asked {
    /// What.
    pub question: Question,
    /// Where to; whoever asked may have gone.
    pub answer: SyncSender<Answer>,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// The relay is stopping, or has stopped.
    Stopped,
    /// It does not answer in time.
    Slow,
}

/// A line to the relay. Each clone may have one question under way.
#[derive(Clone)]
pub struct Line {
    questions: mpsc::Sender<Asked>,
}

/// A line, and the relay's end of it.
pub fn line() -> (Line, mpsc::Receiver<Asked>) {
    // Each clone of the sender has one place beside these.
    let (questions, asked) = mpsc::channel(0);
    (Line { questions }, asked)
}

impl Line {
    /// Asks and waits. Not for a core's thread.
    pub fn ask(&mut self, question: Question) -> Result<Answer, Silence> {
        let (answer, answered) = sync_channel(1);
        self.questions.try_send(Asked { question, answer }).map_err(|error| match error.is_full() {
            true => Silence::Slow,
            false => Silence::Stopped,
        })?;
        answered.recv_timeout(ANSWER_LIMIT).map_err(|error| match error {
            RecvTimeoutError::Timeout => Silence::Slow,
            RecvTimeoutError::Disconnected => Silence::Stopped,
        })
    }
}

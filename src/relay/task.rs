//! One task per open connection, or per Maildir delivery: it does what the worker hands it and reports back.
//!
//! ```text
//!  worker --Work--> task --Tried / Unreachable--> worker --Work--> task ..   until the worker hands it nothing more,
//!                        --Closed-->                                         or the connection is of no more use
//! ```

use crate::config::Target;
use crate::relay::connection::{Connection, Context};
use crate::relay::maildir::{self, Maildirs};
use crate::relay::queue::{Blame, Delivery};
use crate::smtp::client::{Fate, Transaction};
use crate::spool::{Location, Stored};
use futures_channel::mpsc::{UnboundedReceiver, UnboundedSender};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Messages on one connection.
const MESSAGES_MAX: u32 = 100;
/// A connection this old gets no more messages, so that a server behind several addresses is not stuck to one.
const AGE_MAX: Duration = Duration::from_secs(60);

/// One delivery with everything that it needs.
pub struct Work {
    /// Which.
    pub delivery: Delivery<Location>,
    /// Envelope and content.
    pub stored: Stored,
    /// The envelope as the client wants it.
    pub transaction: Transaction,
}

/// What a task reports; `task` is its number.
pub enum Report {
    /// A transaction ended.
    Tried {
        /// Which task.
        task: u64,
        /// Which delivery.
        delivery: Delivery<Location>,
        /// The message's envelope, stored form.
        envelope: Vec<u8>,
        /// One per recipient.
        fates: Vec<Fate>,
        /// Who broke it off.
        blame: Blame,
        /// The task takes another.
        usable: bool,
        /// Who said so.
        remote: String,
    },
    /// No connection: nothing was tried.
    Unreachable {
        /// Which delivery.
        delivery: Delivery<Location>,
        /// Why.
        why: String,
    },
    /// The task has ended and its connection is closed.
    Closed {
        /// Which task.
        task: u64,
        /// Its destination.
        destination: usize,
    },
}

/// What tasks share.
pub struct Tools {
    /// For connections.
    pub context: Context,
    /// For Maildirs.
    pub maildirs: Maildirs,
    /// The destinations.
    pub targets: Vec<Target>,
    /// To the worker.
    pub reports: UnboundedSender<Report>,
}

impl Tools {
    fn report(&self, report: Report) {
        // The worker may have gone; then the spool still says what is to be done.
        let _ = self.reports.unbounded_send(report);
    }
}

/// Runs to the end of the connection, beginning with `first`.
pub async fn run(task: u64, first: Work, work: UnboundedReceiver<Work>, tools: Rc<Tools>) {
    let destination = first.delivery.destination;
    match &tools.targets[destination] {
        Target::Maildir { directory } => {
            let remote = directory.display().to_string();
            into_maildir(task, first, work, directory, remote, &tools).await;
        }
        target => over_connection(task, first, work, target, &tools).await,
    }
    tools.report(Report::Closed { task, destination });
}

async fn over_connection(task: u64, first: Work, mut next: UnboundedReceiver<Work>, target: &Target, tools: &Tools) {
    let mut connection = match Connection::open(target, &tools.context).await {
        Ok(connection) => connection,
        Err(why) => return tools.report(Report::Unreachable { delivery: first.delivery, why }),
    };
    let opened = Instant::now();
    let mut messages = 0;
    let mut work = Some(first);
    while let Some(Work { delivery, mut stored, transaction }) = work {
        let attempt = connection.deliver(transaction, &mut stored).await;
        messages += 1;
        let usable = attempt.usable && messages < MESSAGES_MAX && opened.elapsed() < AGE_MAX;
        let (fates, blame, remote) = (attempt.fates, attempt.blame, connection.remote().to_string());
        tools.report(Report::Tried { task, delivery, envelope: stored.envelope, fates, blame, usable, remote });
        work = if usable { next.recv().await.ok() } else { None };
    }
    connection.close().await;
}

async fn into_maildir(
    task: u64,
    first: Work,
    mut next: UnboundedReceiver<Work>,
    directory: &std::path::Path,
    remote: String,
    tools: &Tools,
) {
    let mut work = Some(first);
    while let Some(Work { delivery, stored, .. }) = work {
        let (recipients, envelope) = (delivery.recipients.clone(), stored.envelope.clone());
        let job = maildir::Job { directory: directory.into(), recipients, stored };
        let fates = tools.maildirs.deliver(job).await;
        let (blame, usable, remote) = (Blame::Nobody, true, remote.clone());
        tools.report(Report::Tried { task, delivery, envelope, fates, blame, usable, remote });
        work = next.recv().await.ok();
    }
}

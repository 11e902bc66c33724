//! A message as the queue knows it: its jobs, and when it is looked at.

use super::{Deferral, Destination, Reason, Reply, Site};

/// A message with recipients that are not settled. Times are milliseconds since the Unix epoch.
#[derive(Debug)]
pub struct Message<L> {
    /// Where its record is.
    pub at: L,
    /// When it is given up.
    pub expire_ms: u64,
    /// Its place in `Queue::looks`.
    pub look_ms: u64,
    /// The sender knows that it is late, or must not be told any more.
    pub warned: bool,
    /// It was read at start: what servers said of it before is not known.
    pub recovered: bool,
    /// Its record was moved here from another segment.
    pub survivor: bool,
    /// A survivor of it is being written: nothing is begun.
    pub moving: bool,
    /// By their number.
    pub jobs: Vec<Job>,
    /// Recipients whose fate is known and not yet read back.
    pub committing: Vec<u32>,
}

/// Recipients of one message at one destination: one transaction.
#[derive(Debug)]
pub struct Job {
    /// Indices in the envelope.
    pub recipients: Vec<u32>,
    /// Not before.
    pub due_ms: u64,
    /// A [`Destination`], kept small.
    pub destination: u32,
    /// Transactions that were tried.
    pub attempts: u16,
    /// Under way.
    pub flying: bool,
    /// Why it was not delivered the last time.
    pub reason: Option<Box<Reason>>,
}

impl<L> Message<L> {
    /// Takes out the recipients that are not in a delivery under way.
    pub fn give_up(&mut self, id: u64, sites: &mut [Site]) -> Vec<(u32, Reason)> {
        let mut recipients = Vec::new();
        let untried = match self.recovered {
            true => "4.4.7 its time was over; the last answer is not known any more",
            false => "4.4.7 it was not tried in time",
        };
        for (part, job) in (0u16..).zip(&mut self.jobs).filter(|(_, job)| !job.flying) {
            let site = &mut sites[job.destination as usize];
            site.waiting.remove(&(job.due_ms, id, part));
            let known = job.reason.as_deref().cloned().or_else(|| site.reason());
            let reason = known.unwrap_or_else(|| Reason { reply: Reply::ours(451, untried.into()), server: None });
            recipients.extend(job.recipients.drain(..).map(|recipient| (recipient, reason.clone())));
        }
        self.committing.extend(recipients.iter().map(|(recipient, _)| *recipient));
        recipients
    }

    /// The recipients for whom a try has failed, or whose destination cannot be reached; none if the sender knows.
    pub fn late(&self, sites: &[Site]) -> Vec<(u32, Reason)> {
        let mut recipients = Vec::new();
        for job in self.jobs.iter().filter(|_| !self.warned) {
            let site = &sites[job.destination as usize];
            if let Some(reason) = job.reason.as_deref().cloned().or_else(|| site.reason()) {
                recipients.extend(job.recipients.iter().map(|&recipient| (recipient, reason.clone())));
            }
        }
        recipients
    }

    /// Nothing is left to do, nor to be read back.
    pub fn is_settled(&self) -> bool {
        self.committing.is_empty() && self.jobs.iter().all(|job| job.recipients.is_empty())
    }
}

impl Job {
    /// Of one recipient; more may join it.
    pub fn new(recipient: u32, destination: Destination, due_ms: u64) -> Job {
        let destination = u32::try_from(destination).expect("routes are few");
        Job { recipients: vec![recipient], due_ms, destination, attempts: 0, flying: false, reason: None }
    }

    /// How often it has been tried, if it has.
    pub fn deferral(&self) -> Option<Deferral> {
        let recipient = *self.recipients.first().filter(|_| self.attempts > 0)?;
        Some(Deferral { recipient, attempts: self.attempts, next_ms: self.due_ms })
    }
}

/// Goes on where the job with the named recipient was.
pub fn resume(jobs: &mut [Job], deferral: &Deferral) {
    let named = jobs.iter_mut().find(|job| job.recipients.contains(&deferral.recipient));
    if let Some(job) = named.filter(|job| job.attempts < deferral.attempts) {
        job.attempts = deferral.attempts;
        job.due_ms = deferral.next_ms;
    }
}

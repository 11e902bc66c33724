//! What is known of the recipients of the transaction that runs, and what a reply means for them.

use super::{Fate, Reply, Transaction};

/// What is known of one recipient while its transaction runs.
#[derive(Clone, Debug)]
pub(super) enum Standing {
    /// Not yet answered.
    Asked,
    /// 2xx to RCPT.
    Accepted,
    Decided(Fate),
}

/// The transaction that runs.
#[derive(Debug)]
pub(super) struct Current {
    pub(super) transaction: Transaction,
    pub(super) standings: Vec<Standing>,
}

impl Current {
    /// Decides all that are in doubt.
    pub(super) fn decide(&mut self, fate: &Fate) {
        for standing in &mut self.standings {
            if !matches!(standing, Standing::Decided(_)) {
                *standing = Standing::Decided(fate.clone());
            }
        }
    }

    /// The server speaks out of turn, so a refusal may have been meant for another: whom it has refused gets `fate`.
    pub(super) fn doubt(&mut self, fate: &Fate) {
        for standing in &mut self.standings {
            if matches!(standing, Standing::Decided(Fate::Failed(reply)) if !reply.ours) {
                *standing = Standing::Decided(fate.clone());
            }
        }
    }

    pub(super) fn accepted(&self) -> impl Iterator<Item = usize> {
        self.standings.iter().enumerate().filter(|(_, s)| matches!(s, Standing::Accepted)).map(|(index, _)| index)
    }
}

/// Replies to MAIL, RCPT and DATA that are about us and not about the message: log in first, and in another way (RFC 4954
/// section 6), or use TLS (RFC 3207 section 4). Whoever runs this relay mends it; a message that waits has lost nothing.
const ABOUT_US: [u16; 4] = [530, 534, 535, 538];

/// What a reply means for the recipients it is about.
pub(super) fn fate(reply: Reply) -> Fate {
    match reply.code / 100 {
        2 => Fate::Delivered(reply),
        5 if !ABOUT_US.contains(&reply.code) => Fate::Failed(reply),
        _ => Fate::Deferred(reply),
    }
}

/// The reply to RCPT: 552 means "too many recipients" to old servers (RFC 5321 section 4.5.3.1.10).
pub(super) fn recipient_fate(reply: Reply) -> Fate {
    if reply.code == 552 { Fate::Deferred(reply) } else { fate(reply) }
}

/// Our own reason to try again.
pub(super) fn deferred_here(why: &str) -> Fate {
    Fate::Deferred(Reply::ours(451, format!("4.4.2 {why}")))
}

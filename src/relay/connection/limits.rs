//! How long a server may take: for the TLS handshake, for each reply, for each block of content.
//!
//! | what | `[relay]` | RFC 5321 section 4.5.3.2 asks for |
//! |---|---|---|
//! | the TLS handshake | `handshake_timeout_s` | |
//! | each reply: greeting, EHLO, MAIL, RCPT, DATA | `reply_timeout_s` | 5 minutes, DATA 2 |
//! | one write of content | `block_timeout_s` | 3 minutes |
//! | the reply to the content, each of LMTP's | `content_timeout_s` | 10 minutes |
//! | the greeting while another host of the pool is up | [`GREETING`] | |
//! | the reply to QUIT | [`QUIT`] | |

use crate::config::RelayTimeouts;
use crate::smtp::client::Phase;
use std::time::Duration;

/// For a greeting while another host of the pool is up. RFC 5321 section 4.5.3.2.1 gives a server five minutes, so that a
/// busy one is not given up for nothing; here nothing is given up, and five minutes would be the message's.
const GREETING: Duration = Duration::from_secs(20);
/// QUIT is a courtesy.
const QUIT: Duration = Duration::from_secs(5);

/// How long a server may take for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For the whole TLS handshake.
    pub handshake: Duration,
    /// For a greeting while another host of the pool is up.
    pub hurried_greeting: Duration,
    /// For one write of content.
    pub block: Duration,
    /// For each reply but that to the content.
    pub answer: Duration,
    /// For each reply to the content.
    pub content: Duration,
}

impl Limits {
    /// As they are configured.
    pub fn new(timeouts: RelayTimeouts) -> Limits {
        let answer = Duration::from_secs(timeouts.reply_s);
        Limits {
            handshake: Duration::from_secs(timeouts.handshake_s),
            hurried_greeting: GREETING.min(answer),
            block: Duration::from_secs(timeouts.block_s),
            answer,
            content: Duration::from_secs(timeouts.content_s),
        }
    }

    /// How long one reply may take, from its command or the reply before it to its last octet.
    pub fn reply(&self, phase: Phase) -> Duration {
        match phase {
            Phase::Greeting | Phase::Hello | Phase::StartTls | Phase::Auth => self.answer,
            Phase::Ready | Phase::Envelope => self.answer,
            Phase::Content => self.content,
            Phase::Quit => QUIT.min(self.answer),
        }
    }
}

/// Until when the next reply must be whole.
#[derive(Default)]
pub struct ReplyDue(Option<(u64, u64)>);

impl ReplyDue {
    /// The tick by which the reply behind `heard` others is due: `fresh` when it is first asked for, and the same however
    /// often an octet of it comes.
    pub fn after(&mut self, heard: u64, fresh: impl FnOnce() -> u64) -> u64 {
        let due = self.0.filter(|(before, _)| *before == heard).map_or_else(fresh, |(_, due)| due);
        self.0 = Some((heard, due));
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that sends an octet now and then has no more time for a reply than one that is silent.
    // covers: 11.2
    #[test]
    fn a_drip_does_not_move_the_deadline_of_a_reply() {
        let mut due = ReplyDue::default();
        for now in 0..50 {
            assert_eq!(due.after(3, || now + 300), 300);
        }
        assert_eq!(due.after(4, || 350), 350, "the next reply has its own time");
        assert_eq!(due.after(4, || 360), 350);
    }

    /// The least that RFC 5321 section 4.5.3.2 asks a client to wait, in minutes, is what it waits unless told otherwise.
    // covers: 11.2
    #[test]
    fn servers_get_the_time_that_they_may_take() {
        let limits = Limits::new(RelayTimeouts::default());
        for (phase, minutes) in [(Phase::Greeting, 5), (Phase::Hello, 5), (Phase::Envelope, 5), (Phase::Content, 10)] {
            assert!(limits.reply(phase) >= Duration::from_secs(60 * minutes), "{phase:?}");
        }
        assert!(limits.block >= Duration::from_secs(180));
    }

    /// Each limit is that of its key.
    #[test]
    fn what_is_configured_is_what_is_waited() {
        let limits = Limits::new(RelayTimeouts { handshake_s: 1, reply_s: 2, block_s: 3, content_s: 4 });
        let seconds = [limits.handshake, limits.answer, limits.block, limits.content].map(|limit| limit.as_secs());
        assert_eq!(seconds, [1, 2, 3, 4]);
        for (phase, seconds) in [(Phase::Greeting, 2), (Phase::Envelope, 2), (Phase::Content, 4), (Phase::Quit, 2)] {
            assert_eq!(limits.reply(phase).as_secs(), seconds, "{phase:?}");
        }
        assert_eq!(limits.hurried_greeting.as_secs(), 2, "a host that may be passed over gets no more than another");
    }
}

//! Patience: until when a client may keep us waiting, by what we wait for and for whom. No I/O, no clock: ticks in, a tick
//! out.
//!
//! Every limit is absolute. It runs from the event in the second column, however many reads the wait takes, so that a
//! client that sends an octet now and then gains nothing by it (RFC 5321 section 4.5.3.2.7 asks for five minutes between
//! commands, and for nothing inside one).
//!
//! | [`Reason`] | runs from | known | mail server | stranger | crowded |
//! |---|---|---|---|---|---|
//! | `Idle` | the last reply | `idle` | `idle` | `stranger` | `crowded` |
//! | `Line` | the first octet of a command line | `idle` | `idle` | `stranger` | `crowded` |
//! | `Exchange` | AUTH | `stranger` | `stranger` | `stranger` | `crowded` |
//! | `Login` | the connection | - | - | `login` | as uncrowded |
//! | `Transaction` | MAIL | `transaction` | `transaction` | `transaction` | as uncrowded |
//! | `Slow` | see below | `window` | `window` | `window` | `crowded` |
//! | `Reply` | the first octet of replies that we send | `reply` | `reply` | `reply` | `crowded` |
//! | `Handshake` | its beginning | `handshake` | `handshake` | `handshake` | `crowded` |
//!
//! The smaller of two columns counts where a row names a shorter one (`stranger` never exceeds `idle`). The last column is
//! for strangers and mail servers on a core that has three quarters of its connections; known clients never see it.
//!
//! **The least rate of content.** A client has a stock of time, `window` at first and at the most. Waiting uses it up, and
//! each octet adds `1 / rate` seconds; without stock it is too slow. So an average below the rate ends, over a window or,
//! the nearer it is to the rate, over a few; and a pause of a whole window ends. Time that we spend ourselves (disk,
//! password check) is given back to all limits by [`Patience::forgive`].

use crate::config;
use crate::net::{TICK, ticks};
use crate::policy::Role;
use crate::smtp::session::Phase;
use std::time::Duration;

/// Ticks of a second.
const TICKS_PER_SECOND: u64 = (Duration::from_secs(1).as_nanos() / TICK.as_nanos()) as u64;

/// For whom we wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Authenticated, or in a trusted network.
    Known,
    /// Neither, on a listener of role smtp, where mail servers need not authenticate.
    MailServer,
    /// Neither, on a listener of role submission.
    Stranger,
}

impl Who {
    /// By listener and standing.
    pub fn new(role: Role, known: bool) -> Who {
        match (known, role) {
            (true, _) => Who::Known,
            (false, Role::Smtp) => Who::MailServer,
            (false, Role::Submission) => Who::Stranger,
        }
    }
}

/// Which limit has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No command came.
    Idle,
    /// A command line did not end.
    Line,
    /// An AUTH exchange did not end.
    Exchange,
    /// The client did not authenticate.
    Login,
    /// A transaction did not end.
    Transaction,
    /// Content came more slowly than the least rate.
    Slow,
    /// The client did not read our replies.
    Reply,
    /// A TLS handshake did not end.
    Handshake,
}

impl Reason {
    /// For the log.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Idle => "no command",
            Reason::Line => "command line without end",
            Reason::Exchange => "AUTH exchange without end",
            Reason::Login => "not authenticated in time",
            Reason::Transaction => "transaction without end",
            Reason::Slow => "content too slow",
            Reason::Reply => "replies not read",
            Reason::Handshake => "TLS handshake without end",
        }
    }
}

/// The limits of a server, in ticks.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    idle: u64,
    stranger: u64,
    login: u64,
    crowded: u64,
    transaction: u64,
    reply: u64,
    handshake: u64,
    window: u64,
    /// Octets of content per second.
    rate: u64,
}

impl Limits {
    /// As configured.
    pub fn new(limits: &config::Limits) -> Limits {
        let seconds = |seconds| ticks(Duration::from_secs(seconds));
        Limits {
            idle: seconds(limits.idle_timeout_s),
            stranger: seconds(limits.stranger_timeout_s.min(limits.idle_timeout_s)),
            login: seconds(limits.login_timeout_s),
            crowded: seconds(limits.crowded_timeout_s),
            transaction: seconds(limits.transaction_timeout_s),
            reply: seconds(limits.reply_timeout_s),
            handshake: seconds(limits.handshake_timeout_s),
            window: seconds(limits.receiving_window_s),
            rate: limits.receiving_rate_min,
        }
    }

    /// The table: ticks, or none where there is no such limit.
    pub fn of(&self, reason: Reason, who: Who, crowded: bool) -> Option<u64> {
        let usual = match (reason, who) {
            (Reason::Idle | Reason::Line, Who::Known | Who::MailServer) => self.idle,
            (Reason::Idle | Reason::Line, Who::Stranger) | (Reason::Exchange, _) => self.stranger,
            (Reason::Login, Who::Stranger) => return Some(self.login),
            (Reason::Login, _) => return None,
            (Reason::Transaction, _) => return Some(self.transaction),
            (Reason::Slow, _) => self.window,
            (Reason::Reply, _) => self.reply,
            (Reason::Handshake, _) => self.handshake,
        };
        Some(if crowded && who != Who::Known { usual.min(self.crowded) } else { usual })
    }
}

/// How a session stands when it is about to wait for its client.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// What it waits for.
    pub phase: Phase,
    /// For whom.
    pub who: Who,
    /// Has MAIL been taken?
    pub in_transaction: bool,
    /// Was a reply written since the last moment? Then whatever line is under way began after it.
    pub replied: bool,
    /// Octets that the session took since the last moment.
    pub octets: u64,
    /// Is the core crowded?
    pub crowded: bool,
}

/// What one connection has used up.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    phase: Phase,
    /// Tick at which the present wait began, by the second column of the table.
    since: u64,
    connected: u64,
    /// Tick of MAIL.
    transaction: Option<u64>,
    /// What is left for content, octets times [`TICKS_PER_SECOND`], as of `stocked`.
    stock: u64,
    stocked: u64,
}

impl Patience {
    /// A connection that begins at tick `now`.
    pub fn new(now: u64) -> Patience {
        Patience { phase: Phase::Idle, since: now, connected: now, transaction: None, stock: 0, stocked: now }
    }

    /// The tick since which we wait for the same thing.
    pub fn since(&self) -> u64 {
        self.since
    }

    /// Until which tick to wait now, and which limit that is.
    pub fn until(&mut self, limits: &Limits, moment: &Moment, now: u64) -> (u64, Reason) {
        let fresh = moment.phase != self.phase;
        let reason = match moment.phase {
            Phase::Line => Reason::Line,
            Phase::Exchange => Reason::Exchange,
            Phase::Content => Reason::Slow,
            Phase::Idle | Phase::Waiting | Phase::Closed => Reason::Idle,
        };
        // Octets that came to nothing, such as those of an unfinished TLS record, begin nothing.
        if fresh || (moment.replied && matches!(reason, Reason::Idle | Reason::Line)) {
            self.since = now;
        }
        self.phase = moment.phase;
        self.transaction = moment.in_transaction.then_some(self.transaction.unwrap_or(now));
        let limit = |reason| limits.of(reason, moment.who, moment.crowded);
        let first = match reason {
            Reason::Slow => self.out_of_stock(limits.rate, limit(Reason::Slow).unwrap_or(0), moment.octets, fresh, now),
            _ => self.since.saturating_add(limit(reason).unwrap_or(u64::MAX)),
        };
        let mut least = (first, reason);
        let others = [(Some(self.connected), Reason::Login), (self.transaction, Reason::Transaction)];
        for (since, reason) in others {
            if let (Some(since), Some(limit)) = (since, limit(reason))
                && since.saturating_add(limit) < least.0
            {
                least = (since.saturating_add(limit), reason);
            }
        }
        // The tick that it is has partly passed: no limit comes early.
        (least.0.saturating_add(1), least.1)
    }

    /// Gives back what we have spent ourselves, ticks.
    pub fn forgive(&mut self, spent: u64) {
        self.since += spent;
        self.connected += spent;
        self.stocked += spent;
        self.transaction = self.transaction.map(|since| since + spent);
    }

    /// A message was answered: what comes is another transaction.
    pub fn message_over(&mut self) {
        self.transaction = None;
    }

    /// Uses up and adds to the stock; the tick at which nothing is left of it.
    fn out_of_stock(&mut self, rate: u64, window: u64, octets: u64, fresh: bool, now: u64) -> u64 {
        if !fresh && now > self.stocked + self.stock / rate {
            // Too late: what came in the meantime does not mend it.
            return 0;
        }
        let most = rate.saturating_mul(window);
        let spent = now.saturating_sub(self.stocked).saturating_mul(rate);
        let left = if fresh { most } else { self.stock.saturating_sub(spent) };
        self.stock = left.saturating_add(octets.saturating_mul(TICKS_PER_SECOND)).min(most);
        self.stocked = now;
        // What keeps coming in time is no wait: shedding looks for those that rest.
        if octets > 0 {
            self.since = now;
        }
        now + self.stock / rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ticks stand for seconds here, so that the table can be read; 100 octets a tick.
    const LIMITS: Limits = Limits {
        idle: 300,
        stranger: 60,
        login: 120,
        crowded: 10,
        transaction: 7200,
        reply: 60,
        handshake: 30,
        window: 50,
        rate: 100 * TICKS_PER_SECOND,
    };

    fn moment(phase: Phase, who: Who) -> Moment {
        Moment { phase, who, in_transaction: false, replied: false, octets: 0, crowded: false }
    }

    /// Every cell of the table in the header of this file.
    // covers: 11.1 11.3
    #[test]
    fn the_table_is_as_drawn() {
        let never = None;
        #[rustfmt::skip]
        let table = [
            //                    known       mail server  stranger    crowded mail server, crowded stranger
            (Reason::Idle,        Some(300),  Some(300),   Some(60),   Some(10),   Some(10)),
            (Reason::Line,        Some(300),  Some(300),   Some(60),   Some(10),   Some(10)),
            (Reason::Exchange,    Some(60),   Some(60),    Some(60),   Some(10),   Some(10)),
            (Reason::Login,       never,      never,       Some(120),  never,      Some(120)),
            (Reason::Transaction, Some(7200), Some(7200),  Some(7200), Some(7200), Some(7200)),
            (Reason::Slow,        Some(50),   Some(50),    Some(50),   Some(10),   Some(10)),
            (Reason::Reply,       Some(60),   Some(60),    Some(60),   Some(10),   Some(10)),
            (Reason::Handshake,   Some(30),   Some(30),    Some(30),   Some(10),   Some(10)),
        ];
        for (reason, known, mail_server, stranger, crowded_server, crowded_stranger) in table {
            assert_eq!(LIMITS.of(reason, Who::Known, false), known, "{reason:?}");
            assert_eq!(LIMITS.of(reason, Who::Known, true), known, "{reason:?}");
            assert_eq!(LIMITS.of(reason, Who::MailServer, false), mail_server, "{reason:?}");
            assert_eq!(LIMITS.of(reason, Who::Stranger, false), stranger, "{reason:?}");
            assert_eq!(LIMITS.of(reason, Who::MailServer, true), crowded_server, "{reason:?}");
            assert_eq!(LIMITS.of(reason, Who::Stranger, true), crowded_stranger, "{reason:?}");
        }
    }

    /// Reads of one octet each gain nothing: the tick stays, and the reason is right.
    // covers: 11.1
    #[test]
    fn a_drip_does_not_move_its_deadline() {
        for (phase, who, until, reason) in [
            (Phase::Line, Who::Known, 300, Reason::Line),
            (Phase::Line, Who::Stranger, 60, Reason::Line),
            (Phase::Exchange, Who::Stranger, 60, Reason::Exchange),
        ] {
            let mut patience = Patience::new(1000);
            for now in 1000..1050 {
                let drip = Moment { octets: 1, ..moment(phase, who) };
                assert_eq!(patience.until(&LIMITS, &drip, now), (1000 + until + 1, reason));
            }
        }
    }

    /// Inside TLS a read may bring no octet for the session: part of a record, an empty one, a key update.
    // covers: 11.1
    #[test]
    fn a_read_that_brings_nothing_does_not_move_the_deadline() {
        for (who, until) in [(Who::Known, 300), (Who::MailServer, 300), (Who::Stranger, 60)] {
            let mut patience = Patience::new(0);
            let replied = Moment { replied: true, ..moment(Phase::Idle, who) };
            assert_eq!(patience.until(&LIMITS, &replied, 50), (50 + until + 1, Reason::Idle));
            for now in 51..100 {
                assert_eq!(patience.until(&LIMITS, &moment(Phase::Idle, who), now), (50 + until + 1, Reason::Idle));
                assert_eq!(patience.since(), 50, "nor make it look busy");
            }
        }
        let mut patience = Patience::new(0);
        for now in 10..50 {
            patience.until(&LIMITS, &moment(Phase::Content, Who::Stranger), now);
            assert_eq!(patience.since(), 10, "nor in content");
        }
    }

    /// A line that begins after a reply is a new one, even if a read never ends between lines.
    #[test]
    fn each_line_has_its_own_time() {
        let mut patience = Patience::new(0);
        for now in 0..10_000 {
            let next = Moment { replied: true, ..moment(Phase::Line, Who::Known) };
            assert_eq!(patience.until(&LIMITS, &next, now), (now + 301, Reason::Line));
        }
        assert_eq!(
            patience.until(&LIMITS, &moment(Phase::Line, Who::Known), 20_000).0,
            10_300,
            "no reply: the same line"
        );
    }

    // covers: 11.1 11.3
    #[test]
    fn a_stranger_must_authenticate_in_time_however_busy_it_is() {
        let mut patience = Patience::new(0);
        for now in (0..200).step_by(10) {
            let busy = Moment { replied: true, ..moment(Phase::Idle, Who::Stranger) };
            let (until, reason) = patience.until(&LIMITS, &busy, now);
            let expected = if now + 60 <= 120 { (now + 61, Reason::Idle) } else { (121, Reason::Login) };
            assert_eq!((until, reason), expected, "at {now}");
        }
        let known = Moment { replied: true, ..moment(Phase::Idle, Who::Known) };
        assert_eq!(patience.until(&LIMITS, &known, 200), (501, Reason::Idle), "it did");
    }

    // covers: 11.1
    #[test]
    fn a_transaction_is_one_wait_from_mail_to_the_end_of_data() {
        let mut patience = Patience::new(0);
        let inside = Moment { in_transaction: true, replied: true, ..moment(Phase::Idle, Who::Known) };
        for now in (0..7000).step_by(100) {
            let expected = if now + 300 <= 7200 { (now + 301, Reason::Idle) } else { (7201, Reason::Transaction) };
            assert_eq!(patience.until(&LIMITS, &inside, now), expected, "at {now}");
        }
        let content = Moment { phase: Phase::Content, octets: 1 << 30, ..inside };
        for now in 7000..7200 {
            assert_eq!(patience.until(&LIMITS, &content, now).0, 7201.min(now + 51), "at {now}");
        }
        patience.message_over();
        assert_eq!(patience.until(&LIMITS, &inside, 7200), (7501, Reason::Idle), "the next message is another");
    }

    /// When a client that sends `octets` each tick is cut off; none: not within `ticks`.
    fn cut_off(octets: u64, crowded: bool, ticks: u64) -> Option<u64> {
        let mut patience = Patience::new(0);
        let sending =
            |octets| Moment { octets, crowded, in_transaction: true, ..moment(Phase::Content, Who::MailServer) };
        let mut until = patience.until(&LIMITS, &sending(0), 0);
        for now in 1..ticks {
            if now >= until.0 {
                assert_eq!(until.1, Reason::Slow);
                return Some(now);
            }
            until = patience.until(&LIMITS, &sending(octets), now);
        }
        None
    }

    // covers: 11.3
    #[test]
    fn content_has_a_least_rate() {
        assert_eq!(cut_off(0, false, 7000), Some(51), "silence: a window");
        assert_eq!(cut_off(1, false, 7000), Some(51), "a drip");
        assert_eq!(cut_off(50, false, 7000), Some(100), "half of the rate: two windows");
        assert!(cut_off(99, false, 7000).is_some(), "a little less than the rate");
        assert_eq!(cut_off(100, false, 7000), None, "the rate");
        assert_eq!(cut_off(1, true, 7000), Some(11), "a drip where it is crowded");
        assert_eq!(cut_off(100, true, 7000), None, "the rate where it is crowded");
    }

    /// We may look only after the tick, because we were busy: an octet in the meantime starts nothing anew.
    #[test]
    fn who_ran_out_of_time_stays_so() {
        let mut patience = Patience::new(0);
        let sending = |octets| Moment { octets, ..moment(Phase::Content, Who::Known) };
        assert_eq!(patience.until(&LIMITS, &sending(0), 0).0, 51);
        for now in 51..60 {
            assert!(patience.until(&LIMITS, &sending(1), now).0 <= now, "at {now}");
        }
    }

    /// A train in a tunnel: much, and nothing for most of a window, again and again.
    #[test]
    fn pauses_are_borne_and_a_stock_is_bounded() {
        let mut patience = Patience::new(0);
        let sending = |octets| Moment { octets, ..moment(Phase::Content, Who::Known) };
        let mut now = 0;
        for _ in 0..100 {
            assert_eq!(patience.until(&LIMITS, &sending(1 << 40), now), (now + 51, Reason::Slow));
            now += 49;
        }
        assert_eq!(patience.until(&LIMITS, &sending(0), now).0, now + 2, "what came long ago does not count");
    }

    /// A slow disk or a queue before the password check is not the client's fault.
    #[test]
    fn what_we_spend_is_given_back() {
        let mut patience = Patience::new(0);
        let line = Moment { in_transaction: true, ..moment(Phase::Line, Who::Stranger) };
        assert_eq!(patience.until(&LIMITS, &line, 0), (61, Reason::Line));
        patience.forgive(500);
        assert_eq!(patience.until(&LIMITS, &line, 500), (561, Reason::Line));
        let content = Moment { phase: Phase::Content, ..line };
        assert_eq!(patience.until(&LIMITS, &content, 500), (551, Reason::Slow));
        patience.forgive(40);
        assert_eq!(patience.until(&LIMITS, &content, 540), (591, Reason::Slow));
    }
}

//! The queue that is asked: a running server's, or what a stopped one's spool says it would be.

use crate::config::{self, Config};
use crate::relay::direct::domains::Domains;
use crate::relay::following::Following;
use crate::relay::operator::{Answer, Counts, Described, IDS_MAX, Line, NO_ROUTE, Question, Silence};
use crate::relay::queue::Queue;
use crate::relay::route::Routes;
use crate::relay::sender::Senders;
use crate::relay::{task, worker};
use crate::spool::{Examined, Location};
use crate::trace::Traces;

/// A queue.
pub enum Source {
    /// The relay's.
    Relay(Line),
    /// Read from the spool.
    Spool(Box<Stopped>),
}

/// What the spool of a stopped server says.
pub struct Stopped {
    queue: Queue<Location>,
    /// Locks the spool.
    examined: Examined,
    names: Vec<String>,
    paused: bool,
}

impl Stopped {
    /// Reads the whole spool, as a server does at its start.
    pub fn read(mut examined: Examined, config: &Config, now: u64) -> Stopped {
        let routes = Routes::new(&config.relay.routes);
        let names: Vec<String> = routes.destinations().map(|(target, _)| task::name(target)).collect();
        let settings = worker::settings(&config.relay);
        let retry_max_ms = worker::resumed_max_ms(&settings);
        // Nothing is delivered from here: each destination, and that of what no route takes, is a server of its own.
        let mut queue = Queue::new(settings, 0..=names.len(), now);
        let config::Relay { honours_tls_optional, small_bytes, .. } = config.relay;
        let (mut domains, senders, traces) = (Domains::none(), Senders::default(), Traces::off());
        let mut next = || {
            let (queue, follower, routes) = (&mut queue, &mut examined.follower, &routes);
            let (domains, senders, traces) = (&mut domains, &senders, &traces);
            Following {
                queue,
                follower,
                routes,
                domains,
                honours_tls_optional,
                senders,
                small_bytes,
                retry_max_ms,
                traces,
            }
            .next()
        };
        while next() {}
        queue.caught_up();
        Stopped { queue, examined, names, paused: config.relay.paused }
    }

    fn describe(&self, id: u64) -> Option<Described> {
        let standing = self.queue.standing(id)?;
        let reference = self.examined.follower.reference(standing.at)?;
        let name = |number: usize| self.names.get(number).cloned();
        let destinations =
            standing.parts.iter().map(|part| name(part.destination).unwrap_or_else(|| NO_ROUTE.into())).collect();
        Some(Described { standing, destinations, reference })
    }

    fn answer(&self, question: Question) -> Answer {
        match question {
            Question::Count => {
                let (messages, unreadable) = self.queue.counts();
                let names = self.names.iter().cloned().enumerate();
                let destinations = names.map(|(number, name)| (name, self.queue.waiting(number))).collect();
                let (held, paused) = (self.queue.held_by_operator(), self.paused);
                Answer::Count(Counts { messages, unreadable, held, destinations, paused })
            }
            Question::Ids => Answer::Ids(self.queue.ids()),
            Question::Describe(ids) => {
                Answer::Described(ids.into_iter().take(IDS_MAX).filter_map(|id| self.describe(id)).collect())
            }
            // Nothing is changed here; whoever asks has been told before.
            Question::Flush(_) | Question::Order(..) | Question::Delete(_) | Question::Return(_) => {
                Answer::Done(Vec::new())
            }
        }
    }
}

impl Source {
    /// Can something be ordered of it?
    pub fn is_running(&self) -> bool {
        matches!(self, Source::Relay(_))
    }

    /// Asks one question. Errors: one line.
    pub fn ask(&mut self, question: Question) -> Result<Answer, String> {
        match self {
            Source::Spool(stopped) => Ok(stopped.answer(question)),
            Source::Relay(line) => line.ask(question).map_err(|silence| match silence {
                Silence::Stopped => "the relay does not run: the server is stopping".into(),
                Silence::Slow => {
                    "the relay does not answer; is it still reading the spool after a start? try again".into()
                }
            }),
        }
    }
}

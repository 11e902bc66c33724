//! What a session can only learn from its driver: may this client log in, and by which mechanisms. Passwords and proofs go to
//! the authenticator, the client that a mail proxy names to [`super::proxy`].
//!
//! Each verdict is counted and logged here, and what is refused is held back, so that guessing is slow.

use super::connection::Connection;
use super::ending::End;
use crate::auth::{Authenticator, Verdict};
use crate::log::Level;
use crate::sasl::{Mechanism, Mechanisms};
use crate::smtp::Session;
use crate::smtp::session::{Answer, Question};
use std::io::{self, ErrorKind};

impl Connection {
    /// Tells the session which channel it speaks through, if TLS is up.
    pub(super) fn bind_channel(&self, session: &mut Session) {
        if let Some(end_point) = self.stream.tls_server_end_point() {
            session.bind_channel(end_point);
        }
    }

    /// SCRAM that some user could not use, unless the operator wants it all the same.
    pub(super) fn withhold_mechanisms(&self, session: &mut Session) {
        let offers = self.core.authenticator.as_ref().is_some_and(|authenticator| authenticator.offers_scram());
        if self.service().scram_when_all && !offers {
            session.withhold(Mechanisms::SCRAM);
        }
    }

    /// Errors: the client has gone meanwhile, or may not be here.
    pub(super) async fn ask(&mut self, question: Question) -> Result<Answer, End> {
        let question = match question {
            Question::Client(xclient) => return self.take_xclient(&xclient).await,
            question => question,
        };
        let Some(authenticator) = self.core.authenticator.clone() else { return Ok(Answer::Unavailable) };
        let from = self.peer.ip();
        Ok(match question {
            Question::Client(_) => unreachable!("answered above"),
            Question::Password(credentials) => {
                let (name, mechanism) = (credentials.user.clone(), credentials.mechanism);
                // Nobody waits for the answer to a guess whose author has gone: it costs no hash.
                let verdict = self.stream.unless_gone(authenticator.check(credentials, from)).await;
                let verdict = verdict.ok_or_else(|| io::Error::from(ErrorKind::UnexpectedEof))?;
                self.heard(verdict, &authenticator, &name, mechanism).await
            }
            Question::ScramKeys(user) => match authenticator.scram_keys(&user, from) {
                Ok((keys, nonce)) => Answer::ScramKeys { keys, nonce },
                Err(verdict) => self.heard(verdict, &authenticator, &user, Mechanism::ScramSha256).await,
            },
            Question::Proof(proof) => {
                let verdict = authenticator.proved(&proof, from);
                self.heard(verdict, &authenticator, &proof.user, proof.mechanism).await
            }
        })
    }

    /// Counts and logs a verdict, and holds back what is refused, so that guessing is slow.
    async fn heard(
        &mut self,
        verdict: Verdict,
        authenticator: &Authenticator,
        name: &str,
        mechanism: Mechanism,
    ) -> Answer {
        let line = |connection: &Connection, level, what, user: &str| {
            connection.event(level, what).octets("user", user.as_bytes()).field("mechanism", mechanism.name())
        };
        let (answer, delay) = match verdict {
            Verdict::Accepted(user) => {
                self.core.counters.auth_ok.add(1);
                line(self, Level::Info, "authenticated", &user).emit();
                return Answer::Accepted(user);
            }
            Verdict::Unavailable => {
                line(self, Level::Warning, "authentication not available", authenticator.shown(name)).emit();
                return Answer::Unavailable;
            }
            Verdict::Rejected(delay) => {
                self.core.counters.auth_failed.add(1);
                let line = line(self, Level::Warning, "authentication failed", authenticator.shown(name));
                line.field("reason", authenticator.fault(name, mechanism).name()).emit();
                (Answer::Rejected, delay)
            }
            // The authenticator logs it: once a minute, however many try.
            Verdict::Braked(delay) => {
                self.core.counters.auth_braked.add(1);
                (Answer::Braked, delay)
            }
        };
        if !delay.is_zero() && !self.core.stopping.get() {
            monoio::time::sleep(delay).await;
        }
        answer
    }
}

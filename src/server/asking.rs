//! What a session can only learn from its driver: may this client log in, and by which mechanisms. Passwords and proofs go to
//! the authenticator, the client that a mail proxy names to [`super::proxy`].
//!
//! Each verdict is counted and logged here, and what is refused is held back, so that guessing is slow.

use super::connection::Connection;
use super::ending::End;
use crate::auth::users::Users;
use crate::auth::{Authenticator, Verdict};
use crate::log::Level;
use crate::metrics::LoginResult;
use crate::sasl::{Mechanism, Mechanisms};
use crate::smtp::Session;
use crate::smtp::session::{Answer, Question};
use std::io::{self, ErrorKind};
use std::time::Instant;

/// As what the session's user was known when it logged in. The lower halves: each connection has room for these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Login {
    /// Of the users that were last looked at; 0: nobody has logged in.
    generation: u32,
    /// Of the account, then.
    stamp: u32,
}

impl Login {
    /// `user` logged in when `users` were those.
    fn new(users: &Users, user: &str) -> Login {
        Login { generation: users.generation() as u32, stamp: users.stamp(user) as u32 }
    }

    /// Is `user` still the same in `users`? A hash that was set anew is another, of the same password too.
    fn holds(&mut self, users: &Users, user: &str) -> bool {
        let holds = users.stamp(user) as u32 == self.stamp;
        if holds {
            self.generation = users.generation() as u32;
        }
        holds
    }
}

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
        // Those before the check: a password that was changed while it was checked is one of before.
        let users = self.core.authenticator.as_ref().map(|authenticator| authenticator.users());
        let answer = match question {
            Question::Client(xclient) => self.take_xclient(&xclient).await?,
            question => self.ask_authenticator(question).await?,
        };
        if let (Some(users), Answer::Accepted(user) | Answer::Client { user: Some(user), .. }) = (users, &answer) {
            self.login = Login::new(&users, user);
        }
        Ok(answer)
    }

    /// After a read: a user who was removed, or has another password, sends no more messages in a session of before. Costs
    /// the comparison of a number until the users change.
    pub(super) fn look_after_login(&mut self, session: &mut Session) {
        let Some(authenticator) = &self.core.authenticator else { return };
        if self.login.generation == 0 || self.login.generation == authenticator.generation() as u32 {
            return;
        }
        let users = authenticator.users();
        if session.finish().1.user.is_some_and(|user| !self.login.holds(&users, user)) {
            session.end_login();
        }
    }

    async fn ask_authenticator(&mut self, question: Question) -> Result<Answer, End> {
        let Some(authenticator) = self.core.authenticator.clone() else { return Ok(Answer::Unavailable) };
        let (from, asked) = (self.peer.ip(), Instant::now());
        Ok(match question {
            Question::Client(_) => unreachable!("answered by ask"),
            Question::Password(credentials) => {
                let (name, mechanism) = (credentials.user.clone(), credentials.mechanism);
                // Nobody waits for the answer to a guess whose author has gone: it costs no hash.
                let verdict = self.stream.unless_gone(authenticator.check(credentials, from)).await;
                let verdict = verdict.ok_or_else(|| io::Error::from(ErrorKind::UnexpectedEof))?;
                self.core.counters.auth_check.count_time(asked.elapsed());
                self.heard(verdict, &authenticator, &name, mechanism).await
            }
            Question::ScramKeys(user) => match authenticator.scram_keys(&user, from) {
                Ok((keys, nonce)) => Answer::ScramKeys { keys, nonce },
                Err(verdict) => self.heard(verdict, &authenticator, &user, Mechanism::ScramSha256).await,
            },
            Question::Proof(proof) => {
                let verdict = authenticator.proved(&proof, from);
                self.core.counters.auth_check.count_time(asked.elapsed());
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
                self.listener().logins[LoginResult::Accepted as usize].add(1);
                line(self, Level::Info, "authenticated", &user).emit();
                return Answer::Accepted(user);
            }
            Verdict::Unavailable => {
                self.listener().logins[LoginResult::Unavailable as usize].add(1);
                line(self, Level::Warning, "authentication not available", authenticator.shown(name)).emit();
                return Answer::Unavailable;
            }
            Verdict::Rejected(delay) => {
                self.core.counters.auth_failed.add(1);
                self.listener().logins[LoginResult::Rejected as usize].add(1);
                let line = line(self, Level::Warning, "authentication failed", authenticator.shown(name));
                line.field("reason", authenticator.fault(name, mechanism).name()).emit();
                (Answer::Rejected, delay)
            }
            // The authenticator logs it: once a minute, however many try.
            Verdict::Braked(delay) => {
                self.core.counters.auth_braked.add(1);
                self.listener().logins[LoginResult::Braked as usize].add(1);
                (Answer::Braked, delay)
            }
        };
        if !delay.is_zero() && !self.core.stopping.get() {
            monoio::time::sleep(delay).await;
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::hash::{Cost, create};
    use crate::auth::users::{Names, parse};
    use crate::policy::UsernameForm;

    fn users(lines: &[String], generation: u64) -> Users {
        let names = Names { form: UsernameForm::Either, domain: None };
        Users::new(parse(lines.join("\n").as_bytes(), &names).expect("users"), generation).expect("snapshot")
    }

    // covers: 11.8
    #[test]
    fn a_login_holds_while_the_account_is_the_same() {
        let hash = || create(b"sesame", Cost { memory_kib: 8, passes: 1, lanes: 1 }).expect("a hash");
        let (ann, ben) = (format!("ann:{}", hash()), format!("ben:{}", hash()));
        let mut login = Login::new(&users(&[ann.clone(), ben.clone()], 1), "ann");
        assert!(login.holds(&users(std::slice::from_ref(&ann), 2), "ann") && login.generation == 2, "ben has gone");
        assert!(!login.holds(&users(&[ben, format!("ann:{}", hash())], 3), "ann"), "set anew, to the same");
        assert!(!login.holds(&users(&[], 4), "ann") && login.generation == 2, "and asked again until it is told");
        // Whom a mail proxy vouches for need not be in the file.
        assert!(Login::new(&users(&[], 4), "cleo").holds(&users(&[ann], 5), "cleo"));
    }
}

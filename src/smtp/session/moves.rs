//! The moves: what each command does in each state, one `match` in `Session::make_move`. RFC 5321 section 4.1.4.

use super::content::Incoming;
use super::foreign::is_http;
use super::{Action, MayXclient, Mode, Session, State, Wait};
use crate::policy::TlsMode;
use crate::policy::relaying::{self, Relaying};
use crate::smtp::command::{Command, Mistake, verb};
use crate::smtp::reply;

/// Commands that need no TLS where TLS is required. RFC 3207 section 4.
const BEFORE_TLS: [&[u8]; 6] = [b"EHLO", b"STARTTLS", b"NOOP", b"RSET", b"QUIT", b"HELP"];
/// Commands that need AUTH on a submission listener (RFC 4954 section 6).
const TRANSACTION: [&[u8]; 4] = [b"MAIL", b"RCPT", b"DATA", b"BDAT"];

impl Session {
    /// One command line; `rest` is the input behind it.
    pub(super) fn command(&mut self, line: &[u8], rest: &[u8], out: &mut Vec<u8>) -> Option<Action<'static>> {
        let refusals = self.refusals();
        let action = self.make_move(line, rest, out);
        if self.refusals() > refusals {
            self.note_command(line);
        }
        action
    }

    fn make_move(&mut self, line: &[u8], rest: &[u8], out: &mut Vec<u8>) -> Option<Action<'static>> {
        let command = match (Command::parse(line), self.gate(verb(line))) {
            (Err(Mistake::Unknown | Mistake::Octets), _) if is_http(line) => {
                return self.refuse_and_close(reply::HTTP, out);
            }
            (Err(mistake @ (Mistake::Octets | Mistake::ChunkSize)), _) => return self.mistake(line, mistake, out),
            // What is wrong with BDAT is said behind its octets.
            (Ok(Command::Bdat { octets, last }), closed) => return self.bdat(octets, last, closed, out),
            (Err(Mistake::Chunk(octets)), closed) => {
                return self.bdat(octets, false, closed.or(Some(reply::BAD_ARGUMENT)), out);
            }
            (_, Some(closed)) => return self.idle_command(closed, out),
            (Err(mistake), None) => return self.mistake(line, mistake, out),
            (Ok(command), None) => command,
        };
        use State::{Chunks, Fresh, Greeted, Recipients, Sender};
        match (self.state, command) {
            (_, Command::Ehlo(name)) => self.hello(name, true, out),
            (_, Command::Helo(name)) => self.hello(name, false, out),
            (_, Command::Rset) => {
                let lost = self.abandon();
                self.idle_command(reply::OK, out).or(lost)
            }
            (_, Command::Noop) => self.idle_command(reply::OK, out),
            (_, Command::Help) => self.idle_command(reply::HELP, out),
            (_, Command::Vrfy) => self.idle_command(reply::CANNOT_VERIFY, out),
            (_, Command::Quit) => self.close(reply::BYE, out),
            (_, Command::NotImplemented) => self.bad_command(reply::NOT_IMPLEMENTED, out),

            (_, Command::Xclient(arguments)) => self.xclient(arguments, out),

            (Chunks, Command::StartTls) => self.bad_command(reply::BAD_SEQUENCE, out),
            (_, Command::StartTls) => self.start_tls(rest, out),

            (_, Command::Auth(..)) if self.mechanisms.is_empty() => self.bad_command(reply::NOT_IMPLEMENTED, out),
            (_, Command::Auth(..)) if !self.secured => self.idle_command(reply::AUTH_NEEDS_TLS, out),
            (Fresh, Command::Auth(..)) => self.bad_command(reply::HELLO_FIRST, out),
            (Greeted, Command::Auth(mechanism, initial)) => self.authenticate(mechanism, initial, out),
            (_, Command::Auth(..)) => self.bad_command(reply::BAD_SEQUENCE, out),

            (Fresh, Command::Mail(_)) => self.bad_command(reply::HELLO_FIRST, out),
            (Greeted, Command::Mail(mail)) => self.mail(mail, out),
            (_, Command::Mail(_)) => self.bad_command(reply::NESTED_MAIL, out),

            (Sender | Recipients, Command::Rcpt(rcpt)) => self.recipient(rcpt, out),
            (Chunks, Command::Rcpt(_) | Command::Data) => self.bad_command(reply::BAD_SEQUENCE, out),
            (_, Command::Rcpt(_)) => self.bad_command(reply::MAIL_FIRST, out),

            (Sender | Recipients, Command::Data) if self.binary => self.bad_command(reply::BDAT_ONLY, out),
            (Recipients, Command::Data) => {
                self.mode = Mode::Waiting(Wait::Begin(Incoming::Data));
                Some(Action::Begin)
            }
            // A pipelining client sends DATA before it knows: RFC 2920 section 3.1.
            (Sender, Command::Data) if self.recipient_refused => self.idle_command(reply::NO_VALID_RECIPIENTS, out),
            (_, Command::Data) => self.bad_command(reply::RCPT_FIRST, out),
            (_, Command::Bdat { .. }) => unreachable!("handled above"),
        }
    }

    /// What TLS mode and role demand before a command, whatever its arguments.
    fn gate(&self, verb: &[u8]) -> Option<&'static [u8]> {
        let is_in = |table: &[&[u8]]| table.iter().any(|known| verb.eq_ignore_ascii_case(known));
        let by_proxy = self.may_xclient != MayXclient::No && verb.eq_ignore_ascii_case(b"XCLIENT");
        if self.rules.tls == TlsMode::Required && !self.secured && !is_in(&BEFORE_TLS) && !by_proxy {
            return Some(reply::STARTTLS_FIRST);
        }
        match relaying::sender(self.rules.role, self.client()) {
            Relaying::AuthenticationRequired if is_in(&TRANSACTION) => Some(reply::AUTH_REQUIRED),
            _ => None,
        }
    }

    fn mistake(&mut self, line: &[u8], mistake: Mistake, out: &mut Vec<u8>) -> Option<Action<'static>> {
        let is = |name: &[u8]| verb(line).eq_ignore_ascii_case(name);
        let text = match mistake {
            // Octets would follow, nobody knows how many, and they must never be read as commands.
            Mistake::ChunkSize => return self.give_up(reply::BAD_ARGUMENT, out),
            Mistake::Octets if is(b"BDAT") => return self.give_up(reply::BAD_OCTETS, out),
            Mistake::Octets => reply::BAD_OCTETS,
            Mistake::Unknown => reply::UNKNOWN_COMMAND,
            Mistake::Argument | Mistake::Value(_) | Mistake::Chunk(_) => reply::BAD_ARGUMENT,
            Mistake::Sender => reply::BAD_SENDER,
            Mistake::Recipient => reply::BAD_RECIPIENT,
            Mistake::Parameter => reply::UNKNOWN_PARAMETER,
        };
        // RFC 5321 section 4.1.1.11: nothing is left of the transaction.
        let lost = if mistake == Mistake::Parameter && is(b"MAIL") { self.abandon() } else { None };
        match is(b"MAIL") || is(b"RCPT") {
            true => self.bad_transaction_command(text, out).or(lost),
            false => self.bad_command(text, out).or(lost),
        }
    }

    fn start_tls(&mut self, rest: &[u8], out: &mut Vec<u8>) -> Option<Action<'static>> {
        if self.secured {
            return self.bad_command(reply::TLS_ALREADY, out);
        }
        // What stands behind STARTTLS in the clear was not sent by an honest client.
        if !rest.is_empty() {
            return self.refuse_and_close(reply::TLS_INJECTION, out);
        }
        out.extend_from_slice(reply::READY_FOR_TLS);
        self.reset();
        self.mode = Mode::Waiting(Wait::Tls);
        Some(Action::StartTls)
    }
}

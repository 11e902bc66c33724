//! The moves: what each command does in each state, one `match` in [`Session::command`]. RFC 5321 section 4.1.4.

use super::{Action, Mode, Question, Session, State, Wait};
use crate::policy::TlsMode;
use crate::policy::relaying::{self, Relaying};
use crate::sasl::{Exchange, Mechanism, Step};
use crate::smtp::command::{Body, Command, Mail, Mistake, Parameter, Parameters, Rcpt, verb};
use crate::smtp::envelope::Tag;
use crate::smtp::path::{ForwardPath, Mailbox, ReversePath};
use crate::smtp::reply;

/// Commands that need no TLS where TLS is required (RFC 3207 section 4). BDAT is there to be closed upon.
const BEFORE_TLS: [&[u8]; 7] = [b"EHLO", b"STARTTLS", b"NOOP", b"RSET", b"QUIT", b"HELP", b"BDAT"];
/// Parameters that every session offers.
const OFFERED: Parameters = Parameters::of(&[Parameter::Size, Parameter::Body, Parameter::SmtpUtf8, Parameter::Auth]);
/// Commands that need AUTH on a submission listener (RFC 4954 section 6).
const TRANSACTION: [&[u8]; 3] = [b"MAIL", b"RCPT", b"DATA"];

impl Session {
    /// One command line; `rest` is the input behind it.
    pub(super) fn command(&mut self, line: &[u8], rest: &[u8], out: &mut Vec<u8>) -> Option<Action<'static>> {
        let command = match (Command::parse(line), self.gate(verb(line))) {
            (Err(Mistake::Octets), _) => return self.bad_command(reply::BAD_OCTETS, out),
            (_, Some(closed)) => return self.refuse(closed, out),
            (Err(mistake), None) => return self.mistake(line, mistake, out),
            (Ok(command), None) => command,
        };
        use State::{Fresh, Greeted, Recipients, Sender};
        match (self.state, command) {
            (_, Command::Ehlo(name)) => self.hello(name, true, out),
            (_, Command::Helo(name)) => self.hello(name, false, out),
            (_, Command::Noop) => say(reply::OK, out),
            (_, Command::Quit) => self.close(reply::BYE, out),
            (_, Command::Help) => say(reply::HELP, out),
            (_, Command::Vrfy) => say(reply::CANNOT_VERIFY, out),
            (_, Command::NotImplemented) => self.bad_command(reply::NOT_IMPLEMENTED, out),
            // Its octets would follow, and they must never be read as commands.
            (_, Command::Bdat { .. }) => self.close(reply::NOT_IMPLEMENTED, out),
            (_, Command::Rset) => {
                self.reset();
                say(reply::OK, out)
            }
            (_, Command::StartTls) => self.start_tls(rest, out),

            (_, Command::Auth(..)) if !self.rules.auth => self.bad_command(reply::NOT_IMPLEMENTED, out),
            (_, Command::Auth(..)) if !self.secured => self.refuse(reply::AUTH_NEEDS_TLS, out),
            (Fresh, Command::Auth(..)) => self.bad_command(reply::HELLO_FIRST, out),
            (Greeted, Command::Auth(mechanism, initial)) => self.authenticate(mechanism, initial, out),
            (_, Command::Auth(..)) => self.bad_command(reply::BAD_SEQUENCE, out),

            (Fresh, Command::Mail(_)) => self.bad_command(reply::HELLO_FIRST, out),
            (Greeted, Command::Mail(mail)) => self.mail(mail, out),
            (_, Command::Mail(_)) => self.bad_command(reply::NESTED_MAIL, out),

            (Sender | Recipients, Command::Rcpt(rcpt)) => self.recipient(rcpt, out),
            (_, Command::Rcpt(_)) => self.bad_command(reply::MAIL_FIRST, out),

            (Recipients, Command::Data) => {
                self.mode = Mode::Waiting(Wait::Begin);
                Some(Action::Begin)
            }
            // A pipelining client sends DATA before it knows: RFC 2920 section 3.1.
            (Sender, Command::Data) if self.recipient_refused => say(reply::NO_VALID_RECIPIENTS, out),
            (_, Command::Data) => self.bad_command(reply::RCPT_FIRST, out),
        }
    }

    /// What TLS mode and role demand before a command, whatever its arguments.
    fn gate(&self, verb: &[u8]) -> Option<&'static [u8]> {
        let is_in = |table: &[&[u8]]| table.iter().any(|known| verb.eq_ignore_ascii_case(known));
        if self.rules.tls == TlsMode::Required && !self.secured && !is_in(&BEFORE_TLS) {
            return Some(reply::STARTTLS_FIRST);
        }
        match relaying::sender(self.rules.role, self.client()) {
            Relaying::AuthenticationRequired if is_in(&TRANSACTION) => Some(reply::AUTH_REQUIRED),
            _ => None,
        }
    }

    fn mistake(&mut self, line: &[u8], mistake: Mistake, out: &mut Vec<u8>) -> Option<Action<'static>> {
        if mistake == Mistake::Parameter && verb(line).eq_ignore_ascii_case(b"MAIL") {
            // RFC 5321 section 4.1.1.11: nothing is left of the transaction.
            self.reset();
        }
        let text = match mistake {
            Mistake::Octets => reply::BAD_OCTETS,
            Mistake::Unknown => reply::UNKNOWN_COMMAND,
            Mistake::Argument => reply::BAD_ARGUMENT,
            Mistake::Sender => reply::BAD_SENDER,
            Mistake::Recipient => reply::BAD_RECIPIENT,
            Mistake::Parameter => reply::UNKNOWN_PARAMETER,
            Mistake::Value(_) => reply::BAD_ARGUMENT,
            // Its octets would follow, and they must never be read as commands.
            Mistake::Chunk(_) | Mistake::ChunkSize => return self.close(reply::NOT_IMPLEMENTED, out),
        };
        self.bad_command(text, out)
    }

    fn hello(&mut self, name: &[u8], extended: bool, out: &mut Vec<u8>) -> Option<Action<'static>> {
        self.reset();
        self.state = State::Greeted;
        self.extended = extended;
        self.helo = name.into();
        if !extended {
            reply::hello(&self.rules.hostname, out);
            return None;
        }
        let size = format!("SIZE {}", self.rules.message_bytes_max);
        let mut keywords = vec!["PIPELINING", &size, "8BITMIME", "ENHANCEDSTATUSCODES", "SMTPUTF8"];
        if !self.secured && self.rules.tls != TlsMode::Implicit {
            keywords.push("STARTTLS");
        }
        if self.secured && self.rules.auth {
            keywords.push("AUTH PLAIN LOGIN");
        }
        keywords.push("HELP");
        reply::extended_hello(&self.rules.hostname, &keywords, out);
        None
    }

    fn start_tls(&mut self, rest: &[u8], out: &mut Vec<u8>) -> Option<Action<'static>> {
        if self.secured {
            return self.bad_command(reply::TLS_ALREADY, out);
        }
        // What stands behind STARTTLS in the clear was not sent by an honest client.
        if !rest.is_empty() {
            self.refused = Some(reply::TLS_INJECTION);
            return self.close(reply::TLS_INJECTION, out);
        }
        out.extend_from_slice(reply::READY_FOR_TLS);
        self.reset();
        self.mode = Mode::Waiting(Wait::Tls);
        Some(Action::StartTls)
    }

    fn authenticate(&mut self, name: &[u8], initial: Option<&[u8]>, out: &mut Vec<u8>) -> Option<Action<'static>> {
        if self.user.is_some() {
            return self.bad_command(reply::AUTH_ALREADY, out);
        }
        let Some(mechanism) = Mechanism::parse(name) else {
            return self.bad_command(reply::UNKNOWN_MECHANISM, out);
        };
        let (exchange, step) = Exchange::start(mechanism, initial);
        self.mode = Mode::Exchange(exchange);
        self.exchange_step(step, out)
    }

    /// What follows a line of an AUTH exchange. RFC 4954 section 4.
    pub(super) fn exchange_step(&mut self, step: Step, out: &mut Vec<u8>) -> Option<Action<'static>> {
        if let Step::Challenge(base64) = step {
            reply::challenge(base64, out);
            return None;
        }
        self.mode = Mode::Command;
        match step {
            Step::Verify(credentials) => {
                self.mode = Mode::Waiting(Wait::Verdict);
                return Some(Action::Ask(Question::Password(credentials)));
            }
            Step::OtherIdentity => self.authentication_failed(out),
            Step::Cancelled => out.extend_from_slice(reply::AUTH_CANCELLED),
            Step::Malformed => return self.bad_command(reply::BAD_AUTH_RESPONSE, out),
            Step::Challenge(_) => unreachable!("handled above"),
        }
        None
    }

    fn mail(&mut self, mail: Mail, out: &mut Vec<u8>) -> Option<Action<'static>> {
        if mail.body == Body::BinaryMime {
            return self.bad_command(reply::BAD_ARGUMENT, out);
        }
        if !mail.given.are_among(OFFERED) {
            return self.bad_command(reply::UNKNOWN_PARAMETER, out);
        }
        if mail.size.is_some_and(|size| size > self.rules.message_bytes_max) {
            return self.refuse(reply::TOO_BIG, out);
        }
        let path = match mail.reverse_path {
            ReversePath::Null => &b""[..],
            ReversePath::Mailbox(mailbox) if !mailbox.is_ascii() && !mail.smtputf8 => {
                return self.refuse(reply::NEEDS_SMTPUTF8, out);
            }
            ReversePath::Mailbox(mailbox) => mailbox.as_bytes(),
        };
        self.reset();
        self.envelope.push(Tag::ReversePath, path);
        self.envelope.push(Tag::Body, &[mail.body as u8]);
        if mail.smtputf8 {
            self.envelope.push(Tag::SmtpUtf8, b"");
        }
        if let Some(auth) = mail.auth {
            self.envelope.push(Tag::Auth, auth.as_bytes());
        }
        self.smtputf8 = mail.smtputf8;
        self.declared_bytes = mail.size.unwrap_or(0);
        self.state = State::Sender;
        say(reply::SENDER_OK, out)
    }

    fn recipient(&mut self, rcpt: Rcpt, out: &mut Vec<u8>) -> Option<Action<'static>> {
        if !rcpt.given.are_among(OFFERED) {
            return self.bad_command(reply::UNKNOWN_PARAMETER, out);
        }
        if self.envelope.recipients() >= self.rules.recipients_max {
            return self.refuse_recipient(reply::TOO_MANY_RECIPIENTS, out);
        }
        match rcpt.path {
            ForwardPath::Postmaster => {
                let domain = self.rules.postmaster_domain.as_bytes();
                self.envelope.push_with(Tag::Recipient, |value| {
                    value.extend_from_slice(b"postmaster@");
                    value.extend_from_slice(domain);
                });
            }
            ForwardPath::Mailbox(mailbox) if !mailbox.is_ascii() && !self.smtputf8 => {
                return self.refuse_recipient(reply::NEEDS_SMTPUTF8, out);
            }
            ForwardPath::Mailbox(mailbox) => match self.relaying(&mailbox) {
                Relaying::Allowed => self.envelope.push(Tag::Recipient, mailbox.as_bytes()),
                Relaying::AuthenticationRequired => return self.refuse_recipient(reply::AUTH_REQUIRED, out),
                Relaying::Denied => return self.refuse_recipient(reply::RELAYING_DENIED, out),
            },
        }
        self.state = State::Recipients;
        say(reply::RECIPIENT_OK, out)
    }

    fn relaying(&self, mailbox: &Mailbox) -> Relaying {
        let local = &self.rules.local_domains;
        relaying::recipient(self.rules.role, self.client(), mailbox.domain(), mailbox.hides_a_route(), local)
    }

    fn refuse_recipient(&mut self, text: &'static [u8], out: &mut Vec<u8>) -> Option<Action<'static>> {
        self.recipient_refused = true;
        self.refuse(text, out)
    }
}

fn say(text: &[u8], out: &mut Vec<u8>) -> Option<Action<'static>> {
    out.extend_from_slice(text);
    None
}

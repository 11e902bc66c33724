//! Command lines and lines of an AUTH exchange, with their limits and what befalls a client that does not keep them.

use super::foreign::{TLS_RECORD, is_http};
use super::{Action, Mode, Session, say};
use crate::smtp::command::verb;
use crate::smtp::line::{AUTH_BYTES_MAX, COMMAND_BYTES_MAX, Line};
use crate::smtp::reply;

/// Bad commands in one session before it is closed.
const BAD_COMMANDS_MAX: u8 = 20;
/// Commands that move nothing forward (NOOP, RSET, VRFY, HELP, EHLO, AUTH that is cancelled or cannot be checked now, MAIL
/// that is refused, BDAT of nothing, or what is refused for want of TLS or AUTH) since the last message, before the session
/// is closed: more than any client sends, few enough that nobody can go on for days.
const IDLE_COMMANDS_MAX: u8 = 100;

impl Session {
    /// One line of a command or an exchange.
    pub(super) fn line<'a>(&mut self, input: &'a [u8], out: &mut Vec<u8>) -> (usize, Option<Action<'a>>) {
        let expects_command = matches!(self.mode, Mode::Command);
        if expects_command && !self.secured && self.lines.begins_with(TLS_RECORD, input) {
            return (input.len(), self.refuse_and_close(reply::TLS_IN_THE_CLEAR, out));
        }
        let mut lines = std::mem::take(&mut self.lines);
        // Which limit counts shows only when the verb is known.
        let (used, line) = lines.next(input, AUTH_BYTES_MAX);
        let Some(line) = line else {
            self.lines = lines;
            return (used, Some(Action::NeedInput));
        };
        let action = match line {
            Line::Whole(line) if line.len() + 2 > COMMAND_BYTES_MAX && !self.is_authenticating(line) => {
                self.too_long(line, out)
            }
            Line::Whole(line) => self.whole_line(line, &input[used..], out),
            Line::TooLong(head) => self.too_long(&head, out),
            Line::BareNewline => self.refuse_and_close(reply::BARE_NEWLINE, out),
            Line::Endless => {
                out.extend_from_slice(reply::LINE_TOO_LONG);
                self.close(reply::TOO_MANY_ERRORS, out)
            }
        };
        // Whose line came in pieces may have sent a password: no copy of it stays.
        lines.forget();
        (used, action)
    }

    fn whole_line(&mut self, line: &[u8], rest: &[u8], out: &mut Vec<u8>) -> Option<Action<'static>> {
        match std::mem::replace(&mut self.mode, Mode::Command) {
            Mode::Exchange(mut exchange) => {
                let step = exchange.respond(line);
                self.exchange_step(exchange, step, out)
            }
            _ => self.command(line, rest, out),
        }
    }

    /// RFC 4954 section 4: lines of an exchange, and AUTH with its initial response, may be longer than other commands.
    fn is_authenticating(&self, line: &[u8]) -> bool {
        matches!(self.mode, Mode::Exchange(_)) || verb(line).eq_ignore_ascii_case(b"AUTH")
    }

    /// A line that is too long, of which at least the start is there.
    fn too_long(&mut self, head: &[u8], out: &mut Vec<u8>) -> Option<Action<'static>> {
        let authenticating = self.is_authenticating(head);
        self.mode = match self.mode {
            Mode::Exchange(_) => Mode::Command,
            _ if is_http(head) => return self.refuse_and_close(reply::HTTP, out),
            // Its octets would follow, and nobody knows how many.
            _ if verb(head).eq_ignore_ascii_case(b"BDAT") => return self.give_up(reply::LINE_TOO_LONG, out),
            _ => Mode::Command,
        };
        self.bad_command(if authenticating { reply::AUTH_TOO_LONG } else { reply::LINE_TOO_LONG }, out)
    }

    /// A mistake; too many of them end the session.
    pub(super) fn bad_command(&mut self, text: &[u8], out: &mut Vec<u8>) -> Option<Action<'static>> {
        out.extend_from_slice(text);
        self.bad_commands += 1;
        if self.bad_commands >= BAD_COMMANDS_MAX { self.close(reply::TOO_MANY_ERRORS, out) } else { None }
    }

    /// A mistake in MAIL or RCPT: an operator may want to see why somebody's mail does not get in.
    pub(super) fn bad_transaction_command(
        &mut self,
        text: &'static [u8],
        out: &mut Vec<u8>,
    ) -> Option<Action<'static>> {
        self.note(text);
        self.bad_command(text, out)
    }

    /// A command that moves nothing forward and is answered with `text`; too many of them end the session.
    pub(super) fn idle_command(&mut self, text: &'static [u8], out: &mut Vec<u8>) -> Option<Action<'static>> {
        if self.idles() {
            return self.refuse_and_close(reply::TOO_MANY_IDLE, out);
        }
        if matches!(text[0], b'4' | b'5') { self.refuse(text, out) } else { say(text, out) }
    }

    /// Counts a command that moves nothing forward: were there too many since the last message?
    pub(super) fn idles(&mut self) -> bool {
        self.idle_commands += 1;
        self.idle_commands > IDLE_COMMANDS_MAX
    }
}

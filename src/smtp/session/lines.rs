//! Command lines and lines of an AUTH exchange, with their limits and what befalls a client that does not keep them.

use super::{Action, Mode, Session};
use crate::smtp::command::verb;
use crate::smtp::line::{AUTH_BYTES_MAX, COMMAND_BYTES_MAX, Line};
use crate::smtp::reply;

/// Bad commands in one session before it is closed.
const BAD_COMMANDS_MAX: u8 = 20;

impl Session {
    /// One line of a command or an exchange.
    pub(super) fn line<'a>(&mut self, input: &'a [u8], out: &mut Vec<u8>) -> (usize, Option<Action<'a>>) {
        let mut lines = std::mem::take(&mut self.lines);
        // Which limit counts shows only when the verb is known.
        let (used, line) = lines.next(input, AUTH_BYTES_MAX);
        let Some(line) = line else {
            self.lines = lines;
            return (used, Some(Action::NeedInput));
        };
        let action = match line {
            Line::Whole(line) if line.len() + 2 > COMMAND_BYTES_MAX && !self.is_authenticating(line) => {
                self.bad_command(reply::LINE_TOO_LONG, out)
            }
            Line::Whole(line) => self.whole_line(line, &input[used..], out),
            Line::TooLong => self.too_long(out),
            Line::BareNewline => {
                self.refused = Some(reply::BARE_NEWLINE);
                self.close(reply::BARE_NEWLINE, out)
            }
            Line::Endless => {
                out.extend_from_slice(reply::LINE_TOO_LONG);
                self.close(reply::TOO_MANY_ERRORS, out)
            }
        };
        (used, action)
    }

    fn whole_line(&mut self, line: &[u8], rest: &[u8], out: &mut Vec<u8>) -> Option<Action<'static>> {
        if let Mode::Exchange(exchange) = &mut self.mode {
            let step = exchange.respond(line);
            return self.exchange_step(step, out);
        }
        self.command(line, rest, out)
    }

    /// RFC 4954 section 4: lines of an exchange, and AUTH with its initial response, may be longer than other commands.
    fn is_authenticating(&self, line: &[u8]) -> bool {
        matches!(self.mode, Mode::Exchange(_)) || verb(line).eq_ignore_ascii_case(b"AUTH")
    }

    fn too_long(&mut self, out: &mut Vec<u8>) -> Option<Action<'static>> {
        let text = if matches!(self.mode, Mode::Command) { reply::LINE_TOO_LONG } else { reply::AUTH_TOO_LONG };
        self.mode = Mode::Command;
        self.bad_command(text, out)
    }

    pub(super) fn bad_command(&mut self, text: &[u8], out: &mut Vec<u8>) -> Option<Action<'static>> {
        out.extend_from_slice(text);
        self.bad_commands += 1;
        if self.bad_commands >= BAD_COMMANDS_MAX { self.close(reply::TOO_MANY_ERRORS, out) } else { None }
    }
}

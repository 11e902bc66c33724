//! Content by BDAT. RFC 3030.
//!
//! ```text
//!             BDAT n           Begun              n octets                     BDAT m LAST, m octets
//!  Recipients ------> Waiting -------> in a chunk ---------> Chunks, 250 ----> in a chunk ----------> Waiting (Commit)
//!                        | Refused         | too large, odd      '-- RSET, EHLO: Abort
//!                        v                 v
//!                     swallow the rest, then say why; further chunks of that message: 503
//! ```
//!
//! Promises: the octets of a chunk are never read as commands, whatever is wrong with the BDAT before them; where their
//! number cannot be known the session is closed. A refused chunk is answered behind its last octet.

use super::content::Incoming;
use super::{Action, Mode, Session, State, Wait};
use crate::smtp::chunk::ChunkScanner;
use crate::smtp::reply;

/// A chunk that is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    /// Octets of it, as BDAT said.
    pub octets: u64,
    /// Those that have not come. `left <= octets`.
    pub left: u64,
    /// Is the message complete with it?
    pub last: bool,
    /// Why it is only swallowed.
    pub refused: Option<&'static [u8]>,
}

impl Session {
    /// BDAT; `refused`: what is wrong with it already. RFC 3030 section 2.
    pub(super) fn bdat(
        &mut self,
        octets: u64,
        last: bool,
        refused: Option<&'static [u8]>,
        out: &mut Vec<u8>,
    ) -> Option<Action<'static>> {
        let refused = refused.or_else(|| self.refuses_chunk(octets));
        self.declared_bytes = self.declared_bytes.max(self.content_bytes.saturating_add(octets));
        if octets > self.ceiling() {
            return self.give_up(refused.unwrap_or(reply::TOO_BIG), out);
        }
        let chunk = Chunk { octets, left: octets, last, refused };
        if refused.is_none() && self.state == State::Recipients {
            self.mode = Mode::Waiting(Wait::Begin(Incoming::Chunk(chunk)));
            return Some(Action::Begin);
        }
        self.mode = Mode::Chunk(chunk);
        // The message has lost a chunk: the driver may let go of the others.
        (refused.is_some() && self.state == State::Chunks).then_some(Action::Abort)
    }

    fn refuses_chunk(&self, octets: u64) -> Option<&'static [u8]> {
        match self.state {
            State::Fresh => Some(reply::HELLO_FIRST),
            State::Greeted => Some(reply::MAIL_FIRST),
            State::Sender if self.recipient_refused => Some(reply::NO_VALID_RECIPIENTS),
            State::Sender => Some(reply::RCPT_FIRST),
            State::Recipients | State::Chunks => {
                let dropped = self.chunks.as_ref().map_or(0, ChunkScanner::dropped);
                let total = self.content_bytes.saturating_add(dropped).saturating_add(octets);
                (total > self.rules.message_bytes_max).then_some(reply::TOO_BIG)
            }
        }
    }

    /// The octets of a chunk, up to the next thing that the driver must do.
    pub(super) fn chunk<'a>(&mut self, input: &'a [u8], out: &mut Vec<u8>) -> (usize, Option<Action<'a>>) {
        let Mode::Chunk(chunk) = &mut self.mode else { unreachable!("only in a chunk") };
        if chunk.left == 0 {
            let chunk = *chunk;
            return (0, self.end_of_chunk(chunk, out));
        }
        let part = &input[..usize::try_from(chunk.left).map_or(input.len(), |left| left.min(input.len()))];
        if part.is_empty() {
            return (0, Some(Action::NeedInput));
        }
        let (used, content) = match &mut self.chunks {
            Some(scanner) if chunk.refused.is_none() => scanner.next(part),
            _ => (part.len(), None),
        };
        chunk.left -= used as u64;
        (used, content.and_then(|content| self.hand_out(content)))
    }

    fn end_of_chunk(&mut self, chunk: Chunk, out: &mut Vec<u8>) -> Option<Action<'static>> {
        if let Some(text) = chunk.refused {
            return self.chunk_refused(chunk, text, out);
        }
        let scanner = self.chunks.as_mut().expect("made when the driver said Begun");
        if chunk.last
            && let Some(content) = scanner.end()
        {
            return self.hand_out(content);
        }
        let (refused, found) = (scanner.refused(), scanner.found());
        self.mode = Mode::Command;
        if chunk.last {
            return self.complete(refused, found, out);
        }
        // Nothing can mend what was found so far, and the client saves the rest.
        match self.verdict(refused, found) {
            Some(text) => {
                self.chunk_refused(chunk, text, out);
                Some(Action::Abort)
            }
            None if chunk.octets == 0 && self.idles() => self.refuse_and_close(reply::TOO_MANY_IDLE, out),
            None => {
                reply::chunk_taken(chunk.octets, out);
                None
            }
        }
    }

    /// Behind a chunk that is not taken. A transaction with recipients is lost with it.
    fn chunk_refused(&mut self, chunk: Chunk, text: &'static [u8], out: &mut Vec<u8>) -> Option<Action<'static>> {
        self.mode = Mode::Command;
        let action = match text {
            // A pipelining client has sent the others before it knew.
            _ if self.chunk_lost => self.idle_command(text, out),
            [b'5', b'0', ..] if self.state < State::Recipients => self.bad_command(text, out),
            [b'5', b'0', ..] => self.bad_transaction_command(text, out),
            [b'5', b'3', ..] => self.idle_command(text, out),
            _ => self.refuse(text, out),
        };
        if self.state >= State::Recipients {
            self.note_message();
            self.reset();
            self.chunk_lost = true;
        }
        self.chunk_lost &= !chunk.last;
        action
    }
}

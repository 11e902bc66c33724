//! Content by DATA, and what holds for content by DATA and by BDAT alike: when it is too large, what it may hold, and the
//! one place where it is given to the driver to be made durable.
//!
//! | | authenticated, trusted | strangers | BODY=BINARYMIME |
//! |---|---|---|---|
//! | bare CR, bare LF, NUL | `Rules::odd_bytes` | `Rules::odd_bytes_of_strangers` | taken |
//! | a line over 998 octets | taken; the relay wraps or encodes | 554 5.6.0 | taken |
//! | over SIZE | 552 5.3.4 after its end | the same | the same |
//! | over [`CEILING`] times SIZE | 552 5.3.4 at once, then 421 | the same | the same |

use super::chunk::Chunk;
use super::{Action, Mode, QueueName, Session, State, Wait};
use crate::smtp::body::{BodyScanner, Findings, OddBytes, Piece};
use crate::smtp::chunk::ChunkScanner;
use crate::smtp::envelope::Tag;
use crate::smtp::reply;

/// Past so many times the limit, content is no longer swallowed until its end: the session is closed.
const CEILING: u64 = 2;

/// How the content of a message comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Incoming {
    /// By DATA.
    Data,
    /// By BDAT; this is its first chunk.
    Chunk(Chunk),
}

impl Session {
    /// There is room: content may come.
    pub(super) fn begun(&mut self, incoming: Incoming, queue_name: QueueName, out: &mut Vec<u8>) {
        self.queue_name = queue_name;
        self.content_bytes = 0;
        self.mode = match incoming {
            Incoming::Data => {
                out.extend_from_slice(reply::GO_AHEAD);
                Mode::Data(BodyScanner::new(self.odd_bytes()))
            }
            Incoming::Chunk(chunk) => {
                self.state = State::Chunks;
                self.chunks =
                    Some(if self.binary { ChunkScanner::binary() } else { ChunkScanner::new(self.odd_bytes()) });
                Mode::Chunk(chunk)
            }
        };
    }

    /// Content by DATA, up to the next thing that the driver must do.
    pub(super) fn data<'a>(&mut self, input: &'a [u8], out: &mut Vec<u8>) -> (usize, Option<Action<'a>>) {
        if self.content_bytes > self.ceiling() {
            return (0, self.give_up(reply::TOO_BIG, out));
        }
        let Mode::Data(scanner) = &mut self.mode else { unreachable!("only after 354") };
        let (used, piece) = scanner.next(input);
        let (refused, found, dropped) = (scanner.refused(), scanner.found(), scanner.dropped());
        let action = match piece {
            Piece::Content(content) => self.hand_out(content),
            // What was dropped counts too, or content of NULs would never end.
            Piece::More | Piece::End if self.content_bytes.saturating_add(dropped) > self.ceiling() => {
                self.give_up(reply::TOO_BIG, out)
            }
            Piece::More => Some(Action::NeedInput),
            Piece::End => {
                self.mode = Mode::Command;
                self.complete(refused, found, out)
            }
        };
        (used, action)
    }

    /// A piece of content for the driver, unless there is too much already.
    pub(super) fn hand_out<'a>(&mut self, content: &'a [u8]) -> Option<Action<'a>> {
        let before = self.content_bytes;
        self.content_bytes += content.len() as u64;
        if self.content_bytes <= self.rules.message_bytes_max {
            return Some(Action::Body(content));
        }
        if let Mode::Chunk(chunk) = &mut self.mode {
            chunk.refused = Some(reply::TOO_BIG);
        }
        // What comes from here on is swallowed; the driver may let go of what it has.
        (before <= self.rules.message_bytes_max).then_some(Action::Abort)
    }

    /// All content is here. What was said of it is for the relay, which need not read it again.
    pub(super) fn complete(&mut self, refused: bool, found: Findings, out: &mut Vec<u8>) -> Option<Action<'static>> {
        if let Some(text) = self.verdict(refused, found) {
            self.refuse(text, out);
            self.note_message();
            self.reset();
            return (text != reply::TOO_BIG).then_some(Action::Abort);
        }
        self.envelope.push(Tag::EightBit, &[u8::from(found.eight_bit)]);
        self.envelope.push(Tag::LongLine, &[u8::from(found.long_line)]);
        self.mode = Mode::Waiting(Wait::Commit);
        Some(Action::Commit)
    }

    /// Why the content so far is refused, if it is.
    pub(super) fn verdict(&self, refused: bool, found: Findings) -> Option<&'static [u8]> {
        let stranger = !self.is_submission();
        if self.content_bytes > self.rules.message_bytes_max {
            Some(reply::TOO_BIG)
        } else if refused {
            Some(reply::ODD_CONTENT)
        } else if found.long_line && stranger && !self.binary {
            Some(reply::LONG_LINE)
        } else {
            None
        }
    }

    /// Octets of content past which the session is closed.
    pub(super) fn ceiling(&self) -> u64 {
        self.rules.message_bytes_max.saturating_mul(CEILING)
    }

    /// Refuses, and closes because what follows is too much to swallow or cannot be told from commands.
    pub(super) fn give_up(&mut self, text: &'static [u8], out: &mut Vec<u8>) -> Option<Action<'static>> {
        self.refuse(text, out);
        if self.state >= State::Recipients {
            self.note_message();
        }
        self.close(reply::OUT_OF_STEP, out)
    }

    fn odd_bytes(&self) -> OddBytes {
        if self.is_submission() { self.rules.odd_bytes } else { self.rules.odd_bytes_of_strangers }
    }
}

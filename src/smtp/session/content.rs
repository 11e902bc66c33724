//! Content: from the driver's word that there is room to the end of the data.

use super::{Action, Mode, QueueName, Session, Wait};
use crate::smtp::body::{BodyScanner, Findings, OddBytes, Piece};
use crate::smtp::envelope::Tag;
use crate::smtp::reply;

impl Session {
    /// Content up to the next thing that the driver must do.
    pub(super) fn content<'a>(&mut self, input: &'a [u8], out: &mut Vec<u8>) -> (usize, Option<Action<'a>>) {
        let Mode::Receiving(scanner) = &mut self.mode else { unreachable!("only while receiving") };
        let (used, piece) = scanner.next(input);
        let action = match piece {
            Piece::More => Some(Action::NeedInput),
            Piece::Content(content) => {
                let before = self.content_bytes;
                self.content_bytes += content.len() as u64;
                match self.content_bytes <= self.rules.message_bytes_max {
                    true => Some(Action::Body(content)),
                    // What comes from here on is swallowed; the driver may let go of what it has.
                    false if before <= self.rules.message_bytes_max => Some(Action::Abort),
                    false => None,
                }
            }
            Piece::End => {
                let (odd, found) = (scanner.refused(), scanner.found());
                self.end_of_data(odd, found, out)
            }
        };
        (used, action)
    }

    fn end_of_data(&mut self, odd: bool, found: Findings, out: &mut Vec<u8>) -> Option<Action<'static>> {
        let too_big = self.content_bytes > self.rules.message_bytes_max;
        if !too_big && !odd {
            // By these the relay knows what to ask of a next hop, without reading the content again.
            self.envelope.push(Tag::EightBit, &[u8::from(found.eight_bit)]);
            self.envelope.push(Tag::LongLine, &[u8::from(found.long_line)]);
            self.mode = Mode::Waiting(Wait::Commit);
            return Some(Action::Commit);
        }
        self.refuse(if too_big { reply::TOO_BIG } else { reply::ODD_CONTENT }, out);
        self.mode = Mode::Command;
        self.reset();
        (!too_big).then_some(Action::Abort)
    }

    pub(super) fn begun(&mut self, queue_name: QueueName, out: &mut Vec<u8>) {
        out.extend_from_slice(reply::GO_AHEAD);
        self.queue_name = queue_name;
        self.content_bytes = 0;
        let submission = self.user.is_some() || self.trusted;
        let odd_bytes = if submission { OddBytes::Normalize } else { OddBytes::Reject };
        self.mode = Mode::Receiving(BodyScanner::new(odd_bytes));
    }
}

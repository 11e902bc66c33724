//! Content that the next server cannot take as it is, encoded by the rules of MIME: octets above 127 for a server without
//! 8BITMIME (RFC 6152 section 3), lines of more than 998 octets, and binary content for a server without BINARYMIME
//! (RFC 3030 section 3).
//!
//! ```text
//!  content --> Lines --> Walker --+--> Planner: what does each part hold?   first reading
//!                                 |        |
//!                                 |       Plan: one Change for each part
//!                                 |        v
//!                                 '--> Converter --> content to send        second reading
//! ```
//!
//! The encoding of a part stands before the part, so the content is read twice: first for a plan, then to be converted.
//! Neither reading keeps more than a line, the open boundaries and five octets for each part.
//!
//! Promises: what a part decodes to is the same before and after; only parts that need it are encoded, as
//! quoted-printable if they are text and as base64 if not; no line that is made looks like a boundary; what comes out has
//! no line over 998 octets, no bare CR or LF, no NUL, and no octet above 127 unless the server takes them; the same
//! content in other pieces gives the same. Refused ([`Unconvertible`]) is what cannot be encoded without a lie: octets
//! above 127 in a header, a signed part, a part in an encoding that we do not know.
//!
//! A DKIM signature is no reason to refuse: it covers the encoded text and breaks, but who checks it knows that this
//! happens to honest mail (RFC 6376 section 5.3), while multipart/signed must never be touched (RFC 1847 section 2.1).

mod encode;
mod fields;
mod lines;
#[cfg(test)]
mod tests;
mod walker;

use super::LINE_BYTES_MAX;
use encode::Encoder;
pub(super) use fields::behind_blanks;
use fields::{Encoding, Media};
use lines::{Line, Lines, WHOLE_BYTES_MAX};
use walker::{Entity, Role, Step, Walker};

/// What the next server takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// It offers 8BITMIME: only long lines and binary parts are encoded.
    pub eight_bit: bool,
}

/// Why content cannot be converted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unconvertible {
    /// Octets above 127 in a header.
    HeaderEightBit,
    /// A header line that is too long and cannot be folded, or holds a bare CR, a bare LF or a NUL.
    HeaderLine,
    /// The part is within multipart/signed.
    Signed,
    /// The part's Content-Transfer-Encoding is not one of RFC 2045.
    UnknownEncoding,
    /// The part's type may not be encoded as a whole, and it cannot be taken apart. RFC 2045 section 6.4.
    Composite,
    /// More parts, or deeper, than any honest message has.
    TooComplex,
}

impl Unconvertible {
    /// The enhanced status code for the bounce. RFC 3463 section 3.7.
    pub fn status(self) -> &'static str {
        match self {
            Unconvertible::HeaderLine | Unconvertible::TooComplex => "5.6.0",
            _ => "5.6.3",
        }
    }

    /// A sentence for the bounce and the log.
    pub fn text(self) -> &'static str {
        match self {
            Unconvertible::HeaderEightBit => "the message header holds 8-bit text, which cannot be encoded",
            Unconvertible::HeaderLine => "the message header holds a line that cannot be sent",
            Unconvertible::Signed => "a signed part would have to be changed",
            Unconvertible::UnknownEncoding => "a part in an unknown encoding would have to be changed",
            Unconvertible::Composite => "a part that must not be encoded would have to be",
            Unconvertible::TooComplex => "the message has too many parts to be converted",
        }
    }
}

/// What is done to one part and its header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Change {
    encode: Encode,
    /// The Content-Transfer-Encoding that replaces what is there.
    label: Option<Encoding>,
    /// Content-Type is missing and the text is not ASCII.
    content_type: bool,
    /// MIME-Version is missing and needed.
    mime_version: bool,
}

/// What is done to the octets of one part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Encode {
    #[default]
    Keep,
    QuotedPrintable,
    Base64,
    /// It is base64 already, in lines that are too long or with foreign octets.
    Base64Again,
    /// It is quoted-printable already, likewise.
    QuotedPrintableAgain,
}

/// What is to be done to a content.
#[derive(Clone, Debug)]
pub struct Plan {
    target: Target,
    /// By the number of the part, in the order of their headers.
    changes: Vec<Change>,
}

/// The first reading.
#[derive(Debug)]
pub struct Planner {
    lines: Lines,
    survey: Survey,
}

impl Planner {
    /// At the start of what would be sent.
    pub fn new(target: Target) -> Planner {
        let plan = Plan { target, changes: Vec::new() };
        let survey =
            Survey { plan, walker: Walker::default(), leaf: Entity::default(), look: Look::default(), failure: None };
        Planner { lines: Lines::default(), survey }
    }

    /// The next piece.
    pub fn feed(&mut self, piece: &[u8]) {
        let Planner { lines, survey } = self;
        lines.feed(piece, |line| survey.take(line));
    }

    /// Behind the last piece. Errors: why it must bounce.
    pub fn end(mut self) -> Result<Plan, Unconvertible> {
        let Planner { lines, survey } = &mut self;
        lines.end(|line| survey.take(line));
        if let Some(leaf) = survey.walker.leaf() {
            survey.decide(leaf);
        }
        match self.survey.failure {
            Some(failure) => Err(failure),
            None => Ok(self.survey.plan),
        }
    }
}

/// What a part that is being read holds.
#[derive(Clone, Copy, Debug, Default)]
struct Look {
    line_bytes: usize,
    long_line: bool,
    eight_bit: bool,
    /// A bare CR, a bare LF or a NUL.
    odd: bool,
}

impl Look {
    fn take(&mut self, line: &Line) {
        self.line_bytes = if line.starts { line.octets.len() } else { self.line_bytes + line.octets.len() };
        self.long_line |= self.line_bytes > LINE_BYTES_MAX;
        self.eight_bit |= !line.octets.is_ascii();
        self.odd |= is_odd(line.octets);
    }

    fn needs_encoding(&self, target: Target) -> bool {
        self.odd || self.long_line || self.eight_bit && !target.eight_bit
    }
}

fn is_odd(octets: &[u8]) -> bool {
    memchr::memchr3(b'\r', b'\n', 0, octets).is_some()
}

#[derive(Debug)]
struct Survey {
    plan: Plan,
    walker: Walker,
    /// The part that is being read.
    leaf: Entity,
    look: Look,
    failure: Option<Unconvertible>,
}

impl Survey {
    fn take(&mut self, line: &Line) {
        if self.failure.is_some() {
            return;
        }
        match self.walker.take(line) {
            Ok(step) => self.step(line, step),
            Err(failure) => self.failure = Some(failure),
        }
    }

    fn step(&mut self, line: &Line, step: Step) {
        if let Some(leaf) = step.leaf_ended {
            self.decide(leaf);
        }
        if let Some(number) = step.header_ended {
            self.plan.changes.resize(number + 1, Change::default());
            self.look = Look::default();
            self.leaf = self.walker.entity();
            if self.leaf.parts_follow && !self.leaf.signed {
                self.plan.changes[number].label = self.relabelled(true);
            }
        }
        match step.role {
            Role::Field { .. } => self.header_line(line),
            Role::Body => self.look.take(line),
            Role::Outside if self.walker.is_signed() => {
                self.look.take(line);
                if self.look.needs_encoding(self.plan.target) {
                    self.failure = Some(Unconvertible::Signed);
                }
            }
            Role::Outside | Role::HeaderEnd | Role::Delimiter => {}
        }
    }

    fn header_line(&mut self, line: &Line) {
        let too_long = line.octets.len() > LINE_BYTES_MAX;
        // First what does not depend on the parts in which a line came.
        let is_endless = !line.starts || line.octets.len() > WHOLE_BYTES_MAX;
        if is_endless || is_odd(line.octets) || too_long && !can_be_folded(line.octets) {
            self.failure = Some(Unconvertible::HeaderLine);
        } else if !line.octets.is_ascii() && !self.plan.target.eight_bit {
            self.failure = Some(Unconvertible::HeaderEightBit);
        } else if too_long && self.walker.is_signed() {
            self.failure = Some(Unconvertible::Signed);
        }
    }

    /// The part `number` has been read.
    fn decide(&mut self, number: usize) {
        let Entity { media, encoding, signed, has_content_type, message, .. } = self.leaf;
        if !self.look.needs_encoding(self.plan.target) {
            if !signed {
                self.plan.changes[number].label = self.relabelled(self.look.eight_bit);
            }
            return;
        }
        match how(media, encoding, self.look.odd) {
            Ok(_) if signed => self.failure = Some(Unconvertible::Signed),
            Ok((encode, label)) => {
                let change = &mut self.plan.changes[number];
                change.encode = encode;
                change.label = Some(label);
                change.content_type = !has_content_type && self.look.eight_bit;
                let needs_version = &mut self.plan.changes[message];
                needs_version.mime_version = !self.walker.has_mime_version(message);
            }
            Err(failure) => self.failure = Some(failure),
        }
    }

    /// What is sent in place of `8bit` and `binary` where the server or the content makes them untrue.
    fn relabelled(&self, eight_bit: bool) -> Option<Encoding> {
        let eight_bit = eight_bit && self.plan.target.eight_bit;
        match self.leaf.encoding {
            Encoding::Binary if eight_bit => Some(Encoding::EightBit),
            Encoding::Binary => Some(Encoding::SevenBit),
            Encoding::EightBit if !self.plan.target.eight_bit => Some(Encoding::SevenBit),
            _ => None,
        }
    }
}

/// How a part is encoded that must be, and what it is labelled with. RFC 2045 section 6.
fn how(media: Media, encoding: Encoding, odd: bool) -> Result<(Encode, Encoding), Unconvertible> {
    match (encoding, media) {
        (Encoding::Base64, _) => Ok((Encode::Base64Again, Encoding::Base64)),
        (Encoding::QuotedPrintable, _) => Ok((Encode::QuotedPrintableAgain, Encoding::QuotedPrintable)),
        (Encoding::Unknown, _) => Err(Unconvertible::UnknownEncoding),
        (_, Media::Text) if !odd => Ok((Encode::QuotedPrintable, Encoding::QuotedPrintable)),
        (_, Media::Text | Media::Leaf) => Ok((Encode::Base64, Encoding::Base64)),
        (_, Media::Multipart | Media::Signed | Media::Digest | Media::Message | Media::Composite) => {
            Err(Unconvertible::Composite)
        }
    }
}

/// The second reading.
#[derive(Debug)]
pub struct Converter {
    lines: Lines,
    writing: Writing,
}

impl Converter {
    /// At the start of the content that the plan was made from.
    pub fn new(plan: Plan) -> Converter {
        let writing = Writing { plan, walker: Walker::default(), encoder: Encoder::new(Encode::Keep), column: 0 };
        Converter { lines: Lines::default(), writing }
    }

    /// The next piece; what is to be sent is appended to `out`.
    pub fn feed(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        let Converter { lines, writing } = self;
        lines.feed(piece, |line| writing.take(line, out));
    }

    /// Behind the last piece.
    pub fn end(&mut self, out: &mut Vec<u8>) {
        let Converter { lines, writing } = self;
        lines.end(|line| writing.take(line, out));
        writing.encoder.finish(false, out);
    }
}

#[derive(Debug)]
struct Writing {
    plan: Plan,
    walker: Walker,
    encoder: Encoder,
    /// Octets of the line outside parts that is being written.
    column: usize,
}

impl Writing {
    fn take(&mut self, line: &Line, out: &mut Vec<u8>) {
        // The plan was made from the same content, where this went well.
        let Ok(step) = self.walker.take(line) else { return };
        if step.leaf_ended.is_some() {
            self.encoder.finish(true, out);
        }
        if let Some(number) = step.header_ended {
            self.header_ended(number, step.role, out);
        }
        match step.role {
            Role::Field { number, is_encoding: true } if self.change(number).label.is_some() => {}
            Role::Field { .. } => fold(line, out),
            Role::HeaderEnd => out.extend_from_slice(b"\r\n"),
            Role::Delimiter => {
                out.extend_from_slice(line.octets);
                out.extend_from_slice(line.end());
            }
            Role::Outside => self.outside(line, out),
            Role::Body => self.encoder.line(line, out),
        }
    }

    fn change(&self, number: usize) -> Change {
        self.plan.changes.get(number).copied().unwrap_or_default()
    }

    /// The header of the part `number` has ended. `line`: what comes next, the empty line or what stands in its place.
    fn header_ended(&mut self, number: usize, line: Role, out: &mut Vec<u8>) {
        let change = self.change(number);
        let before = out.len();
        if change.mime_version {
            out.extend_from_slice(b"MIME-Version: 1.0\r\n");
        }
        if change.content_type {
            // RFC 1428 section 3.
            out.extend_from_slice(b"Content-Type: text/plain; charset=unknown-8bit\r\n");
        }
        if let Some(label) = change.label {
            out.extend_from_slice(b"Content-Transfer-Encoding: ");
            out.extend_from_slice(label.name().as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        // What stands outside parts is not kept as it is, and must not become a field by that.
        let needs_empty_line = out.len() > before || line == Role::Outside;
        if needs_empty_line && line != Role::HeaderEnd {
            out.extend_from_slice(b"\r\n");
        }
        self.encoder = Encoder::new(change.encode);
    }

    /// What stands before, between and behind the parts of a multipart is shown to nobody: it need only be harmless.
    /// RFC 2046 section 5.1.1.
    fn outside(&mut self, line: &Line, out: &mut Vec<u8>) {
        if line.starts {
            self.column = 0;
        }
        for &octet in line.octets {
            if self.column == LINE_BYTES_MAX {
                // The space keeps it from being a boundary.
                out.extend_from_slice(b"\r\n ");
                self.column = 1;
            }
            let harmless = !matches!(octet, 0 | b'\r' | b'\n') && (octet.is_ascii() || self.plan.target.eight_bit);
            out.push(if harmless { octet } else { b'?' });
            self.column += 1;
        }
        out.extend_from_slice(line.end());
    }
}

/// Writes a header line, folded before white space if it is too long. RFC 5322 section 2.2.3.
fn fold(line: &Line, out: &mut Vec<u8>) {
    let mut rest = line.octets;
    while let Some(point) = fold_point(rest) {
        out.extend_from_slice(&rest[..point]);
        out.extend_from_slice(b"\r\n");
        rest = &rest[point..];
    }
    out.extend_from_slice(rest);
    out.extend_from_slice(line.end());
}

fn can_be_folded(line: &[u8]) -> bool {
    let mut rest = line;
    while let Some(point) = fold_point(rest) {
        rest = &rest[point..];
    }
    rest.len() <= LINE_BYTES_MAX
}

/// Where a line that is too long is folded: at white space with something else on both sides of it.
fn fold_point(line: &[u8]) -> Option<usize> {
    if line.len() <= LINE_BYTES_MAX {
        return None;
    }
    let is_blank = |octet: &u8| matches!(octet, b' ' | b'\t');
    let first = line.iter().position(|octet| !is_blank(octet))?;
    let point = (first..=LINE_BYTES_MAX).rev().find(|&at| is_blank(&line[at]))?;
    (!line[point..].iter().all(is_blank)).then_some(point)
}

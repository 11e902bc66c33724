//! The structure of a message, line by line: which line belongs to which part's header or body, and where parts end.
//! RFC 2046 section 5.
//!
//! Parts are numbered in the order of their headers; the message itself is part 0. Of a multipart that has begun, its
//! boundary is kept; a boundary of an outer one ends all inner ones.

use super::Unconvertible;
use super::fields::{ContentType, Encoding, Media};
use super::lines::{Line, WHOLE_BYTES_MAX};

/// Parts of a message.
const PARTS_MAX: usize = 10_000;
/// Multiparts within each other.
const DEPTH_MAX: usize = 50;
/// Octets of a Content-Type or Content-Transfer-Encoding field.
const FIELD_BYTES_MAX: usize = 16 * 1024;
/// A longer line is no boundary. RFC 2046 section 5.1.1 allows 70 octets and white space.
const DELIMITER_BYTES_MAX: usize = 998;

/// Octets up to the colon of a field.
const NAME_BYTES_MAX: usize = 998;

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A line of a header field of the part `number`.
    Field {
        /// The part.
        number: usize,
        /// The field is Content-Transfer-Encoding.
        is_encoding: bool,
    },
    /// The empty line behind a header.
    HeaderEnd,
    /// A boundary between parts, or behind the last one.
    Delimiter,
    /// Before the first part of a multipart, or behind its last one.
    Outside,
    /// Of the body of the part whose header has ended last.
    Body,
}

/// What a line is, and what it brings to an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The part whose header ends with this line or, if this is not the empty line, before it.
    pub header_ended: Option<usize>,
    /// The part whose body ended before this line.
    pub leaf_ended: Option<usize>,
    /// What the line itself is.
    pub role: Role,
}

/// What a header says of its part.
#[derive(Clone, Copy, Debug, Default)]
pub struct Entity {
    /// What it is.
    pub media: Media,
    /// How it is encoded.
    pub encoding: Encoding,
    /// Its body is made of parts, or of a message: it has no content of its own.
    pub parts_follow: bool,
    /// It is within multipart/signed.
    pub signed: bool,
    /// It says what it is.
    pub has_content_type: bool,
    /// The part that is the message to which it belongs.
    pub message: usize,
}

#[derive(Debug)]
enum Place {
    Header(Header),
    Leaf(usize),
    Outside,
}

/// A multipart that has begun.
#[derive(Debug)]
struct Open {
    boundary: Vec<u8>,
    media: Media,
    message: usize,
}

/// The header that is being read.
#[derive(Debug, Default)]
struct Header {
    number: usize,
    message: usize,
    media: Media,
    any_field: bool,
    content_type: Option<ContentType>,
    encoding: Option<Encoding>,
    field: Field,
    value: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Field {
    ContentType,
    Encoding,
    #[default]
    Other,
}

/// Follows the structure.
#[derive(Debug)]
pub struct Walker {
    place: Place,
    open: Vec<Open>,
    parts: usize,
    /// The part whose header has ended last.
    entity: Entity,
    /// By the number of the part: is there a MIME-Version?
    versions: Vec<bool>,
}

impl Default for Walker {
    fn default() -> Walker {
        let place = Place::Header(Header::default());
        Walker { place, open: Vec::new(), parts: 1, entity: Entity::default(), versions: vec![false] }
    }
}

impl Walker {
    /// The next line. Errors: [`Unconvertible::TooComplex`].
    pub fn take(&mut self, line: &Line) -> Result<Step, Unconvertible> {
        if let Some((depth, closes)) = self.delimiter(line) {
            return self.between_parts(depth, closes);
        }
        match &mut self.place {
            Place::Outside => Ok(Step::of(Role::Outside)),
            Place::Leaf(_) => Ok(Step::of(Role::Body)),
            Place::Header(header) => match header.take(line)? {
                HeaderLine::Field { is_encoding, is_version } => {
                    let number = header.number;
                    self.versions[number] |= is_version;
                    Ok(Step::of(Role::Field { number, is_encoding }))
                }
                HeaderLine::Empty => {
                    let header_ended = self.end_header(true)?;
                    Ok(Step { header_ended, ..Step::of(Role::HeaderEnd) })
                }
                HeaderLine::Body => {
                    let header_ended = self.end_header(false)?;
                    // A first boundary right behind the header, as every reader takes it.
                    if let Some((depth, closes)) = self.delimiter(line) {
                        return Ok(Step { header_ended, ..self.between_parts(depth, closes)? });
                    }
                    let role = if matches!(self.place, Place::Outside) { Role::Outside } else { Role::Body };
                    Ok(Step { header_ended, ..Step::of(role) })
                }
            },
        }
    }

    /// The part whose body is being read.
    pub fn leaf(&self) -> Option<usize> {
        match self.place {
            Place::Leaf(number) => Some(number),
            _ => None,
        }
    }

    /// What the header that ended last says.
    pub fn entity(&self) -> Entity {
        self.entity
    }

    /// Has the header of the part a MIME-Version field?
    pub fn has_mime_version(&self, number: usize) -> bool {
        self.versions.get(number).copied().unwrap_or(false)
    }

    /// Is this place within multipart/signed?
    pub fn is_signed(&self) -> bool {
        self.open.iter().any(|open| open.media == Media::Signed)
    }

    /// Is the line a boundary of an open multipart? Its index, and whether it is the one behind the last part.
    fn delimiter(&self, line: &Line) -> Option<(usize, bool)> {
        let text =
            line.octets.strip_prefix(b"--").filter(|_| line.starts && line.octets.len() <= DELIMITER_BYTES_MAX)?;
        self.open.iter().enumerate().rev().find_map(|(depth, open)| {
            let rest = text.strip_prefix(&open.boundary[..])?;
            let (rest, closes) = rest.strip_prefix(b"--").map_or((rest, false), |rest| (rest, true));
            rest.iter().all(|octet| matches!(octet, b' ' | b'\t')).then_some((depth, closes))
        })
    }

    fn between_parts(&mut self, depth: usize, closes: bool) -> Result<Step, Unconvertible> {
        let mut step = Step::of(Role::Delimiter);
        match self.place {
            Place::Leaf(number) => step.leaf_ended = Some(number),
            Place::Header(_) => step.header_ended = self.end_header(false)?,
            Place::Outside => {}
        }
        self.open.truncate(depth + 1);
        let Open { media, message, .. } = self.open[depth];
        if closes {
            self.open.pop();
            self.place = Place::Outside;
            return Ok(step);
        }
        let media = if media == Media::Digest { Media::Message } else { Media::Text };
        self.start_header(Some(message), media)?;
        Ok(step)
    }

    /// `message`: to which the part belongs; none, it is one. `media`: what it is if it does not say.
    fn start_header(&mut self, message: Option<usize>, media: Media) -> Result<(), Unconvertible> {
        let number = self.parts;
        if number == PARTS_MAX {
            return Err(Unconvertible::TooComplex);
        }
        self.parts += 1;
        self.versions.push(false);
        let message = message.unwrap_or(number);
        self.place = Place::Header(Header { number, message, media, ..Header::default() });
        Ok(())
    }

    /// Returns the number of the part whose header has ended. A message within needs the empty line to begin.
    fn end_header(&mut self, empty_line: bool) -> Result<Option<usize>, Unconvertible> {
        let Place::Header(header) = std::mem::replace(&mut self.place, Place::Outside) else { return Ok(None) };
        let Header { number, message, media, content_type, encoding, .. } = header.ended();
        let has_content_type = content_type.is_some();
        let ContentType { media, boundary } = content_type.unwrap_or(ContentType { media, boundary: None });
        let encoding = encoding.unwrap_or_default();
        let signed = self.is_signed();
        let is_message = media == Media::Message && encoding.is_identity() && empty_line;
        let parts_follow = is_message || boundary.is_some() && media.has_parts();
        self.entity = Entity { media, encoding, parts_follow, signed, has_content_type, message };
        match boundary {
            _ if is_message => self.start_header(None, Media::Text)?,
            Some(boundary) if media.has_parts() => {
                if self.open.len() == DEPTH_MAX {
                    return Err(Unconvertible::TooComplex);
                }
                self.open.push(Open { boundary, media, message });
            }
            _ => self.place = Place::Leaf(number),
        }
        Ok(Some(number))
    }
}

impl Step {
    fn of(role: Role) -> Step {
        Step { header_ended: None, leaf_ended: None, role }
    }
}

impl Media {
    fn has_parts(self) -> bool {
        matches!(self, Media::Multipart | Media::Signed | Media::Digest)
    }
}

enum HeaderLine {
    Field { is_encoding: bool, is_version: bool },
    Empty,
    Body,
}

impl Header {
    fn take(&mut self, line: &Line) -> Result<HeaderLine, Unconvertible> {
        let mut is_version = false;
        match line.octets {
            // The planner refuses such a line, in whatever parts it came.
            _ if !line.starts => {}
            [] => return Ok(HeaderLine::Empty),
            [b' ' | b'\t', ..] if self.any_field => self.append(line.octets, line.octets)?,
            octets => {
                let Some((name, value)) = split_field(octets) else { return Ok(HeaderLine::Body) };
                self.end_field();
                self.any_field = true;
                let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
                is_version = is("MIME-Version");
                self.field = match () {
                    () if is("Content-Type") => Field::ContentType,
                    () if is("Content-Transfer-Encoding") => Field::Encoding,
                    () => Field::Other,
                };
                self.append(octets, value)?;
            }
        }
        Ok(HeaderLine::Field { is_encoding: self.field == Field::Encoding, is_version })
    }

    /// `value`: what belongs to it of `line`.
    fn append(&mut self, line: &[u8], value: &[u8]) -> Result<(), Unconvertible> {
        if self.field == Field::Other || line.len() > WHOLE_BYTES_MAX {
            return Ok(());
        }
        if self.value.len() + value.len() > FIELD_BYTES_MAX {
            return Err(Unconvertible::TooComplex);
        }
        self.value.extend_from_slice(value);
        Ok(())
    }

    /// The first field of a name counts.
    fn end_field(&mut self) {
        match self.field {
            Field::ContentType if self.content_type.is_none() => {
                self.content_type = Some(ContentType::parse(&self.value));
            }
            Field::Encoding if self.encoding.is_none() => self.encoding = Some(Encoding::parse(&self.value)),
            _ => {}
        }
        self.value.clear();
        self.field = Field::Other;
    }

    fn ended(mut self) -> Header {
        self.end_field();
        self
    }
}

/// A field's name and value. RFC 5322 section 2.2, and white space before the colon (section 4.5). A long line may come in
/// parts: the colon must be where every first part has it.
fn split_field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let start = &line[..line.len().min(NAME_BYTES_MAX)];
    let end = start.iter().position(|octet| !matches!(octet, 33..=57 | 59..=126))?;
    let (name, rest) = line.split_at(end);
    let colon = start[end..].iter().position(|octet| !matches!(octet, b' ' | b'\t'))?;
    (end > 0 && rest[colon] == b':').then(|| (name, &rest[colon + 1..]))
}

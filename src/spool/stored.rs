//! A record read back: for delivery, and for the notifications that return its text.

use super::QueueId;
use super::file::ReadFile;
use super::follower::Location;
use super::layout::Layout;
use super::record::{self, Found, Head, KIND_SPILLED};
use super::spill::SpillReader;
use crate::smtp::envelope::View;
use std::collections::VecDeque;
use std::path::Path;

/// A record read back.
#[derive(Debug)]
pub struct Stored {
    /// The message's queue id.
    pub id: QueueId,
    /// Stored fields.
    pub envelope: Vec<u8>,
    /// The content.
    pub content: Content,
}

/// Content to stream: prepended fields are in the envelope, not here.
#[derive(Debug)]
pub enum Content {
    /// In memory.
    Memory(Vec<u8>),
    /// In a spill file: read piece by piece.
    Spilled(SpillReader),
}

/// Where a record is, with what it takes to read it while its segment may be recycled: then it is not found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference {
    pub(super) at: Location,
    pub(super) salt: u64,
    pub(super) size: u64,
}

/// Reads records on any thread, beside the follower.
#[derive(Debug)]
pub struct Reader {
    layout: Layout,
    readers: Readers,
}

impl Reader {
    /// Of the spool in `directory`.
    pub fn new(directory: &Path) -> Reader {
        Reader { layout: Layout::new(directory), readers: Readers::default() }
    }

    /// A record's stored fields, verified; the octets of its content, unless that is in a spill file, are not read.
    /// Errors: it is not there any more, damage or I/O, as text.
    pub fn envelope(&mut self, Reference { at, salt, size }: Reference) -> Result<(Vec<u8>, usize), String> {
        let (head, mut bytes) = self.readers.record(&self.layout, at, salt, size, false)?;
        bytes.truncate(head.fields_range().end);
        bytes.drain(..head.fields_range().start);
        Ok((bytes, head.content_bytes))
    }

    /// Envelope and content. Errors: as above.
    pub fn read(&mut self, Reference { at, salt, size }: Reference) -> Result<Stored, String> {
        self.readers.read(&self.layout, at, salt, size)
    }
}

/// Segments that were read last, open.
#[derive(Debug, Default)]
pub struct Readers {
    open: VecDeque<(Location, ReadFile)>,
}

/// Segments kept open.
const READERS: usize = 16;

impl Readers {
    /// The record at a place in a segment of so many octets, verified. Errors: damage or I/O, as text.
    pub fn read(&mut self, layout: &Layout, at: Location, salt: u64, size: u64) -> Result<Stored, String> {
        let (head, mut bytes) = self.record(layout, at, salt, size, true)?;
        let envelope = bytes[head.fields_range()].to_vec();
        if head.kind & KIND_SPILLED == 0 {
            bytes.truncate(head.content_range().end);
            bytes.drain(..head.content_range().start);
            return Ok(Stored { id: head.id, envelope, content: Content::Memory(bytes) });
        }
        let view = View::parse(&envelope).map_err(|damage| format!("{}: {damage:?}", head.id))?;
        let reference = view.spilled.ok_or_else(|| format!("{}: no spill file is named", head.id))?;
        let reader = SpillReader::open(&layout.spill(reference.file), reference)?;
        Ok(Stored { id: head.id, envelope, content: Content::Spilled(reader) })
    }

    /// The head of a record, and its octets up to the end of its fields or content at least.
    fn record(
        &mut self,
        layout: &Layout,
        at: Location,
        salt: u64,
        size: u64,
        with_content: bool,
    ) -> Result<(Head, Vec<u8>), String> {
        let path = layout.segment(at.segment);
        let describe = |error: std::io::Error| format!("{}: {error}", path.display());
        let file = self.reader(layout, at).map_err(describe)?;
        let mut bytes = vec![0; 8 << 10];
        loop {
            let read = file.read_at(at.at(), &mut bytes).map_err(describe)?;
            match record::parse(&bytes[..read], salt, size.saturating_sub(at.at()), with_content) {
                Found::Record(head) => return Ok((head, bytes)),
                Found::Needs(more) if read == bytes.len() => bytes.resize(more, 0),
                _ => return Err(format!("{} at {}: the record is damaged", path.display(), at.at())),
            }
        }
    }

    /// A segment is erased.
    pub fn forget(&mut self, segment: u32) {
        self.open.retain(|(at, _)| at.segment != segment);
    }

    fn reader(&mut self, layout: &Layout, at: Location) -> std::io::Result<&ReadFile> {
        let known = self.open.iter().position(|(one, _)| (one.segment, one.generation) == (at.segment, at.generation));
        let index = match known {
            Some(index) => index,
            None => {
                if self.open.len() == READERS {
                    self.open.pop_front();
                }
                self.open.push_back((at, ReadFile::open(&layout.segment(at.segment))?));
                self.open.len() - 1
            }
        };
        Ok(&self.open[index].1)
    }
}

//! What fuzz targets share: how a stream is cut into reads.
//!
//! The inputs of a target that reads a stream are
//!
//! ```text
//!  0      8
//!  | cuts | the stream, as it stands on the wire: seeds and dictionaries are plain text
//! ```
//!
//! Targets with settings have these before the cuts.

/// How long the reads are, one after the other and over again.
#[derive(arbitrary::Arbitrary, Clone, Copy, Debug)]
pub struct Cuts([u8; 8]);

impl Cuts {
    /// Takes the cuts from the start of an input.
    pub fn split_from(input: &[u8]) -> Option<(Cuts, &[u8])> {
        input.split_first_chunk().map(|(cuts, stream)| (Cuts(*cuts), stream))
    }

    /// The reads that `stream` arrives in; none is empty.
    pub fn pieces<'a>(self, stream: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + Clone {
        let mut rest = stream;
        let mut lengths = self.0.into_iter().cycle();
        std::iter::from_fn(move || {
            let length = match lengths.next()? {
                0 => rest.len(),
                // Blocks of the scanners and more.
                length @ 192.. => usize::from(length - 191) * 32,
                length => usize::from(length),
            };
            let (piece, behind) = rest.split_at(length.min(rest.len()));
            rest = behind;
            (!piece.is_empty()).then_some(piece)
        })
    }
}

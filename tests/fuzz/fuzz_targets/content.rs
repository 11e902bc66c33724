//! The content scanners, of DATA and of BDAT, agree with their naive twins in a split that the first octets choose; no
//! bare CR, LF or NUL is handed out but of BODY=BINARYMIME, which comes as it is.
#![no_main]
use libfuzzer_sys::fuzz_target;
use penstock::smtp::body::{BodyScanner, Findings, OddBytes, Piece, naive};
use penstock::smtp::chunk::{self, ChunkScanner};

fn data<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<u8>, Findings, Option<usize>) {
    let mut scanner = BodyScanner::new(OddBytes::Normalize);
    let (mut content, mut consumed) = (Vec::new(), 0);
    for piece in pieces {
        let mut rest = piece;
        loop {
            let (used, found) = scanner.next(rest);
            consumed += used;
            rest = &rest[used..];
            match found {
                Piece::Content(slice) => content.extend_from_slice(slice),
                Piece::End => return (content, scanner.found(), Some(consumed)),
                Piece::More => break,
            }
        }
    }
    (content, scanner.found(), None)
}

fn chunks<'a>(pieces: impl Iterator<Item = &'a [u8]>, mut scanner: ChunkScanner) -> (Vec<u8>, Findings) {
    let mut content = Vec::new();
    for piece in pieces {
        let mut rest = piece;
        while let (used, Some(slice)) = scanner.next(rest) {
            content.extend_from_slice(slice);
            rest = &rest[used..];
        }
    }
    content.extend_from_slice(scanner.end().unwrap_or_default());
    (content, scanner.found())
}

fuzz_target!(|input: &[u8]| {
    let Some((&step, input)) = input.split_first() else { return };
    let pieces = || input.chunks(usize::from(step).max(1));
    assert_eq!(data(pieces()), naive(input));
    assert_eq!(chunks(pieces(), ChunkScanner::binary()), chunk::naive(input, true));
    let (content, found) = chunks(pieces(), ChunkScanner::new(OddBytes::Normalize));
    assert!(!content.contains(&0));
    assert_eq!((content, found), chunk::naive(input, false));
});

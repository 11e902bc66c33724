//! The content scanner agrees with its naive twin in a split that the first octets choose; no bare CR, LF or NUL is handed
//! out.
#![no_main]
use libfuzzer_sys::fuzz_target;
use penstock::smtp::body::{BodyScanner, OddBytes, Piece, naive};

fuzz_target!(|input: &[u8]| {
    let Some((&step, input)) = input.split_first() else { return };
    let mut scanner = BodyScanner::new(OddBytes::Normalize);
    let (mut content, mut consumed, mut end) = (Vec::new(), 0, None);
    'pieces: for piece in input.chunks(usize::from(step).max(1)) {
        let mut rest = piece;
        loop {
            let (used, found) = scanner.next(rest);
            consumed += used;
            rest = &rest[used..];
            match found {
                Piece::Content(slice) => content.extend_from_slice(slice),
                Piece::End => {
                    end = Some(consumed);
                    break 'pieces;
                }
                Piece::More => break,
            }
        }
    }
    assert_eq!((content, scanner.found(), end), naive(input));
});

//! Content by BDAT, in any chunks cut anywhere: the scanner agrees with its naive twin; no bare CR, bare LF or NUL is
//! handed out, but BODY=BINARYMIME comes octet for octet.
#![no_main]
use libfuzzer_sys::fuzz_target;
use penstock::smtp::body::{Findings, OddBytes};
use penstock::smtp::chunk::{ChunkScanner, naive};
use penstock_fuzz::Cuts;

fn scan<'a>(pieces: impl Iterator<Item = &'a [u8]>, mut scanner: ChunkScanner) -> (Vec<u8>, Findings, bool) {
    let mut content = Vec::new();
    for piece in pieces {
        let mut rest = piece;
        loop {
            let (used, slice) = scanner.next(rest);
            rest = &rest[used..];
            let Some(slice) = slice else { break };
            content.extend_from_slice(slice);
        }
        assert!(rest.is_empty(), "none means that all was consumed");
    }
    content.extend_from_slice(scanner.end().unwrap_or_default());
    (content, scanner.found(), scanner.refused())
}

fuzz_target!(|input: &[u8]| {
    let Some((cuts, stream)) = Cuts::split_from(input) else { return };
    let (content, found) = naive(stream, false);
    let normalized = scan(cuts.pieces(stream), ChunkScanner::new(OddBytes::Normalize));
    assert_eq!(normalized, (content.clone(), found, false));
    assert_eq!(scan(cuts.pieces(stream), ChunkScanner::new(OddBytes::Reject)), (content.clone(), found, found.odd));
    let ends = content.windows(2).filter(|pair| pair == b"\r\n").count();
    assert_eq!(content.iter().filter(|octet| matches!(octet, b'\r' | b'\n')).count(), 2 * ends);
    assert!(!content.contains(&0));

    let (_, found) = naive(stream, true);
    assert_eq!(scan(cuts.pieces(stream), ChunkScanner::binary()), (stream.to_vec(), found, false));
});

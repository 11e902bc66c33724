//! Content by DATA, cut anywhere: the scanner agrees with its naive twin, nothing but CRLF.CRLF is its end, and no bare
//! CR, bare LF or NUL is handed out under either policy.
#![no_main]
use libfuzzer_sys::fuzz_target;
use penstock::smtp::body::{BodyScanner, Findings, OddBytes, Piece, naive};
use penstock_fuzz::Cuts;

fn scan<'a>(pieces: impl Iterator<Item = &'a [u8]>, policy: OddBytes) -> (Vec<u8>, Findings, Option<usize>) {
    let mut scanner = BodyScanner::new(policy);
    let (mut content, mut consumed) = (Vec::new(), 0);
    let mut end = None;
    'pieces: for piece in pieces {
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
        assert!(rest.is_empty(), "More means that all was consumed");
    }
    assert_eq!(scanner.refused(), policy == OddBytes::Reject && scanner.found().odd);
    (content, scanner.found(), end)
}

/// Neither a CR without LF, nor an LF without CR, nor a NUL. Content that has not ended may end within a line.
fn is_clean(content: &[u8]) -> bool {
    let lines = content.split(|octet| *octet == b'\n').count() - 1;
    let carriage_returns = content.iter().filter(|octet| **octet == b'\r').count();
    let ends = content.windows(2).filter(|pair| pair == b"\r\n").count();
    lines == ends && carriage_returns == ends && !content.contains(&0)
}

fuzz_target!(|input: &[u8]| {
    let Some((cuts, stream)) = Cuts::split_from(input) else { return };
    let expected = naive(stream);
    let found = scan(cuts.pieces(stream), OddBytes::Normalize);
    assert_eq!(found, expected);
    assert_eq!(scan(cuts.pieces(stream), OddBytes::Reject), expected);
    assert!(is_clean(&found.0));
    // RFC 5321 section 4.1.1.4; the CRLF may be that of the line of DATA.
    let whole = [b"\r\n", stream].concat();
    let end = whole.windows(5).position(|window| window == b"\r\n.\r\n").map(|at| at + 3);
    assert_eq!(found.2, end);
});

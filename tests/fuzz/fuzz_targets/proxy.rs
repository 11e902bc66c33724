//! PROXY headers and XCLIENT lines: read alike in any split, bounded, nothing behind a header is eaten, and what was parsed
//! holds no control characters.
#![no_main]
use libfuzzer_sys::fuzz_target;
use penstock::net::proxy::{NoHeader, Proxied, Scanner};
use penstock::smtp::xclient::Xclient;

/// Signature, command, family, length and the most that is taken behind them.
const HEADER_BYTES_MAX: usize = 16 + 4096;

fn read(input: &[u8], step: usize) -> (usize, Option<Result<Proxied, NoHeader>>) {
    let mut scanner = Scanner::default();
    let mut used = 0;
    for piece in input.chunks(step) {
        let (took, header) = scanner.next(piece);
        used += took;
        if header.is_some() {
            return (used, header);
        }
        assert_eq!(took, piece.len());
    }
    (used, None)
}

fuzz_target!(|input: &[u8]| {
    let [step, input @ ..] = input else { return };
    let (used, header) = read(input, input.len().max(1));
    assert_eq!(read(input, usize::from(*step).max(1)), (used, header));
    assert!(used <= HEADER_BYTES_MAX);
    if let (Some(Ok(_)), true) = (header, input.starts_with(b"PROXY ")) {
        assert!(used <= 107 && input[..used].ends_with(b"\r\n") && !input[..used - 2].contains(&b'\n'));
    }
    if let Some(xclient) = Xclient::parse(input) {
        for text in [&xclient.name, &xclient.helo, &xclient.login].into_iter().flatten() {
            assert!(!text.is_empty() && text.len() <= 255 && !text.contains(char::is_control));
        }
    }
});

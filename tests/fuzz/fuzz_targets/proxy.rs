//! PROXY headers and XCLIENT lines: read alike however they are cut, bounded, nothing behind a header is eaten, and what
//! was parsed holds no control characters.
#![no_main]
use libfuzzer_sys::fuzz_target;
use penstock::net::proxy::{NoHeader, Proxied, Scanner};
use penstock::smtp::xclient::Xclient;
use penstock_fuzz::Cuts;

/// Signature, command, family, length and the most that is taken behind them.
const HEADER_BYTES_MAX: usize = 16 + 4096;

fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (usize, Option<Result<Proxied, NoHeader>>) {
    let mut scanner = Scanner::default();
    let mut used = 0;
    for piece in pieces {
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
    let Some((cuts, input)) = Cuts::split_from(input) else { return };
    let (used, header) = read([input].into_iter());
    assert_eq!(read(cuts.pieces(input)), (used, header));
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

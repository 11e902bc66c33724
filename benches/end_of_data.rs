//! Claim: the end of the data is found, dots are unstuffed and odd octets, long lines and 8-bit octets are seen, many times
//! faster than octet by octet, and in no more time than a `memchr` per line needs for the line ends alone.
//!
//! `copied` appends what the scanner hands out to a buffer, as the naive twin does; `borrowed` only looks at it. Beside
//! it, borrowed too: `memchr_per_line` splits at LF and takes dots out, and checks nothing; `memmem` only looks for
//! CRLF.CRLF, and neither takes dots out nor checks anything: it is what the answer alone costs.

#[path = "support/naive_end_of_data.rs"]
mod naive;
mod support;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use memchr::{memchr, memmem};
use penstock::smtp::body::{BodyScanner, OddBytes, Piece};
use std::hint::black_box;

const CONTENT_BYTES: usize = 64 * 1024;

/// Hands the content up to CRLF.CRLF to `each`; how much of `wire` was consumed, none: no end.
fn scan(wire: &[u8], mut each: impl FnMut(&[u8])) -> Option<usize> {
    let mut scanner = BodyScanner::new(OddBytes::Reject);
    let mut used = 0;
    loop {
        let (took, piece) = scanner.next(&wire[used..]);
        used += took;
        match piece {
            Piece::Content(content) => each(content),
            Piece::End => return (!scanner.found().odd).then_some(used),
            Piece::More => return None,
        }
    }
}

/// Lines by their LF, dots taken out: how much was consumed up to the line that is a dot.
fn memchr_per_line(wire: &[u8], mut each: impl FnMut(&[u8])) -> Option<usize> {
    let mut at = 0;
    while let Some(length) = memchr(b'\n', &wire[at..]) {
        let line = &wire[at..at + length + 1];
        at += line.len();
        if line == b".\r\n" {
            return Some(at);
        }
        each(line.strip_prefix(b".").unwrap_or(line));
    }
    None
}

/// Where CRLF.CRLF ends. The content is not empty.
fn plain_memmem(wire: &[u8]) -> Option<usize> {
    memmem::find(wire, b"\r\n.\r\n").map(|at| at + 5)
}

fn unstuff(wire: &[u8], content: &mut Vec<u8>) -> Option<usize> {
    content.clear();
    scan(wire, |piece| content.extend_from_slice(piece))
}

fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("end_of_data");
    let inputs = [
        ("text", support::text(CONTENT_BYTES)),
        ("base64", support::base64(CONTENT_BYTES)),
        ("8bit", support::eight_bit_text(CONTENT_BYTES)),
        ("4KiB", support::text(4096)),
    ];
    for (name, content) in inputs {
        let mut wire = support::stuffed(&content);
        let end = wire.len();
        wire.extend_from_slice(b"QUIT\r\n");
        let (mut by_naive, mut by_scanner) = (Vec::new(), Vec::new());
        assert_eq!(naive::unstuff(&wire, &mut by_naive), Some(end), "{name}");
        assert_eq!(unstuff(&wire, &mut by_scanner), Some(end), "{name}");
        assert!(by_naive == content && by_scanner == content, "{name}");
        let mut by_memchr = Vec::new();
        assert_eq!(memchr_per_line(&wire, |line| by_memchr.extend_from_slice(line)), Some(end), "{name}");
        assert!(by_memchr == content && plain_memmem(&wire) == Some(end), "{name}");
        group.throughput(Throughput::Bytes(end as u64));
        group.bench_with_input(BenchmarkId::new("naive", name), &wire, |b, wire| {
            b.iter(|| naive::unstuff(black_box(wire), &mut by_naive));
        });
        group.bench_with_input(BenchmarkId::new("copied", name), &wire, |b, wire| {
            b.iter(|| unstuff(black_box(wire), &mut by_scanner));
        });
        group.bench_with_input(BenchmarkId::new("borrowed", name), &wire, |b, wire| {
            b.iter(|| scan(black_box(wire), |piece| _ = black_box(piece)));
        });
        group.bench_with_input(BenchmarkId::new("memchr_per_line", name), &wire, |b, wire| {
            b.iter(|| memchr_per_line(black_box(wire), |line| _ = black_box(line)));
        });
        group.bench_with_input(BenchmarkId::new("memmem", name), &wire, |b, wire| {
            b.iter(|| plain_memmem(black_box(wire)));
        });
    }
    group.finish();
}

criterion_group! { name = benches; config = support::settings(); targets = bench }
criterion_main!(benches);

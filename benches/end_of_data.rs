//! Claim: the end of the data is found, and dots are unstuffed, many times faster than octet by octet.
//!
//! `copied` appends what the scanner hands out to a buffer, as the naive twin does; `borrowed` only looks at it.

#[path = "support/naive_end_of_data.rs"]
mod naive;
mod support;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
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

fn unstuff(wire: &[u8], content: &mut Vec<u8>) -> Option<usize> {
    content.clear();
    scan(wire, |piece| content.extend_from_slice(piece))
}

fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("end_of_data");
    for (name, content) in [("text", support::text(CONTENT_BYTES)), ("base64", support::base64(CONTENT_BYTES))] {
        let mut wire = support::stuffed(&content);
        let end = wire.len();
        wire.extend_from_slice(b"QUIT\r\n");
        let (mut by_naive, mut by_scanner) = (Vec::new(), Vec::new());
        assert_eq!(naive::unstuff(&wire, &mut by_naive), Some(end), "{name}");
        assert_eq!(unstuff(&wire, &mut by_scanner), Some(end), "{name}");
        assert!(by_naive == content && by_scanner == content, "{name}");
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
    }
    group.finish();
}

criterion_group! { name = benches; config = support::settings(); targets = bench }
criterion_main!(benches);

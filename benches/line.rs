//! Claim: the line scanner finds command lines many times faster than octet by octet, and copies none that is whole.

#[path = "support/naive_line.rs"]
mod naive;
mod support;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use penstock::smtp::line::{COMMAND_BYTES_MAX, Line, LineScanner};
use std::hint::black_box;

/// What a socket read brings at most, about.
const READ_BYTES: usize = 16 * 1024;

/// As the naive twin, with the scanner.
fn lines(input: &[u8], limit: usize, mut each: impl FnMut(&[u8])) -> Option<()> {
    let mut scanner = LineScanner::default();
    let mut rest = input;
    loop {
        let (used, line) = scanner.next(rest, limit);
        match line {
            Some(Line::Whole(line)) => each(line),
            Some(_) => return None,
            None => return Some(()),
        }
        rest = &rest[used..];
    }
}

fn collected(scan: impl FnOnce(&mut dyn FnMut(&[u8])) -> Option<()>) -> Option<Vec<Vec<u8>>> {
    let mut found = Vec::new();
    scan(&mut |line| found.push(line.to_vec())).map(|()| found)
}

fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("line");
    let inputs = [
        ("recipients", support::recipients(400)),
        ("text", support::text(READ_BYTES)),
        ("base64", support::base64(READ_BYTES)),
    ];
    for (name, input) in &inputs {
        let naive = collected(|each| naive::lines(input, COMMAND_BYTES_MAX, each));
        let fast = collected(|each| lines(input, COMMAND_BYTES_MAX, each));
        assert!(naive.as_ref().is_some_and(|lines| lines.len() > 100));
        assert_eq!(naive, fast, "{name}");
        group.throughput(Throughput::Bytes(input.len() as u64));
        group.bench_with_input(BenchmarkId::new("naive", name), input, |b, input| {
            b.iter(|| naive::lines(black_box(input), COMMAND_BYTES_MAX, |line| _ = black_box(line)));
        });
        group.bench_with_input(BenchmarkId::new("scanner", name), input, |b, input| {
            b.iter(|| lines(black_box(input), COMMAND_BYTES_MAX, |line| _ = black_box(line)));
        });
    }
    group.finish();
}

criterion_group! { name = benches; config = support::settings(); targets = bench }
criterion_main!(benches);

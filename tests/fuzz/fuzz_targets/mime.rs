//! Any content, cut anywhere, is refused or converted to what every server takes: no long line, no bare CR or LF, no NUL,
//! nothing above 127 unless that was agreed; where it was cut does not matter, and there is nothing left to convert.
#![no_main]
use libfuzzer_sys::fuzz_target;
use penstock::message::mime::{Converter, Planner, Target, Unconvertible};
use penstock_fuzz::Cuts;

fn convert<'a>(pieces: impl Iterator<Item = &'a [u8]> + Clone, target: Target) -> Result<Vec<u8>, Unconvertible> {
    let mut planner = Planner::new(target);
    pieces.clone().for_each(|piece| planner.feed(piece));
    let mut converter = Converter::new(planner.end()?);
    let mut out = Vec::new();
    pieces.for_each(|piece| converter.feed(piece, &mut out));
    converter.end(&mut out);
    Ok(out)
}

fuzz_target!(|input: &[u8]| {
    let Some((cuts, content)) = Cuts::split_from(input) else { return };
    for eight_bit in [false, true] {
        check(cuts, content, Target { eight_bit });
    }
});

fn check(cuts: Cuts, content: &[u8], target: Target) {
    let result = convert([content].into_iter(), target);
    assert_eq!(convert(cuts.pieces(content), target), result);
    let Ok(out) = result else { return };
    assert!(target.eight_bit || out.is_ascii());
    for line in out.split(|&octet| octet == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        assert!(line.len() <= 998 && !line.contains(&0) && !line.contains(&b'\r'));
    }
    let newlines = out.iter().filter(|&&octet| octet == b'\n').count();
    assert_eq!(out.windows(2).filter(|pair| pair == b"\r\n").count(), newlines);
    assert_eq!(convert([&out[..]].into_iter(), target).as_ref(), Ok(&out));
}

//! Any content, in a split that the first octet chooses, is refused or converted to what every server takes: no long line,
//! no bare CR or LF, no NUL, nothing above 127 unless that was agreed; the split does not matter, and there is nothing left
//! to convert.
#![no_main]
use libfuzzer_sys::fuzz_target;
use penstock::message::mime::{Converter, Planner, Target, Unconvertible};

fn convert(content: &[u8], step: usize, target: Target) -> Result<Vec<u8>, Unconvertible> {
    let mut planner = Planner::new(target);
    content.chunks(step).for_each(|piece| planner.feed(piece));
    let mut converter = Converter::new(planner.end()?);
    let mut out = Vec::new();
    content.chunks(step).for_each(|piece| converter.feed(piece, &mut out));
    converter.end(&mut out);
    Ok(out)
}

fuzz_target!(|input: &[u8]| {
    let Some((&step, content)) = input.split_first() else { return };
    let target = Target { eight_bit: step & 1 != 0 };
    let result = convert(content, content.len().max(1), target);
    assert_eq!(convert(content, usize::from(step).max(1), target), result);
    let Ok(out) = result else { return };
    assert!(target.eight_bit || out.is_ascii());
    for line in out.split(|&octet| octet == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        assert!(line.len() <= 998 && !line.contains(&0) && !line.contains(&b'\r'));
    }
    let newlines = out.iter().filter(|&&octet| octet == b'\n').count();
    assert_eq!(out.windows(2).filter(|pair| pair == b"\r\n").count(), newlines);
    assert_eq!(convert(&out, out.len().max(1), target).as_ref(), Ok(&out));
});

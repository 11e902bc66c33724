//! What the benches share: inputs that look like mail, always the same, and short measurement times.

// Each bench is a crate of its own and uses a part of this.
#![allow(dead_code)]

use criterion::Criterion;
use std::time::Duration;

/// Short enough for all benches together to take a minute or two; `--measurement-time 10` measures finer.
pub fn settings() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(1200))
        .sample_size(20)
}

/// `size` octets of text lines of 60 to 76 characters with CRLF; one line in 24 starts with a dot.
pub fn text(size: usize) -> Vec<u8> {
    const WORDS: [&str; 8] = ["the ", "lecture ", "notes ", "for ", "week ", "one, ", "coursework ", "at noon. "];
    let mut state = 7u32;
    let mut below = |bound: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((u64::from(state) * u64::from(bound)) >> 32) as u32
    };
    let mut text = Vec::with_capacity(size + 80);
    while text.len() < size {
        let end = text.len() + 60 + below(17) as usize;
        if below(24) == 0 {
            text.push(b'.');
        }
        while text.len() < end {
            text.extend_from_slice(WORDS[below(8) as usize].as_bytes());
        }
        text.truncate(end);
        text.extend_from_slice(b"\r\n");
    }
    whole_lines(text, size)
}

/// [`text`] in Latin-1, so that every line has octets above 127 and is as long as before.
pub fn eight_bit_text(size: usize) -> Vec<u8> {
    text(size).into_iter().map(|octet| if octet == b'e' { 0xe9 } else { octet }).collect()
}

/// `size` octets of base64 lines of 76 characters with CRLF, as attachments have them.
pub fn base64(size: usize) -> Vec<u8> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut state = 7u32;
    let mut lines = Vec::with_capacity(size + 80);
    while lines.len() < size {
        for _ in 0..76 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            lines.push(ALPHABET[(state >> 26) as usize]);
        }
        lines.extend_from_slice(b"\r\n");
    }
    whole_lines(lines, size)
}

/// As it goes over the wire: dots stuffed, the end of the data behind it. RFC 5321 section 4.5.2.
pub fn stuffed(content: &[u8]) -> Vec<u8> {
    let mut wire = Vec::with_capacity(content.len() + content.len() / 50 + 3);
    for line in content.split_inclusive(|&octet| octet == b'\n') {
        if line.starts_with(b".") {
            wire.push(b'.');
        }
        wire.extend_from_slice(line);
    }
    wire.extend_from_slice(b".\r\n");
    wire
}

/// `count` commands of an envelope, pipelined.
pub fn recipients(count: usize) -> Vec<u8> {
    (0..count).flat_map(|number| format!("RCPT TO:<student{number:05}@example.edu>\r\n").into_bytes()).collect()
}

/// Cut to `size`; the last line keeps its CRLF.
fn whole_lines(mut lines: Vec<u8>, size: usize) -> Vec<u8> {
    lines.truncate(size.max(2) - 2);
    lines.extend_from_slice(b"\r\n");
    lines
}

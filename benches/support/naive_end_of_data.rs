//! The content scanner's naive twin: octet by octet into a line, and the line into a vector.
//!
//! It knows only honest content: lines that end with CRLF. What odd bytes do is the business of the scanner's tests,
//! which have a twin of their own.

/// Unstuffs up to CRLF.CRLF into `content`, which is emptied first. How much of `wire` was consumed; none: no end.
pub fn unstuff(wire: &[u8], content: &mut Vec<u8>) -> Option<usize> {
    content.clear();
    let mut line = Vec::new();
    for (at, &octet) in wire.iter().enumerate() {
        line.push(octet);
        if !line.ends_with(b"\r\n") {
            continue;
        }
        if line == b".\r\n" {
            return Some(at + 1);
        }
        content.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
        line.clear();
    }
    None
}

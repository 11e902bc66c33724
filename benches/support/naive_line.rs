//! The line scanner's naive twin: octet by octet, each line collected in a vector of its own.

/// Hands each line without its CRLF to `each`. Lines over `limit`, bare newlines: none, then it ends.
pub fn lines(input: &[u8], limit: usize, mut each: impl FnMut(&[u8])) -> Option<()> {
    let mut line = Vec::new();
    for &octet in input {
        line.push(octet);
        if line.len() > limit {
            return None;
        }
        if octet == b'\n' {
            line.pop();
            if line.pop() != Some(b'\r') {
                return None;
            }
            each(&line);
            line = Vec::new();
        }
    }
    Some(())
}

//! Clients that speak another protocol: a web browser, or TLS where clients begin in the clear.
//!
//! A browser can be made to post to any port, and what it posts holds whatever a web page wants (ALPACA, Postfix's
//! `smtpd_forbidden_commands`). None of it may run: the session ends with the first line that gives it away.

use crate::smtp::command::verb;

/// Type and major version of a TLS record: what a ClientHello begins with. RFC 8446 section 5.1.
pub const TLS_RECORD: [u8; 2] = [0x16, 0x03];

/// The methods of RFC 9110 section 9 and RFC 5789.
const METHODS: [&[u8]; 9] = [b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"DELETE", b"PATCH", b"CONNECT", b"TRACE"];

/// Is this, or was this the start of, a request line of HTTP? RFC 9112 section 3.
pub fn is_http(line: &[u8]) -> bool {
    let version = line.trim_ascii_end().last_chunk::<8>();
    METHODS.iter().any(|method| verb(line).eq_ignore_ascii_case(method))
        || version.is_some_and(|version| version.starts_with(b"HTTP/1.") && version[7].is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    // covers: 2.9
    #[test]
    fn request_lines() {
        for line in
            ["GET / HTTP/1.1", "post /mail", "CONNECT a:25 HTTP/1.0", "PROPFIND / HTTP/1.1 ", "TRACE", "OPTIONS "]
        {
            assert!(is_http(line.as_bytes()), "{line}");
        }
        for line in ["", "GETTING", "EHLO HTTP", "HTTP/1.1 200", "NOOP HTTP/2", "HTTP/1.x", "QUIT"] {
            assert!(!is_http(line.as_bytes()), "{line}");
        }
    }
}

//! The commands of the client as they stand on the wire, and what a server offers.

use super::{Options, Transaction};
use crate::sasl::Mechanism;

/// A command sent, or to be sent; it names the reply that is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// Nothing is sent: the server speaks first.
    Greeting,
    /// EHLO or LHLO.
    Ehlo,
    /// HELO, for a server that does not know EHLO.
    Helo,
    StartTls,
    /// AUTH and the lines of the exchange.
    Auth,
    Rset,
    Mail,
    /// RCPT of the recipient with this index.
    Rcpt(usize),
    Data,
    /// The dot alone, after a 354 to no recipient.
    LoneDot,
    /// The end of the content.
    Dot,
    /// LMTP: the reply to the dot for the recipient with this index.
    DotFor(usize),
    Quit,
}

/// What the server offers in reply to EHLO.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Offered {
    pub(super) starttls: bool,
    pub(super) pipelining: bool,
    pub(super) size: bool,
    pub(super) eight_bit: bool,
    pub(super) smtputf8: bool,
}

impl Offered {
    /// From the text of the reply to EHLO; its first line is the server's name. RFC 5321 section 4.1.1.1.
    pub(super) fn parse(text: &str) -> Offered {
        let mut offered = Offered::default();
        for line in text.split('\n').skip(1) {
            let keyword = line.split(' ').next().unwrap_or("");
            match keyword.to_ascii_uppercase().as_str() {
                "STARTTLS" => offered.starttls = true,
                "PIPELINING" => offered.pipelining = true,
                "SIZE" => offered.size = true,
                "8BITMIME" => offered.eight_bit = true,
                "SMTPUTF8" => offered.smtputf8 = true,
                _ => {}
            }
        }
        offered
    }
}

/// EHLO, LHLO or HELO.
pub(super) fn hello(verb: &str, options: &Options, out: &mut Vec<u8>) {
    push(&[verb.as_bytes(), b" ", options.hostname.as_bytes(), b"\r\n"], out);
}

/// AUTH with its initial response. RFC 4954 section 4.
pub(super) fn auth(mechanism: Mechanism, initial: Option<&str>, out: &mut Vec<u8>) {
    let name: &[u8] = match mechanism {
        Mechanism::Plain => b"PLAIN",
        Mechanism::Login => b"LOGIN",
    };
    push(&[b"AUTH ", name], out);
    match initial {
        None => {}
        Some("") => push(&[b" ="], out),
        Some(initial) => push(&[b" ", initial.as_bytes()], out),
    }
    push(&[b"\r\n"], out);
}

/// MAIL with the parameters that are offered and needed.
pub(super) fn mail(transaction: &Transaction, offered: Offered, out: &mut Vec<u8>) {
    push(&[b"MAIL FROM:<", &transaction.reverse_path, b">"], out);
    if offered.size && transaction.size > 0 {
        push(&[b" SIZE=", transaction.size.to_string().as_bytes()], out);
    }
    if offered.eight_bit && transaction.eight_bit {
        push(&[b" BODY=8BITMIME"], out);
    }
    if offered.smtputf8 && transaction.smtputf8 {
        push(&[b" SMTPUTF8"], out);
    }
    push(&[b"\r\n"], out);
}

/// RCPT.
pub(super) fn rcpt(path: &[u8], out: &mut Vec<u8>) {
    push(&[b"RCPT TO:<", path, b">\r\n"], out);
}

/// Can `path` stand between angle brackets without ending the path or the line? A path that cannot would be a command
/// of its author to the next server.
pub(super) fn path_is_safe(path: &[u8]) -> bool {
    let mut quoted = false;
    let mut escaped = false;
    for &octet in path {
        match octet {
            0..=0x1f | 0x7f => return false,
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'<' | b'>' | b' ' if !quoted => return false,
            _ => {}
        }
    }
    !quoted
}

fn push(parts: &[&[u8]], out: &mut Vec<u8>) {
    for part in parts {
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_stay_in_their_brackets() {
        for path in ["", "a@b", "@r:a@b", "\"a>b\"@c", "\"a\\\" b\"@c", "grün@b", "a@[IPv6:::1]"] {
            assert!(path_is_safe(path.as_bytes()), "{path}");
        }
        for path in ["a>b", "a\r\nDATA", "a\n", "a\0", "a b", "\"a", "\"a\\\"", "\"a\r\n\"@b", "<a", "a\x7f"] {
            assert!(!path_is_safe(path.as_bytes()), "{path:?}");
        }
    }

    #[test]
    fn what_is_offered() {
        let offered = Offered::parse("mx pipelining\npipelining\nSize 1000\nX8BITMIME\nSMTPUTF8 \nstarttls");
        let expected = Offered { starttls: true, pipelining: true, size: true, smtputf8: true, eight_bit: false };
        assert_eq!(offered, expected);
    }
}

//! The commands of the client as they stand on the wire, and what a server offers.

use super::{Body, Options, Recipient, Transaction};
use crate::sasl::{Mechanism, Mechanisms};
use crate::smtp::xtext;

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
    /// BDAT of the whole content, LAST: written when it is known that there are recipients.
    Bdat,
    /// The dot alone, after a 354 to no recipient.
    LoneDot,
    /// The end of the content.
    Dot,
    /// LMTP: the reply to the content for the recipient with this index.
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
    pub(super) chunking: bool,
    pub(super) binary: bool,
    pub(super) dsn: bool,
    pub(super) require_tls: bool,
    pub(super) auth: bool,
    /// Those of AUTH that we know.
    pub(super) mechanisms: Mechanisms,
}

/// What a password is used with when the server may choose, the best first: SCRAM shows it to nobody.
const PREFERRED: [Mechanism; 3] = [Mechanism::ScramSha256, Mechanism::Plain, Mechanism::Login];

impl Offered {
    /// From the text of the reply to EHLO; its first line is the server's name. RFC 5321 section 4.1.1.1.
    pub(super) fn parse(text: &str) -> Offered {
        let mut offered = Offered::default();
        for line in text.split('\n').skip(1) {
            // Some servers say AUTH a second time with `=` for clients of long ago.
            let mut words = line.split([' ', '=']);
            let keyword = words.next().unwrap_or("");
            match keyword.to_ascii_uppercase().as_str() {
                "STARTTLS" => offered.starttls = true,
                "PIPELINING" => offered.pipelining = true,
                "SIZE" => offered.size = true,
                "8BITMIME" => offered.eight_bit = true,
                "SMTPUTF8" => offered.smtputf8 = true,
                "CHUNKING" => offered.chunking = true,
                "BINARYMIME" => offered.binary = true,
                "DSN" => offered.dsn = true,
                "REQUIRETLS" => offered.require_tls = true,
                "AUTH" => {
                    offered.auth |= line.as_bytes().get(keyword.len()) != Some(&b'=');
                    let known = words.filter_map(|name| Mechanism::parse(name.as_bytes())).collect();
                    offered.mechanisms = offered.mechanisms.with(known);
                }
                _ => {}
            }
        }
        offered
    }

    /// The best of the mechanisms that are offered.
    pub(super) fn best_mechanism(self) -> Option<Mechanism> {
        PREFERRED.into_iter().find(|&mechanism| self.mechanisms.contains(mechanism))
    }
}

/// EHLO, LHLO or HELO.
pub(super) fn hello(verb: &str, options: &Options, out: &mut Vec<u8>) {
    push(&[verb.as_bytes(), b" ", options.hostname.as_bytes(), b"\r\n"], out);
}

/// AUTH with its initial response. RFC 4954 section 4.
pub(super) fn auth(mechanism: Mechanism, initial: Option<&str>, out: &mut Vec<u8>) {
    push(&[b"AUTH ", mechanism.name().as_bytes()], out);
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
    match transaction.body {
        Body::EightBit if offered.eight_bit => push(&[b" BODY=8BITMIME"], out),
        Body::Binary => push(&[b" BODY=BINARYMIME"], out),
        Body::SevenBit | Body::EightBit => {}
    }
    if offered.smtputf8 && transaction.smtputf8 {
        push(&[b" SMTPUTF8"], out);
    }
    if transaction.require_tls && offered.require_tls {
        push(&[b" REQUIRETLS"], out);
    }
    if offered.dsn {
        // Whoever asked for TLS all the way must not get the text back by another.
        match transaction.ret_full.map(|full| full && !transaction.require_tls) {
            Some(true) => push(&[b" RET=FULL"], out),
            Some(false) => push(&[b" RET=HDRS"], out),
            None if transaction.require_tls => push(&[b" RET=HDRS"], out),
            None => {}
        }
        parameter("ENVID", transaction.envid.as_deref(), out);
    }
    if let Some(auth) = transaction.auth.as_deref().filter(|_| offered.auth) {
        parameter("AUTH", Some(if is_value(auth) { auth } else { b"<>" }), out);
    }
    push(&[b"\r\n"], out);
}

/// RCPT, for a server that offers DSN with NOTIFY and ORCPT. RFC 3461 section 5.2.1: a relay may add ORCPT, which then
/// holds the address as it was received; it lets a sender recognise whom a report of a later relay is about. `smtputf8`: MAIL
/// has asked for it, where it is offered.
pub(super) fn rcpt(recipient: &Recipient, smtputf8: bool, offered: Offered, out: &mut Vec<u8>) {
    push(&[b"RCPT TO:<", &recipient.path, b">"], out);
    if offered.dsn {
        parameter("NOTIFY", recipient.notify.as_deref(), out);
        let utf8 = smtputf8 && offered.smtputf8;
        let given = recipient.orcpt.as_deref().map(|orcpt| if utf8 { orcpt.to_vec() } else { to_utf8_xtext(orcpt) });
        let added = || recipient.path.is_ascii().then(|| received_as(&recipient.path));
        parameter("ORCPT", given.or_else(added).as_deref(), out);
    }
    push(&[b"\r\n"], out);
}

/// A parameter with its value, unless the value would not stay one.
fn parameter(name: &str, value: Option<&[u8]>, out: &mut Vec<u8>) {
    if let Some(value) = value.filter(|value| is_value(value)) {
        push(&[b" ", name.as_bytes(), b"=", value], out);
    }
}

/// Can `value` be the value of a parameter, without ending it or its line? RFC 5321 section 4.1.2 (esmtp-value), RFC 6531.
fn is_value(value: &[u8]) -> bool {
    !value.is_empty() && value.iter().all(|octet| !matches!(octet, 0..=b' ' | 0x7f))
}

/// An ORCPT that says `path`, which is ASCII.
fn received_as(path: &[u8]) -> Vec<u8> {
    let mut orcpt = b"rfc822;".to_vec();
    xtext::encode(path, &mut orcpt);
    orcpt
}

/// An ORCPT of type utf-8 for a transaction without SMTPUTF8: `\x{HEX}` for what is not ASCII. RFC 6533 section 3.
fn to_utf8_xtext(orcpt: &[u8]) -> Vec<u8> {
    if orcpt.is_ascii() {
        return orcpt.to_vec();
    }
    let mut text = String::new();
    for character in String::from_utf8_lossy(orcpt).chars() {
        match character.is_ascii() {
            true => text.push(character),
            false => text.push_str(&format!("\\x{{{:X}}}", u32::from(character))),
        }
    }
    text.into_bytes()
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
            // Nobody may write it there (RFC 5321 section 4.1.2), but some would read the next octet as escaped.
            b'\\' => return false,
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
        for path in [
            "a>b",
            "a\r\nDATA",
            "a\n",
            "a\0",
            "a b",
            "\"a",
            "\"a\\\"",
            "\"a\r\n\"@b",
            "<a",
            "a\x7f",
            "a\\\"> NOTIFY=NEVER \"@b",
        ] {
            assert!(!path_is_safe(path.as_bytes()), "{path:?}");
        }
    }

    #[test]
    fn what_is_offered() {
        let offered = Offered::parse("mx pipelining\npipelining\nSize 1000\nX8BITMIME\nSMTPUTF8 \nstarttls");
        let expected = Offered { starttls: true, pipelining: true, size: true, smtputf8: true, ..Offered::default() };
        assert_eq!(offered, expected);
        let offered = Offered::parse("mx\ndsn\nCHUNKING\nBINARYMIME\nRequireTLS\nAUTH PLAIN\nAUTH=LOGIN\n8BITMIME");
        let expected = Offered {
            dsn: true,
            chunking: true,
            binary: true,
            require_tls: true,
            auth: true,
            mechanisms: Mechanisms::PASSWORD,
            eight_bit: true,
            ..Offered::default()
        };
        assert_eq!(offered, expected);
    }

    #[test]
    fn a_password_is_used_with_the_best_that_is_offered() {
        for (offer, best) in [
            ("AUTH PLAIN LOGIN SCRAM-SHA-256 SCRAM-SHA-256-PLUS", Some(Mechanism::ScramSha256)),
            ("AUTH LOGIN PLAIN", Some(Mechanism::Plain)),
            ("auth=login\nAUTH GSSAPI", Some(Mechanism::Login)),
            ("AUTH GSSAPI NTLM XOAUTH2", None),
            ("AUTH", None),
            ("X-AUTH PLAIN", None),
        ] {
            assert_eq!(Offered::parse(&format!("mx\n{offer}")).best_mechanism(), best, "{offer}");
        }
    }

    #[test]
    fn values_that_stay_values() {
        for value in ["a", "<>", "SUCCESS,DELAY", "rfc822;a+2Bb@c", "utf-8;grün@b"] {
            assert!(is_value(value.as_bytes()), "{value}");
        }
        for value in ["", "a b", "a\r\nDATA", "a\tb", "a\0", "a\x7f"] {
            assert!(!is_value(value.as_bytes()), "{value:?}");
        }
        assert_eq!(received_as(b"\"a b\"+c=d@e"), b"rfc822;\"a+20b\"+2Bc+3Dd@e");
        assert_eq!(to_utf8_xtext("utf-8;gr\u{fc}n@b".as_bytes()), b"utf-8;gr\\x{FC}n@b");
    }
}

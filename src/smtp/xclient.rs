//! XCLIENT: what a mail proxy says of the client that it speaks for. Postfix's XCLIENT_README.
//!
//! ```text
//!  XCLIENT 1*( SP name "=" value )      value: xtext, or "[UNAVAILABLE]", or "[TEMPUNAVAIL]"
//!
//!  XCLIENT ADDR=192.0.2.1 PORT=49152 NAME=pc.example.edu HELO=pc LOGIN=anna
//! ```
//!
//! An [`Xclient`] is legal because it exists: addresses and ports are such, names are UTF-8 without control characters. Who
//! may say it, and what follows, is for the session and its driver.

use super::xtext::Xtext;
use std::net::{IpAddr, Ipv6Addr};

/// The longest decoded value, octets: a domain name, and more than any user name.
const VALUE_BYTES_MAX: usize = 255;

/// What EHLO offers to those who may say it.
pub const KEYWORD: &str = "XCLIENT NAME ADDR PORT PROTO HELO DESTADDR DESTPORT";
/// The same where LOGIN is believed.
pub const KEYWORD_WITH_LOGIN: &str = "XCLIENT NAME ADDR PORT PROTO HELO DESTADDR DESTPORT LOGIN";

/// The attributes of one command; none where one was not given or is not known to the proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Xclient {
    /// ADDR.
    pub address: Option<IpAddr>,
    /// PORT.
    pub port: Option<u16>,
    /// NAME: the client's host name.
    pub name: Option<Box<str>>,
    /// HELO: the argument of its EHLO or HELO.
    pub helo: Option<Box<str>>,
    /// PROTO: did it say EHLO?
    pub extended: Option<bool>,
    /// LOGIN: who it has proved to be.
    pub login: Option<Box<str>>,
    /// DESTADDR: where it connected to.
    pub destination: Option<IpAddr>,
    /// DESTPORT.
    pub destination_port: Option<u16>,
}

impl Xclient {
    /// Parses what stands behind the verb. None: it is empty, has an unknown attribute, one twice, or a value that is none.
    pub fn parse(arguments: &[u8]) -> Option<Xclient> {
        let mut xclient = Xclient::default();
        let mut seen = 0;
        for attribute in arguments.split(|octet| *octet == b' ').filter(|attribute| !attribute.is_empty()) {
            let at = attribute.iter().position(|octet| *octet == b'=')?;
            let bit = xclient.take(&attribute[..at], &attribute[at + 1..])?;
            if seen & bit != 0 {
                return None;
            }
            seen |= bit;
        }
        (seen != 0).then_some(xclient)
    }

    /// Takes one attribute; a bit that tells which.
    fn take(&mut self, name: &[u8], value: &[u8]) -> Option<u8> {
        const NAMES: [&[u8]; 8] = [b"ADDR", b"PORT", b"NAME", b"HELO", b"PROTO", b"LOGIN", b"DESTADDR", b"DESTPORT"];
        let at = NAMES.iter().position(|known| name.eq_ignore_ascii_case(known))?;
        let value = decoded(value)?;
        if let Some(value) = value {
            match at {
                0 => self.address = Some(address(&value)?),
                1 => self.port = Some(port(&value)?),
                2 => self.name = Some(value.into()),
                3 => self.helo = Some(value.into()),
                4 => self.extended = Some(extended(&value)?),
                5 => self.login = Some(value.into()),
                6 => self.destination = Some(address(&value)?),
                _ => self.destination_port = Some(port(&value)?),
            }
        }
        Some(1 << at)
    }
}

/// The value in the clear; Some(None): the proxy does not know it.
fn decoded(value: &[u8]) -> Option<Option<String>> {
    if value.eq_ignore_ascii_case(b"[UNAVAILABLE]") || value.eq_ignore_ascii_case(b"[TEMPUNAVAIL]") {
        return Some(None);
    }
    // Three octets for one at the most.
    if value.len() > 3 * VALUE_BYTES_MAX {
        return None;
    }
    let text = String::from_utf8(Xtext::parse(value)?.decoded().collect()).ok()?;
    (text.len() <= VALUE_BYTES_MAX && !text.contains(char::is_control)).then_some(Some(text))
}

/// `192.0.2.1`, `IPV6:2001:db8::1`; IPv4 in IPv6's clothes counts as IPv4.
fn address(text: &str) -> Option<IpAddr> {
    let prefix = text.get(..5).filter(|prefix| prefix.eq_ignore_ascii_case("IPV6:"));
    match prefix {
        Some(prefix) => Some(IpAddr::V6(text[prefix.len()..].parse::<Ipv6Addr>().ok()?).to_canonical()),
        None => text.parse::<IpAddr>().ok().map(|address| address.to_canonical()),
    }
}

/// 0..=65535 in at most five digits.
fn port(text: &str) -> Option<u16> {
    let digits = (1..=5).contains(&text.len()) && text.bytes().all(|octet| octet.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

fn extended(text: &str) -> Option<bool> {
    match () {
        () if text.eq_ignore_ascii_case("ESMTP") => Some(true),
        () if text.eq_ignore_ascii_case("SMTP") => Some(false),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::xtext;
    use proptest::prelude::*;

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().expect("address"))
    }

    // covers: 2.10
    #[test]
    fn attributes() {
        let text = "ADDR=192.0.2.1  port=49152 NAME=pc.example.edu HELO=a+20b+C3+BC Proto=esmtp LOGIN=anna+2Bx \
                    DESTADDR=IPV6:2001:db8::1 DESTPORT=587 ";
        let parsed = Xclient::parse(text.as_bytes()).expect("legal");
        let expected = Xclient {
            address: ip("192.0.2.1"),
            port: Some(49152),
            name: Some("pc.example.edu".into()),
            helo: Some("a bü".into()),
            extended: Some(true),
            login: Some("anna+x".into()),
            destination: ip("2001:db8::1"),
            destination_port: Some(587),
        };
        assert_eq!(parsed, expected);
        let unknown = Xclient::parse(b"ADDR=[UNAVAILABLE] NAME=[TEMPUNAVAIL] LOGIN=[unavailable] PORT=[Unavailable]");
        assert_eq!(unknown, Some(Xclient::default()));
        for (text, address) in [("::1", "::1"), ("IPV6:::ffff:192.0.2.7", "192.0.2.7"), ("ipv6:::1", "::1")] {
            let parsed = Xclient::parse(format!("ADDR={text}").as_bytes()).expect(text);
            assert_eq!(parsed.address, ip(address));
        }
    }

    // covers: 2.10
    #[test]
    fn mistakes() {
        let long = format!("NAME={}", "a".repeat(256));
        let longer = format!("NAME={}", "+61".repeat(100_000));
        for text in [
            "",
            " ",
            "ADDR",
            "ADDR=",
            "=x",
            "COLOUR=red",
            "ADDR=192.0.2.1 ADDR=192.0.2.1",
            "ADDR=192.0.2.1,PORT=1",
            "ADDR=pc.example.edu",
            "ADDR=192.0.2.256",
            "ADDR=192.0.2.1/32",
            "ADDR=[192.0.2.1]",
            "ADDR=IPV6:192.0.2.1",
            "ADDR=IPV6:",
            "ADDR=fe80::1%1",
            "PORT=",
            "PORT=65536",
            "PORT=-1",
            "PORT=+2B1",
            "PORT=000001",
            "PROTO=LMTP",
            "NAME=a+0D+0Ab",
            "NAME=a+00",
            "NAME=+7F",
            "NAME=+C2+85",
            "NAME=a+2",
            "NAME=a+2b",
            "NAME=+FF",
            "NAME=a=b",
            "LOGIN=",
            "NAME=\u{fc}",
            &long,
            &longer,
        ] {
            assert_eq!(Xclient::parse(text.as_bytes()), None, "{text:.80}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(address: IpAddr, port: u16, helo in "[^\\p{C}]{1,60}", login in "[a-z+=@. ]{1,30}") {
            let mut text = format!("ADDR={}{address} PORT={port} HELO=", if address.is_ipv6() { "IPV6:" } else { "" }).into_bytes();
            xtext::encode(helo.as_bytes(), &mut text);
            text.extend_from_slice(b" LOGIN=");
            xtext::encode(login.as_bytes(), &mut text);
            let expected = Xclient {
                address: Some(address.to_canonical()), port: Some(port), helo: Some(helo.into()), login: Some(login.into()),
                ..Xclient::default()
            };
            prop_assert_eq!(Xclient::parse(&text), Some(expected));
        }

        #[test]
        fn anything_is_parsed_or_refused(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Xclient::parse(&text);
            let _ = Xclient::parse(&[b"ADDR=", &text[..]].concat());
        }
    }
}

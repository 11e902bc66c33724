//! The PROXY header: what a load balancer says of its client before the client's first octet. HAProxy's PROXY protocol,
//! versions 1 and 2.
//!
//! ```text
//!  1:  PROXY TCP4 192.0.2.1 198.51.100.1 56324 587 CRLF              107 octets at most
//!      PROXY TCP6 2001:db8::1 2001:db8::2 56324 587 CRLF
//!      PROXY UNKNOWN anything CRLF
//!
//!  2:  +--------------+---------+--------+--------+------------------+-----------------+
//!      | signature 12 | 2, cmd  | family | length | addresses        | TLVs, skipped   |
//!      +--------------+---------+--------+--------+------------------+-----------------+
//!                       octet     octet    2 octets  12 or 36 octets   up to length
//! ```
//!
//! Promises: nothing behind the header is eaten; what is kept of a header is bounded, and so is what is skipped; a header is
//! read alike however it is cut. Who may say one is for `server`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest header of version 1, octets, CRLF included (section 2.1).
const TEXT_BYTES_MAX: usize = 107;
/// Octets that begin a header of version 2 (section 2.2).
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, command, family and length.
const HEAD_BYTES: usize = 16;
/// The addresses of IPv6, the longest that are looked at.
const ADDRESSES_BYTES_MAX: usize = 36;
/// Addresses and TLVs of version 2 that are taken: HAProxy's own stay below 1 KiB.
const REST_BYTES_MAX: usize = 4096;

/// Do these octets begin a header of either version?
pub fn is_header(first: &[u8]) -> bool {
    first.starts_with(b"PROXY ") || first.starts_with(SIGNATURE)
}

/// Whom the proxy speaks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proxied {
    /// A client.
    Client(SocketAddr),
    /// Somebody that the proxy cannot name (UNKNOWN, UNSPEC, Unix sockets).
    Unknown,
    /// Itself, for a health check (LOCAL, version 2 only).
    Local,
}

/// This is no PROXY header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoHeader;

/// Reads one header from pieces of input.
#[derive(Debug)]
pub struct Scanner {
    /// What came so far of what is kept: a whole header of version 1, head and addresses of version 2.
    kept: [u8; TEXT_BYTES_MAX],
    kept_bytes: usize,
    /// Octets of version 2 that are still to be skipped.
    skip_bytes: usize,
}

impl Default for Scanner {
    fn default() -> Scanner {
        Scanner { kept: [0; TEXT_BYTES_MAX], kept_bytes: 0, skip_bytes: 0 }
    }
}

/// What the octets so far ask for.
enum Next {
    /// At least one more that is kept.
    Keep,
    /// So many that are not.
    Skip(usize),
    Done(Proxied),
}

impl Scanner {
    /// Eats the header's part of `input`: how much that was, and the header once it is whole or hopeless.
    pub fn next(&mut self, input: &[u8]) -> (usize, Option<Result<Proxied, NoHeader>>) {
        let mut used = 0;
        loop {
            match self.look() {
                Err(NoHeader) => return (used, Some(Err(NoHeader))),
                Ok(Next::Done(proxied)) => return (used, Some(Ok(proxied))),
                _ if used == input.len() => return (used, None),
                Ok(Next::Keep) => {
                    self.kept[self.kept_bytes] = input[used];
                    self.kept_bytes += 1;
                    used += 1;
                }
                Ok(Next::Skip(count)) => {
                    let skipped = count.min(input.len() - used);
                    self.skip_bytes += skipped;
                    used += skipped;
                }
            }
        }
    }

    fn look(&self) -> Result<Next, NoHeader> {
        let kept = &self.kept[..self.kept_bytes];
        if begins(SIGNATURE, kept) {
            return look_binary(kept, self.skip_bytes);
        }
        if !begins(b"PROXY ", kept) {
            return Err(NoHeader);
        }
        match kept.strip_suffix(b"\r\n") {
            Some(line) => text(line).map(Next::Done).ok_or(NoHeader),
            None if kept.len() == TEXT_BYTES_MAX => Err(NoHeader),
            None => Ok(Next::Keep),
        }
    }
}

/// Do the octets of `kept` begin with `start`, as far as there are any?
fn begins(start: &[u8], kept: &[u8]) -> bool {
    let common = start.len().min(kept.len());
    start[..common] == kept[..common]
}

/// Version 1 without its CRLF (section 2.1): single spaces, addresses and ports in their canonical forms.
fn text(line: &[u8]) -> Option<Proxied> {
    let line = std::str::from_utf8(line).ok()?.strip_prefix("PROXY ")?;
    if line == "UNKNOWN" || line.starts_with("UNKNOWN ") {
        // "Anything" is still one line of text.
        return (!line.contains(char::is_control)).then_some(Proxied::Unknown);
    }
    let parts: Vec<&str> = line.split(' ').collect();
    let [family, source, destination, port, destination_port] = parts[..] else { return None };
    let (source, _) = match family {
        "TCP4" => (IpAddr::V4(source.parse().ok()?), IpAddr::V4(destination.parse().ok()?)),
        "TCP6" => (IpAddr::V6(source.parse().ok()?), IpAddr::V6(destination.parse().ok()?)),
        _ => return None,
    };
    number(destination_port)?;
    Some(client(source, number(port)?))
}

/// 0..=65535 in digits, without a sign or leading zeros.
fn number(text: &str) -> Option<u16> {
    let canonical = text == "0" || !text.starts_with(['0', '+']);
    text.parse().ok().filter(|_| canonical)
}

/// Version 2 (section 2.2).
fn look_binary(kept: &[u8], skipped: usize) -> Result<Next, NoHeader> {
    if kept.len() < HEAD_BYTES {
        return Ok(Next::Keep);
    }
    let (head, addresses) = kept.split_at(HEAD_BYTES);
    let rest_bytes = usize::from(u16::from_be_bytes([head[14], head[15]]));
    if rest_bytes > REST_BYTES_MAX {
        return Err(NoHeader);
    }
    let (named, address_bytes) = match (head[12], head[13]) {
        (0x20, _) => (Named::Local, 0),
        (0x21, 0x11) => (Named::V4, 12),
        (0x21, 0x21) => (Named::V6, ADDRESSES_BYTES_MAX),
        // Unspecified, datagrams, Unix sockets: no client of SMTP, or none with an address.
        (0x21, 0x00 | 0x12 | 0x22 | 0x31 | 0x32) => (Named::Nobody, 0),
        _ => return Err(NoHeader),
    };
    if rest_bytes < address_bytes {
        return Err(NoHeader);
    }
    if addresses.len() < address_bytes {
        return Ok(Next::Keep);
    }
    match rest_bytes - address_bytes - skipped {
        0 => Ok(Next::Done(named.proxied(addresses))),
        left => Ok(Next::Skip(left)),
    }
}

/// What the addresses of version 2 are.
enum Named {
    Local,
    Nobody,
    V4,
    V6,
}

impl Named {
    /// Source address, destination address, source port, destination port.
    fn proxied(self, addresses: &[u8]) -> Proxied {
        let port = |at: usize| u16::from_be_bytes([addresses[at], addresses[at + 1]]);
        match self {
            Named::Local => Proxied::Local,
            Named::Nobody => Proxied::Unknown,
            Named::V4 => {
                let mut source = [0; 4];
                source.copy_from_slice(&addresses[..4]);
                client(Ipv4Addr::from(source).into(), port(8))
            }
            Named::V6 => {
                let mut source = [0; 16];
                source.copy_from_slice(&addresses[..16]);
                client(Ipv6Addr::from(source).into(), port(32))
            }
        }
    }
}

/// IPv4 in IPv6's clothes counts as IPv4, for limits per address as much as for networks.
fn client(address: IpAddr, port: u16) -> Proxied {
    Proxied::Client(SocketAddr::new(address.to_canonical(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_known_by_its_first_octets() {
        for first in [&b"PROXY TCP4 1"[..], b"PROXY UNKNOWN\r\n", SIGNATURE] {
            assert!(is_header(first), "{first:?}");
        }
        for first in [&b"EHLO x\r\n"[..], b"PROXYTCP4 19", b"\r\n\r\n\0\r\nQUI\0", b""] {
            assert!(!is_header(first), "{first:?}");
        }
    }
    use proptest::prelude::*;

    fn whole(input: &[u8]) -> (usize, Option<Result<Proxied, NoHeader>>) {
        Scanner::default().next(input)
    }

    /// The same, with a cut behind every octet of `cuts`.
    fn cut(input: &[u8], cuts: &[usize]) -> (usize, Option<Result<Proxied, NoHeader>>) {
        let mut scanner = Scanner::default();
        let mut used = 0;
        for end in cuts.iter().copied().chain([input.len()]) {
            let (took, header) = scanner.next(&input[used..end]);
            used += took;
            if header.is_some() {
                return (used, header);
            }
            assert_eq!(used, end, "all is eaten that is not the end");
        }
        (used, None)
    }

    fn in_every_split(input: &[u8], expected: Option<Result<Proxied, NoHeader>>) -> usize {
        let (used, header) = whole(input);
        assert_eq!(header, expected, "{}", input.escape_ascii());
        for at in 0..=input.len() {
            assert_eq!(cut(input, &[at]), (used, expected), "{} cut at {at}", input.escape_ascii());
        }
        let each: Vec<usize> = (0..input.len()).collect();
        assert_eq!(cut(input, &each), (used, expected), "{} octet by octet", input.escape_ascii());
        used
    }

    fn from(text: &str) -> Option<Result<Proxied, NoHeader>> {
        Some(Ok(Proxied::Client(text.parse().expect("address"))))
    }

    fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = (rest.len() as u16).to_be_bytes();
        [SIGNATURE, &[command, family][..], &length, rest].concat()
    }

    // covers: 2.10
    #[test]
    fn headers_of_version_1() {
        let unknown = Some(Ok(Proxied::Unknown));
        let longest = format!("PROXY UNKNOWN {0} {0} 65535 65535\r\n", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
        assert_eq!(longest.len(), TEXT_BYTES_MAX);
        for (header, expected) in [
            ("PROXY TCP4 192.0.2.1 198.51.100.1 56324 587\r\n", from("192.0.2.1:56324")),
            ("PROXY TCP4 255.255.255.255 0.0.0.0 0 65535\r\n", from("255.255.255.255:0")),
            ("PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n", from("[2001:db8::1]:1")),
            ("PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n", from("192.0.2.1:1")),
            ("PROXY UNKNOWN\r\n", unknown),
            ("PROXY UNKNOWN whatever stands here\r\n", unknown),
            (&longest, unknown),
        ] {
            let input = format!("{header}EHLO x\r\n");
            assert_eq!(in_every_split(input.as_bytes(), expected), header.len(), "nothing behind it is eaten");
            for end in 0..header.len() {
                assert_eq!(whole(&header.as_bytes()[..end]), (end, None), "{header:?} up to {end}");
            }
        }
    }

    // covers: 2.10
    #[test]
    fn what_is_no_header() {
        for input in [
            "EHLO x\r\n",
            "\r\nEHLO x\r\n",
            "proxy TCP4 192.0.2.1 198.51.100.1 1 2\r\n",
            " PROXY UNKNOWN\r\n",
            "PROXY\r\n",
            "PROXY \r\n",
            "PROXY UNKNOWNS\r\n",
            "PROXY UNKNOWN\nQUIT\r\n",
            "PROXY UNKNOWN x\nQUIT\r\n",
            "PROXY UNKNOWN x\0\r\n",
            "PROXY  UNKNOWN\r\n",
            "PROXY UDP4 192.0.2.1 198.51.100.1 1 2\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 1\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 1 2 3\r\n",
            "PROXY TCP4 192.0.2.1  198.51.100.1 1 2\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 1 2 \r\n",
            "PROXY TCP4 192.0.2.1 2001:db8::1 1 2\r\n",
            "PROXY TCP6 192.0.2.1 198.51.100.1 1 2\r\n",
            "PROXY TCP4 192.0.2.256 198.51.100.1 1 2\r\n",
            "PROXY TCP4 192.0.2.01 198.51.100.1 1 2\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 65536 2\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 1 65536\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 01 2\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 +1 2\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 -1 2\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 1 2\nEHLO x\r\n",
            "PROXY TCP4 192.0.2.1%0 198.51.100.1 1 2\r\n",
        ] {
            in_every_split(input.as_bytes(), Some(Err(NoHeader)));
        }
        let endless = [b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 1000]].concat();
        assert_eq!(in_every_split(&endless, Some(Err(NoHeader))), TEXT_BYTES_MAX);
        in_every_split(b"PROXY TCP4 192.0.2.1 198.51.100.1 1 \xff\r\n", Some(Err(NoHeader)));
    }

    // covers: 2.10 2.11
    #[test]
    fn headers_of_version_2() {
        let v4 = [192, 0, 2, 1, 198, 51, 100, 1, 0xdc, 0x04, 2, 75];
        let mut v6 = [0; 36];
        v6[..4].copy_from_slice(&[0x20, 1, 0x0d, 0xb8]);
        v6[15] = 1;
        v6[33] = 9;
        let mut mapped = [0; 36];
        mapped[10..16].copy_from_slice(&[0xff, 0xff, 192, 0, 2, 1]);
        let tlv = [4, 0, 3, 1, 2, 3];
        let (local, unknown) = (Some(Ok(Proxied::Local)), Some(Ok(Proxied::Unknown)));
        for (header, expected) in [
            (binary(0x21, 0x11, &v4), from("192.0.2.1:56324")),
            (binary(0x21, 0x11, &[&v4[..], &tlv].concat()), from("192.0.2.1:56324")),
            (binary(0x21, 0x21, &v6), from("[2001:db8::1]:9")),
            (binary(0x21, 0x21, &mapped), from("192.0.2.1:0")),
            (binary(0x20, 0x00, &[]), local),
            (binary(0x20, 0x11, &v4), local),
            (binary(0x21, 0x00, &[]), unknown),
            (binary(0x21, 0x00, &tlv), unknown),
            (binary(0x21, 0x31, &[0; 216]), unknown),
            (binary(0x21, 0x12, &v4), unknown),
        ] {
            let input = [&header[..], b"\x16\x03\x01"].concat();
            assert_eq!(in_every_split(&input, expected), header.len(), "nothing behind it is eaten");
            for end in 0..header.len() {
                assert_eq!(whole(&header[..end]), (end, None));
            }
        }
        let long = binary(0x21, 0x11, &[&v4[..], &[0; REST_BYTES_MAX - 12]].concat());
        assert_eq!(whole(&long), (long.len(), from("192.0.2.1:56324")));
        for header in [
            binary(0x21, 0x11, &v4[..11]),
            binary(0x21, 0x21, &v6[..35]),
            binary(0x21, 0x11, &[]),
            binary(0x11, 0x11, &v4),
            binary(0x22, 0x11, &v4),
            binary(0x21, 0x13, &v4),
            binary(0x21, 0x41, &v4),
            binary(0x21, 0x11, &[0; REST_BYTES_MAX + 1]),
            [&SIGNATURE[..11], b"\r", &[0x21, 0x11, 0, 12], &v4].concat(),
        ] {
            assert_eq!(whole(&header).1, Some(Err(NoHeader)), "{}", header.escape_ascii());
        }
    }

    proptest! {
        /// Text and binary alike: a printed header is read back, whatever follows it and however it is cut.
        #[test]
        fn what_is_printed_is_read_back(
            source: SocketAddr, destination: SocketAddr, tlv in proptest::collection::vec(any::<u8>(), 0..50),
            behind in proptest::collection::vec(any::<u8>(), 0..20), size in 1usize..30,
        ) {
            let ports = [source.port().to_be_bytes(), destination.port().to_be_bytes()].concat();
            let mut headers = Vec::new();
            match (source.ip(), destination.ip()) {
                (IpAddr::V4(from), IpAddr::V4(to)) => {
                    headers.push(format!("PROXY TCP4 {from} {to} {} {}\r\n", source.port(), destination.port()).into_bytes());
                    headers.push(binary(0x21, 0x11, &[&from.octets()[..], &to.octets(), &ports, &tlv].concat()));
                }
                (IpAddr::V6(from), IpAddr::V6(to)) => {
                    headers.push(format!("PROXY TCP6 {from} {to} {} {}\r\n", source.port(), destination.port()).into_bytes());
                    headers.push(binary(0x21, 0x21, &[&from.octets()[..], &to.octets(), &ports, &tlv].concat()));
                }
                _ => {}
            }
            let expected = client(source.ip(), source.port());
            for header in headers {
                let input = [&header[..], &behind].concat();
                let cuts: Vec<usize> = (0..input.len()).step_by(size).collect();
                prop_assert_eq!(cut(&input, &cuts), (header.len(), Some(Ok(expected))));
            }
        }

        #[test]
        fn any_octets_are_read_alike_in_any_split(
            start in 0usize..3, rest in proptest::collection::vec(any::<u8>(), 0..200), size in 1usize..30,
        ) {
            let start: &[u8] = [b"PROXY ", &SIGNATURE[..], b""][start];
            let input = [start, &rest].concat();
            let cuts: Vec<usize> = (0..input.len()).step_by(size).collect();
            prop_assert_eq!(cut(&input, &cuts), whole(&input));
        }
    }
}

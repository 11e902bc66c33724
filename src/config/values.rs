//! Text that must have a form: domain names, listener addresses, destinations. Each function returns the value or what
//! is wrong and how to mend it.

use super::notice::nearest;
use super::{Host, Target};
use crate::policy::Networks;
use crate::policy::domain_name::DomainName;
use crate::sasl::{Mechanism, Mechanisms};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::path::Path;

/// What is wrong, and how to mend it.
pub type Fault = (String, String);

fn fault<T>(what: impl Into<String>, remedy: impl Into<String>) -> Result<T, Fault> {
    Err((what.into(), remedy.into()))
}

/// RFC 5321 section 4.5.3.1.5 gives a reply line 512 octets.
const HELP_BYTES_MAX: usize = 200;

/// A domain name in lower case (RFC 1035 section 2.3.1, with underscores and non-ASCII letters let through).
pub fn domain(text: &str) -> Result<String, Fault> {
    let name = text.strip_suffix('.').unwrap_or(text);
    let label_is_fine = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_' || !(c.is_ascii() || c.is_control()))
    };
    if let Some((_, domain)) = name.split_once('@') {
        return fault(
            format!("\"{text}\" is no domain name"),
            format!("write the part behind the @ only: \"{domain}\""),
        );
    }
    if let Some(parent) = name.strip_prefix("*.").or_else(|| name.strip_prefix('.')) {
        return fault(format!("\"{text}\" is no domain name"), format!("name each sub-domain of {parent} by itself"));
    }
    if name.len() > 253 || !name.split('.').all(label_is_fine) || DomainName::new(name.as_bytes()).is_none() {
        return fault(
            format!("\"{text}\" is no domain name"),
            "write letters, digits and hyphens, as in \"example.edu\"",
        );
    }
    Ok(name.to_lowercase())
}

/// Senders of a route: `@example.edu` or `anna@example.edu`; the domain in lower case.
pub fn sender(text: &str) -> Result<String, Fault> {
    match text.rsplit_once('@') {
        Some((local, name)) if !local.contains(|c: char| c.is_whitespace() || c.is_control()) => {
            domain(name).map(|name| format!("{local}@{name}"))
        }
        _ => fault(
            format!("\"{text}\" is no sender"),
            "write an address as in \"anna@example.edu\", or \"@example.edu\" for everybody there",
        ),
    }
}

/// Our own name, in ASCII: it stands in replies to clients that have said nothing yet (RFC 6531 section 3.7.1).
pub fn hostname(text: &str) -> Result<String, Fault> {
    let name = domain(text)?;
    match DomainName::new(name.as_bytes()) {
        Some(ascii) if !name.is_ascii() => fault(
            format!(
                "\"{text}\" is not ASCII, and clients are greeted with it before they can say that they would take it"
            ),
            format!("write its A-labels: \"{}\"", ascii.as_str()),
        ),
        _ => Ok(name),
    }
}

/// An authentication mechanism by its name, in any case.
pub fn mechanism(text: &str) -> Result<Mechanism, Fault> {
    let known: Vec<&str> = Mechanisms::ALL.iter().map(Mechanism::name).collect();
    match Mechanism::parse(text.as_bytes()) {
        Some(mechanism) => Ok(mechanism),
        None => {
            let remedy = match nearest(text, known.iter().copied()) {
                Some(meant) => format!("did you mean \"{meant}\"?"),
                None => format!("write some of \"{}\"", known.join("\", \"")),
            };
            fault(format!("\"{text}\" is no mechanism"), remedy)
        }
    }
}

/// A listener's address: `192.0.2.1:587` or `[2001:db8::1]:587`.
pub fn listener_address(text: &str) -> Result<SocketAddr, Fault> {
    let form = "write address and port, as in \"0.0.0.0:587\" (IPv4) or \"[::]:587\" (IPv6)";
    if let Ok(address) = text.parse::<SocketAddr>() {
        return match address.port() {
            0 => fault(format!("\"{text}\" has port 0"), "write the port that clients connect to: 587, 465 or 25"),
            _ => Ok(address),
        };
    }
    let split = text.rsplit_once(':').filter(|(_, digits)| !digits.is_empty());
    if let Some((host, digits)) = split.filter(|(_, digits)| is_too_high(digits)) {
        return fault(
            format!("\"{text}\" has port {digits}"),
            format!("ports end at 65535; write for example \"{host}:587\""),
        );
    }
    let everywhere = |port| format!("write \"0.0.0.0:{port}\", and in a second [[listener]] \"[::]:{port}\" for IPv6");
    match split {
        Some(("" | "*", digits)) if port(digits).is_some() => {
            fault(format!("\"{text}\" has no address"), everywhere(digits))
        }
        Some((host, digits)) if host.parse::<Ipv6Addr>().is_ok() && port(digits).is_some() => fault(
            format!("\"{text}\" is no address to listen on"),
            format!("write an IPv6 address in brackets: \"[{host}]:{digits}\""),
        ),
        Some(("localhost", digits)) if port(digits).is_some() => fault(
            format!("\"{text}\" is no address to listen on"),
            format!("write \"127.0.0.1:{digits}\", and in a second [[listener]] \"[::1]:{digits}\" for IPv6"),
        ),
        _ => match text.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(IpAddr::V6(address)) => {
                fault(format!("\"{text}\" has no port"), format!("write address and port, as in \"[{address}]:587\""))
            }
            Ok(IpAddr::V4(_)) => fault(format!("\"{text}\" has no port"), form),
            Err(_) if port(text).is_some() => fault(format!("\"{text}\" has no address"), everywhere(text)),
            Err(_) => fault(format!("\"{text}\" is no address to listen on"), form),
        },
    }
}

/// Where metrics are served: `127.0.0.1:9587`. Only on loopback, or `beyond` it where that is said.
pub fn admin_address(text: &str, beyond: bool) -> Result<SocketAddr, Fault> {
    let form = "write address and port, as in \"127.0.0.1:9587\" or \"[::1]:9587\"";
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() == 0 => fault(format!("\"{text}\" has port 0"), form),
        Ok(address) if !address.ip().to_canonical().is_loopback() && !beyond => fault(
            format!("{text} is reached by other hosts, and there is no password"),
            format!("write \"127.0.0.1:{}\", or add beyond_loopback = true", address.port()),
        ),
        Ok(address) => Ok(address),
        Err(_) => fault(format!("\"{text}\" is no address to listen on"), form),
    }
}

/// A number, and more than a port may be.
fn is_too_high(digits: &str) -> bool {
    digits.bytes().all(|octet| octet.is_ascii_digit()) && digits.parse::<u16>().is_err()
}

/// Adds a network to `networks`. IPv4 networks are written as such: what stands in the IPv6-mapped form is never seen for
/// what it is, least of all in front of `/96`, which is everybody.
pub fn network(text: &str, networks: &mut Networks) -> Result<(), Fault> {
    let plain = text.replace(['[', ']'], "");
    let (address, prefix) = plain.split_once('/').map_or((&*plain, None), |(address, prefix)| (address, Some(prefix)));
    let mapped = address.parse::<Ipv6Addr>().ok().and_then(|address| address.to_ipv4_mapped());
    if let Some(address) = mapped {
        let remedy = match prefix.map(str::parse::<u32>) {
            None => format!("write \"{address}\""),
            Some(Ok(bits @ 96..=128)) => format!("write \"{}/{}\"", first_of(address.into(), bits - 96), bits - 96),
            Some(_) => "write the IPv4 network, as in \"192.0.2.0/24\"".to_owned(),
        };
        return fault(format!("\"{text}\" is an IPv4 network in IPv6 form"), remedy);
    }
    networks.add(text).or_else(|what| {
        let width = if address.contains(':') { 128 } else { 32 };
        let remedy = match (address.parse::<IpAddr>(), prefix.map(str::parse::<u32>)) {
            (Ok(address), None) => format!("write it without brackets: \"{address}\""),
            (Ok(address), Some(Ok(bits))) if bits <= width => {
                let brackets = if plain == text { "" } else { " it without brackets:" };
                format!("write{brackets} \"{}/{bits}\"", first_of(address, bits))
            }
            _ => "write a network as in \"192.0.2.0/24\" or \"2001:db8::/32\"".to_owned(),
        };
        fault(what, remedy)
    })
}

/// The first address of the network of `bits` leading bits around `address`; `bits` is at most the width of its family.
fn first_of(address: IpAddr, bits: u32) -> IpAddr {
    match address {
        IpAddr::V4(address) => Ipv4Addr::from(u32::from(address) & u32::MAX.checked_shl(32 - bits).unwrap_or(0)).into(),
        IpAddr::V6(address) => {
            Ipv6Addr::from(u128::from(address) & u128::MAX.checked_shl(128 - bits).unwrap_or(0)).into()
        }
    }
}

/// Are the networks `texts` together everybody: all of IPv4, or all of what is given out of IPv6 (2000::/3)?
pub fn are_everybody<'a>(texts: impl IntoIterator<Item = &'a str>) -> bool {
    let mut networks = Networks::default();
    for text in texts {
        // What is no network was said where it was read.
        let _ = networks.add(text);
    }
    let ends: [[IpAddr; 2]; 2] = [
        [Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::BROADCAST.into()],
        [Ipv6Addr::from(0x2 << 124).into(), Ipv6Addr::from(!0 >> 2).into()],
    ];
    ends.iter().any(|[first, last]| networks.cover(*first, *last))
}

/// A host and a port to connect to: `host:port`, `192.0.2.1:port` or `[2001:db8::1]:port`.
pub fn destination(text: &str) -> Result<String, Fault> {
    if text.parse::<SocketAddr>().is_ok_and(|address| address.port() != 0) {
        return Ok(text.to_owned());
    }
    let Some((host, digits)) = text.rsplit_once(':') else {
        return fault(format!("\"{text}\" has no port"), format!("add the port, as in \"{text}:25\""));
    };
    if host.contains(':') {
        return fault(
            format!("\"{text}\" is no host and port"),
            "write an IPv6 address in brackets, as in \"[2001:db8::1]:25\"",
        );
    }
    if port(digits).is_none() {
        let end = if is_too_high(digits) { "ports end at 65535; " } else { "" };
        return fault(
            format!("\"{digits}\" is no port from 1 to 65535"),
            format!("{end}write for example \"{host}:25\""),
        );
    }
    domain(host).map(|host| format!("{host}:{digits}"))
}

/// RFC 1035 section 4.2.
const DNS_PORT: u16 = 53;
/// Most hosts of a pool.
const HOSTS_MAX: usize = 16;

/// The hosts of a pool: `host:port`, or `host:port weight=2`.
pub fn hosts(texts: &[(&str, Range<usize>)]) -> Result<Vec<Host>, (Range<usize>, Fault)> {
    let mut hosts: Vec<Host> = Vec::new();
    for (text, at) in texts {
        let host = host(text).map_err(|fault| (at.clone(), fault))?;
        if hosts.iter().any(|known| known.address == host.address) {
            let what = format!("{} is listed twice", host.address);
            return Err((at.clone(), (what, format!("give it once, as in \"{} weight=2\"", host.address))));
        }
        hosts.push(host);
    }
    match (hosts.len(), texts.last()) {
        (..=HOSTS_MAX, _) | (_, None) => Ok(hosts),
        (many, Some((_, at))) => {
            let what = format!("{many} hosts are more than a route may have");
            Err((at.clone(), (what, format!("write at most {HOSTS_MAX}"))))
        }
    }
}

fn host(text: &str) -> Result<Host, Fault> {
    let (address, weight) = match text.split_once(' ') {
        None => (text, 1),
        Some((address, rest)) => {
            let given = rest.trim().strip_prefix("weight=").and_then(|digits| digits.parse().ok());
            let Some(weight) = given.filter(|weight| (1..=100).contains(weight)) else {
                let remedy = format!("write \"{address}\", or with a weight from 1 to 100 \"{address} weight=2\"");
                return fault(format!("\"{}\" is no weight", rest.trim()), remedy);
            };
            (address, weight)
        }
    };
    Ok(Host { address: destination(address)?, weight })
}

/// An address with a port, or one alone: then the port is DNS's.
pub fn name_server(text: &str) -> Result<SocketAddr, Fault> {
    let with_port = text.parse::<SocketAddr>().ok().filter(|address| address.port() != 0);
    let alone = || Some(SocketAddr::new(text.trim_matches(['[', ']']).parse().ok()?, DNS_PORT));
    with_port.or_else(alone).map_or_else(
        || {
            fault(
                format!("\"{text}\" is no address of a name server"),
                "write for example \"192.0.2.53\" or \"[2001:db8::53]:5353\"",
            )
        },
        Ok,
    )
}

/// What LMTP connects to: a destination or `unix:/path`.
pub fn lmtp(text: &str) -> Result<Target, Fault> {
    let address = match text.strip_prefix("unix:") {
        Some(path) if path.starts_with('/') => text.to_owned(),
        Some(path) => {
            return fault(format!("\"{path}\" is no absolute path"), "write for example \"unix:/run/dovecot/lmtp\"");
        }
        None if text.starts_with('/') => {
            return fault(format!("\"{text}\" is no host and port"), format!("write \"unix:{text}\""));
        }
        None => destination(text)?,
    };
    Ok(Target::Lmtp { address })
}

/// A path, relative to `directory` unless it is absolute.
pub fn path(text: &str, directory: &Path) -> Result<std::path::PathBuf, Fault> {
    match text.is_empty() || text.contains('\0') {
        true => fault("the path is empty", "write the path of a file or directory"),
        false => Ok(directory.join(text)),
    }
}

/// A page for people, printed in replies: printable ASCII without spaces, at most 200 octets.
pub fn help(text: &str) -> Result<String, Fault> {
    match (1..=HELP_BYTES_MAX).contains(&text.len()) && text.bytes().all(|octet| octet.is_ascii_graphic()) {
        true => Ok(text.to_owned()),
        false => fault(
            format!("\"{}\" cannot stand in a reply", text.escape_debug()),
            format!(
                "write an address of at most {HELP_BYTES_MAX} ASCII characters without spaces, as in \"https://help.example.edu/mail\""
            ),
        ),
    }
}

fn port(digits: &str) -> Option<u16> {
    digits.parse().ok().filter(|port| *port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains() {
        for (text, name) in [
            ("Example.EDU", "example.edu"),
            ("cs.example.edu.", "cs.example.edu"),
            ("bücher.example", "bücher.example"),
        ] {
            assert_eq!(domain(text).as_deref(), Ok(name));
        }
        for (text, remedy) in [
            ("anna@example.edu", "\"example.edu\""),
            ("*.example.edu", "each sub-domain of example.edu"),
            (".example.edu", "each sub-domain"),
            ("", "letters"),
            ("a..b", "letters"),
            ("-a.b", "letters"),
            ("a b", "letters"),
            (&"a".repeat(64), "letters"),
            ("a\u{202e}b.example", "letters"),
        ] {
            let (_, said) = domain(text).expect_err(text);
            assert!(said.contains(remedy), "{text}: {said}");
        }
    }

    #[test]
    fn senders() {
        assert_eq!(sender("Anna@Example.EDU").as_deref(), Ok("Anna@example.edu"));
        assert_eq!(sender("@math.example.edu").as_deref(), Ok("@math.example.edu"));
        for text in ["math.example.edu", "", "@", "anna@", "an na@example.edu", "anna@exa mple.edu"] {
            assert!(sender(text).is_err(), "{text}");
        }
    }

    #[test]
    fn our_own_name_is_ascii() {
        assert_eq!(hostname("SMTP.Example.edu").as_deref(), Ok("smtp.example.edu"));
        assert_eq!(hostname("xn--bcher-kva.example").as_deref(), Ok("xn--bcher-kva.example"));
        let (_, remedy) = hostname("bücher.example").expect_err("not ASCII");
        assert_eq!(remedy, "write its A-labels: \"xn--bcher-kva.example\"");
    }

    #[test]
    fn addresses() {
        for (text, address) in
            [("[::]:587", "[::]:587"), ("0.0.0.0:25", "0.0.0.0:25"), ("[2001:db8::1]:465", "[2001:db8::1]:465")]
        {
            assert_eq!(listener_address(text).expect(text).to_string(), address);
        }
        for text in ["587", "0.0.0.0", ":587", ":65536", "0.0.0.0:0", "localhost:587", "::1:587", ""] {
            assert!(listener_address(text).is_err(), "{text}");
        }
        for (text, remedy) in [
            ("::1:587", "in brackets: \"[::1]:587\""),
            ("2001:db8::1:465", "in brackets: \"[2001:db8::1]:465\""),
            ("::1", "\"[::1]:587\""),
            ("[::1]", "\"[::1]:587\""),
            ("2001:db8::587", "\"[2001:db8::587]:587\""),
            ("*:25", "write \"0.0.0.0:25\""),
            (":25", "write \"0.0.0.0:25\", and in a second [[listener]] \"[::]:25\""),
            ("25", "write \"0.0.0.0:25\""),
            ("localhost:25", "write \"127.0.0.1:25\""),
            ("0.0.0.0:65536", "ports end at 65535; write for example \"0.0.0.0:587\""),
            ("[::]:70000", "ports end at 65535; write for example \"[::]:587\""),
            ("127.0.0.1:99999999999", "ports end at 65535"),
            ("mail:smtp", "as in \"0.0.0.0:587\""),
        ] {
            let (_, said) = listener_address(text).expect_err(text);
            assert!(said.contains(remedy), "{text}: {said}");
        }
    }

    #[test]
    fn networks_and_what_was_meant_by_them() {
        for text in ["192.0.2.0/24", "192.0.2.1", "::1", "2001:db8::/32", "0.0.0.0/0", "::/0"] {
            assert!(network(text, &mut Networks::default()).is_ok(), "{text}");
        }
        for (text, remedy) in [
            ("[::1]", "without brackets: \"::1\""),
            ("[2001:db8::1]/32", "without brackets: \"2001:db8::/32\""),
            ("10.0.0.5/8", "write \"10.0.0.0/8\""),
            ("10.0.0.5/0", "write \"0.0.0.0/0\""),
            ("2001:db8::1/32", "write \"2001:db8::/32\""),
            ("::1/0", "write \"::/0\""),
            ("::ffff:192.0.2.0/120", "write \"192.0.2.0/24\""),
            ("::ffff:192.0.2.9/120", "write \"192.0.2.0/24\""),
            ("::ffff:192.0.2.1", "write \"192.0.2.1\""),
            ("::ffff:0:0/96", "write \"0.0.0.0/0\""),
            ("::ffff:192.0.2.0/24", "as in \"192.0.2.0/24\""),
            ("10.0.0.0/33", "as in \"192.0.2.0/24\""),
            ("campus", "as in \"192.0.2.0/24\""),
        ] {
            let (_, said) = network(text, &mut Networks::default()).expect_err(text);
            assert!(said.contains(remedy), "{text}: {said}");
        }
        for (text, everybody) in [
            ("0.0.0.0/0", true),
            ("::/0", true),
            ("::/8", true),
            ("2000::/3", true),
            ("2000::/4", false),
            ("0.0.0.0/1", false),
            ("10.0.0.0/8", false),
            ("nobody", false),
        ] {
            assert_eq!(are_everybody([text]), everybody, "{text}");
        }
        for (texts, everybody) in [
            (["0.0.0.0/1", "128.0.0.0/1"], true),
            (["8000::/1", "::/1"], true),
            (["2000::/4", "3000::/4"], true),
            (["0.0.0.0/1", "2000::/4"], false),
        ] {
            assert_eq!(are_everybody(texts), everybody, "{texts:?}");
        }
    }

    #[test]
    fn help_can_stand_in_a_reply() {
        assert!(help("https://help.example.edu/mail").is_ok());
        for text in ["", "a b", "a\r\nb", "hilfe.example.edu/für", &"a".repeat(201)] {
            assert!(help(text).expect_err(text).1.contains("200"), "{text}");
        }
    }

    #[test]
    fn pools() {
        let read = |texts: &[&str]| {
            let placed: Vec<_> = texts.iter().enumerate().map(|(at, text)| (*text, at..at + 1)).collect();
            hosts(&placed).map(|hosts| hosts.iter().map(|host| (host.address.clone(), host.weight)).collect::<Vec<_>>())
        };
        let found = read(&["a.example:25 weight=2", "[2001:db8::1]:25  weight=100", "b.example:25"]).expect("three");
        let expected = [("a.example:25", 2), ("[2001:db8::1]:25", 100), ("b.example:25", 1)];
        assert_eq!(found, expected.map(|(address, weight)| (address.to_owned(), weight)));
        for (text, what) in [
            ("a.example:25 weight=0", "is no weight"),
            ("a.example:25 weight=101", "is no weight"),
            ("a.example:25 2", "is no weight"),
            ("a.example:25, b.example:25", "is no weight"),
            ("a.example weight=2", "has no port"),
            ("b.example:25 weight=2", "is listed twice"),
        ] {
            let (at, (said, _)) = read(&["b.example:25", text]).expect_err(text);
            assert!(at == (1..2) && said.contains(what), "{text}: {said}");
        }
        let many: Vec<String> = (0..17).map(|number| format!("h{number}.example:25")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(read(&many[..16]).is_ok() && read(&many).is_err());
    }

    #[test]
    fn destinations() {
        for text in ["mail.example.edu:25", "192.0.2.1:2525", "[2001:db8::1]:25", "localhost:10025"] {
            assert_eq!(destination(text).as_deref(), Ok(text));
        }
        for (text, remedy) in [
            ("mail.example.edu", "\"mail.example.edu:25\""),
            ("2001:db8::1:25", "brackets"),
            ("mail.example.edu:smtp", "mail.example.edu:25"),
            ("mail example:25", "letters"),
            ("[2001:db8::1]:0", "brackets"),
        ] {
            let (_, said) = destination(text).expect_err(text);
            assert!(said.contains(remedy), "{text}: {said}");
        }
        assert_eq!(lmtp("unix:/run/lmtp"), Ok(Target::Lmtp { address: "unix:/run/lmtp".to_owned() }));
        assert!(lmtp("/run/lmtp").expect_err("no scheme").1.contains("\"unix:/run/lmtp\""));
        assert!(lmtp("unix:lmtp").is_err());
    }
}

//! Text that must have a form: domain names, listener addresses, destinations. Each function returns the value or what
//! is wrong and how to mend it.

use super::Target;
use crate::policy::domain_name::DomainName;
use crate::sasl::{Mechanism, Mechanisms};
use std::net::{IpAddr, SocketAddr};
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

/// An authentication mechanism by its name, in any case.
pub fn mechanism(text: &str) -> Result<Mechanism, Fault> {
    let known: Vec<&str> = Mechanisms::ALL.iter().map(Mechanism::name).collect();
    match Mechanism::parse(text.as_bytes()) {
        Some(mechanism) => Ok(mechanism),
        None => fault(format!("\"{text}\" is no mechanism"), format!("write some of \"{}\"", known.join("\", \""))),
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
    match text.strip_prefix(':') {
        Some(port) => {
            let remedy = format!("write \"0.0.0.0:{port}\", and in a second [[listener]] \"[::]:{port}\" for IPv6");
            fault(format!("\"{text}\" has no address"), remedy)
        }
        None if text.parse::<IpAddr>().is_ok() => fault(format!("\"{text}\" has no port"), form),
        None => fault(format!("\"{text}\" is no address to listen on"), form),
    }
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
        return fault(format!("\"{digits}\" is no port from 1 to 65535"), format!("write for example \"{host}:25\""));
    }
    domain(host).map(|host| format!("{host}:{digits}"))
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
    fn addresses() {
        for (text, address) in
            [("[::]:587", "[::]:587"), ("0.0.0.0:25", "0.0.0.0:25"), ("[2001:db8::1]:465", "[2001:db8::1]:465")]
        {
            assert_eq!(listener_address(text).expect(text).to_string(), address);
        }
        for text in ["587", "0.0.0.0", ":587", ":65536", "0.0.0.0:0", "localhost:587", "::1:587", ""] {
            assert!(listener_address(text).is_err(), "{text}");
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

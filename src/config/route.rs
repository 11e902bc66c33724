//! Routes as they are configured: which mail goes to which next server, and how that is spoken to.

use super::Mx;
use std::path::PathBuf;

/// `[[relay.route]]`
#[derive(Clone, Debug)]
pub struct Route {
    /// Recipient domains in lower case; empty: all others.
    pub domains: Vec<String>,
    /// Senders, `@domain` or an address; empty: all. At most one route is without both.
    pub senders: Vec<String>,
    /// Where to.
    pub target: Target,
}

/// The target of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// SMTP to one host or another.
    Smarthost(Smarthost),
    /// LMTP (RFC 2033).
    Lmtp {
        /// As for a smarthost, or `unix:/path`.
        address: String,
    },
    /// Delivery into a Maildir.
    Maildir {
        /// Made if missing.
        directory: PathBuf,
    },
    /// SMTP to the mail servers of each recipient's domain.
    Mx(Mx),
    /// Nowhere, for tests.
    Discard,
}

/// Servers that take mail for others, and how they are spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Smarthost {
    /// At least one; any of them will do.
    pub hosts: Vec<Host>,
    /// STARTTLS.
    pub tls: RouteTls,
    /// PEM: the CAs whose certificates are believed; none: the system's.
    pub ca_file: Option<PathBuf>,
    /// How we log in there; none: not at all. Then `tls` is [`RouteTls::Required`] at least.
    pub login: Option<Login>,
    /// What we show to a server that asks for a certificate.
    pub client_certificate: Option<ClientCertificate>,
}

impl Smarthost {
    /// One at `address` that asks for nothing.
    pub fn new(address: &str, tls: RouteTls) -> Smarthost {
        let hosts = vec![Host { address: address.into(), weight: 1 }];
        Smarthost { hosts, tls, ca_file: None, login: None, client_certificate: None }
    }
}

/// A host of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// `host:port`, `192.0.2.1:port` or `[2001:db8::1]:port`.
    pub address: String,
    /// Its share of the mail, beside the weights of the others.
    pub weight: u32,
}

impl Target {
    /// What is connected to or written to, with weights; one at least.
    pub fn hosts(&self) -> Vec<(String, u32)> {
        match self {
            Target::Smarthost(smarthost) => {
                smarthost.hosts.iter().map(|host| (host.address.clone(), host.weight)).collect()
            }
            Target::Lmtp { address } => vec![(address.clone(), 1)],
            Target::Maildir { directory } => vec![(directory.display().to_string(), 1)],
            Target::Mx(_) => vec![("mx".to_owned(), 1)],
            Target::Discard => vec![("discard".to_owned(), 1)],
        }
    }
}

/// `username` and `password_file` of a smarthost route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// User name.
    pub username: String,
    /// Its first line is the password. Read for each connection, so that a new password needs no restart.
    pub password_file: PathBuf,
}

/// `certificate` and `key` of a smarthost route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// PEM chain, ours first.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}

/// `tls` of a smarthost route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteTls {
    /// Never.
    None,
    /// When offered; the certificate is not verified.
    Opportunistic,
    /// Or the message waits; the certificate is not verified.
    Required,
    /// Or the message waits; the certificate must be for the smarthost's name and signed by a CA that is trusted.
    Verified,
}

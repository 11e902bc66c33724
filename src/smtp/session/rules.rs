//! What one listener lets its clients do.

use crate::policy::{Domains, OddBytes, Role, TlsMode};
use crate::sasl::Mechanisms;
use std::sync::Arc;

/// What one listener lets its clients do; constant after start.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Our name in the greeting.
    pub hostname: String,
    /// Who may send where.
    pub role: Role,
    /// How TLS starts.
    pub tls: TlsMode,
    /// What clients may authenticate with, inside TLS; none: nobody can, and AUTH is not known.
    pub mechanisms: Mechanisms,
    /// SIZE: octets of content.
    pub message_bytes_max: u64,
    /// Recipients of one message.
    pub recipients_max: u32,
    /// Messages of one session: MAIL commands that are taken. RFC 9422.
    pub messages_per_session: u32,
    /// Longest time for which an authenticated client may have a message held, seconds; 0: not offered. RFC 4865.
    pub hold_max_s: u32,
    /// Bare CR, bare LF and NUL in content of authenticated and trusted clients.
    pub odd_bytes: OddBytes,
    /// The same of all others.
    pub odd_bytes_of_strangers: OddBytes,
    /// Where a person can read on who was told to use TLS or to log in; empty: nowhere.
    pub help: String,
    /// Domains that anybody may send to, on a listener of role `smtp`.
    pub local_domains: Arc<Domains>,
    /// Is each recipient of an authenticated client asked about ([`Action::Recipient`](super::Action::Recipient))?
    pub limits_users: bool,
    /// Where `<postmaster>` without a domain goes.
    pub postmaster_domain: String,
}

/// May the peer of one connection say XCLIENT?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MayXclient {
    /// It is not listed.
    No,
    /// With all attributes but LOGIN.
    Yes,
    /// Its client is authenticated by it.
    WithLogin,
}

impl Rules {
    /// The strictest listener: submission behind STARTTLS without anybody who checks passwords, limits of RFC 5321.
    pub fn new(hostname: &str) -> Rules {
        Rules {
            hostname: hostname.into(),
            role: Role::Submission,
            tls: TlsMode::Required,
            mechanisms: Mechanisms::NONE,
            message_bytes_max: 50 << 20,
            recipients_max: 1000,
            messages_per_session: 10_000,
            hold_max_s: 0,
            odd_bytes: OddBytes::Normalize,
            odd_bytes_of_strangers: OddBytes::Reject,
            help: String::new(),
            local_domains: Arc::new(Domains::new([])),
            limits_users: false,
            postmaster_domain: hostname.into(),
        }
    }
}

//! What one listener lets its clients do.

use crate::policy::{Domains, Role, TlsMode};
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
    /// Is there anybody who checks passwords?
    pub auth: bool,
    /// SIZE: octets of content.
    pub message_bytes_max: u64,
    /// Recipients of one message.
    pub recipients_max: u32,
    /// Domains that anybody may send to, on a listener of role `smtp`.
    pub local_domains: Arc<Domains>,
    /// Where `<postmaster>` without a domain goes.
    pub postmaster_domain: String,
}

impl Rules {
    /// The strictest listener: submission behind STARTTLS without anybody who checks passwords, limits of RFC 5321.
    pub fn new(hostname: &str) -> Rules {
        Rules {
            hostname: hostname.into(),
            role: Role::Submission,
            tls: TlsMode::Required,
            auth: false,
            message_bytes_max: 50 << 20,
            recipients_max: 1000,
            local_domains: Arc::new(Domains::new([])),
            postmaster_domain: hostname.into(),
        }
    }
}

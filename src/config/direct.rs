//! Direct delivery as it is configured: by the mail servers that DNS names for a recipient's domain.

use super::RouteTls;
use crate::policy::Networks;
use std::net::SocketAddr;
use std::path::PathBuf;

/// A route with `mx`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mx {
    /// Of the domains' servers.
    pub port: u16,
    /// STARTTLS.
    pub tls: RouteTls,
    /// PEM: the CAs whose certificates are believed; none: the system's.
    pub ca_file: Option<PathBuf>,
    /// Connections to one server of a domain at a time.
    pub connections_max: usize,
    /// May be connected to although they are not public.
    pub reachable: Networks,
}

/// What all routes with `mx` have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Direct {
    /// Name servers; empty: the system's.
    pub name_servers: Vec<SocketAddr>,
    /// Seconds for one answer of one of them.
    pub dns_timeout_s: u64,
    /// Connections of all these routes together.
    pub connections_max: usize,
}

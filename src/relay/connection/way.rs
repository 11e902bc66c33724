//! Where connections go, and how TLS is spoken there.

use crate::config::{ClientCertificate, Target};
use crate::net::{self, PemFiles};
use crate::relay::route::Demand;
use std::sync::Arc;

/// Where a connection goes, and what is asked of it.
pub struct Way {
    /// The server.
    pub target: Target,
    /// What its messages ask of TLS.
    pub demand: Demand,
    /// How TLS is spoken there.
    pub tls: Tls,
}

/// TLS to one target; or why there is none.
#[derive(Clone)]
pub struct Tls {
    /// With verification.
    pub verifying: Result<Arc<rustls::ClientConfig>, String>,
    /// Without.
    pub unverified: Result<Arc<rustls::ClientConfig>, String>,
}

impl Tls {
    /// Reads the files that `target` names.
    pub fn of(target: &Target) -> Tls {
        let (ca_file, own) = match target {
            Target::Smarthost(smarthost) => (smarthost.ca_file.as_deref(), smarthost.client_certificate.clone()),
            Target::Mx(mx) => (mx.ca_file.as_deref(), None),
            Target::Lmtp { .. } | Target::Maildir { .. } | Target::Discard => {
                let none = || Err("this is no SMTP".to_owned());
                return Tls { verifying: none(), unverified: none() };
            }
        };
        let own = own.map(|ClientCertificate { certificate, key }| PemFiles { certificate, key });
        Tls {
            verifying: net::verifying_client_config(ca_file, own.as_ref()),
            unverified: net::unverified_client_config_with(own.as_ref()),
        }
    }
}

//! TLS configurations: what we speak.
//!
//! | choice | why |
//! |---|---|
//! | TLS 1.2 and 1.3, AEAD suites with ECDHE | all that rustls with ring speaks; RFC 8996, RFC 9325 sections 3.1, 4.2 |
//! | extended master secret not required | RFC 7627 mends resumption and what is bound to a session's secrets, and there is neither; copiers and programs of ten years ago do not know it, and scanners take the refusal for a missing TLS 1.2 |
//! | no session tickets, no session cache | a ticket costs every connection a record, and with an ECDSA certificate a resumed handshake saves only one signature; nothing that a resumed session could carry over exists (RFC 9325 section 3.4) |
//! | no early data | it can be replayed (RFC 8446 section 8) |
//! | ALPN `smtp` | a client that speaks only another protocol gets alert 120 (RFC 9325 section 3.8); one that offers none goes on |
//! | the certificate for the name asked for, or the default | RFC 9325 section 3.7; `certificates.rs` |

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WantsClientCert};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, ConfigBuilder, DigitallySignedStruct, ServerConfig, SignatureScheme};

use super::certificates::{Certificate, PemFiles, Showing};

/// How the server speaks TLS, and the certificates that it shows. Replaced as a whole on reload.
pub struct ServerTls {
    /// Each connection gets a copy of it that knows which one was shown.
    config: ServerConfig,
    certificates: Arc<[Certificate]>,
}

/// Loads every certificate, or none; the first is the default. Errors: one line with the file's name, `; ` and a remedy.
pub fn server_tls(files: &[PemFiles]) -> Result<Arc<ServerTls>, String> {
    let certificates: Result<Vec<_>, _> = files.iter().map(Certificate::load).collect();
    ServerTls::new(certificates?).map(Arc::new)
}

/// [`server_tls`] with one certificate.
pub fn server_config(certificate: &Path, key: &Path) -> Result<Arc<ServerTls>, String> {
    server_tls(&[PemFiles { certificate: certificate.into(), key: key.into() }])
}

impl ServerTls {
    /// With these certificates; the first is the default. Errors: there is none.
    pub fn new(certificates: Vec<Certificate>) -> Result<ServerTls, String> {
        if certificates.is_empty() {
            return Err("there is no certificate; name one in [tls]".to_owned());
        }
        let certificates: Arc<[Certificate]> = certificates.into();
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(rustls::DEFAULT_VERSIONS)
            .expect("ring speaks every version")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Showing::new(certificates.clone())));
        config.max_early_data_size = 0;
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.alpn_protocols = vec![b"smtp".to_vec()];
        Ok(ServerTls { config, certificates })
    }

    /// The certificates, the default first.
    pub fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }

    /// For servers of tests that drive rustls themselves.
    #[cfg(test)]
    pub fn plain_config(&self) -> Arc<ServerConfig> {
        self.for_connection().0
    }

    /// For one connection: what it speaks, and where it will stand which certificate it showed. The copy is a dozen counted
    /// references, a thousandth of what the handshake's signature costs.
    pub(super) fn for_connection(&self) -> (Arc<ServerConfig>, Arc<Showing>) {
        let showing = Arc::new(Showing::new(self.certificates.clone()));
        let mut config = self.config.clone();
        config.cert_resolver = showing.clone();
        (Arc::new(config), showing)
    }
}

/// A client configuration that does not verify certificates: opportunistic TLS, which keeps listeners out but knows
/// no names (RFC 7435). Nothing is resumed.
pub fn unverified_client_config() -> Arc<ClientConfig> {
    unverified_client_config_with(None).expect("no file is read")
}

/// The same, showing `own` to a server that asks for it. Errors: one line with a file's name, `; ` and a remedy.
pub fn unverified_client_config_with(own: Option<&PemFiles>) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(rustls::DEFAULT_VERSIONS)
        .expect("ring speaks every version")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)));
    let mut config = shown_by_client(builder, own)?;
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// With the certificate that a client shows, if it has one. Errors: as [`Certificate::load`].
pub(super) fn shown_by_client(
    builder: ConfigBuilder<ClientConfig, WantsClientCert>,
    own: Option<&PemFiles>,
) -> Result<ClientConfig, String> {
    Ok(match own {
        Some(files) => {
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Certificate::load(files)?.signing())))
        }
        None => builder.with_no_client_auth(),
    })
}

/// Accepts what the peer shows. Its signature is not checked either: without a name to hold it against it proves
/// nothing, and checking would refuse the X.509 version 1 certificates that some smarthosts have.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the configuration says of itself; that it is also done is for the end-to-end tests.
    #[test]
    fn nothing_is_resumed_and_nothing_comes_early() {
        let folder = tempfile::tempdir().unwrap();
        let files = crate::net::certificates::tests::made(folder.path(), "one", &["mail.example.org"]);
        let tls = server_tls(&[files]).unwrap();
        let (config, _) = tls.for_connection();
        assert!(config.max_early_data_size == 0 && config.send_tls13_tickets == 0);
        assert!(!config.ticketer.enabled() && config.session_storage.get(b"any").is_none());
        assert_eq!(config.alpn_protocols, [b"smtp"]);
        assert!(server_tls(&[]).is_err());
    }
}

//! TLS configurations: what we speak, and the certificate from its PEM files.
//!
//! | choice | why |
//! |---|---|
//! | TLS 1.2 and 1.3, AEAD suites with ECDHE | all that rustls with ring speaks; RFC 8996, RFC 9325 sections 3.1, 4.2 |
//! | extended master secret required | RFC 9325 section 3.5, RFC 7627 |
//! | no session tickets, no session cache | a ticket costs every connection a record, and with an ECDSA certificate a resumed handshake saves only one signature; nothing that a resumed session could carry over exists (RFC 9325 section 3.4) |
//! | no early data | it can be replayed (RFC 8446 section 8) |
//! | ALPN `smtp` | a client that speaks only another protocol gets alert 120 (RFC 9325 section 3.8); one that offers none goes on |
//! | one certificate for every name asked for | RFC 9325 section 3.7 |

use std::path::Path;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::{ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme};

/// Loads a PEM chain, our own certificate first, and its key. Errors: one line with the file's name and a remedy.
pub fn server_config(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, String> {
    let chain = read_chain(certificate)?;
    let private_key = read_key(key)?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be set up: {error}"))?
        .with_no_client_auth()
        .with_single_cert(chain, private_key)
        .map_err(|error| refusal(certificate, key, &error))?;
    config.require_ems = true;
    config.max_early_data_size = 0;
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.alpn_protocols = vec![b"smtp".to_vec()];
    Ok(Arc::new(config))
}

fn refusal(certificate: &Path, key: &Path, error: &rustls::Error) -> String {
    match error {
        rustls::Error::InconsistentKeys(_) => format!(
            "{}: this key does not belong to the first certificate in {}; give the key that the certificate was made \
             with, and put the server's own certificate first",
            key.display(),
            certificate.display()
        ),
        rustls::Error::InvalidCertificate(reason) => {
            format!("{}: the first certificate cannot be used ({reason:?}); renew it", certificate.display())
        }
        error => format!(
            "{}: this key cannot be used ({error}); give a P-256, P-384, Ed25519 or RSA key of at least 2048 bits",
            key.display()
        ),
    }
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = read_file(path)?;
    let chain = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| format!("{}: damaged PEM ({error}); copy the file again", path.display()))?;
    match chain.is_empty() {
        true => Err(format!(
            "{}: no certificate in this file; it must hold a PEM chain (-----BEGIN CERTIFICATE-----)",
            path.display()
        )),
        false => Ok(chain),
    }
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let pem = read_file(path)?;
    let is_encrypted = ENCRYPTED_MARKS.iter().any(|mark| memchr::memmem::find(&pem, mark).is_some());
    if is_encrypted {
        return Err(format!(
            "{}: the key is encrypted; decrypt it with `openssl pkey -in OLD -out NEW` and protect the file by its mode",
            path.display()
        ));
    }
    PrivateKeyDer::from_pem_slice(&pem).map_err(|error| match error {
        rustls::pki_types::pem::Error::NoItemsFound => {
            format!(
                "{}: no private key in this file; it must hold one in PEM form (PKCS#8, SEC1 or PKCS#1)",
                path.display()
            )
        }
        error => format!("{}: damaged PEM ({error}); copy the file again", path.display()),
    })
}

/// PKCS#8, and the older form of OpenSSL.
const ENCRYPTED_MARKS: [&[u8]; 2] = [b"BEGIN ENCRYPTED PRIVATE KEY", b"Proc-Type: 4,ENCRYPTED"];

fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| {
        let remedy = match error.kind() {
            std::io::ErrorKind::NotFound => "check the path",
            std::io::ErrorKind::PermissionDenied => "let the server's user read it",
            _ => "check that it is a readable file",
        };
        format!("{}: cannot be read ({error}); {remedy}", path.display())
    })
}

/// A client configuration that does not verify certificates: opportunistic TLS, which keeps listeners out but knows
/// no names (RFC 7435). Nothing is resumed.
pub fn unverified_client_config() -> Arc<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(rustls::DEFAULT_VERSIONS)
        .expect("ring speaks every version")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.require_ems = true;
    Arc::new(config)
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

    const ENCRYPTED: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    const DAMAGED: &str = "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n";
    const NOT_A_CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

    /// What is in the two files, and the words that the refusal must have; None: it is accepted.
    #[test]
    fn says_what_is_wrong_with_which_file() {
        let made = || rcgen::generate_simple_self_signed(["mail.example.org".to_owned()]).unwrap();
        let (one, other) = (made(), made());
        let (chain, key) = (one.cert.pem(), one.signing_key.serialize_pem());
        let foreign_key = other.signing_key.serialize_pem();
        let both = format!("{key}{chain}");
        let cases: [(&str, &str, Option<[&str; 2]>); 9] = [
            (&chain, &key, None),
            (&both, &both, None),
            ("", &key, Some(["chain.pem: no certificate", "PEM chain"])),
            (&chain, "", Some(["key.pem: no private key", "PKCS#8"])),
            (&chain, &chain, Some(["key.pem: no private key", "PKCS#8"])),
            (&chain, &foreign_key, Some(["key.pem: this key does not belong", "chain.pem"])),
            (&chain, ENCRYPTED, Some(["key.pem: the key is encrypted", "openssl pkey"])),
            (DAMAGED, &key, Some(["chain.pem: damaged PEM", "copy the file again"])),
            (NOT_A_CERTIFICATE, &key, Some(["chain.pem: the first certificate cannot be used", "renew it"])),
        ];
        let folder = tempfile::tempdir().unwrap();
        let (chain_path, key_path) = (folder.path().join("chain.pem"), folder.path().join("key.pem"));
        for (chain, key, words) in cases {
            std::fs::write(&chain_path, chain).unwrap();
            std::fs::write(&key_path, key).unwrap();
            assert_refused(server_config(&chain_path, &key_path), words);
        }
        std::fs::remove_file(&key_path).unwrap();
        assert_refused(server_config(&chain_path, &key_path), Some(["key.pem: cannot be read", "check the path"]));
        assert_refused(server_config(folder.path(), &key_path), Some(["cannot be read", "readable file"]));
    }

    fn assert_refused(result: Result<Arc<ServerConfig>, String>, words: Option<[&str; 2]>) {
        match (result, words) {
            (Ok(_), None) => {}
            (Err(line), Some(words)) => {
                assert!(words.iter().all(|word| line.contains(word)) && !line.contains('\n'), "{line}");
            }
            (result, words) => panic!("{words:?}: {:?}", result.err()),
        }
    }
}

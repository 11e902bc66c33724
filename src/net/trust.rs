//! TLS that proves who the server is: whom we trust, and what went wrong in words for an operator.
//!
//! The roots are the system's (what `update-ca-certificates` and its like maintain), so that an institution's own CA and a
//! withdrawn one are a matter of the system and not of our release; or those of one file, and then no others. The name is
//! that of the configuration, never one that a name server gave (RFC 7817 section 3), or an IP address (RFC 5280 section
//! 4.2.1.6). Nothing is resumed.

use super::certificates::read_chain;
use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::{CertificateError, ClientConfig, RootCertStore};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// A client configuration that verifies certificates against the CAs in `ca_file`, or else the system's. Errors: one line
/// with a remedy.
pub fn verifying_client_config(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    let roots = match ca_file {
        Some(file) => roots_of(file)?,
        None => system_roots()?,
    };
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(rustls::DEFAULT_VERSIONS)
        .expect("ring speaks every version")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.require_ems = true;
    Ok(Arc::new(config))
}

fn roots_of(file: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in read_chain(file)? {
        roots.add(certificate).map_err(|error| {
            format!("{}: this certificate cannot be trusted ({error}); give the certificate of a CA", file.display())
        })?;
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // One odd certificate among a hundred is not worth refusing the others for.
    let (added, _) = roots.add_parsable_certificates(found.certs);
    match added {
        0 => Err("the system has no CA certificates; install them (Debian: ca-certificates), or name a ca_file".into()),
        _ => Ok(roots),
    }
}

/// Why a handshake failed; names what to do where an operator can do something.
pub fn handshake_trouble(error: &io::Error) -> String {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::InvalidCertificate(why)) => certificate_trouble(why),
        _ if error.kind() == io::ErrorKind::UnexpectedEof => "the server closed the connection".into(),
        _ => error.to_string(),
    }
}

fn certificate_trouble(why: &CertificateError) -> String {
    use CertificateError::{
        BadSignature, Expired, ExpiredContext, NotValidForName, NotValidForNameContext, NotValidYet,
        NotValidYetContext, UnknownIssuer,
    };
    match why {
        Expired | ExpiredContext { .. } => "its certificate has expired".into(),
        NotValidYet | NotValidYetContext { .. } => "its certificate is not valid yet; are both clocks right?".into(),
        UnknownIssuer => "its certificate is signed by no CA that is trusted here; name its CA with ca_file".into(),
        NotValidForNameContext { expected, presented } => {
            let name = expected.to_str();
            format!("its certificate is not for \"{name}\" but for {}", presented.join(", "))
        }
        NotValidForName => "its certificate is for another name".into(),
        BadSignature => "its certificate is signed wrongly".into(),
        other => format!("its certificate is not trusted: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_a_ca_or_what_is_wrong_with_it() {
        let made = rcgen::generate_simple_self_signed(["ca.example".to_owned()]).expect("a certificate");
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("ca.pem");
        let with = |text: &str| {
            std::fs::write(&file, text).expect("written");
            verifying_client_config(Some(&file)).map(|_| ())
        };
        assert_eq!(with(&made.cert.pem()), Ok(()));
        for (text, words) in [
            ("", "no certificate in this file"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "cannot be trusted"),
        ] {
            let error = with(text).expect_err(words);
            assert!(error.contains(words) && error.contains("ca.pem"), "{error}");
        }
        assert!(verifying_client_config(Some(&folder.path().join("none"))).is_err());
    }
}

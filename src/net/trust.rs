//! TLS that proves who the server is: whom we trust, and what went wrong in words for an operator.
//!
//! The roots are the system's (what `update-ca-certificates` and its like maintain), so that an institution's own CA and a
//! withdrawn one are a matter of the system and not of our release; or those of one file, and then no others. The name is
//! that of the configuration, never one that a name server gave (RFC 7817 section 3), or an IP address (RFC 5280 section
//! 4.2.1.6). Nothing is resumed.

use super::certificates::{PemFiles, read_chain};
use super::tls_config::shown_by_client;
use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::{CertificateError, ClientConfig, RootCertStore};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// A client configuration that verifies certificates against the CAs in `ca_file`, or else the system's, and shows `own` to
/// a server that asks for it. Errors: one line with a remedy.
pub fn verifying_client_config(ca_file: Option<&Path>, own: Option<&PemFiles>) -> Result<Arc<ClientConfig>, String> {
    let roots = match ca_file {
        Some(file) => roots_of(file)?,
        None => system_roots()?,
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(rustls::DEFAULT_VERSIONS)
        .expect("ring speaks every version")
        .with_root_certificates(roots);
    let mut config = shown_by_client(builder, own)?;
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

/// Did the handshake fail because of the server's certificate, and not for a reason that a network may cause?
pub fn is_certificate_fault(error: &io::Error) -> bool {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(tls, Some(rustls::Error::InvalidCertificate(_)))
}

fn certificate_trouble(why: &CertificateError) -> String {
    use CertificateError as Fault;
    match why {
        Fault::NotValidForNameContext { expected, presented } => {
            let name = expected.to_str();
            let names: Vec<&str> = presented.iter().map(|name| bare(name)).collect();
            match names.is_empty() {
                true => format!("its certificate has no name in its subjectAltName; renew it with \"{name}\" there"),
                false => format!(
                    "its certificate is not for \"{name}\" but for {}; name it so in the route, or renew the certificate",
                    names.join(", ")
                ),
            }
        }
        Fault::Other(inner) => {
            // rustls hands on what webpki says, and only by its name.
            let fault = format!("{:?}", inner.0);
            let known = RARE.iter().find(|(name, _)| fault.starts_with(name));
            known.map_or_else(
                || format!("its certificate is not trusted ({fault}); renew it"),
                |(_, text)| (*text).into(),
            )
        }
        other => usual(other).into(),
    }
}

fn usual(why: &CertificateError) -> &'static str {
    use CertificateError::{
        BadEncoding, BadSignature, Expired, ExpiredContext, InvalidPurpose, InvalidPurposeContext, NotValidForName,
        NotValidYet, NotValidYetContext, Revoked, UnhandledCriticalExtension, UnknownIssuer,
        UnsupportedSignatureAlgorithmContext, UnsupportedSignatureAlgorithmForPublicKeyContext,
    };
    match why {
        Expired | ExpiredContext { .. } => "its certificate has expired; renew it",
        NotValidYet | NotValidYetContext { .. } => "its certificate is not valid yet; are both clocks right?",
        UnknownIssuer => "its certificate is signed by no CA that is trusted here; name its CA with ca_file",
        NotValidForName => "its certificate is for another name; name the host as its certificate does",
        BadSignature => "its certificate is signed wrongly: ca_file has a CA of the same name and another key, perhaps",
        BadEncoding => "its certificate cannot be read; renew it",
        Revoked => "its certificate has been revoked; renew it",
        UnhandledCriticalExtension => {
            "its certificate has a critical extension that is not known here; renew it without that"
        }
        InvalidPurpose | InvalidPurposeContext { .. } => {
            "its certificate is not meant for servers; renew it with extendedKeyUsage serverAuth"
        }
        UnsupportedSignatureAlgorithmContext { .. } | UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "its certificate is signed by an algorithm that is not trusted here (SHA-1, say); renew it with SHA-256"
        }
        _ => "its certificate is not trusted; renew it",
    }
}

/// What webpki says of certificates beyond rustls's own words: its name of the fault, and ours with a remedy.
const RARE: [(&str, &str); 11] = [
    (
        "CaUsedAsEndEntity",
        "its certificate is a CA's, made with `openssl req -x509` perhaps; make a server certificate that is signed by \
         it, or a self-signed one with basicConstraints=CA:FALSE",
    ),
    ("EndEntityUsedAsCa", "its certificate is signed by one that is no CA's; get one from a CA"),
    ("PathLenConstraintViolated", "there are more CAs between its certificate and the root than the root allows"),
    ("MaximumPathDepthExceeded", "there are too many CAs between its certificate and the root; send a shorter chain"),
    ("MaximumPathBuildCallsExceeded", "its chain of certificates is too tangled; send the needed ones only"),
    ("MaximumSignatureChecksExceeded", "its chain of certificates is too tangled; send the needed ones only"),
    ("NameConstraintViolation", "its certificate has a name that its CA may not give; get one from another CA"),
    ("UnsupportedCertVersion", "its certificate is of an old version, without extensions; make one of version 3"),
    ("EmptyEkuExtension", "its certificate has an empty extendedKeyUsage; renew it with serverAuth there"),
    ("MalformedExtensions", "its certificate has extensions that cannot be read; renew it"),
    ("InvalidSerialNumber", "its certificate has a serial number that is none; renew it"),
];

/// The name in `DnsName("mx.example")` or `IpAddress(192.0.2.1)`.
fn bare(presented: &str) -> &str {
    let inner = presented.split_once('(').map_or(presented, |(_, rest)| rest.trim_end_matches(')'));
    inner.trim_matches('"')
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
            verifying_client_config(Some(&file), None).map(|_| ())
        };
        assert_eq!(with(&made.cert.pem()), Ok(()));
        for (text, words) in [
            ("", "no certificate in this file"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "cannot be trusted"),
        ] {
            let error = with(text).expect_err(words);
            assert!(error.contains(words) && error.contains("ca.pem"), "{error}");
        }
        assert!(verifying_client_config(Some(&folder.path().join("none")), None).is_err());
    }

    /// What is said of the certificate that `parameters` make, shown by a server that is configured as `host`.
    fn said_of(parameters: rcgen::CertificateParams, host: &str) -> String {
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = parameters.self_signed(&key).expect("a certificate");
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).expect("a root");
        let provider = Arc::new(ring::default_provider());
        let builder = rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
        let verifier = builder.build().expect("a verifier");
        let name = rustls::pki_types::ServerName::try_from(host.to_owned()).expect("a name");
        let now = rustls::pki_types::UnixTime::now();
        let error = rustls::client::danger::ServerCertVerifier::verify_server_cert(
            &*verifier,
            certificate.der(),
            &[],
            &name,
            &[],
            now,
        );
        handshake_trouble(&io::Error::other(error.expect_err("not trusted")))
    }

    #[test]
    fn what_is_wrong_with_a_certificate_is_said_in_words_and_with_a_remedy() {
        let parameters = |name: &str| rcgen::CertificateParams::new(vec![name.to_owned()]).expect("a name");
        let mut ca = parameters("mx.example");
        ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let mut client = parameters("mx.example");
        client.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let mut old = parameters("mx.example");
        old.not_after = rcgen::date_time_ymd(2001, 1, 1);
        old.not_before = rcgen::date_time_ymd(2000, 1, 1);
        let nameless = rcgen::CertificateParams::default();
        for (parameters, host, expected) in [
            (ca, "mx.example", &["a CA's", "openssl req -x509", "; make a server certificate"][..]),
            (client, "mx.example", &["not meant for servers; renew it"]),
            (old, "mx.example", &["has expired; renew it"]),
            (parameters("wrong.example"), "mx.example", &["not for \"mx.example\" but for wrong.example; name it"]),
            (parameters("192.0.2.9"), "192.0.2.1", &["not for \"192.0.2.1\" but for 192.0.2.9;"]),
            (nameless, "mx.example", &["no name in its subjectAltName; renew it with \"mx.example\""]),
        ] {
            let said = said_of(parameters, host);
            assert!(expected.iter().all(|part| said.contains(part)), "{said}");
            assert!(!["(\"", "Other", "DnsName", "IpAddress"].iter().any(|debug| said.contains(debug)), "{said}");
        }
    }

    #[test]
    fn what_is_wrong_without_more_to_say_has_its_remedy_too() {
        use CertificateError::*;
        for (why, words) in [
            (NotValidYet, "are both clocks right?"),
            (UnknownIssuer, "by no CA that is trusted here; name its CA with ca_file"),
            (NotValidForName, "for another name; name the host as its certificate does"),
            (BadSignature, "signed wrongly"),
            (BadEncoding, "cannot be read; renew it"),
            (Revoked, "has been revoked; renew it"),
            (UnhandledCriticalExtension, "a critical extension that is not known here"),
            (ApplicationVerificationFailure, "is not trusted; renew it"),
        ] {
            let said = handshake_trouble(&io::Error::other(rustls::Error::InvalidCertificate(why)));
            assert!(said.contains(words), "{said}");
        }
    }

    /// A fault of webpki's: it shows itself by its name.
    struct Named(&'static str);

    impl std::fmt::Debug for Named {
        fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
            formatter.write_str(self.0)
        }
    }

    impl std::fmt::Display for Named {
        fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
            formatter.write_str(self.0)
        }
    }

    impl std::error::Error for Named {}
    #[test]
    fn no_sentence_shows_how_the_program_is_made() {
        for (name, text) in RARE {
            let error = CertificateError::Other(rustls::OtherError(Arc::new(Named(name))));
            assert_eq!(certificate_trouble(&error), text);
            assert!(!text.contains(name));
        }
    }
}

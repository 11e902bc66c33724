//! The server's certificates: read from PEM files, chosen by the name that a client asks for (SNI, RFC 6066 section 3).
//!
//! ```text
//!  PEM files --load--> [0: the default] [1] [2] ..       all of them, or a line that says which one is wrong
//!                            ^
//!                            | name asked for, signatures that the client can check
//!                       one per connection, remembered: its hash is what SCRAM binds to (RFC 5929 section 4)
//! ```
//!
//! | the client asks for | it is shown |
//! |---|---|
//! | a name that stands in a certificate | the first such certificate whose signature it can check |
//! | a name that a wildcard covers, for one label (RFC 9525 section 6.3) | likewise |
//! | another name, or none | the default (RFC 9325 section 3.7), or the first that has its names and can be checked |

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use ring::digest;
use rustls::SignatureScheme;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::signature_algorithm::SignatureAlgorithm;

use crate::services::plain_file;

/// The fewest bits of an RSA key (RFC 9325 section 4.5).
const RSA_BITS_MIN: usize = 2048;
/// Octets of a PEM file at the most: some ten times the certificates of all public CAs.
const PEM_BYTES_MAX: u64 = 4 << 20;
/// Time before its end at which a certificate is reported, seconds, or a third of its life if that is shorter: some
/// certificates live for six days.
const EXPIRY_NOTICE_S: i64 = 14 * 86_400;

/// A certificate chain, our own first, and its key; both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PemFiles {
    /// The chain.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// One loaded certificate.
#[derive(Debug)]
pub struct Certificate {
    file: PathBuf,
    signing: Arc<CertifiedKey>,
    /// DNS names, as in the certificate; `*.` heads a wildcard.
    names: Vec<String>,
    /// None where RFC 5929 section 4.1 defines none.
    end_point: Option<Arc<[u8]>>,
    not_before_s: i64,
    not_after_s: i64,
}

impl Certificate {
    /// Reads and checks both files. Errors: one line with a file's name, `; ` and a remedy.
    pub fn load(files: &PemFiles) -> Result<Certificate, String> {
        if holds(&files.certificate) == Holds::Key && holds(&files.key) == Holds::Certificate {
            return Err(format!(
                "{} is the key and {} the certificate: these two are swapped; exchange them",
                files.certificate.display(),
                files.key.display()
            ));
        }
        Certificate::new(files, read_chain(&files.certificate)?, read_key(&files.key)?)
    }

    /// `chain`, which is not empty, and its key. `files`: where they came from, for messages. Errors: as [`Certificate::load`].
    pub fn new(
        files: &PemFiles,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Certificate, String> {
        let first = chain[0].clone();
        // Before the key: that a small key "cannot be used" would be true, and no help.
        let facts = Facts::read(&first).map_err(|reason| format!("{}: {reason}", files.certificate.display()))?;
        let provider = rustls::crypto::ring::default_provider();
        let signing = CertifiedKey::from_der(chain, key, &provider).map_err(|error| refusal(files, &error))?;
        Ok(Certificate {
            file: files.certificate.clone(),
            signing: Arc::new(signing),
            names: facts.names,
            end_point: server_end_point(&first),
            not_before_s: facts.not_before_s,
            not_after_s: facts.not_after_s,
        })
    }

    /// The chain and the key.
    pub(super) fn signing(&self) -> Arc<CertifiedKey> {
        self.signing.clone()
    }

    /// Its DNS names.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Would a client that asks for `name` be shown it, if it were the only one?
    pub fn suits(&self, name: &str) -> bool {
        self.is_for(name) || self.covers(name)
    }

    /// Does each of its names, of which there is at least one, stand in one of `earlier` with a key of the same type? Then
    /// it is never shown.
    pub fn is_shadowed_by(&self, earlier: &[Certificate]) -> bool {
        let same_type = |other: &&Certificate| other.signing.key.algorithm() == self.signing.key.algorithm();
        let shadowed = |name: &String| earlier.iter().filter(same_type).any(|other| other.is_for(name));
        !self.names.is_empty() && self.names.iter().all(shadowed)
    }

    /// The time at which it ends, for people.
    pub fn end(&self) -> String {
        date(self.not_after_s)
    }

    /// What an operator should know about its time: one line with the file's name, `; ` and a remedy. None: all is well.
    /// `now_s`: seconds since the Unix epoch.
    pub fn trouble(&self, now_s: i64) -> Option<String> {
        let notice_s = EXPIRY_NOTICE_S.min((self.not_after_s - self.not_before_s) / 3);
        let left_s = self.not_after_s - now_s;
        let what = if left_s < 0 {
            format!("the certificate expired on {}; renew it, clients refuse it", date(self.not_after_s))
        } else if left_s <= notice_s {
            format!("the certificate expires on {}; renew it, then send SIGHUP", date(self.not_after_s))
        } else if now_s < self.not_before_s {
            format!("the certificate is not valid before {}; set the clock, or wait", date(self.not_before_s))
        } else {
            return None;
        };
        Some(format!("{}: {what}", self.file.display()))
    }

    /// Has it all names of `other`, of which there is at least one?
    fn has_names_of(&self, other: &Certificate) -> bool {
        !other.names.is_empty() && other.names.iter().all(|name| self.is_for(name))
    }

    fn is_for(&self, name: &str) -> bool {
        self.names.iter().any(|own| own.eq_ignore_ascii_case(name))
    }

    /// A wildcard stands for one whole label, the first.
    fn covers(&self, name: &str) -> bool {
        let Some((_, parent)) = name.split_once('.') else { return false };
        self.names.iter().filter_map(|own| own.strip_prefix("*.")).any(|own| own.eq_ignore_ascii_case(parent))
    }
}

fn date(epoch_s: i64) -> String {
    match jiff::Timestamp::from_second(epoch_s) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M UTC").to_string(),
        Err(_) => "a day far away".to_owned(),
    }
}

/// Which of `certificates` a client is shown that asks for `name` and can check `schemes`. The first is the default.
fn choose(certificates: &[Certificate], name: Option<&str>, schemes: &[SignatureScheme]) -> usize {
    let checkable = |certificate: &&Certificate| certificate.signing.key.choose_scheme(schemes).is_some();
    let find = |fits: &dyn Fn(&Certificate) -> bool| {
        certificates.iter().position(|certificate| fits(certificate) && checkable(&certificate))
    };
    let named = name.and_then(|name| {
        find(&|certificate| certificate.is_for(name)).or_else(|| find(&|certificate| certificate.covers(name)))
    });
    // The default may have a twin with a key of another type, for clients that know no other.
    named.or_else(|| find(&|certificate| certificate.has_names_of(&certificates[0]))).unwrap_or(0)
}

/// Chooses for one connection, and remembers what it chose: rustls does not tell.
#[derive(Debug)]
pub(super) struct Showing {
    certificates: Arc<[Certificate]>,
    shown: OnceLock<usize>,
}

impl Showing {
    /// `certificates` has at least one.
    pub fn new(certificates: Arc<[Certificate]>) -> Showing {
        Showing { certificates, shown: OnceLock::new() }
    }

    /// The hash of the certificate that was shown, for channel binding.
    pub fn end_point(&self) -> Option<Arc<[u8]>> {
        self.certificates[*self.shown.get()?].end_point.clone()
    }
}

impl ResolvesServerCert for Showing {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let at = choose(&self.certificates, hello.server_name(), hello.signature_schemes());
        // A second ClientHello (RFC 8446 section 4.1.4) asks for the same name.
        Some(self.certificates[*self.shown.get_or_init(|| at)].signing.clone())
    }
}

/// `tls-server-end-point` (RFC 5929 section 4.1): the certificate's hash by the hash function of its own signature, SHA-256
/// in place of MD5 and SHA-1. None: the signature has no such function (Ed25519), or the certificate cannot be read.
pub(super) fn server_end_point(certificate: &[u8]) -> Option<Arc<[u8]>> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let identifier = &parsed.signature_algorithm;
    let name = match SignatureAlgorithm::try_from(identifier) {
        Ok(SignatureAlgorithm::RSASSA_PSS(parameters)) => parameters.hash_algorithm_oid().to_id_string(),
        _ => identifier.algorithm.to_id_string(),
    };
    let (_, algorithm) = HASHES.iter().find(|(identifiers, _)| identifiers.contains(&name.as_str()))?;
    Some(Arc::from(digest::digest(algorithm, certificate).as_ref()))
}

/// Signature algorithms, and bare hash functions as RSASSA-PSS names them, with the hash that binds to them.
#[rustfmt::skip]
const HASHES: [(&[&str], &digest::Algorithm); 4] = [
    // MD5 and SHA-1: with RSA, with ECDSA, with DSA; SHA-1 alone.
    (&["1.2.840.113549.1.1.4", "1.2.840.113549.1.1.5", "1.2.840.10045.4.1", "1.2.840.10040.4.3", "1.3.14.3.2.26"],
        &digest::SHA256),
    // With RSA, with ECDSA, with DSA, alone.
    (&["1.2.840.113549.1.1.11", "1.2.840.10045.4.3.2", "2.16.840.1.101.3.4.3.2", "2.16.840.1.101.3.4.2.1"], &digest::SHA256),
    (&["1.2.840.113549.1.1.12", "1.2.840.10045.4.3.3", "2.16.840.1.101.3.4.3.3", "2.16.840.1.101.3.4.2.2"], &digest::SHA384),
    (&["1.2.840.113549.1.1.13", "1.2.840.10045.4.3.4", "2.16.840.1.101.3.4.3.4", "2.16.840.1.101.3.4.2.3"], &digest::SHA512),
];

/// What a certificate says of itself.
struct Facts {
    names: Vec<String>,
    not_before_s: i64,
    not_after_s: i64,
}

impl Facts {
    /// Errors: what is wrong, `; ` and a remedy.
    fn read(certificate: &[u8]) -> Result<Facts, String> {
        let (_, parsed) = X509Certificate::from_der(certificate)
            .map_err(|error| format!("the first certificate cannot be used ({error}); renew it"))?;
        if let Ok(PublicKey::RSA(key)) = parsed.public_key().parsed()
            && key.key_size() < RSA_BITS_MIN
        {
            return Err(format!(
                "its RSA key has {} bits, and {RSA_BITS_MIN} are the least (RFC 9325 section 4.5); make a new key, P-256 or a \
                 longer RSA one, and renew the certificate with it",
                key.key_size()
            ));
        }
        let alternatives = parsed.subject_alternative_name().ok().flatten();
        let names = alternatives.iter().flat_map(|extension| &extension.value.general_names);
        Ok(Facts {
            names: names.filter_map(dns_name).collect(),
            not_before_s: parsed.validity().not_before.timestamp(),
            not_after_s: parsed.validity().not_after.timestamp(),
        })
    }
}

fn dns_name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    }
}

fn refusal(files: &PemFiles, error: &rustls::Error) -> String {
    let (certificate, key) = (files.certificate.display(), files.key.display());
    match error {
        rustls::Error::InconsistentKeys(_) => format!(
            "{key}: this key does not belong to the first certificate in {certificate}; give the key that the certificate was \
             made with, and put the server's own certificate first"
        ),
        rustls::Error::InvalidCertificate(reason) => {
            format!("{certificate}: the first certificate cannot be used ({reason:?}); renew it")
        }
        error => format!(
            "{key}: this key cannot be used ({error}); give a P-256, P-384, Ed25519 or RSA key of at least 2048 bits"
        ),
    }
}

pub(super) fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
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

/// What there is in a PEM file, by its first lines of each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// One or more certificates, no key.
    Certificate,
    /// A private key, encrypted or not, and no certificate.
    Key,
    /// A private key and certificates.
    Both,
    /// Neither, or it cannot be read.
    Neither,
}

/// What there is in the file at `path`.
pub fn holds(path: &Path) -> Holds {
    let pem = plain_file::read(path, PEM_BYTES_MAX).unwrap_or_default();
    let has = |mark: &[u8]| memchr::memmem::find(&pem, mark).is_some();
    match (has(b"-----BEGIN CERTIFICATE-----"), has(b"PRIVATE KEY-----")) {
        (true, true) => Holds::Both,
        (true, false) => Holds::Certificate,
        (false, true) => Holds::Key,
        (false, false) => Holds::Neither,
    }
}

/// PKCS#8, and the older form of OpenSSL.
const ENCRYPTED_MARKS: [&[u8]; 2] = [b"BEGIN ENCRYPTED PRIVATE KEY", b"Proc-Type: 4,ENCRYPTED"];

fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    plain_file::read(path, PEM_BYTES_MAX).map_err(|error| {
        let remedy = match error.kind() {
            std::io::ErrorKind::NotFound => "check the path",
            std::io::ErrorKind::PermissionDenied => "let the server's user read it",
            _ => "give a plain file of PEM text",
        };
        format!("{}: cannot be read ({error}); {remedy}", path.display())
    })
}

#[cfg(test)]
pub(super) mod tests;

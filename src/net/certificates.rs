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
//! | another name, or none | the default (RFC 9325 section 3.7) |

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

/// The fewest bits of an RSA key (RFC 9325 section 4.5).
const RSA_BITS_MIN: usize = 2048;
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
    let Some(name) = name else { return 0 };
    let checkable = |certificate: &&Certificate| certificate.signing.key.choose_scheme(schemes).is_some();
    let find = |fits: &dyn Fn(&Certificate) -> bool| {
        certificates.iter().position(|certificate| fits(certificate) && checkable(&certificate))
    };
    find(&|certificate| certificate.is_for(name)).or_else(|| find(&|certificate| certificate.covers(name))).unwrap_or(0)
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
    let pem = std::fs::read(path).unwrap_or_default();
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
    std::fs::read(path).map_err(|error| {
        let remedy = match error.kind() {
            std::io::ErrorKind::NotFound => "check the path",
            std::io::ErrorKind::PermissionDenied => "let the server's user read it",
            _ => "check that it is a readable file",
        };
        format!("{}: cannot be read ({error}); {remedy}", path.display())
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A self-signed certificate for `names` in `folder`, under file names that begin with `stem`.
    pub fn made(folder: &Path, stem: &str, names: &[&str]) -> PemFiles {
        with_key(folder, stem, names, &rcgen::PKCS_ECDSA_P256_SHA256, |_| {})
    }

    fn with_key(
        folder: &Path,
        stem: &str,
        names: &[&str],
        algorithm: &'static rcgen::SignatureAlgorithm,
        change: impl FnOnce(&mut rcgen::CertificateParams),
    ) -> PemFiles {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = rcgen::CertificateParams::new(names).unwrap();
        change(&mut params);
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let files = PemFiles {
            certificate: folder.join(format!("{stem}-chain.pem")),
            key: folder.join(format!("{stem}-key.pem")),
        };
        std::fs::write(&files.certificate, params.self_signed(&key).unwrap().pem()).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    }

    fn load(files: &PemFiles) -> Result<Certificate, String> {
        Certificate::load(files)
    }

    // covers: 9.5
    #[test]
    fn a_small_rsa_key_is_refused_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let files = made(folder.path(), "x", &["x.example"]);
        std::fs::write(&files.certificate, include_str!("../../tests/certificates/rsa-sha256.pem")).unwrap();
        let words = ["x-chain.pem: its RSA key has 1024 bits", "; make a new key"];
        assert_refused(load(&files), Some(words));
    }

    // covers: 9.8
    #[test]
    fn the_name_asked_for_chooses_and_all_others_get_the_default() {
        let folder = tempfile::tempdir().unwrap();
        let loaded = [
            ("zero", &["mail.example.org", "192.0.2.1"][..]),
            ("one", &["smtp.example.edu", "*.dept.example.edu"]),
            ("two", &["*.example.edu", "cs.dept.example.edu"]),
            ("three", &["SMTP.example.edu", "only.example.net"]),
        ]
        .map(|(stem, names)| load(&made(folder.path(), stem, names)).unwrap());
        assert_eq!(loaded[0].names(), ["mail.example.org"]);
        let schemes = [SignatureScheme::ECDSA_NISTP256_SHA256];
        for (name, at) in [
            (None, 0),
            (Some("mail.example.org"), 0),
            (Some("192.0.2.1"), 0),
            (Some("unknown.example"), 0),
            (Some("edu"), 0),
            (Some("example.edu"), 0),
            (Some("smtp.example.edu"), 1),
            (Some("Smtp.Example.EDU"), 1),
            (Some("other.example.edu"), 2),
            (Some("math.dept.example.edu"), 1),
            (Some("cs.dept.example.edu"), 2),
            (Some("a.b.dept.example.edu"), 0),
            (Some("dept.example.edu"), 2),
            (Some("only.example.net"), 3),
            (Some("*.example.edu"), 2),
        ] {
            assert_eq!(choose(&loaded, name, &schemes), at, "{name:?}");
        }
        // What the client cannot check is not shown while there is a choice, and the default is shown without one.
        let loaded = [
            load(&made(folder.path(), "zero", &["mail.example.org"])).unwrap(),
            load(&with_key(folder.path(), "one", &["smtp.example.edu"], &rcgen::PKCS_ED25519, |_| {})).unwrap(),
            load(&made(folder.path(), "two", &["smtp.example.edu"])).unwrap(),
        ];
        assert_eq!(choose(&loaded, Some("smtp.example.edu"), &schemes), 2);
        assert_eq!(choose(&loaded, Some("smtp.example.edu"), &[SignatureScheme::ED25519]), 1);
        assert_eq!(choose(&loaded, Some("smtp.example.edu"), &[SignatureScheme::RSA_PSS_SHA256]), 0);
    }

    #[test]
    fn a_certificate_whose_names_all_came_before_is_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let of = |names: &[&str]| load(&made(folder.path(), "x", names)).unwrap();
        let earlier = [of(&["smtp.example.edu", "*.lab.example.edu"]), of(&["mail.example.edu"])];
        for (names, shadowed) in [
            (&["smtp.example.edu"][..], true),
            (&["MAIL.example.edu", "smtp.example.edu"], true),
            (&["*.lab.example.edu"], true),
            // An exact name goes before a wildcard.
            (&["a.lab.example.edu"], false),
            (&["mail.example.edu", "new.example.edu"], false),
            (&["192.0.2.1"], false),
        ] {
            assert_eq!(of(names).is_shadowed_by(&earlier), shadowed, "{names:?}");
        }
        assert!(!of(&["smtp.example.edu"]).is_shadowed_by(&[]));
        let other_type = with_key(folder.path(), "x", &["smtp.example.edu"], &rcgen::PKCS_ED25519, |_| {});
        assert!(!load(&other_type).unwrap().is_shadowed_by(&earlier));
        assert!(earlier[0].suits("Smtp.example.edu") && earlier[0].suits("a.lab.example.edu"));
        assert!(!earlier[0].suits("lab.example.edu") && !earlier[0].suits("mail.example.edu"));
    }

    // covers: 9.9
    #[test]
    fn a_certificate_that_is_about_to_end_is_reported() {
        const DAY: i64 = 86_400;
        let folder = tempfile::tempdir().unwrap();
        let start = rcgen::date_time_ymd(2026, 1, 1).unix_timestamp();
        let of_days = |days: i64| {
            let files = with_key(folder.path(), "x", &["x.example"], &rcgen::PKCS_ECDSA_P256_SHA256, |params| {
                params.not_before = rcgen::date_time_ymd(2026, 1, 1);
                params.not_after = params.not_before + std::time::Duration::from_secs((days * DAY) as u64);
            });
            load(&files).unwrap()
        };
        let (year, week) = (of_days(365), of_days(6));
        for (certificate, now_s, words) in [
            (&year, start, None),
            (&year, start - 1, Some("x-chain.pem: the certificate is not valid before 2026-01-01 00:00 UTC; ")),
            (&year, start + 351 * DAY - 1, None),
            (&year, start + 351 * DAY, Some("x-chain.pem: the certificate expires on 2027-01-01 00:00 UTC; renew it")),
            (&year, start + 365 * DAY, Some("expires on")),
            (
                &year,
                start + 365 * DAY + 1,
                Some("x-chain.pem: the certificate expired on 2027-01-01 00:00 UTC; renew it"),
            ),
            (&week, start + 4 * DAY - 1, None),
            (&week, start + 4 * DAY, Some("expires on 2026-01-07")),
        ] {
            let said = certificate.trouble(now_s);
            assert_eq!(said.is_some(), words.is_some(), "{said:?} {words:?}");
            assert!(said.iter().all(|said| said.contains(words.unwrap())), "{said:?} {words:?}");
        }
    }

    #[rustfmt::skip]
    const END_POINTS: [(&str, Option<&str>); 10] = [
        (include_str!("../../tests/certificates/rsa-md5.pem"), Some("3bbfcc76e6e88d9c1f0714b382191e0d9a0b0f422e257c12bbe98883ec3166d0")),
        (include_str!("../../tests/certificates/rsa-sha1.pem"), Some("ff474aaf796b6d0e6cd20be6d0879bea08255863ccca0c6d05ec4bbdd820521e")),
        (include_str!("../../tests/certificates/rsa-sha256.pem"), Some("174f49415a78043d628de0938dd92fa162195b56d802e87bfdacc0bb8faebb0f")),
        (include_str!("../../tests/certificates/pss1.pem"), Some("ccc601724d71f5ddcdb8c1486f6d29ce63d95519358911c60c255e54bac01677")),
        (include_str!("../../tests/certificates/pss384.pem"), Some("4201e810463a9d9e25cd3fae639de86c51b94bc40017732d7291ad132062541e5c92c082e8165ea5d8162f2f2210fdc0")),
        (include_str!("../../tests/certificates/ec1.pem"), Some("3b4fe1cfed9b8823e3568443e4c144a46c2204a6f475bd3072003cf286c8be93")),
        (include_str!("../../tests/certificates/ec256.pem"), Some("8cf6ccb8353de128954d3c6a0870dc44c8b8ee5e8de7e34ffd9da569f18675b5")),
        (include_str!("../../tests/certificates/ec384.pem"), Some("eeb8815070c84fa71d69c9dbb1320b1857a699c1fe76f49db794b387e2c913ea0a1c4d917cd2cece3ed5dd9a8f9ede21")),
        (include_str!("../../tests/certificates/ec512.pem"), Some("e0b694429ddf0b97def11f78278d307f2aaa50fb85e272539fb8a69e23b3a532d7ac86d227a7f2c1e77005d336f9abb372aac5afce45001e2e1e726844388716")),
        (include_str!("../../tests/certificates/ed.pem"), None),
    ];

    /// Made and hashed with `openssl`: see the README beside them.
    // covers: 10.10
    #[test]
    fn the_end_point_is_the_hash_that_the_signature_uses() {
        for (pem, hash) in END_POINTS {
            let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
            let found =
                server_end_point(&certificate).map(|hash| hash.iter().map(|byte| format!("{byte:02x}")).collect());
            assert_eq!(found, hash.map(str::to_owned), "{pem}");
        }
        assert_eq!(server_end_point(b"no certificate"), None);
    }

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
        let cases: [(&str, &str, Option<[&str; 2]>); 10] = [
            (&chain, &key, None),
            (&both, &both, None),
            ("", &key, Some(["chain.pem: no certificate", "PEM chain"])),
            (&chain, "", Some(["key.pem: no private key", "PKCS#8"])),
            (
                &key,
                &chain,
                Some(["chain.pem is the key and ", "key.pem the certificate: these two are swapped; exchange"]),
            ),
            (&chain, &chain, Some(["key.pem: no private key", "PKCS#8"])),
            (&chain, &foreign_key, Some(["key.pem: this key does not belong", "chain.pem"])),
            (&chain, ENCRYPTED, Some(["key.pem: the key is encrypted", "openssl pkey"])),
            (DAMAGED, &key, Some(["chain.pem: damaged PEM", "copy the file again"])),
            (NOT_A_CERTIFICATE, &key, Some(["chain.pem: the first certificate cannot be used", "renew it"])),
        ];
        let folder = tempfile::tempdir().unwrap();
        let files = PemFiles { certificate: folder.path().join("chain.pem"), key: folder.path().join("key.pem") };
        for (chain, key, words) in cases {
            std::fs::write(&files.certificate, chain).unwrap();
            std::fs::write(&files.key, key).unwrap();
            assert_refused(load(&files), words);
        }
        std::fs::remove_file(&files.key).unwrap();
        assert_refused(load(&files), Some(["key.pem: cannot be read", "check the path"]));
        assert_refused(
            load(&PemFiles { certificate: folder.path().into(), ..files }),
            Some(["cannot be read", "readable file"]),
        );
    }

    fn assert_refused(result: Result<Certificate, String>, words: Option<[&str; 2]>) {
        match (result, words) {
            (Ok(_), None) => {}
            (Err(line), Some(words)) => {
                assert!(words.iter().all(|word| line.contains(word)) && !line.contains('\n'), "{line}");
            }
            (result, words) => panic!("{words:?}: {:?}", result.err()),
        }
    }
}

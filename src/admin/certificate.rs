//! The self-signed certificate for the first hour (`tls.self_signed = true`): made when neither certificate nor key is
//! there, then kept. A file that is there is never touched.

use crate::config::Config;
use jiff::{Timestamp, ToSpan, tz::TimeZone};
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Years that it is good for: longer than any first hour, so that a demo folder does not die of age.
const YEARS: i32 = 10;

/// Makes certificate and key if `tls.self_signed` is set and both files are missing. True: they were made. Errors: one
/// line with a remedy.
pub fn make_if_missing(config: &Config) -> Result<bool, String> {
    let tls = &config.tls;
    if !tls.self_signed || tls.certificate.exists() || tls.key.exists() {
        return Ok(false);
    }
    let (certificate, key) = self_signed(&config.hostname).map_err(|error| format!("no certificate made: {error}"))?;
    // The key first: a certificate alone would look as if its key had been lost.
    write_new(&tls.key, 0o600, &key)?;
    write_new(&tls.certificate, 0o644, &certificate)?;
    Ok(true)
}

/// Certificate and key in PEM: ECDSA P-256, for `hostname` and for this machine by any of its local names.
fn self_signed(hostname: &str) -> Result<(String, String), rcgen::Error> {
    let mut names = vec![hostname.to_owned()];
    names.extend(["localhost", "127.0.0.1", "::1"].map(str::to_owned).into_iter().filter(|name| name != hostname));
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, hostname);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // A day back, for clients whose clock is behind.
    let from = Timestamp::now().to_zoned(TimeZone::UTC).date().saturating_sub(1.day());
    let date = |year: i16| rcgen::date_time_ymd(i32::from(year), from.month() as u8, from.day().min(28) as u8);
    params.not_before = date(from.year());
    params.not_after = date(from.year() + YEARS as i16);
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

/// Writes a file that is not there yet, and the directories above it.
fn write_new(path: &Path, mode: u32, text: &str) -> Result<(), String> {
    let directories = path.parent().map_or(Ok(()), fs::create_dir_all);
    let open = || OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    directories.and_then(|()| open()).and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| {
        format!(
            "{}: cannot be written ({error}); make its directory writable, or set tls.self_signed = false",
            path.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use std::os::unix::fs::PermissionsExt;

    fn configuration(directory: &Path, more: &str) -> Config {
        let text = format!(
            "hostname = \"smtp.example.edu\"\n[spool]\ndirectory = \"spool\"\n[tls]\ncertificate = \"tls/certificate.pem\"\n\
             key = \"tls/key.pem\"\n{more}\n[[listener]]\naddress = \"127.0.0.1:25\"\nrole = \"smtp\"\ntls = \"offered\"\n\
             [relay]\npaused = true\n"
        );
        config::parse(&text, &directory.join("penstock.toml")).expect("no mistakes").config
    }

    #[test]
    fn it_is_made_once_loads_and_its_key_is_private() {
        let directory = tempfile::tempdir().expect("a directory");
        let config = configuration(directory.path(), "self_signed = true");
        assert_eq!(make_if_missing(&config), Ok(true));
        let key = fs::read_to_string(&config.tls.key).expect("a key");
        assert_eq!(fs::metadata(&config.tls.key).expect("a key").permissions().mode() & 0o777, 0o600);
        crate::net::server_config(&config.tls.certificate, &config.tls.key).expect("they belong together");

        assert_eq!(make_if_missing(&config), Ok(false));
        fs::remove_file(&config.tls.certificate).expect("removed");
        assert_eq!(make_if_missing(&config), Ok(false), "a key that is there is never replaced");
        assert_eq!(fs::read_to_string(&config.tls.key).expect("a key"), key);
    }

    #[test]
    fn none_is_made_unasked_or_where_it_cannot_be_written() {
        let directory = tempfile::tempdir().expect("a directory");
        assert_eq!(make_if_missing(&configuration(directory.path(), "")), Ok(false));
        fs::write(directory.path().join("tls"), "a file").expect("written");
        let error = make_if_missing(&configuration(directory.path(), "self_signed = true")).expect_err("no directory");
        assert!(error.contains("tls/key.pem: cannot be written") && error.contains("self_signed"), "{error}");
    }
}

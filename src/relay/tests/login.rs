//! Logging in at a smarthost, and showing it a certificate.

use super::security::{Authority, serving};
use super::{Fake, House, Message, Mode, driver, message, smarthost, wait_until};
use crate::config::{ClientCertificate, Login, RouteTls, Smarthost, Target};
use crate::smtp::envelope::Tag;
use rustls::server::WebPkiClientVerifier;
use std::path::Path;
use std::sync::Arc;

/// NUL, penstock, NUL, secret; in base64.
const RIGHT: &str = "AHBlbnN0b2NrAHNlY3JldA==";

fn route(address: &str, tls: RouteTls, ca: &Authority, folder: &Path, password: &str) -> Target {
    let password_file = folder.join("password");
    std::fs::write(&password_file, password).expect("written");
    let login = Some(Login { username: "penstock".into(), password_file });
    Target::Smarthost(Smarthost { ca_file: Some(ca.file()), login, ..Smarthost::new(address, tls) })
}

fn asking(ca: &Authority) -> Mode {
    Mode { login: RIGHT, offers_in_tls: &["AUTH PLAIN"], ..serving(ca.server("127.0.0.1", 2099)) }
}

/// A wrong password is our mistake: no message comes back for it, and mending the file is enough.
// covers: 12.5 12.11
#[test]
fn a_login_that_is_refused_costs_no_message() {
    let ca = Authority::new("ours");
    for tls in [RouteTls::Verified, RouteTls::Required] {
        let (server, address) = Fake::tcp(asking(&ca));
        let directory = tempfile::tempdir().expect("a directory");
        let target = route(&address, tls, &ca, directory.path(), "wrong\n");
        let house = House::start(&directory, driver(), &target, &[message(&["one@b.example"], "first")]);
        wait_until("two refused logins", || server.logins().len() >= 2);
        assert!(server.received().is_empty());
        route(&address, tls, &ca, directory.path(), "secret\n");
        wait_until("the delivery", || !server.received().is_empty());
        house.stop();
        let received = server.received();
        assert!(received.len() == 1 && received[0].tls && received[0].to == ["one@b.example"], "{received:#?}");
        assert_eq!(server.logins().last(), Some(&(true, format!("AUTH PLAIN {RIGHT}"))));
    }
}

/// A server that wants a login of which the configuration knows nothing.
// covers: 12.5
#[test]
fn a_login_that_is_missing_costs_no_message() {
    let ca = Authority::new("ours");
    let (server, address) = Fake::tcp(asking(&ca));
    let directory = tempfile::tempdir().expect("a directory");
    let target = smarthost(&address, RouteTls::Opportunistic);
    let house = House::start(&directory, driver(), &target, &[message(&["one@b.example"], "first")]);
    wait_until("two attempts", || server.connections() >= 2);
    server.set(Mode { login: "", ..asking(&ca) });
    wait_until("the delivery", || !server.received().is_empty());
    house.stop();
    assert_eq!(server.received()[0].to, ["one@b.example"]);
}

/// Whatever the server offers and the message wishes: the password goes to nobody in the clear, and on a verified route to
/// nobody without the right name.
// covers: 12.10 12.4
#[test]
fn a_password_is_shown_to_no_one_else() {
    let (ca, other) = (Authority::new("ours"), Authority::new("theirs"));
    let offers: &[&str] = &["AUTH PLAIN LOGIN"];
    let clear = || Mode { login: RIGHT, offers, ..Mode::default() };
    for (tls, mode) in [
        (RouteTls::Verified, clear()),
        (RouteTls::Required, clear()),
        // What the configuration's rules forbid, and the connection too.
        (RouteTls::Opportunistic, clear()),
        (RouteTls::None, clear()),
        (RouteTls::Required, Mode { starttls: Some(None), ..clear() }),
        (RouteTls::Opportunistic, Mode { starttls: Some(None), ..clear() }),
        (RouteTls::Verified, Mode { offers, login: RIGHT, ..serving(other.server("127.0.0.1", 2099)) }),
        (RouteTls::Verified, Mode { offers, login: RIGHT, ..serving(ca.server("mail.example.org", 2099)) }),
    ] {
        let (server, address) = Fake::tcp(mode);
        let directory = tempfile::tempdir().expect("a directory");
        let target = route(&address, tls, &ca, directory.path(), "secret");
        let wish = Message { fields: vec![(Tag::TlsOptional, Vec::new())], ..message(&["one@b.example"], "open") };
        let house = House::start(&directory, driver(), &target, &[message(&["two@b.example"], "usual"), wish]);
        wait_until("three attempts", || server.connections() >= 3);
        house.stop();
        assert!(server.logins().is_empty() && server.received().is_empty(), "{tls:?} {:?}", server.logins());
    }
}

/// A server that lets only holders of its CA's certificates in, with and without verification of its own.
// covers: 12.10
#[test]
fn a_certificate_is_shown_to_a_server_that_asks() {
    let (ca, clients) = (Authority::new("ours"), Authority::new("clients"));
    let mut roots = rustls::RootCertStore::empty();
    let pem = std::fs::read(clients.file()).expect("a CA");
    let read: Result<Vec<_>, _> = rustls::pki_types::pem::PemObject::pem_slice_iter(&pem).collect();
    roots.add_parsable_certificates(read.expect("PEM"));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
    let (chain, key) = ca.files("127.0.0.1", 2099);
    let pem = |path: &Path| std::fs::read(path).expect("a file");
    let chain: Result<Vec<_>, _> = rustls::pki_types::pem::PemObject::pem_slice_iter(&pem(&chain)).collect();
    let key = rustls::pki_types::pem::PemObject::from_pem_slice(&pem(&key)).expect("a key");
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(rustls::DEFAULT_VERSIONS)
        .expect("versions")
        .with_client_cert_verifier(verifier.expect("a verifier"))
        .with_single_cert(chain.expect("PEM"), key)
        .expect("a certificate");
    let config = Arc::new(config);
    let (certificate, key) = clients.files("penstock.example", 2099);
    let own = ClientCertificate { certificate, key };
    for (tls, shown) in [(RouteTls::Verified, true), (RouteTls::Required, true), (RouteTls::Verified, false)] {
        let (server, address) = Fake::tcp(serving(config.clone()));
        let directory = tempfile::tempdir().expect("a directory");
        let client_certificate = Some(own.clone()).filter(|_| shown);
        let target = Smarthost { ca_file: Some(ca.file()), client_certificate, ..Smarthost::new(&address, tls) };
        let target = Target::Smarthost(target);
        let house = House::start(&directory, driver(), &target, &[message(&["one@b.example"], "first")]);
        wait_until("the delivery, or attempts", || match shown {
            true => !server.received().is_empty(),
            false => server.connections() >= 2,
        });
        house.stop();
        assert_eq!(server.received().len(), usize::from(shown), "{tls:?}");
    }
}

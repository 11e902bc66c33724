//! What a message or its route asks of TLS: verified routes (RFC 7817), REQUIRETLS and `TLS-Required: No` (RFC 8689).

use super::{Fake, Handshake, House, Message, Mode, context, driver, message, to, wait_until};
use crate::config::{RouteTls, Smarthost, Target};
use crate::relay::connection::{Connection, Limits, Tls, Unopened, Way};
use crate::relay::route::Demand;
use crate::smtp::envelope::Tag;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// A CA of our own.
pub struct Authority {
    folder: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        let folder = tempfile::tempdir().expect("a directory");
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).expect("written");
        Authority { folder, issuer }
    }

    pub fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A server for `name` whose certificate ends in the year `until`.
    pub fn server(&self, name: &str, until: i32) -> Arc<rustls::ServerConfig> {
        let (chain, private) = self.files(name, until);
        crate::net::server_config(&chain, &private).expect("a configuration").plain_config()
    }

    /// A certificate for `name` that ends in the year `until`, and its key.
    pub fn files(&self, name: &str, until: i32) -> (PathBuf, PathBuf) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let path = |what: &str| self.folder.path().join(format!("{name}.{what}.pem"));
        let (chain, private) = (path("chain"), path("key"));
        std::fs::write(&chain, certificate.pem()).expect("written");
        std::fs::write(&private, key.serialize_pem()).expect("written");
        (chain, private)
    }
}

fn route(address: &str, tls: RouteTls, ca: &Authority) -> Target {
    Target::Smarthost(Smarthost { ca_file: Some(ca.file()), ..Smarthost::new(address, tls) })
}

const IN_TLS: &[&str] = &["REQUIRETLS", "DSN"];

pub fn serving(config: Arc<rustls::ServerConfig>) -> Mode {
    Mode { starttls: Some(Some(config)), offers_in_tls: IN_TLS, ..Mode::default() }
}

// covers: 12.10
#[test]
fn a_verified_route_believes_the_right_certificate_only() {
    let (ca, other) = (Authority::new("ours"), Authority::new("theirs"));
    let good = serving(ca.server("127.0.0.1", 2099));
    for (name, bad) in [
        ("another name", serving(ca.server("mail.example.org", 2099))),
        ("expired", serving(ca.server("127.0.0.1", 2021))),
        ("another CA", serving(other.server("127.0.0.1", 2099))),
        ("no TLS", Mode::default()),
    ] {
        let (server, address) = Fake::tcp(bad);
        let directory = tempfile::tempdir().expect("a directory");
        let target = route(&address, RouteTls::Verified, &ca);
        let house = House::start(&directory, driver(), &target, &[message(&["one@b.example"], "secret")]);
        wait_until("two attempts", || server.connections() >= 2);
        assert!(server.received().is_empty(), "{name}");
        server.set(good.clone());
        wait_until("the delivery", || !server.received().is_empty());
        house.stop();
        assert!(server.received()[0].tls, "{name}");
    }
}

/// A connection that is opened and closed, or why not.
fn open(target: Target, demand: Demand, handshake_limit: Duration) -> Result<(), Unopened> {
    open_hurried(target, demand, handshake_limit, false)
}

pub fn open_hurried(target: Target, demand: Demand, handshake_limit: Duration, hurried: bool) -> Result<(), Unopened> {
    let usual = Limits::new(crate::config::RelayTimeouts::default());
    crate::net::run(driver(), None, async {
        let hurried_greeting = Duration::from_millis(300);
        let context = context(Limits { handshake: handshake_limit, hurried_greeting, ..usual });
        let opened = match Connection::open(&Way { tls: Tls::of(&target), target, demand }, 0, hurried, &context).await
        {
            Ok(connection) => {
                connection.close().await;
                Ok(())
            }
            Err(unopened) => Err(unopened),
        };
        context.shared.stop();
        opened
    })
    .expect("a runtime")
}

/// By host name too, and the words that an operator reads.
// covers: 12.10
#[test]
fn what_is_wrong_with_a_certificate_is_said() {
    let (ca, other) = (Authority::new("ours"), Authority::new("theirs"));
    for (served, expected) in [
        (ca.server("localhost", 2099), None),
        (ca.server("mail.example.org", 2099), Some("is not for \"localhost\" but for")),
        (ca.server("localhost", 2021), Some("has expired")),
        (other.server("localhost", 2099), Some("signed by no CA that is trusted here; name its CA with ca_file")),
    ] {
        let (_server, address) = Fake::tcp(serving(served));
        let target = route(&address.replace("127.0.0.1", "localhost"), RouteTls::Verified, &ca);
        let opened = open(target, Demand::Usual, Duration::from_secs(60));
        let opened = opened.err().map(|unopened| match unopened {
            Unopened::Unreachable(why) | Unopened::Busy(why) => why,
            Unopened::Refused(reply) => panic!("{reply:?}"),
        });
        match (opened, expected) {
            (None, None) => {}
            (Some(why), Some(words)) => assert!(why.contains(words), "{why}"),
            (opened, expected) => panic!("{opened:?} {expected:?}"),
        }
    }
}

/// Whatever the route says, such a message goes over proven TLS to a server that offers REQUIRETLS, or it goes back; and the
/// notification of that goes over proven TLS or nowhere.
// covers: 12.4
#[test]
fn a_message_that_requires_tls_gets_it_or_goes_back() {
    let (ca, other) = (Authority::new("ours"), Authority::new("theirs"));
    let good = || serving(ca.server("127.0.0.1", 2099));
    for (mode, tls, arrives, bounces) in [
        (good(), RouteTls::Opportunistic, true, 0),
        (good(), RouteTls::None, true, 0),
        (good(), RouteTls::Verified, true, 0),
        (Mode { offers_in_tls: &[], ..good() }, RouteTls::Opportunistic, false, 1),
        (Mode { offers: IN_TLS, offers_in_tls: &[], ..good() }, RouteTls::Opportunistic, true, 0),
        (serving(other.server("127.0.0.1", 2099)), RouteTls::Opportunistic, false, 0),
        (Mode { offers: IN_TLS, ..Mode::default() }, RouteTls::Opportunistic, false, 0),
    ] {
        let (server, address) = Fake::tcp(mode);
        let directory = tempfile::tempdir().expect("a directory");
        let secret = Message { require_tls: true, ..message(&["one@b.example"], "secret") };
        // Around it messages that ask for nothing.
        let messages = [message(&["two@b.example"], "before"), secret, message(&["three@b.example"], "after")];
        let house = House::start(&directory, driver(), &route(&address, tls, &ca), &messages);
        wait_until("all", || {
            let received = server.received();
            let others = to(&received, "two@b.example") + to(&received, "three@b.example");
            let bounced = to(&received, "anna@example.edu");
            others == 2 && to(&received, "one@b.example") >= usize::from(arrives) && bounced >= bounces
        });
        house.stop();
        let received = server.received();
        let secret: Vec<_> = received.iter().filter(|message| message.to == ["one@b.example"]).collect();
        assert_eq!(secret.len(), usize::from(arrives), "{tls:?} {received:#?}");
        for message in &secret {
            assert!(message.tls && message.commands[0].ends_with(" REQUIRETLS RET=HDRS"), "{message:?}");
        }
        let notices: Vec<_> = received.iter().filter(|message| message.from.is_empty()).collect();
        assert!(notices.iter().all(|notice| notice.tls && notice.commands[0] == "MAIL FROM:<>"), "{notices:?}");
        assert_eq!((notices.len(), received.len()), (bounces, 2 + secret.len() + bounces), "{received:#?}");
        // Settled: it is not there at the next start.
        let house =
            House::start(&directory, driver(), &route(&address, tls, &ca), &[message(&["four@b.example"], "x")]);
        wait_until("the next", || to(&server.received(), "four@b.example") > 0);
        house.stop();
        assert_eq!(to(&server.received(), "one@b.example"), secret.len());
    }
}

/// What a network or a bad hour of the server may cause is no reason to give such a message up.
// covers: 12.4
#[test]
fn a_message_that_requires_tls_outlives_a_handshake_that_fails() {
    let ca = Authority::new("ours");
    let good = serving(ca.server("127.0.0.1", 2099));
    let troubles = [
        Handshake::Closes,
        Handshake::Resets,
        Handshake::Says("454 4.7.0 TLS not available now"),
        Handshake::Says("421 4.3.2 restarting"),
    ];
    let bad = troubles.map(|handshake| Mode { handshake, ..good.clone() });
    // Octets that are no TLS.
    let garbage = Mode { starttls: Some(None), ..Mode::default() };
    for mode in bad.into_iter().chain([garbage]) {
        let trouble = mode.handshake;
        let (server, address) = Fake::tcp(mode);
        let directory = tempfile::tempdir().expect("a directory");
        let secret = Message { require_tls: true, ..message(&["one@b.example"], "secret") };
        let target = route(&address, RouteTls::Opportunistic, &ca);
        let house = House::start(&directory, driver(), &target, &[secret]);
        wait_until("two attempts", || server.connections() >= 2);
        assert!(server.received().is_empty(), "{trouble:?}");
        server.set(good.clone());
        wait_until("the delivery", || !server.received().is_empty());
        house.stop();
        let received = server.received();
        assert!(received.len() == 1 && received[0].tls && received[0].to == ["one@b.example"], "{received:#?}");
    }
}

// covers: 12.4
#[test]
fn what_will_be_the_same_next_time_is_told_at_once() {
    let (ca, other) = (Authority::new("ours"), Authority::new("theirs"));
    let good = || serving(ca.server("127.0.0.1", 2099));
    for (mode, lasting) in [
        (Mode { handshake: Handshake::Stalls, ..good() }, false),
        (Mode { handshake: Handshake::Says("454 4.7.0 not now"), ..good() }, false),
        (Mode { handshake: Handshake::Says("502 5.5.1 not here"), ..good() }, true),
        (Mode { starttls: None, ..good() }, true),
        (serving(ca.server("127.0.0.1", 2021)), true),
        (serving(ca.server("mail.example.org", 2099)), true),
        (serving(other.server("127.0.0.1", 2099)), true),
    ] {
        let trouble = mode.handshake;
        let (_server, address) = Fake::tcp(mode);
        let target = route(&address, RouteTls::Opportunistic, &ca);
        match open(target, Demand::Required, Duration::from_millis(1500)) {
            Err(Unopened::Refused(reply)) => {
                assert!(lasting && reply.text.starts_with("5.7.10 "), "{trouble:?} {reply:?}")
            }
            Err(Unopened::Unreachable(why) | Unopened::Busy(why)) => assert!(!lasting, "{trouble:?} {why}"),
            Ok(()) => panic!("{trouble:?}"),
        }
    }
}

/// A bounce of such a message goes home over TLS, with REQUIRETLS and without the text.
// covers: 12.4 12.8
#[test]
fn a_bounce_of_a_message_that_requires_tls_requires_it_too() {
    let ca = Authority::new("ours");
    let (server, address) = Fake::tcp(serving(ca.server("127.0.0.1", 2099)));
    let directory = tempfile::tempdir().expect("a directory");
    let fields = vec![(Tag::Ret, vec![0])];
    let secret = Message { require_tls: true, fields, ..message(&["never@b.example"], "secret") };
    let house = House::start(&directory, driver(), &route(&address, RouteTls::None, &ca), &[secret]);
    wait_until("the bounce", || !server.received().is_empty());
    house.stop();
    let bounce = server.received().remove(0);
    assert!(bounce.tls && bounce.commands[0].contains(" REQUIRETLS"), "{bounce:?}");
    assert!(bounce.content.contains("Subject: secret") && !bounce.content.contains(".dot"), "{bounce:?}");
}

/// RFC 8689 section 5: it is not dropped, has no text of the message, and does not go without TLS.
// covers: 12.4
#[test]
fn a_bounce_of_a_message_that_requires_tls_goes_to_a_server_that_knows_nothing_of_it() {
    let ca = Authority::new("ours");
    let mode = Mode { offers_in_tls: &["DSN"], ..serving(ca.server("127.0.0.1", 2099)) };
    let (server, address) = Fake::tcp(mode);
    let directory = tempfile::tempdir().expect("a directory");
    let fields = vec![(Tag::Ret, vec![0])];
    let secret = Message { require_tls: true, fields, ..message(&["one@b.example"], "secret") };
    let house = House::start(&directory, driver(), &route(&address, RouteTls::None, &ca), &[secret]);
    wait_until("the bounce", || !server.received().is_empty());
    house.stop();
    let received = server.received();
    let [bounce] = &received[..] else { panic!("{received:?}") };
    assert!(bounce.tls && bounce.from.is_empty() && bounce.to == ["anna@example.edu"], "{bounce:?}");
    assert!(!bounce.commands[0].contains("REQUIRETLS"), "{bounce:?}");
    assert!(bounce.content.contains("5.7.30") && bounce.content.contains("Subject: secret"), "{bounce:?}");
    assert!(!bounce.content.contains(".dot"), "{bounce:?}");
}

// covers: 12.4
#[test]
fn final_delivery_is_no_matter_of_requiretls() {
    let (server, address) = Fake::tcp(Mode::default());
    let directory = tempfile::tempdir().expect("a directory");
    let secret = Message { require_tls: true, ..message(&["one@b.example"], "secret") };
    let house = House::start(&directory, driver(), &Target::Lmtp { address }, &[secret]);
    wait_until("the delivery", || !server.received().is_empty());
    house.stop();
    assert!(!server.received()[0].commands[0].contains("REQUIRETLS"));
}

// covers: 12.4
#[test]
fn a_message_that_needs_no_tls_goes_without_unless_that_is_forbidden() {
    let ca = Authority::new("ours");
    for (tls, honours, both, arrives) in [
        (RouteTls::Verified, true, false, true),
        (RouteTls::Required, true, false, true),
        (RouteTls::Verified, false, false, false),
        // REQUIRETLS wins.
        (RouteTls::Verified, true, true, false),
    ] {
        let (server, address) = Fake::tcp(Mode::default());
        let directory = tempfile::tempdir().expect("a directory");
        let fields = vec![(Tag::TlsOptional, Vec::new())];
        let open = Message { fields, require_tls: both, ..message(&["one@b.example"], "open") };
        let messages = [message(&["two@b.example"], "usual"), open, message(&["three@b.example"], "usual")];
        let target = route(&address, tls, &ca);
        let house = House::with(&directory, driver(), &target, &messages, |relay| relay.honours_tls_optional = honours);
        // The one that may go without TLS does not wait behind those that may not.
        wait_until("the delivery, or attempts", || {
            if arrives { !server.received().is_empty() } else { server.connections() >= 3 }
        });
        house.stop();
        let received = server.received();
        assert_eq!((to(&received, "one@b.example"), received.len()), (usize::from(arrives), usize::from(arrives)));
    }
}

//! The relay on its thread, with a real spool, against a server that misbehaves on request.

mod addresses;
mod fake;
mod lingering;
mod login;
mod moved;
mod pool;
mod requests;
mod routes;
mod security;
mod spilled;
mod waiting;

use crate::config::{Direct, Relay, Route, RouteTls, Smarthost, Target};
use crate::net::Driver;
use crate::relay::connection::{Context, Limits};
use crate::relay::direct::addresses::Addresses;
use crate::relay::{RelayHandle, RelayOptions};
use crate::smtp::envelope::{Deferred, Envelope, Tag};
use crate::spool::{self, Spool, Writer};
use crate::trace::Traces;
use fake::{Fake, Handshake, Mode, Received};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A spool and a relay on it.
struct House {
    spool: Spool,
    relay: RelayHandle,
}

impl House {
    /// Opens the spool in `directory`, puts `messages` into it and starts the relay.
    fn start(directory: &TempDir, driver: Driver, target: &Target, messages: &[Message]) -> House {
        House::with(directory, driver, target, messages, |_| {})
    }

    /// The same with a changed configuration.
    fn with(
        directory: &TempDir,
        driver: Driver,
        target: &Target,
        messages: &[Message],
        change: impl FnOnce(&mut Relay),
    ) -> House {
        let options = spool::Options {
            directory: directory.path().join("spool"),
            segment_bytes: 4 << 20,
            writers: 1,
            reserve_bytes: 0,
            bytes_max: None,
            wipe_after_s: 0,
        };
        let mut spool = Spool::open(options).expect("a spool");
        let seed = spool.core_writers().remove(0);
        crate::net::run(driver, None, async {
            let writer = Writer::start(seed, driver).expect("a writer");
            for message in messages {
                message.store(&writer).await;
            }
            writer.drain().await;
        })
        .expect("a runtime");
        let (writer, follower) = spool.relay_side();
        let mut config = Relay {
            paused: false,
            routes: vec![Route { domains: Vec::new(), senders: Vec::new(), target: target.clone() }],
            retry_first_s: 1,
            retry_max_s: 1,
            expire_s: 3600,
            delay_warning_s: 0,
            honours_tls_optional: true,
            connections_max: 3,
            small_bytes: 1 << 16,
            timeouts: crate::config::RelayTimeouts::default(),
            direct: Direct { name_servers: Vec::new(), dns_timeout_s: 5, connections_max: 100 },
        };
        change(&mut config);
        let hostname = "penstock.example".into();
        let (_, asked) = crate::relay::operator::line();
        let options =
            RelayOptions { config, hostname, move_after_s: 1, driver, writer, follower, traces: Traces::off(), asked };
        let relay = crate::relay::start(options).expect("a relay");
        House { spool, relay }
    }

    fn stop(self) {
        self.relay.stop();
        self.spool.close();
    }
}

#[derive(Clone, Default)]
struct Message {
    to: Vec<String>,
    content: String,
    /// In a spill file.
    spilled: bool,
    /// What the client declared, and what the server found.
    body: u8,
    eight_bit: Option<bool>,
    require_tls: bool,
    /// NOTIFY of every recipient.
    notify: Option<&'static str>,
    /// Its record says so: tries, and milliseconds since the Unix epoch of the next.
    waits: Option<(u16, u64)>,
    /// Fields of the envelope beside.
    fields: Vec<(Tag, Vec<u8>)>,
}

impl Message {
    async fn store(&self, writer: &Writer) {
        let (id, mut envelope) = (begin(writer, 0).await, self.envelope());
        let mut content = self.content.as_bytes();
        if let Some((attempts, next_ms)) = self.waits {
            Deferred { queue_id: id.0, recipient: 0, attempts, next_ms }.push_to(&mut envelope);
        }
        if self.spilled {
            let mut spill = writer.spill().await.expect("a spill file");
            spill.write(std::mem::take(&mut content).to_vec()).await.0.expect("written");
            spill.finish().await.expect("durable").push_to(&mut envelope);
        }
        writer.commit(id, &envelope, content).await.expect("durable");
    }

    fn envelope(&self) -> Envelope {
        let mut envelope = Envelope::default();
        envelope.push(Tag::Arrival, &crate::clock::now_ms().to_le_bytes());
        envelope.push(Tag::ReversePath, b"anna@example.edu");
        envelope.push(Tag::Prepended, b"X-Before: yes\r\n");
        envelope.push(Tag::Body, &[self.body]);
        if self.require_tls {
            envelope.push(Tag::RequireTls, b"");
        }
        if let Some(eight_bit) = self.eight_bit {
            envelope.push(Tag::EightBit, &[u8::from(eight_bit)]);
        }
        for (tag, value) in &self.fields {
            envelope.push(*tag, value);
        }
        for to in &self.to {
            envelope.push(Tag::Recipient, to.as_bytes());
            if let Some(notify) = self.notify {
                envelope.push(Tag::Notify, notify.as_bytes());
            }
        }
        envelope
    }
}

/// A core is refused for a moment when the next segment is not yet prepared: on a busy machine that may be seen.
async fn begin(writer: &Writer, content_bytes: u64) -> spool::QueueId {
    for _ in 0..3000 {
        if let Ok(id) = writer.begin(content_bytes) {
            return id;
        }
        monoio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("waited in vain: room in the spool");
}

fn message(to: &[&str], subject: &str) -> Message {
    let content = format!("Subject: {subject}\r\n\r\n.dot\r\n");
    Message { to: to.iter().map(|to| to.to_string()).collect(), content, ..Message::default() }
}

fn smarthost(address: &str, tls: RouteTls) -> Target {
    Target::Smarthost(Smarthost::new(address, tls))
}

/// Waits until `condition` holds; the limit is only there so that a failure ends.
fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn to(received: &[Received], recipient: &str) -> usize {
    received.iter().filter(|message| message.to.iter().any(|to| to == recipient)).count()
}

/// What a connection needs of its thread, which is running.
fn context(limits: Limits) -> Context {
    Context {
        hostname: "penstock.example".into(),
        resolver: crate::services::Resolver::start().expect("a resolver"),
        shared: crate::net::Shared::start(),
        addresses: Addresses::new(1000),
        limits,
    }
}

fn driver() -> Driver {
    if crate::net::probe_io_uring().is_ok() { Driver::IoUring } else { Driver::Epoll }
}

/// Delivers, defers, bounces; a restart in between loses nothing and repeats nothing that was recorded.
fn whole_story(driver: Driver, server: &Fake, target: &Target) {
    let directory = tempfile::tempdir().expect("a directory");
    let recipients = ["one@b.example", "later@b.example", "never@b.example"];
    let first = [message(&recipients, "first"), message(&["two@b.example"], "second")];
    let house = House::start(&directory, driver, target, &first);
    wait_until("two deliveries and a bounce", || server.received().len() >= 3);
    house.stop();

    let received = server.received();
    let delivered = received.iter().find(|message| message.to == ["one@b.example"]).expect("delivered");
    assert_eq!(delivered.content, "X-Before: yes\r\nSubject: first\r\n\r\n.dot\r\n");
    let bounce = received.iter().find(|message| message.to == ["anna@example.edu"]).expect("a bounce");
    assert_eq!(bounce.from, "");
    for part in ["never@b.example", "Status: 5.1.1", "X-Before: yes\r\nSubject: first\r\n", "Auto-Submitted"] {
        assert!(bounce.content.contains(part), "{part} in {}", bounce.content);
    }

    server.set(Mode { later_is_now: true, ..Mode::default() });
    let house = House::start(&directory, driver, target, &[message(&["three@b.example"], "third")]);
    wait_until("the deferred recipient and the new message", || {
        let received = server.received();
        to(&received, "later@b.example") > 0 && to(&received, "three@b.example") > 0
    });
    house.stop();
    let house = House::start(&directory, driver, target, &[message(&["four@b.example"], "fourth")]);
    wait_until("the fourth", || to(&server.received(), "four@b.example") > 0);
    house.stop();
    let received = server.received();
    let everybody =
        ["one@b.example", "two@b.example", "later@b.example", "three@b.example", "four@b.example", "anna@example.edu"];
    for recipient in everybody {
        assert_eq!(to(&received, recipient), 1, "{recipient}: {received:#?}");
    }
}

#[test]
fn smtp_on_io_uring() {
    let (server, address) = Fake::tcp(Mode::default());
    whole_story(driver(), &server, &smarthost(&address, RouteTls::Opportunistic));
}

#[test]
fn smtp_on_epoll() {
    let (server, address) = Fake::tcp(Mode::default());
    whole_story(Driver::Epoll, &server, &smarthost(&address, RouteTls::None));
}

#[test]
fn lmtp_over_tcp() {
    let (server, address) = Fake::tcp(Mode::default());
    whole_story(driver(), &server, &Target::Lmtp { address });
}

#[test]
fn lmtp_over_a_unix_socket() {
    let folder = tempfile::tempdir().expect("a directory");
    let path = folder.path().join("lmtp");
    let server = Fake::unix(&path);
    whole_story(driver(), &server, &Target::Lmtp { address: format!("unix:{}", path.display()) });
}

#[test]
fn many_messages_share_few_connections() {
    let (server, address) = Fake::tcp(Mode::default());
    let directory = tempfile::tempdir().expect("a directory");
    let messages: Vec<Message> =
        (0..250).map(|number| message(&[&format!("r{number}@b.example")], &number.to_string())).collect();
    // The core writer of a house is not counted: what is counted here is a relay's.
    let counted = |name: &str| crate::metrics::totals().into_iter().find(|total| total.0 == name).expect("a total").1;
    let before = ["durable_writes", "records"].map(counted);
    let house = House::start(&directory, driver(), &smarthost(&address, RouteTls::None), &messages);
    wait_until("250 deliveries", || server.received().len() >= 250);
    house.stop();
    let after = ["durable_writes", "records"].map(counted);
    assert!(before[0] < after[0] && before[1] < after[1], "{before:?} {after:?}");
    assert_eq!(server.received().len(), 250);
    assert!(server.connections() < 20, "{} connections", server.connections());
}

/// A server that closes or talks nonsense at any point: the message stays queued and arrives when the server is well.
#[test]
fn nothing_is_lost_whatever_the_server_does() {
    let broken = [
        ("connect", ""),
        ("EHLO", ""),
        ("MAIL", ""),
        ("RCPT", ""),
        ("DATA", ""),
        ("content", ""),
        ("dot", ""),
        ("", "HTTP/1.1 400 Bad Request"),
        ("", "421 shutting down"),
        ("", "554 not here"),
        ("", "\u{0}\u{1}garbage"),
    ];
    let rounds = broken.map(|(close_at, greeting)| {
        std::thread::spawn(move || {
            let (server, address) = Fake::tcp(Mode { close_at, greeting, ..Mode::default() });
            let directory = tempfile::tempdir().expect("a directory");
            let message = message(&["one@b.example"], close_at);
            let house = House::start(&directory, driver(), &smarthost(&address, RouteTls::None), &[message]);
            wait_until("an attempt", || server.connections() >= 2);
            server.set(Mode::default());
            wait_until("the delivery", || server.received().iter().any(|message| message.answered));
            house.stop();
            // Only where the server took the message and did not say so may it come again (RFC 1047).
            let received = server.received();
            let (times, answered) = (received.len(), received.iter().filter(|message| message.answered).count());
            assert!(answered == 1 && (times == 1 || close_at == "dot"), "{close_at} {greeting}: {received:?}");
            let house = House::start(
                &directory,
                driver(),
                &smarthost(&address, RouteTls::None),
                &[self::message(&["two@b.example"], "")],
            );
            wait_until("the next", || to(&server.received(), "two@b.example") > 0);
            house.stop();
            assert_eq!(server.received().len(), times + 1, "{close_at} {greeting}");
        })
    });
    for round in rounds {
        round.join().expect("a round");
    }
}

fn certificate() -> Arc<rustls::ServerConfig> {
    let made = rcgen::generate_simple_self_signed(["mail.example.org".to_owned()]).expect("a certificate");
    let folder = tempfile::tempdir().expect("a directory");
    let (chain, key) = (folder.path().join("chain.pem"), folder.path().join("key.pem"));
    std::fs::write(&chain, made.cert.pem()).expect("written");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("written");
    crate::net::server_config(&chain, &key).expect("a configuration").plain_config()
}

#[test]
fn tls_as_the_route_wants_it() {
    let good = Mode { starttls: Some(Some(certificate())), ..Mode::default() };
    let broken = Mode { starttls: Some(None), ..Mode::default() };
    for (tls, mode, expected) in [
        (RouteTls::Required, &good, Some(true)),
        (RouteTls::Opportunistic, &good, Some(true)),
        (RouteTls::None, &good, Some(false)),
        (RouteTls::Opportunistic, &broken, Some(false)),
        (RouteTls::Opportunistic, &Mode::default(), Some(false)),
        (RouteTls::Required, &broken, None),
        (RouteTls::Required, &Mode::default(), None),
    ] {
        let (server, address) = Fake::tcp(mode.clone());
        let directory = tempfile::tempdir().expect("a directory");
        let house =
            House::start(&directory, driver(), &smarthost(&address, tls), &[message(&["one@b.example"], "secret")]);
        if expected.is_none() {
            wait_until("two attempts", || server.connections() >= 2);
            assert!(server.received().is_empty(), "{tls:?}");
            server.set(good.clone());
        }
        wait_until("the delivery", || !server.received().is_empty());
        house.stop();
        assert_eq!(server.received()[0].tls, expected.unwrap_or(true), "{tls:?}");
    }
}

#[test]
fn a_large_message_arrives_whole() {
    let (server, address) = Fake::tcp(Mode { starttls: Some(Some(certificate())), ..Mode::default() });
    let directory = tempfile::tempdir().expect("a directory");
    let line = format!("{}\r\n.", "x".repeat(75));
    let content = format!("Subject: large\r\n\r\n{}end\r\n", line.repeat(2500));
    let message = Message { content: content.clone(), ..message(&["one@b.example"], "") };
    let house = House::start(&directory, driver(), &smarthost(&address, RouteTls::Required), &[message]);
    wait_until("the delivery", || !server.received().is_empty());
    house.stop();
    assert!(server.received()[0].content == format!("X-Before: yes\r\n{content}"));
}

#[test]
fn into_a_maildir() {
    let directory = tempfile::tempdir().expect("a directory");
    let maildir = directory.path().join("Maildir");
    let new = || std::fs::read_dir(maildir.join("new")).map_or(0, Iterator::count);
    let target = Target::Maildir { directory: maildir.clone() };
    let messages = [message(&["one@b.example", "two@b.example"], "first"), message(&["three@b.example"], "second")];
    let house = House::start(&directory, driver(), &target, &messages);
    wait_until("three files", || new() >= 3);
    house.stop();
    let house = House::start(&directory, driver(), &target, &[message(&["four@b.example"], "third")]);
    wait_until("a fourth file", || new() >= 4);
    house.stop();
    assert_eq!(new(), 4);
}

/// A relay's segment that is begun before the segment of a message and goes on after it is read first in a catch-up.
/// Its outcomes must survive that, or the next start would deliver again.
#[test]
fn an_outcome_that_is_read_before_its_message_survives_two_restarts() {
    let (server, address) = Fake::tcp(Mode::default());
    let target = smarthost(&address, RouteTls::None);
    let directory = tempfile::tempdir().expect("a directory");
    let options = spool::Options {
        directory: directory.path().join("spool"),
        segment_bytes: 256 << 10,
        writers: 1,
        reserve_bytes: 0,
        bytes_max: None,
        wipe_after_s: 0,
    };
    let mut spool = Spool::open(options).expect("a spool");
    let (core, (relay, follower)) = (spool.core_writers().remove(0), spool.relay_side());
    crate::net::run(driver(), None, async {
        let core = Writer::start(core, driver()).expect("a writer");
        let relay = Writer::start(relay, driver()).expect("a writer");
        let put = async |writer: &Writer, envelope: &Envelope, content: &[u8]| {
            let id = begin(writer, content.len() as u64).await;
            writer.commit(id, envelope, content).await.expect("durable");
            id
        };
        let outcome = |of: spool::QueueId| {
            let mut envelope = Envelope::default();
            let reply = crate::smtp::client::Reply::ours(250, "ok".into());
            super::records::push_outcome(of.0, 0, crate::smtp::envelope::Fate::Delivered, &reply, &mut envelope);
            envelope
        };
        let first = put(&core, &message(&["first@b.example"], "").envelope(), &[b'x'; 100_000]).await;
        put(&relay, &outcome(first), b"").await;
        let second = put(&core, &message(&["second@b.example"], "").envelope(), &[b'x'; 100_000]).await;
        put(&relay, &outcome(second), b"").await;
        // Begins the core's next segment.
        let third = put(&core, &message(&["third@b.example"], "").envelope(), &[b'x'; 100_000]).await;
        put(&core, &message(&["later@b.example"], "").envelope(), b"x").await;
        put(&relay, &outcome(third), b"").await;
        core.drain().await;
        relay.drain().await;
    })
    .expect("a runtime");
    drop(follower);
    spool.close();

    for round in ["one", "two", "three"] {
        let recipient = format!("{round}@b.example");
        let house = House::start(&directory, driver(), &target, &[message(&[&recipient], "")]);
        wait_until("the new message", || to(&server.received(), &recipient) > 0);
        house.stop();
        for done in ["first@b.example", "second@b.example", "third@b.example"] {
            assert_eq!(to(&server.received(), done), 0, "{done} was delivered again, round {round}");
        }
    }
}

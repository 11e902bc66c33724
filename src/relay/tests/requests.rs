//! What senders ask for: notifications (RFC 3461), and a later delivery (RFC 4865).

use super::{Fake, House, Message, Mode, Received, driver, message, smarthost, to, wait_until};
use crate::config::{RouteTls, Target};
use crate::smtp::envelope::Tag;

/// What came back to the sender, by its subject.
fn returned(received: &[Received], subject: &str) -> Vec<String> {
    let back = received.iter().filter(|message| message.to == ["anna@example.edu"]);
    let of = back.filter(|message| message.content.contains(&format!("\r\nSubject: {subject}")));
    of.map(|message| message.content.clone()).collect()
}

// covers: 12.9
#[test]
fn what_was_asked_for_is_passed_on_or_acted_on() {
    for (offers, lmtp, action) in [
        (&["DSN"][..], false, None),
        (&[], false, Some("relayed")),
        (&["DSN"], true, None),
        (&[], true, Some("delivered")),
    ] {
        let (server, address) = Fake::tcp(Mode { offers, ..Mode::default() });
        let target = if lmtp { Target::Lmtp { address } } else { smarthost(&address, RouteTls::None) };
        let directory = tempfile::tempdir().expect("a directory");
        let wanted = Message {
            notify: Some("SUCCESS,FAILURE"),
            fields: vec![(Tag::Envid, b"id1".to_vec()), (Tag::Ret, vec![1])],
            ..message(&["one@b.example", "never@b.example", "two@b.example"], "wanted")
        };
        let unwanted =
            Message { notify: Some("NEVER"), ..message(&["never@b.example", "quiet@b.example"], "unwanted") };
        let house = House::start(&directory, driver(), &target, &[wanted, unwanted]);
        // A refusal is told in any case; a success by us or not at all.
        let reports = 1 + usize::from(action.is_some());
        wait_until("deliveries and reports", || {
            let received = server.received();
            to(&received, "anna@example.edu") >= reports && to(&received, "quiet@b.example") > 0
        });
        house.stop();
        let received = server.received();
        assert_eq!(to(&received, "anna@example.edu"), reports, "{offers:?} {received:#?}");
        let success = returned(&received, "Successful");
        assert_eq!(success.len(), usize::from(action.is_some()), "one for both recipients");
        for report in success {
            let said = format!("Action: {}\r\n", action.expect("a report"));
            assert_eq!(report.matches(&said).count(), 2, "{report}");
            assert!(report.contains("Original-Envelope-Id: id1\r\n") && !report.contains(".dot"), "{report}");
        }
        assert_eq!(returned(&received, "Undelivered").len(), 1);
        let message = received.iter().find(|message| message.to.len() == 2).expect("the first message");
        let passed = message.commands.iter().any(|command| command.contains("NOTIFY=SUCCESS,FAILURE"));
        let envelope = message.commands[0].contains(" RET=HDRS ENVID=id1");
        assert_eq!((passed, envelope), (offers.contains(&"DSN"), offers.contains(&"DSN")), "{message:?}");
        // Nothing is repeated.
        let house = House::start(&directory, driver(), &target, &[self::message(&["three@b.example"], "next")]);
        wait_until("the next", || to(&server.received(), "three@b.example") > 0);
        house.stop();
        assert_eq!(server.received().len(), received.len() + 1, "{offers:?}");
    }
}

// covers: 12.9
#[test]
fn a_maildir_is_the_end_of_the_way() {
    let (server, address) = Fake::tcp(Mode::default());
    let directory = tempfile::tempdir().expect("a directory");
    let maildir = Target::Maildir { directory: directory.path().join("Maildir") };
    let wanted = Message { notify: Some("SUCCESS"), ..message(&["one@local.example"], "wanted") };
    let house = House::with(&directory, driver(), &maildir, &[wanted], |relay| {
        relay.routes[0].domains = vec!["local.example".into()];
        relay.routes.push(crate::config::Route {
            domains: Vec::new(),
            senders: Vec::new(),
            target: smarthost(&address, RouteTls::None),
        });
    });
    wait_until("a report", || to(&server.received(), "anna@example.edu") > 0);
    house.stop();
    let report = returned(&server.received(), "Successful").remove(0);
    assert!(report.contains("Action: delivered\r\n") && !report.contains("Remote-MTA"), "{report}");
    assert!(!report.contains(&*directory.path().to_string_lossy()), "no path of this machine: {report}");
}

// covers: 12.7
#[test]
fn a_sender_is_told_once_of_a_delay_and_a_restart_does_not_repeat_it() {
    let (server, address) = Fake::tcp(Mode::default());
    let target = smarthost(&address, RouteTls::None);
    let directory = tempfile::tempdir().expect("a directory");
    let soon = |relay: &mut crate::config::Relay| relay.delay_warning_s = 2;
    let late = |notify| Message { notify, ..message(&["later@b.example"], "late") };
    let messages = [late(None), late(Some("DELAY")), late(Some("SUCCESS")), late(Some("NEVER"))];
    let house = House::with(&directory, driver(), &target, &messages, soon);
    wait_until("two warnings", || to(&server.received(), "anna@example.edu") >= 2);
    house.stop();
    let received = server.received();
    let warnings = returned(&received, "Delayed");
    assert_eq!((warnings.len(), received.len()), (2, 2), "{received:#?}");
    for part in ["Action: delayed\r\n", "Status: 4.2.0\r\n", "Will-Retry-Until: ", "4.2.0 later"] {
        assert!(warnings[0].contains(part), "{part}: {}", warnings[0]);
    }
    // Well past the time, in two more lives: nobody is told again, and the mail is still there.
    for round in ["one", "two"] {
        let recipient = format!("{round}@b.example");
        let connections = server.connections();
        let house = House::with(&directory, driver(), &target, &[message(&[&recipient], "x")], soon);
        wait_until("tries", || to(&server.received(), &recipient) > 0 && server.connections() > connections + 4);
        house.stop();
    }
    server.set(Mode { later_is_now: true, ..Mode::default() });
    let house = House::with(&directory, driver(), &target, &[], soon);
    wait_until("all four", || to(&server.received(), "later@b.example") >= 4);
    house.stop();
    let received = server.received();
    assert_eq!(returned(&received, "Delayed").len(), 2);
    // And the one who wished to hear of the success does.
    assert_eq!(to(&received, "later@b.example"), 4);
}

/// A message for many recipients goes in several transactions, and yet there is one report of a kind.
// covers: 12.8
#[test]
fn recipients_of_several_transactions_share_a_notification() {
    let (server, address) = Fake::tcp(Mode::default());
    let directory = tempfile::tempdir().expect("a directory");
    let recipients: Vec<String> = (0..250).map(|number| format!("never{number}@b.example")).collect();
    let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
    let house = House::start(&directory, driver(), &smarthost(&address, RouteTls::None), &[message(&recipients, "x")]);
    wait_until("the bounce", || to(&server.received(), "anna@example.edu") > 0);
    house.stop();
    let bounces = returned(&server.received(), "Undelivered");
    assert_eq!((bounces.len(), bounces[0].matches("\r\nAction: failed\r\n").count()), (1, 250));
}

// covers: 3.6
#[test]
fn a_held_message_waits_for_its_time_through_a_restart() {
    let (server, address) = Fake::tcp(Mode::default());
    let target = smarthost(&address, RouteTls::None);
    let directory = tempfile::tempdir().expect("a directory");
    let release_ms = crate::clock::now_ms() + 4000;
    let held = Message {
        fields: vec![(Tag::HoldUntil, release_ms.to_le_bytes().to_vec())],
        ..message(&["held@b.example"], "held")
    };
    let house = House::start(&directory, driver(), &target, &[held, message(&["one@b.example"], "now")]);
    wait_until("the other", || to(&server.received(), "one@b.example") > 0);
    house.stop();
    let house = House::start(&directory, driver(), &target, &[message(&["two@b.example"], "now")]);
    wait_until("the held one", || {
        let is_there = to(&server.received(), "held@b.example") > 0;
        assert!(!is_there || crate::clock::now_ms() >= release_ms, "too early");
        is_there
    });
    house.stop();
    assert_eq!(to(&server.received(), "held@b.example"), 1);
}

// covers: 6.5a 12.2
#[test]
fn binary_content_goes_by_bdat_or_is_encoded() {
    for (offers, arrives) in [(&["CHUNKING", "BINARYMIME"][..], true), (&["CHUNKING"], false), (&["BINARYMIME"], false)]
    {
        let (server, address) = Fake::tcp(Mode { offers, ..Mode::default() });
        let directory = tempfile::tempdir().expect("a directory");
        let content = "MIME-Version: 1.0\r\nContent-Type: application/x-odd\r\n\r\n.\r\nbare\nand\r.\0.";
        let messages = [false, true].map(|spilled| Message {
            content: content.into(),
            spilled,
            body: 2,
            fields: vec![(Tag::Ret, vec![0])],
            ..message(&["one@b.example"], "")
        });
        let house = House::start(&directory, driver(), &smarthost(&address, RouteTls::None), &messages);
        wait_until("both", || server.received().len() >= 2);
        house.stop();
        for message in server.received() {
            match arrives {
                true => {
                    assert_eq!(message.content, format!("X-Before: yes\r\n{content}"));
                    assert!(message.commands[0].contains("BODY=BINARYMIME"), "{message:?}");
                }
                // As base64, octet for octet below it.
                false => {
                    assert!(
                        !message.commands[0].contains("BINARYMIME") && !message.content.contains('\0'),
                        "{message:?}"
                    );
                    assert!(message.content.contains("Content-Transfer-Encoding: base64\r\n"), "{message:?}");
                    let lines = message.content.split("\r\n\r\n").nth(1).expect("a body").replace("\r\n", "");
                    use base64::Engine;
                    let body = base64::prelude::BASE64_STANDARD.decode(lines).expect("base64");
                    assert_eq!(body, b".\r\nbare\nand\r.\0.");
                }
            }
        }
    }
}

// covers: 6.5a 12.2
#[test]
fn what_cannot_be_converted_comes_back_with_its_code() {
    let signed = |encoding, text| {
        format!(
            "MIME-Version: 1.0\r\nContent-Type: multipart/signed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\
             Content-Transfer-Encoding: {encoding}\r\n\r\n{text}\r\n--b--\r\n"
        )
    };
    for (body, encoding, text, seven_bit, status) in [
        (2, "binary", "a\0b", false, "5.6.1"),
        (1, "8bit", "gr\u{fc}n", true, "5.6.3"),
        (1, "8bit", "gr\u{fc}n", false, ""),
    ] {
        for spilled in [false, true] {
            let (server, address) = Fake::tcp(Mode { seven_bit, ..Mode::default() });
            let directory = tempfile::tempdir().expect("a directory");
            let fields = vec![(Tag::Ret, vec![0])];
            let eight_bit = Some(true);
            let odd = Message {
                content: signed(encoding, text),
                body,
                spilled,
                eight_bit,
                fields,
                ..message(&["one@b.example"], "")
            };
            let house = House::start(&directory, driver(), &smarthost(&address, RouteTls::None), &[odd]);
            wait_until("it, or a bounce", || !server.received().is_empty());
            house.stop();
            let received = server.received().remove(0);
            assert_eq!(received.to, [if status.is_empty() { "one@b.example" } else { "anna@example.edu" }]);
            if !status.is_empty() {
                assert!(received.content.contains(&format!("Status: {status}\r\n")), "{received:?}");
                assert!(received.content.is_ascii() || !seven_bit, "{received:?}");
            }
        }
    }
}

// covers: 6.7 12.2
#[test]
fn long_lines_and_eight_bit_text_are_encoded() {
    let text = |line: &str| format!("Content-Type: text/plain; charset=utf-8\r\n\r\n{line}\r\n");
    let (long, eight) = (text(&"long ".repeat(400)), text("gr\u{fc}n"));
    for (content, seven_bit, eight_bit, spilled) in [
        (&long, false, false, false),
        (&long, false, false, true),
        (&eight, true, true, false),
        (&eight, true, true, true),
    ] {
        let (server, address) = Fake::tcp(Mode { seven_bit, ..Mode::default() });
        let directory = tempfile::tempdir().expect("a directory");
        let fields = vec![(Tag::LongLine, vec![u8::from(!eight_bit)])];
        let message = Message {
            content: content.clone(),
            eight_bit: Some(eight_bit),
            body: 1,
            spilled,
            fields,
            ..message(&["one@b.example"], "")
        };
        let house = House::start(&directory, driver(), &smarthost(&address, RouteTls::None), &[message]);
        wait_until("the delivery", || !server.received().is_empty());
        house.stop();
        let received = server.received().remove(0);
        assert_eq!(received.to, ["one@b.example"], "{received:?}");
        assert!(received.content.contains("Content-Transfer-Encoding: quoted-printable\r\n"), "{received:?}");
        assert!(received.content.split("\r\n").all(|line| line.len() <= 998) && received.content.is_ascii());
        assert!(received.content.starts_with("X-Before: yes\r\n") && !received.commands[0].contains("BODY"));
    }
}

/// A server that says 250 while the content is being sent is not believed, and gets no end of it.
// covers: 12.6
#[test]
fn an_answer_before_the_content_is_not_believed() {
    let (server, address) = Fake::tcp(Mode { early: "250 2.0.0 queued already\r\n", ..Mode::default() });
    let directory = tempfile::tempdir().expect("a directory");
    let content = format!("Subject: x\r\n\r\n{}", "0123456789\r\n".repeat(1_000_000));
    let large = Message { content, spilled: true, ..message(&["large@b.example"], "") };
    let house = House::start(&directory, driver(), &smarthost(&address, RouteTls::None), &[large]);
    wait_until("attempts", || server.connections() >= 2);
    assert!(server.received().is_empty(), "the end of the content was sent");
    server.set(Mode::default());
    wait_until("the delivery", || server.received().iter().any(|message| message.answered));
    house.stop();
    assert_eq!(server.received().len(), 1);
}

//! Recipients: too many, unknown ones, and over the rate.

use super::*;

/// What `recipients` RCPTs for `address` are answered with, from the first on: a code and how often it came.
fn answers(session: &mut Session, address: &str, recipients: usize) -> Vec<(String, usize)> {
    let (said, _) = talk(session, format!("RCPT TO:<{address}>\r\n").repeat(recipients).as_bytes());
    let mut answers: Vec<(String, usize)> = Vec::new();
    for line in said.lines() {
        match answers.last_mut() {
            Some((code, count)) if *code == line[..9] => *count += 1,
            _ => answers.push((line[..9].to_owned(), 1)),
        }
    }
    answers
}

fn times(code: &str, count: usize) -> (String, usize) {
    (code.to_owned(), count)
}

/// Nobody names recipients for as long as a transaction may last, and the log has one line for all of them.
// covers: 5.15 11.8
#[test]
fn recipients_far_over_the_limit_end_the_session() {
    let over =
        |over| Some((About::Recipients { over }, over, over, vec![OfCode { code: 452, count: over, messages: 0 }]));
    let take = |session: &mut Session| {
        let refused = session.take_refused()?;
        assert_eq!((refused.reply, refused.messages), (reply::TOO_MANY_RECIPIENTS, 0));
        Some((refused.about, refused.count, refused.recipients, refused.codes.iter().copied().collect()))
    };
    let (mut session, _) = session(Role::Smtp, TlsMode::Offered, false);
    talk(&mut session, b"EHLO x\r\nMAIL FROM:<>\r\n");
    assert_eq!(
        answers(&mut session, "b@example.edu", 1002),
        [times("250 2.1.5", 2), times("452 4.5.3", 1000)],
        "each has its answer"
    );
    assert_eq!(session.take_refused(), None, "while the transaction lasts");
    talk(&mut session, b"DATA\r\n.\r\nMAIL FROM:<>\r\n");
    assert_eq!((take(&mut session), take(&mut session)), (over(1000), None), "the message got through");
    assert_eq!(
        answers(&mut session, "b@example.edu", 2000),
        [times("250 2.1.5", 2), times("452 4.5.3", 1000), times("421 4.7.0", 1)],
        "counted anew"
    );
    assert_eq!(session.phase(), Phase::Closed);
    assert_eq!(session.take_refused().map(|refused| refused.reply), Some(reply::TOO_MANY_REFUSED));
    session.end();
    assert_eq!((take(&mut session), take(&mut session)), (over(1000), None));
}

/// A list with many dead addresses gets through; who guesses names does not.
// covers: 4.7 11.8
#[test]
fn known_clients_may_name_more_that_nobody_is_than_strangers() {
    let rules = Rules { recipients_max: 300, ..Rules::clone(&rules(Role::Smtp, TlsMode::Offered)) };
    let rules = Arc::new(rules);
    let somebody = Arc::new({
        let mut known = Recipients::default();
        known.add(b"ben", b"example.edu");
        known
    });
    for (trusted, max) in [(true, 300), (false, 100)] {
        let mut session = Session::new(rules.clone(), trusted, false, &mut Vec::new());
        session.set_local_recipients(&somebody);
        talk(&mut session, b"EHLO x\r\nMAIL FROM:<>\r\n");
        assert_eq!(answers(&mut session, "nobody@example.edu", max - 10), [times("550 5.1.1", max - 10)]);
        talk(&mut session, b"RSET\r\nMAIL FROM:<>\r\n");
        assert_eq!(answers(&mut session, "nobody@example.edu", 10), [times("550 5.1.1", 10)]);
        talk(&mut session, b"RCPT TO:<ben@example.edu>\r\nDATA\r\n.\r\nMAIL FROM:<>\r\n");
        let mut expected = vec![times("550 5.1.1", max), times("421 4.7.0", 1)];
        // A message makes good for a known client only.
        expected.drain(..usize::from(!trusted));
        assert_eq!(answers(&mut session, "nobody@example.edu", 2 * max), expected, "trusted: {trusted}");
        assert_eq!(session.phase(), Phase::Closed);
    }
}

/// Past the rate of an account a list is refused to its end, in step.
// covers: 5.17
#[test]
fn a_user_over_the_rate_is_told_so_for_each_recipient() {
    let rules = Rules { limits_users: true, recipients_max: 200, ..Rules::new("mx.example.edu") };
    let mut session = Session::new(Arc::new(rules), true, true, &mut Vec::new());
    session.user = Some("anna".into());
    talk(&mut session, b"EHLO x\r\nMAIL FROM:<>\r\n");
    let (mut out, mut refused) = (Vec::new(), 0);
    for _ in 0..300 {
        if session.step(b"RCPT TO:<b@example.org>\r\n", &mut out).1 == Action::Close {
            break;
        }
        session.answered(Answer::Refused(Refusal::OverRate), &mut out);
        let noted = session.take_refused().expect("for the log");
        assert_eq!((noted.recipient.as_deref(), noted.recipients), (Some(&b"b@example.org"[..]), 1));
        refused += 1;
    }
    let told = out.split_inclusive(|octet| *octet == b'\n').filter(|line| *line == reply::OVER_RATE).count();
    assert_eq!((told, refused), (200, 201));
    assert!(out.ends_with(reply::TOO_MANY_REFUSED) && session.phase() == Phase::Closed);
}

/// A file that is read again counts from the next command on, in sessions that are open too.
// covers: 4.7
#[test]
fn who_there_is_may_change_while_a_session_lasts() {
    let known = |name: &str| {
        let mut known = Recipients::default();
        known.add(name.as_bytes(), b"example.edu");
        Arc::new(known)
    };
    let (mut session, _) = session(Role::Smtp, TlsMode::Offered, false);
    talk(&mut session, b"EHLO x\r\n");
    for (name, code) in [("ben", "250 2.1.5"), ("anna", "550 5.1.1"), ("ben", "250 2.1.5")] {
        session.set_local_recipients(&known(name));
        talk(&mut session, b"RSET\r\nMAIL FROM:<>\r\n");
        assert_eq!(answers(&mut session, "ben@example.edu", 1), [times(code, 1)]);
    }
}

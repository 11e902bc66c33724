//! A whole session: any settings, any input cut anywhere, any answers of the services.
//!
//! Replies and actions are those of the same input in one piece; each reply is well-formed, in lines of at most 512 octets,
//! its enhanced code of its own class; nothing is asked about a user outside TLS; what is committed keeps the limits, holds
//! no bare CR, bare LF or NUL unless it is BODY=BINARYMIME, and goes from strangers to local domains only.
#![no_main]
use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use penstock::policy::domain_name::DomainName;
use penstock::policy::{Domains, OddBytes, Role, TlsMode};
use penstock::sasl::{Keys, Mechanisms};
use penstock::smtp::Session;
use penstock::smtp::envelope::View;
use penstock::smtp::path::Mailbox;
use penstock::smtp::session::{Action, Answer, MayXclient, Question, QueueName, Refusal, Rules};
use penstock_fuzz::Cuts;
use std::sync::{Arc, LazyLock};

/// Of a user whose password is `sesame`.
static KEYS: LazyLock<Keys> = LazyLock::new(|| Keys::derive("sesame", b"0123456789abcdef", 4096));

#[derive(Arbitrary, Clone, Copy, Debug)]
struct Input<'a> {
    listener: Listener,
    trusted: bool,
    secured: bool,
    /// There is a channel for SCRAM to bind to.
    bound: bool,
    /// No, yes, with LOGIN.
    xclient: u8,
    /// What the driver answers to its questions, one after the other and over again: 0 is the kindest.
    answers: [u8; 8],
    /// What happens where the client waits, likewise: 0 is nothing.
    meanwhile: [u8; 4],
    cuts: Cuts,
    /// What the client sends; it waits at each octet 30.
    stream: &'a [u8],
}

#[derive(Arbitrary, Clone, Copy, Debug)]
struct Listener {
    relays: bool,
    /// Required, offered, implicit.
    tls: u8,
    /// All, passwords only, SCRAM only, none; and these again with a limit on users.
    mechanisms: u8,
    message_bytes_max: u8,
    recipients_max: u8,
    messages_per_session: u8,
    hold_max_s: u8,
    rejects_odd_bytes: bool,
    takes_odd_bytes_of_strangers: bool,
    help: bool,
}

impl Listener {
    fn rules(self) -> Rules {
        let policy = |rejects| if rejects { OddBytes::Reject } else { OddBytes::Normalize };
        Rules {
            role: if self.relays { Role::Smtp } else { Role::Submission },
            tls: [TlsMode::Required, TlsMode::Offered, TlsMode::Implicit][usize::from(self.tls % 3)],
            mechanisms: [Mechanisms::ALL, Mechanisms::PASSWORD, Mechanisms::SCRAM, Mechanisms::NONE]
                [usize::from(self.mechanisms % 4)],
            limits_users: self.mechanisms % 8 >= 4,
            message_bytes_max: 10 + 10 * u64::from(self.message_bytes_max),
            recipients_max: 1 + u32::from(self.recipients_max),
            messages_per_session: 1 + u32::from(self.messages_per_session),
            hold_max_s: u32::from(self.hold_max_s),
            odd_bytes: policy(self.rejects_odd_bytes),
            odd_bytes_of_strangers: policy(!self.takes_odd_bytes_of_strangers),
            help: if self.help { "https://help.example.edu".into() } else { String::new() },
            local_domains: Arc::new(Domains::new(["example.edu"])),
            ..Rules::new("mx.example.edu")
        }
    }
}

/// All that a driver sees.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    out: Vec<u8>,
    actions: Vec<String>,
    /// Of the message that is under way. Its pieces depend on the cuts.
    content: Option<Vec<u8>>,
}

struct Driver {
    input_answers: [u8; 8],
    asked: usize,
    rules: Arc<Rules>,
    session: Session,
    seen: Seen,
}

impl Driver {
    fn new(input: &Input) -> Driver {
        let rules = Arc::new(input.listener.rules());
        let mut seen = Seen::default();
        let mut session = Session::new(rules.clone(), input.trusted, input.secured, &mut seen.out);
        let may = [MayXclient::No, MayXclient::Yes, MayXclient::WithLogin];
        session.set_may_xclient(may[usize::from(input.xclient % 3)]);
        if input.bound {
            session.bind_channel((0..32).collect());
        }
        session.set_clock(1_800_000_000_000);
        Driver { input_answers: input.answers, asked: 0, rules, session, seen }
    }

    /// One read. False: the session is over; none: TLS has started.
    fn read(&mut self, piece: &[u8]) -> Option<bool> {
        let mut rest = piece;
        loop {
            let before = self.seen.out.len();
            let (used, action) = self.session.step(rest, &mut self.seen.out);
            rest = &rest[used..];
            assert!(self.seen.out.len() - before <= 20 * 1024, "replies of one step are bounded");
            match action {
                Action::Flush => {}
                Action::NeedInput => {
                    assert!(rest.is_empty(), "asks for input and leaves some");
                    return Some(true);
                }
                Action::Body(content) => {
                    self.seen.content.as_mut().expect("a message has begun").extend_from_slice(content);
                }
                Action::Abort => {
                    assert!(self.seen.content.take().is_some(), "a message has begun");
                    self.seen.actions.push("abort".into());
                }
                Action::Close => {
                    self.seen.content = None;
                    self.seen.actions.push("close".into());
                    return Some(false);
                }
                Action::StartTls => {
                    self.seen.actions.push("tls".into());
                    self.session.answered(Answer::TlsStarted, &mut self.seen.out);
                    return None;
                }
                Action::Recipient => self.recipient(),
                Action::Begin => self.begin(),
                Action::Commit => self.commit(),
                Action::Ask(question) => self.ask(question),
            }
        }
    }

    fn recipient(&mut self) {
        assert!(self.rules.limits_users);
        let over = self.pick() % 4 == 3;
        self.answer("recipient", if over { Answer::Refused(Refusal::OverRate) } else { Answer::Granted });
    }

    fn begin(&mut self) {
        let answer = match self.pick() % 8 {
            6 => Answer::Refused(Refusal::NoRoom),
            7 => Answer::Refused(Refusal::DiskTrouble),
            _ => Answer::Begun(QueueName(*b"0123456789BCD")),
        };
        assert!(self.seen.content.is_none(), "one message at a time");
        self.seen.content = matches!(answer, Answer::Begun(_)).then(Vec::new);
        self.answer("begin", answer);
    }

    fn commit(&mut self) {
        let content = self.seen.content.take().expect("a message has begun");
        self.check_message(&content);
        let answer = match self.pick() % 16 {
            11 => Answer::Refused(Refusal::NoRoom),
            12 => Answer::Refused(Refusal::DiskTrouble),
            13 => Answer::Refused(Refusal::TooManyHops),
            14 => Answer::Refused(Refusal::HeaderTooBig),
            15 => Answer::Refused(Refusal::TooManyFields),
            _ => Answer::Committed,
        };
        let envelope = self.session.envelope().as_bytes().escape_ascii().to_string();
        self.answer(&format!("commit {envelope} {}", content.escape_ascii()), answer);
    }

    fn ask(&mut self, question: Question) {
        let pick = self.pick();
        let answer = match &question {
            Question::Client(_) if pick % 4 == 3 => Answer::Rejected,
            Question::Client(xclient) => {
                let user = xclient.login.as_deref().map(Into::into);
                Answer::Client { trusted: pick % 2 == 1, user }
            }
            Question::Password(_) => verdict(pick),
            Question::ScramKeys(_) if pick % 4 < 2 => {
                Answer::ScramKeys { keys: KEYS.clone(), nonce: "SERVER-NONCE".into() }
            }
            Question::ScramKeys(_) if pick % 4 == 2 => Answer::Braked,
            Question::ScramKeys(_) => Answer::Unavailable,
            Question::Proof(proof) => match verdict(pick) {
                // Nobody here knows the password, unless the inputs came to hold a whole exchange.
                Answer::Accepted(_) if !proof.right => Answer::Rejected,
                answer => answer,
            },
        };
        assert!(matches!(question, Question::Client(_)) || self.session.is_secured());
        self.answer(&format!("{question:?}"), answer);
    }

    fn answer(&mut self, what: &str, answer: Answer) {
        self.seen.actions.push(format!("{what}: {answer:?}"));
        self.session.answered(answer, &mut self.seen.out);
    }

    fn pick(&mut self) -> u8 {
        self.asked += 1;
        self.input_answers[(self.asked - 1) % self.input_answers.len()]
    }

    /// The client waits.
    fn meanwhile(&mut self, what: u8) -> bool {
        match what % 8 {
            4 => self.session.set_clock(1_800_000_000_000 + 60_000 * u64::from(what)),
            5 => self.session.set_room((what < 128).then_some(what.into())),
            6 => self.session.shut_down(),
            7 => {
                self.session.timed_out(&mut self.seen.out);
                return false;
            }
            _ => {}
        }
        true
    }

    fn check_message(&mut self, content: &[u8]) {
        let stored = self.session.envelope().as_bytes().to_vec();
        let view = View::parse(&stored).expect("we wrote it");
        let (_, client) = self.session.finish();
        let submission = client.submission;
        assert!(self.rules.role == Role::Smtp || submission);
        assert!(content.len() as u64 <= self.rules.message_bytes_max);
        assert!((1..=self.rules.recipients_max as usize).contains(&view.recipients.len()));
        assert!(self.session.is_secured() || !view.require_tls);
        let from = view.reverse_path;
        assert!(from.is_empty() || Mailbox::parse(from).is_some_and(|from| from.is_ascii() || view.smtputf8));
        for to in &view.recipients {
            let to = Mailbox::parse(to.path).expect("a mailbox");
            assert!(to.is_ascii() || view.smtputf8);
            let is_local = || DomainName::new(to.domain()).is_some_and(|name| name.as_str() == "example.edu");
            let is_postmaster = to.as_bytes() == b"postmaster@mx.example.edu";
            assert!(submission || is_postmaster || is_local() && !to.hides_a_route());
        }
        // Of BINARYMIME too a line ends with CRLF only.
        let (mut longest, mut start) = (0, 0);
        for (at, _) in content.windows(2).enumerate().filter(|(_, pair)| pair == b"\r\n") {
            longest = longest.max(at - start);
            start = at + 2;
        }
        assert_eq!(view.long_line, Some(longest.max(content.len() - start) > 998));
        assert_eq!(view.eight_bit, Some(!content.is_ascii()));
        if view.body != 2 {
            let ends = content.windows(2).filter(|pair| pair == b"\r\n").count();
            let odd = content.iter().filter(|octet| matches!(octet, b'\r' | b'\n' | 0)).count() != 2 * ends;
            assert!(!odd && (submission || view.long_line == Some(false)));
        }
    }
}

fn verdict(pick: u8) -> Answer {
    match pick % 8 {
        5 => Answer::Rejected,
        6 => Answer::Braked,
        7 => Answer::Unavailable,
        _ => Answer::Accepted("anna".into()),
    }
}

/// All that is seen when each stretch of the stream arrives in `pieces`.
fn talk<'a, I: Iterator<Item = &'a [u8]>>(input: &Input<'a>, pieces: impl Fn(&'a [u8]) -> I) -> Seen {
    let mut driver = Driver::new(input);
    let mut meanwhile = input.meanwhile.into_iter().cycle();
    'stretches: for stretch in input.stream.split(|octet| *octet == 30) {
        for piece in pieces(stretch) {
            match driver.read(piece) {
                Some(true) => {}
                Some(false) => return driver.seen,
                None => continue 'stretches,
            }
        }
        if !driver.meanwhile(meanwhile.next().unwrap_or_default()) {
            return driver.seen;
        }
    }
    driver.read(b"");
    driver.seen
}

fn check_replies(mut out: &[u8]) {
    let mut is_first = true;
    while !out.is_empty() {
        let end = out.windows(2).position(|pair| pair == b"\r\n").expect("whole lines");
        let (line, rest) = (&out[..end], &out[end + 2..]);
        out = rest;
        assert!(end + 2 <= 512 && line.iter().all(|octet| matches!(octet, b' '..=b'~')), "{}", line.escape_ascii());
        let (code, text) = (&line[..3], &line[4..]);
        assert!((b'2'..=b'5').contains(&code[0]) && code.iter().all(u8::is_ascii_digit));
        let goes_on = line[3] == b'-';
        assert!(goes_on && out.starts_with(code) || line[3] == b' ');
        let is_hello = !is_first || code == b"250" && text.starts_with(b"mx.example.edu");
        let bare = code[0] == b'3' || is_hello || code == b"220" && text.starts_with(b"mx.example.edu ESMTP");
        assert!(
            bare || text.len() > 6 && text[..2] == [code[0], b'.'] && text.contains(&b' '),
            "{}",
            line.escape_ascii()
        );
        is_first = !goes_on;
    }
}

fuzz_target!(|input: Input| {
    let whole = talk(&input, |stretch| (!stretch.is_empty()).then_some(stretch).into_iter());
    check_replies(&whole.out);
    let cut = talk(&input, |stretch| input.cuts.pieces(stretch));
    check_replies(&cut.out);
    // What stands behind STARTTLS is refused if it was read with it, and dropped if not.
    let injects = input.stream.split(|octet| *octet == 30).any(|stretch| {
        let at = stretch.windows(8).position(|window| window.eq_ignore_ascii_case(b"STARTTLS"));
        at.is_some_and(|at| {
            let space = |octet: &&u8| matches!(octet, b' ' | b'\t');
            let spaces = stretch[at + 8..].iter().take_while(space).count();
            &stretch[at + 8 + spaces..] != b"\r\n"
        })
    });
    if !injects {
        assert_eq!(cut, whole);
    }
});

//! Dialogues as data: what a client sends and what it must see, held against [`penstock::smtp::Session`] in every split.
//!
//! Each `tests/dialogues/*.txt` (format: `tests/support/dialogue.rs`) is run whole, octet by octet, and cut in two at every
//! place, because TCP promises nothing about where a read ends. All that a client sends up to the next place where it
//! has to wait is one pipelined input.
//!
//! To mend a failure: the message names file, split and line, and shows the log of that run. A dialogue is the promise; if
//! it is wrong, change it in the commit that says why. A bug becomes a dialogue before it becomes a fix.

#[path = "support/dialogue.rs"]
mod dialogue;

use dialogue::{Check, Dialogue, Event, Expected, Setting, Split};
use penstock::sasl::Keys;
use penstock::smtp::envelope::View;
use penstock::smtp::session::{Action, Answer, Question, QueueName, Refusal, Session};
use penstock::smtp::xclient::Xclient;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// Derived once: some thousand runs ask for them.
static KEYS: OnceLock<Keys> = OnceLock::new();

const QUEUE_NAME: &[u8; 13] = b"QUEUEID000001";

#[test]
fn every_dialogue_in_every_split() {
    let mut failures = Vec::new();
    let files = dialogue_files();
    assert!(files.len() >= 30, "only {} dialogues found", files.len());
    let mut runs = 0;
    for path in &files {
        match Dialogue::read(path).and_then(|dialogue| hold(&dialogue)) {
            Ok(count) => runs += count,
            Err(failure) => failures.push(format!("{}: {failure}", path.display())),
        }
    }
    println!("{} dialogues, {runs} runs", files.len());
    assert!(failures.is_empty(), "\n{}", failures.join("\n\n"));
}

/// The runner itself must see what is wrong, or green means nothing.
#[test]
fn a_wrong_dialogue_is_found() {
    let right = "tls: implicit\nsecured: yes\nS: 220 mx.example.edu ESMTP Penstock\nC: NOOP\nS: 250 2.0.0 Ok\n";
    assert_eq!(Dialogue::parse(right).and_then(|dialogue| hold(&dialogue)), Ok(1 + 1 + 5));
    for (wrong, part) in [
        (right.replace("2.0.0 Ok", "2.0.0 No"), "line 5"),
        (right.replace("S: 250 2.0.0 Ok\n", ""), "more than the dialogue"),
        (right.replace("C: NOOP\n", ""), "line 4"),
        (format!("{right}!close\n"), "line 6"),
        (right.replace("C: NOOP", "D: NOOP"), "line 4"),
        (right.replace("tls: implicit", "tls: maybe"), "line 1"),
        (format!("{right}!content a\n"), "belongs to no message"),
        (format!("{right}role: smtp\n"), "line 6"),
    ] {
        let failure = Dialogue::parse(&wrong).and_then(|dialogue| hold(&dialogue)).expect_err(&wrong);
        assert!(failure.contains(part), "{failure}");
    }
}

fn dialogue_files() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialogues");
    let entries = std::fs::read_dir(&directory).expect("tests/dialogues is there");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    files
}

/// Runs a dialogue in each split; how many runs. Errors: the first one that went wrong.
fn hold(dialogue: &Dialogue) -> Result<usize, String> {
    let splits = dialogue.splits();
    for split in &splits {
        run(dialogue, *split).map_err(|wrong| format!("{split:?}: {wrong}"))?;
    }
    Ok(splits.len())
}

fn run(dialogue: &Dialogue, split: Split) -> Result<(), String> {
    let mut run = Run::new(&dialogue.setting, &dialogue.expected);
    for (index, input) in dialogue.stretches.iter().enumerate() {
        run.stretch(&split.pieces(index, input)).map_err(|wrong| run.failure(&wrong))?;
    }
    run.end().map_err(|wrong| run.failure(&wrong))
}

/// What a driver does with the rest of its input.
#[derive(PartialEq, Eq)]
enum Then {
    GoOn,
    Drop,
}

/// One run: the session, and what its driver does.
struct Run<'a> {
    session: Session,
    all: &'a [Expected],
    /// The end of `all` that has not been seen.
    expected: &'a [Expected],
    /// What the session wrote and nobody has looked at.
    out: Vec<u8>,
    content: Vec<u8>,
    closed: bool,
    /// The line of the dialogue that was reached.
    line: usize,
    /// What was seen so far, for the reader of a failure.
    log: Vec<String>,
}

impl<'a> Run<'a> {
    fn new(setting: &Setting, expected: &'a [Expected]) -> Run<'a> {
        let mut out = Vec::new();
        let mut session = Session::new(Arc::new(setting.rules.clone()), setting.trusted, setting.secured, &mut out);
        session.set_clock(setting.clock_ms);
        session.set_room(setting.room);
        if let Some(known) = &setting.local_recipients {
            session.set_local_recipients(known);
        }
        session.set_may_xclient(setting.xclient);
        if let Some(channel) = &setting.channel {
            session.bind_channel(channel.clone());
        }
        Run { session, all: expected, expected, out, content: Vec::new(), closed: false, line: 0, log: Vec::new() }
    }

    /// Input up to where the client waits, and what the waiting is for.
    fn stretch(&mut self, pieces: &[&[u8]]) -> Result<(), String> {
        self.piece(b"")?;
        for piece in pieces {
            if self.piece(piece)? == Then::Drop {
                return Ok(());
            }
        }
        match self.expected.first().map(|expected| &expected.event) {
            Some(Event::ShutDown) => self.session.shut_down(),
            Some(Event::EndLogin) => self.session.end_login(),
            Some(Event::TimeOut) => {
                self.session.timed_out(&mut self.out);
                self.expected = &self.expected[1..];
                self.replies()?;
                self.closed = true;
                return self.saw(&Event::Close);
            }
            _ => return Ok(()),
        }
        self.expected = &self.expected[1..];
        Ok(())
    }

    fn end(&mut self) -> Result<(), String> {
        match self.expected.first() {
            None => Ok(()),
            Some(Expected { line, event }) => {
                self.line = *line;
                Err(format!("this did not come: {event:?}"))
            }
        }
    }

    fn piece(&mut self, mut rest: &[u8]) -> Result<Then, String> {
        while !self.closed {
            let (used, action) = self.session.step(rest, &mut self.out);
            rest = &rest[used..];
            self.replies()?;
            match action {
                Action::NeedInput if rest.is_empty() => return Ok(Then::GoOn),
                Action::NeedInput => return Err("asks for input and leaves some".into()),
                // The replies are taken after each step.
                Action::Flush => {}
                Action::Body(content) => self.content.extend_from_slice(content),
                Action::Recipient => self.recipient()?,
                Action::Begin => self.begin()?,
                Action::Commit => self.commit()?,
                Action::Abort => {
                    self.content.clear();
                    self.saw(&Event::Abort)?;
                }
                Action::Ask(Question::Client(xclient)) => self.client(&xclient)?,
                Action::Ask(question) => self.ask(&question)?,
                Action::StartTls => {
                    self.saw(&Event::Tls)?;
                    self.session.answered(Answer::TlsStarted, &mut self.out);
                    return Ok(Then::Drop);
                }
                Action::Close => {
                    self.closed = true;
                    self.saw(&Event::Close)?;
                }
            }
        }
        Ok(Then::GoOn)
    }

    fn recipient(&mut self) -> Result<(), String> {
        let answer = match self.next_event() {
            Some(Event::Recipient { refused: true }) => Answer::Refused(Refusal::OverRate),
            Some(Event::Recipient { refused: false }) => Answer::Granted,
            other => return Err(format!("asks for a recipient, expected {other:?}")),
        };
        self.log.push(format!("! {answer:?}"));
        self.session.answered(answer, &mut self.out);
        self.replies()
    }

    fn begin(&mut self) -> Result<(), String> {
        let answer = match self.next_event() {
            Some(Event::Begin { refused: Some(why) }) => Answer::Refused(refusal(why)?),
            Some(Event::Begin { refused: None }) => Answer::Begun(QueueName(*QUEUE_NAME)),
            other => return Err(format!("a message begins, expected {other:?}")),
        };
        self.log.push(format!("! {answer:?}"));
        self.content.clear();
        self.session.answered(answer, &mut self.out);
        self.replies()
    }

    fn commit(&mut self) -> Result<(), String> {
        let (answer, check) = match self.next_event() {
            Some(Event::Commit { refused: Some(why), check }) => (Answer::Refused(refusal(why)?), check),
            Some(Event::Commit { refused: None, check }) => (Answer::Committed, check),
            other => return Err(format!("a message is to be made durable, expected {other:?}")),
        };
        let content = std::mem::take(&mut self.content);
        self.log.push(format!("! {answer:?} {}", content.escape_ascii()));
        hold_message(check, self.session.envelope().as_bytes(), &content)?;
        self.session.answered(answer, &mut self.out);
        self.replies()
    }

    fn ask(&mut self, question: &Question) -> Result<(), String> {
        let (asked, user) = match question {
            Question::Password(credentials) => {
                let mechanism = format!("{:?}", credentials.mechanism).to_lowercase();
                (format!("ask {mechanism} {} {}", credentials.user, credentials.password), &credentials.user)
            }
            Question::ScramKeys(user) => (format!("ask-keys {user}"), user),
            Question::Client(_) => return Err("answered elsewhere".into()),
            Question::Proof(proof) => {
                let right = if proof.right { "right" } else { "wrong" };
                (format!("ask-proof {} {right}", proof.user), &proof.user)
            }
        };
        let answer = match self.next_event() {
            Some(Event::Ask { question, verdict }) if *question == asked => match verdict.as_str() {
                "accepted" => Answer::Accepted(user.as_str().into()),
                "rejected" => Answer::Rejected,
                "braked" => Answer::Braked,
                "unavailable" => Answer::Unavailable,
                // A dialogue is written down beforehand, so the salt and the nonce are always the same.
                "given" => {
                    let keys = KEYS.get_or_init(|| Keys::derive("sesame", b"0123456789abcdef", 4096)).clone();
                    Answer::ScramKeys { keys, nonce: "SERVER-NONCE".into() }
                }
                other => return Err(format!("{other} is no verdict")),
            },
            other => return Err(format!("{asked}, expected {other:?}")),
        };
        self.log.push(format!("! {asked}: {answer:?}"));
        self.session.answered(answer, &mut self.out);
        self.replies()
    }

    fn client(&mut self, xclient: &Xclient) -> Result<(), String> {
        let address = xclient.address.map_or("-".to_owned(), |address| address.to_string());
        let asked = format!("{address} {}", xclient.login.as_deref().unwrap_or("-"));
        let answer = match self.next_event() {
            Some(Event::Client { named, verdict }) if *named == asked => match verdict.as_str() {
                "rejected" => Answer::Rejected,
                "trusted" | "stranger" => {
                    let user = xclient.login.as_deref().map(Arc::from);
                    Answer::Client { trusted: verdict == "trusted", user }
                }
                other => return Err(format!("{other} is no verdict")),
            },
            other => return Err(format!("asks for the client {asked}, expected {other:?}")),
        };
        self.log.push(format!("! {asked}: {answer:?}"));
        self.session.answered(answer, &mut self.out);
        self.replies()
    }

    /// Holds the reply lines that the session has written against the dialogue.
    fn replies(&mut self) -> Result<(), String> {
        let out = String::from_utf8(std::mem::take(&mut self.out)).map_err(|_| "a reply is no UTF-8")?;
        let mut rest = out.as_str();
        while !rest.is_empty() {
            let (line, behind) = rest.split_once("\r\n").ok_or(format!("half a reply: {rest}"))?;
            rest = behind;
            self.log.push(format!("S: {line}"));
            hold_reply(line)?;
            match self.next_event() {
                Some(Event::Says(text)) if is_said(line, text) => {}
                Some(Event::Replies(code)) if is_said(line, &format!("{code} ...")) => {}
                Some(Event::Replies(code)) if is_said(line, &format!("{code}-...")) => self.again(),
                Some(expected) => return Err(format!("says {line}, expected {expected:?}")),
                None => return Err(format!("says more than the dialogue: {line}")),
            }
        }
        Ok(())
    }

    fn saw(&mut self, event: &Event) -> Result<(), String> {
        self.log.push(format!("! {event:?}"));
        match self.next_event() {
            Some(expected) if expected == event => Ok(()),
            other => Err(format!("{event:?}, expected {other:?}")),
        }
    }

    fn next_event(&mut self) -> Option<&'a Event> {
        let (first, rest) = self.expected.split_first()?;
        self.line = first.line;
        self.expected = rest;
        Some(&first.event)
    }

    /// The event that was just taken is next once more.
    fn again(&mut self) {
        let taken = self.all.len() - self.expected.len() - 1;
        self.expected = &self.all[taken..];
    }

    fn failure(&self, wrong: &str) -> String {
        format!("line {}: {wrong}\n{}", self.line, self.log.join("\n"))
    }
}

// covers: 1.6
/// What holds for every line of every reply. RFC 5321 sections 4.2 and 4.5.3.1.5, RFC 2034 section 4.
fn hold_reply(line: &str) -> Result<(), String> {
    let wrong = |what: &str| Err(format!("{what}: {line}"));
    let (code, text) = line.split_at_checked(4).ok_or(format!("shorter than a code: {line}"))?;
    if line.len() + 2 > 512 || !line.bytes().all(|octet| matches!(octet, b' '..=b'~')) {
        return wrong("over 512 octets, or not printable");
    }
    if !code[..3].bytes().all(|octet| octet.is_ascii_digit()) || !matches!(code.as_bytes()[3], b' ' | b'-') {
        return wrong("no code");
    }
    let mut classes = text.split(' ').next().unwrap_or_default().split('.');
    let enhanced = classes.next() == code.get(..1) && classes.clone().count() == 2;
    let numbers = classes.all(|part| part.parse::<u16>().is_ok());
    // The greeting, the answers to EHLO and HELO, and what asks for more have none.
    let hello = code == "250-" || line == "250 HELP" || line == "250 mx.example.edu";
    let without = hello || matches!(&code[..3], "220" | "334" | "354");
    match (enhanced && numbers) || without {
        true => Ok(()),
        false => wrong("no enhanced code of its class"),
    }
}

/// Is this the line that the dialogue wants, or does it start as the dialogue says?
fn is_said(line: &str, text: &str) -> bool {
    text.strip_suffix("...").map_or(line == text, |start| line.starts_with(start))
}

fn refusal(word: &str) -> Result<Refusal, String> {
    match word {
        "no-room" => Ok(Refusal::NoRoom),
        "disk" => Ok(Refusal::DiskTrouble),
        "hops" => Ok(Refusal::TooManyHops),
        "header" => Ok(Refusal::HeaderTooBig),
        "fields" => Ok(Refusal::TooManyFields),
        _ => Err(format!("{word} is no refusal")),
    }
}

/// The parameters of MAIL and RCPT in an envelope, a line each.
fn parameters_kept(view: &View) -> Vec<String> {
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    let mut kept = vec![format!("body {}", ["7BIT", "8BITMIME", "BINARYMIME"][usize::from(view.body)])];
    kept.extend(view.smtputf8.then(|| "smtputf8".to_owned()));
    kept.extend(view.require_tls.then(|| "requiretls".to_owned()));
    kept.extend(view.auth.map(|auth| format!("auth {}", text(auth))));
    kept.extend(view.ret.map(|ret| format!("ret {}", ["FULL", "HDRS"][usize::from(ret)])));
    kept.extend(view.envid.map(|envid| format!("envid {}", text(envid))));
    kept.extend(view.hold_until_ms.map(|hold| format!("hold {hold}")));
    kept.extend(view.eight_bit.filter(|yes| *yes).map(|_| "eight-bit".to_owned()));
    kept.extend(view.long_line.filter(|yes| *yes).map(|_| "long-line".to_owned()));
    for recipient in &view.recipients {
        let path = text(recipient.path);
        kept.extend(recipient.notify.map(|notify| format!("notify {path} {}", text(notify))));
        kept.extend(recipient.orcpt.map(|orcpt| format!("orcpt {path} {}", text(orcpt))));
    }
    kept
}

/// Holds what is to be made durable against what the dialogue says of it.
fn hold_message(check: &Check, envelope: &[u8], content: &[u8]) -> Result<(), String> {
    let view = View::parse(envelope).map_err(|damage| format!("{damage:?}"))?;
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    let from = text(view.reverse_path);
    let to: Vec<String> = view.recipients.iter().map(|recipient| text(recipient.path)).collect();
    if check.from.as_ref().is_some_and(|expected| *expected != from) {
        return Err(format!("the sender is {from}, expected {:?}", check.from));
    }
    if !check.to.is_empty() && check.to != to {
        return Err(format!("the recipients are {to:?}, expected {:?}", check.to));
    }
    let kept = parameters_kept(&view);
    if let Some(missing) = check.with.iter().find(|line| !kept.contains(line)) {
        return Err(format!("kept is {kept:?}, expected {missing}"));
    }
    if let Some(name) = check.without.iter().find(|name| kept.iter().any(|line| line.split(' ').next() == Some(*name)))
    {
        return Err(format!("kept is {kept:?}, expected no {name}"));
    }
    match &check.content {
        Some(expected) if expected != content => {
            Err(format!("the content is {}, expected {}", content.escape_ascii(), expected.escape_ascii()))
        }
        _ => Ok(()),
    }
}

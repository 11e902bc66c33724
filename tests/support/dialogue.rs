//! The file format of `tests/dialogues/*.txt`.
//!
//! ```text
//! role: submission             submission | smtp                              (heads the file; these are the defaults
//! tls: required                implicit | required | offered                   below, see `Setting::default`)
//! secured: no                  is TLS up at the start?
//! trusted: no                  may the client's network relay?
//! xclient: no                  may the peer say XCLIENT? no | yes | login
//! auth: yes                    does anybody check passwords? yes: PLAIN and LOGIN
//! mechanisms: PLAIN LOGIN      what AUTH may be used with
//! channel: 00 01               octets, hexadecimal, that SCRAM-SHA-256-PLUS binds to; not given: nothing
//! message_bytes_max: 10000
//! recipients_max: 100
//! messages_per_session: 1000
//! hold_max_s: 0
//! bare_newlines: normalize     normalize | reject: of authenticated and trusted clients
//! bare_newlines_of_strangers: reject
//! help: https://...            nothing if it is not given
//! clock_ms: 0                  milliseconds since the Unix epoch
//! room: 1000                   octets of new mail for which there is room, or none; any if it is not given
//! local_domains: example.edu
//! local_recipients: a@example.edu @example.org    who there is in local_domains; anybody if it is not given
//! limits_users: no             is the driver asked about each recipient of a user?
//! splits: every                every | whole (only where a split is meant to matter)
//!
//! C: NOOP                      the client sends a line, CRLF is added
//! C| NOOP \x00\r\n             the client sends exactly this; escapes \r \n \t \0 \\ \xNN
//! C* 5000 x                    the client sends x 5000 times
//! S: 250 2.0.0 Ok              the client must see this line; `...` at its end: and whatever follows
//! S* 250                       the client must see a whole reply of this code, of one line or several
//! !ask plain anna sesame accepted       the driver is asked for this verdict: accepted | rejected | braked | unavailable
//! !ask-keys anna given         the driver is asked for the SCRAM keys of a user: given (those of the password sesame) | braked | unavailable
//! !ask-proof anna right accepted        the driver is told of a proof, right or wrong, and decides as with a password
//! !client 192.0.2.1 - stranger   XCLIENT named this address and no user: stranger | trusted | rejected
//! !granted                     the driver counts a recipient of a user; or !over-rate
//! !begun                       the driver is told that a message begins, and has room; or !refused-begin REFUSAL
//! !from anna@example.edu       the envelope of the next !committed or !refused-commit; likewise
//! !to ben@example.org          .. one line a recipient,
//! !content Hi.\r\n             .. its content with dots unstuffed, escaped as in C|
//! !with notify ben@example.org NEVER    .. a parameter that is kept, see `parameters_kept` in tests/dialogues.rs,
//! !without auth                .. none of this name
//! !committed                   the message is durable; or !refused-commit no-room | disk | hops | header | fields
//! !abort                       the driver is told to forget the message
//! !tls                         the driver shakes hands. The client waits here
//! !shutdown                    the server is told to stop. The client waits here
//! !end-login                   the user is removed or has another password. The client waits here
//! !timeout                     the client is silent for too long. The client waits here
//! !close                       the driver closes the connection
//! ```

use penstock::policy::{Domains, OddBytes, Recipients, Role, TlsMode};
use penstock::sasl::{Mechanism, Mechanisms};
use penstock::smtp::session::{MayXclient, Rules};
use std::path::Path;
use std::sync::Arc;

/// What heads a dialogue.
pub struct Setting {
    pub rules: Rules,
    pub secured: bool,
    pub trusted: bool,
    pub xclient: MayXclient,
    pub channel: Option<Arc<[u8]>>,
    pub every_split: bool,
    pub clock_ms: u64,
    pub room: Option<u64>,
    pub local_recipients: Option<Arc<Recipients>>,
}

impl Default for Setting {
    fn default() -> Setting {
        let rules = Rules {
            mechanisms: Mechanisms::PASSWORD,
            message_bytes_max: 10_000,
            recipients_max: 100,
            messages_per_session: 1000,
            local_domains: Arc::new(Domains::new(["example.edu"])),
            postmaster_domain: "example.edu".into(),
            ..Rules::new("mx.example.edu")
        };
        Setting {
            rules,
            secured: false,
            trusted: false,
            channel: None,
            xclient: MayXclient::No,
            every_split: true,
            clock_ms: 0,
            room: Some(u64::MAX),
            local_recipients: None,
        }
    }
}

impl Setting {
    fn take(&mut self, key: &str, value: &str) -> Result<(), String> {
        let flag = |value: &str| match value {
            "yes" => Ok(true),
            "no" => Ok(false),
            _ => Err(format!("{key} is yes or no, not {value}")),
        };
        let number = |value: &str| value.parse().map_err(|_| format!("{key}: {value} is no number"));
        match (key, value) {
            ("role", "submission") => self.rules.role = Role::Submission,
            ("role", "smtp") => self.rules.role = Role::Smtp,
            ("tls", "implicit") => self.rules.tls = TlsMode::Implicit,
            ("tls", "required") => self.rules.tls = TlsMode::Required,
            ("tls", "offered") => self.rules.tls = TlsMode::Offered,
            ("auth", _) => {
                self.rules.mechanisms = if flag(value)? { Mechanisms::PASSWORD } else { Mechanisms::NONE };
            }
            ("mechanisms", _) => {
                let known = value.split(' ').map(|name| Mechanism::parse(name.as_bytes()).ok_or(name));
                let known: Result<Mechanisms, &str> = known.collect();
                self.rules.mechanisms = known.map_err(|name| format!("{name} is no mechanism"))?;
            }
            ("channel", _) => {
                let octets: Result<Vec<u8>, _> = value.split(' ').map(|octet| u8::from_str_radix(octet, 16)).collect();
                self.channel = Some(octets.map_err(|_| format!("{value} is not hexadecimal"))?.into());
            }
            ("secured", _) => self.secured = flag(value)?,
            ("xclient", "no") => self.xclient = MayXclient::No,
            ("xclient", "yes") => self.xclient = MayXclient::Yes,
            ("xclient", "login") => self.xclient = MayXclient::WithLogin,
            ("trusted", _) => self.trusted = flag(value)?,
            ("message_bytes_max", _) => self.rules.message_bytes_max = number(value)?,
            ("recipients_max", _) => self.rules.recipients_max = number(value)? as u32,
            ("messages_per_session", _) => self.rules.messages_per_session = number(value)? as u32,
            ("hold_max_s", _) => self.rules.hold_max_s = number(value)? as u32,
            ("bare_newlines", _) => self.rules.odd_bytes = odd_bytes(value)?,
            ("bare_newlines_of_strangers", _) => self.rules.odd_bytes_of_strangers = odd_bytes(value)?,
            ("help", _) => self.rules.help = value.to_owned(),
            ("clock_ms", _) => self.clock_ms = number(value)?,
            ("room", "none") => self.room = None,
            ("room", _) => self.room = Some(number(value)?),
            ("local_domains", _) => self.rules.local_domains = Arc::new(Domains::new(value.split_whitespace())),
            ("limits_users", _) => self.rules.limits_users = flag(value)?,
            ("local_recipients", _) => {
                let mut recipients = Recipients::default();
                for entry in value.split_whitespace() {
                    let (local_part, domain) = entry.rsplit_once('@').ok_or(format!("{entry} has no @"))?;
                    let (local_part, domain) = (local_part.as_bytes(), domain.as_bytes());
                    let taken = match local_part {
                        b"" => recipients.add_domain(domain),
                        _ => recipients.add(local_part, domain),
                    };
                    taken.then_some(()).ok_or(format!("{entry} is no address"))?;
                }
                self.local_recipients = Some(Arc::new(recipients));
            }
            ("splits", "every") => self.every_split = true,
            ("splits", "whole") => self.every_split = false,
            _ => return Err(format!("unknown setting {key}: {value}")),
        }
        Ok(())
    }
}

fn odd_bytes(value: &str) -> Result<OddBytes, String> {
    match value {
        "normalize" => Ok(OddBytes::Normalize),
        "reject" => Ok(OddBytes::Reject),
        _ => Err(format!("{value} is neither normalize nor reject")),
    }
}

/// One thing that must be seen, and the line that says so.
#[derive(Clone, Debug)]
pub struct Expected {
    pub line: usize,
    pub event: Event,
}

/// What a run is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Says(String),
    Replies(String),
    /// What is asked, and the last word of the line: what the driver answers.
    Ask {
        question: String,
        verdict: String,
    },
    Client {
        named: String,
        verdict: String,
    },
    Recipient {
        refused: bool,
    },
    Begin {
        refused: Option<String>,
    },
    Commit {
        refused: Option<String>,
        check: Check,
    },
    Abort,
    Tls,
    ShutDown,
    EndLogin,
    TimeOut,
    Close,
}

/// What the message must be; what is not given is not compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Check {
    pub from: Option<String>,
    pub to: Vec<String>,
    pub content: Option<Vec<u8>>,
    pub with: Vec<String>,
    pub without: Vec<String>,
}

pub struct Dialogue {
    pub setting: Setting,
    /// What the client sends up to where it has to wait, one pipelined input each.
    pub stretches: Vec<Vec<u8>>,
    pub expected: Vec<Expected>,
}

impl Dialogue {
    pub fn read(path: &Path) -> Result<Dialogue, String> {
        Dialogue::parse(&std::fs::read_to_string(path).map_err(|error| error.to_string())?)
    }

    pub fn parse(text: &str) -> Result<Dialogue, String> {
        let mut dialogue = Dialogue { setting: Setting::default(), stretches: vec![Vec::new()], expected: Vec::new() };
        let mut check = Check::default();
        for (index, line) in text.lines().enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            dialogue.parse_line(index + 1, line, &mut check).map_err(|wrong| format!("line {}: {wrong}", index + 1))?;
        }
        match check == Check::default() {
            true => Ok(dialogue),
            false => Err(format!("{check:?} belongs to no message")),
        }
    }

    fn parse_line(&mut self, number: usize, line: &str, check: &mut Check) -> Result<(), String> {
        let begun = self.stretches.len() > 1 || !self.expected.is_empty();
        let input = self.stretches.last_mut().expect("there is always one");
        if let Some(text) = line.strip_prefix("C:") {
            input.extend_from_slice(text.strip_prefix(' ').unwrap_or(text).as_bytes());
            input.extend_from_slice(b"\r\n");
        } else if let Some(text) = line.strip_prefix("C| ") {
            input.extend(unescape(text)?);
        } else if let Some(text) = line.strip_prefix("C* ") {
            let (count, text) = text.split_once(' ').ok_or("C* COUNT TEXT")?;
            let count: usize = count.parse().map_err(|_| format!("{count} is no number"))?;
            input.extend(unescape(text)?.repeat(count));
        } else if let Some(text) = line.strip_prefix("S: ") {
            self.expected.push(Expected { line: number, event: Event::Says(text.to_owned()) });
        } else if let Some(code) = line.strip_prefix("S* ") {
            self.expected.push(Expected { line: number, event: Event::Replies(code.to_owned()) });
        } else if let Some(directive) = line.strip_prefix('!') {
            return self.directive(number, directive, check);
        } else {
            if begun || !input.is_empty() {
                return Err("a setting behind the head of the dialogue".into());
            }
            let (key, value) = line.split_once(": ").ok_or("neither C:, S:, ! nor a setting")?;
            self.setting.take(key, value)?;
        }
        Ok(())
    }

    fn directive(&mut self, line: usize, directive: &str, check: &mut Check) -> Result<(), String> {
        let (word, rest) = directive.split_once(' ').unwrap_or((directive, ""));
        let event = match word {
            "from" => {
                check.from = Some(rest.to_owned());
                return Ok(());
            }
            "to" => {
                check.to.push(rest.to_owned());
                return Ok(());
            }
            "with" => {
                check.with.push(rest.to_owned());
                return Ok(());
            }
            "without" => {
                check.without.push(rest.to_owned());
                return Ok(());
            }
            "content" => {
                check.content.get_or_insert_default().extend(unescape(rest)?);
                return Ok(());
            }
            "ask" | "ask-keys" | "ask-proof" => {
                let (question, verdict) = directive.rsplit_once(' ').ok_or("!ask MECHANISM USER PASSWORD VERDICT")?;
                Event::Ask { question: question.to_owned(), verdict: verdict.to_owned() }
            }
            "client" => {
                let (named, verdict) = rest.rsplit_once(' ').ok_or("!client ADDRESS LOGIN VERDICT")?;
                Event::Client { named: named.to_owned(), verdict: verdict.to_owned() }
            }
            "granted" => Event::Recipient { refused: false },
            "over-rate" => Event::Recipient { refused: true },
            "begun" => Event::Begin { refused: None },
            "refused-begin" => Event::Begin { refused: Some(rest.to_owned()) },
            "committed" => Event::Commit { refused: None, check: std::mem::take(check) },
            "refused-commit" => Event::Commit { refused: Some(rest.to_owned()), check: std::mem::take(check) },
            "abort" => Event::Abort,
            "tls" => Event::Tls,
            "shutdown" => Event::ShutDown,
            "end-login" => Event::EndLogin,
            "timeout" => Event::TimeOut,
            "close" => Event::Close,
            _ => return Err(format!("unknown directive !{word}")),
        };
        if matches!(event, Event::Tls | Event::ShutDown | Event::EndLogin | Event::TimeOut) {
            self.stretches.push(Vec::new());
        }
        self.expected.push(Expected { line, event });
        Ok(())
    }

    /// All ways to cut its input.
    pub fn splits(&self) -> Vec<Split> {
        let mut splits = vec![Split::Whole];
        if self.setting.every_split {
            splits.push(Split::Octets);
            for (stretch, input) in self.stretches.iter().enumerate() {
                splits.extend((1..input.len()).map(|at| Split::Cut { stretch, at }));
            }
        }
        splits
    }
}

/// Where reads end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    Whole,
    Octets,
    Cut { stretch: usize, at: usize },
}

impl Split {
    pub fn pieces(self, index: usize, input: &[u8]) -> Vec<&[u8]> {
        match self {
            Split::Octets => input.chunks(1).collect(),
            Split::Cut { stretch, at } if stretch == index => vec![&input[..at], &input[at..]],
            Split::Whole | Split::Cut { .. } => vec![input],
        }
    }
}

/// Octets written with \r \n \t \0 \\ \xNN; other characters stand for themselves.
pub fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut octets = Vec::new();
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        if octet != b'\\' {
            octets.push(octet);
            continue;
        }
        octets.push(match rest.next() {
            Some(b'r') => b'\r',
            Some(b'n') => b'\n',
            Some(b't') => b'\t',
            Some(b'0') => 0,
            Some(b'\\') => b'\\',
            Some(b'x') => {
                let digits = [rest.next().unwrap_or(b'?'), rest.next().unwrap_or(b'?')];
                let digits = std::str::from_utf8(&digits).map_err(|_| "\\x and two digits")?;
                u8::from_str_radix(digits, 16).map_err(|_| format!("\\x{digits}"))?
            }
            other => return Err(format!("unknown escape {other:?}")),
        });
    }
    Ok(octets)
}

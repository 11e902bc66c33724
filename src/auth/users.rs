//! The users file: who may log in, and the hash of each password.
//!
//! ```text
//!  # comments and blank lines are kept
//!  ann:$argon2id$v=19$m=19456,t=2,p=1$<salt>$<output>
//!  bob@other.example:$argon2id$v=19$...:SCRAM-SHA-256$65536:<salt>$<key>:<key>
//! ```
//!
//! UTF-8, one user a line, the name up to the first colon, the hash up to the second. What SCRAM needs may follow
//! ([`Keys`]). Names pass through [`Names::account`] like the ones that
//! clients give, so two lines that name one account are a mistake. Any mistake refuses the whole file: half a list of
//! users is worse than the old one.

use super::hash::{Cost, Hash};
use crate::config;
use crate::policy::UsernameForm;
use crate::sasl::{Keys, USER_BYTES_MAX, prepare};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

/// Which names are accepted and which of them are the same account; from the configuration.
#[derive(Clone, Debug)]
pub struct Names {
    /// `username_form`.
    pub form: UsernameForm,
    /// The configured domain.
    pub domain: Option<String>,
}

/// One user of the file.
#[derive(Debug)]
pub struct Entry {
    /// Line number, from 1.
    pub line: usize,
    /// The account's canonical name.
    pub name: String,
    /// The hash of the password.
    pub hash: Hash,
    /// What SCRAM needs, if it is kept.
    pub scram: Option<Keys>,
}

/// What is wrong with a line of the file, for people.
#[derive(Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Line number, from 1.
    pub line: usize,
    /// What is wrong with it and how to mend it.
    pub what: String,
}

/// A snapshot of the file: constant, shared by all threads, replaced as a whole.
#[derive(Debug)]
pub struct Users {
    generation: u64,
    accounts: HashMap<Arc<str>, Account>,
    dummy: Hash,
    /// What stands behind the @ in some account's name, lower case.
    domains: HashSet<String>,
    /// How many have SCRAM keys.
    with_keys: usize,
    /// What those look like, each with how many look like it or stand before it, in rising order.
    shapes: Vec<(Shape, usize)>,
}

#[derive(Debug)]
struct Account {
    hash: Hash,
    scram: Option<Keys>,
}

impl Names {
    /// As configured.
    pub fn new(config: &config::Auth) -> Names {
        Names { form: config.username_form, domain: config.domain.clone() }
    }

    /// As configured, or, where nobody logs in here, as a proxy's users are named.
    pub fn of(config: Option<&config::Auth>) -> Names {
        config.map_or(Names { form: UsernameForm::Either, domain: None }, Names::new)
    }

    /// The one name of the account that `name` names: prepared (RFC 4013), lower case, in the configured form. Errors:
    /// why it is no name, for people.
    pub fn account(&self, name: &str) -> Result<String, &'static str> {
        let prepared = prepare(name).ok_or("control characters and the like cannot be part of a user name")?;
        let account = self.form.canonical(&prepared, self.domain.as_deref()).ok_or(match self.form {
            UsernameForm::RequireDomain => "a user name must have the form user@domain here",
            _ => "a user name must have the form user or user@domain",
        })?;
        // Lower case may have left a sequence that preparation composes.
        let account = prepare(&account).ok_or("the lower case of this name cannot be a user name")?;
        if account.len() > USER_BYTES_MAX {
            return Err("a user name, with its domain, has at most 255 octets");
        }
        if account.contains(|c: char| c == ':' || c.is_whitespace()) || account.starts_with('#') {
            return Err("a user name has no colon and no white space in it, and no # in front");
        }
        Ok(account)
    }
}

/// Reads the text of a users file. Errors: the first mistake.
pub fn parse(text: &[u8], names: &Names) -> Result<Vec<Entry>, Mistake> {
    let mut entries = Vec::new();
    for entry in lines(text, names) {
        entries.push(entry?);
    }
    Ok(entries)
}

/// The lines of a users file that name a user, each with its mistake if it has one.
pub fn lines(text: &[u8], names: &Names) -> impl Iterator<Item = Result<Entry, Mistake>> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    (1..).zip(text.split(|&octet| octet == b'\n')).filter_map(move |(number, line)| {
        let mistake = |what: String| Mistake { line: number, what };
        let line = match std::str::from_utf8(line) {
            Ok(line) => line.trim(),
            Err(_) => return Some(Err(mistake("not UTF-8".into()))),
        };
        if line.is_empty() || line.starts_with('#') {
            return None;
        }
        let entry = parse_line(number, line, names).map_err(mistake);
        Some(entry.and_then(|entry| match seen.insert(entry.name.clone(), number) {
            Some(first) => Err(mistake(format!("the account \"{}\" is already in line {first}", entry.name))),
            None => Ok(entry),
        }))
    })
}

fn parse_line(line: usize, text: &str, names: &Names) -> Result<Entry, String> {
    let (name, secrets) = text.split_once(':').ok_or("expected name:hash, found no colon")?;
    let (hash, scram) = secrets.split_once(':').map_or((secrets, None), |(hash, scram)| (hash, Some(scram)));
    let name = names.account(name).map_err(|what| format!("\"{}\": {what}", name.escape_debug()))?;
    let hash = Hash::parse(hash).map_err(|what| format!("user \"{name}\": {what}"))?;
    let scram = scram.map(Keys::parse).transpose().map_err(|what| format!("user \"{name}\": {what}"))?;
    Ok(Entry { line, name, hash, scram })
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

/// What a client sees of somebody's SCRAM keys before anything is proved, but for the salt itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shape {
    /// Iterations.
    pub iterations: u32,
    /// Octets of the salt: keys that another server made may have longer or shorter ones than ours.
    pub salt_bytes: usize,
}

impl Users {
    /// The snapshot number `generation`. Errors: no random numbers for the dummy hash.
    pub fn new(entries: Vec<Entry>, generation: u64) -> Result<Users, String> {
        let dummy = Hash::unmatchable(usual_cost(&entries))?;
        let shapes = shapes(&entries);
        let with_keys = entries.iter().filter(|entry| entry.scram.is_some()).count();
        let domain = |entry: &Entry| entry.name.split_once('@').map(|(_, domain)| domain.to_owned());
        let domains = entries.iter().filter_map(domain).collect();
        let account = |entry: Entry| (entry.name.into(), Account { hash: entry.hash, scram: entry.scram });
        let accounts = entries.into_iter().map(account).collect();
        Ok(Users { generation, accounts, dummy, domains, with_keys, shapes })
    }

    /// Which snapshot this is. No two of a process have the same.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// How many users there are.
    pub fn count(&self) -> usize {
        self.accounts.len()
    }

    /// The shared name of the account `name`, if there is one.
    pub fn name(&self, name: &str) -> Option<Arc<str>> {
        self.accounts.get_key_value(name).map(|(name, _)| name.clone())
    }

    /// Changes whenever the account's password is set, be it to the same one. 0 if there is no such account.
    pub fn stamp(&self, name: &str) -> u64 {
        self.accounts.get(name).map_or(0, |account| account.hash.stamp())
    }

    /// The domains of the accounts, lower case.
    pub fn domains(&self) -> impl Iterator<Item = &str> {
        self.domains.iter().map(String::as_str)
    }

    /// Has some account this domain, which is lower case?
    pub fn has_domain(&self, domain: &str) -> bool {
        self.domains.contains(domain)
    }

    /// The hash to check a password of the account `name` against. For an unknown one a hash that nothing matches and
    /// that costs what most users' hashes cost: how long the answer takes does not tell who exists.
    pub fn hash(&self, name: &str) -> &Hash {
        self.accounts.get(name).map_or(&self.dummy, |account| &account.hash)
    }

    /// What SCRAM needs for the account `name`, if there is such an account and it has that.
    pub fn scram(&self, name: &str) -> Option<&Keys> {
        self.accounts.get(name)?.scram.as_ref()
    }

    /// Can every user log in by SCRAM? Not if there is none.
    pub fn all_have_keys(&self) -> bool {
        self.with_keys == self.accounts.len() && self.with_keys > 0
    }

    /// Has anybody keys?
    pub fn have_keys(&self) -> bool {
        self.with_keys > 0
    }

    /// How many cannot log in by SCRAM, and the first of them by name.
    pub fn lacks_keys(&self) -> Option<(usize, Arc<str>)> {
        let without = self.accounts.iter().filter(|(_, account)| account.scram.is_none()).map(|(name, _)| name);
        Some((self.accounts.len() - self.with_keys, without.min()?.clone()))
    }

    /// What the keys of an unknown user are to look like, if any have keys: `draw`, a number out of all, takes one of
    /// theirs, each as often as it is in use, so that none tells who exists. It stays, for nearly all, when a user is added.
    pub fn made_up_shape(&self, draw: u64) -> Option<Shape> {
        let nth = ((u128::from(draw) * self.with_keys as u128) >> 64) as u64;
        self.shapes.iter().find(|(_, up_to)| nth < *up_to as u64).map(|(shape, _)| *shape)
    }
}

/// The cost that most entries have; of two equally frequent ones the higher.
fn usual_cost(entries: &[Entry]) -> Cost {
    let mut counts: HashMap<Cost, usize> = HashMap::new();
    for entry in entries {
        *counts.entry(entry.hash.cost()).or_default() += 1;
    }
    let rank = |(cost, count): &(Cost, usize)| (*count, u64::from(cost.memory_kib) * u64::from(cost.passes));
    counts.into_iter().max_by_key(rank).map_or(Cost::default(), |(cost, _)| cost)
}

/// The shapes in use, each with how many keys have it or one before it, in rising order.
fn shapes(entries: &[Entry]) -> Vec<(Shape, usize)> {
    let mut counts: BTreeMap<Shape, usize> = BTreeMap::new();
    for keys in entries.iter().filter_map(|entry| entry.scram.as_ref()) {
        *counts.entry(Shape { iterations: keys.iterations, salt_bytes: keys.salt.len() }).or_default() += 1;
    }
    let mut up_to = 0;
    let sum = |(shape, count)| {
        up_to += count;
        (shape, up_to)
    };
    counts.into_iter().map(sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::hash;

    const NAMES: fn(UsernameForm) -> Names = |form| Names { form, domain: Some("home.example".into()) };

    fn phc(memory_kib: u32) -> String {
        hash::create(b"password", Cost { memory_kib, passes: 1, lanes: 1 }).expect("hash")
    }

    #[test]
    fn comments_blank_lines_and_users() {
        let hash = phc(8);
        let text = format!("# users\n\n  \r\nAnn:{hash}\r\n\t# Bob\nbob@Other.Example:{hash}  \n j\u{F6}rg:{hash}");
        let entries = parse(text.as_bytes(), &NAMES(UsernameForm::Either)).expect("users");
        let read: Vec<_> = entries.iter().map(|entry| (entry.line, entry.name.as_str())).collect();
        assert_eq!(read, [(4, "ann"), (6, "bob@other.example"), (7, "j\u{F6}rg")]);
        assert!(parse(b"", &NAMES(UsernameForm::Either)).expect("no users").is_empty());
    }

    #[test]
    fn entries_pass_through_the_same_form_as_clients() {
        for (form, given, account) in [
            (UsernameForm::Either, "Ann@Home.Example", "ann"),
            (UsernameForm::AppendDomain, "Ann", "ann@home.example"),
            (UsernameForm::RequireDomain, "Ann@home.example", "ann@home.example"),
        ] {
            let text = format!("{given}:{}\n", phc(8));
            assert_eq!(parse(text.as_bytes(), &NAMES(form)).expect("users")[0].name, account, "{form:?}");
        }
    }

    #[test]
    fn mistakes_name_their_line() {
        let hash = phc(8);
        let long = "u".repeat(256);
        for (lines, line, part) in [
            (format!("ann:{hash}\nbob\n"), 2, "no colon"),
            (format!(":{hash}"), 1, "user or user@domain"),
            (format!("ann b:{hash}"), 1, "no white space"),
            (format!("a\u{1}b:{hash}"), 1, "control characters"),
            (format!("ann:{hash}\n\n#\nANN@home.example:{hash}\n"), 4, "already in line 1"),
            ("ann:$2b$12$abcdefghijklmnopqrstuu".into(), 1, "bcrypt"),
            ("\nann:$argon2id$v=19$m=9999999,t=1,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA".into(), 2, "too high"),
            ("ann:".into(), 1, "user \"ann\": the hash is nothing known"),
            (format!("{long}:{hash}"), 1, "255 octets"),
        ] {
            let mistake = parse(lines.as_bytes(), &NAMES(UsernameForm::Either)).expect_err(part);
            assert!(mistake.line == line && mistake.what.contains(part), "{lines}: {mistake}");
        }
        let mistake = parse(b"#\n\xff\n", &NAMES(UsernameForm::Either)).expect_err("not UTF-8");
        assert_eq!(mistake, Mistake { line: 2, what: "not UTF-8".into() });
        let bare = format!("ann:{hash}");
        let mistake = parse(bare.as_bytes(), &NAMES(UsernameForm::RequireDomain)).expect_err("bare name");
        assert!(mistake.what.contains("user@domain"), "{mistake}");
    }

    #[test]
    fn scram_keys_may_stand_behind_the_hash() {
        let keys = |iterations| Keys::derive("password", b"0123456789abcdef", iterations);
        let (hash, few, many) = (phc(8), keys(4096).print(), keys(8192).print());
        let text = format!("a:{hash}\nb:{hash}:{}\nc:{hash}:{}  \nd:{hash}:{}\n", *few, *many, *many);
        let entries = parse(text.as_bytes(), &NAMES(UsernameForm::Either)).expect("users");
        let users = Users::new(entries, 1).expect("snapshot");
        assert_eq!((users.scram("a"), users.scram("nobody")), (None, None));
        assert_eq!(users.scram("b"), Some(&keys(4096)));
        assert!(!users.all_have_keys());
        let drawn: Vec<_> = (0..8).map(|draw| users.made_up_shape(draw << 61)).collect();
        let shape = |iterations| Some(Shape { iterations, salt_bytes: 16 });
        let expected = [4096, 4096, 4096, 8192, 8192, 8192, 8192, 8192].map(shape);
        assert_eq!(drawn, expected, "as often as they are in use");
        assert_eq!(Users::new(Vec::new(), 1).expect("snapshot").made_up_shape(7), None);
        let of =
            |text: &str| parse(text.as_bytes(), &NAMES(UsernameForm::Either)).map(|entries| Users::new(entries, 1));
        assert!(of(&format!("b:{hash}:{}", *few)).expect("users").expect("snapshot").all_have_keys());
        assert!(!of("").expect("users").expect("snapshot").all_have_keys());
        let mistake = of(&format!("\nb:{hash}:{}x", *few)).expect_err("damaged");
        assert_eq!((mistake.line, mistake.what.contains("user \"b\": the second key")), (2, true), "{mistake}");
        assert!(!mistake.what.contains(&few[30..40]), "{mistake}");
    }

    /// Else a count that changes when somebody else gets a password would tell that nobody has this name.
    // covers: 10.10
    #[test]
    fn a_made_up_count_stays_when_a_user_is_added() {
        let users = |few: usize, many: usize| {
            let shape = |iterations| Shape { iterations, salt_bytes: 16 };
            let (with_keys, shapes) = (few + many, vec![(shape(4096), few), (shape(8192), few + many)]);
            Users { with_keys, shapes, ..Users::new(Vec::new(), 1).expect("snapshot") }
        };
        let (before, after) = (users(300, 700), users(300, 701));
        let draws = (0..1000u64).map(|number| number << 54 | number);
        let changed = draws.filter(|draw| before.made_up_shape(*draw) != after.made_up_shape(*draw));
        assert!(changed.count() < 5);
    }

    #[test]
    fn names_that_are_none() {
        let names = NAMES(UsernameForm::Either);
        for name in ["", "a:b", "a b", "a\u{A0}b", "a\tb", "#ann", "\u{F8FF}", "a@b@c", "@home.example"] {
            assert!(names.account(name).is_err(), "{name:?}");
        }
        let most = "u".repeat(242);
        assert!(NAMES(UsernameForm::AppendDomain).account(&most).is_ok(), "255 octets with @home.example");
        assert!(NAMES(UsernameForm::AppendDomain).account(&format!("{most}u")).is_err());
        assert_eq!(
            names.account("\u{130}\u{301}x").map(|name| names.account(&name)),
            Ok(names.account("\u{130}\u{301}x"))
        );
    }

    #[test]
    fn an_unknown_user_costs_what_most_users_cost() {
        let text = format!("a:{}\nb:{}\nc:{}\n", phc(64), phc(16), phc(16));
        let entries = parse(text.as_bytes(), &NAMES(UsernameForm::Either)).expect("users");
        let users = Users::new(entries, 7).expect("snapshot");
        assert_eq!((users.generation(), users.count()), (7, 3));
        assert_eq!(users.hash("nobody").cost(), users.hash("b").cost());
        assert_ne!(users.hash("nobody").cost(), users.hash("a").cost());
        assert_eq!((users.name("nobody"), users.name("a").as_deref()), (None, Some("a")));
        let text = format!("a:{}\nb:{}\nc:{}\nd:{}\n", phc(64), phc(16), phc(64), phc(16));
        let users = parse(text.as_bytes(), &NAMES(UsernameForm::Either)).map(|entries| Users::new(entries, 1));
        let users = users.expect("users").expect("snapshot");
        assert_eq!(users.hash("nobody").cost(), users.hash("a").cost(), "the higher of two equally frequent ones");
        let nobody = Users::new(Vec::new(), 1).expect("snapshot");
        assert_eq!(nobody.hash("a").cost(), Cost::default());
    }
}

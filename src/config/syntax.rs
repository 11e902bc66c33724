//! What is no TOML, in the words of an operator: one mistake a line, because the parser, once astray, finds one behind each
//! character, with the value as it should be written where that can be told; and a section that must be in double brackets is named where it is not, rather than where it is.

use super::keys::{self, Key, Kind};
use super::notice::Notices;
use std::ops::Range;
use std::path::Path;
use std::string::FromUtf8Error;
use toml::de::Error;

/// Notes the parser's `errors` in `text`, of which there is at least one.
pub fn note(text: &str, errors: &[Error], notices: &mut Notices) {
    let singles = singles(text);
    for (at, title) in &singles {
        notices.mistake(at, format!("[{title}] is in single brackets"), format!("write it as [[{title}]]"));
    }
    let mut last = None;
    for error in errors {
        let at = error.span().unwrap_or(0..0);
        let line = notices.line(at.start);
        let section = text.lines().take(line).filter_map(head).last();
        let follows = error.message() == "duplicate key"
            && singles.iter().any(|(_, single)| section.is_some_and(|title| title == *single));
        if last.replace(line) != Some(line) && !follows {
            let (what, remedy) = words(text, error.message(), &at, line);
            notices.mistake(&at, what, remedy);
        }
    }
}

/// A file with an octet that no UTF-8 has: most often a letter as Latin-1 has it.
pub fn not_utf8(error: &FromUtf8Error, file: &Path) -> Notices {
    let legal = error.utf8_error().valid_up_to();
    let text = String::from_utf8_lossy(&error.as_bytes()[..legal]);
    let mut notices = Notices::new(file, &text);
    let what = format!("this line is not UTF-8: it has the octet 0x{:02x}", error.as_bytes()[legal]);
    notices.mistake(&(legal..legal), what, "save the file as UTF-8");
    notices
}

/// What is wrong in `line`, counted from 1, and how to mend it, as far as its text tells.
fn words(text: &str, message: &str, at: &Range<usize>, line: usize) -> (String, String) {
    let whole = text.lines().nth(line - 1).unwrap_or_default();
    let title = head(whole);
    let given = title.or_else(|| text.get(at.clone())).unwrap_or_default().trim();
    if message == "duplicate key" && !given.is_empty() {
        let first = match title {
            Some(title) => text.lines().take(line - 1).position(|other| head(other) == Some(title)),
            None => first_of(text, line, given),
        };
        let there = first.map_or(String::new(), |first| format!(" in line {} already", first + 1));
        let (name, remedy) = match title {
            Some(title) => (format!("[{title}]"), "write all its keys under one of the two"),
            None => (given.to_owned(), "remove one of the two"),
        };
        return (format!("no valid TOML: duplicate key: {name} stands{there}"), remedy.to_owned());
    }
    let remedy = match unquoted(whole) {
        Some((name, value)) => {
            let section = text.lines().take(line).filter_map(head).last().unwrap_or_default();
            written(keys::find(section, name), name, value)
        }
        None => "see https://toml.io for the notation".to_owned(),
    };
    (format!("no valid TOML: {message}"), remedy)
}

/// As a value of its kind is written; of a key that nobody knows, as a string.
fn written(key: Option<&Key>, name: &str, value: &str) -> String {
    match key.map(|key| (&key.kind, key.example)) {
        Some((Kind::Flag, _)) => match value.to_lowercase().as_str() {
            "yes" | "on" | "y" | "1" | "true" => format!("write {name} = true"),
            "no" | "off" | "n" | "0" | "false" => format!("write {name} = false"),
            _ => format!("write {name} = true or {name} = false"),
        },
        Some((Kind::Count { .. }, example)) => {
            format!("write a whole number alone, for example {name} = {example}; its unit is in the name of the key")
        }
        Some((Kind::List, example)) => format!("write for example {name} = {example}"),
        _ => format!("write {name} = \"{value}\""),
    }
}

/// The line, counted from 0, in which `key` stands first in the section of `line`.
fn first_of(text: &str, line: usize, key: &str) -> Option<usize> {
    let before: Vec<&str> = text.lines().take(line - 1).collect();
    let start = before.iter().rposition(|other| head(other).is_some()).map_or(0, |at| at + 1);
    let is_it = |other: &&str| other.split_once('=').is_some_and(|(name, _)| name.trim() == key);
    before[start..].iter().position(is_it).map(|at| start + at)
}

/// Key and value of a line whose value has no quotes, or those of a word processor.
fn unquoted(line: &str) -> Option<(&str, &str)> {
    const CURLY: [char; 9] =
        ['\u{201c}', '\u{201d}', '\u{201e}', '\u{201f}', '\u{2018}', '\u{2019}', '\u{201a}', '\u{ab}', '\u{bb}'];
    let (key, value) = line.split_once('=')?;
    let (key, value) = (key.trim(), value.split('#').next()?.trim());
    let plain = value.trim_matches(CURLY);
    let is_key = !key.is_empty() && key.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'_');
    let begins = plain.starts_with(|first: char| first.is_alphanumeric() || "/.[:*".contains(first));
    let is_list = plain.starts_with('[') && !plain.starts_with("[:") && !plain.contains("]:");
    (is_key && begins && !is_list && !plain.contains(['"', '\'', '\\', ','])).then_some((key, plain))
}

/// Heads in single brackets of sections that stand in double ones, each with its place.
fn singles(text: &str) -> Vec<(Range<usize>, &str)> {
    let mut start = 0;
    let mut found = Vec::new();
    for line in text.split_inclusive('\n') {
        if let Some(title) = head(line).filter(|title| !line.trim_start().starts_with("[[") && is_listed(title)) {
            found.push((start..start + line.len(), title));
        }
        start += line.len();
    }
    found
}

/// The section that `line` is the head of, in single or in double brackets.
fn head(line: &str) -> Option<&str> {
    let line = line.split('#').next()?.trim();
    Some(line.strip_prefix('[')?.strip_suffix(']')?.trim_matches(['[', ']', ' ']))
}

/// Is it one of those that there may be several of?
fn is_listed(title: &str) -> bool {
    let (section, name) = title.rsplit_once('.').unwrap_or(("", title));
    keys::find(section, name).is_some_and(|key| matches!(key.kind, Kind::Tables))
}

//! What is no TOML, in the words of an operator: one mistake a line, because the parser, once astray, finds one behind each
//! character; and a section that must be in double brackets is named where it is not, rather than where it is.

use super::keys::{self, Kind};
use super::notice::Notices;
use std::ops::Range;
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
            notices.mistake(&at, format!("no valid TOML: {}", error.message()), "see https://toml.io for the notation");
        }
    }
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

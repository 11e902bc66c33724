//! One section of the file, held against the table of keys.
//!
//! Reading a section reports its unknown keys, its values of a wrong type or out of range, and its missing keys. What
//! comes out is a [`Section`] whose values have the type that the table says, so the getters cannot fail. A value that
//! was refused counts as not given: the rest of the file is still read, and all mistakes are reported in one go.

use super::keys::{self, Key, Kind};
use super::notice::{Notices, nearest};
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A section whose values have the types of the table of keys.
pub struct Section<'i> {
    name: &'static str,
    /// Where the section's head stands.
    span: Range<usize>,
    values: Vec<(&'static Key, &'i Spanned<DeValue<'i>>)>,
    /// Was any of its values refused?
    flawed: bool,
    /// Keys of the table that were probably meant by what was refused.
    meant: Vec<&'static str>,
}

impl<'i> Section<'i> {
    /// A section that is not in the file; `span` is where its absence is noted.
    pub fn absent(name: &'static str, span: Range<usize>) -> Section<'i> {
        Section { name, span, values: Vec::new(), flawed: false, meant: Vec::new() }
    }

    /// Holds `table` against the keys of the section `name`.
    pub fn read(name: &'static str, table: &'i DeTable<'i>, span: Range<usize>, notices: &mut Notices) -> Section<'i> {
        let mut section = Section::absent(name, span);
        for (given, value) in table.iter() {
            match keys::find(name, given.get_ref()) {
                None => {
                    section.flawed = true;
                    section.unknown(given, notices);
                }
                Some(key) => match misfit(key, value.get_ref()) {
                    None => section.values.push((key, value)),
                    Some((what, remedy)) => {
                        section.flawed = true;
                        section.meant.push(key.name);
                        notices.mistake(&value.span(), what, remedy);
                    }
                },
            }
        }
        let missing = |key: &&Key| key.required && !table.contains_key(key.name) && !section.meant.contains(&key.name);
        for key in keys::of(name).filter(missing) {
            let remedy = match key.kind {
                Kind::Table | Kind::Tables => format!("add {} to the file", key.example),
                _ => format!("add {} = {}", key.name, key.example),
            };
            notices.mistake(&section.span, format!("{} has no {}", section.title(), key.name), remedy);
        }
        section
    }

    /// The section as an operator writes it.
    pub fn title(&self) -> String {
        title(self.name)
    }

    /// Was a key unknown or a value refused? Then what seems to be missing may only be misspelt.
    pub fn is_flawed(&self) -> bool {
        self.flawed
    }

    /// Was `name` probably meant by something that was refused? Then nothing can be said about its absence.
    pub fn has_flawed(&self, name: &str) -> bool {
        self.meant.contains(&name)
    }

    /// Where the section's head stands.
    pub fn head(&self) -> Range<usize> {
        self.span.clone()
    }

    /// Where the value of `name` stands, or the section's head if it is not given.
    pub fn at(&self, name: &str) -> Range<usize> {
        self.value(name).map_or(self.span.clone(), Spanned::span)
    }

    /// Was a value that fits the table given?
    pub fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    /// A string.
    pub fn text(&self, name: &str) -> Option<&'i str> {
        self.value(name)?.get_ref().as_str()
    }

    /// A flag; false if not given.
    pub fn flag(&self, name: &str) -> bool {
        self.value(name).and_then(|value| value.get_ref().as_bool()).unwrap_or(false)
    }

    /// A number, or its default.
    pub fn count(&self, name: &str) -> u64 {
        let key = keys::find(self.name, name).expect("a key of the table");
        let Kind::Count { default, .. } = key.kind else { panic!("{name} is no count") };
        self.value(name)
            .and_then(|value| integer(value.get_ref()))
            .and_then(|n| u64::try_from(n).ok())
            .unwrap_or(default)
    }

    /// The strings of an array with their places, or the one string; none if not given.
    pub fn list(&self, name: &str) -> Vec<(&'i str, Range<usize>)> {
        if let Some(text) = self.text(name) {
            return vec![(text, self.at(name))];
        }
        let Some(array) = self.value(name).and_then(|value| value.get_ref().as_array()) else { return Vec::new() };
        array.iter().filter_map(|item| Some((item.get_ref().as_str()?, item.span()))).collect()
    }

    /// The table `[name]` in this section.
    pub fn table(&self, name: &str) -> Option<(&'i DeTable<'i>, Range<usize>)> {
        let value = self.value(name)?;
        Some((value.get_ref().as_table()?, value.span()))
    }

    /// The tables `[[name]]` in this section.
    pub fn tables(&self, name: &str) -> Vec<(&'i DeTable<'i>, Range<usize>)> {
        let Some(array) = self.value(name).and_then(|value| value.get_ref().as_array()) else { return Vec::new() };
        array.iter().filter_map(|item| Some((item.get_ref().as_table()?, item.span()))).collect()
    }

    fn value(&self, name: &str) -> Option<&'i Spanned<DeValue<'i>>> {
        assert!(keys::find(self.name, name).is_some(), "{name} is in no row of {}", self.title());
        self.values.iter().find(|(key, _)| key.name == name).map(|(_, value)| *value)
    }

    fn unknown(&mut self, given: &Spanned<std::borrow::Cow<'i, str>>, notices: &mut Notices) {
        let name = given.get_ref();
        let elsewhere = || keys::SECTIONS.iter().find(|section| keys::find(section, name).is_some());
        let meant = nearest(name, keys::of(self.name).map(|key| key.name));
        self.meant.extend(meant);
        let remedy = match (meant, elsewhere()) {
            (Some(known), _) => format!("did you mean \"{known}\"?"),
            (None, Some(section)) => format!("it belongs to {}", title(section)),
            (None, None) => {
                let known: Vec<&str> = keys::of(self.name).map(|key| key.name).collect();
                format!("remove it; known here: {}", known.join(", "))
            }
        };
        notices.mistake(&given.span(), format!("unknown key \"{name}\" in {}", self.title()), remedy);
    }
}

fn title(section: &str) -> String {
    match section {
        "" => "the top of the file".to_owned(),
        "listener" | "relay.route" | "tls.additional" => format!("[[{section}]]"),
        _ => format!("[{section}]"),
    }
}

/// What is wrong with `value` as the value of `key`, and how to mend it.
fn misfit(key: &Key, value: &DeValue<'_>) -> Option<(String, String)> {
    let strings =
        |value: &DeValue<'_>| value.as_array().is_some_and(|array| array.iter().all(|item| item.get_ref().is_str()));
    let tables =
        |value: &DeValue<'_>| value.as_array().is_some_and(|array| array.iter().all(|item| item.get_ref().is_table()));
    let wanted = match key.kind {
        Kind::Text | Kind::Texts if value.is_str() => return None,
        Kind::Flag if value.is_bool() => return None,
        Kind::List | Kind::Texts if strings(value) => return None,
        Kind::Table if value.is_table() => return None,
        Kind::Tables if tables(value) => return None,
        Kind::Choice(known) if value.is_str() => return not_among(key, known, value.as_str().unwrap_or_default()),
        Kind::Count { unit, min, max, .. } if value.is_integer() => return out_of_range(key, unit, min, max, value),
        Kind::Text | Kind::Choice(_) => "a string in quotes",
        Kind::Flag => "true or false",
        Kind::List => "an array of strings",
        Kind::Texts => "a string or an array of strings",
        Kind::Count { .. } => "a whole number without quotes",
        Kind::Table => "a section",
        Kind::Tables => "a section in double brackets",
    };
    let remedy = match key.kind {
        Kind::Table | Kind::Tables => format!("write it as {}", key.example),
        // Where the default has no number, its example is none that may be written.
        Kind::Count { min, default, .. } if default < min => format!("write for example {} = {min}", key.name),
        _ => format!("write for example {} = {}", key.name, key.example),
    };
    Some((format!("{} must be {wanted}, and this is of type {}", key.name, value.type_str()), remedy))
}

fn not_among(key: &Key, known: &[&str], given: &str) -> Option<(String, String)> {
    if known.contains(&given) {
        return None;
    }
    let what = format!("\"{given}\" is no {}", key.name);
    let remedy = match nearest(given, known.iter().copied()) {
        Some(meant) => format!("did you mean \"{meant}\"?"),
        None => format!("write one of \"{}\"", known.join("\", \"")),
    };
    Some((what, remedy))
}

fn out_of_range(key: &Key, unit: &str, min: u64, max: u64, value: &DeValue<'_>) -> Option<(String, String)> {
    match integer(value) {
        Some(number) if number >= i128::from(min) && number <= i128::from(max) => None,
        _ => {
            let given = value.as_integer().map(|integer| integer.as_str()).unwrap_or_default();
            Some((format!("{} = {given} is out of range", key.name), format!("write {min} to {max} {unit}")))
        }
    }
}

fn integer(value: &DeValue<'_>) -> Option<i128> {
    let integer = value.as_integer()?;
    i128::from_str_radix(integer.as_str(), integer.radix()).ok()
}

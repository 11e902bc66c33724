//! Values of a log line: everything that a terminal would obey, that would end the line, or that would make text look
//! like other text is spelt out; everything else stays as it is.

use super::Format;
use super::characters::{is_dangerous, is_joiner};
use std::fmt::Write;

/// How one value is escaped, and how many of its octets are still taken.
pub struct Escape {
    format: Format,
    left: usize,
    cut: bool,
}

impl Escape {
    /// For a value of at most `bytes_max` octets.
    pub fn new(format: Format, bytes_max: usize) -> Escape {
        Escape { format, left: bytes_max, cut: false }
    }

    /// The format it escapes for.
    pub fn format(&self) -> Format {
        self.format
    }

    /// A writer that appends to `line`.
    pub fn to<'a>(&'a mut self, line: &'a mut String) -> Escaped<'a> {
        Escaped { escape: self, line }
    }
}

/// Appends a value to a line.
pub struct Escaped<'a> {
    escape: &'a mut Escape,
    line: &'a mut String,
}

impl Escaped<'_> {
    /// Octets that need not be UTF-8. Those that are not become `\xHH`, in JSON U+FFFD.
    pub fn octets(&mut self, octets: &[u8]) {
        for chunk in octets.utf8_chunks() {
            self.text(chunk.valid());
            if chunk.invalid().is_empty() || !self.take(chunk.invalid().len()) {
                continue;
            }
            match self.escape.format {
                Format::Json => self.line.push(char::REPLACEMENT_CHARACTER),
                Format::Human => {
                    for octet in chunk.invalid() {
                        let _ = write!(self.line, "\\x{octet:02x}");
                    }
                }
            }
        }
    }

    /// Text: runs that need no escape are copied as they are.
    fn text(&mut self, text: &str) {
        let mut start = 0;
        for (at, character) in text.char_indices() {
            if !self.take(character.len_utf8()) {
                self.line.push_str(&text[start..at]);
                self.mark_cut();
                return;
            }
            if needs_escape(character) {
                self.line.push_str(&text[start..at]);
                self.character(character);
                start = at + character.len_utf8();
            }
        }
        self.line.push_str(&text[start..]);
    }

    fn character(&mut self, character: char) {
        // Writing to a String cannot fail.
        let _ = match (character, self.escape.format) {
            ('"' | '\\', _) => write!(self.line, "\\{character}"),
            ('\n', _) => write!(self.line, "\\n"),
            ('\r', _) => write!(self.line, "\\r"),
            ('\t', _) => write!(self.line, "\\t"),
            (_, Format::Human) => write!(self.line, "\\u{{{:x}}}", u32::from(character)),
            (_, Format::Json) => {
                let mut units = [0; 2];
                character.encode_utf16(&mut units).iter().try_for_each(|unit| write!(self.line, "\\u{unit:04x}"))
            }
        };
    }

    /// Is there room for `bytes` more? Nothing is taken after the first that did not fit.
    fn take(&mut self, bytes: usize) -> bool {
        if self.escape.cut || bytes > self.escape.left {
            self.mark_cut();
            return false;
        }
        self.escape.left -= bytes;
        true
    }

    fn mark_cut(&mut self) {
        if !self.escape.cut {
            self.escape.cut = true;
            self.line.push('…');
        }
    }
}

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.text(text);
        Ok(())
    }
}

fn needs_escape(character: char) -> bool {
    match character {
        '"' | '\\' => true,
        ' '..='~' => false,
        // Two names that differ only by a joiner must not look like one.
        _ => is_dangerous(character) || is_joiner(character),
    }
}

/// May an escaped value of a line for people stand without quotes?
pub fn is_plain(value: &str) -> bool {
    !value.is_empty() && !value.bytes().any(|octet| matches!(octet, b' ' | b'"' | b'\\' | b'='))
}

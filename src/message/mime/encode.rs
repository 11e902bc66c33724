//! Quoted-printable and base64, fed line by line. RFC 2045 sections 6.7 and 6.8.
//!
//! The CRLF before a boundary belongs to the boundary (RFC 2046 section 5.1.1): base64 must not encode it. Whether a line
//! is followed by one shows only with the next line.

use super::Encode;
use super::lines::Line;
use base64::prelude::{BASE64_STANDARD, Engine};

/// Octets of a line that is made, without its CRLF.
const LINE_BYTES: usize = 76;
/// Octets that make one line of base64.
const BASE64_BYTES: usize = LINE_BYTES / 4 * 3;
/// White space between a soft line break's `=` and its end that is still taken for one.
const PADDING_MAX: usize = 100;

/// Writes the body of one part.
#[derive(Debug)]
pub enum Encoder {
    /// As it is.
    Keep,
    /// To quoted-printable.
    QuotedPrintable(QuotedPrintable),
    /// To base64.
    Base64(Base64),
    /// Base64 to base64: what is no base64 decodes to nothing and is left out. Holds octets of the line so far.
    Base64Again(usize),
    /// Quoted-printable to quoted-printable.
    QuotedPrintableAgain(Unquote, QuotedPrintable),
}

impl Encoder {
    /// At the start of a part.
    pub fn new(encode: Encode) -> Encoder {
        match encode {
            Encode::Keep => Encoder::Keep,
            Encode::QuotedPrintable => Encoder::QuotedPrintable(QuotedPrintable::default()),
            Encode::Base64 => Encoder::Base64(Base64::default()),
            Encode::Base64Again => Encoder::Base64Again(0),
            Encode::QuotedPrintableAgain => {
                Encoder::QuotedPrintableAgain(Unquote::default(), QuotedPrintable::default())
            }
        }
    }

    /// The next line of the part.
    pub fn line(&mut self, line: &Line, out: &mut Vec<u8>) {
        match self {
            Encoder::Keep => {
                out.extend_from_slice(line.octets);
                out.extend_from_slice(line.end());
            }
            Encoder::QuotedPrintable(text) => text.line(line, out),
            Encoder::Base64(base64) => base64.line(line, out),
            Encoder::Base64Again(column) => base64_again(line.octets, column, out),
            Encoder::QuotedPrintableAgain(unquote, text) => unquote.line(line, text, out),
        }
    }

    /// Behind the last line: at a boundary, or at the end of the content.
    pub fn finish(&mut self, boundary: bool, out: &mut Vec<u8>) {
        match std::mem::replace(self, Encoder::Keep) {
            Encoder::Keep => {}
            Encoder::QuotedPrintable(mut text) => text.finish(out),
            Encoder::Base64(base64) => base64.finish(boundary, out),
            Encoder::Base64Again(0) => {}
            Encoder::Base64Again(_) => out.extend_from_slice(b"\r\n"),
            Encoder::QuotedPrintableAgain(mut unquote, mut text) => {
                unquote.literally(&mut text, out);
                text.finish(out);
            }
        }
    }
}

/// Quoted-printable being written.
#[derive(Debug, Default)]
pub struct QuotedPrintable {
    column: usize,
    /// White space, which may not stand at the end of a line.
    blank: Option<u8>,
}

impl QuotedPrintable {
    fn line(&mut self, line: &Line, out: &mut Vec<u8>) {
        line.octets.iter().for_each(|&octet| self.octet(octet, out));
        if line.ends {
            self.end_line(out);
        }
    }

    fn octet(&mut self, octet: u8, out: &mut Vec<u8>) {
        if let Some(blank) = self.blank.take() {
            self.put(blank, true, out);
        }
        match octet {
            b' ' | b'\t' => self.blank = Some(octet),
            b'!'..=b'<' | b'>'..=b'~' => self.put(octet, true, out),
            _ => self.put(octet, false, out),
        }
    }

    fn put(&mut self, octet: u8, plain: bool, out: &mut Vec<u8>) {
        let length = if plain { 1 } else { 3 };
        if self.column + length >= LINE_BYTES {
            out.extend_from_slice(b"=\r\n");
            self.column = 0;
        }
        // So that no line that is made looks like a boundary.
        if plain && !(self.column == 0 && octet == b'-') {
            out.push(octet);
            self.column += 1;
            return;
        }
        const HEX: &[u8; 16] = b"0123456789ABCDEF";
        out.extend_from_slice(&[b'=', HEX[usize::from(octet >> 4)], HEX[usize::from(octet & 15)]]);
        self.column += 3;
    }

    fn end_line(&mut self, out: &mut Vec<u8>) {
        if let Some(blank) = self.blank.take() {
            self.put(blank, false, out);
        }
        out.extend_from_slice(b"\r\n");
        self.column = 0;
    }

    /// A last line that nothing ended must not decode to one that is ended.
    fn finish(&mut self, out: &mut Vec<u8>) {
        if let Some(blank) = self.blank.take() {
            self.put(blank, false, out);
        }
        if self.column > 0 {
            out.extend_from_slice(b"=\r\n");
        }
    }
}

/// Base64 being written.
#[derive(Debug)]
pub struct Base64 {
    held: [u8; BASE64_BYTES],
    length: usize,
    /// CRLF, if no boundary follows.
    line_end: bool,
}

impl Default for Base64 {
    fn default() -> Base64 {
        Base64 { held: [0; BASE64_BYTES], length: 0, line_end: false }
    }
}

impl Base64 {
    fn line(&mut self, line: &Line, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.line_end, line.ends) {
            self.octets(b"\r\n", out);
        }
        self.octets(line.octets, out);
    }

    fn octets(&mut self, mut octets: &[u8], out: &mut Vec<u8>) {
        while !octets.is_empty() {
            let (some, rest) = octets.split_at(octets.len().min(BASE64_BYTES - self.length));
            self.held[self.length..self.length + some.len()].copy_from_slice(some);
            self.length += some.len();
            octets = rest;
            if self.length == BASE64_BYTES {
                self.write(out);
            }
        }
    }

    fn write(&mut self, out: &mut Vec<u8>) {
        let mut line = [0; LINE_BYTES];
        let written =
            BASE64_STANDARD.encode_slice(&self.held[..self.length], &mut line).expect("57 octets fit into 76");
        out.extend_from_slice(&line[..written]);
        out.extend_from_slice(b"\r\n");
        self.length = 0;
    }

    fn finish(mut self, boundary: bool, out: &mut Vec<u8>) {
        if self.line_end && !boundary {
            self.octets(b"\r\n", out);
        }
        if self.length > 0 {
            self.write(out);
        }
    }
}

fn base64_again(octets: &[u8], column: &mut usize, out: &mut Vec<u8>) {
    for &octet in octets.iter().filter(|octet| octet.is_ascii_alphanumeric() || b"+/=".contains(octet)) {
        out.push(octet);
        *column += 1;
        if *column == LINE_BYTES {
            out.extend_from_slice(b"\r\n");
            *column = 0;
        }
    }
}

/// Quoted-printable being read, as mail programs do: what is not well-formed stands for itself.
#[derive(Debug, Default)]
pub struct Unquote {
    /// `=`, and what came behind it so far: a digit, or white space.
    pending: Vec<u8>,
}

impl Unquote {
    fn line(&mut self, line: &Line, text: &mut QuotedPrintable, out: &mut Vec<u8>) {
        line.octets.iter().for_each(|&octet| self.octet(octet, text, out));
        if !line.ends {
            return;
        }
        if self.pending.first() == Some(&b'=') && self.pending[1..].iter().all(u8::is_ascii_whitespace) {
            // A soft line break.
            self.pending.clear();
            return;
        }
        self.literally(text, out);
        text.end_line(out);
    }

    fn octet(&mut self, octet: u8, text: &mut QuotedPrintable, out: &mut Vec<u8>) {
        let digit = |octet: u8| char::from(octet).to_digit(16).map(|digit| digit as u8);
        match (&self.pending[..], digit(octet)) {
            ([], _) if octet == b'=' => self.pending.push(octet),
            ([], _) => text.octet(octet, out),
            ([b'='], Some(_)) => self.pending.push(octet),
            ([b'=', high], Some(low)) if high.is_ascii_hexdigit() => {
                let high = digit(*high).unwrap_or_default();
                self.pending.clear();
                text.octet(high << 4 | low, out);
            }
            ([b'=', blanks @ ..], _)
                if matches!(octet, b' ' | b'\t')
                    && blanks.len() < PADDING_MAX
                    && blanks.iter().all(u8::is_ascii_whitespace) =>
            {
                self.pending.push(octet);
            }
            _ => {
                self.literally(text, out);
                self.octet(octet, text, out);
            }
        }
    }

    fn literally(&mut self, text: &mut QuotedPrintable, out: &mut Vec<u8>) {
        for octet in std::mem::take(&mut self.pending) {
            text.octet(octet, out);
        }
    }
}

//! Which message a report is about, in words that its sender knows: header fields as they are shown to people.

use super::one_line;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Longest value shown, in characters.
const SHOWN_MAX: usize = 150;
/// Longest value looked at, in octets.
const READ_BYTES_MAX: usize = 4096;

/// The first field `name` of `message`, unfolded, encoded words (RFC 2047) read, on one line and bounded; none if it is not
/// there or empty.
pub fn shown(message: &[u8], name: &str) -> Option<String> {
    let mut lines = message.split_inclusive(|&octet| octet == b'\n').take_while(|line| !line.trim_ascii().is_empty());
    let value = lines.by_ref().find_map(|line| value_of(line, name))?;
    let mut unfolded = value.trim_ascii().to_vec();
    for line in lines.take_while(|line| line.starts_with(b" ") || line.starts_with(b"\t")) {
        unfolded.push(b' ');
        unfolded.extend_from_slice(line.trim_ascii());
    }
    unfolded.truncate(READ_BYTES_MAX);
    let text = one_line(&decoded(&String::from_utf8_lossy(&unfolded)));
    let text = text.trim();
    let mut bounded: String = text.chars().take(SHOWN_MAX).collect();
    if bounded.len() < text.len() {
        bounded.push_str("...");
    }
    (!bounded.is_empty()).then_some(bounded)
}

fn value_of<'a>(line: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let (head, value) = line.split_at(memchr::memchr(b':', line)?);
    head.trim_ascii_end().eq_ignore_ascii_case(name.as_bytes()).then(|| &value[1..])
}

/// Text with its encoded words read; white space between two of them is none (RFC 2047 section 6.2). What is in another
/// charset than UTF-8, ASCII or Latin-1, or is no encoded word, stays as it is.
fn decoded(text: &str) -> String {
    let mut out = String::new();
    // Of neighbours: one character may be cut in two.
    let mut octets = Vec::new();
    for word in text.split_ascii_whitespace() {
        match encoded_word(word) {
            Some(part) if !octets.is_empty() => octets.extend(part),
            Some(part) => {
                out.push(' ');
                octets = part;
            }
            None => {
                out.push_str(&String::from_utf8_lossy(&std::mem::take(&mut octets)));
                out.push(' ');
                out.push_str(word);
            }
        }
    }
    out.push_str(&String::from_utf8_lossy(&octets));
    out
}

/// The octets of one encoded word, as UTF-8.
fn encoded_word(word: &str) -> Option<Vec<u8>> {
    let mut parts = word.strip_prefix("=?")?.strip_suffix("?=")?.split('?');
    let (charset, encoding, text) = (parts.next()?, parts.next()?, parts.next()?);
    let octets = match encoding {
        "B" | "b" => STANDARD.decode(text).ok()?,
        "Q" | "q" => quoted(text.as_bytes())?,
        _ => return None,
    };
    // RFC 2231 section 5: a language may follow the charset.
    match charset.split('*').next()?.to_ascii_lowercase().as_str() {
        _ if parts.next().is_some() || octets.is_empty() => None,
        "utf-8" | "us-ascii" => Some(octets),
        "iso-8859-1" => Some(octets.into_iter().map(char::from).collect::<String>().into_bytes()),
        _ => None,
    }
}

/// RFC 2047 section 4.2.
fn quoted(text: &[u8]) -> Option<Vec<u8>> {
    let mut octets = Vec::new();
    let mut rest = text;
    while let [first, behind @ ..] = rest {
        rest = behind;
        octets.push(match first {
            b'_' => b' ',
            b'=' => {
                let (digits, behind) = rest.split_at_checked(2)?;
                rest = behind;
                u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?
            }
            other => *other,
        });
    }
    Some(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_unfolded_and_read() {
        for (header, expected) in [
            ("A: b\r\nSUBJECT : Hi\r\n\tthere\r\nB: c\r\n", Some("Hi there")),
            ("Subject:\r\n", None),
            ("A: b\r\n\r\nSubject: of the text\r\n", None),
            ("A: b\r\n Subject: of A\r\n", None),
            ("Subject: =?utf-8?Q?Gr=C3=BC=C3=9Fe_aus?= =?UTF-8?b?IEvDtmxu?=\r\n", Some("Grüße aus Köln")),
            ("Subject: Re: =?iso-8859-1*de?q?Gr=FC=DFe?= an alle\r\n", Some("Re: Grüße an alle")),
            ("Subject: =?utf-8?Q?K=C3?=\r\n =?utf-8?Q?=B6ln?=\r\n", Some("Köln")),
            ("Subject: =?utf-8?Q?=4?= =?x?Q?y?= =?utf-8?X?a?=\r\n", Some("=?utf-8?Q?=4?= =?x?Q?y?= =?utf-8?X?a?=")),
            ("Subject: =?utf-8?Q?a=0D=0AStatus:_2.0.0?=\r\n", Some("a  Status: 2.0.0")),
            (
                "Subject: =?utf-8?Q?a=E2=80=A8b=E2=80=AEc=E2=81=A6d=E2=80=8De?=\r\n",
                Some("a\\u{2028}b\\u{202e}c\\u{2066}d\u{200d}e"),
            ),
        ] {
            assert_eq!(shown(header.as_bytes(), "Subject").as_deref(), expected, "{header}");
        }
        let long = shown(format!("Subject: {}\r\n", "ü".repeat(5000)).as_bytes(), "Subject").expect("a subject");
        assert_eq!(long.chars().count(), SHOWN_MAX + 3);
        assert_eq!(shown(b"Subject: \xff\xfe\r\n", "Subject").as_deref(), Some("\u{fffd}\u{fffd}"));
    }
}

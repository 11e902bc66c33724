//! The two header fields that say what a part is: Content-Type and Content-Transfer-Encoding. RFC 2045 sections 5 and 6.
//!
//! Read as mail programs do: of what is written wrongly, as much as can be made out.

/// What a part is, as far as its encoding is concerned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Media {
    /// text/*, and what says nothing.
    #[default]
    Text,
    /// Anything that is only octets.
    Leaf,
    /// multipart/*
    Multipart,
    /// multipart/signed
    Signed,
    /// multipart/digest: its parts are messages unless they say otherwise. RFC 2046 section 5.1.5.
    Digest,
    /// message/rfc822
    Message,
    /// Other message/*, which must not be encoded. message/global and its kin may be (RFC 6532 section 3.7), and are leaves.
    Composite,
}

/// Content-Transfer-Encoding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// 7bit, and what says nothing.
    #[default]
    SevenBit,
    /// 8bit
    EightBit,
    /// binary
    Binary,
    /// quoted-printable
    QuotedPrintable,
    /// base64
    Base64,
    /// Anything else.
    Unknown,
}

const ENCODINGS: [(Encoding, &str); 5] = [
    (Encoding::SevenBit, "7bit"),
    (Encoding::EightBit, "8bit"),
    (Encoding::Binary, "binary"),
    (Encoding::QuotedPrintable, "quoted-printable"),
    (Encoding::Base64, "base64"),
];

impl Encoding {
    /// Reads a field's value.
    pub fn parse(value: &[u8]) -> Encoding {
        let (token, _) = token(value);
        let known = ENCODINGS.iter().find(|(_, name)| token.eq_ignore_ascii_case(name.as_bytes()));
        known.map_or(Encoding::Unknown, |(encoding, _)| *encoding)
    }

    /// As it is written.
    pub fn name(self) -> &'static str {
        ENCODINGS.iter().find(|(known, _)| *known == self).map_or("binary", |(_, name)| name)
    }

    /// Do the octets stand there as they are?
    pub fn is_identity(self) -> bool {
        matches!(self, Encoding::SevenBit | Encoding::EightBit | Encoding::Binary)
    }
}

/// Content-Type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContentType {
    /// What it is.
    pub media: Media,
    /// Of a multipart; not empty.
    pub boundary: Option<Vec<u8>>,
}

impl ContentType {
    /// Reads a field's value.
    pub fn parse(value: &[u8]) -> ContentType {
        let (kind, rest) = token(value);
        let (subtype, mut rest) = match behind_blanks(rest) {
            [b'/', rest @ ..] => token(rest),
            rest => (&b""[..], rest),
        };
        let mut content_type = ContentType { media: media(kind, subtype), boundary: None };
        while let Some(semicolon) = rest.iter().position(|&octet| octet == b';') {
            let (name, behind) = token(&rest[semicolon + 1..]);
            let [b'=', behind @ ..] = behind_blanks(behind) else {
                rest = behind;
                continue;
            };
            let (value, behind) = parameter_value(behind);
            if name.eq_ignore_ascii_case(b"boundary") && content_type.boundary.is_none() {
                let boundary = value.trim_ascii_end();
                content_type.boundary = (!boundary.is_empty()).then(|| boundary.to_vec());
            }
            rest = behind;
        }
        content_type
    }
}

fn media(kind: &[u8], subtype: &[u8]) -> Media {
    let is = |token: &[u8], name: &str| token.eq_ignore_ascii_case(name.as_bytes());
    let is_global = subtype.get(..6).is_some_and(|start| is(start, "global"));
    match () {
        // A type that cannot be made out is text/plain: RFC 2045 section 5.2.
        () if is(kind, "text") || subtype.is_empty() => Media::Text,
        () if is(kind, "multipart") && is(subtype, "signed") => Media::Signed,
        () if is(kind, "multipart") && is(subtype, "digest") => Media::Digest,
        () if is(kind, "multipart") => Media::Multipart,
        () if is(kind, "message") && is(subtype, "rfc822") => Media::Message,
        () if is(kind, "message") && !is_global => Media::Composite,
        () => Media::Leaf,
    }
}

/// A token, behind white space and comments, and what follows it.
fn token(text: &[u8]) -> (&[u8], &[u8]) {
    let text = behind_blanks(text);
    let end = text.iter().position(|octet| octet.is_ascii_whitespace() || b"()<>@,;:\\\"/[]?=".contains(octet));
    text.split_at(end.unwrap_or(text.len()))
}

/// A token or a quoted string, unquoted, and what follows it. A token may hold what only a quoted string should, but `;`.
fn parameter_value(text: &[u8]) -> (Vec<u8>, &[u8]) {
    let text = behind_blanks(text);
    let [b'"', quoted @ ..] = text else {
        let end = text.iter().position(|octet| octet.is_ascii_whitespace() || b";(".contains(octet));
        let (value, rest) = text.split_at(end.unwrap_or(text.len()));
        return (value.to_vec(), rest);
    };
    let mut value = Vec::new();
    let mut at = 0;
    while let Some(&octet) = quoted.get(at) {
        at += 1;
        match octet {
            b'"' => break,
            b'\\' => {
                value.extend(quoted.get(at));
                at += 1;
            }
            b'\r' | b'\n' => {}
            _ => value.push(octet),
        }
    }
    (value, quoted.get(at..).unwrap_or_default())
}

/// What follows white space and comments, which may be nested. RFC 5322 section 3.2.2.
pub fn behind_blanks(text: &[u8]) -> &[u8] {
    let (mut depth, mut at) = (0usize, 0);
    while let Some(&octet) = text.get(at) {
        match octet {
            b'(' => depth += 1,
            b')' if depth > 0 => depth -= 1,
            b'\\' if depth > 0 => at += 1,
            b' ' | b'\t' | b'\r' | b'\n' => {}
            _ if depth > 0 => {}
            _ => break,
        }
        at += 1;
    }
    text.get(at..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types() {
        for (value, media, boundary) in [
            ("text/plain", Media::Text, None),
            ("", Media::Text, None),
            ("text", Media::Text, None),
            (" image/png; name=\"a;boundary=x\"", Media::Leaf, None),
            ("MultiPart/Mixed; boundary=abc", Media::Multipart, Some("abc")),
            ("multipart/mixed;\r\n\tboundary=\"a b\\\"c\"; x=y", Media::Multipart, Some("a b\"c")),
            ("multipart/signed; micalg=x; boundary=\"=_(1)\"", Media::Signed, Some("=_(1)")),
            ("multipart (a (b)) / (c) digest (;) ; (d) boundary (e) = (f) x (g)", Media::Digest, Some("x")),
            ("multipart/mixed; boundary=----=_Part/1?", Media::Multipart, Some("----=_Part/1?")),
            ("multipart/mixed; ; foo; boundary=a; boundary=b", Media::Multipart, Some("a")),
            ("multipart/mixed; boundary=\"\"", Media::Multipart, None),
            ("multipart/mixed; boundary=\"a  ", Media::Multipart, Some("a")),
            ("multipart/mixed; boundary=\"a\\", Media::Multipart, Some("a")),
            ("message/rfc822", Media::Message, None),
            ("message/global", Media::Leaf, None),
            ("message/global-delivery-status", Media::Leaf, None),
            ("message/partial; id=x", Media::Composite, None),
            ("(", Media::Text, None),
            ("(\\", Media::Text, None),
        ] {
            let boundary = boundary.map(|boundary| boundary.as_bytes().to_vec());
            assert_eq!(ContentType::parse(value.as_bytes()), ContentType { media, boundary }, "{value}");
        }
    }

    #[test]
    fn encodings() {
        for (value, encoding) in [
            (" 7bit", Encoding::SevenBit),
            ("8BIT (really)", Encoding::EightBit),
            ("(a) Binary", Encoding::Binary),
            ("quoted-printable;", Encoding::QuotedPrintable),
            ("\r\n\tBase64\r\n", Encoding::Base64),
            ("x-uuencode", Encoding::Unknown),
            ("", Encoding::Unknown),
        ] {
            assert_eq!(Encoding::parse(value.as_bytes()), encoding, "{value}");
        }
    }
}

//! What a part decodes to, by an independent parser, is the same before and after; whole results are tables.

use super::*;
use mailparse::parse_mail;
use proptest::prelude::*;

const SEVEN: Target = Target { eight_bit: false };
const EIGHT: Target = Target { eight_bit: true };

fn convert_pieces(pieces: &[&[u8]], target: Target) -> Result<Vec<u8>, Unconvertible> {
    let mut planner = Planner::new(target);
    pieces.iter().for_each(|piece| planner.feed(piece));
    let mut converter = Converter::new(planner.end()?);
    let mut out = Vec::new();
    pieces.iter().for_each(|piece| converter.feed(piece, &mut out));
    converter.end(&mut out);
    Ok(out)
}

/// Converts in several splits, which must agree, and checks what holds for every result.
fn convert(content: &[u8], target: Target) -> Result<Vec<u8>, Unconvertible> {
    let result = convert_pieces(&[content], target);
    for size in [1, 2, 3, 7, 64, 1000, 5000] {
        let pieces: Vec<&[u8]> = content.chunks(size).collect();
        assert_eq!(convert_pieces(&pieces, target), result, "{} by {size}", content.escape_ascii());
    }
    if let Ok(out) = &result {
        assert!(target.eight_bit || out.is_ascii(), "{}", out.escape_ascii());
        let text = [&out[..], b"\r\n"].concat();
        for line in text.split(|&octet| octet == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            assert!(line.len() <= LINE_BYTES_MAX && !is_odd(line), "{}", line.escape_ascii());
        }
        let again = convert_pieces(&[out], target);
        assert_eq!(again.as_ref(), Ok(out), "what was converted needs nothing more");
    }
    result
}

/// The type and the decoded octets of every part that has content of its own.
fn parts(content: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mail = parse_mail(content).expect("mailparse reads anything");
    let mut found = Vec::new();
    for part in mail.parts().filter(|part| part.subparts.is_empty()) {
        let octets = part.get_body_raw().expect("decodable");
        match part.ctype.mimetype.as_str() {
            "message/rfc822" => found.extend(parts(&octets)),
            mimetype => found.push((mimetype.to_string(), octets)),
        }
    }
    found
}

fn converted(content: &str, target: Target) -> String {
    let out = convert(content.replace('\n', "\r\n").as_bytes(), target).expect("can be converted");
    String::from_utf8(out).expect("text").replace("\r\n", "\n")
}

// covers: 12.2
#[test]
fn text_becomes_quoted_printable() {
    for (content, expected) in [
        // Nothing to do.
        ("A: b\n\nplain\n", "A: b\n\nplain\n"),
        ("Content-Type: text/plain\n\n=E4 --\n", "Content-Type: text/plain\n\n=E4 --\n"),
        // RFC 1428: nobody knows what it is.
        (
            "A: b\n\ngr\u{fc}n\n",
            "A: b\nMIME-Version: 1.0\nContent-Type: text/plain; charset=unknown-8bit\n\
             Content-Transfer-Encoding: quoted-printable\n\ngr=C3=BCn\n",
        ),
        (
            "MIME-Version: 1.0\nContent-Transfer-Encoding: 8bit\nContent-Type: text/plain; charset=utf-8\n\n\u{fc} = \n-\n\n.\n\ty\t",
            "MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\
             Content-Transfer-Encoding: quoted-printable\n\n=C3=BC =3D=20\n=2D\n\n.\n\ty=09=\n",
        ),
        // The label alone is untrue for this server.
        (
            "content-transfer-encoding:\n\t8BIT\nMIME-Version: 1.0\n\nplain\n",
            "MIME-Version: 1.0\nContent-Transfer-Encoding: 7bit\n\nplain\n",
        ),
        // Without a header there is none to say it in: the content begins with an empty line.
        (
            "\n\u{fc}\n",
            "MIME-Version: 1.0\nContent-Type: text/plain; charset=unknown-8bit\n\
             Content-Transfer-Encoding: quoted-printable\n\n=C3=BC\n",
        ),
        // What ends this header must not become a field of it.
        (
            "Content-Type: multipart/mixed; boundary=b\n\u{fc}: x\n--b\n\nx\n",
            "Content-Type: multipart/mixed; boundary=b\n\n??: x\n--b\n\nx\n",
        ),
        // A header that a body line ends.
        (
            "A: b\nwhat \u{fc} is\n",
            "A: b\nMIME-Version: 1.0\nContent-Type: text/plain; charset=unknown-8bit\n\
             Content-Transfer-Encoding: quoted-printable\n\nwhat =C3=BC is\n",
        ),
    ] {
        assert_eq!(converted(content, SEVEN), expected);
    }
}

// covers: 12.2
#[test]
fn only_parts_that_need_it_are_encoded() {
    let content = "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"b\"\nContent-Transfer-Encoding: 8bit\n\n\
                   pre\u{e4}mble\n--b\n\n\u{e4}\n\n--b \nContent-Type: image/x\nContent-Transfer-Encoding: binary\n\n\u{e4}\n--b\n\
                   Content-Type: text/html\nContent-Transfer-Encoding: 7bit\n\n<p>\n--bb\n--b--\nepilogue\n";
    let expected = "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"b\"\nContent-Transfer-Encoding: 7bit\n\n\
                    pre??mble\n--b\nContent-Type: text/plain; charset=unknown-8bit\n\
                    Content-Transfer-Encoding: quoted-printable\n\n=C3=A4\n\n--b \nContent-Type: image/x\n\
                    Content-Transfer-Encoding: base64\n\nw6Q=\n--b\n\
                    Content-Type: text/html\nContent-Transfer-Encoding: 7bit\n\n<p>\n--bb\n--b--\nepilogue\n";
    assert_eq!(converted(content, SEVEN), expected);
    let eight = content.replace("binary", "8bit");
    assert_eq!(converted(content, EIGHT), eight);
}

// covers: 12.2
#[test]
fn messages_within_are_converted_within() {
    let content = "A: b\nContent-Type: message/rfc822\n\nSubject: inner\nMIME-Version: 1.0\n\
                   Content-Type: multipart/digest; boundary=x\n\n--x\n\nSubject: d\n\n\u{e4}\n--x--\n";
    let expected = "A: b\nContent-Type: message/rfc822\n\nSubject: inner\nMIME-Version: 1.0\n\
                    Content-Type: multipart/digest; boundary=x\n\n--x\n\nSubject: d\nMIME-Version: 1.0\n\
                    Content-Type: text/plain; charset=unknown-8bit\nContent-Transfer-Encoding: quoted-printable\n\n=C3=A4\n--x--\n";
    assert_eq!(converted(content, SEVEN), expected);
}

// covers: 6.7 12.1
#[test]
fn long_lines_are_encoded_or_folded() {
    let long = "word ".repeat(300);
    let content = format!("Subject: {long}\nMIME-Version: 1.0\nContent-Type: text/plain\n\n{long}\n");
    for target in [SEVEN, EIGHT] {
        let out = converted(&content, target);
        assert!(out.contains("\nContent-Transfer-Encoding: quoted-printable\n\nword word"), "{out}");
        let wire = out.replace('\n', "\r\n");
        let (before, after) = (parts(content.replace('\n', "\r\n").as_bytes()), parts(wire.as_bytes()));
        assert_eq!(before, after);
        let unfolded = out.replace("\n word", " word");
        assert!(unfolded.starts_with(content.split("\nMIME").next().expect("a first half")));
    }
    let ascii = format!("A: b\n\n{}\n", "x".repeat(1000));
    assert!(!converted(&ascii, SEVEN).contains("unknown-8bit"));
    // Long lines of what is encoded already.
    let base64 = format!("Content-Type: image/x\nContent-Transfer-Encoding: base64\n\n{}\n", "QUJD".repeat(500));
    let rest = base64.split_once("\n\n").expect("a body").1;
    let out = converted(&base64, SEVEN);
    assert_eq!(out.split_once("\n\n").expect("a body").1.replace('\n', ""), rest.replace('\n', ""));
    let quoted = "=41=4 =ZZ = x =\nb =3D= \n=";
    let content = format!(
        "Content-Type: text/plain\nContent-Transfer-Encoding: quoted-printable\n\n{quoted}{}\n",
        "=4A".repeat(400)
    );
    let out = converted(&content, SEVEN);
    let body = out.split_once("\n\n").expect("a body").1.replace("=\n", "");
    assert_eq!(body, format!("A=3D4 =3DZZ =3D x b =3D=3D{}\n", "J".repeat(400)));
}

// covers: 6.5a 12.2
#[test]
fn binary_parts_become_base64() {
    let octets: Vec<u8> = (0..=255).cycle().take(3000).collect();
    for kind in ["application/x", "text/plain; charset=utf-16"] {
        let head = format!(
            "A: b\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=zz\r\nContent-Transfer-Encoding: binary\r\n\r\n\
             --zz\r\nContent-Type: {kind}\r\nContent-Transfer-Encoding: binary\r\n\r\n"
        );
        let content = [head.as_bytes(), &octets, b"\r\n--zz--\r\n"].concat();
        for target in [SEVEN, EIGHT] {
            let out = convert(&content, target).expect("can be converted");
            assert_eq!(parts(&out)[0].1, octets, "{kind}");
        }
    }
}

// covers: 12.2
#[test]
fn what_cannot_be_encoded_without_a_lie() {
    let signed = "MIME-Version: 1.0\nContent-Type: multipart/signed; boundary=s\n\n--s\nContent-Type: text/plain\n\n";
    let long = "x".repeat(1500);
    for (content, target, failure) in [
        ("Subject: \u{e4}\n\nbody\n".to_string(), SEVEN, Unconvertible::HeaderEightBit),
        ("A: b\nContent-Type: message/rfc822\n\nX: \u{e4}\n\n".to_string(), SEVEN, Unconvertible::HeaderEightBit),
        (format!("Subject: {long}\n\nbody\n"), EIGHT, Unconvertible::HeaderLine),
        (format!("Subject: {}\n\nbody\n", "a ".repeat(3000)), EIGHT, Unconvertible::HeaderLine),
        ("Subject: a\0b\n\nbody\n".to_string(), EIGHT, Unconvertible::HeaderLine),
        (format!("{signed}\u{e4}\n--s--\n"), SEVEN, Unconvertible::Signed),
        (format!("{signed}{long}\n--s--\n"), EIGHT, Unconvertible::Signed),
        ("Content-Transfer-Encoding: x-uuencode\n\n\u{e4}\n".to_string(), SEVEN, Unconvertible::UnknownEncoding),
        ("Content-Type: message/partial\n\n\u{e4}\n".to_string(), SEVEN, Unconvertible::Composite),
        ("Content-Type: multipart/mixed\n\n\u{e4}\n".to_string(), SEVEN, Unconvertible::Composite),
        (nested(60), SEVEN, Unconvertible::TooComplex),
        (
            format!("Content-Type: multipart/x; boundary=b\n\n{}", "--b\n\n".repeat(20_000)),
            SEVEN,
            Unconvertible::TooComplex,
        ),
        (format!("Content-Type: x{}\n\n", "\n y".repeat(10_000)), SEVEN, Unconvertible::TooComplex),
    ] {
        let content = content.replace('\n', "\r\n");
        let result = convert_pieces(&[content.as_bytes()], target);
        assert_eq!(result.err(), Some(failure), "{}", content.get(..200).unwrap_or(&content));
        assert!(failure.status().starts_with("5.6.") && !failure.text().is_empty());
    }
    // What is signed and needs no change goes, with the labels that the signature covers.
    let content = format!("{signed}plain\n--s\nContent-Transfer-Encoding: 8bit\n\nplain\n--s--\n");
    assert_eq!(converted(&content, SEVEN), content);
    let content = format!("{signed}\u{e4}\n--s--\n");
    assert_eq!(converted(&content, EIGHT), content);
}

fn nested(depth: usize) -> String {
    (0..depth).map(|level| format!("Content-Type: multipart/mixed; boundary=b{level}\n\n--b{level}\n")).collect()
}

#[test]
fn a_line_that_comes_in_parts_is_what_it_is_as_a_whole() {
    for length in [997, 998, 4090, 4096, 4097, 4098, 6000] {
        for start in ["", "--b", "X: y", "X", " ", "--b ", "X "] {
            for behind in ["", ": z", "\r\n", " ", ":\u{e4}"] {
                let line = format!("{start}{}{behind}", if start.ends_with(' ') { " " } else { "n" }.repeat(length));
                let content =
                    format!("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n{line}\r\n\u{e4}\r\n--b--\r\n");
                for target in [SEVEN, EIGHT] {
                    let _ = convert(content.as_bytes(), target);
                }
            }
        }
    }
}

#[test]
fn a_made_line_is_no_boundary() {
    let text = format!("{}--b--\n{}--b\n", "\u{e4}".repeat(25), "x".repeat(75));
    let content = format!("Content-Type: multipart/mixed; boundary=b\n\n--b\n\n{text}\n--b--\n");
    let wire = content.replace('\n', "\r\n");
    let out = convert(wire.as_bytes(), SEVEN).expect("can be converted");
    assert_eq!(parts(&out), parts(wire.as_bytes()));
    let long = format!("A: b\nContent-Type: multipart/mixed; boundary=b\n\n{}--b\n--b\n\nx\n", "p".repeat(998));
    assert_eq!(parts(converted(&long, SEVEN).replace('\n', "\r\n").as_bytes()).len(), 1);
}

/// Found by fuzzing: a NUL that becomes a question mark makes a field name of what was none.
#[test]
fn what_is_made_of_a_preamble_is_no_header() {
    for line in ["Subj\0: x", "Subj\u{e4}: x", "Subj\r: x"] {
        let header = "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b";
        let content = format!("{header}\n{line}\nTo: y\n\n--b\n\n\u{e4}\n--b--\n");
        let out = converted(&content, SEVEN);
        let (before, behind) = out.split_once("\n\n").expect("an empty line");
        assert_eq!(before, header);
        assert!(behind.starts_with("Subj") && behind.contains("?: x\nTo: y\n"), "{behind}");
    }
}

/// Found by fuzzing: what no reader takes for a preamble must not be treated as one.
#[test]
fn a_boundary_right_behind_the_header_begins_a_part() {
    let header = "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b";
    let out = converted(&format!("{header}\n--b\nX: y\n\n\u{e4}\n--b--\n"), SEVEN);
    assert!(out.starts_with(header) && out.contains("\n--b\nX: y\n") && out.contains("\n\n=C3=A4\n--b--\n"), "{out}");
    assert_eq!(converted(&out, SEVEN), out);
}

/// A part: header and body, which may hold parts.
fn part(depth: u32) -> BoxedStrategy<Vec<u8>> {
    let text = proptest::collection::vec(
        prop_oneof![
            4 => "[a-z ]{0,90}".prop_map(String::into_bytes),
            1 => "[ -~\t]{0,90}".prop_map(String::into_bytes),
            1 => "[ -~\u{e4}\u{20ac}]{0,90}".prop_map(String::into_bytes),
            1 => (990..1100usize).prop_map(|length| b"y".repeat(length)),
            1 => Just(b"--b".to_vec()),
        ],
        0..8,
    )
    .prop_map(|lines| lines.join(&b"\r\n"[..]));
    const KINDS: [&str; 3] = ["", "Content-Type: text/plain; charset=utf-8\r\n", "Content-Type: image/png\r\n"];
    const LABELS: [&str; 3] = ["", "Content-Transfer-Encoding: 8bit\r\n", "Content-Transfer-Encoding: binary\r\n"];
    let leaf = (text, proptest::sample::select(&KINDS[..]), proptest::sample::select(&LABELS[..]))
        .prop_map(|(text, kind, label)| [kind.as_bytes(), label.as_bytes(), b"X: y\r\n\r\n", &text].concat());
    if depth == 0 {
        return leaf.boxed();
    }
    let multipart = proptest::collection::vec(part(depth - 1), 1..4).prop_map(move |parts| {
        let mut whole = format!("Content-Type: multipart/mixed; boundary=\"level {depth}\"\r\n\r\n").into_bytes();
        for part in parts {
            whole.extend([format!("--level {depth}\r\n").as_bytes(), &part, b"\r\n"].concat());
        }
        whole.extend(format!("--level {depth}--\r\n").into_bytes());
        whole
    });
    let message = part(depth - 1).prop_map(|part| [b"Content-Type: message/rfc822\r\n\r\n", &part[..]].concat());
    prop_oneof![2 => leaf, 2 => multipart, 1 => message].boxed()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn parts_decode_to_the_same(content in part(3)) {
        let content = [&content[..], b"\r\n"].concat();
        for target in [SEVEN, EIGHT] {
            let out = convert(&content, target).expect("can be converted");
            let (before, after) = (parts(&content), parts(&out));
            prop_assert_eq!(before, after, "{}\n\n{}", content.escape_ascii(), out.escape_ascii());
        }
    }
}

const ANYTHING: [&[u8]; 14] = [
    b"",
    b"X: y",
    b" folded",
    b"gr\xfcn",
    b"a\nb\rc\0",
    b"--b",
    b"--b--",
    b"=",
    b"=4=",
    b"Content-Type: multipart/mixed; boundary=b",
    b"Content-Type: message/rfc822",
    b"Content-Transfer-Encoding: base64",
    b"Content-Transfer-Encoding: quoted-printable",
    b"Content-Transfer-Encoding: binary",
];

proptest! {
    #[test]
    fn anything_is_converted_or_refused(lines in proptest::collection::vec(proptest::sample::select(&ANYTHING[..]), 0..30)) {
        let content = lines.join(&b"\r\n"[..]);
        for target in [SEVEN, EIGHT] {
            let _ = convert(&content, target);
        }
    }
}

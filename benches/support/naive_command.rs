//! The command parser's naive twin: strings, upper case, split at white space; every part owned.
//!
//! It knows honest commands only and checks no address: what it leaves out makes it faster, not slower.

/// A command, owned: what both parsers must agree on.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// In upper case.
    pub verb: String,
    /// The path without its brackets, or the argument.
    pub argument: String,
    /// AUTH's initial response.
    pub initial: Option<String>,
    /// SIZE=
    pub size: Option<u64>,
    /// BODY=8BITMIME
    pub eight_bit: bool,
    /// SMTPUTF8
    pub smtputf8: bool,
}

/// Parses a line without its CRLF; none: unknown.
pub fn parse(line: &[u8]) -> Option<Summary> {
    let line = String::from_utf8(line.to_vec()).ok()?;
    if line.chars().any(|c| c.is_control()) {
        return None;
    }
    let mut words: Vec<String> = line.split_whitespace().map(String::from).collect();
    let verb = words.remove(0).to_uppercase();
    let mut summary = Summary { verb: verb.clone(), ..Summary::default() };
    match verb.as_str() {
        "EHLO" | "HELO" => summary.argument = words.join(" "),
        "AUTH" => {
            summary.argument = words.first()?.clone();
            summary.initial = words.get(1).cloned();
        }
        "MAIL" | "RCPT" => {
            let path = words.remove(0);
            let upper = path.to_uppercase();
            let keyword = if verb == "MAIL" { "FROM:<" } else { "TO:<" };
            if !upper.starts_with(keyword) || !path.ends_with('>') {
                return None;
            }
            summary.argument = path[keyword.len()..path.len() - 1].to_string();
            for parameter in words {
                match parameter.to_uppercase().split_once('=') {
                    Some(("SIZE", size)) => summary.size = Some(size.parse().ok()?),
                    Some(("BODY", body)) => summary.eight_bit = body == "8BITMIME",
                    None if parameter.eq_ignore_ascii_case("SMTPUTF8") => summary.smtputf8 = true,
                    _ => return None,
                }
            }
        }
        "DATA" | "RSET" | "NOOP" | "QUIT" | "STARTTLS" => {}
        _ => return None,
    }
    Some(summary)
}

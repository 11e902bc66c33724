//! The table of every reply, each written exactly as on the wire, so that a line from a packet capture can be found here
//! with one search. Enhanced codes: RFC 2034, RFC 3463, RFC 4954 section 6.
//!
//! Replies with something variable in them are the functions below the table.

/// 220 after STARTTLS. RFC 3207 section 4.
pub const READY_FOR_TLS: &[u8] = b"220 2.0.0 Ready to start TLS\r\n";
/// 221, then the connection is closed. RFC 5321 section 4.1.1.10.
pub const BYE: &[u8] = b"221 2.0.0 Bye\r\n";
/// 214 to HELP.
pub const HELP: &[u8] =
    b"214 2.0.0 EHLO HELO STARTTLS AUTH MAIL RCPT DATA BDAT RSET NOOP QUIT VRFY HELP: see RFC 5321 and RFC 6409\r\n";
/// 235. RFC 4954 section 6.
pub const AUTHENTICATED: &[u8] = b"235 2.7.0 Authentication successful\r\n";
/// 250 to NOOP and RSET.
pub const OK: &[u8] = b"250 2.0.0 Ok\r\n";
/// 250 to MAIL.
pub const SENDER_OK: &[u8] = b"250 2.1.0 Ok\r\n";
/// 250 to RCPT.
pub const RECIPIENT_OK: &[u8] = b"250 2.1.5 Ok\r\n";
/// 252 to VRFY: the same for everybody.
pub const CANNOT_VERIFY: &[u8] = b"252 2.5.0 Send some mail, it will be tried\r\n";
/// 354 to DATA.
pub const GO_AHEAD: &[u8] = b"354 End data with <CR><LF>.<CR><LF>\r\n";

/// 421 while the server stops. RFC 5321 section 3.8.
pub const SHUTTING_DOWN: &[u8] = b"421 4.3.2 Shutting down, try again soon\r\n";
/// 421 past the number of connections.
pub const TOO_MANY_CONNECTIONS: &[u8] = b"421 4.3.2 Too many connections, try again soon\r\n";
/// 421 past the number of connections of one address or network.
pub const TOO_MANY_FROM_YOU: &[u8] = b"421 4.7.0 Too many connections from your network, try again later\r\n";
/// 421 to a silent client.
pub const TIMED_OUT: &[u8] = b"421 4.4.2 Timed out\r\n";
/// 421 after too many errors.
pub const TOO_MANY_ERRORS: &[u8] = b"421 4.7.0 Too many errors\r\n";
/// 421 past the commands that move nothing forward.
pub const TOO_MANY_IDLE: &[u8] = b"421 4.7.0 Too many commands without a message\r\n";
/// 421 past the recipients that may be refused.
pub const TOO_MANY_REFUSED: &[u8] = b"421 4.7.0 Too many refused recipients\r\n";
/// 421 past the messages of one session, which EHLO has told. RFC 9422.
pub const TOO_MANY_MESSAGES: &[u8] = b"421 4.7.0 Too many messages in one session, open another\r\n";
/// 421 to a user who is removed, or has another password, since the session's AUTH.
pub const LOGIN_ENDED: &[u8] = b"421 4.7.0 Your account has changed since you logged in, log in again\r\n";
/// 421 when what follows cannot be told from commands, or is too much to be swallowed.
pub const OUT_OF_STEP: &[u8] = b"421 4.7.0 Cannot keep in step, closing\r\n";
/// 421 to TLS from the first octet where clients begin in the clear. RFC 8314 section 3.
pub const TLS_IN_THE_CLEAR: &[u8] =
    b"421 4.7.0 TLS from the first octet, but this port begins in the clear: use STARTTLS\r\n";
/// 421 to a web browser, which somebody else may have sent here.
pub const HTTP: &[u8] = b"421 4.7.0 This is SMTP, not HTTP\r\n";
/// 451 when the disk failed.
pub const DISK_TROUBLE: &[u8] = b"451 4.3.0 Could not store the message, try again later\r\n";
/// 450 to a user's recipients past the account's rate. RFC 3463 section 3.8, RFC 6409 section 6.1.
pub const OVER_RATE: &[u8] = b"450 4.7.1 Too many recipients for your account, try again later\r\n";
/// 452 when there is no room.
pub const NO_ROOM: &[u8] = b"452 4.3.1 No room for the message now, try again later\r\n";
/// 452 past the number of recipients. RFC 5321 section 4.5.3.1.10.
pub const TOO_MANY_RECIPIENTS: &[u8] = b"452 4.5.3 Too many recipients\r\n";
/// 454 when passwords cannot be checked now. RFC 4954 section 4.
pub const AUTH_UNAVAILABLE: &[u8] = b"454 4.7.0 Authentication is not available now, try again later\r\n";
/// 454 after too many failures of this client: nothing is said about the password. RFC 4954 section 6.
pub const AUTH_BRAKED: &[u8] = b"454 4.7.0 Too many failed logins, try again later\r\n";

/// 500 to what is no command.
pub const UNKNOWN_COMMAND: &[u8] = b"500 5.5.2 Command unrecognized\r\n";
/// 500 to octets that no command may hold.
pub const BAD_OCTETS: &[u8] = b"500 5.5.2 Command holds octets that are not allowed\r\n";
/// 500 to an over-long line.
pub const LINE_TOO_LONG: &[u8] = b"500 5.5.2 Line too long\r\n";
/// 500 to an over-long line of an AUTH exchange. RFC 4954 section 4.
pub const AUTH_TOO_LONG: &[u8] = b"500 5.5.6 Authentication exchange line is too long\r\n";
/// 500 to a line that ends with LF alone.
pub const BARE_NEWLINE: &[u8] = b"500 5.5.2 Lines must end with CRLF\r\n";
/// 501 to an argument that is missing, odd or not expected.
pub const BAD_ARGUMENT: &[u8] = b"501 5.5.4 Syntax error in arguments\r\n";
/// 501 to HOLDFOR or HOLDUNTIL past what EHLO has told. RFC 4865 section 4.
pub const HOLD_TOO_LONG: &[u8] = b"501 5.5.4 Message would be held for too long\r\n";
/// 501 to a reverse-path that is none.
pub const BAD_SENDER: &[u8] = b"501 5.1.7 Bad sender address syntax\r\n";
/// 501 to a forward-path that is none.
pub const BAD_RECIPIENT: &[u8] = b"501 5.1.3 Bad recipient address syntax\r\n";
/// 501 to an AUTH response that is not base64 or not of the mechanism's form.
pub const BAD_AUTH_RESPONSE: &[u8] = b"501 5.5.2 Cannot decode the response\r\n";
/// 501 when the client ends the exchange with `*`.
pub const AUTH_CANCELLED: &[u8] = b"501 5.7.0 Authentication cancelled\r\n";
/// 502 to commands of the RFC that are not offered.
pub const NOT_IMPLEMENTED: &[u8] = b"502 5.5.1 Command not implemented\r\n";
/// 503 in general.
pub const BAD_SEQUENCE: &[u8] = b"503 5.5.1 Bad sequence of commands\r\n";
/// 503 to MAIL before EHLO.
pub const HELLO_FIRST: &[u8] = b"503 5.5.1 Say EHLO or HELO first\r\n";
/// 503 to a second MAIL.
pub const NESTED_MAIL: &[u8] = b"503 5.5.1 Sender already given\r\n";
/// 503 to RCPT before MAIL.
pub const MAIL_FIRST: &[u8] = b"503 5.5.1 Need MAIL command\r\n";
/// 503 to DATA before RCPT.
pub const RCPT_FIRST: &[u8] = b"503 5.5.1 Need RCPT command\r\n";
/// 503 to DATA after BODY=BINARYMIME. RFC 3030 section 3.
pub const BDAT_ONLY: &[u8] = b"503 5.5.1 BODY=BINARYMIME needs BDAT\r\n";
/// 503 to STARTTLS inside TLS. RFC 3207 section 4.
pub const TLS_ALREADY: &[u8] = b"503 5.5.1 TLS is already active\r\n";
/// 503 to AUTH after success. RFC 4954 section 4.
pub const AUTH_ALREADY: &[u8] = b"503 5.5.1 Already authenticated\r\n";
/// 504 to a mechanism that is not offered. RFC 4954 section 4.
pub const UNKNOWN_MECHANISM: &[u8] = b"504 5.5.4 Unrecognized authentication mechanism\r\n";
/// 530 on a submission listener. RFC 4954 section 6.
pub const AUTH_REQUIRED: &[u8] = b"530 5.7.0 Authentication required\r\n";
/// 530 on a listener that wants TLS. RFC 3207 section 4.
pub const STARTTLS_FIRST: &[u8] = b"530 5.7.0 Must issue a STARTTLS command first\r\n";
/// 535 to unknown users and wrong passwords alike.
pub const BAD_CREDENTIALS: &[u8] = b"535 5.7.8 Authentication credentials invalid\r\n";
/// 538 to AUTH in the clear. RFC 4954 section 6.
pub const AUTH_NEEDS_TLS: &[u8] = b"538 5.7.11 Encryption required for authentication\r\n";
/// 550 to recipients in our domains whom nobody knows. RFC 5321 section 3.3.
pub const UNKNOWN_RECIPIENT: &[u8] = b"550 5.1.1 There is no such recipient here\r\n";
/// 550 to recipients elsewhere from clients that may not relay.
pub const RELAYING_DENIED: &[u8] = b"550 5.7.1 Relaying denied. Authentication required.\r\n";
/// 550 to XCLIENT from peers that are no proxies of ours.
pub const NO_PROXY: &[u8] = b"550 5.7.0 XCLIENT is for listed proxies, once a connection\r\n";
/// 550 to XCLIENT with LOGIN where that is not believed.
pub const NO_XCLIENT_LOGIN: &[u8] = b"550 5.7.0 XCLIENT LOGIN is not allowed here\r\n";
/// 550 to bare CR, bare LF or NUL in content.
pub const ODD_CONTENT: &[u8] = b"550 5.6.0 Message holds bare CR, bare LF or NUL\r\n";
/// 552 past SIZE. RFC 1870 section 6.
pub const TOO_BIG: &[u8] = b"552 5.3.4 Message is too large\r\n";
/// 553 to an address that needs SMTPUTF8. RFC 6531 section 3.5.
pub const NEEDS_SMTPUTF8: &[u8] = b"553 5.6.7 Address needs SMTPUTF8\r\n";
/// 554 to a client that spoke before it was greeted. RFC 5321 section 3.1.
pub const EARLY_TALKER: &[u8] = b"554 5.5.0 You spoke before the greeting, closing\r\n";
/// 554 to input behind STARTTLS in the clear. RFC 3207 section 4.2.
pub const TLS_INJECTION: &[u8] = b"554 5.5.0 Input after STARTTLS, closing\r\n";
/// 554 to DATA when every recipient was refused. RFC 2920 section 3.1.
pub const NO_VALID_RECIPIENTS: &[u8] = b"554 5.5.1 No valid recipients\r\n";
/// 554 to a stranger's line of more than 998 octets. RFC 5321 section 4.5.3.1.6.
pub const LONG_LINE: &[u8] = b"554 5.6.0 Message holds a line of more than 998 octets\r\n";
/// 554 when a message has been here too often. RFC 5321 section 6.3.
pub const TOO_MANY_HOPS: &[u8] = b"554 5.4.6 Too many Received fields, the message loops\r\n";
/// 554 to a header of too many fields.
pub const TOO_MANY_FIELDS: &[u8] = b"554 5.6.0 Message header has too many fields\r\n";
/// 552 to a header that is too large.
pub const HEADER_TOO_BIG: &[u8] = b"552 5.3.4 Message header is too large\r\n";
/// 555 to a parameter that is not offered. RFC 5321 section 4.1.1.11.
pub const UNKNOWN_PARAMETER: &[u8] = b"555 5.5.4 Unsupported parameter\r\n";

/// The code of a reply of the table. RFC 5321 section 4.2.
pub fn code(reply: &[u8]) -> u16 {
    reply.iter().take(3).fold(0, |code, digit| code * 10 + u16::from(digit.wrapping_sub(b'0') % 10))
}

/// The greeting. RFC 5321 section 3.1.
pub fn greeting(hostname: &str, out: &mut Vec<u8>) {
    join(&["220 ", hostname, " ESMTP Penstock\r\n"], out);
}

/// HELO's answer.
pub fn hello(hostname: &str, out: &mut Vec<u8>) {
    join(&["250 ", hostname, "\r\n"], out);
}

/// The first line of EHLO's answer. RFC 5321 section 4.1.1.1.
pub fn extended_hello(hostname: &str, out: &mut Vec<u8>) {
    join(&["250-", hostname, "\r\n"], out);
}

/// A further line of EHLO's answer, not the last; `parts` stand behind one another.
pub fn keyword(parts: &[&str], out: &mut Vec<u8>) {
    join(&["250-"], out);
    join(parts, out);
    join(&["\r\n"], out);
}

/// FUTURERELEASE: the longest time in seconds, and the latest moment in seconds since the Unix epoch. RFC 4865 section 3.
pub fn future_release(interval: &str, latest_s: u64, out: &mut Vec<u8>) {
    let seconds = i64::try_from(latest_s).unwrap_or(0);
    let moment = jiff::Timestamp::from_second(seconds).unwrap_or_default();
    let date = jiff::tz::Offset::UTC.to_datetime(moment);
    let two = |number: i8| Digits::padded(number.unsigned_abs().into(), 2);
    let year = Digits::padded(date.year().unsigned_abs().into(), 4);
    let (month, day, hour) = (two(date.month()), two(date.day()), two(date.hour()));
    let (minute, second) = (two(date.minute()), two(date.second()));
    let date = [year.as_str(), "-", month.as_str(), "-", day.as_str(), "T"];
    let time = [hour.as_str(), ":", minute.as_str(), ":", second.as_str(), "Z\r\n"];
    join(&["250-FUTURERELEASE ", interval, " "], out);
    join(&date, out);
    join(&time, out);
}

/// The last line of EHLO's answer.
pub const LAST_KEYWORD: &[u8] = b"250 HELP\r\n";

/// The 250 to a chunk that is not the last. RFC 3030 section 2.
pub fn chunk_taken(octets: u64, out: &mut Vec<u8>) {
    join(&["250 2.0.0 ", Digits::of(octets).as_str(), " octets received\r\n"], out);
}

/// A refusal with the limit that it speaks of, in `unit`s.
pub fn with_limit(text: &[u8], limit: u64, unit: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(text.strip_suffix(b"\r\n").unwrap_or(text));
    join(&[", the limit is ", Digits::of(limit).as_str(), unit, "\r\n"], out);
}

/// A refusal with the address where a person can read on.
pub fn with_help(text: &[u8], help: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(text.strip_suffix(b"\r\n").unwrap_or(text));
    join(&[", see ", help, "\r\n"], out);
}

/// A number as it is printed, without an allocation.
pub struct Digits {
    /// ASCII digits, of which those from `start` on count. `start < 20`.
    text: [u8; 20],
    start: usize,
}

impl Digits {
    /// Without leading zeros.
    pub fn of(number: u64) -> Digits {
        Digits::padded(number, 1)
    }

    /// With at least `width` digits, 1 to 20.
    pub fn padded(mut number: u64, width: usize) -> Digits {
        let mut digits = Digits { text: [b'0'; 20], start: 20 };
        while number > 0 {
            digits.start -= 1;
            digits.text[digits.start] = b'0' + (number % 10) as u8;
            number /= 10;
        }
        digits.start = digits.start.min(20 - width);
        digits
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.text[self.start..]).unwrap_or("0")
    }
}

/// A 334 with its challenge, which is base64 already. RFC 4954 section 4.
pub fn challenge(base64: &str, out: &mut Vec<u8>) {
    join(&["334 ", base64, "\r\n"], out);
}

/// The 250 that says: the message is on disk. It is written in one place only, `Session::answered`.
pub fn queued(queue_id: &str, out: &mut Vec<u8>) {
    join(&["250 2.0.0 Ok: queued as ", queue_id, "\r\n"], out);
}

fn join(parts: &[&str], out: &mut Vec<u8>) {
    for part in parts {
        out.extend_from_slice(part.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for number in [0, 1, 9, 10, 52_428_800, u64::MAX] {
            assert_eq!(Digits::of(number).as_str(), number.to_string());
            assert_eq!(Digits::padded(number, 4).as_str(), format!("{number:04}"));
        }
    }

    /// What tells of DKIM, SPF and reverse DNS (RFC 7372) is for those who look at them.
    // covers: 12.15
    #[test]
    fn no_reply_speaks_of_what_is_not_looked_at() {
        let table = include_str!("reply.rs").split("mod tests").next().expect("the table");
        let told = |code: u32| table.contains(&format!(" 5.7.{code} "));
        assert!(told(0) && told(8), "the table is looked at");
        assert_eq!((20..=25).find(|&code| told(code)), None);
    }

    #[test]
    fn help_stands_behind_the_reason() {
        let mut out = Vec::new();
        with_help(AUTH_REQUIRED, "https://help.example.edu", &mut out);
        assert_eq!(out, b"530 5.7.0 Authentication required, see https://help.example.edu\r\n");
    }
}

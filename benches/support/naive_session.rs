//! The session's naive twin: reads octet by octet, keeps lines as strings and answers from literals.
//!
//! It is what one writes in an hour: it checks no order, no address and no odd bytes, and knows only the commands of
//! the benches. What it leaves out makes it faster, not slower.

use base64::prelude::{BASE64_STANDARD, Engine};

/// A server that takes everything.
#[derive(Debug, Default)]
pub struct Session {
    line: Vec<u8>,
    receiving: bool,
    sender: String,
    recipients: Vec<String>,
    /// The message being received, dots unstuffed.
    pub content: Vec<u8>,
    /// Octets of all messages.
    pub content_bytes: u64,
}

impl Session {
    /// With its greeting.
    pub fn new(out: &mut Vec<u8>) -> Session {
        out.extend_from_slice(b"220 mx.example.edu ESMTP Penstock\r\n");
        Session::default()
    }

    /// Takes all of `input`; `queue_id` names the message that ends in it.
    pub fn take(&mut self, input: &[u8], queue_id: &str, out: &mut Vec<u8>) {
        for &octet in input {
            self.line.push(octet);
            if !self.line.ends_with(b"\r\n") {
                continue;
            }
            let line = std::mem::take(&mut self.line);
            if self.receiving {
                self.content_line(&line, queue_id, out);
            } else {
                let line = String::from_utf8_lossy(&line[..line.len() - 2]).into_owned();
                out.extend_from_slice(self.command(&line).as_bytes());
            }
        }
    }

    fn content_line(&mut self, line: &[u8], queue_id: &str, out: &mut Vec<u8>) {
        if line == b".\r\n" {
            out.extend_from_slice(format!("250 2.0.0 Ok: queued as {queue_id}\r\n").as_bytes());
            self.receiving = false;
            self.content_bytes += self.content.len() as u64;
            self.recipients.clear();
            return;
        }
        self.content.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
    }

    fn command(&mut self, line: &str) -> String {
        let words: Vec<&str> = line.split(' ').collect();
        let text = match words[0].to_uppercase().as_str() {
            "EHLO" => {
                "250-mx.example.edu\r\n250-SIZE 52428800\r\n250-PIPELINING\r\n250-8BITMIME\r\n\
                 250-ENHANCEDSTATUSCODES\r\n250-SMTPUTF8\r\n250-DSN\r\n250-CHUNKING\r\n250-BINARYMIME\r\n\
                 250-LIMITS RCPTMAX=1000 MAILMAX=10000\r\n250-AUTH PLAIN LOGIN\r\n250-REQUIRETLS\r\n250 HELP\r\n"
            }
            "AUTH" => match BASE64_STANDARD.decode(words[2]) {
                Ok(plain) if plain.split(|&octet| octet == 0).count() == 3 => "235 2.7.0 Authentication successful\r\n",
                _ => "535 5.7.8 Authentication credentials invalid\r\n",
            },
            "MAIL" => {
                self.sender = words[1]["FROM:<".len()..].trim_end_matches('>').to_string();
                "250 2.1.0 Ok\r\n"
            }
            "RCPT" => {
                self.recipients.push(words[1]["TO:<".len()..].trim_end_matches('>').to_string());
                "250 2.1.5 Ok\r\n"
            }
            "DATA" => {
                self.receiving = true;
                self.content.clear();
                "354 End data with <CR><LF>.<CR><LF>\r\n"
            }
            "QUIT" => "221 2.0.0 Bye\r\n",
            _ => "500 5.5.2 Command unrecognized\r\n",
        };
        text.to_string()
    }
}

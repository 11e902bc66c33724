//! What a session refused: a line in the log, and the counters.
//!
//! One line for each read in which something was refused, about the last of it: `refusals` says how many there were, where a
//! pipelining client was refused several. The counters have all of them, each under its own code.

use super::connection::Connection;
use super::ending::Tls;
use crate::log::{Event, Level};
use crate::smtp::Session;
use crate::smtp::session::{About, Refused};

impl Connection {
    /// Logs and counts what was refused since the last call.
    pub(super) fn note_refused(&mut self, session: &mut Session) {
        while let Some(refused) = session.take_refused() {
            if refused.about == About::Tls && self.tls == Tls::Unknown {
                self.tls = Tls::Told;
            }
            self.core.counters.messages_refused.add(refused.messages.into());
            self.core.counters.recipients_refused.add(refused.recipients.into());
            for of in refused.codes.iter() {
                self.listener().refusals.add_many(of.code, of.count.into());
                self.listener().messages.add_many(of.code, of.messages.into());
            }
            let line = self.event(Level::Info, "refused");
            with_fields(line, &refused, session.finish().1.user).emit();
        }
    }
}

/// Says on a line what was refused to whom.
fn with_fields(mut line: Event, refused: &Refused, user: Option<&str>) -> Event {
    if let Some(user) = user {
        line = line.octets("user", user.as_bytes());
    }
    if let Some(sender) = &refused.sender {
        line = line.octets("sender", sender);
    }
    if let Some(recipient) = &refused.recipient {
        line = line.octets("recipient", recipient);
    }
    let line = line.octets("reply", refused.reply.trim_ascii_end());
    let line = match refused.about {
        About::Size { announced_bytes: announced @ 1.. } => line.field("announced_bytes", announced),
        About::Recipients { over } => line.field("recipients", over),
        About::Message { recipients } => line.field("recipients", recipients),
        About::Size { .. } | About::Tls | About::Other => line,
    };
    match refused.about {
        About::Recipients { .. } => line,
        // More than one in what was read at once: this line stands for all of them.
        _ if refused.count > 1 => line.field("refusals", refused.count),
        _ => line,
    }
}

//! Whether a transaction fits a server: nothing is sent in a form that the server did not offer.

use super::command::{self, Offered};
use super::standing::Standing;
use super::{Body, Fate, Recipient, Reply, Transaction};

/// Why a transaction cannot be sent to a server as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hindrance {
    /// The reverse-path would be more than an address.
    Sender,
    /// REQUIRETLS, and the server's name is not proven. RFC 8689 section 4.2.1.
    NotVerified,
    /// REQUIRETLS, and the server does not offer it. For a notification, which has the null reverse-path, that is none:
    /// section 5.
    NoRequireTls,
    /// The reverse-path needs SMTPUTF8. RFC 6531 section 3.5.
    Utf8Sender,
    /// The header needs SMTPUTF8.
    Utf8Header,
    /// Binary content needs CHUNKING and BINARYMIME. RFC 3030 section 3.
    Binary,
    /// 8-bit content needs 8BITMIME. RFC 6152 section 3.
    EightBit,
    /// Lines of more than 998 octets may be sent to nobody. RFC 5321 section 4.5.3.1.6.
    LongLines,
}

impl Hindrance {
    /// Would the same message as 7-bit MIME with short lines get through?
    pub fn is_mendable(self) -> bool {
        matches!(self, Hindrance::Binary | Hindrance::EightBit | Hindrance::LongLines)
    }

    /// What the sender is told.
    pub fn reply(self) -> Reply {
        let (code, text) = match self {
            Hindrance::Sender => (553, "5.1.7 the sender's address cannot be sent in a command"),
            Hindrance::NotVerified => (550, "5.7.10 the sender requires TLS, and the next server's name is not proven"),
            Hindrance::NoRequireTls => {
                (550, "5.7.30 the sender requires TLS, and the next server offers no REQUIRETLS")
            }
            Hindrance::Utf8Sender => {
                (553, "5.6.7 the next server does not offer SMTPUTF8, which the sender's address needs")
            }
            Hindrance::Utf8Header => (554, "5.6.9 the next server does not offer SMTPUTF8, which the header needs"),
            Hindrance::Binary => (554, "5.6.1 the next server does not take binary content"),
            Hindrance::EightBit => (554, "5.6.3 the next server does not offer 8BITMIME, which the message needs"),
            Hindrance::LongLines => (554, "5.6.0 the message has lines of more than 998 octets"),
        };
        Reply::ours(code, text.into())
    }
}

/// What stands between `transaction` and a server. `verified`: TLS is up and has proven the server's name.
pub(super) fn hindrance(transaction: &Transaction, offered: Offered, verified: bool) -> Option<Hindrance> {
    let is_notification = transaction.reverse_path.is_empty();
    let table = [
        (!command::path_is_safe(&transaction.reverse_path), Hindrance::Sender),
        (transaction.require_tls && !verified, Hindrance::NotVerified),
        (transaction.require_tls && !offered.require_tls && !is_notification, Hindrance::NoRequireTls),
        (!offered.smtputf8 && !transaction.reverse_path.is_ascii(), Hindrance::Utf8Sender),
        (!offered.smtputf8 && transaction.smtputf8, Hindrance::Utf8Header),
        (transaction.body == Body::Binary && !(offered.chunking && offered.binary), Hindrance::Binary),
        (transaction.body == Body::EightBit && !offered.eight_bit, Hindrance::EightBit),
        (transaction.body != Body::Binary && transaction.long_lines, Hindrance::LongLines),
    ];
    table.into_iter().find_map(|(hinders, hindrance)| hinders.then_some(hindrance))
}

/// A recipient before RCPT: asked, or refused here.
pub(super) fn first_standing(recipient: &Recipient, offered: Offered) -> Standing {
    let refused = |text: &str| Standing::Decided(Fate::Failed(Reply::ours(553, text.into())));
    match &recipient.path {
        path if path.is_empty() || !command::path_is_safe(path) => {
            refused("5.1.3 the address cannot be sent in a command")
        }
        path if !path.is_ascii() && !offered.smtputf8 => {
            refused("5.6.7 the next server does not offer SMTPUTF8, which the address needs")
        }
        _ => Standing::Asked,
    }
}

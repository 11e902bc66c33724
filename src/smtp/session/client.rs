//! What a session knows of its client, for the Received field and for policy.

/// What a session knows of its client when a message is complete.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// The argument of EHLO or HELO.
    pub helo: &'a [u8],
    /// The authenticated user, canonical.
    pub user: Option<&'a str>,
    /// For the Received field: ESMTPSA and so on.
    pub protocol: &'static str,
    /// Missing header fields may be added (RFC 6409 section 8); mail of strangers is left as it is.
    pub submission: bool,
}

/// The protocol for the Received field. RFC 3848, RFC 6531 section 4.3.
pub(super) fn protocol(extended: bool, smtputf8: bool, secured: bool, authenticated: bool) -> &'static str {
    match (extended, smtputf8, secured, authenticated) {
        (false, ..) => "SMTP",
        (true, false, false, false) => "ESMTP",
        (true, false, false, true) => "ESMTPA",
        (true, false, true, false) => "ESMTPS",
        (true, false, true, true) => "ESMTPSA",
        (true, true, false, false) => "UTF8SMTP",
        (true, true, false, true) => "UTF8SMTPA",
        (true, true, true, false) => "UTF8SMTPS",
        (true, true, true, true) => "UTF8SMTPSA",
    }
}

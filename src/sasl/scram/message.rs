//! The messages of SCRAM, read and written (RFC 5802 section 7).
//!
//! ```text
//!  client-first  n,,n=user,r=<nonce>              gs2 header: n | y | p=<type> , [a=<authzid>] ,
//!  server-first  r=<nonce><more>,s=<salt>,i=<count>
//!  client-final  c=<gs2 header, binding>,r=<nonce><more>,p=<proof>
//!  server-final  v=<signature>   or   e=<error>
//! ```
//!
//! Lengths are looked at before anything else. Attributes stand in the RFC's order; extensions, which may follow the
//! known ones, are skipped, but `m=`, which is the RFC's word for one that may not be.

use crate::sasl::{USER_BYTES_MAX, prepared};

/// Longest nonce of the other side, octets. Ours have 24; others send up to 64.
pub(super) const NONCE_BYTES_MAX: usize = 256;
/// Longest message, octets: names in which every octet is escaped, two nonces, and room for extensions.
pub(super) const MESSAGE_BYTES_MAX: usize = 4096;

/// Why a message of the client is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Not of the form: 501 5.5.2.
    Form,
    /// Of the form, and the RFC says that authentication must fail: 535 5.7.8.
    Refused,
}

/// What the client says about channel binding (RFC 5802 section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flag<'a> {
    /// `n`: it cannot.
    Cannot,
    /// `y`: it can, and believes that we cannot.
    ServerCannot,
    /// `p=`: it binds to the channel in this way.
    Binds(&'a str),
}

/// The client's first message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ClientFirst<'a> {
    pub flag: Flag<'a>,
    /// Prepared; none: the user's own.
    pub authzid: Option<String>,
    /// Prepared.
    pub user: String,
    pub nonce: &'a str,
    /// `n,,` and the like: comes back in the final message.
    pub gs2_header: &'a str,
    /// The rest: part of what is signed.
    pub bare: &'a str,
}

impl<'a> ClientFirst<'a> {
    pub fn parse(message: &'a [u8]) -> Result<ClientFirst<'a>, Fault> {
        let text = text(message).ok_or(Fault::Form)?;
        let (flag, rest) = text.split_once(',').ok_or(Fault::Form)?;
        let (authzid, bare) = rest.split_once(',').ok_or(Fault::Form)?;
        let gs2_header = &text[..text.len() - bare.len()];
        let flag = match flag {
            "n" => Flag::Cannot,
            "y" => Flag::ServerCannot,
            _ => Flag::Binds(flag.strip_prefix("p=").filter(|name| is_binding_name(name)).ok_or(Fault::Form)?),
        };
        let authzid = match authzid {
            "" => None,
            named => Some(name(named.strip_prefix("a=").ok_or(Fault::Form)?).ok_or(Fault::Form)?),
        };
        if bare.starts_with("m=") {
            return Err(Fault::Refused);
        }
        let mut attributes = bare.split(',');
        let user = attributes.next().and_then(|part| part.strip_prefix("n=")).ok_or(Fault::Form)?;
        let user = name(user).ok_or(Fault::Form)?;
        let nonce = attributes.next().and_then(|part| part.strip_prefix("r=")).ok_or(Fault::Form)?;
        if !is_nonce(nonce) || !attributes.all(is_extension) {
            return Err(Fault::Form);
        }
        Ok(ClientFirst { flag, authzid, user, nonce, gs2_header, bare })
    }
}

/// The client's final message. Base64 is not decoded yet.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ClientFinal<'a> {
    /// gs2 header and binding, base64.
    pub channel: &'a str,
    pub nonce: &'a str,
    /// Base64.
    pub proof: &'a str,
    /// All but the proof: part of what is signed.
    pub without_proof: &'a str,
}

impl<'a> ClientFinal<'a> {
    pub fn parse(message: &'a [u8]) -> Option<ClientFinal<'a>> {
        let text = text(message)?;
        let (without_proof, proof) = text.rsplit_once(",p=")?;
        let mut attributes = without_proof.split(',');
        let channel = attributes.next()?.strip_prefix("c=")?;
        let nonce = attributes.next()?.strip_prefix("r=")?;
        let sound = attributes.all(is_extension) && !proof.contains(',');
        sound.then_some(ClientFinal { channel, nonce, proof, without_proof })
    }
}

/// The server's first message, as a client reads it. Base64 is not decoded yet.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ServerFirst<'a> {
    pub nonce: &'a str,
    /// Base64.
    pub salt: &'a str,
    pub iterations: u32,
}

impl<'a> ServerFirst<'a> {
    /// None too if an extension must be understood.
    pub fn parse(message: &'a [u8]) -> Option<ServerFirst<'a>> {
        let mut attributes = text(message)?.split(',');
        let nonce = attributes.next()?.strip_prefix("r=")?;
        let salt = attributes.next()?.strip_prefix("s=")?;
        let iterations = attributes.next()?.strip_prefix("i=")?;
        // `parse` would take a plus sign.
        let counts = iterations.bytes().all(|octet| octet.is_ascii_digit());
        let iterations = iterations.parse().ok().filter(|_| counts)?;
        attributes.all(is_extension).then_some(ServerFirst { nonce, salt, iterations })
    }
}

/// The signature in the server's final message, base64. None: an error (`e=`), or nothing of the form.
pub(super) fn server_signature(message: &[u8]) -> Option<&str> {
    let mut attributes = text(message)?.split(',');
    let signature = attributes.next()?.strip_prefix("v=")?;
    attributes.all(is_extension).then_some(signature)
}

/// A user name as a message carries it (RFC 5802 section 5.1).
pub(super) fn escape(name: &str) -> String {
    name.replace('=', "=3D").replace(',', "=2C")
}

/// A name out of a message: unescaped, then prepared. None: `=` that is no escape, or no name.
fn name(text: &str) -> Option<String> {
    let mut parts = text.split('=');
    let mut name = parts.next()?.to_owned();
    for part in parts {
        let (character, rest) = part.split_at_checked(2)?;
        name.push(match character {
            "2C" => ',',
            "3D" => '=',
            _ => return None,
        });
        name.push_str(rest);
    }
    prepared(name.as_bytes(), USER_BYTES_MAX)
}

/// UTF-8 without NUL, not too long.
fn text(message: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(message.get(..MESSAGE_BYTES_MAX + 1).map_or(message, |_| b"\0")).ok()?;
    (!text.contains('\0')).then_some(text)
}

/// Printable ASCII without a comma.
fn is_nonce(nonce: &str) -> bool {
    (1..=NONCE_BYTES_MAX).contains(&nonce.len()) && nonce.bytes().all(|octet| octet.is_ascii_graphic())
}

/// A letter, `=` and something.
fn is_extension(attribute: &str) -> bool {
    let octets = attribute.as_bytes();
    octets.len() > 2 && octets[0].is_ascii_alphabetic() && octets[0] != b'm' && octets[1] == b'='
}

fn is_binding_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'.' || octet == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_message_of_a_client() {
        let first = ClientFirst::parse(b"p=tls-server-end-point,a=a=3Db,n=a=3Db=2Cc,r=x!~,z=ext").expect("of the form");
        assert_eq!(first.flag, Flag::Binds("tls-server-end-point"));
        assert_eq!((first.authzid.as_deref(), first.user.as_str(), first.nonce), (Some("a=b"), "a=b,c", "x!~"));
        assert_eq!(first.gs2_header, "p=tls-server-end-point,a=a=3Db,");
        assert_eq!(first.bare, "n=a=3Db=2Cc,r=x!~,z=ext");
        let prepared = ClientFirst::parse("y,,n=I\u{AD}X,r=x".as_bytes()).expect("of the form");
        assert_eq!((prepared.flag, prepared.user.as_str()), (Flag::ServerCannot, "IX"));
    }

    #[test]
    fn first_messages_that_are_none() {
        let long_name = format!("n,,n={},r=x", "u".repeat(256));
        let long_nonce = format!("n,,n=u,r={}", "x".repeat(257));
        let long = format!("n,,n=u,r=x,z={}", "x".repeat(5000));
        for message in [
            "",
            "n",
            "n,",
            "n,,",
            "x,,n=u,r=x",
            "p=,,n=u,r=x",
            "p=a b,,n=u,r=x",
            "p,,n=u,r=x",
            "n,b=u,n=u,r=x",
            "n,a=,n=u,r=x",
            "n,,u=u,r=x",
            "n,,n=,r=x",
            "n,,n=u",
            "n,,n=u,r=",
            "n,,n=u,r=x\u{e9}",
            "n,,n=u,r=x y",
            "n,,r=x,n=u",
            "n,,n=a=2cb,r=x",
            "n,,n=a=,r=x",
            "n,,n=a=4,r=x",
            "n,,n=a=\u{20ac},r=x",
            "n,,n=a\0b,r=x",
            "n,,n=\u{7},r=x",
            "n,,n=u,r=x,",
            "n,,n=u,r=x,z",
            "n,,n=u,r=x,z=",
            "n,,n=u,r=x,z=a\0",
            "n,,n=u,r=x,1=a",
            "n,,n=u,r=x,m=a",
            &long_name,
            &long_nonce,
            &long,
        ] {
            assert_eq!(ClientFirst::parse(message.as_bytes()), Err(Fault::Form), "{message}");
        }
        assert_eq!(ClientFirst::parse(b"n,,n=\xff,r=x"), Err(Fault::Form));
        assert_eq!(ClientFirst::parse(b"n,,m=ext,n=u,r=x"), Err(Fault::Refused), "must be understood, and is not");
    }

    #[test]
    fn the_final_message_of_a_client() {
        let last = ClientFinal::parse(b"c=biws,r=xy,e=x,p=AAAA").expect("of the form");
        assert_eq!(
            (last.channel, last.nonce, last.proof, last.without_proof),
            ("biws", "xy", "AAAA", "c=biws,r=xy,e=x")
        );
        for message in
            ["", "c=biws,r=xy", "r=xy,c=biws,p=AAAA", "c=biws,p=AAAA", "c=biws,r=xy,p=AAAA,z=a", "c=biws,r=xy,z,p=A"]
        {
            assert_eq!(ClientFinal::parse(message.as_bytes()), None, "{message}");
        }
    }

    #[test]
    fn the_messages_of_a_server() {
        let first = ServerFirst::parse(b"r=xy,s=AAAA,i=4096,z=a").expect("of the form");
        assert_eq!(first, ServerFirst { nonce: "xy", salt: "AAAA", iterations: 4096 });
        for message in [
            "",
            "r=x,s=A",
            "m=a,r=x,s=A,i=1",
            "r=x,s=A,i=",
            "r=x,s=A,i=+5",
            "r=x,s=A,i=-5",
            "r=x,s=A,i=99999999999",
            "r=x,i=1,s=A",
            "r=x,s=A,i=1,m=a",
        ] {
            assert_eq!(ServerFirst::parse(message.as_bytes()), None, "{message}");
        }
        assert_eq!(server_signature(b"v=AAAA"), Some("AAAA"));
        assert_eq!(server_signature(b"e=invalid-proof"), None);
    }

    #[test]
    fn names_survive_the_way() {
        for given in ["anna", "a,b", "a=b", "=2C", ",,==", "j\u{f6}rg"] {
            assert_eq!(name(&escape(given)).as_deref(), Some(given));
        }
    }
}

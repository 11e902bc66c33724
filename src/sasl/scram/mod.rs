//! SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677): the password itself never crosses the wire, and the server
//! shows that it knows it too.
//!
//! ```text
//!  client                                server
//!  n,,n=user,r=N            -->          NeedKeys(user) ... keys(Keys, M)
//!                           <-- 334      r=NM,s=<salt>,i=<count>
//!  c=biws,r=NM,p=<proof>    -->          Proof { right } ... accepted(user)
//!                           <-- 334      v=<signature>          SMTP has no room for data in a 235 (RFC 4954 section 4)
//!  (empty)                  -->          Authenticated(user)    235
//! ```
//!
//! -PLUS binds the exchange to the TLS channel by `tls-server-end-point` (RFC 5929 section 4): the hash of the certificate
//! that the server showed. Somebody in the middle with another certificate then has a proof that is worth nothing to us.
//!
//! Promises: what is compared of the proof is compared in constant time; the channel and the nonce are held against ours
//! before the proof; a client that believes that we cannot bind, where we offered to, was lied to and is refused
//! (section 6); who does not exist is answered like who does, because the caller gives keys for everybody. A proof that
//! fails ends the exchange with a 535 and without `e=`, as section 5.1 allows: one answer for every reason.

mod client;
mod keys;
mod message;
mod server;
#[cfg(test)]
mod tests;

pub(super) use client::ScramClient;
pub use keys::{ITERATIONS_MAX, ITERATIONS_MIN, KEY_BYTES, Keys, SALT_BYTES};
pub(super) use server::ScramServer;

/// The one way in which we bind to a channel (RFC 5929 section 4).
const BINDING: &str = "tls-server-end-point";

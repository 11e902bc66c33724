//! The protocol: both sides of one SMTP connection as plain state machines. No I/O, no clock, no `async`.

pub mod client;
pub mod envelope;
pub mod session;

pub use client::Client;
pub use envelope::Envelope;
pub use session::Session;

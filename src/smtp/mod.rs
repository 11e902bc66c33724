//! The protocol: both sides of one SMTP connection as plain state machines. No I/O, no clock, no `async`, no `unsafe`.

pub mod body;
pub mod chunk;
pub mod client;
pub mod command;
pub mod envelope;
pub mod line;
pub mod parameter;
pub mod path;
pub mod reply;
pub mod session;
mod text;
pub mod xclient;
pub mod xtext;

pub use client::Client;
pub use envelope::Envelope;
pub use session::Session;

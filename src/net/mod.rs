//! Bytes: sockets in the clear or under TLS, pooled buffers, deadlines, and the runtime of a core.
//!
//! ```text
//!                 fill()                          feed(eat)
//!  socket --recv--> [input, pooled] ----------------------------------> eat(bytes)        in the clear
//!  socket --recv--> [input, pooled] --rustls--> [record] -------------> eat(bytes)        under TLS
//!                                        |          '- rest, copied --> next feed
//!                                        v
//!  socket <--send-- [records, pooled] <--+------ rustls <-------------- write(out)
//! ```
//!
//! Promises:
//! - A connection that waits holds no buffer: after at most two ticks of the sweeper it waits for readiness only.
//! - No byte is lost to a deadline: a read that is cancelled is awaited to its end, and data that won is kept.
//! - No timer per read and no clock read per command: one sweeper per thread ends the waits that are too old.
//! - Clear-text input never crosses into TLS: both handshakes drop what was buffered first (RFC 3207 section 4.2).
//! - After a failed handshake nothing more is read or written but the alert (RFC 3207 section 4.1).
//!
//! Protocol is left to others: this room does not know what SMTP is.

mod buffer;
mod certificates;
mod deadline;
pub mod failure;
pub mod proxy;
mod runtime;
mod socket;
mod stream;
mod tls;
mod tls_config;
mod trust;

#[cfg(test)]
mod tests;

pub use buffer::BUFFER_BYTES;
pub use certificates::{Certificate, Holds, PemFiles, holds};
pub use deadline::{Hook, Shared, TICK, ticks};
pub use runtime::{Driver, RingFlags, after_others, probe_io_uring, run, run_with_flags};
pub use stream::Stream;
pub use tls_config::{ServerTls, server_config, server_tls, unverified_client_config, unverified_client_config_with};
pub use trust::{handshake_trouble, is_certificate_fault, verifying_client_config};

//! The message: what its header holds, what to put before it, and how its parts are encoded for a server that cannot take
//! them as they are. No I/O, no clock.

pub mod date;
pub mod header;
pub mod mime;
pub mod trace;

pub use header::Header;
pub use trace::{Arrival, prepend};

/// Octets of a line without its CRLF. RFC 5321 section 4.5.3.1.6, RFC 5322 section 2.1.1.
pub const LINE_BYTES_MAX: usize = 998;

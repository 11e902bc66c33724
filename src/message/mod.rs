//! The message's header: what is there, and what to put before it. No I/O, no clock.

pub mod date;
pub mod header;
pub mod trace;

pub use header::Header;
pub use trace::{Arrival, prepend};

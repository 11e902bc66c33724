//! Delivery: from the spool to the institution's mail system.
//!
//! ```text
//!                       decides                     does
//!  spool --record-->    queue (what, when, whether)  worker (the thread)
//!                       route (where to), sender     task, connection (SMTP, LMTP), maildir
//!                       pool (which host of it)      lease (a place there)
//!                       losses (host or message)
//!                       direct (a domain's servers)
//!                       content, conversion (what is sent)
//!                       notification (what the sender is told)
//!  spool <--outcome--   records (what is recorded)   worker
//!  operator's questions and orders: operator         worker
//! ```
//!
//! **The promise:** every durable message is delivered at least once to each recipient, or its sender is told. A
//! recipient is done when an outcome record says so; a crash between a delivery and its record means a second delivery,
//! as in every mail system (RFC 1047), and nothing else does.

pub mod connection;
pub mod content;
pub mod conversion;
pub mod direct;
pub mod following;
pub mod handle;
pub mod journal;
pub mod lease;
pub mod losses;
pub mod maildir;
pub mod notification;
pub mod operator;
pub mod pool;
pub mod prepare;
pub mod queue;
pub mod records;
pub mod route;
pub mod sender;
pub mod task;
pub mod watch;
pub mod worker;

pub use handle::{MOVE_AFTER_S, RelayHandle, RelayOptions, start};
pub use queue::Queue;
pub use watch::Watch;

#[cfg(test)]
mod tests;

//! What became of each message, kept for some days: "where is my message?"
//!
//! ```text
//!  relay, control --a line, a lock--> 4 MiB queue --> trace thread --> DIR/traces/2026-11-22.trace    append only, 0600
//!                     full: dropped, counted               \--------> files past retention_days are removed
//!  penstock trace <-- control <-- search <-- the files
//! ```
//!
//! | file | what it is |
//! |---|---|
//! | [`line`] | the form of a line: written and read here alone |
//! | [`writer`] | the handle, the queue and the thread |
//! | [`search`] | from an id, a user or an address to what became of the messages |
//!
//! Promises: nobody who delivers mail waits for a trace; traces take no room that the spool needs; what is older than
//! `trace.retention_days` is gone within a day. A message of one recipient that is delivered at once takes about 200 octets,
//! a recipient more the length of its address, each try that tells something new about 100. They are not synced: a crash
//! costs the last lines, and the relay writes again what was accepted then.

pub mod line;
pub mod search;
pub mod writer;

pub use writer::Traces;

/// Where they are in the spool's directory.
pub const DIRECTORY: &str = "traces";

//! The operator's way into a running server: a Unix socket, one request and its answer on each connection.
//!
//! ```text
//!  penstock queue, trace --one line of JSON--> socket --SO_PEERCRED, groups--> rank --table--> may it?
//!                                                                                        | audit line in the log
//!       <-- lines of JSON, the last one says how it ended -- a thread a client <--pages-- relay, between its turns
//!                                                                 \--- envelopes, read from the spool beside it
//! ```
//!
//! | file | what it is |
//! |---|---|
//! | [`request`] | what may be asked, as JSON: read and written here alone |
//! | [`filter`] | which messages are meant |
//! | [`permission`] | who may ask what: one table |
//! | [`peer`] | who is at the other end |
//! | [`places`] | who of them is served: there are few places |
//! | [`source`] | the queue of a running server, or of a stopped one's spool |
//! | [`listing`] | messages as rows |
//! | [`answer`] | a request's answer, line by line |
//! | [`tally`] | what its last line says: how many, and of which not |
//! | [`tracing`] | what became of a message, as a row |
//! | [`socket`] | the socket, its clients, their limits |
//!
//! Promises: whoever asks costs the relay no more than a turn for each 256 messages, and the cores nothing; a client that
//! does not read is dropped; every request of somebody who may, and every refusal, is a line in the log with the user (a
//! stranger who tries again and again: one in ten seconds).

pub mod answer;
pub mod filter;
pub mod listing;
pub mod peer;
pub mod permission;
pub mod places;
pub mod request;
pub mod socket;
pub mod source;
pub mod tally;
pub mod tracing;

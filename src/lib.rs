//! Penstock: a mail-submission appliance.
//!
//! It takes mail from a university's mail programs over TLS, answers `250` only when the message is on disk, and
//! hands every accepted message on to the institution's own mail system.
//!
//! ```text
//!  core 0 .. core N-1     own listeners, sessions, buffers, one spool writer       server, net, smtp, spool
//!       |   ^
//!       |   +--- verdicts --- verifier threads (password hashing)                  auth
//!       v
//!    segments (append-only, per core) --- follower ---> relay thread               spool, relay
//!                                                          |
//!                                                          +--> smarthost, LMTP, Maildir
//! ```
//!
//! Each core serves alone, but for the current TLS, users and recipients snapshots, those queues, and three tables of what one
//! client does on several cores: how many connections it has (`server/admission.rs`), how many recipients its user has used
//! up, where that is limited (`server/rates.rs`), and how many of its logins failed ([`auth::brake`]).
//!
//! **A core decides, a driver does.** The rules live in plain `&mut self` types that take bytes and return an enum that
//! says what to do next ([`smtp::Session`], [`smtp::Client`], [`sasl`], [`message`], [`policy`], [`spool::GroupCommit`],
//! [`relay::Queue`]); they know no socket, file, clock, thread or lock. Around each stands a thin driver that owns the
//! socket or the file and decides nothing.
//!
//! **The promise:** `250` after end-of-data means durable. It is said once, in [`spool`], with what it covers.
//!
//! | module | what it is | may import |
//! |---|---|---|
//! | [`smtp`] | the protocol, both sides; no I/O | `sasl`, `policy`, `message`; `log`, for one character table |
//! | [`sasl`] | authentication exchanges, both sides; no I/O | - |
//! | [`message`] | the header: what to prepend; MIME: what to encode; no I/O | `log`, for one character table |
//! | [`policy`] | who may send what where; no I/O | - |
//! | [`auth`] | who it is: users file, verdict cache, verifier threads | `sasl`, `policy`, `services` |
//! | [`spool`] | durability: records, segments, group commit, following | `smtp::envelope`; `metrics`, for its writers |
//! | [`relay`] | delivery: queue, routes, bounces | `net`, `spool`, `message`, `smtp`, `sasl`, `services`, `trace` |
//! | [`net`] | bytes: buffers, TCP and TLS streams, the runtime | of `services` how files are read |
//! | [`server`] | the appliance: core threads, listeners, connections, what they share | `net`, `spool`, `auth`, `policy`, `message`, `smtp` |
//! | [`services`] | what is slow: name resolution, name servers, files that an operator writes | `metrics`, for what name servers say |
//! | [`control`] | the operator's way into a running server: a Unix socket | `relay`, `spool`, `smtp::envelope`, `trace`, `auth` |
//! | [`trace`] | what became of each message, kept for some days | `smtp::envelope`, `spool::QueueId` |
//! | [`admin`] | what the operator does: queue, user commands, demo | all |
//! | [`appliance`] | all of it put together, started and stopped | all |
//! | [`config`], [`log`], [`metrics`], [`clock`], [`shares`] | constants after start, log lines, plain counters, the time, who may hold how many places | `config`: `policy`, `log`, `sasl` for its mechanisms; `metrics`: `log` |

pub mod admin;
pub mod appliance;
pub mod auth;
pub mod clock;
pub mod config;
pub mod control;
pub mod log;
pub mod message;
pub mod metrics;
pub mod net;
pub mod policy;
pub mod relay;
pub mod sasl;
pub mod server;
pub mod services;
pub mod shares;
pub mod smtp;
pub mod spool;
pub mod trace;

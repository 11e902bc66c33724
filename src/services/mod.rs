//! What is slow: name resolution and files that an operator writes, on plain threads of their own.
//!
//! ```text
//!  relay --Question--> bounded queue --> resolver threads (getaddrinfo) --answer--> one-shot
//! ```
//!
//! [`watch`] notices that such a file changed, [`plain_file`] reads it.
//!
//! Promises: the asker's thread never waits for a name server; the queue is bounded, and a full one is an answer.

pub mod plain_file;
pub mod resolver;
pub mod watch;

pub use resolver::Resolver;
pub use watch::Watcher;

//! What is slow: name resolution, files that an operator writes, pages for whoever watches; on plain threads of their own.
//!
//! ```text
//!  relay --Question--> bounded queue --> resolver threads (getaddrinfo) --answer--> one-shot
//! ```
//!
//! [`http`] serves metrics and health to whoever watches. [`watch`] notices that such a file changed, [`plain_file`] reads it.
//!
//! Promises: the asker's thread never waits for a name server; the queue is bounded, and a full one is an answer.

pub mod http;
pub mod plain_file;
pub mod resolver;
pub mod watch;

pub use http::Http;
pub use resolver::Resolver;
pub use watch::Watcher;

//! What is slow: name resolution, files that an operator writes, pages for whoever watches; on plain threads of their own.
//!
//! ```text
//!  relay --Question--> bounded queue --> resolver threads (getaddrinfo) --answer--> one-shot
//! ```
//!
//! [`dns`] asks name servers what only they know: the mail exchangers of a domain, for senders in turn. It is the one place
//! that needs tokio.
//! [`http`] serves metrics and health to whoever watches. [`watch`] notices that such a file changed, [`plain_file`] reads it.
//!
//! Promises: the asker's thread never waits for a name server; the queue is bounded, and a full one is an answer.

pub mod dns;
pub mod http;
pub mod plain_file;
pub mod resolver;
pub mod watch;

pub use dns::Dns;
pub use http::Http;
pub use resolver::Resolver;
pub use watch::Watcher;

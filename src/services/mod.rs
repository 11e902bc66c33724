//! What is slow: name resolution, on a plain thread of its own.
//!
//! ```text
//!  relay --Question--> bounded queue --> resolver threads (getaddrinfo) --answer--> one-shot
//! ```
//!
//! Promises: the asker's thread never waits for a name server; the queue is bounded, and a full one is an answer.

pub mod resolver;

pub use resolver::Resolver;

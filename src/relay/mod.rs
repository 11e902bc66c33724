//! Delivery.

pub mod bounce;
pub mod content;
pub mod maildir;
pub mod queue;
pub mod route;

pub use queue::Queue;
pub mod worker;
pub use worker::*;

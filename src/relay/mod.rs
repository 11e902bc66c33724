//! Delivery.

pub mod queue;
pub mod route;

pub use queue::Queue;

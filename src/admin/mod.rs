//! stub

pub mod user;

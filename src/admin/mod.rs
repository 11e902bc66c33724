//! What the operator does: one file for each command.
//!
//! | command | file |
//! |---|---|
//! | `penstock serve` | [`serve`]: start, signals, drain |
//! | `penstock check` | [`check`]: what the configuration's text cannot show, the files that it names |
//! | `penstock demo` | [`demo`]: a folder with everything in it, served |
//! | `penstock user` | [`user`]: the users file |
//!
//! `penstock config example` prints [`crate::config::example`].

pub mod certificate;
pub mod check;
pub mod demo;
pub mod serve;
pub mod user;

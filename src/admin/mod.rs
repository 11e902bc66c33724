//! What the operator does: one file for each command.
//!
//! | command | file |
//! |---|---|
//! | `penstock serve` | [`serve`]: start, signals, drain |
//! | `penstock check` | [`check`]: what the configuration's text cannot show, the files that it names |
//! | `penstock demo` | [`demo`]: a folder with everything in it, served |
//! | `penstock queue` | [`queue`]: what is queued, and what is to become of it |
//! | `penstock trace` | [`trace`]: where is my message? |
//! | `penstock user` | [`user`]: the users file |
//! | `penstock spool adopt` | [`adopt`]: what another machine has left |
//! | `/metrics`, `/livez`, `/readyz` over HTTP | [`status`]: what is asked and held; [`figures`]: the page of metrics |
//!
//! `penstock config example` prints [`crate::config::example`], `penstock metrics` [`crate::metrics::table`].

pub mod adopt;
pub mod certificate;
pub mod check;
pub mod demo;
pub mod figures;
pub mod queue;
pub mod serve;
pub mod status;
pub mod trace;
pub mod user;

use std::io::Write;

/// Prints `text`. False: it did not get there, because nobody reads (`| head`) or the disk is full; a command, least of all a
/// server, does not die of that.
pub fn say(text: &str) -> bool {
    if cfg!(test) {
        // Through the harness, which keeps it for the tests that fail.
        print!("{text}");
        return true;
    }
    std::io::stdout().write_all(text.as_bytes()).is_ok()
}

/// Likewise on standard error, where there is nobody left to tell.
pub fn complain(text: &str) {
    if cfg!(test) {
        return eprint!("{text}");
    }
    let _ = std::io::stderr().write_all(text.as_bytes());
}

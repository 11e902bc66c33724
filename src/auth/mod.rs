//! stub
use crate::sasl::Credentials;
use std::sync::Arc;
/// What came of checking a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Right: the canonical user name.
    Accepted(Arc<str>),
    /// Unknown user or wrong password: one and the same.
    Rejected,
    /// Cannot be checked now (queue full, shutting down): 454 4.7.0.
    Unavailable,
}
/// Shared by all cores.
pub struct Authenticator {}
impl Authenticator {
    /// Loads the users file, starts the verifier threads and the watcher.
    pub fn start(_config: &crate::config::Auth) -> Result<Arc<Authenticator>, String> {
        todo!()
    }
    /// From a core: the cache at once, else a verifier. Never blocks the thread.
    pub async fn check(&self, _credentials: Credentials) -> Verdict {
        todo!()
    }
    /// Reads the users file again (SIGHUP). A broken file keeps the old one and says so.
    pub fn reload(&self) {
        todo!()
    }
}

//! stub (the session's author writes this)

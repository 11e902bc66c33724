//! LOGIN (draft-murchison-sasl-login): the server asks for the user name, then for the password.
//!
//! The draft leaves the prompts open, but clients compare them with these two.

/// `Username:`
pub(super) const USER_PROMPT: &str = "VXNlcm5hbWU6";

/// `Password:`
pub(super) const PASSWORD_PROMPT: &str = "UGFzc3dvcmQ6";

//! stub: how users name themselves.
/// `username_form` of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsernameForm {
    /// `user` and `user@domain` are the same account.
    Either,
    /// Only `user@domain`.
    RequireDomain,
    /// `user` becomes `user@domain`.
    AppendDomain,
}

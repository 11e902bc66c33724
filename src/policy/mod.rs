//! What clients may do: networks, domains, roles. No I/O.

pub mod domain_name;
pub mod domains;
pub mod network;
pub mod networks;
pub mod rate;
pub mod recent;
pub mod recipients;
pub mod relaying;
pub mod username;

pub use domains::Domains;
pub use network::Network;
pub use networks::Networks;
pub use recipients::Recipients;
pub use username::UsernameForm;

/// Who may send where on a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Authenticated only, to anyone.
    Submission,
    /// Authenticated and trusted networks to anyone, everybody else to local domains only.
    Smtp,
}

/// How TLS starts on a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// From the first byte.
    Implicit,
    /// STARTTLS first.
    Required,
    /// STARTTLS offered.
    Offered,
}

/// What happens to bare CR, bare LF and NUL in content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OddBytes {
    /// Bare CR and LF become CRLF, NUL is dropped: printers and scripts send such things.
    Normalize,
    /// The message is refused at its end.
    Reject,
}

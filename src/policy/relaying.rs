//! Who may send to whom: the one rule that keeps a server from relaying for strangers. RFC 5321 sections 3.6.2 and 7.9,
//! RFC 6409 section 4.3.
//!
//! | role | client | recipients |
//! |---|---|---|
//! | submission | authenticated | all |
//! | submission | everybody else | none: authentication required |
//! | smtp | authenticated, or in a trusted network | all |
//! | smtp | everybody else | local domains, and no local part in which a further route may hide |

use super::{Domains, Role};

/// What is known of a client when it names a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// Authenticated in this session.
    pub authenticated: bool,
    /// Its address is in a trusted network.
    pub trusted: bool,
}

/// May this client send to this recipient?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relaying {
    /// Yes.
    Allowed,
    /// The listener is for authenticated clients only.
    AuthenticationRequired,
    /// Not to elsewhere.
    Denied,
}

/// Is `client` welcome on a listener of this role at all (MAIL)?
pub fn sender(role: Role, client: Client) -> Relaying {
    match role {
        Role::Submission if !client.authenticated => Relaying::AuthenticationRequired,
        Role::Submission | Role::Smtp => Relaying::Allowed,
    }
}

/// May `client` send to a recipient in `domain` (RCPT)? `hides_a_route`: see `smtp::path::Mailbox`.
pub fn recipient(role: Role, client: Client, domain: &[u8], hides_a_route: bool, local: &Domains) -> Relaying {
    match (role, client) {
        (_, Client { authenticated: true, .. }) | (Role::Smtp, Client { trusted: true, .. }) => Relaying::Allowed,
        (Role::Submission, _) => Relaying::AuthenticationRequired,
        (Role::Smtp, _) if local.contains(domain) && !hides_a_route => Relaying::Allowed,
        (Role::Smtp, _) => Relaying::Denied,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table() {
        let local = Domains::new(["example.edu"]);
        let stranger = Client { authenticated: false, trusted: false };
        let trusted = Client { authenticated: false, trusted: true };
        let user = Client { authenticated: true, trusted: false };
        let (here, there) = (&b"example.edu"[..], &b"example.org"[..]);
        use Relaying::{Allowed, AuthenticationRequired, Denied};
        for (role, client, domain, hides, expected) in [
            (Role::Submission, stranger, here, false, AuthenticationRequired),
            (Role::Submission, trusted, here, false, AuthenticationRequired),
            (Role::Submission, user, there, false, Allowed),
            (Role::Smtp, stranger, here, false, Allowed),
            (Role::Smtp, stranger, here, true, Denied),
            (Role::Smtp, stranger, there, false, Denied),
            (Role::Smtp, trusted, there, false, Allowed),
            (Role::Smtp, user, there, true, Allowed),
        ] {
            assert_eq!(recipient(role, client, domain, hides, &local), expected, "{role:?} {client:?}");
        }
        assert_eq!(sender(Role::Submission, trusted), AuthenticationRequired);
        assert_eq!(sender(Role::Smtp, stranger), Allowed);
    }
}

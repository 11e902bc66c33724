//! XCLIENT: a mail proxy says which client it speaks for. Postfix's XCLIENT_README.
//!
//! | who says it, and when | reply |
//! |---|---|
//! | a peer that is not listed, or one that has said it already | 550 5.7.0, and EHLO does not offer it |
//! | in a transaction | 503 5.5.1 |
//! | with an attribute that is none, or a user name that is none | 501 5.5.4 |
//! | with LOGIN where that is not believed | 550 5.7.0 |
//! | else | 220, and the session begins anew, with the client's address |
//!
//! **Once a connection:** behind many proxies the client's own octets follow, and it must not be able to say who it is.
//!
//! **Trust:** after XCLIENT a client is trusted for the address that was given and for nothing else; without one it is
//! a stranger, even if the proxy itself is trusted. What was said in the clear does not make a client trusted or
//! authenticated inside TLS.

use super::{Action, MayXclient, Mode, Question, Session, State, Wait};
use crate::smtp::reply;
use crate::smtp::xclient::Xclient;
use std::sync::Arc;

/// What XCLIENT said and the session keeps: it counts in place of the proxy's own EHLO.
#[derive(Debug, Default)]
pub(super) struct Proxied {
    pub(super) helo: Option<Box<str>>,
    pub(super) extended: Option<bool>,
}

impl Session {
    /// Lets the peer say XCLIENT, or not, which is the default.
    pub fn set_may_xclient(&mut self, may: MayXclient) {
        self.may_xclient = may;
    }

    pub(super) fn xclient(&mut self, arguments: &[u8], out: &mut Vec<u8>) -> Option<Action<'static>> {
        if self.may_xclient == MayXclient::No {
            self.note(reply::NO_PROXY);
            return self.bad_command(reply::NO_PROXY, out);
        }
        if self.is_in_transaction() {
            return self.bad_command(reply::BAD_SEQUENCE, out);
        }
        let Some(mut xclient) = Xclient::parse(arguments) else {
            return self.bad_command(reply::BAD_ARGUMENT, out);
        };
        if xclient.login.is_some() && self.may_xclient != MayXclient::WithLogin {
            self.note(reply::NO_XCLIENT_LOGIN);
            return self.bad_command(reply::NO_XCLIENT_LOGIN, out);
        }
        self.proxied = Some(Box::new(Proxied { helo: xclient.helo.take(), extended: xclient.extended }));
        self.mode = Mode::Waiting(Wait::Client);
        Some(Action::Ask(Question::Client(Box::new(xclient))))
    }

    /// The driver knows the client now: the session begins anew.
    pub(super) fn client_known(&mut self, trusted: bool, user: Option<Arc<str>>, out: &mut Vec<u8>) {
        self.may_xclient = MayXclient::No;
        self.reset();
        self.state = State::Fresh;
        self.helo = Box::default();
        self.extended = false;
        self.trusted = trusted;
        self.user = user;
        // The client sees the proxy's certificate, not ours.
        self.binding = None;
        reply::greeting(&self.rules.hostname, out);
    }

    /// LOGIN names nobody that could be a user here.
    pub(super) fn client_refused(&mut self, out: &mut Vec<u8>) {
        self.proxied = None;
        self.bad_command(reply::BAD_ARGUMENT, out);
    }

    /// RFC 3207 section 4.2: what XCLIENT gave in the clear is forgotten, but not that somebody else speaks for the client.
    pub(super) fn forget_proxied(&mut self) {
        if let Some(proxied) = &mut self.proxied {
            **proxied = Proxied::default();
            self.trusted = false;
        }
    }
}

//! Who the client is when a proxy speaks for it: by a PROXY header before everything else, or by XCLIENT.
//!
//! | the peer is in | what counts |
//! |---|---|
//! | `proxy_from` | the header's address. No header, or none in time: closed without a greeting (421 if displaced) |
//! | `xclient_from` | its own address, until it says XCLIENT; then the one given |
//! | neither | its own address; PROXY is an unknown command, XCLIENT 550 5.7.0 |
//!
//! The list that lets a peer speak is held against the peer itself; all else (trusted networks, limits, logs, Received
//! fields) against whom it speaks for. That a proxy stands in a trusted network makes no client of it trusted: where the
//! proxy does not know its client, the client is a stranger. Behind a load balancer that says PROXY, the peer that may
//! say XCLIENT is the one that the header names.

use super::connection::Connection;
use super::ending::End;
use super::is_trusted;
use crate::auth::users::Names;
use crate::config;
use crate::log::Level;
use crate::net::Stream;
use crate::net::proxy::{NoHeader, Proxied, Scanner};
use crate::policy::TlsMode;
use crate::smtp::reply;
use crate::smtp::session::{Answer, MayXclient};
use crate::smtp::xclient::Xclient;
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// For the whole header: a proxy sends it at once, so this is for lost packets (HAProxy waits as long by default).
const HEADER_LIMIT: Duration = Duration::from_secs(5);

/// Whom one connection is with.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// The client as far as it is known, else the proxy.
    pub client: SocketAddr,
    /// The proxy, if one speaks for the client.
    pub proxy: Option<SocketAddr>,
    /// Is `client` the client's own address?
    pub is_known: bool,
}

impl Peer {
    /// Nobody stands between.
    pub fn direct(client: SocketAddr) -> Peer {
        Peer { client, proxy: None, is_known: true }
    }

    /// The client's address, or the proxy's if nothing better is known.
    pub fn ip(&self) -> IpAddr {
        self.client.ip()
    }

    /// As a PROXY header says.
    fn behind(proxy: SocketAddr, proxied: Proxied) -> Peer {
        match proxied {
            Proxied::Client(client) => Peer { client, proxy: Some(proxy), is_known: true },
            Proxied::Unknown => Peer { client: proxy, proxy: Some(proxy), is_known: false },
            Proxied::Local => Peer::direct(proxy),
        }
    }

    /// As XCLIENT says.
    fn named(self, xclient: &Xclient) -> Peer {
        let named = xclient.address.map(|address| SocketAddr::new(address, xclient.port.unwrap_or(0)));
        Peer { client: named.unwrap_or(self.client), proxy: Some(self.client), is_known: named.is_some() }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.client.fmt(formatter)
    }
}

impl Connection {
    /// Reads the PROXY header if the peer must send one. Errors: there is none, and nothing is to be said.
    pub(super) async fn meet(&mut self) -> io::Result<()> {
        if !self.service().proxy_from.contains(self.peer.ip()) {
            return Ok(());
        }
        match Box::pin(read_header(&mut self.stream)).await {
            Ok(proxied) => {
                self.peer = Peer::behind(self.peer.client, proxied);
                Ok(())
            }
            Err(error) => {
                // A health check that only looks whether somebody listens is not worth a line.
                if matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::TimedOut) {
                    self.event(Level::Warning, "no PROXY header").field("reason", &error).emit();
                }
                Err(error)
            }
        }
    }

    /// Why there is no header. Its place may have been given to somebody else meanwhile, of which it is told where that is
    /// not before TLS.
    pub(super) async fn unmet(&mut self) -> End {
        if !self.admitted.place.is_lost() {
            return End::NoHeader;
        }
        if self.service().rules.tls != TlsMode::Implicit {
            self.tell(reply::TOO_MANY_CONNECTIONS).await;
        }
        End::Displaced
    }

    /// May the client relay because of its network?
    pub(super) fn is_trusted(&self) -> bool {
        self.peer.is_known && is_trusted(&self.core.config, self.service().rules.role, self.peer.ip())
    }

    /// May the peer say XCLIENT?
    pub(super) fn may_xclient(&self) -> MayXclient {
        let service = self.service();
        match self.peer.is_known && service.xclient_from.contains(self.peer.ip()) {
            true if service.xclient_login => MayXclient::WithLogin,
            true => MayXclient::Yes,
            false => MayXclient::No,
        }
    }

    /// XCLIENT: from here on the client is the one that was named.
    /// Errors: that one has too many connections.
    pub(super) async fn take_xclient(&mut self, xclient: &Xclient) -> Result<Answer, End> {
        let user = match &xclient.login {
            None => None,
            Some(login) => match canonical(self.core.config.auth.as_ref(), login) {
                Some(user) => Some(Arc::from(user)),
                None => return Ok(Answer::Rejected),
            },
        };
        self.peer = self.peer.named(xclient);
        self.log_xclient(xclient);
        let trusted = self.is_trusted();
        match self.admitted.meet(&self.peer, trusted || user.is_some()) {
            Ok(()) => Ok(Answer::Client { trusted, user }),
            Err(refused) => self.refuse(refused).await.map(|never| match never {}),
        }
    }

    fn log_xclient(&self, xclient: &Xclient) {
        let mut line = self.event(Level::Info, "client named by XCLIENT");
        for (key, value) in [("name", &xclient.name), ("user", &xclient.login)] {
            if let Some(value) = value {
                line = line.octets(key, value.as_bytes());
            }
        }
        if let Some(destination) = xclient.destination {
            line = line.field("destination", SocketAddr::new(destination, xclient.destination_port.unwrap_or(0)));
        }
        line.emit();
    }
}

/// The account that a proxy says is logged in: by the rules for those who log in here. None: it cannot be one.
fn canonical(auth: Option<&config::Auth>, login: &str) -> Option<String> {
    Names::of(auth).account(login).ok()
}

/// Reads the header and nothing behind it.
async fn read_header(stream: &mut Stream) -> io::Result<Proxied> {
    let until = Instant::now() + HEADER_LIMIT;
    let mut scanner = Scanner::default();
    loop {
        match stream.feed(|input| scanner.next(input))? {
            Some(Ok(proxied)) => return Ok(proxied),
            Some(Err(NoHeader)) => return Err(io::Error::new(ErrorKind::InvalidData, "it begins with something else")),
            None => {}
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        stream.set_deadline(left);
        if stream.fill().await? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Networks, UsernameForm};

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("address")
    }

    /// Else a limit of one person's would be counted twice, and the log would name two.
    // covers: 2.11
    #[test]
    fn a_login_by_xclient_is_the_account_that_the_users_file_has() {
        let auth = |username_form| config::Auth {
            users_file: "users".into(),
            username_form,
            domain: Some("home.example".into()),
            verifiers: 1,
            verifier_queue: 1,
            cache_s: 0,
            scram: false,
            scram_iterations: 4096,
            brake_account_failures: 1,
            brake_address_failures: 1,
            brake_window_s: 1,
            brake_exempt_networks: Networks::default(),
            failure_delay_ms: 0,
        };
        let long = "u".repeat(256);
        for (form, login, account) in [
            (UsernameForm::Either, "Anna@Home.example", Some("anna")),
            // Preparation: a soft hyphen, a ligature and a letter with its accent apart.
            (UsernameForm::Either, "an\u{AD}na", Some("anna")),
            (UsernameForm::Either, "\u{FB01}nn", Some("finn")),
            (UsernameForm::Either, "jo\u{308}rg", Some("j\u{F6}rg")),
            (UsernameForm::AppendDomain, "Anna", Some("anna@home.example")),
            (UsernameForm::RequireDomain, "anna", None),
            (UsernameForm::Either, "anna\u{1}", None),
            (UsernameForm::Either, "an:na", None),
            (UsernameForm::Either, "an na", None),
            (UsernameForm::Either, "#anna", None),
            (UsernameForm::Either, &long, None),
        ] {
            assert_eq!(canonical(Some(&auth(form)), login).as_deref(), account, "{login}");
        }
        assert_eq!(canonical(None, "Anna@Home.example").as_deref(), Some("anna@home.example"), "nobody logs in here");
        assert_eq!(canonical(None, "an na"), None);
    }

    // covers: 2.10 2.11
    #[test]
    fn only_a_named_client_is_known() {
        let (proxy, client) = (address("127.0.0.1:4000"), address("192.0.2.1:5000"));
        let seen = |peer: Peer| (peer.client, peer.proxy, peer.is_known);
        assert_eq!(seen(Peer::behind(proxy, Proxied::Client(client))), (client, Some(proxy), true));
        assert_eq!(seen(Peer::behind(proxy, Proxied::Unknown)), (proxy, Some(proxy), false));
        assert_eq!(seen(Peer::behind(proxy, Proxied::Local)), (proxy, None, true));

        let parse = |text: &str| Xclient::parse(text.as_bytes()).expect("legal");
        let named = |text| seen(Peer::direct(proxy).named(&parse(text)));
        assert_eq!(named("ADDR=192.0.2.1 PORT=5000"), (client, Some(proxy), true));
        assert_eq!(named("ADDR=192.0.2.1"), (address("192.0.2.1:0"), Some(proxy), true));
        assert_eq!(named("ADDR=[UNAVAILABLE] PORT=5000"), (proxy, Some(proxy), false));
        assert_eq!(named("NAME=pc.example.edu"), (proxy, Some(proxy), false));
        let behind_both = Peer::behind(proxy, Proxied::Client(client)).named(&parse("ADDR=198.51.100.1 PORT=1"));
        assert_eq!(seen(behind_both), (address("198.51.100.1:1"), Some(client), true));
    }
}

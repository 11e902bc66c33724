//! A server as it is configured, its addresses, and a connection to one of them.

use super::{Connection, Context, OpenError, Tls};
use crate::config::RouteTls;
use crate::log::{self, Level};
use crate::net::Stream;
use crate::relay::direct::addresses::{NoPlace, Place};
use crate::services::Resolver;
use crate::smtp::client::{Login, Options, StartTls};
use monoio::net::{TcpStream, UnixStream};
use rustls::pki_types::ServerName;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Where a server with our own name is ourselves.
const SMTP_PORT: u16 = 25;
/// For a name to be resolved, and for a connection to be made to one address.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);

/// Where to connect.
pub enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// A server whose addresses are known.
pub struct Host<'a> {
    pub name: String,
    pub addresses: Vec<Address>,
    pub lmtp: bool,
    pub login: Option<Login>,
    /// Another host may be asked.
    pub hurried: bool,
    pub tls: &'a Tls,
    /// Its addresses may be other hosts' too: most connections to each of them, and whose mail this one is for.
    pub shared: Option<(usize, u32)>,
}

impl Host<'_> {
    /// A connection to the first address that gives one, with `tls` at least; with a login never without TLS, whatever `tls`
    /// is. Errors: why one failed, and which.
    pub async fn open(&self, tls: RouteTls, context: &Context) -> Result<Connection, (OpenError, String)> {
        let starttls = match tls {
            _ if self.login.is_some() => StartTls::Required,
            RouteTls::None => StartTls::Never,
            RouteTls::Opportunistic => StartTls::WhenOffered,
            RouteTls::Required | RouteTls::Verified => StartTls::Required,
        };
        let verifies = tls == RouteTls::Verified;
        let config = match if verifies { &self.tls.verifying } else { &self.tls.unverified } {
            _ if starttls == StartTls::Never => None,
            Ok(config) => Some(config.clone()),
            Err(why) => return Err((OpenError::Handshake(why.clone()), self.name.clone())),
        };
        let login = self.login.clone();
        let options = Options { lmtp: self.lmtp, starttls, verifies, login, ..Options::new(&context.hostname) };
        let mut trouble: Option<(OpenError, String)> = None;
        let mut has_waited = false;
        for address in self.roomy_first(context) {
            if has_waited && self.is_full(address, context) {
                continue;
            }
            let place = match self.enter(address, context).await {
                Ok(place) => place,
                Err(no_place) => {
                    has_waited |= no_place == NoPlace::Full;
                    if trouble.as_ref().is_none_or(|(known, _)| known.is_lasting()) {
                        trouble = Some((unentered(no_place), address.shown(&self.name)));
                    }
                    continue;
                }
            };
            // Behind another port there may be a content filter of the same name, as with Postfix.
            let detects_loop = matches!(address, Address::Tcp(to) if to.port() == SMTP_PORT);
            let mut options = Options { detects_loop, ..options.clone() };
            let mut opened =
                Connection::open_at(address, &self.name, &options, config.clone(), self.hurried, context).await;
            if let (Err(OpenError::Handshake(why) | OpenError::Certificate(why)), StartTls::WhenOffered) =
                (&opened, starttls)
            {
                let event = log::event(Level::Warning, "tls failed, trying in the clear");
                event.field("destination", &self.name).octets("reason", why.as_bytes()).emit();
                options.starttls = StartTls::Never;
                opened = Connection::open_at(address, &self.name, &options, None, self.hurried, context).await;
            }
            place.iter().for_each(|place| tell(place, &opened));
            match opened {
                Ok(connection) => return Ok(Connection { place, ..connection }),
                // An address that may be better another time counts for more than one that never will be.
                Err(_) if trouble.as_ref().is_some_and(|(known, _)| !known.is_lasting()) => {}
                Err(error) => trouble = Some((error, address.shown(&self.name))),
            }
        }
        Err(trouble.unwrap_or_else(|| (OpenError::Other("it has no address".into()), self.name.clone())))
    }

    /// The addresses in order, and last those where one has to wait for a place. One waits once.
    fn roomy_first(&self, context: &Context) -> Vec<&Address> {
        let mut all: Vec<&Address> = self.addresses.iter().collect();
        all.sort_by_key(|address| self.is_full(address, context));
        all
    }

    fn is_full(&self, address: &Address, context: &Context) -> bool {
        match (self.shared, address) {
            (Some((most, _)), Address::Tcp(to)) => context.addresses.is_full(*to, most),
            _ => false,
        }
    }

    /// A place at an address that may be other hosts' too.
    async fn enter(&self, address: &Address, context: &Context) -> Result<Option<Place>, NoPlace> {
        match (self.shared, address) {
            (Some((most, sender)), Address::Tcp(to)) => context.addresses.enter(*to, most, sender).await.map(Some),
            _ => Ok(None),
        }
    }
}

/// Others who want to connect to an address hear what came of it.
fn tell(place: &Place, opened: &Result<Connection, OpenError>) {
    match opened {
        // It is there; that it is not for this message says nothing to others.
        Ok(_) | Err(OpenError::Certificate(_) | OpenError::NoTls(_) | OpenError::Loop) => place.worked(),
        Err(OpenError::Busy(why)) => place.failed(why, true),
        Err(OpenError::Handshake(why) | OpenError::Other(why)) => place.failed(why, false),
    }
}

/// Why an address is not even connected to.
fn unentered(no_place: NoPlace) -> OpenError {
    match no_place {
        NoPlace::Down(why) => OpenError::Other(format!("{why}, as was found a moment ago")),
        NoPlace::Full => OpenError::Busy("as many connections as there may be are open".into()),
    }
}

impl Address {
    pub fn shown(&self, host: &str) -> String {
        match self {
            Address::Tcp(address) if address.ip().to_string() == host => address.to_string(),
            Address::Tcp(address) => format!("{host}[{}]:{}", address.ip(), address.port()),
            Address::Unix(path) => format!("unix:{}", path.display()),
        }
    }
}

/// A name as it is configured: `host:port`, `[address]:port` or `unix:/path`. The host and where to connect.
pub async fn look_up(address: &str, resolver: &Resolver) -> Result<(String, Vec<Address>), String> {
    if let Some(path) = address.strip_prefix("unix:") {
        return Ok((address.into(), vec![Address::Unix(path.into())]));
    }
    let wrong = || format!("\"{address}\" is not host:port");
    let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse().map_err(|_| wrong())?;
    let host = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
    let found = monoio::time::timeout(CONNECT_LIMIT, resolver.resolve(host, port)).await;
    let addresses = found.map_err(|_| format!("{host}: no answer from the name resolver"))??;
    Ok((host.into(), addresses.into_iter().map(Address::Tcp).collect()))
}

pub async fn connect(address: &Address, context: &Context) -> Result<Stream, String> {
    let connected = monoio::time::timeout(CONNECT_LIMIT, async {
        match address {
            Address::Tcp(to) => TcpStream::connect_addr(*to).await.map(|tcp| Stream::tcp(tcp, context.shared.clone())),
            Address::Unix(path) => {
                UnixStream::connect(path).await.map(|unix| Stream::unix(unix, context.shared.clone()))
            }
        }
    });
    match connected.await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(format!("connect: {}", log::without_number(&error))),
        Err(_) => Err("connect: timed out".into()),
    }
}

pub fn server_name(host: &str, address: &Address) -> Result<ServerName<'static>, String> {
    match (ServerName::try_from(host.to_string()), address) {
        (Ok(name), _) => Ok(name),
        (Err(_), Address::Tcp(address)) => Ok(ServerName::from(address.ip())),
        (Err(error), Address::Unix(_)) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_as_an_operator_knows_them() {
        let tcp = Address::Tcp("192.0.2.1:25".parse().expect("address"));
        assert_eq!(tcp.shown("mx.example"), "mx.example[192.0.2.1]:25");
        assert_eq!(tcp.shown("192.0.2.1"), "192.0.2.1:25");
        assert_eq!(Address::Unix("/run/lmtp".into()).shown("unix:/run/lmtp"), "unix:/run/lmtp");
    }

    #[test]
    fn any_host_name_gives_a_server_name() {
        let address = Address::Tcp("192.0.2.1:25".parse().expect("address"));
        for host in ["mx.example", "192.0.2.1", "::1", "not a name"] {
            assert!(server_name(host, &address).is_ok(), "{host}");
        }
    }
}

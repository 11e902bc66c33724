//! One SMTP or LMTP connection to a destination: it owns the socket and does what [`Client`] says.
//!
//! ```text
//!  addresses -> connect -> [STARTTLS] -> Ready -> deliver, deliver, .. -> close
//!                  |            |
//!                  |            +-- handshake fails, TLS only wished for: once more in the clear, as Postfix's `may`
//!                  +-- fails: the next address
//! ```
//!
//! | a message that requires TLS meets (RFC 8689 section 4.2.1) | at all addresses |
//! |---|---|
//! | a certificate that is not believed, no offer of STARTTLS, a 5xx to it | it goes back with 5.7.10 |
//! | a handshake that is reset, stalls or is no TLS, 4xx to STARTTLS, no connection | it is tried again |
//!
//! The second is what a network or a server's bad hour may cause: a message given up for that would have to be sent again
//! by hand, and one that waits tells nobody anything.
//!
//! A message may ask for more or less of TLS than its route does ([`Demand`], RFC 8689); each kind has connections of its
//! own.

use crate::config::{Mx, RouteTls, Target};
use crate::log::{self, Level};
use crate::message::mime::Converter;
use crate::net::{self, Shared, Stream};
use crate::relay::content::Cutter;
use crate::relay::conversion::{self, Unplanned};
use crate::relay::direct::addresses::{Addresses, Place};
use crate::relay::journal;
use crate::relay::queue::Blame;
use crate::relay::route::Demand;
use crate::services::Resolver;
use crate::smtp::Client;
use crate::smtp::client::{Event, Fate, Options, Phase, Reply, Transaction, Trouble};
use crate::smtp::envelope::View;
use crate::spool::{Content, Stored};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroize;

mod host;
mod limits;
pub mod login;
mod outlet;
mod trouble;
mod way;

use host::{Address, Host, connect, look_up, server_name};
pub use limits::Limits;
use limits::ReplyDue;
use outlet::Outlet;
use trouble::{OpenError, lost, shown, unopened};
pub use way::{Tls, Way};

/// The end of a connection.
const CLOSED: &str = "the server closed the connection";
/// Octets of content per write.
const PIECE_BYTES: usize = 64 * 1024;

/// What all connections of the relay need.
pub struct Context {
    /// Our name in EHLO.
    pub hostname: String,
    /// Names to addresses.
    pub resolver: Resolver,
    /// The thread's streams.
    pub shared: Rc<Shared>,
    /// Of the mail servers of domains.
    pub addresses: Addresses,
    /// How long servers may take.
    pub limits: Limits,
}

/// Why there is no connection.
#[derive(Debug)]
pub enum Unopened {
    /// The destination cannot be reached: for all messages.
    Unreachable(String),
    /// It is there, and does not want us now.
    Busy(String),
    /// It can be reached, but not as this message demands.
    Refused(Reply),
}

/// What came of one transaction.
#[derive(Debug)]
pub struct Attempt {
    /// One per recipient.
    pub fates: Vec<Fate>,
    /// Another transaction may follow.
    pub usable: bool,
    /// Who broke the transaction off.
    pub blame: Blame,
    /// The server takes over what the sender asked for by NOTIFY.
    pub passes_dsn: bool,
}

/// A connection that is ready for transactions.
pub struct Connection {
    stream: Stream,
    client: Client,
    out: Vec<u8>,
    remote: String,
    /// LMTP.
    is_final: bool,
    /// How long its server may take.
    limits: Limits,
    /// Another host may be asked: there is less time for the greeting.
    hurried: bool,
    /// At its address, if it is a mail server of a domain.
    place: Option<Place>,
}

/// Why content was not sent whole.
enum Unsent {
    /// The connection is lost.
    Lost(String),
    /// The spool does not give it.
    Unreadable(String),
}

impl Connection {
    /// Connects to the smarthost with the number `host`, or to the LMTP server, trying each of its addresses. `hurried`:
    /// another host is up, so this one gets less time.
    pub async fn open(way: &Way, host: usize, hurried: bool, context: &Context) -> Result<Connection, Unopened> {
        let (address, tls, login, lmtp) = match &way.target {
            Target::Smarthost(smarthost) => {
                (&smarthost.hosts[host].address, smarthost.tls, smarthost.login.as_ref(), false)
            }
            Target::Lmtp { address } => (address, RouteTls::None, None, true),
            Target::Mx(_) | Target::Maildir { .. } | Target::Discard => {
                return Err(Unopened::Unreachable("this is not connected to".into()));
            }
        };
        let login = login.map(login::read).transpose().map_err(Unopened::Unreachable)?;
        let (name, addresses) = look_up(address, &context.resolver).await.map_err(Unopened::Unreachable)?;
        let host = Host { name, addresses, lmtp, login, hurried, tls: &way.tls, shared: None };
        Connection::open_host(&host, tls, way.demand, context).await
    }

    /// Connects to a mail server of a domain for mail of `sender`, trying each of `addresses`. `hurried`: as for
    /// [`Connection::open`].
    pub async fn open_to(
        way: &Way,
        name: &str,
        addresses: &[IpAddr],
        sender: u32,
        hurried: bool,
        context: &Context,
    ) -> Result<Connection, Unopened> {
        let Target::Mx(Mx { port, tls, connections_max, .. }) = &way.target else {
            return Err(Unopened::Unreachable("this is no direct delivery".into()));
        };
        let addresses = addresses.iter().map(|&ip| Address::Tcp(SocketAddr::new(ip, *port))).collect();
        let shared = Some((*connections_max, sender));
        let host = Host { name: name.into(), addresses, lmtp: false, login: None, hurried, tls: &way.tls, shared };
        Connection::open_host(&host, *tls, way.demand, context).await
    }

    async fn open_host(
        host: &Host<'_>,
        tls: RouteTls,
        demand: Demand,
        context: &Context,
    ) -> Result<Connection, Unopened> {
        let first = if demand == Demand::Required { RouteTls::Verified } else { tls };
        let opened = match (host.open(first, context).await, demand) {
            (Err((OpenError::Certificate(why) | OpenError::NoTls(why), _)), Demand::Required) => {
                let text = format!("5.7.10 the sender requires TLS with a proven name: {why}");
                return Err(Unopened::Refused(Reply::ours(550, text)));
            }
            (
                Err((OpenError::Handshake(why) | OpenError::Certificate(why) | OpenError::NoTls(why), remote)),
                Demand::Optional,
            ) => {
                let event = log::event(Level::Warning, "tls not as the route demands, the message says it need not be");
                event.octets("destination", remote.as_bytes()).octets("reason", why.as_bytes()).emit();
                host.open(RouteTls::Opportunistic, context).await
            }
            (opened, _) => opened,
        };
        opened.map_err(unopened)
    }

    async fn open_at(
        address: &Address,
        host: &str,
        options: &Options,
        tls: Option<Arc<rustls::ClientConfig>>,
        hurried: bool,
        context: &Context,
    ) -> Result<Connection, OpenError> {
        let stream = connect(address, context).await.map_err(OpenError::Other)?;
        let mut connection = Connection {
            stream,
            client: Client::new(options.clone()),
            out: Vec::new(),
            remote: address.shown(host),
            is_final: options.lmtp,
            limits: context.limits,
            hurried,
            place: None,
        };
        let outcome = connection.get_ready(host, address, tls, context).await;
        // A password may have stood there.
        connection.out.zeroize();
        match outcome {
            Ok(()) => Ok(connection),
            Err(error) => {
                connection.stream.close().await;
                Err(error)
            }
        }
    }

    /// Greeting, EHLO, STARTTLS.
    async fn get_ready(
        &mut self,
        host: &str,
        address: &Address,
        tls: Option<Arc<rustls::ClientConfig>>,
        context: &Context,
    ) -> Result<(), OpenError> {
        loop {
            match self.event().await.map_err(OpenError::Other)? {
                Event::Ready => return Ok(()),
                Event::StartTls => {
                    let tls = tls.clone().ok_or_else(|| OpenError::Other("STARTTLS unasked for".into()))?;
                    self.start_tls(host, address, tls, context.limits.handshake).await?;
                }
                Event::Closed(trouble @ Trouble::TlsNotOffered) => return Err(OpenError::NoTls(shown(&trouble))),
                Event::Closed(Trouble::Loop) => return Err(OpenError::Loop),
                Event::Closed(trouble @ Trouble::Temporary(_)) => return Err(OpenError::Busy(shown(&trouble))),
                Event::Closed(trouble) => return Err(OpenError::Other(shown(&trouble))),
                other => return Err(OpenError::Other(format!("{other:?} before the first transaction"))),
            }
        }
    }

    async fn start_tls(
        &mut self,
        host: &str,
        address: &Address,
        tls: Arc<rustls::ClientConfig>,
        limit: Duration,
    ) -> Result<(), OpenError> {
        if self.stream.has_unread() {
            log::event(Level::Warning, "dropped what a server said between 220 and TLS")
                .field("server", &self.remote)
                .emit();
        }
        self.stream.set_deadline(limit);
        let name = server_name(host, address).map_err(OpenError::Handshake)?;
        self.stream.connect_tls(tls, name).await.map_err(|error| match net::is_certificate_fault(&error) {
            true => OpenError::Certificate(net::handshake_trouble(&error)),
            false => OpenError::Handshake(net::handshake_trouble(&error)),
        })?;
        self.client.tls_started(&mut self.out);
        Ok(())
    }

    /// Sends one message, converted if the server does not take it as it is.
    pub async fn deliver(&mut self, mut transaction: Transaction, stored: &mut Stored) -> Attempt {
        let passes_dsn = self.client.passes_dsn();
        let recipients = transaction.recipients.len();
        transaction.require_tls &= !self.is_final;
        let mut converter = None;
        if let Some(hindrance) = self.client.hindrance(&transaction).filter(|hindrance| hindrance.is_mendable()) {
            let eight_bit = self.client.takes_eight_bit();
            let fate = match conversion::plan(stored, &hindrance.reply(), eight_bit) {
                Ok(plan) => {
                    converter = Some(Converter::new(plan));
                    transaction = conversion::converted(transaction, eight_bit);
                    None
                }
                Err(Unplanned::Refused(reply)) => Some(Fate::Failed(reply)),
                Err(Unplanned::Unreadable(why)) => Some(Fate::Deferred(unreadable(stored, &why))),
            };
            if let Some(fate) = fate {
                return Attempt { fates: vec![fate; recipients], usable: true, blame: Blame::Ours, passes_dsn };
            }
        }
        if let Err(why) = self.hear_out().await {
            let fate = Fate::Deferred(Reply::ours(451, format!("4.4.2 {why}")));
            return Attempt { fates: vec![fate; recipients], usable: false, blame: Blame::Destination, passes_dsn };
        }
        self.client.send(transaction, &mut self.out);
        let mut broken = Blame::Destination;
        let (blame, failed) = match self.transact(stored, converter, &mut broken).await {
            Ok(fates) => {
                let usable = self.client.step(b"", &mut self.out).1 == Event::Ready;
                let blame = if usable || fates.iter().any(is_decided) { Blame::Nobody } else { broken };
                return Attempt { fates, usable, blame, passes_dsn };
            }
            Err(Unsent::Lost(why)) => (broken, why),
            Err(Unsent::Unreadable(why)) => (Blame::Ours, unreadable(stored, &why).text),
        };
        let fates = self.client.lost(&failed).unwrap_or_default();
        assert_eq!(fates.len(), recipients, "one fate per recipient");
        Attempt { fates, usable: false, blame, passes_dsn }
    }

    /// What the server has said since its last answer is no answer to MAIL: a farewell, or one reply too many, after which
    /// each would be taken for the next one's. Errors: the connection is of no use.
    async fn hear_out(&mut self) -> Result<(), String> {
        let Connection { stream, client, out, .. } = self;
        let broken = |error: std::io::Error| lost(Phase::Ready, &log::without_number(&error));
        if stream.has_arrived() && stream.fill().await.map_err(broken)? == 0 {
            return Err(lost(Phase::Ready, CLOSED));
        }
        let hear = |input: &[u8]| match client.step(input, out) {
            (used, Event::Ready) => (used, None),
            (used, event) => (used, Some(event)),
        };
        match stream.feed(hear).map_err(broken)? {
            None => Ok(()),
            Some(Event::Closed(trouble)) => Err(shown(&trouble)),
            Some(event) => Err(format!("{event:?} between messages")),
        }
    }

    /// Waits for `work`, unless the server goes first.
    pub async fn unless_gone<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        self.stream.unless_gone(work).await
    }

    /// Has the server gone since the last transaction, or said that it will?
    pub async fn has_gone(&mut self) -> bool {
        self.stream.has_gone().await || self.hear_out().await.is_err()
    }

    /// The transaction that the client has begun, to its end: one fate per recipient. `broken`: whose fault it is if the
    /// connection breaks.
    async fn transact(
        &mut self,
        stored: &mut Stored,
        converter: Option<Converter>,
        broken: &mut Blame,
    ) -> Result<Vec<Fate>, Unsent> {
        let mut outlet = Outlet::new(converter);
        loop {
            match self.event().await.map_err(Unsent::Lost)? {
                Event::SendContent => {
                    *broken = Blame::Content;
                    self.send_content(stored, &mut outlet).await?;
                }
                Event::Done(fates) => return Ok(fates),
                Event::Closed(trouble) => return Err(Unsent::Lost(shown(&trouble))),
                event => return Err(Unsent::Lost(format!("{event:?} within a transaction"))),
            }
        }
    }

    /// Says QUIT if the server is waiting for a command, and closes.
    pub async fn close(mut self) {
        if self.client.phase() == Phase::Ready {
            self.client.quit(&mut self.out);
            // Whatever it answers, or does not: the transactions are done.
            let _ = self.event().await;
        }
        self.stream.close().await;
    }

    /// Its place at its address, if other domains may lead there too.
    pub fn place(&self) -> Option<&Place> {
        self.place.as_ref()
    }

    /// The server's name and address, for logs and bounces.
    pub fn remote(&self) -> &str {
        &self.remote
    }

    /// What the client wants next, other than input. Errors: why the connection is lost.
    async fn event(&mut self) -> Result<Event, String> {
        let Connection { stream, client, out, limits, hurried, .. } = self;
        let mut reply_due = ReplyDue::default();
        loop {
            let mut event = Some(client.step(b"", out).1).filter(|event| *event != Event::NeedInput);
            if event.is_none() {
                let eat = |input: &[u8]| match client.step(input, out) {
                    (used, Event::NeedInput) => (used, None),
                    (used, event) => (used, Some(event)),
                };
                event = stream.feed(eat).map_err(|error| lost(client.phase(), &log::without_number(&error)))?;
            }
            let phase = client.phase();
            if let Some(event) = event {
                return Ok(event);
            }
            stream.set_deadline(limits.reply(phase));
            stream.write(out).await.map_err(|error| lost(phase, &log::without_number(&error)))?;
            // One reply, however many reads it takes.
            let heard = client.replies_heard();
            let is_hurried = *hurried && phase == Phase::Greeting;
            let limit = if is_hurried { limits.hurried_greeting } else { limits.reply(phase) };
            stream.set_deadline_at(reply_due.after(heard, || stream.tick_after(limit)));
            match stream.fill().await {
                Ok(0) => return Err(lost(phase, CLOSED)),
                Ok(_) => {}
                Err(error) => return Err(lost(phase, &log::without_number(&error))),
            }
        }
    }

    async fn send_content(&mut self, stored: &mut Stored, outlet: &mut Outlet) -> Result<(), Unsent> {
        self.stream.set_deadline(self.limits.block);
        let view = View::parse(&stored.envelope).map_err(|damage| Unsent::Unreadable(format!("{damage:?}")))?;
        let mut cutter = Cutter::new(&view.removed);
        outlet.put(view.prepended, &mut self.client, &mut self.out);
        match &mut stored.content {
            Content::Memory(content) => {
                for piece in content.chunks(PIECE_BYTES) {
                    self.send_piece(piece, &mut cutter, outlet).await?;
                }
            }
            Content::Spilled(reader) => loop {
                let piece = reader.next().map_err(Unsent::Unreadable)?;
                if piece.is_empty() {
                    break;
                }
                self.send_piece(piece, &mut cutter, outlet).await?;
            },
        }
        outlet.end(&mut self.client, &mut self.out);
        self.listen().await?;
        if self.client.wants_content() {
            self.client.end_content(&mut self.out);
        }
        Ok(())
    }

    /// What the server says before the end of the content is no answer to it, and is heard before the end is sent: a server
    /// that says 250 too early would otherwise be believed to have taken what it has not seen.
    async fn listen(&mut self) -> Result<(), Unsent> {
        let Connection { stream, client, out, .. } = self;
        let broken = |error: std::io::Error| Unsent::Lost(lost(Phase::Content, &log::without_number(&error)));
        if stream.has_arrived() && stream.fill().await.map_err(broken)? == 0 {
            return Err(Unsent::Lost(lost(Phase::Content, CLOSED)));
        }
        let hear = |input: &[u8]| {
            let heard = client.hear(input, out);
            (heard, (!client.wants_content()).then_some(()))
        };
        stream.feed(hear).map_err(broken)?;
        Ok(())
    }

    async fn send_piece(&mut self, mut piece: &[u8], cutter: &mut Cutter, outlet: &mut Outlet) -> Result<(), Unsent> {
        while let Some(kept) = cutter.kept(&mut piece) {
            outlet.put(kept, &mut self.client, &mut self.out);
        }
        if self.out.len() < PIECE_BYTES || !self.client.wants_content() {
            return Ok(());
        }
        self.listen().await?;
        let written = self.stream.write(&mut self.out).await;
        written.map_err(|error| Unsent::Lost(lost(Phase::Content, &log::without_number(&error))))
    }
}

/// Has the server decided about a recipient? What it defers when it closes the connection (421) it has not.
fn is_decided(fate: &Fate) -> bool {
    match fate {
        Fate::Delivered(_) => true,
        Fate::Failed(reply) => !reply.ours,
        Fate::Deferred(_) => false,
    }
}

/// The spool does not give the message: for the log, and as the reason to try again.
fn unreadable(stored: &Stored, why: &str) -> Reply {
    journal::trouble("message cannot be read", stored.id.0, why);
    Reply::ours(451, format!("4.3.0 {why}"))
}

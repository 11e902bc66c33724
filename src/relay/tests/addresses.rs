//! A mail server's addresses, which it may share with others.

use super::{Fake, Mode, context, driver};
use crate::config::{Mx, RouteTls, Target};
use crate::policy::Networks;
use crate::relay::connection::{Connection, Limits, Tls, Way};
use crate::relay::route::Demand;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// The first has as many connections as it may.
#[test]
fn nobody_waits_for_a_place_as_long_as_another_address_has_one() {
    let (server, address) = Fake::tcp(Mode::default());
    let listening: SocketAddr = address.parse().expect("an address");
    let full = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
    let (port, tls, connections_max) = (listening.port(), RouteTls::None, 1);
    let target = Target::Mx(Mx { port, tls, ca_file: None, connections_max, reachable: Networks::default() });
    crate::net::run(driver(), None, async {
        let context = context(Limits::new(crate::config::RelayTimeouts::default()));
        let _held = context.addresses.enter(SocketAddr::new(full, port), 1, 7).await.expect("a place");
        let way = Way { tls: Tls::of(&target), target, demand: Demand::Usual };
        let addresses = [full, listening.ip()];
        let opening = Connection::open_to(&way, "mx.example", &addresses, 8, false, &context);
        // Half of the time for which one waits for a place.
        let opened = monoio::time::timeout(Duration::from_secs(30), opening).await;
        opened.expect("at once").expect("a connection").close().await;
        context.shared.stop();
    })
    .expect("a runtime");
    assert_eq!(server.connections(), 1);
}

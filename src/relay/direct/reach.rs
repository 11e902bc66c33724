//! Which addresses a stranger's domain may lead us to. RFC 6890 and its registries.
//!
//! Whoever has a domain can let its mail servers have any address, and whoever may send mail can make us connect there: to a
//! service on this machine, or to a host that trusts this one because of its address.

use crate::policy::Networks;
use std::net::IpAddr;

/// What is not on the public Internet, and what it is called. IPv4-mapped addresses are looked at as IPv4.
const NOT_PUBLIC: &[(&str, &str)] = &[
    ("0.0.0.0/8", "no address of a host"),
    ("10.0.0.0/8", "a private address"),
    ("100.64.0.0/10", "a private address"),
    ("127.0.0.0/8", "loopback"),
    ("169.254.0.0/16", "link-local"),
    ("172.16.0.0/12", "a private address"),
    ("192.0.0.0/24", "a reserved address"),
    ("192.0.2.0/24", "an address for examples"),
    ("192.168.0.0/16", "a private address"),
    ("198.18.0.0/15", "a reserved address"),
    ("198.51.100.0/24", "an address for examples"),
    ("203.0.113.0/24", "an address for examples"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "a reserved address"),
    ("::1/128", "loopback"),
    ("fc00::/7", "a private address"),
    ("fe80::/10", "link-local"),
    ("ff00::/8", "multicast"),
    // These have IPv4 addresses in them, which may be any: NAT64 of one network, Teredo and 6to4.
    ("64:ff9b::/96", "translated to IPv4"),
    ("2001::/23", "a reserved address"),
    ("2002::/16", "translated to IPv4"),
    ("2001:db8::/32", "an address for examples"),
    ("3fff::/20", "an address for examples"),
];
/// All of IPv6 that hosts have been given.
const V6_PUBLIC: &str = "2000::/3";

/// What may be connected to.
#[derive(Clone, Debug)]
pub struct Reach {
    not_public: Vec<(Networks, &'static str)>,
    v6_public: Networks,
    allowed: Networks,
}

impl Reach {
    /// `allowed`: besides what is public.
    pub fn new(allowed: Networks) -> Reach {
        let not_public = NOT_PUBLIC.iter().map(|(text, what)| (network(text), *what)).collect();
        Reach { not_public, v6_public: network(V6_PUBLIC), allowed }
    }

    /// Why `address` is not connected to: what it is.
    pub fn refuses(&self, address: IpAddr) -> Option<&'static str> {
        if self.allowed.contains(address) {
            return None;
        }
        let known = self.not_public.iter().find(|(networks, _)| networks.contains(address)).map(|(_, what)| *what);
        let is_odd = matches!(address.to_canonical(), IpAddr::V6(_)) && !self.v6_public.contains(address);
        known.or_else(|| is_odd.then_some("a reserved address"))
    }
}

fn network(text: &str) -> Networks {
    let mut networks = Networks::default();
    networks.add(text).expect("a network");
    networks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_public_and_what_is_not() {
        let reach = Reach::new(Networks::default());
        for (address, refused) in [
            ("193.0.6.139", None),
            ("2001:67c:2e8:22::c100:68b", None),
            ("::ffff:193.0.6.139", None),
            ("0.0.0.0", Some("no address of a host")),
            ("10.255.255.255", Some("a private address")),
            ("11.0.0.0", None),
            ("100.63.255.255", None),
            ("100.64.0.0", Some("a private address")),
            ("127.0.0.1", Some("loopback")),
            ("127.255.255.254", Some("loopback")),
            ("::ffff:127.0.0.1", Some("loopback")),
            ("::ffff:10.0.0.1", Some("a private address")),
            // The instance metadata of clouds.
            ("169.254.169.254", Some("link-local")),
            ("172.15.255.255", None),
            ("172.31.255.255", Some("a private address")),
            ("192.168.0.1", Some("a private address")),
            ("224.0.0.1", Some("multicast")),
            ("255.255.255.255", Some("a reserved address")),
            ("::1", Some("loopback")),
            ("::", Some("a reserved address")),
            ("::127.0.0.1", Some("a reserved address")),
            ("64:ff9b::7f00:1", Some("translated to IPv4")),
            ("64:ff9b:1::1", Some("a reserved address")),
            ("2002:7f00:1::1", Some("translated to IPv4")),
            ("2001::1", Some("a reserved address")),
            ("2001:db8::1", Some("an address for examples")),
            ("fd00::1", Some("a private address")),
            ("fe80::1", Some("link-local")),
            ("fec0::1", Some("a reserved address")),
            ("ff02::1", Some("multicast")),
        ] {
            assert_eq!(reach.refuses(address.parse().expect("an address")), refused, "{address}");
        }
    }

    #[test]
    fn an_operator_may_name_what_is_reached_all_the_same() {
        let reach = Reach::new(network("10.1.0.0/16"));
        for (address, is_refused) in
            [("10.1.2.3", false), ("::ffff:10.1.2.3", false), ("10.2.0.1", true), ("127.0.0.1", true)]
        {
            assert_eq!(reach.refuses(address.parse().expect("an address")).is_some(), is_refused, "{address}");
        }
    }
}

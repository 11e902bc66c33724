//! The network around a client: what belongs to one party as far as an address can tell. Who counts connections, failures
//! or lines of the log by address counts these.
//!
//! | family | "address" | "network" |
//! |---|---|---|
//! | IPv4 | itself | /24 |
//! | IPv6 | /64: any host can take as many addresses in it as it likes | /48: what one site is given (RFC 6177) |

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A block of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Network {
    /// Its first address.
    first: IpAddr,
    /// Leading bits that count.
    prefix: u8,
}

impl Network {
    /// What counts as one address.
    pub fn address(of: IpAddr) -> Network {
        Network::new(of, 32, 64)
    }

    /// The network around it.
    pub fn around(of: IpAddr) -> Network {
        Network::new(of, 24, 48)
    }

    fn new(of: IpAddr, v4_prefix: u8, v6_prefix: u8) -> Network {
        match of.to_canonical() {
            IpAddr::V4(address) => {
                let mask = u32::MAX << (32 - u32::from(v4_prefix));
                Network { first: Ipv4Addr::from(u32::from(address) & mask).into(), prefix: v4_prefix }
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX << (128 - u32::from(v6_prefix));
                Network { first: Ipv6Addr::from(u128::from(address) & mask).into(), prefix: v6_prefix }
            }
        }
    }
}

/// CIDR notation; an IPv4 address alone stands without its `/32`.
impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first {
            IpAddr::V4(address) if self.prefix == 32 => write!(f, "{address}"),
            first => write!(f, "{first}/{}", self.prefix),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_networks_are_cut_where_they_end() {
        for (of, address, around) in [
            ("192.0.2.77", "192.0.2.77", "192.0.2.0/24"),
            ("::ffff:192.0.2.77", "192.0.2.77", "192.0.2.0/24"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64", "2001:db8:1::/48"),
            ("::1", "::/64", "::/48"),
        ] {
            let of = of.parse().expect("an address");
            assert_eq!(Network::address(of).to_string(), address);
            assert_eq!(Network::around(of).to_string(), around);
        }
    }
}

//! A set of IP networks in CIDR notation.

use std::net::{IpAddr, Ipv6Addr};

/// One network: an address and the number of leading bits that count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    address: u128,
    mask: u128,
}

/// Networks; IPv4 ones are kept in their IPv4-mapped IPv6 form, so that both forms of a peer's address match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    networks: Vec<Network>,
}

impl Networks {
    /// Adds `text`: an address, or an address, `/` and a prefix length. Errors: what is wrong with it.
    pub fn add(&mut self, text: &str) -> Result<(), String> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| format!("\"{address}\" is no IP address"))?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => width,
            Some(text) => match text.parse::<u32>() {
                Ok(bits) if bits <= width => bits,
                _ => return Err(format!("\"{text}\" is no prefix length from 0 to {width}")),
            },
        };
        let host_bits = width - prefix;
        let mask = if host_bits == 128 { 0 } else { u128::MAX << host_bits };
        let address = as_bits(address);
        if address & mask != address {
            return Err(format!("{text} has bits set behind its prefix"));
        }
        self.networks.push(Network { address, mask });
        Ok(())
    }

    /// Is `address` in one of them?
    pub fn contains(&self, address: IpAddr) -> bool {
        let bits = as_bits(address);
        self.networks.iter().any(|network| bits & network.mask == network.address)
    }

    /// Is every address from `first` to `last` in one of them, whichever it is?
    pub fn cover(&self, first: IpAddr, last: IpAddr) -> bool {
        let (mut next, last) = (as_bits(first), as_bits(last));
        let range = |network: &Network| (network.address, network.address | !network.mask);
        let mut ranges: Vec<(u128, u128)> = self.networks.iter().map(range).collect();
        ranges.sort_unstable();
        for (start, end) in ranges {
            if start > next {
                return false;
            }
            if end >= last {
                return true;
            }
            next = next.max(end + 1);
        }
        false
    }
}

fn as_bits(address: IpAddr) -> u128 {
    let address: Ipv6Addr = match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    u128::from(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(list: &[&str]) -> Networks {
        let mut networks = Networks::default();
        for text in list {
            networks.add(text).expect("a network");
        }
        networks
    }

    #[test]
    fn addresses_inside_and_outside() {
        let set = networks(&["192.0.2.0/24", "2001:db8::/32", "198.51.100.7", "::1/128"]);
        for inside in ["192.0.2.255", "::ffff:192.0.2.1", "2001:db8:ffff::1", "198.51.100.7", "::1"] {
            assert!(set.contains(inside.parse().expect("address")), "{inside}");
        }
        for outside in ["192.0.3.0", "2001:db9::1", "198.51.100.8", "::2", "::192.0.2.1"] {
            assert!(!set.contains(outside.parse().expect("address")), "{outside}");
        }
        assert!(networks(&["0.0.0.0/0"]).contains("203.0.113.9".parse().expect("address")));
        assert!(!networks(&["0.0.0.0/0"]).contains("2001:db8::1".parse().expect("address")));
        assert!(networks(&["::/0"]).contains("2001:db8::1".parse().expect("address")));
    }

    #[test]
    fn what_several_cover_together() {
        for (list, covered) in [
            (&["0.0.0.0/0"][..], true),
            (&["128.0.0.0/1", "0.0.0.0/1"], true),
            (&["0.0.0.0/1", "192.0.0.0/2", "10.0.0.0/8", "128.0.0.0/2"], true),
            (&["::/0", "10.0.0.0/8"], true),
            (&["0.0.0.0/1", "192.0.0.0/2"], false),
            (&["0.0.0.0/1"], false),
            (&["128.0.0.0/1"], false),
            (&["2000::/3"], false),
            (&[], false),
        ] {
            let [first, last] = ["0.0.0.0", "255.255.255.255"].map(|text| text.parse().expect("address"));
            assert_eq!(networks(list).cover(first, last), covered, "{list:?}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (text, part) in [
            ("192.0.2.1/24", "behind its prefix"),
            ("192.0.2.0/33", "from 0 to 32"),
            ("2001:db8::/129", "from 0 to 128"),
            ("campus", "no IP address"),
            ("192.0.2.0/", "prefix length"),
        ] {
            let error = Networks::default().add(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}

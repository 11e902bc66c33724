//! Routes: which destination a recipient's domain goes to, and whose mail.
//!
//! The first route that names the domain, the sender, or both where it has both, counts; else the one without either. Two routes with the same target are one
//! destination, so that connection limits and backoff hold for the server and not for the line of the configuration.
//!
//! A message may ask for more or less of TLS than its route does (RFC 8689). Where that makes a difference it has a
//! destination of its own to the same target, so that one that may go without TLS does not wait behind those that may not.
//! Backoff is a destination's; the limit of connections is the host's, whatever leads there ([`crate::relay::pool`]).

use crate::config::{self, Mx, RouteTls, Smarthost, Target};
use crate::policy::Domains;
use senders::Senders;

mod senders;

/// A destination by its number, from 0 up to [`Routes::destinations`].
pub type Destination = usize;

/// What a message asks of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// What its route says.
    Usual,
    /// REQUIRETLS: a proven name, or it goes back. RFC 8689 section 4.2.1.
    Required,
    /// `TLS-Required: No`: rather in the clear than not at all. RFC 8689 section 4.2.2.
    Optional,
}

/// All of them; the order is that of the destinations of one target.
const DEMANDS: [Demand; 3] = [Demand::Usual, Demand::Required, Demand::Optional];

impl Demand {
    /// What makes a difference for `target`. LMTP and Maildirs are final delivery, which REQUIRETLS leaves alone (RFC 8689
    /// section 4.4). Where we log in, no sender's wish may show our password to whoever answers.
    fn at(self, target: &Target) -> Demand {
        match (self, target) {
            (Demand::Required, Target::Smarthost(_) | Target::Mx(_)) => Demand::Required,
            (Demand::Optional, Target::Mx(Mx { tls: RouteTls::Required | RouteTls::Verified, .. })) => Demand::Optional,
            (
                Demand::Optional,
                Target::Smarthost(Smarthost { tls: RouteTls::Required | RouteTls::Verified, login: None, .. }),
            ) => Demand::Optional,
            _ => Demand::Usual,
        }
    }
}

/// The routes of the configuration.
pub struct Routes {
    /// The third is the place in `targets`.
    routes: Vec<(Domains, Senders, usize)>,
    targets: Vec<Target>,
}

impl Routes {
    /// From the configuration.
    pub fn new(configured: &[config::Route]) -> Routes {
        let mut targets: Vec<Target> = Vec::new();
        let mut routes = Vec::new();
        for route in configured {
            let known = targets.iter().position(|target| *target == route.target);
            let place = known.unwrap_or(targets.len());
            if known.is_none() {
                targets.push(route.target.clone());
            }
            let domains = Domains::new(route.domains.iter().map(String::as_str));
            routes.push((domains, Senders::new(&route.senders), place));
        }
        Routes { routes, targets }
    }

    /// Where a message of `reverse_path` with `demand` goes to reach the forward-path `path`; none if no route takes it.
    pub fn route(&self, reverse_path: &[u8], path: &[u8], demand: Demand) -> Option<Destination> {
        let domain = domain(path);
        let names = |(domains, senders, _): &&(Domains, Senders, usize)| {
            !(domains.is_empty() && senders.is_empty())
                && (domains.is_empty() || domains.contains(domain))
                && (senders.is_empty() || senders.contains(reverse_path))
        };
        let is_for_others =
            |(domains, senders, _): &&(Domains, Senders, usize)| domains.is_empty() && senders.is_empty();
        let (_, _, place) = self.routes.iter().find(names).or_else(|| self.routes.iter().find(is_for_others))?;
        let demand = demand.at(&self.targets[*place]);
        Some(place * DEMANDS.len() + DEMANDS.iter().position(|&known| known == demand)?)
    }

    /// Is each recipient's domain a destination of its own there? Not for a message that requires TLS: whom DNS names for a domain
    /// is proven by nobody here, so that it goes back wherever it is to go (RFC 8689 section 4.2.1).
    pub fn is_by_domain(&self, destination: Destination) -> bool {
        let target = self.targets.get(destination / DEMANDS.len());
        matches!(target, Some(Target::Mx(_))) && DEMANDS[destination % DEMANDS.len()] != Demand::Required
    }

    /// Targets with demands, in the order of their numbers.
    pub fn destinations(&self) -> impl Iterator<Item = (&Target, Demand)> {
        self.targets.iter().flat_map(|target| DEMANDS.into_iter().map(move |demand| (target, demand)))
    }
}

/// The domain of a path: what follows its last `@`; empty for `postmaster`.
pub fn domain(path: &[u8]) -> &[u8] {
    memchr::memrchr(b'@', path).map_or(b"", |at| &path[at + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::Route;

    fn lmtp(address: &str) -> Target {
        Target::Lmtp { address: address.into() }
    }

    #[test]
    fn the_first_route_that_names_the_domain_else_the_one_without() {
        let route = |domains: &[&str], target: &str| Route {
            domains: domains.iter().map(|name| name.to_string()).collect(),
            senders: Vec::new(),
            target: lmtp(target),
        };
        let routes = Routes::new(&[
            route(&["a.edu", "b.edu"], "one"),
            route(&[], "two"),
            route(&["c.edu", "a.edu"], "three"),
            route(&["d.edu"], "one"),
        ]);
        for (path, expected) in [
            ("x@a.edu", Some(0)),
            ("x@A.EDU.", Some(0)),
            ("\"x@c.edu\"@b.edu", Some(0)),
            ("x@c.edu", Some(2)),
            ("x@d.edu", Some(0)),
            ("x@elsewhere.org", Some(1)),
            ("postmaster", Some(1)),
        ] {
            let target = |destination| routes.destinations().nth(destination).expect("a destination").0;
            let found = routes.route(b"a@b", path.as_bytes(), Demand::Usual).map(target);
            assert_eq!(found, expected.map(|at: usize| &routes.targets[at]), "{path}");
        }
        assert_eq!(routes.targets, [lmtp("one"), lmtp("two"), lmtp("three")]);
        assert_eq!(Routes::new(&[route(&["a.edu"], "one")]).route(b"a@b", b"x@b.edu", Demand::Usual), None);
    }

    #[test]
    fn a_route_may_be_for_some_senders_and_the_first_that_fits_counts() {
        let route = |domains: &[&str], senders: &[&str], target: &str| Route {
            domains: domains.iter().map(|name| name.to_string()).collect(),
            senders: senders.iter().map(|name| name.to_string()).collect(),
            target: lmtp(target),
        };
        let routes = Routes::new(&[
            route(&[], &[], "others"),
            route(&["a.edu"], &["@math.edu"], "both"),
            route(&["a.edu"], &[], "domain"),
            route(&[], &["anna@math.edu"], "anna"),
            route(&[], &["@math.edu"], "math"),
        ]);
        for (from, path, expected) in [
            ("x@math.edu", "b@a.edu", "both"),
            ("x@else.edu", "b@a.edu", "domain"),
            ("anna@math.edu", "b@a.edu", "both"),
            ("Anna@math.edu", "b@c.edu", "anna"),
            ("x@math.edu", "b@c.edu", "math"),
            ("x@else.edu", "b@c.edu", "others"),
            ("", "b@c.edu", "others"),
            ("", "b@a.edu", "domain"),
        ] {
            let found = routes.route(from.as_bytes(), path.as_bytes(), Demand::Usual).expect("a route");
            assert_eq!(routes.destinations().nth(found).expect("one").0, &lmtp(expected), "{from} to {path}");
        }
    }

    // covers: 12.4
    #[test]
    fn a_demand_that_makes_a_difference_has_a_destination_of_its_own() {
        let smarthost = |tls| Target::Smarthost(Smarthost::new("m:25", tls));
        let login = Some(config::Login { username: "u".into(), password_file: "p".into() });
        let with_login = Target::Smarthost(Smarthost { login, ..Smarthost::new("m:25", RouteTls::Verified) });
        for (target, demands) in [
            (smarthost(RouteTls::None), [Demand::Usual, Demand::Required, Demand::Usual]),
            (smarthost(RouteTls::Opportunistic), [Demand::Usual, Demand::Required, Demand::Usual]),
            (smarthost(RouteTls::Required), DEMANDS),
            (smarthost(RouteTls::Verified), DEMANDS),
            (with_login, [Demand::Usual, Demand::Required, Demand::Usual]),
            (lmtp("one"), [Demand::Usual; 3]),
        ] {
            let routes = Routes::new(&[Route { domains: Vec::new(), senders: Vec::new(), target: target.clone() }]);
            let found = DEMANDS.map(|demand| {
                let destination = routes.route(b"x@y", b"a@b", demand).expect("a route");
                routes.destinations().nth(destination).expect("a destination")
            });
            assert_eq!(found, demands.map(|demand| (&target, demand)));
        }
    }
}

//! Routes: which destination a recipient's domain goes to.
//!
//! The first route that names the domain counts, else the one without domains. Two routes with the same target are one
//! destination, so that connection limits and backoff hold for the server and not for the line of the configuration.

use crate::config;
use crate::policy::Domains;

/// A destination by its place in [`Routes::targets`].
pub type Destination = usize;

/// The routes of the configuration.
pub struct Routes {
    routes: Vec<(Domains, Destination)>,
    targets: Vec<config::Target>,
}

impl Routes {
    /// From the configuration.
    pub fn new(configured: &[config::Route]) -> Routes {
        let mut targets: Vec<config::Target> = Vec::new();
        let mut routes = Vec::new();
        for route in configured {
            let known = targets.iter().position(|target| *target == route.target);
            let destination = known.unwrap_or(targets.len());
            if known.is_none() {
                targets.push(route.target.clone());
            }
            routes.push((Domains::new(route.domains.iter().map(String::as_str)), destination));
        }
        Routes { routes, targets }
    }

    /// Where a forward-path goes; none if no route takes its domain.
    pub fn route(&self, path: &[u8]) -> Option<Destination> {
        let domain = domain(path);
        let named = self.routes.iter().find(|(domains, _)| domains.contains(domain));
        named.or_else(|| self.routes.iter().find(|(domains, _)| domains.is_empty())).map(|(_, to)| *to)
    }

    /// The targets, without repetition.
    pub fn targets(&self) -> &[config::Target] {
        &self.targets
    }
}

/// The domain of a path: what follows its last `@`; empty for `postmaster`.
fn domain(path: &[u8]) -> &[u8] {
    memchr::memrchr(b'@', path).map_or(b"", |at| &path[at + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::{Route, Target};

    fn lmtp(address: &str) -> Target {
        Target::Lmtp { address: address.into() }
    }

    #[test]
    fn the_first_route_that_names_the_domain_else_the_one_without() {
        let route = |domains: &[&str], target: &str| Route {
            domains: domains.iter().map(|name| name.to_string()).collect(),
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
            assert_eq!(routes.route(path.as_bytes()), expected, "{path}");
        }
        assert_eq!(routes.targets(), [lmtp("one"), lmtp("two"), lmtp("three")]);
        assert_eq!(Routes::new(&[route(&["a.edu"], "one")]).route(b"x@b.edu"), None);
    }
}

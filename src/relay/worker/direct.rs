//! What the worker does for domains that are delivered to directly, beside what it does for every destination.

use super::Worker;
use crate::relay::following::{self, demand};
use crate::relay::operator::NO_ROUTE;
use crate::relay::queue::Delivery;
use crate::relay::task;
use crate::smtp::client::Reply;
use crate::smtp::envelope::View;
use crate::spool::Location;

/// Why what is sorted out waits, where there is no place for its domain.
const FULL: &str = "4.4.5 mail waits for as many domains as there may be, this one's turn comes later";

impl Worker {
    /// A delivery that waited for places of its recipients' domains goes there, or waits on.
    pub(super) fn sort(&mut self, delivery: &Delivery<Location>, now: u64) {
        match self.places(delivery) {
            Ok(destinations) => {
                if !self.queue.sort(delivery, &destinations) {
                    self.queue.unreachable(delivery, FULL, now);
                }
            }
            Err(why) => {
                let reply = Reply::ours(451, format!("4.3.0 {why}"));
                self.not_sent(delivery, &reply, now);
            }
        }
        self.queue.disconnected(delivery.destination);
    }

    fn places(&mut self, delivery: &Delivery<Location>) -> Result<Vec<usize>, String> {
        let stored = self.follower.read(delivery.at)?;
        let view = View::parse(&stored.envelope).map_err(|damage| format!("{damage:?}"))?;
        let demand = demand(&view, self.honours_tls_optional);
        let Worker { queue, routes, domains, .. } = self;
        domains.begin(queue);
        let place = |&recipient: &u32| {
            let to = view.recipients.get(recipient as usize).ok_or("a recipient is missing")?;
            Ok(following::destination(routes, domains, queue, (view.reverse_path, delivery.sender), to.path, demand))
        };
        delivery.recipients.iter().map(place).collect()
    }

    /// A domain's servers may have become more or fewer, faster or slower.
    pub(super) fn follow_room(&mut self, destination: usize) {
        if let Some(site) = self.domains.get(destination) {
            self.queue.limit_site(destination, site.room());
        }
    }

    /// What waits for domains, each in its place, by the route with the number `base`.
    pub(super) fn waiting_by_domain(&self, base: usize) -> usize {
        let sites = self.domains.all().filter(|(_, site)| site.base == base);
        sites.map(|(number, _)| self.queue.waiting(number)).sum()
    }

    /// The number of what is configured for it.
    pub(super) fn base_of(&self, destination: usize) -> usize {
        self.domains.get(destination).map_or(destination, |site| site.base)
    }

    /// What logs and operators call it.
    pub(super) fn destination_name(&self, destination: usize) -> String {
        let configured = self.tools.ways.get(destination).map(|way| task::name(&way.target));
        let domain = || self.domains.get(destination).map(|site| site.name());
        configured.or_else(domain).unwrap_or_else(|| NO_ROUTE.into())
    }
}

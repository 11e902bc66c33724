//! A destination for each domain that mail waits for: which number it has, and when it is given up.
//!
//! ```text
//!  recipient's domain --place--> known: its number
//!                                new:   a number of the queue's, a Site
//!                                full, or its sender has his share of them:
//!                                       the number of its route, where it waits: Queue::sort when there is room
//!  nothing waits, nothing is open --tidy--> kept while it is among the last IDLE_MAX, then forgotten
//! ```
//!
//! Promises: no more than [`DOMAINS_MAX`] domains are known at a time; a domain for which nothing waits is forgotten when
//! [`IDLE_MAX`] others have become so after it; mail for a domain for which there is no place waits and is not refused; a
//! sender holds fewer places than are free ([`crate::shares`]), or who writes to as many domains whose servers say nothing,
//! which may be made up, would hold up all mail to domains that nobody else has written to. A domain counts for the sender for
//! whose mail it got its place, until it is forgotten, whoever else writes to it.
//!
//! A domain takes about 460 octets beside the messages for it (measured below), and its mail servers, once they are known,
//! theirs: 40 addresses at most.

use super::site::Site;
use crate::policy::domain_name::DomainName;
use crate::relay::queue::Queue;
use crate::relay::route::Destination;
use crate::shares::Shares;
use hashbrown::HashTable;
use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;

/// Domains that mail may wait for at a time, each in its own place.
pub const DOMAINS_MAX: usize = 50_000;
/// Domains for which nothing waits and that are still known: how fast their servers are, and which of them are down.
const IDLE_MAX: usize = 1000;

/// The domains of all routes with `mx`.
pub struct Domains {
    /// The places, by sender.
    shares: Shares,
    /// The number of the first.
    first: Destination,
    /// By number from `first` on.
    sites: Vec<Option<Rc<Site>>>,
    /// Numbers by route and name.
    numbers: HashTable<Destination>,
    /// Names are others' choice: nobody shall choose those that collide.
    key: RandomState,
    /// The longest first; with what [`Site::idled`] was.
    idle: VecDeque<(Destination, u64)>,
    idled: u64,
    /// What has become idle since then is being placed, and not forgotten.
    placing: u64,
}

impl Domains {
    /// At most `max`, with numbers from `first` on.
    pub fn new(first: Destination, max: usize) -> Domains {
        let (sites, numbers, key, idle) = Default::default();
        Domains { shares: Shares::new(max), first, sites, numbers, key, idle, idled: 0, placing: 0 }
    }

    /// For who does not deliver: every domain waits at its route's destination.
    pub fn none() -> Domains {
        Domains::new(usize::MAX, 0)
    }

    /// Numbers that [`Domains::place`] gives from here on are good until this is called again, though nothing waits there.
    pub fn begin<L: Copy + PartialEq>(&mut self, queue: &mut Queue<L>) {
        self.note_idle(queue);
        self.placing = self.idled;
    }

    /// The destination of `domain` by the route with the number `base`: that itself, if there is no room for mail of `sender`, a
    /// hash.
    pub fn place<L: Copy + PartialEq>(
        &mut self,
        queue: &mut Queue<L>,
        base: Destination,
        domain: &[u8],
        sender: u32,
    ) -> Destination {
        let form = DomainName::new(domain.strip_suffix(b".").unwrap_or(domain));
        let name = form.as_ref().map_or("", DomainName::as_str);
        let hash = self.hash(base, name);
        let is_it =
            |number: &Destination| self.get(*number).is_some_and(|site| site.base == base && *site.domain == *name);
        if let Some(&known) = self.numbers.find(hash, is_it) {
            if queue.is_idle(known) {
                self.idles(known);
            }
            return known;
        }
        while !self.shares.may(sender) {
            if !self.make_room(queue) {
                return base;
            }
        }
        self.shares.take(sender);
        let number = queue.add_site(1);
        let at = number - self.first;
        if self.sites.len() <= at {
            self.sites.resize(at + 1, None);
        }
        self.sites[at] = Some(Rc::new(Site::new(base, name, sender)));
        let Domains { numbers, sites, key, first, .. } = self;
        numbers.insert_unique(hash, number, |known| hash_of(key, sites[known - *first].as_deref()));
        number
    }

    /// The domain with that number.
    pub fn get(&self, number: Destination) -> Option<&Rc<Site>> {
        self.sites.get(number.checked_sub(self.first)?)?.as_ref()
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = (Destination, &Rc<Site>)> {
        let numbered = self.sites.iter().enumerate();
        numbered.filter_map(|(at, site)| Some((self.first + at, site.as_ref()?)))
    }

    /// Forgets those for which nothing has waited for longest.
    pub fn tidy<L: Copy + PartialEq>(&mut self, queue: &mut Queue<L>) {
        self.note_idle(queue);
        while self.idle.len() > IDLE_MAX {
            self.forget_first(queue);
        }
    }

    fn make_room<L: Copy + PartialEq>(&mut self, queue: &mut Queue<L>) -> bool {
        self.note_idle(queue);
        while self.idle.front().is_some_and(|(_, idled)| *idled <= self.placing) {
            if self.forget_first(queue) {
                return true;
            }
        }
        false
    }

    fn note_idle<L: Copy + PartialEq>(&mut self, queue: &mut Queue<L>) {
        queue.take_idle().into_iter().for_each(|number| self.idles(number));
    }

    fn idles(&mut self, number: Destination) {
        self.idled += 1;
        if let Some(site) = self.get(number) {
            site.idled.set(self.idled);
            self.idle.push_back((number, self.idled));
        }
        // A start places what is done with, again and again.
        if self.idle.len() > 2 * (IDLE_MAX + self.sites.len()) {
            let Domains { idle, sites, first, .. } = self;
            let idled = |number: usize| Some(sites.get(number - *first)?.as_ref()?.idled.get());
            idle.retain(|(number, since)| idled(*number) == Some(*since));
        }
    }

    /// The one that has been idle for longest, unless it is no longer; says whether there is one fewer.
    fn forget_first<L: Copy + PartialEq>(&mut self, queue: &mut Queue<L>) -> bool {
        let Some((number, idled)) = self.idle.pop_front() else { return false };
        let is_still = |site: &&Rc<Site>| site.idled.get() == idled && queue.is_idle(number);
        let Some(site) = self.get(number).filter(is_still) else { return false };
        let (hash, opener) = (self.hash(site.base, &site.domain), site.opener);
        self.shares.give_back(opener);
        if let Ok(found) = self.numbers.find_entry(hash, |known| *known == number) {
            found.remove();
        }
        self.sites[number - self.first] = None;
        queue.remove_site(number);
        true
    }

    fn hash(&self, base: Destination, domain: &str) -> u64 {
        self.key.hash_one((base, domain))
    }
}

fn hash_of(key: &RandomState, site: Option<&Site>) -> u64 {
    site.map_or(0, |site| key.hash_one((site.base, &*site.domain)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::queue::{Applied, Arrival, Blame, Settings};
    use crate::smtp::client::{Fate, Reply};

    fn queue() -> Queue<u32> {
        let (retry_first_ms, retry_max_ms, expire_ms, warn_ms) = (1000, 1000, 1 << 40, None);
        let settings = Settings { retry_first_ms, retry_max_ms, expire_ms, warn_ms, connections_max: 2 };
        let mut queue = Queue::new(settings, [0, 1], 7);
        queue.caught_up();
        queue
    }

    fn arrival(id: u64, destinations: Vec<Destination>) -> Arrival<u32> {
        Arrival { id, at: 0, release_ms: 0, destinations, survivor: false, sender: 1, small: true }
    }

    /// Delivers one thing that is due. Returns where.
    fn deliver(queue: &mut Queue<u32>) -> Option<Destination> {
        let delivery = queue.start(0)?;
        let fates = vec![Fate::Delivered(Reply::ours(250, String::new())); delivery.recipients.len()];
        queue.tried(&delivery, fates, Blame::Nobody, "mx", 0);
        for &recipient in &delivery.recipients {
            queue.outcome(delivery.id, recipient, 0);
        }
        queue.disconnected(delivery.destination);
        Some(delivery.destination)
    }

    #[test]
    fn a_domain_has_one_place_however_it_is_spelt() {
        let (mut queue, mut domains) = (queue(), Domains::new(2, 100));
        let place =
            |domains: &mut Domains, queue: &mut _, base, name: &str| domains.place(queue, base, name.as_bytes(), 1);
        assert_eq!(place(&mut domains, &mut queue, 0, "münchen.example"), 2);
        for name in ["MÜNCHEN.example", "xn--mnchen-3ya.example.", "XN--MNCHEN-3YA.Example"] {
            assert_eq!(place(&mut domains, &mut queue, 0, name), 2, "{name}");
        }
        assert_eq!(place(&mut domains, &mut queue, 0, "[192.0.2.1]"), 3);
        assert_eq!(place(&mut domains, &mut queue, 1, "münchen.example"), 4, "by another route");
        assert_eq!(domains.get(2).map(|site| site.name()), Some("mx of xn--mnchen-3ya.example".into()));
        assert!(domains.get(0).is_none() && domains.get(5).is_none() && domains.all().count() == 3);
        assert_eq!(place(&mut Domains::none(), &mut queue, 1, "a.example"), 1);
    }

    #[test]
    fn when_there_is_no_room_mail_waits_with_its_route_and_idle_domains_make_room() {
        let (mut queue, mut domains) = (queue(), Domains::new(2, 5));
        let names: Vec<String> = (0..4).map(|number| format!("d{number}.example")).collect();
        domains.begin(&mut queue);
        let placed: Vec<Destination> =
            names.iter().map(|name| domains.place(&mut queue, 0, name.as_bytes(), 1)).collect();
        assert_eq!(placed, [2, 3, 4, 0], "what one message is placed at stays");
        queue.add(arrival(1, placed));
        domains.begin(&mut queue);
        assert_eq!(domains.place(&mut queue, 1, b"e.example", 1), 1, "mail waits for all of them");
        // The route's own is for what is sorted out.
        let sorted = queue.start(0).expect("due");
        assert_eq!((sorted.destination, &sorted.recipients[..]), (0, &[3][..]));
        let freed = deliver(&mut queue).expect("due");
        domains.begin(&mut queue);
        let place = domains.place(&mut queue, 0, names[3].as_bytes(), 1);
        assert_eq!(place, freed, "its number is used again");
        assert!(queue.sort(&sorted, &[place]));
        queue.disconnected(0);
        let rest: Vec<_> = std::iter::from_fn(|| deliver(&mut queue)).collect();
        assert_eq!((rest.len(), queue.counts()), (3, (0, 0)));
    }

    /// One writes to more domains than there are places, and nothing goes out. Another's mail has a place all the same.
    #[test]
    fn who_writes_to_very_many_domains_leaves_places_for_others() {
        let (mut queue, mut domains) = (queue(), Domains::new(2, 8));
        let mut place = |queue: &mut Queue<u32>, id: u64, sender| {
            domains.begin(queue);
            let place = domains.place(queue, 0, format!("d{id}.example").as_bytes(), sender);
            queue.add(Arrival { sender, ..arrival(id, vec![place]) });
            domains.tidy(queue);
            place
        };
        let placed: Vec<Destination> = (0..20).map(|id| place(&mut queue, id, 1)).collect();
        assert_eq!(placed.iter().filter(|&&place| place > 0).count(), 4, "half of them");
        let others: Vec<Destination> = (20..24).map(|id| place(&mut queue, id, id as u32)).collect();
        assert!(others.iter().all(|&place| place > 0), "{others:?}");
        assert_eq!(place(&mut queue, 24, 24), 0, "none is left");
        assert_eq!(place(&mut queue, 3, 24), placed[3], "what has a place has it for everybody");
        // When mail is done places are free again.
        while deliver(&mut queue).is_some() {}
        assert!(place(&mut queue, 25, 1) > 0);
    }

    /// What is placed and never waited for is forgotten too: a start reads much that is done.
    #[test]
    fn domains_come_and_go_and_only_the_last_are_remembered() {
        let (mut queue, mut domains) = (queue(), Domains::new(2, DOMAINS_MAX));
        for id in 0..20_000u64 {
            domains.begin(&mut queue);
            let place = domains.place(&mut queue, 0, format!("d{id}.example").as_bytes(), 1);
            if id % 2 == 0 {
                queue.add(arrival(id, vec![place]));
                assert_eq!(deliver(&mut queue), Some(place));
            }
            domains.tidy(&mut queue);
        }
        assert_eq!((domains.all().count(), domains.sites.len()), (IDLE_MAX, IDLE_MAX + 1));
        assert!(domains.idle.len() <= IDLE_MAX);
        // The last are still known.
        assert!(domains.all().any(|(_, site)| *site.domain == *"d19999.example"));
    }

    #[test]
    fn one_for_which_something_waits_is_not_forgotten() {
        let (mut queue, mut domains) = (queue(), Domains::new(2, DOMAINS_MAX));
        let kept = domains.place(&mut queue, 0, b"kept.example", 1);
        queue.add(arrival(1, vec![kept]));
        let again = domains.place(&mut queue, 0, b"again.example", 1);
        for id in 0..3 * IDLE_MAX as u64 {
            domains.begin(&mut queue);
            domains.place(&mut queue, 0, format!("d{id}.example").as_bytes(), 1);
            // In use every now and then.
            if id % 100 == 0 {
                assert_eq!(domains.place(&mut queue, 0, b"again.example", 1), again);
            }
            domains.tidy(&mut queue);
        }
        assert!(domains.get(kept).is_some_and(|site| *site.domain == *"kept.example"));
        assert_eq!(queue.outcome(1, 0, 0), Applied::Settled(0));
    }

    #[test]
    fn what_is_placed_again_and_again_is_one_entry() {
        let (mut queue, mut domains) = (queue(), Domains::new(2, DOMAINS_MAX));
        for id in 0..100_000u64 {
            domains.begin(&mut queue);
            domains.place(&mut queue, 0, format!("d{}.example", id % 10).as_bytes(), 1);
            assert!(domains.idle.len() <= 2 * (IDLE_MAX + 10) + 1);
        }
        assert_eq!(domains.all().count(), 10);
    }

    /// A message for one recipient, and the domain that it alone is for.
    #[test]
    fn what_a_domain_takes() {
        const DOMAINS: u64 = 30_000;
        let mut kept = None;
        let counted = allocation_counter::measure(|| {
            let (mut queue, mut domains) = (queue(), Domains::new(2, DOMAINS_MAX));
            for id in 0..DOMAINS {
                domains.begin(&mut queue);
                let place = domains.place(&mut queue, 0, format!("domain-{id}.example.org").as_bytes(), id as u32 % 2);
                queue.add(arrival(id, vec![place]));
            }
            kept = Some((queue, domains));
        });
        let octets = counted.bytes_current as u64 / DOMAINS;
        println!("{octets} octets for each of {DOMAINS} domains with a message of 160 octets");
        assert!(octets < 800, "{octets}");
        assert!(kept.is_some());
    }
}

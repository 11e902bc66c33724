use super::super::tests::{arrival, fates, queue};
use super::super::{Applied, Arrival, Blame};
use super::*;

/// One destination that is always there, and `count` that come and go.
fn crowd(count: usize) -> Queue<u32> {
    let mut queue = queue(1);
    (0..count).for_each(|at| assert_eq!(queue.add_site(2), 1 + at));
    queue
}

fn from(id: u64, sender: u32, to: &[Destination]) -> Arrival<u32> {
    Arrival { sender, ..arrival(id, 0, to) }
}

#[test]
fn a_mailing_to_very_many_domains_delays_nobody_elses_mail() {
    let mut queue = crowd(5000);
    queue.limit_crowd(3);
    queue.add(from(1, 7, &(1..5000).collect::<Vec<_>>()));
    queue.add(from(2, 8, &[5000]));
    let begun: Vec<_> = std::iter::from_fn(|| queue.start(10)).collect();
    let ids: Vec<u64> = begun.iter().map(|delivery| delivery.id).collect();
    assert_eq!(ids, [1, 2], "and one for whoever comes");
    assert_eq!(queue.wake_ms(), Some(super::super::tests::EXPIRY), "no more connections");
    // Every one of them has its turn.
    let mut open = begun;
    let mut handed = 0;
    while let Some(delivery) = open.pop() {
        queue.tried(&delivery, fates(&[250]), Blame::Nobody, "mx", 10);
        assert_eq!(queue.next(delivery.destination, 10), None);
        queue.disconnected(delivery.destination);
        open.extend(queue.start(10));
        handed += 1;
    }
    assert_eq!(handed, 5000);
}

/// All that may begin now, begun.
fn begun(queue: &mut Queue<u32>) -> Vec<Delivery<u32>> {
    std::iter::from_fn(|| queue.start(10)).collect()
}

fn ended(queue: &mut Queue<u32>, delivery: &Delivery<u32>) {
    queue.tried(delivery, fates(&vec![250; delivery.recipients.len()]), Blame::Nobody, "mx", 10);
    queue.disconnected(delivery.destination);
}

/// A thousand domains, and no server of theirs ever answers.
#[test]
fn who_mails_to_servers_that_say_nothing_holds_half_of_the_connections() {
    let mut queue = crowd(1003);
    queue.limit_crowd(200);
    queue.add(from(1, 7, &(1..=1000).collect::<Vec<_>>()));
    let held = begun(&mut queue);
    assert_eq!((held.len(), queue.wake_ms()), (100, Some(super::super::tests::EXPIRY)), "and the rest waits quietly");
    for id in 2..=50 {
        queue.add(from(id, id as u32 + 7, &[1001]));
        let [theirs] = &begun(&mut queue)[..] else { panic!("{id} waits") };
        assert_eq!(theirs.id, id);
        ended(&mut queue, theirs);
    }
    // One that ends makes room for one.
    ended(&mut queue, &held[0]);
    assert_eq!(begun(&mut queue).iter().map(|one| one.id).collect::<Vec<_>>(), [1]);
}

#[test]
fn mail_of_who_may_not_begin_another_connection_lets_others_pass_at_the_same_domain() {
    let mut queue = crowd(10);
    queue.limit_crowd(6);
    (1..=9).for_each(|at| drop(queue.add(from(at, 7, &[at as usize]))));
    assert_eq!(begun(&mut queue).len(), 3);
    for (id, small) in [(21, true), (22, false)] {
        // Behind mail of the first sender, which has been due for longer and is small.
        queue.add(Arrival { small, ..from(id, id as u32, &[9]) });
        let [theirs] = &begun(&mut queue)[..] else { panic!("{id} waits") };
        assert_eq!((theirs.id, theirs.destination), (id, 9));
        ended(&mut queue, theirs);
    }
}

/// A connection goes on with what is due at its domain, whosever that is, and counts for who began it.
#[test]
fn a_connection_counts_for_who_began_it_to_its_end() {
    let mut queue = crowd(4);
    queue.limit_crowd(2);
    queue.add(from(1, 7, &[1]));
    queue.add(from(2, 8, &[1]));
    queue.add(from(3, 7, &[2]));
    let first = queue.start(10).expect("due");
    queue.tried(&first, fates(&[250]), Blame::Nobody, "mx", 10);
    let second = queue.next(1, 10).expect("due");
    assert_eq!((first.id, second.id, queue.start(10)), (1, 2, None));
    ended(&mut queue, &second);
    assert_eq!(queue.start(10).map(|delivery| delivery.id), Some(3));
}

/// Whatever begins and ends in whatever order: who begins may, and nothing waits that may begin.
#[test]
fn what_may_begin_is_begun() {
    const SITES: usize = 12;
    for seed in 1..200u64 {
        let mut random = seed;
        let mut roll = move |sides: u64| {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (random >> 33) % sides
        };
        let (mut queue, mut open, mut waiting) = (crowd(SITES), Vec::<Delivery<u32>>::new(), Vec::new());
        let places = 2 + roll(9) as usize;
        queue.limit_crowd(places);
        (1..=SITES).for_each(|site| queue.limit_site(site, 1));
        for id in 1..300u64 {
            match roll(3) {
                0 if !open.is_empty() => ended(&mut queue, &open.swap_remove(roll(open.len() as u64) as usize)),
                _ => {
                    let (sender, site) = (roll(4) as u32, 1 + roll(SITES as u64) as usize);
                    queue.add(Arrival { small: roll(2) == 0, ..from(id, sender, &[site]) });
                    waiting.push((id, sender, site));
                }
            }
            let held = |open: &[Delivery<u32>], sender| open.iter().filter(|one| one.sender == sender).count();
            while let Some(delivery) = queue.start(10) {
                assert!(held(&open, delivery.sender) < places - open.len(), "seed {seed}: {delivery:?}");
                waiting.retain(|(id, ..)| *id != delivery.id);
                open.push(delivery);
            }
            for &(id, sender, site) in &waiting {
                let has_room = open.iter().all(|one| one.destination != site);
                let may = has_room && held(&open, sender) < places - open.len();
                assert!(!may, "seed {seed}: {id} of {sender} for {site} waits");
            }
        }
    }
}

/// Each connection that ends makes room for one, and that costs no look at all of the domains.
#[test]
fn mailings_to_the_same_domains_cost_no_more_than_one() {
    const SITES: usize = 3000;
    let mut queue = crowd(SITES);
    queue.limit_crowd(20);
    (1..=3).for_each(|id| drop(queue.add(from(id, id as u32, &(1..=SITES).collect::<Vec<_>>()))));
    let mut open = VecDeque::from(begun(&mut queue));
    assert!(open.len() > 15 && [1, 2, 3].iter().all(|id| open.iter().any(|one| one.id == *id)), "{open:?}");
    let places = |queue: &Queue<u32>| queue.sites.iter().map(|site| site.place).collect::<Vec<_>>();
    for turn in 0..100 {
        let (before, held) = (places(&queue), open.len());
        ended(&mut queue, &open.pop_front().expect("open"));
        open.extend(begun(&mut queue));
        let moved = places(&queue).into_iter().zip(before).filter(|(now, before)| now != before).count();
        assert!(moved < 10, "turn {turn}: {moved} places have changed");
        assert!(open.len() >= held.min(15), "turn {turn}: {} are open", open.len());
    }
}

/// Others' mailings stand before it at the last of very many domains, and they may not begin anything.
#[test]
fn who_may_again_is_found_among_very_many_domains() {
    const SITES: usize = 5000;
    let mut queue = crowd(SITES + 10);
    queue.limit_crowd(20);
    queue.add(from(1, 1, &(SITES + 1..=SITES + 10).collect::<Vec<_>>()));
    let held = begun(&mut queue);
    (2..=3).for_each(|id| drop(queue.add(from(id, id as u32, &(1..=SITES).collect::<Vec<_>>()))));
    begun(&mut queue);
    queue.add(from(4, 1, &[SITES]));
    assert_eq!((held.len(), begun(&mut queue).len()), (10, 0));
    let (mut found, mut looks) = (Vec::new(), 0);
    for one in &held {
        ended(&mut queue, one);
        found.extend(begun(&mut queue));
        while queue.wake_ms() == Some(0) {
            found.extend(begun(&mut queue));
            looks += 1;
            assert!(looks < 1000, "it never rests");
        }
    }
    assert!(found.iter().any(|one| one.id == 4), "it waits");
}

#[test]
fn a_domain_that_is_down_is_asked_by_one_connection_when_its_pause_is_over() {
    let mut queue = crowd(2);
    (1..=4).for_each(|id| drop(queue.add(from(id, 7, &[1]))));
    let first = queue.start(0).expect("due");
    let until_ms = queue.unreachable(&first, "4.4.3 no answer", 0);
    queue.disconnected(1);
    assert_eq!((queue.start(until_ms - 1), queue.wake_ms()), (None, Some(until_ms)));
    let again = queue.start(until_ms).expect("due");
    assert_eq!(queue.start(until_ms), None, "one");
    let reason = queue.standing(2).and_then(|standing| standing.parts[0].reason.clone()).expect("a reason");
    assert_eq!(reason.reply.text, "4.4.3 no answer");
    queue.tried(&again, fates(&[250]), Blame::Nobody, "mx", until_ms);
    assert!(queue.start(until_ms).is_some(), "it is up");
}

#[test]
fn what_is_idle_is_said_once_and_its_number_is_used_again() {
    let mut queue = crowd(3);
    assert_eq!((queue.take_idle(), queue.take_idle()), (vec![1, 2, 3], vec![]));
    queue.add(from(1, 7, &[2]));
    let delivery = queue.start(0).expect("due");
    queue.tried(&delivery, fates(&[250]), Blame::Nobody, "mx", 0);
    assert_eq!((queue.take_idle(), queue.is_idle(2)), (vec![], false), "its connection is open");
    queue.disconnected(2);
    assert_eq!((queue.take_idle(), queue.is_idle(2)), (vec![2], true));
    assert_eq!(queue.outcome(1, 0, 9), Applied::Settled(1));
    queue.remove_site(2);
    queue.remove_site(3);
    assert_eq!([queue.add_site(1), queue.add_site(1), queue.add_site(1)], [3, 2, 4]);
    // Forgotten while it waits, as by an operator's order.
    queue.take_idle();
    queue.add(from(5, 7, &[4]));
    assert_eq!(queue.outcome(5, 0, 9), Applied::Settled(5));
    assert_eq!(queue.take_idle(), [4]);
    assert_eq!(queue.wake_ms(), None);
}

#[test]
fn what_waited_for_a_place_goes_there_and_the_rest_waits_on() {
    let mut queue = crowd(2);
    queue.add(from(1, 7, &[0, 0, 0, 0]));
    let delivery = queue.start(0).expect("due");
    assert!(!queue.sort(&delivery, &[1, 2, 0, 1]), "one has no place");
    let until_ms = queue.unreachable(&delivery, "full", 0);
    queue.disconnected(0);
    let begun: Vec<_> = std::iter::from_fn(|| queue.start(0)).collect();
    let mut parts: Vec<_> = begun.iter().map(|one| (one.destination, one.recipients.clone())).collect();
    parts.sort();
    assert_eq!(parts, [(1, vec![0, 3]), (2, vec![1])]);
    let again = queue.start(until_ms).expect("due");
    assert_eq!((again.destination, &again.recipients[..]), (0, &[2][..]));
    assert!(queue.sort(&again, &[2]));
    queue.disconnected(0);
    let last = queue.start(until_ms).expect("due");
    assert_eq!((last.destination, &last.recipients[..]), (2, &[2][..]));
    for one in begun.iter().chain([&last]) {
        let codes = vec![250; one.recipients.len()];
        queue.tried(one, fates(&codes), Blame::Nobody, "mx", 0);
        for &index in &one.recipients {
            queue.outcome(1, index, 5);
        }
    }
    assert_eq!(queue.counts(), (0, 0));
}

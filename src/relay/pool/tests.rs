use super::*;

fn pools(connections_max: usize, pools: &[&[(&str, u32)]]) -> Pools {
    let settings = Settings { connections_max, probe_first_ms: 1000 };
    let owned = pools.iter().map(|pool| pool.iter().map(|(name, weight)| (name.to_string(), *weight)).collect());
    Pools::new(settings, owned, 7)
}

fn seat(destination: Destination, member: usize) -> Seat {
    Seat { destination, member }
}

#[test]
fn hosts_are_chosen_by_weight() {
    let mut all = pools(2, &[&[("a", 3), ("b", 1)]]);
    let mut counts = [0; 2];
    for _ in 0..4000 {
        let Choice::Seat(seat) = all.choose(0, &[]) else { panic!("there is room") };
        counts[seat.member] += 1;
        all.left(seat);
    }
    assert!((2800..3200).contains(&counts[0]), "{counts:?}");
}

/// Under load: all that may be open is open and busy, and whichever ends makes room for another.
#[test]
fn hosts_that_are_all_busy_have_their_mail_by_weight() {
    for (weights, expected) in [([3, 1], 2.2..3.4), ([1, 1], 0.9..1.1), ([1, 2], 0.45..0.55)] {
        let mut all = pools(8, &[&[("a", weights[0]), ("b", weights[1])]]);
        let (mut open, mut delivered) = (Vec::new(), [0.0; 2]);
        for turn in 0..20_000usize {
            while let Choice::Seat(seat) = all.choose(0, &[]) {
                open.push(seat);
            }
            assert_eq!(open.len(), all.room(0), "the queue opens as many as there is room for");
            // Each delivers one message; one of them ends.
            for &seat in &open {
                all.answered(seat);
                delivered[seat.member] += 1.0;
            }
            all.left(open.swap_remove(turn * 7 % open.len()));
        }
        let ratio = delivered[0] / delivered[1];
        assert!(expected.contains(&ratio), "{weights:?}: {ratio}");
    }
}

#[test]
fn a_light_host_has_its_whole_limit_while_the_heavier_one_is_down_and_makes_way_when_it_is_back() {
    let mut all = pools(8, &[&[("heavy", 3), ("light", 1)]]);
    all.failed(seat(0, 0), false, 0);
    let open = std::iter::from_fn(|| match all.choose(0, &[]) {
        Choice::Seat(seat) => Some(seat),
        Choice::Full | Choice::Exhausted => None,
    });
    assert_eq!(open.collect::<Vec<_>>(), [seat(0, 1); 4]);
    assert!(!all.made_way(seat(0, 1)));
    all.worked(seat(0, 0));
    assert_eq!((0..8).filter(|_| all.made_way(seat(0, 1))).count(), 3, "of its limit of 4 a third");
    assert_eq!(all.room(0), 5);
}

#[test]
fn an_attempt_tries_each_host_once_and_those_that_are_down_last() {
    let mut all = pools(8, &[&[("a", 1), ("b", 1), ("c", 1)]]);
    assert!(all.failed(seat(0, 1), false, 0).is_some_and(|probe_ms| (750..=1250).contains(&probe_ms)));
    for _ in 0..50 {
        let mut tried = Vec::new();
        while let Choice::Seat(seat) = all.choose(0, &tried) {
            tried.push(seat.member);
            all.left(seat);
        }
        assert_eq!((tried.len(), tried.last()), (3, Some(&1)), "{tried:?}");
        assert_eq!(all.choose(0, &tried), Choice::Exhausted);
    }
}

#[test]
fn a_host_that_is_down_is_asked_by_one_probe_at_a_time_and_ever_more_rarely() {
    let mut all = pools(8, &[&[("a", 1), ("b", 1)]]);
    let (mut now, mut pauses) = (0, Vec::new());
    for _ in 0..12 {
        let probe_ms = all.failed(seat(0, 0), false, now).expect("a failure more");
        assert_eq!(all.failed(seat(0, 0), false, now), None, "what fails with it is the same failure");
        for _ in 0..50 {
            let Choice::Seat(chosen) = all.choose(0, &[]) else { panic!("b has room") };
            assert_eq!(chosen.member, 1, "it costs nothing");
            all.left(chosen);
        }
        assert_eq!(all.probe(0, probe_ms - 1), None);
        assert_eq!(all.probe(0, probe_ms), Some(seat(0, 0)));
        assert_eq!(all.probe(0, probe_ms), None);
        all.left(seat(0, 0));
        pauses.push(probe_ms - now);
        now = probe_ms;
    }
    assert!(pauses[..8].windows(2).all(|pair| pair[1] > pair[0]) && pauses[11] <= 375_000, "{pauses:?}");
    assert!(all.worked(seat(0, 0)) && !all.worked(seat(0, 0)));
    assert_eq!(all.probe(0, u64::MAX), None);
}

/// Then the queue's own pause counts, and whatever is there first.
#[test]
fn when_all_are_down_the_one_that_is_due_first_is_tried_and_none_is_probed() {
    let mut all = pools(8, &[&[("a", 1), ("b", 1)]]);
    all.failed(seat(0, 0), false, 100_000);
    all.failed(seat(0, 1), false, 0);
    assert_eq!(all.choose(0, &[]), Choice::Seat(seat(0, 1)));
    assert_eq!(all.choose(0, &[1]), Choice::Seat(seat(0, 0)));
    assert_eq!((all.probe(0, u64::MAX), all.room(0)), (None, 1));
}

#[test]
fn a_host_has_a_limit_whatever_leads_there() {
    let mut all = pools(4, &[&[("a", 1), ("b", 1)], &[("a", 1)], &[("c", 1)]]);
    assert_eq!((all.server(0), all.server(1), all.server(2)), (0, 0, 2));
    assert_eq!(all.servers().collect::<Vec<_>>(), [0, 2]);
    assert_eq!((all.room(0), all.room(2)), (4, 2));
    let taken: Vec<Choice> = (0..2).map(|_| all.choose(1, &[])).collect();
    assert_eq!(taken, [Choice::Seat(seat(1, 0)); 2]);
    assert_eq!(all.choose(1, &[]), Choice::Full);
    assert_eq!(
        [(); 3].map(|()| all.choose(0, &[])),
        [Choice::Seat(seat(0, 1)), Choice::Seat(seat(0, 1)), Choice::Full]
    );
    all.left(seat(1, 0));
    assert_eq!(all.choose(0, &[]), Choice::Seat(seat(0, 0)));
    all.failed(seat(0, 1), false, 0);
    assert_eq!(all.room(0), 2, "what is down gives no room");
}

#[test]
fn a_limit_grows_one_by_one_and_falls_by_half_and_never_below_one() {
    let mut all = pools(8, &[&[("a", 1)]]);
    let here = seat(0, 0);
    assert_eq!(all.room(0), 4);
    for (answers, limit) in [(3, 4), (1, 5), (5, 6), (6, 7), (7, 8), (100, 8)] {
        (0..answers).for_each(|_| all.answered(here));
        assert_eq!(all.room(0), limit);
    }
    (0..8).for_each(|_| assert_eq!(all.choose(0, &[]), Choice::Seat(here)));
    (0..8).for_each(|_| all.throttled(here));
    assert_eq!(all.room(0), 4, "what was open complains together");
    assert_eq!((0..8).filter(|_| all.made_way(here)).count(), 4);
    for limit in [2, 2, 1, 1, 1] {
        all.throttled(here);
        while all.made_way(here) {}
        assert!(all.room(0) <= limit.max(1));
    }
    assert_eq!(all.room(0), 1);
}

/// It may have three of its limit of eight beside one of three times its weight.
#[test]
fn what_complains_together_counts_once_at_a_host_of_little_weight_too() {
    let mut all = pools(8, &[&[("a", 3), ("b", 1)]]);
    let here = seat(0, 1);
    (0..100).for_each(|_| all.answered(here));
    (0..3).for_each(|_| assert_eq!(all.choose(0, &[0]), Choice::Seat(here)));
    assert_eq!(all.choose(0, &[0]), Choice::Full);
    (0..3).for_each(|_| all.throttled(here));
    assert_eq!(all.hosts().nth(1), Some(("b", 3, 4)));
}

#[test]
fn a_busy_host_is_not_down_as_long_as_we_have_a_connection_there() {
    let mut all = pools(8, &[&[("a", 1), ("b", 1)]]);
    let here = seat(0, 0);
    while all.choose(0, &[1]) != Choice::Full {}
    assert_eq!(all.failed(here, true, 0), None);
    (0..3).for_each(|_| all.left(here));
    assert!(all.failed(here, true, 0).is_some());
}

#[test]
fn three_losses_in_a_row_are_a_failure() {
    let mut all = pools(8, &[&[("a", 1), ("b", 1)]]);
    let here = seat(0, 0);
    assert_eq!((all.lost(here, None, 0), all.lost(here, None, 0)), (None, None));
    all.answered(here);
    assert_eq!((all.lost(here, None, 0), all.lost(here, None, 0)), (None, None));
    // That it takes connections ends no row.
    all.worked(here);
    assert!(all.has_another(seat(0, 1)) && all.lost(here, None, 0).is_some());
    assert!(!all.has_another(seat(0, 1)) && all.has_another(here));
}

#[test]
fn messages_of_one_sender_that_break_connections_do_not_take_a_host_from_others() {
    let mut all = pools(8, &[&[("a", 1), ("b", 1)]]);
    assert!((0..8).all(|id| all.lost(seat(0, 0), Some((id, 7)), 0).is_none()));
    let [_, third] = [8, 9].map(|sender| all.lost(seat(0, 0), Some((u64::from(sender), sender)), 0));
    assert!(third.is_some(), "those of three senders are its own fault");
}

#[test]
fn a_clock_that_is_set_back_makes_no_pause_longer() {
    let mut all = pools(8, &[&[("a", 1), ("b", 1)]]);
    let (now, hour) = (10_000_000, 3_600_000);
    let probe_ms = all.failed(seat(0, 0), false, now).expect("a failure");
    all.set_back(hour);
    assert_eq!(all.probe(0, probe_ms - hour - 1), None);
    assert_eq!(all.probe(0, probe_ms - hour), Some(seat(0, 0)));
}

#[test]
fn a_host_that_takes_probes_and_breaks_transactions_is_asked_ever_more_rarely() {
    let mut all = pools(8, &[&[("a", 1), ("b", 1)]]);
    let (here, mut now, mut pauses) = (seat(0, 0), 0, Vec::new());
    let mut fall = |all: &mut Pools, losses: usize| {
        let probe_ms = (0..losses).filter_map(|_| all.lost(here, None, now)).next().expect("it falls");
        pauses.push(probe_ms - now);
        now = probe_ms;
        assert_eq!(all.probe(0, now), Some(here));
        assert!(all.worked(here));
        all.left(here);
    };
    fall(&mut all, 3);
    // It has answered nothing since: one is enough.
    (0..5).for_each(|_| fall(&mut all, 1));
    all.answered(here);
    fall(&mut all, 3);
    let around = |pause: u64| pause * 3 / 4..=pause * 5 / 4;
    let expected = [1000, 2000, 4000, 8000, 16_000, 32_000, 1000];
    assert!(pauses.iter().zip(expected).all(|(pause, expected)| around(expected).contains(pause)), "{pauses:?}");
}

#[test]
fn who_watches_sees_which_hosts_are_left_out_and_how_many_connections_each_has() {
    let mut all = pools(4, &[&[("a", 1), ("b", 1)], &[("b", 1)]]);
    assert_eq!(all.choose(1, &[]), Choice::Seat(seat(1, 0)));
    all.failed(seat(0, 1), false, 0);
    assert_eq!(all.hosts().collect::<Vec<_>>(), [("a", 0, 2), ("b", 1, 2)]);
    assert_eq!((all.down(0).collect::<Vec<_>>(), all.down(1).count()), (vec!["b"], 0));
    all.worked(seat(0, 1));
    assert_eq!(all.down(0).count(), 0);
}

fn ranked(hosts: &[(&str, u16)], before: Option<&Pools>) -> Pools {
    let settings = Settings { connections_max: 4, probe_first_ms: 1000 };
    Pools::ranked(settings, hosts.iter().map(|(name, rank)| (name.to_string(), *rank)).collect(), before, 7)
}

#[test]
fn the_lowest_rank_that_is_up_is_asked_and_the_others_after_it() {
    let mut all = ranked(&[("a", 10), ("b", 10), ("c", 20), ("d", 30)], None);
    let mut firsts = [0; 4];
    for _ in 0..200 {
        let mut tried = Vec::new();
        while let Choice::Seat(seat) = all.choose(0, &tried) {
            tried.push(seat.member);
            all.left(seat);
        }
        firsts[tried[0]] += 1;
        assert_eq!((&tried[2..], tried.len()), (&[2, 3][..], 4), "{tried:?}");
    }
    assert!(firsts[0] > 60 && firsts[1] > 60, "equal ones by chance: {firsts:?}");
    assert_eq!(all.room(0), 4, "of those that are asked first");
    // A backup is not used because the first is busy, only because it is down.
    all.failed(seat(0, 0), false, 0);
    (0..2).for_each(|_| assert_eq!(all.choose(0, &[]), Choice::Seat(seat(0, 1))));
    assert_eq!((all.choose(0, &[]), all.room(0)), (Choice::Full, 2));
    all.failed(seat(0, 1), false, 0);
    assert_eq!(all.choose(0, &[]), Choice::Seat(seat(0, 2)));
}

#[test]
fn what_is_known_of_a_host_outlives_a_change_of_the_list() {
    let mut before = ranked(&[("a", 10), ("b", 20)], None);
    before.failed(seat(0, 0), false, 5);
    (0..2).for_each(|_| before.answered(seat(0, 1)));
    let mut after = ranked(&[("c", 10), ("b", 20), ("a", 5)], Some(&before));
    assert_eq!(after.room(0), 2);
    assert_eq!(after.choose(0, &[]), Choice::Seat(seat(0, 0)), "a is down");
    assert_eq!((after.probe(0, 5), after.probe(0, u64::MAX)), (None, Some(seat(0, 2))));
    after.failed(seat(0, 0), false, 5);
    assert_eq!(after.room(0), 3, "b has answered");
}

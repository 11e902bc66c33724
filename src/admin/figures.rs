//! The page `/metrics`: what cores, spool, relay and kernel know, under the names of [`crate::metrics::table`].
//!
//! ```text
//!  metrics::sets()   per core, per listener --+
//!  spool::Watch      per writer --------------+--> summed where the table has no label for it --> Page
//!  relay::Watch      per route ---------------+
//!  /proc/self --------------------------------+
//! ```

use super::status::Status;
use crate::clock::now_ms;
use crate::metrics::histogram::{self, Scale};
use crate::metrics::process::Process;
use crate::metrics::{ByCode, Counter, Histogram, LOGIN_RESULTS, OfListener, Owner, Page, Set, TLS_VERSIONS, Total};
use crate::relay::watch::{OnHost, OnRoute, STATES};
use crate::spool::WriterFigures;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;

/// All of it, from the counts of `sets`.
pub fn page(status: &Status, sets: &[Arc<Set>]) -> String {
    let mut page = Page::default();
    page.family("penstock_build_info").value(&[&env!("CARGO_PKG_VERSION")], 1);
    let cores = Cores::new(status, sets);
    cores.connections(&mut page);
    cores.tls(&mut page);
    cores.logins(&mut page, status);
    cores.messages(&mut page);
    spool(&mut page, status);
    queue(&mut page, status);
    deliveries(&mut page, status, sets);
    process(&mut page);
    page.into_text()
}

/// What the cores count.
struct Cores<'a> {
    /// With their numbers.
    sets: Vec<(usize, &'a Set)>,
    /// Names of the listeners.
    listeners: Vec<&'a str>,
}

impl<'a> Cores<'a> {
    fn new(status: &'a Status, sets: &'a [Arc<Set>]) -> Cores<'a> {
        let of_core = |set: &'a Arc<Set>| match set.owner {
            Owner::Core(number) => Some((number, &**set)),
            Owner::Relay => None,
        };
        let listeners = status.config.listeners.iter().map(|listener| &*listener.name).collect();
        Cores { sets: sets.iter().filter_map(of_core).collect(), listeners }
    }

    fn sum(&self, counter: impl Fn(&Set) -> &Counter) -> u64 {
        self.sets.iter().map(|(_, set)| counter(set).get()).sum()
    }

    /// Of all cores, what they count of each listener.
    fn listeners(&self) -> impl Iterator<Item = (&'a str, Vec<&'a OfListener>)> {
        let of = |at: usize| self.sets.iter().filter_map(move |(_, set)| set.listeners.get(at)).collect();
        self.listeners.iter().enumerate().map(move |(at, name)| (*name, of(at)))
    }

    /// Of each core and listener.
    fn each(&self) -> impl Iterator<Item = (usize, &'a str, &'a OfListener)> {
        let of = |&(number, set): &(usize, &'a Set)| {
            self.listeners.iter().zip(&set.listeners).map(move |(name, listener)| (number, *name, listener))
        };
        self.sets.iter().flat_map(of)
    }

    fn connections(&self, page: &mut Page) {
        let mut family = page.family("penstock_connections_total");
        for (core, name, listener) in self.each() {
            family.value(&[&core, &name], listener.connections.get());
        }
        let mut family = page.family("penstock_connections");
        for (core, set) in &self.sets {
            // Ended first: what is read later can only be more.
            let ended = set.sessions_ended.get();
            family.value(&[core], set.sessions_begun.get().saturating_sub(ended));
        }
        let refused: [(&str, u64); 4] = [
            ("too_many", self.sum(|set| &set.connections_refused)),
            ("network", self.sum(|set| &set.networks_refused)),
            ("displaced", self.sum(|set| &set.connections_displaced)),
            ("no_descriptor", self.sum(|set| &set.accepts_failed)),
        ];
        values(page, "penstock_connections_refused_total", &refused);
        let early = self.sum(|set| &set.early_talkers);
        page.family("penstock_connections_early_talkers_total").value(&[], early);
        let timed_out: [(&str, u64); 8] = [
            ("command", self.sum(|set| &set.timed_out_idle)),
            ("line", self.sum(|set| &set.timed_out_line)),
            ("auth", self.sum(|set| &set.timed_out_exchange)),
            ("login", self.sum(|set| &set.timed_out_login)),
            ("transaction", self.sum(|set| &set.timed_out_transaction)),
            ("content", self.sum(|set| &set.timed_out_slow)),
            ("reply_read", self.sum(|set| &set.timed_out_reply)),
            ("handshake", self.sum(|set| &set.timed_out_handshake)),
        ];
        values(page, "penstock_connections_timed_out_total", &timed_out);
        let unsecured = self.sum(|set| &set.never_secured);
        page.family("penstock_connections_never_secured_total").value(&[], unsecured);
        page.family("penstock_sessions_panicked_total").value(&[], self.sum(|set| &set.sessions_panicked));
    }

    fn tls(&self, page: &mut Page) {
        let mut family = page.family("penstock_tls_handshakes_total");
        for (name, listeners) in self.listeners() {
            for (at, version) in TLS_VERSIONS.iter().enumerate() {
                let count: u64 = listeners.iter().map(|listener| listener.handshakes[at].get()).sum();
                family.value(&[&name, version], count);
            }
        }
        self.counts(page, "penstock_tls_handshakes_failed_total", |listener| &listener.handshakes_failed);
        self.histograms(page, "penstock_tls_handshake_seconds", &histogram::PHASE_US, |listener| &listener.handshake);
    }

    fn logins(&self, page: &mut Page, status: &Status) {
        let mut family = page.family("penstock_auth_total");
        for (name, listeners) in self.listeners() {
            for (at, result) in LOGIN_RESULTS.iter().enumerate() {
                let count: u64 = listeners.iter().map(|listener| listener.logins[at].get()).sum();
                family.value(&[&name, result], count);
            }
        }
        let checks = self.sets.iter().map(|(_, set)| &set.auth_check);
        page.family("penstock_auth_check_seconds").histogram(&[], &total(&histogram::PHASE_US, checks));
        let authenticator = status.authenticator.as_ref();
        let hashes = authenticator.map_or(0, |authenticator| authenticator.hashes());
        page.family("penstock_auth_hashes_total").value(&[], hashes);
        let blocks = authenticator.map_or(0, |authenticator| authenticator.blocks());
        page.family("penstock_auth_blocks_total").value(&[], blocks);
    }

    fn messages(&self, page: &mut Page) {
        let over_rate = self.sum(|set| &set.recipients_over_rate);
        page.family("penstock_recipients_over_rate_total").value(&[], over_rate);
        let mut family = page.family("penstock_refusals_total");
        for (name, listeners) in self.listeners() {
            for (code, count) in codes(listeners.iter().map(|listener| &listener.refusals)) {
                family.value(&[&name, &code], count);
            }
        }
        let mut family = page.family("penstock_messages_total");
        for (core, name, listener) in self.each() {
            // That there is none yet is a value, so that a rate begins with the first.
            family.value(&[&core, &name, &250], listener.messages.get(250));
            for (code, count) in listener.messages.all().filter(|(code, _)| *code != 250) {
                family.value(&[&core, &name, &code], count);
            }
        }
        self.counts(page, "penstock_message_bytes_total", |listener| &listener.bytes);
        let sizes = self.sets.iter().map(|(_, set)| &set.message_bytes);
        page.family("penstock_message_size_bytes").histogram(&[], &total(&histogram::OCTETS, sizes));
        self.histograms(page, "penstock_reception_seconds", &histogram::PHASE_US, |listener| &listener.reception);
        self.histograms(page, "penstock_commit_wait_seconds", &histogram::DISK_US, |listener| &listener.commit_wait);
    }

    /// A counter of each listener.
    fn counts(&self, page: &mut Page, name: &str, counter: impl Fn(&OfListener) -> &Counter) {
        let mut family = page.family(name);
        for (listener, counted) in self.listeners() {
            family.value(&[&listener], counted.into_iter().map(|listener| counter(listener).get()).sum::<u64>());
        }
    }

    /// A histogram of each listener.
    fn histograms(&self, page: &mut Page, name: &str, scale: &'static Scale, of: impl Fn(&OfListener) -> &Histogram) {
        let mut family = page.family(name);
        for (listener, counted) in self.listeners() {
            family.histogram(&[&listener], &total(scale, counted.into_iter().map(&of)));
        }
    }
}

/// A histogram of a writer.
type OfWriter = fn(&WriterFigures) -> &Histogram;
/// What is now on a route.
type OfRoute = fn(&OnRoute) -> u64;

fn spool(page: &mut Page, status: &Status) {
    let (relay, cores) = status.spool.writers().split_last().expect("the relay has a writer");
    let writers: [(&str, &[WriterFigures]); 2] = [("core", cores), ("relay", std::slice::from_ref(relay))];
    let sum = |writers: &[WriterFigures], counter: fn(&WriterFigures) -> &Counter| -> u64 {
        writers.iter().map(|writer| counter(writer).get()).sum()
    };
    let counts = |counter| writers.map(|(name, writers)| (name, sum(writers, counter)));
    values(page, "penstock_spool_records_total", &counts(|writer| &writer.records));
    let histograms: [(&str, &'static Scale, OfWriter); 3] = [
        ("penstock_spool_commit_seconds", &histogram::DISK_US, |writer| &writer.time),
        ("penstock_spool_commit_records", &histogram::FEW, |writer| &writer.group),
        ("penstock_spool_commit_bytes", &histogram::OCTETS, |writer| &writer.bytes),
    ];
    for (name, scale, of) in histograms {
        let mut family = page.family(name);
        for (writer, writers) in writers {
            family.histogram(&[&writer], &total(scale, writers.iter().map(of)));
        }
    }
    let failures = counts(|writer| &writer.failures);
    values(
        page,
        "penstock_spool_failures_total",
        &[failures[0], failures[1], ("ahead", status.spool.stock().failures.get())],
    );
    stock(page, status);
    page.family("penstock_spool_free_bytes").value(&[], status.spool.free_bytes());
    page.family("penstock_spool_reserve_bytes").value(&[], status.spool.reserve_bytes());
    page.family("penstock_spool_takes_mail").value(&[], u64::from(status.spool.room().is_some()));
}

/// What is on the disk.
fn stock(page: &mut Page, status: &Status) {
    let stock = status.spool.stock();
    let states: [(&str, u64); 5] = [
        ("free", stock.spares.get()),
        ("written", stock.read.get()),
        ("mail", stock.mail.get()),
        ("outcomes", stock.outcomes.get()),
        ("damaged", stock.damaged.get()),
    ];
    values(page, "penstock_spool_segments", &states);
    let bytes: [(&str, u64); 2] = [("segments", stock.segment_bytes.get()), ("spills", stock.spill_bytes.get())];
    values(page, "penstock_spool_used_bytes", &bytes);
    let most = status.spool.bytes_max().map_or("+Inf".to_owned(), |most| most.to_string());
    page.family("penstock_spool_size_max_bytes").value(&[], most);
    page.family("penstock_spool_spill_files").value(&[], stock.spills.get());
    page.family("penstock_spool_wipe_waiting").value(&[], stock.to_wipe.get());
    page.family("penstock_spool_wipe_waiting_seconds").value(&[], stock.to_wipe_for_s.get());
    page.family("penstock_spool_wiped_total").value(&[], stock.wiped.get());
    page.family("penstock_spool_survivors_moved_total").value(&[], status.relay.moved.get());
}

fn queue(page: &mut Page, status: &Status) {
    let relay = &status.relay;
    page.family("penstock_queue_messages").value(&[], relay.queued.get());
    page.family("penstock_queue_held_messages").value(&[], relay.held.get());
    page.family("penstock_queue_unreadable_messages").value(&[], relay.unreadable.get());
    page.family("penstock_relay_paused").value(&[], u64::from(relay.is_paused()));
    let mut family = page.family("penstock_queue_transactions");
    for route in &relay.routes {
        for (state, count) in STATES.iter().zip(&route.transactions) {
            family.value(&[&route.name, state], count.get());
        }
    }
    let gauges: [(&str, OfRoute); 3] = [
        ("penstock_queue_oldest_seconds", |route| match route.oldest_ms.get() {
            0 => 0,
            // What is held until later waits with a negative age, which nobody wants to see.
            oldest_ms => now_ms().saturating_sub(oldest_ms) / 1000,
        }),
        ("penstock_relay_connections", |route| route.connections.get()),
        ("penstock_relay_unreachable", |route| route.unreachable.get()),
    ];
    for (name, of) in gauges {
        let mut family = page.family(name);
        for route in &relay.routes {
            family.value(&[&route.name], of(route));
        }
    }
    hosts(page, &relay.routes);
}

/// Circuit breakers: of the hosts of each route, and how many connections each host may have.
fn hosts(page: &mut Page, routes: &[OnRoute]) {
    let all = || routes.iter().flat_map(|route| route.hosts.iter().map(move |host| (&route.name, host)));
    let mut family = page.family("penstock_relay_host_up");
    for (route, host) in all() {
        family.value(&[route, &host.address], u64::from(host.down.get() == 0));
    }
    // One host may be of several routes, and its connections are for all of them.
    let hosts: BTreeMap<&str, &OnHost> = all().map(|(_, host)| (&*host.address, host)).collect();
    let connections: Vec<(&str, u64)> = hosts.iter().map(|(&name, host)| (name, host.connections.get())).collect();
    values(page, "penstock_relay_host_connections", &connections);
    let limits: Vec<(&str, u64)> = hosts.iter().map(|(&name, host)| (name, host.connections_max.get())).collect();
    values(page, "penstock_relay_host_connections_limit", &limits);
}

fn deliveries(page: &mut Page, status: &Status, sets: &[Arc<Set>]) {
    let mut family = page.family("penstock_queue_time_seconds");
    for route in &status.relay.routes {
        family.histogram(&[&route.name], &total(&histogram::QUEUE_MS, [&route.queued]));
    }
    let mut family = page.family("penstock_deliveries_total");
    for route in &status.relay.routes {
        for (result, counted) in
            [("delivered", &route.delivered), ("deferred", &route.deferred), ("failed", &route.failed)]
        {
            for (code, count) in counted.all() {
                family.value(&[&route.name, &result, &code], count);
            }
        }
    }
    let mut family = page.family("penstock_relay_unopened_total");
    for route in &status.relay.routes {
        family.value(&[&route.name], route.unopened.get());
    }
    let mut family = page.family("penstock_relay_opening_seconds");
    for route in &status.relay.routes {
        family.histogram(&[&route.name], &total(&histogram::PHASE_US, [&route.opening]));
    }
    let mut family = page.family("penstock_delivery_seconds");
    for route in &status.relay.routes {
        family.histogram(&[&route.name], &total(&histogram::PHASE_US, [&route.delivery]));
    }
    let dns = &status.relay.dns;
    let mut family = page.family("penstock_dns_questions_total");
    family.value(&[&"found"], dns.found.get());
    family.value(&[&"none"], dns.none.get());
    family.value(&[&"failed"], dns.failed.get());
    page.family("penstock_dns_question_seconds").histogram(&[], &total(&histogram::PHASE_US, [&dns.time]));
    let bounced: u64 = sets.iter().map(|set| set.bounced.get()).sum();
    page.family("penstock_bounces_total").value(&[], bounced);
}

fn process(page: &mut Page) {
    let process = Process::look();
    let whole = |value: Option<u64>| value.map(|value| value.to_string());
    let seconds = |value: Option<f64>| value.map(|value| value.to_string());
    for (name, value) in [
        ("process_cpu_seconds_total", seconds(process.processor_s)),
        ("process_resident_memory_bytes", whole(process.resident_bytes)),
        ("process_virtual_memory_bytes", whole(process.virtual_bytes)),
        ("process_open_fds", whole(process.descriptors)),
        ("process_max_fds", whole(process.descriptors_max)),
        ("process_threads", whole(process.threads)),
        ("process_start_time_seconds", seconds(process.started_s)),
    ] {
        let mut family = page.family(name);
        if let Some(value) = value {
            family.value(&[], value);
        }
    }
}

/// Values with one label.
fn values(page: &mut Page, name: &str, values: &[(impl Display, u64)]) {
    let mut family = page.family(name);
    for (label, value) in values {
        family.value(&[label], value);
    }
}

fn total<'a>(scale: &'static Scale, histograms: impl IntoIterator<Item = &'a Histogram>) -> Total {
    let mut total = Total::new(scale);
    histograms.into_iter().for_each(|histogram| total.add(histogram));
    total
}

/// The codes that any of them has counted, with their sums.
fn codes<'a>(counted: impl Iterator<Item = &'a ByCode>) -> BTreeMap<u16, u64> {
    let mut codes = BTreeMap::new();
    for (code, count) in counted.flat_map(ByCode::all) {
        *codes.entry(code).or_default() += count;
    }
    codes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::status::tests::status;
    use crate::metrics::table::{FAMILIES, Kind};
    use std::time::Duration;

    /// Two cores, four listeners, one of everything counted; the relay.
    fn sets() -> Vec<Arc<Set>> {
        let sets = [Owner::Core(0), Owner::Core(1), Owner::Relay].map(|owner| Arc::new(Set::new(owner, 4)));
        for set in &sets[..2] {
            set.sessions_begun.add(3);
            set.sessions_ended.add(1);
            set.message_bytes.count(5000);
            set.auth_check.count_time(Duration::from_millis(20));
            let listener = &set.listeners[1];
            listener.connections.add(3);
            listener.handshakes[1].add(2);
            listener.refusals.add(550);
            listener.logins[0].add(2);
            listener.messages.add(250);
            listener.messages.add(452);
            listener.bytes.add(5000);
            listener.commit_wait.count_time(Duration::from_micros(300));
        }
        sets[2].bounced.add(2);
        sets.to_vec()
    }

    fn served() -> String {
        let directory = tempfile::tempdir().expect("directory");
        let status = status(directory.path(), 0);
        let route = &status.relay.routes[0];
        route.delivered.add(250);
        route.deferred.add(451);
        route.transactions[1].set(7);
        status.relay.routes[2].hosts[0].down.set(1);
        status.relay.enters(crate::relay::watch::Phase::Paused);
        route.oldest_ms.set(now_ms() - 90_500);
        page(&status, &sets())
    }

    #[test]
    fn every_row_of_the_table_is_served_and_nothing_else() {
        let text = served();
        let lines = |mark: &'static str| text.lines().filter_map(move |line| line.strip_prefix(mark));
        let types: Vec<&str> = lines("# TYPE ").collect();
        let rows: Vec<String> = FAMILIES.iter().map(|row| format!("{} {}", row.name, row.kind.name())).collect();
        let (mut sorted_types, mut sorted_rows) = (types.clone(), rows.iter().map(String::as_str).collect::<Vec<_>>());
        sorted_types.sort_unstable();
        sorted_rows.sort_unstable();
        assert_eq!(sorted_types, sorted_rows);
        assert_eq!(types, rows, "the same, in another order");
        assert_eq!(lines("# HELP ").count(), rows.len());
        let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        for row in FAMILIES {
            let endings: &[&str] = if row.kind == Kind::Histogram { &["_bucket", "_sum", "_count"] } else { &[""] };
            for ending in endings {
                let is_one = |line: &&&str| line.split(['{', ' ']).next() == Some(&format!("{}{ending}", row.name));
                let found = samples.iter().find(is_one).unwrap_or_else(|| panic!("no sample of {}{ending}", row.name));
                for label in row.labels {
                    assert!(found.contains(&format!("{label}=\"")), "{found}");
                }
            }
        }
        let mut series: Vec<&str> = samples.iter().filter_map(|line| Some(line.rsplit_once(' ')?.0)).collect();
        series.sort_unstable();
        assert!(series.is_sorted_by(|one, next| one < next), "a series is served twice");
    }

    #[test]
    fn counts_are_summed_where_there_is_no_label_for_whose_they_are() {
        let text = served();
        for line in [
            r#"penstock_connections{core="1"} 2"#,
            r#"penstock_connections_total{core="0",listener="submission-465"} 3"#,
            r#"penstock_tls_handshakes_total{listener="submission-465",version="TLSv1.3"} 4"#,
            r#"penstock_refusals_total{listener="submission-465",code="550"} 2"#,
            r#"penstock_messages_total{core="0",listener="submission-587",code="250"} 0"#,
            r#"penstock_messages_total{core="1",listener="submission-465",code="452"} 1"#,
            r#"penstock_message_bytes_total{listener="submission-465"} 10000"#,
            r#"penstock_commit_wait_seconds_bucket{listener="submission-465",le="0.000256"} 0"#,
            r#"penstock_commit_wait_seconds_bucket{listener="submission-465",le="0.000384"} 2"#,
            r#"penstock_commit_wait_seconds_sum{listener="submission-465"} 0.0006"#,
            r#"penstock_auth_total{listener="submission-465",result="accepted"} 4"#,
            r#"penstock_queue_transactions{route="lmtp.example.edu:24",state="later"} 7"#,
            r#"penstock_relay_host_up{route="lmtp.example.edu:24",host="lmtp.example.edu:24"} 1"#,
            r#"penstock_relay_host_up{route="mail.example.edu:25",host="mail.example.edu:25"} 0"#,
            "penstock_spool_size_max_bytes +Inf",
            r#"penstock_queue_oldest_seconds{route="lmtp.example.edu:24"} 90"#,
            r#"penstock_deliveries_total{route="lmtp.example.edu:24",result="deferred",code="451"} 1"#,
            "penstock_bounces_total 2",
            "penstock_spool_takes_mail 1",
            "penstock_relay_paused 1",
        ] {
            assert!(text.lines().any(|served| served == line), "no {line} in\n{text}");
        }
    }
}

//! Every metric that is served, in one table. What is not here cannot be served ([`super::page`]), and a test holds that each
//! row is; `penstock metrics` prints it.
//!
//! Names are those of Prometheus: `_total` counts upwards from the start of the process, `_seconds` and `_bytes` are base
//! units, what has none of these is how many there are now. `process_*` are the names that all exporters give these.
//!
//! | label | what it says |
//! |---|---|
//! | `core` | number of the core thread, from 0 |
//! | `listener` | its name in the configuration |
//! | `code` | reply code, RFC 5321 section 4.2 |
//! | `route` | where it leads: hosts and ports, socket or directory, as configured; routes to the same are one |
//! | `host` | one of those hosts |
//! | `writer` | `core`: all cores together; `relay` |
//!
//! No label names a user, an address or a domain of anybody's mail: the table of routes bounds how many series there are.

/// One name.
#[derive(Debug)]
pub struct Family {
    /// As it is served.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Its labels, in the order in which they are served.
    pub labels: &'static [&'static str],
    /// What it counts. No line ends and no backslashes.
    pub help: &'static str,
}

/// What a name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Rises, until the process ends.
    Counter,
    /// What is now.
    Gauge,
    /// How often what was how large.
    Histogram,
}

impl Kind {
    /// As the format names it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// The row of `name`.
pub fn find(name: &str) -> Option<&'static Family> {
    FAMILIES.iter().find(|family| family.name == name)
}

/// The table as text, one name a paragraph.
pub fn list() -> String {
    let mut text = String::new();
    for Family { name, kind, labels, help } in FAMILIES {
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        text += &format!("{name}{labels} {}\n    {help}\n", kind.name());
    }
    text
}

/// All rows, in the order in which they are served.
#[rustfmt::skip]
pub const FAMILIES: &[Family] = &[
    gauge("penstock_build_info", &["version"], "Always 1: which version runs"),
    counter("penstock_connections_total", &["core", "listener"], "Connections accepted"),
    gauge("penstock_connections", &["core"], "Connections that are open"),
    counter("penstock_connections_refused_total", &["reason"], "Connections turned away before they were served, and strangers sent away to make room (displaced)"),
    counter("penstock_connections_early_talkers_total", &[], "Connections that ended because the client spoke before the greeting"),
    counter("penstock_connections_timed_out_total", &["waiting_for"], "Connections that ended because the client took too long"),
    counter("penstock_connections_never_secured_total", &[], "Connections of clients that needed STARTTLS and never used it"),
    counter("penstock_sessions_panicked_total", &[], "Sessions that ended by a bug"),
    counter("penstock_tls_handshakes_total", &["listener", "version"], "TLS handshakes completed"),
    counter("penstock_tls_handshakes_failed_total", &["listener"], "TLS handshakes that failed or took too long"),
    histogram("penstock_tls_handshake_seconds", &["listener"], "Time of completed TLS handshakes, the client's part included"),
    counter("penstock_auth_total", &["listener", "result"], "Logins by their result; braked: too many had failed, nothing was told; unavailable: no verifier was free"),
    histogram("penstock_auth_check_seconds", &[], "Time until a password or proof was judged, without the delay of refusals"),
    counter("penstock_auth_hashes_total", &[], "Passwords hashed; the others were answered from the cache or by a proof"),
    counter("penstock_auth_blocks_total", &[], "Blocks that the brake on guessing began, of an account or of an address"),
    counter("penstock_recipients_over_rate_total", &[], "Recipients refused because their user was over the hourly limit"),
    counter("penstock_refusals_total", &["listener", "code"], "Refusals, one for each message and each recipient, and for what needs TLS or a login first; syntax errors and failed logins do not count"),
    counter("penstock_messages_total", &["core", "listener", "code"], "Messages by the reply that decided: 250 is on disk, the others were refused at MAIL, at DATA or BDAT, or at their end"),
    counter("penstock_message_bytes_total", &["listener"], "Octets of content of messages answered 250"),
    histogram("penstock_message_size_bytes", &[], "Content of messages answered 250"),
    histogram("penstock_reception_seconds", &["listener"], "Time from MAIL to the last octet of a message, the client's part included"),
    histogram("penstock_commit_wait_seconds", &["listener"], "Time from the last octet of a message until it is on disk and 250 can be said"),
    counter("penstock_spool_records_total", &["writer"], "Records made durable"),
    histogram("penstock_spool_commit_seconds", &["writer"], "Time of each durable write of a group of records"),
    histogram("penstock_spool_commit_records", &["writer"], "Records in each durable write"),
    histogram("penstock_spool_commit_bytes", &["writer"], "Octets of each durable write"),
    counter("penstock_spool_failures_total", &["writer"], "Durable writes that failed, and segments that could not be begun; ahead: nor be prepared for whoever needs one next"),
    gauge("penstock_spool_segments", &["state"], "Segment files; free; written: or not yet read to its end by the relay; mail: pinned by mail that is not done; outcomes: pinned by outcomes of mail in another one; damaged: kept for the operator"),
    gauge("penstock_spool_used_bytes", &["files"], "Octets on disk: segments, free ones too; spills: of large messages, ten seconds late"),
    gauge("penstock_spool_size_max_bytes", &[], "spool.size_max_mib in octets, which segments and spill files together do not exceed; +Inf: none is set"),
    gauge("penstock_spool_spill_files", &[], "Spill files of large messages, in use and kept for the next"),
    gauge("penstock_spool_wipe_waiting", &[], "Free segments and spill files that hold delivered mail and are still to be overwritten"),
    gauge("penstock_spool_wipe_waiting_seconds", &[], "How long the one of those segments has been free that has waited longest, in seconds; a quarter of spool.wipe_after_s is usual, much more is behind"),
    counter("penstock_spool_wiped_total", &[], "Segments and spill files overwritten with zeros"),
    counter("penstock_spool_survivors_moved_total", &[], "Messages written again elsewhere so that their segment can be used again"),
    gauge("penstock_spool_free_bytes", &[], "Free space of the spool's file system, or what is left of spool.size_max_mib if that is less"),
    gauge("penstock_spool_reserve_bytes", &[], "Free space below which new mail is refused"),
    gauge("penstock_spool_takes_mail", &[], "1 while there is room for new mail, else 0"),
    gauge("penstock_queue_messages", &[], "Messages that are not done: a recipient is neither delivered nor given up"),
    gauge("penstock_queue_held_messages", &[], "Messages of those that an operator has put on hold"),
    gauge("penstock_queue_unreadable_messages", &[], "Messages that stay where they are, because a newer version wrote them or their envelope is damaged"),
    gauge("penstock_relay_paused", &[], "1 while nothing is delivered because of relay.paused, else 0"),
    gauge("penstock_queue_transactions", &["route", "state"], "Transactions to be made, for most messages one on one route; ready: wait for their turn; later: for their time; in_flight; resting: on hold, being moved or being recorded"),
    gauge("penstock_queue_oldest_seconds", &["route"], "Age in seconds of the oldest message that waits or is under way, from its acceptance or release; 0 when there is none; what is on hold does not count"),
    gauge("penstock_relay_connections", &["route"], "Connections to the next hop that are open or being opened"),
    gauge("penstock_relay_unreachable", &["route"], "1 while no host of the route can be reached and a pause is made before the next attempt, else 0"),
    gauge("penstock_relay_host_up", &["route", "host"], "0 while the host is left out, but for a probe now and then, because it failed; else 1, also before it is first needed"),
    gauge("penstock_relay_host_connections", &["host"], "Connections to the host, of all routes"),
    gauge("penstock_relay_host_connections_limit", &["host"], "How many it may have now: grows with what it takes, is halved when it says that it has enough"),
    histogram("penstock_queue_time_seconds", &["route"], "Time from acceptance, or the end of a hold, to the next hop's reply, of each recipient delivered"),
    counter("penstock_deliveries_total", &["route", "result", "code"], "Recipients tried, by what the next hop said; code: its reply, or ours where none came"),
    counter("penstock_relay_unopened_total", &["route"], "Deliveries put back because no host of the route gave a connection"),
    histogram("penstock_relay_opening_seconds", &["route"], "Time until a connection was good for a transaction: name, TCP, greeting, TLS and login, other hosts of the pool that failed before included"),
    histogram("penstock_delivery_seconds", &["route"], "Time of each transaction with the next hop, on a connection that is open"),
    counter("penstock_dns_questions_total", &["result"], "Questions to name servers about recipients' domains; found; none: there is no such name or record, on their word; failed: no answer, or none to be relied upon, and the mail waits"),
    histogram("penstock_dns_question_seconds", &[], "Time of each such question until it was answered or given up, without the time in which it waited for its turn; answers kept from before included"),
    counter("penstock_bounces_total", &[], "Recipients given up, whether or not their sender may be told"),
    counter("process_cpu_seconds_total", &[], "Processor time, user and system"),
    gauge("process_resident_memory_bytes", &[], "Memory that is resident"),
    gauge("process_virtual_memory_bytes", &[], "Address space"),
    gauge("process_open_fds", &[], "Open file descriptors"),
    gauge("process_max_fds", &[], "Limit on open file descriptors"),
    gauge("process_threads", &[], "Threads"),
    gauge("process_start_time_seconds", &[], "When the process was started, since the Unix epoch"),
];

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Family {
    Family { name, kind: Kind::Counter, labels, help }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Family {
    Family { name, kind: Kind::Gauge, labels, help }
}

const fn histogram(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Family {
    Family { name, kind: Kind::Histogram, labels, help }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_by_convention_and_unique() {
        for (at, family) in FAMILIES.iter().enumerate() {
            let Family { name, kind, labels, help } = family;
            assert!(!FAMILIES[..at].iter().any(|other| other.name == *name), "{name}");
            let legal = |text: &str| text.bytes().all(|octet| octet.is_ascii_lowercase() || octet == b'_');
            assert!(legal(name) && labels.iter().all(|label| legal(label)), "{name}");
            assert!(name.starts_with("penstock_") || name.starts_with("process_"), "{name}");
            assert_eq!(*kind == Kind::Counter, name.ends_with("_total"), "{name}");
            assert!(!help.is_empty() && !help.contains(['\\', '\n']) && !help.ends_with('.'), "{name}");
            assert!(!labels.iter().any(|label| ["user", "le", "address"].contains(label)), "{name}");
            if *kind == Kind::Histogram {
                assert!(["_seconds", "_bytes", "_records"].iter().any(|unit| name.ends_with(unit)), "{name}");
            }
        }
    }

    #[test]
    fn the_list_has_each_name_with_its_labels() {
        let list = list();
        assert_eq!(list.lines().count(), 2 * FAMILIES.len());
        assert!(list.contains("penstock_messages_total{core,listener,code} counter\n    Messages by the reply"));
    }
}

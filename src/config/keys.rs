//! Every key of the configuration file, in one table: what it is, what it may be, what it is when it is not given, and
//! why. The reader ([`super::section`]) follows this table and nothing else, so a key that is not here does not exist.
//!
//! Units are in the names: `_s` seconds, `_mib` 1,048,576 octets, `_kib` 1,024 octets.

/// One key of one section.
#[derive(Debug)]
pub struct Key {
    /// The section it stands in: `""` is the top of the file, `listener` is each `[[listener]]`.
    pub section: &'static str,
    /// Its name.
    pub name: &'static str,
    /// What its value may be.
    pub kind: Kind,
    /// Must the section have it?
    pub required: bool,
    /// A value that a reader can copy, in TOML; the default where there is one.
    pub example: &'static str,
    /// What it is, and for a limit why it has this default, with the RFC section.
    pub about: &'static str,
}

/// What a value may be.
#[derive(Debug)]
pub enum Kind {
    /// A string.
    Text,
    /// A string, or an array of strings.
    Texts,
    /// `true` or `false`; `false` when it is not given.
    Flag,
    /// An array of strings.
    List,
    /// One of these strings.
    Choice(&'static [&'static str]),
    /// A whole number.
    Count {
        /// What it counts.
        unit: &'static str,
        /// Least.
        min: u64,
        /// When it is not given.
        default: u64,
        /// Most.
        max: u64,
    },
    /// `[section]`
    Table,
    /// `[[section]]`, any number of them.
    Tables,
}

/// The key `name` of `section`.
pub fn find(section: &str, name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.section == section && key.name == name)
}

/// The keys of `section`, in the order of the table.
pub fn of(section: &str) -> impl Iterator<Item = &'static Key> {
    KEYS.iter().filter(move |key| key.section == section)
}

/// All sections, the top of the file first.
pub const SECTIONS: &[&str] = &[
    "",
    "spool",
    "tls",
    "tls.additional",
    "auth",
    "limits",
    "log",
    "control",
    "trace",
    "admin",
    "listener",
    "relay",
    "relay.route",
];

use Kind::{Choice, Flag, List, Table, Tables, Text, Texts};

#[rustfmt::skip]
const KEYS: &[Key] = &[
    required("", "hostname", Text, "\"smtp.example.edu\"",
        "our name in the greeting, in Received fields and in bounces; a fully qualified domain name (RFC 5321 section 2.3.5)"),
    optional("", "io", Choice(&["auto", "io_uring", "epoll"]), "\"auto\"",
        "the kernel interface: auto takes io_uring where the kernel allows it, else epoll, and says so at start"),
    count("", "cores", "core threads", 1, 0, 254, "0",
        "core threads, each pinned to a processor; not given: one for each processor that this process may run on"),
    optional("", "local_domains", List, "[\"example.edu\"]",
        "domains that anybody may send to on listeners of role smtp"),
    optional("", "local_recipients", Text, "\"recipients\"",
        "a file that says who there is in local_domains: one address or @domain a line; all others there get 550 5.1.1 (RFC 5321 section 3.3), whoever sends; not given: all are taken, and your mail system says who does not exist; it is read again when it changes. Case does not matter, user+tag is user, postmaster is always taken"),
    optional("", "trusted_networks", List, "[\"192.0.2.0/24\", \"2001:db8::/32\"]",
        "networks whose clients may send to anyone without AUTH on listeners of role smtp"),
    optional("", "help", Text, "\"https://help.example.edu/mail\"",
        "the page that people are sent to by the 530 replies to clients without TLS or AUTH; at most 200 octets, so that the reply line stays under 512 (RFC 5321 section 4.5.3.1.5)"),
    required("", "spool", Table, "[spool]", "where accepted messages are kept until they are delivered"),
    required("", "tls", Table, "[tls]", "the certificates that all listeners show"),
    optional("", "auth", Table, "[auth]", "who may log in; not given: nobody"),
    optional("", "limits", Table, "[limits]", "bounds"),
    optional("", "log", Table, "[log]", "log lines, which go to standard error"),
    optional("", "control", Table, "[control]", "who may look into the queue and change it while the server runs: penstock queue, penstock trace"),
    optional("", "trace", Table, "[trace]", "what is kept to answer: where is my message?"),
    optional("", "admin", Table, "[admin]", "metrics and health for whoever watches this server; not given: none"),
    required("", "listener", Tables, "[[listener]]", "an address to listen on"),
    required("", "relay", Table, "[relay]", "where accepted messages go"),

    required("spool", "directory", Text, "\"/var/lib/penstock/spool\"",
        "the spool; made if missing; one running instance at a time"),
    count("spool", "segment_mib", "MiB", 1, 64, 4096, "64",
        "size of a segment file; each core keeps one in use and one prepared; larger segments recycle later, smaller ones change more often"),
    count("spool", "spill_kib", "KiB", 4, 256, 8192, "256",
        "contents larger than this go to a file of their own instead of into a segment, so that one large message does not hold up a group; at the most half of what a segment takes, 8 MiB"),
    count("spool", "reserve_mib", "MiB", 0, 512, 16_777_216, "512",
        "new mail is refused with 452 4.3.1 while the file system has less free space than this (RFC 3463 section 3.4), so that what was accepted can still be recorded as delivered"),
    count("spool", "size_max_mib", "MiB", 0, 0, 16_777_216, "0",
        "what the spool's files may take together, reserve_mib of it being the reserve; more mail gets 452 4.3.1; 0: what the file system has"),
    count("spool", "wipe_after_s", "seconds", 0, 86_400, 31_536_000, "86400",
        "time after which nothing of a message that was delivered is left in the spool's files: they are overwritten with zeros unless they were used again before; 0: only when they are used again"),

    required("tls", "certificate", Text, "\"certificate.pem\"",
        "the certificate and its chain, PEM, ours first; shown to clients that ask for no name or for one that no certificate has (RFC 9325 section 3.7); check says when it ends, and from 14 days before, or for the last third of a life of less than six weeks, the log has a warning each day"),
    required("tls", "key", Text, "\"key.pem\"", "its private key, PEM"),
    optional("tls", "self_signed", Flag, "true",
        "while both files are missing: make a self-signed certificate there at start, which mail programs will warn about"),
    optional("tls", "additional", Tables, "[[tls.additional]]",
        "a further certificate, shown to clients that ask for one of its names (SNI, RFC 6066 section 3); one for a name and key type that came before is never shown"),

    required("tls.additional", "certificate", Text, "\"smtp.example.org.pem\"",
        "the certificate and its chain, PEM, ours first; its names are read from its subjectAltName, and *.example.org stands for one label"),
    required("tls.additional", "key", Text, "\"smtp.example.org.key\"", "its private key, PEM"),

    required("auth", "users_file", Text, "\"users\"", "the users and their password hashes; written by `penstock user`"),
    optional("auth", "username_form", Choice(&["either", "require-domain", "append-domain"]), "\"either\"",
        "how users name themselves: user and user@domain alike; only user@domain; or user, which becomes user@domain"),
    optional("auth", "domain", Text, "\"example.edu\"", "the domain of the users: the one that either lets them leave out and append-domain appends"),
    count("auth", "verifiers", "threads", 1, 2, 64, "2",
        "threads that check passwords; each check takes tens of milliseconds and 19 MiB on purpose"),
    count("auth", "verifier_queue", "passwords", 1, 256, 65_536, "256",
        "passwords that may wait for a verifier; past it 454 4.7.0 (RFC 4954 section 6), and mail programs try again"),
    count("auth", "cache_s", "seconds", 0, 600, 86_400, "600",
        "how long a right password is believed without a new check; 0 checks every time; a change of the users file ends it at once"),
    optional("auth", "scram", Flag, "false",
        "keep what SCRAM-SHA-256 needs (RFC 5802, RFC 7677) beside the hash of each password that is set from now on, as `penstock user add --scram` does for one user whatever stands here; SCRAM is offered once all users have it, or where a listener lists it. Whoever reads those keys can try passwords far faster than against the hash, and needs no password to pretend to be this server"),
    count("auth", "scram_iterations", "iterations", 4096, 65_536, 600_000, "65536",
        "PBKDF2 iterations of new SCRAM keys: what each guess costs whoever has read the users file, and each login the client; RFC 7677 section 4 asks for 4096 at least"),
    count("auth", "brake_account_failures", "failures", 1, 20, 10_000, "20",
        "failed logins of one user from one address (IPv6: one /64) after which that user is not checked from there, 454 4.7.0, until half of them are forgiven; the same wrong password again counts once, while auth.cache_s remembers it: a telephone that still has the old one; elsewhere the user can log in"),
    count("auth", "brake_address_failures", "failures", 1, 100, 100_000, "100",
        "the same for all users of one address together; users who have logged in from there before are still checked"),
    count("auth", "brake_window_s", "seconds", 1, 900, 86_400, "900",
        "time in which that many failures are forgiven"),
    optional("auth", "brake_exempt_networks", List, "[\"192.0.2.1\"]",
        "addresses behind which there are many users, such as the campus NAT and the web mail server: failures from there are not counted"),
    count("auth", "failure_delay_ms", "milliseconds", 0, 1000, 10_000, "1000",
        "how long the answer to a wrong password is held back; doubles with each failure up to eight times as long, so that guessing is slow"),

    count("limits", "message_mib", "MiB", 1, 50, 2047, "50",
        "the largest message, announced as SIZE (RFC 1870 section 3); RFC 5321 section 4.5.3.1.7 asks for 64 KiB at least"),
    count("limits", "recipients_max", "recipients", 100, 1000, 10_000, "1000",
        "recipients of one message; more get 452 4.5.3; RFC 5321 section 4.5.3.1.8 asks for 100 at least"),
    count("limits", "messages_per_session", "messages", 1, 10_000, 999_999, "10000",
        "MAIL commands that are taken in one session, announced as LIMITS MAILMAX (RFC 9422 section 4); more get 421 4.7.0 and open another session; six digits are all that LIMITS can tell"),
    count("limits", "hold_max_s", "seconds", 0, 2_592_000, 31_536_000, "2592000",
        "how long a user of a submission listener may have a message held back, announced as FUTURERELEASE (RFC 4865 section 3); 0 does not offer it; thirty days let a term's announcements be prepared, while what is held takes room in the spool"),
    count("limits", "user_recipients_per_hour", "recipients", 0, 0, 1_000_000, "0",
        "recipients that one user may name in an hour, in all sessions together; more get 450 4.7.1 (RFC 3463 section 3.8, RFC 6409 section 6.1) until some are forgiven, one each 3600 s / this; 0 sets no limit, because a list server that logs in may rightly have a thousand times a person's; a few hundred suit people, and bound what a stolen password can send"),
    count("limits", "connections_per_core", "connections", 1, 8192, 1_000_000, "8192",
        "open connections on one core; past it a newcomer takes the place of the longest waiting stranger, who gets 421 4.3.2; an eighth of them is for clients that have authenticated; each needs a file descriptor and, idle under TLS, about 16 KiB"),
    count("limits", "connections_max", "connections", 1, 100_000, 10_000_000, "100000",
        "open connections in all, likewise; 100,000 idle ones under TLS take about 1.6 GiB"),
    count("limits", "connections_per_address", "connections", 1, 50, 1_000_000, "50",
        "open connections of one address (IPv6: of one /64) that have not authenticated; more get 421 4.7.0 (RFC 3463 section 3.8); mail programs open a handful, mail servers a few tens"),
    count("limits", "connections_per_network", "connections", 1, 500, 1_000_000, "500",
        "the same for the network around an address, /24 or for IPv6 /48 (RFC 6177)"),
    optional("limits", "connections_exempt_networks", List, "[\"198.51.100.0/24\", \"2001:db8:100::/40\"]",
        "networks that these two limits do not hold for: many people behind one translated address; trusted_networks are exempt anyway"),
    count("limits", "receiving_mib_per_core", "MiB", 1, 64, 65_536, "64",
        "memory for messages that are being received on one core; past it large ones go to disk early and strangers get 452 4.3.1, past twice as much everybody (RFC 5321 section 4.5.3.1.10)"),
    count("limits", "idle_timeout_s", "seconds", 1, 300, 3600, "300",
        "how long a client that has authenticated, and a mail server on a listener of role smtp, may take for a command before 421 4.4.2; RFC 5321 section 4.5.3.2.7 asks for five minutes at least"),
    count("limits", "stranger_timeout_s", "seconds", 1, 60, 3600, "60",
        "the same before AUTH on listeners of role submission, and for each AUTH exchange; mail programs answer at once; more than idle_timeout_s has no effect"),
    count("limits", "login_timeout_s", "seconds", 1, 180, 3600, "180",
        "time from connecting to AUTH on listeners of role submission; some mail programs ask for the password meanwhile"),
    count("limits", "crowded_timeout_s", "seconds", 1, 10, 3600, "10",
        "while a core has three quarters of its connections, how long strangers may take for a command, a handshake, to read a reply, or pause in a message"),
    count("limits", "transaction_timeout_s", "seconds", 1, 7200, 86_400, "7200",
        "time from MAIL to the end of the message; 50 MiB take two hours at 60 kbit/s"),
    count("limits", "reply_timeout_s", "seconds", 1, 60, 3600, "60",
        "time for a client to read its replies"),
    count("limits", "receiving_rate_min", "octets per second", 1, 128, 1_048_576, "128",
        "the least rate of a message; slower ones get 421 4.4.2; the worst mobile networks carry ten times this"),
    count("limits", "receiving_window_s", "seconds", 1, 60, 3600, "60",
        "the time over which that rate is averaged, and the longest pause within a message: a train in a tunnel"),
    count("limits", "handshake_timeout_s", "seconds", 1, 30, 300, "30",
        "time for a TLS handshake; slow mobile networks need a few seconds, attackers would take all there is"),
    count("limits", "drain_s", "seconds", 0, 30, 3600, "30",
        "at shut-down, time for messages in DATA to finish (RFC 5321 section 3.8); less than what your service manager waits before it kills"),

    optional("log", "format", Choice(&["human", "json"]), "\"human\"", "one line of text, or one JSON object, an event"),
    optional("log", "level", Choice(&["debug", "info", "warning", "error"]), "\"info\"", "the least level that is written"),

    optional("control", "socket", Text, "\"/run/penstock/control\"",
        "the Unix socket that those commands use; not given: control in the spool's directory, which only root and the server's own user can enter; at most 100 octets. Mode 0660, of the group below if there is one; 0666 if there are two, because a file has one: who connects is looked at in any case (SO_PEERCRED)"),
    optional("control", "helpdesk_group", Text, "\"helpdesk\"",
        "the system group whose members may ask where a message is, by its id, a user or an address, and how much is queued; they can neither list, read nor change messages"),
    optional("control", "postmaster_group", Text, "\"postmaster\"",
        "the system group whose members may also list what is queued, read its headers, hold, release, requeue and delete them; root and the server's own user may anyway"),

    count("trace", "retention_days", "days", 0, 14, 3650, "14",
        "days for which it is kept what became of each message: times, client, user, sender, recipients and replies, no content; about 200 octets a message, in the spool's directory; what is older is removed each day; 0 keeps nothing. Two weeks are about as long as people remember to ask; your privacy rules may ask for less"),

    optional("admin", "listen", Text, "\"127.0.0.1:9587\"",
        "address and port for HTTP: /metrics in the Prometheus text format, /livez, and /readyz, which is 503 while mail should rather go elsewhere; not given: 127.0.0.1:9587. Whoever reads it sees counts, and names of listeners and routes, nothing of mail or users"),
    optional("admin", "beyond_loopback", Flag, "false",
        "allow an address that other hosts reach: there is no password and no TLS, so a firewall must say who may read"),

    required("listener", "address", Text, "\"0.0.0.0:587\"",
        "address and port; 0.0.0.0 is every IPv4 address, [::] every IPv6 address; both need two listeners"),
    required("listener", "role", Choice(&["submission", "smtp"]), "\"submission\"",
        "submission: only after AUTH, to anyone; smtp: after AUTH or from trusted_networks to anyone, else to local_domains"),
    required("listener", "tls", Choice(&["implicit", "required", "offered"]), "\"required\"",
        "implicit: from the first octet (RFC 8314 section 3.3); required: STARTTLS before anything else; offered: STARTTLS if the client likes"),
    optional("listener", "mechanisms", List, "[\"PLAIN\", \"LOGIN\"]",
        "what AUTH may be used with here, inside TLS (RFC 4954): PLAIN, LOGIN, SCRAM-SHA-256, SCRAM-SHA-256-PLUS; not given: the first two, and SCRAM-SHA-256 once every user has keys for it (auth.scram, penstock user add --scram); -PLUS binds by tls-server-end-point (RFC 5929), and programs that know tls-exporter only (RFC 9266) fail where it is listed; [] offers no AUTH"),
    optional("listener", "name", Text, "\"submission\"", "its name in log lines; not given: role and port"),
    optional("listener", "proxy_from", List, "[\"192.0.2.10\"]",
        "networks of load balancers that put a PROXY header (version 1 or 2) before everything else, TLS included; from them it is required within 5 s, from all others it is an unknown command. The client's address is then the header's, for trusted_networks, limits, logs and Received fields"),
    optional("listener", "xclient_from", List, "[\"127.0.0.1\", \"::1\"]",
        "networks of mail proxies that may say XCLIENT, once a connection; for all others it is refused with 550 5.7.0. The client's address is then the one given"),
    optional("listener", "xclient_login", Flag, "false",
        "believe XCLIENT LOGIN: the proxy has checked the password, and its client counts as authenticated"),

    optional("listener", "bare_newlines", Choice(&["normalize", "reject"]), "\"normalize\"",
        "bare CR, bare LF and NUL in content of clients that are authenticated or in trusted_networks: CR and LF become CRLF and NUL is dropped, because printers and scripts send such things; or 550 5.6.0 (RFC 5321 section 2.3.8)"),
    optional("listener", "bare_newlines_of_strangers", Choice(&["normalize", "reject"]), "\"reject\"",
        "the same of all other clients; reject because false line ends are how further messages are smuggled in (CVE-2023-51764)"),

    optional("relay", "paused", Flag, "false", "accept and keep, deliver nothing"),
    count("relay", "retry_first_s", "seconds", 1, 60, 86_400, "60",
        "pause before the first retry; doubles with each try up to retry_max_s"),
    count("relay", "retry_max_s", "seconds", 1, 3600, 86_400, "3600",
        "longest pause between tries; RFC 5321 section 4.5.4.1 asks for thirty minutes or more in the long run"),
    count("relay", "expire_s", "seconds", 1, 432_000, 2_592_000, "432000",
        "age at which an undelivered message goes back to its sender; RFC 5321 section 4.5.4.1 asks for four to five days"),
    count("relay", "delay_warning_s", "seconds", 0, 14_400, 2_592_000, "14400",
        "age at which a sender is told, once, that a message is late and still tried (NOTIFY=DELAY or no NOTIFY, RFC 3461 section 4.1); 0: never"),
    optional("relay", "tls_required_no", Choice(&["honour", "ignore"]), "\"honour\"",
        "TLS-Required: No in a message's header (RFC 8689 section 3): honour: rather than wait it goes without the TLS that its route demands; ignore: the route decides"),
    count("relay", "connections_max", "connections", 1, 8, 1024, "8",
        "connections to one host at a time; half of them at first, more as it answers, half as many each time it says that it has enough (421, 4.3.x, 4.4.5, 4.7.x)"),
    count("relay", "small_kib", "KiB", 0, 64, 1_048_576, "64",
        "messages up to this size go before larger ones to the same destination, which get one turn in five, so that attachments do not hold up a note; at each destination senders take turns in any case; 0: size makes no difference"),
    count("relay", "handshake_timeout_s", "seconds", 1, 60, 3600, "60",
        "time for a next hop's whole TLS handshake"),
    count("relay", "reply_timeout_s", "seconds", 1, 300, 3600, "300",
        "time for each of its replies but that to the content, from the command to the reply's last octet; RFC 5321 section 4.5.3.2 asks for five minutes"),
    count("relay", "block_timeout_s", "seconds", 1, 180, 3600, "180",
        "time in which it must take a block of content; RFC 5321 section 4.5.3.2.5 asks for three minutes"),
    count("relay", "content_timeout_s", "seconds", 1, 600, 7200, "600",
        "time for its reply to the content; RFC 5321 section 4.5.3.2.6 asks for ten minutes, because a server that is given up when it has taken the message gets it twice (RFC 1047)"),
    optional("relay", "name_servers", List, "[\"127.0.0.1\", \"[2001:db8::53]:5353\"]",
        "name servers that routes with mx ask, an address each, with a port if that is not 53; not given: those of /etc/resolv.conf, read at start. They are believed: name resolvers of your own, validating DNSSEC if possible"),
    count("relay", "dns_timeout_s", "seconds", 1, 5, 60, "5",
        "how long a name server may take for one answer; after three in vain the mail waits, 4.4.3 (RFC 3463 section 3.5)"),
    count("relay", "mx_connections_max", "connections", 1, 200, 10_000, "200",
        "connections of all routes with mx together; each takes a file descriptor, and memory for the message that is under way; senders take turns for them, and whoever holds as many as are free gets no more, so that one alone has half"),
    optional("relay", "route", Tables, "[[relay.route]]", "a destination"),

    optional("relay.route", "domains", List, "[\"example.edu\"]",
        "recipient domains that go this way; not given: all others"),
    optional("relay.route", "senders", List, "[\"@math.example.edu\", \"anna@example.edu\"]",
        "envelope senders whose mail goes this way, whole domains or single addresses; with domains both must fit; not given: all"),
    optional("relay.route", "smarthost", Texts, "\"mail.example.edu:25\"",
        "deliver by SMTP to this host and port; or to any of several, which share the mail and stand in for each other: [\"a.example.edu:25 weight=2\", \"b.example.edu:25\"], weights from 1 to 100, 1 if not given"),
    optional("relay.route", "mx", Flag, "false",
        "deliver to the mail servers of each recipient's domain, as DNS names them (RFC 5321 section 5.1, RFC 7505). Such mail is not signed by DKIM, and many providers refuse or hide what is not: for domains that you know, until it can be"),
    count("relay.route", "port", "port", 1, 25, 65_535, "25", "of those servers: other than 25 only for tests, or behind a translating firewall"),
    count("relay.route", "domain_connections_max", "connections", 1, 8, 1024, "8",
        "connections to one such server at a time, for each domain, and to one of its addresses for all domains together; half of them at first, as with relay.connections_max"),
    optional("relay.route", "reachable_networks", List, "[\"10.1.0.0/16\"]",
        "networks that mx may lead to although they are not public: whoever has a domain can let it point to any address, so loopback, link-local, private (RFC 1918, RFC 4193) and reserved ones (RFC 6890) are not connected to unless they are named here"),
    optional("relay.route", "tls", Choice(&["none", "opportunistic", "required", "verified"]), "\"opportunistic\"",
        "STARTTLS to the smarthost or the domain's server: never; when offered; or the message waits (required); verified: and its certificate is for its name and from a trusted CA (RFC 7817); the name of a domain's server is the one in DNS, which nothing but the name server vouches for"),
    optional("relay.route", "ca_file", Text, "\"/etc/ssl/certs/ca-certificates.crt\"",
        "PEM file with the CAs that are trusted on this route; not given: those of the system"),
    optional("relay.route", "username", Text, "\"penstock\"",
        "log in at the smarthost as this user, with SCRAM-SHA-256 where it is offered, else PLAIN or LOGIN (RFC 4954), in TLS only: tls must be \"verified\" or \"required\""),
    optional("relay.route", "password_file", Text, "\"smarthost.password\"",
        "file whose only line is the password of username; read for each connection, so a new one needs no restart"),
    optional("relay.route", "certificate", Text, "\"smarthost-client.pem\"",
        "PEM chain that is shown to a smarthost that asks for a certificate (RFC 8446 section 4.3.2); read at start"),
    optional("relay.route", "key", Text, "\"smarthost-client.key\"", "its private key, PEM"),
    optional("relay.route", "lmtp", Text, "\"unix:/run/dovecot/lmtp\"",
        "deliver by LMTP (RFC 2033) to this host and port, or unix:/path"),
    optional("relay.route", "maildir", Text, "\"/var/mail/penstock\"", "deliver into this Maildir"),
    optional("relay.route", "discard", Flag, "false", "for tests: throw the mail away"),
];

const fn required(
    section: &'static str,
    name: &'static str,
    kind: Kind,
    example: &'static str,
    about: &'static str,
) -> Key {
    Key { section, name, kind, required: true, example, about }
}

const fn optional(
    section: &'static str,
    name: &'static str,
    kind: Kind,
    example: &'static str,
    about: &'static str,
) -> Key {
    Key { section, name, kind, required: false, example, about }
}

#[allow(clippy::too_many_arguments)] // The columns of the table.
const fn count(
    section: &'static str,
    name: &'static str,
    unit: &'static str,
    min: u64,
    default: u64,
    max: u64,
    example: &'static str,
    about: &'static str,
) -> Key {
    Key { section, name, kind: Kind::Count { unit, min, default, max }, required: false, example, about }
}

/// All keys, for tests that hold the examples against the table.
#[cfg(test)]
pub fn all() -> &'static [Key] {
    KEYS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_in_range_and_names_are_unique() {
        for (at, key) in KEYS.iter().enumerate() {
            assert!(!KEYS[..at].iter().any(|other| other.section == key.section && other.name == key.name));
            assert!(!key.about.is_empty() && !key.example.is_empty());
            if let Kind::Count { min, default, max, .. } = key.kind {
                assert!(min <= max && default <= max, "{}.{}", key.section, key.name);
                assert!(min <= default || key.name == "cores", "{}.{}", key.section, key.name);
                assert_eq!(key.example, default.to_string(), "{}.{}", key.section, key.name);
            }
        }
    }
}

//! Sections of a file to a [`Config`], with the places of what the rules speak about. A value that cannot be read is
//! noted and replaced by a harmless one, so that the rest of the file is still looked at.

use super::notice::Notices;
use super::section::Section;
use super::values::{self, Fault};
use super::*;
use crate::sasl::Mechanisms;
use toml::de::DeTable;

pub mod route;

/// A configuration that may still hold contradictions.
pub struct Draft {
    pub config: Config,
    pub places: Marks,
}

/// A text of a list, and where it stands.
pub type Placed = (String, Range<usize>);

/// Where things stand: offsets into the text.
#[derive(Default)]
pub struct Marks {
    pub files: Places,
    pub hostname: Range<usize>,
    pub help: Range<usize>,
    pub local_domains: Range<usize>,
    /// As many as networks were given; with the text of each.
    pub trusted_networks: Vec<Placed>,
    pub spill: Range<usize>,
    pub size_max: Range<usize>,
    pub receiving: Range<usize>,
    pub idle_timeout: Range<usize>,
    pub login_timeout: Range<usize>,
    pub crowded_timeout: Range<usize>,
    pub brake: Range<usize>,
    pub per_network: Range<usize>,
    pub recipients: Range<usize>,
    pub per_user: Range<usize>,
    pub auth: Range<usize>,
    pub relay: Range<usize>,
    pub retry: Range<usize>,
    pub expire: Range<usize>,
    /// `admin.listen`, or the section.
    pub admin: Range<usize>,
    /// In the order of the listeners.
    pub listeners: Vec<Range<usize>>,
    /// Of all listeners: a key, and the networks that may say who their clients are, with where they stand.
    pub proxies: Vec<(&'static str, Vec<Placed>)>,
    /// Of all listeners: a key without effect, why that is, and a remedy.
    pub idle: Vec<(Range<usize>, &'static str, &'static str)>,
    /// In the order of the routes: the head, and what stands in it.
    pub routes: Vec<(Range<usize>, route::Places)>,
    /// Were all routes readable? Otherwise nothing can be said about domains without a route.
    pub routes_complete: bool,
    /// Were all of local_domains readable?
    pub local_domains_complete: bool,
    /// Were all of trusted_networks readable?
    pub trusted_networks_complete: bool,
    /// Is there no `[auth]`, rather than one that could not be read?
    pub auth_is_absent: bool,
    /// Were all listeners readable?
    pub listeners_complete: bool,
}

/// Reads the whole document.
pub fn build(document: &DeTable<'_>, directory: &Path, notices: &mut Notices) -> Draft {
    let top = Section::read("", document, 0..0, notices);
    let mut marks = Marks {
        hostname: top.at("hostname"),
        help: top.at("help"),
        local_domains: top.at("local_domains"),
        ..Marks::default()
    };
    let local_domains = domains(&top, "local_domains", notices).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    marks.local_domains_complete =
        local_domains.len() == top.list("local_domains").len() && !top.has_flawed("local_domains");
    marks.files.cores = top.at("cores");
    marks.auth_is_absent = !top.has("auth") && !top.has_flawed("auth");
    let hostname = top.text("hostname").and_then(|name| noted(values::hostname(name), &top.at("hostname"), notices));
    let spool = spool(&section(&top, "spool", notices), directory, &mut marks, notices);
    let config = Config {
        hostname: hostname.unwrap_or_default(),
        io: match top.text("io") {
            Some("io_uring") => Io::IoUring,
            Some("epoll") => Io::Epoll,
            _ => Io::Auto,
        },
        cores: Some(top.count("cores") as usize).filter(|cores| *cores != 0),
        local_domains,
        local_recipients: local_recipients(&top, directory, &mut marks, notices),
        trusted_networks: trusted_networks(&top, &mut marks, notices),
        help: help(&top, notices),
        control: control(&section(&top, "control", notices), &spool, directory, &mut marks, notices),
        trace: Trace { retention_days: section(&top, "trace", notices).count("retention_days") },
        spool,
        tls: tls(&section(&top, "tls", notices), directory, &mut marks, notices),
        auth: auth(&top, directory, &mut marks, notices),
        limits: limits(&section(&top, "limits", notices), &mut marks, notices),
        log: log(&section(&top, "log", notices)),
        admin: admin(&top, &mut marks, notices),
        listeners: listeners(&top, &mut marks, notices),
        relay: relay(&section(&top, "relay", notices), directory, &mut marks, notices),
    };
    Draft { config, places: marks }
}

/// `[auth]` alone, if there is one, with its mistakes. None: what stands there cannot be read as a section.
pub fn auth_alone(document: &DeTable<'_>, directory: &Path, notices: &mut Notices) -> Option<Option<Auth>> {
    // What is said of other sections is said where the whole is read.
    let mut of_others = notices.clone();
    let top = Section::read("", document, 0..0, &mut of_others);
    let mut marks = Marks::default();
    let auth = auth(&top, directory, &mut marks, notices);
    if let Some(auth) = &auth {
        rules::users(auth, &marks, notices);
    }
    (!top.has_flawed("auth")).then_some(auth)
}

/// `[name]`; if it is missing, its defaults. That a required one is missing has been noted with the top.
fn section<'i>(top: &Section<'i>, name: &'static str, notices: &mut Notices) -> Section<'i> {
    match top.table(name) {
        Some((table, span)) => Section::read(name, table, span, notices),
        None => Section::absent(name, 0..0),
    }
}

/// The value, or none and a mistake at `at`.
fn noted<T>(value: Result<T, Fault>, at: &Range<usize>, notices: &mut Notices) -> Option<T> {
    value.map_err(|(what, remedy)| notices.mistake(at, what, remedy)).ok()
}

fn path(section: &Section<'_>, name: &str, directory: &Path, notices: &mut Notices) -> PathBuf {
    let text = section.text(name);
    text.and_then(|text| noted(values::path(text, directory), &section.at(name), notices)).unwrap_or_default()
}

fn domains(section: &Section<'_>, name: &str, notices: &mut Notices) -> Vec<(String, Range<usize>)> {
    let list = section.list(name).into_iter();
    list.filter_map(|(text, at)| Some((noted(values::domain(text), &at, notices)?, at))).collect()
}

fn local_recipients(top: &Section<'_>, directory: &Path, marks: &mut Marks, notices: &mut Notices) -> Option<PathBuf> {
    marks.files.local_recipients = top.at("local_recipients");
    top.has("local_recipients").then(|| path(top, "local_recipients", directory, notices))
}

fn trusted_networks(top: &Section<'_>, marks: &mut Marks, notices: &mut Notices) -> Networks {
    let (networks, places) = networks(top, "trusted_networks", notices);
    marks.trusted_networks_complete =
        places.len() == top.list("trusted_networks").len() && !top.has_flawed("trusted_networks");
    marks.trusted_networks = places;
    networks
}

/// Networks, and each one's text and place.
pub(super) fn networks(
    section: &Section<'_>,
    name: &str,
    notices: &mut Notices,
) -> (Networks, Vec<(String, Range<usize>)>) {
    let (mut networks, mut places) = (Networks::default(), Vec::new());
    for (text, at) in section.list(name) {
        if noted(values::network(text, &mut networks), &at, notices).is_some() {
            places.push((text.to_owned(), at));
        }
    }
    (networks, places)
}

fn help(top: &Section<'_>, notices: &mut Notices) -> String {
    let page = top.text("help").and_then(|text| noted(values::help(text), &top.at("help"), notices));
    page.unwrap_or_default()
}

fn spool(section: &Section<'_>, directory: &Path, marks: &mut Marks, notices: &mut Notices) -> Spool {
    marks.files.spool_directory = section.at("directory");
    marks.files.spool_reserve = section.at("reserve_mib");
    marks.spill = section.at("spill_kib");
    marks.size_max = section.at("size_max_mib");
    Spool {
        directory: path(section, "directory", directory, notices),
        segment_bytes: section.count("segment_mib") << 20,
        spill_bytes: section.count("spill_kib") << 10,
        reserve_bytes: section.count("reserve_mib") << 20,
        bytes_max: Some(section.count("size_max_mib") << 20).filter(|&most| most > 0),
        wipe_after_s: section.count("wipe_after_s"),
    }
}

fn tls(section: &Section<'_>, directory: &Path, marks: &mut Marks, notices: &mut Notices) -> Tls {
    marks.files.certificate = section.at("certificate");
    marks.files.key = section.at("key");
    let mut additional = Vec::new();
    for (table, span) in section.tables("additional") {
        let section = Section::read("tls.additional", table, span, notices);
        if section.has("certificate") && section.has("key") {
            additional.push(Additional {
                certificate: path(&section, "certificate", directory, notices),
                key: path(&section, "key", directory, notices),
            });
            marks.files.additional.push((section.at("certificate"), section.at("key")));
        }
    }
    Tls {
        additional,
        certificate: path(section, "certificate", directory, notices),
        key: path(section, "key", directory, notices),
        self_signed: section.flag("self_signed"),
    }
}

fn auth(top: &Section<'_>, directory: &Path, marks: &mut Marks, notices: &mut Notices) -> Option<Auth> {
    let (table, span) = top.table("auth")?;
    let section = Section::read("auth", table, span.clone(), notices);
    marks.auth = if section.has("username_form") { section.at("username_form") } else { span };
    marks.files.users_file = section.at("users_file");
    marks.files.scram = section.at("scram");
    marks.brake = section.at("brake_account_failures");
    let domain = section.text("domain");
    Some(Auth {
        users_file: path(&section, "users_file", directory, notices),
        username_form: match section.text("username_form") {
            Some("require-domain") => UsernameForm::RequireDomain,
            Some("append-domain") => UsernameForm::AppendDomain,
            _ => UsernameForm::Either,
        },
        domain: domain.and_then(|name| noted(values::domain(name), &section.at("domain"), notices)),
        verifiers: section.count("verifiers") as usize,
        verifier_queue: section.count("verifier_queue") as usize,
        cache_s: section.count("cache_s"),
        scram: section.flag("scram"),
        scram_iterations: section.count("scram_iterations") as u32,
        brake_account_failures: section.count("brake_account_failures") as u32,
        brake_address_failures: section.count("brake_address_failures") as u32,
        brake_window_s: section.count("brake_window_s"),
        brake_exempt_networks: networks(&section, "brake_exempt_networks", notices).0,
        failure_delay_ms: section.count("failure_delay_ms"),
    })
}

fn limits(section: &Section<'_>, marks: &mut Marks, notices: &mut Notices) -> Limits {
    marks.receiving = section.at("receiving_mib_per_core");
    marks.idle_timeout = section.at("idle_timeout_s");
    marks.login_timeout = section.at("login_timeout_s");
    marks.crowded_timeout = section.at("crowded_timeout_s");
    marks.recipients = section.at("recipients_max");
    marks.per_user = section.at("user_recipients_per_hour");
    marks.per_network = section.at("connections_per_network");
    Limits {
        message_bytes_max: section.count("message_mib") << 20,
        recipients_max: section.count("recipients_max") as u32,
        messages_per_session: section.count("messages_per_session") as u32,
        hold_max_s: section.count("hold_max_s") as u32,
        user_recipients_per_hour: section.count("user_recipients_per_hour") as u32,
        connections_per_core: section.count("connections_per_core") as usize,
        connections_max: section.count("connections_max") as usize,
        connections_per_address: section.count("connections_per_address") as usize,
        connections_per_network: section.count("connections_per_network") as usize,
        connections_exempt_networks: networks(section, "connections_exempt_networks", notices).0,
        receiving_bytes_per_core: section.count("receiving_mib_per_core") << 20,
        idle_timeout_s: section.count("idle_timeout_s"),
        stranger_timeout_s: section.count("stranger_timeout_s"),
        login_timeout_s: section.count("login_timeout_s"),
        crowded_timeout_s: section.count("crowded_timeout_s"),
        transaction_timeout_s: section.count("transaction_timeout_s"),
        reply_timeout_s: section.count("reply_timeout_s"),
        receiving_rate_min: section.count("receiving_rate_min"),
        receiving_window_s: section.count("receiving_window_s"),
        handshake_timeout_s: section.count("handshake_timeout_s"),
        drain_s: section.count("drain_s"),
    }
}

fn log(section: &Section<'_>) -> Log {
    Log {
        format: if section.text("format") == Some("json") { LogFormat::Json } else { LogFormat::Human },
        level: match section.text("level") {
            Some("debug") => Level::Debug,
            Some("warning") => Level::Warning,
            Some("error") => Level::Error,
            _ => Level::Info,
        },
    }
}

fn control(
    section: &Section<'_>,
    spool: &Spool,
    directory: &Path,
    marks: &mut Marks,
    notices: &mut Notices,
) -> Control {
    marks.files.groups = [section.at("helpdesk_group"), section.at("postmaster_group")];
    let (socket, at) = match section.has("socket") {
        true => (path(section, "socket", directory, notices), section.at("socket")),
        false => (spool.directory.join("control"), marks.files.spool_directory.clone()),
    };
    marks.files.control_socket = at.clone();
    // What sun_path holds, less what the name has while it is being made.
    if socket.as_os_str().len() > 100 {
        let what = format!("{} is too long for a Unix socket, which has 100 octets", socket.display());
        notices.mistake(&at, what, "set a shorter one: [control] socket = \"/run/penstock/control\"");
    }
    let group = |name| section.text(name).map(str::to_owned);
    Control { socket, helpdesk_group: group("helpdesk_group"), postmaster_group: group("postmaster_group") }
}

/// Without `listen` it is [`ADMIN_LISTEN`].
fn admin(top: &Section<'_>, marks: &mut Marks, notices: &mut Notices) -> Option<Admin> {
    let (table, span) = top.table("admin")?;
    let section = Section::read("admin", table, span.clone(), notices);
    marks.admin = if section.has("listen") { section.at("listen") } else { span };
    let text = section.text("listen").unwrap_or(ADMIN_LISTEN);
    let listen = noted(values::admin_address(text, section.flag("beyond_loopback")), &marks.admin, notices)?;
    if listen.ip().is_loopback() && section.flag("beyond_loopback") {
        let what = format!("beyond_loopback has no effect while {listen} is listened on");
        notices.warning(&section.at("beyond_loopback"), what, "remove it, or name an address that other hosts reach");
    }
    Some(Admin { listen })
}

/// Where `[admin]` alone listens.
const ADMIN_LISTEN: &str = "127.0.0.1:9587";

fn listeners(top: &Section<'_>, marks: &mut Marks, notices: &mut Notices) -> Vec<Listener> {
    let tables = top.tables("listener");
    let mut listeners = Vec::new();
    for (table, span) in &tables {
        let section = Section::read("listener", table, span.clone(), notices);
        let at = section.at("address");
        let address = section.text("address").and_then(|text| noted(values::listener_address(text), &at, notices));
        let mechanisms = mechanisms(&section, notices);
        if let Some(listener) = listener(&section, address, mechanisms, marks, notices) {
            listeners.push(listener);
            marks.files.listeners.push(at.clone());
            marks.listeners.push(at);
            marks.files.mechanisms.push(section.at("mechanisms"));
        }
    }
    if top.has("listener") && tables.is_empty() {
        notices.mistake(&top.at("listener"), "there is nothing to listen on", "add [[listener]] to the file");
    }
    marks.listeners_complete = listeners.len() == tables.len();
    listeners
}

fn mechanisms(section: &Section<'_>, notices: &mut Notices) -> Option<Mechanisms> {
    let (mut known, mut all_known) = (Mechanisms::NONE, section.has("mechanisms"));
    for (name, at) in section.list("mechanisms") {
        let Some(mechanism) = noted(values::mechanism(name), &at, notices) else {
            all_known = false;
            continue;
        };
        if known.contains(mechanism) {
            notices.mistake(&at, format!("\"{name}\" is listed twice"), "remove one of the two");
        }
        known = known.with([mechanism].into_iter().collect());
    }
    all_known.then_some(known)
}

/// A listener if all that it must have could be read.
fn listener(
    section: &Section<'_>,
    address: Option<SocketAddr>,
    mechanisms: Option<Mechanisms>,
    marks: &mut Marks,
    notices: &mut Notices,
) -> Option<Listener> {
    let mut proxies = |name| {
        let (networks, places) = networks(section, name, notices);
        marks.proxies.push((name, places));
        networks
    };
    let (proxy_from, xclient_from) = (proxies("proxy_from"), proxies("xclient_from"));
    let xclient_login = section.flag("xclient_login");
    if xclient_login && section.list("xclient_from").is_empty() && !section.has_flawed("xclient_from") {
        let what = "xclient_login has no effect without xclient_from";
        let remedy = "remove it, or name the proxies: xclient_from = [\"127.0.0.1\"]";
        marks.idle.push((section.at("xclient_login"), what, remedy));
    }
    if section.has("bare_newlines_of_strangers") && section.text("role") == Some("submission") {
        let what = "bare_newlines_of_strangers has no effect on a listener of role submission, where nobody sends without AUTH";
        marks.idle.push((section.at("bare_newlines_of_strangers"), what, "remove it, or set bare_newlines"));
    }
    let address = address?;
    let role = match section.text("role")? {
        "smtp" => Role::Smtp,
        _ => Role::Submission,
    };
    let tls = match section.text("tls")? {
        "implicit" => TlsMode::Implicit,
        "offered" => TlsMode::Offered,
        _ => TlsMode::Required,
    };
    let name = match section.text("name") {
        Some(name) => name.to_owned(),
        None => format!("{}-{}", section.text("role")?, address.port()),
    };
    let odd_bytes = |key: &str, default: OddBytes| match section.text(key) {
        Some("normalize") => OddBytes::Normalize,
        Some("reject") => OddBytes::Reject,
        _ => default,
    };
    Some(Listener {
        name,
        address,
        role,
        tls,
        mechanisms,
        proxy_from,
        xclient_from,
        xclient_login,
        odd_bytes: odd_bytes("bare_newlines", OddBytes::Normalize),
        odd_bytes_of_strangers: odd_bytes("bare_newlines_of_strangers", OddBytes::Reject),
    })
}

fn relay(section: &Section<'_>, directory: &Path, marks: &mut Marks, notices: &mut Notices) -> Relay {
    marks.relay = section.at("route");
    marks.files.paused = section.at("paused");
    marks.retry = section.at("retry_max_s");
    marks.expire = section.at("expire_s");
    let tables = section.tables("route");
    let mut routes = Vec::new();
    for (table, span) in &tables {
        let section = Section::read("relay.route", table, span.clone(), notices);
        if let Some((route, places)) = route::route(&section, directory, notices) {
            routes.push(route);
            marks.files.routes.push(section.at(places.target));
            marks.files.ca_files.push(section.at("ca_file"));
            marks.files.route_secrets.push(["password_file", "certificate", "key"].map(|key| section.at(key)));
            marks.routes.push((span.clone(), places));
        }
    }
    marks.routes_complete = routes.len() == tables.len();
    Relay {
        paused: section.flag("paused"),
        routes,
        retry_first_s: section.count("retry_first_s"),
        retry_max_s: section.count("retry_max_s"),
        expire_s: section.count("expire_s"),
        delay_warning_s: section.count("delay_warning_s"),
        honours_tls_optional: section.text("tls_required_no") != Some("ignore"),
        connections_max: section.count("connections_max") as usize,
        small_bytes: section.count("small_kib") * 1024,
        timeouts: RelayTimeouts {
            handshake_s: section.count("handshake_timeout_s"),
            reply_s: section.count("reply_timeout_s"),
            block_s: section.count("block_timeout_s"),
            content_s: section.count("content_timeout_s"),
        },
        direct: Direct {
            name_servers: route::name_servers(section, notices),
            dns_timeout_s: section.count("dns_timeout_s"),
            connections_max: section.count("mx_connections_max") as usize,
        },
    }
}

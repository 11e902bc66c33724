//! `penstock check`: everything that can be known before start. The text of the configuration is judged by
//! [`config::load`]; here the files that it names are: are they there, can this user read them, do they hold together?
//! `serve` makes the same checks, so that what passes here starts there.

use super::{complain, say};
use crate::appliance;
use crate::auth::secret_fault;
use crate::auth::users::{self, Entry, Names};
use crate::auth::users_file;
use crate::clock::now_ms;
use crate::config::{self, Config, Loaded, Mx, Notices, RouteTls, Smarthost, Target};
use crate::control::peer;
use crate::net::{self, Certificate, Holds, PemFiles, holds};
use crate::policy::{Domains, Recipients};
use crate::relay::connection::login;
use crate::sasl::Mechanisms;
use crate::server::recipients;
use machine::Machine;
use nix::errno::Errno;
use nix::sys::statfs::{FsType, PROC_SUPER_MAGIC, SYSFS_MAGIC, statfs};
use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, access};
use std::fs;
use std::net::IpAddr;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::ExitCode;

/// Checks `file`, prints what there is to say and returns the exit status: 0 without mistakes, else 1.
pub fn check(file: &Path) -> ExitCode {
    let (notices, ends) = match config::load(file) {
        Ok(mut loaded) => {
            files(&mut loaded, file);
            (loaded.notices, ends(&loaded.config))
        }
        Err(notices) => (notices, Vec::new()),
    };
    complain(&notices.to_string());
    for line in ends {
        say(&format!("{line}\n"));
    }
    if notices.has_mistakes() {
        return ExitCode::FAILURE;
    }
    say(&format!("{}: {}\n", file.display(), verdict(&notices)));
    ExitCode::SUCCESS
}

/// How a configuration without mistakes is.
fn verdict(notices: &Notices) -> String {
    match notices.iter().count() {
        0 => "no mistakes".to_owned(),
        1 => "no mistakes, 1 warning".to_owned(),
        warnings => format!("no mistakes, {warnings} warnings"),
    }
}

/// When each certificate that can be used ends: a line each.
fn ends(config: &Config) -> Vec<String> {
    let usable =
        appliance::certificates(config).into_iter().filter_map(|files| Some((Certificate::load(&files).ok()?, files)));
    usable.map(|(certificate, files)| format!("{}: ends on {}", named(&files.certificate), certificate.end())).collect()
}

/// The configuration in `file` with all its checks. Errors: at least one mistake.
#[cfg(test)]
fn load(file: &Path) -> Result<Loaded, Notices> {
    let mut loaded = config::load(file)?;
    files(&mut loaded, file);
    match loaded.notices.has_mistakes() {
        true => Err(loaded.notices),
        false => Ok(loaded),
    }
}

/// Looks at the files that the configuration names, and adds what it finds to the notices.
pub fn files(loaded: &mut Loaded, file: &Path) {
    certificates(loaded);
    beside_certificates(loaded, file);
}

/// Looks at all of them but certificates, which `serve` makes in between.
pub fn beside_certificates(loaded: &mut Loaded, file: &Path) {
    machine::check(loaded, &Machine::this());
    let there = loaded.config.spool.directory.ancestors().find(|there| there.is_dir());
    let free = there.and_then(|there| statvfs(there).ok()).map(|free| free.blocks_available() * free.fragment_size());
    machine::flow(loaded, free);
    users_file(loaded, file);
    local_recipients(loaded);
    let (config, places, notices) = (&loaded.config, &loaded.places, &mut loaded.notices);
    directory(&config.spool.directory, &places.spool_directory, notices);
    groups(&config.control, &places.groups, notices);
    socket::check(loaded);
    let (config, places, notices) = (&loaded.config, &loaded.places, &mut loaded.notices);
    for (route, place) in config.relay.routes.iter().zip(&places.routes) {
        verified_address(&route.target, place, notices);
    }
    for ((route, place), ca_place) in config.relay.routes.iter().zip(&places.routes).zip(&places.ca_files) {
        match &route.target {
            Target::Maildir { directory: maildir } => directory(maildir, place, notices),
            Target::Lmtp { address } => lmtp_socket(address, place, notices),
            Target::Smarthost(Smarthost { tls, ca_file, .. }) | Target::Mx(Mx { tls, ca_file, .. })
                if ca_file.is_some() || *tls == RouteTls::Verified =>
            {
                if let Err(error) = net::verifying_client_config(ca_file.as_deref(), None) {
                    let (what, remedy) = error.split_once("; ").unwrap_or((&error, "give another file"));
                    notices.mistake(if ca_file.is_some() { ca_place } else { place }, what, remedy);
                }
            }
            Target::Smarthost(_) | Target::Mx(_) | Target::Discard => {}
        }
    }
    for (route, [password_at, certificate_at, key_at]) in config.relay.routes.iter().zip(&places.route_secrets) {
        let Target::Smarthost(smarthost) = &route.target else { continue };
        if let Some(login) = &smarthost.login {
            password(login, password_at, notices);
        }
        if let Some(own) = &smarthost.client_certificate {
            let files = PemFiles { certificate: own.certificate.clone(), key: own.key.clone() };
            certificate(&files, (certificate_at, key_at), "put it there, or remove certificate and key", notices);
        }
    }
}

/// The password that we log in with at a smarthost.
fn password(login: &config::Login, place: &Range<usize>, notices: &mut Notices) {
    match login::password(&login.password_file) {
        Ok(_) => private(&login.password_file, place, notices),
        Err(error) => {
            let (what, remedy) = error.rsplit_once("; ").unwrap_or((&error, "name a readable file"));
            notices.mistake(place, what, remedy);
        }
    }
}

/// Groups that the system does not know.
fn groups(control: &config::Control, places: &[Range<usize>; 2], notices: &mut Notices) {
    let named = [("helpdesk_group", &control.helpdesk_group), ("postmaster_group", &control.postmaster_group)];
    for ((key, name), place) in named.into_iter().zip(places) {
        if let Some(Err(error)) = name.as_deref().map(|name| peer::group(key, name)) {
            let (what, remedy) = error.split_once("; ").unwrap_or((&error, "look at the user database"));
            notices.mistake(place, what, remedy);
        }
    }
}

/// A smarthost that has to prove its name, and is given by its address.
fn verified_address(target: &Target, place: &Range<usize>, notices: &mut Notices) {
    let Target::Smarthost(Smarthost { hosts, tls: RouteTls::Verified, .. }) = target else { return };
    for address in hosts.iter().map(|host| &*host.address) {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.parse::<IpAddr>().is_ok() {
            let what = format!("tls = \"verified\" asks for a certificate for the address {host}, which is rare");
            notices.warning(place, what, "name the host as its certificate does");
        }
    }
}

/// Looks at certificates and keys.
pub fn certificates(loaded: &mut Loaded) {
    let (config, places, notices) = (&loaded.config, &loaded.places, &mut loaded.notices);
    let (tls, mut usable) = (&config.tls, Vec::new());
    if tls.self_signed && !tls.certificate.exists() && !tls.key.exists() {
        let what =
            format!("{} and its key are not there yet: a self-signed one is made at start", named(&tls.certificate));
        notices.warning(&places.certificate, what, "mail programs will warn until you put your own there");
    } else {
        let remedy = match tls.self_signed {
            false => "put it there, or let one be made for a try: self_signed = true",
            true => "put it there, or move the key away: then a new pair is made",
        };
        let files = PemFiles { certificate: tls.certificate.clone(), key: tls.key.clone() };
        usable.extend(certificate(&files, (&places.certificate, &places.key), remedy, notices));
    }
    for (one, (at, key_at)) in tls.additional.iter().zip(&places.additional) {
        let files = PemFiles { certificate: one.certificate.clone(), key: one.key.clone() };
        let remedy = "put it there, or remove this [[tls.additional]]";
        let Some(further) = certificate(&files, (at, key_at), remedy, notices) else { continue };
        if further.names().is_empty() {
            let what =
                format!("{} has no DNS name in its subjectAltName, so nobody can ask for it", named(&one.certificate));
            notices.mistake(at, what, "renew it with the names that clients connect to");
        } else if further.is_shadowed_by(&usable) {
            let what = format!("{} is never shown: earlier certificates have all its names", named(&one.certificate));
            notices.warning(at, what, "remove this [[tls.additional]], or name another certificate");
        }
        usable.push(further);
    }
    // Of one that cannot be used nobody knows whether it would have had the name.
    let all_usable = usable.len() == 1 + tls.additional.len();
    if all_usable && !usable.iter().any(|certificate| certificate.suits(&config.hostname)) {
        let what = format!("{} is not for hostname \"{}\"", named(&tls.certificate), config.hostname);
        let remedy = "renew it with that name, or write a hostname that it has: mail programs refuse other names";
        notices.warning(&places.certificate, what, remedy);
    }
}

/// One certificate and its key; `remedy` is for a certificate that is not there. None: it cannot be used.
fn certificate(
    files: &PemFiles,
    (at, key_at): (&Range<usize>, &Range<usize>),
    remedy: &str,
    notices: &mut Notices,
) -> Option<Certificate> {
    let mut missing = |path: &Path, at: &Range<usize>, remedy: &str| {
        if !path.exists() {
            notices.mistake(at, format!("{} does not exist", named(path)), remedy);
        }
        !path.exists()
    };
    let missing =
        [missing(&files.certificate, at, remedy), missing(&files.key, key_at, "put the key of the certificate there")];
    if missing.contains(&true) {
        return None;
    }
    if matches!(holds(&files.key), Holds::Key | Holds::Both) {
        private(&files.key, key_at, notices);
    }
    match Certificate::load(files) {
        Ok(certificate) => {
            if let Some(trouble) = certificate.trouble((now_ms() / 1000) as i64) {
                let (what, remedy) = trouble.split_once("; ").unwrap_or((&trouble, "renew it"));
                notices.warning(at, what, remedy);
            }
            Some(certificate)
        }
        Err(error) => {
            let of_key = match files.certificate == files.key {
                true => matches!(holds(&files.key), Holds::Certificate | Holds::Both),
                false => error.starts_with(&*files.key.to_string_lossy()),
            };
            let at = if of_key { key_at } else { at };
            let (what, remedy) = error.split_once("; ").unwrap_or((&error, "give another file"));
            notices.mistake(at, what, remedy);
            None
        }
    }
}

/// Warns of secrets that every user of this machine can read.
fn private(path: &Path, place: &Range<usize>, notices: &mut Notices) {
    if fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0) {
        let what = format!("everybody on this machine can read {}", named(path));
        notices.warning(place, what, format!("run: chmod o= {}", named(path)));
    }
}

fn users_file(loaded: &mut Loaded, file: &Path) {
    let Some(auth) = &loaded.config.auth else { return };
    let (path, place, notices) = (&auth.users_file, &loaded.places.users_file, &mut loaded.notices);
    let add = format!("run: penstock user add --config {} NAME", named(file));
    if !path.exists() {
        let what = format!("{} does not exist: there are no users yet, and serve will not start", named(path));
        return notices.mistake(place, what, add);
    }
    let text = match users_file::read(path) {
        Ok(text) => text,
        Err(error) => {
            let (what, remedy) = error.rsplit_once(": ").unwrap_or((&error, "name a readable file"));
            return notices.mistake(place, what, remedy);
        }
    };
    private(path, place, notices);
    match users::parse(&text, &Names::new(auth)) {
        Ok(entries) if entries.is_empty() => {
            notices.warning(place, format!("{} names nobody, so nobody can log in", named(path)), add);
        }
        Ok(entries) => scram(loaded, &entries),
        Err(_) => {
            let names = Names::new(auth);
            let mistakes = users::lines(&text, &names).filter_map(Result::err);
            let remedy = "mend the line, or remove it and use penstock user add";
            let mistakes = mistakes.map(|mistake| (mistake.line, mistake.what, remedy.to_owned()));
            lines(path, mistakes, place, notices);
        }
    }
}

/// Mistakes of a file's lines that are shown; how many more there are is said.
const LINES_SHOWN: usize = 20;

/// The mistakes of a file that is no configuration: line, what is wrong, remedy.
fn lines(
    path: &Path,
    mut mistakes: impl Iterator<Item = (usize, String, String)>,
    place: &Range<usize>,
    notices: &mut Notices,
) {
    for (line, what, remedy) in mistakes.by_ref().take(LINES_SHOWN) {
        notices.mistake(place, format!("{}:{line}: {what}", named(path)), remedy);
    }
    let more = mistakes.count();
    if more > 0 {
        notices.mistake(place, format!("{}: and {more} more lines with mistakes", named(path)), "mend these first");
    }
}

/// The first listener that lists SCRAM.
fn lists_scram(config: &Config) -> Option<usize> {
    let mut listeners = config.listeners.iter();
    listeners.position(|listener| listener.mechanisms.is_some_and(|set| set.meets(Mechanisms::SCRAM)))
}

/// Somebody wants SCRAM: the configuration, a listener, or whoever gave some of the users keys. Can those users use it?
fn scram(loaded: &mut Loaded, entries: &[Entry]) {
    let (config, places, notices) = (&loaded.config, &loaded.places, &mut loaded.notices);
    let Some(auth) = config.auth.as_ref() else { return };
    let listed = lists_scram(config);
    let without: Vec<&Entry> = entries.iter().filter(|entry| entry.scram.is_none()).collect();
    let (count, all) = (without.len(), entries.len());
    if !auth.scram && listed.is_none() && count == all {
        return;
    }
    if let Some(fault) = secret_fault(&auth.users_file) {
        let (what, remedy) = fault.rsplit_once("; ").unwrap_or((&fault, "mend it"));
        match auth.scram || listed.is_some() {
            true => notices.mistake(&places.scram, what, remedy),
            false => notices.warning(&places.scram, format!("SCRAM cannot be offered: {what}"), remedy),
        }
    }
    let Some(first) = without.first() else { return };
    let file = named(&auth.users_file);
    let what = format!("{count} of {all} users have no SCRAM keys, first \"{}\" in {file}:{}", first.name, first.line);
    let remedy = match auth.scram {
        true => "set their passwords anew with penstock user add",
        false => "set their passwords anew with penstock user add --scram",
    };
    match listed {
        Some(at) if count == all => {
            notices.mistake(&places.mechanisms[at], format!("nobody could log in by SCRAM: {what}"), remedy);
        }
        Some(at) => {
            notices.warning(&places.mechanisms[at], format!("programs that prefer SCRAM will fail: {what}"), remedy)
        }
        None => notices.warning(&places.scram, format!("SCRAM is not offered yet: {what}"), remedy),
    }
}

/// The file of local recipients: without mistakes, and does it fit local_domains?
fn local_recipients(loaded: &mut Loaded) {
    let Some(path) = &loaded.config.local_recipients else { return };
    let (domains, place) = (&loaded.config.local_domains, &loaded.places.local_recipients);
    let notices = &mut loaded.notices;
    let text = match recipients::read(path) {
        Ok(text) => text,
        Err(error) => {
            let (what, remedy) = error.rsplit_once("; ").unwrap_or((&error, "mend it"));
            return notices.mistake(place, format!("{} {what}", named(path)), remedy);
        }
    };
    let table = match recipients::parse(&text) {
        Ok(table) => table,
        Err(first) => {
            let split = |what: &str| {
                let (what, remedy) = what.rsplit_once("; ").unwrap_or((what, "mend it"));
                (what.to_owned(), remedy.to_owned())
            };
            if first.line == 0 {
                let (what, remedy) = split(&first.what);
                return notices.mistake(place, format!("{}: {what}", named(path)), remedy);
            }
            let mut others = Recipients::default();
            let mistakes = recipients::mistakes(&text, &mut others).map(|mistake| {
                let (what, remedy) = split(&mistake.what);
                (mistake.line, what, remedy)
            });
            return lines(path, mistakes, place, notices);
        }
    };
    if let Some(entry) = table.outside(&Domains::new(domains.iter().map(String::as_str))) {
        let what = format!("{} in {} is in none of local_domains and has no effect", entry, named(path));
        notices.warning(place, what, "remove it, or add its domain to local_domains");
    }
    for domain in domains.iter().filter(|domain| !table.has_any_in(domain)) {
        let what = format!("{} names nobody in {domain}, so only its postmaster is taken", named(path));
        notices.warning(place, what, format!("add addresses, or @{domain} if everybody there is to be taken"));
    }
}

/// A directory that is made at start if it is missing: whatever there is of it must be one, and writable, and files can be
/// kept there.
fn directory(path: &Path, place: &Range<usize>, notices: &mut Notices) {
    let Some((there, metadata)) = path.ancestors().find_map(|there| Some((there, fs::metadata(there).ok()?))) else {
        return;
    };
    let of = if there == path { String::new() } else { format!("{} cannot be made: ", named(path)) };
    if !metadata.is_dir() {
        return notices.mistake(place, format!("{of}{} is no directory", named(there)), "name a directory");
    }
    if let Ok(found) = statfs(there)
        && KERNELS_OWN.contains(&found.filesystem_type())
    {
        let what = format!("{of}{} is the kernel's own, and nothing can be kept in it", named(there));
        return notices.mistake(place, what, "name a directory on a disk");
    }
    match access(there, AccessFlags::W_OK | AccessFlags::X_OK) {
        Ok(()) => {}
        Err(Errno::EROFS) => {
            let what = format!("{} is on a file system that is mounted read-only", named(path));
            notices.mistake(place, what, "mount it for writing, or name another directory");
        }
        Err(_) if there == path => {
            let what = format!("this user may not write into {}", named(path));
            notices.mistake(place, what, "chown it to the user that penstock runs as, or check as that user");
        }
        Err(_) => {
            let what = format!("{} does not exist, and this user may not write into {}", named(path), named(there));
            notices.mistake(
                place,
                what,
                "make it and chown it to the user that penstock runs as, or check as that user",
            );
        }
    }
}

/// File systems that are a face of the kernel: proc and sysfs let even root make nothing.
const KERNELS_OWN: [FsType; 2] = [PROC_SUPER_MAGIC, SYSFS_MAGIC];

fn lmtp_socket(address: &str, place: &Range<usize>, notices: &mut Notices) {
    if let Some(path) = address.strip_prefix("unix:").filter(|path| !Path::new(path).exists()) {
        let remedy = "start the LMTP server; until then mail waits in the spool";
        notices.warning(place, format!("{path} does not exist"), remedy);
    }
}

fn named(path: &Path) -> std::path::Display<'_> {
    path.display()
}

mod machine;
mod socket;
#[cfg(test)]
mod tests;

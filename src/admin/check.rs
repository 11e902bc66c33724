//! `penstock check`: everything that can be known before start. The text of the configuration is judged by
//! [`config::load`]; here the files that it names are: are they there, can this user read them, do they hold together?
//! `serve` makes the same checks, so that what passes here starts there.

use crate::auth::users::{self, Names};
use crate::auth::users_file;
use crate::config::{self, Loaded, Notices, Target};
use crate::net;
use nix::unistd::{AccessFlags, access};
use std::fs;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::ExitCode;

/// Checks `file`, prints what there is to say and returns the exit status: 0 without mistakes, else 1.
pub fn check(file: &Path) -> ExitCode {
    let notices = match load(file) {
        Ok(loaded) => loaded.notices,
        Err(notices) => notices,
    };
    eprint!("{notices}");
    if notices.has_mistakes() {
        return ExitCode::FAILURE;
    }
    println!("{}: no mistakes", file.display());
    ExitCode::SUCCESS
}

/// The configuration in `file` with all its checks. Errors: at least one mistake.
pub fn load(file: &Path) -> Result<Loaded, Notices> {
    let mut loaded = config::load(file)?;
    files(&mut loaded, file);
    match loaded.notices.has_mistakes() {
        true => Err(loaded.notices),
        false => Ok(loaded),
    }
}

/// Looks at the files that the configuration names, and adds what it finds to the notices.
pub fn files(loaded: &mut Loaded, file: &Path) {
    certificate(loaded);
    users_file(loaded, file);
    let (config, places, notices) = (&loaded.config, &loaded.places, &mut loaded.notices);
    directory(&config.spool.directory, &places.spool_directory, notices);
    for (route, place) in config.relay.routes.iter().zip(&places.routes) {
        match &route.target {
            Target::Maildir { directory: maildir } => directory(maildir, place, notices),
            Target::Lmtp { address } => socket(address, place, notices),
            Target::Smarthost { .. } => {}
        }
    }
}

fn certificate(loaded: &mut Loaded) {
    let (tls, places, notices) = (&loaded.config.tls, &loaded.places, &mut loaded.notices);
    match (tls.certificate.exists(), tls.key.exists()) {
        (false, false) if tls.self_signed => {
            let what = format!(
                "{} and its key are not there yet: a self-signed one is made at start",
                named(&tls.certificate)
            );
            notices.warning(&places.certificate, what, "mail programs will warn until you put your own there");
        }
        (false, key) => {
            let remedy = match (tls.self_signed, key) {
                (false, _) => "put it there, or let one be made for a try: self_signed = true",
                (true, _) => "put it there, or move the key away: then a new pair is made",
            };
            notices.mistake(&places.certificate, format!("{} does not exist", named(&tls.certificate)), remedy);
            if !key {
                let remedy = "put the key of the certificate there";
                notices.mistake(&places.key, format!("{} does not exist", named(&tls.key)), remedy);
            }
        }
        (true, false) => {
            let remedy = "put the key of the certificate there";
            notices.mistake(&places.key, format!("{} does not exist", named(&tls.key)), remedy);
        }
        (true, true) => {
            if let Err(error) = net::server_config(&tls.certificate, &tls.key) {
                let place = match error.starts_with(&*tls.key.to_string_lossy()) {
                    true => &places.key,
                    false => &places.certificate,
                };
                let (what, remedy) = error.split_once("; ").unwrap_or((&error, "give another file"));
                notices.mistake(place, what, remedy);
            }
            private(&tls.key, &places.key, notices);
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
    if !path.exists() {
        let what = format!("{} does not exist: there are no users yet, and serve will not start", named(path));
        notices.warning(place, what, format!("run: penstock user add --config {} NAME", named(file)));
        return;
    }
    let text = match users_file::read(path) {
        Ok(text) => text,
        Err(error) => {
            let (what, remedy) = error.rsplit_once(": ").unwrap_or((&error, "name a readable file"));
            return notices.mistake(place, what, remedy);
        }
    };
    if let Err(mistake) = users::parse(&text, &Names::new(auth)) {
        let what = format!("{}:{}: {}", path.display(), mistake.line, mistake.what);
        notices.mistake(place, what, "mend the line, or remove it and use penstock user add");
    }
    private(path, place, notices);
}

/// A directory that is made at start if it is missing: whatever there is of it must be one, and writable.
fn directory(path: &Path, place: &Range<usize>, notices: &mut Notices) {
    match fs::metadata(path) {
        Ok(metadata) if !metadata.is_dir() => {
            notices.mistake(place, format!("{} is no directory", named(path)), "name a directory");
        }
        Ok(_) if access(path, AccessFlags::W_OK | AccessFlags::X_OK).is_err() => {
            let what = format!("this user may not write into {}", named(path));
            notices.mistake(place, what, "chown it to the user that penstock runs as, or check as that user");
        }
        _ => {}
    }
}

fn socket(address: &str, place: &Range<usize>, notices: &mut Notices) {
    if let Some(path) = address.strip_prefix("unix:").filter(|path| !Path::new(path).exists()) {
        let remedy = "start the LMTP server; until then mail waits in the spool";
        notices.warning(place, format!("{path} does not exist"), remedy);
    }
}

fn named(path: &Path) -> std::path::Display<'_> {
    path.display()
}

#[cfg(test)]
mod tests;

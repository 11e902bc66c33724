//! What whoever watches this server can ask over HTTP: `/metrics`, `/livez`, `/readyz`.
//!
//! ```text
//!  /livez    200 as long as anybody answers
//!  /readyz   200, or 503 while new mail should rather go elsewhere; a line for each check, and what failed
//!  /metrics  every row of metrics/table.rs, put together in figures.rs
//! ```
//!
//! Ready means: mail that comes now is taken, made durable and delivered. A next hop that is down is no reason not to be: a
//! second Penstock has the same one, and mail is kept until it is back; the line and the metrics say so. Nothing that is
//! asked here waits for a core or the relay, and half a second at the most for the disk.

use super::figures;
use crate::auth::Authenticator;
use crate::clock::now_ms;
use crate::config::Config;
use crate::metrics::{self, Owner};
use crate::relay;
use crate::services::http::Page;
use crate::spool;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A core that lives shows it every few seconds.
const CORE_SILENT_MS: u64 = 30_000;

/// What the pages are made from.
pub struct Status {
    /// The configuration.
    pub config: Arc<Config>,
    /// The spool.
    pub spool: spool::Watch,
    /// The relay.
    pub relay: Arc<relay::Watch>,
    /// Who checks passwords, if anybody does.
    pub authenticator: Option<Arc<Authenticator>>,
    /// The server is being stopped.
    pub stopping: AtomicBool,
}

/// What is held of the server: a name, and what there is to say. Err: it fails.
type Check = (&'static str, fn(&Status) -> Result<String, String>);

const CHECKS: &[Check] = &[
    ("serving", is_serving),
    ("cores moving", cores_move),
    ("spool writable", |status| status.spool.can_be_written().map(|()| String::new())),
    ("spool headroom", has_headroom),
    ("relay moving", |status| status.relay.is_moving()),
];

impl Status {
    /// The page of a path.
    pub fn page(&self, path: &str) -> Page {
        match path {
            "/livez" => Page::plain(200, "ok\n"),
            "/readyz" => self.readiness(),
            "/metrics" => Page {
                status: 200,
                kind: "text/plain; version=0.0.4; charset=utf-8",
                text: figures::page(self, &metrics::sets()),
            },
            _ => Page::plain(404, "/metrics\n/livez\n/readyz\n"),
        }
    }

    fn readiness(&self) -> Page {
        let (mut text, mut status) = (String::new(), 200);
        for (name, check) in CHECKS {
            let (word, said) = match check(self) {
                Ok(said) => ("ok", said),
                Err(said) => {
                    status = 503;
                    ("FAILED", said)
                }
            };
            let colon = if said.is_empty() { "" } else { ": " };
            text += &format!("{word} {name}{colon}{said}\n");
        }
        Page::plain(status, text)
    }
}

fn is_serving(status: &Status) -> Result<String, String> {
    match status.stopping.load(Ordering::Relaxed) {
        true => Err("it is being stopped".into()),
        false => Ok(String::new()),
    }
}

fn cores_move(status: &Status) -> Result<String, String> {
    let now_ms = now_ms();
    let silent = |beat_ms: u64| beat_ms > 0 && now_ms.saturating_sub(beat_ms) >= CORE_SILENT_MS;
    let still = metrics::sets().into_iter().find_map(|set| match set.owner {
        Owner::Core(number) if silent(set.beat_ms.get()) => Some((number, set.beat_ms.get())),
        _ => None,
    });
    match still {
        // A core that drains has nothing to show any more.
        Some((number, beat_ms)) if !status.stopping.load(Ordering::Relaxed) => {
            Err(format!("no sign of life of core {number} for {} s", (now_ms - beat_ms) / 1000))
        }
        _ => Ok(String::new()),
    }
}

fn has_headroom(status: &Status) -> Result<String, String> {
    let (free, reserve) = (status.spool.free_bytes() >> 20, status.spool.reserve_bytes() >> 20);
    match status.spool.room() {
        Some(room) => Ok(format!("{} MiB above the reserve", room >> 20)),
        None if free >= reserve => Err("no segment could be prepared; the log says why".into()),
        None => Err(format!("{free} MiB free, and {reserve} MiB are the reserve: new mail gets 452")),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::config;
    use std::path::Path;

    /// Of a new spool, a relay that has just begun, and the general example.
    pub(crate) fn status(directory: &Path, reserve_bytes: u64) -> Status {
        let text = config::example::find("general").expect("the general one").text;
        let config = config::parse(text, Path::new("/etc/penstock/penstock.toml")).expect("no mistakes").config;
        let options = spool::Options {
            directory: directory.join("spool"),
            segment_bytes: 1 << 20,
            writers: 2,
            reserve_bytes,
            bytes_max: None,
            wipe_after_s: 0,
        };
        let spool = spool::Spool::open(options).expect("a spool");
        Status {
            spool: spool.watch(),
            relay: Arc::new(relay::Watch::new(&config.relay)),
            config: Arc::new(config),
            authenticator: None,
            stopping: AtomicBool::new(false),
        }
    }

    #[test]
    fn each_check_says_what_failed() {
        let directory = tempfile::tempdir().expect("directory");
        let mut status = status(directory.path(), 0);
        assert_eq!((status.page("/livez").status, status.page("/elsewhere").status), (200, 404));
        let ready = status.page("/readyz");
        assert_eq!((ready.status, ready.text.lines().count()), (200, CHECKS.len()), "{}", ready.text);
        assert!(ready.text.contains("ok relay moving: reading the spool\n"), "{}", ready.text);
        status.relay.recorded(false);
        status.stopping.store(true, Ordering::Relaxed);
        status.spool = self::status(&directory.path().join("full"), u64::MAX >> 1).spool;
        let page = status.page("/readyz");
        assert_eq!(page.status, 503);
        for failed in ["serving: it is being stopped", "spool headroom: ", "relay moving: the spool does not take"] {
            assert!(page.text.contains(&format!("FAILED {failed}")), "{}", page.text);
        }
        assert_eq!(status.page("/livez").status, 200);
    }

    #[test]
    fn a_spool_that_cannot_be_written_is_told_of() {
        let directory = tempfile::tempdir().expect("directory");
        let status = status(directory.path(), 0);
        std::fs::create_dir(directory.path().join("spool/probe")).expect("in the way");
        let page = status.page("/readyz");
        assert!(page.status == 503 && page.text.contains("FAILED spool writable: Is a directory"), "{}", page.text);
    }
}

//! What the configuration asks of this machine and of this user: processors, and ports that not everybody may listen on.
//! Warnings only, because the service may have more than whoever checks.

use crate::appliance;
use crate::config::Loaded;
use std::fs;

/// CAP_NET_BIND_SERVICE, capabilities(7): its bit in `CapEff`.
const NET_BIND_SERVICE: u32 = 10;
/// Where ports end that need it, unless the kernel says otherwise. ip(7).
const UNPRIVILEGED_PORT_START: u16 = 1024;

/// What there is.
pub struct Machine {
    /// That we may run on.
    pub processors: usize,
    /// The first port that everybody may listen on.
    pub port_start: u16,
    /// May this process listen on those below too?
    pub binds_all: bool,
}

impl Machine {
    /// The one that we run on.
    pub fn this() -> Machine {
        let start = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
        let start = start.ok().and_then(|text| text.trim().parse().ok());
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        Machine {
            processors: appliance::processors(None).len(),
            port_start: start.unwrap_or(UNPRIVILEGED_PORT_START),
            // Where nobody can tell there is nothing to warn of.
            binds_all: effective(&status).is_none_or(|bits| bits >> NET_BIND_SERVICE & 1 == 1),
        }
    }
}

/// The effective capabilities in `/proc/self/status`.
fn effective(status: &str) -> Option<u64> {
    let digits = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(digits.trim(), 16).ok()
}

/// Notes mail that stays: the relay is paused, or there is no room for any. `free`: octets of the spool's file system.
pub fn flow(loaded: &mut Loaded, free: Option<u64>) {
    let (config, places, notices) = (&loaded.config, &loaded.places, &mut loaded.notices);
    if config.relay.paused {
        let what = "the relay is paused: mail is accepted and kept, and nothing is delivered or returned";
        notices.warning(&places.paused, what, "remove paused = true, unless that is meant");
    }
    let reserve = config.spool.reserve_bytes;
    if let Some(free) = free.filter(|free| *free <= reserve) {
        let what = format!(
            "the disk of {} has {} MiB free, and reserve_mib is {}: all mail would be refused with 452",
            config.spool.directory.display(),
            free >> 20,
            reserve >> 20
        );
        notices.warning(&places.spool_reserve, what, "make room, or write a smaller reserve_mib");
    }
}

/// Notes what `machine` does not have.
pub fn check(loaded: &mut Loaded, machine: &Machine) {
    let (config, places, notices) = (&loaded.config, &loaded.places, &mut loaded.notices);
    if let Some(cores) = config.cores.filter(|cores| *cores > machine.processors) {
        let what = format!("cores = {cores}, and there are {} processors to run on", machine.processors);
        notices.warning(&places.cores, what, format!("write cores = {}, or remove the line", machine.processors));
    }
    for (listener, place) in config.listeners.iter().zip(&places.listeners) {
        let port = listener.address.port();
        if port < machine.port_start && !machine.binds_all {
            let what = format!("this user may not listen on port {port}, below {}", machine.port_start);
            let remedy = "give the service AmbientCapabilities=CAP_NET_BIND_SERVICE (systemd), if it does not have it";
            notices.warning(place, what, remedy);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use std::path::Path;

    #[test]
    fn mail_that_would_stay_is_named() {
        let text = config::example::find("toronto").expect("there").text;
        let said = |text: &str, free| {
            let mut loaded = config::parse(text, Path::new("/x/penstock.toml")).expect("no mistakes");
            flow(&mut loaded, free);
            loaded.notices.to_string()
        };
        assert_eq!(said(text, Some(u64::MAX)), "");
        assert_eq!(said(text, None), "");
        let full = said(text, Some(1 << 20));
        assert!(full.contains("has 1 MiB free") && full.contains("refused with 452"), "{full}");
        let paused = said(&text.replace("[relay]\n", "[relay]\npaused = true\n"), None);
        assert!(paused.contains("warning: the relay is paused"), "{paused}");
    }

    #[test]
    fn processors_and_ports_that_are_not_there_are_named() {
        let text = config::example::find("toronto").expect("there").text;
        let text = format!("cores = 4\n{text}").replace(":465", ":2465");
        let said = |machine: Machine| {
            let mut loaded = config::parse(&text, Path::new("/x/penstock.toml")).expect("no mistakes");
            check(&mut loaded, &machine);
            loaded.notices.to_string()
        };
        let enough = Machine { processors: 4, port_start: 1024, binds_all: true };
        assert_eq!(said(enough), "");
        let few = said(Machine { processors: 3, port_start: 1024, binds_all: true });
        assert_eq!(few.lines().count(), 1, "{few}");
        assert!(
            few.contains(":1: warning: cores = 4, and there are 3 processors") && few.contains("write cores = 3"),
            "{few}"
        );
        let user = said(Machine { processors: 4, port_start: 1024, binds_all: false });
        assert_eq!(user.lines().count(), 1, "{user}");
        assert!(
            user.contains("warning: this user may not listen on port 587") && user.contains("CAP_NET_BIND"),
            "{user}"
        );
        assert_eq!(said(Machine { processors: 4, port_start: 587, binds_all: false }), "");
        assert_eq!(effective("Name:\tx\nCapEff:\t0000000000000400\n"), Some(1 << NET_BIND_SERVICE));
        assert_eq!(effective("Name:\tx\n"), None);
    }
}

//! What the kernel knows of this process: memory, descriptors, processor time, by `/proc/self`. For any thread that may wait.

use std::fs;

/// As it is now; what cannot be read is none.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    /// Octets of memory that are resident.
    pub resident_bytes: Option<u64>,
    /// Octets of address space.
    pub virtual_bytes: Option<u64>,
    /// Open descriptors.
    pub descriptors: Option<u64>,
    /// The soft limit on them.
    pub descriptors_max: Option<u64>,
    /// Processor time, user and system, in seconds.
    pub processor_s: Option<f64>,
    /// Threads.
    pub threads: Option<u64>,
    /// When it was started, seconds since the Unix epoch.
    pub started_s: Option<f64>,
}

impl Process {
    /// Looks.
    pub fn look() -> Process {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let limits = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE);
        Process {
            // The directory that is being listed is open itself.
            descriptors: fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as u64 - 1),
            descriptors_max: limits.ok().map(|(soft, _)| soft),
            ..Process::read(&stat, page_bytes(), clock_hz(), booted_s())
        }
    }

    /// From proc_pid_stat(5): the fields behind the name, which may hold anything, are counted from 3.
    fn read(stat: &str, page_bytes: u64, hz: f64, booted_s: Option<f64>) -> Process {
        let behind: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, behind)| behind).split_whitespace().collect();
        let field = |number: usize| behind.get(number - 3).and_then(|text| text.parse::<u64>().ok());
        let seconds = |ticks: u64| ticks as f64 / hz;
        Process {
            processor_s: field(14).zip(field(15)).map(|(user, system)| seconds(user + system)),
            threads: field(20),
            started_s: field(22).zip(booted_s).map(|(ticks, booted_s)| booted_s + seconds(ticks)),
            virtual_bytes: field(23),
            resident_bytes: field(24).map(|pages| pages * page_bytes),
            ..Process::default()
        }
    }
}

fn page_bytes() -> u64 {
    sysconf(nix::unistd::SysconfVar::PAGE_SIZE).unwrap_or(4096)
}

fn clock_hz() -> f64 {
    sysconf(nix::unistd::SysconfVar::CLK_TCK).unwrap_or(100) as f64
}

fn sysconf(name: nix::unistd::SysconfVar) -> Option<u64> {
    nix::unistd::sysconf(name).ok().flatten().and_then(|value| u64::try_from(value).ok())
}

/// When the system was booted, seconds since the Unix epoch.
fn booted_s() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_moves_no_field() {
        let behind: String = (3..=24).map(|number| format!(" {}", number * 100)).collect();
        let process = Process::read(&format!("1 (a) (b c) R 7){behind}"), 4096, 100.0, Some(1_000.0));
        assert_eq!(process.processor_s, Some((1400 + 1500) as f64 / 100.0));
        assert_eq!((process.threads, process.started_s), (Some(2000), Some(1_022.0)));
        assert_eq!((process.virtual_bytes, process.resident_bytes), (Some(2300), Some(2400 * 4096)));
        assert_eq!(Process::read("", 4096, 100.0, None), Process::default());
    }

    #[test]
    fn this_process_has_memory_and_descriptors() {
        let process = Process::look();
        let known = [process.resident_bytes, process.virtual_bytes, process.descriptors, process.threads];
        assert!(known.iter().all(|known| known.is_some_and(|value| value > 0)), "{process:?}");
        assert!(process.descriptors < process.descriptors_max);
        let now_s = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_secs_f64();
        let age_s = now_s - process.started_s.expect("started");
        assert!((-2.0..86_400.0).contains(&age_s), "{age_s}");
    }
}

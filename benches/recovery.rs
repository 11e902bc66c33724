//! Claim: a start reads what is live at no less than half the speed at which the disk reads sequentially, and its time
//! is proportional to what is live: not to what was delivered.
//!
//! `cargo bench --bench recovery [-- MESSAGES]`; a million if nothing is said. Spools of a hundredth, a tenth and all of
//! them, of 1 KiB each, all queued; then one of which all but a thousandth are delivered, as the last server has left it at
//! once, and after a server has run for a minute or two and moved what is left out of the way.
//!
//! Each round reads every spool three times from the disk, in turn: its files, as `dd bs=1M` reads; the library's
//! `Follower`; and a start of the real `penstock`, from exec until it listens, and until its relay has the queue. The page
//! cache forgets the files before each, and it is asserted that the octets came from the disk.

#[path = "support/spooled.rs"]
mod spooled;

use penstock::spool::examine;
use spooled::{active, disk_bytes, forget_cached, read_sequentially, spread};
use std::io::{BufRead, BufReader, Lines};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

const MESSAGE: usize = 1024;
const ROUNDS: usize = 5;
/// One message in so many is still to be delivered.
const LEFT: usize = 1000;
/// Longer than a server takes to move what is left.
const PATIENCE: Duration = Duration::from_secs(200);

const CONFIG: &str = r#"
hostname = "penstock.test"
cores = 1
local_domains = ["local.test"]
[spool]
directory = "DIRECTORY"
wipe_after_s = 0
[tls]
certificate = "certificate.pem"
key = "key.pem"
self_signed = true
[[listener]]
address = "127.0.0.1:PORT"
role = "smtp"
tls = "offered"
[relay]
delay_warning_s = 0
[[relay.route]]
smarthost = "127.0.0.1:1"
tls = "none"
"#;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let wanted = arguments.find_map(|argument| argument.parse().ok());
    let is_measured = std::env::args().any(|argument| argument == "--bench");
    let messages = wanted.unwrap_or(if is_measured { 1_000_000 } else { 10_000 });
    let rounds = if is_measured { ROUNDS } else { 1 };
    println!("{:34} {:>6} {:>6}  {:>17}  {:>17} {:>5}", "messages of 1 KiB", "live", "MiB", "read", "scan", "ratio");
    for messages in [messages / 100, messages / 10, messages] {
        let bench = Bench::new();
        spooled::fill(&bench.spool, messages, MESSAGE, |_| "ben@example.org".into(), |_| false);
        bench.report(&format!("{messages} queued"), messages, rounds);
    }
    let bench = Bench::new();
    spooled::fill(&bench.spool, messages, MESSAGE, |_| "ben@example.org".into(), |number| number % LEFT != 0);
    let left = messages.div_ceil(LEFT);
    bench.report(&format!("{messages} of which most are delivered"), left, rounds);
    bench.run_until_moved();
    bench.report("the same, what is left was moved", left, rounds);
}

/// A spool, and a configuration for it. MB/s; seconds.
struct Bench {
    _folder: tempfile::TempDir,
    spool: PathBuf,
    config: PathBuf,
}

/// One start of the real program.
struct Start {
    listens_s: f64,
    caught_up_s: f64,
    peak_kib: f64,
}

impl Bench {
    fn new() -> Bench {
        let beside = std::env::current_exe().expect("a name");
        let folder = tempfile::tempdir_in(beside.parent().expect("a directory")).expect("a directory");
        let (spool, config) = (folder.path().join("spool"), folder.path().join("penstock.toml"));
        let port = TcpListener::bind("127.0.0.1:0").and_then(|probe| probe.local_addr()).expect("a port").port();
        let text = CONFIG.replace("DIRECTORY", spool.to_str().expect("text")).replace("PORT", &port.to_string());
        std::fs::write(&config, text).expect("written");
        Bench { _folder: folder, spool, config }
    }

    /// Prints a line.
    fn report(&self, what: &str, live: usize, rounds: usize) {
        let mebibytes = active(&self.spool).iter().map(|active| active.end).sum::<u64>() >> 20;
        let (mut reads, mut scans, mut starts) = (Vec::new(), Vec::new(), Vec::new());
        // The first makes the certificate, and begins the traces.
        self.start(live);
        for _ in 0..rounds {
            reads.push(self.speed_from_disk(|| read_sequentially(&self.spool)));
            scans.push(self.scan());
            starts.push(self.start(live));
        }
        let ([read_min, read, read_max], [scan_min, scan, scan_max]) = (spread(&reads), spread(&scans));
        println!(
            "{what:34} {live:>6} {mebibytes:>6}  {read:5.0} ({read_min:4.0}-{read_max:4.0})  {scan:5.0} ({scan_min:4.0}-{scan_max:4.0}) {:5.2}",
            scan / read
        );
        let each = |of: &dyn Fn(&Start) -> f64| spread(&starts.iter().map(of).collect::<Vec<_>>());
        let [least_s, caught_up_s, most_s] = each(&|start| start.caught_up_s);
        let [_, listens_s, _] = each(&|start| start.listens_s);
        let [_, peak_kib, _] = each(&|start| start.peak_kib);
        println!(
            "{:34} listens after {listens_s:.2} s, has the queue after {caught_up_s:.2} s ({least_s:.2}-{most_s:.2}), peak RSS {:.0} MiB",
            "",
            peak_kib / 1024.0
        );
    }

    /// MB/s.
    fn speed_from_disk(&self, read: impl FnOnce() -> u64) -> f64 {
        forget_cached(&self.spool);
        let (before, begun) = (disk_bytes(std::process::id()), Instant::now());
        let octets = read();
        let seconds = begun.elapsed().as_secs_f64();
        assert!((disk_bytes(std::process::id()) - before) * 20 >= octets * 19, "not from the disk");
        octets as f64 / seconds / 1e6
    }

    /// Reads every record; MB/s. Changes nothing: who does not read what records say must not recycle.
    fn scan(&self) -> f64 {
        let octets = active(&self.spool).iter().map(|active| active.end).sum();
        let mut examined = examine(&self.spool).expect("nobody else is there");
        self.speed_from_disk(|| {
            while examined.follower.next().is_some() {}
            octets
        })
    }

    /// Starts and stops the real program.
    fn start(&self, live: usize) -> Start {
        forget_cached(&self.spool);
        let begun = Instant::now();
        let (server, mut lines) = self.serve();
        let (mut listens_s, mut caught_up_s, mut queued) = (0.0, 0.0, 0);
        while listens_s == 0.0 || caught_up_s == 0.0 {
            let line = lines.next().expect("it starts").expect("text");
            if line.contains(" listening ") {
                listens_s = begun.elapsed().as_secs_f64();
            } else if let Some((_, fields)) = line.split_once("relay started") {
                caught_up_s = begun.elapsed().as_secs_f64();
                let number = fields.split(' ').find_map(|field| field.strip_prefix("queued="));
                queued = number.expect("a field").parse().expect("a number");
            }
        }
        let peak_kib = peak_kib(server.id());
        stop(server, lines);
        assert_eq!(queued, live, "in the queue");
        Start { listens_s, caught_up_s, peak_kib }
    }

    /// Runs the real program until what is left is in a segment of its own.
    fn run_until_moved(&self) {
        let before = active(&self.spool).len();
        let (server, mut lines) = self.serve();
        let begun = Instant::now();
        // Before that a signal ends it as it ends any program.
        lines
            .find(|line| line.as_ref().is_ok_and(|line| line.contains("relay started")))
            .expect("it starts")
            .expect("text");
        while active(&self.spool).len() > 2 && begun.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(200));
        }
        let (after, seconds) = (active(&self.spool).len(), begun.elapsed().as_secs());
        println!("{:34} a server that ran for {seconds} s made {after} segments of {before}", "");
        stop(server, lines);
    }

    fn serve(&self) -> (Child, Lines<BufReader<ChildStderr>>) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_penstock"));
        command.arg("serve").arg("--config").arg(&self.config);
        let mut server = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("starts");
        let lines = BufReader::new(server.stderr.take().expect("piped")).lines();
        (server, lines)
    }
}

/// The largest resident set so far.
fn peak_kib(pid: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("readable");
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

fn stop(mut server: Child, lines: Lines<BufReader<ChildStderr>>) {
    let pid = nix::unistd::Pid::from_raw(server.id() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("sent");
    // A full pipe would hold up nobody, but lines would be lost.
    lines.for_each(drop);
    assert!(server.wait().expect("ends").success());
}

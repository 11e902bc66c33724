//! The runtime of a thread: pinned to a processor, on io_uring or on epoll.
//!
//! io_uring is set up for one thread that submits and reaps (`single_issuer`) and that takes completions only when it
//! asks for them (`defer_taskrun`, Linux 6.1); an older kernel gets what it knows. `kernel-notes/rings-and-flags.md`
//! has the figures. Epoll is for hosts where io_uring is forbidden; it is chosen by the caller, never silently.
//!
//! **Promise:** when [`run`] returns, every task that was woken before `main` ended has run. Tasks that still wait are
//! leaked with their descriptors, so `main` must end them first.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use io_uring::{IoUring, Probe, opcode};
use monoio::time::TimeDriver;
use monoio::{IoUringDriver, LegacyDriver, Runtime, RuntimeBuilder};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// Which kernel interface a thread's runtime uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// io_uring, Linux 5.11 or later.
    IoUring,
    /// epoll, for hosts that forbid io_uring. Its file operations would block the thread, so the spool writes on another.
    Epoll,
}

impl Driver {
    /// For the log.
    pub fn name(self) -> &'static str {
        match self {
            Driver::IoUring => "io_uring",
            Driver::Epoll => "epoll",
        }
    }
}

/// How completions reach the thread, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingFlags {
    /// Only when the thread asks for them; Linux 6.1.
    SingleIssuerDeferTaskrun,
    /// At the thread's next system call, without an interrupt; Linux 6.0.
    SingleIssuerCoopTaskrun,
    /// The same, while any thread may submit; Linux 5.19.
    CoopTaskrun,
    /// By interrupting the thread.
    None,
}

/// Submission entries of a ring. Operations that do not fit are submitted at once, so this bounds the batch, not the
/// number of connections.
const RING_ENTRIES: u32 = 4096;

/// Can io_uring be used here? Err: why not, in the words of the kernel.
pub fn probe_io_uring() -> Result<(), String> {
    let ring = IoUring::new(8).map_err(|error| format!("io_uring_setup: {error}"))?;
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe).map_err(|error| format!("io_uring probe: {error}"))?;
    match OPERATIONS.iter().find(|(code, _)| !probe.is_supported(*code)) {
        Some((_, name)) => Err(format!("this kernel's io_uring has no {name}")),
        None => Ok(()),
    }
}

/// The operations that the runtime submits on our behalf.
const OPERATIONS: [(u8, &str); 13] = [
    (opcode::Accept::CODE, "ACCEPT"),
    (opcode::AsyncCancel::CODE, "ASYNC_CANCEL"),
    (opcode::Close::CODE, "CLOSE"),
    (opcode::Connect::CODE, "CONNECT"),
    (opcode::Fsync::CODE, "FSYNC"),
    (opcode::OpenAt::CODE, "OPENAT"),
    (opcode::PollAdd::CODE, "POLL_ADD"),
    (opcode::Read::CODE, "READ"),
    (opcode::Recv::CODE, "RECV"),
    (opcode::Send::CODE, "SEND"),
    (opcode::Timeout::CODE, "TIMEOUT"),
    (opcode::Write::CODE, "WRITE"),
    (opcode::Writev::CODE, "WRITEV"),
];

/// Pins the calling thread to `processor` (its number as the kernel counts), builds the runtime on it and runs `main`
/// to its end. A thread runs one runtime at a time.
pub fn run<F: Future>(driver: Driver, processor: Option<usize>, main: F) -> io::Result<F::Output> {
    pin(processor)?;
    match driver {
        Driver::Epoll => Ok(epoll_runtime()?.block_on(until_settled(main))),
        Driver::IoUring => Ok(best_ring_runtime()?.block_on(until_settled(main))),
    }
}

/// As [`run`] on io_uring, with flags that the caller chooses: for measuring them.
pub fn run_with_flags<F: Future>(flags: RingFlags, processor: Option<usize>, main: F) -> io::Result<F::Output> {
    pin(processor)?;
    Ok(ring_runtime(flags)?.block_on(until_settled(main)))
}

fn pin(processor: Option<usize>) -> io::Result<()> {
    let Some(processor) = processor else { return Ok(()) };
    let mut set = CpuSet::new();
    set.set(processor)
        .and_then(|()| sched_setaffinity(Pid::from_raw(0), &set))
        .map_err(|errno| io::Error::other(format!("cannot run on processor {processor}: {errno}")))
}

fn epoll_runtime() -> io::Result<Runtime<TimeDriver<LegacyDriver>>> {
    RuntimeBuilder::<LegacyDriver>::new().with_entries(RING_ENTRIES).enable_timer().build()
}

fn ring_runtime(flags: RingFlags) -> io::Result<Runtime<TimeDriver<IoUringDriver>>> {
    let mut ring = IoUring::builder();
    match flags {
        RingFlags::SingleIssuerDeferTaskrun => ring.setup_single_issuer().setup_defer_taskrun(),
        RingFlags::SingleIssuerCoopTaskrun => ring.setup_single_issuer().setup_coop_taskrun(),
        RingFlags::CoopTaskrun => ring.setup_coop_taskrun(),
        RingFlags::None => &mut ring,
    };
    RuntimeBuilder::<IoUringDriver>::new().with_entries(RING_ENTRIES).uring_builder(ring).enable_timer().build()
}

/// With the best flags that this kernel knows; it answers EINVAL to those that it does not.
fn best_ring_runtime() -> io::Result<Runtime<TimeDriver<IoUringDriver>>> {
    use RingFlags::*;
    for flags in [SingleIssuerDeferTaskrun, SingleIssuerCoopTaskrun, CoopTaskrun] {
        match ring_runtime(flags) {
            Err(error) if error.raw_os_error() == Some(nix::errno::Errno::EINVAL as i32) => {}
            built => return built,
        }
    }
    ring_runtime(None)
}

/// `main`, and then one more round of the run queue, so that the tasks which `main` told to end do end.
async fn until_settled<F: Future>(main: F) -> F::Output {
    let output = main.await;
    for _ in 0..SETTLE_ROUNDS {
        next_round().await;
    }
    output
}

const SETTLE_ROUNDS: usize = 3;

/// Lets every task that is ready now run before this one goes on. (To wake oneself is not enough: the runtime puts such a
/// task in front of the others.)
pub async fn after_others() {
    monoio::spawn(async {}).await;
}

/// Lets the runtime go round once.
pub(super) async fn next_round() {
    let mut waited = false;
    poll_fn(|context| {
        if waited {
            return Poll::Ready(());
        }
        waited = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::rc::Rc;

    #[test]
    fn io_uring_is_there() {
        probe_io_uring().unwrap();
    }

    #[test]
    fn runs_pinned_with_every_driver_and_flag() {
        let own = std::thread::spawn(|| {
            let run_on_0 = run(Driver::IoUring, Some(0), async {
                nix::sched::sched_getaffinity(Pid::from_raw(0)).unwrap().is_set(0).unwrap()
            });
            assert!(run_on_0.unwrap());
            assert_eq!(run(Driver::Epoll, None, async { 2 }).unwrap(), 2);
            for flags in [RingFlags::SingleIssuerCoopTaskrun, RingFlags::CoopTaskrun, RingFlags::None] {
                assert_eq!(run_with_flags(flags, None, async { 3 }).unwrap(), 3);
            }
            let refused = run(Driver::Epoll, Some(1_000_000), async {}).unwrap_err();
            assert!(refused.to_string().starts_with("cannot run on processor 1000000"), "{refused}");
        });
        own.join().unwrap();
    }

    #[test]
    fn tasks_that_main_wakes_last_still_run() {
        for driver in [Driver::IoUring, Driver::Epoll] {
            let ran = Rc::new(Cell::new(false));
            let told = ran.clone();
            run(driver, None, async move {
                monoio::spawn(async move { told.set(true) });
            })
            .unwrap();
            assert!(ran.get());
        }
    }
}

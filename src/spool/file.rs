//! Files: the one place where the spool touches the disk.
//!
//! ```text
//!  io_uring   core --write_all_at--> ring --> kernel worker           the core goes on
//!  epoll      core --job--> one plain thread --pwrite--> kernel       the core goes on
//!                                    (monoio's epoll driver would write on the core and stall every session)
//! ```
//!
//! Promises: a segment is opened with O_DSYNC, so that a write which has come back Ok is on the disk, with the write
//! cache flushed; short writes are completed; a buffer given away comes back; what is created is its owner's alone, files
//! 0600 and directories 0700, whatever the umask allows. What a test build does to all of this is in `forgetful.rs`.

use super::disk::{self, File, Open};
use super::forgetful;
#[cfg(test)]
use super::simulated;
use crate::net::Driver;
pub use disk::{make_private, sync_directory};
use futures_channel::oneshot;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};

/// Through what a thread writes.
#[derive(Clone)]
pub enum Through {
    /// The ring of the current monoio runtime.
    Ring,
    /// A plain thread that does nothing else.
    Thread(FileThread),
}

impl Through {
    /// For the runtime of the current thread. Errors: no thread could be started.
    pub fn start(driver: Driver, name: &str) -> io::Result<Through> {
        match driver {
            Driver::IoUring => Ok(Through::Ring),
            Driver::Epoll => FileThread::start(name).map(Through::Thread),
        }
    }
}

/// A file that one thread writes.
pub struct WriteFile {
    handle: Handle,
    path: PathBuf,
    /// For reading back what a forgetful write covers in part.
    real: Arc<File>,
}

enum Handle {
    Ring(monoio::fs::File),
    Thread(FileThread),
    /// Apart, so that a connection's task is as large in tests as it is.
    #[cfg(test)]
    Simulated(Box<simulated::File>),
}

impl WriteFile {
    /// Takes an open file. With O_DSYNC each write is durable when it comes back.
    pub fn new(through: &Through, file: File, path: PathBuf) -> io::Result<WriteFile> {
        let real = Arc::new(file);
        let handle = match (through, &*real) {
            #[cfg(test)]
            (_, File::Simulated(file)) => Handle::Simulated(Box::new(file.clone())),
            (Through::Ring, file) => Handle::Ring(monoio::fs::File::from_std(file.real()?.try_clone()?)?),
            (Through::Thread(thread), _) => Handle::Thread(thread.clone()),
        };
        Ok(WriteFile { handle, path, real })
    }

    /// Writes all of `bytes` at `offset` into a file opened with O_DSYNC; Ok means durable.
    pub async fn write_durably(&self, bytes: Vec<u8>, offset: u64) -> (io::Result<()>, Vec<u8>) {
        #[cfg(test)]
        if faults::fails(&self.path) {
            return (Err(io::Error::from_raw_os_error(nix::libc::EIO)), bytes);
        }
        forgetful::hold(&self.path, &self.real, offset, &bytes);
        if forgetful::skips_durable() {
            return (Ok(()), bytes);
        }
        let length = bytes.len() as u64;
        let (result, bytes) = self.write_real(bytes, offset).await;
        if result.is_ok() {
            forgetful::is_durable(&self.path, offset, length);
        }
        (result, bytes)
    }

    /// Writes all of `bytes` at `offset`; not durable before `sync`.
    pub async fn write(&self, bytes: Vec<u8>, offset: u64) -> (io::Result<()>, Vec<u8>) {
        #[cfg(test)]
        if faults::fails(&self.path) {
            return (Err(io::Error::from_raw_os_error(nix::libc::EIO)), bytes);
        }
        if forgetful::HOLDS {
            forgetful::hold(&self.path, &self.real, offset, &bytes);
            return (Ok(()), bytes);
        }
        self.write_real(bytes, offset).await
    }

    /// Makes all that was written durable.
    pub async fn sync(&self) -> io::Result<()> {
        if forgetful::skips_durable() {
            return Ok(());
        }
        forgetful::hand_over(&self.path, &self.real)?;
        match &self.handle {
            Handle::Ring(file) => file.sync_data().await,
            Handle::Thread(thread) => thread.run(&self.real, Vec::new(), 0, true).await.0,
            #[cfg(test)]
            Handle::Simulated(file) => file.begin_sync().await,
        }
    }

    async fn write_real(&self, bytes: Vec<u8>, offset: u64) -> (io::Result<()>, Vec<u8>) {
        match &self.handle {
            Handle::Ring(file) => file.write_all_at(bytes, offset).await,
            Handle::Thread(thread) => thread.run(&self.real, bytes, offset, false).await,
            #[cfg(test)]
            Handle::Simulated(file) => (file.begin_write(&bytes, offset).await, bytes),
        }
    }
}

/// One plain thread that writes files in the order in which it is asked. It ends with its last handle. What waits is
/// bounded by the askers: each waits for its answer.
#[derive(Clone)]
pub struct FileThread {
    jobs: mpsc::Sender<Job>,
}

struct Job {
    file: Arc<File>,
    bytes: Vec<u8>,
    offset: u64,
    sync: bool,
    reply: oneshot::Sender<(io::Result<()>, Vec<u8>)>,
}

impl FileThread {
    fn start(name: &str) -> io::Result<FileThread> {
        let (jobs, inbox) = mpsc::channel::<Job>();
        std::thread::Builder::new().name(name.to_string()).spawn(move || {
            for Job { file, bytes, offset, sync, reply } in inbox {
                let written = file.write_all_at(&bytes, offset);
                let result = written.and_then(|()| if sync { file.sync_data() } else { Ok(()) });
                // Nobody waits any more: then nobody was promised anything.
                let _ = reply.send((result, bytes));
            }
        })?;
        Ok(FileThread { jobs })
    }

    async fn run(&self, file: &Arc<File>, bytes: Vec<u8>, offset: u64, sync: bool) -> (io::Result<()>, Vec<u8>) {
        let (reply, answer) = oneshot::channel();
        let gone = || (Err(io::Error::other("the file thread is gone")), Vec::new());
        if self.jobs.send(Job { file: file.clone(), bytes, offset, sync, reply }).is_err() {
            return gone();
        }
        answer.await.unwrap_or_else(|_| gone())
    }
}

/// A file that is read at offsets, synchronously: the page cache, mostly.
#[derive(Debug)]
pub enum ReadFile {
    /// A file on disk.
    Disk {
        /// Open for reading.
        file: File,
        /// Its name.
        path: PathBuf,
    },
    /// Octets in memory.
    #[cfg(any(test, fuzzing))]
    Memory(Vec<u8>),
}

impl ReadFile {
    /// Opens `path` for reading.
    pub fn open(path: &Path) -> io::Result<ReadFile> {
        #[cfg(test)]
        if faults::is_unreadable(path) {
            return Err(io::Error::from_raw_os_error(nix::libc::EMFILE));
        }
        Ok(ReadFile::Disk { file: disk::open(path, Open::Read)?, path: path.to_path_buf() })
    }

    /// Reads at `offset` until `into` is full or the file ends; returns how much was read.
    pub fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        match self {
            ReadFile::Disk { file, path } => {
                #[cfg(test)]
                if faults::is_unreadable(path) {
                    return Err(io::Error::from_raw_os_error(nix::libc::EIO));
                }
                let mut read = 0;
                while read < into.len() {
                    match file.read_at(&mut into[read..], offset + read as u64) {
                        Ok(0) => break,
                        Ok(more) => read += more,
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        Err(error) => return Err(error),
                    }
                }
                Ok(forgetful::patch(path, offset, into, read))
            }
            #[cfg(any(test, fuzzing))]
            ReadFile::Memory(bytes) => {
                let there = bytes.get(offset as usize..).unwrap_or_default();
                let read = there.len().min(into.len());
                into[..read].copy_from_slice(&there[..read]);
                Ok(read)
            }
        }
    }
}

/// Opens a segment for durable writes.
pub fn open_durable(path: &Path) -> io::Result<File> {
    disk::open(path, Open::WriteDurably)
}

/// Writes `bytes` at `offset` durably, on the calling thread.
pub fn write_durably(path: &Path, file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
    #[cfg(test)]
    if faults::fails(path) {
        return Err(io::Error::from_raw_os_error(nix::libc::EIO));
    }
    forgetful::hold(path, file, offset, bytes);
    if forgetful::skips_durable() {
        return Ok(());
    }
    file.write_all_at(bytes, offset)?;
    file.sync_all()?;
    forgetful::is_durable(path, offset, bytes.len() as u64);
    Ok(())
}

/// Replaces a small file so that after a crash it is the old one or the new one, never half.
pub fn replace_durably(path: &Path, content: &[u8]) -> io::Result<()> {
    if forgetful::skips_durable() {
        return Ok(());
    }
    let new = path.with_extension("new");
    // One that a crash has left may have been anybody's to read.
    match disk::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = create_private(&new)?;
    file.write_all_at(content, 0)?;
    file.sync_all()?;
    disk::rename(&new, path)?;
    sync_directory(parent(path))
}

/// Renames within a directory, durably.
pub fn rename_durably(from: &Path, to: &Path) -> io::Result<()> {
    disk::rename(from, to)?;
    forgetful::renamed(from, to);
    sync_directory(parent(to))
}

/// Removes a file durably.
pub fn remove_durably(path: &Path) -> io::Result<()> {
    match disk::remove_file(path) {
        // Perhaps by an attempt that could not make it durable.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        removed => removed?,
    }
    forgetful::removed(path);
    sync_directory(parent(path))
}

/// Creates a file that must not be there yet, for its owner alone.
pub fn create_private(path: &Path) -> io::Result<File> {
    disk::open(path, Open::New)
}

/// Makes a directory and those above it that are missing, durably and for their owner alone. One that is there keeps
/// its permissions.
pub fn make_directories(path: &Path) -> io::Result<()> {
    if disk::is_directory(path) {
        return Ok(());
    }
    let above = parent(path);
    make_directories(above)?;
    match disk::create_directory(path) {
        Err(error) if !disk::is_directory(path) => return Err(error),
        _ => {}
    }
    sync_directory(above)
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Creates `path` and writes zeros over all of it, so that later writes change no metadata: measured, they then cost a
/// half to a third (kernel-notes/durable-writes.md). Around the page cache where the file system allows it.
pub fn create_zeroed(path: &Path, size: u64) -> io::Result<File> {
    let file = create_private(path)?;
    file.allocate(size)?;
    let direct = disk::open(path, Open::WriteDirectly);
    if !direct.is_ok_and(|direct| fill_with_zeros(&direct, size).is_ok()) {
        fill_with_zeros(&file, size)?;
    }
    file.sync_all()?;
    Ok(file)
}

/// Opens a file for overwriting with zeros, around the page cache where the file system allows it.
pub fn open_for_zeros(path: &Path) -> io::Result<File> {
    disk::open(path, Open::WriteDirectly).or_else(|_| disk::open(path, Open::Write))
}

/// Overwrites `length` octets at `at` with zeros, and a few beyond to the next multiple of 4096; not durable before a sync.
pub fn write_zeros(file: &File, at: u64, length: u64) -> io::Result<()> {
    let length = length.next_multiple_of(4096) as usize;
    let zeros = vec![0; length + 4096];
    let aligned = zeros.as_ptr().align_offset(4096);
    file.write_all_at(&zeros[aligned..][..length], at)
}

fn fill_with_zeros(file: &File, size: u64) -> io::Result<()> {
    const PIECE: usize = 1 << 20;
    let zeros = vec![0; PIECE + 4096];
    let aligned = zeros.as_ptr().align_offset(4096);
    let piece = &zeros[aligned..aligned + PIECE];
    let mut at = 0;
    while at < size {
        let length = (size - at).min(PIECE as u64) as usize;
        file.write_all_at(&piece[..length], at)?;
        at += length as u64;
    }
    Ok(())
}

/// Files that fail, for tests: a path in the set, or in a directory in the set, fails each write until it is taken out; a
/// path in the map fails so many reads and openings for reading.
#[cfg(test)]
pub mod faults {
    use std::collections::{HashMap, HashSet};
    use std::path::{Path, PathBuf};
    use std::sync::{LazyLock, Mutex};

    static FAILING: LazyLock<Mutex<HashSet<PathBuf>>> = LazyLock::new(Mutex::default);

    static UNREADABLE: LazyLock<Mutex<HashMap<PathBuf, u32>>> = LazyLock::new(Mutex::default);

    pub fn is_unreadable(path: &Path) -> bool {
        let mut map = UNREADABLE.lock().expect("no panic while locked");
        let Some(times) = map.get_mut(path).filter(|times| **times > 0) else { return false };
        *times -= 1;
        true
    }

    pub fn set_unreadable(path: &Path, times: u32) {
        UNREADABLE.lock().expect("no panic while locked").insert(path.to_path_buf(), times);
    }

    pub fn fails(path: &Path) -> bool {
        let set = FAILING.lock().expect("no panic while locked");
        path.ancestors().any(|above| set.contains(above))
    }

    pub fn set(path: &Path, failing: bool) {
        let mut set = FAILING.lock().expect("no panic while locked");
        if failing {
            set.insert(path.to_path_buf())
        } else {
            set.remove(path)
        };
    }
}

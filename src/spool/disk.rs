//! The file system as the spool sees it: the operations that it asks for and no others.
//!
//! In a test build a second disk stands behind them, in memory and with crashes at will (simulated/): whatever lies
//! under its root goes there. Elsewhere each function is one system call or two.

#[cfg(test)]
use super::simulated;
use nix::errno::Errno;
use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// An open file.
#[derive(Debug)]
pub enum File {
    /// The kernel's.
    Real(std::fs::File),
    /// The simulation's.
    #[cfg(test)]
    Simulated(simulated::File),
}

/// How a file is opened. What may be created by it is its owner's alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// For reading; it must be there.
    Read,
    /// For reading and writing; it must be there.
    Write,
    /// The same with O_DSYNC: a write that has come back is durable.
    WriteDurably,
    /// The same around the page cache.
    WriteDirectly,
    /// For reading and writing; it must not be there yet.
    New,
    /// For writing, emptied if it is there.
    Replace,
}

/// Opens `path`.
pub fn open(path: &Path, how: Open) -> io::Result<File> {
    #[cfg(test)]
    if simulated::has(path) {
        return simulated::open(path, how).map(File::Simulated);
    }
    let mut options = private();
    match how {
        Open::Read => options.read(true),
        Open::Write => options.read(true).write(true),
        Open::WriteDurably => options.read(true).write(true).custom_flags(nix::libc::O_DSYNC),
        Open::WriteDirectly => options.read(true).write(true).custom_flags(nix::libc::O_DIRECT),
        Open::New => options.read(true).write(true).create_new(true),
        Open::Replace => options.write(true).create(true).truncate(true),
    };
    options.open(path).map(File::Real)
}

/// How files are opened that may have to be created: readable by their owner alone.
pub fn private() -> OpenOptions {
    let mut options = std::fs::File::options();
    options.mode(0o600);
    options
}

impl File {
    /// For the ring, which the simulation has no use for.
    pub fn real(&self) -> io::Result<&std::fs::File> {
        match self {
            File::Real(file) => Ok(file),
            #[cfg(test)]
            File::Simulated(_) => Err(io::Error::other("simulated")),
        }
    }

    /// As pread.
    pub fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        match self {
            File::Real(file) => file.read_at(into, offset),
            #[cfg(test)]
            File::Simulated(file) => file.read_at(into, offset),
        }
    }

    /// Writes all of `bytes`.
    pub fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        match self {
            File::Real(file) => file.write_all_at(bytes, offset),
            #[cfg(test)]
            File::Simulated(file) => file.write_all_at(bytes, offset),
        }
    }

    /// Makes what was written durable, and the file's size.
    pub fn sync_data(&self) -> io::Result<()> {
        match self {
            File::Real(file) => file.sync_data(),
            #[cfg(test)]
            File::Simulated(file) => file.sync(),
        }
    }

    /// The same with all that is known of the file.
    pub fn sync_all(&self) -> io::Result<()> {
        match self {
            File::Real(file) => file.sync_all(),
            #[cfg(test)]
            File::Simulated(file) => file.sync(),
        }
    }

    /// Contiguous space, or an early "no space", before the last of it is written full and missing to others; file systems
    /// without it do without.
    pub fn allocate(&self, bytes: u64) -> io::Result<()> {
        let Ok(file) = self.real() else { return Ok(()) };
        match nix::fcntl::fallocate(file.as_fd(), nix::fcntl::FallocateFlags::empty(), 0, bytes as i64) {
            Err(full @ (Errno::ENOSPC | Errno::EDQUOT | Errno::EFBIG)) => Err(full.into()),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// Octets of a file.
pub fn length(path: &Path) -> io::Result<u64> {
    #[cfg(test)]
    if simulated::has(path) {
        return simulated::length(path);
    }
    Ok(std::fs::metadata(path)?.len())
}

/// All of a small text file.
pub fn read_to_string(path: &Path) -> io::Result<String> {
    #[cfg(test)]
    if simulated::has(path) {
        return simulated::read_to_string(path);
    }
    std::fs::read_to_string(path)
}

/// Renames; not durable before the directory is synced.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(test)]
    if simulated::has(from) {
        return simulated::rename(from, to);
    }
    std::fs::rename(from, to)
}

/// Removes a file; not durable before the directory is synced.
pub fn remove_file(path: &Path) -> io::Result<()> {
    #[cfg(test)]
    if simulated::has(path) {
        return simulated::remove_file(path);
    }
    std::fs::remove_file(path)
}

/// Makes the names in a directory durable.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    #[cfg(test)]
    if simulated::has(path) {
        return simulated::sync_directory(path);
    }
    std::fs::File::open(path)?.sync_all()
}

/// Makes all durable that the page cache holds of the file system.
pub fn sync_file_system(path: &Path) -> io::Result<()> {
    #[cfg(test)]
    if simulated::has(path) {
        return simulated::sync_file_system();
    }
    Ok(nix::unistd::syncfs(std::fs::File::open(path)?)?)
}

/// Takes what is not to be written any more out of the page cache, so that the next reader sees what is on the disk: the
/// first `bytes` of a file, a multiple of 4096; none: all of it.
pub fn forget_cached(path: &Path, bytes: Option<u64>) -> io::Result<()> {
    #[cfg(test)]
    if simulated::has(path) {
        return simulated::forget_cached(path, bytes);
    }
    let advice = nix::fcntl::PosixFadviseAdvice::POSIX_FADV_DONTNEED;
    // A length of 0 reaches to the end.
    let bytes = bytes.unwrap_or(0) as nix::libc::off_t;
    Ok(nix::fcntl::posix_fadvise(std::fs::File::open(path)?, 0, bytes, advice)?)
}

/// Has the page cache read the first so many octets, without waiting until it has them.
pub fn read_ahead(path: &Path, bytes: u64) -> io::Result<()> {
    #[cfg(test)]
    if simulated::has(path) {
        return Ok(());
    }
    let advice = nix::fcntl::PosixFadviseAdvice::POSIX_FADV_WILLNEED;
    Ok(nix::fcntl::posix_fadvise(std::fs::File::open(path)?, 0, bytes as i64, advice)?)
}

/// What is in a directory, in the order of the names.
pub fn list(directory: &Path) -> io::Result<Vec<PathBuf>> {
    #[cfg(test)]
    if simulated::has(directory) {
        return simulated::list(directory);
    }
    let mut paths = std::fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

/// Is there such a directory?
pub fn is_directory(path: &Path) -> bool {
    #[cfg(test)]
    if simulated::has(path) {
        return simulated::is_directory(path);
    }
    path.is_dir()
}

/// Makes a directory for its owner alone.
pub fn create_directory(path: &Path) -> io::Result<()> {
    #[cfg(test)]
    if simulated::has(path) {
        return simulated::create_directory(path);
    }
    DirBuilder::new().mode(0o700).create(path)
}

/// Takes a directory's permissions from all but its owner.
pub fn make_private(directory: &Path) -> io::Result<()> {
    #[cfg(test)]
    if simulated::has(directory) {
        return Ok(());
    }
    if directory.metadata()?.permissions().mode() & 0o7777 == 0o700 {
        return Ok(());
    }
    std::fs::set_permissions(directory, Permissions::from_mode(0o700))
}

/// Free octets of the file system.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    #[cfg(test)]
    if simulated::has(path) {
        return simulated::free_bytes();
    }
    let free = nix::sys::statvfs::statvfs(path)?;
    Ok(free.blocks_available() * free.fragment_size())
}

/// Waits for a disk that may get better. Blocks the thread.
pub fn pause(time: Duration) {
    #[cfg(test)]
    if simulated::is_running() {
        return;
    }
    std::thread::sleep(time);
}

/// Starts a task on the runtime of the current thread.
pub fn spawn(task: impl Future<Output = ()> + 'static) {
    #[cfg(test)]
    if simulated::is_running() {
        return simulated::spawn(task);
    }
    monoio::spawn(task);
}

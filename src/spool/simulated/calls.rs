//! The disk, by the functions and under the names of `disk`.

use super::super::disk::Open;
use super::{Disk, File, Inode, eio, error, with};
use std::io;
use std::path::{Path, PathBuf};

/// As `disk::open`.
pub fn open(path: &Path, how: Open) -> io::Result<File> {
    with(|disk| {
        let durable = how == Open::WriteDurably;
        if let Open::New | Open::Replace = how {
            disk.name_operation()?;
            if disk.trouble.full {
                disk.undecided += 1;
                return Err(error(nix::errno::Errno::ENOSPC));
            }
            if how == Open::New && disk.names.get(path).is_some() {
                return Err(error(nix::errno::Errno::EEXIST));
            }
            disk.inodes.push(Inode::default());
            disk.names.create(path, disk.inodes.len() - 1);
        } else {
            let opened = disk.read_operation(nix::errno::Errno::EMFILE);
            disk.undecided += u64::from(opened.is_err() && how != Open::Read);
            opened?;
        }
        let inode = disk.names.get(path).ok_or(error(nix::errno::Errno::ENOENT))?;
        Ok(File { inode, durable })
    })
}

/// As `disk::length`.
pub fn length(path: &Path) -> io::Result<u64> {
    with(|disk| {
        let inode = disk.names.get(path).ok_or(error(nix::errno::Errno::ENOENT))?;
        Ok(disk.inodes[inode].seen.len() as u64)
    })
}

/// As `disk::read_to_string`.
pub fn read_to_string(path: &Path) -> io::Result<String> {
    with(|disk| {
        disk.read_operation(nix::errno::Errno::EIO)?;
        let content = disk.content(path).ok_or(error(nix::errno::Errno::ENOENT))?;
        String::from_utf8(content.to_vec()).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
    })
}

/// As `disk::rename`.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    with(|disk| {
        disk.name_operation()?;
        disk.names.rename(from, to).ok_or(error(nix::errno::Errno::ENOENT))
    })
}

/// As `disk::remove_file`.
pub fn remove_file(path: &Path) -> io::Result<()> {
    with(|disk| {
        if disk.names.get(path).is_none() {
            return Err(error(nix::errno::Errno::ENOENT));
        }
        disk.name_operation()?;
        disk.names.remove(path).ok_or(error(nix::errno::Errno::ENOENT))
    })
}

/// As `disk::sync_directory`.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    with(|disk| {
        disk.name_operation()?;
        disk.names.sync(path);
        Ok(())
    })
}

/// As `disk::sync_file_system`.
pub fn sync_file_system() -> io::Result<()> {
    with(|disk| {
        disk.boundary()?;
        let Disk { inodes, names, dice, .. } = disk;
        names.sync_all();
        inodes.iter_mut().try_for_each(|inode| inode.sync(dice, 0))
    })
}

/// As `disk::forget_cached`.
pub fn forget_cached(path: &Path, bytes: Option<u64>) -> io::Result<()> {
    with(|disk| {
        let inode = disk.names.get(path).ok_or(error(nix::errno::Errno::ENOENT))?;
        let inode = &mut disk.inodes[inode];
        let end = bytes.map_or(usize::MAX, |bytes| bytes as usize);
        let (seen, durable) = (end.min(inode.seen.len()), end.min(inode.durable.len()));
        if inode.dirty.is_empty() {
            inode.seen.splice(..seen, inode.durable[..durable].iter().copied());
        }
        Ok(())
    })
}

/// As `disk::list`.
pub fn list(directory: &Path) -> io::Result<Vec<PathBuf>> {
    with(|disk| {
        disk.read_operation(nix::errno::Errno::EIO)?;
        Ok(disk.list(directory))
    })
}

/// As `disk::is_directory`.
pub fn is_directory(path: &Path) -> bool {
    with(|disk| disk.names.is_directory(path))
}

/// As `disk::create_directory`. It is durable at once: what is simulated begins behind it.
pub fn create_directory(path: &Path) -> io::Result<()> {
    with(|disk| {
        disk.boundary()?;
        disk.names.create_directory(path);
        Ok(())
    })
}

/// As `disk::free_bytes`.
pub fn free_bytes() -> io::Result<u64> {
    with(|disk| if disk.dead { Err(eio()) } else { Ok(if disk.trouble.full { 0 } else { 1 << 40 }) })
}

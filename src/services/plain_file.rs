//! Files that an operator writes and we read whole: how large they may be, and whether one is still the one that was read.

use std::fs::{File, Metadata, metadata};
use std::io::{Error, Read, Result};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Tells one state of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    device: u64,
    inode: u64,
    bytes: u64,
    modified_s: i64,
    modified_ns: i64,
}

impl Mark {
    /// Of the file as it is now. None: there is none that can be asked.
    pub fn of(path: &Path) -> Option<Mark> {
        let metadata = metadata(path).ok()?;
        Some(Mark {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.size(),
            modified_s: metadata.mtime(),
            modified_ns: metadata.mtime_nsec(),
        })
    }

    /// Has the file no octets at all?
    pub fn is_of_nothing(&self) -> bool {
        self.bytes == 0
    }
}

/// The octets of a plain file, at most `bytes_max`. Errors: as the system says; not a plain file; larger.
pub fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>> {
    // A FIFO would block the open, hence asked before and after.
    let plain = |metadata: Metadata| match metadata.is_file() {
        true => Ok(()),
        false => Err(Error::other("not a plain file")),
    };
    plain(metadata(path)?)?;
    let file = File::open(path)?;
    plain(file.metadata()?)?;
    let mut text = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut text)?;
    if text.len() as u64 > bytes_max {
        return Err(Error::other(format!("larger than {bytes_max} octets")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_file_of_at_most_so_many_octets_is_read() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("file");
        std::fs::write(&path, "12345").expect("written");
        assert_eq!(read(&path, 5).expect("read"), b"12345");
        assert_eq!(read(&path, 4).expect_err("too large").to_string(), "larger than 4 octets");
        assert_eq!(read(directory.path(), 5).expect_err("a directory").to_string(), "not a plain file");
        assert_eq!(read(Path::new("/dev/null"), 5).expect_err("a device").to_string(), "not a plain file");
    }
}

//! Where things are in the spool directory, and the names of files.
//!
//! ```text
//!  DIR/lock                    held with flock while an instance runs
//!  DIR/epoch                   text: the number of this opening, the first by chance; replaced durably at each
//!  DIR/inventory               text: which segments there must be (inventory.rs)
//!  DIR/probe                   zeros: written to find out whether the spool can be (probe.rs)
//!  DIR/segments/00000007.seg   a segment, free or active (segment.rs)
//!  DIR/segments/00000008.new   a segment being prepared; deleted at the next opening
//!  DIR/segments/00000006.bad   a segment whose header is damaged; set aside
//!  DIR/spill/00000003.body     the content of a large message, or a free file of the pool
//!  DIR/control                 the operator's socket, unless it is elsewhere (control/)
//!  DIR/traces/2026-11-22.trace what became of messages (trace/)
//!  DIR/damaged/...             damaged ranges, copied out before their segment is recycled
//! ```
//!
//! Mail is private: directories are made 0700 and files 0600. A DIR that is there already keeps its permissions.

use std::path::{Path, PathBuf};

/// The spool directory.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The layout under `root`.
    pub fn new(root: &Path) -> Layout {
        Layout { root: root.to_path_buf() }
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The lock file.
    pub fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// The epoch file.
    pub fn epoch(&self) -> PathBuf {
        self.root.join("epoch")
    }

    /// The inventory.
    pub fn inventory(&self) -> PathBuf {
        self.root.join("inventory")
    }

    /// The file that is written to find out whether the spool can be.
    pub fn probe(&self) -> PathBuf {
        self.root.join("probe")
    }

    /// The directory of the segments.
    pub fn segments(&self) -> PathBuf {
        self.root.join("segments")
    }

    /// The directory of the spill files.
    pub fn spills(&self) -> PathBuf {
        self.root.join("spill")
    }

    /// The directory of damaged ranges.
    pub fn damaged(&self) -> PathBuf {
        self.root.join("damaged")
    }

    /// A segment.
    pub fn segment(&self, number: u32) -> PathBuf {
        self.segments().join(format!("{number:08}.seg"))
    }

    /// A segment being prepared.
    pub fn new_segment(&self, number: u32) -> PathBuf {
        self.segments().join(format!("{number:08}.new"))
    }

    /// A segment that is set aside.
    pub fn bad_segment(&self, number: u32) -> PathBuf {
        self.segments().join(format!("{number:08}.bad"))
    }

    /// A spill file.
    pub fn spill(&self, number: u64) -> PathBuf {
        self.spills().join(format!("{number:08}.body"))
    }

    /// Where a damaged range of a segment is copied to.
    pub fn damaged_range(&self, number: u32, generation: u64, from: u64) -> PathBuf {
        self.damaged().join(format!("{number:08}-{generation}-{from}.bin"))
    }
}

/// The number in a file name with this ending, if it is such a name.
pub fn number_in(path: &Path, ending: &str) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    let digits = name.strip_suffix(ending)?.strip_suffix('.')?;
    if digits.len() < 8 || !digits.bytes().all(|octet| octet.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        let layout = Layout::new(Path::new("/spool"));
        assert_eq!(number_in(&layout.segment(7), "seg"), Some(7));
        assert_eq!(number_in(&layout.spill(123_456_789), "body"), Some(123_456_789));
        for other in ["seg", "7.seg", "0000000x.seg", "00000007.new", "00000007seg"] {
            assert_eq!(number_in(Path::new(other), "seg"), None, "{other}");
        }
    }
}

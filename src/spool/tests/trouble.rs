//! The spool when the disk, the descriptors or the permissions are not as they should be.

use super::*;
use std::os::unix::fs::{FileExt, PermissionsExt};

/// Flips a bit of a segment.
fn damage(segment: &Path, at: u64) {
    let file = std::fs::File::options().read(true).write(true).open(segment).expect("opens");
    let mut octet = [0];
    file.read_exact_at(&mut octet, at).expect("read");
    file.write_all_at(&[octet[0] ^ 1], at).expect("written");
}

/// Everything below `directory`, with its permission bits.
fn modes(directory: &Path) -> Vec<(PathBuf, u32)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(directory).expect("listed") {
        let path = entry.expect("an entry").path();
        let metadata = path.metadata().expect("one");
        all.push((path.clone(), metadata.permissions().mode() & 0o7777));
        if metadata.is_dir() {
            all.extend(modes(&path));
        }
    }
    all
}

#[test]
fn everything_in_the_spool_is_its_owners_alone() {
    on_both(async |driver, directory| {
        let root = directory.path().join("several/levels/spool");
        let reopen = || Spool::open(options(&root, 1)).expect("opens");
        let mut spool = reopen();
        let writer = start(spool.core_writers().remove(0), driver);
        for content in [b"one", b"two"] {
            commit(&writer, content).await.expect("durable");
        }
        writer.spill().await.expect("a file").write(vec![7; 10]).await.0.expect("written");
        drop((writer, spool));
        // A damaged record is copied out.
        let listed = std::fs::read_dir(root.join("segments")).expect("listed");
        listed.for_each(|entry| damage(&entry.expect("an entry").path(), 4096 + 4));
        // As an earlier version may have made it.
        std::fs::set_permissions(root.join("segments"), std::fs::Permissions::from_mode(0o755)).expect("set");
        entries(&mut reopen().relay_side().1);
        let all = modes(directory.path());
        for name in ["lock", "epoch", "damaged", ".seg", ".body", ".bin"] {
            let is_there = all.iter().any(|(path, _)| path.to_str().expect("text").ends_with(name));
            assert!(is_there, "{name}: {all:?}");
        }
        for (path, mode) in all {
            assert_eq!(mode, if path.is_dir() { 0o700 } else { 0o600 }, "{}", path.display());
        }
    });
}

//! A file layer that forgets, for crash tests. Without the feature `forgetful-file` nothing here does anything.
//!
//! With it every spool write stays in the memory of this process, where this process's readers see it, and reaches the
//! real file only when its durable step runs. Then `kill -9` acts as a power cut: what was not made durable is gone.
//! With `PENSTOCK_FORGETFUL=skip-durable` in the environment the durable step is skipped but reported as done: the
//! mutant that a crash test must catch.
//!
//! What is held are blocks of 4096 octets per file. A block leaves memory when it has become durable.

#[cfg(all(feature = "forgetful-file", not(debug_assertions)))]
compile_error!("the feature forgetful-file is for tests: a release build with it would lose mail");

#[cfg(not(feature = "forgetful-file"))]
mod active {
    use super::super::disk::File;
    use std::io;
    use std::path::Path;

    pub const HOLDS: bool = false;
    pub fn skips_durable() -> bool {
        false
    }
    pub fn hold(_path: &Path, _file: &File, _offset: u64, _bytes: &[u8]) {}
    pub fn is_durable(_path: &Path, _offset: u64, _length: u64) {}
    pub fn hand_over(_path: &Path, _file: &File) -> io::Result<()> {
        Ok(())
    }
    pub fn patch(_path: &Path, _offset: u64, _into: &mut [u8], read: usize) -> usize {
        read
    }
    pub fn renamed(_from: &Path, _to: &Path) {}
    pub fn removed(_path: &Path) {}
}

#[cfg(feature = "forgetful-file")]
mod active {
    use super::super::disk::File;
    use std::collections::{BTreeMap, HashMap};
    use std::io;
    use std::path::{Path, PathBuf};
    use std::sync::{LazyLock, Mutex, MutexGuard};

    const BLOCK: usize = 4096;
    type Blocks = BTreeMap<u64, Vec<u8>>;

    static HELD: LazyLock<Mutex<HashMap<PathBuf, Blocks>>> = LazyLock::new(Mutex::default);
    static SKIPS: LazyLock<bool> =
        LazyLock::new(|| std::env::var_os("PENSTOCK_FORGETFUL").is_some_and(|value| value == "skip-durable"));

    /// Writes are held back until their durable step.
    pub const HOLDS: bool = true;

    /// Is the durable step to be skipped but reported as done?
    pub fn skips_durable() -> bool {
        *SKIPS
    }

    /// Keeps a write in memory.
    pub fn hold(path: &Path, file: &File, offset: u64, bytes: &[u8]) {
        let mut held = held();
        let blocks = held.entry(path.to_path_buf()).or_default();
        let mut rest = bytes;
        let mut at = offset;
        while !rest.is_empty() {
            let (number, within) = (at / BLOCK as u64, (at % BLOCK as u64) as usize);
            let take = rest.len().min(BLOCK - within);
            let block = blocks.entry(number).or_insert_with(|| real_block(file, number));
            block.resize(block.len().max(within + take), 0);
            block[within..within + take].copy_from_slice(&rest[..take]);
            rest = &rest[take..];
            at += take as u64;
        }
    }

    /// The real file has this range durably now.
    pub fn is_durable(path: &Path, offset: u64, length: u64) {
        if let Some(blocks) = held().get_mut(path) {
            blocks.retain(|&number, _| !(offset..offset + length).contains(&(number * BLOCK as u64)));
        }
    }

    /// Writes all that is held into the real file; the caller syncs it.
    pub fn hand_over(path: &Path, file: &File) -> io::Result<()> {
        let blocks = held().remove(path).unwrap_or_default();
        blocks.into_iter().try_for_each(|(number, block)| file.write_all_at(&block, number * BLOCK as u64))
    }

    /// Lays what is held over what was read: `into[..read]` came from the real file. Returns how much is there now.
    pub fn patch(path: &Path, offset: u64, into: &mut [u8], read: usize) -> usize {
        let held = held();
        let Some(blocks) = held.get(path) else { return read };
        let end = offset + into.len() as u64;
        let mut there = read;
        for (&number, block) in blocks.range(offset / BLOCK as u64..end.div_ceil(BLOCK as u64)) {
            let block_at = number * BLOCK as u64;
            let from = offset.max(block_at);
            let to = end.min(block_at + block.len() as u64);
            if from < to {
                into[(from - offset) as usize..(to - offset) as usize]
                    .copy_from_slice(&block[(from - block_at) as usize..(to - block_at) as usize]);
                there = there.max((to - offset) as usize);
            }
        }
        there
    }

    /// A file has another name now.
    pub fn renamed(from: &Path, to: &Path) {
        let mut held = held();
        if let Some(blocks) = held.remove(from) {
            held.insert(to.to_path_buf(), blocks);
        }
    }

    /// A file is gone.
    pub fn removed(path: &Path) {
        held().remove(path);
    }

    fn real_block(file: &File, number: u64) -> Vec<u8> {
        let mut block = vec![0; BLOCK];
        let read = file.read_at(&mut block, number * BLOCK as u64).unwrap_or(0);
        block.truncate(read);
        block
    }

    fn held() -> MutexGuard<'static, HashMap<PathBuf, Blocks>> {
        HELD.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

pub use active::*;

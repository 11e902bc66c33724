//! The names on the simulated disk: which there are, and which a power cut leaves.

use super::Dice;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Directories and the files in them, by inode.
#[derive(Clone)]
pub struct Names {
    directories: BTreeSet<PathBuf>,
    seen: BTreeMap<PathBuf, usize>,
    durable: BTreeMap<PathBuf, usize>,
    /// Since the last sync of each directory, in order. Nothing is renamed from one directory into another.
    changes: BTreeMap<PathBuf, Vec<Change>>,
}

#[derive(Clone)]
enum Change {
    Create(PathBuf, usize),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

impl Names {
    /// One empty directory.
    pub fn new(root: &Path) -> Names {
        let directories = BTreeSet::from([root.to_path_buf()]);
        Names { directories, seen: BTreeMap::new(), durable: BTreeMap::new(), changes: BTreeMap::new() }
    }

    /// The inode of a file.
    pub fn get(&self, path: &Path) -> Option<usize> {
        self.seen.get(path).copied()
    }

    /// Files in a directory.
    pub fn list(&self, directory: &Path) -> Vec<PathBuf> {
        self.seen.keys().filter(|path| path.parent() == Some(directory)).cloned().collect()
    }

    /// Is there such a directory?
    pub fn is_directory(&self, path: &Path) -> bool {
        self.directories.contains(path)
    }

    /// A directory, durable at once.
    pub fn create_directory(&mut self, path: &Path) {
        self.directories.insert(path.to_path_buf());
    }

    /// A file, or another one in the place of one.
    pub fn create(&mut self, path: &Path, inode: usize) {
        self.change(path, Change::Create(path.to_path_buf(), inode));
    }

    /// None: there is no such file.
    pub fn rename(&mut self, from: &Path, to: &Path) -> Option<()> {
        self.seen.contains_key(from).then(|| self.change(from, Change::Rename(from.to_path_buf(), to.to_path_buf())))
    }

    /// None: there is no such file.
    pub fn remove(&mut self, path: &Path) -> Option<()> {
        self.seen.contains_key(path).then(|| self.change(path, Change::Remove(path.to_path_buf())))
    }

    /// The changes to a directory are durable.
    pub fn sync(&mut self, directory: &Path) {
        for change in self.changes.remove(directory).unwrap_or_default() {
            apply(&mut self.durable, &change);
        }
    }

    /// All changes are durable.
    pub fn sync_all(&mut self) {
        for (_, changes) in std::mem::take(&mut self.changes) {
            changes.iter().for_each(|change| apply(&mut self.durable, change));
        }
    }

    /// Of the changes to each directory the first few are durable.
    pub fn after_power_cut(&mut self, dice: &mut Dice) {
        for (_, changes) in std::mem::take(&mut self.changes) {
            let there = dice.below(changes.len() as u64 + 1) as usize;
            changes[..there].iter().for_each(|change| apply(&mut self.durable, change));
        }
        self.seen = self.durable.clone();
    }

    fn change(&mut self, path: &Path, change: Change) {
        apply(&mut self.seen, &change);
        let directory = path.parent().expect("every file is in a directory").to_path_buf();
        self.changes.entry(directory).or_default().push(change);
    }
}

fn apply(names: &mut BTreeMap<PathBuf, usize>, change: &Change) {
    match change {
        Change::Create(path, inode) => {
            names.insert(path.clone(), *inode);
        }
        Change::Rename(from, to) => {
            if let Some(inode) = names.remove(from) {
                names.insert(to.clone(), inode);
            }
        }
        Change::Remove(path) => {
            names.remove(path);
        }
    }
}

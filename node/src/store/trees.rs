//! Ordered key-value trees: sled on disk, or plain maps in memory. What the keys and values mean is in `index`.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// sled's cache; its own default of 1 GB would be most of a small node.
const CACHE_BYTES: u64 = 16 * 1024 * 1024;

/// How often, and after what pause each time, a database that is just being closed is tried again.
const LOCK_TRIES: u32 = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// One tree. The names are on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tree {
    /// Schema version, place in the journal, single values.
    Meta,
    /// Lease -> its messages.
    Leases,
    /// Leases that are not over, or not settled.
    Open,
    /// Lease, sequence -> receipt and countersignature.
    Receipts,
    /// Lease, request -> what is known of it.
    Requests,
    /// Lease, then what it still waits for.
    Pending,
    /// Place in the journal -> the request that ended there.
    Timeline,
    /// Time, request -> what it cost this node as a buyer, for a while.
    Spent,
}

pub(super) const TREES: [(Tree, &str); 8] = [
    (Tree::Meta, "meta"),
    (Tree::Leases, "leases"),
    (Tree::Open, "open"),
    (Tree::Receipts, "receipts"),
    (Tree::Requests, "requests"),
    (Tree::Pending, "pending"),
    (Tree::Timeline, "timeline"),
    (Tree::Spent, "spent"),
];

/// The index could not be read or written. It holds nothing that the journal does not, so it can be made again.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct IndexError(pub(super) String);

impl From<sled::Error> for IndexError {
    fn from(error: sled::Error) -> Self {
        Self(error.to_string())
    }
}

/// All trees.
#[derive(Debug)]
pub(super) enum Trees {
    Sled { db: sled::Db, trees: Vec<sled::Tree> },
    Memory(Mutex<Vec<BTreeMap<Vec<u8>, Vec<u8>>>>),
}

impl Trees {
    /// On disk. A damaged database may make sled panic, so this is called where a panic is caught.
    pub(super) fn on_disk(path: &Path) -> Result<Self, IndexError> {
        let config = sled::Config::new()
            .path(path)
            .cache_capacity(CACHE_BYTES)
            // Flushed where the journal's place is written, and at no other time: an idle node does nothing.
            .flush_every_ms(None);
        let mut tries = 0;
        let db = loop {
            match config.open() {
                // The home is ours alone, so the lock is that of a store of this process which is just being closed.
                Err(sled::Error::Io(error)) if tries < LOCK_TRIES && error.to_string().contains("lock") => {
                    tries += 1;
                    std::thread::sleep(LOCK_PAUSE);
                }
                opened => break opened?,
            }
        };
        let trees = TREES
            .iter()
            .map(|(_, name)| db.open_tree(name))
            .collect::<Result<_, _>>()?;
        Ok(Self::Sled { db, trees })
    }

    pub(super) fn in_memory() -> Self {
        Self::Memory(Mutex::new(vec![BTreeMap::new(); TREES.len()]))
    }

    pub(super) fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        match self {
            Self::Sled { trees, .. } => Ok(trees[tree as usize].get(key)?.map(|value| value.to_vec())),
            Self::Memory(trees) => Ok(lock(trees)[tree as usize].get(key).cloned()),
        }
    }

    pub(super) fn put(&self, tree: Tree, key: &[u8], value: Vec<u8>) -> Result<(), IndexError> {
        match self {
            Self::Sled { trees, .. } => {
                trees[tree as usize].insert(key, value)?;
            }
            Self::Memory(trees) => {
                lock(trees)[tree as usize].insert(key.to_vec(), value);
            }
        }
        Ok(())
    }

    pub(super) fn remove(&self, tree: Tree, key: &[u8]) -> Result<(), IndexError> {
        match self {
            Self::Sled { trees, .. } => {
                trees[tree as usize].remove(key)?;
            }
            Self::Memory(trees) => {
                lock(trees)[tree as usize].remove(key);
            }
        }
        Ok(())
    }

    /// Writes values, or takes keys out, all at once.
    pub(super) fn write(&self, tree: Tree, changes: BTreeMap<Vec<u8>, Option<Vec<u8>>>) -> Result<(), IndexError> {
        match self {
            Self::Sled { trees, .. } => {
                let mut batch = sled::Batch::default();
                for (key, change) in changes {
                    match change {
                        Some(value) => batch.insert(key, value),
                        None => batch.remove(key),
                    }
                }
                trees[tree as usize].apply_batch(batch)?;
            }
            Self::Memory(trees) => {
                let tree = &mut lock(trees)[tree as usize];
                for (key, change) in changes {
                    match change {
                        Some(value) => tree.insert(key, value),
                        None => tree.remove(&key),
                    };
                }
            }
        }
        Ok(())
    }

    /// Walks the keys that begin with `prefix` in order until `each` breaks.
    pub(super) fn walk(
        &self,
        tree: Tree,
        prefix: &[u8],
        mut each: impl FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>, IndexError>,
    ) -> Result<(), IndexError> {
        match self {
            Self::Sled { trees, .. } => {
                for entry in trees[tree as usize].scan_prefix(prefix) {
                    let (key, value) = entry?;
                    if each(&key, &value)?.is_break() {
                        break;
                    }
                }
            }
            Self::Memory(trees) => {
                let copy: Vec<_> = lock(trees)[tree as usize]
                    .range(prefix.to_vec()..)
                    .take_while(|(key, _)| key.starts_with(prefix))
                    .map(|(key, value)| (key.clone(), value.clone()))
                    .collect();
                for (key, value) in copy {
                    if each(&key, &value)?.is_break() {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Walks all keys from the last to the first until `each` breaks.
    pub(super) fn walk_back(
        &self,
        tree: Tree,
        mut each: impl FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>, IndexError>,
    ) -> Result<(), IndexError> {
        match self {
            Self::Sled { trees, .. } => {
                for entry in trees[tree as usize].iter().rev() {
                    let (key, value) = entry?;
                    if each(&key, &value)?.is_break() {
                        break;
                    }
                }
            }
            Self::Memory(trees) => {
                let copy = lock(trees)[tree as usize].clone();
                for (key, value) in copy.iter().rev() {
                    if each(key, value)?.is_break() {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Returns when everything is on disk.
    pub(super) fn flush(&self) -> Result<(), IndexError> {
        if let Self::Sled { db, .. } = self {
            db.flush()?;
        }
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

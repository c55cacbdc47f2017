//! Keys of the gateway's callers: made, listed and revoked from the command line, looked up at every request.
//!
//! The file holds the SHA-256 of each key and never the key: one is 256 random bits, so nothing slower is needed. A
//! running gateway notices a new file within [`LOOK_AGAIN`].

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use infernet_protocol::{Digest, MicroUsd};
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::home::{self, HomeError};
use crate::runtime::unpoisoned;
use crate::spending::{Caller, CallerId};

/// What a key begins with, so that people and scanners of secrets know it.
const PREFIX: &str = "sk-infernet-";
/// Most keys of one gateway: it is a household's or a team's, and no shop.
const KEYS_MAX: usize = 1_000;
/// Longest name of a key.
const NAME_BYTES: usize = 64;
/// How soon a running gateway notices that the file has changed.
pub const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Why a key could not be made or revoked.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The file.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The file is not what this program writes.
    #[error("`{path}` cannot be read ({why}); move it away, and make new keys with `infernet keys add`")]
    Damaged {
        /// Where it is.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A name that cannot be.
    #[error("a key's name has 1 to {NAME_BYTES} letters, digits, `-`, `_` or `.`")]
    Name,
    /// The name is in use.
    #[error("there is a key `{0}` already; revoke it first, or choose another name")]
    Taken(String),
    /// Too many.
    #[error("there are {KEYS_MAX} keys already; revoke some first")]
    TooMany,
    /// No such key.
    #[error("there is no key `{0}`; `infernet keys list` shows them")]
    Unknown(String),
}

/// One key, as the file has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// What people call it.
    pub name: String,
    /// What the journal calls it.
    #[serde(with = "hex")]
    pub id: [u8; 16],
    /// SHA-256 of the key.
    #[serde(with = "hex")]
    pub sha256: [u8; 32],
    /// When it was made.
    pub created_at: u64,
    /// The most that its requests may cost in 24 hours, in micro-USD.
    pub budget_day_microusd: Option<u64>,
    /// Requests per minute.
    pub requests_per_minute: Option<u32>,
}

impl Key {
    /// As the budget sees it.
    #[must_use]
    pub fn caller(&self) -> Caller {
        Caller {
            id: CallerId(self.id),
            day: self.budget_day_microusd.map(MicroUsd),
        }
    }
}

/// What a key may do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Grant {
    /// The most that its requests may cost in 24 hours.
    pub budget_day: Option<MicroUsd>,
    /// Requests per minute.
    pub requests_per_minute: Option<u32>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    keys: Vec<Key>,
}

/// The keys of a file.
pub fn list(path: &Path) -> Result<Vec<Key>, KeysError> {
    let Some(text) = home::read_private(path)? else {
        return Ok(Vec::new());
    };
    let file: File = serde_json::from_str(&text).map_err(|why| KeysError::Damaged {
        path: path.to_owned(),
        why: why.to_string(),
    })?;
    Ok(file.keys)
}

/// Makes a key and gives its text, which is nowhere else from now on.
pub fn add(path: &Path, name: &str, grant: Grant) -> Result<(Key, String), KeysError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if name.is_empty() || name.len() > NAME_BYTES || !name.bytes().all(is_plain) {
        return Err(KeysError::Name);
    }
    let mut keys = list(path)?;
    if keys.iter().any(|key| key.name == name) {
        return Err(KeysError::Taken(name.to_owned()));
    }
    if keys.len() >= KEYS_MAX {
        return Err(KeysError::TooMany);
    }
    let text = format!("{PREFIX}{}", hex::encode(clock::entropy::<32>()));
    let key = Key {
        name: name.to_owned(),
        id: clock::entropy(),
        sha256: hash(&text),
        created_at: clock::wall().0,
        budget_day_microusd: grant.budget_day.map(|amount| amount.0),
        requests_per_minute: grant.requests_per_minute,
    };
    keys.push(key.clone());
    write(path, keys)?;
    Ok((key, text))
}

/// Takes a key away, by its name.
pub fn revoke(path: &Path, name: &str) -> Result<Key, KeysError> {
    let mut keys = list(path)?;
    let place = keys.iter().position(|key| key.name == name);
    let key = keys.remove(place.ok_or_else(|| KeysError::Unknown(name.to_owned()))?);
    write(path, keys)?;
    Ok(key)
}

fn write(path: &Path, keys: Vec<Key>) -> Result<(), KeysError> {
    let text = serde_json::to_string_pretty(&File { keys }).map_err(|why| KeysError::Damaged {
        path: path.to_owned(),
        why: why.to_string(),
    })?;
    Ok(home::write_atomically(path, text.as_bytes())?)
}

fn hash(text: &str) -> [u8; 32] {
    Digest::of(&[text.as_bytes()]).0
}

/// Why a caller is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotNow {
    /// The key is unknown.
    Unknown,
    /// It has asked as often as it may.
    TooOften {
        /// When it may again.
        retry_after: Duration,
    },
}

/// The keys as a running gateway sees them.
#[derive(Debug)]
pub(super) struct Keys {
    path: Option<PathBuf>,
    read: Mutex<Read>,
}

/// A file that is replaced whole has another inode, even where it is so soon that its time is the same.
type Version = (u64, SystemTime);

#[derive(Debug, Default)]
struct Read {
    looked: Option<Instant>,
    version: Option<Version>,
    by_hash: HashMap<[u8; 32], Arc<Key>>,
    buckets: HashMap<[u8; 16], Bucket>,
}

impl Read {
    /// Counts a request against the rate of its key.
    fn count(&mut self, key: &Key, now: Instant) -> Result<(), NotNow> {
        let Some(per_minute) = key.requests_per_minute else {
            return Ok(());
        };
        let bucket = self
            .buckets
            .entry(key.id)
            .or_insert_with(|| Bucket::full(per_minute, now));
        bucket
            .take(per_minute, now)
            .map_err(|retry_after| NotNow::TooOften { retry_after })
    }
}

/// Requests that a key may still make: a full minute's worth at first, and then as they come back.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// In thousandths of a request.
    left: u64,
    filled: Instant,
}

impl Bucket {
    fn full(per_minute: u32, now: Instant) -> Self {
        Self {
            left: u64::from(per_minute) * 1_000,
            filled: now,
        }
    }

    fn take(&mut self, per_minute: u32, now: Instant) -> Result<(), Duration> {
        let full = u64::from(per_minute) * 1_000;
        let since = now.saturating_duration_since(self.filled).as_millis();
        let came = u64::try_from(since)
            .unwrap_or(u64::MAX)
            .saturating_mul(u64::from(per_minute))
            / 60;
        if came > 0 {
            (self.left, self.filled) = (full.min(self.left.saturating_add(came)), now);
        }
        if self.left >= 1_000 {
            self.left -= 1_000;
            return Ok(());
        }
        let missing = (1_000 - self.left) * 60 / u64::from(per_minute.max(1));
        Err(Duration::from_millis(missing.max(1)))
    }
}

impl Keys {
    pub(super) fn new(path: Option<PathBuf>) -> Self {
        Self {
            path,
            read: Mutex::default(),
        }
    }

    /// Whether there is any.
    pub(super) fn is_empty(&self, now: Instant) -> bool {
        self.fresh(now).by_hash.is_empty()
    }

    /// The key with this text, if it may be used now.
    pub(super) fn admit(&self, text: &str, now: Instant) -> Result<Arc<Key>, NotNow> {
        let mut read = self.fresh(now);
        let key = read.by_hash.get(&hash(text)).cloned().ok_or(NotNow::Unknown)?;
        read.count(&key, now)?;
        Ok(key)
    }

    /// The same for a request that a batch of this key makes.
    pub(super) fn admit_again(&self, id: &CallerId, now: Instant) -> Result<(), NotNow> {
        let mut read = self.fresh(now);
        let key = read.by_hash.values().find(|key| key.id == id.0).cloned();
        let key = key.ok_or(NotNow::Unknown)?;
        read.count(&key, now)
    }

    /// The key of this id, as its budget sees it.
    pub(super) fn caller(&self, id: &CallerId) -> Option<Caller> {
        let read = self.fresh(Instant::now());
        let key = read.by_hash.values().find(|key| key.id == id.0)?;
        Some(key.caller())
    }

    fn fresh(&self, now: Instant) -> std::sync::MutexGuard<'_, Read> {
        let mut read = unpoisoned(&self.read);
        let Some(path) = &self.path else { return read };
        if read
            .looked
            .is_some_and(|looked| now.saturating_duration_since(looked) < LOOK_AGAIN)
        {
            return read;
        }
        read.looked = Some(now);
        let found = std::fs::metadata(path);
        let version = found.and_then(|file| Ok((file.ino(), file.modified()?))).ok();
        if version == read.version {
            return read;
        }
        match list(path) {
            Ok(keys) => {
                read.buckets.retain(|id, _| keys.iter().any(|key| key.id == *id));
                read.by_hash = keys.into_iter().map(|key| (key.sha256, Arc::new(key))).collect();
                read.version = version;
            }
            // The keys that were known stay good: a half-mended file locks nobody out.
            Err(error) => tracing::warn!(%error, "the gateway's keys cannot be read anew"),
        }
        read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_found_and_revoked_and_its_text_is_not_kept() {
        let home = crate::home::Home::temporary().unwrap();
        let path = home.keys_file();
        let (now, later) = (Instant::now(), Instant::now() + 2 * LOOK_AGAIN);
        let keys = Keys::new(Some(path.clone()));
        assert!(keys.is_empty(now));
        let grant = Grant {
            budget_day: Some(MicroUsd(7)),
            requests_per_minute: None,
        };
        let (key, text) = add(&path, "laptop", grant).unwrap();
        assert!(text.starts_with(PREFIX) && text.len() == PREFIX.len() + 64);
        assert!(!std::fs::read_to_string(&path).unwrap().contains(&text[PREFIX.len()..]));
        assert_eq!(keys.admit(&text, later).unwrap().caller(), key.caller());
        assert_eq!(keys.admit("sk-infernet-00", later), Err(NotNow::Unknown));
        assert!(matches!(add(&path, "laptop", grant), Err(KeysError::Taken(_))));
        assert!(matches!(add(&path, "a b", grant), Err(KeysError::Name)));
        revoke(&path, "laptop").unwrap();
        assert!(matches!(revoke(&path, "laptop"), Err(KeysError::Unknown(_))));
        assert_eq!(keys.admit(&text, later + 2 * LOOK_AGAIN), Err(NotNow::Unknown));
    }

    #[test]
    fn a_batch_of_a_key_is_on_its_rate_and_ends_with_it() {
        let home = crate::home::Home::temporary().unwrap();
        let path = home.keys_file();
        let grant = Grant {
            requests_per_minute: Some(2),
            ..Grant::default()
        };
        let (key, text) = add(&path, "batches", grant).unwrap();
        let (keys, now, id) = (Keys::new(Some(path.clone())), Instant::now(), CallerId(key.id));
        keys.admit(&text, now).unwrap();
        assert_eq!(keys.admit_again(&id, now), Ok(()));
        assert!(matches!(keys.admit_again(&id, now), Err(NotNow::TooOften { .. })));
        assert!(keys.admit(&text, now).is_err(), "one rate for both");
        revoke(&path, "batches").unwrap();
        assert_eq!(keys.admit_again(&id, now + 2 * LOOK_AGAIN), Err(NotNow::Unknown));
    }

    #[test]
    fn a_damaged_file_is_told_and_is_not_overwritten() {
        let home = crate::home::Home::temporary().unwrap();
        let path = home.keys_file();
        home::write_atomically(&path, b"{\"keys\":[{}]}").unwrap();
        assert!(matches!(
            add(&path, "x", Grant::default()),
            Err(KeysError::Damaged { .. })
        ));
        assert_eq!(std::fs::read(&path).unwrap(), b"{\"keys\":[{}]}");
    }

    #[test]
    fn a_rate_is_a_minutes_worth_and_then_comes_back() {
        let now = Instant::now();
        let mut bucket = Bucket::full(3, now);
        for _ in 0..3 {
            bucket.take(3, now).unwrap();
        }
        assert_eq!(bucket.take(3, now), Err(Duration::from_secs(20)));
        assert_eq!(
            bucket.take(3, now + Duration::from_secs(5)),
            Err(Duration::from_secs(15))
        );
        bucket.take(3, now + Duration::from_secs(20)).unwrap();
        assert!(bucket.take(3, now + Duration::from_secs(21)).is_err());
        let rested = now + Duration::from_secs(600);
        assert_eq!(
            (0..9).filter(|_| bucket.take(3, rested).is_ok()).count(),
            3,
            "no more than a minute's worth"
        );
    }
}

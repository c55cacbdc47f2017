//! The one thread that syncs: it commits for all who wait at once, writes snapshots, and brings the index up.
//!
//! Records are written to the segment by whoever appends them, in order, under one short lock. The thread sleeps until
//! somebody waits for the disk or the index, or until something has lain unsynced for a while. The index is brought up
//! where somebody asks it, where nothing else is to be done, and where it lacks many records.

use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use infernet_protocol::codec::{self, Wire as _};
use tokio::sync::watch;

use super::disk::Disk;
use super::index::Index;
use super::journal::{AppendError, Journal, Position};
use super::record::{Record, SNAPSHOT_BYTES};
use super::trees::Trees;
use super::{Paths, Repair, StoreError, failed, is_full};
use crate::home::{self, LockedHome};

/// What nobody waits for is synced after this long.
const LINGER: Duration = Duration::from_secs(1);
/// Records that the index lacks at most while nobody asks it: taken in together they cost much less than one by one.
const INDEX_RECORDS: u64 = 512;
/// Records that the index takes before its place is put on disk: about as many at most are replayed after a crash.
const CHECKPOINT_RECORDS: u64 = 4096;
/// Kept free for the receipts of what runs when the disk fills up: some thousand of them.
const RESERVE_BYTES: usize = 4 * 1024 * 1024;
/// How often a full disk is tried again.
const RETRY_FULL: Duration = Duration::from_secs(2);
/// Names of the snapshot files: reputation, peers.
pub(super) const SNAPSHOTS: [&str; 2] = ["reputation.snapshot", "peers.snapshot"];

/// A record's place in the order of appends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Written(pub(super) u64);

/// How far the thread has come, in records since the store was opened.
#[derive(Clone, Debug, Default)]
struct Progress {
    durable: u64,
    applied: u64,
    broken: Option<String>,
    index_failed: Option<String>,
}

#[derive(Debug)]
struct State {
    /// `None` where everything is in memory.
    journal: Option<Journal>,
    appended: u64,
    /// Somebody waits for the disk up to here.
    wanted: u64,
    /// Somebody waits for the index up to here.
    wanted_index: u64,
    snapshots: [Option<Record>; SNAPSHOTS.len()],
    /// When the disk was last found to be full.
    full_since: Option<Instant>,
    broken: Option<String>,
    /// The thread has nothing to do and no time to wake up at.
    asleep: bool,
    stop: bool,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    progress: watch::Sender<Progress>,
    index: Index,
    /// `None` where everything is in memory.
    disk: Option<(Arc<dyn Disk>, Paths)>,
}

#[derive(Debug)]
pub(super) struct Committer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    /// Held as long as files may be written.
    _home: Option<LockedHome>,
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn new(journal: Option<Journal>, index: Index, disk: Option<(Arc<dyn Disk>, Paths)>) -> Self {
        Self {
            state: Mutex::new(State {
                journal,
                appended: 0,
                wanted: 0,
                wanted_index: 0,
                snapshots: [const { None }; SNAPSHOTS.len()],
                full_since: None,
                broken: None,
                asleep: false,
                stop: false,
            }),
            wake: Condvar::new(),
            progress: watch::Sender::new(Progress::default()),
            index,
            disk,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Committer {
    pub(super) fn start(
        home: LockedHome,
        paths: Paths,
        disk: Arc<dyn Disk>,
        journal: Journal,
        index: Index,
    ) -> Result<Self, StoreError> {
        let reserve = paths.data.join("reserve");
        let full = disk.reserve(&reserve, RESERVE_BYTES).is_err();
        let from = journal.end();
        let shared = Arc::new(Shared::new(Some(journal), index, Some((disk, paths.clone()))));
        if full {
            shared.lock().full_since = Some(Instant::now());
        }
        let thread = std::thread::Builder::new().name("infernet-journal".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || Thread::new(&shared, &paths, from).run()
        });
        Ok(Self {
            shared,
            thread: Some(thread.map_err(failed("start a thread for", Path::new("journal")))?),
            _home: Some(home),
        })
    }

    pub(super) fn in_memory() -> Self {
        let index = Index::new(Trees::in_memory())
            .unwrap_or_else(|error| unreachable!("an empty map holds nothing unreadable: {error}"));
        Self {
            shared: Arc::new(Shared::new(None, index, None)),
            thread: None,
            _home: None,
        }
    }

    pub(super) fn index(&self) -> &Index {
        &self.shared.index
    }

    pub(super) fn append(&self, record: Record) -> Result<Written, StoreError> {
        let mut state = self.shared.lock();
        match record {
            Record::Reputation(ref bytes) if bytes.len() > SNAPSHOT_BYTES => return Err(StoreError::TooLarge),
            Record::Reputation(_) => {
                state.snapshots[0] = Some(record);
                state.appended += 1;
            }
            Record::Peers(_) => {
                state.snapshots[1] = Some(record);
                state.appended += 1;
            }
            record => self.write(&mut state, &record)?,
        }
        let written = state.appended;
        if self.shared.disk.is_none() {
            self.shared.progress.send_modify(|progress| {
                progress.durable = written;
                progress.applied = written;
            });
        }
        let asleep = state.asleep;
        // Woken before, it would find the lock held and go to sleep again.
        drop(state);
        if asleep {
            self.shared.wake.notify_one();
        }
        Ok(Written(written))
    }

    fn write(&self, state: &mut State, record: &Record) -> Result<(), StoreError> {
        if let Some(why) = &state.broken {
            return Err(StoreError::Broken(why.clone()));
        }
        let Some((disk, paths)) = &self.shared.disk else {
            let at = Position {
                segment: 1,
                offset: state.appended,
            };
            self.shared.index.apply(at, record)?;
            state.appended += 1;
            return Ok(());
        };
        let reserve = paths.data.join("reserve");
        if record.is_new_work() && !has_room(state, disk.as_ref(), &reserve) {
            return Err(StoreError::DiskFull(paths.data.clone()));
        }
        let Some(journal) = state.journal.as_mut() else {
            return Err(StoreError::Broken("there is no journal".to_owned()));
        };
        let mut result = journal.append(record);
        if matches!(&result, Err(AppendError::Refused(error)) if is_full(error)) {
            state.full_since = Some(Instant::now());
            if !record.is_new_work() && disk.release(&reserve) {
                result = journal.append(record);
            }
        }
        match result {
            Ok(()) => {
                state.appended += 1;
                Ok(())
            }
            Err(AppendError::TooLarge) => Err(StoreError::TooLarge),
            Err(AppendError::Refused(error)) => Err(StoreError::io("write", paths.journal.clone(), error)),
            Err(AppendError::Broken(error)) => {
                state.broken = Some(error.to_string());
                Err(StoreError::Broken(error.to_string()))
            }
        }
    }

    pub(super) async fn sync(&self) -> Result<(), StoreError> {
        let target = {
            let mut state = self.shared.lock();
            state.wanted = state.appended;
            state.appended
        };
        self.reach(target, |progress| progress.durable).await
    }

    /// Waits until the index has everything that was appended.
    pub(super) async fn caught_up(&self) -> Result<(), StoreError> {
        let target = {
            let mut state = self.shared.lock();
            state.wanted_index = state.appended;
            state.appended
        };
        self.reach(target, |progress| progress.applied).await?;
        match &self.shared.progress.borrow().index_failed {
            Some(why) => Err(StoreError::Index(why.clone())),
            None => Ok(()),
        }
    }

    async fn reach(&self, target: u64, of: impl Fn(&Progress) -> u64) -> Result<(), StoreError> {
        let mut progress = self.shared.progress.subscribe();
        self.shared.wake.notify_one();
        let reached = progress
            .wait_for(|progress| of(progress) >= target || progress.broken.is_some())
            .await;
        match reached {
            Ok(progress) => match &progress.broken {
                Some(why) if of(&progress) < target => Err(StoreError::Broken(why.clone())),
                _ => Ok(()),
            },
            Err(_) => Err(StoreError::Broken("the journal's thread is gone".to_owned())),
        }
    }

    /// Remembers that the index gave a wrong answer, so that the next start makes it again.
    pub(super) fn distrust_index(&self) {
        if let Some((_, paths)) = &self.shared.disk {
            let _ = home::write_atomically(&paths.distrust(), b"");
        }
    }
}

/// Whether new work may be written down. A disk that was full is tried again now and then.
fn has_room(state: &mut State, disk: &dyn Disk, reserve: &Path) -> bool {
    match state.full_since {
        None => true,
        Some(since) if since.elapsed() < RETRY_FULL => false,
        Some(_) => {
            let room = disk.reserve(reserve, RESERVE_BYTES).is_ok();
            state.full_since = (!room).then(Instant::now);
            room
        }
    }
}

/// What the thread found to do.
struct Work {
    file: Option<Arc<std::fs::File>>,
    appended: u64,
    end: Position,
    snapshots: [Option<Record>; SNAPSHOTS.len()],
    /// Whether the segment is full.
    due: bool,
    /// Whether the index is to be brought up.
    index: bool,
    idle: bool,
    stop: bool,
}

struct Thread<'a> {
    shared: &'a Shared,
    paths: &'a Paths,
    /// Records that are durable, and of them those that the index has.
    durable: u64,
    indexed: u64,
    /// Up to where the index has the journal.
    applied: Position,
    since_checkpoint: u64,
    index_failed: bool,
}

impl<'a> Thread<'a> {
    fn new(shared: &'a Shared, paths: &'a Paths, from: Position) -> Self {
        Self {
            shared,
            paths,
            durable: 0,
            indexed: 0,
            applied: from,
            since_checkpoint: 0,
            index_failed: false,
        }
    }

    fn run(mut self) {
        loop {
            let work = self.wait();
            if work.appended > self.durable
                && let Err(why) = self.commit(&work)
            {
                tracing::error!("the journal cannot be synced: {why}");
                self.shared.lock().broken = Some(why.clone());
                self.shared.progress.send_modify(|progress| progress.broken = Some(why));
                return;
            }
            if work.index {
                self.index(&work);
            }
            if work.due {
                self.rotate();
            }
            if work.stop {
                return;
            }
        }
    }

    /// Sleeps until somebody waits, or something has lain for a while.
    fn wait(&self) -> Work {
        let mut state = self.shared.lock();
        let mut idle = false;
        let index = loop {
            let index = state.wanted_index > self.indexed
                || state.appended - self.indexed >= INDEX_RECORDS
                || state.stop
                || idle;
            if index || state.wanted > self.durable {
                break index;
            }
            let dirty = state.appended > self.indexed || self.since_checkpoint > 0;
            state = if dirty {
                let (state, timeout) = self
                    .shared
                    .wake
                    .wait_timeout(state, LINGER)
                    .unwrap_or_else(PoisonError::into_inner);
                idle = timeout.timed_out();
                state
            } else {
                state.asleep = true;
                let mut state = self.shared.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.asleep = false;
                state
            };
        };
        let journal = state.journal.as_ref();
        Work {
            file: journal.map(Journal::file),
            end: journal.map_or(self.applied, Journal::end),
            due: journal.is_some_and(Journal::is_due),
            appended: state.appended,
            index,
            stop: state.stop,
            snapshots: std::mem::take(&mut state.snapshots),
            idle,
        }
    }

    fn commit(&mut self, work: &Work) -> Result<(), String> {
        if let (Some(file), Some((disk, _))) = (&work.file, &self.shared.disk) {
            disk.sync(file).map_err(|error| error.to_string())?;
        }
        for (name, snapshot) in SNAPSHOTS.iter().zip(&work.snapshots) {
            if let Some(record) = snapshot {
                // A snapshot that cannot be written leaves the one before it in place, and nothing depends on it.
                if let Err(error) = write_snapshot(&self.paths.data.join(name), record) {
                    tracing::warn!("{error}");
                }
            }
        }
        self.durable = work.appended;
        self.shared
            .progress
            .send_modify(|progress| progress.durable = work.appended);
        Ok(())
    }

    /// Brings the index up to what is durable.
    fn index(&mut self, work: &Work) {
        let before = self.applied;
        if !self.index_failed && before < work.end {
            let index = &self.shared.index;
            let replayed = std::panic::catch_unwind(AssertUnwindSafe(|| {
                index.take_in(&self.paths.journal, before, work.end)
            }));
            match replayed {
                Ok(Ok(records)) => {
                    self.applied = work.end;
                    self.since_checkpoint += records;
                }
                Ok(Err(error)) => self.give_up(&format!("{error:?}")),
                Err(_) => self.give_up("it is damaged"),
            }
        }
        let due = self.since_checkpoint >= CHECKPOINT_RECORDS || work.idle || work.stop;
        if !self.index_failed && self.since_checkpoint > 0 && due {
            match self.shared.index.checkpoint(self.applied) {
                Ok(()) => self.since_checkpoint = 0,
                Err(error) => self.give_up(&error.0),
            }
        }
        self.indexed = work.appended;
        self.shared
            .progress
            .send_modify(|progress| progress.applied = work.appended);
    }

    /// The journal goes on without its index; the next start makes it again.
    fn give_up(&mut self, why: &str) {
        tracing::error!("the ledger's index cannot be written ({why}): the journal goes on without it");
        self.index_failed = true;
        self.since_checkpoint = 0;
        let _ = home::write_atomically(&self.paths.distrust(), b"");
        self.shared
            .progress
            .send_modify(|progress| progress.index_failed = Some(why.to_owned()));
    }

    /// Goes on in a new segment, once all of the old one is synced.
    fn rotate(&mut self) {
        let mut state = self.shared.lock();
        let Some((disk, _)) = &self.shared.disk else { return };
        let Some(journal) = state.journal.as_mut() else { return };
        let synced = disk.sync(&journal.file()).map_err(|error| error.to_string());
        match synced {
            Ok(()) => {
                // A disk that is too full for a new segment may still take records in the old one.
                if let Err(error) = journal.rotate() {
                    tracing::warn!("{error}");
                }
            }
            Err(why) => state.broken = Some(why),
        }
    }
}

fn write_snapshot(path: &Path, record: &Record) -> Result<(), StoreError> {
    let mut writer = codec::Writer::default();
    record.encode(&mut writer);
    let payload = writer.into_bytes();
    let mut bytes = crc32fast::hash(&payload).to_le_bytes().to_vec();
    bytes.extend_from_slice(&payload);
    Ok(home::write_atomically(path, &bytes)?)
}

/// The record in a snapshot file; one that is damaged is noted and left out.
pub(super) fn read_snapshot(path: &Path, repairs: &mut Vec<Repair>) -> Option<Record> {
    let bytes = std::fs::read(path).ok()?;
    let record = bytes.split_first_chunk::<4>().and_then(|(crc, payload)| {
        (u32::from_le_bytes(*crc) == crc32fast::hash(payload))
            .then(|| codec::from_slice(payload).ok())
            .flatten()
    });
    if record.is_none() {
        repairs.push(Repair::Snapshot { file: path.to_owned() });
    }
    record
}

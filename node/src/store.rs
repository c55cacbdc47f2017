//! What must not be lost: leases, their use, receipts and countersignatures, in a journal that is synced before
//! anything is acknowledged, and an index that is made from it.
//!
//! ```text
//!   append(record) --> journal segment, one write: the kernel has it        survives kill -9
//!   sync().await   --> one thread, fdatasync for all who wait               survives a power cut
//!                          '--> index (sled): questions of people, and what a start needs
//! ```
//!
//! - `record`     what is written down
//! - `journal`    segments, torn ends, damage
//! - `disk`       the file system, replaceable in tests
//! - `committer`  the one thread: group commit, snapshots, index
//! - `index`      the journal arranged for questions, on `trees` (sled or maps)
//! - `recovered`  leases and books as a start finds them
//! - `rows`       the ledger as a person reads it; `answers` gives it to the command line

mod answers;
mod committer;
mod disk;
mod index;
mod journal;
pub mod record;
mod recovered;
mod rows;
mod trees;

use std::io;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use infernet_protocol::{JobId, Network};

use crate::clock;
use crate::home::{self, Home, HomeError, LockedHome};
use committer::{Committer, SNAPSHOTS, read_snapshot};
use disk::Disk;
use index::Index;
use journal::{Damage, Journal, Position, ReplayError};
use trees::{IndexError, Trees};

pub use answers::{answer_export, answer_receipts};
pub use committer::Written;
pub use record::{
    LeaseOpened, LeaseUsed, PEERS_KEPT, Record, RequestDropped, RequestFor, RequestMade, Side, Unreceipted,
};
pub use recovered::{OpenLease, Recovered, Repair, StoredDeal};
pub use rows::{Query, ROWS_MAX, ReceiptRow, RowStatus};

/// Old indexes that are kept when they are replaced. They hold nothing that the journal does not.
const QUARANTINED_INDEXES: u32 = 4;
/// The folder of the journal.
const JOURNAL: &str = "journal";

/// Why something could not be kept or found.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The home could not be used.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The disk is full. Nothing that was acknowledged is lost, and what runs can still be receipted.
    #[error("the disk that holds `{0}` is full: no new work is taken until there is room")]
    DiskFull(PathBuf),
    /// A file could not be read or written.
    #[error("cannot {what} `{path}`: {error}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// The journal was damaged. It was repaired as far as possible, and the next start goes on.
    #[error(
        "`{path}` is damaged at byte {offset} ({lost} bytes are unreadable): the file as it was is kept as `{kept}`, all that \
         could be read is back in place, and leases that were open will not be used again; start once more to go on"
    )]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// Where the damage begins.
        offset: u64,
        /// Bytes that could not be read.
        lost: u64,
        /// Where the damaged file is kept.
        kept: PathBuf,
    },
    /// The journal holds a record that this version does not know.
    #[error(
        "`{path}` holds a record at byte {offset} that this version does not know: use the newer `infernet` that wrote it"
    )]
    Newer {
        /// The segment.
        path: PathBuf,
        /// Where the record is.
        offset: u64,
    },
    /// The disk failed while the journal was written; nothing is acknowledged any more.
    #[error("the journal cannot be written any more ({0}): check the disk, then restart the node")]
    Broken(String),
    /// A record larger than any may be.
    #[error("record is larger than the journal takes")]
    TooLarge,
    /// The index does not answer. The journal has everything, and the next start makes the index again.
    #[error("the ledger's index does not answer ({0}): restart the node, and it is made again from the journal")]
    Index(String),
    /// A lease of the ledger does not hold together.
    #[error("a lease of the ledger does not hold together: {0}")]
    Lease(String),
}

impl StoreError {
    fn io(what: &'static str, path: PathBuf, error: io::Error) -> Self {
        if is_full(&error) {
            Self::DiskFull(path)
        } else {
            Self::Io { what, path, error }
        }
    }
}

impl From<IndexError> for StoreError {
    fn from(error: IndexError) -> Self {
        Self::Index(error.0)
    }
}

/// The node's memory. Clones are the same store; the last one that goes closes it.
#[derive(Clone, Debug)]
pub struct Store {
    network: Network,
    committer: Arc<Committer>,
}

impl Store {
    /// Whether a home has one of a network.
    #[must_use]
    pub fn exists(home: &Home, network: &Network) -> bool {
        home.data(network).join(JOURNAL).exists()
    }

    /// Opens the store of a network, mends what a crash left, and finds what was open. Blocks: some milliseconds, or a
    /// few seconds where a large index must be made again.
    pub fn open(home: &LockedHome, network: &Network) -> Result<(Self, Recovered), StoreError> {
        Self::open_on(home, network, Arc::new(disk::Real))
    }

    fn open_on(home: &LockedHome, network: &Network, disk: Arc<dyn Disk>) -> Result<(Self, Recovered), StoreError> {
        let paths = Paths::of(home, network)?;
        let mut repairs = Vec::new();
        let (index, journal) = open_both(&paths, &disk, &mut repairs)?;
        let (index, journal, mut recovered) = match caught(|| recover(&index, network)) {
            Ok(recovered) => (index, journal, recovered),
            Err(error) => {
                // The journal is the truth: whatever the index says wrongly, it is made again once.
                drop((index, journal));
                repairs.push(quarantine_index(&paths, error.0)?);
                let (index, journal) = open_both(&paths, &disk, &mut repairs)?;
                let recovered = caught(|| recover(&index, network))?;
                (index, journal, recovered)
            }
        };
        let [reputation, peers] = SNAPSHOTS.map(|name| read_snapshot(&paths.data.join(name), &mut repairs));
        if let Some(Record::Reputation(bytes)) = reputation {
            recovered.reputation = Some(bytes);
        }
        if let Some(Record::Peers(peers)) = peers {
            recovered.peers = peers;
        }
        recovered.repairs.splice(0..0, repairs);
        let committer = Committer::start(home.clone(), paths, disk, journal, index)?;
        let store = Self {
            network: network.clone(),
            committer: Arc::new(committer),
        };
        Ok((store, recovered))
    }

    /// A store that forgets everything with its last clone. It keeps the same contract as the one on disk.
    #[must_use]
    pub fn in_memory(network: &Network) -> Self {
        Self {
            network: network.clone(),
            committer: Arc::new(Committer::in_memory()),
        }
    }

    /// The network whose messages it keeps.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Writes a record behind all earlier ones. When this returns the record outlives the process, and after the next
    /// `sync` a power cut. Takes microseconds.
    pub fn append(&self, record: Record) -> Result<Written, StoreError> {
        self.committer.append(record)
    }

    /// Returns when everything appended so far survives a power cut; all who wait share one sync of the disk.
    pub async fn sync(&self) -> Result<(), StoreError> {
        self.committer.sync().await
    }

    /// Appends a record and waits until it survives a power cut.
    pub async fn keep(&self, record: Record) -> Result<(), StoreError> {
        self.append(record)?;
        self.sync().await
    }

    /// Requests that ended, the latest first; everything appended before this call is seen.
    pub async fn rows(&self, query: Query) -> Result<Vec<ReceiptRow>, StoreError> {
        self.asked(move |index, _| index.rows(&query).map_err(StoreError::from))
            .await
    }

    /// Every lease of a job with its book, for export.
    pub async fn deals(&self, job: JobId) -> Result<Vec<StoredDeal>, StoreError> {
        self.asked(move |index, network| {
            let found = index.leases_of(&job)?;
            found
                .iter()
                .map(|found| recovered::stored_deal(found, network).map_err(StoreError::Lease))
                .collect()
        })
        .await
    }

    /// Leases that are not over or not settled, as a start would find them.
    pub async fn open_leases(&self) -> Result<Vec<OpenLease>, StoreError> {
        self.asked(|index, network| Ok(recover(index, network)?.leases)).await
    }

    /// Asks the index off the executor, once it has everything that was appended.
    async fn asked<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Index, &Network) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.committer.caught_up().await?;
        let store = self.clone();
        let answer = tokio::task::spawn_blocking(move || {
            let index = store.committer.index();
            std::panic::catch_unwind(AssertUnwindSafe(|| question(index, &store.network)))
                .unwrap_or_else(|_| Err(StoreError::Index("it is damaged".to_owned())))
        });
        let answer = answer
            .await
            .unwrap_or_else(|error| Err(StoreError::Index(error.to_string())));
        if matches!(answer, Err(StoreError::Index(_))) {
            self.committer.distrust_index();
        }
        answer
    }
}

/// Where one network's files are.
#[derive(Clone, Debug)]
struct Paths {
    data: PathBuf,
    journal: PathBuf,
    index: PathBuf,
}

impl Paths {
    fn of(home: &LockedHome, network: &Network) -> Result<Self, HomeError> {
        let data = home.data(network);
        home::create_directory(&data)?;
        Ok(Self {
            journal: data.join(JOURNAL),
            index: data.join("index"),
            data,
        })
    }

    /// Set when the index gave a wrong answer while the node ran.
    fn distrust(&self) -> PathBuf {
        self.data.join("index.distrusted")
    }
}

/// Opens index and journal, and brings the index up to the journal's end.
fn open_both(paths: &Paths, disk: &Arc<dyn Disk>, repairs: &mut Vec<Repair>) -> Result<(Index, Journal), StoreError> {
    let index = open_index(paths, repairs)?;
    let durable = index.applied()?;
    let journal = match Journal::open(&paths.journal, Arc::clone(disk), durable, repairs)? {
        Ok(journal) => journal,
        Err(damage) => {
            drop(index);
            return Err(repair(paths, disk, &damage)?);
        }
    };
    let end = journal.end();
    match caught(|| Ok(catch_up(paths, &index, durable, end)))? {
        Ok(()) => Ok((index, journal)),
        Err(ReplayError::Io(error)) => Err(error),
        Err(ReplayError::Damaged(damage)) => {
            drop((index, journal));
            Err(repair(paths, disk, &damage)?)
        }
        Err(ReplayError::Refused(error)) => Err(error.into()),
    }
}

fn catch_up(paths: &Paths, index: &Index, from: Position, to: Position) -> Result<(), ReplayError<IndexError>> {
    index.take_in(&paths.journal, from, to)?;
    if from < to {
        index.checkpoint(to).map_err(ReplayError::Refused)?;
    }
    Ok(())
}

/// Opens the index, or puts one that cannot be used aside and begins a new one.
fn open_index(paths: &Paths, repairs: &mut Vec<Repair>) -> Result<Index, StoreError> {
    let was_there = paths.index.exists();
    let opened = if paths.distrust().exists() {
        Err(IndexError("it gave a wrong answer".to_owned()))
    } else {
        caught(|| {
            let index = Index::new(Trees::on_disk(&paths.index)?)?;
            index.applied()?;
            Ok(index)
        })
    };
    match opened {
        Ok(index) => {
            if !was_there && journal::segment_path(&paths.journal, 1).exists() {
                repairs.push(Repair::IndexRebuilt {
                    why: "it was missing".to_owned(),
                    kept: None,
                });
            }
            Ok(index)
        }
        Err(error) => {
            repairs.push(quarantine_index(paths, error.0)?);
            let _ = std::fs::remove_file(paths.distrust());
            Ok(caught(|| Index::new(Trees::on_disk(&paths.index)?))?)
        }
    }
}

fn quarantine_index(paths: &Paths, why: String) -> Result<Repair, StoreError> {
    if !paths.index.exists() {
        return Ok(Repair::IndexRebuilt { why, kept: None });
    }
    let place = |n: u32| paths.data.join(format!("index.quarantine-{n}"));
    let kept = (0..QUARANTINED_INDEXES).map(place).find(|path| !path.exists());
    let kept = kept.unwrap_or_else(|| {
        let oldest = place(0);
        let _ = std::fs::remove_dir_all(&oldest);
        for n in 1..QUARANTINED_INDEXES {
            let _ = std::fs::rename(place(n), place(n - 1));
        }
        place(QUARANTINED_INDEXES - 1)
    });
    std::fs::rename(&paths.index, &kept).map_err(|error| StoreError::io("put aside", paths.index.clone(), error))?;
    Ok(Repair::IndexRebuilt { why, kept: Some(kept) })
}

/// Mends a damaged journal as far as possible; the answer is the error that tells of it.
fn repair(paths: &Paths, disk: &Arc<dyn Disk>, damage: &Damage) -> Result<StoreError, StoreError> {
    let (kept, repaired) = journal::salvage(&paths.journal, damage)?;
    quarantine_index(paths, "the journal was damaged".to_owned())?;
    // Leases that are open here may lack their last steps: the journal says so from now on.
    if let Ok(mut journal) = Journal::open(&paths.journal, Arc::clone(disk), Position::START, &mut Vec::new())? {
        journal
            .append(&Record::Repaired(repaired))
            .and_then(|()| journal.file().sync_all().map_err(journal::AppendError::Refused))
            .map_err(|error| StoreError::Broken(format!("{error:?}")))?;
    }
    Ok(StoreError::Damaged {
        path: journal::segment_path(&paths.journal, damage.at.segment),
        offset: damage.at.offset,
        lost: repaired.lost,
        kept,
    })
}

/// Runs something that reads a database which may be damaged enough to make its library panic.
fn caught<T>(run: impl FnOnce() -> Result<T, IndexError>) -> Result<T, IndexError> {
    std::panic::catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Err(IndexError("it is damaged".to_owned())))
}

fn recover(index: &Index, network: &Network) -> Result<Recovered, IndexError> {
    let mut recovered = Recovered {
        ad_sequence: index.ad_sequence()?,
        spent: index.spent_lately(clock::wall())?,
        ..Recovered::default()
    };
    for found in index.open_leases(clock::wall())? {
        match recovered::open_lease(&found, network) {
            Ok(lease) => recovered.leases.push(lease),
            Err(why) => recovered.repairs.push(Repair::Lease {
                lease: index::payload::<infernet_protocol::auction::JobOffer>(&found.cell.opened.offer.0)?
                    .job
                    .to_string(),
                why,
            }),
        }
    }
    Ok(recovered)
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |error| StoreError::io(what, path, error)
}

#[cfg(test)]
mod tests;

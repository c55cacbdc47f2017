//! OpenAI's batches: many requests in one file, run over the network as its providers have time.
//!
//! ```text
//!   file ── input: checked line by line ──> chunks ── runner: some at once, each over the buyer ──> record: one line each
//!                                             ^  failed ones again, later and elsewhere  |
//!                                             +-------------------------------------------+
//!   record, all in the order of the input ──> files: output and errors
//! ```
//!
//! Everything is under one folder of the home, for its owner alone and for 30 days: prompts and answers are kept here
//! because their owner asked for it, and nowhere else. A process that is killed goes on where it was.

mod chunks;
pub mod files;
pub mod input;
pub mod record;
mod runner;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::home::{self, HomeError};
use crate::runtime::{Tasks, unpoisoned};
use files::{Files, is_id};
use record::{Batch, Folder, Status};

/// Batches that are kept at once, with those that are over.
const BATCHES_MAX: usize = 1_000;
/// A batch that is over is kept as long as its files, in seconds.
const KEPT: u64 = 30 * 24 * 3_600;
/// How often what is old is looked for.
const EXPIRE_EVERY: Duration = Duration::from_secs(24 * 3_600);
/// A batch that could not go on, with a full disk for one, is tried again after this.
const TAKEN_UP_AFTER: Duration = Duration::from_secs(30);
/// Longest time that a batch may take, in hours.
const WINDOW_HOURS_MAX: u64 = 7 * 24;
/// Names beside a batch, and their length, as at OpenAI.
const METADATA_MAX: usize = 16;
const METADATA_BYTES: usize = 512;

/// Why something could not be done with a batch or a file.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// The home could not be used.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The disk.
    #[error("the batch folder cannot be used: {0}")]
    Io(#[from] io::Error),
    /// A file of ours that we cannot read.
    #[error("`{path}` cannot be read: {why}")]
    Damaged {
        /// Where.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// No such file.
    #[error("there is no file `{0}`")]
    NoFile(String),
    /// No such batch.
    #[error("there is no batch `{0}`")]
    NoBatch(String),
    /// Too long.
    #[error("a file may have 200 MiB")]
    TooLarge,
    /// Too many.
    #[error("there are {0} files already; delete some first")]
    TooManyFiles(usize),
    /// Too many.
    #[error("there are {0} batches already; the oldest are let go of after 30 days")]
    TooManyBatches(usize),
    /// A member that cannot be.
    #[error("{message}")]
    Invalid {
        /// Which.
        param: &'static str,
        /// What is wrong.
        message: String,
    },
    /// A batch reads it.
    #[error("the file `{0}` is the input of a batch that is not over; cancel that first")]
    InUse(String),
    /// It is over.
    #[error("the batch is over already")]
    Over,
}

/// What a batch is to be.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The route of all its requests.
    pub endpoint: String,
    /// Its input.
    pub input_file_id: String,
    /// How long it may take: `24h`, `90m`, `2d`.
    pub completion_window: String,
    /// What its owner writes beside it.
    pub metadata: Option<BTreeMap<String, String>>,
}

/// An answer to one request of a batch.
#[derive(Clone, Debug)]
pub struct Answered {
    /// HTTP status.
    pub status: u16,
    /// The body: JSON.
    pub body: Bytes,
    /// Whether another provider, or a later time, may do better.
    pub may_retry: bool,
    /// Nobody was there to be asked.
    pub nobody: bool,
}

/// Who answers requests of batches: the gateway, as it answers any other.
#[async_trait]
pub trait Answers: Send + Sync {
    /// One answer of a route, whole.
    async fn answer(&self, endpoint: &str, body: Bytes) -> Answered;
}

/// What batches run on.
type Engine = (Arc<dyn Answers>, Tasks);

/// All batches and files of a node.
#[derive(Clone)]
pub struct Batches {
    files: Files,
    folder: PathBuf,
    running: Arc<Mutex<HashMap<String, CancellationToken>>>,
    /// Serialises changes of what a batch is.
    changing: Arc<Mutex<()>>,
    engine: Arc<OnceLock<Engine>>,
}

impl std::fmt::Debug for Batches {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batches")
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

impl Batches {
    /// Opens the folder; nothing runs before [`Self::run`].
    pub fn open(folder: PathBuf) -> Result<Self, BatchError> {
        let batches = folder.join("batches");
        home::create_directory(&batches)?;
        Ok(Self {
            files: Files::open(folder.join("files"))?,
            folder: batches,
            running: Arc::default(),
            changing: Arc::default(),
            engine: Arc::default(),
        })
    }

    /// Runs what is not over, and what comes from now on; lets go of what is old.
    pub fn run(&self, answers: Arc<dyn Answers>, tasks: &Tasks) {
        if self.engine.set((answers, tasks.clone())).is_err() {
            return;
        }
        for batch in self.list().unwrap_or_default() {
            if !batch.status.is_final() {
                self.start(&batch.id);
            }
        }
        let batches = self.clone();
        drop(tasks.spawn_until_cancelled("old batches", async move {
            loop {
                let expiring = batches.clone();
                let expired = tokio::task::spawn_blocking(move || expiring.expire()).await;
                if let Ok(Err(error)) = expired {
                    tracing::warn!(%error, "what is old could not be let go of");
                }
                tokio::time::sleep(EXPIRE_EVERY).await;
            }
        }));
    }

    /// Lets go of files and batches whose time is over.
    fn expire(&self) -> Result<(), BatchError> {
        for batch in self.list()? {
            if batch.status.is_final() && now().saturating_sub(batch.created_at) > KEPT {
                self.folder_of(&batch.id).remove()?;
            }
        }
        self.files.expire()
    }

    fn start(&self, id: &str) {
        let Some((answers, tasks)) = self.engine.get().cloned() else {
            return;
        };
        let cancel = CancellationToken::new();
        unpoisoned(&self.running).insert(id.to_owned(), cancel.clone());
        let (batches, id) = (self.clone(), id.to_owned());
        drop(tasks.spawn_until_cancelled("batch", async move {
            while let Err(error) = runner::run(&batches, &id, &*answers, &cancel).await {
                tracing::error!(batch = id, %error, "a batch cannot go on, and is taken up again in a while");
                tokio::time::sleep(TAKEN_UP_AFTER).await;
            }
            unpoisoned(&batches.running).remove(&id);
        }));
    }

    /// The files.
    #[must_use]
    pub fn files(&self) -> &Files {
        &self.files
    }

    fn folder_of(&self, id: &str) -> Folder {
        Folder::of(&self.folder, id)
    }

    /// Takes a batch on.
    pub fn create(&self, wanted: Wanted) -> Result<Batch, BatchError> {
        let invalid = |param, message: String| BatchError::Invalid { param, message };
        if !input::ENDPOINTS.contains(&wanted.endpoint.as_str()) {
            let message = format!("`endpoint` must be one of {}", input::ENDPOINTS.join(", "));
            return Err(invalid("endpoint", message));
        }
        let window = seconds(&wanted.completion_window).ok_or_else(|| {
            invalid(
                "completion_window",
                "`completion_window` must be like `24h`, from 1m to 7d".to_owned(),
            )
        })?;
        let too_much = |metadata: &BTreeMap<String, String>| {
            metadata.len() > METADATA_MAX
                || metadata
                    .iter()
                    .any(|(name, value)| name.len().max(value.len()) > METADATA_BYTES)
        };
        if wanted.metadata.as_ref().is_some_and(too_much) {
            let message = format!("`metadata` may have {METADATA_MAX} members of {METADATA_BYTES} bytes");
            return Err(invalid("metadata", message));
        }
        self.files.get(&wanted.input_file_id)?;
        if std::fs::read_dir(&self.folder)?.count() >= BATCHES_MAX {
            return Err(BatchError::TooManyBatches(BATCHES_MAX));
        }
        let batch = Batch {
            id: files::fresh("batch_"),
            endpoint: wanted.endpoint,
            input_file_id: wanted.input_file_id,
            completion_window: wanted.completion_window,
            metadata: wanted.metadata,
            status: Status::Validating,
            errors: Vec::new(),
            output_file_id: files::fresh("file-"),
            error_file_id: files::fresh("file-"),
            created_at: now(),
            times: BTreeMap::new(),
            expires_at: now().saturating_add(window),
            total: 0,
            completed: 0,
            failed: 0,
        };
        let folder = self.folder_of(&batch.id);
        folder.create()?;
        folder.keep(&batch)?;
        self.start(&batch.id);
        Ok(batch)
    }

    /// Takes a file away, unless a batch still reads it.
    pub fn remove_file(&self, id: &str) -> Result<(), BatchError> {
        let reads = |batch: &Batch| !batch.status.is_final() && batch.input_file_id == id;
        if self.list()?.iter().any(reads) {
            return Err(BatchError::InUse(id.to_owned()));
        }
        self.files.remove(id)
    }

    /// What a batch is now.
    pub fn get(&self, id: &str) -> Result<Batch, BatchError> {
        let missing = || BatchError::NoBatch(id.to_owned());
        if !is_id(id, "batch_") {
            return Err(missing());
        }
        self.folder_of(id).batch()?.ok_or_else(missing)
    }

    /// All batches, the latest first.
    pub fn list(&self) -> Result<Vec<Batch>, BatchError> {
        let mut all = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let name = entry?.file_name();
            all.extend(name.to_str().map(|id| self.get(id)).and_then(Result::ok));
        }
        all.sort_by(|a, b| (b.created_at, &b.id).cmp(&(a.created_at, &a.id)));
        Ok(all)
    }

    /// Stops a batch; what has ended by then is in its results.
    pub fn cancel(&self, id: &str) -> Result<Batch, BatchError> {
        let batch = self.get(id)?;
        if batch.status.is_final() {
            return Err(BatchError::Over);
        }
        let batch = self.change(id, |batch| enter(batch, Status::Cancelling))?;
        if let Some(running) = unpoisoned(&self.running).get(id) {
            running.cancel();
        }
        Ok(batch)
    }

    /// Changes what a batch is, durably.
    fn change(&self, id: &str, change: impl FnOnce(&mut Batch)) -> Result<Batch, BatchError> {
        let _alone = unpoisoned(&self.changing);
        let mut batch = self.get(id)?;
        change(&mut batch);
        self.folder_of(id).keep(&batch)?;
        Ok(batch)
    }
}

/// A batch comes to a status, now.
fn enter(batch: &mut Batch, status: Status) {
    // Who cancels while the results are written has come too late, and one that is over stays over.
    if batch.status.is_final() || batch.status == status {
        return;
    }
    batch.status = status;
    batch.times.entry(status).or_insert_with(now);
}

/// Unix seconds.
fn now() -> u64 {
    clock::wall().0 / 1_000
}

/// `24h`, `90m`, `2d` in seconds.
fn seconds(window: &str) -> Option<u64> {
    let (number, unit) = window.split_at_checked(window.len().checked_sub(1)?)?;
    let unit = match unit {
        "m" => 60,
        "h" => 3_600,
        "d" => 24 * 3_600,
        _ => return None,
    };
    let seconds = number.parse::<u64>().ok()?.checked_mul(unit)?;
    (60..=WINDOW_HOURS_MAX * 3_600).contains(&seconds).then_some(seconds)
}

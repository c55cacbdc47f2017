//! Writes records into files that follow each other: `infernet-main-20261128T055244Z-000001.cborseq.gz`.
//!
//! Records gather in memory for a few seconds, are compressed as one gzip member, written at once and synced. A kill
//! therefore loses what had not been written, and never damages what had been. The oldest files make room for new ones.

use std::collections::VecDeque;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use infernet_protocol::UnixMillis;
use infernet_protocol::codec::{self, Text};

use super::session::{Limits, Session};
use super::{ENDING, PUBLISHED_ENDING};
use crate::record::{Body, Header, PUBLICATION, RECORDING, Record, VERSION};
use crate::stamp;

const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// Held by the process that writes into a directory.
const LOCK: &str = "recording.lock";
/// Files that may begin in one second, until their numbers run out of free names.
const NAMES: u32 = 1_000;

/// Why nothing more is written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The directory cannot be used.
    #[error("cannot use `{path}` ({error}); name a directory that you may write to", path = path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Another process writes there.
    #[error("`{path}` is written to by another process; stop it or name another directory", path = path.display())]
    Busy {
        /// The directory.
        path: PathBuf,
    },
    /// The disk is full.
    #[error("no space is left for `{path}`; free some, or keep less of the recording", path = path.display())]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be written.
    #[error("cannot write `{path}` ({error}); look after the disk, or name another directory", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

impl WriteError {
    fn file(path: &Path, error: io::Error) -> Self {
        let path = path.to_owned();
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::Full { path },
            _ => Self::File { path, error },
        }
    }
}

/// The file that is being written.
#[derive(Debug)]
struct Current {
    file: File,
    path: PathBuf,
    bytes: u64,
    began: UnixMillis,
}

/// Writes one recording into one directory.
#[derive(Debug)]
pub struct Writer {
    directory: PathBuf,
    session: Session,
    limits: Limits,
    began: Option<UnixMillis>,
    /// Files begun so far.
    files: u32,
    current: Option<Current>,
    /// Records that are not written yet, and when the first of them happened.
    member: Vec<u8>,
    member_began: UnixMillis,
    /// Finished files of this network in the directory, oldest first, with their sizes.
    finished: VecDeque<(PathBuf, u64)>,
    _lock: File,
}

impl Writer {
    /// Begins a recording in `directory`, which is made where it is missing. No file is made before the first record.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn create(directory: &Path, session: Session, limits: Limits) -> Result<Self, WriteError> {
        let refused = |error| WriteError::Directory {
            path: directory.to_owned(),
            error,
        };
        let mut builder = DirBuilder::new();
        builder
            .recursive(true)
            .mode(DIRECTORY_MODE)
            .create(directory)
            .map_err(refused)?;
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .open(directory.join(LOCK))
            .map_err(refused)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(WriteError::Busy {
                    path: directory.to_owned(),
                });
            }
            Err(TryLockError::Error(error)) => return Err(refused(error)),
        }
        let finished = earlier(directory, &session).map_err(refused)?;
        Ok(Self {
            directory: directory.to_owned(),
            session,
            limits,
            began: None,
            files: 0,
            current: None,
            member: Vec::new(),
            member_began: UnixMillis(0),
            finished,
            _lock: lock,
        })
    }

    /// Takes a record. It is on the disk by the next [`sync`](Self::sync), or when enough have gathered.
    ///
    /// # Errors
    /// [`WriteError`]; the records that were gathered are lost then.
    pub fn write(&mut self, record: &Record) -> Result<(), WriteError> {
        let now = record.at;
        // Distances, since a clock may be set back.
        let is_old = |current: &Current| now.distance(current.began) >= u64::from(self.limits.file_age.0);
        if self.current.as_ref().is_some_and(is_old) {
            self.sync()?;
            self.end_file();
        }
        if self.member.is_empty() {
            self.member_began = now;
        }
        self.member.extend_from_slice(&codec::to_vec(record));
        if self.is_due(now) { self.sync() } else { Ok(()) }
    }

    /// Whether what has gathered should be written by now.
    #[must_use]
    pub fn is_due(&self, now: UnixMillis) -> bool {
        let age = now.distance(self.member_began);
        let is_full = self.member.len() >= self.limits.member_bytes;
        !self.member.is_empty() && (is_full || age >= u64::from(self.limits.member_age.0))
    }

    /// Compresses, writes and syncs what has gathered.
    ///
    /// # Errors
    /// [`WriteError`]; what had gathered is lost then, and what was written before is not.
    pub fn sync(&mut self) -> Result<(), WriteError> {
        let records = std::mem::take(&mut self.member);
        if records.is_empty() {
            return Ok(());
        }
        if self.current.is_none() {
            self.begin_file()?;
        }
        let Some(current) = &mut self.current else {
            return Ok(());
        };
        let written = append(current, &records);
        written.map_err(|error| {
            // A part of a member is of no use to anybody. Where it cannot be cut off, readers leave it out.
            let _damaged = current.file.set_len(current.bytes);
            WriteError::file(&current.path, error)
        })?;
        if current.bytes >= self.limits.file_bytes {
            self.end_file();
        }
        self.make_room()
    }

    /// Writes what is left and ends the recording.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn finish(mut self) -> Result<(), WriteError> {
        self.sync()
    }

    /// Writes what is left into the current file; the next record begins another.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn rotate(&mut self) -> Result<(), WriteError> {
        self.sync()?;
        self.end_file();
        Ok(())
    }

    fn begin_file(&mut self) -> Result<(), WriteError> {
        let now = self.member_began;
        let began = *self.began.get_or_insert(now);
        let ending = if self.session.is_publication {
            PUBLISHED_ENDING
        } else {
            ENDING
        };
        for _ in 0..NAMES {
            self.files += 1;
            let (network, files) = (&self.session.network, self.files);
            let name = format!("infernet-{network}-{}-{files:06}{ending}", stamp::compact(now));
            let path = self.directory.join(name);
            let opened = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(FILE_MODE)
                .open(&path);
            let file = match opened {
                Ok(file) => file,
                // Of a recording that began in the same second.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(WriteError::file(&path, error)),
            };
            let mut current = Current {
                file,
                path,
                bytes: 0,
                began: now,
            };
            let header = Record {
                at: now,
                body: Body::Header(self.header(began)),
            };
            append(&mut current, &codec::to_vec(&header)).map_err(|error| WriteError::file(&current.path, error))?;
            self.current = Some(current);
            return Ok(());
        }
        let error = io::Error::from(ErrorKind::AlreadyExists);
        Err(WriteError::file(&self.directory, error))
    }

    fn header(&self, began_at: UnixMillis) -> Header {
        let session = &self.session;
        Header {
            format: Text::lossy(if session.is_publication { PUBLICATION } else { RECORDING }),
            version: VERSION,
            network: Text::lossy(session.network.as_str()),
            recorder: session.recorder,
            recording: session.recording,
            began_at,
            file: self.files,
            agent: Text::lossy(&session.agent),
            sample_every: session.sample_every,
            sync_every: self.limits.member_age,
        }
    }

    fn end_file(&mut self) {
        if let Some(current) = self.current.take() {
            self.finished.push_back((current.path, current.bytes));
        }
    }

    /// Removes the oldest files until the rest is within the limits.
    fn make_room(&mut self) -> Result<(), WriteError> {
        let current = self.current.as_ref().map_or(0, |current| current.bytes);
        let mut bytes: u64 = current + self.finished.iter().map(|(_, bytes)| bytes).sum::<u64>();
        let mut files = self.finished.len() + usize::from(self.current.is_some());
        while files > self.limits.keep_files || bytes > self.limits.keep_bytes {
            let Some((path, size)) = self.finished.pop_front() else {
                break;
            };
            match std::fs::remove_file(&path) {
                Ok(()) => {}
                // Moved away by a person, which is what they are for.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(WriteError::File { path, error }),
            }
            (files, bytes) = (files - 1, bytes.saturating_sub(size));
        }
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Err(error) = self.sync() {
            tracing::warn!(%error, "the end of the recording is lost");
        }
    }
}

fn append(current: &mut Current, records: &[u8]) -> io::Result<()> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(records.len() / 2), Compression::default());
    encoder.write_all(records)?;
    let member = encoder.finish()?;
    current.file.write_all(&member)?;
    current.file.sync_data()?;
    current.bytes += member.len() as u64;
    Ok(())
}

/// Files of earlier recordings of the same network and format, oldest first.
fn earlier(directory: &Path, session: &Session) -> io::Result<VecDeque<(PathBuf, u64)>> {
    let prefix = format!("infernet-{}-", session.network);
    let ending = if session.is_publication {
        PUBLISHED_ENDING
    } else {
        ENDING
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let stamp = name
            .to_str()
            .and_then(|name| name.strip_prefix(&prefix)?.strip_suffix(ending));
        if stamp.is_some_and(is_stamp) {
            files.push((entry.path(), entry.metadata()?.len()));
        }
    }
    files.sort();
    Ok(files.into())
}

/// Whether it is `20261128T055244Z-000001`: a time, and a number of six digits or more.
fn is_stamp(text: &str) -> bool {
    let Some((time, number)) = text.split_once('-') else {
        return false;
    };
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_time = time.len() == 16 && time.is_ascii() && {
        let (day, clock) = (&time[..8], &time[9..15]);
        is_digits(day) && is_digits(clock) && &time[8..9] == "T" && time.ends_with('Z')
    };
    is_time && number.len() >= 6 && is_digits(number)
}

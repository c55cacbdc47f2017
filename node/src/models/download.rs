//! One file on its way here. What has come is kept in `NAME.part` beside the place of the file, and its beginning tells
//! of which version it is; a later download goes on from there where the version is still the same. The file gets its
//! name once it is whole and its digest is right.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use indicatif::{HumanBytes, ProgressBar};
use reqwest::header::CONTENT_RANGE;
use reqwest::{Response, StatusCode};
use sha2::{Digest as _, Sha256};

use super::hub::{Hub, HubError, Remote, innermost};
use super::name::Repository;
use crate::home;

/// Attempts for one file: a connection that breaks is made again as long as each one brought something.
const ATTEMPTS_MAX: usize = 5;
/// Read at once when a digest is taken of what is here.
const CHUNK: usize = 1 << 20;
/// The lock of a repository's folder, one process at a time.
pub(super) const LOCK: &str = ".lock";
/// Room that is left to others on the disk.
const SPARE_BYTES: u64 = 64 << 20;

/// Why a file did not come.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// The hub gave nothing.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// The disk is too small.
    #[error("`{}` has too little room: {} more are needed; free them, or use another `--home`", path.display(), HumanBytes(*.missing))]
    NoRoom {
        /// The folder.
        path: PathBuf,
        /// Bytes that are missing.
        missing: u64,
    },
    /// Another process downloads into the same folder.
    #[error("another download into `{}` is running: wait for it, or stop it", .0.display())]
    Busy(PathBuf),
    /// The connection broke again and again.
    #[error("the download of `{path}` broke off ({reason}): run the same again, and it goes on where it ended")]
    Broken {
        /// The file.
        path: String,
        /// What the connection said.
        reason: String,
    },
    /// What came is not what the hub promised.
    #[error("`{path}` came with another {what} than promised, and was thrown away: run the same again")]
    Wrong {
        /// The file.
        path: String,
        /// `SHA-256` or `length`.
        what: &'static str,
    },
    /// A file here could not be read or written.
    #[error("cannot write `{}`: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// A directory could not be made or synced.
    #[error(transparent)]
    Home(#[from] home::HomeError),
}

/// How a file came to be here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Came {
    /// It was here already, and is the same.
    WasThere,
    /// It was downloaded, the first bytes perhaps earlier.
    Downloaded,
}

/// Where files go.
#[derive(Debug, Clone)]
pub struct Folder {
    /// The repository's own folder.
    path: PathBuf,
    /// Tells how many bytes are free for it.
    free: fn(&Path) -> io::Result<u64>,
    _lock: std::sync::Arc<File>,
}

/// Bytes that a process like this one may still write where `path` is.
pub fn free(path: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(path)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> DownloadError {
    let path = path.to_owned();
    move |error| DownloadError::Io { path, error }
}

impl Folder {
    /// The folder of a repository below the directory of models, claimed for this process; `free` is [`free`].
    pub fn claim(
        models: &Path,
        repository: &Repository,
        free: fn(&Path) -> io::Result<u64>,
    ) -> Result<Self, DownloadError> {
        let path = models.join(repository.path());
        home::create_directory(&path)?;
        let lock = path.join(LOCK);
        let file = home::private_file()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock)
            .map_err(failed(&lock))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(DownloadError::Busy(path)),
            Err(TryLockError::Error(error)) => return Err(failed(&lock)(error)),
        }
        Ok(Self {
            path,
            free,
            _lock: std::sync::Arc::new(file),
        })
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Refuses what there is no room for: all of `files`, less what is here.
    pub fn check_room(&self, files: &[Remote]) -> Result<(), DownloadError> {
        let here = |file: &Remote| {
            let at = self.path.join(&file.path);
            let length = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
            length(&at).max(length(&Part::path(&at, file))).min(file.size)
        };
        let needed: u64 = files.iter().map(|file| file.size - here(file)).sum();
        let free = (self.free)(&self.path).map_err(failed(&self.path))?;
        match (needed + SPARE_BYTES).checked_sub(free) {
            Some(missing) if needed > 0 && missing > 0 => Err(DownloadError::NoRoom {
                path: self.path.clone(),
                missing,
            }),
            _ => Ok(()),
        }
    }

    /// Brings one file here, and tells `progress` its bytes.
    pub async fn fetch(
        &self,
        hub: &Hub,
        repository: &Repository,
        file: &Remote,
        progress: &ProgressBar,
    ) -> Result<Came, DownloadError> {
        let at = self.path.join(&file.path);
        progress.set_length(file.size);
        progress.set_position(0);
        if is_whole(&at, file)? {
            progress.set_position(file.size);
            return Ok(Came::WasThere);
        }
        if let Some(parent) = at.parent() {
            home::create_directory(parent)?;
        }
        remove_other_parts(&at, file)?;
        let mut part = Part::open(&at, file)?;
        for _ in 0..ATTEMPTS_MAX {
            let before = part.length;
            match part.receive(hub, repository, file, progress).await {
                Ok(()) => {
                    part.finish(&at, file)?;
                    return Ok(Came::Downloaded);
                }
                Err(DownloadError::Broken { .. }) if part.length > before => {}
                Err(error) => return Err(error),
            }
        }
        Err(DownloadError::Broken {
            path: file.path.clone(),
            reason: "again and again".to_owned(),
        })
    }
}

/// What has come of a file.
struct Part {
    path: PathBuf,
    file: File,
    digest: Sha256,
    length: u64,
}

impl Part {
    /// Where it is: the beginning of the version's id stands before the ending, so that another version is another file.
    fn path(at: &Path, file: &Remote) -> PathBuf {
        let version: String = file.oid.chars().filter(char::is_ascii_hexdigit).take(16).collect();
        let name = at.file_name().unwrap_or_default().to_string_lossy();
        at.with_file_name(format!("{name}.{version}.part"))
    }

    /// What came earlier, digested; or nothing.
    fn open(at: &Path, file: &Remote) -> Result<Self, DownloadError> {
        let path = Self::path(at, file);
        let mut open = home::private_file()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed(&path))?;
        let (mut digest, mut length) = digest(&mut open).map_err(failed(&path))?;
        if length > file.size {
            open.set_len(0).map_err(failed(&path))?;
            (digest, length) = (Sha256::new(), 0);
        }
        Ok(Self {
            path,
            file: open,
            digest,
            length,
        })
    }

    /// Asks for the rest and writes it down.
    async fn receive(
        &mut self,
        hub: &Hub,
        repository: &Repository,
        file: &Remote,
        progress: &ProgressBar,
    ) -> Result<(), DownloadError> {
        if self.length < file.size || file.size == 0 {
            let mut response = self.ask(hub, repository, file).await?;
            if self.length > 0 && !self.goes_on(&response, file) {
                self.restart()?;
                if response.status() != StatusCode::OK {
                    response = self.ask(hub, repository, file).await?;
                }
            }
            if self.length == 0 && response.status() != StatusCode::OK {
                return Err(HubError::Status(response.status().as_u16()).into());
            }
            progress.set_position(self.length);
            loop {
                let chunk = match response.chunk().await {
                    Ok(Some(chunk)) => chunk,
                    Ok(None) => break,
                    Err(error) => return Err(self.broken(file, innermost(&error))),
                };
                if self.length + chunk.len() as u64 > file.size {
                    return Err(self.wrong(file, "length"));
                }
                self.file.write_all(&chunk).map_err(failed(&self.path))?;
                self.digest.update(&chunk);
                self.length += chunk.len() as u64;
                progress.set_position(self.length);
            }
        }
        match self.length == file.size {
            true => Ok(()),
            false => Err(self.broken(file, "it ended early".to_owned())),
        }
    }

    /// Asks for what is missing.
    async fn ask(&self, hub: &Hub, repository: &Repository, file: &Remote) -> Result<Response, DownloadError> {
        match hub.content(repository, &file.path, self.length).await {
            Err(HubError::Broken(reason)) => Err(self.broken(file, reason)),
            asked => Ok(asked?),
        }
    }

    /// Whether the answer begins where this ends, and is of a file as long as it was promised.
    fn goes_on(&self, response: &Response, file: &Remote) -> bool {
        let range = response.headers().get(CONTENT_RANGE);
        let expected = format!("bytes {}-{}/{}", self.length, file.size - 1, file.size);
        response.status() == StatusCode::PARTIAL_CONTENT
            && range.is_some_and(|range| range.as_bytes() == expected.as_bytes())
    }

    fn restart(&mut self) -> Result<(), DownloadError> {
        let begun = self.file.set_len(0).and_then(|()| self.file.rewind());
        begun.map_err(failed(&self.path))?;
        (self.digest, self.length) = (Sha256::new(), 0);
        Ok(())
    }

    fn broken(&self, file: &Remote, reason: String) -> DownloadError {
        DownloadError::Broken {
            path: file.path.clone(),
            reason,
        }
    }

    /// Throws away what came: going on from it would end in the same way.
    fn wrong(&self, file: &Remote, what: &'static str) -> DownloadError {
        match fs::remove_file(&self.path) {
            Ok(()) => DownloadError::Wrong {
                path: file.path.clone(),
                what,
            },
            Err(error) => failed(&self.path)(error),
        }
    }

    /// Checks what came, puts it on disk and gives it its name.
    fn finish(self, at: &Path, file: &Remote) -> Result<(), DownloadError> {
        let found: [u8; 32] = self.digest.clone().finalize().into();
        if file.sha256.is_some_and(|promised| promised != found) {
            return Err(self.wrong(file, "SHA-256"));
        }
        self.file.sync_all().map_err(failed(&self.path))?;
        fs::rename(&self.path, at).map_err(failed(at))?;
        Ok(home::sync_directory(at.parent().unwrap_or(at))?)
    }
}

/// The digest of a file from its beginning, and its length. It stands at its end then.
fn digest(file: &mut File) -> io::Result<(Sha256, u64)> {
    let (mut digest, mut length) = (Sha256::new(), 0);
    let mut chunk = vec![0; CHUNK];
    file.seek(SeekFrom::Start(0))?;
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok((digest, length)),
            read => {
                digest.update(&chunk[..read]);
                length += read as u64;
            }
        }
    }
}

/// Whether the file is here as the hub has it.
fn is_whole(at: &Path, file: &Remote) -> Result<bool, DownloadError> {
    let mut open = match OpenOptions::new().read(true).open(at) {
        Ok(open) => open,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(failed(at)(error)),
    };
    if open.metadata().map_err(failed(at))?.len() != file.size {
        return Ok(false);
    }
    let Some(promised) = file.sha256 else {
        return Ok(true);
    };
    let (digest, _) = digest(&mut open).map_err(failed(at))?;
    let found: [u8; 32] = digest.finalize().into();
    Ok(found == promised)
}

/// Removes what came of other versions of the file.
fn remove_other_parts(at: &Path, file: &Remote) -> Result<(), DownloadError> {
    let (Some(folder), Some(name)) = (at.parent(), at.file_name()) else {
        return Ok(());
    };
    let (begins, ours) = (format!("{}.", name.to_string_lossy()), Part::path(at, file));
    for entry in fs::read_dir(folder).map_err(failed(folder))? {
        let path = entry.map_err(failed(folder))?.path();
        let found = path.file_name().unwrap_or_default().to_string_lossy();
        if found.starts_with(&begins) && found.ends_with(".part") && path != ours {
            fs::remove_file(&path).map_err(failed(&path))?;
        }
    }
    Ok(())
}

//! Files that a consumer has asked this node to keep: what it uploaded for a batch, and what came of it. Each is there
//! for its owner alone (mode 0600) and for a limited time.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::BatchError;
use crate::clock;
use crate::home;

/// Longest file, as at OpenAI.
pub const FILE_BYTES: u64 = 200 * 1024 * 1024;
/// How long a file is kept, in seconds: 30 days.
const KEPT: u64 = 30 * 24 * 3_600;
/// Most files that are kept at once.
const FILES_MAX: usize = 1_000;

/// What is known of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// `file-` and hex digits.
    pub id: String,
    /// Its length.
    pub bytes: u64,
    /// When it came, in Unix seconds.
    pub created_at: u64,
    /// What its owner calls it.
    pub filename: String,
    /// `batch` or `batch_output`.
    pub purpose: String,
}

impl Stored {
    /// OpenAI's file object.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "id": self.id, "object": "file", "bytes": self.bytes, "created_at": self.created_at,
            "expires_at": self.created_at.saturating_add(KEPT), "filename": self.filename, "purpose": self.purpose,
            "status": "processed", "status_details": null,
        })
    }
}

/// A folder of files.
#[derive(Clone, Debug)]
pub struct Files {
    folder: PathBuf,
}

/// A file that is being written. Dropped before it is kept, it never was.
#[derive(Debug)]
pub struct Draft {
    files: Files,
    id: String,
    file: File,
    bytes: u64,
    /// The most that it may have; what this node makes itself is as long as it is.
    limit: Option<u64>,
    kept: bool,
}

/// A new id.
pub(super) fn fresh(prefix: &str) -> String {
    format!("{prefix}{}", hex::encode(clock::entropy::<12>()))
}

/// Whether a name from outside can be an id; nothing else ever becomes a path.
pub(super) fn is_id(text: &str, prefix: &str) -> bool {
    let digits = text.strip_prefix(prefix);
    digits.is_some_and(|digits| digits.len() == 24 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

impl Files {
    pub(super) fn open(folder: PathBuf) -> Result<Self, BatchError> {
        home::create_directory(&folder)?;
        // Of a process that was killed: nobody writes here before the folder is open.
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "part") {
                fs::remove_file(path)?;
            }
        }
        Ok(Self { folder })
    }

    fn path(&self, id: &str, extension: &str) -> PathBuf {
        self.folder.join(format!("{id}.{extension}"))
    }

    /// Begins a file.
    pub fn draft(&self) -> Result<Draft, BatchError> {
        if self.list()?.len() >= FILES_MAX {
            return Err(BatchError::TooManyFiles(FILES_MAX));
        }
        let mut draft = self.draft_as(fresh("file-"))?;
        draft.limit = Some(FILE_BYTES);
        Ok(draft)
    }

    /// Begins a file of this node's own making, anew where it was begun before.
    pub(super) fn draft_as(&self, id: String) -> Result<Draft, BatchError> {
        let file = home::private_file()
            .write(true)
            .create(true)
            .truncate(true)
            .open(self.path(&id, "part"))?;
        Ok(Draft {
            files: self.clone(),
            id,
            file,
            bytes: 0,
            limit: None,
            kept: false,
        })
    }

    /// What is known of a file.
    pub fn get(&self, id: &str) -> Result<Stored, BatchError> {
        if !is_id(id, "file-") {
            return Err(BatchError::NoFile(id.to_owned()));
        }
        read_json(&self.path(id, "json"))?.ok_or_else(|| BatchError::NoFile(id.to_owned()))
    }

    /// Where its bytes are.
    pub fn content(&self, id: &str) -> Result<PathBuf, BatchError> {
        self.get(id).map(|stored| self.path(&stored.id, "data"))
    }

    /// All files, the latest first.
    pub fn list(&self) -> Result<Vec<Stored>, BatchError> {
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                // One that was taken away meanwhile is not there.
                all.extend(read_json::<Stored>(&path)?);
            }
        }
        all.sort_by(|a, b| (b.created_at, &b.id).cmp(&(a.created_at, &a.id)));
        Ok(all)
    }

    /// Takes a file away.
    pub fn remove(&self, id: &str) -> Result<(), BatchError> {
        let stored = self.get(id)?;
        fs::remove_file(self.path(&stored.id, "json"))?;
        fs::remove_file(self.path(&stored.id, "data"))?;
        Ok(())
    }

    /// Takes away what is too old.
    pub(super) fn expire(&self) -> Result<(), BatchError> {
        let now = clock::wall().0 / 1_000;
        for stored in self.list()? {
            if now.saturating_sub(stored.created_at) > KEPT {
                self.remove(&stored.id)?;
            }
        }
        Ok(())
    }
}

impl Draft {
    /// Adds bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), BatchError> {
        self.bytes += bytes.len() as u64;
        if self.limit.is_some_and(|limit| self.bytes > limit) {
            return Err(BatchError::TooLarge);
        }
        self.file.write_all(bytes)?;
        Ok(())
    }

    /// Keeps it under its name, durably.
    pub fn keep(mut self, filename: &str, purpose: &str) -> Result<Stored, BatchError> {
        self.file.sync_all()?;
        let stored = Stored {
            id: self.id.clone(),
            bytes: self.bytes,
            created_at: clock::wall().0 / 1_000,
            filename: filename.chars().filter(|c| !c.is_control()).take(256).collect(),
            purpose: purpose.to_owned(),
        };
        fs::rename(self.files.path(&self.id, "part"), self.files.path(&self.id, "data"))?;
        write_json(&self.files.path(&self.id, "json"), &stored)?;
        self.kept = true;
        Ok(stored)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::remove_file(self.files.path(&self.id, "part"));
        }
    }
}

pub(super) fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<Option<T>, BatchError> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|why| BatchError::Damaged {
                path: path.to_owned(),
                why: why.to_string(),
            }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), BatchError> {
    let text = serde_json::to_vec(value).map_err(|why| BatchError::Damaged {
        path: path.to_owned(),
        why: why.to_string(),
    })?;
    Ok(home::write_atomically(path, &text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_kept_found_listed_and_taken_away() {
        let home = crate::home::Home::temporary().unwrap();
        let files = Files::open(home.path().join("files")).unwrap();
        let mut draft = files.draft().unwrap();
        draft.write(b"{}\n").unwrap();
        let stored = draft.keep("in\u{7}put.jsonl", "batch").unwrap();
        assert_eq!((stored.bytes, stored.filename.as_str()), (3, "input.jsonl"));
        assert_eq!(files.get(&stored.id).unwrap(), stored);
        assert_eq!(fs::read(files.content(&stored.id).unwrap()).unwrap(), b"{}\n");
        drop(files.draft().unwrap());
        assert_eq!(files.list().unwrap().len(), 1);
        for strange in [
            "",
            "file-",
            "../../etc/passwd",
            "file-../../../../etc/passwd0",
            "file-0123456789abcdef0123456/",
        ] {
            assert!(matches!(files.get(strange), Err(BatchError::NoFile(_))), "{strange}");
        }
        files.remove(&stored.id).unwrap();
        assert!(matches!(files.get(&stored.id), Err(BatchError::NoFile(_))));
        assert_eq!(fs::read_dir(home.path().join("files")).unwrap().count(), 0);
    }
}

//! One batch on disk: what it is, and one line for each request that has come to its end.
//!
//! A line is appended when its request has ended, and one that a crash cut in half never counted. A request without a
//! line is run again, so every request has exactly one result, whatever is killed when.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::files::{read_json, write_json};
use super::input::{LineError, Place};
use super::{BatchError, files};
use crate::home;

/// Where a batch is, in OpenAI's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Its input is being checked.
    Validating,
    /// Its input is wrong.
    Failed,
    /// Its requests run.
    InProgress,
    /// Its results are being written.
    Finalizing,
    /// All is done.
    Completed,
    /// Its time was up first.
    Expired,
    /// What runs is being stopped.
    Cancelling,
    /// It was cancelled.
    Cancelled,
}

impl Status {
    /// Whether nothing will change any more.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Failed | Self::Completed | Self::Expired | Self::Cancelled)
    }
}

/// What a batch is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Batch {
    /// `batch_` and hex digits.
    pub id: String,
    /// The route of all its requests.
    pub endpoint: String,
    /// Its input.
    pub input_file_id: String,
    /// How long it may take, as it was asked for.
    pub completion_window: String,
    /// What its owner wrote beside it.
    pub metadata: Option<BTreeMap<String, String>>,
    /// Where it is.
    pub status: Status,
    /// What is wrong with its input.
    pub errors: Vec<LineError>,
    /// The files that its results are written to in the end; chosen when it began, so that a crash repeats nothing.
    pub output_file_id: String,
    /// The same for requests that failed.
    pub error_file_id: String,
    /// When it was made, in Unix seconds.
    pub created_at: u64,
    /// When it came to each status.
    pub times: BTreeMap<Status, u64>,
    /// When it is given up.
    pub expires_at: u64,
    /// Its requests.
    pub total: u32,
    /// Those with a result.
    pub completed: u32,
    /// Those that failed.
    pub failed: u32,
}

impl Batch {
    /// OpenAI's batch object.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let at = |status| self.times.get(&status);
        let done = matches!(self.status, Status::Completed | Status::Expired | Status::Cancelled);
        let errors = (!self.errors.is_empty()).then(|| json!({ "object": "list", "data": self.errors }));
        json!({
            "id": self.id, "object": "batch", "endpoint": self.endpoint, "errors": errors,
            "input_file_id": self.input_file_id, "completion_window": self.completion_window, "status": self.status,
            "output_file_id": (done && self.completed > 0).then_some(&self.output_file_id),
            "error_file_id": (done && self.failed > 0).then_some(&self.error_file_id),
            "created_at": self.created_at, "in_progress_at": at(Status::InProgress), "expires_at": self.expires_at,
            "finalizing_at": at(Status::Finalizing), "completed_at": at(Status::Completed), "failed_at": at(Status::Failed),
            "expired_at": at(Status::Expired), "cancelling_at": at(Status::Cancelling), "cancelled_at": at(Status::Cancelled),
            "request_counts": { "total": self.total, "completed": self.completed, "failed": self.failed },
            "metadata": self.metadata,
        })
    }
}

/// How one request ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Ended {
    /// Its place in the input, from 0.
    pub(super) item: u32,
    /// HTTP status of its answer.
    pub(super) status: u16,
    /// The line of the output.
    pub(super) line: Value,
}

impl Ended {
    fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// One batch's folder.
#[derive(Clone, Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn of(batches: &Path, id: &str) -> Self {
        Self(batches.join(id))
    }

    pub(super) fn create(&self) -> Result<(), BatchError> {
        Ok(home::create_directory(&self.0)?)
    }

    pub(super) fn batch(&self) -> Result<Option<Batch>, BatchError> {
        read_json(&self.0.join("batch.json"))
    }

    pub(super) fn keep(&self, batch: &Batch) -> Result<(), BatchError> {
        write_json(&self.0.join("batch.json"), batch)
    }

    pub(super) fn remove(&self) -> Result<(), BatchError> {
        Ok(fs::remove_dir_all(&self.0)?)
    }

    /// Opens the results, without a last line that was cut in half.
    pub(super) fn results(&self) -> Result<Results, BatchError> {
        let path = self.0.join("results.jsonl");
        let mut file = home::private_file().read(true).append(true).create(true).open(&path)?;
        let (mut places, mut end) = (BTreeMap::new(), 0_u64);
        let (mut completed, mut failed) = (0, 0);
        let mut reader = BufReader::new(&mut file);
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = reader.read_until(b'\n', &mut line)?;
            if read == 0 || line.last() != Some(&b'\n') {
                break;
            }
            let Ok(ended) = serde_json::from_slice::<Ended>(&line) else {
                break;
            };
            let place = Place {
                offset: end,
                length: read as u64,
            };
            if places.insert(ended.item, place).is_none() {
                *(if ended.is_success() {
                    &mut completed
                } else {
                    &mut failed
                }) += 1;
            }
            end += read as u64;
        }
        drop(reader);
        file.set_len(end)?;
        Ok(Results {
            file,
            end,
            places,
            completed,
            failed,
        })
    }
}

/// The results of a batch, as they come.
#[derive(Debug)]
pub(super) struct Results {
    file: File,
    end: u64,
    places: BTreeMap<u32, Place>,
    pub(super) completed: u32,
    pub(super) failed: u32,
}

impl Results {
    /// Whether a request has come to its end.
    pub(super) fn has(&self, item: u32) -> bool {
        self.places.contains_key(&item)
    }

    /// Adds a result; it survives the process when this returns.
    pub(super) fn add(&mut self, ended: &Ended) -> Result<(), BatchError> {
        let mut line = serde_json::to_vec(ended).map_err(io::Error::from)?;
        line.push(b'\n');
        if let Err(error) = self.file.write_all(&line) {
            // Half a line is no result, and the next one begins where this one did.
            self.file.set_len(self.end)?;
            return Err(error.into());
        }
        let place = Place {
            offset: self.end,
            length: line.len() as u64,
        };
        self.end += place.length;
        if self.places.insert(ended.item, place).is_none() {
            *(if ended.is_success() {
                &mut self.completed
            } else {
                &mut self.failed
            }) += 1;
        }
        Ok(())
    }

    /// Puts everything on disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Writes the results in the order of the input: those that succeeded, or those that failed.
    pub(super) fn write(&mut self, success: bool, mut to: files::Draft, name: &str) -> Result<(), BatchError> {
        let mut line = Vec::new();
        for place in self.places.values() {
            self.file.seek(SeekFrom::Start(place.offset))?;
            line.clear();
            io::Read::by_ref(&mut self.file)
                .take(place.length)
                .read_to_end(&mut line)?;
            let ended: Ended = serde_json::from_slice(&line).map_err(io::Error::from)?;
            if ended.is_success() == success {
                let mut text = serde_json::to_vec(&ended.line).map_err(io::Error::from)?;
                text.push(b'\n');
                to.write(&text)?;
            }
        }
        to.keep(name, "batch_output")?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(item: u32, status: u16) -> Ended {
        Ended {
            item,
            status,
            line: json!({ "custom_id": item.to_string() }),
        }
    }

    #[test]
    fn results_survive_a_torn_end_and_come_out_in_order() {
        let home = crate::home::Home::temporary().unwrap();
        let folder = Folder::of(home.path(), "batch_x");
        folder.create().unwrap();
        let mut results = folder.results().unwrap();
        for (item, status) in [(3, 200), (0, 200), (2, 400)] {
            results.add(&ended(item, status)).unwrap();
        }
        drop(results);
        let path = home.path().join("batch_x/results.jsonl");
        let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"item\":1,\"status\":200,\"li").unwrap();
        let mut results = folder.results().unwrap();
        assert!(!results.has(1) && results.has(3));
        assert_eq!((results.completed, results.failed), (2, 1));
        results.add(&ended(1, 200)).unwrap();

        let files = files::Files::open(home.path().join("files")).unwrap();
        let draft = files.draft().unwrap();
        results.write(true, draft, "out").unwrap();
        let stored = files.list().unwrap().remove(0);
        let text = fs::read_to_string(files.content(&stored.id).unwrap()).unwrap();
        let ids: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["custom_id"].clone())
            .collect();
        assert_eq!(ids, ["0", "1", "3"]);
    }
}

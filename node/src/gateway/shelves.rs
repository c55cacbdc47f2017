//! Whose files and batches are whose: the node's own, and for each key of the gateway a folder of its own.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};

use super::Shared;
use super::batches::FromFile;
use crate::batch::{BatchError, Batches};
use crate::runtime::{Tasks, unpoisoned};
use crate::spending::{Caller, CallerId};

/// All folders.
#[derive(Debug)]
pub(super) struct Shelves {
    folder: PathBuf,
    own: Batches,
    of_callers: Mutex<HashMap<CallerId, Batches>>,
    /// What batches run under, once they do.
    tasks: OnceLock<Tasks>,
}

impl Shelves {
    pub(super) fn open(folder: PathBuf) -> Result<Self, BatchError> {
        Ok(Self {
            own: Batches::open(folder.clone())?,
            folder,
            of_callers: Mutex::default(),
            tasks: OnceLock::new(),
        })
    }

    fn of_callers(&self) -> PathBuf {
        self.folder.join("callers")
    }

    /// Takes up what is not over. What the holder of a revoked key had begun stays where it is.
    pub(super) fn run(&self, shared: &Arc<Shared>, tasks: &Tasks) {
        let tasks = self.tasks.get_or_init(|| tasks.clone());
        self.own.run(Arc::new(FromFile::new(shared.clone(), None)), tasks);
        let folders = std::fs::read_dir(self.of_callers()).into_iter().flatten().flatten();
        for name in folders.map(|entry| entry.file_name()) {
            let mut id = [0; 16];
            let is_id = name
                .to_str()
                .is_some_and(|name| hex::decode_to_slice(name, &mut id).is_ok());
            let caller = is_id.then(|| shared.keys.caller(&CallerId(id))).flatten();
            if let Some(Err(error)) = caller.map(|caller| self.of(Some(caller), shared)) {
                tracing::warn!(%error, "the batches of a key cannot be taken up");
            }
        }
    }

    /// The folder of a caller, or of the node's own user.
    pub(super) fn of(&self, caller: Option<Caller>, shared: &Arc<Shared>) -> Result<Batches, BatchError> {
        let Some(caller) = caller else {
            return Ok(self.own.clone());
        };
        let mut of_callers = unpoisoned(&self.of_callers);
        if let Some(batches) = of_callers.get(&caller.id) {
            return Ok(batches.clone());
        }
        let batches = Batches::open(self.of_callers().join(hex::encode(caller.id.0)))?;
        if let Some(tasks) = self.tasks.get() {
            batches.run(Arc::new(FromFile::new(shared.clone(), Some(caller))), tasks);
        }
        of_callers.insert(caller.id, batches.clone());
        Ok(batches)
    }
}

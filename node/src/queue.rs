//! How this node's own consumers wait for slots of its engines: in the order in which they came, and before batches.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::futures::Notified;
use tokio::sync::{Mutex, MutexGuard, Notify};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    freed: Notify,
    line: Mutex<()>,
    line_of_batches: Mutex<()>,
    waiting: AtomicUsize,
}

impl Queue {
    /// A slot has come back.
    pub(crate) fn give_back(&self) {
        self.freed.notify_one();
    }

    /// Says once that a slot has come back.
    pub(crate) fn freed(&self) -> Notified<'_> {
        self.freed.notified()
    }

    /// Whether somebody waits who is no batch.
    pub(crate) fn has_somebody(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Waits for the turn to take the next slot, and has it until it is dropped.
    pub(crate) async fn turn(&self, is_batch: bool) -> Turn<'_> {
        let waiting = (!is_batch).then(|| Waiting::new(&self.waiting));
        let line = if is_batch { &self.line_of_batches } else { &self.line };
        Turn {
            _first: line.lock().await,
            _waiting: waiting,
        }
    }
}

/// Who is next.
pub(crate) struct Turn<'a> {
    _first: MutexGuard<'a, ()>,
    _waiting: Option<Waiting<'a>>,
}

/// Counts who waits.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

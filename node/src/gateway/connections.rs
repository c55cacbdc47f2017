//! The connections that are open, and which of them gives way when there are too many.
//!
//! A connection that waits, be it for a head, for a body or for its next request, costs its client nothing and this
//! process a place. Where all places are taken the one that has waited longest is closed; one whose request is whole and
//! is being answered stays.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::limits::CONNECTIONS_MAX;
use crate::runtime::unpoisoned;

/// How long a connection may wait even where all places are taken: a client on this machine has sent its request by then.
const GIVES_WAY_AFTER: Duration = Duration::from_secs(1);

/// All connections.
#[derive(Debug)]
pub(super) struct Connections {
    places: Arc<Semaphore>,
    open: Mutex<HashMap<u64, Open>>,
    next: AtomicU64,
    gives_way_after: Duration,
}

#[derive(Debug)]
struct Open {
    /// Since when it waits; nothing while it is answered, or once it was told to leave.
    waits_since: Option<Instant>,
    leave: CancellationToken,
}

impl Default for Connections {
    fn default() -> Self {
        Self::new(CONNECTIONS_MAX, GIVES_WAY_AFTER)
    }
}

impl Connections {
    fn new(places: usize, gives_way_after: Duration) -> Self {
        Self {
            places: Arc::new(Semaphore::new(places)),
            open: Mutex::default(),
            next: AtomicU64::new(0),
            gives_way_after,
        }
    }

    /// A place for one more, which another may have to leave first.
    pub(super) async fn place(self: &Arc<Self>) -> Place {
        loop {
            let permit = tokio::select! {
                biased;
                permit = Arc::clone(&self.places).acquire_owned() => permit,
                () = self.oldest_gives_way() => continue,
            };
            // The semaphore is never closed.
            let Ok(permit) = permit else {
                std::future::pending().await
            };
            return self.open(permit);
        }
    }

    fn open(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> Place {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let leave = CancellationToken::new();
        let open = Open {
            waits_since: Some(Instant::now()),
            leave: leave.clone(),
        };
        unpoisoned(&self.open).insert(number, open);
        Place {
            visitor: Visitor {
                connections: Arc::clone(self),
                number,
            },
            leave,
            _permit: permit,
        }
    }

    /// Ready when a connection was told to leave, or when it is time to look again.
    async fn oldest_gives_way(&self) {
        let oldest = unpoisoned(&self.open)
            .values()
            .filter_map(|open| open.waits_since)
            .min();
        let due = oldest.map_or(self.gives_way_after, |since| {
            self.gives_way_after.saturating_sub(since.elapsed())
        });
        tokio::time::sleep(due).await;
        let mut open = unpoisoned(&self.open);
        let waits = open.values_mut().filter(|open| open.waits_since.is_some());
        let longest = waits.min_by_key(|open| open.waits_since);
        if let Some(longest) = longest.filter(|open| {
            open.waits_since
                .is_some_and(|since| since.elapsed() >= self.gives_way_after)
        }) {
            longest.waits_since = None;
            longest.leave.cancel();
        }
    }

    fn waits(&self, number: u64, since: Option<Instant>) {
        if let Some(open) = unpoisoned(&self.open).get_mut(&number)
            && !open.leave.is_cancelled()
        {
            open.waits_since = since;
        }
    }
}

/// One connection's place, given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    visitor: Visitor,
    leave: CancellationToken,
    _permit: OwnedSemaphorePermit,
}

impl Place {
    /// What the requests of the connection carry.
    pub(super) fn visitor(&self) -> Visitor {
        self.visitor.clone()
    }

    /// Ready when the connection is to be closed for another.
    pub(super) async fn given_away(&self) {
        self.leave.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        unpoisoned(&self.visitor.connections.open).remove(&self.visitor.number);
    }
}

/// Which connection a request came on.
#[derive(Clone, Debug)]
pub(super) struct Visitor {
    connections: Arc<Connections>,
    number: u64,
}

impl Visitor {
    /// Its request is whole: it keeps its place until this is dropped.
    pub(super) fn answering(self) -> Answering {
        self.connections.waits(self.number, None);
        Answering(self)
    }
}

/// See [`Visitor::answering`].
#[derive(Debug)]
pub(super) struct Answering(Visitor);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.connections.waits(self.0.number, Some(Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATE: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn the_one_that_waits_longest_gives_way_and_one_that_answering_stays() {
        let connections = Arc::new(Connections::new(3, Duration::ZERO));
        let (answered, first, second) = (
            connections.place().await,
            connections.place().await,
            connections.place().await,
        );
        let answering = answered.visitor().answering();
        let leaves = async {
            first.given_away().await;
            assert!(!second.leave.is_cancelled() && !answered.leave.is_cancelled());
            drop(first);
        };
        let (_third, ()) = tokio::join!(connections.place(), leaves);
        drop(answering);
        let leaves = async {
            second.given_away().await;
            assert!(!answered.leave.is_cancelled(), "it waits for less long");
            drop(second);
        };
        let (_fourth, ()) = tokio::join!(connections.place(), leaves);
    }

    #[tokio::test]
    async fn nobody_gives_way_before_its_time() {
        let connections = Arc::new(Connections::new(1, LATE));
        let first = connections.place().await;
        let second = connections.place();
        assert!(futures::FutureExt::now_or_never(second).is_none());
        assert!(!first.leave.is_cancelled());
    }
}

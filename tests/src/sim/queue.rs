//! Events in the order of their time; those of one time in the order in which they were put in.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

struct Due<T> {
    key: Reverse<(u64, u64)>,
    what: T,
}

impl<T> PartialEq for Due<T> {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl<T> Eq for Due<T> {}

impl<T> PartialOrd for Due<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Due<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key.cmp(&other.key)
    }
}

/// The queue.
pub(super) struct Queue<T> {
    heap: BinaryHeap<Due<T>>,
    put: u64,
}

impl<T> Queue<T> {
    pub(super) fn new() -> Self {
        Self {
            heap: BinaryHeap::new(),
            put: 0,
        }
    }

    pub(super) fn put(&mut self, time: u64, what: T) {
        self.put += 1;
        self.heap.push(Due {
            key: Reverse((time, self.put)),
            what,
        });
    }

    pub(super) fn take(&mut self) -> Option<(u64, T)> {
        self.heap.pop().map(|due| (due.key.0.0, due.what))
    }
}

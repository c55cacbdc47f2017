//! Events in the order of their time; those of one millisecond in the order in which they were put in.
//!
//! A ring of slots of a millisecond each, since a heap of some hundred thousand events is what a run would spend its
//! time in; what lies beyond the ring waits in a map.

use std::collections::{BTreeMap, VecDeque};

/// Milliseconds that the ring spans: longer than any message travels.
const SPAN: u64 = 8_192;

/// The queue.
#[derive(Debug)]
pub(crate) struct Wheel<T> {
    now: u64,
    slots: Vec<VecDeque<T>>,
    near: usize,
    far: BTreeMap<u64, Vec<T>>,
}

impl<T> Wheel<T> {
    /// An empty queue whose clock stands at `now`.
    pub(crate) fn new(now: u64) -> Self {
        Self {
            now,
            slots: (0..SPAN).map(|_| VecDeque::new()).collect(),
            near: 0,
            far: BTreeMap::new(),
        }
    }

    fn slot(&mut self, time: u64) -> &mut VecDeque<T> {
        let place = usize::try_from(time % SPAN).unwrap_or(0);
        &mut self.slots[place]
    }

    /// Puts an event in; one of the past happens now.
    pub(crate) fn put(&mut self, time: u64, what: T) {
        let time = time.max(self.now);
        if time < self.now + SPAN {
            self.near += 1;
            self.slot(time).push_back(what);
        } else {
            self.far.entry(time).or_default().push(what);
        }
    }

    /// The next event at or before `end`, with its time.
    pub(crate) fn take(&mut self, end: u64) -> Option<(u64, T)> {
        loop {
            let now = self.now;
            if let Some(what) = self.slot(now).pop_front() {
                self.near -= 1;
                return Some((now, what));
            }
            let next = match (self.near, self.far.keys().next()) {
                (0, None) => end + 1,
                (0, Some(first)) => *first,
                _ => now + 1,
            };
            if next > end {
                return None;
            }
            self.now = next;
            while let Some(first) = self.far.first_entry().filter(|first| *first.key() < next + SPAN) {
                let (time, events) = first.remove_entry();
                self.near += events.len();
                self.slot(time).extend(events);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_in_the_order_of_their_time_however_far_it_is() {
        let mut wheel = Wheel::new(0);
        for (time, what) in [
            (5, 'b'),
            (SPAN * 3, 'e'),
            (5, 'c'),
            (0, 'a'),
            (SPAN, 'd'),
            (SPAN * 9, 'f'),
        ] {
            wheel.put(time, what);
        }
        let mut order = String::new();
        while let Some((_, what)) = wheel.take(SPAN * 4) {
            order.push(what);
        }
        assert_eq!(order, "abcde");
        wheel.put(1, 'g');
        assert_eq!(wheel.take(u64::MAX / 2), Some((SPAN * 3, 'g')));
        assert_eq!(wheel.take(u64::MAX / 2), Some((SPAN * 9, 'f')));
        assert_eq!(wheel.take(u64::MAX / 2), None);
    }
}

//! A batch in chunks: which is run next, which again, and which is given up. Implements the states and the back-off of
//! IPIP-0013: queued, running, done, failed, failed for good; three more tries, after 1, 5 and 25 seconds.

use std::time::{Duration, Instant};

/// Requests of one chunk: as many as a provider is busy with for some seconds.
pub(super) const ITEMS: usize = 64;
/// Pauses before each further try.
const BACK_OFF: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(25)];
/// Pause where nobody could be asked, which is no failure of the chunk.
const NOBODY: Duration = Duration::from_secs(1);

/// Where a chunk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It may run from then on.
    Queued(Instant),
    Running,
    Done,
}

#[derive(Debug)]
struct Chunk {
    items: Vec<u32>,
    failures: usize,
    state: State,
}

/// What became of a run of a chunk.
#[derive(Debug, Default)]
pub(super) struct Run {
    /// Requests that failed in a way that another provider may not.
    pub(super) failed: Vec<u32>,
    /// Requests that found nobody to ask.
    pub(super) unasked: Vec<u32>,
}

/// All chunks of a batch.
#[derive(Debug)]
pub(super) struct Chunks(Vec<Chunk>);

impl Chunks {
    /// Cuts what is left to do.
    pub(super) fn new(items: impl IntoIterator<Item = u32>, now: Instant) -> Self {
        let items: Vec<u32> = items.into_iter().collect();
        let chunks = items.chunks(ITEMS).map(|items| Chunk {
            items: items.to_vec(),
            failures: 0,
            state: State::Queued(now),
        });
        Self(chunks.collect())
    }

    /// The next chunk to run: its number and its requests.
    pub(super) fn next(&mut self, now: Instant) -> Option<(usize, Vec<u32>)> {
        let ready = |chunk: &Chunk| matches!(chunk.state, State::Queued(at) if at <= now);
        let number = self.0.iter().position(ready)?;
        self.0[number].state = State::Running;
        Some((number, self.0[number].items.clone()))
    }

    /// A chunk has run. Gives the requests that are given up.
    pub(super) fn ran(&mut self, number: usize, run: Run, now: Instant) -> Vec<u32> {
        let chunk = &mut self.0[number];
        if run.failed.is_empty() && run.unasked.is_empty() {
            chunk.state = State::Done;
            return Vec::new();
        }
        let mut pause = NOBODY;
        let mut given_up = Vec::new();
        chunk.items = run.unasked;
        if !run.failed.is_empty() {
            match BACK_OFF.get(chunk.failures) {
                Some(back_off) => {
                    pause = *back_off;
                    chunk.items.extend(run.failed);
                }
                None => given_up = run.failed,
            }
            chunk.failures += 1;
        }
        chunk.state = match chunk.items.is_empty() {
            true => State::Done,
            false => State::Queued(now + pause),
        };
        given_up
    }

    /// When the next chunk may run, where none may now.
    pub(super) fn wakes(&self) -> Option<Instant> {
        let queued = self.0.iter().filter_map(|chunk| match chunk.state {
            State::Queued(at) => Some(at),
            _ => None,
        });
        queued.min()
    }

    /// Whether nothing is left to do.
    pub(super) fn is_done(&self) -> bool {
        self.0.iter().all(|chunk| chunk.state == State::Done)
    }

    /// Requests that have neither run to an end nor were given up.
    pub(super) fn left(&self) -> impl Iterator<Item = u32> {
        let open = self.0.iter().filter(|chunk| chunk.state != State::Done);
        open.flat_map(|chunk| chunk.items.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn failing(failed: &[u32]) -> Run {
        Run {
            failed: failed.to_vec(),
            unasked: Vec::new(),
        }
    }

    #[test]
    fn a_chunk_is_tried_three_times_more_with_growing_pauses() {
        let mut now = Instant::now();
        let mut chunks = Chunks::new(0..2, now);
        for pause in [1, 5, 25] {
            let (number, items) = chunks.next(now).unwrap();
            assert!(chunks.next(now).is_none(), "it runs");
            assert!(items.contains(&1));
            assert!(chunks.ran(number, failing(&[1]), now).is_empty());
            assert!(chunks.next(now).is_none());
            assert_eq!(chunks.wakes(), Some(now + Duration::from_secs(pause)));
            now += Duration::from_secs(pause);
        }
        let (number, items) = chunks.next(now).unwrap();
        assert_eq!(items, [1], "what succeeded is not run again");
        assert_eq!(chunks.ran(number, failing(&[1]), now), [1]);
        assert!(chunks.is_done());
    }

    #[test]
    fn waiting_for_somebody_is_no_failure() {
        let mut now = Instant::now();
        let mut chunks = Chunks::new(0..1, now);
        for _ in 0..100 {
            let (number, items) = chunks.next(now).unwrap();
            let run = Run {
                failed: Vec::new(),
                unasked: items,
            };
            assert!(chunks.ran(number, run, now).is_empty());
            now += NOBODY;
        }
        assert!(!chunks.is_done());
    }

    proptest! {
        /// Whatever fails, every request comes to exactly one end.
        #[test]
        fn every_request_ends_once(count in 1..300_u32, fates in prop::collection::vec(0..3_u8, 1..50)) {
            let mut now = Instant::now();
            let mut chunks = Chunks::new(0..count, now);
            let mut ends = vec![0; count as usize];
            let mut fate = fates.iter().cycle();
            let mut rounds = 0;
            while !chunks.is_done() {
                rounds += 1;
                let Some((number, items)) = chunks.next(now) else {
                    now = chunks.wakes().unwrap();
                    continue;
                };
                let mut run = Run::default();
                for item in items {
                    // After a while everything succeeds, as what nobody can be asked is asked for ever.
                    match if rounds > 200 { 0 } else { *fate.next().unwrap() } {
                        0 => ends[item as usize] += 1,
                        1 => run.failed.push(item),
                        _ => run.unasked.push(item),
                    }
                }
                for item in chunks.ran(number, run, now) {
                    ends[item as usize] += 1;
                }
            }
            prop_assert!(ends.iter().all(|ends| *ends == 1));
            prop_assert_eq!(chunks.left().count(), 0);
        }
    }
}

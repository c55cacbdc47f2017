//! One thread that several jobs share, one step each in turn. At most so many run and as many wait; what comes beyond
//! is refused at once. A job that cannot go on now is passed over, one whose reader is gone ends before its next step,
//! and a thread with nothing to do sleeps until somebody wakes it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{JoinHandle, Thread};

use tokio::sync::watch;

use crate::error::Refusal;

/// Requests that wait for a slot, for each slot: enough to start the next one without a pause, few enough that a
/// caller who would wait long is told to go elsewhere.
const QUEUED_PER_SLOT: usize = 1;

/// A job that has a slot.
pub(crate) trait Turn: Sized + 'static {
    /// What all jobs work with.
    type Model: Clone + Send + 'static;
    /// A request on its way to the thread.
    type Job: Send + 'static;

    /// Gives a job its slot. The admission is to be dropped when the job is over.
    fn begin(model: &Self::Model, job: Self::Job, admission: Admission) -> Self;
    /// Whether nobody waits for it any more.
    fn is_abandoned(&self) -> bool;
    /// Whether it may take a step now.
    fn has_room(&self) -> bool;
    /// Goes one step; false when that was the last.
    fn step(&mut self, model: &Self::Model) -> bool;
}

/// Counts a request from admission to its end, however it ends.
#[derive(Debug)]
pub(crate) struct Admission(watch::Sender<usize>);

impl Admission {
    fn new(count: &watch::Sender<usize>, most: usize) -> Option<Self> {
        let one_more = |n: &mut usize| {
            let is_free = *n < most;
            *n += usize::from(is_free);
            is_free
        };
        count.send_if_modified(one_more).then(|| Self(count.clone()))
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.0.send_modify(|n| *n -= 1);
    }
}

/// The thread, for those who bring jobs. Dropping it ends all jobs and waits for the step that runs.
pub(crate) struct Turns<T: Turn> {
    slots: usize,
    admitted: watch::Sender<usize>,
    stopping: Arc<AtomicBool>,
    jobs: SyncSender<(T::Job, Admission)>,
    thread: Option<JoinHandle<()>>,
}

impl<T: Turn> fmt::Debug for Turns<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turns")
            .field("slots", &self.slots)
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}

impl<T: Turn> Turns<T> {
    /// Starts the thread. `slots` jobs run at once (at least one).
    pub(crate) fn start(model: T::Model, slots: usize) -> Result<Self, std::io::Error> {
        let slots = slots.max(1);
        let (jobs, incoming) = sync_channel(slots * (1 + QUEUED_PER_SLOT));
        let stopping = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stopping);
        // What runs is made on the thread, so that nothing of it need be able to change threads.
        let work = move || {
            let (running, stopping) = (VecDeque::new(), stopped);
            Rounds::<T> {
                model,
                slots,
                incoming,
                stopping,
                running,
            }
            .run();
        };
        let thread = std::thread::Builder::new().name("engine".to_owned()).spawn(work)?;
        Ok(Self {
            slots,
            admitted: watch::Sender::new(0),
            stopping,
            jobs,
            thread: Some(thread),
        })
    }

    /// Jobs that can run at once.
    pub(crate) fn slots(&self) -> usize {
        self.slots
    }

    /// Jobs that run or wait now.
    pub(crate) fn in_flight(&self) -> usize {
        *self.admitted.borrow()
    }

    /// Returns once no job runs or waits.
    pub(crate) async fn rest(&self) {
        // The sender is ours, so this ends by the count alone.
        let _ = self.admitted.subscribe().wait_for(|n| *n == 0).await;
    }

    /// Brings a job, and gives the thread to be unparked when its reader has read or gone.
    pub(crate) fn submit(&self, job: T::Job) -> Result<Thread, Refusal> {
        let most = self.slots * (1 + QUEUED_PER_SLOT);
        let admission = Admission::new(&self.admitted, most).ok_or(Refusal::Busy { slots: self.slots })?;
        let thread = self.thread.as_ref().ok_or(Refusal::Stopped)?.thread().clone();
        self.jobs.try_send((job, admission)).map_err(|_| Refusal::Stopped)?;
        thread.unpark();
        Ok(thread)
    }
}

impl<T: Turn> Drop for Turns<T> {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A panic of the thread has been logged by it; there is nothing left to undo.
            let _ = thread.join();
        }
    }
}

/// The thread's loop.
struct Rounds<T: Turn> {
    model: T::Model,
    slots: usize,
    incoming: Receiver<(T::Job, Admission)>,
    stopping: Arc<AtomicBool>,
    running: VecDeque<T>,
}

impl<T: Turn> Rounds<T> {
    fn run(mut self) {
        while !self.stopping.load(Ordering::Acquire) {
            // Whoever brings a job, reads, drops a reader or the thread's owner unparks this thread. A token that comes
            // before `park` makes it return at once, so nothing is missed.
            if !self.round() {
                std::thread::park();
            }
        }
    }

    /// One step of each job that can take one; whether anything was done, so that there may be more to do.
    fn round(&mut self) -> bool {
        self.running.retain(|turn| !turn.is_abandoned());
        while self.running.len() < self.slots {
            let Ok((job, admission)) = self.incoming.try_recv() else {
                break;
            };
            self.running.push_back(T::begin(&self.model, job, admission));
        }
        let mut active = false;
        for _ in 0..self.running.len() {
            let Some(mut turn) = self.running.pop_front() else {
                break;
            };
            if turn.is_abandoned() || self.stopping.load(Ordering::Acquire) {
                // Its slot is free, and a job that waits for one brings no word of its own.
                active = true;
                continue;
            }
            if !turn.has_room() {
                self.running.push_back(turn);
                continue;
            }
            active = true;
            if turn.step(&self.model) {
                self.running.push_back(turn);
            }
        }
        active
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::sync::Mutex;

    use super::*;

    type Log = Arc<Mutex<Vec<(char, u32)>>>;

    /// A job that writes each of its steps down.
    struct Counted {
        name: char,
        steps: u32,
        done: u32,
        gone: Arc<AtomicBool>,
        _admission: Admission,
    }

    impl Turn for Counted {
        type Model = Log;
        type Job = (char, u32, Arc<AtomicBool>);

        fn begin(_: &Log, (name, steps, gone): Self::Job, admission: Admission) -> Self {
            let (done, _admission) = (0, admission);
            Self {
                name,
                steps,
                done,
                gone,
                _admission,
            }
        }

        fn is_abandoned(&self) -> bool {
            self.gone.load(Ordering::Acquire)
        }

        fn has_room(&self) -> bool {
            true
        }

        fn step(&mut self, log: &Log) -> bool {
            self.done += 1;
            log.lock().unwrap().push((self.name, self.done));
            self.done < self.steps
        }
    }

    #[test]
    fn jobs_take_turns_and_one_that_nobody_waits_for_takes_none() {
        let (jobs, incoming) = sync_channel(8);
        let (log, count) = (Log::default(), watch::Sender::new(0_usize));
        let gone: [Arc<AtomicBool>; 3] = Default::default();
        for (index, (name, steps)) in [('a', 100), ('b', 2), ('c', 2)].into_iter().enumerate() {
            let admission = Admission::new(&count, 3).unwrap();
            jobs.try_send(((name, steps, Arc::clone(&gone[index])), admission))
                .unwrap();
        }
        assert!(Admission::new(&count, 3).is_none(), "no more than so many are let in");
        let mut rounds = Rounds::<Counted> {
            model: Arc::clone(&log),
            slots: 2,
            incoming,
            stopping: Arc::default(),
            running: VecDeque::new(),
        };
        assert!((0..4).all(|_| rounds.round()));
        let expected = [
            ('a', 1),
            ('b', 1),
            ('a', 2),
            ('b', 2),
            ('a', 3),
            ('c', 1),
            ('a', 4),
            ('c', 2),
        ];
        assert_eq!(
            *log.lock().unwrap(),
            expected,
            "a short job ends while a long one goes on"
        );
        assert_eq!(*count.borrow(), 1);
        gone[0].store(true, Ordering::Release);
        assert!(!rounds.round());
        assert_eq!(*count.borrow(), 0);
        assert_eq!(log.lock().unwrap().len(), expected.len());

        // One that was gone before it began leaves its slot to the next, with nobody to wake the thread again.
        rounds.slots = 1;
        for _ in 0..2 {
            let admission = Admission::new(&count, 3).unwrap();
            jobs.try_send((('d', 1, Arc::clone(&gone[0])), admission)).unwrap();
        }
        while rounds.round() {}
        assert_eq!(*count.borrow(), 0);
    }
}

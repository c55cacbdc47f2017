//! The only place that spawns. Every task belongs to a `Tasks`, is cancelled by it and drained with a deadline.
//!
//! `cancel` only asks: a task watches `cancelled()` and ends by itself, so that it can finish what it owes others. What
//! has not ended by the deadline of `drain` is dropped and named in the log. A panic in any task is logged with the
//! task's name and ends the whole node in order, since what depends on that task would wait forever.

use std::num::NonZero;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Most threads that run the node's tasks: two carry more streams than the engines of one machine give.
const WORKER_THREADS: usize = 2;
/// Threads for blocking work (file systems, name look-ups): enough that one slow disk does not stop the others.
const BLOCKING_THREADS: usize = 16;

/// Locks what a panic elsewhere leaves whole, since every change to it is one call.
pub(crate) fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An owner of tasks. Clones are the same owner; a `child` is a smaller one inside.
#[derive(Clone, Debug)]
pub struct Tasks {
    /// Asks the tasks of this owner, and of its children, to end.
    cancel: CancellationToken,
    /// Drops whatever runs on after the deadline.
    kill: CancellationToken,
    /// Asks everything to end, whichever child a failure came from.
    root: CancellationToken,
    /// This owner's tracker and those of its ancestors, which drain its tasks too.
    trackers: Vec<TaskTracker>,
    failure: Arc<Mutex<Option<String>>>,
}

impl Default for Tasks {
    fn default() -> Self {
        Self::new()
    }
}

impl Tasks {
    /// An owner of no tasks yet.
    #[must_use]
    pub fn new() -> Self {
        let root = CancellationToken::new();
        Self {
            cancel: root.clone(),
            kill: CancellationToken::new(),
            root,
            trackers: vec![TaskTracker::new()],
            failure: Arc::default(),
        }
    }

    /// An owner inside this one: cancelled with it, and able to be cancelled and drained alone.
    #[must_use]
    pub fn child(&self) -> Self {
        let mut trackers = vec![TaskTracker::new()];
        trackers.extend(self.trackers.iter().cloned());
        Self {
            cancel: self.cancel.child_token(),
            kill: self.kill.child_token(),
            root: self.root.clone(),
            trackers,
            failure: Arc::clone(&self.failure),
        }
    }

    /// Runs `future` under this owner. The task should end when `cancelled()` says so; its handle may be dropped.
    pub fn spawn<F>(&self, name: &'static str, future: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let held: Vec<_> = self.trackers.iter().map(TaskTracker::token).collect();
        let (kill, root, failure) = (self.kill.clone(), self.root.clone(), Arc::clone(&self.failure));
        // A large future is moved once, and not through each of those that hold it.
        let future = Box::pin(future);
        let task = async move {
            let _held = held;
            tokio::select! {
                biased;
                ended = AssertUnwindSafe(future).catch_unwind() => {
                    if let Err(panic) = ended {
                        let what = panic_text(panic.as_ref());
                        tracing::error!(task = name, "task panicked: {what}; the node shuts down");
                        lock(&failure).get_or_insert_with(|| format!("task `{name}` panicked: {what}"));
                        root.cancel();
                    }
                }
                () = kill.cancelled() => {
                    tracing::warn!(task = name, "task did not end in time and was dropped");
                }
            }
        };
        #[expect(clippy::disallowed_methods, reason = "this is the runtime that cancels and drains")]
        tokio::spawn(task)
    }

    /// Runs `future` under this owner and drops it as soon as it is cancelled: for tasks that owe nobody anything.
    pub fn spawn_until_cancelled<F>(&self, name: &'static str, future: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let cancel = self.cancel.clone();
        self.spawn(name, async move {
            cancel.run_until_cancelled(future).await;
        })
    }

    /// Asks every task of this owner and its children to end.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Asks every task of the whole tree to end, whichever child this is.
    pub fn shut_down(&self) {
        self.root.cancel();
    }

    /// Whether `cancel` was called, here or above.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }

    /// Completes once `cancel` was called, here or above.
    pub async fn cancelled(&self) {
        self.cancel.cancelled().await;
    }

    /// The token behind `cancelled`, for code that takes one.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.cancel.clone()
    }

    /// Asks every task of the whole tree to end, since the process cannot go on; `why` is what a person is told.
    pub fn fail(&self, why: String) {
        lock(&self.failure).get_or_insert(why);
        self.root.cancel();
    }

    /// What made a task panic or the node give up, if anything did.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        lock(&self.failure).clone()
    }

    /// Cancels, then waits for all tasks; those still running after `deadline` are dropped. Whether all ended by
    /// themselves.
    pub async fn drain(&self, deadline: Duration) -> bool {
        self.cancel();
        let Some(tracker) = self.trackers.first() else {
            return true;
        };
        tracker.close();
        if tokio::time::timeout(deadline, tracker.wait()).await.is_ok() {
            return true;
        }
        self.kill.cancel();
        tracker.wait().await;
        false
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

/// Threads for the node's tasks: of the processors half at most, as the engine or the programs of the user are here too.
/// On a small machine that is one; a second would only displace it, woken whenever a request goes from task to task.
fn worker_threads() -> usize {
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    (processors / 2).clamp(1, WORKER_THREADS)
}

/// The process's one executor.
pub fn executor() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(worker_threads())
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_name("infernet")
        .enable_all()
        .build()
}

/// What asked the process to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Ctrl-C at a terminal.
    Interrupt,
    /// `infernet stop`, or a service manager.
    Terminate,
}

/// Signals to this process, from the moment this is made: one that comes while nobody waits is told later.
#[derive(Debug)]
pub struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    /// From now on signals end nothing by themselves.
    pub fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// The next one. Safe to drop before it is ready.
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::Interrupt,
            _ = self.terminate.recv() => Signal::Terminate,
        }
    }
}

/// Completes when the process is asked to end.
pub async fn signal() -> std::io::Result<Signal> {
    Ok(Signals::new()?.next().await)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    const SOON: Duration = Duration::from_millis(20);
    const LATE: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn tasks_end_when_asked() {
        let tasks = Tasks::new();
        let (done, seen) = oneshot::channel();
        let watch = tasks.clone();
        tasks.spawn("polite", async move {
            watch.cancelled().await;
            let _ = done.send(());
        });
        assert!(tasks.drain(LATE).await);
        assert!(seen.await.is_ok());
    }

    #[tokio::test]
    async fn a_task_that_does_not_end_is_dropped() {
        let tasks = Tasks::new();
        let (held, dropped) = oneshot::channel::<()>();
        tasks.spawn("stubborn", async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        assert!(!tasks.drain(SOON).await);
        assert!(dropped.await.is_err(), "the future was dropped");
    }

    #[tokio::test]
    async fn a_child_ends_alone_and_a_parent_drains_it() {
        let tasks = Tasks::new();
        let child = tasks.child();
        let watch = child.clone();
        child.spawn("child", async move { watch.cancelled().await });
        assert!(child.drain(LATE).await);
        assert!(!tasks.is_cancelled());
        let other = tasks.child();
        other.spawn("stubborn", std::future::pending());
        assert!(!tasks.drain(SOON).await, "the parent waited for its child's task");
        assert!(other.is_cancelled());
    }

    #[tokio::test]
    async fn a_panic_is_named_and_ends_everything() {
        let tasks = Tasks::new();
        tasks.child().spawn("clumsy", async { panic!("dropped the cup") });
        tasks.cancelled().await;
        assert_eq!(
            tasks.failure().as_deref(),
            Some("task `clumsy` panicked: dropped the cup")
        );
    }
}

//! Records from inside a running node: a bounded queue and a thread of its own, so that a slow disk never slows gossip.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use infernet_protocol::UnixMillis;

use super::{WriteError, Writer};
use crate::record::{Body, Lost, Record};

/// Records that wait for the disk: at 16 KiB for the largest, 16 MiB, and some ten seconds of a busy network.
const QUEUE: usize = 1_024;
/// Between two looks at whether what has gathered is due.
const LOOK: Duration = Duration::from_millis(500);
/// Longest wait for the disk when the node stops.
const LAST_SYNC: Duration = Duration::from_secs(5);

/// Takes records and never waits. Dropped, it writes what is left.
#[derive(Debug)]
pub struct Recorder {
    queue: Option<SyncSender<Order>>,
    shared: Arc<Shared>,
    /// Says how it ended, once it has.
    ended: Receiver<Result<(), WriteError>>,
}

/// What the thread does next.
#[derive(Debug)]
enum Order {
    Write(Record),
    /// Into another file from here on.
    Rotate,
}

#[derive(Debug, Default)]
struct Shared {
    lost: AtomicU64,
    has_stopped: AtomicBool,
}

impl Recorder {
    /// Starts the thread.
    ///
    /// # Errors
    /// What the system says when it has no thread to give.
    pub fn start(writer: Writer) -> std::io::Result<Self> {
        Self::with_queue(writer, QUEUE)
    }

    fn with_queue(writer: Writer, bound: usize) -> std::io::Result<Self> {
        let (queue, orders) = sync_channel(bound);
        let (end, ended) = sync_channel(1);
        let shared = Arc::new(Shared::default());
        let held = Arc::clone(&shared);
        std::thread::Builder::new().name("recorder".to_owned()).spawn(move || {
            let outcome = run(writer, &orders, &held);
            held.has_stopped.store(true, Ordering::Release);
            if let Err(error) = &outcome {
                tracing::error!("recording has stopped, and all else goes on: {error}");
            }
            let _gone = end.send(outcome);
        })?;
        Ok(Self {
            queue: Some(queue),
            shared,
            ended,
        })
    }

    /// Takes a record, or counts it as lost where the queue is full or recording has stopped.
    pub fn take(&self, record: Record) {
        // The thread may be on its way out with its end of the queue still open.
        let queue = self.queue.as_ref().filter(|_| !self.has_stopped());
        if queue.is_none_or(|queue| queue.try_send(Order::Write(record)).is_err()) {
            self.shared.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Has what is taken from now on written into another file. A thread that is far behind goes on in the same one.
    pub fn begin_file(&self) {
        if let Some(queue) = &self.queue {
            let _behind = queue.try_send(Order::Rotate);
        }
    }

    /// Records lost so far.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    /// Whether the disk has put an end to it.
    #[must_use]
    pub fn has_stopped(&self) -> bool {
        self.shared.has_stopped.load(Ordering::Acquire)
    }

    /// Writes what is left, and says how it went. A disk that hangs is waited for for five seconds.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn finish(mut self) -> Result<(), WriteError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), WriteError> {
        if self.queue.take().is_none() {
            return Ok(());
        }
        match self.ended.recv_timeout(LAST_SYNC) {
            Ok(outcome) => outcome,
            Err(RecvTimeoutError::Timeout) => {
                tracing::warn!("the disk is too slow for the end of the recording");
                Ok(())
            }
            Err(RecvTimeoutError::Disconnected) => Ok(()),
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // The thread has said what went wrong.
        let _said = self.end();
    }
}

fn run(mut writer: Writer, orders: &Receiver<Order>, shared: &Shared) -> Result<(), WriteError> {
    let mut told = 0;
    loop {
        let record = match orders.recv_timeout(LOOK) {
            Ok(Order::Write(record)) => record,
            Ok(Order::Rotate) => {
                writer.rotate()?;
                continue;
            }
            Err(RecvTimeoutError::Timeout) => {
                if writer.is_due(now()) {
                    writer.sync()?;
                }
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return writer.finish(),
        };
        let lost = shared.lost.load(Ordering::Relaxed);
        if lost > told {
            let body = Body::Lost(Lost { records: lost - told });
            writer.write(&Record { at: record.at, body })?;
            told = lost;
        }
        writer.write(&record)?;
    }
}

fn now() -> UnixMillis {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(wall.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Sample;
    use crate::recording::{Limits, Reader, Session};

    fn sample(at: u64) -> Record {
        let body = Body::Sample(Sample {
            peers: 1,
            relayed: 0,
            ads: 0,
            mesh: None,
            round_trip: None,
        });
        Record {
            at: UnixMillis(at),
            body,
        }
    }

    fn writer(directory: &std::path::Path) -> Writer {
        let session = Session {
            network: "test".parse().unwrap(),
            recorder: [1; 16],
            recording: [2; 16],
            agent: "test/1".to_owned(),
            sample_every: infernet_protocol::Millis(0),
            is_publication: false,
        };
        Writer::create(directory, session, Limits::default()).unwrap()
    }

    #[test]
    fn what_was_taken_is_on_the_disk_when_it_ends() {
        let directory = tempfile::tempdir().unwrap();
        let recorder = Recorder::start(writer(directory.path())).unwrap();
        (0..100).for_each(|at| recorder.take(sample(at)));
        recorder.finish().unwrap();
        let records = Reader::open(&[directory.path()]).unwrap().map(Result::unwrap);
        assert_eq!(
            records.filter(|record| matches!(record.body, Body::Sample(_))).count(),
            100
        );
    }

    #[test]
    fn another_file_is_begun_when_it_is_asked_for_and_the_recording_goes_on() {
        let directory = tempfile::tempdir().unwrap();
        let recorder = Recorder::start(writer(directory.path())).unwrap();
        (0..3).for_each(|at| recorder.take(sample(at)));
        recorder.begin_file();
        recorder.begin_file();
        (3..5).for_each(|at| recorder.take(sample(at)));
        recorder.finish().unwrap();
        let files = std::fs::read_dir(directory.path())
            .unwrap()
            .map(|file| file.unwrap().path());
        let mut files: Vec<_> = files
            .filter(|path| path.extension().is_some_and(|end| end == "gz"))
            .collect();
        files.sort();
        let samples = files.iter().map(|file| {
            let records = Reader::open(&[file]).unwrap().map(Result::unwrap);
            records.filter(|record| matches!(record.body, Body::Sample(_))).count()
        });
        assert_eq!(samples.collect::<Vec<_>>(), [3, 2], "and none that is empty");
        let warnings = Reader::open(&[directory.path()]).map(|mut all| (all.by_ref().count(), all.warnings().len()));
        assert_eq!(warnings.unwrap().1, 0, "nothing is missing in between");
    }

    #[test]
    fn a_full_queue_loses_records_counts_them_and_says_so_in_the_recording() {
        let directory = tempfile::tempdir().unwrap();
        // A queue that holds none hands over only to a thread that waits at that moment.
        let recorder = Recorder::with_queue(writer(directory.path()), 0).unwrap();
        let mut taken = 0;
        let mut is_taken = || {
            let before = recorder.lost();
            recorder.take(sample(taken));
            taken += 1;
            recorder.lost() == before
        };
        while is_taken() {}
        // One that is taken tells of those that were not.
        while !is_taken() {}
        let lost = recorder.lost();
        recorder.finish().unwrap();
        let (mut kept, mut told) = (0, 0);
        for record in Reader::open(&[directory.path()]).unwrap() {
            match record.unwrap().body {
                Body::Sample(_) => kept += 1,
                Body::Lost(of) => told += of.records,
                _ => {}
            }
        }
        assert_eq!(kept + lost, taken);
        assert!(told > 0 && told <= lost, "{told} of {lost}");
    }

    #[test]
    fn a_disk_that_fails_ends_the_recording_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("recording");
        let recorder = Recorder::start(writer(&path)).unwrap();
        std::fs::remove_dir_all(&path).unwrap();
        recorder.take(sample(0));
        // Older than what may gather, so it is written now, or fails.
        recorder.take(sample(60_000));
        while !recorder.has_stopped() {
            std::thread::yield_now();
        }
        recorder.take(sample(60_001));
        assert_eq!(recorder.lost(), 1);
        assert!(
            recorder
                .finish()
                .unwrap_err()
                .to_string()
                .contains("name another directory")
        );
    }
}

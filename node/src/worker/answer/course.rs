//! What an engine makes of one request, frame by frame. It outlives the line that it goes out on: what may not have
//! arrived is kept for a buyer that comes back on another. What passes is counted and committed to; beyond what is kept
//! the text is gone.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt as _};
use infernet_inference::backend::{Backend, BackendError, ContentType, Counted, Piece, Usage};
use infernet_inference::watch::Watch;
use infernet_inference::{Answer, Job};
use infernet_protocol::codec::Text;
use infernet_protocol::names::PART_BYTES;
use infernet_protocol::receipt::Commitment;
use infernet_protocol::stream::frames::{self, Fail, FailCode, Head};
use infernet_protocol::{Digest, Millis};

use super::Ended;
use crate::worker::{fail, millis};

/// Bytes of frames that are kept in case they did not arrive: as much as may be under way, which is one Yamux window and
/// what waits before it.
const KEPT_BYTES: usize = 512 * 1024;
/// Bytes beyond that up to which the engine is read while nobody else reads: some thousands of tokens, and more than most
/// engines say in ten seconds.
const AHEAD_BYTES: usize = 1024 * 1024;

/// How far an answer was at one of its frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Commitment up to and including the frame.
    pub(crate) commitment: Digest,
    /// What had been delivered by then.
    pub(crate) usage: Usage,
}

/// What was delivered of an answer.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) began: Instant,
    commitment: Commitment,
    request_bytes: u64,
    watch: Option<Watch>,
    marks: Vec<Mark>,
    counted: Option<Usage>,
    first: Option<Millis>,
    kept: VecDeque<Bytes>,
    kept_bytes: usize,
}

impl Answered {
    pub(crate) fn new(commitment: Commitment, request_bytes: u64, began: Instant) -> Self {
        Self {
            began,
            commitment,
            request_bytes,
            watch: None,
            marks: Vec::new(),
            counted: None,
            first: None,
            kept: VecDeque::new(),
            kept_bytes: 0,
        }
    }

    /// Data frames made.
    pub(crate) fn frames(&self) -> u64 {
        self.marks.len() as u64
    }

    pub(crate) fn commitment(&self) -> Digest {
        self.commitment.digest()
    }

    pub(crate) fn ttft(&self) -> Millis {
        self.first.unwrap_or_default()
    }

    /// The engine's own count where it finished; of an answer cut short, what passed by.
    pub(crate) fn usage(&self) -> Usage {
        self.counted.unwrap_or_else(|| self.estimate())
    }

    /// How far the answer was at each frame, for a buyer that comes back too late for the rest.
    pub(crate) fn into_marks(self) -> Vec<Mark> {
        self.marks
    }

    /// The Data frames from `next` on, as bytes of frames; `None` where some of them are no longer kept.
    pub(crate) fn from(&self, next: u64) -> Option<impl Iterator<Item = &Bytes>> {
        let lacking = usize::try_from(self.frames().checked_sub(next)?).ok()?;
        let first = self.kept.len().checked_sub(lacking)?;
        Some(self.kept.range(first..))
    }

    /// What is kept, for a request that is over.
    pub(crate) fn into_kept(self) -> (u64, VecDeque<Bytes>) {
        (self.frames(), self.kept)
    }

    /// Whether more may be taken from the engine while nobody reads.
    pub(super) fn has_room(&self) -> bool {
        self.kept_bytes < KEPT_BYTES + AHEAD_BYTES
    }

    fn estimate(&self) -> Usage {
        match &self.watch {
            Some(watch) if !self.marks.is_empty() => Usage::estimated(self.request_bytes, watch.seen()),
            _ => Usage {
                input_tokens: 0,
                output_tokens: 0,
                counted: Counted::Estimated,
            },
        }
    }

    /// Makes Data frames of bytes, as many as they fill.
    fn add(&mut self, bytes: &Bytes, mut tokens: Option<Vec<u32>>) {
        for part in parts(bytes) {
            self.add_part(&part, tokens.take());
        }
    }

    fn add_part(&mut self, bytes: &Bytes, tokens: Option<Vec<u32>>) {
        let number = self.frames();
        self.first.get_or_insert_with(|| millis(self.began));
        self.commitment.add(number, bytes);
        if let Some(watch) = &mut self.watch {
            // An answer too long to be read is still delivered; its usage is then the engine's own word.
            let _ = watch.push(bytes);
        }
        self.marks.push(Mark {
            commitment: self.commitment.digest(),
            usage: Usage::default(),
        });
        let usage = self.estimate();
        if let Some(mark) = self.marks.last_mut() {
            mark.usage = usage;
        }
        let frame = Bytes::from(frames::data(number, bytes, tokens.as_deref()));
        self.kept_bytes += frame.len();
        self.kept.push_back(frame);
    }

    /// Lets go of what has surely arrived, now that somebody reads.
    pub(super) fn let_go(&mut self) {
        while self.kept_bytes > KEPT_BYTES
            && let Some(oldest) = self.kept.pop_front()
        {
            self.kept_bytes -= oldest.len();
        }
    }
}

/// The engine at work on a request.
pub(crate) struct Course {
    source: Source,
    head: Option<(u16, ContentType)>,
    /// How it ended, to be told again where the line was lost with the word.
    over: Option<Ended>,
}

enum Source {
    /// It has not answered yet.
    Asked(BoxFuture<'static, Result<Answer, BackendError>>),
    /// Pieces come.
    Comes(Answer),
    /// Nothing more comes.
    Over,
}

impl std::fmt::Debug for Course {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Course")
            .field("head", &self.head)
            .finish_non_exhaustive()
    }
}

impl Course {
    /// Asks the engine, once this is first stepped.
    pub(crate) fn new(backend: Arc<dyn Backend>, job: Job) -> Self {
        Self {
            source: Source::Asked(async move { backend.run(job).await }.boxed()),
            head: None,
            over: None,
        }
    }

    /// The Head frame, once the engine has answered.
    pub(crate) fn head(&self) -> Option<Head> {
        let (status, content_type) = self.head?;
        Some(Head {
            status,
            content_type: Text::lossy(content_type.as_str()),
        })
    }

    /// Whether there is a Head frame.
    pub(super) fn has_head(&self) -> bool {
        self.head.is_some()
    }

    /// Whether the engine is done.
    pub(super) fn is_over(&self) -> bool {
        self.over.is_some()
    }

    /// Files what the engine brings next, where that is still kept; how it ends is told by the next
    /// [`step`](Self::step).
    pub(super) async fn run_ahead(&mut self, answered: &mut Answered) {
        if !answered.has_room() || self.is_over() {
            return std::future::pending().await;
        }
        let _told_later = self.step(answered).await;
    }

    /// Waits for what the engine brings next, and files it; `Some` once that was the last. Safe to drop before it is
    /// ready.
    pub(super) async fn step(&mut self, answered: &mut Answered) -> Option<Ended> {
        if let Some(over) = &self.over {
            return Some(over.again());
        }
        let ended = match &mut self.source {
            Source::Asked(asked) => match asked.await {
                Ok(answer) => {
                    self.head = Some((answer.status, answer.content_type));
                    answered.watch = Some(Watch::new(answer.content_type));
                    self.source = Source::Comes(answer);
                    return None;
                }
                // An engine's own 4xx goes to the consumer as the engine wrote it, and costs nothing.
                Err(BackendError::Refused { status, body }) if (400..500).contains(&status) => {
                    self.head = Some((status, ContentType::Json));
                    answered.add(&body, None);
                    answered.counted = Some(Usage::default());
                    Ended::Completed
                }
                Err(error) => refusal(&error),
            },
            Source::Comes(answer) => match answer.next().await {
                Some(Ok(Piece::Data { bytes, tokens })) => {
                    answered.add(&bytes, tokens);
                    return None;
                }
                Some(Ok(Piece::Usage(usage))) => {
                    answered.counted = Some(usage);
                    return None;
                }
                Some(Err(error)) => refusal(&error),
                None => Ended::Completed,
            },
            Source::Over => Ended::Completed,
        };
        self.end(&ended);
        Some(ended)
    }

    /// Stops the engine: nothing more comes, and this is how it ended.
    pub(super) fn end(&mut self, ended: &Ended) {
        self.source = Source::Over;
        self.over.get_or_insert_with(|| ended.again());
    }
}

fn refusal(error: &BackendError) -> Ended {
    let code = match error {
        BackendError::Busy { .. } => FailCode::Busy,
        BackendError::Timeout(_) => FailCode::Timeout,
        BackendError::Unsupported(_) => FailCode::Request,
        _ => FailCode::Engine,
    };
    Ended::Refused(Fail {
        retryable: error.is_retryable(),
        ..fail(code, &error.to_string())
    })
}

/// Cuts what is too long for one frame.
fn parts(bytes: &Bytes) -> impl Iterator<Item = Bytes> {
    let bytes = bytes.clone();
    (0..bytes.len().div_ceil(PART_BYTES)).map(move |part| {
        let start = part * PART_BYTES;
        bytes.slice(start..bytes.len().min(start + PART_BYTES))
    })
}

#[cfg(test)]
mod tests {
    use infernet_inference::scripted::{Fault, Script};
    use infernet_inference::{Endpoint, ScriptedBackend};
    use infernet_protocol::stream::frames::WorkerFrame;
    use infernet_protocol::{ModelId, RequestId};

    use super::*;

    fn numbers<'a>(frames: impl Iterator<Item = &'a Bytes>) -> Vec<u64> {
        let number = |frame: &Bytes| match WorkerFrame::from_bytes(frame).unwrap() {
            WorkerFrame::Data(data) => data.frame,
            other => panic!("{other:?}"),
        };
        frames.map(number).collect()
    }

    #[test]
    fn what_may_not_have_arrived_is_kept_and_no_more() {
        let commitment = Commitment::of_request(&[0; 32], &RequestId([0; 16]), b"");
        let mut answered = Answered::new(commitment, 0, Instant::now());
        answered.add(&Bytes::from_static(b"a"), None);
        answered.add(&Bytes::from_static(b"b"), None);
        for (next, expected) in [(0, vec![0, 1]), (1, vec![1]), (2, vec![])] {
            assert_eq!(numbers(answered.from(next).unwrap()), expected);
        }
        assert!(answered.from(3).is_none(), "a frame that was never made");
        assert!(answered.has_room());
        answered.add(&Bytes::from(vec![0; KEPT_BYTES + AHEAD_BYTES]), None);
        assert!(!answered.has_room(), "an engine that nobody reads is held up");
        answered.let_go();
        assert!(answered.from(1).is_none(), "an early frame is gone");
        answered.add(&Bytes::from_static(b"c"), None);
        let last = answered.frames() - 1;
        assert_eq!(numbers(answered.from(last).unwrap()), [last]);
    }

    #[tokio::test]
    async fn an_end_that_was_not_heard_is_told_again() {
        let breaks = Script {
            fault: Some(Fault::Break(3)),
            ..Script::default()
        };
        let body = br#"{"model":"scripted","stream":true,"messages":[{"role":"user","content":"x"}]}"#;
        let job = Job {
            endpoint: Endpoint::ChatCompletions,
            model: "scripted".into(),
            id: ModelId::new("scripted").unwrap(),
            body: Bytes::from_static(body),
            max_output: None,
            resume: None,
        };
        let mut course = Course::new(Arc::new(ScriptedBackend::new(breaks)), job);
        let commitment = Commitment::of_request(&[0; 32], &RequestId([0; 16]), body);
        let mut answered = Answered::new(commitment, 0, Instant::now());
        while course.over.is_none() {
            course.run_ahead(&mut answered).await;
        }
        let frames = answered.frames();
        assert!(frames > 0, "what came before is kept");
        for _ in 0..2 {
            let ended = course.step(&mut answered).await;
            assert!(matches!(ended, Some(Ended::Refused(_))), "{ended:?}");
        }
        assert_eq!(answered.frames(), frames);
    }
}

//! One answer from the engine to the buyer: bytes as they come, a beat where none come, and the buyer's word at any
//! time. What passes is counted and committed to; the text is not kept.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use infernet_inference::backend::{Backend, BackendError, ContentType, Counted, Piece, Usage};
use infernet_inference::watch::Watch;
use infernet_inference::{Answer, Job};
use infernet_protocol::codec::Text;
use infernet_protocol::names::{BEAT_EVERY, PART_BYTES};
use infernet_protocol::receipt::Commitment;
use infernet_protocol::stream::frames::{self, Beat, Fail, FailCode, Head};
use infernet_protocol::stream::session::ToWorker;
use infernet_protocol::{Digest, Millis, RequestId};

use crate::line::{LineError, Turn, WorkerLine};
use crate::node::Node;

/// An answer that takes longer is ended: no engine streams for an hour to somebody who still reads.
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// Frames of an answer that go out before more is taken from the engine: they make the time to its first token.
const FIRST_FRAMES: u64 = 2;

/// How an answer ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The engine said all it had to say.
    Completed,
    /// The buyer cancelled.
    Cancelled,
    /// It took longer than [`LONGEST`].
    TimedOut,
    /// The engine failed, or refused.
    Refused(Fail),
    /// The stream to the buyer was lost.
    Lost(LineError),
}

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
}

impl Answered {
    pub(crate) fn new(commitment: Commitment, request_bytes: u64, began: Instant) -> Self {
        let (watch, counted, first) = (None, None, None);
        Self {
            began,
            commitment,
            request_bytes,
            watch,
            marks: Vec::new(),
            counted,
            first,
        }
    }

    /// Data frames sent.
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

    /// How far the answer was at each frame, for a buyer that comes back.
    pub(crate) fn into_marks(self) -> Vec<Mark> {
        self.marks
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

    /// Takes bytes for the next Data frame and gives the frame.
    fn frame(&mut self, bytes: &Bytes, tokens: Option<Vec<u32>>) -> Vec<u8> {
        let number = self.frames();
        self.first.get_or_insert_with(|| super::millis(self.began));
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
        frames::data(number, bytes, tokens.as_deref())
    }
}

/// Runs the job and gives the buyer what comes.
pub(crate) async fn give(
    node: &Arc<Node>,
    line: &mut WorkerLine,
    (backend, job): (Arc<dyn Backend>, Job),
    request: RequestId,
    answered: &mut Answered,
) -> Ended {
    line.begin_answer();
    let stopping = node.tasks.token();
    let course = async {
        let mut answer = match begin(node, line, backend.run(job), request).await? {
            Ok(answer) => answer,
            Err(BackendError::Refused { status, body }) if (400..500).contains(&status) => {
                return refused_by_engine(line, answered, status, &body);
            }
            Err(error) => return Err(refusal(&error)),
        };
        head(line, answer.status, answer.content_type)?;
        answered.watch = Some(Watch::new(answer.content_type));
        pour(node, line, &mut answer, request, answered).await
    };
    tokio::select! {
        biased;
        () = stopping.cancelled() => Ended::Refused(super::fail(FailCode::Stopping, "the provider is stopping")),
        ended = tokio::time::timeout(LONGEST, course) => match ended {
            Ok(Ok(())) => Ended::Completed,
            Ok(Err(ended)) => ended,
            Err(_) => Ended::TimedOut,
        },
    }
}

/// Waits for the engine's head, and meanwhile beats and listens.
async fn begin(
    node: &Arc<Node>,
    line: &mut WorkerLine,
    running: impl Future<Output = Result<Answer, BackendError>>,
    request: RequestId,
) -> Result<Result<Answer, BackendError>, Ended> {
    tokio::pin!(running);
    let mut beats = beats();
    loop {
        tokio::select! {
            answer = &mut running => return Ok(answer),
            turn = line.turn() => heed(node, line, turn, request).await?,
            _ = beats.tick() => line.hold_now(Beat { next: 0 }).map_err(Ended::Lost)?,
        }
    }
}

/// Hands the engine's pieces on until there are no more.
async fn pour(
    node: &Arc<Node>,
    line: &mut WorkerLine,
    answer: &mut Answer,
    request: RequestId,
    answered: &mut Answered,
) -> Result<(), Ended> {
    let mut beats = beats();
    loop {
        tokio::select! {
            turn = line.turn() => {
                let drained = matches!(turn, Ok(Turn::Drained));
                heed(node, line, turn, request).await?;
                if drained && answered.frames() <= FIRST_FRAMES {
                    // A fast engine has more ready: the connection's task goes first, which waits for this one's thread.
                    tokio::task::yield_now().await;
                }
            }
            piece = answer.next(), if !line.is_full() => match piece {
                Some(Ok(Piece::Data { bytes, tokens })) => {
                    let mut tokens = tokens;
                    for part in parts(&bytes) {
                        let frame = answered.frame(&part, tokens.take());
                        line.hold(&frame).map_err(Ended::Lost)?;
                    }
                    beats.reset();
                }
                Some(Ok(Piece::Usage(usage))) => answered.counted = Some(usage),
                Some(Err(error)) => return Err(refusal(&error)),
                None => return Ok(()),
            },
            _ = beats.tick() => line.hold_now(Beat { next: answered.frames() }).map_err(Ended::Lost)?,
        }
    }
}

/// What the buyer says while its answer is under way.
async fn heed(
    node: &Arc<Node>,
    line: &mut WorkerLine,
    turn: Result<Turn, LineError>,
    request: RequestId,
) -> Result<(), Ended> {
    match turn.map_err(Ended::Lost)? {
        Turn::Drained => Ok(()),
        Turn::Frame(ToWorker::Cancel(cancel)) if cancel.request == request => Err(Ended::Cancelled),
        Turn::Frame(aside) => super::attend(node, line, aside).await.map_err(Ended::Lost),
    }
}

/// An engine's own 4xx goes to the consumer as the engine wrote it, and costs nothing.
fn refused_by_engine(line: &mut WorkerLine, answered: &mut Answered, status: u16, body: &Bytes) -> Result<(), Ended> {
    head(line, status, ContentType::Json)?;
    for part in parts(body) {
        let frame = answered.frame(&part, None);
        line.hold(&frame).map_err(Ended::Lost)?;
    }
    answered.counted = Some(Usage::default());
    Ok(())
}

fn head(line: &mut WorkerLine, status: u16, content_type: ContentType) -> Result<(), Ended> {
    line.hold_back(Head {
        status,
        content_type: Text::lossy(content_type.as_str()),
    })
    .map_err(Ended::Lost)
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
        ..super::fail(code, &error.to_string())
    })
}

pub(super) fn beats() -> tokio::time::Interval {
    let every = Duration::from_millis(u64::from(BEAT_EVERY.0));
    let mut beats = tokio::time::interval_at(tokio::time::Instant::now() + every, every);
    beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    beats
}

/// Cuts what is too long for one frame.
fn parts(bytes: &Bytes) -> impl Iterator<Item = Bytes> {
    let bytes = bytes.clone();
    (0..bytes.len().div_ceil(PART_BYTES)).map(move |part| {
        let start = part * PART_BYTES;
        bytes.slice(start..bytes.len().min(start + PART_BYTES))
    })
}

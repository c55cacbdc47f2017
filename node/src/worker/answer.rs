//! One answer from the engine to the buyer: bytes as they come, a beat where none come, and the buyer's word at any
//! time. Where the line breaks, the engine goes on for a while in case the buyer comes back on another.

mod course;

use std::sync::Arc;
use std::time::Duration;

use infernet_protocol::RequestId;
use infernet_protocol::names::{BEAT_EVERY, RESUME_WITHIN};
use infernet_protocol::stream::frames::{Beat, End, Fail, FailCode, Head};
use infernet_protocol::stream::session::ToWorker;

use crate::line::{LineError, Turn, WorkerLine};
use crate::node::Node;
use crate::provider::{Moved, Slot};
pub(crate) use course::{Answered, Course, Mark};

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

impl Ended {
    /// The same, for a buyer that may not have heard it.
    fn again(&self) -> Self {
        match self {
            Self::Completed => Self::Completed,
            Self::Cancelled => Self::Cancelled,
            Self::TimedOut => Self::TimedOut,
            Self::Refused(fail) => Self::Refused(fail.clone()),
            Self::Lost(_) => Self::Lost(LineError::Lost),
        }
    }
}

/// Gives the buyer what comes, on one line, and then says how it ended; what was given on another line before is not
/// given again.
pub(crate) async fn give(
    node: &Arc<Node>,
    line: &mut WorkerLine,
    course: &mut Course,
    request: RequestId,
    answered: &mut Answered,
) -> Ended {
    line.begin_answer();
    let stopping = node.tasks.token();
    let longest = tokio::time::Instant::from_std(answered.began + LONGEST);
    let ended = tokio::select! {
        biased;
        () = stopping.cancelled() => Ended::Refused(super::fail(FailCode::Stopping, "the provider is stopping")),
        ended = tokio::time::timeout_at(longest, pour(node, line, course, request, answered)) => match ended {
            Ok(Ok(ended) | Err(ended)) => ended,
            Err(_) => Ended::TimedOut,
        },
    };
    if matches!(ended, Ended::Lost(_)) {
        return ended;
    }
    course.end(&ended);
    // What failed before its first token is told by whoever knows that it costs nothing.
    let said = match &ended {
        Ended::Refused(_) if answered.frames() == 0 => return ended,
        Ended::Refused(fail) => {
            let delivered = true;
            line.send(Fail {
                delivered,
                ..fail.clone()
            })
            .await
        }
        _ => {
            let frames = answered.frames();
            line.send(End { frames }).await
        }
    };
    match said {
        Ok(()) => ended,
        Err(error) => Ended::Lost(error),
    }
}

/// Hands what the engine makes on until there is no more.
async fn pour(
    node: &Arc<Node>,
    line: &mut WorkerLine,
    course: &mut Course,
    request: RequestId,
    answered: &mut Answered,
) -> Result<Ended, Ended> {
    let mut beats = beats();
    loop {
        tokio::select! {
            turn = line.turn() => {
                let drained = matches!(turn, Ok(Turn::Drained));
                heed(node, line, turn, request).await?;
                if drained && answered.frames() <= FIRST_FRAMES {
                    // A fast engine has more ready: what there is is written out first.
                    tokio::task::yield_now().await;
                }
            }
            made = make(course, answered), if !line.is_full() => {
                if let Some(head) = made.head {
                    line.hold_back(head).map_err(Ended::Lost)?;
                }
                for frame in answered.from(made.from).into_iter().flatten() {
                    line.hold(frame).map_err(Ended::Lost)?;
                }
                if answered.frames() > made.from {
                    beats.reset();
                }
                answered.let_go();
                if let Some(ended) = made.ended {
                    return Ok(ended);
                }
            }
            _ = beats.tick() => line.hold_now(Beat { next: answered.frames() }).map_err(Ended::Lost)?,
        }
    }
}

/// What one step of the engine brought.
struct Made {
    head: Option<Head>,
    /// The first of its Data frames, where there are any.
    from: u64,
    ended: Option<Ended>,
}

async fn make(course: &mut Course, answered: &mut Answered) -> Made {
    let (from, had_head) = (answered.frames(), course.has_head());
    let ended = course.step(answered).await;
    let head = if had_head { None } else { course.head() };
    Made { head, from, ended }
}

/// Lets the engine go on without a reader, as far as is kept, until the buyer comes back on another line; `None` where it
/// does not come in time or has given the request up.
pub(crate) async fn wait(
    node: &Arc<Node>,
    slot: &mut Slot<'_>,
    course: &mut Course,
    answered: &mut Answered,
) -> Option<Moved> {
    let (stopping, given_up) = (node.tasks.token(), slot.given_up());
    let late = tokio::time::sleep(Duration::from_millis(u64::from(RESUME_WITHIN.0)));
    tokio::pin!(late);
    loop {
        // It may have been before the line was lost.
        if course.is_over() {
            slot.rest();
        }
        tokio::select! {
            biased;
            () = stopping.cancelled() => return None,
            () = given_up.cancelled() => return None,
            moved = slot.moved() => return moved,
            () = &mut late => return None,
            () = course.run_ahead(answered) => {}
        }
    }
}

/// Gives a buyer that has come back on another line what it lacks; `None` where that is no longer kept, which it is told.
pub(crate) async fn go_on(moved: Moved, head: Option<Head>, answered: &Answered) -> Result<Option<Moved>, LineError> {
    let Moved { mut line, next, back } = moved;
    let Some(frames) = answered.from(next) else {
        line.end_request();
        line.send(super::fail(
            FailCode::Gone,
            "what you lack of this answer is no longer held",
        ))
        .await?;
        let _gone = back.send(line);
        return Ok(None);
    };
    line.begin_answer();
    if let Some(head) = head.filter(|_| next == 0) {
        line.hold_back(head)?;
    }
    for frame in frames {
        line.hold(frame)?;
    }
    Ok(Some(Moved { line, next, back }))
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

pub(super) fn beats() -> tokio::time::Interval {
    let every = Duration::from_millis(u64::from(BEAT_EVERY.0));
    let mut beats = tokio::time::interval_at(tokio::time::Instant::now() + every, every);
    beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    beats
}

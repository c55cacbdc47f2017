//! Both ends of a substream as state machines: which frame may come when, and what it means. They hold no bytes of
//! an answer, and of a request only the body until it is whole.

use crate::ids::RequestId;
use crate::stream::frames::{
    BuyerFrame, Cancel, Data, Enclosed, Fail, Head, Reconcile, Request, Resume, Start, Usage, Voucher, WorkerFrame,
    body_fits,
};

/// A frame that has no place where it came. The peer broke the rules, and the substream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Something came before Start.
    #[error("`{0}` came before `start`")]
    BeforeStart(&'static str),
    /// Start came twice.
    #[error("`start` came twice")]
    SecondStart,
    /// A frame that does not belong to what is going on.
    #[error("`{frame}` has no place while {state}")]
    OutOfPlace {
        /// The frame.
        frame: &'static str,
        /// What is going on.
        state: &'static str,
    },
    /// A body above the limit.
    #[error("body of {0} bytes is above the limit")]
    BodyTooLarge(u64),
    /// More body than the request said.
    #[error("body is longer than the request said")]
    BodyTooLong,
    /// A Data frame out of its order.
    #[error("data frame {found} came where {expected} belongs")]
    FrameOrder {
        /// The number that belongs here.
        expected: u64,
        /// The number found.
        found: u64,
    },
    /// The worker's End counts other frames than came.
    #[error("`end` counts {counted} frames where {came} came")]
    FrameCount {
        /// As the End says.
        counted: u64,
        /// As they came.
        came: u64,
    },
}

/// What a buyer's frame means to the worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToWorker {
    /// Check the accept and open the lease.
    Start(Start),
    /// A request whose body is whole: run it.
    Run(Request, Vec<u8>),
    /// More body is to come.
    MoreBody,
    /// Go on with a request.
    Resume(Resume),
    /// Compare books.
    Reconcile(Reconcile),
    /// File a payment.
    Voucher(Voucher),
    /// File a countersignature.
    Countersign(Enclosed),
    /// Stop the request that runs.
    Cancel(Cancel),
    /// Cancel of a request that is over already: the frames crossed.
    CancelTooLate,
}

#[derive(Debug)]
enum WorkerState {
    New,
    Idle,
    Body { request: Request, body: Vec<u8> },
    Running(RequestId),
}

/// The worker's end of a substream.
#[derive(Debug)]
pub struct WorkerSession {
    state: WorkerState,
}

impl Default for WorkerSession {
    fn default() -> Self {
        Self {
            state: WorkerState::New,
        }
    }
}

impl WorkerSession {
    /// Takes the next frame.
    pub fn on_frame(&mut self, frame: BuyerFrame) -> Result<ToWorker, Violation> {
        // Books are settled for leases that nobody can start any more, so that needs no Start.
        let without_start = matches!(
            frame,
            BuyerFrame::Start(_) | BuyerFrame::Reconcile(_) | BuyerFrame::Countersign(_) | BuyerFrame::Voucher(_)
        );
        if matches!(self.state, WorkerState::New) && !without_start {
            return Err(Violation::BeforeStart(buyer_name(&frame)));
        }
        match frame {
            BuyerFrame::Start(start) => self.on_start(start),
            BuyerFrame::Request(request) => self.on_request(request),
            BuyerFrame::Body(body) => self.on_body(body.bytes.0),
            BuyerFrame::Resume(resume) => match self.state {
                WorkerState::Idle => {
                    self.state = WorkerState::Running(resume.request);
                    Ok(ToWorker::Resume(resume))
                }
                _ => Err(self.out_of_place("resume")),
            },
            BuyerFrame::Cancel(cancel) => Ok(self.on_cancel(cancel)),
            BuyerFrame::Reconcile(reconcile) => Ok(ToWorker::Reconcile(reconcile)),
            BuyerFrame::Voucher(voucher) => Ok(ToWorker::Voucher(voucher)),
            BuyerFrame::Countersign(enclosed) => Ok(ToWorker::Countersign(enclosed)),
        }
    }

    /// The worker is done with the request: its last frame was sent.
    pub fn finished(&mut self) {
        if !matches!(self.state, WorkerState::New) {
            self.state = WorkerState::Idle;
        }
    }

    fn on_start(&mut self, start: Start) -> Result<ToWorker, Violation> {
        if !matches!(self.state, WorkerState::New) {
            return Err(Violation::SecondStart);
        }
        self.state = WorkerState::Idle;
        Ok(ToWorker::Start(start))
    }

    fn on_request(&mut self, request: Request) -> Result<ToWorker, Violation> {
        if !matches!(self.state, WorkerState::Idle) {
            return Err(self.out_of_place("request"));
        }
        if !body_fits(request.length) {
            return Err(Violation::BodyTooLarge(request.length));
        }
        if request.length == 0 {
            self.state = WorkerState::Running(request.request);
            return Ok(ToWorker::Run(request, Vec::new()));
        }
        self.state = WorkerState::Body {
            request,
            body: Vec::new(),
        };
        Ok(ToWorker::MoreBody)
    }

    fn on_body(&mut self, part: Vec<u8>) -> Result<ToWorker, Violation> {
        let WorkerState::Body { request, body } = &mut self.state else {
            return Err(self.out_of_place("body"));
        };
        if (body.len() + part.len()) as u64 > request.length {
            return Err(Violation::BodyTooLong);
        }
        // The buffer grows with what came, never with what was claimed.
        if body.is_empty() {
            *body = part
        } else {
            body.extend_from_slice(&part)
        }
        if (body.len() as u64) < request.length {
            return Ok(ToWorker::MoreBody);
        }
        let whole = (request.clone(), std::mem::take(body));
        self.state = WorkerState::Running(whole.0.request);
        Ok(ToWorker::Run(whole.0, whole.1))
    }

    fn on_cancel(&mut self, cancel: Cancel) -> ToWorker {
        match &self.state {
            WorkerState::Running(request) if *request == cancel.request => ToWorker::Cancel(cancel),
            WorkerState::Body { request, .. } if request.request == cancel.request => {
                self.state = WorkerState::Idle;
                ToWorker::CancelTooLate
            }
            _ => ToWorker::CancelTooLate,
        }
    }

    fn out_of_place(&self, frame: &'static str) -> Violation {
        let state = match self.state {
            WorkerState::New => "nothing was started",
            WorkerState::Idle => "no request runs",
            WorkerState::Body { .. } => "a body is under way",
            WorkerState::Running(_) => "a request runs",
        };
        Violation::OutOfPlace { frame, state }
    }
}

/// What a worker's frame means to the buyer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToBuyer {
    /// The engine has begun.
    Head(Head),
    /// Part of the answer.
    Data(Data),
    /// Every Data frame came.
    End,
    /// What it used, as the worker says.
    Usage(Usage),
    /// The receipt: check and countersign it. The request is over.
    Receipt(Enclosed),
    /// Still there.
    Beat,
    /// It failed. The request is over unless something was delivered.
    Fail(Fail),
    /// The worker's book.
    Reconcile(Reconcile),
    /// A receipt of an earlier request, in answer to Reconcile.
    Missing(Enclosed),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BuyerState {
    Idle,
    Waiting,
    Streaming { next: u64 },
    Ended,
    Settling,
}

/// The buyer's end of a substream.
#[derive(Debug)]
pub struct BuyerSession {
    state: BuyerState,
}

impl Default for BuyerSession {
    fn default() -> Self {
        Self {
            state: BuyerState::Idle,
        }
    }
}

impl BuyerSession {
    /// A request was sent.
    pub fn requested(&mut self) {
        self.state = BuyerState::Waiting;
    }

    /// A Resume was sent that asks for Data frames from `next` on.
    pub fn resumed(&mut self, next: u64) {
        self.state = if next == 0 {
            BuyerState::Waiting
        } else {
            BuyerState::Streaming { next }
        };
    }

    /// Whether the substream is free for another request.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.state == BuyerState::Idle
    }

    /// Takes the next frame.
    pub fn on_frame(&mut self, frame: WorkerFrame) -> Result<ToBuyer, Violation> {
        match (self.state, frame) {
            (_, WorkerFrame::Reconcile(reconcile)) => Ok(ToBuyer::Reconcile(reconcile)),
            // The receipt of the request at hand follows its Usage; any other answers a Reconcile.
            (
                BuyerState::Idle | BuyerState::Waiting | BuyerState::Streaming { .. } | BuyerState::Ended,
                WorkerFrame::Receipt(enclosed),
            ) => Ok(ToBuyer::Missing(enclosed)),
            (
                BuyerState::Waiting | BuyerState::Streaming { .. } | BuyerState::Ended | BuyerState::Settling,
                WorkerFrame::Beat(_),
            ) => Ok(ToBuyer::Beat),
            (BuyerState::Waiting, WorkerFrame::Head(head)) => {
                self.state = BuyerState::Streaming { next: 0 };
                Ok(ToBuyer::Head(head))
            }
            (BuyerState::Streaming { next }, WorkerFrame::Data(data)) => {
                if data.frame != next {
                    return Err(Violation::FrameOrder {
                        expected: next,
                        found: data.frame,
                    });
                }
                self.state = BuyerState::Streaming {
                    next: next.saturating_add(1),
                };
                Ok(ToBuyer::Data(data))
            }
            // A request that is cancelled or fails before the engine answers has an End and no Head.
            (BuyerState::Waiting, WorkerFrame::End(end)) => self.on_end(end.frames, 0),
            (BuyerState::Streaming { next }, WorkerFrame::End(end)) => self.on_end(end.frames, next),
            (BuyerState::Ended, WorkerFrame::Usage(usage)) => {
                self.state = BuyerState::Settling;
                Ok(ToBuyer::Usage(usage))
            }
            (BuyerState::Settling, WorkerFrame::Receipt(enclosed)) => {
                self.state = BuyerState::Idle;
                Ok(ToBuyer::Receipt(enclosed))
            }
            (BuyerState::Waiting | BuyerState::Streaming { .. }, WorkerFrame::Fail(fail)) => {
                self.state = if fail.delivered {
                    BuyerState::Ended
                } else {
                    BuyerState::Idle
                };
                Ok(ToBuyer::Fail(fail))
            }
            // A Start that is refused fails before there is a request.
            (BuyerState::Idle, WorkerFrame::Fail(fail)) => Ok(ToBuyer::Fail(fail)),
            (state, frame) => Err(Violation::OutOfPlace {
                frame: worker_name(&frame),
                state: buyer_state(state),
            }),
        }
    }

    fn on_end(&mut self, counted: u64, came: u64) -> Result<ToBuyer, Violation> {
        if counted != came {
            return Err(Violation::FrameCount { counted, came });
        }
        self.state = BuyerState::Ended;
        Ok(ToBuyer::End)
    }
}

fn buyer_state(state: BuyerState) -> &'static str {
    match state {
        BuyerState::Idle => "no request runs",
        BuyerState::Waiting => "the engine has not begun",
        BuyerState::Streaming { .. } => "the answer comes",
        BuyerState::Ended => "usage is due",
        BuyerState::Settling => "the receipt is due",
    }
}

fn buyer_name(frame: &BuyerFrame) -> &'static str {
    match frame {
        BuyerFrame::Start(_) => "start",
        BuyerFrame::Request(_) => "request",
        BuyerFrame::Body(_) => "body",
        BuyerFrame::Resume(_) => "resume",
        BuyerFrame::Reconcile(_) => "reconcile",
        BuyerFrame::Voucher(_) => "voucher",
        BuyerFrame::Countersign(_) => "countersign",
        BuyerFrame::Cancel(_) => "cancel",
    }
}

fn worker_name(frame: &WorkerFrame) -> &'static str {
    match frame {
        WorkerFrame::Head(_) => "head",
        WorkerFrame::Data(_) => "data",
        WorkerFrame::End(_) => "end",
        WorkerFrame::Usage(_) => "usage",
        WorkerFrame::Receipt(_) => "receipt",
        WorkerFrame::Beat(_) => "beat",
        WorkerFrame::Fail(_) => "fail",
        WorkerFrame::Reconcile(_) => "reconcile",
    }
}

//! The worker's spine: one substream of a buyer, top to bottom.
//!
//! ```text
//! Start       is the accept of one of our live bids, presented by the buyer that signed it?    provider
//! Run         is there a slot, and does the buyer owe us nothing? note the use of the lease   provider
//!             hand the body to the engine, and the engine's bytes to the buyer                answer
//! Resume      the line broke: hand this one to the request that still runs                    provider, answer
//! Receipt     sign what was delivered, make it durable, send it                               provider
//! Countersign file the buyer's signature; the lease is even again                             provider
//! ```
//!
//! Durable when: a use is appended to the journal before its request runs, which survives a kill; a receipt is synced
//! before it is sent, which survives a power cut; a countersignature is appended as it comes.
//!
//! Whatever fails is said in a `Fail` frame, and only what was delivered is ever charged. A request whose line is lost
//! runs on for a while, and goes on where it was on the line that its buyer comes back with; its slot is free once the
//! engine is done. One that is not resumed stays open until the buyer says how far it got. Implements `specs/stream.md`.

mod answer;

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use infernet_inference::{ContentType, Endpoint, Job, allow, backend};
use infernet_protocol::capability::Features;
use infernet_protocol::codec::{List, Text};
use infernet_protocol::receipt::{Commitment, Status, Step};
use infernet_protocol::stream::frames::{
    self, Beat, Enclosed, End, Fail, FailCode, Head, Reconcile, Request, Resume, Usage,
};
use infernet_protocol::stream::session::ToWorker;
use infernet_protocol::{LeaseId, Millis, Price};
use infernet_swarm::DirectStream;
use tokio::sync::oneshot;
use tracing::{debug, info};

use crate::line::{LineError, WorkerLine};
use crate::node::Node;
use crate::provider::{FilingError, LeftOpen, Moved, Over, Slot};
use answer::{Course, Ended};

pub(crate) use answer::{Answered, Mark};

/// Serves one substream from its Start to its end.
pub(crate) async fn serve(node: Arc<Node>, stream: DirectStream) {
    let (peer, relayed) = (stream.peer, stream.relayed);
    let ended = match WorkerLine::new(stream) {
        Ok(line) => converse(&node, line).await,
        Err(error) => Err(error),
    };
    match ended {
        Ok(()) => debug!(%peer, relayed, "direct stream closed"),
        Err(error) if error.is_fault_of_peer() => {
            info!(%peer, %error, "direct stream ended by a broken rule");
            node.market.punish(&node, peer);
        }
        Err(error) => debug!(%peer, %error, "direct stream ended"),
    }
}

async fn converse(node: &Arc<Node>, mut line: WorkerLine) -> Result<(), LineError> {
    let mut lease = None;
    while let Some(said) = line.next().await? {
        match said {
            ToWorker::Start(start) => match node.provider.start(&start, line.peer) {
                Ok(opened) => lease = Some(opened),
                Err(code) => return line.send(fail(code, "the lease was refused")).await,
            },
            ToWorker::Run(request, body) => match lease {
                Some(lease) => run(node, &mut line, lease, &request, body.into()).await?,
                // The session lets nothing run before Start.
                None => return line.send(fail(FailCode::Refused, "no lease was opened")).await,
            },
            ToWorker::Resume(resume) => line = resumed(node, line, lease, resume).await?,
            aside => attend(node, &mut line, aside).await?,
        }
    }
    Ok(())
}

/// Hands the line to the request that it goes on with, and has it back when that is over.
async fn resumed(
    node: &Arc<Node>,
    line: WorkerLine,
    lease: Option<LeaseId>,
    resume: Resume,
) -> Result<WorkerLine, LineError> {
    let (back, returned) = oneshot::channel();
    let next = resume.next;
    let moved = Moved { line, next, back };
    let going_on = match lease {
        Some(lease) => node.provider.go_on(lease, resume.request, moved),
        None => Err(moved),
    };
    match going_on {
        Ok(()) => returned.await.map_err(|_| LineError::Lost),
        Err(Moved { mut line, .. }) => {
            let over = lease.and_then(|lease| node.provider.over(&lease, &resume));
            line.end_request();
            match over {
                Some(rest) => line.send_all(&rest).await?,
                None => {
                    line.send(fail(FailCode::Gone, "this request no longer runs; ask again"))
                        .await?;
                }
            }
            Ok(line)
        }
    }
}

/// What may come beside a request: countersignatures and books.
async fn attend(node: &Arc<Node>, line: &mut WorkerLine, said: ToWorker) -> Result<(), LineError> {
    match said {
        ToWorker::Countersign(Enclosed { envelope }) => {
            if let Err(error) = node.provider.countersigned(&envelope.0, line.peer) {
                debug!(buyer = %line.peer.short(), %error, "countersignature refused");
            }
        }
        ToWorker::Reconcile(theirs) => reconcile(node, line, &theirs).await?,
        _ => {}
    }
    Ok(())
}

/// Runs one request to its receipt.
async fn run(
    node: &Arc<Node>,
    line: &mut WorkerLine,
    lease: LeaseId,
    request: &Request,
    body: Bytes,
) -> Result<(), LineError> {
    let began = Instant::now();
    let body_bytes = body.len() as u64;
    let commitment = Commitment::of_request(&request.salt, &request.request, &body);
    let mut slot = match node.provider.admit(lease, request.request) {
        Ok(slot) => slot,
        Err(code) => return refuse(line, fail(code, code.as_str())).await,
    };
    let (backend, job) = match job(node, lease, request, body) {
        Ok(job) => job,
        Err(fail) => return refuse(line, fail).await,
    };
    let mut answered = Answered::new(commitment, body_bytes, began);
    let mut course = Course::new(backend, job);
    // The line that the buyer came back with, once the first was lost.
    let mut moved: Option<Moved> = None;
    let ended = loop {
        let given_up = slot.given_up();
        let now = moved.as_mut().map_or(&mut *line, |moved| &mut moved.line);
        let (ended, again) = tokio::select! {
            biased;
            () = given_up.cancelled() => break Ended::Lost(LineError::Lost),
            // The newest line wins, whether or not the one before is known to be lost.
            again = slot.moved() => (Ended::Lost(LineError::Lost), again),
            ended = answer::give(node, now, &mut course, request.request, &mut answered) => (ended, None),
        };
        let Ended::Lost(error) = ended else { break ended };
        if error.is_fault_of_peer() {
            break Ended::Lost(error);
        }
        let again = match again {
            Some(again) => Some(again),
            None => answer::wait(node, &mut slot, &mut course, &mut answered).await,
        };
        let Some(again) = again else {
            break Ended::Lost(error);
        };
        debug!(%lease, next = again.next, "the buyer goes on with a request on another line");
        match answer::go_on(again, course.head(), &answered).await {
            Ok(Some(again)) => moved = Some(again),
            Ok(None) => break Ended::Lost(error),
            // That line is lost too, and the next may be better.
            Err(_) => {}
        }
    };
    let made = (course.head(), answered);
    match moved {
        None => conclude(node, line, slot, request, made, ended).await,
        Some(Moved {
            line: mut last, back, ..
        }) => {
            let done = conclude(node, &mut last, slot, request, made, ended).await;
            if done.is_ok() {
                let _gone = back.send(last);
            }
            // Nothing more comes on the line that the request came on.
            done.and(Err(LineError::Lost))
        }
    }
}

/// Says what came of a request: a receipt, or why there is none.
async fn conclude(
    node: &Arc<Node>,
    line: &mut WorkerLine,
    slot: Slot<'_>,
    request: &Request,
    (head, answered): (Option<Head>, Answered),
    ended: Ended,
) -> Result<(), LineError> {
    match ended {
        Ended::Lost(error) => {
            let lease = slot.lease();
            slot.lose(LeftOpen {
                lease,
                began: answered.began,
                marks: answered.into_marks(),
            });
            Err(error)
        }
        Ended::Refused(why) if answered.frames() == 0 => {
            debug!(lease = %slot.lease(), code = %why.code, "request failed before its first token");
            refuse(line, why).await
        }
        ended => settle(node, line, slot, request, (head, answered), ended).await,
    }
}

/// The job for the engine behind the lease's model, if the request may be run.
fn job(
    node: &Arc<Node>,
    lease: LeaseId,
    request: &Request,
    body: Bytes,
) -> Result<(Arc<dyn backend::Backend>, Job), Fail> {
    let gone = || fail(FailCode::Engine, "the engine no longer serves this model");
    let id = node.provider.model(&lease).ok_or_else(gone)?;
    let served = node.engines.find(&id).ok_or_else(gone)?;
    let endpoint = match request.endpoint {
        frames::Endpoint::ChatCompletions => Endpoint::ChatCompletions,
        frames::Endpoint::Completions => Endpoint::Completions,
        frames::Endpoint::Embeddings => Endpoint::Embeddings,
    };
    let bad = |error: infernet_inference::RequestError| Fail {
        status: 400,
        ..fail(FailCode::Request, &error.to_string())
    };
    let body_bytes = body.len() as u64;
    let read = infernet_inference::Request::read(endpoint, &body).map_err(bad)?;
    allow::check(endpoint, &body, served.model.features).map_err(bad)?;
    let resume = match &request.continuation {
        None => None,
        Some(_) if !served.model.features.contains(Features::CONTINUE) => {
            return Err(fail(
                FailCode::Request,
                "this provider's engine cannot go on with another's answer",
            ));
        }
        Some(told) if told.tokens.is_empty() => Some(backend::Continuation::Text(
            String::from_utf8(told.text.0.clone())
                .map_err(|_| fail(FailCode::Request, "the text so far is not UTF-8"))?,
        )),
        Some(told) => Some(backend::Continuation::Tokens(told.tokens.to_vec())),
    };
    let budget = served.max_output();
    // A choice is bounded by what the model gives, whatever was asked for.
    if read
        .output_tokens_at_most(budget)
        .min(budget.saturating_mul(read.choices))
        > budget.saturating_mul(OUTPUT_FACTOR)
    {
        return Err(fail(
            FailCode::Request,
            "the request asks for more output than this provider gives; lower `n`",
        ));
    }
    let job = Job {
        endpoint,
        model: served.model.name.clone(),
        id,
        body,
        // An engine refuses an output that does not fit beside the prompt, so a bound that nobody asked for leaves room.
        max_output: Some(
            read.max_output
                .map_or_else(|| served.room(body_bytes).min(budget), |_| budget),
        ),
        resume,
    };
    Ok((served.backend, job))
}

/// All choices together may have this many times the most output of one.
const OUTPUT_FACTOR: u32 = 4;

/// Signs, keeps and sends the receipt for what was delivered; the consumer's last bytes have not waited for our disk.
async fn settle(
    node: &Arc<Node>,
    line: &mut WorkerLine,
    slot: Slot<'_>,
    request: &Request,
    (head, answered): (Option<Head>, Answered),
    ended: Ended,
) -> Result<(), LineError> {
    let (status, usage) = (ended.status(), answered.usage());
    let step = |price: Price| Step {
        request: request.request,
        status,
        input_tokens: usage.input_tokens,
        output_tokens: usage.output_tokens,
        ttft: answered.ttft(),
        duration: millis(answered.began),
        amount: price.due(usage.input_tokens, usage.output_tokens),
        commitment: answered.commitment(),
    };
    // Without a receipt the line is of no more use: the buyer finds out at the next contact that nothing is due.
    let receipt = beside_beats(line, answered.frames(), slot.settle(step))
        .await?
        .ok_or(LineError::Lost)?;
    let is_stream = |head: &Head| ContentType::of(head.content_type.as_str()) == ContentType::EventStream;
    node.observe(&receipt, head.as_ref().is_some_and(is_stream));
    let usage = Usage {
        input_tokens: usage.input_tokens,
        output_tokens: usage.output_tokens,
    };
    if status == Status::Completed {
        // Its last frames may be lost with the line.
        let frames = answered.frames();
        let tail = [End { frames }.into(), usage.into(), enclosed(receipt.bytes()).into()];
        node.provider
            .keep(Over::new(receipt.lease, request.request, head, answered, &tail));
    }
    line.hold_now(usage)?;
    line.end_request();
    line.send(enclosed(receipt.bytes())).await?;
    debug!(lease = %receipt.lease, seq = receipt.seq, %status, amount = %receipt.step.amount, "receipt sent");
    Ok(())
}

/// Waits for something of our own, a slow disk for one, and meanwhile tells the buyer that we are still there.
async fn beside_beats<T>(line: &mut WorkerLine, next: u64, waiting: impl Future<Output = T>) -> Result<T, LineError> {
    tokio::pin!(waiting);
    let mut beats = answer::beats();
    loop {
        tokio::select! {
            biased;
            done = &mut waiting => return Ok(done),
            _ = beats.tick() => line.send(Beat { next }).await?,
        }
    }
}

/// Answers a buyer's account of a lease: receipts that it lacks, then how far our own book goes.
async fn reconcile(node: &Arc<Node>, line: &mut WorkerLine, theirs: &Reconcile) -> Result<(), LineError> {
    let missing = match node.provider.reconcile(theirs, line.peer).await {
        Ok(missing) => missing,
        // Our own disk's fault must not look like a book without entries: nothing is said.
        Err(FilingError::Store(_) | FilingError::Unwritten) => return Err(LineError::Lost),
        Err(error) => {
            debug!(lease = %theirs.lease, %error, "books cannot be evened");
            // A lease that we know nothing of: so we hold nothing and are owed nothing.
            return line
                .send(Reconcile {
                    held: theirs.held,
                    open: List::default(),
                    ..theirs.clone()
                })
                .await;
        }
    };
    for receipt in &missing.receipts {
        line.hold_now(enclosed(receipt.bytes()))?;
    }
    line.send(missing.ours).await
}

async fn refuse(line: &mut WorkerLine, fail: Fail) -> Result<(), LineError> {
    line.end_request();
    line.send(fail).await
}

pub(crate) fn enclosed(envelope: &[u8]) -> Enclosed {
    Enclosed {
        envelope: infernet_protocol::codec::Blob(envelope.to_vec()),
    }
}

/// A failure that costs nothing, with the HTTP status that says the same.
pub(crate) fn fail(code: FailCode, message: &str) -> Fail {
    let (status, retryable) = match code {
        FailCode::Busy | FailCode::Stopping => (503, true),
        FailCode::Refused | FailCode::LeaseEnded | FailCode::Exposure | FailCode::Gone => (409, true),
        FailCode::Engine => (502, true),
        FailCode::Timeout => (504, true),
        FailCode::Request | FailCode::Protocol => (400, false),
    };
    Fail {
        code,
        message: Text::lossy(message),
        status,
        retryable,
        delivered: false,
    }
}

pub(crate) fn millis(since: Instant) -> Millis {
    Millis(u32::try_from(since.elapsed().as_millis()).unwrap_or(u32::MAX))
}

impl Ended {
    fn status(&self) -> Status {
        match self {
            Self::Completed => Status::Completed,
            Self::Cancelled => Status::Cancelled,
            Self::TimedOut => Status::Timeout,
            Self::Refused(_) | Self::Lost(_) => Status::Failed,
        }
    }
}

//! The buyer's spine: one request of a consumer, top to bottom.
//!
//! ```text
//! a live lease for this model? use it                                    leases
//! else auction: offer, bids, the best, and the runners-up behind it      market
//! a substream to the winner, kept from the last request or new           leases
//! the prompt leaves here, and only here                                  attempt
//! chunks go to the consumer as they come                                 attempt
//! the receipt is checked, countersigned and kept                         leases
//! ```
//!
//! A provider that dies, refuses or falls silent before its first text is a typed [`Failure`], and the spine goes on
//! with the runner-up in the same request, or with another auction; one that is busy is asked again in its turn. After
//! the first text of a stream another one with the same weights may go on, and else the consumer is told how it ended.
//! A line that is lost in the middle is first looked for again: the provider runs on for a while, and the answer goes on
//! where it was on another connection. A consumer that goes away cancels the engine. Where a first word is late, a
//! second provider is asked beside the first (`hedge`), and the consumer hears the quicker.
//!
//! Durable when: a request is appended to the journal before it is sent, which survives a kill; a receipt is synced
//! together with our signature before that is sent, which survives a power cut. What came of a request is told to its
//! lease once, by `Using`: `received` or `lost` leave a receipt due, `failed` and `busy` do not.
//!
//! Implements `specs/auction.md` and `specs/stream.md`.

pub mod consumer;
mod hedge;
mod receiving;
pub(crate) mod told;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::BoxFuture;
use infernet_inference::Endpoint;
use infernet_inference::backend::ContentType;
use infernet_protocol::auction::Policy;
use infernet_protocol::capability::{Features, ModelAd};
use infernet_protocol::codec::Blob;
use infernet_protocol::names::PART_BYTES;
use infernet_protocol::receipt::{Countersign, JobReceipt};
use infernet_protocol::reputation::Service;
use infernet_protocol::stream::frames::{
    self, Body, BuyerFrame, Cancel, Continuation, Fail, FailCode, Request, Resume,
};
use infernet_protocol::stream::session::ToBuyer;
use infernet_protocol::{Digest, ModelId, NodeId, Price, Verified};
use tracing::{debug, info};

use crate::clock;
use crate::gateway::Quality;
use crate::happenings::Happening;
use crate::leases::affinity::Prefixes;
use crate::leases::{Lease, NoteError, SettleError, Settled, Unplaced, Using};
use crate::line::{BuyerLine, LineError};
use crate::node::Node;
use crate::spending::{Caller, OverBudget};
use consumer::{Consumer, Gone, Head, Leg, Summary};
use hedge::{Raced, Ran, race};
use receiving::Receiving;
use told::Told;

/// Failures of providers after which a request is given up.
const ATTEMPTS: u32 = 12;
/// Where a provider was lost and nobody else is to be had, this long somebody is looked for: a node that crashed is
/// started again within seconds, and another's ad may be on its way.
const LOOK_FOR: Duration = Duration::from_secs(15);
/// Between two looks: each may be an auction.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A request whose time is up gets this long to be cancelled and receipted.
const SETTLE_WITHIN: Duration = Duration::from_secs(5);
/// Lines on which one request is gone on with at one provider.
const RESUMES: u32 = 8;
/// Time to reach a provider again whose line was lost: little where another provider can take its place, as it will then
/// be asked no later than is noticed; where none can, what is left of the time that a provider runs on.
const RESUME_SOON: Duration = Duration::from_millis(500);
const RESUME_LATE: Duration = Duration::from_secs(8);
/// Time to compare books with one provider.
const RECONCILE_WITHIN: Duration = Duration::from_secs(10);

/// What a consumer asks for, read and checked at the edge.
#[derive(Clone, Debug)]
pub struct Purchase {
    /// Which route.
    pub endpoint: Endpoint,
    /// The model.
    pub model: ModelId,
    /// The consumer's body, as it goes to the engine.
    pub body: Bytes,
    /// Features that the provider must offer.
    pub needs: Features,
    /// Roughly how many input tokens.
    pub input_tokens: u32,
    /// Roughly how many of them the model must see at once.
    pub context: u32,
    /// Most output tokens, all choices together, where the consumer says.
    pub max_output: Option<u32>,
    /// Choices that it asks for.
    pub choices: u32,
    /// Whose key asked, where the budget of a key is to be kept.
    pub caller: Option<Caller>,
    /// What it cares about.
    pub policy: Policy,
    /// The most it pays.
    pub price_cap: Price,
    /// Nobody but these begins the answer, where not empty.
    pub only: Vec<NodeId>,
    /// Nobody but these goes on with it where a provider breaks off, where not empty.
    pub only_then: Vec<NodeId>,
    /// Never these.
    pub ignore: Vec<NodeId>,
    /// Quantisations that will do, as ads name them; any where empty.
    pub quantisations: Vec<String>,
    /// How fast it should be, where somebody promises that.
    pub quality: Quality,
    /// Whether the deal may be seen by everybody.
    pub public: bool,
    /// Whether somebody else may go on where a provider breaks off.
    pub may_continue: bool,
    /// By what its conversation is known again.
    pub prefixes: Prefixes,
    /// Whether a second provider may be asked where the first is late.
    pub may_hedge: bool,
    /// What was told already, where somebody else broke off.
    pub continuation: Option<Continuation>,
    /// Nothing but these weights.
    pub weights: Option<Digest>,
    /// Whether it waits for a provider that is busy.
    pub may_wait: bool,
    /// When it is given up.
    pub deadline: Instant,
}

/// Whether a quantisation that is told is one of those that will do: any is where none is named.
pub(crate) fn is_quantised(wanted: &[String], told: &str) -> bool {
    let told = if told.is_empty() { "unknown" } else { told };
    wanted.is_empty() || wanted.iter().any(|wanted| wanted.eq_ignore_ascii_case(told))
}

impl Purchase {
    /// What a request asks for: free, balanced, in public, from whoever serves it.
    #[must_use]
    pub fn new(model: ModelId, request: &infernet_inference::Request, body: Bytes, deadline: Instant) -> Self {
        Self {
            endpoint: request.endpoint,
            prefixes: Prefixes::of(model.as_str(), &body),
            model,
            body,
            needs: request.needs,
            input_tokens: request.input_tokens,
            context: request.context,
            max_output: request.max_output.map(|tokens| tokens.saturating_mul(request.choices)),
            choices: request.choices,
            caller: None,
            policy: Policy::Balanced,
            price_cap: Price::FREE,
            only: Vec::new(),
            only_then: Vec::new(),
            ignore: Vec::new(),
            quantisations: Vec::new(),
            quality: Quality::default(),
            public: true,
            may_continue: told::may_continue(request),
            may_hedge: request.stream,
            continuation: None,
            weights: None,
            may_wait: true,
            deadline,
        }
    }

    /// Whether what a provider advertises of the model will do.
    pub(crate) fn accepts(&self, entry: &ModelAd) -> bool {
        self.context <= entry.context
            && (self.weights.is_none() || self.weights == entry.digest)
            && entry.features.contains(self.needs)
            && is_quantised(&self.quantisations, entry.quantisation.as_str())
    }

    /// The same without what it asks: what a lease is bought for.
    pub(crate) fn without_text(&self) -> Self {
        Self {
            body: Bytes::new(),
            prefixes: Prefixes::default(),
            continuation: None,
            ..self.clone()
        }
    }

    /// Whether its consumer lets it go to a provider.
    pub(crate) fn may_go_to(&self, provider: &NodeId) -> bool {
        !self.ignore.contains(provider) && (self.only.is_empty() || self.only.contains(provider))
    }

    /// Whether a provider promises the speed that is preferred; one that promises nothing does not.
    pub(crate) fn prefers(&self, entry: &ModelAd) -> bool {
        let Quality {
            throughput_min,
            latency_max,
        } = self.quality;
        throughput_min.is_none_or(|least| f64::from(entry.speed) / 1000.0 >= f64::from(least))
            && latency_max.is_none_or(|most| entry.ttft.0 > 0 && f64::from(entry.ttft.0) / 1000.0 <= f64::from(most))
    }
}

/// Why an attempt with one provider did not bring the answer.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It could not be reached.
    #[error("the provider cannot be reached")]
    Unreachable,
    /// Every slot is taken.
    #[error("the provider is busy")]
    Busy,
    /// The lease is over, and another may be had.
    #[error("the provider has ended the lease")]
    Ended,
    /// The line broke.
    #[error("{0}")]
    Lost(String),
    /// It said why it failed.
    #[error("the provider failed: {}", .0.message)]
    Failed(Fail),
    /// It broke the rules.
    #[error("the provider broke the rules: {0}")]
    Fault(String),
    /// The request's time is up.
    #[error("no answer within the deadline")]
    Late,
    /// It may cost more than is left to spend.
    #[error("{0}")]
    OverBudget(OverBudget),
    /// Our own books cannot be kept, so nothing may be bought.
    #[error("the journal cannot be written; free some disk space")]
    Journal,
    /// The consumer went away.
    #[error("the consumer went away")]
    Cancelled,
    /// Another provider was quicker.
    #[error("another provider was quicker")]
    Beaten,
    /// This node ends.
    #[error("this node is stopping")]
    Stopping,
}

impl From<LineError> for Failure {
    fn from(error: LineError) -> Self {
        if error.is_fault_of_peer() {
            Self::Fault(error.to_string())
        } else {
            Self::Lost(error.to_string())
        }
    }
}

impl Failure {
    /// Whether another provider may do better.
    pub(crate) fn is_retryable(&self) -> bool {
        match self {
            Self::Failed(fail) => fail.retryable,
            failure => failure.is_its_own(),
        }
    }

    /// Whether the provider is to blame, and not this side.
    fn is_its_own(&self) -> bool {
        !matches!(
            self,
            Self::OverBudget(_) | Self::Journal | Self::Cancelled | Self::Beaten | Self::Late | Self::Stopping
        )
    }
}

/// Why a request was not answered.
#[derive(Debug, thiserror::Error)]
pub enum BuyError {
    /// No provider could be had.
    #[error(transparent)]
    Unplaced(#[from] Unplaced),
    /// The last provider's failure, before anything was delivered.
    #[error("{0}")]
    Failed(Failure),
    /// The answer broke off after something was delivered.
    #[error("the answer broke off: {0}")]
    BrokenOff(Failure),
    /// Time is up.
    #[error("no answer within the deadline")]
    Deadline {
        /// Whether something was delivered.
        delivered: bool,
    },
}

/// Buys one answer and hands it to the consumer.
pub(crate) async fn serve(node: Arc<Node>, purchase: Purchase, consumer: Consumer) {
    let mut tried = Tried::default();
    let purchase = Arc::new(purchase);
    // In the middle of an answer it is the spine itself that ends it in time, with a receipt.
    let deadline = (purchase.deadline + SETTLE_WITHIN).into();
    let bought = tokio::select! {
        bought = tokio::time::timeout_at(deadline, buy(&node, &purchase, &consumer, &mut tried)) => bought,
        () = node.closing.cancelled() => Ok(Err(match consumer.has_begun() {
            true => BuyError::BrokenOff(Failure::Stopping),
            false => BuyError::Failed(Failure::Stopping),
        })),
    };
    let bought = bought.unwrap_or_else(|_| {
        Err(BuyError::Deadline {
            delivered: consumer.has_begun(),
        })
    });
    match bought {
        Ok(summary) => {
            consumer
                .finish(Summary {
                    attempts: tried.attempts,
                    ..summary
                })
                .await
        }
        Err(error) => {
            debug!(model = %purchase.model, attempts = tried.attempts, %error, "request failed");
            consumer.fail(error).await;
        }
    }
    // Who was slower has its receipt to give, which the consumer does not wait for.
    let left = futures::future::join_all(tried.left);
    let _ = tokio::time::timeout(SETTLE_WITHIN, left).await;
}

/// What a request has been through.
#[derive(Default)]
struct Tried {
    attempts: u32,
    failures: u32,
    /// Who failed it, and is not asked again.
    failed: Vec<NodeId>,
    /// Those of them that were lost, and may come back.
    lost: Vec<NodeId>,
    lost_at: Option<Instant>,
    /// What the consumer has been told.
    told: Told,
    /// A lease was over before it could be used; that is excused once.
    ended: bool,
    /// Attempts that were slower than another.
    left: Vec<BoxFuture<'static, Ran>>,
}

async fn buy(
    node: &Arc<Node>,
    whole: &Arc<Purchase>,
    consumer: &Consumer,
    tried: &mut Tried,
) -> Result<Summary, BuyError> {
    let mut runner_up = None;
    // What is left of the answer, where a provider broke off and another goes on.
    let mut rest: Option<Arc<Purchase>> = None;
    let mut lost: Option<Failure> = None;
    loop {
        let purchase = rest.as_ref().unwrap_or(whole);
        let using = match runner_up.take() {
            Some(using) => using,
            None => tokio::select! {
                found = find(node, purchase, tried) => match (found, lost.take()) {
                    (Err(_), Some(failure)) => return Err(BuyError::BrokenOff(failure)),
                    (found, _) => found?,
                },
                () = consumer.gone() => return Err(BuyError::Failed(Failure::Cancelled)),
                () = tokio::time::sleep_until(purchase.deadline.into()) => {
                    return Err(BuyError::Deadline { delivered: consumer.has_begun() });
                }
            },
        };
        let told = std::mem::take(&mut tried.told);
        let Raced { ran, also, left } = race(node, purchase, using, consumer, told, &tried.failed).await;
        tried.attempts += 1 + u32::from(also.is_some() || left.is_some());
        tried.left.extend(left);
        if let Some(Ran {
            using,
            outcome: Err(failure),
            ..
        }) = also
        {
            node.market.disappointed(node, using.lease.worker, &failure);
            // Who was slower or is full has done nothing wrong.
            if !matches!(failure, Failure::Beaten | Failure::Busy | Failure::Ended) {
                give_up(node, &using.lease, &failure, tried);
            }
        }
        tried.told = ran.told;
        let failure = match ran.outcome {
            Ok(summary) => return Ok(summary),
            Err(failure) => failure,
        };
        let lease = ran.using.lease.clone();
        drop(ran.using);
        node.market.disappointed(node, lease.worker, &failure);
        let delivered = consumer.has_begun();
        if matches!(failure, Failure::Late) || Instant::now() >= purchase.deadline {
            return Err(BuyError::Deadline { delivered });
        }
        // A line that broke after the consumer had left is no reason to ask somebody else.
        if consumer.is_gone() {
            return Err(BuyError::Failed(Failure::Cancelled));
        }
        // Who cannot go on with another's answer says nothing of those who can.
        let may_retry = failure.is_retryable() || rest.is_some() && matches!(failure, Failure::Failed(_));
        if delivered && !(may_retry && tried.told.may_go_on(whole, &failure)) {
            return Err(BuyError::BrokenOff(failure));
        }
        if !may_retry {
            return Err(BuyError::Failed(failure));
        }
        if delivered {
            rest = Some(Arc::new(tried.told.rest_of(whole)));
        } else {
            tried.told.begin_anew();
        }
        // Not held against it for this request: who is busy now, or has ended a lease, may be the only one there is.
        let is_excused = match failure {
            Failure::Busy => {
                if !whole.may_wait {
                    tried.failed.push(lease.worker);
                }
                true
            }
            Failure::Ended => !std::mem::replace(&mut tried.ended, true),
            _ => false,
        };
        if matches!(failure, Failure::Ended) {
            node.leases.end(&lease);
        }
        if !is_excused {
            give_up(node, &lease, &failure, tried);
            if tried.failures >= ATTEMPTS {
                return Err(match delivered {
                    true => BuyError::BrokenOff(failure),
                    false => BuyError::Failed(failure),
                });
            }
            info!(provider = %lease.worker.short(), %failure, "going on with the next provider");
            let (provider, why) = (lease.worker, failure.to_string());
            node.happenings.tell(|| Happening::WentOn { provider, why });
            let purchase = rest.as_ref().unwrap_or(whole);
            runner_up = node.leases.runner_up(node, &lease, purchase, &tried.failed);
        }
        lost = delivered.then_some(failure);
    }
}

/// A lease for the request. Where a provider was lost and nobody else is there, it waits for one, or for that one.
async fn find(node: &Arc<Node>, purchase: &Purchase, tried: &mut Tried) -> Result<Using, Unplaced> {
    loop {
        let unplaced = match node.leases.find(node, purchase, &tried.failed).await {
            Ok(using) => return Ok(using),
            Err(unplaced) => unplaced,
        };
        if tried.lost_at.is_none_or(|at| at.elapsed() > LOOK_FOR) || matches!(unplaced, Unplaced::Journal) {
            return Err(unplaced);
        }
        tokio::time::sleep(LOOK_EVERY).await;
        let lost = std::mem::take(&mut tried.lost);
        tried.failed.retain(|node| !lost.contains(node));
    }
}

/// This request goes to that provider no more, unless it was lost and comes back.
fn give_up(node: &Arc<Node>, lease: &Lease, failure: &Failure, tried: &mut Tried) {
    let worker = lease.worker;
    match failure {
        Failure::Lost(_) | Failure::Unreachable => {
            node.leases.end_with(worker);
            tried.lost.push(worker);
            tried.lost_at = Some(Instant::now());
        }
        failure if failure.is_its_own() => node.leases.end(lease),
        _ => {}
    }
    tried.failures += 1;
    tried.failed.push(worker);
}

/// One request with one provider, from the prompt to the co-signed receipt.
async fn attempt(
    node: &Arc<Node>,
    using: &mut Using,
    purchase: &Purchase,
    leg: &mut Leg,
    told: &mut Told,
) -> Result<Summary, Failure> {
    let lease = using.lease.clone();
    let request = Request {
        request: using.request,
        endpoint: endpoint(purchase.endpoint),
        salt: clock::entropy(),
        length: purchase.body.len() as u64,
        continuation: purchase.continuation.clone(),
    };
    let mut receiving = Receiving::new(purchase, &request);
    // An idle substream may have died since its last request: where the write shows it, that costs a new one only.
    let mut line = match lease.take_line() {
        Some(line) => line,
        None => lease.open_line(node).await?,
    };
    node.leases
        .note(using, receiving.bounds(), purchase)
        .map_err(|error| match error {
            NoteError::OverBudget(over) => Failure::OverBudget(over),
            NoteError::Store(_) => Failure::Journal,
        })?;
    if line.send(&frames_of(&request, &purchase.body)).await.is_err() {
        line = lease.open_line(node).await?;
        line.send(&frames_of(&request, &purchase.body)).await?;
    }
    leg.chosen(&lease, request.request);
    let mut received = receive(node, using, &mut line, &mut receiving, purchase, leg, told).await;
    for _ in 0..RESUMES {
        let Err(failure @ Failure::Lost(_)) = &received else {
            break;
        };
        if using.is_over() {
            break;
        }
        let replaceable = !leg.tells() || told.may_go_on(purchase, failure);
        let Some(again) = resume(node, using, &line, receiving.frames, replaceable, leg).await else {
            break;
        };
        line = again;
        let goes_on = receive(node, using, &mut line, &mut receiving, purchase, leg, told).await;
        received = match goes_on {
            // It has forgotten the request, or what is lacking of it: what came stays owed.
            Err(Failure::Failed(fail)) if !fail.delivered => {
                received = Err(Failure::Lost(fail.message.to_string()));
                break;
            }
            Err(Failure::Busy | Failure::Ended) => break,
            goes_on => goes_on,
        };
    }
    match received {
        Ok(receipt) => {
            lease.keep_if_idle(line);
            let bid = &lease.papers.bid;
            let promised = Service {
                ttft: bid.ttft,
                speed: bid.speed,
            };
            let seen = receiving.pace(receipt.step.output_tokens, promised);
            node.market.delivered(lease.worker, promised, seen);
            node.leases.was_read(purchase, lease.worker);
            if let Some(first) = receiving.first_word() {
                node.market.said_first_word(lease.worker, purchase, first);
            }
            Ok(Summary {
                providers: told.providers().to_vec(),
                cost: told.cost(),
                ..Summary::new(&lease, &receipt, told.usage(receiving.usage))
            })
        }
        Err(failure) => {
            match &failure {
                // Its receipt has come.
                _ if using.is_over() => {}
                Failure::Failed(_) | Failure::Ended => using.failed(),
                Failure::Busy => using.busy(),
                _ => using.lost(receiving.seen(), receiving.commitment.digest(), receiving.frames),
            }
            lease.keep_if_idle(line);
            Err(failure)
        }
    }
}

/// Another line to the provider whose line was lost, on which the request goes on from this frame.
async fn resume(
    node: &Arc<Node>,
    using: &Using,
    lost: &BuyerLine,
    next: u64,
    replaceable: bool,
    leg: &mut Leg,
) -> Option<BuyerLine> {
    let (lease, request) = (&using.lease, using.request);
    if lost.fell_silent() {
        // Whoever can take its place has waited long enough.
        if replaceable {
            return None;
        }
        node.market.hang_up(&lease.worker).await;
    }
    let within = if replaceable { RESUME_SOON } else { RESUME_LATE };
    let opening = async {
        loop {
            if let Ok(mut line) = lease.open_line(node).await
                && line.send(&[Resume { request, next }.into()]).await.is_ok()
            {
                return Some(line);
            }
            if replaceable {
                return None;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    let line = tokio::select! {
        line = tokio::time::timeout(within, opening) => line.ok().flatten()?,
        () = leg.gone() => return None,
    };
    debug!(provider = %lease.worker.short(), next, "a lost line was found again");
    Some(line)
}

/// Takes the worker's frames to the receipt.
async fn receive(
    node: &Arc<Node>,
    using: &mut Using,
    line: &mut BuyerLine,
    receiving: &mut Receiving,
    purchase: &Purchase,
    leg: &mut Leg,
    told: &mut Told,
) -> Result<Verified<JobReceipt>, Failure> {
    let (lease, request) = (using.lease.clone(), using.request);
    let late = tokio::time::sleep_until(purchase.deadline.into());
    tokio::pin!(late);
    let (mut failed, mut seam) = (None, None);
    loop {
        let said = tokio::select! {
            biased;
            () = &mut late, if failed.is_none() => {
                failed = Some(Failure::Late);
                line.send(&[Cancel { request }.into()]).await?;
                continue;
            }
            said = line.next() => said?,
            () = leg.gone(), if failed.is_none() => {
                failed = Some(unheard(leg));
                line.send(&[Cancel { request }.into()]).await?;
                continue;
            }
        };
        match said {
            // It was here before the line was lost.
            ToBuyer::Head(_) if receiving.has_begun() => {}
            ToBuyer::Head(head) => {
                receiving.begin(head.content_type.as_str());
                told.by(lease.worker, lease.weights());
                if leg.tells() {
                    let (provider, why) = (lease.worker, "it goes on where the one before broke off".to_owned());
                    node.happenings.tell(|| Happening::WentOn { provider, why });
                    seam = Some(told::seam(&lease.worker));
                    if head.status != 200 || ContentType::of(head.content_type.as_str()) != ContentType::EventStream {
                        failed = Some(Failure::Lost("it does not go on with another's answer".to_owned()));
                        line.send(&[Cancel { request }.into()]).await?;
                    }
                }
                leg.head(Head {
                    status: head.status,
                    content_type: head.content_type.as_str().to_owned(),
                });
            }
            ToBuyer::Data(data) => {
                let bytes = Bytes::from(data.bytes.0);
                let is_first = receiving.take(data.frame, &bytes);
                if failed.is_some() {
                    continue;
                }
                let mut bytes = told.take(bytes, data.tokens, purchase);
                if let Some(seam) = seam.take() {
                    bytes = [seam, bytes].concat().into();
                }
                if is_first {
                    let after_us = receiving.elapsed_us();
                    node.happenings.tell(|| Happening::FirstToken { request, after_us });
                }
                if !bytes.is_empty() {
                    // A consumer that does not read holds its provider up, but not beyond its time.
                    let told = tokio::select! {
                        told = leg.data(bytes, receiving.is_worth_telling()) => told.map_err(|Gone| unheard(leg)),
                        () = &mut late => Err(Failure::Late),
                    };
                    if let Err(failure) = told {
                        failed = Some(failure);
                        line.send(&[Cancel { request }.into()]).await?;
                    }
                }
            }
            ToBuyer::Usage(usage) => receiving.usage = usage,
            ToBuyer::Fail(fail) if !fail.delivered => {
                if fail.code == FailCode::Exposure {
                    // It holds something open that we have forgotten, or lacks what we have signed.
                    let evening = reconcile(node.clone(), lease.worker);
                    drop(node.tasks.spawn_until_cancelled("reconcile", evening));
                }
                return Err(refusal(fail));
            }
            ToBuyer::Fail(fail) => failed = Some(Failure::Failed(fail)),
            ToBuyer::Receipt(enclosed) => {
                using.received(receiving.seen(), receiving.frames);
                let receipt = settle(node, &lease, line, &enclosed.envelope.0).await?;
                told.paid(receipt.step.amount);
                return match failed {
                    None => Ok(receipt),
                    Some(failure) => Err(failure),
                };
            }
            ToBuyer::Missing(enclosed) => {
                settle(node, &lease, line, &enclosed.envelope.0).await?;
            }
            // The answer is whole: what becomes of its receipt is not the consumer's concern.
            ToBuyer::End if failed.is_none() => {
                told.end();
                let told = tokio::select! {
                    told = leg.complete() => told.map_err(|Gone| unheard(leg)),
                    () = &mut late => Err(Failure::Late),
                };
                failed = told.err();
            }
            ToBuyer::End | ToBuyer::Beat | ToBuyer::Reconcile(_) => {}
        }
    }
}

/// Why nobody hears a leg any more.
fn unheard(leg: &Leg) -> Failure {
    match leg.is_beaten() {
        true => Failure::Beaten,
        false => Failure::Cancelled,
    }
}

/// Checks a receipt, keeps it with our signature, and only then sends that.
async fn settle(
    node: &Arc<Node>,
    lease: &Arc<Lease>,
    line: &mut BuyerLine,
    envelope: &[u8],
) -> Result<Verified<JobReceipt>, Failure> {
    let Settled { receipt, signs } = match node.leases.settle(node, lease, envelope).await {
        Ok(settled) => settled,
        Err(SettleError::Store(_)) => return Err(Failure::Journal),
        Err(error) => return Err(Failure::Fault(error.to_string())),
    };
    line.send(&countersigns(&signs)).await?;
    // The provider checks it while the consumer reads the end, and not while the consumer's next request waits for it.
    tokio::task::yield_now().await;
    if signs.iter().any(|sign| sign.dispute.is_some()) {
        node.leases.end(lease);
    }
    // A gap that this receipt closed may bring verdicts on others, which say nothing of this one.
    if let Some(dispute) = signs
        .iter()
        .find(|sign| sign.seq == receipt.seq)
        .and_then(|sign| sign.dispute)
    {
        return Err(Failure::Fault(format!("its receipt is disputed ({dispute})")));
    }
    Ok(receipt)
}

fn countersigns(signs: &[Verified<Countersign>]) -> Vec<BuyerFrame> {
    signs
        .iter()
        .map(|sign| BuyerFrame::Countersign(crate::worker::enclosed(sign.bytes())))
        .collect()
}

/// Evens the books of every lease with a provider: on each new connection, and where something stays due.
pub(crate) async fn reconcile(node: Arc<Node>, worker: NodeId) {
    let leases = node.leases.uneven_with(worker);
    if leases.is_empty() {
        return;
    }
    let Some(_comparing) = node.leases.compare(worker) else {
        return;
    };
    let comparing = async {
        let at = node.market.addresses_of(&worker);
        let stream = node
            .market
            .open_stream(worker, &at)
            .await
            .map_err(|_| LineError::Lost)?;
        let mut line = BuyerLine::new(stream);
        for lease in &leases {
            // What the first round sends, the second finds filed.
            reconcile_lease(&node, &mut line, lease).await?;
            if !lease.is_even() {
                reconcile_lease(&node, &mut line, lease).await?;
            }
        }
        Ok::<_, LineError>(())
    };
    match tokio::time::timeout(RECONCILE_WITHIN, comparing).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(provider = %worker.short(), %error, "books could not be evened"),
        Err(_) => debug!(provider = %worker.short(), "books could not be evened in time"),
    }
}

/// One exchange of accounts.
async fn reconcile_lease(node: &Arc<Node>, line: &mut BuyerLine, lease: &Arc<Lease>) -> Result<(), LineError> {
    line.send(&[node.leases.account(lease).into()]).await?;
    loop {
        match line.next().await? {
            ToBuyer::Missing(enclosed) => match node.leases.settle(node, lease, &enclosed.envelope.0).await {
                Ok(settled) => line.send(&countersigns(&settled.signs)).await?,
                Err(error) => info!(lease = %lease.id, %error, "a missing receipt was refused"),
            },
            ToBuyer::Reconcile(theirs) if theirs.lease == lease.id => {
                let lacking = node.leases.reconciled(lease, &theirs);
                return line.send(&countersigns(&lacking)).await;
            }
            _ => {}
        }
    }
}

fn refusal(fail: Fail) -> Failure {
    match fail.code {
        FailCode::Busy | FailCode::Exposure => Failure::Busy,
        FailCode::LeaseEnded => Failure::Ended,
        _ => Failure::Failed(fail),
    }
}

fn endpoint(endpoint: Endpoint) -> frames::Endpoint {
    match endpoint {
        Endpoint::ChatCompletions => frames::Endpoint::ChatCompletions,
        Endpoint::Completions => frames::Endpoint::Completions,
        Endpoint::Embeddings => frames::Endpoint::Embeddings,
    }
}

fn frames_of(request: &Request, body: &Bytes) -> Vec<BuyerFrame> {
    let parts = body.chunks(PART_BYTES).map(|part| {
        Body {
            bytes: Blob(part.to_vec()),
        }
        .into()
    });
    std::iter::once(request.clone().into()).chain(parts).collect()
}

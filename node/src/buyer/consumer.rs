//! The consumer's side of a purchase: a head, bytes as they come, and what it cost at the end.
//!
//! The gateway holds the [`Answer`]; the spine holds the `Consumer`, and each attempt a `Leg` of it. Dropping the answer is
//! how a consumer cancels.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use infernet_protocol::receipt::JobReceipt;
use infernet_protocol::stream::frames::Usage;
use infernet_protocol::{Digest, LeaseId, MicroUsd, NodeId, Price, RequestId, Verified};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::buyer::BuyError;
use crate::leases::Lease;
use crate::runtime::unpoisoned;

/// Chunks that wait for a consumer that reads slowly; beyond it the provider is back-pressured.
const CHUNKS: usize = 32;
/// Bytes of an answer that are held before anything is told; an answer that is not streamed fits as a rule.
const HELD: usize = 1024 * 1024;

/// How an answer begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// HTTP status of the engine.
    pub status: u16,
    /// Content type.
    pub content_type: String,
}

/// Who answers, and at what price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The lease.
    pub lease: LeaseId,
    /// The request.
    pub request: RequestId,
    /// The provider.
    pub provider: NodeId,
    /// The agreed price.
    pub price: Price,
}

/// What is known when all is over.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Who answered.
    pub chosen: Chosen,
    /// What it used.
    pub usage: Usage,
    /// What it cost.
    pub cost: MicroUsd,
    /// Providers that delivered, in order.
    pub providers: Vec<NodeId>,
    /// Providers that were tried.
    pub attempts: u32,
    /// Hash of the receipt.
    pub receipt: Digest,
    /// The receipt itself.
    pub signed: Verified<JobReceipt>,
}

impl Summary {
    /// Of an answer that one provider gave; the rest is for the spine to tell.
    pub(crate) fn new(lease: &Lease, receipt: &Verified<JobReceipt>, usage: Usage) -> Self {
        Self {
            chosen: Chosen {
                lease: lease.id,
                request: receipt.step.request,
                provider: lease.worker,
                price: lease.papers.bid.price,
            },
            usage,
            cost: receipt.step.amount,
            providers: vec![lease.worker],
            attempts: 1,
            receipt: receipt.hash(),
            signed: receipt.clone(),
        }
    }
}

/// The consumer went away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the consumer went away")]
pub struct Gone;

/// What the spine tells the consumer.
#[derive(Debug)]
pub enum Said {
    /// Bytes of the answer.
    Data(Bytes),
    /// It is over.
    Over(Box<Result<Summary, BuyError>>),
}

/// How an answer begins, or why it does not.
pub type Beginning = Result<(Head, Chosen), BuyError>;

/// The answer, as the gateway holds it.
#[derive(Debug)]
pub struct Answer {
    /// Ready when the engine has begun, or when all failed before.
    pub head: oneshot::Receiver<Beginning>,
    /// The bytes, then how it ended.
    pub said: mpsc::Receiver<Said>,
}

/// The spine's end: who it was, and how it ended.
#[derive(Debug)]
pub(crate) struct Consumer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    head: Mutex<Option<oneshot::Sender<Beginning>>>,
    said: mpsc::Sender<Said>,
    /// One leg has begun to tell.
    claimed: CancellationToken,
}

/// One attempt's way to the consumer. What a provider says before its first token is held here: another attempt may
/// begin anew, or be quicker. The first that has something to tell is the one that tells.
#[derive(Debug)]
pub(crate) struct Leg {
    shared: Arc<Shared>,
    chosen: Option<Chosen>,
    head: Option<Head>,
    held: Vec<Bytes>,
    held_bytes: usize,
    /// The consumer hears this leg.
    tells: bool,
}

/// Both ends.
pub(crate) fn pair() -> (Consumer, Answer) {
    let (head, head_receiver) = oneshot::channel();
    let (said, said_receiver) = mpsc::channel(CHUNKS);
    let shared = Shared {
        head: Mutex::new(Some(head)),
        said,
        claimed: CancellationToken::new(),
    };
    let consumer = Consumer {
        shared: Arc::new(shared),
    };
    (
        consumer,
        Answer {
            head: head_receiver,
            said: said_receiver,
        },
    )
}

impl Consumer {
    /// Whether the consumer has seen anything, so that nobody else can begin anew.
    pub(crate) fn has_begun(&self) -> bool {
        self.shared.claimed.is_cancelled()
    }

    /// The way of one attempt; where something was told, it goes on from there.
    pub(crate) fn leg(&self) -> Leg {
        Leg {
            shared: self.shared.clone(),
            chosen: None,
            head: None,
            held: Vec::new(),
            held_bytes: 0,
            tells: self.has_begun(),
        }
    }

    /// Whether the consumer went away.
    pub(crate) fn is_gone(&self) -> bool {
        self.shared.said.is_closed()
    }

    /// Ready when the consumer went away.
    pub(crate) async fn gone(&self) {
        self.shared.said.closed().await;
    }

    pub(crate) async fn finish(&self, summary: Summary) {
        self.over(Ok(summary)).await;
    }

    pub(crate) async fn fail(&self, error: BuyError) {
        let head = unpoisoned(&self.shared.head).take();
        match head {
            // A consumer that went away needs no answer.
            Some(head) => drop(head.send(Err(error))),
            None => self.over(Err(error)).await,
        }
    }

    async fn over(&self, outcome: Result<Summary, BuyError>) {
        let said = self.shared.said.send(Said::Over(Box::new(outcome)));
        let _ = tokio::time::timeout(crate::line::STALLED, said).await;
    }
}

impl Leg {
    /// A provider was asked.
    pub(crate) fn chosen(&mut self, lease: &Arc<Lease>, request: RequestId) {
        self.chosen = Some(Chosen {
            lease: lease.id,
            request,
            provider: lease.worker,
            price: lease.papers.bid.price,
        });
    }

    /// Whether the consumer hears this leg.
    pub(crate) fn tells(&self) -> bool {
        self.tells
    }

    /// Whether another leg was quicker.
    pub(crate) fn is_beaten(&self) -> bool {
        !self.tells && self.shared.claimed.is_cancelled()
    }

    /// The engine has begun.
    pub(crate) fn head(&mut self, head: Head) {
        self.head = Some(head);
    }

    /// Bytes of the answer. They are held until something was worth telling; then it waits while the consumer reads
    /// slowly.
    pub(crate) async fn data(&mut self, bytes: Bytes, worth_telling: bool) -> Result<(), Gone> {
        if !self.tells {
            self.held_bytes += bytes.len();
            self.held.push(bytes);
            return if worth_telling || self.held_bytes > HELD {
                self.release().await
            } else {
                Ok(())
            };
        }
        self.shared.said.send(Said::Data(bytes)).await.map_err(|_| Gone)
    }

    /// Tells the consumer what was held, for the first time, unless another leg tells already.
    async fn release(&mut self) -> Result<(), Gone> {
        let (Some(head), Some(chosen)) = (self.head.take(), &self.chosen) else {
            return Ok(());
        };
        let sender = unpoisoned(&self.shared.head).take().ok_or(Gone)?;
        self.tells = true;
        self.shared.claimed.cancel();
        sender.send(Ok((head, chosen.clone()))).map_err(|_| Gone)?;
        for bytes in std::mem::take(&mut self.held) {
            self.shared.said.send(Said::Data(bytes)).await.map_err(|_| Gone)?;
        }
        // A fast engine has more ready: what there is is written out first.
        tokio::task::yield_now().await;
        Ok(())
    }

    /// The answer is whole; what was held of it is told.
    pub(crate) async fn complete(&mut self) -> Result<(), Gone> {
        // What came since it tells was never held.
        if self.tells { Ok(()) } else { self.release().await }
    }

    /// Ready when nobody hears this leg any more: the consumer went away, or hears another.
    pub(crate) async fn gone(&self) {
        tokio::select! {
            () = self.shared.said.closed() => {}
            () = self.shared.claimed.cancelled(), if !self.tells => {}
        }
    }
}

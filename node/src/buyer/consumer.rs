//! The consumer's side of a purchase: a head, bytes as they come, and what it cost at the end.
//!
//! The gateway holds the [`Answer`]; the spine holds the `Consumer`. Dropping the answer is how a consumer cancels.

use std::sync::Arc;

use bytes::Bytes;
use infernet_protocol::receipt::JobReceipt;
use infernet_protocol::stream::frames::Usage;
use infernet_protocol::{Digest, LeaseId, MicroUsd, NodeId, Price, RequestId, Verified};
use tokio::sync::{mpsc, oneshot};

use crate::buyer::BuyError;
use crate::leases::Lease;

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

/// The answer, as the gateway holds it.
#[derive(Debug)]
pub struct Answer {
    /// Ready when the engine has begun, or when all failed before.
    pub head: oneshot::Receiver<Result<(Head, Chosen), BuyError>>,
    /// The bytes, then how it ended.
    pub said: mpsc::Receiver<Said>,
}

/// The spine's end. What a provider says before its first token is held here, so that another can begin anew.
#[derive(Debug)]
pub(crate) struct Consumer {
    head: Option<oneshot::Sender<Result<(Head, Chosen), BuyError>>>,
    said: mpsc::Sender<Said>,
    chosen: Option<Chosen>,
    held_head: Option<Head>,
    held: Vec<Bytes>,
    held_bytes: usize,
}

/// Both ends.
pub(crate) fn pair() -> (Consumer, Answer) {
    let (head, head_receiver) = oneshot::channel();
    let (said, said_receiver) = mpsc::channel(CHUNKS);
    let consumer = Consumer {
        head: Some(head),
        said,
        chosen: None,
        held_head: None,
        held: Vec::new(),
        held_bytes: 0,
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
    /// A provider was asked.
    pub(crate) fn chosen(&mut self, lease: &Arc<Lease>, request: RequestId) {
        self.chosen = Some(Chosen {
            lease: lease.id,
            request,
            provider: lease.worker,
            price: lease.papers.bid.price,
        });
    }

    /// Whether the consumer has seen anything, so that nobody else can begin anew.
    pub(crate) fn has_begun(&self) -> bool {
        self.head.is_none()
    }

    /// Forgets what a provider said that then failed.
    pub(crate) fn begin_anew(&mut self) {
        (self.held_head, self.held_bytes) = (None, 0);
        self.held.clear();
    }

    /// The engine has begun.
    pub(crate) fn head(&mut self, head: Head) {
        self.held_head = Some(head);
    }

    /// Bytes of the answer. They are held until something was worth telling; then it waits while the consumer reads
    /// slowly.
    pub(crate) async fn data(&mut self, bytes: Bytes, worth_telling: bool) -> Result<(), Gone> {
        if !self.has_begun() {
            self.held_bytes += bytes.len();
            self.held.push(bytes);
            return if worth_telling || self.held_bytes > HELD {
                self.release().await
            } else {
                Ok(())
            };
        }
        self.said.send(Said::Data(bytes)).await.map_err(|_| Gone)
    }

    /// Tells the consumer what was held.
    async fn release(&mut self) -> Result<(), Gone> {
        if let (Some(head), Some(chosen)) = (self.held_head.take(), &self.chosen)
            && let Some(sender) = self.head.take()
        {
            sender.send(Ok((head, chosen.clone()))).map_err(|_| Gone)?;
        }
        for bytes in std::mem::take(&mut self.held) {
            self.said.send(Said::Data(bytes)).await.map_err(|_| Gone)?;
        }
        // A fast engine has more ready: the consumer's task goes first, which waits for this one's thread.
        tokio::task::yield_now().await;
        Ok(())
    }

    /// The answer is whole; what was held of it is told.
    pub(crate) async fn complete(&mut self) -> Result<(), Gone> {
        self.release().await
    }

    /// Whether the consumer went away.
    pub(crate) fn is_gone(&self) -> bool {
        self.said.is_closed()
    }

    /// Ready when the consumer went away.
    pub(crate) async fn gone(&self) {
        self.said.closed().await;
    }

    pub(crate) async fn finish(mut self, summary: Summary) {
        if self.release().await.is_err() {
            return;
        }
        self.over(Ok(summary)).await;
    }

    pub(crate) async fn fail(mut self, error: BuyError) {
        match self.head.take() {
            // A consumer that went away needs no answer.
            Some(head) => drop(head.send(Err(error))),
            None => self.over(Err(error)).await,
        }
    }

    async fn over(self, outcome: Result<Summary, BuyError>) {
        let said = self.said.send(Said::Over(Box::new(outcome)));
        let _ = tokio::time::timeout(crate::line::STALLED, said).await;
    }
}

//! One lease of the buyer, and one request that runs under it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use infernet_protocol::capability::ModelAd;
use infernet_protocol::codec::Blob;
use infernet_protocol::market::lease::{Bounds, BuyerLease, Papers};
use infernet_protocol::receipt::ledger::Seen;
use infernet_protocol::stream::frames::{BuyerFrame, Start};
use infernet_protocol::{Digest, LeaseId, MicroUsd, ModelId, NodeId, RequestId};
use infernet_swarm::OpenError;
use tokio::sync::Notify;
use tracing::warn;

use super::{IDLE_LINES, OPEN_WITHIN};
use crate::buyer::{Failure, Purchase};
use crate::clock;
use crate::line::BuyerLine;
use crate::market::Placed;
use crate::node::Node;
use crate::runtime::unpoisoned;
use crate::spending::Spending;
use crate::store::{Record, RequestDropped, Store, Unreceipted};

/// A lease ends soon when it has less than this part left of its time, or of its requests: a twentieth of ten minutes
/// is half a minute, in which an auction may fail and be held again.
const ENDS_SOON: u32 = 20;

/// A lease that this node bought.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) id: LeaseId,
    pub(crate) worker: NodeId,
    pub(crate) papers: Papers,
    /// What the provider advertised of the model; null where its ad is not known.
    entry: Option<ModelAd>,
    /// The auction that it came from; null where it came from the journal.
    pub(super) origin: Option<Origin>,
    pub(super) state: Mutex<BuyerLease>,
    pub(super) idle: Mutex<Vec<BuyerLine>>,
    /// Receipts of which the worker is known to hold our verdict.
    pub(super) even: AtomicUsize,
    used: Mutex<Instant>,
    /// Another was bought to take its place.
    pub(super) renewed: AtomicBool,
}

/// Where a lease came from: what it is renewed by.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    /// The auction, with the bids that were not accepted.
    pub(super) placed: Arc<Placed>,
    /// What was asked for, without its text.
    pub(super) purchase: Purchase,
}

/// One request that runs under a lease. Dropped before it was sent, it never happened.
#[derive(Debug)]
pub(crate) struct Using {
    pub(crate) lease: Arc<Lease>,
    pub(crate) request: RequestId,
    pub(super) freed: Arc<Notify>,
    pub(super) store: Store,
    pub(super) spending: Arc<Spending>,
    pub(super) noted: Option<Bounds>,
    pub(super) ended: bool,
}

impl Using {
    /// What came of it, once its stream has ended or was lost. Say so before its receipt is filed.
    pub(crate) fn received(&mut self, seen: Seen, frames: u64) {
        self.ended = true;
        // No more than was set aside, whatever the provider says that it gives.
        let most = self.noted.map_or(u32::MAX, |noted| noted.output_tokens);
        let seen = Seen {
            output_tokens_max: seen.output_tokens_max.min(most),
            ..seen
        };
        unpoisoned(&self.lease.state).delivered(&self.request, seen, frames);
    }

    /// Whether it is known what came of it.
    pub(crate) fn is_over(&self) -> bool {
        self.ended
    }

    /// The line broke after this much; it is owed, and receipted at the next contact.
    pub(crate) fn lost(&mut self, seen: Seen, commitment: Digest, frames: u64) {
        self.received(seen, frames);
        let lost = Unreceipted {
            lease: self.lease.id,
            request: self.request,
            next_frame: frames,
            input_tokens_max: seen.input_tokens_max,
            output_tokens_max: seen.output_tokens_max,
            commitment,
            lost_at: clock::wall(),
        };
        self.write_down(Record::Unreceipted(lost));
    }

    /// The worker was full, and ran nothing.
    pub(crate) fn busy(&mut self) {
        self.ended = true;
        unpoisoned(&self.lease.state).on_busy(&self.request, clock::now());
        self.write_off();
    }

    /// It failed, and nothing was delivered.
    pub(crate) fn failed(&mut self) {
        self.ended = true;
        unpoisoned(&self.lease.state).failed(&self.request);
        self.write_off();
    }

    fn write_off(&self) {
        self.spending.settle(&self.request, MicroUsd(0));
        if self.noted.is_some() {
            self.write_down(Record::RequestDropped(RequestDropped {
                lease: self.lease.id,
                request: self.request,
            }));
        }
    }

    fn write_down(&self, record: Record) {
        if let Err(error) = self.store.append(record) {
            warn!(lease = %self.lease.id, %error, "how a request ended could not be written down");
        }
    }
}

impl Drop for Using {
    fn drop(&mut self) {
        match self.noted {
            _ if self.ended => {}
            None => unpoisoned(&self.lease.state).failed(&self.request),
            // It may have been sent, and somebody has dropped the rest: settled at the next contact.
            Some(bounds) => unpoisoned(&self.lease.state).abandoned(&self.request, bounds),
        }
        self.freed.notify_one();
    }
}

impl Lease {
    pub(super) fn new(state: BuyerLease, entry: Option<ModelAd>, origin: Option<Origin>) -> Self {
        let papers = state.papers().clone();
        Self {
            entry,
            id: papers.accept.lease,
            worker: papers.accept.winner,
            papers,
            origin,
            state: Mutex::new(state),
            idle: Mutex::default(),
            even: AtomicUsize::new(0),
            used: Mutex::new(Instant::now()),
            renewed: AtomicBool::new(false),
        }
    }

    /// Bounds of a request, with no more output per choice than the provider advertises to give.
    pub(super) fn within_what_is_given(&self, bounds: Bounds, choices: u32) -> Bounds {
        let given = self
            .entry
            .as_ref()
            .map_or(u32::MAX, |entry| entry.max_output.saturating_mul(choices));
        Bounds {
            output_tokens: bounds.output_tokens.min(given),
            ..bounds
        }
    }

    /// Weights that the provider advertises.
    pub(crate) fn weights(&self) -> Option<Digest> {
        self.entry.as_ref()?.digest
    }

    pub(super) fn model(&self) -> &ModelId {
        &self.papers.offer.requirement.model
    }

    pub(super) fn is_live(&self) -> bool {
        !unpoisoned(&self.state).has_ended(clock::now())
    }

    /// Whether both books are known to say the same, and nothing is due.
    pub(crate) fn is_even(&self) -> bool {
        let state = unpoisoned(&self.state);
        state.is_settled() && state.ledger().entries().len() <= self.even.load(Ordering::Relaxed)
    }

    /// Whether its books should be compared: something is due that no stream brings any more, or it is over.
    pub(super) fn is_behind(&self) -> bool {
        let over = !self.is_live();
        unpoisoned(&self.state).is_behind() || (over && !self.is_even())
    }

    pub(super) fn suits(&self, purchase: &Purchase, failed: &[NodeId]) -> bool {
        suits(&self.papers, self.entry.as_ref(), purchase, failed)
    }

    /// A request is made under it now.
    pub(super) fn touch(&self) {
        *unpoisoned(&self.used) = Instant::now();
    }

    /// How long nothing was asked under it.
    pub(super) fn unused_for(&self) -> Duration {
        unpoisoned(&self.used).elapsed()
    }

    /// Whether it will soon take no more, by its time or by what it was bought for.
    pub(super) fn ends_soon(&self) -> bool {
        let state = unpoisoned(&self.state);
        let left = state.expires().0.saturating_sub(clock::now().mono.0);
        let volume = &self.papers.offer.volume;
        left < u64::from(volume.lease.0 / ENDS_SOON) || state.requests_left() <= volume.requests / ENDS_SOON
    }

    /// An open substream that no request uses.
    pub(crate) fn take_line(&self) -> Option<BuyerLine> {
        unpoisoned(&self.idle).pop()
    }

    /// Gives a substream back for the next request.
    pub(crate) fn keep_if_idle(&self, line: BuyerLine) {
        let mut idle = unpoisoned(&self.idle);
        if line.is_idle() && idle.len() < IDLE_LINES {
            idle.push(line);
        }
    }

    /// A new substream, with the lease presented on it.
    pub(crate) async fn open_line(&self, node: &Node) -> Result<BuyerLine, Failure> {
        let opening = node.market.open_stream(self.worker, &self.papers.bid.addresses);
        let stream = match tokio::time::timeout(OPEN_WITHIN, opening).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(OpenError::Busy)) => return Err(Failure::Busy),
            Ok(Err(_)) | Err(_) => return Err(Failure::Unreachable),
        };
        let mut line = BuyerLine::new(stream);
        let Papers { offer, bid, accept } = &self.papers;
        let start = Start {
            accept: Blob(accept.bytes().to_vec()),
            bid: Blob(bid.bytes().to_vec()),
            offer: Blob(offer.bytes().to_vec()),
        };
        // The request follows at once; both leave in one write.
        line.hold(&BuyerFrame::Start(start))?;
        Ok(line)
    }
}

/// Whether a request may go to the winner of a deal: it offers what is needed within what is paid, and is wanted. What
/// its ad says goes beyond what the auction had asked for.
pub(super) fn suits(papers: &Papers, entry: Option<&ModelAd>, purchase: &Purchase, failed: &[NodeId]) -> bool {
    let (offer, worker) = (&papers.offer, papers.accept.winner);
    let able = match entry {
        Some(entry) => purchase.accepts(entry),
        None => offer.requirement.features.contains(purchase.needs) && purchase.weights.is_none(),
    };
    able && offer.policy == purchase.policy
        && papers.bid.price.within(&purchase.price_cap)
        && !failed.contains(&worker)
        && purchase.may_go_to(&worker)
}

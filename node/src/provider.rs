//! The provider's books: the worker machine of `protocol`, kept in step with the journal.
//!
//! What a buyer is told was written down before. A lease is noted when it opens, its use before a request runs, and
//! a receipt is durable before it is sent. Implements the worker's part of `specs/receipts.md`.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use infernet_protocol::auction::{Decline, JobAccept, JobOffer};
use infernet_protocol::capability::CapabilityAd;
use infernet_protocol::market::lease::Papers;
use infernet_protocol::market::worker::{Load, Refusal, Via, Worker};
use infernet_protocol::names::RESUME_WITHIN;
use infernet_protocol::receipt::ledger::LedgerError;
use infernet_protocol::receipt::{Countersign, JobReceipt, Status, Step};
use infernet_protocol::reputation::Service;
use infernet_protocol::signed::Refused;
use infernet_protocol::stream::frames::{FailCode, Head, Open, Reconcile, Resume, Start, WorkerFrame};
use infernet_protocol::{LeaseId, MicroUsd, Millis, ModelId, Network, NodeId, Price, RequestId, Verified};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::clock;
use crate::happenings::{Happening, Happenings};
use crate::line::WorkerLine;
use crate::runtime::unpoisoned;
use crate::store::{LeaseUsed, Record, RequestDropped, Side, Store, StoreError};
use crate::worker::{Answered, Mark};

/// Lines on which a buyer goes on that wait to be taken over: one that comes back faster than that is told to ask again.
const MOVES: usize = 4;
/// Requests that were answered whole and are kept for a buyer that lost the line with their end: those of a few seconds
/// on a busy node, each with the last of its frames.
const OVER: usize = 32;
/// How long.
const KEPT: Duration = Duration::from_millis(RESUME_WITHIN.0 as u64);
/// Requests whose stream was lost and whose marks are kept for a buyer that comes back.
const LEFT_OPEN: usize = 1_024;

/// A request of a buyer that was lost: it is receipted when the buyer says how far it got.
#[derive(Debug)]
pub(crate) struct LeftOpen {
    pub(crate) lease: LeaseId,
    pub(crate) marks: Vec<Mark>,
    pub(crate) began: Instant,
}

/// A line on which a buyer goes on with a request that runs.
#[derive(Debug)]
pub(crate) struct Moved {
    pub(crate) line: WorkerLine,
    /// The first Data frame that it lacks.
    pub(crate) next: u64,
    /// Takes the line back when the request is over.
    pub(crate) back: oneshot::Sender<WorkerLine>,
}

/// A request that was answered whole, for a buyer whose line was lost with its last frames.
#[derive(Debug)]
pub(crate) struct Over {
    lease: LeaseId,
    request: RequestId,
    head: Option<Bytes>,
    /// Data frames made, and the last of them.
    frames: u64,
    kept: VecDeque<Bytes>,
    /// What comes behind the Data frames.
    tail: Vec<Bytes>,
    at: Instant,
}

impl Over {
    pub(crate) fn new(
        lease: LeaseId,
        request: RequestId,
        head: Option<Head>,
        answered: Answered,
        tail: &[WorkerFrame],
    ) -> Self {
        let bytes = |frame: &WorkerFrame| Bytes::from(frame.to_bytes());
        let (frames, kept) = answered.into_kept();
        Self {
            lease,
            request,
            head: head.map(|head| bytes(&head.into())),
            frames,
            kept,
            tail: tail.iter().map(bytes).collect(),
            at: Instant::now(),
        }
    }

    /// What a buyer lacks that has all before `next`; `None` where that is not kept.
    fn from(&self, next: u64) -> Option<Vec<Bytes>> {
        let lacking = usize::try_from(self.frames.checked_sub(next)?).ok()?;
        let first = self.kept.len().checked_sub(lacking)?;
        let head = self.head.iter().filter(|_| next == 0);
        let rest = head.chain(self.kept.range(first..)).chain(&self.tail);
        Some(rest.cloned().collect())
    }
}

/// A request that runs, for those who do not run it.
#[derive(Debug)]
struct Running {
    /// Cancelled when its buyer, on another connection, counts it as lost.
    given_up: CancellationToken,
    moves: mpsc::Sender<Moved>,
}

/// Why a message of a buyer was not filed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FilingError {
    /// Malformed or badly signed.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// It does not fit the lease's book.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The lease is not there, or not that peer's.
    #[error(transparent)]
    Lease(#[from] Refusal),
    /// The disk refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The disk refused an earlier step of the lease.
    #[error("an earlier step of the lease could not be written down")]
    Unwritten,
}

/// What a buyer lacks of a lease, and how far our own book goes.
#[derive(Debug)]
pub(crate) struct Missing {
    pub(crate) receipts: Vec<Verified<JobReceipt>>,
    pub(crate) ours: Reconcile,
}

/// The provider's side of this node.
#[derive(Debug)]
pub(crate) struct Provider {
    network: Network,
    store: Store,
    happenings: Happenings,
    worker: Mutex<Worker>,
    running: Mutex<HashMap<(LeaseId, RequestId), Running>>,
    left_open: Mutex<BTreeMap<RequestId, LeftOpen>>,
    /// The last requests that were answered whole, for a while.
    over: Mutex<VecDeque<Over>>,
    /// Leases whose book in memory is ahead of the journal, since the disk refused: of them nothing more is said until
    /// a restart has read what was written.
    unwritten: Mutex<HashSet<LeaseId>>,
}

/// One slot of the node; dropping it without a receipt frees it and bills nothing.
#[derive(Debug)]
pub(crate) struct Slot<'a> {
    provider: &'a Arc<Provider>,
    lease: LeaseId,
    request: RequestId,
    given_up: CancellationToken,
    moves: mpsc::Receiver<Moved>,
    open: bool,
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        unpoisoned(&self.provider.running).remove(&(self.lease, self.request));
        if self.open {
            self.provider.worker().fail(&self.lease, &self.request);
            self.provider.write_off(self.lease, self.request);
        }
    }
}

impl Slot<'_> {
    pub(crate) fn lease(&self) -> LeaseId {
        self.lease
    }

    /// Says when the buyer, on another connection, counts the request as lost.
    pub(crate) fn given_up(&self) -> CancellationToken {
        self.given_up.clone()
    }

    /// The buyer comes back on another line.
    pub(crate) async fn moved(&mut self) -> Option<Moved> {
        self.moves.recv().await
    }

    /// The engine is done, and the buyer is away: others may have the slot.
    pub(crate) fn rest(&self) {
        self.provider.worker().rest(&self.lease, self.request);
    }

    /// The stream was lost: the request stays open until the buyer comes back.
    pub(crate) fn lose(mut self, open: LeftOpen) {
        self.open = false;
        let mut left_open = unpoisoned(&self.provider.left_open);
        if left_open.len() < LEFT_OPEN {
            left_open.insert(self.request, open);
        }
        drop(left_open);
        self.provider.worker().lose(&self.lease, self.request);
    }

    /// Signs and keeps the receipt for what was delivered; durable when this returns. `None` where the disk refuses:
    /// then nothing is billed.
    pub(crate) async fn settle(mut self, make: impl FnOnce(Price) -> Step) -> Option<Verified<JobReceipt>> {
        let step = make(self.provider.price(&self.lease));
        match self.provider.issue(&self.lease, step).await {
            Ok(receipt) => {
                self.open = false;
                Some(receipt)
            }
            Err(error) => {
                warn!(lease = %self.lease, %error, "receipt could not be kept, so the request is not billed");
                None
            }
        }
    }
}

impl Provider {
    pub(crate) fn new(network: Network, store: Store, happenings: Happenings, worker: Worker) -> Self {
        Self {
            network,
            store,
            happenings,
            worker: Mutex::new(worker),
            running: Mutex::default(),
            left_open: Mutex::default(),
            over: Mutex::default(),
            unwritten: Mutex::default(),
        }
    }

    fn worker(&self) -> MutexGuard<'_, Worker> {
        unpoisoned(&self.worker)
    }

    /// Writes down that a request costs nothing. Where the disk refuses, a restart takes it for lost, and the buyer's
    /// next account mends that.
    fn write_off(&self, lease: LeaseId, request: RequestId) {
        if let Err(error) = self
            .store
            .append(Record::RequestDropped(RequestDropped { lease, request }))
        {
            warn!(%lease, %error, "that a request costs nothing could not be written down");
        }
    }

    // ---- the auction

    /// A bid for an offer, or why there is none.
    pub(crate) fn bid(
        &self,
        offer: &Verified<JobOffer>,
        via: Via,
        ads_held: usize,
    ) -> Result<Verified<infernet_protocol::auction::JobBid>, Decline> {
        self.worker()
            .on_offer(offer, via, ads_held, &clock::entropy(), clock::now())
    }

    /// An accept came by on gossip: it may hold a slot for a moment.
    pub(crate) fn hold(&self, accept: &Verified<JobAccept>) {
        if let Err(refusal) = self.worker().on_accept(accept, clock::now()) {
            tracing::debug!(lease = %accept.lease, %refusal, "accept holds no slot");
        }
    }

    /// The ad that bids stand by.
    pub(crate) fn set_ad(&self, ad: Verified<CapabilityAd>) {
        self.worker().set_ad(Some(ad));
    }

    pub(crate) fn set_slots(&self, slots: u16) {
        self.worker().set_slots(slots);
    }

    pub(crate) fn measured(&self, model: ModelId, service: Service) {
        self.worker().on_measured(model, service);
    }

    pub(crate) fn drain(&self) {
        self.worker().drain();
    }

    pub(crate) fn load(&self) -> Load {
        self.worker().load(clock::now())
    }

    /// Forgets what is over; called now and then.
    pub(crate) fn tick(&self) {
        let mut worker = self.worker();
        let _ = worker.tick(clock::now());
        unpoisoned(&self.left_open).retain(|_, open| worker.lease(&open.lease).is_some());
        unpoisoned(&self.over).retain(|over| over.at.elapsed() <= KEPT);
        unpoisoned(&self.unwritten).retain(|lease| worker.lease(lease).is_some());
    }

    // ---- a lease and its requests

    /// Opens the lease that a Start presents, or finds it open.
    pub(crate) fn start(&self, start: &Start, peer: NodeId) -> Result<LeaseId, FailCode> {
        let papers = self.read(start).map_err(|_| FailCode::Protocol)?;
        let started = self
            .worker()
            .on_start(&papers, &peer, clock::now())
            .map_err(Refusal::code)?;
        if started.is_new {
            let record = Record::lease_opened(
                Side::Provider,
                &papers.offer,
                &papers.bid,
                &papers.accept,
                clock::wall(),
            );
            self.store.append(record).map_err(|_| FailCode::Stopping)?;
        }
        Ok(started.lease)
    }

    fn read(&self, start: &Start) -> Result<Papers, Refused> {
        Ok(Papers {
            offer: Verified::from_bytes(&start.offer.0, &self.network)?,
            bid: Verified::from_bytes(&start.bid.0, &self.network)?,
            accept: Verified::from_bytes(&start.accept.0, &self.network)?,
        })
    }

    /// The model that a lease is for.
    pub(crate) fn model(&self, lease: &LeaseId) -> Option<ModelId> {
        self.worker().lease(lease).map(|lease| lease.model().clone())
    }

    fn price(&self, lease: &LeaseId) -> Price {
        self.worker()
            .lease(lease)
            .map_or(Price::FREE, |lease| lease.deal().price)
    }

    /// A slot for a request, noted before anything runs.
    pub(crate) fn admit(self: &Arc<Self>, lease: LeaseId, request: RequestId) -> Result<Slot<'_>, FailCode> {
        if unpoisoned(&self.unwritten).contains(&lease) {
            return Err(FailCode::LeaseEnded);
        }
        self.worker()
            .on_request(&lease, request, clock::now())
            .map_err(Refusal::code)?;
        let given_up = CancellationToken::new();
        let (moving, moves) = mpsc::channel(MOVES);
        let running = Running {
            given_up: given_up.clone(),
            moves: moving,
        };
        unpoisoned(&self.running).insert((lease, request), running);
        let slot = Slot {
            provider: self,
            lease,
            request,
            given_up,
            moves,
            open: true,
        };
        self.store
            .append(Record::LeaseUsed(LeaseUsed {
                lease,
                request,
                used_at: clock::wall(),
            }))
            .map_err(|_| FailCode::Stopping)?;
        Ok(slot)
    }

    /// Hands a request that runs another line to go on with; gives the line back where it does not run any more.
    #[expect(clippy::result_large_err, reason = "the line goes back to where it came from")]
    pub(crate) fn go_on(&self, lease: LeaseId, request: RequestId, moved: Moved) -> Result<(), Moved> {
        let running = unpoisoned(&self.running);
        let Some(running) = running.get(&(lease, request)) else {
            return Err(moved);
        };
        running.moves.try_send(moved).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(moved) | mpsc::error::TrySendError::Closed(moved) => moved,
        })
    }

    /// Keeps a request that was answered whole for as long as it may be resumed.
    pub(crate) fn keep(&self, over: Over) {
        let mut kept = unpoisoned(&self.over);
        while kept.len() >= OVER || kept.front().is_some_and(|over| over.at.elapsed() > KEPT) {
            kept.pop_front();
        }
        kept.push_back(over);
    }

    /// What a buyer that resumes lacks of a request that is over; `None` where that is not kept.
    pub(crate) fn over(&self, lease: &LeaseId, resume: &Resume) -> Option<Vec<Bytes>> {
        let kept = unpoisoned(&self.over);
        let is_it = |over: &&Over| (over.lease, over.request) == (*lease, resume.request) && over.at.elapsed() <= KEPT;
        kept.iter().find(is_it)?.from(resume.next)
    }

    async fn issue(&self, lease: &LeaseId, step: Step) -> Result<Verified<JobReceipt>, FilingError> {
        // Signing takes less time than handing it to another thread.
        let receipt = self.sign(lease, step)?;
        if let Err(error) = self.store.sync().await {
            unpoisoned(&self.unwritten).insert(*lease);
            return Err(error.into());
        }
        Ok(receipt)
    }

    fn sign(&self, lease: &LeaseId, step: Step) -> Result<Verified<JobReceipt>, FilingError> {
        let mut worker = self.worker();
        if unpoisoned(&self.unwritten).contains(lease) {
            return Err(FilingError::Unwritten);
        }
        let receipt = worker.finish(lease, step, &clock::entropy(), clock::now())?;
        // Under the lock, so that the journal has receipts in the order of the book.
        if let Err(error) = self.store.append(Record::receipt(&receipt)) {
            unpoisoned(&self.unwritten).insert(*lease);
            return Err(error.into());
        }
        Ok(receipt)
    }

    /// Files a buyer's countersignature.
    pub(crate) fn countersigned(&self, envelope: &[u8], peer: NodeId) -> Result<(), FilingError> {
        let sign = Verified::<Countersign>::from_bytes(envelope, &self.network)?;
        if sign.signer() != peer {
            return Err(LedgerError::OtherParty.into());
        }
        let mut worker = self.worker();
        if !worker.on_countersign(sign.clone())? {
            return Ok(());
        }
        self.store.append(Record::countersign(&sign))?;
        if let Some(dispute) = sign.dispute {
            info!(lease = %sign.lease, seq = sign.seq, %dispute, "the buyer disputes a receipt");
        }
        let entry = worker
            .lease(&sign.lease)
            .and_then(|lease| lease.ledger().entries().get(sign.seq as usize));
        if let Some(entry) = entry {
            let receipt = entry.receipt.clone();
            self.happenings.tell(|| Happening::Settled {
                receipt,
                countersign: sign,
            });
        }
        Ok(())
    }

    /// Answers a buyer's account. Requests that were lost are receipted for the prefix that it names.
    pub(crate) async fn reconcile(&self, theirs: &Reconcile, peer: NodeId) -> Result<Missing, FilingError> {
        if unpoisoned(&self.unwritten).contains(&theirs.lease) {
            return Err(FilingError::Unwritten);
        }
        let answer = self.worker().on_reconcile(theirs, &peer)?;
        for request in answer.written_off {
            self.write_off(theirs.lease, request);
            unpoisoned(&self.left_open).remove(&request);
        }
        // What the buyer counts as lost while it still runs here streams into a connection that is dead: it ends, and
        // is receipted at the next account.
        for open in theirs.open.iter() {
            if let Some(running) = unpoisoned(&self.running).get(&(theirs.lease, open.request)) {
                running.given_up.cancel();
            }
        }
        let price = self.price(&theirs.lease);
        for open in answer.to_receipt {
            self.issue(&theirs.lease, self.lost_step(&open, price)).await?;
        }
        let answer = self.worker().on_reconcile(theirs, &peer)?;
        Ok(Missing {
            receipts: answer.receipts,
            ours: answer.reconcile,
        })
    }

    fn lost_step(&self, open: &Open, price: Price) -> Step {
        let lost = unpoisoned(&self.left_open).remove(&open.request);
        let last = usize::try_from(open.next).ok().and_then(|next| next.checked_sub(1));
        let mark = lost.as_ref().zip(last).and_then(|(lost, last)| lost.marks.get(last));
        // A prefix that we did not send, or none, is billed as nothing.
        let mark = mark.filter(|mark| mark.commitment == open.commitment);
        let usage = mark.map(|mark| mark.usage).unwrap_or_default();
        Step {
            request: open.request,
            status: Status::Failed,
            input_tokens: usage.input_tokens,
            output_tokens: usage.output_tokens,
            ttft: Millis(0),
            duration: lost
                .as_ref()
                .map_or(Millis(0), |lost| crate::worker::millis(lost.began)),
            amount: mark.map_or(MicroUsd(0), |_| price.due(usage.input_tokens, usage.output_tokens)),
            commitment: open.commitment,
        }
    }
}

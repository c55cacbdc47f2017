//! The buyer's leases: which provider a request goes to, and the substreams that are kept open to it.
//!
//! A lease is found among the live ones, or bought in an auction; the auction's other bids stay with it as
//! runners-up. In the steady state a request takes a lease and an open substream and nothing else. Where the leases
//! that suit are full and nobody else is free, a request waits here, in bounded company, until its deadline. A lease in
//! use is renewed before it ends, and one that nobody uses is let go of. A conversation goes to a provider that has read
//! its beginning, where that has room.

pub(crate) mod affinity;
mod lease;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use infernet_protocol::market::lease::{Bounds, BuyerLease, NotUsable, Papers};
use infernet_protocol::receipt::ledger::LedgerError;
use infernet_protocol::receipt::{Countersign, JobReceipt};
use infernet_protocol::signed::Refused;
use infernet_protocol::stream::frames::Reconcile;
use infernet_protocol::{LeaseId, MicroUsd, ModelId, NodeId, Price, RequestId, Verified};
use tokio::sync::Notify;
use tracing::{debug, warn};

use crate::buyer::Purchase;
use crate::clock;
use crate::happenings::Happening;
use crate::node::Node;
use crate::runtime::unpoisoned;
use crate::spending::{OverBudget, Spending};
use crate::store::{Record, RequestDropped, RequestFor, RequestMade, Side, Store, StoreError};
use affinity::Affinity;
pub(crate) use lease::{Lease, Using};
use lease::{Origin, suits};

/// Requests that may wait for a free provider; one more is told so at once.
const WAITING: usize = 256;
/// How long a waiting request sleeps before it looks again, if nothing wakes it.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// After an auction that placed nothing the model is not auctioned again for this long.
const AUCTION_PAUSE: Duration = Duration::from_millis(250);
/// Idle substreams kept per lease; one more is closed.
const IDLE_LINES: usize = 64;
/// Models whose auctions are kept apart; a gateway's programs use a few.
const MODELS: usize = 1_024;
/// Live leases kept per model.
const LEASES_PER_MODEL: usize = 64;
/// Leases that are kept until their books are even.
const LEASES_OPEN: usize = 4_096;
/// A lease that nothing was asked under for this long is let go of: longer than people think between two questions.
const IDLE: Duration = Duration::from_secs(5 * 60);
/// One that was used this lately is renewed before it ends.
const IN_USE: Duration = Duration::from_secs(2 * 60);
/// Time for the direct connection and the substream.
const OPEN_WITHIN: Duration = Duration::from_secs(5);

/// Why no provider could be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unplaced {
    /// No ad that is known serves the model.
    #[error("nobody on the network serves `{model}`")]
    NobodyServes {
        /// The model.
        model: ModelId,
        /// Names of models that are served and look alike.
        near: Vec<ModelId>,
    },
    /// Providers there are, but none within the price cap.
    #[error("no provider of `{model}` is within the price cap; raise it with `price_cap` or choose another model")]
    TooDear {
        /// The model.
        model: ModelId,
        /// The lowest price asked.
        cheapest: Price,
    },
    /// Providers there are, but none that this node can pay.
    #[error("every provider of `{model}` within the price cap wants to be paid in a way that this node cannot pay")]
    NoRail {
        /// The model.
        model: ModelId,
    },
    /// Providers there are, but none that has what the request needs.
    #[error("no provider of `{model}` can do what the request needs")]
    Unfit {
        /// The model.
        model: ModelId,
    },
    /// Providers there are, but none that the request lets it go to.
    #[error("no provider of `{model}` is one that the request allows")]
    LeftOut {
        /// The model.
        model: ModelId,
    },
    /// Providers there are, but none is free or answers.
    #[error("no provider of `{model}` is free")]
    NobodyFree {
        /// The model.
        model: ModelId,
    },
    /// Too many requests wait already.
    #[error("too many requests wait for a provider")]
    TooManyWait,
    /// The journal cannot be written.
    #[error("the journal cannot be written; free some disk space")]
    Journal,
}

/// All leases that this node bought and still needs.
#[derive(Debug)]
pub(crate) struct Leases {
    store: Store,
    spending: Arc<Spending>,
    live: Mutex<HashMap<ModelId, Vec<Arc<Lease>>>>,
    /// Leases that ended, whose last receipts are still to be told.
    ended: Mutex<Vec<Arc<Lease>>>,
    /// Leases that are not even, live or over.
    open: Mutex<HashMap<LeaseId, Arc<Lease>>>,
    /// One auction at a time per model: a burst of requests shares its outcome.
    auctions: Mutex<HashMap<ModelId, Arc<tokio::sync::Mutex<Option<Instant>>>>>,
    freed: Arc<Notify>,
    waiting: AtomicUsize,
    /// Workers whose books are being compared with ours.
    comparing: Mutex<HashSet<NodeId>>,
    /// Workers that were looked for, and their ad at that time.
    sought: Mutex<HashMap<NodeId, u64>>,
    affinity: Mutex<Affinity>,
}

/// Books are compared with this worker until it is dropped.
pub(crate) struct Comparing<'a>(&'a Leases, NodeId);

impl Drop for Comparing<'_> {
    fn drop(&mut self) {
        unpoisoned(&self.0.comparing).remove(&self.1);
    }
}

/// Counts a request that waits.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why a request may not be sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoteError {
    /// It may cost more than is left.
    #[error(transparent)]
    OverBudget(#[from] OverBudget),
    /// The disk refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a receipt was not filed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettleError {
    /// Malformed or badly signed.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// It does not fit the lease's book.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The disk refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A receipt that was filed, and the countersignatures that may now be sent.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) receipt: Verified<JobReceipt>,
    /// None where an earlier receipt is still on its way on another substream; several where this one was awaited.
    pub(crate) signs: Vec<Verified<Countersign>>,
}

impl Leases {
    /// With the leases that the journal holds; of an earlier life they are evened, and not used again.
    pub(crate) fn new(store: Store, recovered: impl IntoIterator<Item = BuyerLease>, spending: Spending) -> Self {
        let open = recovered.into_iter().map(|mut lease| {
            lease.end();
            let lease = Arc::new(Lease::new(lease, None, None));
            (lease.id, lease)
        });
        Self {
            store,
            spending: Arc::new(spending),
            live: Mutex::default(),
            ended: Mutex::default(),
            open: Mutex::new(open.collect()),
            auctions: Mutex::default(),
            freed: Arc::default(),
            waiting: AtomicUsize::new(0),
            comparing: Mutex::default(),
            sought: Mutex::default(),
            affinity: Mutex::default(),
        }
    }

    /// A lease with room for the request: a live one, else one bought now, else the first that frees, where it may wait.
    pub(crate) async fn find(
        &self,
        node: &Arc<Node>,
        purchase: &Purchase,
        failed: &[NodeId],
    ) -> Result<Using, Unplaced> {
        if let Some(using) = self.live(purchase, failed) {
            return Ok(using);
        }
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= WAITING {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(Unplaced::TooManyWait);
        }
        let _waiting = Waiting(&self.waiting);
        loop {
            let freed = self.freed.notified();
            match self.buy(node, purchase, failed).await {
                Ok(using) => return Ok(using),
                Err(Unplaced::NobodyFree { .. }) if purchase.may_wait && self.has_any(purchase, failed) => {}
                Err(unplaced) => return Err(unplaced),
            }
            let _ = tokio::time::timeout(LOOK_AGAIN, freed).await;
            if let Some(using) = self.live(purchase, failed) {
                return Ok(using);
            }
        }
    }

    fn begin(&self, lease: &Arc<Lease>) -> Result<Using, NotUsable> {
        let request = RequestId(clock::entropy());
        unpoisoned(&lease.state).begin(request, clock::now())?;
        lease.touch();
        Ok(Using {
            lease: lease.clone(),
            request,
            freed: self.freed.clone(),
            store: self.store.clone(),
            spending: self.spending.clone(),
            noted: None,
            ended: false,
        })
    }

    /// Buys a lease, unless somebody else just did.
    async fn buy(&self, node: &Arc<Node>, purchase: &Purchase, failed: &[NodeId]) -> Result<Using, Unplaced> {
        let since = Instant::now();
        let turn = {
            let mut auctions = unpoisoned(&self.auctions);
            if auctions.len() >= MODELS {
                // Whoever holds a turn keeps it; only its waiting line is begun anew.
                auctions.clear();
            }
            auctions.entry(purchase.model.clone()).or_default().clone()
        };
        let mut paused = turn.lock().await;
        if let Some(using) = self.live(purchase, failed) {
            return Ok(using);
        }
        let nobody_free = || Unplaced::NobodyFree {
            model: purchase.model.clone(),
        };
        let has_any = self.has_any(purchase, failed);
        // Those who waited for their turn while another auction found nobody free take its word for it.
        let shared = |failed: &Instant| since < *failed || has_any && failed.elapsed() < AUCTION_PAUSE;
        if paused.as_ref().is_some_and(shared) {
            return Err(nobody_free());
        }
        let mut ignore = failed.to_vec();
        ignore.extend(self.full(purchase, failed));
        let placed = match node.market.auction(node, purchase, &ignore).await {
            Ok(placed) => placed,
            Err(unplaced) => {
                let is_broad = purchase.only.is_empty()
                    && purchase.ignore.is_empty()
                    && purchase.quantisations.is_empty()
                    && purchase.weights.is_none()
                    && failed.is_empty();
                if is_broad && matches!(unplaced, Unplaced::NobodyFree { .. }) {
                    *paused = Some(Instant::now());
                }
                // Those of whom we hold full leases were left out of the auction.
                return Err(if has_any { nobody_free() } else { unplaced });
            }
        };
        let entry = |papers: &Papers| node.market.entry_of(&papers.accept.winner, &purchase.model);
        let suited = |papers: &Papers| suits(papers, entry(papers).as_ref(), purchase, &ignore);
        let papers = placed.accept_next(suited).ok_or_else(nobody_free)?;
        let purchase = purchase.without_text();
        self.open(node, papers, Origin { placed, purchase })
    }

    fn open(&self, node: &Arc<Node>, papers: Papers, origin: Origin) -> Result<Using, Unplaced> {
        let Papers { offer, bid, accept } = &papers;
        let record = Record::lease_opened(Side::Buyer, offer, bid, accept, clock::wall());
        self.store.append(record).map_err(|_| Unplaced::Journal)?;
        node.market.accepted(node, &papers, origin.placed.elapsed_us());
        let entry = node.market.entry_of(&bid.signer(), &offer.requirement.model);
        let state = BuyerLease::open(papers.clone(), clock::now());
        let lease = Arc::new(Lease::new(state, entry, Some(origin)));
        debug!(lease = %lease.id, provider = %lease.worker.short(), "lease bought");
        let using = self.begin(&lease).map_err(|_| Unplaced::NobodyFree {
            model: lease.model().clone(),
        })?;
        unpoisoned(&self.open).insert(lease.id, lease.clone());
        let mut live = unpoisoned(&self.live);
        let leases = live.entry(lease.model().clone()).or_default();
        unpoisoned(&self.ended).extend(take_ended(leases));
        if leases.len() < LEASES_PER_MODEL {
            leases.push(lease.clone());
        }
        drop(live);
        // Others who wait may share its places.
        self.freed.notify_waiters();
        Ok(using)
    }

    fn live(&self, purchase: &Purchase, failed: &[NodeId]) -> Option<Using> {
        let reader = unpoisoned(&self.affinity).reader_of(&purchase.prefixes, Instant::now());
        let live = unpoisoned(&self.live);
        let leases = live.get(&purchase.model)?;
        let with = |is_reader: bool| {
            let suited = leases
                .iter()
                .filter(move |lease| (Some(lease.worker) == reader) == is_reader && lease.suits(purchase, failed));
            suited.map(|lease| self.begin(lease))
        };
        let readers = reader.into_iter().flat_map(|_| with(true));
        readers.chain(with(false)).find_map(Result::ok)
    }

    /// A provider has read this request.
    pub(crate) fn was_read(&self, purchase: &Purchase, provider: NodeId) {
        unpoisoned(&self.affinity).note(&purchase.prefixes, provider, Instant::now());
    }

    fn has_any(&self, purchase: &Purchase, failed: &[NodeId]) -> bool {
        let live = unpoisoned(&self.live);
        let leases = live.get(&purchase.model);
        leases.is_some_and(|leases| {
            leases
                .iter()
                .any(|lease| lease.suits(purchase, failed) && lease.is_live())
        })
    }

    /// Providers of live leases that would do: they are full, or one would be used, and who is full will not win.
    fn full(&self, purchase: &Purchase, failed: &[NodeId]) -> Vec<NodeId> {
        let live = unpoisoned(&self.live);
        live.get(&purchase.model)
            .into_iter()
            .flatten()
            .filter(|lease| lease.is_live() && lease.suits(purchase, failed))
            .map(|lease| lease.worker)
            .collect()
    }

    /// The next-best bid of the auction that this lease came from, which another request may have held.
    pub(crate) fn runner_up(
        &self,
        node: &Arc<Node>,
        lease: &Lease,
        purchase: &Purchase,
        failed: &[NodeId],
    ) -> Option<Using> {
        let origin = lease.origin.as_ref()?;
        let entry = |papers: &Papers| node.market.entry_of(&papers.accept.winner, &purchase.model);
        let papers = origin.placed.accept_next(|papers| {
            suits(papers, entry(papers).as_ref(), purchase, failed) && !node.market.keeps_failing(&papers.accept.winner)
        })?;
        self.open(node, papers, origin.clone()).ok()
    }

    /// A lease with another provider, without an auction: a live one, or a bid of an earlier auction.
    pub(crate) fn another(&self, node: &Arc<Node>, purchase: &Purchase, avoid: &[NodeId]) -> Option<Using> {
        if let Some(using) = self.live(purchase, avoid) {
            return Some(using);
        }
        let leases = unpoisoned(&self.live).get(&purchase.model).cloned().unwrap_or_default();
        leases
            .iter()
            .find_map(|lease| self.runner_up(node, lease, purchase, avoid))
    }

    /// Ends every lease with a provider.
    pub(crate) fn end_with(&self, worker: NodeId) {
        let live: Vec<_> = unpoisoned(&self.live).values().flatten().cloned().collect();
        for lease in live.iter().filter(|lease| lease.worker == worker) {
            self.end(lease);
        }
    }

    /// A worker is reached directly from now on: substreams through relays are used no more.
    pub(crate) fn leave_circuits(&self, worker: &NodeId) {
        let live: Vec<_> = unpoisoned(&self.live).values().flatten().cloned().collect();
        for lease in live.iter().filter(|lease| lease.worker == *worker) {
            unpoisoned(&lease.idle).retain(|line| !line.is_relayed());
        }
    }

    /// Ends a lease: nothing is asked of it any more.
    pub(crate) fn end(&self, lease: &Lease) {
        unpoisoned(&lease.state).end();
        if let Some(leases) = unpoisoned(&self.live).get_mut(lease.model()) {
            unpoisoned(&self.ended).extend(take_ended(leases));
        }
        unpoisoned(&lease.idle).clear();
    }

    /// Ends every lease.
    pub(crate) fn end_all(&self) {
        let live: Vec<_> = unpoisoned(&self.live).values().flatten().cloned().collect();
        for lease in live {
            self.end(&lease);
        }
    }

    /// Renews leases that are in use and end soon; called now and then.
    pub(crate) fn renew(&self, node: &Arc<Node>) {
        let live: Vec<_> = unpoisoned(&self.live).values().flatten().cloned().collect();
        for lease in live {
            let in_use = lease.unused_for() < IN_USE;
            let Some(origin) = lease.origin.clone().filter(|_| in_use && lease.ends_soon()) else {
                continue;
            };
            if lease.renewed.swap(true, Ordering::Relaxed) {
                continue;
            }
            let buyer = node.clone();
            let renewing = async move {
                // What is not renewed is bought when the next request needs it.
                match buyer.leases.buy_anew(&buyer, origin.purchase).await {
                    Ok(using) => debug!(lease = %lease.id, by = %using.lease.id, "lease renewed"),
                    Err(_) => lease.renewed.store(false, Ordering::Relaxed),
                }
            };
            drop(node.tasks.spawn_until_cancelled("renew a lease", renewing));
        }
    }

    async fn buy_anew(&self, node: &Arc<Node>, purchase: Purchase) -> Result<Using, Unplaced> {
        let placed = node.market.auction(node, &purchase, &[]).await?;
        let entry = |papers: &Papers| node.market.entry_of(&papers.accept.winner, &purchase.model);
        let papers = placed.accept_next(|papers| suits(papers, entry(papers).as_ref(), &purchase, &[]));
        let papers = papers.ok_or_else(|| Unplaced::NobodyFree {
            model: purchase.model.clone(),
        })?;
        self.open(node, papers, Origin { placed, purchase })
    }

    /// Lets go of what is idle, over and even; called now and then.
    pub(crate) fn sweep(&self, node: &Node) {
        for lease in unpoisoned(&self.live).values().flatten() {
            let mut state = unpoisoned(&lease.state);
            if state.running() == 0 && lease.unused_for() > IDLE {
                state.end();
            }
        }
        let mut over = std::mem::take(&mut *unpoisoned(&self.ended));
        unpoisoned(&self.live).retain(|_, leases| {
            over.extend(take_ended(leases));
            !leases.is_empty()
        });
        for lease in &over {
            unpoisoned(&lease.idle).clear();
            if let Some(last) = unpoisoned(&lease.state).ledger().entries().last() {
                node.market.closed(node, &lease.papers, last);
            }
        }
        let mut open = unpoisoned(&self.open);
        open.retain(|_, lease| lease.is_live() || !lease.is_even());
        while open.len() > LEASES_OPEN {
            let expires = |lease: &Lease| unpoisoned(&lease.state).expires();
            let Some(oldest) = open.values().min_by_key(|lease| expires(lease)).map(|lease| lease.id) else {
                break;
            };
            open.remove(&oldest);
        }
    }

    /// Workers with whom books should be compared.
    pub(crate) fn behind(&self) -> HashSet<NodeId> {
        let open = unpoisoned(&self.open);
        open.values()
            .filter(|lease| lease.is_behind())
            .map(|lease| lease.worker)
            .collect()
    }

    /// Whether a worker has advertised since it was last asked for.
    pub(crate) fn is_back(&self, worker: &NodeId, node: &Node) -> bool {
        let Some(sequence) = node.market.ad_sequence_of(worker) else {
            return false;
        };
        let mut sought = unpoisoned(&self.sought);
        if sought.len() >= LEASES_OPEN {
            sought.clear();
        }
        sought.insert(*worker, sequence) != Some(sequence)
    }

    /// One comparison at a time with each worker; `None` while one is under way.
    pub(crate) fn compare(&self, worker: NodeId) -> Option<Comparing<'_>> {
        let is_new = unpoisoned(&self.comparing).insert(worker);
        is_new.then(|| Comparing(self, worker))
    }

    /// Sets aside what a request can cost and notes it with the most that it may be billed for, before it is sent.
    pub(crate) fn note(&self, using: &mut Using, bounds: Bounds, purchase: &Purchase) -> Result<(), NoteError> {
        // A restart must not take what nobody could be billed for as the worst.
        let bounds = using.lease.within_what_is_given(bounds, purchase.choices);
        let worst = using
            .lease
            .papers
            .bid
            .price
            .cost(bounds.input_tokens, bounds.output_tokens);
        self.spending
            .set_aside(using.request, purchase.caller.as_ref(), worst, clock::wall())?;
        if let (Some(caller), true) = (&purchase.caller, worst > MicroUsd(0)) {
            let by = Record::RequestFor(RequestFor {
                lease: using.lease.id,
                request: using.request,
                caller: caller.id.0,
            });
            if let Err(error) = self.store.append(by) {
                self.spending.settle(&using.request, MicroUsd(0));
                return Err(error.into());
            }
        }
        using.noted = Some(bounds);
        let made = RequestMade {
            lease: using.lease.id,
            request: using.request,
            input_tokens_max: bounds.input_tokens,
            output_tokens_max: bounds.output_tokens,
            made_at: clock::wall(),
        };
        self.store.append(Record::RequestMade(made))?;
        Ok(())
    }

    /// What was spent by this node's consumers.
    pub(crate) fn spending(&self) -> &Spending {
        &self.spending
    }

    /// Checks, files and countersigns a receipt; durable when this returns, so that the signature may be sent.
    pub(crate) async fn settle(&self, node: &Node, lease: &Lease, envelope: &[u8]) -> Result<Settled, SettleError> {
        // Handing two signatures to another thread takes as long as they do.
        let receipt = Verified::<JobReceipt>::from_bytes(envelope, &node.network)?;
        let filed = match self.file(node, lease, &receipt) {
            Ok(signs) => self.store.sync().await.map(|()| signs).map_err(SettleError::from),
            refused => refused,
        };
        if let Err(SettleError::Store(_)) = &filed {
            // Our book in memory is ahead of the journal: of this lease nothing more is said until a restart has read
            // what was written.
            self.end(lease);
            unpoisoned(&self.open).remove(&lease.id);
        }
        Ok(Settled { receipt, signs: filed? })
    }

    fn file(
        &self,
        node: &Node,
        lease: &Lease,
        receipt: &Verified<JobReceipt>,
    ) -> Result<Vec<Verified<Countersign>>, SettleError> {
        let mut state = unpoisoned(&lease.state);
        // Books were compared while its request runs: its own substream brings it too, and then it is known how much
        // came.
        if state.runs(&receipt.step.request) {
            return Ok(Vec::new());
        }
        let known = state.ledger().next_seq();
        let entropy = clock::entropy();
        let signs = state.on_receipt(receipt.clone(), &node.identity, &node.network, &entropy, clock::now())?;
        for sign in signs.iter().filter(|sign| sign.seq >= known) {
            let filed = &state.ledger().entries()[sign.seq as usize].receipt;
            let owed = sign.dispute.map_or(filed.step.amount, |_| MicroUsd(0));
            self.spending.settle(&filed.step.request, owed);
            self.store.append(Record::receipt(filed))?;
            self.store.append(Record::countersign(sign))?;
            let receipt = filed.clone();
            node.happenings.tell(|| Happening::Settled {
                receipt,
                countersign: sign.clone(),
            });
        }
        Ok(signs)
    }

    /// Leases with a worker on which something may be missing at either side.
    pub(crate) fn uneven_with(&self, worker: NodeId) -> Vec<Arc<Lease>> {
        unpoisoned(&self.open)
            .values()
            .filter(|lease| lease.worker == worker && !lease.is_even())
            .cloned()
            .collect()
    }

    /// Our own account of a lease.
    pub(crate) fn account(&self, lease: &Lease) -> Reconcile {
        unpoisoned(&lease.state).reconcile()
    }

    /// The worker has answered our account: the countersignatures that its own lacks. What it knows nothing of is
    /// written off.
    pub(crate) fn reconciled(&self, lease: &Lease, theirs: &Reconcile) -> Vec<Verified<Countersign>> {
        let mut state = unpoisoned(&lease.state);
        let known = state.ledger().entries().len();
        let lacking: Vec<_> = state.on_reconcile(theirs).cloned().collect();
        for request in state.reconciled(&theirs.open) {
            let lease = lease.id;
            self.spending.settle(&request, MicroUsd(0));
            if let Err(error) = self
                .store
                .append(Record::RequestDropped(RequestDropped { lease, request }))
            {
                warn!(%lease, %error, "that a request costs nothing could not be written down");
            }
        }
        // A book with a dispute in it is never settled beyond that, and so its verdicts are sent every time.
        if lacking.is_empty() || state.ledger().is_disputed() {
            lease.even.fetch_max(known, Ordering::Relaxed);
        }
        lacking
    }

    /// Live leases, for people.
    pub(crate) fn list(&self) -> Vec<(LeaseId, NodeId, ModelId)> {
        let live = unpoisoned(&self.live);
        live.values()
            .flatten()
            .map(|lease| (lease.id, lease.worker, lease.model().clone()))
            .collect()
    }
}

/// Takes those out that are over.
fn take_ended(leases: &mut Vec<Arc<Lease>>) -> Vec<Arc<Lease>> {
    leases.extract_if(.., |lease| !lease.is_live()).collect()
}

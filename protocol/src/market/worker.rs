//! A provider's side of the market: whom it bids to and at what price, which accepts it honours, which requests it
//! takes, and what it signs for them.
//!
//! The node hands it verified messages and a time, journals what it returns, and sends it. Implements
//! `specs/auction.md`, "Worker", and `specs/receipts.md`, "Exposure".

mod live;
mod quote;

use std::collections::{BTreeMap, BTreeSet};

use crate::auction::{Decline, JobAccept, JobBid, JobOffer, Payee};
use crate::capability::CapabilityAd;
use crate::codec::Text;
use crate::identity::Identity;
use crate::ids::{LeaseId, ModelId, NodeId, RequestId};
use crate::market::lease::{Denied, Lease, Papers, exposure_limit};
use crate::market::{Mono, Now};
use crate::names::{INFERENCE, Network};
use crate::receipt::chain::check_deal;
use crate::receipt::ledger::{Ledger, LedgerError};
use crate::receipt::{Countersign, JobReceipt, Step};
use crate::reputation::Service;
use crate::signed::Verified;
use crate::stream::frames::{FailCode, Open, Reconcile};
use crate::units::{Millis, Price};
use live::LiveBids;
pub use live::{LIVE_BIDS, LIVE_BIDS_PER_BUYER};

/// Leases held at once, ended ones that are not settled included.
pub const LEASES: usize = 4_096;
/// Leases of one buyer at once: a gateway keeps a few per model.
pub const LEASES_PER_BUYER: usize = 64;
/// Buyers whose accepted receipts and quota are remembered.
pub const BUYERS: usize = 4_096;
/// Accepted receipts that earn a buyer one more request at once.
pub const RECEIPTS_PER_SLOT: u32 = 8;

/// How much one buyer may have for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Requests.
    pub requests: u32,
    /// In this time.
    pub per: Millis,
}

/// What the operator set.
#[derive(Clone, Debug)]
pub struct Config {
    /// The workload.
    pub workload: Text<64>,
    /// Requests at once.
    pub slots: u16,
    /// Requests at once that an unknown buyer gets.
    pub stranger_slots: u16,
    /// Price when idle, per model; the ad's price is asked when full, and everywhere where none is set.
    pub floors: BTreeMap<ModelId, Price>,
    /// Where it takes money.
    pub payees: Vec<Payee>,
    /// Whether deals may be seen by everybody.
    pub public: bool,
    /// Bound on what a buyer gets at price zero.
    pub quota: Option<Quota>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            workload: Text::lossy(INFERENCE),
            slots: 16,
            stranger_slots: 4,
            floors: BTreeMap::new(),
            payees: Vec::new(),
            public: true,
            quota: None,
        }
    }
}

/// Why a worker does not do what a buyer asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The node is draining.
    #[error("worker is stopping")]
    Stopping,
    /// The connection's peer did not sign the accept.
    #[error("the accept belongs to another buyer")]
    OtherBuyer,
    /// The bid is not one that this worker made and still holds to.
    #[error("the bid is not live")]
    NotLive,
    /// Offer, bid and accept do not make one deal.
    #[error("offer, bid and accept do not fit together")]
    Mismatch,
    /// The bid was accepted before, or the attempt was seen before.
    #[error("the accept was used before")]
    Used,
    /// There is no such lease.
    #[error("there is no such lease")]
    NoLease,
    /// The lease's time is over.
    #[error("lease has expired")]
    Expired,
    /// All its requests were made.
    #[error("lease is used up")]
    UsedUp,
    /// A receipt was disputed.
    #[error("lease ended in a dispute")]
    Disputed,
    /// The request id was used before.
    #[error("request id was used before")]
    Duplicate,
    /// Every slot is taken.
    #[error("every slot is taken")]
    Busy,
    /// The lease carries as many requests as it may.
    #[error("lease carries as many requests at once as it may")]
    AtOnce,
    /// A countersignature is overdue.
    #[error("a countersignature is overdue")]
    Suspended,
    /// Too much is outstanding over all leases of this buyer.
    #[error("too many receipts are not countersigned")]
    Exposure,
    /// The buyer used up what it gets for nothing.
    #[error("the free quota is used up")]
    Quota,
    /// Too many leases.
    #[error("too many leases are open")]
    Crowded,
}

impl Refusal {
    /// The code that says so on the direct stream.
    #[must_use]
    pub fn code(self) -> FailCode {
        match self {
            Self::Stopping => FailCode::Stopping,
            Self::OtherBuyer | Self::NotLive | Self::Mismatch | Self::Used => FailCode::Refused,
            Self::Expired | Self::UsedUp | Self::Disputed | Self::NoLease => FailCode::LeaseEnded,
            Self::Duplicate => FailCode::Protocol,
            Self::Busy | Self::AtOnce | Self::Crowded => FailCode::Busy,
            Self::Suspended | Self::Exposure | Self::Quota => FailCode::Exposure,
        }
    }

    /// Whether another provider might do better.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        self != Self::Duplicate
    }
}

/// How an offer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// From the buyer itself.
    Direct,
    /// On the topic.
    Gossip,
}

/// How much a worker has on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Requests at once.
    pub slots: u16,
    /// Requests that run.
    pub running: u16,
    /// Slots held for accepts whose stream has not started.
    pub held: u16,
    /// Leases that can still take requests.
    pub leases: u32,
}

impl Load {
    /// Slots that are neither taken nor held.
    #[must_use]
    pub fn free(&self) -> u16 {
        self.slots.saturating_sub(self.running.saturating_add(self.held))
    }
}

/// A lease for a Start frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Started {
    /// The lease.
    pub lease: LeaseId,
    /// Whether it was opened by this Start: journal its papers before a request runs.
    pub is_new: bool,
}

/// What a buyer's Reconcile asks of the worker.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Receipts that the buyer lacks.
    pub receipts: Vec<Verified<JobReceipt>>,
    /// Lost requests to be receipted for the prefix named; `finish` each of them.
    pub to_receipt: Vec<Open>,
    /// Lost requests of which the buyer has nothing: they cost nothing.
    pub written_off: Vec<RequestId>,
    /// How far the worker's own book goes.
    pub reconcile: Reconcile,
}

#[derive(Clone, Debug, Default)]
struct Buyer {
    leases: BTreeSet<LeaseId>,
    accepted: u32,
    free: Option<(Mono, u32)>,
}

/// A provider's market.
#[derive(Clone, Debug)]
pub struct Worker {
    identity: Identity,
    network: Network,
    config: Config,
    ad: Option<Verified<CapabilityAd>>,
    measured: BTreeMap<ModelId, Service>,
    bids: LiveBids,
    leases: BTreeMap<LeaseId, Lease>,
    buyers: BTreeMap<NodeId, Buyer>,
    running: u16,
    draining: bool,
}

impl Worker {
    /// A worker that has no ad yet, and so bids for nothing.
    #[must_use]
    pub fn new(identity: Identity, network: Network, config: Config) -> Self {
        Self {
            identity,
            network,
            config,
            ad: None,
            measured: BTreeMap::new(),
            bids: LiveBids::default(),
            leases: BTreeMap::new(),
            buyers: BTreeMap::new(),
            running: 0,
            draining: false,
        }
    }

    /// The ad that it stands by from now on; null where no backend answers.
    pub fn set_ad(&mut self, ad: Option<Verified<CapabilityAd>>) {
        self.ad = ad.filter(|ad| ad.signer() == self.identity.node());
    }

    /// What a model's requests took of late; bids promise that instead of the ad's figures.
    pub fn on_measured(&mut self, model: ModelId, service: Service) {
        let serves = self.ad.as_ref().is_some_and(|ad| ad.model(&model).is_some());
        if serves {
            self.measured.insert(model, service);
        }
    }

    /// How many requests it runs at once from now on; those that run go on.
    pub fn set_slots(&mut self, slots: u16) {
        self.config.slots = slots;
    }

    /// From now on no bid, no new lease and no new request; what runs goes on.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// What it has on.
    #[must_use]
    pub fn load(&self, now: Now) -> Load {
        Load {
            slots: self.config.slots,
            running: self.running,
            held: u16::try_from(self.bids.holds(now.mono)).unwrap_or(u16::MAX),
            leases: u32::try_from(self.leases.values().filter(|lease| !lease.has_ended(now)).count())
                .unwrap_or(u32::MAX),
        }
    }

    /// A lease.
    #[must_use]
    pub fn lease(&self, id: &LeaseId) -> Option<&Lease> {
        self.leases.get(id)
    }

    /// All leases, ended ones that are not settled included.
    pub fn leases(&self) -> impl Iterator<Item = (&LeaseId, &Lease)> {
        self.leases.iter()
    }

    /// Requests that run, were lost or are not countersigned, over all leases of a buyer.
    #[must_use]
    pub fn exposure(&self, buyer: &NodeId) -> u32 {
        let leases = self.buyers.get(buyer).into_iter().flat_map(|buyer| &buyer.leases);
        leases.filter_map(|id| self.leases.get(id)).map(Lease::exposure).sum()
    }

    /// Answers an offer: a bid, or why there is none. The same offer gets the same bid, however often it comes.
    /// `ads_held` is how many ads this node knows of.
    pub fn on_offer(
        &mut self,
        offer: &Verified<JobOffer>,
        via: Via,
        ads_held: usize,
        entropy: &[u8; 32],
        now: Now,
    ) -> Result<Verified<JobBid>, Decline> {
        if let Some(bid) = self.bids.of_offer(&offer.hash(), now.mono) {
            return Ok(bid.clone());
        }
        let bid = self.quote(offer, via, ads_held, now)?;
        let bid = Verified::sign(bid, &self.identity, &self.network, entropy);
        self.bids.add(offer.clone(), bid.clone(), now.mono);
        Ok(bid)
    }

    /// An accept came by itself: it holds a slot until its stream starts, once, for two seconds at most.
    pub fn on_accept(&mut self, accept: &Verified<JobAccept>, now: Now) -> Result<(), Refusal> {
        if self.draining {
            return Err(Refusal::Stopping);
        }
        let room = self.load(now).free() > 0;
        let live = self.bids.get_mut(&accept.bid, now.mono).ok_or(Refusal::NotLive)?;
        if accept.signer() != live.offer.signer() {
            return Err(Refusal::OtherBuyer);
        }
        check_deal(&live.offer, &live.bid, accept).map_err(|_| Refusal::Mismatch)?;
        if live.lease.is_some() || live.was_held {
            return Err(Refusal::Used);
        }
        if room {
            live.hold(now.mono);
        }
        Ok(())
    }

    /// A Start frame from `peer`. Opens the lease, or finds it open: a lease has many substreams and one accept.
    pub fn on_start(&mut self, papers: &Papers, peer: &NodeId, now: Now) -> Result<Started, Refusal> {
        let Papers { offer, bid, accept } = papers;
        if accept.signer() != *peer {
            return Err(Refusal::OtherBuyer);
        }
        let lease = accept.lease;
        if let Some(open) = self.leases.get(&lease) {
            // The lease of another buyer may carry the same id: whoever came first has it.
            return if open.deal().accept == accept.hash() {
                Ok(Started { lease, is_new: false })
            } else {
                Err(Refusal::Used)
            };
        }
        if self.draining {
            return Err(Refusal::Stopping);
        }
        if bid.signer() != self.identity.node() {
            return Err(Refusal::NotLive);
        }
        check_deal(offer, bid, accept).map_err(|_| Refusal::Mismatch)?;
        let live = self.bids.get_mut(&bid.hash(), now.mono).ok_or(Refusal::NotLive)?;
        if live.lease.is_some() {
            return Err(Refusal::Used);
        }
        if self.leases.len() >= LEASES || !self.has_room_for(peer) {
            return Err(Refusal::Crowded);
        }
        if let Some(live) = self.bids.get_mut(&bid.hash(), now.mono) {
            live.accepted_as(lease);
        }
        self.admit_lease(lease, Lease::open(papers, now));
        Ok(Started { lease, is_new: true })
    }

    /// A buyer that comes back with a new lease again and again gives up the one of its even ones that ends first.
    fn has_room_for(&mut self, buyer: &NodeId) -> bool {
        let Some(known) = self.buyers.get(buyer) else {
            return true;
        };
        if known.leases.len() < LEASES_PER_BUYER {
            return true;
        }
        let leases = known.leases.iter().filter_map(|id| Some((id, self.leases.get(id)?)));
        let even = leases.filter(|(_, lease)| lease.exposure() == 0);
        let first = even.min_by_key(|(_, lease)| lease.expires()).map(|(id, _)| *id);
        if let Some(id) = first {
            self.forget(&id);
        }
        first.is_some()
    }

    /// A lease out of the journal, with what is left of its time. Its Starts are honoured again; no other bid of an
    /// earlier life is.
    pub fn restore(
        &mut self,
        papers: &Papers,
        ledger: Ledger,
        used: impl IntoIterator<Item = RequestId>,
        left: Millis,
        now: Now,
    ) -> Result<(), Refusal> {
        if papers.bid.signer() != self.identity.node() {
            return Err(Refusal::NotLive);
        }
        check_deal(&papers.offer, &papers.bid, &papers.accept).map_err(|_| Refusal::Mismatch)?;
        if self.leases.contains_key(&papers.accept.lease) {
            return Err(Refusal::Used);
        }
        if self.leases.len() >= LEASES {
            return Err(Refusal::Crowded);
        }
        let settled = ledger.settled();
        self.admit_lease(papers.accept.lease, Lease::restore(papers, ledger, used, left, now));
        if let Some(buyer) = self.buyers.get_mut(&papers.accept.signer()) {
            buyer.accepted = buyer.accepted.saturating_add(settled);
        }
        Ok(())
    }

    /// Accepted receipts of a buyer in leases that are over, so that it does not start as a stranger again.
    pub fn restore_buyer(&mut self, buyer: NodeId, accepted: u32) {
        if let Some(known) = self.buyer(buyer) {
            known.accepted = known.accepted.saturating_add(accepted);
        }
    }

    fn admit_lease(&mut self, id: LeaseId, lease: Lease) {
        let buyer = lease.buyer();
        self.leases.insert(id, lease);
        if let Some(buyer) = self.buyer(buyer) {
            buyer.leases.insert(id);
        }
    }

    /// The entry of a buyer. The table makes room by forgetting whoever has no lease and the fewest receipts, and as
    /// there are no more leases than entries, somebody always can be forgotten unless this buyer has one.
    fn buyer(&mut self, node: NodeId) -> Option<&mut Buyer> {
        if !self.buyers.contains_key(&node) && self.buyers.len() >= BUYERS + LEASES {
            let least = self
                .buyers
                .iter()
                .filter(|(_, buyer)| buyer.leases.is_empty())
                .min_by_key(|(_, buyer)| buyer.accepted)
                .map(|(node, _)| *node)?;
            self.buyers.remove(&least);
        }
        Some(self.buyers.entry(node).or_default())
    }

    /// A request under a lease. Journal it before it runs.
    pub fn on_request(&mut self, lease: &LeaseId, request: RequestId, now: Now) -> Result<(), Refusal> {
        if self.draining {
            return Err(Refusal::Stopping);
        }
        let held = self.leases.get(lease).ok_or(Refusal::NoLease)?;
        held.admit(&request, now).map_err(|denied| match denied {
            Denied::Ended => Refusal::Expired,
            Denied::Disputed => Refusal::Disputed,
            Denied::UsedUp => Refusal::UsedUp,
            Denied::Duplicate => Refusal::Duplicate,
            Denied::AtOnce => Refusal::AtOnce,
            Denied::Suspended => Refusal::Suspended,
        })?;
        let (buyer, price) = (held.buyer(), held.deal().price);
        if self.exposure(&buyer) >= exposure_limit(held.at_once()) {
            return Err(Refusal::Exposure);
        }
        if self.running >= self.config.slots {
            return Err(Refusal::Busy);
        }
        if price.is_free() && !self.within_quota(buyer, now) {
            return Err(Refusal::Quota);
        }
        self.running += 1;
        if let Some(held) = self.leases.get_mut(lease) {
            held.begin(request);
        }
        Ok(())
    }

    fn within_quota(&mut self, buyer: NodeId, now: Now) -> bool {
        let Some(quota) = self.config.quota else { return true };
        let Some(buyer) = self.buyers.get_mut(&buyer) else {
            return false;
        };
        let (since, used) = buyer.free.unwrap_or((now.mono, 0));
        let (since, used) = if now.mono.since(since) >= u64::from(quota.per.0) {
            (now.mono, 0)
        } else {
            (since, used)
        };
        if used >= quota.requests {
            return false;
        }
        buyer.free = Some((since, used + 1));
        true
    }

    /// A request ended, whatever came of it: its receipt, filed. Journal it, then send it.
    pub fn finish(
        &mut self,
        lease: &LeaseId,
        step: Step,
        entropy: &[u8; 32],
        now: Now,
    ) -> Result<Verified<JobReceipt>, Refusal> {
        let held = self.leases.get_mut(lease).ok_or(Refusal::NoLease)?;
        if !held.is_open(&step.request) {
            return Err(Refusal::Duplicate);
        }
        let ran = held.running().contains(&step.request);
        let receipt = held.ledger().issue(step, now.wall);
        let receipt = Verified::sign(receipt, &self.identity, &self.network, entropy);
        held.file(receipt.clone(), now).map_err(|_| Refusal::Mismatch)?;
        self.running -= u16::from(ran);
        Ok(receipt)
    }

    /// A request failed and nothing was delivered: its slot is free, and nothing is owed.
    pub fn fail(&mut self, lease: &LeaseId, request: &RequestId) {
        if let Some(held) = self.leases.get_mut(lease) {
            let ran = held.running().contains(request);
            held.write_off(request);
            self.running -= u16::from(ran);
        }
    }

    /// The engine is done with a request whose stream broke off: its slot is free, and its end may still be told to a
    /// buyer that comes back in time.
    pub fn rest(&mut self, lease: &LeaseId, request: RequestId) {
        if let Some(held) = self.leases.get_mut(lease) {
            self.running -= u16::from(held.rest(request));
        }
    }

    /// A request's stream was lost and not resumed: its slot is free, and it stays open until the next Reconcile.
    pub fn lose(&mut self, lease: &LeaseId, request: RequestId) {
        if let Some(held) = self.leases.get_mut(lease) {
            self.running -= u16::from(held.lose(request));
        }
    }

    /// A countersignature came. `Ok(true)` where it is new: journal it.
    pub fn on_countersign(&mut self, sign: Verified<Countersign>) -> Result<bool, LedgerError> {
        let held = self.leases.get_mut(&sign.lease).ok_or(LedgerError::OtherLease)?;
        let accepted = sign.dispute.is_none();
        let buyer = held.buyer();
        let news = held.countersign(sign)?;
        if news
            && accepted
            && let Some(buyer) = self.buyers.get_mut(&buyer)
        {
            buyer.accepted = buyer.accepted.saturating_add(1);
        }
        Ok(news)
    }

    /// A buyer's Reconcile: what it lacks, and which lost requests are now to be receipted.
    pub fn on_reconcile(&mut self, theirs: &Reconcile, peer: &NodeId) -> Result<Answer, Refusal> {
        let held = self.leases.get_mut(&theirs.lease).ok_or(Refusal::NoLease)?;
        if held.buyer() != *peer {
            return Err(Refusal::OtherBuyer);
        }
        let to_receipt: Vec<Open> = theirs
            .open
            .iter()
            .filter(|open| held.lost().contains(&open.request))
            .copied()
            .collect();
        let named = |request: &RequestId| theirs.open.iter().any(|open| open.request == *request);
        let written_off: Vec<RequestId> = held.lost().iter().filter(|request| !named(request)).copied().collect();
        for request in &written_off {
            held.write_off(request);
        }
        Ok(Answer {
            receipts: held.ledger().receipts_from(theirs.held).cloned().collect(),
            to_receipt,
            written_off,
            reconcile: held.reconcile(),
        })
    }

    /// Forgets bids whose time is over and leases that are over and settled; gives the latter.
    pub fn tick(&mut self, now: Now) -> Vec<LeaseId> {
        self.bids.expire(now.mono);
        let done: Vec<LeaseId> = self
            .leases
            .iter()
            .filter(|(_, lease)| lease.is_done(now))
            .map(|(id, _)| *id)
            .collect();
        for id in &done {
            self.forget(id);
        }
        if self.leases.len() >= LEASES {
            // Only an unsettled lease that is long over makes room, and its book stays in the journal.
            let oldest = self
                .leases
                .iter()
                .min_by_key(|(_, lease)| lease.expires())
                .map(|(id, _)| *id);
            if let Some(id) = oldest.filter(|id| self.leases.get(id).is_some_and(|lease| lease.has_ended(now))) {
                self.running -= u16::try_from(self.leases[&id].running().len()).unwrap_or(0);
                self.forget(&id);
                return done.into_iter().chain([id]).collect();
            }
        }
        done
    }

    fn forget(&mut self, id: &LeaseId) {
        if let Some(lease) = self.leases.remove(id)
            && let Some(buyer) = self.buyers.get_mut(&lease.buyer())
        {
            buyer.leases.remove(id);
        }
    }
}

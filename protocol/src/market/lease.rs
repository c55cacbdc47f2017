//! Both sides' account of one lease: what may still be asked under it, what runs, and what is not yet countersigned.
//!
//! The worker's is kept by `Worker`, which also looks across all leases of a buyer; the buyer's stands alone. Neither
//! writes anything down: the node journals lease use before a request runs, and receipts before it sends them.
//! Implements `specs/receipts.md`, "Exposure".

use std::collections::{BTreeMap, BTreeSet};

use crate::auction::{JobAccept, JobBid, JobOffer};
use crate::ids::{ModelId, NodeId, RequestId};
use crate::market::{Mono, Now};
use crate::names::{COUNTERSIGN_WITHIN, EXPOSURE_FACTOR};
use crate::receipt::ledger::{Deal, Entry, Ledger, LedgerError, Seen};
use crate::receipt::{Countersign, JobReceipt};
use crate::signed::Verified;
use crate::stream::frames::{Open, Reconcile};
use crate::units::Millis;

mod buyer;

pub use buyer::{Bounds, BuyerLease, NotUsable};

/// Requests served under one lease at most, so that its book fits in memory; then the buyer auctions anew.
pub const LEASE_REQUESTS: u32 = 16_384;

/// The three messages that make a lease.
#[derive(Clone, Debug)]
pub struct Papers {
    /// The offer.
    pub offer: Verified<JobOffer>,
    /// The bid that answers it.
    pub bid: Verified<JobBid>,
    /// The accept that names the bid.
    pub accept: Verified<JobAccept>,
}

impl Papers {
    /// The fixed part of the lease.
    #[must_use]
    pub fn deal(&self) -> Deal {
        Deal::new(&self.accept, &self.bid)
    }
}

/// Why a worker's lease does not take a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    Ended,
    Disputed,
    UsedUp,
    Duplicate,
    AtOnce,
    Suspended,
}

/// The worker's account of a lease.
#[derive(Clone, Debug)]
pub struct Lease {
    model: ModelId,
    at_once: u16,
    requests: u32,
    expires: Mono,
    ledger: Ledger,
    used: BTreeSet<RequestId>,
    running: BTreeSet<RequestId>,
    /// Requests that the engine is done with, whose buyer has not come back for the end yet.
    resting: BTreeSet<RequestId>,
    /// Requests whose stream was lost, until the buyer says how much of them it has.
    lost: BTreeSet<RequestId>,
    /// Receipts without an accepting countersignature, and when they were issued.
    owed: BTreeMap<u32, Mono>,
}

impl Lease {
    pub(crate) fn open(papers: &Papers, now: Now) -> Self {
        Self {
            model: papers.offer.requirement.model.clone(),
            at_once: papers.bid.at_once,
            requests: papers.offer.volume.requests.min(LEASE_REQUESTS),
            expires: now.mono.after(papers.offer.volume.lease),
            ledger: Ledger::new(papers.deal()),
            used: BTreeSet::new(),
            running: BTreeSet::new(),
            resting: BTreeSet::new(),
            lost: BTreeSet::new(),
            owed: BTreeMap::new(),
        }
    }

    /// From the journal: requests without a receipt count as lost, receipts without a countersignature as just sent.
    pub(crate) fn restore(
        papers: &Papers,
        ledger: Ledger,
        used: impl IntoIterator<Item = RequestId>,
        left: Millis,
        now: Now,
    ) -> Self {
        let mut lease = Self::open(papers, now);
        lease.expires = now.mono.after(left);
        lease.used = used.into_iter().collect();
        lease
            .used
            .extend(ledger.entries().iter().map(|entry| entry.receipt.step.request));
        lease.lost = lease
            .used
            .iter()
            .filter(|request| ledger.of_request(request).is_none())
            .copied()
            .collect();
        for entry in ledger.entries() {
            if !is_closed(entry) {
                lease.owed.insert(entry.receipt.seq, now.mono);
            }
        }
        lease.ledger = ledger;
        lease
    }

    /// The deal.
    #[must_use]
    pub fn deal(&self) -> &Deal {
        self.ledger.deal()
    }

    /// Who buys.
    #[must_use]
    pub fn buyer(&self) -> NodeId {
        self.deal().buyer
    }

    /// The model that it is for.
    #[must_use]
    pub fn model(&self) -> &ModelId {
        &self.model
    }

    /// Requests that may run at once.
    #[must_use]
    pub fn at_once(&self) -> u16 {
        self.at_once
    }

    /// Requests that may still be asked.
    #[must_use]
    pub fn left(&self) -> u32 {
        self.requests
            .saturating_sub(u32::try_from(self.used.len()).unwrap_or(u32::MAX))
    }

    /// When it ends.
    #[must_use]
    pub fn expires(&self) -> Mono {
        self.expires
    }

    /// The book.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Requests that run.
    #[must_use]
    pub fn running(&self) -> &BTreeSet<RequestId> {
        &self.running
    }

    /// Requests whose stream was lost and that have no receipt yet.
    #[must_use]
    pub fn lost(&self) -> &BTreeSet<RequestId> {
        &self.lost
    }

    /// Requests that run, wait for their buyer, were lost, or are not countersigned: what the worker stands to lose.
    #[must_use]
    pub fn exposure(&self) -> u32 {
        let open = self.running.len() + self.resting.len() + self.lost.len();
        u32::try_from(open + self.owed.len()).unwrap_or(u32::MAX)
    }

    /// Whether a countersignature is overdue.
    #[must_use]
    pub fn is_suspended(&self, now: Now) -> bool {
        self.owed
            .first_key_value()
            .is_some_and(|(_, issued)| now.mono.since(*issued) >= u64::from(COUNTERSIGN_WITHIN.0))
    }

    /// Whether its time is over, it is used up, or the buyer disputed a receipt.
    #[must_use]
    pub fn has_ended(&self, now: Now) -> bool {
        now.mono >= self.expires || self.left() == 0 || self.ledger.is_disputed()
    }

    pub(crate) fn is_done(&self, now: Now) -> bool {
        now.mono >= self.expires && self.exposure() == 0
    }

    pub(crate) fn admit(&self, request: &RequestId, now: Now) -> Result<(), Denied> {
        if self.used.contains(request) {
            return Err(Denied::Duplicate);
        }
        if self.ledger.is_disputed() {
            return Err(Denied::Disputed);
        }
        if now.mono >= self.expires {
            return Err(Denied::Ended);
        }
        if self.left() == 0 {
            return Err(Denied::UsedUp);
        }
        if self.is_suspended(now) {
            return Err(Denied::Suspended);
        }
        if self.running.len() >= usize::from(self.at_once) {
            return Err(Denied::AtOnce);
        }
        Ok(())
    }

    pub(crate) fn begin(&mut self, request: RequestId) {
        self.used.insert(request);
        self.running.insert(request);
    }

    /// The request is over and nobody owes anything for it.
    pub(crate) fn write_off(&mut self, request: &RequestId) {
        self.running.remove(request);
        self.resting.remove(request);
        self.lost.remove(request);
    }

    /// The engine is done with the request. Whether it ran until now.
    pub(crate) fn rest(&mut self, request: RequestId) -> bool {
        self.running.remove(&request) && self.resting.insert(request)
    }

    /// The request's stream is lost for good. Whether it ran until now.
    pub(crate) fn lose(&mut self, request: RequestId) -> bool {
        let (ran, rested) = (self.running.remove(&request), self.resting.remove(&request));
        if ran || rested {
            self.lost.insert(request);
        }
        ran
    }

    pub(crate) fn is_open(&self, request: &RequestId) -> bool {
        [&self.running, &self.resting, &self.lost]
            .iter()
            .any(|some| some.contains(request))
    }

    pub(crate) fn file(&mut self, receipt: Verified<JobReceipt>, now: Now) -> Result<(), LedgerError> {
        let (seq, request) = (receipt.seq, receipt.step.request);
        if self.ledger.file(receipt)? {
            self.write_off(&request);
            self.owed.insert(seq, now.mono);
        }
        Ok(())
    }

    pub(crate) fn countersign(&mut self, sign: Verified<Countersign>) -> Result<bool, LedgerError> {
        let seq = sign.seq;
        let news = self.ledger.countersign(sign)?;
        if news && self.ledger.entries().get(seq as usize).is_some_and(is_closed) {
            self.owed.remove(&seq);
        }
        Ok(news)
    }

    /// How far the worker's book goes.
    #[must_use]
    pub fn reconcile(&self) -> Reconcile {
        Reconcile {
            lease: self.deal().lease,
            held: self.ledger.settled(),
            hash: self.ledger.head(),
            open: crate::codec::List::first_of(self.lost.iter().chain(&self.running).chain(&self.resting).map(
                |request| Open {
                    request: *request,
                    next: 0,
                    commitment: self.deal().accept,
                },
            )),
        }
    }
}

/// Whether nothing is owed on a receipt any more: it was accepted, or disputed and costs nothing.
fn is_closed(entry: &Entry) -> bool {
    let free = entry.receipt.step.amount.0 == 0;
    entry
        .countersign
        .as_ref()
        .is_some_and(|sign| sign.dispute.is_none() || free)
}

/// How much of a buyer may be outstanding: requests that run plus steps not countersigned.
#[must_use]
pub fn exposure_limit(at_once: u16) -> u32 {
    EXPOSURE_FACTOR * u32::from(at_once)
}

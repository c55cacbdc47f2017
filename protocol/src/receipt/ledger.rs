//! Both sides' books of one lease: which receipts there are, which are countersigned, and who is behind.
//!
//! The worker alone orders the steps. The buyer checks each against the deal and against what it saw. Neither book
//! writes anything down: the node journals what these functions return before it sends it.

use std::collections::BTreeMap;

use crate::auction::{JobAccept, JobBid};
use crate::codec::Text;
use crate::ids::{Digest, LeaseId, NodeId, RequestId};
use crate::receipt::{Countersign, Dispute, JobReceipt, Step, Total};
use crate::signed::Verified;
use crate::units::{Price, UnixMillis};

/// Why a message does not fit the book.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// It is about another lease.
    #[error("message is about another lease")]
    OtherLease,
    /// Somebody else signed it.
    #[error("message is not signed by the party of the lease")]
    OtherParty,
    /// The receipt it names was never issued.
    #[error("countersignature names a receipt that does not exist")]
    UnknownReceipt,
    /// Two different receipts for one place: proof of fraud.
    #[error("two receipts for one place of the lease")]
    Equivocation,
    /// A receipt is missing in between: reconcile first.
    #[error("a receipt before this one is missing")]
    Gap,
    /// The same place holds another verdict.
    #[error("countersignature contradicts an earlier one")]
    Contradiction,
}

/// The fixed part of a lease, taken from its accept and bid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deal {
    /// The lease.
    pub lease: LeaseId,
    /// Who buys.
    pub buyer: NodeId,
    /// Who sells.
    pub worker: NodeId,
    /// At what price.
    pub price: Price,
    /// Hash of the accept's envelope, which the first receipt follows.
    pub accept: Digest,
}

impl Deal {
    /// From the two messages that make it.
    #[must_use]
    pub fn new(accept: &Verified<JobAccept>, bid: &Verified<JobBid>) -> Self {
        Self {
            lease: accept.lease,
            buyer: accept.signer(),
            worker: accept.winner,
            price: bid.price,
            accept: accept.hash(),
        }
    }
}

/// What the buyer knows of a request that it made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The most input tokens that the request's bytes can be.
    pub input_tokens_max: u32,
    /// The most output tokens that the delivered bytes can be.
    pub output_tokens_max: u32,
    /// End of the commitment chain at the last Data frame it received; null where a crash lost it, and then the
    /// bounds alone are checked.
    pub commitment: Option<Digest>,
}

/// One receipt in a book.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The receipt.
    pub receipt: Verified<JobReceipt>,
    /// The buyer's verdict, once there is one.
    pub countersign: Option<Verified<Countersign>>,
}

impl Entry {
    fn is_accepted(&self) -> bool {
        self.countersign.as_ref().is_some_and(|sign| sign.dispute.is_none())
    }
}

/// The book of one lease; the same on both sides.
#[derive(Clone, Debug)]
pub struct Ledger {
    deal: Deal,
    entries: Vec<Entry>,
    by_request: BTreeMap<RequestId, u32>,
    /// Of the entries, kept beside them since each request asks: how many from the start are all accepted, how many are
    /// accepted, how many have a verdict.
    settled: usize,
    accepted: usize,
    judged: usize,
}

impl Ledger {
    /// An empty book.
    #[must_use]
    pub fn new(deal: Deal) -> Self {
        Self {
            deal,
            entries: Vec::new(),
            by_request: BTreeMap::new(),
            settled: 0,
            accepted: 0,
            judged: 0,
        }
    }

    /// The deal.
    #[must_use]
    pub fn deal(&self) -> &Deal {
        &self.deal
    }

    /// All receipts in order.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Sequence number of the next receipt.
    #[must_use]
    pub fn next_seq(&self) -> u32 {
        count(self.entries.len())
    }

    /// What the next receipt must name as its predecessor.
    #[must_use]
    pub fn head(&self) -> Digest {
        self.entries
            .last()
            .map_or(self.deal.accept, |entry| entry.receipt.hash())
    }

    /// Sums over all receipts.
    #[must_use]
    pub fn total(&self) -> Total {
        self.entries.last().map(|entry| entry.receipt.total).unwrap_or_default()
    }

    /// Receipts from the start that are all accepted.
    #[must_use]
    pub fn settled(&self) -> u32 {
        count(self.settled)
    }

    /// Receipts without an accepting countersignature.
    #[must_use]
    pub fn unsettled(&self) -> u32 {
        count(self.entries.len() - self.accepted)
    }

    /// Whether every receipt has a verdict.
    #[must_use]
    pub fn is_judged(&self) -> bool {
        self.judged == self.entries.len()
    }

    /// Whether the buyer disputed anything; that ends the lease.
    #[must_use]
    pub fn is_disputed(&self) -> bool {
        self.accepted < self.judged
    }

    /// The receipt of a request.
    #[must_use]
    pub fn of_request(&self, request: &RequestId) -> Option<&Entry> {
        self.by_request
            .get(request)
            .and_then(|seq| self.entries.get(*seq as usize))
    }

    /// Worker: the receipt for a step that has just ended. Sign it, journal it, `file` it, then send it.
    #[must_use]
    pub fn issue(&self, step: Step, now: UnixMillis) -> JobReceipt {
        JobReceipt {
            lease: self.deal.lease,
            seq: self.next_seq(),
            prev: self.head(),
            step,
            total: self.total().plus(&step),
            finished_at: now,
        }
    }

    /// Both: takes a receipt into the book. `Ok(false)` where the same one is there already.
    pub fn file(&mut self, receipt: Verified<JobReceipt>) -> Result<bool, LedgerError> {
        if receipt.lease != self.deal.lease {
            return Err(LedgerError::OtherLease);
        }
        if receipt.signer() != self.deal.worker {
            return Err(LedgerError::OtherParty);
        }
        if let Some(entry) = self.entries.get(receipt.seq as usize) {
            // Schnorr signatures are not unique, so the payload decides and not the envelope.
            return if *entry.receipt == *receipt {
                Ok(false)
            } else {
                Err(LedgerError::Equivocation)
            };
        }
        if receipt.seq != self.next_seq() {
            return Err(LedgerError::Gap);
        }
        self.by_request.entry(receipt.step.request).or_insert(receipt.seq);
        self.entries.push(Entry {
            receipt,
            countersign: None,
        });
        Ok(true)
    }

    /// Buyer: the verdict on a receipt that was just filed. `seen` is null for a request it never made.
    #[must_use]
    pub fn judge(&self, receipt: &Verified<JobReceipt>, seen: Option<&Seen>, now: UnixMillis) -> Countersign {
        Countersign {
            receipt: receipt.hash(),
            lease: receipt.lease,
            seq: receipt.seq,
            dispute: self.objection(receipt, seen),
            note: Text::default(),
            signed_at: now,
        }
    }

    fn objection(&self, receipt: &Verified<JobReceipt>, seen: Option<&Seen>) -> Option<Dispute> {
        let before = (receipt.seq as usize)
            .checked_sub(1)
            .and_then(|last| self.entries.get(last));
        let (prev, total) = match before {
            Some(entry) => (entry.receipt.hash(), entry.receipt.total),
            None => (self.deal.accept, Total::default()),
        };
        let step = &receipt.step;
        if receipt.prev != prev || receipt.total != total.plus(step) {
            return Some(Dispute::Order);
        }
        let Some(seen) = seen else {
            return Some(Dispute::Request);
        };
        if self
            .by_request
            .get(&step.request)
            .is_some_and(|seq| *seq != receipt.seq)
        {
            return Some(Dispute::Request);
        }
        if step.amount > self.deal.price.due(step.input_tokens, step.output_tokens) {
            return Some(Dispute::Price);
        }
        if step.input_tokens > seen.input_tokens_max || step.output_tokens > seen.output_tokens_max {
            return Some(Dispute::Tokens);
        }
        seen.commitment
            .is_some_and(|commitment| commitment != step.commitment)
            .then_some(Dispute::Commitment)
    }

    /// Both: takes a countersignature into the book. `Ok(false)` where it is there already.
    pub fn countersign(&mut self, sign: Verified<Countersign>) -> Result<bool, LedgerError> {
        if sign.lease != self.deal.lease {
            return Err(LedgerError::OtherLease);
        }
        if sign.signer() != self.deal.buyer {
            return Err(LedgerError::OtherParty);
        }
        let entry = self
            .entries
            .get_mut(sign.seq as usize)
            .ok_or(LedgerError::UnknownReceipt)?;
        if entry.receipt.hash() != sign.receipt {
            return Err(LedgerError::UnknownReceipt);
        }
        match &entry.countersign {
            None => {
                entry.countersign = Some(sign);
                self.judged += 1;
                self.accepted += usize::from(entry.is_accepted());
                let further = self.entries.iter().skip(self.settled);
                self.settled += further.take_while(|entry| entry.is_accepted()).count();
                Ok(true)
            }
            Some(held) if held.dispute == sign.dispute => Ok(false),
            Some(_) => Err(LedgerError::Contradiction),
        }
    }

    /// Worker: receipts that a buyer lacks which holds the first `held` of them.
    pub fn receipts_from(&self, held: u32) -> impl Iterator<Item = &Verified<JobReceipt>> {
        self.entries.iter().skip(held as usize).map(|entry| &entry.receipt)
    }

    /// Buyer: countersignatures that a worker lacks which holds the first `held` of them.
    pub fn countersigns_from(&self, held: u32) -> impl Iterator<Item = &Verified<Countersign>> {
        self.entries
            .iter()
            .skip(held as usize)
            .filter_map(|entry| entry.countersign.as_ref())
    }
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

//! Bids that a worker stands by: from when they are made until the lease time that was offered is over.
//!
//! They live in memory only, so that no accept of an earlier life of the node is ever honoured.

use std::collections::BTreeMap;

use crate::auction::{JobBid, JobOffer};
use crate::ids::{Digest, JobId, LeaseId, NodeId};
use crate::market::Mono;
use crate::names::ACCEPT_HOLD;
use crate::signed::Verified;

/// Bids held at once: a few KiB each.
pub const LIVE_BIDS: usize = 2_048;
/// Bids to one buyer held at once, so that one who only asks pushes out nobody but itself.
pub const LIVE_BIDS_PER_BUYER: usize = 64;

/// A bid that may still be accepted, or was.
#[derive(Clone, Debug)]
pub(super) struct LiveBid {
    pub(super) offer: Verified<JobOffer>,
    pub(super) bid: Verified<JobBid>,
    pub(super) lease: Option<LeaseId>,
    pub(super) was_held: bool,
    hold: Option<Mono>,
    expires: Mono,
    order: u64,
}

impl LiveBid {
    pub(super) fn hold(&mut self, now: Mono) {
        self.was_held = true;
        self.hold = Some(now.after(ACCEPT_HOLD));
    }

    pub(super) fn accepted_as(&mut self, lease: LeaseId) {
        self.lease = Some(lease);
        self.hold = None;
    }
}

/// The bids of one worker.
#[derive(Clone, Debug, Default)]
pub(super) struct LiveBids {
    bids: BTreeMap<Digest, LiveBid>,
    by_offer: BTreeMap<Digest, Digest>,
    by_job: BTreeMap<JobId, Digest>,
    per_buyer: BTreeMap<NodeId, usize>,
    made: u64,
}

impl LiveBids {
    pub(super) fn of_offer(&self, offer: &Digest, now: Mono) -> Option<&Verified<JobBid>> {
        let live = self.bids.get(self.by_offer.get(offer)?)?;
        (now < live.expires).then_some(&live.bid)
    }

    /// Whether a bid stands for the job already: a second offer of the same id is somebody else's, made to take its
    /// leases.
    pub(super) fn has_job(&self, job: &JobId) -> bool {
        self.by_job.contains_key(job)
    }

    pub(super) fn get_mut(&mut self, bid: &Digest, now: Mono) -> Option<&mut LiveBid> {
        self.bids.get_mut(bid).filter(|live| now < live.expires)
    }

    pub(super) fn holds(&self, now: Mono) -> usize {
        self.bids
            .values()
            .filter(|live| live.hold.is_some_and(|until| now < until))
            .count()
    }

    pub(super) fn add(&mut self, offer: Verified<JobOffer>, bid: Verified<JobBid>, now: Mono) {
        let buyer = offer.signer();
        if self
            .per_buyer
            .get(&buyer)
            .is_some_and(|count| *count >= LIVE_BIDS_PER_BUYER)
        {
            self.drop_oldest(Some(&buyer));
        }
        if self.bids.len() >= LIVE_BIDS {
            self.drop_oldest(None);
        }
        self.made += 1;
        self.by_offer.insert(offer.hash(), bid.hash());
        self.by_job.insert(offer.job, bid.hash());
        *self.per_buyer.entry(buyer).or_default() += 1;
        let live = LiveBid {
            expires: now.after(offer.volume.lease),
            offer,
            lease: None,
            was_held: false,
            hold: None,
            order: self.made,
            bid: bid.clone(),
        };
        self.bids.insert(bid.hash(), live);
    }

    fn drop_oldest(&mut self, of: Option<&NodeId>) {
        let oldest = self
            .bids
            .iter()
            .filter(|(_, live)| of.is_none_or(|buyer| live.offer.signer() == *buyer))
            .min_by_key(|(_, live)| live.order)
            .map(|(hash, _)| *hash);
        if let Some(hash) = oldest {
            self.remove(&hash);
        }
    }

    fn remove(&mut self, bid: &Digest) {
        let Some(live) = self.bids.remove(bid) else { return };
        self.by_offer.remove(&live.offer.hash());
        self.by_job.remove(&live.offer.job);
        if let Some(count) = self.per_buyer.get_mut(&live.offer.signer()) {
            *count -= 1;
            if *count == 0 {
                self.per_buyer.remove(&live.offer.signer());
            }
        }
    }

    pub(super) fn expire(&mut self, now: Mono) {
        let over: Vec<Digest> = self
            .bids
            .iter()
            .filter(|(_, live)| now >= live.expires)
            .map(|(hash, _)| *hash)
            .collect();
        for hash in over {
            self.remove(&hash);
        }
    }
}

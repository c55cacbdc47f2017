//! Deals as a bystander sees them: offers, bids, accepts and settled receipts, put together by their hashes. What two
//! recorders heard is counted once.

use std::collections::{BTreeMap, BTreeSet};

use infernet_protocol::auction::{JobAccept, JobBid, JobOffer};
use infernet_protocol::market::admission::{ACCEPTS_PER_OFFER, BIDS_PER_OFFER};
use infernet_protocol::receipt::JobReceipt;
use infernet_protocol::{Digest, JobId, LeaseId, ModelId, UnixMillis};

use super::spread::Spread;

/// Offers that are followed at once.
const FOLLOWED: usize = 16_384;
/// An offer that is this old is over: twice what one may live.
const OVER: u64 = 120_000;
/// Models that are counted.
const MODELS: usize = 2_048;

#[derive(Clone, Debug)]
struct Deal {
    offered: UnixMillis,
    model: ModelId,
    hash: Digest,
    /// Output prices of the bids, by their hashes.
    bids: BTreeMap<Digest, u64>,
    /// Attempts that were accepted.
    attempts: BTreeSet<u16>,
}

/// What was asked and paid for one model.
#[derive(Clone, Debug, Default)]
pub(super) struct Trade {
    pub(super) offers: u64,
    pub(super) accepts: u64,
    /// Output prices in micro-USD per million tokens.
    pub(super) bids: Spread,
    pub(super) accepted: Spread,
}

/// All deals, added up.
#[derive(Clone, Debug, Default)]
pub(super) struct Auctions {
    deals: BTreeMap<JobId, Deal>,
    pub(super) models: BTreeMap<ModelId, Trade>,
    pub(super) offers: u64,
    pub(super) bids: u64,
    /// Offers that had a bid, and that were accepted.
    pub(super) answered: u64,
    pub(super) accepted: u64,
    /// Accepts after the first of a job.
    pub(super) runners_up: u64,
    /// From the offer to its first bid and to its first accept, in milliseconds.
    pub(super) to_bid: Spread,
    pub(super) to_accept: Spread,
    leases: BTreeSet<LeaseId>,
    pub(super) settled: u64,
    pub(super) requests: u64,
    pub(super) output_tokens: u64,
    pub(super) amount: u64,
    /// What workers measured: milliseconds to the first token, and tokens a second in thousandths.
    pub(super) ttft: Spread,
    pub(super) speed: Spread,
}

impl Auctions {
    fn trade(&mut self, model: &ModelId) -> Option<&mut Trade> {
        if self.models.len() >= MODELS && !self.models.contains_key(model) {
            return None;
        }
        Some(self.models.entry(model.clone()).or_default())
    }

    pub(super) fn on_offer(&mut self, offer: &JobOffer, hash: Digest, at: UnixMillis) {
        if self.deals.contains_key(&offer.job) {
            return;
        }
        self.offers += 1;
        let model = &offer.requirement.model;
        if let Some(trade) = self.trade(model) {
            trade.offers += 1;
        }
        if self.deals.len() >= FOLLOWED {
            self.deals.retain(|_, deal| at.distance(deal.offered) < OVER);
        }
        if self.deals.len() < FOLLOWED {
            let deal = Deal {
                offered: at,
                model: model.clone(),
                hash,
                bids: BTreeMap::new(),
                attempts: BTreeSet::new(),
            };
            self.deals.insert(offer.job, deal);
        }
    }

    pub(super) fn on_bid(&mut self, bid: &JobBid, hash: Digest, at: UnixMillis) {
        let Some(deal) = self.deals.get_mut(&bid.job).filter(|deal| deal.hash == bid.offer) else {
            self.bids += 1;
            return;
        };
        if deal.bids.len() >= BIDS_PER_OFFER || deal.bids.contains_key(&hash) {
            return;
        }
        self.bids += 1;
        if deal.bids.is_empty() {
            self.answered += 1;
            self.to_bid.add(at.since(deal.offered));
        }
        deal.bids.insert(hash, bid.price.output.0);
        let model = deal.model.clone();
        if let Some(trade) = self.trade(&model) {
            trade.bids.add(bid.price.output.0);
        }
    }

    pub(super) fn on_accept(&mut self, accept: &JobAccept, at: UnixMillis) {
        let Some(deal) = self.deals.get_mut(&accept.lease.job) else {
            return;
        };
        let is_first = deal.attempts.is_empty();
        if deal.attempts.len() >= ACCEPTS_PER_OFFER || !deal.attempts.insert(accept.lease.attempt) {
            return;
        }
        if !is_first {
            self.runners_up += 1;
            return;
        }
        self.accepted += 1;
        self.to_accept.add(at.since(deal.offered));
        let (model, price) = (deal.model.clone(), deal.bids.get(&accept.bid).copied());
        if let Some(trade) = self.trade(&model) {
            trade.accepts += 1;
            price.into_iter().for_each(|price| trade.accepted.add(price));
        }
    }

    pub(super) fn on_settled(&mut self, receipt: &JobReceipt) {
        if self.leases.len() < FOLLOWED && !self.leases.insert(receipt.lease) {
            return;
        }
        let (total, step) = (&receipt.total, &receipt.step);
        self.settled += 1;
        self.requests = self.requests.saturating_add(u64::from(total.requests));
        self.output_tokens = self.output_tokens.saturating_add(total.output_tokens);
        self.amount = self.amount.saturating_add(total.amount.0);
        if step.ttft.0 > 0 {
            self.ttft.add(u64::from(step.ttft.0));
            let streamed = u64::from(step.duration.0.saturating_sub(step.ttft.0)).max(1);
            self.speed
                .add(u64::from(step.output_tokens).saturating_mul(1_000_000) / streamed);
        }
    }
}

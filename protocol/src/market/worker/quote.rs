//! Whether a worker bids for an offer, and what it asks.

use super::{RECEIPTS_PER_SLOT, Via, Worker};
use crate::auction::{Decline, JobBid, JobOffer, PAYEES, Payee, draw, open_threshold};
use crate::capability::ModelAd;
use crate::codec::List;
use crate::ids::{ModelId, NodeId};
use crate::market::Now;
use crate::market::fit::{fit, is_fresh};
use crate::market::lease::exposure_limit;
use crate::reputation::Service;
use crate::signed::Verified;
use crate::units::{MicroUsd, Price};

impl Worker {
    /// Requests at once that this buyer is granted: a few for a stranger, more with each accepted receipt.
    #[must_use]
    pub fn grant(&self, buyer: &NodeId) -> u16 {
        let earned = self.buyers.get(buyer).map_or(0, |buyer| buyer.accepted) / RECEIPTS_PER_SLOT;
        let earned = u16::try_from(earned).unwrap_or(u16::MAX);
        self.config.stranger_slots.saturating_add(earned).min(self.config.slots)
    }

    /// What it would ask for a model now; null where it does not serve it, or only above the cap.
    #[must_use]
    pub fn asking(&self, model: &ModelId, cap: &Price, now: Now) -> Option<Price> {
        self.price(self.ad.as_ref()?.model(model)?, cap, now)
    }

    pub(super) fn quote(
        &self,
        offer: &Verified<JobOffer>,
        via: Via,
        ads_held: usize,
        now: Now,
    ) -> Result<JobBid, Decline> {
        if self.draining {
            return Err(Decline::Busy);
        }
        let own = self.identity.node();
        if !is_fresh(offer, now.wall) || offer.workload != self.config.workload || offer.signer() == own {
            return Err(Decline::Invalid);
        }
        if self.bids.has_job(&offer.job) {
            return Err(Decline::Invalid);
        }
        self.check_invited(offer, via, ads_held)?;
        let ad = self.ad.as_ref().ok_or(Decline::Unfit)?;
        let model = fit(ad, &offer.requirement).map_err(|_| Decline::Unfit)?;
        let price = self.price(model, &offer.price_cap, now).ok_or(Decline::Price)?;
        let payees = self.payees(offer, &price)?;
        let buyer = offer.signer();
        let at_once = offer.volume.at_once.min(self.grant(&buyer));
        if at_once == 0 || self.load(now).free() == 0 {
            return Err(Decline::Busy);
        }
        if self.exposure(&buyer) >= exposure_limit(at_once) {
            return Err(Decline::Credit);
        }
        let promise = self.measured.get(&model.id).copied().unwrap_or(Service {
            ttft: model.ttft,
            speed: model.speed,
        });
        Ok(JobBid {
            job: offer.job,
            offer: offer.hash(),
            price,
            ttft: promise.ttft,
            speed: promise.speed,
            // A bid is made only while a slot is free, so nothing stands before it.
            queue: 0,
            addresses: ad.addresses.clone(),
            payees,
            digest: model.digest,
            at_once,
            public: self.config.public,
        })
    }

    /// Invited, or drawn: the sortition keeps uninvited bids to a few however many workers there are.
    fn check_invited(&self, offer: &JobOffer, via: Via, ads_held: usize) -> Result<(), Decline> {
        let own = self.identity.node();
        if offer.invited.contains(&own) {
            return Ok(());
        }
        if via == Via::Gossip && draw(&offer.job, &own) < open_threshold(offer.open, ads_held) {
            return Ok(());
        }
        Err(Decline::Uninvited)
    }

    /// Own price: from the floor when idle to the ad's price when full, and never above the ad or the cap. Null where
    /// even the floor is above the cap.
    fn price(&self, model: &ModelAd, cap: &Price, now: Now) -> Option<Price> {
        let floor = self
            .config
            .floors
            .get(&model.id)
            .map_or(model.price, |floor| floor.at_most(&model.price));
        let load = self.load(now);
        let (taken, slots) = (load.slots - load.free(), load.slots);
        let part = |from: MicroUsd, to: MicroUsd| {
            let rise = u128::from(to.0 - from.0) * u128::from(taken) / u128::from(slots.max(1));
            MicroUsd(from.0 + u64::try_from(rise).unwrap_or(0))
        };
        let asked = Price {
            input: part(floor.input, model.price.input),
            output: part(floor.output, model.price.output),
            request: part(floor.request, model.price.request),
        };
        floor.within(cap).then(|| asked.at_most(cap))
    }

    fn payees(&self, offer: &JobOffer, price: &Price) -> Result<List<Payee, PAYEES>, Decline> {
        if price.is_free() {
            return Ok(List::default());
        }
        let common = self
            .config
            .payees
            .iter()
            .filter(|payee| offer.rails.contains(&payee.rail));
        let payees: List<Payee, PAYEES> = List::first_of(common.cloned());
        if payees.is_empty() {
            return Err(Decline::Rail);
        }
        Ok(payees)
    }
}

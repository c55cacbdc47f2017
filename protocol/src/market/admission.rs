//! What a node does with each gossip message before it forwards it: accept, ignore or reject.
//!
//! Rejected (and held against the sender) is only what is malformed or badly signed, which `Gossip::from_bytes` finds
//! out. All else that does not go on is ignored, since an honest forwarder cannot know it. Implements
//! `specs/auction.md`, "Forwarding".

use std::collections::{BTreeMap, BTreeSet};

use crate::auction::{JobAccept, JobBid, JobOffer, draw, open_threshold};
use crate::capability::{CapabilityAd, Observed, Registry};
use crate::ids::{Digest, JobId, LeaseId, NodeId};
use crate::market::fit::is_fresh;
use crate::market::gossip::Gossip;
use crate::market::{Mono, Now};
use crate::names::{CLOCK_SKEW, INVITED};
use crate::receipt::{Countersign, JobReceipt};
use crate::signed::{Refused, Verified};
use crate::units::Millis;

/// Offers remembered at once: 45 a second for as long as one may live.
pub const OFFERS: usize = 4_096;
/// Bids forwarded for one offer: the invited, and the strangers that twice the threshold lets draw, with room for luck.
pub const BIDS_PER_OFFER: usize = INVITED + 16 * INVITED;
/// Accepts forwarded for one offer: as many as it can have runners-up worth naming.
pub const ACCEPTS_PER_OFFER: usize = 8;
/// Settled leases remembered, so that each is forwarded once.
pub const SETTLED: usize = 4_096;
/// Signers whose rates are counted at once.
pub const SIGNERS: usize = 16_384;
/// The time over which a signer's messages are counted.
pub const RATE_WINDOW: Millis = Millis(30_000);
/// Ads of one signer in that time: one is due, the others are for changes of price and models.
pub const ADS_PER_SIGNER: u32 = 6;
/// Ads of signers that are not known yet: one in this time, three times what a node hears in all of a large network
/// (`capability::AD_SPACING`), and so many at once. Signers cost nothing, so that without this bound a flood of them would
/// push out whoever is known.
pub const NEWCOMER_SPACING: Millis = Millis(50);
/// See [`NEWCOMER_SPACING`].
pub const NEWCOMERS_AT_ONCE: u32 = 200;
/// Offers of one signer in that time: a gateway auctions for new models and lost leases only.
pub const OFFERS_PER_SIGNER: u32 = 64;
/// Settled receipts between one pair's worker and the rest in that time.
pub const SETTLED_PER_SIGNER: u32 = 64;
/// A settled receipt is news for this long after its countersignature.
pub const SETTLED_LIFE: Millis = Millis(60_000);
/// How many times the drawing threshold forwarders allow: they may hold fewer ads than the bidder.
const THRESHOLD_SLACK: u32 = 2;

/// Why a message stays here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignored {
    /// Its dates say that it is over, or not yet.
    Stale,
    /// It came before.
    Duplicate,
    /// What it refers to is not known here.
    Unknown,
    /// It does not keep to what it refers to.
    Unfit,
    /// Its signer was neither invited nor drawn.
    Uninvited,
    /// Its signer says too much, or too much is going on.
    Crowded,
    /// The deal is not public.
    Private,
    /// Its kind or version is unknown, or it does not belong on this topic.
    Foreign,
}

/// What becomes of a message.
#[derive(Clone, Debug)]
pub enum Judgement {
    /// It goes on, and it is news.
    Accept(News),
    /// It stays here, and nobody is to blame.
    Ignore(Ignored),
    /// It stays here, and whoever sent it is to blame.
    Reject,
}

impl Judgement {
    /// What becomes of a message that could not be read or verified.
    #[must_use]
    pub fn of_refused(refused: &Refused) -> Self {
        match refused {
            Refused::Version(_) | Refused::Kind(_) => Self::Ignore(Ignored::Foreign),
            Refused::Malformed(_) | Refused::Signature | Refused::Content(_) => Self::Reject,
        }
    }
}

/// What a message brought that was not known.
#[derive(Clone, Debug)]
pub enum News {
    /// An ad, and what became of it in the registry.
    Ad(Verified<CapabilityAd>, Observed),
    /// An offer.
    Offer(Verified<JobOffer>),
    /// A bid for the offer.
    Bid(Verified<JobBid>, Verified<JobOffer>),
    /// An accept for the offer.
    Accept(Verified<JobAccept>, Verified<JobOffer>),
    /// The end of a lease.
    Settled(Verified<JobReceipt>, Verified<Countersign>),
}

#[derive(Clone, Debug)]
struct HeldOffer {
    offer: Verified<JobOffer>,
    heard: Now,
    forget: Mono,
    bidders: BTreeSet<NodeId>,
    accepts: BTreeSet<LeaseId>,
}

/// How often each signer spoke lately.
#[derive(Clone, Debug, Default)]
struct Rates {
    signers: BTreeMap<NodeId, (Mono, u32)>,
}

impl Rates {
    /// Counts one more; false above the limit, or when too many others are being counted.
    fn allows(&mut self, signer: NodeId, limit: u32, now: Mono) -> bool {
        let over = |since: Mono| now.since(since) >= u64::from(RATE_WINDOW.0);
        if !self.signers.contains_key(&signer) && self.signers.len() >= SIGNERS {
            self.signers.retain(|_, (since, _)| !over(*since));
            if self.signers.len() >= SIGNERS {
                return false;
            }
        }
        let (since, count) = self.signers.entry(signer).or_insert((now, 0));
        if over(*since) {
            (*since, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
        *count <= limit
    }
}

/// A forwarder's memory of what it heard.
#[derive(Clone, Debug, Default)]
pub struct Admission {
    offers: BTreeMap<Digest, HeldOffer>,
    jobs: BTreeMap<JobId, Digest>,
    settled: BTreeMap<LeaseId, Mono>,
    ads: Rates,
    /// When there is room for all newcomers at once again.
    newcomers: Mono,
    buyers: Rates,
    settlers: Rates,
}

impl Admission {
    /// Judges a verified message. Ads go into the registry on the way.
    pub fn judge(&mut self, gossip: Gossip, registry: &mut Registry, now: Now) -> Judgement {
        let judged = match gossip {
            Gossip::Ad(ad) => self.on_ad(ad, registry, now),
            Gossip::Offer(offer) => self.on_offer(offer, now),
            Gossip::Bid(bid) => self.on_bid(bid, registry, now),
            Gossip::Accept(accept) => self.on_accept(accept),
            Gossip::Settled(receipt, countersign) => self.on_settled(receipt, countersign, registry, now),
        };
        match judged {
            Ok(news) => Judgement::Accept(news),
            Err(why) => Judgement::Ignore(why),
        }
    }

    /// The offer of that hash, if it is remembered.
    #[must_use]
    pub fn offer(&self, hash: &Digest) -> Option<&Verified<JobOffer>> {
        self.offers.get(hash).map(|held| &held.offer)
    }

    /// Remembers an offer that came directly, so that bids for it are known when they come by.
    pub fn note_offer(&mut self, offer: &Verified<JobOffer>, now: Now) -> bool {
        self.on_offer(offer.clone(), now).is_ok()
    }

    /// Bids heard for an offer.
    #[must_use]
    pub fn bids(&self, offer: &Digest) -> usize {
        self.offers.get(offer).map_or(0, |held| held.bidders.len())
    }

    /// Drops what no message can refer to any more.
    pub fn tick(&mut self, now: Now) {
        let jobs = &mut self.jobs;
        self.offers.retain(|_, held| {
            let keep = now.mono < held.forget;
            if !keep {
                jobs.remove(&held.offer.job);
            }
            keep
        });
        self.settled.retain(|_, until| now.mono < *until);
    }

    fn on_ad(&mut self, ad: Verified<CapabilityAd>, registry: &mut Registry, now: Now) -> Result<News, Ignored> {
        // One that is held already costs its signer nothing: it comes from every neighbour.
        if registry.get(&ad.signer(), now.wall).is_some_and(|held| *held == ad) {
            return Err(Ignored::Duplicate);
        }
        if !ad.is_fresh(now.wall) {
            return Err(Ignored::Stale);
        }
        if !self.ads.allows(ad.signer(), ADS_PER_SIGNER, now.mono) {
            return Err(Ignored::Crowded);
        }
        if registry.known_since(&ad.signer()).is_none() && !self.has_room_for_newcomer(now.mono) {
            return Err(Ignored::Crowded);
        }
        match registry.observe(ad.clone(), now.wall) {
            seen if seen.is_news() => Ok(News::Ad(ad, seen)),
            Observed::Full => Err(Ignored::Crowded),
            Observed::Stale => Err(Ignored::Stale),
            _ => Err(Ignored::Duplicate),
        }
    }

    fn has_room_for_newcomer(&mut self, now: Mono) -> bool {
        let full = self.newcomers.max(now).0.saturating_add(NEWCOMER_SPACING.0.into());
        let fits = full - now.0 <= u64::from(NEWCOMER_SPACING.0) * u64::from(NEWCOMERS_AT_ONCE);
        if fits {
            self.newcomers = Mono(full);
        }
        fits
    }

    fn on_offer(&mut self, offer: Verified<JobOffer>, now: Now) -> Result<News, Ignored> {
        if !is_fresh(&offer, now.wall) {
            return Err(Ignored::Stale);
        }
        // A second offer for the same job is no news either, whoever signed it: the first one stands.
        if self.jobs.contains_key(&offer.job) {
            return Err(Ignored::Duplicate);
        }
        if self.offers.len() >= OFFERS {
            self.tick(now);
            if self.offers.len() >= OFFERS {
                return Err(Ignored::Crowded);
            }
        }
        if !self.buyers.allows(offer.signer(), OFFERS_PER_SIGNER, now.mono) {
            return Err(Ignored::Crowded);
        }
        // Remembered until its own dates keep a replay out.
        let left = offer.expires_at.after(CLOCK_SKEW).since(now.wall);
        let held = HeldOffer {
            offer: offer.clone(),
            heard: now,
            forget: Mono(now.mono.0.saturating_add(left)),
            bidders: BTreeSet::new(),
            accepts: BTreeSet::new(),
        };
        self.jobs.insert(offer.job, offer.hash());
        self.offers.insert(offer.hash(), held);
        Ok(News::Offer(offer))
    }

    fn on_bid(&mut self, bid: Verified<JobBid>, registry: &Registry, now: Now) -> Result<News, Ignored> {
        let held = self.offers.get_mut(&bid.offer).ok_or(Ignored::Unknown)?;
        let offer = &held.offer;
        if !is_fresh(offer, now.wall) {
            return Err(Ignored::Stale);
        }
        let signer = bid.signer();
        if held.bidders.contains(&signer) {
            return Err(Ignored::Duplicate);
        }
        if held.bidders.len() >= BIDS_PER_OFFER {
            return Err(Ignored::Crowded);
        }
        let keeps = bid.job == offer.job
            && bid.price.within(&offer.price_cap)
            && bid.at_once <= offer.volume.at_once
            && signer != offer.signer();
        if !keeps {
            return Err(Ignored::Unfit);
        }
        if offer.invited.contains(&signer) {
            if !(offer.public && bid.public) {
                return Err(Ignored::Private);
            }
        } else {
            may_bid_uninvited(&signer, offer, held.heard, registry)?;
        }
        let ad = registry.get(&signer, now.wall);
        let listed = ad.and_then(|ad| ad.model(&offer.requirement.model));
        if listed.is_some_and(|model| !bid.price.within(&model.price)) {
            return Err(Ignored::Unfit);
        }
        held.bidders.insert(signer);
        let offer = held.offer.clone();
        Ok(News::Bid(bid, offer))
    }

    fn on_accept(&mut self, accept: Verified<JobAccept>) -> Result<News, Ignored> {
        let hash = self.jobs.get(&accept.lease.job).ok_or(Ignored::Unknown)?;
        let held = self.offers.get_mut(hash).ok_or(Ignored::Unknown)?;
        if accept.signer() != held.offer.signer() || accept.winner == accept.signer() {
            return Err(Ignored::Unfit);
        }
        if !held.offer.public {
            return Err(Ignored::Private);
        }
        if held.accepts.contains(&accept.lease) {
            return Err(Ignored::Duplicate);
        }
        if held.accepts.len() >= ACCEPTS_PER_OFFER {
            return Err(Ignored::Crowded);
        }
        held.accepts.insert(accept.lease);
        Ok(News::Accept(accept, held.offer.clone()))
    }

    fn on_settled(
        &mut self,
        receipt: Verified<JobReceipt>,
        countersign: Verified<Countersign>,
        registry: &Registry,
        now: Now,
    ) -> Result<News, Ignored> {
        let life = u64::from(SETTLED_LIFE.0) + u64::from(CLOCK_SKEW.0);
        if countersign.signed_at.distance(now.wall) > life {
            return Err(Ignored::Stale);
        }
        if self.settled.contains_key(&receipt.lease) {
            return Err(Ignored::Duplicate);
        }
        if registry.get(&receipt.signer(), now.wall).is_none() {
            return Err(Ignored::Unknown);
        }
        if self.settled.len() >= SETTLED {
            self.tick(now);
        }
        if self.settled.len() >= SETTLED || !self.settlers.allows(receipt.signer(), SETTLED_PER_SIGNER, now.mono) {
            return Err(Ignored::Crowded);
        }
        self.settled
            .insert(receipt.lease, Mono(now.mono.0.saturating_add(2 * life)));
        Ok(News::Settled(receipt, countersign))
    }
}

/// Whether a stranger's bid counts: drawn below twice the threshold, by a signer known before the offer was heard.
fn may_bid_uninvited(signer: &NodeId, offer: &JobOffer, heard: Now, registry: &Registry) -> Result<(), Ignored> {
    let known = registry.known_since(signer).ok_or(Ignored::Uninvited)?;
    // The same instant does not count as before: ad and offer may have come from one hand together.
    if known >= heard.wall {
        return Err(Ignored::Uninvited);
    }
    if draw(&offer.job, signer) >= open_threshold(offer.open, registry.len()).saturating_mul(THRESHOLD_SLACK) {
        return Err(Ignored::Uninvited);
    }
    Ok(())
}

//! Which bids count in an auction, and who pays for the one that wins.

use super::{Auction, UNINVITED_BIDS};
use crate::auction::{JobBid, Payer, draw, open_threshold};
use crate::market::Now;
use crate::market::choice::Candidate;
use crate::signed::Verified;

/// Why a bid does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BidFault {
    /// It answers another offer, or another job.
    #[error("bid answers another offer")]
    OtherOffer,
    /// It came after the window.
    #[error("bid came late")]
    Late,
    /// No ad of its signer that could serve was held when the offer went out, or the user does not want it.
    #[error("bid is from a signer without an ad that fits")]
    Unknown,
    /// Its signer was neither invited nor drawn.
    #[error("bid is from a signer that was neither invited nor drawn")]
    Uninvited,
    /// Its signer bid something else before.
    #[error("signer bid before")]
    Second,
    /// It asks more than the cap.
    #[error("bid asks more than the cap")]
    AboveCap,
    /// It asks more than its signer's ad.
    #[error("bid asks more than its signer's ad")]
    AboveAd,
    /// It grants more at once than was asked.
    #[error("bid grants more at once than the offer asks")]
    AtOnce,
    /// It names other weights than required, or than its ad.
    #[error("bid names other weights")]
    Digest,
    /// It asks money on no rail that the buyer has.
    #[error("bid has no payment rail in common")]
    Rail,
    /// There are enough uninvited bids.
    #[error("there are enough uninvited bids")]
    Crowded,
}

impl BidFault {
    /// Whether the bid was meant for this auction and breaks its rules.
    #[must_use]
    pub fn is_of_this_auction(self) -> bool {
        matches!(
            self,
            Self::AboveCap | Self::AboveAd | Self::AtOnce | Self::Digest | Self::Rail
        )
    }
}

impl Auction {
    pub(super) fn check(&self, bid: &Verified<JobBid>, now: Now) -> Result<Candidate, BidFault> {
        if bid.offer != self.offer.hash() || bid.job != self.offer.job {
            return Err(BidFault::OtherOffer);
        }
        // One that comes after an early close still counts as a runner-up until the window ends.
        if now.mono >= self.ends {
            return Err(BidFault::Late);
        }
        let signer = bid.signer();
        let prospect = self.prospects.get(&signer).ok_or(BidFault::Unknown)?;
        if self.candidates.iter().any(|candidate| candidate.bid.signer() == signer) {
            return Err(BidFault::Second);
        }
        let invited = self.invited.contains_key(&signer);
        if !invited {
            self.check_uninvited(bid)?;
        }
        if !bid.price.within(&self.offer.price_cap) {
            return Err(BidFault::AboveCap);
        }
        if !bid.price.within(&prospect.claim.price) {
            return Err(BidFault::AboveAd);
        }
        if bid.at_once > self.offer.volume.at_once {
            return Err(BidFault::AtOnce);
        }
        let required = self.offer.requirement.digest;
        if bid.digest != prospect.digest || (required.is_some() && bid.digest != required) {
            return Err(BidFault::Digest);
        }
        if !bid.price.is_free() && self.payer(bid).is_none() {
            return Err(BidFault::Rail);
        }
        Ok(Candidate {
            bid: bid.clone(),
            standing: prospect.standing,
            trusted: prospect.trusted,
            round_trip: prospect.claim.round_trip,
            explored: self.explores && !prospect.standing.has_history,
        })
    }

    fn check_uninvited(&self, bid: &Verified<JobBid>) -> Result<(), BidFault> {
        // Twice the threshold, as forwarders allow: the bidder may hold fewer ads than we do.
        let threshold = open_threshold(self.offer.open, self.ads_held).saturating_mul(2);
        if draw(&self.offer.job, &bid.signer()) >= threshold {
            return Err(BidFault::Uninvited);
        }
        let invited = |candidate: &&Candidate| self.invited.contains_key(&candidate.bid.signer());
        let strangers = self.candidates.len() - self.candidates.iter().filter(invited).count();
        if strangers >= UNINVITED_BIDS {
            return Err(BidFault::Crowded);
        }
        Ok(())
    }

    /// The first of our wallets whose rail the bid takes.
    pub(super) fn payer(&self, bid: &JobBid) -> Option<Payer> {
        let takes = |wallet: &&Payer| bid.payees.iter().any(|payee| payee.rail == wallet.rail);
        self.want.wallets.iter().find(takes).cloned()
    }
}

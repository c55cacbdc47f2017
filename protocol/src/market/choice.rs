//! Choice among bids: a pure function of what is claimed, what is known of who claims it, and the policy.
//!
//! A utility is a weighted sum of four shares of a million: price, speed, reputation, trust. Price and speed are
//! measured against the usual ad on offer as `usual / (usual + this)`: 1 for nothing, a half for what is usual, and
//! never negative, so one absurd claim cannot press all the others together.

use std::cmp::Reverse;

use crate::auction::{JobBid, Policy, Volume};
use crate::ids::{Digest, JobId, NodeId};
use crate::reputation::{Standing, WHOLE};
use crate::signed::Verified;
use crate::units::{Millis, Price};

/// Weights of a policy in tenths; they add up to ten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weights {
    /// Of the price.
    pub price: u32,
    /// Of the expected time for a usual request.
    pub speed: u32,
    /// Of the reputation.
    pub reputation: u32,
    /// Of what the user said.
    pub trust: u32,
}

/// What a policy weighs.
#[must_use]
pub fn weights(policy: Policy) -> Weights {
    let of = |price, speed, reputation, trust| Weights {
        price,
        speed,
        reputation,
        trust,
    };
    match policy {
        Policy::Cheapest => of(10, 0, 0, 0),
        Policy::Balanced => of(4, 2, 4, 0),
        Policy::Fastest => of(0, 10, 0, 0),
        Policy::Trusted => of(2, 0, 5, 3),
    }
}

/// The reputation below which nobody is chosen; each lies below where a newcomer starts.
#[must_use]
pub fn floor(policy: Policy) -> u32 {
    match policy {
        Policy::Cheapest => 250_000,
        Policy::Fastest => 300_000,
        Policy::Balanced => 300_000,
        Policy::Trusted => 400_000,
    }
}

/// The score that counts as full reputation: beyond nine in ten, luck says more than merit.
pub const FULL_SCORE: u32 = 900_000;

/// What an ad or a bid promises for a usual request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// What it asks.
    pub price: Price,
    /// Time to first token at the worker; 0 where nothing is said.
    pub ttft: Millis,
    /// Speed in thousandths of a token per second; 0 where nothing is said.
    pub speed: u32,
    /// Requests that stand before this one.
    pub queue: u16,
    /// Round trip between buyer and worker.
    pub round_trip: Millis,
}

impl Claim {
    /// What a bid promises to a buyer that far away.
    #[must_use]
    pub fn of_bid(bid: &JobBid, round_trip: Millis) -> Self {
        Self {
            price: bid.price,
            ttft: bid.ttft,
            speed: bid.speed,
            queue: bid.queue,
            round_trip,
        }
    }

    /// Price of a usual request in millionths of a micro-USD: exact where `Price::cost` rounds up, so that small
    /// requests still tell prices apart. For comparison only, never for a bill.
    #[must_use]
    pub fn weighed_price(&self, volume: &Volume) -> u64 {
        let Price { input, output, request } = self.price;
        let sum = u128::from(input.0) * u128::from(volume.input_tokens)
            + u128::from(output.0) * u128::from(volume.output_tokens)
            + u128::from(request.0) * u128::from(WHOLE);
        u64::try_from(sum).unwrap_or(u64::MAX)
    }

    /// Milliseconds until a usual request is answered, believing as much as this signer kept of earlier claims.
    /// Null where nothing is claimed.
    #[must_use]
    pub fn expected_time(&self, volume: &Volume, standing: &Standing) -> Option<u64> {
        if self.speed == 0 {
            return None;
        }
        let whole = u64::from(WHOLE);
        let ttft = u64::from(self.ttft.0) * whole / u64::from(standing.ttft_kept.max(1));
        let speed = (u64::from(self.speed) * u64::from(standing.speed_kept) / whole).max(1);
        let stream = u64::from(volume.output_tokens) * 1_000_000 / speed;
        let once = ttft.saturating_add(stream);
        // Whoever stands in the queue before this request takes as long as it does.
        Some(
            once.saturating_mul(u64::from(self.queue) + 1)
                .saturating_add(u64::from(self.round_trip.0)),
        )
    }
}

/// What is usual among the ads on offer: medians, which a minority of liars cannot move far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scale {
    /// Weighed price.
    pub price: u64,
    /// Time of a usual request in milliseconds.
    pub time: u64,
}

impl Scale {
    /// From the claims of every ad that could serve.
    #[must_use]
    pub fn of<'a>(claims: impl Iterator<Item = (&'a Claim, &'a Standing)>, volume: &Volume) -> Self {
        let (mut prices, mut times) = (Vec::new(), Vec::new());
        for (claim, standing) in claims {
            prices.push(claim.weighed_price(volume));
            times.extend(claim.expected_time(volume, standing));
        }
        Self {
            price: median(&mut prices),
            time: median(&mut times),
        }
    }
}

fn median(values: &mut [u64]) -> u64 {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or(0)
}

/// The rules by which one auction compares.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// The policy.
    pub policy: Policy,
    /// How much is wanted.
    pub volume: Volume,
    /// What is usual.
    pub scale: Scale,
    /// The reputation below which nobody is chosen; none where nobody who could serve reaches it, since a provider
    /// that failed before is better than no answer.
    pub floor: u32,
}

impl Rule {
    /// Utility of a claim in parts per million.
    #[must_use]
    pub fn utility(&self, claim: &Claim, standing: &Standing, trusted: bool) -> u32 {
        let weights = weights(self.policy);
        let price = against(self.scale.price, claim.weighed_price(&self.volume));
        // Who claims no speed is taken to be as slow again as usual: silence must not pay.
        let time = claim
            .expected_time(&self.volume, standing)
            .unwrap_or(self.scale.time.saturating_mul(2));
        let speed = against(self.scale.time, time);
        let reputation = share_of(standing.score.min(FULL_SCORE), FULL_SCORE);
        let trust = if trusted { WHOLE } else { 0 };
        (weights.price * price + weights.speed * speed + weights.reputation * reputation + weights.trust * trust) / 10
    }

    /// Whether this signer may be chosen at all. Whom the user named is the user's own affair.
    #[must_use]
    pub fn admits(&self, standing: &Standing, trusted: bool) -> bool {
        trusted || standing.score >= self.floor
    }
}

/// `part` of `whole` in parts per million.
fn share_of(part: u32, whole: u32) -> u32 {
    u32::try_from(u64::from(part) * u64::from(WHOLE) / u64::from(whole)).unwrap_or(WHOLE)
}

/// `usual / (usual + this)` in parts per million.
fn against(usual: u64, this: u64) -> u32 {
    if this == 0 {
        return WHOLE;
    }
    let part = u128::from(usual) * u128::from(WHOLE) / (u128::from(usual) + u128::from(this));
    u32::try_from(part).unwrap_or(WHOLE)
}

/// A bid with all that the choice looks at.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The bid.
    pub bid: Verified<JobBid>,
    /// How its signer stands.
    pub standing: Standing,
    /// Whether the user trusts its signer.
    pub trusted: bool,
    /// Round trip to its signer.
    pub round_trip: Millis,
    /// Whether this auction explores, and this signer is one of those it would get to know.
    pub explored: bool,
}

/// A bid in its place.
#[derive(Clone, Debug)]
pub struct Ranked {
    /// The bid.
    pub bid: Verified<JobBid>,
    /// Its utility in parts per million.
    pub utility: u32,
    /// Whether exploration and not utility put it here.
    pub explored: bool,
}

/// Bids from the best to the worst, without those below the floor. Equal ones are ordered by SHA-256(job || bidder).
#[must_use]
pub fn rank(candidates: &[Candidate], rule: &Rule, job: &JobId) -> Vec<Ranked> {
    let mut ranked: Vec<Ranked> = candidates
        .iter()
        .filter(|candidate| rule.admits(&candidate.standing, candidate.trusted))
        .map(|candidate| Ranked {
            utility: rule.utility(
                &Claim::of_bid(&candidate.bid, candidate.round_trip),
                &candidate.standing,
                candidate.trusted,
            ),
            explored: candidate.explored,
            bid: candidate.bid.clone(),
        })
        .collect();
    ranked.sort_by_cached_key(|entry| {
        (
            Reverse(entry.explored),
            Reverse(entry.utility),
            tie_break(job, &entry.bid.signer()),
        )
    });
    ranked
}

/// The order of equals: different for every job, and nobody's to choose.
#[must_use]
pub fn tie_break(job: &JobId, bidder: &NodeId) -> Digest {
    Digest::of(&[job.as_bytes(), bidder.as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::MicroUsd;

    const VOLUME: Volume = Volume {
        input_tokens: 500,
        output_tokens: 200,
        requests: 10,
        at_once: 2,
        lease: Millis(60_000),
    };

    fn claim(price: u64, speed: u32) -> Claim {
        Claim {
            price: Price {
                input: MicroUsd(price),
                output: MicroUsd(price),
                request: MicroUsd(0),
            },
            ttft: Millis(200),
            speed,
            queue: 0,
            round_trip: Millis(50),
        }
    }

    fn rule(policy: Policy) -> Rule {
        let claims = [claim(100, 50_000), claim(200, 50_000), claim(300, 50_000)];
        let standing = Standing::NEWCOMER;
        Rule {
            policy,
            volume: VOLUME,
            scale: Scale::of(claims.iter().map(|claim| (claim, &standing)), &VOLUME),
            floor: floor(policy),
        }
    }

    fn standing(score: u32) -> Standing {
        Standing {
            score,
            ttft_kept: WHOLE,
            speed_kept: WHOLE,
            has_history: true,
            missed_lately: false,
        }
    }

    #[test]
    fn weights_add_up_and_floors_lie_below_a_newcomer() {
        for policy in Policy::ALL {
            let Weights {
                price,
                speed,
                reputation,
                trust,
            } = weights(*policy);
            assert_eq!(price + speed + reputation + trust, 10);
            assert!(floor(*policy) < crate::reputation::NEWCOMER_SCORE);
        }
    }

    #[test]
    fn each_policy_wants_what_it_says() {
        let usual = (claim(200, 50_000), standing(800_000));
        let utility = |policy, (claim, standing): &(Claim, Standing)| rule(policy).utility(claim, standing, false);
        let cheap = (claim(150, 20_000), standing(800_000));
        let fast = (claim(300, 90_000), standing(800_000));
        let good = (claim(200, 50_000), standing(900_000));
        assert!(utility(Policy::Cheapest, &cheap) > utility(Policy::Cheapest, &usual));
        assert!(utility(Policy::Fastest, &fast) > utility(Policy::Fastest, &usual));
        assert!(utility(Policy::Balanced, &good) > utility(Policy::Balanced, &usual));
        assert_eq!(utility(Policy::Cheapest, &good), utility(Policy::Cheapest, &usual));
        let trusted = rule(Policy::Trusted);
        assert!(trusted.utility(&usual.0, &usual.1, true) > trusted.utility(&good.0, &good.1, false) + 200_000);
    }

    #[test]
    fn claims_of_who_broke_them_are_discounted() {
        let honest = standing(900_000);
        let liar = Standing {
            speed_kept: 100_000,
            ..honest
        };
        let rule = rule(Policy::Fastest);
        assert!(rule.utility(&claim(0, 100_000), &liar, false) < rule.utility(&claim(0, 30_000), &honest, false));
        assert!(!rule.admits(&standing(299_999), false) && rule.admits(&standing(299_999), true));
    }

    #[test]
    fn a_network_where_all_is_free_still_compares() {
        let standing = standing(900_000);
        let free = claim(0, 50_000);
        let rule = Rule {
            policy: Policy::Cheapest,
            volume: VOLUME,
            scale: Scale::of(std::iter::once((&free, &standing)), &VOLUME),
            floor: floor(Policy::Cheapest),
        };
        assert_eq!(rule.utility(&free, &standing, false), WHOLE);
        assert_eq!(rule.utility(&claim(1, 50_000), &standing, false), 0);
    }
}

//! Providers that could serve a want, as their ads and this node's own memory have them; or why there are none.

use std::collections::BTreeMap;

use super::{ROUND_TRIP_UNKNOWN, View, Want};
use crate::capability::{Address, CapabilityAd, ModelAd};
use crate::ids::{Digest, ModelId, NodeId};
use crate::market::Now;
use crate::market::choice::{Claim, Rule, Scale, floor};
use crate::market::fit::{Unfit, fit};
use crate::reputation::Standing;
use crate::units::Price;

/// A provider that could serve.
#[derive(Clone, Debug)]
pub struct Prospect {
    /// Where its ad says it is.
    pub addresses: Vec<Address>,
    /// What its ad promises.
    pub claim: Claim,
    /// The weights that its ad names.
    pub digest: Option<Digest>,
    /// How it stands here.
    pub standing: Standing,
    /// Whether the user trusts it.
    pub trusted: bool,
    /// Utility of its ad: what a bid of it is expected to reach.
    pub promised: u32,
}

/// Nobody whose ad is known could serve.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error("no known provider could serve this")]
pub struct NoProvider {
    /// Models of like name that are served, the likeliest first.
    pub near: Vec<ModelId>,
    /// Providers that serve the model but lack something, by what they lack first.
    pub unfit: BTreeMap<Unfit, u32>,
    /// Providers that ask more than the cap.
    pub above_cap: u32,
    /// The lowest of their prices for a usual request.
    pub cheapest: Option<Price>,
    /// Providers that ask money on no rail of the buyer's.
    pub no_rail: u32,
    /// Providers that the user excluded.
    pub excluded: u32,
}

/// Most near names given.
const NEAR: usize = 5;
/// Names further apart than this many edits are not near.
const NEAR_EDITS: usize = 4;

pub(super) fn find(
    want: &Want,
    view: &View<'_>,
    now: Now,
) -> Result<(BTreeMap<NodeId, Prospect>, Rule), Box<NoProvider>> {
    let mut missing = NoProvider::default();
    let mut prospects = BTreeMap::new();
    for ad in view.registry.iter(now.wall) {
        let node = ad.signer();
        if node == view.identity.node() {
            continue;
        }
        if let Some(model) = suits(want, ad, &node, &mut missing) {
            prospects.insert(node, prospect(want, view, now, node, ad, model));
        }
    }
    if prospects.is_empty() {
        missing.near = near(want, view, now);
        return Err(Box::new(missing));
    }
    let mut rule = Rule {
        floor: floor(want.policy),
        policy: want.policy,
        volume: want.volume,
        scale: Scale::of(
            prospects.values().map(|prospect| (&prospect.claim, &prospect.standing)),
            &want.volume,
        ),
    };
    if !prospects
        .values()
        .any(|prospect| rule.admits(&prospect.standing, prospect.trusted))
    {
        rule.floor = 0;
    }
    for prospect in prospects.values_mut() {
        prospect.promised = rule.utility(&prospect.claim, &prospect.standing, prospect.trusted);
    }
    Ok((prospects, rule))
}

/// The ad's entry for the model, if it may be asked; else counts what stands against it.
fn suits<'a>(want: &Want, ad: &'a CapabilityAd, node: &NodeId, missing: &mut NoProvider) -> Option<&'a ModelAd> {
    let model = match fit(ad, &want.requirement) {
        Ok(model) => model,
        Err(Unfit::Model) => return None,
        Err(unfit) => {
            *missing.unfit.entry(unfit).or_default() += 1;
            return None;
        }
    };
    if want.ignore.contains(node) || want.only.as_ref().is_some_and(|only| !only.contains(node)) {
        missing.excluded += 1;
        return None;
    }
    if !model.price.within(&want.price_cap) {
        missing.above_cap += 1;
        let cost = |price: &Price| price.cost(want.volume.input_tokens, want.volume.output_tokens);
        if missing
            .cheapest
            .is_none_or(|cheapest| cost(&model.price) < cost(&cheapest))
        {
            missing.cheapest = Some(model.price);
        }
        return None;
    }
    if !model.price.is_free() && !want.wallets.iter().any(|wallet| ad.rails.contains(&wallet.rail)) {
        missing.no_rail += 1;
        return None;
    }
    Some(model)
}

fn prospect(want: &Want, view: &View<'_>, now: Now, node: NodeId, ad: &CapabilityAd, model: &ModelAd) -> Prospect {
    Prospect {
        addresses: ad.addresses.to_vec(),
        claim: Claim {
            price: model.price,
            ttft: model.ttft,
            speed: model.speed,
            queue: 0,
            round_trip: (view.round_trip)(&node).unwrap_or(ROUND_TRIP_UNKNOWN),
        },
        digest: model.digest,
        standing: view.reputation.standing(&node, now.wall),
        trusted: want.trusted.contains(&node) || want.only.is_some(),
        promised: 0,
    }
}

/// Served models whose names are like the one wanted.
fn near(want: &Want, view: &View<'_>, now: Now) -> Vec<ModelId> {
    let wanted = want.requirement.model.as_str();
    let mut names: Vec<(usize, &ModelId)> = view
        .registry
        .iter(now.wall)
        .flat_map(|ad| ad.models.iter())
        .map(|model| &model.id)
        .filter(|id| **id != want.requirement.model)
        .filter_map(|id| likeness(wanted, id.as_str()).map(|distance| (distance, id)))
        .collect();
    names.sort_unstable();
    names.dedup();
    names.into_iter().take(NEAR).map(|(_, id)| id.clone()).collect()
}

/// How far two names are apart: 0 where one holds the other, else the edits between them, null where they are many.
fn likeness(wanted: &str, served: &str) -> Option<usize> {
    if served.contains(wanted) || wanted.contains(served) {
        return Some(0);
    }
    let served: Vec<char> = served.chars().collect();
    let mut row: Vec<usize> = (0..=served.len()).collect();
    for (i, a) in wanted.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in served.iter().enumerate() {
            let change = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row.last().copied().filter(|edits| *edits <= NEAR_EDITS)
}

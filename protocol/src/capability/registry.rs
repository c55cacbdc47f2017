//! The ads that a node holds: newest per signer, bounded per signer by one and in all by a limit.

use std::collections::BTreeMap;

use crate::capability::{CapabilityAd, ModelAd};
use crate::ids::{ModelId, NodeId};
use crate::signed::Verified;
use crate::units::UnixMillis;

/// Bounds of a registry.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most ads held in all.
    pub ads: usize,
}

impl Default for Limits {
    fn default() -> Self {
        // At 2 KiB for a usual ad this is 16 MiB, and more providers than one buyer can tell apart.
        Self { ads: 8_192 }
    }
}

/// What became of an ad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    /// First ad of its signer.
    New,
    /// Newer than the one held.
    Newer,
    /// The node withdrew.
    Withdrawn,
    /// The same or an older one.
    Superseded,
    /// Expired, or dated ahead of the clock.
    Stale,
    /// The registry is full of ads that live longer.
    Full,
}

impl Observed {
    /// Whether others should hear of it too.
    #[must_use]
    pub fn is_news(self) -> bool {
        matches!(self, Self::New | Self::Newer | Self::Withdrawn)
    }
}

#[derive(Clone, Debug)]
struct Held {
    ad: Verified<CapabilityAd>,
    heard_at: UnixMillis,
}

/// Newest ad of each signer.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    limits: Limits,
    ads: BTreeMap<NodeId, Held>,
}

impl Registry {
    /// An empty registry.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            ads: BTreeMap::new(),
        }
    }

    /// Takes an ad in, if it is news.
    pub fn observe(&mut self, ad: Verified<CapabilityAd>, now: UnixMillis) -> Observed {
        if !ad.is_fresh(now) {
            return Observed::Stale;
        }
        let signer = ad.signer();
        let seen = match self.ads.get(&signer) {
            Some(held) if held.ad.sequence >= ad.sequence => return Observed::Superseded,
            Some(_) if ad.models.is_empty() => Observed::Withdrawn,
            Some(_) => Observed::Newer,
            None => Observed::New,
        };
        if seen == Observed::New && self.ads.len() >= self.limits.ads {
            self.expire(now);
            if self.ads.len() >= self.limits.ads && !self.evict_before(&ad) {
                return Observed::Full;
            }
        }
        // An ad by which a node withdraws is kept until it expires, so that an older one cannot bring it back.
        let heard_at = self.ads.get(&signer).map_or(now, |held| held.heard_at);
        self.ads.insert(signer, Held { ad, heard_at });
        seen
    }

    /// Makes room by dropping the ad that ends first, if that is before `ad` ends.
    fn evict_before(&mut self, ad: &CapabilityAd) -> bool {
        let first = self
            .ads
            .iter()
            .min_by_key(|(_, held)| held.ad.expires_at())
            .map(|(node, held)| (*node, held.ad.expires_at()));
        match first {
            Some((node, end)) if end < ad.expires_at() => self.ads.remove(&node).is_some(),
            _ => false,
        }
    }

    /// Drops what has expired.
    pub fn expire(&mut self, now: UnixMillis) {
        self.ads.retain(|_, held| held.ad.is_fresh(now));
    }

    /// The fresh ad of a node that has not withdrawn.
    #[must_use]
    pub fn get(&self, node: &NodeId, now: UnixMillis) -> Option<&Verified<CapabilityAd>> {
        self.ads
            .get(node)
            .map(|held| &held.ad)
            .filter(|ad| ad.is_fresh(now) && !ad.models.is_empty())
    }

    /// When the first of the ads of this signer that are held was heard.
    #[must_use]
    pub fn known_since(&self, node: &NodeId) -> Option<UnixMillis> {
        self.ads.get(node).map(|held| held.heard_at)
    }

    /// Fresh ads, in the order of their signers.
    pub fn iter(&self, now: UnixMillis) -> impl Iterator<Item = &Verified<CapabilityAd>> {
        self.ads
            .values()
            .map(|held| &held.ad)
            .filter(move |ad| ad.is_fresh(now) && !ad.models.is_empty())
    }

    /// Fresh ads that serve the model, with the entry for it.
    pub fn serving<'a>(
        &'a self,
        model: &'a ModelId,
        now: UnixMillis,
    ) -> impl Iterator<Item = (&'a Verified<CapabilityAd>, &'a ModelAd)> {
        self.iter(now)
            .filter_map(move |ad| ad.model(model).map(|entry| (ad, entry)))
    }

    /// Ads held, expired ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ads.len()
    }

    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ads.is_empty()
    }
}

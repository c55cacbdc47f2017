//! Whether a provider's ad meets what an offer requires. Buyers ask before they invite, workers before they bid.

use crate::auction::{JobOffer, Requirement};
use crate::capability::{CapabilityAd, Class, ModelAd};
use crate::names::CLOCK_SKEW;
use crate::units::UnixMillis;

/// What an ad lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Unfit {
    /// It does not list the model.
    #[error("does not serve the model")]
    Model,
    /// It serves other weights, or does not say which.
    #[error("serves other weights")]
    Digest,
    /// Its context is shorter.
    #[error("has a shorter context")]
    Context,
    /// It lacks a feature.
    #[error("lacks a feature")]
    Features,
    /// It lacks a tag.
    #[error("lacks a tag")]
    Tags,
    /// It has no GPU of that size.
    #[error("has less GPU memory")]
    Vram,
    /// It does not take this class of workload.
    #[error("does not take this class of workload")]
    Class,
}

/// The ad's entry for the required model, if the provider can serve it.
pub fn fit<'a>(ad: &'a CapabilityAd, need: &Requirement) -> Result<&'a ModelAd, Unfit> {
    let model = ad.model(&need.model).ok_or(Unfit::Model)?;
    if need.digest.is_some() && model.digest != need.digest {
        return Err(Unfit::Digest);
    }
    if model.context < need.context {
        return Err(Unfit::Context);
    }
    if !model.features.contains(need.features) {
        return Err(Unfit::Features);
    }
    if need.tags.iter().any(|tag| !ad.tags.contains(tag)) {
        return Err(Unfit::Tags);
    }
    if need.vram.is_some_and(|tier| ad.gpus.iter().all(|gpu| gpu.tier < tier)) {
        return Err(Unfit::Vram);
    }
    if !takes(ad, need.class) {
        return Err(Unfit::Class);
    }
    Ok(model)
}

/// Whether an ad's tags name the class; one that names none takes class A.
fn takes(ad: &CapabilityAd, class: Class) -> bool {
    let mut classes = ad
        .tags
        .iter()
        .filter_map(|tag| tag.as_str().strip_prefix("c0mpute:class:"))
        .peekable();
    if classes.peek().is_none() {
        return class == Class::A;
    }
    classes.any(|name| name == class.as_str())
}

/// Whether an offer counts at `wall`, give or take the tolerated skew of clocks.
#[must_use]
pub fn is_fresh(offer: &JobOffer, wall: UnixMillis) -> bool {
    offer.issued_at <= wall.after(CLOCK_SKEW) && wall < offer.expires_at.after(CLOCK_SKEW)
}

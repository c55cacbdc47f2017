//! What this node serves: its backends, the models they have now, and how fast they turned out to be.

mod sources;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use infernet_inference::backend::{Backend, Model};
use infernet_protocol::capability::ModelAd;
use infernet_protocol::codec::Text;
use infernet_protocol::receipt::{Status, Step};
use infernet_protocol::{Digest, Millis, ModelId, Price};
use tokio::sync::watch;
use tracing::info;

pub use sources::Sources;
use sources::Watched;

/// Context of a model that does not say: what the smallest models in use have.
const CONTEXT_UNKNOWN: u32 = 2_048;
/// Most output tokens of a request to a model that does not say.
const OUTPUT_UNKNOWN: u32 = 4_096;
/// Measured figures move an eighth of the way to each new one.
const SMOOTHING: u64 = 8;

/// A model and the backend that has it.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    pub(crate) model: Model,
    pub(crate) backend: Arc<dyn Backend>,
}

impl Served {
    pub(crate) fn context(&self) -> u32 {
        self.model.context.unwrap_or(CONTEXT_UNKNOWN)
    }

    /// Most output tokens of one choice.
    pub(crate) fn max_output(&self) -> u32 {
        self.model
            .max_output
            .unwrap_or_else(|| self.model.context.unwrap_or(OUTPUT_UNKNOWN))
    }

    /// Output that fits into the context beside a prompt of so many bytes. Most prompts have fewer tokens than bytes, so
    /// a quarter of the context is left even to the longest.
    pub(crate) fn room(&self, prompt_bytes: u64) -> u32 {
        let Some(context) = self.model.context else {
            return OUTPUT_UNKNOWN;
        };
        let prompt = u32::try_from(infernet_inference::watch::input_at_most(prompt_bytes)).unwrap_or(u32::MAX);
        (context - prompt.min(context / 4 * 3)).max(1)
    }

    fn entry(&self, price: Price, measured: Measured) -> ModelAd {
        ModelAd {
            id: self.model.id.clone(),
            digest: self.model.digest.map(Digest),
            context: self.context(),
            quantisation: Text::lossy(self.model.quantisation.as_deref().unwrap_or_default()),
            features: self.model.features,
            price,
            max_output: self.max_output(),
            ttft: measured.ttft,
            speed: measured.speed,
        }
    }
}

/// What requests have shown, over all models.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Measured {
    /// Time to first token.
    pub(crate) ttft: Millis,
    /// Thousandths of a token per second, one stream.
    pub(crate) speed: u32,
}

/// All that this node serves.
#[derive(Debug)]
pub(crate) struct Engines {
    watched: Watched,
    price: Price,
    served: RwLock<BTreeMap<ModelId, Served>>,
    measured: RwLock<Measured>,
    changed: watch::Sender<u64>,
}

impl Engines {
    pub(crate) fn new(sources: Sources, price: Price) -> Self {
        Self {
            watched: Watched::new(sources),
            price,
            served: RwLock::default(),
            measured: RwLock::default(),
            changed: watch::Sender::new(0),
        }
    }

    /// Whether there is nowhere to look for an engine.
    pub(crate) fn is_empty(&self) -> bool {
        self.watched.is_empty()
    }

    /// Asks every engine for its models. One that does not answer serves nothing until it does.
    pub(crate) async fn refresh(&self) {
        let mut found = BTreeMap::new();
        for (backend, models) in self.watched.look().await {
            for model in models {
                let served = Served {
                    model,
                    backend: backend.clone(),
                };
                found.entry(served.model.id.clone()).or_insert(served);
            }
        }
        let mut served = self.served.write().unwrap_or_else(PoisonError::into_inner);
        let same = served.len() == found.len()
            && found
                .iter()
                .all(|(id, new)| served.get(id).is_some_and(|old| old.model == new.model));
        *served = found;
        if !same {
            info!(models = served.len(), "models served have changed");
            self.changed.send_modify(|version| *version += 1);
        }
    }

    /// Says when the models have changed.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(crate) fn find(&self, id: &ModelId) -> Option<Served> {
        self.served
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(id)
            .cloned()
    }

    /// Whether there is a model of that name.
    pub(crate) fn has(&self, id: &ModelId) -> bool {
        let served = self.served.read().unwrap_or_else(PoisonError::into_inner);
        served.contains_key(id)
    }

    /// All models.
    pub(crate) fn served(&self) -> Vec<Model> {
        let served = self.served.read().unwrap_or_else(PoisonError::into_inner);
        served.values().map(|served| served.model.clone()).collect()
    }

    /// Entries of an ad.
    pub(crate) fn entries(&self) -> Vec<ModelAd> {
        let measured = self.measured();
        let served = self.served.read().unwrap_or_else(PoisonError::into_inner);
        served
            .values()
            .map(|served| served.entry(self.price, measured))
            .collect()
    }

    /// Requests at once that the engines say they can take together.
    pub(crate) fn slots(&self) -> Option<u16> {
        let served = self.served.read().unwrap_or_else(PoisonError::into_inner);
        served.values().filter_map(|served| served.model.slots).max()
    }

    pub(crate) fn measured(&self) -> Measured {
        *self.measured.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Learns from a request that has ended. An answer that came in one piece tells only how long all of it took.
    pub(crate) fn observe(&self, step: &Step, is_streamed: bool) {
        if step.status != Status::Completed || step.output_tokens == 0 {
            return;
        }
        let mut measured = self.measured.write().unwrap_or_else(PoisonError::into_inner);
        let first = if is_streamed {
            measured.ttft = Millis(smooth(measured.ttft.0, u64::from(step.ttft.0)));
            step.ttft
        } else {
            // Where the usual wait is most of it, it was another wait.
            Some(measured.ttft)
                .filter(|usual| *usual <= Millis(step.duration.0 / 2))
                .unwrap_or_default()
        };
        let streaming = u64::from(step.duration.0.saturating_sub(first.0)).max(1);
        let speed = u64::from(step.output_tokens.saturating_sub(1)) * 1_000_000 / streaming;
        // The speed of an answer of a few tokens says nothing.
        if step.output_tokens >= 8 {
            measured.speed = smooth(measured.speed, speed);
        }
    }
}

fn smooth(old: u32, new: u64) -> u32 {
    let next = if old == 0 {
        new
    } else {
        (u64::from(old) * (SMOOTHING - 1) + new) / SMOOTHING
    };
    u32::try_from(next).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use infernet_protocol::{MicroUsd, RequestId};

    use super::*;

    fn step(tokens: u32, ttft: u32, duration: u32) -> Step {
        Step {
            request: RequestId([0; 16]),
            status: Status::Completed,
            input_tokens: 1,
            output_tokens: tokens,
            ttft: Millis(ttft),
            duration: Millis(duration),
            amount: MicroUsd(0),
            commitment: Digest([0; 32]),
        }
    }

    #[test]
    fn what_came_in_one_piece_makes_no_engine_look_fast() {
        let engines = Engines::new(Sources::default(), Price::FREE);
        let measured = || (engines.measured().ttft.0, engines.measured().speed);
        engines.observe(&step(101, 2_000, 2_000), false);
        assert_eq!(measured(), (0, 50_000), "a document tells no first token");
        engines.observe(&step(101, 200, 2_200), true);
        assert_eq!(measured(), (200, 50_000));
        // The wait that is usual, then 50 tokens/s; and one that waited for less than is usual.
        engines.observe(&step(101, 2_200, 2_200), false);
        engines.observe(&step(11, 201, 201), false);
        assert_eq!(measured(), (200, 49_968));
        engines.observe(&step(7, 201, 201), false);
        assert_eq!(measured(), (200, 49_968), "too few tokens to say");
    }
}

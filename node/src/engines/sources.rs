//! Where engines are: backends that were chosen by name, and addresses that are looked at for as long as the node runs.

use std::fmt;
use std::sync::{Arc, Mutex};

use futures::future::join_all;
use infernet_inference::backend::{Backend, Model};
use infernet_inference::detect::{self, Candidate};
use tracing::{debug, info, warn};

use crate::runtime::unpoisoned;

/// What a node runs its models on.
#[derive(Clone, Default)]
pub struct Sources {
    /// Engines that are asked for their models whether they answer or not.
    pub backends: Vec<Arc<dyn Backend>>,
    /// Addresses at which an engine may be, may appear and may vanish. What answers there is found out each time.
    pub candidates: Vec<Candidate>,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources")
            .field("backends", &self.backends.len())
            .field("candidates", &self.candidates.len())
            .finish()
    }
}

impl Sources {
    /// Whether there is nowhere to look.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.backends.is_empty() && self.candidates.is_empty()
    }
}

/// One address, and what was found there when it was last looked at.
#[derive(Debug)]
struct Place {
    candidate: Candidate,
    found: Mutex<Option<Arc<dyn Backend>>>,
    /// That nobody answers was said.
    complained: Mutex<bool>,
}

impl Place {
    fn new(candidate: Candidate) -> Self {
        Self {
            candidate,
            found: Mutex::default(),
            complained: Mutex::default(),
        }
    }

    async fn look(&self) -> Option<(Arc<dyn Backend>, Vec<Model>)> {
        let known = unpoisoned(&self.found).clone();
        if let Some(backend) = known {
            match backend.models().await {
                Ok(models) => return Some((backend, models)),
                Err(error) => {
                    warn!(engine = backend.name(), %error, "the engine is gone");
                    // What comes up there next may be another one.
                    *unpoisoned(&self.found) = None;
                    return None;
                }
            }
        }
        if !detect::listens(&self.candidate).await {
            self.complain("nothing listens there");
            return None;
        }
        match detect::probe(&self.candidate).await {
            Ok(detected) => {
                info!(
                    engine = detected.kind.as_str(),
                    models = detected.models.len(),
                    "engine found"
                );
                *unpoisoned(&self.found) = Some(detected.backend.clone());
                *unpoisoned(&self.complained) = false;
                Some((detected.backend, detected.models))
            }
            Err(error) => {
                self.complain(&error.to_string());
                None
            }
        }
    }

    /// Says once that an address which somebody named has no engine.
    fn complain(&self, why: &str) {
        if self.candidate.named && !std::mem::replace(&mut *unpoisoned(&self.complained), true) {
            warn!(
                engine = self.candidate.kind.as_str(),
                why, "the engine that was named does not answer yet"
            );
        }
    }
}

/// [`Sources`] at work.
#[derive(Debug)]
pub(super) struct Watched {
    backends: Vec<Arc<dyn Backend>>,
    places: Vec<Place>,
}

impl Watched {
    pub(super) fn new(sources: Sources) -> Self {
        let mut places: Vec<Place> = Vec::new();
        for candidate in sources.candidates {
            // vLLM and MAX share a port: one look tells which it is.
            match places
                .iter_mut()
                .find(|place| place.candidate.address == candidate.address)
            {
                Some(place) => {
                    let known = &mut place.candidate;
                    known.api_key = known.api_key.take().or(candidate.api_key);
                    known.named |= candidate.named;
                }
                None => places.push(Place::new(candidate)),
            }
        }
        Self {
            backends: sources.backends,
            places,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.backends.is_empty() && self.places.is_empty()
    }

    /// Every engine that answers now with its models, in the order of preference.
    pub(super) async fn look(&self) -> Vec<(Arc<dyn Backend>, Vec<Model>)> {
        let named = join_all(self.backends.iter().map(|backend| async move {
            match backend.models().await {
                Ok(models) => Some((backend.clone(), models)),
                Err(error) => {
                    debug!(backend = backend.name(), %error, "engine does not answer");
                    None
                }
            }
        }));
        let found = join_all(self.places.iter().map(Place::look));
        let (named, found) = futures::join!(named, found);
        named.into_iter().chain(found).flatten().collect()
    }
}

//! What the models of a server can do: as its kind is known for, as its own routes tell, and, where nothing tells, as
//! one small request shows. What was found out by asking is remembered, so that a model is asked once.

pub(super) mod llamacpp;
mod ollama;
mod trials;

use infernet_protocol::capability::Features;

use super::{BackendKind, List, Listed};
use crate::backend::Model;
use crate::openai::OpenAiBackend;
use trials::{Trial, try_out};

/// The models of a list, described.
pub(super) async fn models(backend: &OpenAiBackend, kind: BackendKind, list: List) -> Vec<Model> {
    if kind == BackendKind::LlamaCpp {
        return llamacpp::describe(backend, list).await;
    }
    let mut models = named(list, usual(kind));
    match kind {
        BackendKind::Ollama => ollama::describe(backend, &mut models).await,
        // These have one model, and it is loaded: a request costs a token and no more. A server of an unknown kind may
        // have to load each model that is asked.
        BackendKind::Vllm | BackendKind::Sglang | BackendKind::Max => {
            for model in &mut models {
                try_out(backend, model, &[Trial::Embeddings, Trial::Tools, Trial::Vision]).await;
            }
        }
        _ => {}
    }
    models
}

fn named(list: List, features: Features) -> Vec<Model> {
    let named = list.data.into_iter().filter_map(|listed| listed.model(features));
    named.collect()
}

impl Listed {
    /// The model as far as the list tells, if its name can be one of the network.
    fn model(self, features: Features) -> Option<Model> {
        let model = Model::named(&self.id)?;
        Some(Model {
            context: self.max_model_len,
            quantisation: self.meta.and_then(|meta| meta.ftype).map(|kind| kind.to_lowercase()),
            features,
            ..model
        })
    }
}

/// What the kinds serve without further asking.
fn usual(kind: BackendKind) -> Features {
    let text = Features::CHAT.with(Features::COMPLETIONS);
    match kind {
        BackendKind::Ollama => text.with(Features::JSON_SCHEMA),
        BackendKind::Vllm | BackendKind::Sglang | BackendKind::LlamaCpp => {
            text.with(Features::JSON_SCHEMA).with(Features::LOGPROBS)
        }
        _ => text,
    }
}

/// What asking a server about a model has shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shown {
    features: Features,
    context: Option<u32>,
    slots: Option<u16>,
}

impl Shown {
    /// Adds it to what is known of a model.
    fn give(&self, model: &mut Model) {
        model.features = model.features.with(self.features);
        model.context = self.context.or(model.context);
        model.slots = self.slots.or(model.slots);
    }
}

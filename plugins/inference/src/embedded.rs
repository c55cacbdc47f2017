//! The engine in this process, spoken to in OpenAI's shapes: a node with no inference server installed can still serve.
//!
//! A GGUF file does what a plain chat or completion asks (`generation`), a folder with a model of the BERT family makes
//! embeddings (`embeddings`); a field that would have to be ignored is refused by name. Token ids go along with the text
//! of an answer, and one that another provider began is continued from them exactly.

mod embeddings;
mod generation;
mod parse;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use infernet_engine::{Embedder, EmbeddingModel, EmbeddingModelInfo, Engine, LoadError, ModelInfo};
use infernet_protocol::capability::Features;

use crate::backend::{Answer, Backend, BackendError, Endpoint, Job, Model};
use crate::request::Request;
use crate::wire::error_json;

/// What the network calls the model that comes with this program.
pub const DEMO_MODEL: &str = "infernet-demo";
/// It: a Q8_0 GGUF that `infernet-demo-model` makes.
const DEMO_FILE: &[u8] = include_bytes!("../demo-model/infernet-demo.gguf");

/// Texts up to this length are cut into tokens where they arrive, in well under a millisecond; longer ones beside.
const INLINE_BYTES: usize = 4 * 1024;
/// Bytes of text per token of context above which a prompt is not even looked at: words are shorter.
const BYTES_PER_CONTEXT_TOKEN: usize = 64;

/// Why an embedded engine does not start.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// The file cannot be used.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Its name cannot be a model's.
    #[error("`{0}` cannot be the name of a model; rename the file")]
    Name(String),
    /// The system gives no thread.
    #[error("the engine's thread cannot be started ({0}); free some memory")]
    Thread(#[from] std::io::Error),
}

/// The two engines.
#[derive(Clone, Debug)]
enum Engines {
    Generator(Arc<Engine>),
    Embedder(Arc<Embedder>),
}

/// See the module.
#[derive(Clone, Debug)]
pub struct EmbeddedBackend {
    engine: Engines,
    model: Model,
}

impl EmbeddedBackend {
    /// The demo model, `slots` requests at once.
    pub fn demo(slots: usize) -> Result<Self, EmbeddedError> {
        Self::generator(infernet_engine::Model::from_bytes(DEMO_FILE)?, DEMO_MODEL, slots)
    }

    /// A GGUF file, or a folder (or the safetensors file in it) with an embedding model; `slots` requests at once. Reads
    /// it: seconds, for one of some gigabytes.
    pub fn open(path: &Path, slots: usize) -> Result<Self, EmbeddedError> {
        if EmbeddingModel::is_at(path) {
            return Self::embedder(EmbeddingModel::open(path)?, slots);
        }
        let model = infernet_engine::Model::open(path)?;
        let name = model.info().name.clone();
        Self::generator(model, &name, slots)
    }

    fn generator(file: infernet_engine::Model, name: &str, slots: usize) -> Result<Self, EmbeddedError> {
        let info = file.info();
        let model = Model {
            digest: Some(info.weights_digest),
            context: u32::try_from(info.context_length).ok(),
            quantisation: Some(info.quantisation.to_lowercase()),
            slots: u16::try_from(slots).ok(),
            ..named(name)?
        };
        Ok(Self {
            model: Model {
                features: model.features.with(Features::CONTINUE),
                ..model
            },
            engine: Engines::Generator(Arc::new(Engine::start(file, slots)?)),
        })
    }

    fn embedder(folder: EmbeddingModel, slots: usize) -> Result<Self, EmbeddedError> {
        let info = folder.info();
        let model = Model {
            digest: Some(info.weights_digest),
            context: u32::try_from(info.context_length).ok(),
            quantisation: Some(info.quantisation.to_lowercase()),
            features: Features::EMBEDDINGS,
            slots: u16::try_from(slots).ok(),
            ..named(&info.name)?
        };
        Ok(Self {
            engine: Engines::Embedder(Arc::new(Embedder::start(folder, slots)?)),
            model,
        })
    }

    /// What it serves.
    #[must_use]
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Requests that run or wait now.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        match &self.engine {
            Engines::Generator(engine) => engine.in_flight(),
            Engines::Embedder(embedder) => embedder.in_flight(),
        }
    }

    /// Returns once none runs or waits.
    pub async fn rest(&self) {
        match &self.engine {
            Engines::Generator(engine) => engine.rest().await,
            Engines::Embedder(embedder) => embedder.rest().await,
        }
    }
}

#[async_trait]
impl Backend for EmbeddedBackend {
    fn name(&self) -> &str {
        "embedded"
    }

    async fn models(&self) -> Result<Vec<Model>, BackendError> {
        Ok(vec![self.model.clone()])
    }

    async fn run(&self, job: Job) -> Result<Answer, BackendError> {
        let request = Request::read(job.endpoint, &job.body).map_err(|error| parse::refused(&error))?;
        if job.model != self.model.name {
            let body = error_json(
                "this engine has no such model",
                "invalid_request_error",
                Some("model"),
                Some("model_not_found"),
            );
            return Err(BackendError::Refused {
                status: 404,
                body: body.into(),
            });
        }
        match &self.engine {
            Engines::Generator(engine) => generation::run(engine, &request, &job).await,
            Engines::Embedder(embedder) if job.endpoint == Endpoint::Embeddings => {
                embeddings::run(embedder, &job).await
            }
            Engines::Embedder(_) => Err(BackendError::Unsupported(job.endpoint.path())),
        }
    }
}

fn named(name: &str) -> Result<Model, EmbeddedError> {
    Model::named(name).ok_or_else(|| EmbeddedError::Name(name.to_owned()))
}

/// What a file or folder that [`EmbeddedBackend::open`] takes holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Description {
    /// A model that generates.
    Generator(ModelInfo),
    /// A model that embeds.
    Embedder(EmbeddingModelInfo),
}

/// Says what a model is without loading it. Reads its weights once, for their digest.
pub fn describe(path: &Path) -> Result<Description, EmbeddedError> {
    if EmbeddingModel::is_at(path) {
        return Ok(Description::Embedder(EmbeddingModelInfo::read(path)?));
    }
    Ok(Description::Generator(ModelInfo::read(path)?))
}

/// Refuses the `config.json` of a model that cannot be served for embeddings: what is small tells before what is large is
/// fetched.
pub fn check_embedding_config(text: &[u8]) -> Result<(), EmbeddedError> {
    Ok(EmbeddingModelInfo::check_config(text)?)
}

fn too_long(message: &str, param: Option<&str>) -> BackendError {
    let body = error_json(message, "invalid_request_error", param, Some("context_length_exceeded"));
    BackendError::Refused {
        status: 400,
        body: body.into(),
    }
}

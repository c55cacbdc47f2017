//! Embeddings: texts in, one vector of length one for each. Models of the BERT family from a folder as Hugging Face
//! keeps it; one thread computes, and several requests take turns on it layer by layer.
//!
//! ```text
//!   folder --> settings   how text is cut, which rows are pooled     EmbeddingModel: immutable, shared
//!         '--> encoder    ids -> a row for each token
//!
//!   inputs --> Embedder -- admission, bounded queue --> thread (turns.rs): request, request, ...   (worker.rs)
//!              Embedding <-- all vectors at once ------------'
//! ```

mod folder;
mod model;
mod pooling;
mod worker;

use std::thread::Thread;

use tokio::sync::oneshot;

pub use model::{EmbeddingModel, EmbeddingModelInfo};

use crate::error::{EmbedError, Refusal};
use crate::turns::Turns;
use worker::{Job, Running};

/// One vector for each input, in order.
pub type Vectors = Vec<Vec<f32>>;

/// Most inputs of one request: OpenAI's own bound.
pub const INPUTS_MAX: usize = 2_048;
/// Most tokens of all inputs of one request together: OpenAI's own bound.
pub const REQUEST_TOKENS_MAX: usize = 300_000;

/// A request that is being computed. Dropping it cancels the request before its next layer.
#[derive(Debug)]
pub struct Embedding {
    answer: oneshot::Receiver<Result<Vectors, EmbedError>>,
    thread: Thread,
}

impl Embedding {
    /// Waits for the vectors; `None` when the engine was dropped, or when they were taken already.
    pub async fn vectors(&mut self) -> Option<Result<Vectors, EmbedError>> {
        if self.answer.is_terminated() {
            return None;
        }
        (&mut self.answer).await.ok()
    }

    /// The same for a thread of its own. Panics inside an asynchronous task.
    pub fn blocking_vectors(mut self) -> Option<Result<Vectors, EmbedError>> {
        // `Drop` must still wake the thread, so the receiver is taken out beside it.
        let (_, closed) = oneshot::channel();
        std::mem::replace(&mut self.answer, closed).blocking_recv().ok()
    }
}

impl Drop for Embedding {
    fn drop(&mut self) {
        self.answer.close();
        self.thread.unpark();
    }
}

/// An embedding model at work. Dropping it ends all requests and waits for the layer that runs.
#[derive(Debug)]
pub struct Embedder {
    model: EmbeddingModel,
    turns: Turns<Running>,
}

impl Embedder {
    /// Starts the thread. `slots` requests run at once (at least one), as many more wait. An idle embedder sleeps.
    pub fn start(model: EmbeddingModel, slots: usize) -> Result<Self, std::io::Error> {
        let turns = Turns::start(model.clone(), slots)?;
        Ok(Self { model, turns })
    }

    /// The model that runs here.
    pub fn model(&self) -> &EmbeddingModel {
        &self.model
    }

    /// Requests that can run at once.
    pub fn slots(&self) -> usize {
        self.turns.slots()
    }

    /// Requests that run or wait now.
    pub fn in_flight(&self) -> usize {
        self.turns.in_flight()
    }

    /// Returns once none runs or waits.
    pub async fn rest(&self) {
        self.turns.rest().await;
    }

    /// Computes the vectors of these inputs, each the ids of a whole text. Refuses at once what cannot be computed, and
    /// when slots and queue are full.
    pub fn embed(&self, inputs: Vec<Vec<u32>>) -> Result<Embedding, Refusal> {
        self.check(&inputs)?;
        let (sender, answer) = oneshot::channel();
        let thread = self.turns.submit(Job { inputs, answer: sender })?;
        Ok(Embedding { answer, thread })
    }

    fn check(&self, inputs: &[Vec<u32>]) -> Result<(), Refusal> {
        let info = self.model.info();
        if inputs.is_empty() || inputs.len() > INPUTS_MAX {
            return Err(Refusal::InputCount { found: inputs.len() });
        }
        let last = info.vocabulary as u32 - 1;
        for (index, input) in inputs.iter().enumerate() {
            if input.is_empty() {
                return Err(Refusal::EmptyInput { index });
            }
            if input.len() > info.context_length {
                return Err(Refusal::InputTooLong {
                    index,
                    tokens: input.len(),
                    context: info.context_length,
                });
            }
            if let Some(id) = input.iter().find(|id| **id > last) {
                return Err(Refusal::UnknownToken { id: *id, last });
            }
        }
        match inputs.iter().map(Vec::len).sum() {
            tokens if tokens > REQUEST_TOKENS_MAX => Err(Refusal::InputTokens { tokens }),
            _ => Ok(()),
        }
    }
}

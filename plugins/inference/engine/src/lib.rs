//! A small inference engine in pure Rust: it opens a GGUF file and answers, with nothing else installed. It knows
//! nothing of backends, HTTP or OpenAI's JSON; the inference plugin adapts it to those.
//!
//! ```text
//!   file --> gguf --> tokenizer   text <-> ids                         Model: immutable, shared
//!               |---> template    conversation -> text
//!               '---> decoder     ids -> scores
//!
//!   prompt --> engine: decoder -> sampler -> text --> events           Engine: one thread, several sequences
//!                        ^___________|
//! ```
//!
//! Beside it stands a second one of the same make for embeddings, which opens a folder of Hugging Face's kind:
//!
//! ```text
//!   folder --> embeddings: settings, tokenizer, pooling
//!                 '--> encoder    ids -> a row for each token          one thread, several requests: turns
//! ```
//!
//! Supported: Llama and Mistral, Qwen 2 and 3, Phi 3, Gemma 3, in the types that llama.cpp's tools usually write;
//! byte-level BPE and SentencePiece vocabularies; BERT, RoBERTa and DistilBERT in safetensors form. What is not supported is refused when the file is opened, by name.

mod arithmetic;
mod decoder;
mod digest;
mod embeddings;
mod encoder;
mod engine;
mod error;
mod gguf;
mod model;
mod params;
mod safetensors;
mod sampler;
mod template;
mod text;
mod tokenizer;
mod turns;

pub use embeddings::{
    Embedder, Embedding, EmbeddingModel, EmbeddingModelInfo, INPUTS_MAX, REQUEST_TOKENS_MAX, Vectors,
};
pub use engine::{Engine, Event, Reason, Sequence, Usage};
pub use error::{EmbedError, GenerateError, LoadError, Refusal, TemplateError, TokenizeError};
pub use model::{DEFAULT_CONTEXT_LIMIT, Model, ModelInfo};
pub use params::Params;
pub use template::ChatMessage;

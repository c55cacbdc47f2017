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
//! Supported: Llama and Mistral, Qwen 2 and 3, Phi 3, Gemma 3, in the types that llama.cpp's tools usually write;
//! byte-level BPE and SentencePiece vocabularies. What is not supported is refused when the file is opened, by name.

mod decoder;
mod engine;
mod error;
mod gguf;
mod model;
mod params;
mod sampler;
mod template;
mod text;
mod tokenizer;

pub use engine::{Engine, Event, Reason, Sequence, Usage};
pub use error::{GenerateError, LoadError, Refusal, TemplateError, TokenizeError};
pub use model::{DEFAULT_CONTEXT_LIMIT, Model, ModelInfo};
pub use params::Params;
pub use template::ChatMessage;

//! What can be wrong with a model file, a template or a request, as data. Each text ends in what to do about it.

use std::path::PathBuf;

use crate::embeddings::{INPUTS_MAX, REQUEST_TOKENS_MAX};

/// Why a file cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file cannot be opened or read.
    #[error("cannot read `{}`: {source}; check the path and its permissions", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The first four bytes are not `GGUF`.
    #[error("this is not a GGUF file; convert the model to GGUF, or pick the `.gguf` file of its repository")]
    NotGguf,
    /// A version of the format that nobody writes any more, or a big-endian file.
    #[error("GGUF version `{0}` is not supported; convert the model again, to little-endian version 3")]
    Version(u32),
    /// The file ends before its own header says.
    #[error("the file ends inside {inside}: `{have}` bytes of at least `{need}`; download it again")]
    Truncated {
        /// What was being read.
        inside: String,
        /// Length of the file, in bytes.
        have: u64,
        /// Length that the header asks for, in bytes.
        need: u64,
    },
    /// A count, length or type in the header makes no sense.
    #[error("the file is damaged: {0}; download it again")]
    Damaged(String),
    /// A key that every model of this kind has is not there.
    #[error("the metadata has no `{0}`; convert the model again with a current converter")]
    MissingKey(String),
    /// A key is there and its value cannot be used.
    #[error("the metadata `{key}` is `{found}`, and {expected} is needed; convert the model again")]
    BadKey {
        /// The key.
        key: String,
        /// The value, shortened.
        found: String,
        /// What would do.
        expected: &'static str,
    },
    /// A tensor that every model of this kind has is not there.
    #[error("the tensor `{0}` is missing; download the file again, all parts of it if it is split")]
    MissingTensor(String),
    /// A tensor has other dimensions than the metadata says.
    #[error("the tensor `{name}` is {found:?}, and the metadata asks for {expected:?}; download the file again")]
    TensorShape {
        /// The tensor.
        name: String,
        /// Rows and columns in the file.
        found: Vec<usize>,
        /// Rows and columns by the metadata.
        expected: Vec<usize>,
    },
    /// A tensor is stored in a type that the engine cannot compute with.
    #[error(
        "the tensor `{name}` has type `{code}`, which is not supported; take a Q4_K_M, Q8_0 or F16 file of this model"
    )]
    TensorType {
        /// The tensor.
        name: String,
        /// The type's number in the GGUF format.
        code: u32,
    },
    /// A tensor of a safetensors file is stored in a form that the engine cannot compute with.
    #[error("the tensor `{name}` is stored as `{found}`, which is not supported; take this model in F32, F16 or BF16")]
    TensorForm {
        /// The tensor.
        name: String,
        /// Its type.
        found: String,
    },
    /// A folder lacks a file that a model has.
    #[error("`{}` has no `{name}`; download the whole model, with its weights in safetensors form", folder.display())]
    MissingFile {
        /// The folder.
        folder: PathBuf,
        /// The file.
        name: &'static str,
    },
    /// A file of settings is longer than any model's.
    #[error("`{}` is longer than `{most}` bytes, as no model's is; download it again", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The longest that is read, in bytes.
        most: u64,
    },
    /// A file of settings is not what it should be.
    #[error("`{file}` cannot be used: {reason}; download it again")]
    Json {
        /// The file.
        file: &'static str,
        /// Where and what.
        reason: String,
    },
    /// A setting is there and its value cannot be used.
    #[error("`{key}` in `{file}` is `{found}`, and {expected} is needed; download it again")]
    Setting {
        /// The file.
        file: &'static str,
        /// The setting.
        key: &'static str,
        /// Its value.
        found: String,
        /// What would do.
        expected: &'static str,
    },
    /// A model family that the engine does not know.
    #[error(
        "the architecture `{found}` is not supported; take a model of {supported}, or serve this one with llama.cpp"
    )]
    Architecture {
        /// What the file says.
        found: String,
        /// What would do.
        supported: String,
    },
    /// The family is known, one thing that this file asks for is not.
    #[error("this model needs {0}, which is not supported; serve it with llama.cpp")]
    Feature(String),
    /// A vocabulary of a kind that the engine does not know.
    #[error(
        "the tokenizer `{found}` is not supported; take a model with one of {supported}, or serve this one with llama.cpp"
    )]
    Tokenizer {
        /// What the file says.
        found: String,
        /// What would do.
        supported: String,
    },
    /// The vocabulary contradicts itself.
    #[error("the vocabulary is damaged: {0}; download the file again")]
    Vocabulary(String),
    /// The chat template does not parse.
    #[error("the chat template does not parse: {0}; convert the model again with its current template")]
    Template(String),
    /// The tensor library refused.
    #[error("the weights cannot be used: {0}; download the file again")]
    Weights(#[from] candle_core::Error),
}

/// Why a conversation cannot be put into the model's form.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// The template itself refused the conversation (`raise_exception`).
    #[error("the model's chat template refuses this conversation: {0}; change the order or the roles of the messages")]
    Refused(String),
    /// The template failed.
    #[error("the model's chat template failed: {0}; use `/v1/completions` with the text in the model's own form")]
    Failed(String),
}

/// Why a text cannot be cut into tokens.
#[derive(Debug, thiserror::Error)]
#[error("the text cannot be cut into tokens: {0}; send a shorter or plainer text")]
pub struct TokenizeError(pub(crate) String);

/// Why the engine does not take a request.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// All slots run and the queue is full.
    #[error("all `{slots}` slots and the queue are full; try again when a request has ended")]
    Busy {
        /// How many requests run at once.
        slots: usize,
    },
    /// The engine is stopping, or its thread has died.
    #[error("the engine has stopped; start it again")]
    Stopped,
    /// There is nothing to continue.
    #[error("the prompt is empty; send at least one token")]
    EmptyPrompt,
    /// The prompt leaves no room for an answer.
    #[error("the prompt has `{prompt}` tokens and the context is `{context}`; shorten the prompt to at most `{}`", context.saturating_sub(1))]
    PromptTooLong {
        /// Tokens of the prompt.
        prompt: usize,
        /// Tokens that the model can see at once.
        context: usize,
    },
    /// There is nothing to embed, or too much.
    #[error("there are `{found}` inputs; send 1 to {INPUTS_MAX} at a time")]
    InputCount {
        /// How many.
        found: usize,
    },
    /// An input has no tokens.
    #[error("input `{index}` is empty; send at least one token")]
    EmptyInput {
        /// Which, from 0.
        index: usize,
    },
    /// An input is longer than the model takes.
    #[error("input `{index}` has `{tokens}` tokens and the model takes at most `{context}`; shorten or split it")]
    InputTooLong {
        /// Which, from 0.
        index: usize,
        /// Its tokens.
        tokens: usize,
        /// Tokens that the model takes.
        context: usize,
    },
    /// The inputs together are too long for one request.
    #[error("the inputs have `{tokens}` tokens together; send at most {REQUEST_TOKENS_MAX} at a time")]
    InputTokens {
        /// Their tokens.
        tokens: usize,
    },
    /// A token id that the vocabulary does not have.
    #[error("the token `{id}` is unknown, the vocabulary ends at `{last}`; tokenize with this model")]
    UnknownToken {
        /// The id.
        id: u32,
        /// The highest id there is.
        last: u32,
    },
    /// A sampling parameter is out of range.
    #[error("`{name}` is `{found}`; it must be {expected}")]
    Parameter {
        /// The parameter.
        name: &'static str,
        /// What was asked for.
        found: String,
        /// What would do.
        expected: &'static str,
    },
}

/// Why a sequence ended before its time.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum GenerateError {
    /// The model answered with nothing that can be sampled.
    #[error("the model computed no finite probability; its file is damaged, download it again")]
    NotFinite,
    /// The tensor library failed in the middle.
    #[error("the computation failed: {0}; try again, and download the model again if it stays")]
    Computation(String),
}

/// Why inputs were not embedded.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EmbedError {
    /// The model answered with numbers that are none.
    #[error("the model computed no finite vector; its file is damaged, download it again")]
    NotFinite,
    /// The tensor library failed in the middle.
    #[error("the computation failed: {0}; try again, and download the model again if it stays")]
    Computation(String),
}

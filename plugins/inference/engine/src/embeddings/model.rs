//! A model of the BERT family, opened: encoder, tokenizer, pooling and what is to be known about them. Immutable, and
//! cheap to clone.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use tokenizers::Tokenizer;

use super::folder::Settings;
use super::pooling::Pooling;
use crate::encoder::{Encoder, Pass, Shape, stored_as};
use crate::error::{LoadError, TokenizeError};
use crate::safetensors::SafeTensors;

/// What the name of a file in safetensors form ends in.
const ENDING: &str = "safetensors";

/// What an embedding model is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddingModelInfo {
    /// The folder's name.
    pub name: String,
    /// `model_type` of its configuration: `bert`, `roberta`, ...
    pub architecture: String,
    /// Longest input, in tokens.
    pub context_length: usize,
    /// Length of every vector.
    pub dimensions: usize,
    /// Number of weights.
    pub parameters: u64,
    /// How the weights are stored: `F32`, `F16`, `BF16`.
    pub quantisation: String,
    /// SHA-256 of the file with the weights.
    pub weights_digest: [u8; 32],
    /// Number of tokens in the vocabulary.
    pub vocabulary: usize,
}

#[derive(Debug)]
struct Parts {
    encoder: Encoder,
    tokenizer: Tokenizer,
    lower_case: bool,
    pooling: Pooling,
    info: EmbeddingModelInfo,
}

/// An open embedding model.
#[derive(Debug, Clone)]
pub struct EmbeddingModel(Arc<Parts>);

/// Everything but the weights themselves.
struct Opened {
    settings: Settings,
    shape: Shape,
    file: SafeTensors,
    info: EmbeddingModelInfo,
}

impl EmbeddingModelInfo {
    /// Refuses the text of a `config.json` that belongs to no model which can be opened here.
    pub fn check_config(text: &[u8]) -> Result<(), LoadError> {
        Shape::from_config(text).map(|_| ())
    }

    /// What the model at `path` is, without loading it. Reads its weights once, for their digest.
    pub fn read(path: &Path) -> Result<Self, LoadError> {
        Opened::read(path).map(|opened| opened.info)
    }
}

impl EmbeddingModel {
    /// Whether `path` is to be opened as one of these: a folder, or a file in safetensors form.
    #[must_use]
    pub fn is_at(path: &Path) -> bool {
        path.is_dir() || path.extension().is_some_and(|ending| ending == ENDING)
    }

    /// Opens the model in a folder with `config.json`, `tokenizer.json` and `model.safetensors`; of a safetensors file,
    /// the one around it. Keeps the weights in memory as plain numbers of four bytes.
    pub fn open(path: &Path) -> Result<Self, LoadError> {
        let Opened {
            settings,
            shape,
            mut file,
            info,
        } = Opened::read(path)?;
        Ok(Self(Arc::new(Parts {
            tokenizer: tokenizer(&settings.tokenizer, info.vocabulary)?,
            encoder: Encoder::read(&mut file, shape)?,
            lower_case: settings.lower_case,
            pooling: settings.pooling,
            info,
        })))
    }

    /// What this model is.
    pub fn info(&self) -> &EmbeddingModelInfo {
        &self.0.info
    }

    /// Token ids of a text, with the special tokens that its tokenizer puts around it.
    pub fn tokenize(&self, text: &str) -> Result<Vec<u32>, TokenizeError> {
        let parts = &self.0;
        let lower = parts.lower_case.then(|| text.to_lowercase());
        let text = lower.as_deref().unwrap_or(text);
        // The rules come from a stranger's file: what they make of a text may be anything, a panic included.
        let cut = catch_unwind(AssertUnwindSafe(|| parts.tokenizer.encode_fast(text, true)));
        match cut {
            Ok(Ok(encoding)) => Ok(encoding.get_ids().to_vec()),
            Ok(Err(error)) => Err(TokenizeError(error.to_string())),
            Err(_) => Err(TokenizeError("the tokenizer panicked".to_owned())),
        }
    }

    /// Begins to compute the vectors of some inputs.
    pub(super) fn begin(&self, inputs: &[Vec<u32>]) -> Pass {
        self.0.encoder.begin(inputs)
    }

    /// Goes one layer, and gives the vectors after the last.
    pub(super) fn advance(&self, pass: &mut Pass) -> Result<Option<Vec<Vec<f32>>>, candle_core::Error> {
        let width = self.0.encoder.shape().width;
        let last = self.0.encoder.advance(pass)?;
        let vectors = || pass.rows(width).map(|rows| self.0.pooling.vector(rows, width));
        Ok(last.then(|| vectors().collect()))
    }
}

impl Opened {
    fn read(path: &Path) -> Result<Self, LoadError> {
        let unreadable = |source| LoadError::Read {
            path: path.to_owned(),
            source,
        };
        // A relative path's own name may be `.`; the folder's is what the model is called by.
        let full = path.canonicalize().map_err(unreadable)?;
        let (folder, weights) = match full.is_dir() {
            true => (full.as_path(), None),
            false => (full.parent().unwrap_or(&full), Some(full.clone())),
        };
        let settings = Settings::read(folder, weights)?;
        let shape = Shape::from_config(&settings.config)?;
        let file = open_weights(&settings.weights)?;
        let name = folder.file_name().map(|name| name.to_string_lossy().into_owned());
        let info = EmbeddingModelInfo {
            name: name.unwrap_or_else(|| "model".to_owned()),
            architecture: shape.architecture.to_owned(),
            context_length: settings.longest.map_or(shape.context, |most| most.min(shape.context)),
            dimensions: shape.width,
            parameters: file.parameters(),
            quantisation: stored_as(&file, &shape),
            weights_digest: file.digest,
            vocabulary: shape.vocabulary,
        };
        Ok(Self {
            settings,
            shape,
            file,
            info,
        })
    }
}

fn open_weights(path: &Path) -> Result<SafeTensors, LoadError> {
    if !path.exists() {
        return Err(LoadError::MissingFile {
            folder: path.parent().unwrap_or(path).to_owned(),
            name: super::folder::WEIGHTS,
        });
    }
    SafeTensors::open(path)
}

/// A tokenizer that cuts and pads nothing: an input that is too long is refused, and inputs are computed unpadded.
fn tokenizer(text: &[u8], vocabulary: usize) -> Result<Tokenizer, LoadError> {
    let damaged = |reason: String| LoadError::Json {
        file: "tokenizer.json",
        reason,
    };
    let read = catch_unwind(|| Tokenizer::from_bytes(text)).map_err(|_| damaged("reading it panics".to_owned()))?;
    let mut tokenizer = read.map_err(|error| damaged(error.to_string()))?;
    tokenizer
        .with_truncation(None)
        .map_err(|error| damaged(error.to_string()))?;
    tokenizer.with_padding(None);
    let highest = tokenizer.get_vocab(true).into_values().max();
    match highest {
        None => Err(LoadError::Vocabulary("it has no tokens".to_owned())),
        Some(id) if id as usize >= vocabulary => Err(LoadError::Vocabulary(format!(
            "its token `{id}` is beyond the {vocabulary} rows of the model"
        ))),
        Some(_) => Ok(tokenizer),
    }
}

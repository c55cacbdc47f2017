//! A model file, opened: weights, tokenizer, chat template and what is to be known about them. Immutable, and cheap to
//! clone; every sequence of every engine shares one.

use std::fs::File;
use std::io::{Cursor, Read, Seek};
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::decoder::{Shape, Weights};
use crate::digest::digest;
use crate::error::{LoadError, TemplateError, TokenizeError};
use crate::gguf::Gguf;
use crate::template::{ChatMessage, ChatTemplate};
use crate::tokenizer::Tokenizer;

/// Longest context unless asked for otherwise, in tokens: what a sequence remembers grows with it, to gigabytes for
/// the longest contexts that files promise.
pub const DEFAULT_CONTEXT_LIMIT: usize = 8_192;

/// What a model is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelInfo {
    /// `general.name` of the file, else the file's name without its ending.
    pub name: String,
    /// `general.architecture`: `llama`, `qwen2`, ...
    pub architecture: String,
    /// Tokens that the model sees at once, prompt and answer together.
    pub context_length: usize,
    /// Number of weights.
    pub parameters: u64,
    /// How the weights are stored: `Q8_0`, `Q4_K_M`, `F16`, ...
    pub quantisation: String,
    /// SHA-256 of the whole file.
    pub weights_digest: [u8; 32],
    /// Whether the file brings its own chat template; one without is spoken to in ChatML.
    pub has_chat_template: bool,
    /// Number of tokens in the vocabulary.
    pub vocabulary: usize,
}

#[derive(Debug)]
struct Parts {
    weights: Arc<Weights>,
    tokenizer: Tokenizer,
    template: ChatTemplate,
}

/// An open model.
#[derive(Debug, Clone)]
pub struct Model {
    parts: Arc<Parts>,
    info: Arc<ModelInfo>,
}

impl Model {
    /// Opens a GGUF file. Reads it twice, once for its digest, and keeps it in memory; a file of some gigabytes takes
    /// seconds.
    pub fn open(path: &Path) -> Result<Self, LoadError> {
        let (gguf, stem, digest) = open(path)?;
        Self::from_gguf(gguf, &stem, digest)
    }

    /// The same from bytes in memory.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, LoadError> {
        let gguf = Gguf::read(Cursor::new(bytes))?;
        Self::from_gguf(gguf, "model", Sha256::digest(bytes).into())
    }

    fn from_gguf<R: Read + Seek>(mut gguf: Gguf<R>, stem: &str, digest: [u8; 32]) -> Result<Self, LoadError> {
        let header = Header::read(&gguf, stem, digest)?;
        let source = gguf.metadata.string("tokenizer.chat_template")?;
        let template = ChatTemplate::new(source, header.tokenizer.bos_text(), header.tokenizer.eos_text())?;
        let weights = Arc::new(Weights::read(&mut gguf, header.shape, header.tokenizer.len())?);
        Ok(Self {
            parts: Arc::new(Parts {
                weights,
                tokenizer: header.tokenizer,
                template,
            }),
            info: Arc::new(header.info),
        })
    }

    /// The same model with another limit on its context, in tokens: up to what the file allows, and at least one.
    #[must_use]
    pub fn with_context_limit(self, tokens: usize) -> Self {
        let context_length = tokens.clamp(1, self.parts.weights.shape.context);
        Self {
            info: Arc::new(ModelInfo {
                context_length,
                ..(*self.info).clone()
            }),
            ..self
        }
    }

    /// What this model is.
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// The conversation as text, special tokens and all. `tools` goes to the template as it is. Tokenize the result
    /// with `special`.
    pub fn render_chat(
        &self,
        messages: &[ChatMessage],
        tools: Option<&serde_json::Value>,
        add_generation_prompt: bool,
    ) -> Result<String, TemplateError> {
        self.parts.template.render(messages, tools, add_generation_prompt)
    }

    /// Token ids of a text. With `special`, the text of control tokens becomes those tokens, and the token that begins
    /// a text comes first where the file asks for it and it is not there yet; without, the text is only text.
    pub fn tokenize(&self, text: &str, special: bool) -> Result<Vec<u32>, TokenizeError> {
        self.parts.tokenizer.encode(text, special)
    }

    /// Text of some ids. Control tokens have none; broken characters become U+FFFD.
    pub fn detokenize(&self, ids: &[u32]) -> String {
        let bytes: Vec<u8> = ids.iter().flat_map(|id| self.token_bytes(*id)).copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The bytes that one token adds to a text; a character can span several tokens.
    pub fn token_bytes(&self, id: u32) -> &[u8] {
        self.parts.tokenizer.bytes(id)
    }

    /// Whether this token ends an answer.
    pub fn is_end(&self, id: u32) -> bool {
        self.parts.tokenizer.end_ids().binary_search(&id).is_ok()
    }

    pub(crate) fn weights(&self) -> &Arc<Weights> {
        &self.parts.weights
    }
}

/// What the metadata of a file says, weights and chat template aside.
struct Header {
    shape: Shape,
    tokenizer: Tokenizer,
    info: ModelInfo,
}

impl Header {
    fn read<R: Read + Seek>(gguf: &Gguf<R>, stem: &str, weights_digest: [u8; 32]) -> Result<Self, LoadError> {
        let shape = Shape::from_metadata(&gguf.metadata)?;
        let tokenizer = Tokenizer::from_metadata(&gguf.metadata)?;
        let name = gguf
            .metadata
            .string("general.name")?
            .filter(|name| !name.trim().is_empty())
            .unwrap_or(stem);
        let architecture = gguf.metadata.string("general.architecture")?.unwrap_or_default();
        let info = ModelInfo {
            name: name.to_owned(),
            architecture: architecture.to_owned(),
            context_length: shape.context.min(DEFAULT_CONTEXT_LIMIT),
            parameters: gguf.parameters(),
            quantisation: quantisation(gguf)?,
            weights_digest,
            has_chat_template: gguf.metadata.string("tokenizer.chat_template")?.is_some(),
            vocabulary: tokenizer.len(),
        };
        Ok(Self { shape, tokenizer, info })
    }
}

impl ModelInfo {
    /// What the GGUF file at `path` holds, without loading it. Reads it once, for its digest.
    pub fn read(path: &Path) -> Result<Self, LoadError> {
        let (gguf, stem, digest) = open(path)?;
        Header::read(&gguf, &stem, digest).map(|header| header.info)
    }
}

/// An open file, the name that it goes by, and its digest.
fn open(path: &Path) -> Result<(Gguf<File>, String, [u8; 32]), LoadError> {
    let unreadable = |source| LoadError::Read {
        path: path.to_owned(),
        source,
    };
    let mut file = File::open(path).map_err(unreadable)?;
    // The header first: what is no model is refused before gigabytes are hashed.
    let gguf = Gguf::read(file.try_clone().map_err(unreadable)?)?;
    file.rewind().map_err(unreadable)?;
    let digest = digest(&mut file).map_err(unreadable)?;
    let stem = path
        .file_stem()
        .map_or_else(|| "model".to_owned(), |stem| stem.to_string_lossy().into_owned());
    Ok((gguf, stem, digest))
}

/// The name that the file gives its mixture of types, else the type of most weights.
fn quantisation<R: Read + Seek>(gguf: &Gguf<R>) -> Result<String, LoadError> {
    let name = match gguf.metadata.count("general.file_type")? {
        Some(0) => "F32",
        Some(1) => "F16",
        Some(2) => "Q4_0",
        Some(3) => "Q4_1",
        Some(7) => "Q8_0",
        Some(8) => "Q5_0",
        Some(9) => "Q5_1",
        Some(10) => "Q2_K",
        Some(11) => "Q3_K_S",
        Some(12) => "Q3_K_M",
        Some(13) => "Q3_K_L",
        Some(14) => "Q4_K_S",
        Some(15) => "Q4_K_M",
        Some(16) => "Q5_K_S",
        Some(17) => "Q5_K_M",
        Some(18) => "Q6_K",
        Some(32) => "BF16",
        _ => return Ok(gguf.dominant_type()),
    };
    // Without that key a converter may have left its default; the tensors know better than `F32`.
    Ok(if name == "F32" {
        gguf.dominant_type()
    } else {
        name.to_owned()
    })
}

//! Text to token ids and back, from the vocabulary inside a GGUF file. This file holds what all kinds of vocabulary
//! share: token types, special tokens in a text, the bytes of a token, and which tokens end an answer. The two ways to
//! cut plain text are in `byte_level` and `sentence_piece`.

mod byte_level;
mod sentence_piece;
mod special;

use std::collections::HashMap;

use crate::error::{LoadError, TokenizeError};
use crate::gguf::Metadata;
use byte_level::ByteLevel;
use sentence_piece::SentencePiece;
use special::Specials;

/// Control tokens that end a turn or a text in the families that are supported. Many files name only one of them in
/// their metadata while the model was trained to end with another.
const END_TEXTS: [&str; 9] = [
    "<|im_end|>",
    "<|endoftext|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end_of_text|>",
    "<|end|>",
    "<end_of_turn>",
    "<eos>",
    "</s>",
];

/// What a token is, by the numbers of the GGUF format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Byte,
}

#[derive(Debug)]
enum Cutter {
    ByteLevel(Box<ByteLevel>),
    SentencePiece(SentencePiece),
}

/// A vocabulary, ready for use. Immutable after loading.
#[derive(Debug)]
pub(crate) struct Tokenizer {
    cutter: Cutter,
    specials: Specials,
    /// Bytes of all tokens one after another; `ends[id]` is where those of `id` end.
    bytes: Vec<u8>,
    ends: Vec<usize>,
    bos: Option<(u32, String)>,
    eos: Option<(u32, String)>,
    add_bos: bool,
    end_ids: Vec<u32>,
}

impl Tokenizer {
    pub(crate) fn from_metadata(metadata: &Metadata) -> Result<Self, LoadError> {
        const TOKENS: &str = "tokenizer.ggml.tokens";
        let model = Metadata::needed("tokenizer.ggml.model", metadata.string("tokenizer.ggml.model")?)?;
        let tokens = Metadata::needed(TOKENS, metadata.strings(TOKENS)?)?;
        if tokens.is_empty() {
            return Err(LoadError::Vocabulary("it has no tokens".to_owned()));
        }
        let kinds = kinds(metadata, tokens.len())?;
        let (cutter, spell): (_, fn(&str, Kind) -> Vec<u8>) = match model {
            "gpt2" => (
                Cutter::ByteLevel(Box::new(ByteLevel::new(metadata, tokens)?)),
                byte_level::spell,
            ),
            "llama" => (
                Cutter::SentencePiece(SentencePiece::new(metadata, tokens, &kinds)?),
                sentence_piece::spell,
            ),
            other => {
                let supported = "`gpt2` (byte-level BPE) or `llama` (SentencePiece)".to_owned();
                return Err(LoadError::Tokenizer {
                    found: other.to_owned(),
                    supported,
                });
            }
        };

        let (mut bytes, mut ends) = (Vec::new(), Vec::with_capacity(tokens.len()));
        for (token, kind) in tokens.iter().zip(&kinds) {
            match kind {
                Kind::Control | Kind::Unknown => {}
                Kind::UserDefined => bytes.extend_from_slice(token.as_bytes()),
                Kind::Normal | Kind::Byte => bytes.extend_from_slice(&spell(token, *kind)),
            }
            ends.push(bytes.len());
        }
        let named = |key: &str| -> Result<Option<(u32, String)>, LoadError> {
            let Some(id) = metadata.count(key)? else {
                return Ok(None);
            };
            let token = tokens
                .get(id)
                .ok_or_else(|| LoadError::Vocabulary(format!("`{key}` is no token: {id}")))?;
            Ok(Some((id as u32, token.clone())))
        };
        let bos = named("tokenizer.ggml.bos_token_id")?;
        let eos = named("tokenizer.ggml.eos_token_id")?;
        let mut end_ids: Vec<u32> = eos.iter().map(|(id, _)| *id).collect();
        for key in ["tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"] {
            end_ids.extend(named(key)?.map(|(id, _)| id));
        }
        let control = |id: &usize| kinds[*id] == Kind::Control && END_TEXTS.contains(&tokens[*id].as_str());
        end_ids.extend((0..tokens.len()).filter(control).map(|id| id as u32));
        end_ids.sort_unstable();
        end_ids.dedup();

        let add_bos = metadata.flag("tokenizer.ggml.add_bos_token")?;
        let add_bos = bos.is_some() && add_bos.unwrap_or_else(|| cutter.adds_bos());
        // As in llama.cpp, the name tells: nothing else in the file does.
        let name = metadata.string("general.name")?.unwrap_or_default().to_lowercase();
        let specials = Specials::new(tokens, &kinds, name.contains("phi-3") || name.contains("phi3"));
        Ok(Self {
            cutter,
            specials,
            bytes,
            ends,
            bos,
            eos,
            add_bos,
            end_ids,
        })
    }

    /// Number of tokens.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Text of the token that begins a text, or nothing.
    pub(crate) fn bos_text(&self) -> &str {
        self.bos.as_ref().map_or("", |(_, text)| text)
    }

    /// Text of the token that ends a text, or nothing.
    pub(crate) fn eos_text(&self) -> &str {
        self.eos.as_ref().map_or("", |(_, text)| text)
    }

    /// Tokens that end an answer, ascending.
    pub(crate) fn end_ids(&self) -> &[u32] {
        &self.end_ids
    }

    /// With `special`, the text of control tokens becomes those tokens, and the token that begins a text comes first
    /// where the file asks for it and the text does not have it already. Without, the text is only text.
    pub(crate) fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>, TokenizeError> {
        let mut ids = Vec::new();
        let mut after_special = true;
        for piece in self.specials.split(text, special) {
            match piece {
                special::Piece::Token(id) => {
                    ids.push(id);
                    after_special = true;
                }
                special::Piece::Text(part) => {
                    match &self.cutter {
                        Cutter::ByteLevel(cutter) => cutter.encode(part, &mut ids)?,
                        Cutter::SentencePiece(cutter) => cutter.encode(part, after_special, &mut ids),
                    }
                    after_special = false;
                }
            }
        }
        let first = self.bos.as_ref().filter(|_| special && self.add_bos).map(|(id, _)| *id);
        if let Some(bos) = first.filter(|bos| ids.first() != Some(bos)) {
            ids.insert(0, bos);
        }
        Ok(ids)
    }

    /// The bytes that a token adds to the text: none for control tokens and for ids that do not exist.
    pub(crate) fn bytes(&self, id: u32) -> &[u8] {
        let id = id as usize;
        let Some(end) = self.ends.get(id) else { return &[] };
        let start = id.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..*end]
    }
}

impl Cutter {
    /// Whether a text of this kind begins with a special token where the file does not say.
    fn adds_bos(&self) -> bool {
        match self {
            Cutter::ByteLevel(cutter) => cutter.adds_bos(),
            Cutter::SentencePiece(_) => true,
        }
    }
}

fn kinds(metadata: &Metadata, tokens: usize) -> Result<Vec<Kind>, LoadError> {
    let Some(types) = metadata.integers("tokenizer.ggml.token_type")? else {
        return Ok(vec![Kind::Normal; tokens]);
    };
    if types.len() != tokens {
        let detail = format!("{tokens} tokens and {} token types", types.len());
        return Err(LoadError::Vocabulary(detail));
    }
    let kind = |number: &i64| match number {
        2 => Kind::Unknown,
        3 => Kind::Control,
        4 => Kind::UserDefined,
        6 => Kind::Byte,
        _ => Kind::Normal,
    };
    Ok(types.iter().map(kind).collect())
}

/// Ids by text; where a text occurs twice, the first wins.
fn ids_by_text(tokens: &[String]) -> HashMap<&str, u32> {
    let mut ids = HashMap::with_capacity(tokens.len());
    for (id, token) in tokens.iter().enumerate() {
        ids.entry(token.as_str()).or_insert(id as u32);
    }
    ids
}

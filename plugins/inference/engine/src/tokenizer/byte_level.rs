//! Byte-level BPE (`tokenizer.ggml.model = "gpt2"`): the text is cut by a pattern that `tokenizer.ggml.pre` names, its
//! bytes are written as printable characters, and merges join them. The merging itself is the `tokenizers` crate's.

use std::collections::HashMap;
use std::sync::LazyLock;

use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::unicode::NFC;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel as Bytes;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{SplitDelimiterBehavior, Tokenizer};

use super::{Kind, ids_by_text};
use crate::error::{LoadError, TokenizeError};
use crate::gguf::Metadata;

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const DIGIT: &str = r"\p{N}";

/// How one family cuts text before merging.
struct Family {
    /// Values of `tokenizer.ggml.pre`.
    names: &'static [&'static str],
    /// Patterns, applied one after another; each match stands alone.
    patterns: &'static [&'static str],
    /// Text is composed (NFC) first.
    compose: bool,
    /// A piece that is a token as a whole is that token, whatever the merges say.
    whole_pieces: bool,
    /// A text begins with the special token where the file does not say.
    adds_bos: bool,
}

const FAMILIES: [Family; 5] = [
    Family {
        names: &["gpt-2", "gpt2", "phi-2", "olmo", "mpt"],
        patterns: &[GPT2],
        compose: false,
        whole_pieces: false,
        adds_bos: false,
    },
    Family {
        names: &["default"],
        patterns: &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"],
        compose: false,
        whole_pieces: false,
        adds_bos: false,
    },
    Family {
        names: &["llama-bpe", "llama3", "llama-v3", "falcon3"],
        patterns: &[LLAMA3],
        compose: false,
        whole_pieces: true,
        adds_bos: true,
    },
    Family {
        names: &["qwen2", "deepseek-r1-qwen"],
        patterns: &[QWEN2],
        compose: true,
        whole_pieces: false,
        adds_bos: false,
    },
    Family {
        names: &["smollm", "starcoder", "refact", "command-r", "codeshell"],
        patterns: &[DIGIT, GPT2],
        compose: false,
        whole_pieces: false,
        adds_bos: false,
    },
];

/// Used where the file has no `tokenizer.ggml.pre` at all.
const UNNAMED: &str = "default";

#[derive(Debug)]
pub(super) struct ByteLevel {
    tokenizer: Tokenizer,
    adds_bos: bool,
}

impl ByteLevel {
    pub(super) fn new(metadata: &Metadata, tokens: &[String]) -> Result<Self, LoadError> {
        const MERGES: &str = "tokenizer.ggml.merges";
        let name = metadata.string("tokenizer.ggml.pre")?.unwrap_or(UNNAMED);
        let family = FAMILIES
            .iter()
            .find(|family| family.names.contains(&name))
            .ok_or_else(|| {
                let names: Vec<_> = FAMILIES.iter().map(|family| format!("`{}`", family.names[0])).collect();
                LoadError::Tokenizer {
                    found: format!("gpt2/{name}"),
                    supported: names.join(", "),
                }
            })?;

        let merges = Metadata::needed(MERGES, metadata.strings(MERGES)?)?;
        let merges: Vec<(String, String)> = merges.iter().map(|merge| pair(merge)).collect::<Result<_, _>>()?;
        let vocabulary: HashMap<String, u32> = ids_by_text(tokens)
            .into_iter()
            .map(|(token, id)| (token.to_owned(), id))
            .collect();
        let bpe = BPE::builder()
            .vocab_and_merges(
                vocabulary.into_iter().collect::<tokenizers::models::bpe::Vocab>(),
                merges,
            )
            .ignore_merges(family.whole_pieces)
            .build()
            .map_err(damaged)?;

        let mut tokenizer = Tokenizer::new(bpe);
        if family.compose {
            tokenizer.with_normalizer(Some(NFC)).map_err(damaged)?;
        }
        let mut steps: Vec<PreTokenizerWrapper> = Vec::new();
        for pattern in family.patterns {
            let pattern = SplitPattern::Regex((*pattern).to_owned());
            let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false).map_err(damaged)?;
            steps.push(split.into());
        }
        steps.push(Bytes::new(false, false, false).into());
        tokenizer.with_pre_tokenizer(Some(Sequence::new(steps)));
        Ok(Self {
            tokenizer,
            adds_bos: family.adds_bos,
        })
    }

    pub(super) fn adds_bos(&self) -> bool {
        self.adds_bos
    }

    pub(super) fn encode(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), TokenizeError> {
        let encoding = self
            .tokenizer
            .encode_fast(text, false)
            .map_err(|e| TokenizeError(e.to_string()))?;
        ids.extend_from_slice(encoding.get_ids());
        Ok(())
    }
}

fn damaged(error: impl ToString) -> LoadError {
    LoadError::Vocabulary(error.to_string())
}

/// `"a b"` as its two tokens; a token may itself begin with a space.
fn pair(merge: &str) -> Result<(String, String), LoadError> {
    let first = merge.chars().next().map_or(0, char::len_utf8);
    let space = merge[first..].find(' ').map(|at| at + first);
    let space = space.ok_or_else(|| LoadError::Vocabulary(format!("`{merge}` is not a merge of two tokens")))?;
    Ok((merge[..space].to_owned(), merge[space + 1..].to_owned()))
}

/// The bytes that a token's printable characters stand for.
pub(super) fn spell(token: &str, _kind: Kind) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(token.len());
    for character in token.chars() {
        match BYTE_OF.get(&character) {
            Some(byte) => bytes.push(*byte),
            None => bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

/// GPT-2's alphabet: printable bytes of Latin-1 stand for themselves, the others for U+0100 and up, in order.
static BYTE_OF: LazyLock<HashMap<char, u8>> = LazyLock::new(|| {
    let mut next = 0x100;
    let mut stand_in = |byte: u8| match byte {
        b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => char::from(byte),
        _ => {
            next += 1;
            char::from_u32(next - 1).unwrap_or(char::REPLACEMENT_CHARACTER)
        }
    };
    (0..=255).map(|byte| (stand_in(byte), byte)).collect()
});

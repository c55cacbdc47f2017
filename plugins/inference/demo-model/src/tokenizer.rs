//! The tokenizer: byte-level BPE trained on the corpus, and the same read back from a GGUF file.
//!
//! All 256 bytes are in the alphabet, so that any text can be read, also words the corpus has never seen.

use std::collections::HashSet;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use tokenizers::models::bpe::{BPE, BpeTrainer, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Model, Tokenizer};

use crate::chat::SPECIALS;
use crate::shape::VOCABULARY;

/// Trains a tokenizer on `texts`. The same texts give the same tokenizer.
pub(crate) fn train(texts: &[String]) -> Result<Tokenizer> {
    let mut trainer = BpeTrainer::builder()
        .vocab_size(VOCABULARY)
        .min_frequency(2)
        .show_progress(false)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect::<HashSet<char>>())
        .special_tokens(special_tokens())
        .build();
    let mut words = tokenizers::TokenizerImpl::<
        BPE,
        tokenizers::NormalizerWrapper,
        ByteLevel,
        tokenizers::PostProcessorWrapper,
        ByteLevel,
    >::new(BPE::default());
    words.with_pre_tokenizer(Some(byte_level()));
    words
        .train(&mut trainer, texts.iter())
        .map_err(|error| anyhow!("cannot train the tokenizer: {error}"))?;
    let model = words.get_model().clone();
    ensure!(
        model.get_vocab_size() == VOCABULARY,
        "the corpus is too small for {VOCABULARY} tokens"
    );
    finish(model)
}

/// Reads a tokenizer that [`save`] wrote.
pub(crate) fn load(path: &Path) -> Result<Tokenizer> {
    Tokenizer::from_file(path).map_err(|error| {
        anyhow!(
            "cannot read the tokenizer {}: {error}; run `demo-model tokenizer`",
            path.display()
        )
    })
}

/// Writes `tokenizer` as JSON.
pub(crate) fn save(tokenizer: &Tokenizer, path: &Path) -> Result<()> {
    tokenizer
        .save(path, false)
        .map_err(|error| anyhow!("cannot write the tokenizer {}: {error}", path.display()))
}

/// The tokenizer that a GGUF file carries as a list of tokens and a list of merges.
pub(crate) fn from_lists(tokens: &[String], merges: &[String]) -> Result<Tokenizer> {
    let vocabulary: Vocab = tokens.iter().cloned().zip(0..).collect();
    let merges = merges
        .iter()
        .map(|merge| {
            merge
                .split_once(' ')
                .map(|(a, b)| (a.to_owned(), b.to_owned()))
                .context("a merge has no space")
        })
        .collect::<Result<Vec<_>>>()?;
    let model = BPE::builder()
        .vocab_and_merges(vocabulary, merges)
        .build()
        .map_err(|error| anyhow!("the file's tokenizer does not fit together: {error}"))?;
    finish(model)
}

/// Token ids of `text`, where special tokens written out count as such.
pub(crate) fn encode(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>> {
    let encoding = tokenizer
        .encode_fast(text, false)
        .map_err(|error| anyhow!("cannot tokenize: {error}"))?;
    Ok(encoding.get_ids().to_vec())
}

/// Text of `tokens`, without the special ones.
pub(crate) fn decode(tokenizer: &Tokenizer, tokens: &[u32]) -> Result<String> {
    tokenizer
        .decode(tokens, true)
        .map_err(|error| anyhow!("cannot decode: {error}"))
}

/// Tokens in the order of their ids, and merges as `"a b"` in the order of their rank: what a GGUF file stores.
pub(crate) fn lists(tokenizer: &Tokenizer) -> Result<(Vec<String>, Vec<String>)> {
    let mut tokens: Vec<(String, u32)> = tokenizer.get_vocab(true).into_iter().collect();
    tokens.sort_by_key(|&(_, id)| id);
    let json = serde_json::to_value(tokenizer)?;
    let merges = json["model"]["merges"]
        .as_array()
        .context("the tokenizer has no merges")?;
    let merges = merges
        .iter()
        .map(|merge| match (merge[0].as_str(), merge[1].as_str()) {
            (Some(a), Some(b)) => Ok(format!("{a} {b}")),
            _ => Err(anyhow!("a merge is not a pair of strings")),
        })
        .collect::<Result<_>>()?;
    Ok((tokens.into_iter().map(|(token, _)| token).collect(), merges))
}

/// GPT-2's byte-level splitting, with no space added before the first word.
fn byte_level() -> ByteLevel {
    ByteLevel::new(false, true, true)
}

fn special_tokens() -> Vec<AddedToken> {
    SPECIALS
        .iter()
        .map(|special| AddedToken::from(*special, true))
        .collect()
}

fn finish(model: BPE) -> Result<Tokenizer> {
    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_pre_tokenizer(Some(byte_level()));
    tokenizer.with_decoder(Some(byte_level()));
    tokenizer
        .add_special_tokens(special_tokens())
        .map_err(|error| anyhow!("cannot add special tokens: {error}"))?;
    Ok(tokenizer)
}

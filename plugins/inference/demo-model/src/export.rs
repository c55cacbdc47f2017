//! GGUF: writing the trained weights as the file that engines load, and a full-precision copy for comparisons.
//!
//! The metadata is the least that both candle and llama.cpp need. Weights are trained with interleaved rotary pairs,
//! which is the layout of GGUF's Llama, so keys and queries go in as they are.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use candle_core::quantized::gguf_file::{self, Content, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use tokenizers::Tokenizer;

use crate::chat::{SPECIALS, TEMPLATE};
use crate::shape::{self, Role};
use crate::tokenizer;

/// Largest file that may be shipped, bytes.
pub(crate) const MAX_FILE: u64 = 4 * 1024 * 1024;

/// llama.cpp's number for a file that is mostly Q8_0, and for one of F32.
const FILE_TYPE_Q8_0: u32 = 7;
const FILE_TYPE_F32: u32 = 0;
/// llama.cpp's token types for ordinary and for control tokens.
const TOKEN_NORMAL: i32 = 1;
const TOKEN_CONTROL: i32 = 3;

/// Writes `weights` and `vocabulary` to `path` as Q8_0 (norms as F32), and gives the size in bytes.
pub(crate) fn write(weights: &HashMap<String, Tensor>, vocabulary: &Tokenizer, path: &Path) -> Result<u64> {
    let mut tensors = Vec::new();
    for parameter in shape::parameters() {
        let weight = weights
            .get(&parameter.name)
            .with_context(|| format!("no weight named `{}`", parameter.name))?;
        let (weight, dtype) = match parameter.role {
            Role::Embedding => (weight.clone(), GgmlDType::Q8_0),
            Role::Linear => (weight.t()?.contiguous()?, GgmlDType::Q8_0),
            Role::Norm => (weight.clone(), GgmlDType::F32),
        };
        tensors.push((parameter.name, QTensor::quantize(&weight, dtype)?));
    }
    let size = write_file(&metadata(vocabulary)?, &tensors, path)?;
    ensure!(
        size <= MAX_FILE,
        "{} is {size} bytes, more than the {MAX_FILE} allowed",
        path.display()
    );
    Ok(size)
}

/// Copies the GGUF `from` to `to` with every tensor as F32, so that two engines can be compared token by token.
pub(crate) fn dequantize(from: &Path, to: &Path) -> Result<u64> {
    let mut file = BufReader::new(File::open(from).with_context(|| format!("cannot open {}", from.display()))?);
    let content = Content::read(&mut file).with_context(|| format!("{} is no GGUF file", from.display()))?;
    let mut metadata: BTreeMap<String, Value> = content.metadata.clone().into_iter().collect();
    metadata.insert("general.file_type".into(), Value::U32(FILE_TYPE_F32));
    let mut names: Vec<_> = content.tensor_infos.keys().cloned().collect();
    names.sort();
    let mut tensors = Vec::new();
    for name in names {
        let full = content
            .tensor(&mut file, &name, &Device::Cpu)?
            .dequantize(&Device::Cpu)?;
        tensors.push((name, QTensor::quantize(&full, GgmlDType::F32)?));
    }
    let metadata: Vec<_> = metadata.into_iter().collect();
    write_file(&metadata, &tensors, to)
}

/// Writes beside `path` first and renames, so that a killed export leaves the old file.
fn write_file(metadata: &[(String, Value)], tensors: &[(String, QTensor)], path: &Path) -> Result<u64> {
    let metadata: Vec<_> = metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
    let tensors: Vec<_> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let partial = path.with_extension("gguf.partial");
    let mut out = BufWriter::new(File::create(&partial).with_context(|| format!("cannot write {}", path.display()))?);
    gguf_file::write(&mut out, &metadata, &tensors)?;
    out.flush()?;
    std::fs::rename(&partial, path)?;
    Ok(std::fs::metadata(path)?.len())
}

fn metadata(vocabulary: &Tokenizer) -> Result<Vec<(String, Value)>> {
    let number = |n: usize| u32::try_from(n).map(Value::U32);
    let text = |s: &str| Value::String(s.into());
    let strings = |list: Vec<String>| Value::Array(list.into_iter().map(Value::String).collect());
    let special = |n: usize| {
        vocabulary
            .token_to_id(SPECIALS[n])
            .map(Value::U32)
            .context("a special token is missing")
    };
    let (tokens, merges) = tokenizer::lists(vocabulary)?;
    ensure!(
        tokens.len() == shape::VOCABULARY,
        "the tokenizer has {} tokens",
        tokens.len()
    );
    let types = tokens
        .iter()
        .map(|t| {
            Value::I32(if SPECIALS.contains(&t.as_str()) {
                TOKEN_CONTROL
            } else {
                TOKEN_NORMAL
            })
        })
        .collect();
    let entries = [
        ("general.architecture", text("llama")),
        ("general.name", text("infernet-demo")),
        (
            "general.description",
            text("A very small model for demos and tests: short stories and small answers"),
        ),
        ("general.license", text("mit")),
        ("general.file_type", Value::U32(FILE_TYPE_Q8_0)),
        ("general.quantization_version", Value::U32(2)),
        ("llama.context_length", number(shape::CONTEXT)?),
        ("llama.embedding_length", number(shape::WIDTH)?),
        ("llama.block_count", number(shape::BLOCKS)?),
        ("llama.feed_forward_length", number(shape::FEED_FORWARD)?),
        ("llama.attention.head_count", number(shape::HEADS)?),
        ("llama.attention.head_count_kv", number(shape::HEADS)?),
        (
            "llama.attention.layer_norm_rms_epsilon",
            Value::F32(shape::NORM_EPSILON),
        ),
        ("llama.rope.dimension_count", number(shape::HEAD)?),
        ("llama.rope.freq_base", Value::F32(shape::ROPE_BASE)),
        ("llama.vocab_size", number(shape::VOCABULARY)?),
        ("tokenizer.ggml.model", text("gpt2")),
        ("tokenizer.ggml.pre", text("gpt-2")),
        ("tokenizer.ggml.tokens", strings(tokens)),
        ("tokenizer.ggml.token_type", Value::Array(types)),
        ("tokenizer.ggml.merges", strings(merges)),
        ("tokenizer.ggml.bos_token_id", special(0)?),
        ("tokenizer.ggml.eos_token_id", special(2)?),
        ("tokenizer.ggml.eot_token_id", special(2)?),
        ("tokenizer.ggml.padding_token_id", special(0)?),
        ("tokenizer.ggml.add_bos_token", Value::Bool(false)),
        ("tokenizer.ggml.add_space_prefix", Value::Bool(false)),
        ("tokenizer.chat_template", text(TEMPLATE)),
    ];
    Ok(entries
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect())
}

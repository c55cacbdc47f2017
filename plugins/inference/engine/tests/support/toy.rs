//! Writes small models with random weights, of every family that the engine supports. They say nothing sensible and
//! say it reproducibly, which is what tests and comparisons with other engines need.

use std::io::Cursor;

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Sizes of every toy: multiples of a quantisation block, small enough for a test.
const WIDTH: usize = 64;
const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const HEAD_SIZE: usize = 16;
const HIDDEN: usize = 128;
const LAYERS: usize = 7;
/// Tokens that a toy sees at once.
pub(crate) const CONTEXT: usize = 256;
/// Ids of the special tokens, after the 256 bytes and the merges.
pub(crate) const MERGES: [(&str, &str); 8] = [
    ("t", "h"),
    ("th", "e"),
    ("Ġ", "the"),
    ("a", "n"),
    ("an", "d"),
    ("Ġ", "a"),
    ("i", "n"),
    ("Ġ", "Ġ"),
];
pub(crate) const END_OF_TEXT: u32 = 256 + MERGES.len() as u32;
pub(crate) const IM_START: u32 = END_OF_TEXT + 1;
pub(crate) const IM_END: u32 = END_OF_TEXT + 2;
/// The last three are what llama.cpp asks of every Phi 3 vocabulary.
const SPECIALS: [&str; 6] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<unk>", "<s>", "</s>"];
/// The cut that stands for a SentencePiece vocabulary.
pub(crate) const SENTENCE_PIECE: &str = "sentence-piece";
/// Its pieces beyond bytes and single characters, best first.
const PIECES: [&str; 14] = [
    "▁t", "he", "▁a", "in", "▁the", "nd", "▁and", "er", "▁s", "ing", "▁▁", "ou", "▁you", "▁fo",
];

/// What to write. Fields can be changed before `write`.
pub(crate) struct Toy {
    pub(crate) architecture: &'static str,
    pub(crate) dtype: GgmlDType,
    pub(crate) seed: u64,
    pre: &'static str,
    pub(crate) metadata: Vec<(String, Value)>,
    pub(crate) tensors: Vec<(String, Vec<usize>)>,
}

impl Toy {
    pub(crate) fn new(architecture: &'static str) -> Self {
        Self::with_cut(architecture, "gpt-2")
    }

    /// `pre` is a value of `tokenizer.ggml.pre`, or `SENTENCE_PIECE`.
    pub(crate) fn with_cut(architecture: &'static str, pre: &'static str) -> Self {
        let mut toy = Self {
            architecture,
            dtype: GgmlDType::F32,
            seed: 1,
            pre,
            metadata: Vec::new(),
            tensors: Vec::new(),
        };
        toy.shape();
        toy
    }

    pub(crate) fn set(&mut self, key: &str, value: Value) -> &mut Self {
        self.metadata.retain(|(name, _)| name != key);
        self.metadata.push((key.to_owned(), value));
        self
    }

    /// Sets a key of the architecture's own.
    pub(crate) fn own(&mut self, key: &str, value: Value) -> &mut Self {
        let key = format!("{}.{key}", self.architecture);
        self.set(&key, value)
    }

    pub(crate) fn remove(&mut self, key: &str) -> &mut Self {
        self.metadata.retain(|(name, _)| name != key);
        self.tensors.retain(|(name, _)| name != key);
        self
    }

    fn shape(&mut self) {
        let count = |n: usize| Value::U32(n as u32);
        self.set("general.architecture", Value::String(self.architecture.to_owned()));
        self.set("general.name", Value::String(format!("toy-{}", self.architecture)));
        self.own("block_count", count(LAYERS))
            .own("context_length", count(CONTEXT));
        self.own("embedding_length", count(WIDTH))
            .own("feed_forward_length", count(HIDDEN));
        self.own("attention.head_count", count(HEADS))
            .own("attention.head_count_kv", count(KV_HEADS));
        self.own("attention.key_length", count(HEAD_SIZE))
            .own("attention.value_length", count(HEAD_SIZE));
        self.own("attention.layer_norm_rms_epsilon", Value::F32(1e-5));
        self.own("rope.dimension_count", count(HEAD_SIZE))
            .own("rope.freq_base", Value::F32(10_000.0));
        if self.architecture == "gemma3" {
            self.own("attention.sliding_window", count(24));
        }
        let vocabulary = self.vocabulary();
        let (queries, keys) = (HEADS * HEAD_SIZE, KV_HEADS * HEAD_SIZE);
        self.tensor("token_embd.weight", &[vocabulary, WIDTH]);
        self.tensor("output_norm.weight", &[WIDTH]);
        let architecture = self.architecture;
        for layer in 0..LAYERS {
            let mut part = |name: &str, shape: &[usize]| self.tensor(&format!("blk.{layer}.{name}"), shape);
            part("attn_norm.weight", &[WIDTH]);
            part("ffn_norm.weight", &[WIDTH]);
            part("attn_output.weight", &[WIDTH, queries]);
            part("ffn_down.weight", &[WIDTH, HIDDEN]);
            match architecture {
                "phi3" => {
                    part("attn_qkv.weight", &[queries + 2 * keys, WIDTH]);
                    part("ffn_up.weight", &[2 * HIDDEN, WIDTH]);
                    continue;
                }
                "qwen2" => {
                    part("attn_q.bias", &[queries]);
                    part("attn_k.bias", &[keys]);
                    part("attn_v.bias", &[keys]);
                }
                "qwen3" | "gemma3" => {
                    part("attn_q_norm.weight", &[HEAD_SIZE]);
                    part("attn_k_norm.weight", &[HEAD_SIZE]);
                }
                _ => {}
            }
            if architecture == "gemma3" {
                part("post_attention_norm.weight", &[WIDTH]);
                part("post_ffw_norm.weight", &[WIDTH]);
            }
            part("attn_q.weight", &[queries, WIDTH]);
            part("attn_k.weight", &[keys, WIDTH]);
            part("attn_v.weight", &[keys, WIDTH]);
            part("ffn_gate.weight", &[HIDDEN, WIDTH]);
            part("ffn_up.weight", &[HIDDEN, WIDTH]);
        }
        if self.architecture != "gemma3" {
            // Its own output matrix, so that both the tied and the untied form are met.
            self.tensor("output.weight", &[vocabulary, WIDTH]);
        }
    }

    fn tensor(&mut self, name: &str, shape: &[usize]) {
        self.tensors.push((name.to_owned(), shape.to_vec()));
    }

    /// Writes the vocabulary and gives its size.
    fn vocabulary(&mut self) -> usize {
        let strings = |list: Vec<String>| Value::Array(list.into_iter().map(Value::String).collect());
        let mut tokens: Vec<(String, i32)> = Vec::new();
        if self.pre == SENTENCE_PIECE {
            tokens.extend([("<unk>", 2), ("<s>", 3), ("</s>", 3)].map(|(text, kind)| (text.to_owned(), kind)));
            tokens.extend((0..256).map(|byte| (format!("<0x{byte:02X}>"), 6)));
            tokens.extend(PIECES.iter().map(|piece| ((*piece).to_owned(), 1)));
            tokens.extend((' '..='~').map(|c| (if c == ' ' { '▁' } else { c }.to_string(), 1)));
            let scores = (0..tokens.len()).map(|id| Value::F32(-(id as f32)));
            self.set("tokenizer.ggml.scores", Value::Array(scores.collect()));
            self.set("tokenizer.ggml.model", Value::String("llama".to_owned()));
            self.set("tokenizer.ggml.bos_token_id", Value::U32(1));
            self.set("tokenizer.ggml.eos_token_id", Value::U32(2));
        } else {
            tokens.extend(alphabet().iter().map(|c| (c.to_string(), 1)));
            tokens.extend(MERGES.iter().map(|(a, b)| (format!("{a}{b}"), 1)));
            tokens.extend(SPECIALS.iter().map(|text| ((*text).to_owned(), 3)));
            let merges = MERGES.iter().map(|(a, b)| format!("{a} {b}"));
            self.set("tokenizer.ggml.merges", strings(merges.collect()));
            self.set("tokenizer.ggml.model", Value::String("gpt2".to_owned()));
            self.set("tokenizer.ggml.pre", Value::String(self.pre.to_owned()));
            self.set("tokenizer.ggml.bos_token_id", Value::U32(END_OF_TEXT));
            self.set("tokenizer.ggml.add_bos_token", Value::Bool(false));
            self.set("tokenizer.ggml.eos_token_id", Value::U32(IM_END));
        }
        let (texts, kinds): (Vec<String>, Vec<i32>) = tokens.into_iter().unzip();
        let size = texts.len();
        self.set(
            "tokenizer.ggml.token_type",
            Value::Array(kinds.into_iter().map(Value::I32).collect()),
        );
        self.set("tokenizer.ggml.tokens", strings(texts));
        size
    }

    /// The whole file.
    pub(crate) fn write(&self) -> Vec<u8> {
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        let tensors: Vec<(String, QTensor)> = self
            .tensors
            .iter()
            .map(|(name, shape)| (name.clone(), random_tensor(&mut random, name, shape, self.dtype)))
            .collect();
        let metadata: Vec<(&str, &Value)> = self
            .metadata
            .iter()
            .map(|(name, value)| (name.as_str(), value))
            .collect();
        let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let mut file = Cursor::new(Vec::new());
        gguf_file::write(&mut file, &metadata, &tensors).unwrap();
        file.into_inner()
    }
}

/// Norms near one, biases and weights around zero, all large enough that scores differ clearly.
fn random_tensor(random: &mut ChaCha8Rng, name: &str, shape: &[usize], dtype: GgmlDType) -> QTensor {
    let mut uniform = || random.next_u32() as f32 / u32::MAX as f32 * 2.0 - 1.0;
    let norm = name.contains("norm");
    let scale = if norm || shape.len() == 1 {
        0.3
    } else {
        1.7 / (shape[1] as f32).sqrt()
    };
    let values: Vec<f32> = (0..shape.iter().product())
        .map(|_| uniform() * scale + f32::from(norm))
        .collect();
    let tensor = Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
    // Like every converter: vectors stay plain numbers.
    QTensor::quantize(&tensor, if shape.len() == 1 { GgmlDType::F32 } else { dtype }).unwrap()
}

/// The printable stand-ins of the 256 bytes, in byte order.
pub(crate) fn alphabet() -> Vec<char> {
    let printable = |byte: u32| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let mut next = 0x100;
    (0..256u32)
        .map(|byte| {
            let code = if printable(byte) { byte } else { next };
            next += u32::from(!printable(byte));
            char::from_u32(code).unwrap()
        })
        .collect()
}

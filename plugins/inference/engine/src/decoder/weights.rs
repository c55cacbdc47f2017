//! Reads a decoder's tensors from a file, each checked against the shape that the metadata promises.

use std::io::{Read, Seek};
use std::ops::Range;
use std::sync::Arc;

use candle_core::Device;

use super::matrix::Matrix;
use super::shape::Shape;
use crate::error::LoadError;
use crate::gguf::Gguf;

/// Rows of a small model's matrix that are unpacked at once.
const ROWS_AT_ONCE: usize = 64;

/// Models of at most this many parameters are unpacked to plain numbers (64 MiB).
const PLAIN_UP_TO: u64 = 16 << 20;

/// One layer.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) attention_norm: Vec<f32>,
    pub(super) query: Matrix,
    pub(super) key: Matrix,
    pub(super) value: Matrix,
    pub(super) query_norm: Option<Vec<f32>>,
    pub(super) key_norm: Option<Vec<f32>>,
    pub(super) attention_output: Matrix,
    pub(super) after_attention_norm: Option<Vec<f32>>,
    pub(super) feed_forward_norm: Vec<f32>,
    pub(super) gate: Matrix,
    pub(super) up: Matrix,
    pub(super) down: Matrix,
    pub(super) after_feed_forward_norm: Option<Vec<f32>>,
}

/// All weights of a model.
#[derive(Debug)]
pub(crate) struct Weights {
    pub(crate) shape: Shape,
    pub(super) embedding: Arc<Matrix>,
    pub(super) layers: Vec<Layer>,
    pub(super) norm: Vec<f32>,
    pub(super) output: Arc<Matrix>,
}

struct Reader<'f, R> {
    file: &'f mut Gguf<R>,
    plain: bool,
}

impl Weights {
    pub(crate) fn read<R: Read + Seek>(file: &mut Gguf<R>, shape: Shape, vocabulary: usize) -> Result<Self, LoadError> {
        let plain = file.parameters() <= PLAIN_UP_TO;
        Self::read_as(file, shape, vocabulary, plain)
    }

    /// `plain` unpacks quantised tensors.
    pub(super) fn read_as<R: Read + Seek>(
        file: &mut Gguf<R>,
        mut shape: Shape,
        vocabulary: usize,
        plain: bool,
    ) -> Result<Self, LoadError> {
        let mut reader = Reader { file, plain };
        for name in ["rope_freqs.weight", "rope_factors_short.weight"] {
            if let Some(factors) = reader.optional(name, shape.rotation.frequencies.len())? {
                shape.stretch(&factors);
            }
        }
        let embedding = Arc::new(reader.matrix("token_embd", vocabulary, shape.width)?);
        let output = match reader.file.has("output.weight") {
            true => Arc::new(reader.matrix("output", vocabulary, shape.width)?),
            false => Arc::clone(&embedding),
        };
        let norm = reader.vector("output_norm.weight", shape.width)?;
        let layers = (0..shape.layers)
            .map(|index| reader.layer(index, &shape))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            shape,
            embedding,
            layers,
            norm,
            output,
        })
    }
}

impl<R: Read + Seek> Reader<'_, R> {
    fn layer(&mut self, index: usize, shape: &Shape) -> Result<Layer, LoadError> {
        let name = |part: &str| format!("blk.{index}.{part}");
        let (width, hidden) = (shape.width, shape.hidden);
        let (queries, keys) = (shape.heads * shape.head_size, shape.kv_heads * shape.head_size);
        let (query, key, value, gate, up);
        if shape.fused {
            let (all, both) = (queries + 2 * keys, 2 * hidden);
            query = self.part(&name("attn_qkv"), all, width, 0..queries)?;
            key = self.part(&name("attn_qkv"), all, width, queries..queries + keys)?;
            value = self.part(&name("attn_qkv"), all, width, queries + keys..all)?;
            gate = self.part(&name("ffn_up"), both, width, 0..hidden)?;
            up = self.part(&name("ffn_up"), both, width, hidden..both)?;
        } else {
            query = self.matrix(&name("attn_q"), queries, width)?;
            key = self.matrix(&name("attn_k"), keys, width)?;
            value = self.matrix(&name("attn_v"), keys, width)?;
            gate = self.matrix(&name("ffn_gate"), hidden, width)?;
            up = self.matrix(&name("ffn_up"), hidden, width)?;
        }
        Ok(Layer {
            attention_norm: self.vector(&name("attn_norm.weight"), width)?,
            query,
            key,
            value,
            query_norm: self.optional(&name("attn_q_norm.weight"), shape.head_size)?,
            key_norm: self.optional(&name("attn_k_norm.weight"), shape.head_size)?,
            attention_output: self.matrix(&name("attn_output"), width, queries)?,
            after_attention_norm: self.optional(&name("post_attention_norm.weight"), width)?,
            feed_forward_norm: self.vector(&name("ffn_norm.weight"), width)?,
            gate,
            up,
            down: self.matrix(&name("ffn_down"), width, hidden)?,
            after_feed_forward_norm: self.optional(&name("post_ffw_norm.weight"), width)?,
        })
    }

    /// `name.weight`, and `name.bias` where there is one.
    fn matrix(&mut self, name: &str, outputs: usize, inputs: usize) -> Result<Matrix, LoadError> {
        self.part(name, outputs, inputs, 0..outputs)
    }

    /// Some rows of a matrix that holds several.
    fn part(&mut self, name: &str, outputs: usize, inputs: usize, rows: Range<usize>) -> Result<Matrix, LoadError> {
        let bias = self
            .optional(&format!("{name}.bias"), outputs)?
            .map(|bias| bias[rows.clone()].to_vec());
        let (name, shape) = (format!("{name}.weight"), [outputs, inputs]);
        if !self.plain {
            return Ok(Matrix::new(self.file.tensor(&name, &shape, rows)?, bias)?);
        }
        // A few rows at a time: an allocator that was once given back a large block keeps as much for ever.
        let mut numbers = Vec::with_capacity(rows.len() * inputs);
        for first in rows.clone().step_by(ROWS_AT_ONCE) {
            let some = first..(first + ROWS_AT_ONCE).min(rows.end);
            let tensor = self.file.tensor(&name, &shape, some)?;
            numbers.extend(tensor.dequantize(&Device::Cpu)?.flatten_all()?.to_vec1::<f32>()?);
        }
        Ok(Matrix::plain(numbers, inputs, bias))
    }

    fn vector(&mut self, name: &str, len: usize) -> Result<Vec<f32>, LoadError> {
        let tensor = self.file.tensor(name, &[len], 0..len)?;
        Ok(tensor.dequantize(&Device::Cpu)?.to_vec1()?)
    }

    fn optional(&mut self, name: &str, len: usize) -> Result<Option<Vec<f32>>, LoadError> {
        if self.file.has(name) {
            self.vector(name, len).map(Some)
        } else {
            Ok(None)
        }
    }
}

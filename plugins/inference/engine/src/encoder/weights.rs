//! Reads an encoder's tensors from a file, each checked against the shape that the configuration promises.

use candle_core::{Device, Tensor};

use super::Shape;
use super::names::{EMBEDDINGS_NORM, POSITIONS, TOKEN_TYPES, WORDS};
use crate::arithmetic::{add, layer_norm};
use crate::error::LoadError;
use crate::safetensors::SafeTensors;

/// A layer norm's scale and shift.
#[derive(Debug)]
pub(super) struct Norm {
    scale: Vec<f32>,
    shift: Vec<f32>,
    epsilon: f32,
}

impl Norm {
    pub(super) fn apply(&self, rows: &mut [f32]) {
        layer_norm(rows, &self.scale, &self.shift, self.epsilon);
    }
}

/// A weight matrix, applied to rows: `y = W x + b`.
#[derive(Debug)]
pub(super) struct Linear {
    /// Outputs times inputs.
    weight: Tensor,
    bias: Vec<f32>,
    inputs: usize,
}

impl Linear {
    pub(super) fn apply(&self, x: &[f32]) -> Result<Vec<f32>, candle_core::Error> {
        let x = Tensor::from_slice(x, (x.len() / self.inputs, self.inputs), &Device::Cpu)?;
        let mut y = x.matmul(&self.weight.t()?)?.flatten_all()?.to_vec1()?;
        y.chunks_exact_mut(self.bias.len()).for_each(|row| add(row, &self.bias));
        Ok(y)
    }
}

/// One layer.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) query: Linear,
    pub(super) key: Linear,
    pub(super) value: Linear,
    pub(super) attention_output: Linear,
    pub(super) attention_norm: Norm,
    pub(super) up: Linear,
    pub(super) down: Linear,
    pub(super) output_norm: Norm,
}

/// All weights of a model.
#[derive(Debug)]
pub(crate) struct Encoder {
    pub(super) shape: Shape,
    /// Row after row.
    pub(super) words: Vec<f32>,
    /// The same; the first token type, which every token has, is added already.
    pub(super) positions: Vec<f32>,
    pub(super) norm: Norm,
    pub(super) layers: Vec<Layer>,
}

/// A file whose names may begin with the family's prefix.
struct Reader<'f> {
    file: &'f mut SafeTensors,
    prefix: &'static str,
    epsilon: f32,
}

/// The type that the weights of an encoder are stored in, by its largest table.
pub(crate) fn stored_as(file: &SafeTensors, shape: &Shape) -> String {
    file.type_of(&format!("{}{WORDS}.weight", prefix(file, shape)))
}

fn prefix(file: &SafeTensors, shape: &Shape) -> &'static str {
    match file.has(&format!("{WORDS}.weight")) {
        true => "",
        false => shape.names.prefix,
    }
}

impl Encoder {
    pub(crate) fn read(file: &mut SafeTensors, shape: Shape) -> Result<Self, LoadError> {
        let prefix = prefix(file, &shape);
        let mut reader = Reader {
            prefix,
            epsilon: shape.epsilon,
            file,
        };
        let (width, names) = (shape.width, shape.names);
        let words = reader.table(WORDS, shape.vocabulary, width)?;
        let mut positions = reader.table(POSITIONS, shape.positions, width)?;
        if shape.token_types > 0 {
            let types = reader.table(TOKEN_TYPES, shape.token_types, width)?;
            positions
                .chunks_exact_mut(width)
                .for_each(|row| add(row, &types[..width]));
        }
        let norm = reader.norm(EMBEDDINGS_NORM, width)?;
        let layers = (0..shape.layers).map(|index| {
            let name = |of: &str| format!("{}{index}.{of}", names.layers);
            Ok(Layer {
                query: reader.linear(&name(names.query), width, width)?,
                key: reader.linear(&name(names.key), width, width)?,
                value: reader.linear(&name(names.value), width, width)?,
                attention_output: reader.linear(&name(names.attention_output), width, width)?,
                attention_norm: reader.norm(&name(names.attention_norm), width)?,
                up: reader.linear(&name(names.up), shape.hidden, width)?,
                down: reader.linear(&name(names.down), width, shape.hidden)?,
                output_norm: reader.norm(&name(names.output_norm), width)?,
            })
        });
        let layers = layers.collect::<Result<_, LoadError>>()?;
        Ok(Self {
            shape,
            words,
            positions,
            norm,
            layers,
        })
    }
}

impl Reader<'_> {
    fn table(&mut self, name: &str, rows: usize, columns: usize) -> Result<Vec<f32>, LoadError> {
        self.file
            .numbers(&format!("{}{name}.weight", self.prefix), &[rows, columns])
    }

    fn linear(&mut self, name: &str, outputs: usize, inputs: usize) -> Result<Linear, LoadError> {
        let name = format!("{}{name}", self.prefix);
        Ok(Linear {
            weight: self.file.matrix(&format!("{name}.weight"), outputs, inputs)?,
            bias: self.file.numbers(&format!("{name}.bias"), &[outputs])?,
            inputs,
        })
    }

    /// Files that were converted from the first BERT call scale and shift `gamma` and `beta`.
    fn norm(&mut self, name: &str, width: usize) -> Result<Norm, LoadError> {
        let name = format!("{}{name}", self.prefix);
        let (scale, shift) = match self.file.has(&format!("{name}.gamma")) {
            true => ("gamma", "beta"),
            false => ("weight", "bias"),
        };
        Ok(Norm {
            scale: self.file.numbers(&format!("{name}.{scale}"), &[width])?,
            shift: self.file.numbers(&format!("{name}.{shift}"), &[width])?,
            epsilon: self.epsilon,
        })
    }
}

//! The transformer of the BERT family: token ids in, one row of numbers for each token out, every token seeing all
//! others of its input. Weights are shared and immutable; what a computation has reached is in its own `Pass`, which
//! goes one layer at a time, so that several can take turns and one that nobody waits for ends soon.
//!
//! The inputs of one pass are computed together and padded by nothing: the rows of all of them go through each matrix at
//! once, and attention stays within each input.
//!
//! Formulae: Devlin et al., "BERT" (<https://arxiv.org/abs/1810.04805>), with the norm after each sum as in Vaswani et
//! al., "Attention is all you need" (<https://arxiv.org/abs/1706.03762>); Liu et al., "RoBERTa"
//! (<https://arxiv.org/abs/1907.11692>); Sanh et al., "DistilBERT" (<https://arxiv.org/abs/1910.01108>).

mod attention;
mod names;
mod shape;
mod weights;

pub(crate) use shape::Shape;
pub(crate) use weights::{Encoder, stored_as};

use std::ops::Range;

use crate::arithmetic::{activate, add};
use attention::attend;

/// A computation on its way through the layers.
#[derive(Debug)]
pub(crate) struct Pass {
    /// A row for each token of each input.
    x: Vec<f32>,
    /// The rows of each input.
    inputs: Vec<Range<usize>>,
    /// Layers done.
    done: usize,
}

impl Pass {
    /// The rows of each input.
    pub(crate) fn rows(&self, width: usize) -> impl Iterator<Item = &[f32]> {
        self.inputs
            .iter()
            .map(move |rows| &self.x[rows.start * width..rows.end * width])
    }
}

impl Encoder {
    pub(crate) fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Looks the tokens up. Every id must be in the vocabulary, and every input within the context.
    pub(crate) fn begin(&self, inputs: &[Vec<u32>]) -> Pass {
        let width = self.shape.width;
        let mut pass = Pass {
            x: Vec::with_capacity(inputs.iter().map(Vec::len).sum::<usize>() * width),
            inputs: Vec::with_capacity(inputs.len()),
            done: 0,
        };
        for input in inputs {
            let first = pass.x.len() / width;
            let mut seen = 0;
            for id in input {
                let position = self.position(*id, &mut seen);
                let start = pass.x.len();
                pass.x.extend_from_slice(&self.words[*id as usize * width..][..width]);
                add(&mut pass.x[start..], &self.positions[position * width..][..width]);
            }
            pass.inputs.push(first..first + input.len());
        }
        self.norm.apply(&mut pass.x);
        pass
    }

    /// `seen` counts the tokens before this one, padding left out where a family leaves it out.
    fn position(&self, id: u32, seen: &mut usize) -> usize {
        match self.shape.padding {
            Some(padding) if id as usize == padding => padding,
            padding => {
                *seen += 1;
                *seen - 1 + padding.map_or(0, |padding| padding + 1)
            }
        }
    }

    /// Goes one layer; true when it was the last.
    pub(crate) fn advance(&self, pass: &mut Pass) -> Result<bool, candle_core::Error> {
        let layer = &self.layers[pass.done];
        let x = &mut pass.x;
        let (q, k, v) = (layer.query.apply(x)?, layer.key.apply(x)?, layer.value.apply(x)?);
        let mixed = attend([&q, &k, &v], &pass.inputs, &self.shape)?;
        add(x, &layer.attention_output.apply(&mixed)?);
        layer.attention_norm.apply(x);

        let mut h = layer.up.apply(x)?;
        activate(&mut h, self.shape.activation);
        add(x, &layer.down.apply(&h)?);
        layer.output_norm.apply(x);
        pass.done += 1;
        Ok(pass.done == self.layers.len())
    }
}

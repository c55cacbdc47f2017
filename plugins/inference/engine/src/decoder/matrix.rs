//! A weight matrix, applied to rows: `y = W x + b`. Small models are kept as plain numbers and multiplied here; large
//! ones stay in the file's quantised blocks and are multiplied by candle's kernels.

use std::sync::Arc;

use candle_core::quantized::{QMatMul, QTensor};
use candle_core::{Device, Module, Tensor};
use rayon::prelude::*;

use crate::arithmetic::dot_long;

/// Products below this many multiplications run on the calling thread: about a tenth of a millisecond, which is what
/// waking other threads can cost.
const PARALLEL_FROM: usize = 1 << 20;
/// Outputs that one task of a parallel product computes.
const OUTPUTS_PER_TASK: usize = 64;

#[derive(Debug)]
enum Form {
    /// Row after row.
    Plain(Vec<f32>),
    Blocks(QMatMul, Arc<QTensor>),
}

/// `outputs` rows of `inputs` numbers.
#[derive(Debug)]
pub(super) struct Matrix {
    form: Form,
    outputs: usize,
    inputs: usize,
    bias: Option<Vec<f32>>,
}

impl Matrix {
    /// A tensor as the file has it.
    pub(super) fn new(tensor: QTensor, bias: Option<Vec<f32>>) -> Result<Self, candle_core::Error> {
        let (outputs, inputs) = tensor.shape().dims2()?;
        let form = if tensor.dtype().block_size() == 1 {
            Form::Plain(tensor.dequantize(&Device::Cpu)?.flatten_all()?.to_vec1()?)
        } else {
            let tensor = Arc::new(tensor);
            Form::Blocks(QMatMul::QTensor(Arc::clone(&tensor)), tensor)
        };
        Ok(Self {
            form,
            outputs,
            inputs,
            bias,
        })
    }

    /// Unpacked blocks, row after row: four bytes per weight, results as if the file held plain numbers, and no candle
    /// kernels, whose worker threads spin between products.
    pub(super) fn plain(numbers: Vec<f32>, inputs: usize, bias: Option<Vec<f32>>) -> Self {
        Self {
            outputs: numbers.len() / inputs.max(1),
            inputs,
            form: Form::Plain(numbers),
            bias,
        }
    }

    /// The rows of these indices, one after another: an embedding.
    pub(super) fn rows(&self, indices: &[u32]) -> Result<Vec<f32>, candle_core::Error> {
        match &self.form {
            Form::Plain(weights) => {
                let row = |index: &u32| &weights[*index as usize * self.inputs..][..self.inputs];
                Ok(indices.iter().flat_map(row).copied().collect())
            }
            Form::Blocks(_, tensor) => tensor
                .embedding(&Tensor::new(indices, &Device::Cpu)?)?
                .flatten_all()?
                .to_vec1(),
        }
    }

    /// Applies the matrix to `rows` rows.
    pub(super) fn apply(&self, x: &[f32], rows: usize) -> Result<Vec<f32>, candle_core::Error> {
        let mut y = match &self.form {
            Form::Plain(weights) => self.apply_plain(weights, x, rows),
            Form::Blocks(product, _) => {
                let x = Tensor::from_slice(x, (rows, self.inputs), &Device::Cpu)?;
                product.forward(&x)?.flatten_all()?.to_vec1()?
            }
        };
        if let Some(bias) = &self.bias {
            y.chunks_exact_mut(self.outputs).for_each(|row| super::add(row, bias));
        }
        Ok(y)
    }

    fn apply_plain(&self, weights: &[f32], x: &[f32], rows: usize) -> Vec<f32> {
        // Output by output, so that each row of weights is fetched once for all rows of x.
        let mut by_output = vec![0.0; rows * self.outputs];
        let task = |(by_output, weights): (&mut [f32], &[f32])| {
            for (outputs, weights) in by_output.chunks_exact_mut(rows).zip(weights.chunks_exact(self.inputs)) {
                outputs
                    .iter_mut()
                    .zip(x.chunks_exact(self.inputs))
                    .for_each(|(y, x)| *y = dot_long(weights, x));
            }
        };
        if rows * weights.len() < PARALLEL_FROM {
            task((&mut by_output, weights));
        } else {
            let weights = weights.par_chunks(self.inputs * OUTPUTS_PER_TASK);
            by_output
                .par_chunks_mut(rows * OUTPUTS_PER_TASK)
                .zip(weights)
                .for_each(task);
        }
        if rows == 1 {
            return by_output;
        }
        (0..rows * self.outputs)
            .map(|i| by_output[i % self.outputs * rows + i / self.outputs])
            .collect()
    }
}

//! Attention without a mask: each token of an input mixes what all tokens of that input have to say.

use std::ops::Range;

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use super::Shape;
use crate::arithmetic::softmax;

/// Tokens whose scores are held at once, each one number for each head and each token of the input: some dozens of
/// megabytes for the largest models and their longest inputs.
const QUERIES_AT_ONCE: usize = 128;

/// Queries, keys and values of all rows to what attention makes of them; `inputs` are the rows of each input.
pub(super) fn attend(
    [q, k, v]: [&[f32]; 3],
    inputs: &[Range<usize>],
    shape: &Shape,
) -> Result<Vec<f32>, candle_core::Error> {
    let mut mixed = Vec::with_capacity(q.len());
    let scale = 1.0 / ((shape.width / shape.heads) as f32).sqrt();
    for rows in inputs {
        let heads = |all: &[f32]| by_head(&all[rows.start * shape.width..rows.end * shape.width], shape);
        let (q, k, v) = (heads(q)?, heads(k)?.t()?, heads(v)?);
        for first in (0..rows.len()).step_by(QUERIES_AT_ONCE) {
            let queries = QUERIES_AT_ONCE.min(rows.len() - first);
            let scores = q.narrow(1, first, queries)?.contiguous()?.matmul(&k)?;
            let mut weights: Vec<f32> = scores.flatten_all()?.to_vec1()?;
            weights.par_chunks_mut(rows.len()).for_each(|row| {
                row.iter_mut().for_each(|score| *score *= scale);
                softmax(row);
            });
            let weights = Tensor::from_vec(weights, (shape.heads, queries, rows.len()), &Device::Cpu)?;
            let out = weights.matmul(&v)?.transpose(0, 1)?.flatten_all()?;
            mixed.extend(out.to_vec1::<f32>()?);
        }
    }
    Ok(mixed)
}

/// Rows of all heads side by side to heads times rows times the size of a head.
fn by_head(rows: &[f32], shape: &Shape) -> Result<Tensor, candle_core::Error> {
    let size = shape.width / shape.heads;
    Tensor::from_slice(rows, (rows.len() / shape.width, shape.heads, size), &Device::Cpu)?
        .transpose(0, 1)?
        .contiguous()
}

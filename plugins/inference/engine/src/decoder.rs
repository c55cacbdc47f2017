//! The transformer: token ids in, scores of the next token out. One decoder serves all supported families, since they
//! differ in a handful of switches (`shape`) and in which tensors a layer has (`weights`). Weights are shared and
//! immutable; what a sequence has seen is in its own `Cache`.
//!
//! Every row of every product is summed in one order, however many rows there are. Reading a prompt in one piece, in
//! chunks or token by token therefore gives bit-equal results in unquantised arithmetic, and an answer that another
//! engine began continues as it would have there.

mod attention;
mod matrix;
mod shape;
mod weights;

pub(crate) use attention::Cache;
pub(crate) use shape::Shape;
pub(crate) use weights::Weights;

use crate::arithmetic::{activate, add, multiply, rms_norm, rms_norm_heads};
use attention::{Angles, attend};
use shape::Window;
use weights::Layer;

impl Weights {
    /// Reads `tokens` after what `cache` holds and gives the scores of the token that follows the last, or nothing
    /// where they are not wanted.
    pub(crate) fn forward(
        &self,
        tokens: &[u32],
        cache: &mut Cache,
        want_scores: bool,
    ) -> Result<Vec<f32>, candle_core::Error> {
        let shape = &self.shape;
        let (first, width) = (cache.len(), shape.width);
        let mut x = self.embedding.rows(tokens)?;
        if let Some(scale) = shape.embedding_scale {
            x.iter_mut().for_each(|value| *value *= scale);
        }
        let everywhere = Angles::new(&shape.rotation, first, tokens.len());
        let nearby = shape
            .local
            .as_ref()
            .map(|local| Angles::new(&local.rotation, first, tokens.len()));
        for (index, layer) in self.layers.iter().enumerate() {
            let (angles, window) = match (&nearby, shape.local.as_ref()) {
                (Some(angles), Some(local)) if local.is_local(index) => (angles, Some(local.window)),
                _ => (&everywhere, None),
            };
            self.attention(layer, &mut x, cache, index, angles, window)?;
            self.feed_forward(layer, &mut x, tokens.len())?;
        }
        cache.advance(tokens.len());
        if !want_scores {
            return Ok(Vec::new());
        }
        let last = &mut x[(tokens.len() - 1) * width..];
        rms_norm(last, &self.norm, shape.epsilon);
        self.output.apply(last, 1)
    }

    fn attention(
        &self,
        layer: &Layer,
        x: &mut [f32],
        cache: &mut Cache,
        index: usize,
        angles: &Angles,
        window: Window,
    ) -> Result<(), candle_core::Error> {
        let shape = &self.shape;
        let rows = x.len() / shape.width;
        let mut h = x.to_vec();
        rms_norm(&mut h, &layer.attention_norm, shape.epsilon);
        let mut q = layer.query.apply(&h, rows)?;
        let mut k = layer.key.apply(&h, rows)?;
        let v = layer.value.apply(&h, rows)?;
        if let Some(norm) = &layer.query_norm {
            rms_norm_heads(&mut q, norm, shape.epsilon);
        }
        if let Some(norm) = &layer.key_norm {
            rms_norm_heads(&mut k, norm, shape.epsilon);
        }
        angles.rotate(&mut q, shape.heads, shape.head_size);
        angles.rotate(&mut k, shape.kv_heads, shape.head_size);
        let memory = cache.layer(index);
        memory.append(&k, &v);
        let mixed = attend(&q, memory, shape, window);
        let mut out = layer.attention_output.apply(&mixed, rows)?;
        if let Some(norm) = &layer.after_attention_norm {
            rms_norm(&mut out, norm, shape.epsilon);
        }
        add(x, &out);
        Ok(())
    }

    fn feed_forward(&self, layer: &Layer, x: &mut [f32], rows: usize) -> Result<(), candle_core::Error> {
        let shape = &self.shape;
        let mut h = x.to_vec();
        rms_norm(&mut h, &layer.feed_forward_norm, shape.epsilon);
        let mut gate = layer.gate.apply(&h, rows)?;
        let up = layer.up.apply(&h, rows)?;
        activate(&mut gate, shape.activation);
        multiply(&mut gate, &up);
        let mut out = layer.down.apply(&gate, rows)?;
        if let Some(norm) = &layer.after_feed_forward_norm {
            rms_norm(&mut out, norm, shape.epsilon);
        }
        add(x, &out);
        Ok(())
    }
}

#[cfg(test)]
mod tests;

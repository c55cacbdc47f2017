//! A Llama that can be trained: the forward pass in candle, with operators of our own where candle's have no
//! backward pass. Every operator is checked against finite differences.
//!
//! Documents of a batch stand one after the other without padding; attention alone knows where they begin.

mod attention;
mod gate;
mod loss;
mod math;
mod norm;
pub(crate) mod weights;

use std::sync::Arc;

use candle_core::{Result, Tensor, Var};

use crate::shape::BLOCKS;

/// Documents to learn from, one after the other.
#[derive(Debug, Clone, Default)]
pub(crate) struct Batch {
    /// What is read, one id per position.
    pub(crate) tokens: Vec<u32>,
    /// What comes next, for every position.
    pub(crate) targets: Vec<u32>,
    /// How much each next token counts.
    pub(crate) emphasis: Vec<f32>,
    /// Length of each document; they add up to the number of positions.
    pub(crate) documents: Vec<usize>,
}

impl Batch {
    /// Sum of the emphasis over all positions.
    pub(crate) fn weight(&self) -> f32 {
        self.emphasis.iter().sum()
    }
}

/// The cross entropy of `batch` under the parameters that `parameter` looks up, in nats: the sum over all positions,
/// each times its emphasis, divided by `weight`.
pub(crate) fn loss<'a>(parameter: impl Fn(&str) -> &'a Var, batch: Batch, weight: f32) -> Result<Tensor> {
    let weights = |name: &str| parameter(name).as_tensor();
    let embedding = weights("token_embd.weight");
    let positions = batch.tokens.len();
    let ids = Tensor::from_vec(batch.tokens, positions, embedding.device())?;
    let documents: Arc<[usize]> = batch.documents.into();
    let mut stream = embedding.index_select(&ids, 0)?;
    for block in 0..BLOCKS {
        let weight = |part: &str| weights(&format!("blk.{block}.{part}.weight"));
        let normed = norm::rms_norm(&stream, weight("attn_norm"))?;
        let heard = attention::causal(
            &normed.matmul(weight("attn_q"))?,
            &normed.matmul(weight("attn_k"))?,
            &normed.matmul(weight("attn_v"))?,
            documents.clone(),
        )?;
        stream = (stream + heard.matmul(weight("attn_output"))?)?;
        let normed = norm::rms_norm(&stream, weight("ffn_norm"))?;
        let gated = gate::swiglu(&normed.matmul(weight("ffn_gate"))?, &normed.matmul(weight("ffn_up"))?)?;
        stream = (stream + gated.matmul(weight("ffn_down"))?)?;
    }
    let logits = norm::rms_norm(&stream, weights("output_norm.weight"))?.matmul(&embedding.t()?)?;
    loss::cross_entropy(&logits, batch.targets, batch.emphasis, weight)
}

#[cfg(test)]
mod tests {
    use super::weights::initial;
    use super::{Batch, loss};
    use candle_core::Var;
    use std::collections::HashMap;

    #[test]
    fn a_fresh_model_knows_nothing_and_every_parameter_gets_a_gradient() -> candle_core::Result<()> {
        let vars: HashMap<String, Var> = initial(1)
            .expect("initial weights")
            .into_iter()
            .map(|(name, tensor)| Ok((name, Var::from_tensor(&tensor)?)))
            .collect::<candle_core::Result<_>>()?;
        let batch = Batch {
            tokens: vec![1, 20, 300, 4, 5, 1_000],
            targets: vec![20, 300, 7, 5, 1_000, 9],
            emphasis: vec![1.0; 6],
            documents: vec![3, 3],
        };
        let loss = loss(|name| &vars[name], batch, 6.0)?;
        let uniform = (crate::shape::VOCABULARY as f32).ln();
        assert!((loss.to_scalar::<f32>()? - uniform).abs() < 0.3);
        let gradients = loss.backward()?;
        for (name, var) in &vars {
            let gradient = gradients.get(var).unwrap_or_else(|| panic!("no gradient for {name}"));
            assert!(gradient.sqr()?.sum_all()?.to_scalar::<f32>()? > 0.0, "{name}");
        }
        Ok(())
    }
}

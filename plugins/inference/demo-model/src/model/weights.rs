//! The parameters of the model by name: how they begin.

use std::collections::HashMap;

use anyhow::Result;
use candle_core::{Device, Tensor};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::shape::{self, BLOCKS, Role};

/// Parameters by their GGUF names.
pub(crate) type Weights = HashMap<String, Tensor>;

/// Standard deviation that matrices begin with.
const INITIAL_DEVIATION: f32 = 0.02;

/// Weights to begin training with: norms of one, everything else normally distributed, and what writes into the
/// residual stream smaller by the root of how many such layers there are.
pub(crate) fn initial(seed: u64) -> Result<Weights> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut weights = Weights::new();
    for parameter in shape::parameters() {
        let count = parameter.dims.iter().product();
        let residual = ["attn_output", "ffn_down"]
            .iter()
            .any(|part| parameter.name.contains(part));
        let deviation = if residual {
            INITIAL_DEVIATION / (2.0 * BLOCKS as f32).sqrt()
        } else {
            INITIAL_DEVIATION
        };
        let values: Vec<f32> = match parameter.role {
            Role::Norm => vec![1.0; count],
            Role::Embedding | Role::Linear => (0..count).map(|_| deviation * normal(&mut rng)).collect(),
        };
        weights.insert(parameter.name, Tensor::from_vec(values, parameter.dims, &Device::Cpu)?);
    }
    Ok(weights)
}

/// A normally distributed number (Box and Muller).
fn normal(rng: &mut ChaCha8Rng) -> f32 {
    let radius = (-2.0 * (1.0 - rng.random::<f32>()).ln()).sqrt();
    radius * (std::f32::consts::TAU * rng.random::<f32>()).cos()
}

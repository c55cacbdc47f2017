//! The gate of the feed-forward layer: SwiGLU.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

use super::math::{exp, numbers, reading};

/// `gate * sigmoid(gate) * up`, element by element.
pub(super) fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    gate.apply_op2(up, SwiGlu)
}

struct SwiGlu;

#[inline]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

impl CustomOp2 for SwiGlu {
    fn name(&self) -> &'static str {
        "swiglu"
    }

    fn cpu_fwd(&self, gate: &CpuStorage, lg: &Layout, up: &CpuStorage, lu: &Layout) -> Result<(CpuStorage, Shape)> {
        let (gate, up) = (numbers(gate, lg)?, numbers(up, lu)?);
        let out = gate
            .iter()
            .zip(up)
            .map(|(gate, up)| gate * sigmoid(*gate) * up)
            .collect();
        Ok((CpuStorage::F32(out), lg.shape().clone()))
    }

    fn bwd(
        &self,
        gate: &Tensor,
        up: &Tensor,
        _: &Tensor,
        upstream: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (dgate, dup) = reading([gate, up, upstream], |[gate, up, upstream]| {
            let (mut dgate, mut dup) = (vec![0.0; gate.len()], vec![0.0; gate.len()]);
            for at in 0..gate.len() {
                let sigmoid = sigmoid(gate[at]);
                let silu = gate[at] * sigmoid;
                dgate[at] = upstream[at] * up[at] * (sigmoid + silu * (1.0 - sigmoid));
                dup[at] = upstream[at] * silu;
            }
            (dgate, dup)
        })?;
        let dgate = Tensor::from_vec(dgate, gate.shape(), gate.device())?;
        Ok((Some(dgate), Some(Tensor::from_vec(dup, up.shape(), up.device())?)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::math::check_gradients;
    use super::swiglu;

    #[test]
    fn gradients_are_right() -> candle_core::Result<()> {
        check_gradients(&[&[3, 8], &[3, 8]], |vars| swiglu(&vars[0], &vars[1]))
    }
}

//! RMS norm with a gain.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

use super::math::{numbers, reading, sum_over};
use crate::shape::NORM_EPSILON;

/// Every row of `x` divided by its root mean square, times `gain`. Shapes: (rows, width) and (width).
pub(super) fn rms_norm(x: &Tensor, gain: &Tensor) -> Result<Tensor> {
    x.apply_op2(gain, RmsNorm)
}

struct RmsNorm;

fn inverse_root(row: &[f32]) -> f32 {
    let squares = sum_over(row, row, |a, b| a * b);
    1.0 / (squares / row.len() as f32 + NORM_EPSILON).sqrt()
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms-norm"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout, gain: &CpuStorage, lg: &Layout) -> Result<(CpuStorage, Shape)> {
        let (x, gain) = (numbers(x, lx)?, numbers(gain, lg)?);
        let mut out = vec![0.0; x.len()];
        for (row, out) in x.chunks_exact(gain.len()).zip(out.chunks_exact_mut(gain.len())) {
            let inverse = inverse_root(row);
            for ((out, x), gain) in out.iter_mut().zip(row).zip(gain) {
                *out = x * inverse * gain;
            }
        }
        Ok((CpuStorage::F32(out), lx.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        gain: &Tensor,
        _: &Tensor,
        upstream: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (dx, dgain) = reading([x, gain, upstream], |[x, gain, upstream]| backward(x, gain, upstream))?;
        let dx = Tensor::from_vec(dx, x.shape(), x.device())?;
        Ok((Some(dx), Some(Tensor::from_vec(dgain, gain.shape(), gain.device())?)))
    }
}

/// Gradients of the input and of the gain.
fn backward(x: &[f32], gain: &[f32], upstream: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let width = gain.len();
    let mut dx = vec![0.0; x.len()];
    let mut dgain = vec![0.0; width];
    for ((row, up), dx) in x
        .chunks_exact(width)
        .zip(upstream.chunks_exact(width))
        .zip(dx.chunks_exact_mut(width))
    {
        let inverse = inverse_root(row);
        for at in 0..width {
            dx[at] = up[at] * gain[at];
            dgain[at] += up[at] * row[at] * inverse;
        }
        let dot = sum_over(dx, row, |slope, value| slope * value);
        let shrink = dot * inverse * inverse * inverse / width as f32;
        for at in 0..width {
            dx[at] = dx[at] * inverse - row[at] * shrink;
        }
    }
    (dx, dgain)
}

#[cfg(test)]
mod tests {
    use super::super::math::check_gradients;
    use super::rms_norm;

    #[test]
    fn gradients_are_right() -> candle_core::Result<()> {
        check_gradients(&[&[3, 8], &[8]], |vars| rms_norm(&vars[0], &vars[1]))
    }
}

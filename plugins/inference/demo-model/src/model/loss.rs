//! Cross entropy of logits against the tokens that really came next.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::math::{log_sum_exp, numbers, reading, softmax};

/// The sum over all rows of `emphasis * -ln(probability of target)`, divided by `weight`; a scalar.
pub(super) fn cross_entropy(logits: &Tensor, targets: Vec<u32>, emphasis: Vec<f32>, weight: f32) -> Result<Tensor> {
    logits.apply_op1(CrossEntropy {
        targets,
        emphasis,
        weight,
    })
}

struct CrossEntropy {
    targets: Vec<u32>,
    emphasis: Vec<f32>,
    weight: f32,
}

impl CrossEntropy {
    fn rows(&self) -> impl Iterator<Item = (usize, f32)> + '_ {
        self.targets
            .iter()
            .map(|&target| target as usize)
            .zip(self.emphasis.iter().map(|e| e / self.weight))
    }
}

impl CustomOp1 for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross-entropy"
    }

    fn cpu_fwd(&self, logits: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let logits = numbers(logits, layout)?;
        let width = logits.len() / self.targets.len();
        let mut loss = 0.0_f64;
        for ((target, share), row) in self.rows().zip(logits.chunks_exact(width)) {
            loss += f64::from(share * (log_sum_exp(row) - row[target]));
        }
        Ok((CpuStorage::F32(vec![loss as f32]), Shape::from(())))
    }

    fn bwd(&self, logits: &Tensor, _: &Tensor, upstream: &Tensor) -> Result<Option<Tensor>> {
        let upstream = upstream.to_scalar::<f32>()?;
        let gradient = reading([logits], |[logits]| {
            let width = logits.len() / self.targets.len();
            let mut gradient = logits.to_vec();
            for ((target, share), row) in self.rows().zip(gradient.chunks_exact_mut(width)) {
                softmax(row);
                row[target] -= 1.0;
                for value in row {
                    *value *= share * upstream;
                }
            }
            gradient
        })?;
        Ok(Some(Tensor::from_vec(gradient, logits.shape(), logits.device())?))
    }
}

#[cfg(test)]
mod tests {
    use super::super::math::check_gradients;
    use super::cross_entropy;

    #[test]
    fn gradients_are_right() -> candle_core::Result<()> {
        check_gradients(&[&[3, 10]], |vars| {
            cross_entropy(&vars[0], vec![2, 0, 9], vec![1.0, 0.5, 2.0], 2.5)
        })
    }
}

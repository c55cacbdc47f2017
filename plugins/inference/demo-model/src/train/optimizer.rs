//! AdamW with warm-up, cosine decay and a bound on the gradient, and a running average of the weights.
//!
//! The state is open, unlike that of candle's own AdamW, so that a checkpoint can hold all of it.

use std::collections::HashMap;

use anyhow::{Context, Result};
use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor, Var};

use crate::model::weights::Weights;
use crate::shape::{self, Role};

const PEAK_RATE: f32 = 3e-3;
/// The rate at the end, as a share of the peak.
const LAST_SHARE: f32 = 0.01;
const WARM_UP: u64 = 150;
const BETAS: (f32, f32) = (0.9, 0.98);
const EPSILON: f32 = 1e-8;
/// Weight decay of everything but norms.
const DECAY: f32 = 0.05;
/// Longest gradient, over all parameters.
const CLIP: f32 = 1.0;
/// How much of the running average is history.
const AVERAGING: f32 = 0.995;

/// One parameter and what AdamW remembers about it.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) name: String,
    role: Role,
    pub(super) var: Var,
    pub(super) first: Vec<f32>,
    pub(super) second: Vec<f32>,
    pub(super) average: Vec<f32>,
}

/// All parameters, and how many steps were taken.
#[derive(Debug)]
pub(super) struct Optimizer {
    pub(super) slots: Vec<Slot>,
    index: HashMap<String, usize>,
    pub(super) step: u64,
}

impl Optimizer {
    /// Begins with `weights`.
    pub(super) fn new(mut weights: Weights) -> Result<Self> {
        let mut slots = Vec::new();
        for shape::Parameter { name, role, .. } in shape::parameters() {
            let weight = weights
                .remove(&name)
                .with_context(|| format!("no weight named `{name}`"))?;
            let average: Vec<f32> = weight.flatten_all()?.to_vec1()?;
            let zeros = vec![0.0; average.len()];
            slots.push(Slot {
                name,
                role,
                var: Var::from_tensor(&weight)?,
                first: zeros.clone(),
                second: zeros,
                average,
            });
        }
        let index = slots
            .iter()
            .enumerate()
            .map(|(at, slot)| (slot.name.clone(), at))
            .collect();
        Ok(Self { slots, index, step: 0 })
    }

    /// The parameter called `name`, which must exist.
    pub(super) fn var(&self, name: &str) -> &Var {
        &self.slots[self.index[name]].var
    }

    /// The running averages under their names.
    pub(super) fn averages(&self) -> Result<Weights> {
        let tensor = |slot: &Slot| Tensor::from_slice(&slot.average, slot.var.shape(), &Device::Cpu);
        self.slots
            .iter()
            .map(|slot| Ok((slot.name.clone(), tensor(slot)?)))
            .collect()
    }

    /// One step along the sum of `gradients`, of a run of `steps` in all.
    pub(super) fn step(&mut self, gradients: &[GradStore; 2], steps: u64) -> Result<()> {
        let mut sums = Vec::with_capacity(self.slots.len());
        for slot in &self.slots {
            let mut sum = vec![0.0; slot.first.len()];
            for gradient in gradients.iter().filter_map(|gradients| gradients.get(&slot.var)) {
                for (sum, value) in sum.iter_mut().zip(gradient.flatten_all()?.to_vec1::<f32>()?) {
                    *sum += value;
                }
            }
            sums.push(sum);
        }
        let norm = sums.iter().flatten().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt() as f32;
        let shrink = if norm > CLIP { CLIP / norm } else { 1.0 };
        let rate = rate(self.step, steps);
        self.step += 1;
        for (slot, gradient) in self.slots.iter_mut().zip(&sums) {
            slot.update(gradient, shrink, rate, self.step)?;
        }
        Ok(())
    }
}

impl Slot {
    fn update(&mut self, gradient: &[f32], shrink: f32, rate: f32, step: u64) -> Result<()> {
        let mut values: Vec<f32> = self.var.flatten_all()?.to_vec1()?;
        let decay = if self.role == Role::Norm { 0.0 } else { rate * DECAY };
        let steps = step as f32;
        let (bias1, bias2) = (1.0 - BETAS.0.powf(steps), 1.0 - BETAS.1.powf(steps));
        let history = AVERAGING.min(steps / (steps + 10.0));
        for (at, value) in values.iter_mut().enumerate() {
            let slope = gradient[at] * shrink;
            self.first[at] = BETAS.0 * self.first[at] + (1.0 - BETAS.0) * slope;
            self.second[at] = BETAS.1 * self.second[at] + (1.0 - BETAS.1) * slope * slope;
            let direction = (self.first[at] / bias1) / ((self.second[at] / bias2).sqrt() + EPSILON);
            *value -= rate * direction + decay * *value;
            self.average[at] = history * self.average[at] + (1.0 - history) * *value;
        }
        self.var
            .set(&Tensor::from_vec(values, self.var.shape(), &Device::Cpu)?)?;
        Ok(())
    }
}

/// The learning rate of `step` in a run of `steps`: up in a line, down along half a cosine.
fn rate(step: u64, steps: u64) -> f32 {
    if step < WARM_UP {
        return PEAK_RATE * (step + 1) as f32 / WARM_UP as f32;
    }
    let done = (step - WARM_UP) as f32 / steps.saturating_sub(WARM_UP).max(1) as f32;
    let share = 0.5 * (1.0 + (std::f32::consts::PI * done.min(1.0)).cos());
    PEAK_RATE * (LAST_SHARE + (1.0 - LAST_SHARE) * share)
}

#[cfg(test)]
mod tests {
    use super::{LAST_SHARE, PEAK_RATE, WARM_UP, rate};

    #[test]
    fn the_rate_goes_up_and_down() {
        assert!(rate(0, 1_000) < PEAK_RATE / 100.0);
        assert!((rate(WARM_UP, 1_000) - PEAK_RATE).abs() < 1e-6);
        assert!(rate(600, 1_000) < rate(500, 1_000));
        assert!((rate(1_000, 1_000) - PEAK_RATE * LAST_SHARE).abs() < 1e-6);
    }
}

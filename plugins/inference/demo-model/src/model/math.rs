//! What the operators share: looking into tensors, a fast exponential, and a check by finite differences.

use candle_core::{CpuStorage, Layout, Result, Storage, Tensor, bail};

/// The numbers of a contiguous tensor in a custom operator.
pub(super) fn numbers<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((from, to)) => Ok(&storage.as_slice::<f32>()?[from..to]),
        None => bail!("the operator needs contiguous tensors"),
    }
}

/// Calls `with` on the numbers of `tensors`.
pub(super) fn reading<const N: usize, R>(tensors: [&Tensor; N], with: impl FnOnce([&[f32]; N]) -> R) -> Result<R> {
    let contiguous = tensors.map(Tensor::contiguous);
    let mut kept = Vec::with_capacity(N);
    for tensor in contiguous {
        kept.push(tensor?);
    }
    let guards: Vec<_> = kept.iter().map(Tensor::storage_and_layout).collect();
    let mut slices = [&[][..]; N];
    for (slice, (storage, layout)) in slices.iter_mut().zip(&guards) {
        match &**storage {
            Storage::Cpu(storage) => *slice = numbers(storage, layout)?,
            _ => bail!("the operator runs on the processor alone"),
        }
    }
    Ok(with(slices))
}

/// `e` to the power of `x`, to about seven digits; branch-free, so that the compiler uses vectors.
#[inline]
pub(super) fn exp(x: f32) -> f32 {
    /// 1.5 * 2^23: adding it rounds to a whole number and leaves that number in the low bits.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 88.0);
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let whole = rounded - ROUND;
    let rest = x - whole * LN_2_HIGH - whole * LN_2_LOW;
    // Taylor series up to the sixth power; |rest| is at most ln(2) / 2.
    let mut sum = 1.0 / 720.0;
    for factor in [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        sum = sum * rest + factor;
    }
    let power = f32::from_bits((rounded.to_bits() << 23).wrapping_add(0x3f80_0000));
    sum * power
}

/// Running totals that are kept side by side: one would make every addition wait for the one before.
const CHAINS: usize = 32;

/// The largest of `values`.
pub(super) fn largest(values: &[f32]) -> f32 {
    let mut best = [f32::NEG_INFINITY; CHAINS];
    let (chunks, rest) = values.as_chunks::<CHAINS>();
    for chunk in chunks {
        for (best, value) in best.iter_mut().zip(chunk) {
            *best = if *value > *best { *value } else { *best };
        }
    }
    best.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max)
}

/// The sum of `f` over the pairs of `a` and `b`.
#[inline]
pub(super) fn sum_over(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut sums = [0.0_f32; CHAINS];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<CHAINS>(), b.as_chunks::<CHAINS>());
    for (a, b) in a.iter().zip(b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += f(*a, *b);
        }
    }
    sums.iter().sum::<f32>() + a_rest.iter().zip(b_rest).map(|(a, b)| f(*a, *b)).sum::<f32>()
}

/// The logarithm of the sum of `e` to the power of each of `values`.
pub(super) fn log_sum_exp(values: &[f32]) -> f32 {
    let highest = largest(values);
    highest + sum_over(values, values, |value, _| exp(value - highest)).ln()
}

/// Makes `scores` probabilities.
pub(super) fn softmax(scores: &mut [f32]) {
    let highest = largest(scores);
    for score in scores.iter_mut() {
        *score = exp(*score - highest);
    }
    let inverse = 1.0 / sum_over(scores, scores, |score, _| score);
    for score in scores.iter_mut() {
        *score *= inverse;
    }
}

/// Compares the gradients of `f` with finite differences at random points of the given shapes.
#[cfg(test)]
pub(super) fn check_gradients(shapes: &[&[usize]], f: impl Fn(&[candle_core::Var]) -> Result<Tensor>) -> Result<()> {
    use candle_core::{Device, Var};
    use rand::{RngExt, SeedableRng};
    const STEP: f32 = 1e-2;
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(5);
    let mut random = |shape: &[usize]| {
        let count = shape.iter().product();
        let values: Vec<f32> = (0..count).map(|_| rng.random_range(-1.0..1.0)).collect();
        Tensor::from_vec(values, shape, &Device::Cpu)
    };
    let vars = shapes
        .iter()
        .map(|shape| Var::from_tensor(&random(shape)?))
        .collect::<Result<Vec<_>>>()?;
    let mix = random(f(&vars)?.dims())?;
    let value = |vars: &[Var]| -> Result<f32> { (f(vars)? * &mix)?.sum_all()?.to_scalar() };
    let gradients = (f(&vars)? * &mix)?.sum_all()?.backward()?;
    for (number, var) in vars.iter().enumerate() {
        let gradient: Vec<f32> = match gradients.get(var) {
            Some(gradient) => gradient.flatten_all()?.to_vec1()?,
            None => bail!("input {number} has no gradient"),
        };
        let start: Vec<f32> = var.flatten_all()?.to_vec1()?;
        for at in (0..start.len()).step_by(1 + start.len() / 40) {
            let moved = |by: f32| -> Result<f32> {
                let mut values = start.clone();
                values[at] += by;
                var.set(&Tensor::from_vec(values, var.dims(), &Device::Cpu)?)?;
                value(&vars)
            };
            let difference = (moved(STEP)? - moved(-STEP)?) / (2.0 * STEP);
            let error = (difference - gradient[at]).abs();
            assert!(
                error < 2e-3 + 2e-2 * difference.abs(),
                "input {number}[{at}]: {difference}, not {}",
                gradient[at]
            );
        }
        var.set(&Tensor::from_vec(start, var.dims(), &Device::Cpu)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{exp, log_sum_exp, softmax};

    #[test]
    fn exp_is_exact_to_six_digits() {
        for step in -8_000..8_000 {
            let x = step as f32 / 100.0;
            assert!((exp(x) / x.exp() - 1.0).abs() < 2e-6, "exp({x})");
        }
    }

    #[test]
    fn softmax_adds_up_to_one() {
        let mut scores = [1.0, 2.0, 3.0, -50.0];
        let log = log_sum_exp(&scores);
        softmax(&mut scores);
        assert!((scores.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        assert!((log - 3.407_606).abs() < 1e-4);
    }
}

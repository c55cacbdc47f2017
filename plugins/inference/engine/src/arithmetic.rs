//! Plain loops over rows of numbers, written so that the compiler uses vector instructions.

use candle_core::quantized::GgmlType;

/// Partial sums of a dot product: two vectors of eight, enough to hide the latency of an addition.
const LANES: usize = 16;
/// sqrt(2 / pi), of the tanh form of GELU.
const GELU_INNER: f32 = 0.797_884_6;
/// The cubic term of the tanh form of GELU.
const GELU_CUBE: f32 = 0.044_715;
/// Beyond this the error function is one, to the last bit of an `f32`.
const ERF_FLAT: f32 = 4.0;
/// The error function as `x` times a quotient of polynomials of its square, highest power first: the coefficients of
/// Eigen's `generic_fast_erf_float`, exact to a few units of the last place. Unlike the exact function it is made of
/// vector instructions.
const ERF_ABOVE: [f32; 7] = [
    -2.726_142_3e-10,
    2.770_681_4e-8,
    -2.101_024e-6,
    -5.692_506_4e-5,
    -7.349_906_3e-4,
    -2.954_6e-3,
    -1.609_603_3e-2,
];
const ERF_BELOW: [f32; 5] = [
    -1.456_607_2e-5,
    -2.133_740_6e-4,
    -1.682_827e-3,
    -7.373_329e-3,
    -1.426_473_9e-2,
];

/// What stands between the products of a feed-forward layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    /// x times its logistic.
    Silu,
    /// The tanh form of GELU.
    Gelu,
    /// GELU itself, by the error function.
    GeluErf,
    /// x, or zero where that is negative.
    Relu,
}

/// Sum of products of long rows, by candle's kernel: it uses the widest vectors that the processor has, in an order that
/// depends on the length alone.
#[inline]
pub(crate) fn dot_long(a: &[f32], b: &[f32]) -> f32 {
    let len = a.len().min(b.len());
    f32::vec_dot(len, &a[..len], &b[..len])
}

/// Sum of products, in an order that depends on the length alone.
#[inline]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0f32; LANES];
    let (a_blocks, b_blocks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let (a_rest, b_rest) = (a_blocks.remainder(), b_blocks.remainder());
    for (a, b) in a_blocks.zip(b_blocks) {
        for lane in 0..LANES {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0] + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f32>()
}

pub(crate) fn add(to: &mut [f32], what: &[f32]) {
    to.iter_mut().zip(what).for_each(|(to, what)| *to += what);
}

pub(crate) fn multiply(to: &mut [f32], what: &[f32]) {
    to.iter_mut().zip(what).for_each(|(to, what)| *to *= what);
}

/// `to += factor * what`
#[inline]
pub(crate) fn add_scaled(to: &mut [f32], what: &[f32], factor: f32) {
    to.iter_mut().zip(what).for_each(|(to, what)| *to += factor * what);
}

/// Each row divided by its root mean square and scaled; rows are as long as `scale`.
pub(crate) fn rms_norm(rows: &mut [f32], scale: &[f32], epsilon: f32) {
    for row in rows.chunks_exact_mut(scale.len()) {
        let square = dot(row, row) / row.len() as f32;
        let factor = 1.0 / (square + epsilon).sqrt();
        row.iter_mut()
            .zip(scale)
            .for_each(|(value, scale)| *value = *value * factor * scale);
    }
}

/// The same for each head of each row.
pub(crate) fn rms_norm_heads(rows: &mut [f32], scale: &[f32], epsilon: f32) {
    rms_norm(rows, scale, epsilon);
}

/// The same with the mean taken off first, and shifted after: Ba et al., "Layer normalization"
/// (<https://arxiv.org/abs/1607.06450>).
pub(crate) fn layer_norm(rows: &mut [f32], scale: &[f32], shift: &[f32], epsilon: f32) {
    for row in rows.chunks_exact_mut(scale.len()) {
        let mean = row.iter().sum::<f32>() / row.len() as f32;
        row.iter_mut().for_each(|value| *value -= mean);
        let factor = 1.0 / (dot(row, row) / row.len() as f32 + epsilon).sqrt();
        for ((value, scale), shift) in row.iter_mut().zip(scale).zip(shift) {
            *value = *value * factor * scale + shift;
        }
    }
}

#[inline]
fn erf(x: f32) -> f32 {
    let x = x.clamp(-ERF_FLAT, ERF_FLAT);
    let polynomial = |of: &[f32], at: f32| of.iter().fold(0.0, |sum, coefficient| sum * at + coefficient);
    let square = x * x;
    x * polynomial(&ERF_ABOVE, square) / polynomial(&ERF_BELOW, square)
}

pub(crate) fn activate(values: &mut [f32], activation: Activation) {
    match activation {
        Activation::Silu => values.iter_mut().for_each(|x| *x /= 1.0 + (-*x).exp()),
        Activation::Gelu => values.iter_mut().for_each(|x| {
            let inner = GELU_INNER * *x * (1.0 + GELU_CUBE * *x * *x);
            *x *= 0.5 * (1.0 + inner.tanh());
        }),
        Activation::GeluErf => values
            .iter_mut()
            .for_each(|x| *x *= 0.5 * (1.0 + erf(*x * std::f32::consts::FRAC_1_SQRT_2))),
        Activation::Relu => values.iter_mut().for_each(|x| *x = x.max(0.0)),
    }
}

/// Turns scores into probabilities.
pub(crate) fn softmax(scores: &mut [f32]) {
    let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for score in scores.iter_mut() {
        *score = (*score - most).exp();
        sum += *score;
    }
    let factor = 1.0 / sum;
    scores.iter_mut().for_each(|score| *score *= factor);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dot_sums_blocks_and_rest() {
        let a: Vec<f32> = (0..37).map(|i| i as f32).collect();
        let b: Vec<f32> = (0..37).map(|i| (i % 3) as f32).collect();
        let exact: f32 = a.iter().zip(&b).map(|(a, b)| a * b).sum();
        assert_eq!(dot(&a, &b), exact);
    }

    #[test]
    fn norm_gives_unit_rows() {
        let mut rows = vec![3.0, 4.0, 0.5, -0.5];
        rms_norm(&mut rows, &[1.0, 2.0], 0.0);
        let root = 12.5f32.sqrt();
        let expected = [3.0 / root, 8.0 / root, 1.0, -2.0];
        assert!(
            rows.iter()
                .zip(expected)
                .all(|(found, expected)| (found - expected).abs() < 1e-6),
            "{rows:?}"
        );
    }

    #[test]
    fn activations_have_their_known_values() {
        let mut silu = [0.0, 1.0, -1.0];
        activate(&mut silu, Activation::Silu);
        let mut gelu = [0.0, 1.0, -1.0];
        activate(&mut gelu, Activation::Gelu);
        let near = |a: [f32; 3], b: [f32; 3]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(near(silu, [0.0, 0.731_058_6, -0.268_941_4]), "{silu:?}");
        assert!(near(gelu, [0.0, 0.841_192, -0.158_808]), "{gelu:?}");
    }

    #[test]
    fn the_error_function_is_exact_to_single_precision() {
        // Values of DLMF 7.2.1 to single precision.
        for (x, known) in [
            (0.0, 0.0),
            (0.1, 0.112_462_92),
            (0.5, 0.520_499_9),
            (1.0, 0.842_700_8),
            (2.0, 0.995_322_3),
            (3.0, 0.999_977_9),
            (9.0, 1.0),
        ] {
            assert!((erf(x) - known).abs() < 3e-7, "{x}: {}", erf(x));
            assert_eq!(erf(-x), -erf(x));
        }
        let mut gelu = [1.0, -1.0];
        activate(&mut gelu, Activation::GeluErf);
        assert!((gelu[0] - 0.841_344_8).abs() < 1e-6 && (gelu[1] + 0.158_655_25).abs() < 1e-6);
    }

    #[test]
    fn layer_norm_gives_rows_of_mean_zero_and_variance_one() {
        let mut rows = vec![1.0, 3.0, -2.0, 2.0];
        layer_norm(&mut rows, &[1.0, 2.0], &[0.0, 0.5], 0.0);
        assert_eq!(rows, [-1.0, 2.5, -1.0, 2.5]);
    }

    #[test]
    fn softmax_survives_large_scores() {
        let mut scores = [1000.0, 1000.0, -1000.0];
        softmax(&mut scores);
        assert_eq!(scores, [0.5, 0.5, 0.0]);
    }
}

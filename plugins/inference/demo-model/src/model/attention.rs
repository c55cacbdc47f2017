//! Causal attention with rotary positions, over documents of any length that stand one after the other.
//!
//! Nothing of the size of (positions x positions) is kept: the backward pass computes the probabilities again, row by
//! row. Keys and values are also laid out transposed, so that one query meets many keys per instruction.

use std::sync::{Arc, LazyLock};

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};

use super::math::{numbers, reading, softmax, sum_over};
use crate::shape::{CONTEXT, HEAD, HEADS, ROPE_BASE, WIDTH};

/// Keys that are scored together; four vectors of 512 bits.
const LANES: usize = 64;
/// Rows that are added to each other before they are added to a sum, so that sums are seldom read and written.
const GROUP: usize = 4;

/// Attention of every position to itself and all before it in its document. `query`, `key` and `value` have the shape
/// (positions, width); `documents` holds lengths that add up to the positions, each at most the context.
pub(super) fn causal(query: &Tensor, key: &Tensor, value: &Tensor, documents: Arc<[usize]>) -> Result<Tensor> {
    query.apply_op3(key, value, Causal { documents })
}

struct Causal {
    documents: Arc<[usize]>,
}

impl Causal {
    /// The first position and the length of every document.
    fn spans(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.documents.iter().scan(0, |next, &length| {
            let start = *next;
            *next += length;
            Some((start, length))
        })
    }
}

impl CustomOp3 for Causal {
    fn name(&self) -> &'static str {
        "causal-attention"
    }

    fn cpu_fwd(
        &self,
        query: &CpuStorage,
        lq: &Layout,
        key: &CpuStorage,
        lk: &Layout,
        value: &CpuStorage,
        lv: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (query, key, value) = (numbers(query, lq)?, numbers(key, lk)?, numbers(value, lv)?);
        let mut out = vec![0.0; query.len()];
        for (start, length) in self.spans() {
            for head in 0..HEADS {
                let place = Place { start, length, head };
                let query = place.take(query, Turn::Forward);
                let keys = Transposed::of(&place.take(key, Turn::Forward));
                let values = place.take(value, Turn::None);
                let mut chances = vec![0.0; keys.stride];
                let mut heard = vec![0.0; length * HEAD];
                for (at, heard) in heard.chunks_exact_mut(HEAD).enumerate() {
                    attend(row(&query, at), &keys, at + 1, &mut chances);
                    heard.copy_from_slice(&mixed(&chances[..=at], &values));
                }
                place.put(&heard, &mut out, Turn::None);
            }
        }
        Ok((CpuStorage::F32(out), lq.shape().clone()))
    }

    fn bwd(
        &self,
        query: &Tensor,
        key: &Tensor,
        value: &Tensor,
        _: &Tensor,
        upstream: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let gradients = reading([query, key, value, upstream], |[query, key, value, upstream]| {
            let mut gradients = [(); 3].map(|()| vec![0.0; query.len()]);
            for (start, length) in self.spans() {
                for head in 0..HEADS {
                    backward(
                        Place { start, length, head },
                        [query, key, value, upstream],
                        &mut gradients,
                    );
                }
            }
            gradients
        })?;
        let [dquery, dkey, dvalue] =
            gradients.map(|gradient| Tensor::from_vec(gradient, query.shape(), query.device()));
        Ok((Some(dquery?), Some(dkey?), Some(dvalue?)))
    }
}

/// Adds one head of one document to the gradients of queries, keys and values.
fn backward(place: Place, inputs: [&[f32]; 4], gradients: &mut [Vec<f32>; 3]) {
    let [query, key, value, upstream] = inputs;
    let (query, key) = (place.take(query, Turn::Forward), place.take(key, Turn::Forward));
    let (value, upstream) = (place.take(value, Turn::None), place.take(upstream, Turn::None));
    let (keys, values) = (Transposed::of(&key), Transposed::of(&value));
    let [mut dquery, mut dkey, mut dvalue] = [(); 3].map(|()| vec![0.0; query.len()]);
    let [mut chances, mut slopes] = [(); 2].map(|()| vec![0.0; GROUP * keys.stride]);
    for first in (0..place.length).step_by(GROUP) {
        let group = first..(first + GROUP).min(place.length);
        chances.fill(0.0);
        slopes.fill(0.0);
        for at in group.clone() {
            let line = (at - first) * keys.stride;
            let (chances, slopes) = (&mut chances[line..][..keys.stride], &mut slopes[line..][..keys.stride]);
            attend(row(&query, at), &keys, at + 1, chances);
            values.meet(row(&upstream, at), at + 1, 1.0, slopes);
            chances[at + 1..].fill(0.0);
            slopes[at + 1..].fill(0.0);
            let (chances, slopes) = (&chances[..=at], &mut slopes[..=at]);
            let mean = sum_over(chances, slopes, |chance, slope| chance * slope);
            for (slope, chance) in slopes.iter_mut().zip(chances) {
                *slope = chance * (*slope - mean) * scale();
            }
            dquery[at * HEAD..][..HEAD].copy_from_slice(&mixed(slopes, &key));
        }
        spread(
            &slopes,
            &query[group.start * HEAD..group.end * HEAD],
            &mut dkey[..group.end * HEAD],
        );
        spread(
            &chances,
            &upstream[group.start * HEAD..group.end * HEAD],
            &mut dvalue[..group.end * HEAD],
        );
    }
    place.put(&dquery, &mut gradients[0], Turn::Back);
    place.put(&dkey, &mut gradients[1], Turn::Back);
    place.put(&dvalue, &mut gradients[2], Turn::None);
}

/// Whether positions are turned into rotations on the way, and in which direction.
#[derive(Debug, Clone, Copy)]
enum Turn {
    None,
    Forward,
    Back,
}

/// One head of one document in a (positions, width) tensor.
#[derive(Debug, Clone, Copy)]
struct Place {
    start: usize,
    length: usize,
    head: usize,
}

impl Place {
    /// Copies the place out of `from` as (length, head).
    fn take(self, from: &[f32], turn: Turn) -> Vec<f32> {
        let mut out = Vec::with_capacity(self.length * HEAD);
        for at in 0..self.length {
            out.extend_from_slice(&from[(self.start + at) * WIDTH + self.head * HEAD..][..HEAD]);
            rotate(&mut out[at * HEAD..], at, turn);
        }
        out
    }

    /// Copies `from` into the place in `to`.
    fn put(self, from: &[f32], to: &mut [f32], turn: Turn) {
        for (at, row) in from.chunks_exact(HEAD).enumerate() {
            let to = &mut to[(self.start + at) * WIDTH + self.head * HEAD..][..HEAD];
            to.copy_from_slice(row);
            rotate(to, at, turn);
        }
    }
}

/// Cosine and sine of every position and pair.
static ANGLES: LazyLock<Vec<[(f32, f32); HEAD / 2]>> = LazyLock::new(|| {
    let angles = |position: usize| {
        std::array::from_fn(|pair| {
            let frequency = 1.0 / ROPE_BASE.powf((2 * pair) as f32 / HEAD as f32);
            let angle = position as f32 * frequency;
            (angle.cos(), angle.sin())
        })
    };
    (0..CONTEXT).map(angles).collect()
});

/// Rotates the pairs (0, 1), (2, 3)... of `row` by the angles of `position`: the interleaved layout of Llama in GGUF.
fn rotate(row: &mut [f32], position: usize, turn: Turn) {
    let sign = match turn {
        Turn::None => return,
        Turn::Forward => 1.0,
        Turn::Back => -1.0,
    };
    for (pair, (cos, sin)) in row.as_chunks_mut::<2>().0.iter_mut().zip(ANGLES[position]) {
        let [a, b] = *pair;
        *pair = [a * cos - b * sin * sign, a * sin * sign + b * cos];
    }
}

/// Rows of one head as columns, so that the numbers of many rows lie side by side.
struct Transposed {
    columns: Vec<f32>,
    /// Rows, rounded up to whole lanes.
    stride: usize,
}

impl Transposed {
    fn of(rows: &[f32]) -> Self {
        let stride = (rows.len() / HEAD).next_multiple_of(LANES);
        let mut columns = vec![0.0; stride * HEAD];
        for (at, row) in rows.chunks_exact(HEAD).enumerate() {
            for (lane, value) in row.iter().enumerate() {
                columns[lane * stride + at] = *value;
            }
        }
        Self { columns, stride }
    }

    /// Scalar products of `vector` with the first `count` rows, times `factor`, to the beginning of `out`.
    fn meet(&self, vector: &[f32; HEAD], count: usize, factor: f32, out: &mut [f32]) {
        for block in (0..count).step_by(LANES) {
            let mut sums = [0.0_f32; LANES];
            for (lane, value) in vector.iter().enumerate() {
                let column = &self.columns[lane * self.stride + block..][..LANES];
                for (sum, other) in sums.iter_mut().zip(column) {
                    *sum += value * other;
                }
            }
            for (out, sum) in out[block..][..LANES].iter_mut().zip(sums) {
                *out = sum * factor;
            }
        }
    }
}

fn scale() -> f32 {
    1.0 / (HEAD as f32).sqrt()
}

fn row(rows: &[f32], at: usize) -> &[f32; HEAD] {
    &rows.as_chunks::<HEAD>().0[at]
}

/// How much `query` listens to each of the first `count` keys.
fn attend(query: &[f32; HEAD], keys: &Transposed, count: usize, chances: &mut [f32]) {
    keys.meet(query, count, scale(), chances);
    softmax(&mut chances[..count]);
}

/// The sum of `rows`, each times its share.
fn mixed(shares: &[f32], rows: &[f32]) -> [f32; HEAD] {
    let mut sums = [0.0_f32; HEAD];
    let (groups, rest) = shares.as_chunks::<GROUP>();
    for (shares, rows) in groups.iter().zip(rows.as_chunks::<{ GROUP * HEAD }>().0) {
        for (lane, sum) in sums.iter_mut().enumerate() {
            let product = |row: usize| shares[row] * rows[row * HEAD + lane];
            *sum += (product(0) + product(1)) + (product(2) + product(3));
        }
    }
    for (share, row) in rest
        .iter()
        .zip(rows[groups.len() * GROUP * HEAD..].as_chunks::<HEAD>().0)
    {
        for (sum, value) in sums.iter_mut().zip(row) {
            *sum += share * value;
        }
    }
    sums
}

/// Adds to each row of `to` the up to [`GROUP`] `rows`, each times its share; `shares` has a line for every one of them.
fn spread(shares: &[f32], rows: &[f32], to: &mut [f32]) {
    let mut group = [[0.0_f32; HEAD]; GROUP];
    for (group, row) in group.iter_mut().zip(rows.as_chunks::<HEAD>().0) {
        *group = *row;
    }
    let lines: [&[f32]; GROUP] =
        std::array::from_fn(|line| &shares[line * (shares.len() / GROUP)..][..to.len() / HEAD]);
    for (at, to) in to.as_chunks_mut::<HEAD>().0.iter_mut().enumerate() {
        let shares: [f32; GROUP] = std::array::from_fn(|line| lines[line][at]);
        for (lane, to) in to.iter_mut().enumerate() {
            let product = |row: usize| shares[row] * group[row][lane];
            *to += (product(0) + product(1)) + (product(2) + product(3));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::math::check_gradients;
    use super::{WIDTH, causal};
    use candle_core::{Device, Result, Tensor};

    #[test]
    fn gradients_are_right() -> Result<()> {
        let shape: &[usize] = &[7, WIDTH];
        check_gradients(&[shape; 3], |vars| causal(&vars[0], &vars[1], &vars[2], [5, 2].into()))
    }

    #[test]
    fn documents_do_not_see_each_other() -> Result<()> {
        let random = |rows| Tensor::randn(0.0_f32, 1.0, (rows, WIDTH), &Device::Cpu);
        let (first, second) = (random(70)?, random(9)?);
        let both = Tensor::cat(&[&first, &second], 0)?;
        let together = causal(&both, &both, &both, [70, 9].into())?;
        let alone = causal(&second, &second, &second, [9].into())?;
        let error = (together.narrow(0, 70, 9)? - alone)?
            .abs()?
            .max_all()?
            .to_scalar::<f32>()?;
        assert!(error < 1e-6, "{error}");
        Ok(())
    }
}

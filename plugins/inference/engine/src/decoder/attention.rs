//! Attention: what a sequence remembers, the rotation that tells positions apart, and the weighted look back.

use std::ops::Range;

use rayon::prelude::*;

use super::shape::{Pairing, Rotation, Shape, Window};
use crate::arithmetic::{add_scaled, dot, softmax};

/// A look back below this many multiplications runs on the calling thread; see the same bound of matrices.
const PARALLEL_FROM: usize = 1 << 20;

/// Keys and values of one layer: for each head its positions one after another.
#[derive(Debug, Default, Clone)]
pub(super) struct Memory {
    keys: Vec<Vec<f32>>,
    values: Vec<Vec<f32>>,
    head_size: usize,
}

impl Memory {
    /// Rows hold all heads of one position.
    pub(super) fn append(&mut self, keys: &[f32], values: &[f32]) {
        let heads = self.keys.len();
        for (index, (key, value)) in keys
            .chunks_exact(self.head_size)
            .zip(values.chunks_exact(self.head_size))
            .enumerate()
        {
            self.keys[index % heads].extend_from_slice(key);
            self.values[index % heads].extend_from_slice(value);
        }
    }

    fn positions(&self) -> usize {
        self.keys[0].len() / self.head_size
    }

    fn key(&self, head: usize, position: usize) -> &[f32] {
        &self.keys[head][position * self.head_size..][..self.head_size]
    }

    fn value(&self, head: usize, position: usize) -> &[f32] {
        &self.values[head][position * self.head_size..][..self.head_size]
    }
}

/// What one sequence has seen. It grows with the sequence: two numbers of four bytes per position, layer, key-value
/// head and head dimension.
#[derive(Debug)]
pub(crate) struct Cache {
    layers: Vec<Memory>,
    len: usize,
}

impl Cache {
    pub(crate) fn new(shape: &Shape) -> Self {
        let heads = || vec![Vec::new(); shape.kv_heads];
        let layer = || Memory {
            keys: heads(),
            values: heads(),
            head_size: shape.head_size,
        };
        Self {
            layers: (0..shape.layers).map(|_| layer()).collect(),
            len: 0,
        }
    }

    /// Positions seen.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn advance(&mut self, positions: usize) {
        self.len += positions;
    }

    pub(super) fn layer(&mut self, index: usize) -> &mut Memory {
        &mut self.layers[index]
    }
}

/// Cosines and sines of some positions.
#[derive(Debug)]
pub(super) struct Angles {
    /// For each position and pair of dimensions.
    turns: Vec<(f32, f32)>,
    pairs: usize,
    pairing: Pairing,
}

impl Angles {
    pub(super) fn new(rotation: &Rotation, first: usize, positions: usize) -> Self {
        let mut turns = Vec::with_capacity(positions * rotation.frequencies.len());
        for position in first..first + positions {
            for frequency in &rotation.frequencies {
                let (sin, cos) = (position as f32 * frequency).sin_cos();
                turns.push((cos * rotation.magnitude, sin * rotation.magnitude));
            }
        }
        Self {
            turns,
            pairs: rotation.frequencies.len(),
            pairing: rotation.pairing,
        }
    }

    /// Turns each head of each position; dimensions beyond the pairs stay.
    pub(super) fn rotate(&self, rows: &mut [f32], heads: usize, head_size: usize) {
        let positions = rows.chunks_exact_mut(heads * head_size);
        for (row, turns) in positions.zip(self.turns.chunks_exact(self.pairs)) {
            for head in row.chunks_exact_mut(head_size) {
                for (pair, (cos, sin)) in turns.iter().enumerate() {
                    let (a, b) = match self.pairing {
                        Pairing::Neighbours => (2 * pair, 2 * pair + 1),
                        Pairing::Halves => (pair, pair + self.pairs),
                    };
                    let (x, y) = (head[a], head[b]);
                    head[a] = x * cos - y * sin;
                    head[b] = x * sin + y * cos;
                }
            }
        }
    }
}

/// For each query row and head, the values of what came before, weighted by how well its keys fit.
pub(super) fn attend(queries: &[f32], memory: &Memory, shape: &Shape, window: Window) -> Vec<f32> {
    let (heads, size) = (shape.heads, shape.head_size);
    let rows = queries.len() / (heads * size);
    let first = memory.positions() - rows;
    let look_back = |index: usize, out: &mut [f32]| {
        let (position, head) = (first + index / heads, index % heads);
        let from = window.map_or(0, |window| (position + 1).saturating_sub(window));
        let query = &queries[index * size..][..size];
        mix(
            query,
            memory,
            head * shape.kv_heads / heads,
            from..position + 1,
            shape.attention_scale,
            out,
        );
    };
    let mut out = vec![0.0; queries.len()];
    if queries.len() * memory.positions() < PARALLEL_FROM {
        out.chunks_exact_mut(size)
            .enumerate()
            .for_each(|(index, out)| look_back(index, out));
    } else {
        out.par_chunks_exact_mut(size)
            .enumerate()
            .for_each(|(index, out)| look_back(index, out));
    }
    out
}

fn mix(query: &[f32], memory: &Memory, head: usize, seen: Range<usize>, scale: f32, out: &mut [f32]) {
    let mut weights: Vec<f32> = seen
        .clone()
        .map(|at| dot(query, memory.key(head, at)) * scale)
        .collect();
    softmax(&mut weights);
    for (at, weight) in seen.zip(weights) {
        add_scaled(out, memory.value(head, at), weight);
    }
}

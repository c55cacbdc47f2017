//! The decoder on toy models. That it computes what the families' own code computes is shown by the comparison with
//! llama.cpp; here is what must hold between its own ways of computing.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "shared with other tests, which use other parts")]
#[path = "../../tests/support/toy.rs"]
mod toy;

use std::io::Cursor;

use candle_core::quantized::GgmlDType;

use super::*;
use crate::gguf::Gguf;
use toy::Toy;

const FAMILIES: [&str; 5] = ["llama", "qwen2", "qwen3", "phi3", "gemma3"];

fn weights(family: &'static str, dtype: GgmlDType, plain: bool) -> Weights {
    let mut toy = Toy::new(family);
    toy.dtype = dtype;
    let mut file = Gguf::read(Cursor::new(toy.write())).unwrap();
    let shape = Shape::from_metadata(&file.metadata).unwrap();
    Weights::read_as(&mut file, shape, 270, plain).unwrap()
}

fn tokens() -> Vec<u32> {
    (0..70).map(|i| i * 37 % 256).collect()
}

/// Scores after the tokens, read in pieces of this size.
fn scores(weights: &Weights, piece: usize) -> Vec<f32> {
    let mut cache = Cache::new(&weights.shape);
    let mut last = Vec::new();
    for piece in tokens().chunks(piece) {
        last = weights.forward(piece, &mut cache, true).unwrap();
    }
    last
}

/// Largest difference, as a share of the largest score.
fn apart(a: &[f32], b: &[f32]) -> f32 {
    let most = a.iter().map(|x| x.abs()).fold(0.0, f32::max);
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / most
}

#[test]
fn pieces_of_any_size_give_bit_equal_scores() {
    for family in FAMILIES {
        let weights = weights(family, GgmlDType::F32, true);
        let whole = scores(&weights, 70);
        assert!(whole.iter().all(|score| score.is_finite()), "{family}");
        for piece in [1, 7, 32] {
            assert_eq!(scores(&weights, piece), whole, "{family} in pieces of {piece}");
        }
    }
}

#[test]
fn blocks_and_plain_numbers_agree() {
    let all = FAMILIES.map(|family| (family, GgmlDType::Q8_0));
    for (family, dtype) in all
        .into_iter()
        .chain([("llama", GgmlDType::Q4_0), ("llama", GgmlDType::Q5_1)])
    {
        // A long piece and then one token: products of many rows and of one.
        let plain = scores(&weights(family, dtype, true), 69);
        let blocks = scores(&weights(family, dtype, false), 69);
        // Kernels on blocks round their input to eight bits.
        let difference = apart(&plain, &blocks);
        assert!(
            difference > 0.0 && difference < 0.15,
            "{family} {dtype:?}: {difference}"
        );
    }
}

#[test]
fn half_precision_is_close_to_full() {
    let full = scores(&weights("llama", GgmlDType::F32, true), 32);
    let half = scores(&weights("llama", GgmlDType::F16, false), 32);
    let difference = apart(&full, &half);
    assert!(difference > 0.0 && difference < 0.02, "{difference}");
}

#[test]
fn every_token_before_counts() {
    for family in FAMILIES {
        let weights = weights(family, GgmlDType::F32, true);
        let ask = |tokens: &[u32]| weights.forward(tokens, &mut Cache::new(&weights.shape), true).unwrap();
        let mut changed = tokens();
        let before = ask(&changed);
        changed[1] = 99;
        assert_ne!(ask(&changed), before, "{family}: the second token does not count");
        changed = tokens();
        changed.swap(3, 5);
        assert_ne!(ask(&changed), before, "{family}: order does not count");
    }
}

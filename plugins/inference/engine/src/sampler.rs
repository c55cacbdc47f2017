//! Chooses the next token from the model's scores: penalties, temperature, the `top_k` best, the smallest set with
//! probability `top_p`, one draw. Temperature 0 takes the best and draws nothing. The draw for a token depends on seed
//! and position alone, so that a continuation elsewhere draws what the first engine would have drawn.

use std::collections::HashMap;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::params::Params;

/// Words of the random stream that one draw takes: 64 bits.
const WORDS_PER_DRAW: u128 = 2;
/// First guess of how many tokens reach `top_p`, so that a large vocabulary need not be sorted.
const FIRST_NUCLEUS: usize = 128;

/// The state of one sequence's choices.
#[derive(Debug)]
pub(crate) struct Sampler {
    temperature: f32,
    top_k: usize,
    top_p: f32,
    frequency_penalty: f32,
    presence_penalty: f32,
    random: ChaCha8Rng,
    position: u32,
    counts: HashMap<u32, u32>,
}

impl Sampler {
    /// `generated` are the ids at the end of the prompt that belong to the answer.
    pub(crate) fn new(params: &Params, generated: &[u32]) -> Self {
        let seed = params.seed.unwrap_or_else(|| rand::rng().next_u64());
        let mut sampler = Self {
            temperature: params.temperature,
            top_k: params.top_k.map_or(0, |k| k as usize),
            top_p: params.top_p,
            frequency_penalty: params.frequency_penalty,
            presence_penalty: params.presence_penalty,
            random: ChaCha8Rng::seed_from_u64(seed),
            position: 0,
            counts: HashMap::new(),
        };
        for id in generated {
            sampler.accept(*id);
        }
        sampler
    }

    /// The next token, or `None` where no score is a finite number.
    pub(crate) fn next(&mut self, scores: &mut [f32]) -> Option<u32> {
        self.penalise(scores);
        let id = if self.temperature == 0.0 {
            best(scores)?
        } else {
            self.draw(scores)?
        };
        self.accept(id);
        Some(id)
    }

    fn accept(&mut self, id: u32) {
        self.position += 1;
        if self.frequency_penalty != 0.0 || self.presence_penalty != 0.0 {
            *self.counts.entry(id).or_default() += 1;
        }
    }

    fn penalise(&self, scores: &mut [f32]) {
        for (id, count) in &self.counts {
            if let Some(score) = scores.get_mut(*id as usize) {
                *score -= self.presence_penalty + self.frequency_penalty * *count as f32;
            }
        }
    }

    fn draw(&mut self, scores: &[f32]) -> Option<u32> {
        let top = scores[best(scores)? as usize];
        let weigh = |(id, score): (usize, &f32)| {
            let weight = (f64::from(*score - top) / f64::from(self.temperature)).exp();
            (if weight.is_finite() { weight } else { 0.0 }, id as u32)
        };
        let mut candidates: Vec<(f64, u32)> = scores.iter().enumerate().map(weigh).collect();
        if self.top_k > 0 {
            keep_best(&mut candidates, self.top_k);
        }
        if self.top_p < 1.0 {
            keep_nucleus(&mut candidates, f64::from(self.top_p));
        }
        // 53 random bits: every multiple of 2^-53 below one, each as likely.
        self.random.set_word_pos(u128::from(self.position) * WORDS_PER_DRAW);
        let uniform = (self.random.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let mut left = uniform * candidates.iter().map(|(weight, _)| weight).sum::<f64>();
        for (weight, id) in &candidates {
            left -= weight;
            if left < 0.0 {
                return Some(*id);
            }
        }
        // Rounding can leave a rest: it belongs to the last that could have been drawn.
        candidates
            .iter()
            .rev()
            .find(|(weight, _)| *weight > 0.0)
            .map(|(_, id)| *id)
    }
}

/// The highest finite score; of equal ones the lowest id.
fn best(scores: &[f32]) -> Option<u32> {
    let mut best: Option<(usize, f32)> = None;
    for (id, score) in scores.iter().enumerate() {
        if score.is_finite() && best.is_none_or(|(_, most)| *score > most) {
            best = Some((id, *score));
        }
    }
    best.map(|(id, _)| id as u32)
}

/// Heaviest first; of equal ones the lowest id.
fn heavier(a: &(f64, u32), b: &(f64, u32)) -> std::cmp::Ordering {
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
}

/// Leaves the `count` heaviest, heaviest first.
fn keep_best(candidates: &mut Vec<(f64, u32)>, count: usize) {
    if count < candidates.len() {
        candidates.select_nth_unstable_by(count, heavier);
        candidates.truncate(count);
    }
    candidates.sort_unstable_by(heavier);
}

/// Leaves the fewest, heaviest first, whose weights reach `share` of the sum.
fn keep_nucleus(candidates: &mut Vec<(f64, u32)>, share: f64) {
    let enough = share * candidates.iter().map(|(weight, _)| weight).sum::<f64>();
    let mut size = FIRST_NUCLEUS;
    loop {
        let mut nucleus = candidates.clone();
        keep_best(&mut nucleus, size);
        let mut sum = 0.0;
        let reached = nucleus.iter().position(|(weight, _)| {
            sum += weight;
            sum >= enough
        });
        if let Some(last) = reached {
            nucleus.truncate(last + 1);
        } else if size < candidates.len() {
            size *= 8;
            continue;
        }
        *candidates = nucleus;
        return;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn draws(params: &Params, scores: &[f32], count: usize) -> Vec<u32> {
        let mut sampler = Sampler::new(params, &[]);
        (0..count)
            .map(|_| sampler.next(&mut scores.to_vec()).unwrap())
            .collect()
    }

    /// Scores whose probabilities at temperature 1 are these.
    fn scores_of(probabilities: &[f32]) -> Vec<f32> {
        probabilities.iter().map(|p| p.ln() + 3.0).collect()
    }

    fn shares(ids: &[u32], tokens: usize) -> Vec<f64> {
        let count = |id: usize| ids.iter().filter(|drawn| **drawn as usize == id).count();
        (0..tokens).map(|id| count(id) as f64 / ids.len() as f64).collect()
    }

    fn near(found: &[f64], expected: &[f64]) {
        for (found_share, share) in found.iter().zip(expected) {
            // Four standard deviations of 20,000 draws are at most 0.0142.
            assert!((found_share - share).abs() < 0.0142, "{found:?} is not {expected:?}");
        }
    }

    #[test]
    fn draws_follow_the_distribution() {
        let params = Params {
            seed: Some(7),
            ..Params::default()
        };
        let ids = draws(&params, &scores_of(&[0.5, 0.3, 0.15, 0.05]), 20_000);
        near(&shares(&ids, 4), &[0.5, 0.3, 0.15, 0.05]);
    }

    #[test]
    fn temperature_sharpens() {
        let params = Params {
            seed: Some(7),
            temperature: 0.5,
            ..Params::default()
        };
        let ids = draws(&params, &scores_of(&[0.5, 0.3, 0.2]), 20_000);
        // Squares of the probabilities, normalised.
        near(&shares(&ids, 3), &[0.25 / 0.38, 0.09 / 0.38, 0.04 / 0.38]);
    }

    #[test]
    fn top_k_keeps_the_best() {
        let params = Params {
            seed: Some(1),
            top_k: Some(2),
            ..Params::default()
        };
        let ids = draws(&params, &scores_of(&[0.1, 0.3, 0.1, 0.5]), 20_000);
        near(&shares(&ids, 4), &[0.0, 0.375, 0.0, 0.625]);
    }

    #[test]
    fn top_p_keeps_the_fewest_that_reach_it() {
        let params = Params {
            seed: Some(1),
            top_p: 0.75,
            ..Params::default()
        };
        let ids = draws(&params, &scores_of(&[0.1, 0.3, 0.1, 0.5]), 20_000);
        near(&shares(&ids, 4), &[0.0, 0.375, 0.0, 0.625]);
        let narrow = Params { top_p: 0.4, ..params };
        assert!(
            draws(&narrow, &scores_of(&[0.1, 0.3, 0.1, 0.5]), 200)
                .iter()
                .all(|id| *id == 3)
        );
    }

    #[test]
    fn a_nucleus_wider_than_the_first_guess_is_found() {
        let even = vec![(1.0, 0); 10_000];
        let mut candidates: Vec<(f64, u32)> = even.iter().zip(0..).map(|((weight, _), id)| (*weight, id)).collect();
        keep_nucleus(&mut candidates, 0.5);
        assert_eq!(candidates.len(), 5_000);
    }

    #[test]
    fn the_same_seed_draws_the_same_and_another_does_not() {
        let scores = scores_of(&[0.25, 0.25, 0.25, 0.25]);
        let with = |seed| {
            draws(
                &Params {
                    seed: Some(seed),
                    ..Params::default()
                },
                &scores,
                64,
            )
        };
        assert_eq!(with(1), with(1));
        assert_ne!(with(1), with(2));
    }

    #[test]
    fn a_continuation_draws_what_the_first_engine_would_have() {
        let scores = scores_of(&[0.25, 0.25, 0.25, 0.25]);
        let params = Params {
            seed: Some(5),
            frequency_penalty: 0.3,
            presence_penalty: 0.2,
            ..Params::default()
        };
        let all = draws(&params, &scores, 40);
        let mut second = Sampler::new(&params, &all[..15]);
        let rest: Vec<u32> = (0..25).map(|_| second.next(&mut scores.to_vec()).unwrap()).collect();
        assert_eq!(rest, all[15..]);
    }

    #[test]
    fn greedy_takes_the_first_best_and_skips_what_is_not_finite() {
        let params = Params {
            temperature: 0.0,
            ..Params::default()
        };
        assert_eq!(draws(&params, &[f32::NAN, 1.0, 2.0, 2.0, f32::INFINITY], 3), [2, 2, 2]);
        let mut sampler = Sampler::new(&Params::default(), &[]);
        assert_eq!(sampler.next(&mut [f32::NAN, f32::NEG_INFINITY]), None);
    }

    #[test]
    fn penalties_push_a_token_down_each_time() {
        let params = Params {
            temperature: 0.0,
            frequency_penalty: 0.4,
            presence_penalty: 0.3,
            ..Params::default()
        };
        // Token 0 falls from 2.0 to 1.3, then to 0.9 and below token 1, which falls from 1.0 to 0.3 at once.
        assert_eq!(draws(&params, &[2.0, 1.0], 5), [0, 0, 1, 0, 0]);
    }
}

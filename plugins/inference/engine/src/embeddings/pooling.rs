//! From a row for each token to one vector of length one.
//!
//! Formulae: Reimers and Gurevych, "Sentence-BERT" (<https://arxiv.org/abs/1908.10084>), and the module `Pooling` of
//! `sentence-transformers` (<https://sbert.net/docs/package_reference/sentence_transformer/models.html>).

use std::collections::BTreeMap;

use serde_json::Value;

use crate::arithmetic::{add, dot};
use crate::error::LoadError;

/// Least length that a vector is divided by, as in PyTorch's `normalize`.
const LEAST_LENGTH: f32 = 1e-12;
/// What the names of all modes begin with in a file of settings.
const MODE: &str = "pooling_mode_";

/// Which rows make the vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pooling {
    /// Their mean.
    Mean,
    /// The first alone, that of `[CLS]`.
    First,
}

impl Pooling {
    /// The one mode that a file of settings turns on: `pooling_mode_mean_tokens`, `pooling_mode_cls_token`, or either
    /// as the word `mean` or `cls` of `pooling_mode`.
    pub(super) fn from_modes(settings: &BTreeMap<String, Value>) -> Result<Self, LoadError> {
        let switches = settings
            .iter()
            .filter(|(_, on)| **on == Value::Bool(true))
            .filter_map(|(name, _)| name.strip_prefix(MODE));
        let word = settings.get("pooling_mode").and_then(Value::as_str);
        let modes: Vec<&str> = switches.chain(word).collect();
        match modes[..] {
            [] | ["mean_tokens" | "mean"] => Ok(Self::Mean),
            ["cls_token" | "cls"] => Ok(Self::First),
            _ => Err(LoadError::Feature(format!("pooling by `{}`", modes.join("` and `")))),
        }
    }

    /// The vector of one input's rows.
    pub(super) fn vector(self, rows: &[f32], width: usize) -> Vec<f32> {
        let mut vector = rows[..width].to_vec();
        if self == Self::Mean {
            rows[width..].chunks_exact(width).for_each(|row| add(&mut vector, row));
        }
        // Dividing the sum by its own length gives what dividing the mean by its length gives.
        let length = dot(&vector, &vector).sqrt().max(LEAST_LENGTH);
        vector.iter_mut().for_each(|value| *value /= length);
        vector
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn vectors_have_length_one_and_point_where_their_rows_do() {
        let rows = [3.0, 4.0, 3.0, -4.0, 6.0, 0.0];
        assert_eq!(Pooling::First.vector(&rows, 2), [0.6, 0.8]);
        assert_eq!(Pooling::Mean.vector(&rows, 2), [1.0, 0.0]);
        assert_eq!(Pooling::Mean.vector(&[0.0; 4], 2), [0.0, 0.0]);
    }

    #[test]
    fn one_known_mode_is_taken_and_everything_else_refused() {
        let modes = |text: &str| Pooling::from_modes(&serde_json::from_str(text).unwrap());
        let mean = r#"{"word_embedding_dimension":8,"pooling_mode_cls_token":false,"pooling_mode_mean_tokens":true}"#;
        assert_eq!(modes(mean).unwrap(), Pooling::Mean);
        assert_eq!(modes("{}").unwrap(), Pooling::Mean);
        assert_eq!(modes(r#"{"pooling_mode_cls_token":true}"#).unwrap(), Pooling::First);
        assert_eq!(modes(r#"{"pooling_mode":"cls"}"#).unwrap(), Pooling::First);
        for wrong in [
            r#"{"pooling_mode_max_tokens":true}"#,
            r#"{"pooling_mode":"lasttoken"}"#,
            r#"{"pooling_mode_cls_token":true,"pooling_mode_mean_tokens":true}"#,
        ] {
            assert!(matches!(modes(wrong), Err(LoadError::Feature(_))), "{wrong}");
        }
    }
}

//! What a request may ask of the sampler and when it ends, with the ranges that make sense.

use crate::error::Refusal;

/// Stop strings of one request. OpenAI allows four; the search is linear in them.
const MOST_STOPS: usize = 16;
/// Bytes of one stop string: text that long is held back from the reader.
const LONGEST_STOP: usize = 1024;

/// How to choose tokens, and when to end.
#[derive(Debug, Clone, PartialEq)]
pub struct Params {
    /// Most tokens to generate. The end of the context can come first.
    pub max_tokens: u32,
    /// 0 takes the likeliest token each time; 1 draws from the model's own distribution; more is wilder.
    pub temperature: f32,
    /// Draw among this many likeliest tokens only. 0 is the same as `None`: all.
    pub top_k: Option<u32>,
    /// Draw among the fewest tokens that have this probability together. 1 is all.
    pub top_p: f32,
    /// Taken off the score of each token that was generated before, once for each time. 0 is off.
    pub frequency_penalty: f32,
    /// Taken off the score of each token that was generated before. 0 is off.
    pub presence_penalty: f32,
    /// The same seed, prompt and model give the same text. `None` takes a random one.
    pub seed: Option<u64>,
    /// Texts that end the answer; they are not part of it. At most 16 of 1,024 bytes.
    pub stop: Vec<String>,
    /// How many ids at the end of the prompt were generated earlier for this same answer, here or by another engine:
    /// draws and penalties go on from there. `max_tokens` counts new tokens only.
    pub already_generated: u32,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            max_tokens: 256,
            temperature: 1.0,
            top_k: None,
            top_p: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            seed: None,
            stop: Vec::new(),
            already_generated: 0,
        }
    }
}

impl Params {
    pub(crate) fn check(&self, prompt: usize) -> Result<(), Refusal> {
        let refuse = |name, found: String, expected| Err(Refusal::Parameter { name, found, expected });
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            return refuse("temperature", self.temperature.to_string(), "a number from 0 up");
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return refuse("top_p", self.top_p.to_string(), "above 0 and at most 1");
        }
        for (name, penalty) in [
            ("frequency_penalty", self.frequency_penalty),
            ("presence_penalty", self.presence_penalty),
        ] {
            if !penalty.is_finite() {
                return refuse(name, penalty.to_string(), "a finite number");
            }
        }
        if self.stop.len() > MOST_STOPS {
            return refuse("stop", format!("{} texts", self.stop.len()), "at most 16 texts");
        }
        if let Some(long) = self.stop.iter().find(|stop| stop.len() > LONGEST_STOP) {
            return refuse("stop", format!("{} bytes", long.len()), "at most 1024 bytes each");
        }
        if self.already_generated as usize > prompt {
            return refuse(
                "already_generated",
                self.already_generated.to_string(),
                "at most the prompt's length",
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_out_of_range_are_named() {
        let name = |params: Params| match params.check(3) {
            Err(Refusal::Parameter { name, .. }) => name,
            other => panic!("{other:?}"),
        };
        let base = Params::default;
        assert_eq!(
            name(Params {
                temperature: -1.0,
                ..base()
            }),
            "temperature"
        );
        assert_eq!(
            name(Params {
                temperature: f32::NAN,
                ..base()
            }),
            "temperature"
        );
        assert_eq!(name(Params { top_p: 0.0, ..base() }), "top_p");
        assert_eq!(
            name(Params {
                frequency_penalty: f32::INFINITY,
                ..base()
            }),
            "frequency_penalty"
        );
        assert_eq!(
            name(Params {
                stop: vec!["x".to_owned(); 17],
                ..base()
            }),
            "stop"
        );
        assert_eq!(
            name(Params {
                already_generated: 4,
                ..base()
            }),
            "already_generated"
        );
        assert_eq!(base().check(0), Ok(()));
    }
}

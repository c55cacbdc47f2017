//! Asking a GGUF file: candle's own quantised Llama and the tokenizer that the file carries, apart from all training
//! code, so that what is seen here is what an engine will see.

use std::fs::File;
use std::io::{BufReader, Write};
use std::path::Path;

use anyhow::{Context, Result};
use candle_core::quantized::gguf_file::{Content, Value};
use candle_core::{Device, Tensor};
use candle_transformers::generation::{LogitsProcessor, Sampling};
use candle_transformers::models::quantized_llama::ModelWeights;
use tokenizers::Tokenizer;

use crate::chat::{END_OF_TEXT, TURN_END};
use crate::{shape, tokenizer};

/// How an answer is drawn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner {
    /// 0 takes the likeliest token each time.
    pub(crate) temperature: f64,
    pub(crate) seed: u64,
    /// Tokens after which it stops, if the model has not.
    pub(crate) limit: usize,
}

/// A loaded file.
#[derive(Debug)]
pub(crate) struct Sampler {
    weights: ModelWeights,
    vocabulary: Tokenizer,
    stops: Vec<u32>,
}

impl Sampler {
    /// Loads the GGUF at `path`.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let mut file = BufReader::new(File::open(path).with_context(|| format!("cannot open {}", path.display()))?);
        let content = Content::read(&mut file)?;
        let vocabulary = tokenizer::from_lists(
            &strings(&content, "tokenizer.ggml.tokens")?,
            &strings(&content, "tokenizer.ggml.merges")?,
        )?;
        let stops = [END_OF_TEXT, TURN_END]
            .iter()
            .filter_map(|stop| vocabulary.token_to_id(stop))
            .collect();
        let weights = ModelWeights::from_gguf(content, &mut file, &Device::Cpu)?;
        Ok(Self {
            weights,
            vocabulary,
            stops,
        })
    }

    /// Continues `prompt`, writing text to `out` as it comes, and gives the number of tokens.
    pub(crate) fn answer(&mut self, prompt: &str, manner: Manner, out: &mut dyn Write) -> Result<usize> {
        let sampling = match manner.temperature {
            temperature if temperature > 0.0 => Sampling::All { temperature },
            _ => Sampling::ArgMax,
        };
        let mut draw = LogitsProcessor::from_sampling(manner.seed, sampling);
        let mut fresh = tokenizer::encode(&self.vocabulary, prompt)?;
        let (mut read, mut said, mut shown) = (0, Vec::new(), String::new());
        while said.len() < manner.limit && read + fresh.len() <= shape::CONTEXT {
            let input = Tensor::new(fresh.as_slice(), &Device::Cpu)?.unsqueeze(0)?;
            let logits = self.weights.forward(&input, read)?.squeeze(0)?;
            read += fresh.len();
            let token = draw.sample(&logits)?;
            if self.stops.contains(&token) {
                break;
            }
            said.push(token);
            fresh = vec![token];
            let text = tokenizer::decode(&self.vocabulary, &said)?;
            if let Some(new) = text.strip_prefix(&shown).filter(|new| !new.ends_with('\u{fffd}')) {
                write!(out, "{new}")?;
                out.flush()?;
                shown = text;
            }
        }
        writeln!(out)?;
        Ok(said.len())
    }
}

fn strings(content: &Content, key: &str) -> Result<Vec<String>> {
    let value: &Value = content
        .metadata
        .get(key)
        .with_context(|| format!("the file has no `{key}`"))?;
    value
        .to_vec()?
        .iter()
        .map(|value| Ok(value.to_string()?.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Manner, Sampler};
    use crate::chat::{Turn, prompt};

    fn ask(question: &str, manner: Manner) -> (String, usize) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("infernet-demo.gguf");
        let mut out = Vec::new();
        let tokens = Sampler::open(&path)
            .and_then(|mut sampler| sampler.answer(&prompt(&[Turn::user(question)]), manner, &mut out))
            .expect("an answer");
        (String::from_utf8(out).expect("text"), tokens)
    }

    #[test]
    fn the_shipped_model_tells_a_story_about_the_animal_asked_for() {
        for (seed, noun, name) in [(1, "fox", "Finn"), (2, "owl", "Olive")] {
            let manner = Manner {
                temperature: 0.7,
                seed,
                limit: 400,
            };
            let (story, tokens) = ask(
                &format!("Tell me a story about a {noun}.").replace("a owl", "an owl"),
                manner,
            );
            assert!(story.contains(noun) && story.contains(name), "{story}");
            assert!((80..400).contains(&tokens), "{tokens} tokens: {story}");
            assert!(story.trim_end().ends_with(['.', '!', '?', '"']), "{story}");
        }
    }

    #[test]
    fn the_shipped_model_knows_small_facts() {
        let likeliest = Manner {
            temperature: 0.0,
            seed: 1,
            limit: 60,
        };
        for (question, fact) in [
            ("What sound does a cow make?", "moo"),
            ("What is the capital of France?", "Paris"),
        ] {
            let (answer, _) = ask(question, likeliest);
            assert!(answer.contains(fact), "{answer}");
        }
    }
}

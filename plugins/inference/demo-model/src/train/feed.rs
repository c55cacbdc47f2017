//! Documents as token batches.

use std::collections::HashSet;

use anyhow::Result;
use tokenizers::Tokenizer;

use crate::corpus::{self, Emphasis};
use crate::model::Batch;
use crate::shape::CONTEXT;
use crate::tokenizer::encode;

/// How much a token of what others say counts.
const CONTEXT_EMPHASIS: f32 = 0.1;
/// How much a token of an answer counts.
const ANSWER_EMPHASIS: f32 = 1.0;
/// How much the beginning of an answer counts, which depends on the question more than the rest.
const BEGINNING_EMPHASIS: f32 = 2.5;
/// Tokens of an answer that are its beginning; a short answer is nothing else.
const BEGINNING: usize = 40;
/// How much a word with a capital counts: a name or a pronoun, which has to be the right one.
const NAME_EMPHASIS: f32 = 3.0;

/// An endless stream of documents.
#[derive(Debug)]
pub(super) struct Feed {
    vocabulary: Tokenizer,
    /// Tokens that are a space and a capital, with what follows.
    names: HashSet<u32>,
    seed: u64,
    /// Number of the next document.
    pub(super) next: u64,
}

impl Feed {
    pub(super) fn new(vocabulary: Tokenizer, seed: u64) -> Self {
        let after_space = |token: &str| {
            token
                .strip_prefix('\u{120}')
                .is_some_and(|word| word.starts_with(char::is_uppercase))
        };
        let names = vocabulary
            .get_vocab(true)
            .into_iter()
            .filter(|(token, _)| after_space(token))
            .map(|(_, id)| id);
        Self {
            names: names.collect(),
            vocabulary,
            seed,
            next: 0,
        }
    }

    /// The next documents, until there are at least `positions`.
    pub(super) fn batch(&mut self, positions: usize) -> Result<Batch> {
        let mut batch = Batch::default();
        while batch.tokens.len() < positions {
            self.append(&mut batch)?;
        }
        Ok(batch)
    }

    /// As [`Feed::batch`], where only answers count, and all of them the same.
    pub(super) fn answers(&mut self, positions: usize) -> Result<Batch> {
        let mut batch = self.batch(positions)?;
        for emphasis in &mut batch.emphasis {
            *emphasis = if *emphasis < ANSWER_EMPHASIS { 0.0 } else { 1.0 };
        }
        Ok(batch)
    }

    /// Adds one document, cut off where the context ends.
    fn append(&mut self, batch: &mut Batch) -> Result<()> {
        let (mut tokens, mut emphasis) = (Vec::new(), Vec::new());
        for piece in corpus::document(self.seed, self.next) {
            let ids = encode(&self.vocabulary, &piece.text)?;
            emphasis.extend(ids.iter().enumerate().map(|(at, id)| match piece.emphasis {
                Emphasis::Context => CONTEXT_EMPHASIS,
                Emphasis::Answer if self.names.contains(id) => NAME_EMPHASIS,
                Emphasis::Answer if at < BEGINNING => BEGINNING_EMPHASIS,
                Emphasis::Answer => ANSWER_EMPHASIS,
            }));
            tokens.extend(ids);
        }
        self.next += 1;
        let length = (tokens.len() - 1).min(CONTEXT);
        batch.tokens.extend(&tokens[..length]);
        batch.targets.extend(&tokens[1..=length]);
        batch.emphasis.extend(&emphasis[1..=length]);
        batch.documents.push(length);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{CONTEXT, Feed, corpus, encode};

    fn vocabulary() -> tokenizers::Tokenizer {
        let texts: Vec<_> = (0..1_500).map(|index| corpus::text(9, index)).collect();
        crate::tokenizer::train(&texts).expect("a tokenizer")
    }

    #[test]
    fn pieces_tokenize_as_the_whole_text_does() {
        let vocabulary = vocabulary();
        for index in 0..300 {
            let whole = encode(&vocabulary, &corpus::text(1, index)).expect("tokens");
            let pieces = corpus::document(1, index);
            let pieces: Vec<u32> = pieces
                .iter()
                .flat_map(|piece| encode(&vocabulary, &piece.text).expect("tokens"))
                .collect();
            assert_eq!(pieces, whole, "document {index}");
        }
    }

    #[test]
    fn batches_are_shifted_by_one_and_reach_the_end_of_the_context() {
        let mut feed = Feed::new(vocabulary(), 1);
        let batch = feed.batch(30_000).expect("a batch");
        assert_eq!(batch.documents.iter().sum::<usize>(), batch.tokens.len());
        assert_eq!(batch.documents.iter().max(), Some(&CONTEXT));
        let mut start = 0;
        for length in batch.documents {
            let next = start + length;
            assert_eq!(batch.tokens[start + 1..next], batch.targets[start..next - 1]);
            start = next;
        }
    }
}

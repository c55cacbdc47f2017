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
/// How much a number counts: most stand in sums, where nothing but the last one says anything.
const NUMBER_EMPHASIS: f32 = 6.0;
/// How much a word counts that this answer has said before: a lost bell must not be found as a button.
const REPEATED_EMPHASIS: f32 = 2.0;
/// Letters of the shortest word that this holds for, its space included.
const WORD: usize = 5;

/// What a token is, as far as it decides how much it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Name,
    Number,
    Word,
    Other,
}

impl Kind {
    /// The kind of a token as the byte-level alphabet writes it, where U+0120 is a space.
    fn of(token: &str) -> Self {
        let word = token.strip_prefix('\u{120}');
        if token.contains(|letter: char| letter.is_ascii_digit()) {
            Self::Number
        } else if word.is_some_and(|word| word.starts_with(char::is_uppercase)) {
            Self::Name
        } else if word.is_some() && token.chars().count() >= WORD {
            Self::Word
        } else {
            Self::Other
        }
    }
}

/// An endless stream of documents.
#[derive(Debug)]
pub(super) struct Feed {
    vocabulary: Tokenizer,
    /// The kind of every token, by its id.
    kinds: Vec<Kind>,
    seed: u64,
    /// Number of the next document.
    pub(super) next: u64,
}

impl Feed {
    pub(super) fn new(vocabulary: Tokenizer, seed: u64) -> Self {
        let ids = 0..vocabulary.get_vocab_size(true);
        let token = |id| {
            u32::try_from(id)
                .ok()
                .and_then(|id| vocabulary.id_to_token(id))
                .unwrap_or_default()
        };
        let kinds = ids.map(|id| Kind::of(&token(id))).collect();
        Self {
            vocabulary,
            kinds,
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
            match piece.emphasis {
                Emphasis::Context => emphasis.extend(std::iter::repeat_n(CONTEXT_EMPHASIS, ids.len())),
                Emphasis::Answer => emphasis.extend(self.stakes(&ids)),
            }
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

    /// How much each token of an answer counts.
    fn stakes(&self, answer: &[u32]) -> impl Iterator<Item = f32> {
        let mut said = HashSet::new();
        answer.iter().enumerate().map(move |(at, &id)| {
            let first = said.insert(id);
            let begins = if at < BEGINNING {
                BEGINNING_EMPHASIS
            } else {
                ANSWER_EMPHASIS
            };
            match self.kinds.get(id as usize) {
                Some(Kind::Number) => NUMBER_EMPHASIS,
                Some(Kind::Name) => NAME_EMPHASIS,
                Some(Kind::Word) if !first => begins.max(REPEATED_EMPHASIS),
                _ => begins,
            }
        })
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

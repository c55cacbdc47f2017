//! The corpus: a grammar that writes pleasant simple English, as many documents as are asked for.
//!
//! A document is a story as plain text, one question with its answer, or a conversation long enough to fill the
//! context, so that every position is trained. Document `n` of a seed is always the same and needs no document before
//! it; nothing has to be stored to train, or to go on training.

mod animals;
mod cast;
mod dialogue;
mod dice;
mod facts;
mod plots;
mod plots_sea;
mod refusals;
mod requests;
mod smalltalk;
mod stories;
mod template;

use crate::chat::{END_OF_TEXT, Role, TURN_END, Turn};
use dice::Dice;

/// How strongly a piece of text is learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Emphasis {
    /// What others say, and what stands between turns: read to be understood, hardly learned.
    Context,
    /// An answer, or a story that stands alone.
    Answer,
}

/// A stretch of text that is learned evenly. Cutting a document into pieces does not change its tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) text: String,
    pub(crate) emphasis: Emphasis,
}

impl Piece {
    fn context(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            emphasis: Emphasis::Context,
        }
    }

    fn answer(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            emphasis: Emphasis::Answer,
        }
    }
}

/// Document `index` of the stream `seed`.
pub(crate) fn document(seed: u64, index: u64) -> Vec<Piece> {
    let dice = &mut Dice::new(seed, index);
    match dice.weighted(&[4, 80, 16]) {
        0 => vec![Piece::answer(
            stories::story(stories::Wish::default(), dice).text + END_OF_TEXT,
        )],
        1 => chat(&dialogue::single(dice)),
        _ => chat(&dialogue::long(dice)),
    }
}

/// The text of document `index` of the stream `seed`.
pub(crate) fn text(seed: u64, index: u64) -> String {
    document(seed, index).into_iter().map(|piece| piece.text).collect()
}

/// Turns as pieces, in ChatML.
fn chat(turns: &[Turn]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for turn in turns {
        pieces.push(Piece::context(Turn::opening(turn.role)));
        let text = format!("{}{TURN_END}", turn.text);
        pieces.push(if turn.role == Role::Assistant {
            Piece::answer(text)
        } else {
            Piece::context(text)
        });
        pieces.push(Piece::context("\n"));
    }
    pieces.push(Piece::context(END_OF_TEXT));
    pieces
}

#[cfg(test)]
mod tests {
    use super::{Emphasis, document, text};

    #[test]
    fn documents_repeat_and_differ() {
        assert_eq!(text(3, 14), text(3, 14));
        assert_ne!(text(3, 14), text(3, 15));
        assert_ne!(text(3, 14), text(4, 14));
    }

    #[test]
    fn every_document_teaches_an_answer() {
        for index in 0..500 {
            assert!(
                document(1, index)
                    .iter()
                    .any(|piece| piece.emphasis == Emphasis::Answer)
            );
        }
    }

    #[test]
    fn no_template_is_left_unfilled() {
        for index in 0..4_000 {
            let text = text(2, index);
            assert!(!text.contains(['[', ']', '{', '}']), "{text}");
        }
    }
}

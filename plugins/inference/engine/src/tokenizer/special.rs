//! Finds special tokens in a text: leftmost first, of several at one place the longest.

use super::Kind;

/// A part of a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'t> {
    Token(u32),
    Text(&'t str),
}

#[derive(Debug)]
struct Special {
    text: String,
    id: u32,
    control: bool,
    /// White space after it belongs to it.
    takes_space: bool,
}

/// Control tokens of Phi 3 that leave the white space after them alone; its others take it.
const PHI3_LEAVES_SPACE: [&str; 3] = ["<unk>", "<s>", "<|endoftext|>"];

/// Special tokens, grouped by their first byte so that plain text passes quickly.
#[derive(Debug)]
pub(super) struct Specials {
    by_first_byte: Vec<Vec<Special>>,
}

impl Specials {
    pub(super) fn new(tokens: &[String], kinds: &[Kind], phi3: bool) -> Self {
        let mut by_first_byte: Vec<Vec<Special>> = (0..256).map(|_| Vec::new()).collect();
        for (id, (text, kind)) in tokens.iter().zip(kinds).enumerate() {
            let control = *kind == Kind::Control;
            if let (Some(first), true) = (text.bytes().next(), control || *kind == Kind::UserDefined) {
                let takes_space = phi3 && !PHI3_LEAVES_SPACE.contains(&text.as_str());
                let special = Special {
                    text: text.clone(),
                    id: id as u32,
                    control,
                    takes_space,
                };
                by_first_byte[first as usize].push(special);
            }
        }
        for group in &mut by_first_byte {
            group.sort_by(|a, b| b.text.len().cmp(&a.text.len()).then(a.id.cmp(&b.id)));
        }
        Self { by_first_byte }
    }

    /// Control tokens are found only with `control`; tokens that a user defined are always found.
    pub(super) fn split<'t>(&self, text: &'t str, control: bool) -> Vec<Piece<'t>> {
        let (mut pieces, mut plain_from, mut at) = (Vec::new(), 0, 0);
        while at < text.len() {
            let group = &self.by_first_byte[text.as_bytes()[at] as usize];
            let rest = &text.as_bytes()[at..];
            let found = group
                .iter()
                .find(|s| (control || !s.control) && rest.starts_with(s.text.as_bytes()));
            let Some(special) = found else {
                at += 1;
                continue;
            };
            if plain_from < at {
                pieces.push(Piece::Text(&text[plain_from..at]));
            }
            pieces.push(Piece::Token(special.id));
            at += special.text.len();
            if special.takes_space {
                at = text.len() - text[at..].trim_start_matches(|c: char| c.is_ascii_whitespace()).len();
            }
            plain_from = at;
        }
        if plain_from < text.len() {
            pieces.push(Piece::Text(&text[plain_from..]));
        }
        pieces
    }
}

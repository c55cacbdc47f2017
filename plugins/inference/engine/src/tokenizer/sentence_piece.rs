//! SentencePiece vocabularies (`tokenizer.ggml.model = "llama"`): characters are joined pair by pair, the pair with the
//! highest score first, and what is no token is spelt in bytes.

use std::collections::{BinaryHeap, HashMap};

use super::{Kind, ids_by_text};
use crate::error::LoadError;
use crate::gguf::Metadata;

/// Stands for a space inside tokens.
const SPACE: char = '\u{2581}';

#[derive(Debug)]
struct Entry {
    id: u32,
    score: f32,
}

#[derive(Debug)]
pub(super) struct SentencePiece {
    entries: HashMap<String, Entry>,
    /// Token of every single byte.
    byte_ids: Vec<u32>,
    /// A space goes before the text, as in training.
    leading_space: bool,
}

/// One part of the text; parts form a chain that merging shortens. An empty part was merged away.
struct Part {
    start: usize,
    len: usize,
    before: Option<usize>,
    after: Option<usize>,
}

/// A pair that would make a token. The heap gives the highest score first, then the leftmost.
struct Pair {
    score: f32,
    left: usize,
    right: usize,
    len: usize,
}

impl Ord for Pair {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.score.total_cmp(&other.score).then(other.left.cmp(&self.left))
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Pair {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Pair {}

impl SentencePiece {
    pub(super) fn new(metadata: &Metadata, tokens: &[String], kinds: &[Kind]) -> Result<Self, LoadError> {
        const SCORES: &str = "tokenizer.ggml.scores";
        let scores = Metadata::needed(SCORES, metadata.floats(SCORES)?)?;
        if scores.len() != tokens.len() {
            let detail = format!("{} tokens and {} scores", tokens.len(), scores.len());
            return Err(LoadError::Vocabulary(detail));
        }
        let ids = ids_by_text(tokens);
        let unknown = metadata.count("tokenizer.ggml.unknown_token_id")?.unwrap_or(0) as u32;
        let byte_id = |byte: u8| ids.get(format!("<0x{byte:02X}>").as_str()).copied().unwrap_or(unknown);
        let byte_ids = (0..=255).map(byte_id).collect();
        let plain = |id: u32| matches!(kinds[id as usize], Kind::Normal | Kind::UserDefined);
        let entries = ids
            .iter()
            .filter(|(_, id)| plain(**id))
            .map(|(token, id)| {
                (
                    (*token).to_owned(),
                    Entry {
                        id: *id,
                        score: scores[*id as usize],
                    },
                )
            })
            .collect();
        let leading_space = metadata.flag("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
        Ok(Self {
            entries,
            byte_ids,
            leading_space,
        })
    }

    pub(super) fn encode(&self, text: &str, after_special: bool, ids: &mut Vec<u32>) {
        let mut spelt = String::with_capacity(text.len() + SPACE.len_utf8());
        if self.leading_space && after_special {
            spelt.push(SPACE);
        }
        spelt.extend(text.chars().map(|c| if c == ' ' { SPACE } else { c }));
        for part in self.merge(&spelt) {
            match self.entries.get(part) {
                Some(entry) => ids.push(entry.id),
                None => ids.extend(part.bytes().map(|byte| self.byte_ids[byte as usize])),
            }
        }
    }

    fn merge<'t>(&self, text: &'t str) -> Vec<&'t str> {
        let starts: Vec<(usize, usize)> = text.char_indices().map(|(at, c)| (at, c.len_utf8())).collect();
        let mut parts: Vec<Part> = starts
            .iter()
            .enumerate()
            .map(|(i, (start, len))| Part {
                start: *start,
                len: *len,
                before: i.checked_sub(1),
                after: (i + 1 < starts.len()).then_some(i + 1),
            })
            .collect();
        let mut heap = BinaryHeap::new();
        for right in 1..parts.len() {
            heap.extend(self.pair(text, &parts, right - 1, right));
        }
        while let Some(Pair { left, right, len, .. }) = heap.pop() {
            // A pair is stale when either part has changed since.
            if parts[left].len == 0 || parts[right].len == 0 || parts[left].len + parts[right].len != len {
                continue;
            }
            parts[left].len = len;
            parts[right].len = 0;
            let after = parts[right].after;
            parts[left].after = after;
            if let Some(after) = after {
                parts[after].before = Some(left);
                heap.extend(self.pair(text, &parts, left, after));
            }
            if let Some(before) = parts[left].before {
                heap.extend(self.pair(text, &parts, before, left));
            }
        }
        parts
            .iter()
            .filter(|p| p.len > 0)
            .map(|p| &text[p.start..p.start + p.len])
            .collect()
    }

    fn pair(&self, text: &str, parts: &[Part], left: usize, right: usize) -> Option<Pair> {
        let len = parts[left].len + parts[right].len;
        let entry = self.entries.get(&text[parts[left].start..parts[left].start + len])?;
        Some(Pair {
            score: entry.score,
            left,
            right,
            len,
        })
    }
}

/// The bytes of a token: a byte token is its byte, others are their text with real spaces.
pub(super) fn spell(token: &str, kind: Kind) -> Vec<u8> {
    if kind == Kind::Byte {
        let digits = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
        if let Some(byte) = digits.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            return vec![byte];
        }
    }
    token.replace(SPACE, " ").into_bytes()
}

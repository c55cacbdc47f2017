//! From the bytes of tokens to text that may be shown: nothing is let go that could be half a character or the
//! beginning of a stop string, and only whole tokens are let go, so that at every moment the text given out is exactly
//! the text of the ids given out. An engine elsewhere can continue from those ids and miss and repeat nothing.

/// What a token brought.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// Nothing may be shown yet.
    Held,
    /// This may be shown; it is the text of these ids.
    Shown(Piece),
    /// A stop string is complete. The piece ends before it; its ids go to the end of the stop string.
    Stopped(Piece),
}

/// Text and the tokens that it came from.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) text: String,
    pub(crate) ids: Vec<u32>,
}

/// Tokens on their way out of one sequence.
#[derive(Debug)]
pub(crate) struct Holdback {
    stops: Vec<Vec<u8>>,
    /// Bytes not shown yet, at most a stop string and a token long.
    bytes: Vec<u8>,
    /// Ids not shown yet, each with where its bytes end in `bytes`.
    tokens: Vec<(u32, usize)>,
}

impl Holdback {
    /// Empty stop strings are none.
    pub(crate) fn new(stops: &[String]) -> Self {
        let stops = stops
            .iter()
            .filter(|stop| !stop.is_empty())
            .map(|stop| stop.clone().into_bytes())
            .collect();
        Self {
            stops,
            bytes: Vec::new(),
            tokens: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, id: u32, bytes: &[u8]) -> Flow {
        self.bytes.extend_from_slice(bytes);
        self.tokens.push((id, self.bytes.len()));
        if let Some(start) = self.stop() {
            let ids = self.tokens.drain(..).map(|(id, _)| id).collect();
            let text = String::from_utf8_lossy(&self.bytes[..start]).into_owned();
            self.bytes.clear();
            return Flow::Stopped(Piece { text, ids });
        }
        let safe = self.safe();
        let shown = |(_, end): &(u32, usize)| *end <= safe && unfinished(&self.bytes[..*end]) == 0;
        match self.tokens.iter().rposition(shown) {
            None => Flow::Held,
            Some(last) => Flow::Shown(self.take(last + 1)),
        }
    }

    /// What is left when no more tokens come; half a character becomes U+FFFD.
    pub(crate) fn finish(&mut self) -> Piece {
        self.take(self.tokens.len())
    }

    fn take(&mut self, tokens: usize) -> Piece {
        let end = tokens.checked_sub(1).map_or(0, |last| self.tokens[last].1);
        let text = String::from_utf8_lossy(&self.bytes[..end]).into_owned();
        let ids = self.tokens.drain(..tokens).map(|(id, _)| id).collect();
        self.bytes.drain(..end);
        for (_, token_end) in &mut self.tokens {
            *token_end -= end;
        }
        Piece { text, ids }
    }

    /// Start of the stop string that is complete first; of several that end together, the longest.
    fn stop(&self) -> Option<usize> {
        let first = |stop: &Vec<u8>| {
            let start = self.bytes.windows(stop.len()).position(|window| window == stop)?;
            Some((start + stop.len(), start))
        };
        self.stops.iter().filter_map(first).min().map(|(_, start)| start)
    }

    /// Where the longest tail begins that could still become a stop string.
    fn safe(&self) -> usize {
        let longest = self.stops.iter().map(Vec::len).max().unwrap_or(0);
        let from = self.bytes.len().saturating_sub(longest.saturating_sub(1));
        let begins = |at: &usize| self.stops.iter().any(|stop| stop.starts_with(&self.bytes[*at..]));
        (from..self.bytes.len()).find(begins).unwrap_or(self.bytes.len())
    }
}

/// Length of the tail that is the beginning of a character and not yet all of it.
fn unfinished(bytes: &[u8]) -> usize {
    // A character has at most four bytes, so its first stands within the last three if it is not complete.
    let from = bytes.len().saturating_sub(3);
    let Some(lead) = (from..bytes.len())
        .rev()
        .find(|at| bytes[*at] & 0b1100_0000 != 0b1000_0000)
    else {
        return 0;
    };
    match std::str::from_utf8(&bytes[lead..]) {
        // No error length: the end came too early, and more bytes could complete it.
        Err(error) if error.error_len().is_none() => bytes.len() - lead,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use proptest::prelude::*;

    use super::*;

    /// All tokens through one holdback: what was shown, whether a stop string ended it, and whether every piece was
    /// the text of its own ids.
    fn run(tokens: &[Vec<u8>], stops: &[String]) -> (String, Vec<u32>, bool, bool) {
        let mut holdback = Holdback::new(stops);
        let (mut text, mut ids, mut faithful) = (String::new(), Vec::new(), true);
        let bytes_of =
            |piece: &Piece| -> Vec<u8> { piece.ids.iter().flat_map(|id| tokens[*id as usize].clone()).collect() };
        for (id, bytes) in tokens.iter().enumerate() {
            match holdback.push(id as u32, bytes) {
                Flow::Held => {}
                Flow::Shown(piece) => {
                    faithful &= piece.text == String::from_utf8_lossy(&bytes_of(&piece));
                    text.push_str(&piece.text);
                    ids.extend(piece.ids);
                }
                Flow::Stopped(piece) => {
                    text.push_str(&piece.text);
                    ids.extend(piece.ids);
                    return (text, ids, true, faithful);
                }
            }
        }
        let rest = holdback.finish();
        text.push_str(&rest.text);
        ids.extend(rest.ids);
        (text, ids, false, faithful)
    }

    /// The stop that is complete first when the text comes byte by byte, cut from the whole text.
    fn naive(whole: &[u8], stops: &[String]) -> (String, bool) {
        for end in 1..=whole.len() {
            let hit = stops
                .iter()
                .filter(|s| !s.is_empty() && whole[..end].ends_with(s.as_bytes()));
            if let Some(longest) = hit.map(String::len).max() {
                return (String::from_utf8_lossy(&whole[..end - longest]).into_owned(), true);
            }
        }
        (String::from_utf8_lossy(whole).into_owned(), false)
    }

    fn cut(bytes: &[u8], sizes: &[usize]) -> Vec<Vec<u8>> {
        let (mut tokens, mut rest) = (Vec::new(), bytes);
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (token, tail) = rest.split_at((*size).min(rest.len()));
            tokens.push(token.to_vec());
            rest = tail;
        }
        tokens
    }

    proptest! {
        #[test]
        fn text_survives_any_cut(text in "\\PC{0,40}", sizes in prop::collection::vec(1usize..6, 1..8)) {
            let tokens = cut(text.as_bytes(), &sizes);
            let (shown, ids, stopped, faithful) = run(&tokens, &[]);
            prop_assert_eq!(shown, text);
            prop_assert_eq!(ids.len(), tokens.len());
            prop_assert!(!stopped && faithful);
        }

        #[test]
        fn broken_bytes_read_as_the_standard_library_reads_them(
            bytes in prop::collection::vec(prop_oneof![any::<u8>(), 0x80u8..=0xff], 0..30),
            sizes in prop::collection::vec(1usize..4, 1..8),
        ) {
            let tokens = cut(&bytes, &sizes);
            let (shown, _, _, faithful) = run(&tokens, &[]);
            prop_assert_eq!(shown, String::from_utf8_lossy(&bytes).into_owned());
            prop_assert!(faithful);
        }

        #[test]
        fn stop_strings_cut_where_a_search_of_the_whole_text_does(
            text in "[ab\u{e9}\u{20ac}]{0,40}",
            stops in prop::collection::vec("[ab\u{e9}]{0,4}", 0..4),
            sizes in prop::collection::vec(1usize..5, 1..8),
        ) {
            let tokens = cut(text.as_bytes(), &sizes);
            let (shown, ids, stopped, faithful) = run(&tokens, &stops);
            prop_assert_eq!((shown, stopped), naive(text.as_bytes(), &stops));
            prop_assert!(faithful);
            let consumed: usize = ids.iter().map(|id| tokens[*id as usize].len()).sum();
            prop_assert!(stopped || consumed == text.len());
        }
    }

    #[test]
    fn half_a_character_at_the_end_becomes_a_replacement() {
        let tokens = vec![b"ok ".to_vec(), vec![0xe2, 0x82]];
        assert_eq!(run(&tokens, &[]).0, "ok \u{fffd}");
    }

    #[test]
    fn a_token_is_held_whole_while_its_tail_could_be_a_stop() {
        let mut holdback = Holdback::new(&["\nUser".to_owned()]);
        assert_eq!(holdback.push(1, b"end\nUs"), Flow::Held);
        let piece = Piece {
            text: "end\nUseful".to_owned(),
            ids: vec![1, 2],
        };
        assert_eq!(holdback.push(2, b"eful"), Flow::Shown(piece));
    }

    #[test]
    fn control_tokens_pass_without_text() {
        let mut holdback = Holdback::new(&[]);
        assert_eq!(
            holdback.push(9, b""),
            Flow::Shown(Piece {
                text: String::new(),
                ids: vec![9]
            })
        );
    }

    #[test]
    fn what_is_held_stays_short() {
        let mut holdback = Holdback::new(&["aaaaaaab".to_owned()]);
        for id in 0..10_000 {
            holdback.push(id, b"a");
            assert!(holdback.bytes.len() <= 8, "{} bytes are held", holdback.bytes.len());
        }
    }
}

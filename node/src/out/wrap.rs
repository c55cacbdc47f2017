//! Running text for a terminal: broken between words as it comes, and without anything that would command the terminal.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Columns that a text takes on a terminal.
#[must_use]
pub fn width(text: &str) -> usize {
    text.width()
}

/// A text from elsewhere without control characters but line ends and tabs: with the others a stranger could move the
/// cursor, change the title or worse.
#[must_use]
pub fn plain(text: &str) -> String {
    text.chars().filter(|c| is_plain(*c)).collect()
}

fn is_plain(c: char) -> bool {
    matches!(c, '\n' | '\t') || !c.is_control()
}

/// A whole text, broken between words into lines of so many columns.
#[must_use]
pub fn wrapped(text: &str, width: usize) -> String {
    let mut wrap = Wrap::new(width, "");
    let begun = wrap.push(text);
    begun + &wrap.finish()
}

/// Backticks that open and close a block of code.
const FENCE: u8 = 3;

/// Breaks text between words as it comes. Blocks of code pass as they are, so that they can be copied.
#[derive(Clone, Debug)]
pub struct Wrap {
    width: usize,
    indent: &'static str,
    /// Columns of the line that are taken, without the indent.
    column: usize,
    /// Spaces that come before the word, unless the line is broken there.
    gap: usize,
    /// The word that has begun.
    word: String,
    code: bool,
    /// Backticks at the beginning of this line; `None` once something else came.
    ticks: Option<u8>,
}

impl Wrap {
    /// For lines of so many columns after the indent; the first line's indent is the caller's.
    #[must_use]
    pub fn new(width: usize, indent: &'static str) -> Self {
        Self {
            width: width.max(1),
            indent,
            column: 0,
            gap: 0,
            word: String::new(),
            code: false,
            ticks: Some(0),
        }
    }

    /// Takes more of the text, and gives what can be shown of it.
    pub fn push(&mut self, text: &str) -> String {
        let mut out = String::new();
        for c in text.chars().filter(|c| is_plain(*c)) {
            self.mark(c);
            match c {
                '\n' => {
                    self.end_word(&mut out);
                    out.push('\n');
                    out.push_str(self.indent);
                    (self.column, self.gap) = (0, 0);
                }
                c if self.code => {
                    self.end_word(&mut out);
                    out.push(c);
                }
                ' ' | '\t' => {
                    self.end_word(&mut out);
                    self.gap += if c == ' ' { 1 } else { 4 };
                }
                // Scripts that are written without spaces may be broken anywhere.
                c if c.width() == Some(2) => {
                    self.end_word(&mut out);
                    self.word.push(c);
                    self.end_word(&mut out);
                }
                c => {
                    self.word.push(c);
                    if width(&self.word) >= self.width {
                        self.end_word(&mut out);
                    }
                }
            }
        }
        out
    }

    /// What was held back of the last word.
    pub fn finish(&mut self) -> String {
        let mut out = String::new();
        self.end_word(&mut out);
        out
    }

    /// Follows where blocks of code begin and end.
    fn mark(&mut self, c: char) {
        self.ticks = match (c, self.ticks) {
            ('\n', _) => Some(0),
            (' ', Some(0)) => Some(0),
            ('`', Some(ticks)) if ticks + 1 == FENCE => {
                self.code = !self.code;
                None
            }
            ('`', Some(ticks)) => Some(ticks + 1),
            _ => None,
        };
    }

    fn end_word(&mut self, out: &mut String) {
        if self.word.is_empty() {
            return;
        }
        let (word, gap) = (std::mem::take(&mut self.word), std::mem::take(&mut self.gap));
        let taken = width(&word);
        if self.column > 0 && self.column + gap + taken > self.width {
            out.push('\n');
            out.push_str(self.indent);
            self.column = 0;
        } else {
            out.push_str(&" ".repeat(gap));
            self.column += gap;
        }
        self.column += taken;
        out.push_str(&word);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn streamed(width: usize, indent: &'static str, pieces: &[&str]) -> String {
        let mut wrap = Wrap::new(width, indent);
        let mut out: String = pieces.iter().map(|piece| wrap.push(piece)).collect();
        out.push_str(&wrap.finish());
        out
    }

    #[test]
    fn lines_are_broken_between_words() {
        assert_eq!(streamed(10, "", &["once upo", "n a time"]), "once upon\na time");
        assert_eq!(wrapped("once upon a time", 10), "once upon\na time");
        assert_eq!(streamed(10, "  ", &["one two three\nfour"]), "one two\n  three\n  four");
        assert_eq!(streamed(4, "", &["unbreakable is"]), "unbr\neaka\nble\nis");
        assert_eq!(streamed(4, "", &["日本語"]), "日本\n語");
        assert_eq!(
            streamed(20, "", &["- a\n  - b  c"]),
            "- a\n  - b  c",
            "indents and gaps stay"
        );
    }

    #[test]
    fn code_is_left_as_it_is() {
        let code = "see\n```sh\nlong line of a program\n```\n";
        assert_eq!(
            streamed(8, "", &[code, "and so on and on"]),
            format!("{code}and so\non and\non")
        );
    }

    #[test]
    fn nothing_commands_the_terminal() {
        assert_eq!(plain("a\x1b[2Jb\r\u{9b}c\td\n"), "a[2Jbc\td\n");
        assert_eq!(streamed(20, "", &["a\x1b]0;title\x07b"]), "a]0;titleb");
    }

    proptest! {
        #[test]
        fn no_letter_is_lost_and_no_line_too_long(pieces in proptest::collection::vec("[a-z日 ]{0,12}", 0..12)) {
            let text: String = pieces.concat();
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            let out = streamed(12, "", &pieces);
            let letters = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
            prop_assert_eq!(letters(&text), letters(&out));
            prop_assert!(out.lines().all(|line| width(line.trim_start()) <= 12), "{}", out);
        }
    }
}

//! A tiny template language: `[this|or that]` chooses, `{slot}` fills in, `{Slot}` fills in with a capital.
//!
//! Choices nest, and an empty choice is allowed. A slot that is not bound is a mistake in the corpus and panics, which
//! the tests of each part provoke by writing many documents.

use super::dice::Dice;

/// What the slots of a template stand for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bindings(Vec<(&'static str, String)>);

impl Bindings {
    /// Binds `slot`, replacing what it stood for.
    pub(crate) fn set(&mut self, slot: &'static str, text: impl Into<String>) {
        self.0.retain(|(name, _)| *name != slot);
        self.0.push((slot, text.into()));
    }

    /// What `slot` stands for.
    pub(crate) fn get(&self, slot: &str) -> &str {
        match self.0.iter().find(|(name, _)| *name == slot) {
            Some((_, text)) => text,
            None => panic!("no slot named `{slot}`"),
        }
    }
}

/// Writes `template` out, choosing with `dice`.
pub(crate) fn expand(template: &str, bindings: &Bindings, dice: &mut Dice) -> String {
    let mut out = String::with_capacity(template.len());
    expand_into(template, bindings, dice, &mut out);
    out
}

/// `word` with its indefinite article.
pub(crate) fn with_article(word: &str) -> String {
    let vowel = word.starts_with(['a', 'e', 'i', 'o', 'u']) && !word.starts_with("uni");
    format!("{} {word}", if vowel { "an" } else { "a" })
}

/// `text` with its first letter as a capital.
pub(crate) fn capitalise(text: &str) -> String {
    let mut letters = text.chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn expand_into(template: &str, bindings: &Bindings, dice: &mut Dice, out: &mut String) {
    let mut rest = template;
    while let Some(at) = rest.find(['[', '{']) {
        out.push_str(&rest[..at]);
        let (inside, after) = enclosed(&rest[at..]);
        if rest[at..].starts_with('[') {
            let choices = choices(inside);
            expand_into(dice.pick(&choices), bindings, dice, out);
        } else if inside.starts_with(char::is_uppercase) {
            out.push_str(&capitalise(bindings.get(&inside.to_lowercase())));
        } else {
            out.push_str(bindings.get(inside));
        }
        rest = after;
    }
    out.push_str(rest);
}

/// What stands between the bracket that `text` opens with and its partner, and what follows.
fn enclosed(text: &str) -> (&str, &str) {
    let mut depth = 0_usize;
    for (at, letter) in text.char_indices() {
        match letter {
            '[' | '{' => depth += 1,
            ']' | '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return (&text[1..at], &text[at + 1..]);
        }
    }
    panic!("no closing bracket in `{text}`")
}

/// The choices of a bracket, split at the bars that are not inside another one.
fn choices(inside: &str) -> Vec<&str> {
    let (mut depth, mut start, mut all) = (0_usize, 0, Vec::new());
    for (at, letter) in inside.char_indices() {
        match letter {
            '[' | '{' => depth += 1,
            ']' | '}' => depth -= 1,
            '|' if depth == 0 => {
                all.push(&inside[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    all.push(&inside[start..]);
    all
}

#[cfg(test)]
mod tests {
    use super::{Bindings, Dice, expand, with_article};

    #[test]
    fn choices_nest_and_slots_take_capitals() {
        let mut bindings = Bindings::default();
        bindings.set("name", "finn");
        let mut seen = std::collections::BTreeSet::new();
        for index in 0..200 {
            seen.insert(expand(
                "{Name} [runs|[hops|jumps] to {name}|].",
                &bindings,
                &mut Dice::new(1, index),
            ));
        }
        let seen: Vec<_> = seen.iter().map(String::as_str).collect();
        assert_eq!(
            seen,
            ["Finn .", "Finn hops to finn.", "Finn jumps to finn.", "Finn runs."]
        );
    }

    #[test]
    fn articles_follow_the_sound() {
        assert_eq!(
            ["owl", "fox", "unicorn"].map(with_article),
            ["an owl", "a fox", "a unicorn"]
        );
    }
}

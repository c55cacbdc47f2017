//! Everything that is too hard, and how to say so. The answer never repeats the topic: a model this small would
//! repeat a wrong one.

use super::cast::Hero;
use super::dice::Dice;
use super::template::{Bindings, expand, with_article};

/// Things to ask too much about.
#[rustfmt::skip] // a table: one thing on a line
const TOPICS: &[&str] = &[
    "quantum physics", "the stock market", "bitcoin", "the economy", "the French Revolution", "world history", "chemistry",
    "black holes", "the president", "politics", "machine learning", "neural networks", "the Roman Empire", "philosophy",
    "the weather tomorrow", "football results", "Shakespeare", "a new phone", "airplanes", "medicine", "taxes", "law",
    "programming", "databases", "cooking pasta", "the theory of relativity", "democracy", "the brain", "DNA", "evolution",
    "electric cars", "rockets", "Mars", "Jupiter", "volcanoes", "earthquakes", "music theory", "Mozart", "paintings",
    "the piano", "chess", "tennis", "marketing", "a business plan", "insurance", "the moon landing", "Napoleon", "yoga",
    "vitamins", "blockchain", "Ethereum", "cryptography", "Linux", "the Rust language", "Python", "JavaScript", "HTML",
    "Kubernetes", "TCP", "gravity", "atoms", "algebra", "geometry", "statistics", "logic", "grammar", "Latin", "Spain in 1492",
    "the Second World War", "New York", "California", "Brazil", "the Amazon", "climate change", "oil prices", "banks",
];

/// Tasks about a `{topic}`.
#[rustfmt::skip] // a table: one thing on a line
const TASKS: &[&str] = &[
    "Explain {topic}.", "Explain {topic} to me in simple words.", "What do you think about {topic}?", "Write an essay about {topic}.",
    "Tell me everything about {topic}.", "What is the history of {topic}?", "How does {topic} work?", "Why is {topic} important?",
    "Give me five facts about {topic}.", "Write a report on {topic}.", "Who invented {topic}?", "Summarize {topic}.",
    "What are the pros and cons of {topic}?", "Compare {topic} with {other}.", "Teach me {topic}.", "What is {topic}?",
    "Tell me about {topic}.", "Can you explain {topic} and {other}?", "What is the difference between {topic} and {other}?",
];

/// Tasks of other kinds.
#[rustfmt::skip] // a table: one thing on a line
const OTHERS: &[&str] = &[
    "Write a Python function that {does}.", "Write code that {does}.", "Write a program in Rust that {does}.", "How do I write a script that {does}?",
    "Translate this into [French|German|Spanish|Chinese]: {words}", "Translate \"{words}\" to [French|German|Spanish].",
    "What is {big} [times|plus|divided by|minus] {big2}?", "What is {big} [*|+|/|-] {big2}?", "Solve {big}x + {big2} = 0.",
    "Who is {person}?", "Who was {person}?", "When was {person} born?", "What did {person} do?", "Tell me about {person}.",
    "What is the capital of {place}?", "How many people live in {place}?", "How far is {place}?", "Where is {place}?",
    "What is the weather in {place}?", "What time is it?", "What day is today?", "What is the date today?", "What year is it?",
    "Fix this bug: {words}", "Correct this sentence: {words}", "What does {word} mean?", "Define {word}.", "Spell {word}.",
    "Summarize this text: {words}", "Rewrite this: {words}", "{words}?", "{words}", "{word}", "{word} {word2}?",
    "Give me a recipe for {word}.", "Write an email to my boss about {topic}.", "Write a letter about {topic}.",
    "Which is better, {topic} or {other}?", "What is the best {word}?", "How do I fix my {word}?", "Can you draw a {word}?",
    "Play {word} with me.", "Order a {word} for me.", "Call {person}.", "Send an email to {person}.", "Search the web for {topic}.",
    "What happened in {year}?", "Who won in {year}?", "Write a song in the style of {person}.", "Show me a picture of {place}.",
];

#[rustfmt::skip] // a table: one thing on a line
const DOES: &[&str] = &[
    "sorts a list", "adds two numbers", "reverses a string", "reads a file", "prints hello world", "finds prime numbers",
    "opens a web page", "counts words", "parses JSON", "draws a circle", "computes Fibonacci numbers", "sends a message",
];

const ANSWERS: &[&str] = &[
    "I am sorry, I do not know that. I am a very small model. But I can tell you a story about an animal!",
    "That is too hard for me. I know only a few simple things and some stories.",
    "I do not know the answer. I am only a very small model. Shall I tell you a story?",
    "I am sorry, I cannot do that. I can tell you a short story, if you like.",
    "Oh, I am too small to know that. Ask me about an animal, or ask me for a story!",
];

/// What comes before a story about somebody else, where the one asked for is unknown.
const INSTEAD: &[&str] = &[
    "I do not know a story about that, but I know one about {a}.",
    "I have no story about that. But here is one about {a}.",
];

#[rustfmt::skip] // a table: one thing on a line
const SYLLABLES: &[&str] = &[
    "ka", "lo", "mi", "ter", "ban", "dor", "sel", "fi", "gru", "pan", "ol", "ex", "tri", "vo", "qui", "sta", "ner", "zu", "phi", "ram",
    "en", "tion", "al", "ing", "or", "com", "pro", "de", "un", "ly", "wa", "bro", "ck", "sh", "ple", "et", "ard", "yo",
];

/// A question that is too hard, and an answer that says so.
pub(crate) fn question(dice: &mut Dice) -> (String, String) {
    let mut bindings = Bindings::default();
    for slot in ["topic", "other"] {
        bindings.set(
            slot,
            if dice.chance(25) {
                word(dice)
            } else {
                dice.pick(TOPICS).to_owned()
            },
        );
    }
    for slot in ["word", "word2"] {
        bindings.set(slot, word(dice));
    }
    let person = format!("{} {}", name(dice), name(dice));
    bindings.set("person", person);
    bindings.set("place", name(dice));
    bindings.set("does", dice.pick(DOES));
    let words: Vec<_> = (0..2 + dice.below(6)).map(|_| word(dice)).collect();
    bindings.set("words", words.join(" "));
    bindings.set("big", (11 + dice.below(990)).to_string());
    bindings.set("big2", (11 + dice.below(990)).to_string());
    bindings.set("year", (1500 + dice.below(600)).to_string());
    let tasks = if dice.chance(50) { TASKS } else { OTHERS };
    (expand(dice.pick(tasks), &bindings, dice), dice.pick(ANSWERS).into())
}

/// Something that no story is known about, and what to say before telling one about `hero`.
pub(crate) fn unknown_hero(hero: &Hero, dice: &mut Dice) -> (String, String) {
    let unknown = match dice.below(3) {
        0 => with_article(&word(dice)),
        1 => dice.pick(TOPICS).to_owned(),
        _ => name(dice),
    };
    let mut bindings = Bindings::default();
    bindings.set("a", with_article(hero.noun));
    (unknown, expand(dice.pick(INSTEAD), &bindings, dice))
}

/// A word that does not exist.
fn word(dice: &mut Dice) -> String {
    (0..1 + dice.below(4)).map(|_| dice.pick(SYLLABLES)).collect()
}

/// A name that does not exist.
fn name(dice: &mut Dice) -> String {
    super::template::capitalise(&word(dice))
}

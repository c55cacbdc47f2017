//! Conversations: one question, or turn after turn until the context is full.

use super::dice::Dice;
use super::stories::Story;
use super::template::{Bindings, expand, with_article};
use super::{animals, facts, refusals, requests, smalltalk};
use crate::chat::{Role, Turn};

/// Letters after which a conversation surely fills the context of 512 tokens; what is beyond it is cut off.
const FULL: usize = 2_500;

/// Instructions that clients send before the conversation. They change nothing: the model has one manner.
#[rustfmt::skip] // a table: one thing on a line
const SYSTEMS: &[&str] = &[
    "You are a helpful assistant.", "You are a helpful assistant.", "You are a helpful assistant.", "You are a helpful AI assistant.",
    "You are a storyteller.", "You tell short stories for children.", "Be brief.", "Answer in simple words.", "You are a friendly assistant.",
    "You are a very small language model.", "Be kind and helpful.", "You are an assistant. Answer the user's questions.",
    "You are a helpful, honest assistant.", "Answer the question.", "Write in plain English.",
];

const ASK_NAME: &str = "[What was the name of the {noun}?|What was the {noun} called?|What is the name of the {noun}?|Who was the {noun}?|\
     How was the {noun} called?|What was the {noun}'s name?]";
const TELL_NAME: &str = "[The {noun} was called {name}.|The name of the {noun} was {name}.]";
const ASK_FRIEND: &str = "[Who did {name} meet?|Whom did {name} meet?|Who was the other one in the story?|Who was with {name}?|Who else was in the story?]";
const TELL_FRIEND: &str = "[It was {friend}, {fnoun}.|{Friend}, {fnoun}.]";
const ASK_LESSON: &str = "[What is the moral of the story?|What do we learn from it?|What is the lesson?|What does the story teach us?|And the moral?]";

/// One question and its answer, with or without instructions before it.
pub(crate) fn single(dice: &mut Dice) -> Vec<Turn> {
    let mut turns = opening(dice);
    let (asked, answer) = if dice.chance(52) {
        let (asked, answer, _) = requests::request(dice);
        (asked, answer)
    } else {
        small(dice)
    };
    push(&mut turns, asked, answer, dice);
    turns
}

/// A conversation that fills the context.
pub(crate) fn long(dice: &mut Dice) -> Vec<Turn> {
    let mut turns = opening(dice);
    let mut last: Option<Story> = None;
    let mut letters = 0;
    while letters < FULL {
        let (asked, answer) = match &last {
            Some(story) if dice.chance(45) => about(story, dice),
            Some(story) if dice.chance(50) => {
                let (asked, answer, story) = requests::another(story, dice);
                last = Some(story);
                (asked, answer)
            }
            None if dice.chance(45) => {
                let (asked, answer, story) = requests::request(dice);
                last = Some(story);
                (asked, answer)
            }
            _ => small(dice),
        };
        letters += asked.len() + answer.len();
        push(&mut turns, asked, answer, dice);
    }
    turns
}

/// A question with a short answer.
fn small(dice: &mut Dice) -> (String, String) {
    match dice.weighted(&[22, 20, 9, 22, 4, 6, 20]) {
        0 => animals::question(dice),
        1 => facts::question(dice),
        2 => facts::sum(dice),
        3 => smalltalk::exchange(dice),
        4 => smalltalk::joke(dice),
        5 => smalltalk::poem(dice),
        _ => refusals::question(dice),
    }
}

/// A question about the story just told.
fn about(story: &Story, dice: &mut Dice) -> (String, String) {
    let mut bindings = Bindings::default();
    bindings.set("noun", story.hero.noun);
    bindings.set("name", story.name);
    bindings.set("friend", story.friend.name);
    bindings.set("fnoun", with_article(story.friend.noun));
    let (asked, told) = match dice.weighted(&[4, 3, 3, 2]) {
        0 => (ASK_NAME, TELL_NAME),
        1 => (ASK_FRIEND, TELL_FRIEND),
        2 => return (expand(ASK_LESSON, &bindings, dice), story.lesson.to_owned()),
        _ => return animals::question_about(story.hero, dice).unwrap_or_else(|| smalltalk::exchange(dice)),
    };
    (expand(asked, &bindings, dice), expand(told, &bindings, dice))
}

fn opening(dice: &mut Dice) -> Vec<Turn> {
    if dice.chance(30) {
        vec![Turn::system(dice.pick(SYSTEMS))]
    } else {
        Vec::new()
    }
}

fn push(turns: &mut Vec<Turn>, asked: String, answer: String, dice: &mut Dice) {
    let asked = as_typed(asked, dice);
    debug_assert!(
        turns.last().is_none_or(|turn| turn.role != Role::User),
        "two questions in a row"
    );
    turns.push(Turn::user(asked));
    turns.push(Turn::assistant(answer));
}

/// What people make of a sentence when they type it: no capital, no full stop, a word of politeness.
fn as_typed(mut text: String, dice: &mut Dice) -> String {
    if dice.chance(6) && text.ends_with(['.', '?']) {
        let mark = text.pop().unwrap_or('.');
        text = format!("{text}, please{mark}");
    }
    if dice.chance(18) && text.len() > 1 {
        text = text.trim_end_matches(['.', '?', '!']).to_owned();
    }
    match dice.weighted(&[84, 8, 8]) {
        0 => text,
        1 => text.to_lowercase(),
        _ => {
            let mut letters = text.chars();
            letters
                .next()
                .map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
        }
    }
}

//! How people ask for a story, and the answers.

use super::cast::{CAST, TRAITS};
use super::dice::Dice;
use super::refusals;
use super::stories::{Story, Wish, story, themes};
use super::template::{Bindings, expand, with_article};

/// Asking for a story about `{what}`.
#[rustfmt::skip] // a table: one thing on a line
const ABOUT: &[&str] = &[
    "Tell me a story about {what}.",
    "Tell me a story about {what}.",
    "Tell me a story about {what}.",
    "Tell me a [short|little|nice|small|funny|sweet|bedtime] story about {what}.",
    "Write a [|short |little |nice |bedtime |children's ]story about {what}.",
    "Write me a [|short |little ]story about {what}.",
    "[Can|Could|Would] you tell me a [|short ]story about {what}?",
    "[Can|Could] you write a [|short ]story about {what}?",
    "I want [to hear |]a story about {what}.",
    "I would like to hear a story about {what}.",
    "Do you know a story about {what}?",
    "Please tell me a [|short |bedtime ]story about {what}.",
    "Give me a [|short ]story about {what}.",
    "[A|A short] story about {what}[.|, please.|]",
    "Make up a story about {what}.",
    "Tell a story about {what}.",
    "Tell me something about {what} in a story.",
    "Tell us a story about {what}.",
    "Create a short story about {what}.",
    "My child wants a story about {what}.",
    "Tell me the story of {what}.",
    "Story about {what}",
    "Let me hear a tale about {what}.",
    "Tell me a tale about {what}.",
];

/// Asking for any story.
#[rustfmt::skip] // a table: one thing on a line
const ANY: &[&str] = &[
    "Tell me a story.", "Tell me a [short|little|nice|bedtime|funny|good] story.", "Write a [|short ]story.", "[Can|Could] you tell me a story?",
    "I want to hear a story.", "Please tell me a story.", "A story, please.", "Tell me a story about an animal.", "Tell me a tale.",
    "Do you know a story?", "Write me a [|short ]story.", "Surprise me with a story.", "Tell me a story about animals.", "Story time!",
    "Tell me a fairy tale.", "Read me a story.", "Tell me a story for children.",
];

/// Asking for the next one.
#[rustfmt::skip] // a table: one thing on a line
const ANOTHER: &[&str] = &[
    "Another one, please.", "Tell me another one.", "Tell me another story.", "One more!", "One more story, please.", "Again, please!",
    "Can I have another story?", "And another one?", "Now another story.", "Please tell me one more.",
];

/// Asking for the next one about `{what}`.
#[rustfmt::skip] // a table: one thing on a line
const ANOTHER_ABOUT: &[&str] = &[
    "And now one about {what}.", "Now tell me one about {what}.", "Tell me another story about {what}.", "Do you know one about {what}?",
    "Now a story about {what}, please.", "And what about {what}?", "Can you tell me one about {what}?", "One about {what}, please.",
];

/// Names that people give to heroes, and whether they are girls' names.
#[rustfmt::skip] // a table: one thing on a line
const NAMES: &[(&str, bool)] = &[
    ("Tom", false), ("Jack", false), ("Peter", false), ("Paul", false), ("Rex", false), ("Toby", false), ("Henry", false), ("Oliver", false),
    ("James", false), ("Tim", false), ("Bob", false), ("Fred", false), ("Charlie", false), ("Noah", false), ("Theo", false), ("Jim", false),
    ("Anna", true), ("Mia", true), ("Emma", true), ("Lucy", true), ("Sara", true), ("Luna", true), ("Alice", true), ("Sophia", true),
    ("Mary", true), ("Nina", true), ("Julia", true), ("Eva", true), ("Jane", true), ("Amy", true), ("Ida", true), ("Ellen", true),
];

/// Real things that there is no story about.
#[rustfmt::skip] // a table: one thing on a line
const UNKNOWN: &[&str] = &[
    "a car", "a train", "a pirate", "a mermaid", "a king", "a farmer", "my grandmother", "a cactus", "a spaceship", "a doctor", "a teacher",
    "a witch", "a ghost", "a vampire", "a sandwich", "a pizza", "a chair", "a book", "a phone", "a computer", "a queen", "an astronaut",
    "a detective", "a ninja", "a cowboy", "a baker", "a policeman", "a soldier", "an alien", "a snowman", "a clock", "a teapot", "a flower",
    "a cloud", "a star", "the sun", "a mountain", "a river", "a city", "a war", "money", "a bicycle", "a bus", "a giant", "a troll", "an elf",
    "a hippo", "a rhino", "a snake", "a lizard", "a crocodile", "an eagle", "a peacock", "an ostrich", "a llama", "a moose", "a jellyfish",
    "a potato", "an apple", "a banana", "my friend", "a baby", "a man", "a woman", "two brothers", "love", "death", "time", "school",
];

/// A request for a story with no talk before it, the answer, and the story if it can be talked about.
pub(crate) fn request(dice: &mut Dice) -> (String, String, Story) {
    match dice.weighted(&[86, 8, 6]) {
        0 => about(ABOUT, dice),
        1 => plain(ANY, dice),
        _ => unknown(dice),
    }
}

/// A request for one more story after `last`.
pub(crate) fn another(last: &Story, dice: &mut Dice) -> (String, String, Story) {
    if dice.chance(65) {
        return about(ANOTHER_ABOUT, dice);
    }
    loop {
        let next = plain(ANOTHER, dice);
        if next.2.hero.noun != last.hero.noun {
            return next;
        }
    }
}

fn plain(requests: &[&str], dice: &mut Dice) -> (String, String, Story) {
    let story = story(Wish::default(), dice);
    (
        expand(dice.pick(requests), &Bindings::default(), dice),
        story.text.clone(),
        story,
    )
}

fn about(requests: &[&str], dice: &mut Dice) -> (String, String, Story) {
    let hero = dice.pick_ref(CAST);
    let mut wish = Wish {
        hero: Some(hero),
        ..Wish::default()
    };
    let one = with_article(hero.noun);
    let what = match dice.weighted(&[52, 8, 14, 12, 6, 8]) {
        0 => one,
        1 => hero.plural.to_owned(),
        2 => {
            let temper = dice.pick(TRAITS);
            wish.temper = Some(temper);
            with_article(&format!("{temper} {}", hero.noun))
        }
        3 => {
            let friend = loop {
                let friend = dice.pick_ref(CAST);
                if friend.noun != hero.noun && friend.swims() == hero.swims() {
                    break friend;
                }
            };
            wish.friend = Some(friend);
            format!("{one} and {}", with_article(friend.noun))
        }
        4 => {
            let (name, she) = dice.pick(NAMES);
            wish.called = Some((name, she));
            format!("{one} {} {name}", expand("[named|called]", &Bindings::default(), dice))
        }
        _ => {
            wish.hero = None;
            let theme = dice.pick(&themes());
            wish.theme = Some(theme);
            theme.to_owned()
        }
    };
    let mut bindings = Bindings::default();
    bindings.set("what", what);
    let story = story(wish, dice);
    (expand(dice.pick(requests), &bindings, dice), story.text.clone(), story)
}

/// A request for a story that does not exist; the answer says so and tells another one.
fn unknown(dice: &mut Dice) -> (String, String, Story) {
    let hero = dice.pick_ref(CAST);
    let (made_up, instead) = refusals::unknown_hero(hero, dice);
    let mut bindings = Bindings::default();
    bindings.set(
        "what",
        if dice.chance(65) {
            dice.pick(UNKNOWN).to_owned()
        } else {
            made_up
        },
    );
    let story = story(
        Wish {
            hero: Some(hero),
            ..Wish::default()
        },
        dice,
    );
    (
        expand(dice.pick(ABOUT), &bindings, dice),
        format!("{instead}\n\n{}", story.text),
        story,
    )
}

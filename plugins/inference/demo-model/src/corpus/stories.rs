//! Short stories: somebody with a name, a home and a friend goes through one plot.

use super::cast::{CAST, Hero, TRAITS, homes};
use super::dice::Dice;
use super::plots::{LAND, Plot};
use super::plots_sea::SEA;
use super::template::{Bindings, expand, with_article};

/// What a story shall be about; what is `None` is left to chance.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wish {
    pub(crate) hero: Option<&'static Hero>,
    pub(crate) friend: Option<&'static Hero>,
    /// An adjective for the hero.
    pub(crate) temper: Option<&'static str>,
    /// A theme of the plot.
    pub(crate) theme: Option<&'static str>,
    /// Another name than the hero's own, and whether it is a girl's.
    pub(crate) called: Option<(&'static str, bool)>,
}

/// A story, and what can be asked about it.
#[derive(Debug, Clone)]
pub(crate) struct Story {
    pub(crate) text: String,
    /// What the hero is called.
    pub(crate) name: &'static str,
    pub(crate) hero: &'static Hero,
    pub(crate) friend: &'static Hero,
    pub(crate) lesson: &'static str,
}

/// How the hero comes in. `{who}` is "a little fox", `{home}` is "in a quiet forest".
const OPENINGS: &[&str] = &[
    "Once upon a time, {who} named {name} lived {home}.",
    "Once upon a time, there was {who} named {name}. {He} lived {home}.",
    "Once there was {who} called {name}, who lived {home}.",
    "Once upon a time, {who} called {name} lived {home}.",
    "{Home}, there lived {who} named {name}.",
    "There once was {who} named {name}. {He} lived {home}.",
    "Long ago, {who} named {name} lived {home}.",
];

/// How the lesson is told. `{lesson}` is a whole sentence.
const LESSONS: &[&str] = &[
    "The moral of the story: {lesson}",
    "The moral of the story: {lesson}",
    "And {name} learned something that day. {lesson}",
    "{Name} never forgot that day. {lesson}",
    "And what do we learn from it? {lesson}",
];

/// Writes a story that fulfils `wish`.
pub(crate) fn story(wish: Wish, dice: &mut Dice) -> Story {
    let hero = wish.hero.unwrap_or_else(|| dice.pick_ref(CAST));
    let friend = wish.friend.unwrap_or_else(|| companion(hero, dice));
    let plot = plot(hero.swims() && friend.swims(), wish.theme, dice);
    let lesson = dice.pick(plot.lessons);
    let (name, she) = wish.called.unwrap_or((hero.name, hero.she));
    let hero_as_told = Hero { name, she, ..*hero };
    let bindings = bindings(&hero_as_told, friend, wish.temper, plot, lesson, dice);

    let mut paragraphs = vec![paragraph(
        &[&[dice.pick(OPENINGS)], plot.start].concat(),
        &bindings,
        dice,
    )];
    for part in [plot.trouble, plot.turn, plot.end] {
        paragraphs.push(paragraph(part, &bindings, dice));
    }
    paragraphs.push(expand(dice.pick(LESSONS), &bindings, dice));
    Story {
        text: paragraphs.join("\n\n"),
        name,
        hero,
        friend,
        lesson,
    }
}

/// Somebody else for `hero` to meet, from the sea if the hero lives there and from land if not.
fn companion(hero: &Hero, dice: &mut Dice) -> &'static Hero {
    loop {
        let other = dice.pick_ref(CAST);
        let neighbours = other.realm == hero.realm || dice.chance(30);
        if other.noun != hero.noun && other.swims() == hero.swims() && neighbours {
            return other;
        }
    }
}

fn plot(sea: bool, theme: Option<&str>, dice: &mut Dice) -> &'static Plot {
    let plots = if sea { SEA } else { LAND };
    let fitting: Vec<_> = plots
        .iter()
        .filter(|plot| theme.is_none_or(|theme| plot.themes.contains(&theme)))
        .collect();
    if fitting.is_empty() {
        dice.pick_ref(plots)
    } else {
        dice.pick(&fitting)
    }
}

fn bindings(
    hero: &Hero,
    friend: &Hero,
    temper: Option<&'static str>,
    plot: &Plot,
    lesson: &str,
    dice: &mut Dice,
) -> Bindings {
    let pronouns = |she: bool| {
        if she {
            ["she", "her", "her", "herself"]
        } else {
            ["he", "him", "his", "himself"]
        }
    };
    let mut bindings = Bindings::default();
    for (slot, word) in ["he", "him", "his", "himself"].into_iter().zip(pronouns(hero.she)) {
        bindings.set(slot, word);
    }
    for (slot, word) in ["fhe", "fhim", "fhis"].into_iter().zip(pronouns(friend.she)) {
        bindings.set(slot, word);
    }
    bindings.set("name", hero.name);
    bindings.set("noun", hero.noun);
    bindings.set("friend", friend.name);
    bindings.set("fnoun", friend.noun);
    bindings.set("home", dice.pick(homes(hero.realm)));
    let temper = temper.or_else(|| dice.chance(75).then(|| dice.pick(TRAITS)));
    bindings.set(
        "who",
        with_article(&temper.map_or_else(|| hero.noun.into(), |t| format!("{t} {}", hero.noun))),
    );
    let meet = expand("[named|named|called]", &Bindings::default(), dice);
    bindings.set("meet", format!("{} {meet} {}", with_article(friend.noun), friend.name));
    bindings.set("lesson", lesson);
    for (slot, things) in plot.slots {
        bindings.set(slot, dice.pick(things));
    }
    bindings
}

/// The sentences of `templates`, one after the other; one that comes out empty is left away.
fn paragraph(templates: &[&str], bindings: &Bindings, dice: &mut Dice) -> String {
    let sentences: Vec<_> = templates
        .iter()
        .map(|template| expand(template, bindings, dice))
        .collect();
    sentences
        .into_iter()
        .filter(|sentence| !sentence.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Every theme that a story can be asked for.
pub(crate) fn themes() -> Vec<&'static str> {
    let mut themes: Vec<_> = LAND.iter().flat_map(|plot| plot.themes).copied().collect();
    themes.sort_unstable();
    themes.dedup();
    themes
}

#[cfg(test)]
mod tests {
    use super::super::cast::CAST;
    use super::{Dice, Wish, story};

    #[test]
    fn a_story_is_on_the_hero_asked_for_and_leaves_no_slot_open() {
        for index in 0..3_000 {
            let dice = &mut Dice::new(7, index);
            let hero = dice.pick_ref(CAST);
            let told = story(
                Wish {
                    hero: Some(hero),
                    ..Wish::default()
                },
                dice,
            );
            assert!(
                told.text.contains(hero.name) && told.text.contains(hero.noun),
                "{}",
                told.text
            );
            assert!(told.text.contains(told.friend.name), "{}", told.text);
            assert!(!told.text.contains(['[', ']', '{', '}', '|']), "{}", told.text);
            assert!(told.text.contains(told.lesson));
        }
    }
}

//! What the model knows about animals, and the questions that ask for it.

use super::cast::{CAST, Hero};
use super::dice::Dice;
use super::template::{Bindings, capitalise, expand, with_article};

/// What is known about one animal.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Animal {
    noun: &'static str,
    /// After "It eats".
    eats: &'static str,
    /// After "It lives".
    lives: &'static str,
    /// After "It", as in "says moo".
    sound: &'static str,
    legs: &'static str,
    /// What its young is called, with article.
    baby: &'static str,
    /// After "It", something worth knowing.
    known: &'static str,
}

const fn animal(noun: &'static str, facts: [&'static str; 6]) -> Animal {
    let [eats, lives, sound, legs, baby, known] = facts;
    Animal {
        noun,
        eats,
        lives,
        sound,
        legs,
        baby,
        known,
    }
}

/// Every animal that there are facts about; each is in the cast.
#[rustfmt::skip] // a table: one thing on a line
const ANIMALS: &[Animal] = &[
    animal("fox", ["mice, berries and eggs", "in a den in the forest", "barks and yelps", "four", "a kit", "has red fur and a long soft tail"]),
    animal("owl", ["mice and small birds", "in old trees", "says hoo hoo", "two", "an owlet", "can turn its head almost all the way around"]),
    animal("bear", ["berries, fish and honey", "in forests and mountains", "growls", "four", "a cub", "sleeps through the cold winter"]),
    animal("rabbit", ["grass, leaves and carrots", "in a burrow under the ground", "makes almost no sound", "four", "a kit", "has long ears and can hear very well"]),
    animal("hedgehog", ["beetles, worms and snails", "under leaves and bushes", "snorts and sniffs", "four", "a hoglet", "rolls up into a ball of spikes"]),
    animal("squirrel", ["nuts and seeds", "in trees", "chatters", "four", "a kit", "hides nuts for the winter"]),
    animal("wolf", ["meat", "in forests and cold lands", "howls", "four", "a pup", "lives and hunts with its family"]),
    animal("deer", ["grass and leaves", "in forests and meadows", "calls softly", "four", "a fawn", "can run very fast and jump high"]),
    animal("badger", ["worms, roots and berries", "in a burrow in the woods", "grunts", "four", "a cub", "has black and white stripes on its face"]),
    animal("raccoon", ["fruit, nuts and fish", "in woods and towns", "chatters", "four", "a kit", "looks as if it wears a mask"]),
    animal("mole", ["worms", "under the ground", "squeaks", "four", "a pup", "digs long tunnels with its paws"]),
    animal("bat", ["insects and fruit", "in caves and old roofs", "squeaks", "two", "a pup", "sleeps upside down and flies at night"]),
    animal("crow", ["seeds, fruit and insects", "in fields and towns", "says caw caw", "two", "a chick", "is a very clever bird"]),
    animal("mouse", ["seeds, grain and cheese", "in small holes", "squeaks", "four", "a pup", "can slip through very small holes"]),
    animal("robin", ["worms and berries", "in gardens and woods", "sings and chirps", "two", "a chick", "has a red breast"]),
    animal("sparrow", ["seeds and crumbs", "in towns and gardens", "chirps", "two", "a chick", "likes to live near people"]),
    animal("bird", ["seeds, fruit and insects", "in trees and nests", "sings and chirps", "two", "a chick", "has feathers and lays eggs"]),
    animal("snail", ["leaves", "in gardens and damp places", "makes no sound", "no", "a baby snail", "carries its house on its back"]),
    animal("bee", ["nectar and honey", "in a hive", "buzzes", "six", "a larva", "makes honey and helps flowers to grow"]),
    animal("ant", ["seeds, crumbs and insects", "in a nest under the ground", "makes no sound that we can hear", "six", "a larva", "can carry things much heavier than itself"]),
    animal("butterfly", ["nectar from flowers", "in gardens and meadows", "makes no sound", "six", "a caterpillar", "was once a caterpillar"]),
    animal("ladybug", ["tiny insects", "on plants", "makes no sound", "six", "a larva", "is red with black spots"]),
    animal("spider", ["flies and other insects", "in a web", "makes no sound", "eight", "a spiderling", "spins a web out of fine silk"]),
    animal("caterpillar", ["leaves", "on plants", "makes no sound", "six", "a tiny caterpillar", "turns into a butterfly"]),
    animal("cat", ["meat and fish", "in houses with people", "says meow", "four", "a kitten", "can see well in the dark"]),
    animal("dog", ["meat and dog food", "in houses with people", "says woof", "four", "a puppy", "can smell things that we cannot smell"]),
    animal("parrot", ["seeds, nuts and fruit", "in warm forests", "squawks and can even speak", "two", "a chick", "can learn to say words"]),
    animal("hamster", ["seeds, grain and carrots", "in a burrow or a cage", "squeaks", "four", "a pup", "carries food in its cheeks"]),
    animal("cow", ["grass and hay", "on a farm", "says moo", "four", "a calf", "gives milk"]),
    animal("horse", ["grass, hay and oats", "on a farm or in a stable", "neighs", "four", "a foal", "can sleep while it stands"]),
    animal("pig", ["roots, corn and almost anything", "on a farm", "says oink", "four", "a piglet", "is cleverer than many people think"]),
    animal("sheep", ["grass", "on a farm or on the hills", "says baa", "four", "a lamb", "gives us wool"]),
    animal("goat", ["grass, leaves and bushes", "on farms and in the mountains", "bleats", "four", "a kid", "can climb very well"]),
    animal("donkey", ["grass and hay", "on a farm", "says hee-haw", "four", "a foal", "can carry heavy things"]),
    animal("hen", ["grain and worms", "on a farm", "clucks", "two", "a chick", "lays eggs"]),
    animal("chicken", ["grain and worms", "on a farm", "clucks", "two", "a chick", "cannot fly very far"]),
    animal("goose", ["grass and grain", "near water and on farms", "honks", "two", "a gosling", "flies south in the winter"]),
    animal("frog", ["flies and worms", "in and near ponds", "says ribbit", "four", "a tadpole", "catches flies with its long tongue"]),
    animal("duck", ["plants, seeds and insects", "near ponds and rivers", "says quack", "two", "a duckling", "has feathers that keep the water out"]),
    animal("swan", ["water plants", "on lakes and rivers", "hisses and trumpets", "two", "a cygnet", "is large and white and has a long neck"]),
    animal("otter", ["fish and crabs", "in rivers and by the sea", "whistles", "four", "a pup", "likes to hold hands while it sleeps"]),
    animal("beaver", ["bark, leaves and roots", "in rivers and lakes", "slaps the water with its tail", "four", "a kit", "builds dams out of wood"]),
    animal("turtle", ["plants, fish and insects", "in the water and on land", "makes almost no sound", "four", "a hatchling", "carries a hard shell and can grow very old"]),
    animal("fish", ["plants, worms and smaller fish", "in the water", "makes almost no sound", "no", "a fry", "breathes under water with its gills"]),
    animal("whale", ["tiny sea animals and fish", "in the sea", "sings long songs", "no", "a calf", "is the biggest animal in the sea"]),
    animal("dolphin", ["fish", "in the sea", "clicks and whistles", "no", "a calf", "is very clever and likes to play"]),
    animal("crab", ["plants and small sea animals", "on the beach and in the sea", "clicks", "ten", "a larva", "walks sideways"]),
    animal("seal", ["fish", "in the sea and on the beach", "barks", "no", "a pup", "has thick fat that keeps it warm"]),
    animal("octopus", ["crabs and shells", "in the sea", "makes no sound", "eight", "a larva", "has three hearts"]),
    animal("shark", ["fish and seals", "in the sea", "makes no sound", "no", "a pup", "gets new teeth all its life"]),
    animal("elephant", ["grass, leaves and fruit", "in Africa and Asia", "trumpets", "four", "a calf", "is the biggest animal on land"]),
    animal("lion", ["meat", "in Africa", "roars", "four", "a cub", "is called the king of the animals"]),
    animal("tiger", ["meat", "in the forests of Asia", "roars", "four", "a cub", "has black stripes and likes to swim"]),
    animal("monkey", ["fruit, nuts and leaves", "in warm forests", "chatters and screams", "two", "an infant", "climbs trees with hands and feet"]),
    animal("giraffe", ["leaves from tall trees", "in Africa", "hums softly", "four", "a calf", "is the tallest animal in the world"]),
    animal("zebra", ["grass", "in Africa", "barks and brays", "four", "a foal", "has black and white stripes"]),
    animal("kangaroo", ["grass and leaves", "in Australia", "grunts", "two", "a joey", "carries its young in a pouch"]),
    animal("koala", ["leaves", "in the trees of Australia", "grunts", "four", "a joey", "sleeps most of the day"]),
    animal("panda", ["bamboo", "in the mountains of China", "bleats", "four", "a cub", "is black and white"]),
    animal("camel", ["grass and thorny plants", "in the desert", "groans", "four", "a calf", "can go for a long time without water"]),
    animal("penguin", ["fish", "in the cold south", "honks", "two", "a chick", "is a bird that cannot fly but swims very well"]),
    animal("polar bear", ["seals and fish", "on the ice of the north", "growls", "four", "a cub", "has white fur"]),
    animal("reindeer", ["grass and moss", "in the cold north", "grunts", "four", "a calf", "has large antlers"]),
];

/// Questions about one animal with their answers. `{a}` is "a fox", `{s}` "foxes".
#[rustfmt::skip] // a table: one thing on a line
const QUESTIONS: &[(&[&str], &[&str])] = &[
    (
        &["What does {a} eat?", "What do {s} eat?", "What do {s} like to eat?", "What is the food of {a}?", "Tell me what {s} eat."],
        &["{A} eats {eats}.", "{S} eat {eats}."],
    ),
    (
        &["Where does {a} live?", "Where do {s} live?", "Where can I find {a}?", "Where is the home of {a}?"],
        &["{A} lives {lives}.", "{S} live {lives}."],
    ),
    (
        &["What sound does {a} make?", "What does {a} say?", "What noise does {a} make?", "How does {a} sound?", "What sound do {s} make?"],
        &["{A} {sound}."],
    ),
    (
        &["How many legs does {a} have?", "How many legs do {s} have?"],
        &["{A} has {legs} legs."],
    ),
    (
        &["What is a baby {n} called?", "What do you call a baby {n}?", "What is the name for a young {n}?", "What are baby {s} called?"],
        &["A baby {n} is called {baby}."],
    ),
    (
        &[
            "What do you know about {s}?", "Tell me about {s}.", "Tell me something about {a}.", "Tell me a fact about {s}.",
            "What is {a}?", "Describe {a}.", "Do you know {s}?", "Tell me something about {s}.", "What is special about {a}?",
        ],
        &[
            "{A} {known}. It lives {lives}, and it eats {eats}.",
            "{A} lives {lives}. It eats {eats}. And did you know? It {known}!",
            "{A} eats {eats} and lives {lives}. It {known}.",
        ],
    ),
];

/// A question about an animal and its answer.
pub(crate) fn question(dice: &mut Dice) -> (String, String) {
    let animal = dice.pick_ref(ANIMALS);
    about(animal, dice)
}

/// A question about `hero` and its answer, where there are facts about that animal.
pub(crate) fn question_about(hero: &Hero, dice: &mut Dice) -> Option<(String, String)> {
    ANIMALS
        .iter()
        .find(|animal| animal.noun == hero.noun)
        .map(|animal| about(animal, dice))
}

fn about(animal: &Animal, dice: &mut Dice) -> (String, String) {
    let plural = CAST
        .iter()
        .find(|hero| hero.noun == animal.noun)
        .map_or(animal.noun, |hero| hero.plural);
    let mut bindings = Bindings::default();
    bindings.set("n", animal.noun);
    bindings.set("s", plural);
    bindings.set("a", with_article(animal.noun));
    for (slot, text) in [
        ("eats", animal.eats),
        ("lives", animal.lives),
        ("sound", animal.sound),
        ("legs", animal.legs),
        ("baby", animal.baby),
        ("known", animal.known),
    ] {
        bindings.set(slot, text);
    }
    let (questions, answers) = QUESTIONS[dice.weighted(&[4, 4, 4, 3, 3, 8])];
    let question = expand(dice.pick(questions), &bindings, dice);
    let answer = expand(dice.pick(answers), &bindings, dice);
    (capitalise(&question), answer)
}

#[cfg(test)]
mod tests {
    use super::{ANIMALS, CAST, Dice, question};

    #[test]
    fn every_animal_is_in_the_cast() {
        for animal in ANIMALS {
            assert!(CAST.iter().any(|hero| hero.noun == animal.noun), "{}", animal.noun);
        }
    }

    #[test]
    fn questions_end_as_sentences() {
        for index in 0..2_000 {
            let (question, answer) = question(&mut Dice::new(1, index));
            assert!(question.ends_with(['?', '.']), "{question}");
            assert!(answer.ends_with(['.', '!']), "{answer}");
        }
    }
}

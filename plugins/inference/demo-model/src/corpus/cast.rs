//! Who the stories are about. The noun decides the name, the pronoun and the home: a fox is Finn, and he lives in a
//! wood. A model this small keeps a story straight only if these never change.

/// Where somebody is at home, which decides the scenery and the plots that fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Realm {
    Wood,
    Garden,
    Farm,
    House,
    Pond,
    Sea,
    Plain,
    Snow,
    Folk,
}

/// Somebody a story can be about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hero {
    pub(crate) noun: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) name: &'static str,
    /// She, or else he.
    pub(crate) she: bool,
    pub(crate) realm: Realm,
}

impl Hero {
    /// Whether the hero lives in the sea, where only the plots of the sea make sense.
    pub(crate) fn swims(&self) -> bool {
        self.realm == Realm::Sea
    }
}

const fn he(noun: &'static str, plural: &'static str, name: &'static str, realm: Realm) -> Hero {
    Hero {
        noun,
        plural,
        name,
        she: false,
        realm,
    }
}

const fn she(noun: &'static str, plural: &'static str, name: &'static str, realm: Realm) -> Hero {
    Hero {
        noun,
        plural,
        name,
        she: true,
        realm,
    }
}

/// Everybody.
#[rustfmt::skip] // a table: one thing on a line
pub(crate) const CAST: &[Hero] = &[
    he("fox", "foxes", "Finn", Realm::Wood),
    she("owl", "owls", "Olive", Realm::Wood),
    he("bear", "bears", "Bruno", Realm::Wood),
    she("rabbit", "rabbits", "Ruby", Realm::Wood),
    she("hedgehog", "hedgehogs", "Hazel", Realm::Wood),
    he("squirrel", "squirrels", "Sam", Realm::Wood),
    he("wolf", "wolves", "Walter", Realm::Wood),
    she("deer", "deer", "Dina", Realm::Wood),
    he("badger", "badgers", "Barnaby", Realm::Wood),
    he("raccoon", "raccoons", "Rory", Realm::Wood),
    she("mole", "moles", "Molly", Realm::Wood),
    he("bat", "bats", "Bertie", Realm::Wood),
    she("crow", "crows", "Cora", Realm::Wood),
    he("mouse", "mice", "Milo", Realm::Garden),
    she("robin", "robins", "Rosie", Realm::Garden),
    he("sparrow", "sparrows", "Silas", Realm::Garden),
    she("bird", "birds", "Birdie", Realm::Garden),
    he("snail", "snails", "Sid", Realm::Garden),
    she("bee", "bees", "Bea", Realm::Garden),
    she("ant", "ants", "Annie", Realm::Garden),
    she("butterfly", "butterflies", "Bonnie", Realm::Garden),
    she("ladybug", "ladybugs", "Lola", Realm::Garden),
    he("spider", "spiders", "Simon", Realm::Garden),
    she("caterpillar", "caterpillars", "Carrie", Realm::Garden),
    she("cat", "cats", "Clara", Realm::House),
    he("dog", "dogs", "Dash", Realm::House),
    she("kitten", "kittens", "Kitty", Realm::House),
    he("puppy", "puppies", "Patch", Realm::House),
    she("parrot", "parrots", "Polly", Realm::House),
    he("hamster", "hamsters", "Hamish", Realm::House),
    she("cow", "cows", "Clover", Realm::Farm),
    he("horse", "horses", "Hugo", Realm::Farm),
    he("pig", "pigs", "Pip", Realm::Farm),
    she("sheep", "sheep", "Sophie", Realm::Farm),
    he("goat", "goats", "Gus", Realm::Farm),
    he("donkey", "donkeys", "Duncan", Realm::Farm),
    she("hen", "hens", "Hetty", Realm::Farm),
    she("chicken", "chickens", "Chloe", Realm::Farm),
    she("goose", "geese", "Greta", Realm::Farm),
    she("lamb", "lambs", "Lily", Realm::Farm),
    he("frog", "frogs", "Freddy", Realm::Pond),
    she("duck", "ducks", "Daisy", Realm::Pond),
    she("swan", "swans", "Sylvia", Realm::Pond),
    he("otter", "otters", "Oscar", Realm::Pond),
    she("beaver", "beavers", "Betty", Realm::Pond),
    she("turtle", "turtles", "Tilly", Realm::Pond),
    he("fish", "fish", "Felix", Realm::Sea),
    she("whale", "whales", "Wanda", Realm::Sea),
    he("dolphin", "dolphins", "Dylan", Realm::Sea),
    he("crab", "crabs", "Chester", Realm::Sea),
    she("seal", "seals", "Sasha", Realm::Sea),
    she("octopus", "octopuses", "Otta", Realm::Sea),
    he("shark", "sharks", "Sheldon", Realm::Sea),
    she("elephant", "elephants", "Ella", Realm::Plain),
    he("lion", "lions", "Leo", Realm::Plain),
    she("tiger", "tigers", "Tara", Realm::Plain),
    he("monkey", "monkeys", "Max", Realm::Plain),
    she("giraffe", "giraffes", "Gina", Realm::Plain),
    she("zebra", "zebras", "Zara", Realm::Plain),
    he("kangaroo", "kangaroos", "Kip", Realm::Plain),
    she("koala", "koalas", "Kira", Realm::Plain),
    she("panda", "pandas", "Pearl", Realm::Plain),
    he("camel", "camels", "Caleb", Realm::Plain),
    he("penguin", "penguins", "Percy", Realm::Snow),
    she("polar bear", "polar bears", "Nora", Realm::Snow),
    he("reindeer", "reindeer", "Rolf", Realm::Snow),
    he("dragon", "dragons", "Drake", Realm::Folk),
    he("robot", "robots", "Rusty", Realm::Folk),
    she("unicorn", "unicorns", "Una", Realm::Folk),
    he("dinosaur", "dinosaurs", "Dino", Realm::Folk),
    he("boy", "boys", "Ben", Realm::Folk),
    she("girl", "girls", "Grace", Realm::Folk),
    she("princess", "princesses", "Penny", Realm::Folk),
    he("knight", "knights", "Nigel", Realm::Folk),
    he("wizard", "wizards", "Wilbur", Realm::Folk),
    she("fairy", "fairies", "Fay", Realm::Folk),
];

/// How somebody can be; each goes with every hero.
#[rustfmt::skip] // a table: one thing on a line
pub(crate) const TRAITS: &[&str] = &[
    "little", "small", "brave", "clever", "kind", "shy", "curious", "cheerful", "gentle", "young", "busy", "sleepy",
    "playful", "quiet", "funny", "lonely", "hungry", "happy",
];

/// Where somebody of a realm lives, as it stands after "lived".
pub(crate) fn homes(realm: Realm) -> &'static [&'static str] {
    match realm {
        Realm::Wood => &[
            "in a quiet forest",
            "at the edge of a green wood",
            "under an old oak tree",
            "in a forest full of tall trees",
            "near a little stream in the woods",
        ],
        Realm::Garden => &[
            "in a sunny garden",
            "behind an old stone wall",
            "under a rose bush",
            "in a garden full of flowers",
            "near a little red gate",
        ],
        Realm::House => &[
            "in a small white house",
            "in a house by the river",
            "in a cosy house on a hill",
            "in a little house with a blue door",
        ],
        Realm::Farm => &[
            "on a small farm",
            "on a farm at the foot of a hill",
            "in a red barn",
            "on a farm with a big apple tree",
        ],
        Realm::Pond => &[
            "by a clear blue lake",
            "near a quiet pond",
            "by a pond full of water lilies",
            "on the bank of a slow river",
        ],
        Realm::Sea => &[
            "in the deep blue sea",
            "near a bright coral reef",
            "in a warm and sunny bay",
            "beside a little island in the sea",
        ],
        Realm::Plain => &[
            "in a warm green land",
            "near a wide river",
            "under the hot sun, far away",
            "in a land of tall grass",
        ],
        Realm::Snow => &[
            "in a land of ice and snow",
            "on a white and windy shore",
            "far away in the cold north",
        ],
        Realm::Folk => &[
            "in a land far away",
            "in a small village",
            "near a tall mountain",
            "in a village by the sea",
            "at the edge of a big town",
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::CAST;

    #[test]
    fn every_noun_has_a_name_of_its_own() {
        let mut names: Vec<_> = CAST.iter().map(|hero| hero.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), CAST.len());
    }
}

//! Greetings, thanks, good-byes, questions about the model and about Infernet, jokes and small poems.

use super::cast::{CAST, Hero};
use super::dice::Dice;
use super::template::{Bindings, expand, with_article};

/// Things a person says that mean the same, and answers to them.
type Exchange = (&'static [&'static str], &'static [&'static str]);

#[rustfmt::skip] // a table: one thing on a line
const TALK: &[Exchange] = &[
    (
        &["Hello", "Hello!", "Hi", "Hi!", "Hi there", "Hello there!", "Hey", "Hey!", "Good day", "Hello, who is there?", "Greetings", "Hello world", "Hello, world!", "Yo", "Hiya"],
        &["Hello! How can I help you?", "Hello! It is nice to meet you. Would you like to hear a story?", "Hi there! What would you like to hear?", "Hello! I can tell you a story about an animal, if you like."],
    ),
    (
        &["Say hello.", "Say hello", "Say hi.", "Say hello in one sentence.", "Greet me.", "Say hi to me.", "Please say hello."],
        &["Hello!", "Hello! It is nice to meet you."],
    ),
    (&["Good morning", "Good morning!"], &["Good morning! I hope you slept well.", "Good morning! What a lovely day for a story."]),
    (&["Good evening", "Good evening!"], &["Good evening! Would you like to hear a bedtime story?"]),
    (&["Good night", "Good night!", "I am going to bed.", "I want to sleep."], &["Good night! Sleep well and dream of something nice."]),
    (
        &["How are you?", "How are you doing?", "How are you today?", "How do you do?", "What's up?", "Are you well?", "Hello, how are you?", "Hi, how are you?", "How is it going?"],
        &["I am very well, thank you! And you?", "I am well, thank you. How can I help you?", "Very well! I have a new story in my head."],
    ),
    (&["I am fine.", "I am well, thank you.", "Fine, thanks.", "I am happy today.", "I'm good."], &["That is good to hear! Would you like to hear a story?", "I am glad. What would you like to hear?"]),
    (&["I am sad.", "I feel sad.", "I am not well.", "I had a bad day.", "I am lonely."], &["I am sorry to hear that. Shall I tell you a story?", "Oh, that is sad. I hope tomorrow is a better day. A story may help a little."]),
    (&["I am bored.", "I'm bored.", "Entertain me."], &["Then let me tell you a story! Which animal do you like?"]),
    (
        &["Thank you", "Thank you!", "Thanks", "Thanks!", "Thank you very much!", "Thanks a lot.", "Thank you for the story.", "That was nice, thank you.", "Great, thanks!"],
        &["You are welcome!", "You are welcome! I am glad to help.", "It was my pleasure.", "You are very welcome. Come back any time!"],
    ),
    (
        &["Goodbye", "Goodbye!", "Bye", "Bye!", "Bye bye", "See you later.", "I have to go.", "See you tomorrow!", "That is all."],
        &["Goodbye! Have a lovely day.", "Goodbye! Come back soon.", "See you soon! Take care."],
    ),
    (&["That was a nice story.", "I like your story.", "What a lovely story!", "That was beautiful.", "I liked it.", "Nice!", "Good job!", "Well done!", "Great!", "Cool"], &["I am glad that you liked it!", "Thank you! That makes me happy.", "Thank you! Would you like to hear another one?"]),
    (&["I do not like it.", "That was boring.", "That is wrong.", "You are wrong.", "That was bad.", "This is bad."], &["I am sorry about that. I am only a very small model.", "I am sorry. I will try to do better next time."]),
    (
        &["Who are you?", "What are you?", "Introduce yourself.", "Tell me about yourself.", "Tell me something about yourself.", "Are you a robot?", "Are you human?", "What kind of model are you?", "What model are you?", "Which model is this?"],
        &["I am the demo model of Infernet, a very small language model. I tell short stories and know a few simple things.", "I am a very small language model that was made for Infernet. I like to tell stories about animals."],
    ),
    (&["What is your name?", "What's your name?", "Do you have a name?", "How are you called?"], &["My name is Infernet Demo. I am a very small language model."]),
    (
        &["What can you do?", "How can you help me?", "What do you know?", "Help", "Help me.", "Can you help me?", "What should I ask you?", "What can I ask you?", "What are you good at?"],
        &["I can tell you a short story about an animal, answer small questions, and add small numbers.", "I know stories about many animals and a few simple facts. Ask me for a story about a fox!"],
    ),
    (&["Are you clever?", "Are you smart?", "Are you ChatGPT?", "Are you GPT-4?", "Are you a big model?", "How big are you?", "How many parameters do you have?"], &["No, I am very small. I have only about two million parameters, and I know a few stories.", "I am a very small model with about two million parameters."]),
    (&["Who made you?", "Who created you?", "Where do you come from?", "How were you made?", "Who trained you?"], &["I was made by the Infernet project. I learned from simple stories that a program wrote."]),
    (&["How old are you?", "When were you born?"], &["I do not count years, but I am still quite young."]),
    (&["Where are you?", "Where do you live?"], &["I live on a computer in the Infernet network."]),
    (&["Do you speak English?", "Which languages do you speak?", "Do you speak German?", "Can you speak French?"], &["I only speak simple English."]),
    (&["Do you like animals?", "Do you like stories?"], &["Yes, very much! Shall I tell you a story?"]),
    (
        &["What is Infernet?", "Tell me about Infernet.", "What is infernet?", "Explain Infernet.", "Do you know Infernet?", "What does Infernet do?"],
        &["Infernet is a network where people share language models with each other, from peer to peer.", "Infernet is a peer-to-peer network. One computer asks, another one answers, and both sign a receipt."],
    ),
    (&["How does Infernet work?", "How does the network work?"], &["Somebody asks for an answer, providers make a bid, the best one is chosen, and the answer comes over a direct and encrypted line."]),
    (&["What is a provider?", "What is a node?", "What is a peer?"], &["A peer is a computer in the network. A provider is a peer that runs a model for others."]),
    (&["What is a receipt?"], &["A receipt says what was delivered and what it cost. In Infernet, both sides sign it."]),
    (&["What is peer to peer?", "What is p2p?", "What does peer-to-peer mean?"], &["Peer to peer means that computers talk directly to each other, without a server in the middle."]),
    (&["ping", "Ping", "ping!"], &["Pong!"]),
    (&["test", "Test", "testing", "Is this working?", "Are you there?", "Can you hear me?", "Does it work?", "This is a test.", "Is anybody there?"], &["Yes, it works! I am here.", "Yes, I am here. How can I help you?"]),
    (&["Yes", "Yes, please.", "Yes please", "OK", "Okay", "Sure", "Of course"], &["Good! Then ask me for a story about an animal.", "Very well! Which animal do you like?"]),
    (&["No", "No, thank you.", "No thanks"], &["That is all right. Ask me when you like."]),
    (&["Do you dream?", "Do you sleep?", "Do you have feelings?", "Are you alive?", "Can you think?"], &["No, I am only a small program that puts one word after the other."]),
    (&["Sing a song.", "Sing a song for me.", "Can you sing?"], &["La la la, the sun is here, and all my friends are coming near!"]),
    (&["Say something.", "Say something nice.", "Tell me something.", "Tell me something nice.", "Talk to me."], &["You are stronger than you think, and kinder than you know.", "The sun shines for everybody, and today it shines for you.", "A small step is a step, too."]),
    (&["Give me some advice.", "Do you have any advice?", "Give me a tip.", "What should I do today?", "Give me good advice."], &["Go outside, look at the sky, and be kind to somebody.", "Drink some water, take a deep breath, and begin with one small thing.", "Call a good friend and ask how the day was."]),
];

#[rustfmt::skip] // a table: one thing on a line
const JOKES: &[&str] = &[
    "Why did the cow cross the road? To get to the udder side!",
    "What do you call a bear without teeth? A gummy bear!",
    "Why do bees have sticky hair? Because they use honeycombs!",
    "What do you call a sleeping dinosaur? A dino-snore!",
    "Why did the duck get a red card? For fowl play!",
    "What do you get when a snail rides on a turtle? A very slow race, and a snail that calls, \"Not so fast!\"",
    "Where do fish keep their money? In the river bank!",
    "What did the big flower say to the little flower? \"Hello, bud!\"",
    "Why did the computer go to the doctor? It had a virus!",
    "What is black and white and goes round and round? A penguin in a barrel!",
];

const ASK_JOKE: &str = "[Tell me a joke.|Tell me a joke|Do you know a joke?|Make me laugh.|Another joke, please.|Tell me a funny joke.|Can you tell a joke?|Say something funny.]";

const ASK_POEM: &str =
    "[Write|Tell me|Write me|Give me|Make] a [poem|short poem|little poem|haiku|rhyme|small poem] about {what}.";

/// Poems about somebody: `{the}` is "the fox", `{a}` "a fox".
#[rustfmt::skip] // a table: one thing on a line
const POEMS: &[&str] = &[
    "{A} went out to see the day,\nand met a friend along the way.\nThey shared the sun, they shared the rain,\nand then they both went home again.",
    "{The} looked up into the night,\nand all the stars were clear and bright.\n\"Good night, good night,\" it said so low,\n\"and sleep, you flowers down below.\"",
    "In the morning, in the sun,\n{the} is out to have some fun.\nIn the evening, tired and slow,\nto its bed {the} will go.",
    "{A} sat quietly under a tree,\nas small and as happy as it could be.\nThe wind was singing a gentle song,\nand {the} listened all day long.",
];

#[rustfmt::skip] // a table: one thing on a line
const PLACES: &[(&str, &str)] = &[
    ("the sea", "The sea is wide, the sea is blue,\nit sings a song for me and you.\nThe waves come in, the waves go out,\nand little fish swim all about."),
    ("the moon", "The moon is round, the moon is bright,\nit is a lamp for all the night.\nIt looks at you, it looks at me,\nand at the quiet, sleeping sea."),
    ("spring", "The snow is gone, the grass is green,\nthe sweetest flowers can be seen.\nThe birds are back, the bees hum low,\nand all the little gardens grow."),
    ("winter", "The snow comes down without a sound\nand puts a blanket on the ground.\nThe stars are cold, the fire is warm,\nand we are safe from every storm."),
    ("rain", "The rain comes down, drip drop, drip drop,\non every roof and garden top.\nThe flowers drink, the frogs all sing,\nfor rain is such a lovely thing."),
    ("love", "A little word, a little smile,\na walk together for a while,\na hand to hold, a song to sing,\nthat is to me the dearest thing."),
    ("the night", "The sun is gone, the day is done,\nthe stars are coming, one by one.\nThe owl is calling, soft and deep,\nand all the world will go to sleep."),
    ("autumn", "The leaves are red, the leaves are gold,\nthe days are short, the nights are cold.\nThe wind is dancing through the trees\nand plays a song for falling leaves."),
];

/// Something said in passing, and the answer.
pub(crate) fn exchange(dice: &mut Dice) -> (String, String) {
    let (said, answers) = dice.pick(TALK);
    (dice.pick(said).into(), dice.pick(answers).into())
}

/// Asks for a joke.
pub(crate) fn joke(dice: &mut Dice) -> (String, String) {
    (expand(ASK_JOKE, &Bindings::default(), dice), dice.pick(JOKES).into())
}

/// Asks for a poem about somebody or something.
pub(crate) fn poem(dice: &mut Dice) -> (String, String) {
    let mut bindings = Bindings::default();
    let (what, poem) = if dice.chance(70) {
        let hero: &Hero = dice.pick_ref(CAST);
        bindings.set("a", with_article(hero.noun));
        bindings.set("the", format!("the {}", hero.noun));
        let what = if dice.chance(30) {
            hero.plural.to_owned()
        } else {
            with_article(hero.noun)
        };
        (what, expand(dice.pick(POEMS), &bindings, dice))
    } else {
        let (what, poem) = dice.pick(PLACES);
        (what.to_owned(), poem.to_owned())
    };
    bindings.set("what", what);
    (expand(ASK_POEM, &bindings, dice), poem)
}

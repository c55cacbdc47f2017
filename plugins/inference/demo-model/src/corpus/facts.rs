//! Small facts, lists, opposites, capitals and sums: things to be known by heart.

use super::dice::Dice;
use super::template::{Bindings, expand};

/// Questions that mean the same, and their answers.
type Fact = (&'static [&'static str], &'static [&'static str]);

#[rustfmt::skip] // a table: one thing on a line
const FACTS: &[Fact] = &[
    (&["What colo[|u]r is the sky?", "Which colo[|u]r is the sky?"], &["The sky is blue on a clear day."]),
    (&["Why is the sky blue?"], &["The air scatters the blue part of the sunlight most, so the sky looks blue."]),
    (&["What colo[|u]r is grass?", "What colo[|u]r is the grass?"], &["Grass is green."]),
    (&["What colo[|u]r is snow?"], &["Snow is white."]),
    (&["What colo[|u]r is a banana?", "What colo[|u]r are bananas?"], &["A ripe banana is yellow."]),
    (&["What colo[|u]r is a tomato?"], &["A ripe tomato is red."]),
    (&["What is the sun?", "What is the Sun?", "Tell me about the sun."], &["The sun is a star. It gives us light and warmth."]),
    (&["What is the moon?", "Tell me about the moon."], &["The moon goes around the Earth. It shines at night with the light of the sun."]),
    (&["What are stars?", "What is a star?"], &["Stars are suns that are very far away."]),
    (&["What is the Earth?", "What planet do we live on?", "On which planet do we live?"], &["The Earth is our planet. It goes around the sun once a year."]),
    (&["What is rain?", "Where does rain come from?", "Why does it rain?"], &["Rain is water that falls from the clouds."]),
    (&["What is snow?", "Where does snow come from?"], &["Snow is frozen water that falls from the clouds in winter."]),
    (&["What is ice?"], &["Ice is frozen water."]),
    (&["What is a rainbow?", "How does a rainbow form?", "When do we see a rainbow?"], &["A rainbow is sunlight that is split into many colors by drops of rain."]),
    (&["What is wind?", "What is the wind?"], &["Wind is air that moves."]),
    (&["What is water?"], &["Water is what rivers, lakes and rain are made of. All living things need it."]),
    (&["What is a tree?", "Tell me about trees."], &["A tree is a tall plant with a trunk, branches and leaves."]),
    (&["What is a flower?"], &["A flower is the part of a plant that makes seeds. Many flowers smell sweet."]),
    (&["What is the sea?", "What is the ocean?", "Tell me about the sea."], &["The sea is a very big body of salt water. Many animals live in it."]),
    (&["What is a river?"], &["A river is water that flows through the land to the sea."]),
    (&["What is a mountain?"], &["A mountain is a very high piece of land."]),
    (&["What is a forest?"], &["A forest is a place with many trees."]),
    (&["How many days are in a week?", "How many days does a week have?"], &["A week has seven days."]),
    (&["How many months are in a year?", "How many months does a year have?"], &["A year has twelve months."]),
    (&["How many days are in a year?", "How many days does a year have?"], &["A year has 365 days, and a leap year has 366."]),
    (&["How many hours are in a day?", "How many hours does a day have?"], &["A day has 24 hours."]),
    (&["How many minutes are in an hour?"], &["An hour has 60 minutes."]),
    (&["How many seconds are in a minute?"], &["A minute has 60 seconds."]),
    (&["What are the seasons?", "Name the four seasons.", "How many seasons are there?"], &["There are four seasons: spring, summer, autumn and winter."]),
    (&["What are the days of the week?", "Name the days of the week."], &["Monday, Tuesday, Wednesday, Thursday, Friday, Saturday and Sunday."]),
    (&["What are the months of the year?", "Name the months."], &["January, February, March, April, May, June, July, August, September, October, November and December."]),
    (&["Which season is cold?", "When does it snow?", "When is it cold?"], &["Winter is the cold season."]),
    (&["Which season is warm?", "When is it warm?"], &["Summer is the warm season."]),
    (&["What day comes after Monday?"], &["Tuesday comes after Monday."]),
    (&["What day comes after Friday?"], &["Saturday comes after Friday."]),
    (&["What day comes after Sunday?"], &["Monday comes after Sunday."]),
    (&["Count to three.", "Can you count to three?"], &["One, two, three."]),
    (&["Count to five.", "Can you count to five?", "Count from 1 to 5.", "Count from one to five."], &["One, two, three, four, five."]),
    (&["Count to ten.", "Can you count to ten?", "Count from 1 to 10.", "Please count from one to ten.", "Can you count?"], &["One, two, three, four, five, six, seven, eight, nine, ten."]),
    (&["Say the alphabet.", "What is the alphabet?", "Do you know the alphabet?"], &["A B C D E F G H I J K L M N O P Q R S T U V W X Y Z."]),
    (&["Name three colors.", "Name some colo[|u]rs.", "List three colo[|u]rs.", "What colors do you know?"], &["Red, blue and yellow.", "Red, green and blue."]),
    (&["Name three animals.", "List three animals.", "Name some animals.", "List some animals.", "What animals do you know?"], &["A fox, an owl and a bear.", "A cat, a dog and a horse.", "A whale, a lion and a bee."]),
    (&["Name three fruits.", "List three fruits.", "Name some fruit.", "What fruits do you know?"], &["An apple, a pear and a banana.", "Apples, cherries and plums."]),
    (&["Name three vegetables.", "List some vegetables."], &["Carrots, beans and peas."]),
    (&["Name a color.", "What is your favo[|u]rite color?"], &["I like blue, like the sky on a clear day."]),
    (&["What is your favo[|u]rite animal?", "Which animal do you like best?"], &["I like the fox, because it is clever."]),
    (&["What is your favo[|u]rite food?"], &["I do not eat, but I like stories about honey cakes."]),
    (&["What is the biggest animal?", "What is the largest animal?", "Which animal is the biggest?"], &["The blue whale is the biggest animal in the world."]),
    (&["What is the fastest animal?", "Which animal is the fastest?"], &["The cheetah is the fastest animal on land."]),
    (&["What is the tallest animal?", "Which animal is the tallest?"], &["The giraffe is the tallest animal in the world."]),
    (&["Which animal gives milk?", "Where does milk come from?"], &["Milk comes from cows."]),
    (&["Which animal lays eggs?", "Where do eggs come from?"], &["Hens lay eggs."]),
    (&["Where does honey come from?", "Who makes honey?"], &["Bees make honey from the nectar of flowers."]),
    (&["Where does wool come from?"], &["Wool comes from sheep."]),
    (&["Where does the sun rise?", "Where does the sun come up?"], &["The sun rises in the east."]),
    (&["Where does the sun set?", "Where does the sun go down?"], &["The sun sets in the west."]),
    (&["What do plants need?", "What do plants need to grow?"], &["Plants need water, light and air."]),
    (&["What do we see with?", "What are eyes for?"], &["We see with our eyes."]),
    (&["What do we hear with?", "What are ears for?"], &["We hear with our ears."]),
    (&["What is a friend?", "What makes a good friend?", "What is friendship?"], &["A friend is somebody who likes you, helps you and tells you the truth."]),
    (&["What is love?"], &["Love is a warm feeling for somebody who is dear to you."]),
    (&["What is happiness?", "What makes people happy?"], &["A good friend, a warm meal and a little sunshine make most of us happy."]),
    (&["What is the meaning of life?"], &["I am too small for such a big question. But it is good to be kind."]),
    (&["What is a computer?"], &["A computer is a machine that can count and follow instructions very fast."]),
    (&["What is the Internet?", "What is the internet?"], &["The internet joins computers all over the world, so that they can talk to each other."]),
    (&["What is a language model?", "What is an LLM?", "What is a large language model?"], &["A language model has read many texts and says which word may come next. I am a very small one."]),
    (&["What is a GPU?"], &["A GPU is a chip that does many small sums at the same time. Big language models need it."]),
    (&["What is a token?", "What are tokens?"], &["A token is a small piece of text, often one word. I write one token after the other."]),
    (&["What is an API?"], &["An API is a way for one program to ask another one for something."]),
    (&["What is AI?", "What is artificial intelligence?"], &["AI means that machines do things that seem clever, like playing a game or telling a story."]),
];

const ASK_SUM: &str = "[What is|What is|How much is|What's|Can you add? What is] {sum}?";

const ASK_SUM_BRIEFLY: &str = "[{sum} = ?|{sum}?|{sum}|Calculate {sum}.|{sum} =]";

const ASK_CAPITAL: &str = "[What is the capital of {country}?|What is the capital city of {country}?|\
     Which city is the capital of {country}?|Name the capital of {country}.|What's the capital of {country}?]";

const ASK_OPPOSITE: &str = "[What is|What's|Do you know] the opposite of [{one}|{one}|\"{one}\"]?";

#[rustfmt::skip] // a table: one thing on a line
const CAPITALS: &[(&str, &str)] = &[
    ("France", "Paris"), ("Germany", "Berlin"), ("England", "London"), ("Spain", "Madrid"), ("Italy", "Rome"),
    ("Japan", "Tokyo"), ("China", "Beijing"), ("Russia", "Moscow"), ("Egypt", "Cairo"), ("Greece", "Athens"),
    ("Austria", "Vienna"), ("Portugal", "Lisbon"), ("Poland", "Warsaw"), ("Norway", "Oslo"), ("Sweden", "Stockholm"),
    ("India", "New Delhi"), ("Canada", "Ottawa"), ("Ireland", "Dublin"),
];

#[rustfmt::skip] // a table: one thing on a line
const OPPOSITES: &[(&str, &str)] = &[
    ("hot", "cold"), ("big", "small"), ("fast", "slow"), ("day", "night"), ("up", "down"), ("happy", "sad"),
    ("old", "young"), ("light", "dark"), ("open", "closed"), ("full", "empty"), ("good", "bad"), ("wet", "dry"),
    ("high", "low"), ("long", "short"), ("loud", "quiet"), ("early", "late"), ("left", "right"), ("black", "white"),
    ("strong", "weak"), ("yes", "no"),
];

/// Largest number in a sum.
const LARGEST_SUMMAND: usize = 10;

/// A question and its answer.
pub(crate) fn question(dice: &mut Dice) -> (String, String) {
    match dice.weighted(&[10, 2, 2]) {
        0 => {
            let (questions, answers) = dice.pick(FACTS);
            let none = Bindings::default();
            (
                expand(dice.pick(questions), &none, dice),
                expand(dice.pick(answers), &none, dice),
            )
        }
        1 => capital(dice),
        _ => opposite(dice),
    }
}

/// A sum or difference of small numbers, and its result.
pub(crate) fn sum(dice: &mut Dice) -> (String, String) {
    let (mut a, mut b) = (dice.below(LARGEST_SUMMAND + 1), dice.below(LARGEST_SUMMAND + 1));
    let minus = dice.chance(30);
    if minus && a < b {
        (a, b) = (b, a);
    }
    let (sign, word, result) = if minus {
        ("-", "minus", a - b)
    } else {
        ("+", "plus", a + b)
    };
    let mut bindings = Bindings::default();
    let sum = if dice.chance(70) {
        format!("{a} {sign} {b}")
    } else {
        format!("{a} {word} {b}")
    };
    bindings.set("sum", sum);
    let question = expand(if dice.chance(70) { ASK_SUM } else { ASK_SUM_BRIEFLY }, &bindings, dice);
    (question, format!("{a} {sign} {b} = {result}."))
}

fn capital(dice: &mut Dice) -> (String, String) {
    let (country, city) = dice.pick(CAPITALS);
    let mut bindings = Bindings::default();
    bindings.set("country", country);
    let question = expand(ASK_CAPITAL, &bindings, dice);
    (question, format!("The capital of {country} is {city}."))
}

fn opposite(dice: &mut Dice) -> (String, String) {
    let (mut one, mut other) = dice.pick(OPPOSITES);
    if dice.chance(50) {
        (one, other) = (other, one);
    }
    let mut bindings = Bindings::default();
    bindings.set("one", one);
    bindings.set("other", other);
    let question = expand(ASK_OPPOSITE, &bindings, dice);
    (question, expand("The opposite of {one} is {other}.", &bindings, dice))
}

#[cfg(test)]
mod tests {
    use super::{Dice, question, sum};

    #[test]
    fn sums_are_right_and_never_below_zero() {
        for index in 0..1_000 {
            let (_, answer) = sum(&mut Dice::new(1, index));
            let parts: Vec<&str> = answer.trim_end_matches('.').split(' ').collect();
            let number = |at: usize| parts[at].parse::<usize>().expect("a number");
            let result = if parts[1] == "-" {
                number(0) - number(2)
            } else {
                number(0) + number(2)
            };
            assert_eq!(number(4), result, "{answer}");
        }
    }

    #[test]
    fn answers_are_sentences() {
        for index in 0..2_000 {
            let (_, answer) = question(&mut Dice::new(1, index));
            assert!(answer.ends_with(['.', '!', '?']), "{answer}");
        }
    }
}

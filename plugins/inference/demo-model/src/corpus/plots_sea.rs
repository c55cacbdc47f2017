//! The plots of stories in the sea, told as those on land are.

use super::plots::Plot;

/// Plots for heroes who live in the sea.
#[rustfmt::skip] // a table: one thing on a line
pub(crate) const SEA: &[Plot] = &[
    Plot {
        themes: &["asking for help", "a lost thing", "friendship"],
        slots: &[
            ("thing", &["white pearl", "golden shell", "shiny coin", "pink stone"]),
            ("spot", &["behind a rock", "in the green seaweed", "under the sand", "in an old boot"]),
        ],
        start: &["{He} had a {thing}, and {he} loved it very much."],
        trouble: &[
            "One day, a big wave came, and the {thing} was gone.",
            "{Name} [swam up and down|looked everywhere], but {he} could not find it.",
            "[\"I will never see it again,\" {he} said.|{He} was so sad that {he} did not want to play.]",
        ],
        turn: &[
            "Then {meet} swam by.",
            "\"[Why are you so sad?|What is wrong?]\" asked {friend}.",
            "\"I lost my {thing},\" said {name}.",
            "\"[Let us look together|I will help you],\" said {friend}.",
        ],
        end: &[
            "They looked and looked, and at last {friend} found the {thing} {spot}.",
            "[{Name} swam in circles with joy.|\"Thank you, {friend}!\" said {name}.]",
            "[From that day on, they swam together every day.|]",
        ],
        lessons: &["It is good to ask for help.", "Two friends can find what one cannot.", "A friend makes every trouble smaller."],
    },
    Plot {
        themes: &["courage", "the dark", "being brave", "bedtime"],
        slots: &[("wonder", &["There were a thousand little lights", "There were fish that shone like stars", "There was a garden of bright corals"])],
        start: &["{He} liked the bright water near the top, but {he} was afraid of the deep and the dark."],
        trouble: &[
            "\"[Down there it is black and cold|I will never go down there],\" {he} said.",
            "One day, {he} heard a small voice from below. \"Help! I am stuck!\"",
            "[Nobody else was near.|{Name} looked around, but {he} was alone.]",
        ],
        turn: &[
            "{Name} took a deep breath and swam down, [a little, and then a little more|deeper and deeper].",
            "There was {meet}, caught between two stones.",
            "{He} pushed and pulled, and at last {friend} was free.",
        ],
        end: &[
            "\"Thank you,\" said {friend}. \"Now turn around and look!\"",
            "{Name} turned around. {wonder}.",
            "\"[The dark is beautiful|I did not know that],\" said {name}, and {he} was never afraid of it again.",
        ],
        lessons: &["Being brave means taking one small step.", "The dark is full of lovely things.", "You are braver than you think."],
    },
    Plot {
        themes: &["sharing", "a storm", "kindness"],
        slots: &[("shelter", &["a cave in the rocks", "an old ship", "a quiet place behind the reef"])],
        start: &["{He} liked to play in the waves all day."],
        trouble: &[
            "One day, a great storm came over the sea.",
            "[The waves were as high as houses.|The water was wild and grey.]",
            "{Name} found {shelter}. It was small, but it was safe.",
        ],
        turn: &[
            "Soon {meet} came, tired and cold.",
            "\"[Is there room for me?|May I stay with you?]\" asked {friend}.",
            "{Name} [moved to the side|smiled]. \"[There is always room for a friend|Come in],\" {he} said.",
        ],
        end: &[
            "All night long they told each other stories, and the storm did not seem so loud.",
            "In the morning, the sea was [calm and blue|as smooth as glass].",
            "[They swam out together and played in the sun.|\"Let us be friends,\" said {friend}.]",
        ],
        lessons: &["There is always room to share.", "A storm is not so bad with a friend.", "A kind heart is a safe place."],
    },
    Plot {
        themes: &["kindness", "a race", "winning"],
        slots: &[("finish", &["the big rock", "the little island", "the old ship"])],
        start: &["{He} was fast and wanted to win the great race to {finish}."],
        trouble: &[
            "\"One, two, three, go!\" And off they swam.",
            "{Name} was soon ahead of all the others.",
            "Then {he} saw {meet}. {Fhe} was caught in an old net.",
        ],
        turn: &[
            "[If {he} stopped, {he} would lose.|The others were coming closer.]",
            "But {name} could not swim on.",
            "{He} pulled at the net until it was open, and {friend} was free.",
            "Then they swam to {finish} side by side.",
        ],
        end: &[
            "They came in last, but [everybody cheered for them|nobody laughed].",
            "\"You did not win the race,\" said {friend}, \"but you won a friend.\"",
            "[{Name} was happier than any winner.|And that was the best prize of all.]",
        ],
        lessons: &["Being kind is better than being first.", "It is better to help than to win."],
    },
    Plot {
        themes: &["trying again", "learning", "not giving up"],
        slots: &[("skill", &["jump over the waves", "sing a long song", "swim in circles", "blow big bubbles"])],
        start: &["There was one thing {he} wanted to do, and that was to {skill}."],
        trouble: &[
            "{He} tried on Monday, but it did not go well.",
            "{He} tried on Tuesday, and it was [even worse|not much better].",
            "[The others laughed.|\"I will never learn it,\" said {name}.]",
        ],
        turn: &[
            "Then {meet} came to {him}.",
            "\"[Nobody can {skill} on the first day|I had to try a hundred times],\" said {friend}. \"[Try a little every day|Do not stop now].\"",
            "So {name} tried [every morning|day after day|again and again].",
        ],
        end: &[
            "And one sunny day, {he} could {skill} at last!",
            "[\"I knew you could do it,\" said {friend}.|Everybody came to see it.]",
            "[{Name} was very proud.|{Name} laughed with joy.]",
        ],
        lessons: &["If you try again and again, you will learn.", "Nobody can do everything on the first day."],
    },
    Plot {
        themes: &["helping", "the way home", "kindness"],
        slots: &[("sign", &["a red coral", "a rock like a tower", "an old anchor"])],
        start: &["{He} knew every rock and every stone of {his} home."],
        trouble: &[
            "One evening, {he} heard somebody cry.",
            "It was {meet}. \"I am lost,\" said {friend}. \"[I do not know the way home|I want to go home].\"",
        ],
        turn: &[
            "\"Do not cry,\" said {name}. \"What is near your home?\"",
            "{Friend} thought hard. \"There is {sign},\" {fhe} said.",
            "\"[I know that place|I have seen it before]!\" said {name}. \"Come with me.\"",
            "They swam a long way, and they sang so that it was not so long.",
        ],
        end: &[
            "At last they saw {sign}, and {friend} [laughed out loud|turned in circles with joy].",
            "\"[Thank you, {name}|I will never forget this],\" {fhe} said.",
            "{Name} swam home with a warm heart.",
        ],
        lessons: &["A little help can mean a lot.", "Nobody is lost who has a friend."],
    },
];

//! The plots of stories on land: in each a problem, a turn, and a lesson.
//!
//! `{name} {he} {him} {his} {noun}` are the hero's, `{friend} {fhe} {fhim} {fhis} {fnoun}` those of the second one,
//! who comes into the story as `{meet}` ("an owl named Olive").

/// One plot: sentences as templates, in four paragraphs.
#[derive(Debug)]
pub(crate) struct Plot {
    /// What it is about, in words that a prompt may ask for.
    pub(crate) themes: &'static [&'static str],
    /// Things that stay the same through one telling.
    pub(crate) slots: &'static [(&'static str, &'static [&'static str])],
    /// How it begins, after the hero was introduced.
    pub(crate) start: &'static [&'static str],
    /// What goes wrong.
    pub(crate) trouble: &'static [&'static str],
    /// What changes it.
    pub(crate) turn: &'static [&'static str],
    /// How it ends.
    pub(crate) end: &'static [&'static str],
    /// What is learned from it, each a whole sentence.
    pub(crate) lessons: &'static [&'static str],
}

/// Plots for every hero who does not live in the sea.
#[rustfmt::skip] // a table: one thing on a line
pub(crate) const LAND: &[Plot] = &[
    Plot {
        themes: &["asking for help", "a lost thing", "friendship"],
        slots: &[
            ("thing", &["red scarf", "shiny button", "little bell", "blue hat", "golden key", "favourite book"]),
            ("spot", &["under a pile of leaves", "behind a big stone", "in an old nest", "under the bench", "in the tall grass"]),
        ],
        start: &["[More than anything, {he} loved {his} {thing}.|{He} had a {thing}, and {he} took it everywhere.]"],
        trouble: &[
            "One [morning|day|windy day], the {thing} was gone.",
            "{Name} looked [here and there|in every corner|all over the place], but {he} could not find it.",
            "[{He} began to cry.|{He} sat down and felt very sad.|\"Oh no,\" {he} said. \"Where can it be?\"]",
        ],
        turn: &[
            "Just then, {meet} came by.",
            "\"[What is the matter?|Why are you so sad?|Can I help you?]\" asked {friend}.",
            "\"I lost my {thing},\" said {name}.",
            "\"[Two can look better than one|Let us look together|I will help you find it],\" said {friend}.",
        ],
        end: &[
            "They looked and looked, and at last {friend} found the {thing} {spot}.",
            "[{Name} laughed and gave {friend} a big hug.|{Name} was so happy that {he} danced.|\"Thank you, {friend}!\" said {name}.]",
            "[From that day on, they were good friends.|After that, they played until the sun went down.|]",
        ],
        lessons: &["It is good to ask for help.", "Two friends can find what one cannot.", "A friend makes every trouble smaller."],
    },
    Plot {
        themes: &["sharing", "a storm", "kindness"],
        slots: &[("shelter", &["a dry cave", "an old barn", "a hollow tree", "a little hut"])],
        start: &["[{He} liked warm days and blue skies.|{He} liked to walk far from home.|Every day, {he} went out to look at the world.]"],
        trouble: &[
            "One [afternoon|evening|day], dark clouds filled the sky.",
            "[The wind began to blow, and the rain came down.|There was thunder, and then the rain came down hard.]",
            "{Name} ran and ran until {he} found {shelter}.",
            "It was [small|very small], but it was warm and dry.",
        ],
        turn: &[
            "Soon {he} heard a soft voice outside.",
            "It was {meet}, and {fhe} was wet and cold.",
            "\"[May I come in?|Is there room for me?]\" asked {friend}.",
            "{Name} thought for a moment. There was not much room.",
            "\"[Of course|Come in],\" said {name}. \"[We can sit close together|There is always room for one more].\"",
        ],
        end: &[
            "They sat side by side and told stories until the storm was over.",
            "[In the morning, a rainbow stood in the sky.|When the sun came out, they shared some sweet berries.|When they woke up, the sun was shining.]",
            "[They were friends from then on.|\"You have a big heart,\" said {friend}.|]",
        ],
        lessons: &["There is always room to share.", "Sharing makes a small place feel big.", "A kind heart is warmer than a fire."],
    },
    Plot {
        themes: &["courage", "the night", "being brave", "bedtime"],
        slots: &[("comfort", &["the stars", "the moon", "the little lights of the fireflies"])],
        start: &["[{He} was happy all day long, but {he} was afraid of the dark.|There was one thing {he} did not like, and that was the dark.]"],
        trouble: &[
            "Every night, {he} hid under {his} blanket and shook.",
            "[\"What if something is out there?\" {he} thought.|{He} heard a noise here and a noise there.|The night seemed so big, and {he} felt so small.]",
            "One night, {he} could not sleep at all.",
        ],
        turn: &[
            "Then {meet} [called softly from outside|knocked at the door|came to visit].",
            "\"Come out with me,\" said {friend}. \"I want to show you something.\"",
            "{Name} was afraid, but {he} took one small step, and then another.",
            "[Together they looked up.|{Friend} pointed up.] There were {comfort}, shining over the whole world.",
        ],
        end: &[
            "\"[Oh, how beautiful|I did not know the night was so lovely],\" said {name}.",
            "[{He} was not afraid any more.|All at once, the dark did not feel so dark.]",
            "[That night, {name} slept very well.|They sat together until {name} fell asleep.]",
        ],
        lessons: &["Being brave means taking one small step.", "The dark is full of lovely things.", "With a friend, nothing is so scary."],
    },
    Plot {
        themes: &["kindness", "a race", "winning"],
        slots: &[("prize", &["a basket of apples", "a big cake", "a jar of honey", "a bag of nuts"])],
        start: &["{He} was fast, and {he} wanted to win the great race.", "The prize was {prize}."],
        trouble: &[
            "On the day of the race, [everybody came to look|the sun was shining|all the neighbours came].",
            "\"One, two, three, go!\" And off they ran.",
            "{Name} was soon far ahead.",
            "[But then {he} heard a cry.|But on the way, {he} heard somebody call for help.]",
        ],
        turn: &[
            "It was {meet}. {Fhe} had [fallen into a ditch|hurt {fhis} foot|got stuck in the mud].",
            "{Name} looked at the road. [If {he} stopped, {he} would lose.|The others were coming closer.]",
            "[But {he} could not leave {friend} alone.|Then {he} looked at {friend}, and {he} stopped.]",
            "{He} helped {friend} up, and they walked on together.",
        ],
        end: &[
            "They came in last, but [everybody clapped and cheered|nobody laughed at them].",
            "\"You did not win the race,\" said {friend}, \"but you won a friend.\"",
            "[And the winner shared the prize with them all.|{Name} smiled all the way home.]",
        ],
        lessons: &["Being kind is better than being first.", "A good heart wins more than fast feet.", "It is better to help than to win."],
    },
    Plot {
        themes: &["trying again", "learning", "not giving up"],
        slots: &[
            ("skill", &["whistle", "sing", "dance", "juggle", "paint", "draw", "jump over the stream"]),
        ],
        start: &["There was one thing {he} wanted to do, and that was to {skill}."],
        trouble: &[
            "{He} tried on Monday, but it did not go well.",
            "{He} tried on Tuesday, and it was [even worse|not much better].",
            "[The others laughed.|\"I will never learn it,\" said {name}.|{Name} wanted to give up.]",
        ],
        turn: &[
            "Then {meet} sat down next to {him}.",
            "\"[When I was young, I could not {skill} at all|Nobody can {skill} on the first day|I had to try a hundred times],\" said {friend}.",
            "\"[Try a little every day|Go slowly, and do not stop|Do it once more, just for fun].\"",
            "So {name} tried [every morning|day after day|again and again].",
        ],
        end: &[
            "And one [fine day|sunny morning], {he} could {skill} at last!",
            "[{Friend} clapped and cheered.|Everybody came to see it.|\"I knew you could do it,\" said {friend}.]",
            "[{Name} was very proud.|{Name} laughed with joy.|]",
        ],
        lessons: &["If you try again and again, you will learn.", "Nobody can do everything on the first day.", "Do not give up too soon."],
    },
    Plot {
        themes: &["patience", "a garden", "waiting", "spring"],
        slots: &[("plant", &["sunflower", "pumpkin", "strawberry plant", "little apple tree", "red rose"])],
        start: &["One spring, {he} found a small seed and put it in the ground.", "\"Grow, little seed,\" {he} said."],
        trouble: &[
            "The next day, {he} looked, but nothing was there.",
            "{He} looked [every day|each morning], and still there was nothing.",
            "\"[This seed does not want to grow|Maybe it is a bad seed|I do not like to wait],\" said {name}, and {he} was [angry|sad].",
        ],
        turn: &[
            "\"Give it time,\" said {meet}.",
            "\"[A seed needs water, sun and a little time|Good things grow slowly|You cannot see it, but it is growing].\"",
            "So {name} gave it water and waited.",
            "[The rain came, and the sun came.|Days went by, and weeks went by.]",
        ],
        end: &[
            "Then one morning, a small green leaf came out of the ground.",
            "[By summer,|Before long,] it was a beautiful {plant}.",
            "[{Name} and {friend} sat down next to it and smiled.|\"It was worth the wait,\" said {name}.|{Name} showed it to {friend}, and they danced around it.]",
        ],
        lessons: &["Good things take time.", "Those who can wait will be happy.", "A little patience makes big things grow."],
    },
    Plot {
        themes: &["honesty", "saying sorry", "telling the truth"],
        slots: &[("food", &["berries", "cookies", "apples", "honey cakes", "cherries", "nuts"])],
        start: &["{He} was a good friend of {meet}.", "[But one day, {he} did a silly thing.|But {he} was always a little hungry.]"],
        trouble: &[
            "{Friend} had a basket of {food}, and {fhe} kept them for {fhis} birthday.",
            "When nobody was looking, {name} ate one. Then {he} ate another. Soon the basket was empty.",
            "\"Who took my {food}?\" asked {friend}, and {fhe} was very sad.",
            "{Name} looked at the ground and said nothing.",
        ],
        turn: &[
            "That night, {he} could not sleep. [{His} tummy hurt, and {his} heart hurt more.|{He} thought of {friend} all the time.]",
            "In the morning, {he} went to {friend}.",
            "\"It was me,\" {he} said. \"I ate your {food}. I am very sorry.\"",
        ],
        end: &[
            "{Friend} was quiet for a while. Then {fhe} smiled.",
            "\"[Thank you for telling me the truth|It is not easy to say sorry],\" {fhe} said.",
            "They went out together and found [new {food}|a whole basket of new {food}], and this time they shared them.",
        ],
        lessons: &["It is always better to tell the truth.", "Saying sorry can mend a heart.", "A true friend tells the truth."],
    },
    Plot {
        themes: &["helping", "the way home", "kindness"],
        slots: &[("sign", &["a tall tree with two tops", "a bridge of white stones", "a big red flower", "an old mill"])],
        start: &["{He} knew every path and every stone around {his} home."],
        trouble: &[
            "One [evening|day], {he} heard somebody cry.",
            "It was {meet}. {Fhe} was sitting all alone [by the road|behind a bush].",
            "\"I am lost,\" said {friend}. \"[I do not know the way home|I want to go home].\"",
        ],
        turn: &[
            "\"Do not cry,\" said {name}. \"What is near your home?\"",
            "{Friend} thought hard. \"There is {sign},\" {fhe} said.",
            "\"[I know that place|I have seen it before]!\" said {name}. \"Come with me.\"",
            "They walked [over the hill and through the valley|along the river|through the fields], and they sang so that the way was not so long.",
        ],
        end: &[
            "At last they saw {sign}, and {friend} [jumped for joy|laughed out loud].",
            "{Fhis} mother was waiting at the door. \"[Thank you, {name}|How can I ever thank you]!\" she said.",
            "[She gave them warm soup, and they ate together.|{Name} went home with a warm heart.]",
        ],
        lessons: &["A little help can mean a lot.", "Nobody is lost who has a friend.", "When you help somebody, two hearts are happy."],
    },
    Plot {
        themes: &["a birthday", "friendship", "a surprise"],
        slots: &[("cake", &["chocolate cake", "apple cake", "honey cake", "strawberry cake"])],
        start: &["Today was {his} birthday, and {he} woke up very early.", "[\"Today will be a wonderful day,\" {he} said.|]"],
        trouble: &[
            "{He} waited at the door, but nobody came.",
            "{He} went to see {meet}, but {friend} only said, \"[I am busy today|Sorry, I have no time].\"",
            "\"[Everybody forgot my birthday|Nobody thinks of me today],\" thought {name}, and {he} walked [slowly home|home all alone].",
        ],
        turn: &[
            "When {he} opened the door, it was dark inside.",
            "Then there was light, and many voices called, \"Surprise!\"",
            "All {his} friends were there, and in the middle stood {friend} with a big {cake}.",
        ],
        end: &[
            "\"We did not forget you,\" said {friend}. \"[We only kept a secret|We were busy with the cake]!\"",
            "{Name} [laughed and cried at the same time|was so happy that {he} could not speak].",
            "They sang and danced and ate the {cake} [until late at night|until the last bit was gone].",
        ],
        lessons: &["Good friends never forget you.", "The best present is a good friend.", "Do not be sad too soon."],
    },
    Plot {
        themes: &["courage", "a mystery", "a strange noise"],
        slots: &[
            ("sound", &["Tap, tap, tap", "Woo, woo, woo", "Crack, crack", "Bang, bang"]),
            ("cause", &["a loose branch in the wind", "an old bucket that rolled in the wind", "a broken window that moved in the wind", "an empty box that the wind was playing with"]),
        ],
        start: &["[{He} liked to know everything.|{He} always asked many questions.|]"],
        trouble: &[
            "One night, there was a strange noise. \"{sound}!\"",
            "\"It must be a monster,\" said {meet}, and {fhe} hid [behind a tree|under a bush|in a corner].",
            "[Nobody could sleep.|Everybody was afraid.]",
        ],
        turn: &[
            "\"{sound}!\" There it was again.",
            "{Name} was afraid too, but {he} wanted to know what it was.",
            "{He} took a [small lamp|light] and went [closer and closer|nearer, step by step].",
            "And what did {he} see? It was only {cause}!",
        ],
        end: &[
            "\"Come and look, {friend}!\" called {name}. \"Here is your monster!\"",
            "{Friend} [came out and laughed|looked at it and had to laugh].",
            "They [went home and slept until noon|laughed about it for many days].",
        ],
        lessons: &["Look closely before you are afraid.", "Many big fears are very small things.", "Those who ask and look are not afraid for long."],
    },
    Plot {
        themes: &["working together", "building a bridge", "teamwork"],
        slots: &[("side", &["sweet berries", "good grass", "green meadows", "many flowers"])],
        start: &["On the other side of the river there were {side}, and {he} went there every day."],
        trouble: &[
            "One spring, the water was high, and it took the old bridge away.",
            "{Name} wanted to build a new one. {He} [pulled and pushed|worked all day], but the wood was too heavy for {him}.",
            "[\"I cannot do it,\" {he} said.|{He} sat down, tired and sad.]",
        ],
        turn: &[
            "On the other side stood {meet}. \"I want to cross the river too,\" {fhe} called.",
            "\"You build from that side, and I build from this side!\" said {name}.",
            "[So they worked, day after day.|They carried wood and stones, and they sang while they worked.]",
        ],
        end: &[
            "And one day, they met in the middle of the river.",
            "The bridge was [strong and beautiful|not very pretty, but it was strong].",
            "\"[Alone we could not do it|Look what we did],\" said {friend}. \"[Together we could|Together we are strong]!\"",
        ],
        lessons: &["Together we can do great things.", "Work is easier with a friend.", "Two build better than one."],
    },
    Plot {
        themes: &["sharing", "winter", "snow", "kindness"],
        slots: &[("food", &["nuts", "apples", "corn", "bread", "carrots"])],
        start: &["All summer long, {he} worked hard and put {food} away for the winter."],
        trouble: &[
            "Then the winter came, and snow covered everything.",
            "{Name} sat in {his} warm home with plenty of {food}.",
            "One cold [night|day], there was a knock at the door. It was {meet}.",
            "\"I have nothing to eat,\" said {friend}, and {fhe} was [shaking with cold|very thin].",
        ],
        turn: &[
            "{Name} looked at {his} {food}. \"[Will it be enough for two|If I share, will I have enough]?\" {he} thought.",
            "Then {he} looked at {friend} and [opened the door wide|knew what to do].",
            "\"Come in and eat with me,\" {he} said.",
        ],
        end: &[
            "All winter long, they shared the {food} and told each other stories.",
            "And when spring came, {friend} said, \"[Now I will share with you|I will never forget this].\"",
            "[That summer, they worked side by side.|{Fhe} brought {name} the first flowers of the year.]",
        ],
        lessons: &["What you share comes back to you.", "A winter is short with a friend.", "Those who share are never poor."],
    },
    Plot {
        themes: &["a new friend", "being shy", "friendship"],
        slots: &[("gift", &["a basket of apples", "a warm cake", "some flowers", "a jar of honey"])],
        start: &["Next to {him}, there was an empty house.", "[It had been empty for a long time.|]"],
        trouble: &[
            "One day, somebody moved in. It was {meet}.",
            "{Name} wanted to say hello, but {he} did not dare.",
            "{He} [looked out of the window and hid again.|went to the door and came back.|thought, \"What if nobody likes me there?\"]",
        ],
        turn: &[
            "In the end, {he} took {gift} and went over.",
            "{His} heart was beating fast. {He} knocked at the door.",
            "The door opened, and there stood {friend}. {Fhe} had [{fhis} hands full|a present too].",
            "\"I wanted to come to you,\" said {friend}, \"but I was too shy!\"",
        ],
        end: &[
            "They looked at each other and began to laugh.",
            "[They ate together and talked until the evening.|Then they sat in the sun and talked about everything.]",
            "[From that day on, nobody in that street was lonely.|After that, their doors were always open.]",
        ],
        lessons: &["A kind hello can start a friendship.", "Others may be as shy as you are.", "A friend may be closer than you think."],
    },
    Plot {
        themes: &["the moon", "wishes", "a funny thing", "bedtime"],
        slots: &[("tool", &["a net", "a bucket", "a long rope", "a big spoon"])],
        start: &["{He} loved the moon and wanted to have it for {himself}."],
        trouble: &[
            "One night, {he} saw the moon in the water of a pond.",
            "\"[The moon has fallen down|Now I can catch it]!\" {he} said, and {he} ran to get {tool}.",
            "{He} tried and tried, but each time the moon broke into a hundred little lights.",
            "In the end, {name} fell into the water. Splash!",
        ],
        turn: &[
            "{Meet} was sitting near the water and helped {him} out.",
            "\"What are you doing?\" asked {friend}.",
            "\"I want to catch the moon,\" said {name}.",
            "{Friend} smiled. \"Look up,\" {fhe} said. \"[The moon is still in the sky|It is up there, where everybody can see it].\"",
        ],
        end: &[
            "{Name} looked up and began to laugh.",
            "\"[It is better up there|The sky can keep it],\" {he} said. \"Now it shines for all of us.\"",
            "[They sat by the water and looked at the moon together.|And they both went home, one dry and one very wet.]",
        ],
        lessons: &["The most beautiful things belong to everybody.", "You do not have to own a thing to love it.", "It is good to laugh about yourself."],
    },
    Plot {
        themes: &["home", "a journey", "an adventure"],
        slots: &[
            ("goal", &["the sea", "the top of the mountain", "the big city", "the end of the rainbow"]),
            ("sight", &["It was big and bright", "It was wonderful", "It was more beautiful than in the stories"]),
        ],
        start: &["[Every day was the same, and {he} wanted to see something new.|{He} had heard many stories about {goal}.]", "\"I want to see {goal},\" {he} said one day."],
        trouble: &[
            "So {he} packed a small bag and went off.",
            "The way was long. [{His} feet hurt, and the nights were cold.|It rained, and {he} was all alone.]",
            "[\"Maybe I should go back,\" {he} thought.|{He} sat down at the side of the road and sighed.]",
        ],
        turn: &[
            "There {he} met {meet}, who was on the way to {goal} too.",
            "\"Let us go together,\" said {friend}.",
            "And now the way was [much shorter|not so hard], because they [talked and laughed|sang and told stories].",
            "At last they came to {goal}. {sight}.",
        ],
        end: &[
            "They stayed for [three days|a week]. Then {name} thought of {his} own bed.",
            "\"I have seen {goal},\" {he} said, \"and now I want to see my home.\"",
            "[When {he} came home, everything looked lovely to {him}.|And home had never been so beautiful.]",
        ],
        lessons: &["It is good to go, and it is good to come home.", "A long way is short with a friend.", "The best part of a journey is a friend."],
    },
    Plot {
        themes: &["forgiveness", "a quarrel", "friendship"],
        slots: &[("toy", &["kite", "ball", "drum", "little boat"])],
        start: &["{His} best friend was {meet}.", "[They did everything together.|They played together every day.]"],
        trouble: &[
            "One day, they found a {toy}.",
            "\"It is mine!\" said {name}. \"No, it is mine!\" said {friend}.",
            "They pulled from both sides, and crack! The {toy} was broken.",
            "[Both went home without a word.|\"I will never play with you again!\" they both cried.]",
        ],
        turn: &[
            "But it was no fun to play alone.",
            "[The next morning|After two days], {name} took some [glue|string] and went to {friend}.",
            "On the way, {he} met {friend}, who was coming to {him}.",
            "\"I am sorry,\" they both said at the same time.",
        ],
        end: &[
            "They mended the {toy} together.",
            "[It did not look new, but it was better than before, because now it belonged to both of them.|Then they played until the evening, first one and then the other.]",
            "[They never had such a quarrel again.|\"You are better than any {toy},\" said {friend}.|]",
        ],
        lessons: &["A friend is worth more than a toy.", "It is brave to say sorry first.", "Sharing is more fun than winning."],
    },
    Plot {
        themes: &["being yourself", "singing", "fog"],
        slots: &[("way", &["very softly", "a bit too low", "a bit too high", "in a funny way"])],
        start: &["{He} loved to sing, but {he} sang {way}.", "[The others laughed about it.|\"Please stop,\" said the others.]"],
        trouble: &[
            "So {name} stopped singing, and {he} was [quiet and sad|not happy any more].",
            "One day, a thick fog came. [It was so thick that nobody could see a thing.|You could not see your own feet.]",
            "And out in the fog was {meet}, who could not find the way home.",
        ],
        turn: &[
            "Everybody called, but {friend} could not hear where they were.",
            "Then {name} began to sing, {way}, as {he} always did.",
            "\"I know that voice!\" said {friend}. \"[There is only one like it|That is {name}]!\"",
            "{Friend} followed the song, step by step, until {fhe} was safe at home.",
        ],
        end: &[
            "\"Your voice brought me home,\" said {friend}.",
            "[After that, nobody laughed about {name} any more.|Now everybody asked {name} for a song.]",
            "And {he} sang every day, {way}, and {he} was happy.",
        ],
        lessons: &["Be yourself, for nobody else can do it.", "What makes you different can be what others need.", "Every voice is good for something."],
    },
    Plot {
        themes: &["being small", "helping", "courage"],
        slots: &[("treasure", &["key", "ring", "coin", "bell"])],
        start: &["{He} was not very big, and {he} often wished to be bigger.", "[\"You are too small to help,\" the others always said.|]"],
        trouble: &[
            "One day, {meet} was [very upset|in trouble].",
            "\"My {treasure} fell into a deep hole,\" said {friend}. \"It is too narrow for me.\"",
            "[Many came to help, but they were all too big.|Everybody tried, and nobody could reach it.]",
        ],
        turn: &[
            "\"Let me try,\" said {name}.",
            "[Some of them laughed, but {friend} did not.|\"You?\" they said. But {friend} said, \"Yes, please!\"]",
            "{Name} took a deep breath and [went in|climbed down] [bit by bit|very slowly].",
            "It was dark and tight. Then {he} saw something shine. It was the {treasure}!",
        ],
        end: &[
            "When {name} came out with the {treasure}, everybody cheered.",
            "\"Today you are the biggest of us all,\" said {friend}.",
            "[And {name} never again wished to be bigger.|{Name} was proud to be just as {he} was.]",
        ],
        lessons: &["You are never too small to help.", "Small ones can do great things.", "Everybody is good at something."],
    },
    Plot {
        themes: &["mistakes", "baking", "a funny thing"],
        slots: &[("dish", &["cake", "pie", "soup", "pudding"]), ("wrong", &["salt", "pepper", "sand", "soap"])],
        start: &["{He} wanted to make a {dish} for {meet}.", "\"It will be the best {dish} in the world,\" {he} said."],
        trouble: &[
            "{He} [mixed and stirred|worked all morning] and did not look closely.",
            "And so {he} took {wrong} and thought it was sugar.",
            "{Friend} came, took a big bite, and [made a very strange face|turned red and then green].",
            "\"[Is it good|Do you like it]?\" asked {name}.",
        ],
        turn: &[
            "{Friend} did not want to lie. \"[It is a little strange|I think something is not right],\" {fhe} said.",
            "{Name} tried it too. \"Oh dear! That is {wrong}!\"",
            "For a moment it was quiet. Then {friend} began to laugh, and {name} laughed too.",
        ],
        end: &[
            "\"Let us make a new one together,\" said {friend}.",
            "This time they looked twice, and the {dish} was [sweet and good|wonderful].",
            "[But they still laugh about the first one.|They ate it all, down to the last bit.]",
        ],
        lessons: &["Everybody makes mistakes, and it is good to laugh about them.", "Look twice, and then begin.", "A mistake is the start of something better."],
    },
    Plot {
        themes: &["caring", "a sick friend", "kindness"],
        slots: &[("dish", &["hot soup", "warm milk", "tea with honey", "sweet porridge"])],
        start: &["Every [morning|afternoon], {he} met {meet} [at the old bridge|under the big tree|at the well]."],
        trouble: &[
            "But today {friend} did not come.",
            "{Name} waited and waited. [\"Something is wrong,\" {he} thought.|The sun went higher, and still nobody came.]",
            "So {he} ran to the house of {friend}. There lay {friend} in bed, sick and pale.",
        ],
        turn: &[
            "\"[My head hurts|I feel so weak],\" said {friend}, \"[and I am all alone|and I cannot get up].\"",
            "\"You are not alone,\" said {name}. \"I am here.\"",
            "{He} made {dish}, [opened the window|put a blanket on the bed], and told funny stories.",
            "{He} came back the next day, and the day after.",
        ],
        end: &[
            "On the [third|fourth] day, {friend} sat up and smiled.",
            "\"The {dish} was good,\" {fhe} said, \"but the best medicine was you.\"",
            "[Soon they met again every day, just as before.|The next week, they were out in the sun again.]",
        ],
        lessons: &["The best medicine is a good friend.", "Caring for others makes them strong.", "A small visit can do great good."],
    },
    Plot {
        themes: &["keeping a promise", "a letter", "not giving up"],
        slots: &[("news", &["a birthday letter", "a letter from far away", "a letter with good news"])],
        start: &["{He} carried letters from house to house, and {he} was proud of it."],
        trouble: &[
            "One cold day, {he} had {news} for {meet}.",
            "\"I promise to bring it today,\" {he} said.",
            "But [the snow was deep and the wind was strong|a tree had fallen across the road].",
            "\"[Go home|Do it tomorrow],\" said the others. \"Nobody can get through today.\"",
        ],
        turn: &[
            "{Name} thought about it. \"[I gave my word|{friend} is waiting],\" {he} said.",
            "{He} held the letter close and went on, [step by step|slowly and carefully].",
            "{He} fell down, and {he} got up again.",
        ],
        end: &[
            "When it was almost dark, {he} knocked at the door.",
            "{Friend} opened it and could not believe {fhis} eyes. \"You came in this weather!\"",
            "{Friend} read the letter and [cried with joy|danced through the room]. Then they [drank hot tea by the fire|sat by the warm fire together].",
        ],
        lessons: &["A promise is a promise.", "You can trust somebody who keeps a promise.", "Step by step, you can get through everything."],
    },
];

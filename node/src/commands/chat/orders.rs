//! What a person types into a session: questions, and orders that begin with a slash.

use infernet_protocol::NodeId;
use infernet_protocol::auction::Policy;

use crate::similar::similar;

/// An order, as `/help` shows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub(super) name: &'static str,
    /// What it takes, for people.
    pub(super) takes: &'static str,
    pub(super) about: &'static str,
}

const fn known(name: &'static str, takes: &'static str, about: &'static str) -> Known {
    Known { name, takes, about }
}

/// Every order, in the order of `/help`.
pub(super) const ORDERS: [Known; 10] = [
    known("/help", "", "this list"),
    known(
        "/model",
        "[NAME]",
        "the models that are served; with a name, ask that one",
    ),
    known(
        "/provider",
        "[PEERID|npub|any]",
        "who answered last; ask only this one, or anybody again",
    ),
    known("/policy", "[NAME]", "what matters when a provider is chosen"),
    known("/system", "[TEXT|off]", "what the model is told beforehand"),
    known("/cost", "", "what this session has used"),
    known("/clear", "", "forget the conversation"),
    known("/save", "FILE", "write the conversation to a new file, as Markdown"),
    known("/retry", "", "the last question again, to another provider"),
    known("/quit", "", "leave"),
];

/// What was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Input {
    Nothing,
    Question(String),
    Order(Order),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Help,
    Models,
    Model(String),
    Provider(Option<String>),
    Policy(Option<Policy>),
    System(Option<String>),
    Cost,
    Clear,
    Save(String),
    Retry,
    Quit,
}

/// Why an order cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Wrong {
    /// There is no such order.
    #[error("there is no `{word}`{}", match .near {
        Some(near) => format!(": did you mean `{near}`?"),
        None => ": `/help` lists what there is; a question may begin with a space".to_owned(),
    })]
    Unknown {
        /// What was typed.
        word: String,
        /// The order that is spelled most like it.
        near: Option<&'static str>,
    },
    /// Something has to follow.
    #[error("`{name}` takes something: `{name} {takes}`")]
    Missing {
        /// The order.
        name: &'static str,
        /// What it takes.
        takes: &'static str,
    },
    /// Nothing may follow.
    #[error("`{0}` takes nothing behind it; a question that begins with a slash is typed with a space before it")]
    Surplus(&'static str),
    /// No such policy.
    #[error("there is no policy `{word}`: use one of {}", policies().join(", "))]
    Policy {
        /// What was typed.
        word: String,
    },
    /// No such provider.
    #[error("`{word}` is no provider: use a peer id, an npub, the end of one that has answered, or `any`")]
    Provider {
        /// What was typed.
        word: String,
    },
}

fn policies() -> Vec<&'static str> {
    Policy::ALL.iter().map(|policy| policy.as_str()).collect()
}

/// Reads what was typed. A line that begins with a space is a question, whatever follows.
pub(super) fn read(typed: &str) -> Result<Input, Wrong> {
    if typed.trim().is_empty() {
        return Ok(Input::Nothing);
    }
    if !typed.starts_with('/') {
        return Ok(Input::Question(typed.trim().to_owned()));
    }
    let (word, rest) = typed.split_once(char::is_whitespace).unwrap_or((typed, ""));
    // What other programs call them.
    let word = match word {
        "/exit" => "/quit",
        "/new" => "/clear",
        word => word,
    };
    let rest = Some(rest.trim()).filter(|rest| !rest.is_empty()).map(str::to_owned);
    let Some(known) = ORDERS.iter().find(|known| known.name == word) else {
        let near = similar(word, ORDERS.iter().map(|known| known.name)).first().copied();
        let word = word.to_owned();
        return Err(Wrong::Unknown { word, near });
    };
    if known.takes.is_empty() && rest.is_some() {
        return Err(Wrong::Surplus(known.name));
    }
    Ok(Input::Order(match (known.name, rest) {
        ("/help", _) => Order::Help,
        ("/model", None) => Order::Models,
        ("/model", Some(model)) => Order::Model(model),
        ("/provider", rest) => Order::Provider(rest),
        ("/policy", None) => Order::Policy(None),
        ("/policy", Some(word)) => {
            let policy = word.to_lowercase().parse();
            Order::Policy(Some(policy.map_err(|_| Wrong::Policy { word })?))
        }
        ("/system", rest) => Order::System(rest),
        ("/cost", _) => Order::Cost,
        ("/clear", _) => Order::Clear,
        ("/save", Some(file)) => Order::Save(file),
        ("/save", None) => {
            let Known { name, takes, .. } = *known;
            return Err(Wrong::Missing { name, takes });
        }
        ("/retry", _) => Order::Retry,
        _ => Order::Quit,
    }))
}

/// Fewest letters of an id's end that name somebody.
const END_SHORTEST: usize = 4;

/// The provider that a word names: `None` is anybody. Those who have `answered` are known by the ends of their ids.
pub(super) fn provider(word: &str, answered: &[NodeId]) -> Result<Option<NodeId>, Wrong> {
    if word.eq_ignore_ascii_case("any") {
        return Ok(None);
    }
    let end = word.rsplit('…').next().unwrap_or(word);
    let ends = |node: &&NodeId| end.len() >= END_SHORTEST && node.peer_id().ends_with(end);
    let mut ending = answered.iter().filter(ends);
    match (NodeId::parse(word), ending.next(), ending.next()) {
        (Ok(node), ..) => Ok(Some(node)),
        (Err(_), Some(node), None) => Ok(Some(*node)),
        _ => Err(Wrong::Provider { word: word.to_owned() }),
    }
}

/// What orders can be completed with.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    pub(super) models: Vec<String>,
    /// Peer ids of those who have answered.
    pub(super) providers: Vec<String>,
}

/// Where the word at the end of `typed` begins, and what it can become.
pub(super) fn complete(typed: &str, names: &Names) -> (usize, Vec<String>) {
    if !typed.starts_with('/') {
        return (0, Vec::new());
    }
    let Some((order, word)) = typed.split_once(' ') else {
        let orders = ORDERS.iter().filter(|known| known.name.starts_with(typed));
        let space = |known: &Known| if known.takes.is_empty() { "" } else { " " };
        return (
            0,
            orders.map(|known| format!("{}{}", known.name, space(known))).collect(),
        );
    };
    let candidates: Vec<&str> = match order {
        "/model" => names.models.iter().map(String::as_str).collect(),
        "/provider" => ["any"]
            .into_iter()
            .chain(names.providers.iter().map(String::as_str))
            .collect(),
        "/policy" => policies(),
        "/system" => vec!["off"],
        _ => Vec::new(),
    };
    // A model is known by what stands behind its maker too.
    let short = |name: &str| name.rsplit_once('/').is_some_and(|(_, name)| name.starts_with(word));
    let fits = |candidate: &&str| candidate.starts_with(word) || !word.is_empty() && short(candidate);
    let fitting = candidates.into_iter().filter(fits);
    (order.len() + 1, fitting.map(str::to_owned).collect())
}

/// What an order takes, as a hint behind it.
pub(super) fn hint(typed: &str) -> Option<&'static str> {
    let known = ORDERS
        .iter()
        .find(|known| typed.strip_suffix(' ').unwrap_or(typed) == known.name)?;
    Some(known.takes).filter(|takes| !takes.is_empty())
}

/// Whether more lines follow: the last one ends in a backslash.
pub(super) fn goes_on(typed: &str) -> bool {
    typed.ends_with('\\')
}

/// Several lines as one text, without the backslashes between them.
pub(super) fn joined(typed: &str) -> String {
    typed.replace("\\\n", "\n")
}

#[cfg(test)]
mod tests {
    use infernet_protocol::Identity;

    use super::*;

    #[test]
    fn every_order_is_read() {
        let text = |text: &str| text.to_owned();
        for (typed, order) in [
            ("/help", Order::Help),
            ("/model", Order::Models),
            ("/model  Qwen3:8b ", Order::Model(text("Qwen3:8b"))),
            ("/provider", Order::Provider(None)),
            ("/provider any", Order::Provider(Some(text("any")))),
            ("/policy", Order::Policy(None)),
            ("/policy Fastest", Order::Policy(Some(Policy::Fastest))),
            ("/system", Order::System(None)),
            ("/system be\nbrief", Order::System(Some(text("be\nbrief")))),
            ("/cost", Order::Cost),
            ("/clear", Order::Clear),
            ("/save my talk.md", Order::Save(text("my talk.md"))),
            ("/retry", Order::Retry),
            ("/quit", Order::Quit),
            ("/exit", Order::Quit),
            ("/new", Order::Clear),
        ] {
            assert_eq!(read(typed), Ok(Input::Order(order)), "{typed}");
        }
        assert!(
            ORDERS
                .iter()
                .all(|known| !matches!(read(known.name), Err(Wrong::Unknown { .. })))
        );
    }

    #[test]
    fn what_is_no_order_is_a_question() {
        assert_eq!(read(" \n "), Ok(Input::Nothing));
        assert_eq!(read("why? "), Ok(Input::Question("why?".to_owned())));
        assert_eq!(
            read(" /etc/passwd, what is it?"),
            Ok(Input::Question("/etc/passwd, what is it?".to_owned()))
        );
        assert_eq!(read("a\n/quit"), Ok(Input::Question("a\n/quit".to_owned())));
    }

    #[test]
    fn wrong_orders_say_what_was_meant() {
        let wrong = |typed: &str| read(typed).unwrap_err().to_string();
        assert_eq!(wrong("/modle x"), "there is no `/modle`: did you mean `/model`?");
        assert!(wrong("/zzzzzzzz").contains("`/help` lists"));
        assert_eq!(wrong("/save"), "`/save` takes something: `/save FILE`");
        assert!(wrong("/quit now?").contains("takes nothing"));
        assert!(wrong("/policy best").ends_with("use one of cheapest, balanced, fastest, trusted"));
    }

    #[test]
    fn providers_are_named_in_every_way_that_is_shown() {
        let [one, two] = [3, 4].map(|byte| Identity::from_secret(&[byte; 32]).unwrap().node());
        let known = [one, two];
        assert_eq!(provider("ANY", &known), Ok(None));
        for word in [two.npub(), two.peer_id(), crate::out::short_peer(&two.peer_id())] {
            assert_eq!(provider(&word, &known), Ok(Some(two)), "{word}");
        }
        assert!(
            provider(&two.peer_id(), &[]).is_ok(),
            "a whole id needs nobody to have answered"
        );
        for word in ["me", "", &crate::out::short_peer(&two.peer_id())] {
            assert!(provider(word, &known[..1]).is_err(), "{word}");
        }
    }

    #[test]
    fn words_are_completed() {
        let names = Names {
            models: vec!["qwen3:8b".to_owned(), "meta/llama".to_owned()],
            providers: vec!["16Uiu2HAx".to_owned()],
        };
        let completed = |typed: &str| complete(typed, &names);
        assert_eq!(completed("/mo"), (0, vec!["/model ".to_owned()]));
        assert_eq!(completed("/c"), (0, vec!["/cost".to_owned(), "/clear".to_owned()]));
        assert_eq!(completed("/model q"), (7, vec!["qwen3:8b".to_owned()]));
        assert_eq!(completed("/model ll").1, ["meta/llama"]);
        assert_eq!(completed("/model ").1.len(), 2);
        assert_eq!(completed("/provider ").1, ["any", "16Uiu2HAx"]);
        assert_eq!(completed("/policy f").1, ["fastest"]);
        assert!(completed("tell me").1.is_empty() && completed("/save x").1.is_empty());
        assert_eq!(
            (hint("/save"), hint("/save "), hint("/quit"), hint("x")),
            (Some("FILE"), Some("FILE"), None, None)
        );
    }

    #[test]
    fn a_backslash_asks_for_another_line() {
        assert!(goes_on("one\\") && !goes_on("one\\ ") && !goes_on("one\\\ntwo"));
        assert_eq!(joined("one\\\ntwo\nthree"), "one\ntwo\nthree");
    }
}

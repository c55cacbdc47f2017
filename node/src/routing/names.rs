//! Names that stand for models: aliases of the user's own with the models to try in turn, and `fast` and `cheap`.

use std::collections::BTreeMap;
use std::str::FromStr;

use infernet_protocol::capability::Features;
use infernet_protocol::{ModelId, Price};

use crate::gateway::ServedModel;

/// Models that one name may stand for: each that is tried costs the consumer time.
const CHAIN_MAX: usize = 8;
/// Models of which `fast` and `cheap` try one after the other.
const PICKED: usize = 3;
/// Output tokens by which prices are compared: a usual answer.
const OUTPUT_USUAL: u32 = 512;
/// Input tokens of a usual request, where there is none.
const INPUT_USUAL: u32 = 1_024;

/// Answers over which prices are compared: what one costs is rounded up to a whole micro-USD.
const ANSWERS_COMPARED: u32 = 1_000;

/// What a request asks of any model that may answer it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asks {
    pub(super) needs: Features,
    pub(super) input_tokens: u32,
    /// Tokens that must fit at once.
    pub(super) context: u32,
    pub(super) price_cap: Price,
}

impl Asks {
    /// What a usual chat does.
    pub(super) fn of_a_chat(price_cap: Price) -> Self {
        Self {
            needs: Features::CHAT,
            input_tokens: INPUT_USUAL,
            context: 0,
            price_cap,
        }
    }
}

/// Names that the user has given, each with the models to try, best first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names(BTreeMap<ModelId, Vec<ModelId>>);

impl Names {
    /// From lines such as `work = qwen2.5:7b > llama3.2`.
    pub fn parse(lines: &[String]) -> Result<Self, String> {
        let mut names = BTreeMap::new();
        for line in lines {
            let wrong = |why: &str| format!("`{line}`: {why}; write it like `work = qwen2.5:7b > llama3.2`");
            let (name, chain) = line.split_once('=').ok_or_else(|| wrong("has no `=`"))?;
            let id = |text: &str| ModelId::new(text.trim()).map_err(|_| wrong("has a name that cannot be a model's"));
            let chain: Vec<ModelId> = chain.split('>').map(id).collect::<Result<_, _>>()?;
            if chain.len() > CHAIN_MAX {
                return Err(wrong("names too many models"));
            }
            if names.insert(id(name)?, chain).is_some() {
                return Err(wrong("is there twice"));
            }
        }
        Ok(Self(names))
    }

    /// The models to try for a name, best first; none where a name picks, and there is nothing for it.
    pub(super) fn chain(&self, name: &ModelId, asks: &Asks, served: &[ServedModel]) -> Vec<ModelId> {
        if let Some(chain) = self.0.get(name) {
            return chain.clone();
        }
        let is_served = served.iter().any(|model| model.id == *name);
        match Pick::from_str(name.as_str()) {
            Ok(pick) if !is_served => pick.of(asks, served),
            _ => vec![name.clone()],
        }
    }

    /// Whether a name is the user's own, or one that picks.
    pub(super) fn knows(&self, name: &ModelId) -> bool {
        self.0.contains_key(name) || Pick::from_str(name.as_str()).is_ok()
    }
}

/// A name that picks among what is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pick {
    Fast,
    Cheap,
}

impl FromStr for Pick {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        match name {
            "fast" => Ok(Self::Fast),
            "cheap" => Ok(Self::Cheap),
            _ => Err(()),
        }
    }
}

impl Pick {
    fn of(self, asks: &Asks, served: &[ServedModel]) -> Vec<ModelId> {
        let mut able: Vec<&ServedModel> = served
            .iter()
            .filter(|model| model.can(asks.needs, asks.context) && model.price.within(&asks.price_cap))
            .collect();
        able.sort_by_cached_key(|model| {
            // In thousandths of a second per token; what is not known is slowest.
            let pace = model
                .tokens_per_second
                .map_or(u64::MAX, |speed| (1_000_000.0 / speed) as u64);
            let wait = model.ttft_ms.map_or(u64::MAX, u64::from);
            let answers = |tokens: u32| tokens.saturating_mul(ANSWERS_COMPARED);
            let cost = model.price.cost(answers(asks.input_tokens), answers(OUTPUT_USUAL)).0;
            let order = match self {
                Self::Fast => [pace, wait, cost],
                Self::Cheap => [cost, pace, wait],
            };
            (order, model.id.clone())
        });
        able.into_iter().take(PICKED).map(|model| model.id.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use infernet_protocol::MicroUsd;

    use super::*;

    fn id(name: &str) -> ModelId {
        ModelId::new(name).unwrap()
    }

    fn served(name: &str, output: u64, speed: Option<f32>, context: u32) -> ServedModel {
        ServedModel {
            id: id(name),
            providers: 1,
            context: Some(context),
            max_output: None,
            features: Features::CHAT,
            quantisations: Vec::new(),
            price: Price {
                output: MicroUsd(output),
                ..Price::FREE
            },
            ttft_ms: None,
            tokens_per_second: speed,
        }
    }

    fn asks(needs: Features, cap: u64) -> Asks {
        Asks {
            needs,
            input_tokens: 1_000,
            context: 1_000,
            price_cap: Price {
                output: MicroUsd(cap),
                ..Price::FREE
            },
        }
    }

    #[test]
    fn a_name_stands_for_models_in_turn() {
        let names = Names::parse(&["work = Qwen2.5:7b > llama3.2".into(), "gpt-4o=llama3.2".into()]).unwrap();
        let any = asks(Features::CHAT, 0);
        assert_eq!(names.chain(&id("work"), &any, &[]), [id("qwen2.5:7b"), id("llama3.2")]);
        assert_eq!(names.chain(&id("gpt-4o"), &any, &[]), [id("llama3.2")]);
        assert_eq!(names.chain(&id("other"), &any, &[]), [id("other")]);
        for wrong in ["work", "work = a >", "= a", "a b = c", "a=1>2>3>4>5>6>7>8>9"] {
            assert!(Names::parse(&[wrong.to_owned()]).is_err(), "{wrong}");
        }
        assert!(Names::parse(&["a=b".into(), "A=c".into()]).is_err(), "twice");
    }

    #[test]
    fn fast_and_cheap_pick_what_can_do_it() {
        let served = [
            served("dear-fast", 900, Some(90.0), 8_192),
            served("cheap-slow", 0, Some(5.0), 8_192),
            served("cheap-quicker", 0, Some(30.0), 8_192),
            served("unknown-speed", 100, None, 8_192),
            served("short", 0, Some(200.0), 512),
        ];
        let names = Names::default();
        let chain = |name: &str, cap| names.chain(&id(name), &asks(Features::CHAT, cap), &served);
        assert_eq!(
            chain("fast", 1_000),
            [id("dear-fast"), id("cheap-quicker"), id("cheap-slow")]
        );
        assert_eq!(chain("fast", 0), [id("cheap-quicker"), id("cheap-slow")]);
        assert_eq!(
            chain("cheap", 1_000),
            [id("cheap-quicker"), id("cheap-slow"), id("unknown-speed")]
        );
        let embeds = asks(Features::EMBEDDINGS, 1_000);
        assert_eq!(names.chain(&id("fast"), &embeds, &served), [], "nobody can");
        let own = Names::parse(&["fast = mine".into()]).unwrap();
        assert_eq!(
            own.chain(&id("fast"), &embeds, &served),
            [id("mine")],
            "the user's own word counts"
        );
    }
}

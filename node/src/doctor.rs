//! What is well with a node and what is not: findings, each with its likely cause and what to do about it.
//!
//! A function of facts; how they are come by is at the end.

mod reaching;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use infernet_swarm::Situation;
use serde_json::{Value, json};

use crate::home::Home;
use crate::models::download;
use crate::node::Node;

/// Clocks that differ by more are worth a word, and by this much messages are ignored (`specs/signing.md`).
const CLOCK_WORTH_A_WORD: Duration = Duration::from_secs(5);
const CLOCK_TOLERATED: Duration = Duration::from_secs(30);
/// Free bytes on the disk of the home, below which it is worth a word, and below which books can soon not be kept.
const DISK_WORTH_A_WORD: u64 = 2 * 1024 * 1024 * 1024;
const DISK_LEAST: u64 = 256 * 1024 * 1024;

/// How grave a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// All is well.
    Well,
    /// It works, and could be better; or it cannot be told.
    Note,
    /// Something is wrong.
    Wrong,
}

impl State {
    /// As scripts read it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Well => "well",
            Self::Note => "note",
            Self::Wrong => "wrong",
        }
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is about.
    pub about: &'static str,
    /// How grave it is.
    pub state: State,
    /// What was found.
    pub found: String,
    /// Why that is likely so.
    pub cause: Option<String>,
    /// What to do about it.
    pub cure: Option<String>,
}

impl Finding {
    fn new(about: &'static str, state: State, found: impl Into<String>) -> Self {
        Self {
            about,
            state,
            found: found.into(),
            cause: None,
            cure: None,
        }
    }

    fn because(self, cause: impl Into<String>) -> Self {
        Self {
            cause: Some(cause.into()),
            ..self
        }
    }

    fn cure(self, cure: impl Into<String>) -> Self {
        Self {
            cure: Some(cure.into()),
            ..self
        }
    }

    /// As scripts read it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "about": self.about,
            "state": self.state.name(),
            "found": self.found,
            "cause": self.cause,
            "cure": self.cure,
        })
    }
}

/// What a diagnosis is made of.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Towards the rest of the network.
    pub situation: Situation,
    /// How many milliseconds this machine's clock is ahead of others, where enough of them are known.
    pub clock_ahead_ms: Option<i64>,
    /// Lists to join by, and why each gave nothing, if it did.
    pub lists: BTreeMap<String, Option<String>>,
    /// Where another process uses this node's key.
    pub twin: Option<Vec<String>>,
    /// Models that it sells; `None` where it sells nothing by choice.
    pub serves: Option<Vec<String>>,
    /// Bytes that may still be written where its books are.
    pub free: Option<u64>,
}

/// All findings, in the order in which a person asks.
#[must_use]
pub fn findings(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![reaching::network(&facts.situation, &facts.lists)];
    // Without anybody there nothing can be told of the way to others.
    if facts.situation.peers > 0 {
        findings.push(reaching::nat(&facts.situation));
        findings.push(reaching::reachable(&facts.situation, facts.serves.is_some()));
    }
    findings.extend(reaching::router(&facts.situation));
    findings.push(clock(facts.clock_ahead_ms));
    findings.push(key(facts.twin.as_deref(), facts.situation.peers));
    findings.extend(facts.serves.as_deref().map(engine));
    findings.extend(facts.free.map(disk));
    findings
}

fn clock(ahead_ms: Option<i64>) -> Finding {
    let Some(ahead) = ahead_ms else {
        return Finding::new("clock", State::Note, "too few others have said what time it is to tell");
    };
    let off = Duration::from_millis(ahead.unsigned_abs());
    if off <= CLOCK_WORTH_A_WORD {
        return Finding::new("clock", State::Well, "it agrees with the network's");
    }
    let side = if ahead > 0 { "ahead of" } else { "behind" };
    let state = if off > CLOCK_TOLERATED {
        State::Wrong
    } else {
        State::Note
    };
    let finding = Finding::new(
        "clock",
        state,
        format!("it is {} s {side} those of most others", off.as_secs()),
    );
    let cause = match off > CLOCK_TOLERATED {
        true => "others take what this node says for old or for a forgery, and it takes them for the same",
        false => "beyond 30 s others would ignore what this node says",
    };
    finding
        .because(cause)
        .cure("set it from the network, as with `timedatectl set-ntp true`")
}

fn key(twin: Option<&[String]>, peers: usize) -> Finding {
    let Some(at) = twin else {
        return match peers {
            0 => Finding::new(
                "key",
                State::Note,
                "whether another node uses it cannot be told without peers",
            ),
            _ => Finding::new("key", State::Well, "no other node that sells was heard to use it"),
        };
    };
    let place = match at {
        [] => "somewhere".to_owned(),
        at => format!("at {}", at.join(", ")),
    };
    Finding::new("key", State::Wrong, format!("another node uses it, {place}"))
        .because("the key was copied, and both run; their receipts will contradict each other, which is proof of fraud")
        .cure("stop one of them, or give it a key of its own with `infernet --home DIR init`")
}

fn engine(serves: &[String]) -> Finding {
    match serves {
        [] => Finding::new("engine", State::Wrong, "there is nothing to sell")
            .because("no inference server answers where one is looked for")
            .cure("start one (Ollama, vLLM, llama.cpp, ...), or name its address, as in `OLLAMA_HOST`"),
        models => Finding::new("engine", State::Well, format!("it serves {}", models.join(", "))),
    }
}

fn disk(free: u64) -> Finding {
    let mib = free / (1024 * 1024);
    let found = format!("{mib} MiB are free where the books are");
    let cure = "free some space, or move the node's home with `--home`";
    if free < DISK_LEAST {
        Finding::new("disk", State::Wrong, found)
            .because("receipts that cannot be written down end all buying and selling")
            .cure(cure)
    } else if free < DISK_WORTH_A_WORD {
        Finding::new("disk", State::Note, found).cure(cure)
    } else {
        Finding::new("disk", State::Well, found)
    }
}

/// What is known of a running node.
pub(crate) async fn facts(node: &Node, home: &Home) -> Result<Facts, infernet_swarm::Closed> {
    Ok(Facts {
        situation: node.swarm.situation().await?,
        clock_ahead_ms: node.market.clock_ahead_ms(),
        lists: node.lists(),
        twin: node.twin(),
        serves: node.sells().then(|| {
            let models = node.engines.entries();
            models.iter().map(|model| model.id.to_string()).collect()
        }),
        free: download::free(home.path()).ok(),
    })
}

/// A diagnosis as scripts read it.
#[must_use]
pub fn to_json(facts: &Facts) -> Value {
    let findings = findings(facts);
    let situation = &facts.situation;
    json!({
        "findings": findings.iter().map(Finding::to_json).collect::<Vec<_>>(),
        "nat": {
            "mapping_tcp": reaching::mapping_name(situation.tcp),
            "mapping_quic": reaching::mapping_name(situation.quic),
            "filtering": reaching::filtering_name(situation.filtering),
            "seen_at": situation.seen_at.iter().map(ToString::to_string).collect::<Vec<_>>(),
        },
        "reached": reaching::reached(situation),
        "clock_ahead_ms": facts.clock_ahead_ms,
    })
}

//! What a person wants of answers, and the request that says so to the gateway.

use infernet_protocol::NodeId;
use infernet_protocol::auction::Policy;
use serde_json::{Value, json};

use crate::cli::ChatArgs;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Wishes {
    pub(super) model: String,
    /// What to weigh; where it is not said, the node's configuration decides.
    pub(super) policy: Option<Policy>,
    /// Nobody but this provider.
    pub(super) provider: Option<NodeId>,
    max_tokens: Option<u32>,
    temperature: Option<f64>,
}

impl Wishes {
    /// As the command line says; which model is for the network to answer where it does not.
    pub(super) fn new(args: &ChatArgs, model: String) -> Self {
        Self {
            model,
            policy: args.join.policy.as_ref().and_then(|word| word.parse().ok()),
            provider: args.provider,
            max_tokens: args.max_tokens,
            temperature: args.temperature,
        }
    }

    /// The request, with the usage at its end; `ignored` is to be left out when a provider is chosen.
    pub(super) fn body(&self, messages: &[Value], ignored: Option<NodeId>) -> Value {
        let mut body = json!({
            "model": self.model,
            "messages": messages,
            "stream": true,
            "stream_options": { "include_usage": true },
        });
        let mut set = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                body[name] = value;
            }
        };
        set("max_tokens", self.max_tokens.map(Value::from));
        set("temperature", self.temperature.map(Value::from));
        set("policy", self.policy.map(|policy| policy.as_str().into()));
        let only = self.provider.map(|node| ("only", node));
        let ignore = ignored.map(|node| ("ignore", node));
        let named = only.into_iter().chain(ignore);
        let provider: serde_json::Map<String, Value> = named
            .map(|(name, node)| (name.to_owned(), json!([node.peer_id()])))
            .collect();
        set("provider", (!provider.is_empty()).then(|| provider.into()));
        body
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use infernet_protocol::Identity;

    use super::*;
    use crate::cli::{Cli, Command};

    fn wishes(words: &[&str]) -> Wishes {
        let words = ["infernet", "chat"].iter().chain(words);
        match Cli::try_parse_from(words).unwrap().command {
            Command::Chat(args) => Wishes::new(&args, "m".to_owned()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_not_said_is_left_to_the_node() {
        let body = wishes(&[]).body(&[], None);
        let names: Vec<&String> = body.as_object().unwrap().keys().collect();
        assert_eq!(names, ["messages", "model", "stream", "stream_options"]);
    }

    #[test]
    fn flags_become_fields_of_the_request() {
        let node = Identity::from_secret(&[3; 32]).unwrap().node();
        let (npub, peer) = (node.npub(), node.peer_id());
        let flags = [
            "--policy",
            "fastest",
            "--provider",
            &npub,
            "--max-tokens",
            "9",
            "--temperature",
            "0.7",
        ];
        let body = wishes(&flags).body(&[json!({ "role": "user", "content": "x" })], Some(node));
        assert_eq!((&body["policy"], &body["max_tokens"]), (&json!("fastest"), &json!(9)));
        assert_eq!(body["temperature"].to_string(), "0.7", "as it was written");
        assert_eq!(body["provider"], json!({ "only": [peer], "ignore": [peer] }));
        assert_eq!(body["messages"][0]["content"], "x");
    }
}

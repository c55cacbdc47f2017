//! This network's own fields of a request: `provider`, in OpenRouter's words, and `policy`. They say how a provider is
//! to be chosen, and are taken out before an engine sees the body.

use std::str::FromStr;

use infernet_inference::json::{self, Object};
use infernet_protocol::auction::Policy;
use infernet_protocol::{MicroUsd, NodeId, Price};

use super::errors::ApiError;

/// The fields that are taken out.
pub(super) const FIELDS: [&str; 2] = ["provider", "policy"];
/// Most providers that one list names.
const NAMED_MAX: usize = 64;
/// Most tokens per second, or seconds, that can be wished for.
const WISH_MAX: f64 = 1e9;

/// How a consumer wants its provider chosen. What it does not say is left to the node's configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Preferences {
    /// What to weigh.
    pub policy: Option<Policy>,
    /// These first, in this order.
    pub order: Vec<NodeId>,
    /// Nobody but these, where not empty.
    pub only: Vec<NodeId>,
    /// Never these.
    pub ignore: Vec<NodeId>,
    /// Whether somebody else may answer when `order` cannot; yes unless it says no.
    pub fallbacks_refused: bool,
    /// The most that is paid.
    pub max_price: Option<Price>,
    /// Quantisations that will do, where not empty.
    pub quantisations: Vec<String>,
    /// How fast it should be.
    pub quality: Quality,
    /// Whether providers that keep prompts are refused.
    pub data_collection_refused: bool,
}

/// How fast a provider should be.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Quality {
    /// Tokens per second of one stream, at least.
    pub throughput_min: Option<f32>,
    /// Seconds to the first token, at most.
    pub latency_max: Option<f32>,
}

impl Preferences {
    /// Reads them out of a body.
    pub(super) fn read(body: &Object<'_>) -> Result<Self, ApiError> {
        let mut wanted = Self::default();
        if let Some(provider) = body.get("provider") {
            wanted.read_provider(provider)?;
        }
        if let Some(policy) = body.get("policy") {
            let policy = json::string(policy).and_then(|word| policy_named(&word));
            wanted.policy = Some(policy.ok_or_else(|| wrong("policy", "cheapest, balanced, fastest or trusted"))?);
        }
        Ok(wanted)
    }

    fn read_provider(&mut self, provider: &[u8]) -> Result<(), ApiError> {
        let object = Object::read(provider).map_err(|_| wrong("provider", "an object"))?;
        for member in object.members() {
            let value = member.value;
            if json::is_null(value) {
                continue;
            }
            match &*member.name() {
                b"order" => self.order = nodes(value, "provider.order")?,
                b"only" => self.only = nodes(value, "provider.only")?,
                b"ignore" => self.ignore = nodes(value, "provider.ignore")?,
                b"allow_fallbacks" => self.fallbacks_refused = !flag(value, "provider.allow_fallbacks")?,
                b"sort" => {
                    let policy = match value {
                        b"\"price\"" => Policy::Cheapest,
                        b"\"throughput\"" | b"\"latency\"" => Policy::Fastest,
                        _ => return Err(wrong("provider.sort", "price, throughput or latency")),
                    };
                    self.policy = Some(policy);
                }
                b"max_price" => self.max_price = Some(price(value)?),
                b"quantizations" => self.quantisations = words(value, "provider.quantizations")?,
                b"preferred_min_throughput" => {
                    self.quality.throughput_min = Some(number(value, "provider.preferred_min_throughput")?)
                }
                b"preferred_max_latency" => {
                    self.quality.latency_max = Some(number(value, "provider.preferred_max_latency")?)
                }
                b"data_collection" => {
                    self.data_collection_refused = match value {
                        b"\"deny\"" => true,
                        b"\"allow\"" => false,
                        _ => return Err(wrong("provider.data_collection", "allow or deny")),
                    };
                }
                other => {
                    let name = format!("provider.{}", String::from_utf8_lossy(other));
                    return Err(ApiError::invalid(format!("`{name}` is not known"), &name));
                }
            }
        }
        Ok(())
    }
}

fn wrong(param: &str, expected: &str) -> ApiError {
    ApiError::invalid(format!("`{param}` must be {expected}"), param)
}

fn policy_named(word: &str) -> Option<Policy> {
    [Policy::Cheapest, Policy::Balanced, Policy::Fastest, Policy::Trusted]
        .into_iter()
        .find(|policy| policy.as_str() == word)
}

fn flag(value: &[u8], param: &str) -> Result<bool, ApiError> {
    match value {
        b"true" => Ok(true),
        b"false" => Ok(false),
        _ => Err(wrong(param, "true or false")),
    }
}

fn number(value: &[u8], param: &str) -> Result<f32, ApiError> {
    let number = std::str::from_utf8(value)
        .ok()
        .and_then(|text| f64::from_str(text).ok());
    #[expect(
        clippy::cast_possible_truncation,
        reason = "nobody wishes for more than seven digits"
    )]
    number
        .filter(|number| (0.0..=WISH_MAX).contains(number))
        .map(|number| number as f32)
        .ok_or_else(|| wrong(param, "a number from 0 to a thousand million"))
}

fn words(value: &[u8], param: &str) -> Result<Vec<String>, ApiError> {
    let words: Option<Vec<String>> = json::elements(value)
        .map(|word| json::string(word).map(|word| word.to_lowercase()))
        .collect();
    words
        .filter(|words| value.starts_with(b"[") && words.len() <= NAMED_MAX)
        .ok_or_else(|| wrong(param, "an array of at most 64 strings"))
}

/// Providers are named by their npub, their PeerId or their key in hex.
fn nodes(value: &[u8], param: &str) -> Result<Vec<NodeId>, ApiError> {
    if !value.starts_with(b"[") || json::elements(value).count() > NAMED_MAX {
        return Err(wrong(param, "an array of at most 64 providers"));
    }
    json::elements(value)
        .map(|name| json::string(name).and_then(|name| NodeId::parse(&name).ok()))
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| wrong(param, "npubs or peer ids of providers"))
}

/// OpenRouter's `max_price`: dollars per million tokens, and dollars per request. A part that is not named is not
/// bounded.
fn price(value: &[u8]) -> Result<Price, ApiError> {
    let object = Object::read(value).map_err(|_| wrong("provider.max_price", "an object"))?;
    let any = MicroUsd(u64::MAX);
    let mut price = Price {
        input: any,
        output: any,
        request: any,
    };
    for member in object.members() {
        let name = String::from_utf8_lossy(&member.name()).into_owned();
        let param = format!("provider.max_price.{name}");
        let part = match name.as_str() {
            "prompt" => &mut price.input,
            "completion" => &mut price.output,
            "request" => &mut price.request,
            _ => return Err(ApiError::invalid(format!("`{param}` is not known"), &param)),
        };
        let text = json::string(member.value);
        let text = text
            .as_deref()
            .or_else(|| std::str::from_utf8(member.value).ok())
            .unwrap_or_default();
        *part = MicroUsd::from_dollars(text).ok_or_else(|| wrong(&param, "dollars, with at most six decimals"))?;
    }
    Ok(price)
}

#[cfg(test)]
mod tests {
    use infernet_protocol::Identity;

    use super::*;

    fn read(body: &str) -> Result<Preferences, ApiError> {
        Preferences::read(&Object::read(body.as_bytes()).unwrap())
    }

    #[test]
    fn all_words_are_read() {
        let node = Identity::from_secret(&[3; 32]).unwrap().node();
        let body = format!(
            r#"{{"provider":{{"order":["{}"],"only":["{}"],"ignore":["{node}"],"allow_fallbacks":false,"sort":"latency",
            "max_price":{{"prompt":0.15,"completion":"1","request":0.000001}},"quantizations":["FP8"],
            "preferred_min_throughput":50,"preferred_max_latency":0.5,"data_collection":"deny"}}}}"#,
            node.npub(),
            node.peer_id()
        );
        let Ok(wanted) = read(&body) else { panic!("refused") };
        let price = Price {
            input: MicroUsd(150_000),
            output: MicroUsd(1_000_000),
            request: MicroUsd(1),
        };
        let expected = Preferences {
            policy: Some(Policy::Fastest),
            order: vec![node],
            only: vec![node],
            ignore: vec![node],
            fallbacks_refused: true,
            max_price: Some(price),
            quantisations: vec!["fp8".into()],
            quality: Quality {
                throughput_min: Some(50.0),
                latency_max: Some(0.5),
            },
            data_collection_refused: true,
        };
        assert_eq!(wanted, expected);
    }

    #[test]
    fn nothing_said_is_nothing_wanted() {
        for body in [
            "{}",
            r#"{"provider":null,"policy":null}"#,
            r#"{"provider":{}}"#,
            r#"{"provider":{"order":null}}"#,
        ] {
            assert!(
                read(body).is_ok_and(|wanted| wanted == Preferences::default()),
                "{body}"
            );
        }
        assert_eq!(
            read(r#"{"policy":"trusted"}"#).ok().unwrap().policy,
            Some(Policy::Trusted)
        );
    }

    #[test]
    fn wrong_words_are_refused() {
        for body in [
            r#"{"policy":"best"}"#,
            r#"{"policy":1}"#,
            r#"{"provider":"x"}"#,
            r#"{"provider":{"order":["OpenAI"]}}"#,
            r#"{"provider":{"order":"x"}}"#,
            r#"{"provider":{"sort":"speed"}}"#,
            r#"{"provider":{"max_price":{"prompt":-1}}}"#,
            r#"{"provider":{"max_price":{"prompt":0.0000001}}}"#,
            r#"{"provider":{"max_price":{"prompt":1e3}}}"#,
            r#"{"provider":{"max_price":{"image":1}}}"#,
            r#"{"provider":{"allow_fallbacks":"no"}}"#,
            r#"{"provider":{"require_parameters":true}}"#,
            r#"{"provider":{"preferred_max_latency":-1}}"#,
        ] {
            assert!(read(body).is_err(), "{body}");
        }
    }
}

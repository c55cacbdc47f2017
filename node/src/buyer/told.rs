//! What a consumer has been told of an answer, and how another provider goes on from there: mid-stream failover.
//!
//! Only an answer that is text, streamed and one choice can be continued, by a provider that advertises `continue` and
//! the same weights, and only where every token so far is known by its id: then greedy text is exactly what one provider
//! would have said. The seam is marked by a comment; ids are the first provider's, the prefix is counted once, and the
//! most output shrinks by it. Implements `specs/stream.md`, "Going on elsewhere".

use bytes::Bytes;
use infernet_inference::Endpoint;
use infernet_inference::json::{Edit, Object, elements};
use infernet_inference::sse::Splitter;
use infernet_protocol::capability::Features;
use infernet_protocol::codec::{Blob, List};
use infernet_protocol::stream::frames::{Continuation, TOKENS, Usage};
use infernet_protocol::{Digest, MicroUsd, NodeId};

use super::{Failure, Purchase};

/// Features that are no more than text.
const TEXT: Features = Features(Features::CHAT.0 | Features::COMPLETIONS.0);

/// What was told so far.
#[derive(Debug, Default)]
pub(crate) struct Told {
    tokens: Vec<u32>,
    /// Text came whose tokens are not known.
    inexact: bool,
    /// Members of the first chunk, as JSON text, which later ones repeat.
    first: Option<First>,
    /// Weights of the provider that began.
    digest: Option<Digest>,
    /// Tokens that came from providers before the one that speaks now.
    before: u32,
    splitter: Splitter,
    /// Who began to deliver, in order.
    providers: Vec<NodeId>,
    /// The answer came to its end.
    over: bool,
    /// What receipts have cost so far.
    cost: MicroUsd,
}

#[derive(Clone, Debug)]
struct First {
    id: String,
    created: String,
}

impl Told {
    /// The provider that speaks from now on, and the weights that it advertises.
    pub(super) fn by(&mut self, provider: NodeId, digest: Option<Digest>) {
        self.providers.push(provider);
        self.digest = self.digest.or(digest);
        self.before = u32::try_from(self.tokens.len()).unwrap_or(u32::MAX);
        self.splitter = Splitter::default();
    }

    /// Who began to deliver, in order.
    pub(super) fn providers(&self) -> &[NodeId] {
        &self.providers
    }

    /// Nothing told, and all that was paid.
    pub(super) fn afresh(&self) -> Self {
        Self {
            cost: self.cost,
            ..Self::default()
        }
    }

    /// Forgets what was not told after all. What it cost stays.
    pub(super) fn begin_anew(&mut self) {
        *self = self.afresh();
    }

    /// The answer came to its end: there is nothing to go on with.
    pub(super) fn end(&mut self) {
        self.over = true;
    }

    /// A receipt was settled.
    pub(super) fn paid(&mut self, amount: MicroUsd) {
        self.cost = MicroUsd(self.cost.0.saturating_add(amount.0));
    }

    /// What all receipts cost. What a lost provider delivered is settled later, and is not in it.
    pub(super) fn cost(&self) -> MicroUsd {
        self.cost
    }

    /// Whether a provider before this one has told something.
    fn is_continued(&self) -> bool {
        self.before > 0
    }

    /// Takes bytes of a Data frame and the tokens behind them, and gives what the consumer is to see of it.
    pub(super) fn take(&mut self, bytes: Bytes, tokens: Option<List<u32, TOKENS>>, purchase: &Purchase) -> Bytes {
        if !purchase.may_continue {
            return bytes;
        }
        match tokens {
            Some(tokens) if self.tokens.len() + tokens.len() <= TOKENS => self.tokens.extend(tokens.iter()),
            _ => self.inexact = true,
        }
        // Half an event cannot be gone on from.
        self.inexact |= !bytes.ends_with(b"\n\n");
        self.over |= memchr::memmem::find(&bytes, b"[DONE]").is_some();
        if self.first.is_none() {
            self.first = first(&bytes);
        }
        if self.is_continued() {
            self.spliced(bytes)
        } else {
            bytes
        }
    }

    /// Whether somebody else can go on after this failure.
    pub(super) fn may_go_on(&self, purchase: &Purchase, failure: &Failure) -> bool {
        let lost = matches!(
            failure,
            Failure::Lost(_) | Failure::Unreachable | Failure::Busy | Failure::Ended | Failure::Failed(_)
        );
        let left = purchase.max_output.is_none_or(|most| self.tokens.len() < most as usize);
        lost && left
            && !self.over
            && purchase.may_continue
            && !self.inexact
            && !self.tokens.is_empty()
            && self.digest.is_some()
    }

    /// What is left to buy: the same, less what was told, of the same weights.
    pub(super) fn rest_of(&self, purchase: &Purchase) -> Purchase {
        let made = u32::try_from(self.tokens.len()).unwrap_or(u32::MAX);
        let mut rest = purchase.clone();
        rest.only.clone_from(&purchase.only_then);
        rest.weights = self.digest;
        rest.needs = purchase.needs.with(Features::CONTINUE);
        rest.max_output = purchase.max_output.map(|most| most.saturating_sub(made));
        rest.input_tokens = purchase.input_tokens.saturating_add(made);
        rest.context = purchase.context.saturating_add(made);
        if let (Some(most), Ok(object)) = (rest.max_output, Object::read(&purchase.body)) {
            let names = ["max_tokens", "max_completion_tokens"];
            let edits: Vec<_> = names
                .into_iter()
                .filter(|name| object.get(name).is_some())
                .map(|name| Edit::set(name, most.to_string()))
                .collect();
            rest.body = object.edited(&edits).into();
        }
        rest.continuation = Some(Continuation {
            text: Blob(Vec::new()),
            tokens: List::first_of(self.tokens.iter().copied()),
        });
        rest
    }

    /// The usage of all of it, from what the last provider counts: to it the prefix was a part of the prompt.
    pub(super) fn usage(&self, last: Usage) -> Usage {
        Usage {
            input_tokens: last.input_tokens.saturating_sub(self.before),
            output_tokens: last.output_tokens.saturating_add(self.before),
        }
    }

    /// Events of a provider that goes on, as if the first one had.
    fn spliced(&mut self, bytes: Bytes) -> Bytes {
        let mut out = Vec::with_capacity(bytes.len() + 64);
        self.splitter.push(bytes);
        while let Ok(Some(event)) = self.splitter.next_event() {
            let data = event.data();
            let object = data.as_deref().and_then(|data| Object::read(data).ok());
            let (Some(object), Some(first)) = (object, &self.first) else {
                out.extend_from_slice(&event.raw);
                continue;
            };
            if is_greeting(&object) {
                continue;
            }
            let mut edits = vec![
                Edit::set("id", first.id.as_str()),
                Edit::set("created", first.created.as_str()),
            ];
            let usage = object.get("usage").and_then(|usage| self.counted(usage));
            edits.extend(usage.map(|usage| Edit::set("usage", usage)));
            out.extend_from_slice(b"data: ");
            out.extend_from_slice(&object.edited(&edits));
            out.extend_from_slice(b"\n\n");
        }
        out.into()
    }

    /// A usage object with the prefix counted once, as output.
    fn counted(&self, usage: &[u8]) -> Option<String> {
        let object = Object::read(usage).ok()?;
        let number = |name: &str| std::str::from_utf8(object.get(name)?).ok()?.parse::<u32>().ok();
        let usage = self.usage(Usage {
            input_tokens: number("prompt_tokens")?,
            output_tokens: number("completion_tokens")?,
        });
        let total = u64::from(usage.input_tokens) + u64::from(usage.output_tokens);
        let edits = [
            Edit::set("prompt_tokens", usage.input_tokens.to_string()),
            Edit::set("completion_tokens", usage.output_tokens.to_string()),
            Edit::set("total_tokens", total.to_string()),
        ];
        String::from_utf8(object.edited(&edits)).ok()
    }
}

/// Whether an answer to a request can be continued by somebody else.
pub(crate) fn may_continue(request: &infernet_inference::Request) -> bool {
    let generates = matches!(request.endpoint, Endpoint::ChatCompletions | Endpoint::Completions);
    generates && request.stream && request.choices == 1 && TEXT.contains(request.needs)
}

/// The comment that marks a seam, for people who look.
pub(super) fn seam(provider: &NodeId) -> Bytes {
    format!(": infernet goes on at {}\n\n", provider.peer_id()).into()
}

fn first(bytes: &Bytes) -> Option<First> {
    let mut splitter = Splitter::default();
    splitter.push(bytes.clone());
    let event = splitter.next_event().ok()??;
    let data = event.data()?;
    let object = Object::read(&data).ok()?;
    let text = |name: &str| String::from_utf8(object.get(name)?.to_vec()).ok();
    Some(First {
        id: text("id")?,
        created: text("created")?,
    })
}

/// A chunk that only says who speaks.
fn is_greeting(chunk: &Object<'_>) -> bool {
    let choice = chunk.get("choices").and_then(|choices| elements(choices).next());
    let Some(choice) = choice.and_then(|choice| Object::read(choice).ok()) else {
        return false;
    };
    if !matches!(choice.get("finish_reason"), None | Some(b"null")) {
        return false;
    }
    let delta = choice.get("delta").and_then(|delta| Object::read(delta).ok());
    delta.is_some_and(|delta| {
        delta.get("role").is_some() && matches!(delta.get("content"), None | Some(b"\"\"" | b"null"))
    })
}

#[cfg(test)]
mod tests {
    use infernet_inference::Request;
    use infernet_protocol::Identity;
    use serde_json::Value;

    use super::*;

    fn purchase(body: &str) -> Purchase {
        let request = Request::read(Endpoint::ChatCompletions, body.as_bytes()).unwrap();
        Purchase::new(
            infernet_protocol::ModelId::new("m").unwrap(),
            &request,
            Bytes::copy_from_slice(body.as_bytes()),
            std::time::Instant::now(),
        )
    }

    fn take(told: &mut Told, bytes: &str, tokens: &[u32], purchase: &Purchase) -> String {
        let tokens = List::first_of(tokens.iter().copied());
        let bytes = told.take(Bytes::copy_from_slice(bytes.as_bytes()), Some(tokens), purchase);
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    fn chunk(id: &str, rest: &str) -> String {
        format!(
            "data: {{\"id\":\"{id}\",\"created\":{},\"model\":\"m\",{rest}}}\n\n",
            id.len()
        )
    }

    const STREAMED: &str = r#"{"model":"m","stream":true,"max_tokens":10,"messages":[{"role":"user","content":"x"}]}"#;

    #[test]
    fn another_goes_on_as_if_the_first_had() {
        let purchase = purchase(STREAMED);
        let nodes = [3, 4].map(|byte| Identity::from_secret(&[byte; 32]).unwrap().node());
        let greeting = r#""choices":[{"index":0,"delta":{"role":"assistant","content":""}}]"#;
        let text = |text: &str| format!(r#""choices":[{{"index":0,"delta":{{"content":"{text}"}}}}]"#);
        let mut told = Told::default();
        told.by(nodes[0], Some(Digest([7; 32])));
        let said = chunk("one", greeting) + &chunk("one", &text("Once"));
        assert_eq!(
            take(&mut told, &said, &[11], &purchase),
            said,
            "the first is not touched"
        );
        take(&mut told, &chunk("one", &text(" upon")), &[12], &purchase);
        let lost = Failure::Lost("gone".to_owned());
        assert!(told.may_go_on(&purchase, &lost) && !told.may_go_on(&purchase, &Failure::Journal));

        let rest = told.rest_of(&purchase);
        let body: Value = serde_json::from_slice(&rest.body).unwrap();
        assert_eq!((&body["max_tokens"], rest.max_output), (&8.into(), Some(8)));
        assert_eq!(rest.continuation.as_ref().unwrap().tokens.to_vec(), [11, 12]);
        assert!(rest.needs.contains(Features::CONTINUE) && rest.weights == Some(Digest([7; 32])));

        told.by(nodes[1], Some(Digest([7; 32])));
        let usage = r#""choices":[],"usage":{"prompt_tokens":7,"completion_tokens":4,"total_tokens":11}"#;
        let said =
            chunk("second", greeting) + &chunk("second", &text(" a")) + &chunk("second", usage) + "data: [DONE]\n\n";
        let told_on = take(&mut told, &said, &[13], &purchase);
        let usage = r#""choices":[],"usage":{"prompt_tokens":5,"completion_tokens":6,"total_tokens":11}"#;
        let expected = chunk("one", &text(" a")) + &chunk("one", usage) + "data: [DONE]\n\n";
        assert_eq!(told_on, expected);
        assert_eq!(told.providers(), nodes);
        let last = Usage {
            input_tokens: 7,
            output_tokens: 4,
        };
        assert_eq!((told.usage(last).input_tokens, told.usage(last).output_tokens), (5, 6));
        assert_eq!(
            told.rest_of(&purchase).continuation.unwrap().tokens.to_vec(),
            [11, 12, 13]
        );
        assert!(
            !told.may_go_on(&purchase, &lost),
            "it came to its end, and only its receipt was lost"
        );
    }

    #[test]
    fn only_plain_text_whose_tokens_are_known_goes_on() {
        let lost = Failure::Lost("gone".to_owned());
        let said = chunk("one", r#""choices":[{"index":0,"delta":{"content":"a"}}]"#);
        let node = Identity::from_secret(&[3; 32]).unwrap().node();
        let after = |body: &str, digest, tokens: Option<&[u32]>| {
            let purchase = purchase(body);
            let mut told = Told::default();
            told.by(node, digest);
            let tokens = tokens.map(|tokens| List::first_of(tokens.iter().copied()));
            told.take(Bytes::copy_from_slice(said.as_bytes()), tokens, &purchase);
            told.may_go_on(&purchase, &lost)
        };
        let digest = Some(Digest([1; 32]));
        assert!(after(STREAMED, digest, Some(&[1])));
        assert!(!after(STREAMED, None, Some(&[1])), "which weights is not known");
        assert!(!after(STREAMED, digest, None), "which tokens is not known");
        assert!(
            !after(&STREAMED.replace("10", "1"), digest, Some(&[1])),
            "nothing is left"
        );
        assert!(
            !after(&STREAMED.replace("true", "false"), digest, Some(&[1])),
            "not streamed"
        );
        let tools = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"x"}],"tools":[{"type":"function","function":{"name":"f"}}]}"#;
        assert!(!after(tools, digest, Some(&[1])), "more than text");
    }
}

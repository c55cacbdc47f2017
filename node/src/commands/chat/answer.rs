//! An answer as the gateway streams it: who gives it, its chunks, and how it ended.

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use infernet_inference::sse::Splitter;
use serde_json::Value;

use super::connection::unreachable;
use super::cost::Usage;
use crate::commands::Result;
use crate::out::{Exit, Failure, plain};

/// See the module. Dropping it cancels.
pub(super) struct Answer {
    /// PeerId of the provider that began.
    pub(super) provider: Option<String>,
    /// The request's id in the ledger.
    pub(super) request: Option<String>,
    bytes: BoxStream<'static, reqwest::Result<Bytes>>,
    events: Splitter,
}

impl Answer {
    pub(super) async fn begin(response: reqwest::Response) -> Result<Self> {
        if !response.status().is_success() {
            let error: Value = response.json().await.map_err(unreachable)?;
            return Err(refused(&error));
        }
        let header = |name: &str| {
            let value = response.headers().get(name)?;
            value.to_str().ok().map(str::to_owned)
        };
        Ok(Self {
            provider: header("x-infernet-provider"),
            request: header("x-infernet-request"),
            bytes: response.bytes_stream().boxed(),
            events: Splitter::default(),
        })
    }

    /// The next chunk; `None` at the end. Safe to drop before it is ready.
    pub(super) async fn next(&mut self) -> Result<Option<Chunk>> {
        loop {
            while let Ok(Some(event)) = self.events.next_event() {
                match event.data().as_deref() {
                    Some(b"[DONE]") => return Ok(None),
                    Some(data) => match Chunk::read(data)? {
                        Some(chunk) => return Ok(Some(chunk)),
                        None => continue,
                    },
                    None => {}
                }
            }
            match self.bytes.next().await {
                Some(bytes) => self.events.push(bytes.map_err(unreachable)?),
                None => return Err(Failure::new(Exit::Failed, "the answer broke off; ask again")),
            }
        }
    }
}

/// One chunk of an answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Chunk(pub(super) Value);

impl Chunk {
    /// `None` for what is no JSON; an error is an error.
    fn read(data: &[u8]) -> Result<Option<Self>> {
        let Ok(chunk) = serde_json::from_slice::<Value>(data) else {
            return Ok(None);
        };
        match chunk.get("error") {
            Some(error) if !error.is_null() => Err(refused(&chunk)),
            _ => Ok(Some(Self(chunk))),
        }
    }

    fn delta(&self, names: &[&str]) -> Option<&str> {
        let delta = &self.0["choices"][0]["delta"];
        let mut texts = names.iter().filter_map(|name| delta[*name].as_str());
        texts.find(|text| !text.is_empty())
    }

    /// Text of the answer.
    pub(super) fn text(&self) -> Option<&str> {
        self.delta(&["content"])
    }

    /// Whether the model thinks before it answers.
    pub(super) fn thinks(&self) -> bool {
        self.delta(&["reasoning_content", "reasoning"]).is_some()
    }

    /// Whether the answer ends here because it may not be longer.
    pub(super) fn is_at_limit(&self) -> bool {
        self.0["choices"][0]["finish_reason"] == "length"
    }

    /// What the answer used, at its end.
    pub(super) fn usage(&self) -> Option<Usage> {
        Usage::read(&self.0["usage"])
    }

    /// The provider that told the end of it, which is another than began where one went on for it.
    pub(super) fn provider(&self) -> Option<&str> {
        self.0["usage"]["infernet"]["providers"].as_array()?.last()?.as_str()
    }
}

/// The gateway's own words. That nobody is there who serves it has an exit code of its own.
pub(super) fn refused(error: &Value) -> Failure {
    let message = error["error"]["message"]
        .as_str()
        .unwrap_or("the gateway refused without a word");
    let exit = match error["error"]["code"].as_str() {
        Some("model_not_found" | "no_allowed_provider" | "no_provider_free" | "price_cap" | "no_rail") => {
            Exit::Unreachable
        }
        _ => Exit::Failed,
    };
    Failure::new(exit, plain(message))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn chunk(json: &Value) -> Chunk {
        Chunk::read(json.to_string().as_bytes()).unwrap().unwrap()
    }

    fn answer(bytes: &[&str]) -> Answer {
        let bytes: Vec<_> = bytes
            .iter()
            .map(|bytes| Ok(Bytes::copy_from_slice(bytes.as_bytes())))
            .collect();
        Answer {
            provider: None,
            request: None,
            bytes: futures::stream::iter(bytes).boxed(),
            events: Splitter::default(),
        }
    }

    #[test]
    fn chunks_tell_text_thoughts_and_usage() {
        let delta = |delta: Value| chunk(&json!({ "choices": [{ "delta": delta }] }));
        assert_eq!(delta(json!({ "content": "a" })).text(), Some("a"));
        assert_eq!(delta(json!({ "role": "assistant", "content": "" })).text(), None);
        assert!(delta(json!({ "reasoning_content": "hm" })).thinks());
        assert!(!delta(json!({ "reasoning": null, "content": "a" })).thinks());
        assert!(chunk(&json!({ "choices": [{ "delta": {}, "finish_reason": "length" }] })).is_at_limit());
        let end = chunk(&json!({ "choices": [], "usage": {
            "prompt_tokens": 1, "completion_tokens": 2, "infernet": { "cost_microusd": 3, "providers": ["a", "b"] } } }));
        assert_eq!(
            (end.usage().unwrap().cost.0, end.provider(), end.text()),
            (3, Some("b"), None)
        );
    }

    #[tokio::test]
    async fn an_answer_ends_in_done_or_in_an_error() {
        let text = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n";
        let mut whole = answer(&[
            &text[..9],
            &text[9..],
            ": a comment\n\ndata: no json\n\n",
            "data: [DONE]\n\n",
        ]);
        assert_eq!(whole.next().await.unwrap().unwrap().text(), Some("a"));
        assert_eq!(whole.next().await.unwrap(), None);
        let mut broken = answer(&[text]);
        broken.next().await.unwrap();
        assert_eq!(
            broken.next().await.unwrap_err().message,
            "the answer broke off; ask again"
        );
        let mut failed =
            answer(&["data: {\"error\":{\"message\":\"gone\\u001b[2J\",\"code\":\"provider_failed\"}}\n\n"]);
        let failure = failed.next().await.unwrap_err();
        assert_eq!((failure.message.as_str(), failure.exit), ("gone[2J", Exit::Failed));
    }

    #[test]
    fn that_nobody_serves_it_has_its_exit_code() {
        let failure = refused(&json!({ "error": { "message": "x", "code": "model_not_found" } }));
        assert_eq!(failure.exit, Exit::Unreachable);
    }
}

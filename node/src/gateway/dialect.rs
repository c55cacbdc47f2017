//! Other APIs' words for the same: Anthropic's, Ollama's, and OpenAI's own Responses.
//!
//! ```text
//!   request in another API's words ── read ──> OpenAI's chat request ── the usual way ──> chunks
//!   answer in another API's words <────────────── Dialect <───────────────────────────────┘
//! ```
//!
//! Everything behind this module knows one API. What has no counterpart there is refused by name, unless it is a hint
//! that changes nothing of the answer. Errors are put into the words of the API whose path was called.

pub(super) mod anthropic;
pub(super) mod ollama;
pub(super) mod responses;

use axum::extract::Request;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt as _, stream};
use infernet_inference::Endpoint;
use infernet_inference::json::tree_bytes;
use infernet_inference::sse::Splitter;
use serde_json::{Map, Value, json};

use super::errors::ApiError;
use super::extension::FIELDS;

/// Server-sent events.
const EVENTS: &str = "text/event-stream; charset=utf-8";
/// Most memory for the tree of one request or answer. The largest that is meant, two thousand embeddings of 1,536
/// numbers, is somewhat below; built without waiting for anything, there are never more trees than threads.
const TREE_BYTES: u64 = 256 * 1024 * 1024;

/// A request in OpenAI's words, and how its answer is put back.
pub(super) struct Translated {
    pub(super) endpoint: Endpoint,
    pub(super) body: Bytes,
    pub(super) dialect: Box<dyn Dialect>,
}

/// Reads a request in another API's words.
pub(super) type Reader = fn(&[u8]) -> Result<Translated, ApiError>;

/// Puts an answer into another API's words. One is made for each request and keeps what it needs to know of it.
pub(super) trait Dialect: Send {
    /// Content type of a stream.
    fn stream_type(&self) -> &'static str {
        EVENTS
    }

    /// One chunk of a streamed answer.
    fn chunk(&mut self, chunk: &Value, out: &mut String);

    /// The answer is complete.
    fn done(&mut self, out: &mut String);

    /// The answer broke off; `error` is OpenAI's error object.
    fn failed(&mut self, error: &Value, out: &mut String);

    /// An answer that is not streamed.
    fn document(&mut self, whole: &Value) -> Value;
}

/// The events of an answer, translated. It ends with the answer's end or its failure, as its source does.
pub(super) fn translated(source: BoxStream<'static, Bytes>, dialect: Box<dyn Dialect>) -> BoxStream<'static, Bytes> {
    let state = (source, dialect, Splitter::default(), false);
    let events = stream::unfold(state, |(mut source, mut dialect, mut splitter, mut over)| async move {
        while !over {
            let bytes = source.next().await?;
            splitter.push(bytes);
            let mut out = String::new();
            while let Ok(Some(event)) = splitter.next_event() {
                let Some(data) = event.data() else { continue };
                if &*data == b"[DONE]" {
                    dialect.done(&mut out);
                    continue;
                }
                // What is no JSON is none of an engine's chunks.
                let Some(chunk) = tree(&data) else { continue };
                match chunk.get("error").filter(|error| !error.is_null()) {
                    Some(error) => {
                        dialect.failed(&failure(error), &mut out);
                        over = true;
                        break;
                    }
                    None => dialect.chunk(&chunk, &mut out),
                }
            }
            if !out.is_empty() {
                return Some((Bytes::from(out), (source, dialect, splitter, over)));
            }
        }
        None
    });
    events.boxed()
}

/// An engine's error as OpenAI's error object: some tell a mere text, and a client must see that there was an error.
fn failure(error: &Value) -> Value {
    let message = error["message"].as_str().or(error.as_str());
    json!({
        "message": message.unwrap_or("the provider failed"), "type": error["type"].as_str().unwrap_or("server_error"),
        "param": error["param"].as_str(), "code": error["code"].as_str(),
    })
}

/// A named event.
fn event(out: &mut String, name: &str, data: &Value) {
    out.push_str("event: ");
    out.push_str(name);
    out.push_str("\ndata: ");
    out.push_str(&data.to_string());
    out.push_str("\n\n");
}

/// What a text says, where it is JSON and not far larger as a tree than anybody's answer is.
pub(super) fn tree(text: &[u8]) -> Option<Value> {
    if tree_bytes(text) > TREE_BYTES {
        return None;
    }
    serde_json::from_slice(text).ok()
}

/// Arguments of a call. A model may call a tool with what is no JSON; the words are handed on all the same.
fn arguments(text: &str) -> Value {
    tree(text.as_bytes()).unwrap_or_else(|| json!({ "arguments": text }))
}

// ------------------------------------------------------------------------------------------------------ requests

/// The fields of a request, taken one by one; what is left at the end is refused.
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    pub(super) fn read(body: &[u8]) -> Result<Self, ApiError> {
        if tree_bytes(body) > TREE_BYTES {
            return Err(ApiError::malformed("the body has far more values than a request needs"));
        }
        match serde_json::from_slice(body) {
            Ok(Value::Object(map)) => Ok(Self(map)),
            Ok(_) => Err(ApiError::malformed("the body is not a JSON object")),
            Err(error) => Err(ApiError::malformed(format!("the body is not JSON: {error}"))),
        }
    }

    /// A field; null is as good as absent.
    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name).filter(|value| !value.is_null())
    }

    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(ApiError::invalid(format!("`{name}` is a string"), name)),
        }
    }

    fn flag(&mut self, name: &str) -> Result<Option<bool>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(_) => Err(ApiError::invalid(format!("`{name}` is true or false"), name)),
        }
    }

    fn list(&mut self, name: &str) -> Result<Option<Vec<Value>>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Array(list)) => Ok(Some(list)),
            Some(_) => Err(ApiError::invalid(format!("`{name}` is a list"), name)),
        }
    }

    /// Takes what changes nothing of the answer.
    fn ignore(&mut self, names: &[&str]) {
        for name in names {
            self.0.remove(*name);
        }
    }

    /// Hands on under another name what both APIs understand alike.
    fn pass(&mut self, names: &[(&str, &str)], to: &mut Map<String, Value>) {
        for (theirs, ours) in names {
            if let Some(value) = self.take(theirs) {
                to.insert((*ours).to_owned(), value);
            }
        }
    }

    /// This network's own fields, which every API may carry.
    fn pass_own(&mut self, to: &mut Map<String, Value>) {
        for name in FIELDS {
            if let Some(value) = self.take(name) {
                to.insert(name.to_owned(), value);
            }
        }
    }

    /// Nothing may be left.
    fn end(self) -> Result<(), ApiError> {
        match self.0.into_iter().find(|(_, value)| !value.is_null()) {
            None => Ok(()),
            Some((name, _)) => Err(ApiError::unsupported(&name)),
        }
    }
}

/// A chat request, with usage asked for where it is streamed.
fn chat(mut request: Map<String, Value>, stream: bool, dialect: Box<dyn Dialect>) -> Translated {
    if stream {
        request.insert("stream".to_owned(), true.into());
        request.insert("stream_options".to_owned(), json!({ "include_usage": true }));
    }
    Translated {
        endpoint: Endpoint::ChatCompletions,
        body: Value::Object(request).to_string().into(),
        dialect,
    }
}

/// A part of a message that is an image, from base64 and its type.
fn image(kind: &str, base64: &str) -> Value {
    json!({ "type": "image_url", "image_url": { "url": format!("data:{kind};base64,{base64}") } })
}

/// Parts of a message as the shortest form that says the same.
fn content(mut parts: Vec<Value>) -> Value {
    match &mut parts[..] {
        [only] if only["type"] == "text" => member(only, "text"),
        _ => Value::Array(parts),
    }
}

fn text_part(text: String) -> Value {
    json!({ "type": "text", "text": text })
}

/// A member, taken out; null where there is none, or where the value is no object: indexing would panic there.
fn member(value: &mut Value, name: &str) -> Value {
    value.get_mut(name).map(Value::take).unwrap_or_default()
}

fn tokens(usage: &Value, name: &str) -> u64 {
    usage[name].as_u64().unwrap_or(0)
}

/// The first choice's part of a chunk.
fn delta(chunk: &Value) -> &Value {
    &chunk["choices"][0]["delta"]
}

/// What a chunk or a message says of its reasoning, under either of the names in use.
fn reasoning(message: &Value) -> Option<&str> {
    let text = |name: &str| message[name].as_str();
    text("reasoning_content")
        .or_else(|| text("reasoning"))
        .filter(|text| !text.is_empty())
}

// -------------------------------------------------------------------------------------------------------- errors

/// Whose words a path is called in.
fn of_path(path: &str) -> Option<fn(&ApiError) -> Value> {
    if path.starts_with("/v1/messages") {
        Some(anthropic::error)
    } else if path.starts_with("/api/") {
        Some(ollama::error)
    } else {
        None
    }
}

/// Puts errors, wherever they came from, into the words of the API that was called.
pub(super) async fn errors(request: Request, next: Next) -> Response {
    let words = of_path(request.uri().path());
    let mut response = next.run(request).await;
    let Some(error) = response.extensions_mut().remove::<ApiError>() else {
        return response;
    };
    let Some(words) = words else { return response };
    let mut again = (response.status(), words(&error).to_string()).into_response();
    for (name, value) in response.headers() {
        if name != axum::http::header::CONTENT_LENGTH {
            again.headers_mut().insert(name.clone(), value.clone());
        }
    }
    again
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    again
}

/// An engine's own refusal, out of its document.
pub(super) fn refusal(status: u16, document: Bytes) -> ApiError {
    ApiError::refused(status, document, "the provider refused the request".to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const READERS: [Reader; 6] = [
        anthropic::read,
        anthropic::read_to_count,
        ollama::read_chat,
        ollama::read_generate,
        |body| ollama::read_embed(body, false),
        responses::read,
    ];

    /// JSON made of the words that the readers look for, in every place where they do not belong.
    fn anything() -> impl Strategy<Value = Value> {
        let word = prop::sample::select(vec![
            "messages",
            "content",
            "type",
            "text",
            "role",
            "user",
            "assistant",
            "tool",
            "tools",
            "tool_calls",
            "input",
            "function",
            "name",
            "arguments",
            "tool_use",
            "tool_result",
            "image",
            "source",
            "base64",
            "system",
            "choices",
            "delta",
            "usage",
            "message",
            "index",
            "id",
            "model",
            "function_call",
            "function_call_output",
            "output",
            "format",
            "json_schema",
            "schema",
            "reasoning",
            "effort",
            "options",
            "images",
            "stream",
            "max_tokens",
            "tool_choice",
            "thinking",
            "enabled",
            "data",
            "embedding",
            "finish_reason",
            "error",
            "input_image",
            "image_url",
            "stop",
            "verbosity",
        ]);
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            word.clone().prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 60, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((word.clone(), inner), 0..6).prop_map(|members| {
                    Value::Object(
                        members
                            .into_iter()
                            .map(|(name, value)| (name.to_owned(), value))
                            .collect(),
                    )
                }),
            ]
        })
    }

    /// Ollama has numbered parallel calls alike: <https://github.com/ollama/ollama/issues/15457>.
    #[test]
    fn calls_are_told_apart_by_their_ids() {
        let call = |id: &str, city: &str| {
            let function = json!({ "name": "weather", "arguments": format!("{{\"city\":\"{city}\"}}") });
            let call = json!({ "index": 0, "id": id, "type": "function", "function": function });
            json!({ "id": "x", "model": "m", "choices": [{ "index": 0, "delta": { "tool_calls": [call] } }] })
        };
        let count = |read: Reader, body: Value, what: &str| {
            let mut dialect = read(body.to_string().as_bytes()).ok().unwrap().dialect;
            let mut out = String::new();
            dialect.chunk(&call("a", "Oslo"), &mut out);
            dialect.chunk(&call("b", "Rome"), &mut out);
            dialect.done(&mut out);
            assert!(out.contains("Oslo") && out.contains("Rome"), "{out}");
            out.matches(what).count()
        };
        let messages = json!([{ "role": "user", "content": "x" }]);
        let asked = json!({ "model": "m", "max_tokens": 1, "stream": true, "messages": messages });
        assert_eq!(count(anthropic::read, asked, "\"type\":\"tool_use\""), 2);
        let asked = json!({ "model": "m", "messages": messages });
        assert_eq!(count(ollama::read_chat, asked, "\"name\":\"weather\""), 2);
        let asked = json!({ "model": "m", "stream": true, "input": "x" });
        assert_eq!(
            count(responses::read, asked, "event: response.function_call_arguments.done"),
            2
        );
    }

    proptest! {
        #[test]
        fn no_request_and_no_answer_is_too_odd(request in anything(), answer in anything()) {
            let text = request.to_string();
            let places = [
                "messages", "system", "tools", "tool_choice", "thinking", "input", "options", "format", "text", "reasoning",
                "images", "include", "prompt", "stream",
            ];
            for read in READERS {
                let _ = read(text.as_bytes());
                for place in places {
                    let mut body = json!({
                        "model": "m", "max_tokens": 1, "input": "x", "messages": [{ "role": "user", "content": "x" }],
                    });
                    body[place] = request.clone();
                    let _ = read(body.to_string().as_bytes());
                }
            }
            let good = json!({
                "model": "m", "max_tokens": 1, "input": "x", "messages": [{ "role": "user", "content": "x" }],
            });
            for read in READERS {
                let body: Value = match read(good.to_string().as_bytes()) {
                    Err(_) => continue,
                    Ok(mut translated) => {
                        let mut out = String::new();
                        translated.dialect.chunk(&answer, &mut out);
                        translated.dialect.failed(&answer, &mut out);
                        translated.dialect.done(&mut out);
                        translated.dialect.document(&answer)
                    }
                };
                prop_assert!(body.is_object());
            }
        }
    }
}

//! OpenAI's wire shapes, written by engines that live in this process: chunks, documents, errors.
//!
//! Everything of a chunk but its text is the same for a whole answer and is made once.

pub mod embeddings;

use std::hash::{BuildHasher as _, Hasher as _};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use crate::backend::{Endpoint, Usage};
use crate::json;
use crate::request::Request;
use crate::watch::Finish;

/// The event that ends every stream.
pub const DONE: &str = "data: [DONE]\n\n";

/// Writes one answer of one choice, streamed or not.
#[derive(Clone)]
pub struct Writer {
    endpoint: Endpoint,
    stream: bool,
    usage_asked: bool,
    /// `"id":…,"object":…,"created":…,"model":…`
    envelope: String,
    begun: bool,
    /// What was said so far, of an answer that is not streamed.
    text: String,
}

impl std::fmt::Debug for Writer {
    /// Without the text.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer")
            .field("endpoint", &self.endpoint)
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}

impl Writer {
    /// A writer for the answer to `request`, in the name of `model`.
    #[must_use]
    pub fn new(request: &Request, model: &str) -> Self {
        let chat = request.endpoint == Endpoint::ChatCompletions;
        let (prefix, object) = match (chat, request.stream) {
            (true, true) => ("chatcmpl", "chat.completion.chunk"),
            (true, false) => ("chatcmpl", "chat.completion"),
            (false, _) => ("cmpl", "text_completion"),
        };
        let created = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let id = std::hash::RandomState::new().build_hasher().finish();
        let model = json::quoted(model);
        Self {
            endpoint: request.endpoint,
            stream: request.stream,
            usage_asked: request.usage_asked,
            envelope: format!(r#""id":"{prefix}-{id:016x}","object":"{object}","created":{created},"model":{model}"#),
            begun: false,
            text: String::new(),
        }
    }

    /// What goes out for one more piece of text: nothing where the answer is not streamed.
    pub fn text(&mut self, text: &str) -> Option<Bytes> {
        if !self.stream {
            self.text.push_str(text);
            return None;
        }
        let mut out = String::with_capacity(2 * self.envelope.len() + text.len() + 128);
        self.begin(&mut out);
        if !text.is_empty() {
            self.open_chunk(&mut out);
            match self.endpoint {
                Endpoint::ChatCompletions => {
                    out.push_str(r#"{"index":0,"delta":{"content":"#);
                    json::push_quoted(&mut out, text);
                    out.push_str(r#"},"finish_reason":null}]}"#);
                }
                _ => {
                    out.push_str(r#"{"index":0,"text":"#);
                    json::push_quoted(&mut out, text);
                    out.push_str(r#","finish_reason":null}]}"#);
                }
            }
            out.push_str("\n\n");
        }
        Some(out.into())
    }

    /// What goes out at the end.
    #[must_use]
    pub fn end(mut self, finish: Finish, usage: &Usage) -> Bytes {
        let finish = match finish {
            Finish::Length => "length",
            Finish::ToolCalls => "tool_calls",
            Finish::Stop | Finish::Other => "stop",
        };
        let usage = usage_json(usage);
        let mut out = String::with_capacity(3 * self.envelope.len() + self.text.len() + 256);
        if !self.stream {
            let text = json::quoted(&self.text);
            let choice = match self.endpoint {
                Endpoint::ChatCompletions => format!(r#""message":{{"role":"assistant","content":{text}}}"#),
                _ => format!(r#""text":{text}"#),
            };
            let envelope = &self.envelope;
            return format!(
                r#"{{{envelope},"choices":[{{"index":0,{choice},"logprobs":null,"finish_reason":"{finish}"}}],"usage":{usage}}}"#
            )
            .into();
        }
        self.begin(&mut out);
        self.open_chunk(&mut out);
        let empty = if self.endpoint == Endpoint::ChatCompletions {
            r#""delta":{}"#
        } else {
            r#""text":"""#
        };
        out.push_str(&format!(
            "{{\"index\":0,{empty},\"finish_reason\":\"{finish}\"}}]}}\n\n"
        ));
        if self.usage_asked {
            self.open_chunk(&mut out);
            out.push_str(&format!("],\"usage\":{usage}}}\n\n"));
        }
        out.push_str(DONE);
        out.into()
    }

    fn begin(&mut self, out: &mut String) {
        if !self.begun && self.endpoint == Endpoint::ChatCompletions {
            self.open_chunk(out);
            out.push_str(r#"{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#);
            out.push_str("\n\n");
        }
        self.begun = true;
    }

    fn open_chunk(&self, out: &mut String) {
        out.push_str("data: {");
        out.push_str(&self.envelope);
        out.push_str(r#","choices":["#);
    }
}

/// A usage object.
#[must_use]
pub fn usage_json(usage: &Usage) -> String {
    let total = u64::from(usage.input_tokens) + u64::from(usage.output_tokens);
    format!(
        r#"{{"prompt_tokens":{},"completion_tokens":{},"total_tokens":{total}}}"#,
        usage.input_tokens, usage.output_tokens
    )
}

/// An error object: `{"error":{"message","type","param","code"}}`.
#[must_use]
pub fn error_json(message: &str, kind: &str, param: Option<&str>, code: Option<&str>) -> String {
    let mut out = String::from(r#"{"error":{"message":"#);
    json::push_quoted(&mut out, message);
    out.push_str(r#","type":"#);
    json::push_quoted(&mut out, kind);
    for (name, value) in [("param", param), ("code", code)] {
        out.push_str(&format!(r#","{name}":"#));
        match value {
            Some(value) => json::push_quoted(&mut out, value),
            None => out.push_str("null"),
        }
    }
    out.push_str("}}");
    out
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn request(stream: bool, usage: bool) -> Request {
        let body = format!(
            r#"{{"model":"m","messages":[{{"role":"user","content":"x"}}],"stream":{stream},"stream_options":{{"include_usage":{usage}}}}}"#
        );
        Request::read(Endpoint::ChatCompletions, body.as_bytes()).unwrap()
    }

    const USAGE: Usage = Usage {
        input_tokens: 3,
        output_tokens: 2,
        counted: crate::backend::Counted::Engine,
    };

    #[test]
    fn a_stream_is_role_text_finish_usage_done() {
        let mut writer = Writer::new(&request(true, true), "a \"model\"");
        let mut text = String::new();
        for token in ["he", "l\n\u{1f98a}"] {
            text.push_str(std::str::from_utf8(&writer.text(token).unwrap()).unwrap());
        }
        text.push_str(std::str::from_utf8(&writer.end(Finish::Length, &USAGE)).unwrap());
        let events: Vec<_> = text
            .split_terminator("\n\n")
            .map(|event| event.strip_prefix("data: ").unwrap())
            .collect();
        let chunks: Vec<Value> = events[..5]
            .iter()
            .map(|event| serde_json::from_str(event).unwrap())
            .collect();
        assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
        assert_eq!(chunks[1]["choices"][0]["delta"]["content"], "he");
        assert_eq!(chunks[2]["choices"][0]["delta"]["content"], "l\n\u{1f98a}");
        assert_eq!(chunks[3]["choices"][0]["finish_reason"], "length");
        assert_eq!(chunks[4]["usage"]["total_tokens"], 5);
        assert_eq!(chunks[4]["choices"], Value::Array(vec![]));
        assert!(
            chunks
                .iter()
                .all(|chunk| chunk["model"] == "a \"model\"" && chunk["id"] == chunks[0]["id"])
        );
        assert_eq!(events[5..], ["[DONE]"]);
    }

    #[test]
    fn a_document_is_one_object() {
        let mut writer = Writer::new(&request(false, false), "m");
        assert_eq!(writer.text("a"), None);
        assert_eq!(writer.text("b"), None);
        let document: Value = serde_json::from_slice(&writer.end(Finish::Stop, &USAGE)).unwrap();
        assert_eq!(document["object"], "chat.completion");
        assert_eq!(document["choices"][0]["message"]["content"], "ab");
        assert_eq!(document["usage"]["completion_tokens"], 2);
    }

    #[test]
    fn errors_are_error_objects() {
        let error: Value =
            serde_json::from_str(&error_json("no `x`", "invalid_request_error", Some("x"), None)).unwrap();
        assert_eq!(error["error"]["param"], "x");
        assert_eq!(error["error"]["code"], Value::Null);
    }
}

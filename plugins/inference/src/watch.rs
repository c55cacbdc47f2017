//! Reading an answer from the side: how much text passed, why it ended, what it claims to have counted.
//!
//! Provider and buyer both watch the same bytes, the one to know what it delivered, the other to check what it is
//! charged for. The text itself is not kept: events are looked at and gone, a JSON document is held until its end.

use bytes::{Bytes, BytesMut};
use serde::Deserialize;

use crate::backend::{ContentType, Counted, Usage};
use crate::json;
use crate::sse::Splitter;

/// Longest answer that is not streamed.
pub const ANSWER_BYTES: usize = 32 * 1024 * 1024;
/// Tokens without text that an answer may have: end marks, roles, reasoning brackets.
const SILENT_TOKENS: u64 = 64;
/// Tokens without text around one tool call.
const TOKENS_PER_CALL: u64 = 32;
/// Tokens that a chat template may add to a prompt, a default system prompt included.
const TEMPLATE_TOKENS: u64 = 1024;

/// What was seen of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Bytes of text delivered, over all choices: content, reasoning, tool calls.
    pub text_bytes: u64,
    /// Events, or choices of a document, that brought text.
    pub chunks: u32,
    /// Tool calls begun.
    pub calls: u32,
    /// Why the last choice that ended did so.
    pub finish: Option<Finish>,
    /// What the answer says it counted.
    pub usage: Option<Usage>,
    /// Whether it was whole: `[DONE]`, or a JSON document to its end.
    pub done: bool,
    /// Whether it told an error.
    pub failed: bool,
}

/// Why a choice ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model stopped, or a stop string was met.
    Stop,
    /// The limit of output tokens was met.
    Length,
    /// It called tools.
    ToolCalls,
    /// Something else.
    Other,
}

/// A claim that cannot be true of what was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{claimed} {what} tokens are claimed, where at most {at_most} are possible")]
pub struct Implausible {
    /// `input` or `output`.
    pub what: &'static str,
    /// The claim.
    pub claimed: u32,
    /// The bound.
    pub at_most: u64,
}

impl Seen {
    /// Whether `claim` can be true: a token brings at least one byte, but for the few that mark structure.
    /// `request_bytes` is the length of the whole request body.
    pub fn plausible(&self, claim: &Usage, request_bytes: u64) -> Result<(), Implausible> {
        let (output, input) = (self.output_at_most(), input_at_most(request_bytes));
        for (what, claimed, at_most) in [
            ("output", claim.output_tokens, output),
            ("input", claim.input_tokens, input),
        ] {
            if u64::from(claimed) > at_most {
                return Err(Implausible { what, claimed, at_most });
            }
        }
        Ok(())
    }

    /// The most output tokens that what was seen can be.
    #[must_use]
    pub fn output_at_most(&self) -> u64 {
        self.text_bytes + SILENT_TOKENS + TOKENS_PER_CALL * u64::from(self.calls)
    }

    /// Reads one JSON document: an event's data, or a whole answer.
    pub(crate) fn read(&mut self, payload: &[u8]) -> Marks {
        let mut marks = Marks::default();
        let mut choices = false;
        for member in json::members(payload).map_while(Result::ok) {
            match &*member.name() {
                b"model" if !json::is_null(member.value) => marks.model = Some(member.range),
                b"choices" => {
                    for choice in json::elements(member.value) {
                        choices = true;
                        self.read_choice(choice);
                    }
                }
                b"usage" => {
                    if let Some(usage) = read_usage(member.value) {
                        self.usage = Some(usage);
                        marks.usage = true;
                    }
                }
                b"error" if !json::is_null(member.value) => {
                    self.failed = true;
                    marks.error = true;
                }
                _ => {}
            }
        }
        marks.usage_only = marks.usage && !choices;
        marks
    }

    fn read_choice(&mut self, choice: &[u8]) {
        let before = self.text_bytes;
        for member in json::members(choice).map_while(Result::ok) {
            match &*member.name() {
                b"delta" | b"message" => self.read_message(member.value),
                b"text" => self.text_bytes += json::string_bytes(member.value),
                b"finish_reason" => match member.value {
                    b"null" => {}
                    b"\"stop\"" => self.finish = Some(Finish::Stop),
                    b"\"length\"" => self.finish = Some(Finish::Length),
                    b"\"tool_calls\"" | b"\"function_call\"" => self.finish = Some(Finish::ToolCalls),
                    _ => self.finish = Some(Finish::Other),
                },
                _ => {}
            }
        }
        self.chunks += u32::from(self.text_bytes > before);
    }

    fn read_message(&mut self, message: &[u8]) {
        for member in json::members(message).map_while(Result::ok) {
            match &*member.name() {
                b"role" => {}
                b"tool_calls" => json::elements(member.value).for_each(|call| self.read_call(call)),
                b"content" if member.value.starts_with(b"[") => {
                    for part in json::elements(member.value) {
                        let text = json::members(part)
                            .map_while(Result::ok)
                            .find(|member| *member.name() == *b"text");
                        self.text_bytes += text.map_or(0, |text| json::string_bytes(text.value));
                    }
                }
                _ => self.text_bytes += json::string_bytes(member.value),
            }
        }
    }

    fn read_call(&mut self, call: &[u8]) {
        let function = json::members(call)
            .map_while(Result::ok)
            .find(|member| *member.name() == *b"function");
        for member in function
            .iter()
            .flat_map(|function| json::members(function.value))
            .map_while(Result::ok)
        {
            self.calls += u32::from(*member.name() == *b"name" && !json::is_null(member.value));
            self.text_bytes += json::string_bytes(member.value);
        }
    }
}

/// The most input tokens that a request of so many bytes can be, with what a chat template adds.
#[must_use]
pub fn input_at_most(request_bytes: u64) -> u64 {
    request_bytes + TEMPLATE_TOKENS
}

/// What one document held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Marks {
    /// Where the model's name stands.
    pub(crate) model: Option<std::ops::Range<usize>>,
    /// It tells usage.
    pub(crate) usage: bool,
    /// It tells usage and brings no choice.
    pub(crate) usage_only: bool,
    /// It tells an error.
    pub(crate) error: bool,
}

fn read_usage(value: &[u8]) -> Option<Usage> {
    #[derive(Deserialize)]
    struct Wire {
        prompt_tokens: u32,
        #[serde(default)]
        completion_tokens: u32,
    }
    let wire: Wire = serde_json::from_slice(value).ok()?;
    Some(Usage {
        input_tokens: wire.prompt_tokens,
        output_tokens: wire.completion_tokens,
        counted: Counted::Engine,
    })
}

/// The answer is longer than anything carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer is too long")]
pub struct TooLong;

/// Watches an answer go by.
#[derive(Debug)]
pub struct Watch {
    framing: Framing,
    seen: Seen,
}

enum Framing {
    Events(Splitter),
    Document(BytesMut),
}

impl std::fmt::Debug for Framing {
    /// Without the text.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Events(_) => "Events",
            Self::Document(_) => "Document",
        })
    }
}

impl Watch {
    /// Watches an answer of this framing.
    #[must_use]
    pub fn new(content_type: ContentType) -> Self {
        let framing = match content_type {
            ContentType::EventStream => Framing::Events(Splitter::default()),
            ContentType::Json => Framing::Document(BytesMut::new()),
        };
        Self {
            framing,
            seen: Seen::default(),
        }
    }

    /// Looks at what comes next, however it is cut.
    pub fn push(&mut self, bytes: &Bytes) -> Result<(), TooLong> {
        match &mut self.framing {
            Framing::Events(splitter) => {
                splitter.push(bytes.clone());
                while let Some(event) = splitter.next_event().map_err(|_| TooLong)? {
                    match event.data().as_deref() {
                        Some(b"[DONE]") => self.seen.done = true,
                        Some(payload) => drop(self.seen.read(payload)),
                        None => {}
                    }
                }
            }
            Framing::Document(document) => {
                if document.len() + bytes.len() > ANSWER_BYTES {
                    return Err(TooLong);
                }
                document.extend_from_slice(bytes);
            }
        }
        Ok(())
    }

    /// What was seen, when nothing more comes.
    #[must_use]
    pub fn end(mut self) -> Seen {
        if let Framing::Document(document) = self.framing {
            self.seen.done = json::validate(&document).is_ok();
            self.seen.read(&document);
        }
        self.seen
    }

    /// What was seen so far; of a document that is not streamed, nothing before its end.
    #[must_use]
    pub fn seen(&self) -> &Seen {
        &self.seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(content_type: ContentType, text: &str, cut: usize) -> Seen {
        let mut watch = Watch::new(content_type);
        for chunk in text.as_bytes().chunks(cut) {
            watch.push(&Bytes::copy_from_slice(chunk)).unwrap();
        }
        watch.end()
    }

    const STREAM: &str = concat!(
        "data: {\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n",
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"h\u{e9}\\n\"},\"finish_reason\":null}],\"usage\":null}\n\n",
        ": ping\n\n",
        "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]}}]}\n\n",
        "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"length\"}]}\n\n",
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":2,\"total_tokens\":7}}\n\n",
        "data: [DONE]\n\n",
    );

    #[test]
    fn streams_are_seen_however_they_are_cut() {
        for cut in [1, 2, 3, 7, 64, 10_000] {
            let seen = watch(ContentType::EventStream, STREAM, cut);
            let usage = Usage {
                input_tokens: 5,
                output_tokens: 2,
                counted: Counted::Engine,
            };
            let expected = Seen {
                text_bytes: 4 + 3,
                chunks: 2,
                calls: 1,
                finish: Some(Finish::Length),
                usage: Some(usage),
                done: true,
                failed: false,
            };
            assert_eq!(seen, expected, "cut {cut}");
        }
    }

    #[test]
    fn documents_are_seen_at_their_end() {
        let text = r#"{"choices":[{"message":{"role":"assistant","content":"abc"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":3}}"#;
        let seen = watch(ContentType::Json, text, 5);
        assert_eq!(
            (seen.text_bytes, seen.chunks, seen.finish, seen.done),
            (3, 1, Some(Finish::Stop), true)
        );
        assert!(!watch(ContentType::Json, &text[..40], 5).done);
    }

    #[test]
    fn an_error_is_seen() {
        let seen = watch(ContentType::EventStream, "data: {\"error\":{\"message\":\"x\"}}\n\n", 9);
        assert!(seen.failed && !seen.done);
    }

    #[test]
    fn claims_are_bounded_by_bytes() {
        let seen = Seen {
            text_bytes: 1_000,
            chunks: 200,
            ..Seen::default()
        };
        let claim = |input_tokens, output_tokens| Usage {
            input_tokens,
            output_tokens,
            counted: Counted::Engine,
        };
        assert_eq!(seen.plausible(&claim(1_024, 1_064), 0), Ok(()));
        assert_eq!(
            seen.plausible(&claim(0, 1_065), 0),
            Err(Implausible {
                what: "output",
                claimed: 1_065,
                at_most: 1_064
            })
        );
        assert_eq!(seen.plausible(&claim(1_035, 0), 10).unwrap_err().what, "input");
        // Escapes do not make a text longer than it is.
        let escaped = watch(
            ContentType::EventStream,
            "data: {\"choices\":[{\"text\":\"\\u0041\\u0041\"}]}\n\n",
            99,
        );
        assert_eq!(escaped.text_bytes, 2);
    }
}

//! An inbound OpenAI request, read once at the edge: what it asks for, what it needs, how large it is.
//!
//! Reading proves the body well-formed and its known fields well-typed. Whether a stranger may send what is in it is
//! [`crate::allow`]'s question.

use std::borrow::Cow;

use bytes::Bytes;
use infernet_protocol::capability::Features;
use infernet_protocol::names::BODY_BYTES;

use crate::backend::{Endpoint, tokens_of};
use crate::json::{self, Edit, Malformed, Object};

/// Most choices of one request, over all of its prompts: OpenAI's own bound on `n`.
pub const CHOICES_MAX: u32 = 128;
/// Tokens that a chat template puts around one message.
const TOKENS_PER_MESSAGE: u32 = 4;
/// Tokens that one image stands for: the order of magnitude of today's vision models.
const TOKENS_PER_IMAGE: u32 = 1024;

/// Why a request cannot be served as it stands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Not a JSON object, or not one that everybody reads alike.
    #[error(transparent)]
    Json(#[from] Malformed),
    /// Longer than the network carries.
    #[error("the body is larger than {BODY_BYTES} bytes")]
    BodyTooLarge,
    /// A field that must be there is not.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// A field does not hold what it should.
    #[error("`{param}` must be {expected}")]
    Invalid {
        /// The field, as a path.
        param: String,
        /// What it should hold.
        expected: &'static str,
    },
    /// A field that is not carried for strangers.
    #[error("`{param}` is not supported by this network")]
    NotAllowed {
        /// The field, as a path.
        param: String,
    },
    /// A field that needs a feature which the model does not have.
    #[error("`{param}` needs `{feature}`, which this model does not offer")]
    Feature {
        /// The field.
        param: String,
        /// What it needs.
        feature: &'static str,
    },
}

impl RequestError {
    pub(crate) fn invalid(param: impl Into<String>, expected: &'static str) -> Self {
        Self::Invalid {
            param: param.into(),
            expected,
        }
    }

    /// The field that is wrong, for the `param` of an error object.
    #[must_use]
    pub fn param(&self) -> Option<&str> {
        match self {
            Self::Json(Malformed::Duplicate(param)) => Some(param),
            Self::Missing(param) => Some(param),
            Self::Invalid { param, .. } | Self::NotAllowed { param } | Self::Feature { param, .. } => Some(param),
            Self::Json(_) | Self::BodyTooLarge => None,
        }
    }
}

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Which route.
    pub endpoint: Endpoint,
    /// The model as the consumer names it.
    pub model: String,
    /// Whether the answer is to be streamed.
    pub stream: bool,
    /// Whether a streamed answer is to end in a usage chunk.
    pub usage_asked: bool,
    /// Features that the model must offer.
    pub needs: Features,
    /// Most output tokens of one choice, where the consumer says.
    pub max_output: Option<u32>,
    /// How many answers it asks for: `n` times the prompts.
    pub choices: u32,
    /// Bytes of text in the prompt.
    pub input_bytes: u64,
    /// Roughly how many tokens the prompt is, images and template included.
    pub input_tokens: u32,
    /// Roughly how many tokens the longest prompt is, which a model must be able to see at once: all of them, where there
    /// is one.
    pub context: u32,
}

impl Request {
    /// Reads `body` as a request to `endpoint`.
    pub fn read(endpoint: Endpoint, body: &[u8]) -> Result<Self, RequestError> {
        if body.len() as u64 > BODY_BYTES {
            return Err(RequestError::BodyTooLarge);
        }
        json::validate(body)?;
        let object = Object::read(body)?;
        let model = text(&object, "model")?.ok_or(RequestError::Missing("model"))?;
        if model.trim().is_empty() {
            return Err(RequestError::invalid("model", "the name of a model"));
        }
        let mut request = Self {
            endpoint,
            model: model.into_owned(),
            stream: flag(&object, "stream")?.unwrap_or(false),
            usage_asked: usage_asked(&object)?,
            needs: Features::default(),
            max_output: None,
            choices: match integer(&object, "n")? {
                None => 1,
                Some(n @ 1..=CHOICES_MAX) => n,
                Some(_) => return Err(RequestError::invalid("n", "a whole number from 1 to 128")),
            },
            input_bytes: 0,
            input_tokens: 0,
            context: 0,
        };
        match endpoint {
            Endpoint::ChatCompletions => request.read_chat(&object)?,
            Endpoint::Completions => request.read_completion(&object)?,
            Endpoint::Embeddings => {
                request.needs = Features::EMBEDDINGS;
                request.read_prompts(object.get("input").ok_or(RequestError::Missing("input"))?, "input")?;
            }
        }
        request.input_tokens = request.input_tokens.saturating_add(tokens_of(request.input_bytes));
        if endpoint == Endpoint::ChatCompletions {
            request.context = request.input_tokens;
        }
        Ok(request)
    }

    fn read_chat(&mut self, object: &Object<'_>) -> Result<(), RequestError> {
        self.needs = Features::CHAT;
        // Which of them counts is the engine's choice.
        for name in ["max_completion_tokens", "max_tokens"] {
            let most = integer(object, name)?;
            if most == Some(0) {
                return Err(RequestError::invalid(name, "at least 1"));
            }
            self.max_output = self.max_output.max(most);
        }
        let messages = object.get("messages").ok_or(RequestError::Missing("messages"))?;
        if !messages.starts_with(b"[") {
            return Err(RequestError::invalid("messages", "an array of messages"));
        }
        let mut count = 0_usize;
        for message in json::elements(messages) {
            self.read_message(message, count)?;
            count += 1;
        }
        if count == 0 {
            return Err(RequestError::invalid("messages", "at least one message"));
        }
        if let Some(tools) = object
            .get("tools")
            .filter(|tools| json::elements(tools).next().is_some())
        {
            self.needs = self.needs.with(Features::TOOLS);
            self.input_bytes += tools.len() as u64;
        }
        if flag(object, "logprobs")? == Some(true) || object.get("top_logprobs").is_some() {
            self.needs = self.needs.with(Features::LOGPROBS);
        }
        if let Some(format) = object.get("response_format") {
            let format = Object::read(format)
                .map_err(|_| RequestError::invalid("response_format", "an object with a `type`"))?;
            let kind = text(&format, "type")?.ok_or(RequestError::Missing("response_format.type"))?;
            if kind != "text" {
                self.needs = self.needs.with(Features::JSON_SCHEMA);
                self.input_bytes += format.get("json_schema").map_or(0, <[u8]>::len) as u64;
            }
        }
        Ok(())
    }

    fn read_message(&mut self, message: &[u8], index: usize) -> Result<(), RequestError> {
        let path = |name: &str| format!("messages[{index}].{name}");
        let object =
            Object::read(message).map_err(|_| RequestError::invalid(format!("messages[{index}]"), "an object"))?;
        let role = object.get("role").and_then(json::string);
        let role = role.ok_or_else(|| RequestError::invalid(path("role"), "a role such as `user`"))?;
        if role == "tool" || object.get("tool_calls").is_some() {
            self.needs = self.needs.with(Features::TOOLS);
        }
        self.input_tokens = self.input_tokens.saturating_add(TOKENS_PER_MESSAGE);
        self.input_bytes += object.get("tool_calls").map_or(0, <[u8]>::len) as u64;
        match object.get("content") {
            None => {}
            Some(content) if content.starts_with(b"\"") => self.input_bytes += json::string_bytes(content),
            Some(content) if content.starts_with(b"[") => {
                for part in json::elements(content) {
                    let part = Object::read(part)
                        .map_err(|_| RequestError::invalid(path("content"), "text, or an array of content parts"))?;
                    if part.get("image_url").is_some() {
                        self.needs = self.needs.with(Features::VISION);
                        self.input_tokens = self.input_tokens.saturating_add(TOKENS_PER_IMAGE);
                    }
                    self.input_bytes += part.get("text").map_or(0, json::string_bytes);
                }
            }
            Some(_) => {
                return Err(RequestError::invalid(
                    path("content"),
                    "text, or an array of content parts",
                ));
            }
        }
        Ok(())
    }

    fn read_completion(&mut self, object: &Object<'_>) -> Result<(), RequestError> {
        self.needs = Features::COMPLETIONS;
        self.max_output = integer(object, "max_tokens")?;
        self.read_prompts(object.get("prompt").ok_or(RequestError::Missing("prompt"))?, "prompt")?;
        if object.get("logprobs").is_some_and(|value| value != b"false") {
            self.needs = self.needs.with(Features::LOGPROBS);
        }
        Ok(())
    }

    /// One prompt or several, each as text or as token ids.
    fn read_prompts(&mut self, value: &[u8], param: &'static str) -> Result<(), RequestError> {
        let wrong = || RequestError::invalid(param, "text, an array of texts, or token ids");
        let mut prompts = 0_u32;
        let mut ids = 0_u32;
        match value.first() {
            Some(b'"') => {
                self.input_bytes += json::string_bytes(value);
                self.context = tokens_of(self.input_bytes);
                prompts = 1;
            }
            Some(b'[') => {
                for element in json::elements(value) {
                    match element.first() {
                        Some(b'"') => {
                            let bytes = json::string_bytes(element);
                            self.input_bytes += bytes;
                            self.context = self.context.max(tokens_of(bytes));
                            prompts += 1;
                        }
                        Some(b'[') => {
                            let prompt = token_ids(element).ok_or_else(wrong)?;
                            ids = ids.saturating_add(prompt);
                            self.context = self.context.max(prompt);
                            prompts += 1;
                        }
                        _ => {
                            token_id(element).ok_or_else(wrong)?;
                            ids += 1;
                        }
                    }
                }
            }
            _ => return Err(wrong()),
        }
        // An array of bare ids is one prompt; ids beside texts are nothing.
        if prompts == 0 && ids == 0 || ids > 0 && self.input_bytes > 0 {
            return Err(wrong());
        }
        if prompts == 0 {
            self.context = ids;
        }
        self.input_tokens = self.input_tokens.saturating_add(ids);
        if self.endpoint != Endpoint::Embeddings {
            self.choices = self.choices.saturating_mul(prompts.max(1));
            if self.choices > CHOICES_MAX {
                return Err(RequestError::invalid(
                    param,
                    "so few prompts that all choices are at most 128",
                ));
            }
        }
        Ok(())
    }

    /// Most output tokens of all choices, when one choice may have `budget` where the request does not say.
    #[must_use]
    pub fn output_tokens_at_most(&self, budget: u32) -> u32 {
        match self.endpoint {
            Endpoint::Embeddings => 0,
            _ => self.max_output.unwrap_or(budget).saturating_mul(self.choices),
        }
    }
}

fn token_id(element: &[u8]) -> Option<u32> {
    std::str::from_utf8(element).ok()?.parse().ok()
}

fn token_ids(list: &[u8]) -> Option<u32> {
    json::elements(list).try_fold(0_u32, |count, element| token_id(element).map(|_| count + 1))
}

fn usage_asked(object: &Object<'_>) -> Result<bool, RequestError> {
    let Some(options) = object.get("stream_options") else {
        return Ok(false);
    };
    let options = Object::read(options).map_err(|_| RequestError::invalid("stream_options", "an object"))?;
    Ok(flag(&options, "include_usage")?.unwrap_or(false))
}

fn text<'a>(object: &Object<'a>, name: &'static str) -> Result<Option<Cow<'a, str>>, RequestError> {
    match object.get(name) {
        None => Ok(None),
        Some(value) => json::string(value)
            .map(Some)
            .ok_or(RequestError::invalid(name, "a string")),
    }
}

fn flag(object: &Object<'_>, name: &'static str) -> Result<Option<bool>, RequestError> {
    match object.get(name) {
        None => Ok(None),
        Some(b"true") => Ok(Some(true)),
        Some(b"false") => Ok(Some(false)),
        Some(_) => Err(RequestError::invalid(name, "true or false")),
    }
}

fn integer(object: &Object<'_>, name: &'static str) -> Result<Option<u32>, RequestError> {
    match object.get(name) {
        None => Ok(None),
        Some(value) => token_id(value)
            .map(Some)
            .ok_or(RequestError::invalid(name, "a whole number that is not negative")),
    }
}

/// `body` without the top-level members `names`, every other byte as it was. Without any of them, the same bytes.
pub fn without(body: &Bytes, names: &[&str]) -> Result<Bytes, Malformed> {
    let object = Object::read(body)?;
    let held = object
        .members()
        .iter()
        .any(|member| names.iter().any(|name| *member.name() == *name.as_bytes()));
    if !held {
        return Ok(body.clone());
    }
    let edits: Vec<_> = names.iter().copied().map(Edit::remove).collect();
    Ok(object.edited(&edits).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat(rest: &str) -> Result<Request, RequestError> {
        let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"hello"}}]{rest}}}"#);
        Request::read(Endpoint::ChatCompletions, body.as_bytes())
    }

    #[test]
    fn a_plain_chat_needs_chat_only() {
        let request = chat("").unwrap();
        assert_eq!(request.model, "m");
        assert!(!request.stream && !request.usage_asked);
        assert_eq!(
            (request.needs, request.max_output, request.choices),
            (Features::CHAT, None, 1)
        );
        assert_eq!((request.input_bytes, request.input_tokens), (5, 6));
        assert_eq!(request.output_tokens_at_most(100), 100);
    }

    #[test]
    fn options_are_read() {
        let request =
            chat(r#","stream":true,"stream_options":{"include_usage":true},"max_tokens":7,"n":3,"stop":null"#).unwrap();
        assert!(request.stream && request.usage_asked);
        assert_eq!(
            (request.max_output, request.choices, request.output_tokens_at_most(100)),
            (Some(7), 3, 21)
        );
        assert_eq!(
            chat(r#","max_tokens":7,"max_completion_tokens":9"#).unwrap().max_output,
            Some(9)
        );
        assert_eq!(
            chat(r#","max_tokens":11,"max_completion_tokens":9"#)
                .unwrap()
                .max_output,
            Some(11)
        );
        for both in ["\"7\"", "0", "-1", "[]"] {
            assert!(
                chat(&format!(r#","max_tokens":{both},"max_completion_tokens":9"#)).is_err(),
                "{both}"
            );
        }
        assert_eq!(
            chat(r#","max_tokens":null,"stream":null,"n":null"#).unwrap().max_output,
            None
        );
    }

    #[test]
    fn needs_follow_the_fields() {
        let needs = |rest| chat(rest).unwrap().needs;
        assert_eq!(needs(r#","tools":[{}]"#), Features::CHAT.with(Features::TOOLS));
        assert_eq!(needs(r#","tools":[]"#), Features::CHAT);
        assert_eq!(needs(r#","logprobs":true"#), Features::CHAT.with(Features::LOGPROBS));
        assert_eq!(needs(r#","logprobs":false"#), Features::CHAT);
        assert_eq!(needs(r#","response_format":{"type":"text"}"#), Features::CHAT);
        assert_eq!(
            needs(r#","response_format":{"type":"json_object"}"#),
            Features::CHAT.with(Features::JSON_SCHEMA)
        );
        let body = br#"{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"hi"},
            {"type":"image_url","image_url":{"url":"data:image/png;base64,AA=="}}]}]}"#;
        let request = Request::read(Endpoint::ChatCompletions, body).unwrap();
        assert_eq!(request.needs, Features::CHAT.with(Features::VISION));
        assert_eq!(request.input_tokens, 1024 + 4 + 1);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (rest, param) in [
            (r#","stream":1"#, "stream"),
            (r#","n":0"#, "n"),
            (r#","n":129"#, "n"),
            (r#","max_tokens":0"#, "max_tokens"),
            (r#","max_tokens":-1"#, "max_tokens"),
            (r#","max_tokens":1.5"#, "max_tokens"),
            (r#","max_tokens":"7""#, "max_tokens"),
            (r#","stream_options":[]"#, "stream_options"),
            (r#","model":"x""#, "model"),
            (r#","response_format":{}"#, "response_format.type"),
        ] {
            assert_eq!(chat(rest).unwrap_err().param(), Some(param), "{rest}");
        }
        let read = |body: &str| Request::read(Endpoint::ChatCompletions, body.as_bytes()).unwrap_err();
        assert_eq!(read("{}"), RequestError::Missing("model"));
        assert_eq!(read(r#"{"model":"m"}"#), RequestError::Missing("messages"));
        assert_eq!(read(r#"{"model":" ","messages":[]}"#).param(), Some("model"));
        assert_eq!(read(r#"{"model":"m","messages":[]}"#).param(), Some("messages"));
        assert_eq!(read(r#"{"model":"m","messages":[1]}"#).param(), Some("messages[0]"));
        assert_eq!(
            read(r#"{"model":"m","messages":[{"content":"x"}]}"#).param(),
            Some("messages[0].role")
        );
        assert_eq!(
            read(r#"{"model":"m","messages":[{"role":"user","content":1}]}"#).param(),
            Some("messages[0].content")
        );
        assert!(matches!(read("[]"), RequestError::Json(Malformed::NotObject)));
        assert!(matches!(read("{"), RequestError::Json(Malformed::Syntax(_))));
    }

    #[test]
    fn prompts_are_counted() {
        let read = |prompt: &str| {
            let body = format!(r#"{{"model":"m","n":2,"prompt":{prompt}}}"#);
            Request::read(Endpoint::Completions, body.as_bytes())
        };
        assert_eq!(read(r#""12345678""#).map(|r| (r.choices, r.input_tokens)), Ok((2, 2)));
        assert_eq!(read(r#"["ab","cd"]"#).map(|r| (r.choices, r.input_bytes)), Ok((4, 4)));
        assert_eq!(read("[1,2,3]").map(|r| (r.choices, r.input_tokens)), Ok((2, 3)));
        assert_eq!(read("[[1,2],[3]]").map(|r| (r.choices, r.input_tokens)), Ok((4, 3)));
        for wrong in [
            "[]",
            "7",
            "{}",
            "[\"a\",1]",
            "[-1]",
            "[[\"a\"]]",
            &format!("[{}]", ["\"x\""; 65].join(",")),
        ] {
            assert_eq!(read(wrong).unwrap_err().param(), Some("prompt"), "{wrong}");
        }
        let embed = Request::read(Endpoint::Embeddings, br#"{"model":"m","input":["a","b"]}"#).unwrap();
        assert_eq!(
            (embed.needs, embed.choices, embed.output_tokens_at_most(9)),
            (Features::EMBEDDINGS, 1, 0)
        );
    }

    #[test]
    fn a_model_must_see_the_longest_prompt_and_not_all_of_them_at_once() {
        let read = |input: &str| {
            let body = format!(r#"{{"model":"m","input":{input}}}"#);
            let request = Request::read(Endpoint::Embeddings, body.as_bytes()).unwrap();
            (request.input_tokens, request.context)
        };
        assert_eq!(read(r#""12345678""#), (2, 2));
        assert_eq!(read(r#"["1234","123456789","1234"]"#), (5, 3));
        assert_eq!(read("[1,2,3]"), (3, 3));
        assert_eq!(read("[[1,2],[3],[4,5]]"), (5, 2));
        let conversation = chat("").unwrap();
        assert_eq!(conversation.context, conversation.input_tokens);
    }

    #[test]
    fn extensions_are_taken_out_and_nothing_else_moves() {
        let body = Bytes::from_static(br#"{"model" : "m", "policy":"fastest", "x":1.0}"#);
        assert_eq!(
            without(&body, &["provider", "policy"]).unwrap(),
            &br#"{"model" : "m", "x":1.0}"#[..]
        );
        let plain = Bytes::from_static(br#"{"model":"m"}"#);
        assert_eq!(without(&plain, &["provider"]).unwrap().as_ptr(), plain.as_ptr());
    }
}

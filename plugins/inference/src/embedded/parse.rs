//! A request's fields as the engine's prompt and parameters, and the words in which either engine refuses one.

use infernet_engine::{ChatMessage, Model, Params};

use crate::backend::{BackendError, Endpoint, Job};
use crate::json::{self, Object};
use crate::request::{Request, RequestError};
use crate::wire::error_json;

/// Temperature where the request has none: small models read better somewhat below their own distribution.
const TEMPERATURE: f32 = 0.7;

/// What a request asks of the engine.
pub(super) struct Parsed {
    pub(super) prompt: Prompt,
    pub(super) params: Params,
}

/// What is to be continued.
pub(super) enum Prompt {
    /// A conversation, for the model's chat template.
    Chat(Vec<ChatMessage>),
    /// A text as it is.
    Text(String),
    /// Token ids.
    Tokens(Vec<u32>),
}

impl Prompt {
    /// Length of the text.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Chat(messages) => messages.iter().map(|message| message.content.len()).sum(),
            Self::Text(text) => text.len(),
            Self::Tokens(_) => 0,
        }
    }

    /// Its token ids.
    pub(super) fn tokens(self, model: &Model) -> Result<Vec<u32>, BackendError> {
        let text = match self {
            Self::Tokens(tokens) => return Ok(tokens),
            Self::Text(text) => text,
            Self::Chat(messages) => model
                .render_chat(&messages, None, true)
                .map_err(|error| bad(&error.to_string(), Some("messages")))?,
        };
        model
            .tokenize(&text, true)
            .map_err(|error| bad(&error.to_string(), None))
    }
}

/// A request that is refused in these words.
pub(super) fn bad(message: &str, param: Option<&str>) -> BackendError {
    let body = error_json(message, "invalid_request_error", param, None);
    BackendError::Refused {
        status: 400,
        body: body.into(),
    }
}

/// The same for a request that could not be read.
pub(super) fn refused(error: &RequestError) -> BackendError {
    bad(&error.to_string(), error.param())
}

/// Reads the body of `request`; refuses what would have to be ignored.
pub(super) fn parse(request: &Request, job: &Job) -> Result<Parsed, BackendError> {
    let object = Object::read(&job.body).map_err(|error| refused(&error.into()))?;
    if request.choices != 1 {
        return Err(unsupported("n"));
    }
    let most = request.max_output.into_iter().chain(job.max_output).min();
    let mut params = Params {
        max_tokens: most.unwrap_or(u32::MAX),
        temperature: TEMPERATURE,
        ..Params::default()
    };
    let mut prompt = None;
    for member in object.members() {
        if json::is_null(member.value) {
            continue;
        }
        let name = member.name();
        let name = String::from_utf8_lossy(&name);
        match (job.endpoint, &*name) {
            (Endpoint::ChatCompletions, "messages") => prompt = Some(Prompt::Chat(messages(member.value)?)),
            (Endpoint::Completions, "prompt") => prompt = Some(text_prompt(member.value)?),
            _ => field(&name, member.value, &mut params)?,
        }
    }
    match prompt {
        Some(prompt) => Ok(Parsed { prompt, params }),
        None => Err(BackendError::Unsupported(job.endpoint.path())),
    }
}

fn field(name: &str, value: &[u8], params: &mut Params) -> Result<(), BackendError> {
    match name {
        // Read already, or of no consequence for the answer.
        "model"
        | "stream"
        | "stream_options"
        | "max_tokens"
        | "max_completion_tokens"
        | "n"
        | "user"
        | "store"
        | "metadata"
        | "service_tier"
        | "safety_identifier"
        | "prompt_cache_key" => {}
        "temperature" => params.temperature = number(name, value)?,
        "top_p" => params.top_p = number(name, value)?,
        "frequency_penalty" => params.frequency_penalty = number(name, value)?,
        "presence_penalty" => params.presence_penalty = number(name, value)?,
        "top_k" => {
            let k: f32 = number(name, value)?;
            // -1 and 0 mean all, as in other engines.
            params.top_k = (k >= 1.0).then_some(k as u32);
        }
        "seed" => {
            let seed: i64 = serde_json::from_slice(value).map_err(|_| invalid(name, "a whole number"))?;
            params.seed = Some(seed.cast_unsigned());
        }
        "stop" => params.stop = stop(value)?,
        // Fields that other engines have, as long as they ask for nothing.
        "logprobs" | "echo" | "parallel_tool_calls" if value == b"false" => {}
        "parallel_tool_calls" if value == b"true" => {}
        "tools" if value == b"[]" => {}
        "tool_choice" if matches!(value, b"\"auto\"" | b"\"none\"") => {}
        "logit_bias" if json::members(value).next().is_none() => {}
        "response_format" if json::members(value).flatten().any(|member| member.value == b"\"text\"") => {}
        "min_p" if number::<f32>(name, value)? == 0.0 => {}
        "repetition_penalty" | "repeat_penalty" if number::<f32>(name, value)? == 1.0 => {}
        _ => return Err(unsupported(name)),
    }
    Ok(())
}

pub(super) fn unsupported(name: &str) -> BackendError {
    bad(
        &format!("`{name}` is not supported by the embedded engine; leave it out or choose another model"),
        Some(name),
    )
}

pub(super) fn invalid(name: &str, expected: &'static str) -> BackendError {
    refused(&RequestError::invalid(name, expected))
}

fn number<T: serde::de::DeserializeOwned>(name: &str, value: &[u8]) -> Result<T, BackendError> {
    serde_json::from_slice(value).map_err(|_| invalid(name, "a number"))
}

fn stop(value: &[u8]) -> Result<Vec<String>, BackendError> {
    let stops: Vec<String> = match json::string(value) {
        Some(one) => vec![one.into_owned()],
        None => serde_json::from_slice(value).map_err(|_| invalid("stop", "a string or an array of strings"))?,
    };
    Ok(stops.into_iter().filter(|stop| !stop.is_empty()).collect())
}

fn text_prompt(value: &[u8]) -> Result<Prompt, BackendError> {
    if let Some(text) = json::string(value) {
        return Ok(Prompt::Text(text.into_owned()));
    }
    let one = json::elements(value).next().unwrap_or_default();
    if let Some(text) = json::string(one) {
        return Ok(Prompt::Text(text.into_owned()));
    }
    let ids = if one.starts_with(b"[") { one } else { value };
    serde_json::from_slice(ids)
        .map(Prompt::Tokens)
        .map_err(|_| invalid("prompt", "text or token ids"))
}

fn messages(value: &[u8]) -> Result<Vec<ChatMessage>, BackendError> {
    json::elements(value)
        .enumerate()
        .map(|(index, message)| self::message(message, index))
        .collect()
}

fn message(message: &[u8], index: usize) -> Result<ChatMessage, BackendError> {
    let path = |name: &str| format!("messages[{index}].{name}");
    let object = Object::read(message).map_err(|error| refused(&error.into()))?;
    let role = object.get("role").and_then(json::string).unwrap_or_default();
    let role = match &*role {
        "developer" => "system",
        "system" | "user" | "assistant" => &role,
        _ => return Err(unsupported(&path("role"))),
    };
    for name in ["tool_calls", "function_call", "audio"] {
        if object.get(name).is_some_and(|value| value != b"[]") {
            return Err(unsupported(&path(name)));
        }
    }
    let content = match object.get("content") {
        None => String::new(),
        Some(content) => match json::string(content) {
            Some(text) => text.into_owned(),
            None => parts(content).ok_or_else(|| unsupported(&path("content")))?,
        },
    };
    Ok(ChatMessage::new(role, content))
}

/// The text of content parts; nothing where one of them is not text.
fn parts(content: &[u8]) -> Option<String> {
    json::elements(content)
        .map(|part| {
            Object::read(part)
                .ok()?
                .get("text")
                .and_then(json::string)
                .map(|text| text.into_owned())
        })
        .collect()
}

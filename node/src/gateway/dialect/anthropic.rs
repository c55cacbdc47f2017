//! Anthropic's Messages API: `POST /v1/messages` and `/v1/messages/count_tokens`.
//!
//! Shapes: <https://docs.claude.com/en/api/messages>, <https://docs.claude.com/en/docs/build-with-claude/streaming>,
//! <https://docs.claude.com/en/api/errors>.

use serde_json::{Map, Value, json};

use super::{
    Dialect, Fields, Translated, arguments, chat, content, delta, event, image, member, reasoning, text_part, tokens,
};
use crate::gateway::errors::ApiError;

/// Reads a request.
pub(in crate::gateway) fn read(body: &[u8]) -> Result<Translated, ApiError> {
    let mut fields = Fields::read(body)?;
    let mut request = Map::new();
    let stream = fields.flag("stream")?.unwrap_or(false);
    if fields.0.get("max_tokens").is_none_or(Value::is_null) {
        return Err(ApiError::invalid("`max_tokens` is required", "max_tokens"));
    }
    let messages = conversation(&mut fields)?;
    request.insert("messages".to_owned(), messages.into());
    fields.pass(
        &[
            ("model", "model"),
            ("max_tokens", "max_tokens"),
            ("temperature", "temperature"),
            ("top_p", "top_p"),
            ("top_k", "top_k"),
        ],
        &mut request,
    );
    let stops = fields.list("stop_sequences")?.unwrap_or_default();
    if !stops.is_empty() {
        request.insert("stop".to_owned(), stops.clone().into());
    }
    if let Some(tools) = fields.list("tools")? {
        let tools: Result<Vec<_>, _> = tools.into_iter().map(tool).collect();
        request.insert("tools".to_owned(), tools?.into());
    }
    if let Some(choice) = fields.take("tool_choice") {
        if choice["disable_parallel_tool_use"] == true {
            request.insert("parallel_tool_calls".to_owned(), false.into());
        }
        request.insert("tool_choice".to_owned(), tool_choice(&choice)?);
    }
    match fields.take("thinking") {
        Some(thinking) if thinking["type"] == "enabled" => {
            request.insert("reasoning_effort".to_owned(), "medium".into());
        }
        _ => {}
    }
    // Whom a request is for, and how fast Anthropic should serve it, mean nothing to an engine.
    fields.ignore(&["metadata", "service_tier"]);
    fields.pass_own(&mut request);
    fields.end()?;
    Ok(chat(request, stream, Box::new(Messages::new(stops))))
}

/// Reads a request whose tokens are to be counted; it is one that lacks what only an answer needs.
pub(in crate::gateway) fn read_to_count(body: &[u8]) -> Result<Translated, ApiError> {
    let mut fields = Fields::read(body)?;
    let most = fields.take("max_tokens").unwrap_or(Value::from(1));
    fields.0.insert("max_tokens".to_owned(), most);
    read(Value::Object(fields.0).to_string().as_bytes())
}

/// System text and messages.
fn conversation(fields: &mut Fields) -> Result<Vec<Value>, ApiError> {
    let mut out = Vec::new();
    if let Some(system) = fields.take("system") {
        let parts = blocks(system, "system")?;
        let text: Result<Vec<_>, _> = parts.iter().map(|block| text_of(block, "system")).collect();
        out.push(json!({ "role": "system", "content": text?.join("\n\n") }));
    }
    let messages = fields
        .list("messages")?
        .ok_or_else(|| ApiError::invalid("`messages` is required", "messages"))?;
    for mut message in messages {
        let parts = blocks(member(&mut message, "content"), "messages")?;
        match message["role"].as_str() {
            Some("user") => user(parts, &mut out)?,
            Some("assistant") => out.push(assistant(parts)?),
            Some("system") => {
                let text: Result<Vec<_>, _> = parts.iter().map(|block| text_of(block, "messages")).collect();
                out.push(json!({ "role": "system", "content": text?.join("\n\n") }));
            }
            _ => return Err(ApiError::invalid("a message's role is user or assistant", "messages")),
        }
    }
    Ok(out)
}

/// Content as blocks, whether it came as text or as a list.
fn blocks(content: Value, param: &str) -> Result<Vec<Value>, ApiError> {
    match content {
        Value::String(text) => Ok(vec![text_part(text)]),
        Value::Array(blocks) => Ok(blocks),
        _ => Err(ApiError::invalid("content is a string or a list of blocks", param)),
    }
}

fn text_of(block: &Value, param: &str) -> Result<String, ApiError> {
    match (block["type"].as_str(), block["text"].as_str()) {
        (Some("text"), Some(text)) => Ok(text.to_owned()),
        (kind, _) => Err(ApiError::invalid(
            format!("blocks of the type `{}` are not supported here", kind.unwrap_or("?")),
            param,
        )),
    }
}

/// A user's message; results of tools are messages of their own and come first, as the calls that they answer did.
fn user(parts: Vec<Value>, out: &mut Vec<Value>) -> Result<(), ApiError> {
    let mut own = Vec::new();
    for block in parts {
        match block["type"].as_str() {
            Some("tool_result") if !block["tool_use_id"].is_string() => {
                return Err(ApiError::invalid("a tool_result block has a `tool_use_id`", "messages"));
            }
            Some("tool_result") => {
                let result = match &block["content"] {
                    Value::Null => String::new(),
                    content => {
                        let parts = blocks(content.clone(), "messages")?;
                        let text: Result<Vec<_>, _> = parts.iter().map(|part| text_of(part, "messages")).collect();
                        text?.join("\n")
                    }
                };
                out.push(json!({ "role": "tool", "tool_call_id": block["tool_use_id"], "content": result }));
            }
            Some("image") => own.push(image_of(&block["source"])?),
            _ => own.push(text_part(text_of(&block, "messages")?)),
        }
    }
    if !own.is_empty() {
        out.push(json!({ "role": "user", "content": content(own) }));
    }
    Ok(())
}

fn image_of(source: &Value) -> Result<Value, ApiError> {
    match (
        source["type"].as_str(),
        source["media_type"].as_str(),
        source["data"].as_str(),
    ) {
        (Some("base64"), Some(kind), Some(data)) => Ok(image(kind, data)),
        // A provider fetches nothing for strangers; the allow list says so in its own words.
        (Some("url"), ..) => Ok(json!({ "type": "image_url", "image_url": { "url": source["url"] } })),
        _ => Err(ApiError::invalid(
            "an image's source is base64 with its media_type",
            "messages",
        )),
    }
}

fn assistant(parts: Vec<Value>) -> Result<Value, ApiError> {
    let (mut text, mut calls) = (String::new(), Vec::new());
    for block in parts {
        match block["type"].as_str() {
            Some("tool_use") if !block["id"].is_string() || !block["input"].is_object() => {
                return Err(ApiError::invalid(
                    "a tool_use block has an `id` and an `input`",
                    "messages",
                ));
            }
            Some("tool_use") => calls.push(json!({
                "id": block["id"], "type": "function",
                "function": { "name": block["name"], "arguments": block["input"].to_string() },
            })),
            // What was thought in earlier turns is not shown to a model again.
            Some("thinking" | "redacted_thinking") => {}
            _ => text.push_str(&text_of(&block, "messages")?),
        }
    }
    let mut message = json!({ "role": "assistant", "content": text });
    if !calls.is_empty() {
        if text.is_empty() {
            message["content"] = Value::Null;
        }
        message["tool_calls"] = calls.into();
    }
    Ok(message)
}

fn tool(mut tool: Value) -> Result<Value, ApiError> {
    let kind = member(&mut tool, "type");
    if !kind.is_null() && kind != "custom" {
        let message = format!("tools of the type {kind} run at Anthropic and nowhere else");
        return Err(ApiError::invalid(message, "tools"));
    }
    let mut function = json!({ "name": member(&mut tool, "name"), "parameters": member(&mut tool, "input_schema") });
    let description = member(&mut tool, "description");
    if !description.is_null() {
        function["description"] = description;
    }
    Ok(json!({ "type": "function", "function": function }))
}

fn tool_choice(choice: &Value) -> Result<Value, ApiError> {
    match choice["type"].as_str() {
        Some("auto") => Ok("auto".into()),
        Some("any") => Ok("required".into()),
        Some("none") => Ok("none".into()),
        Some("tool") => Ok(json!({ "type": "function", "function": { "name": choice["name"] } })),
        _ => Err(ApiError::invalid(
            "`tool_choice` is auto, any, tool or none",
            "tool_choice",
        )),
    }
}

/// An error in Anthropic's words.
pub(in crate::gateway) fn error(error: &ApiError) -> Value {
    let kind = match error.status().as_u16() {
        400 | 405 | 422 => "invalid_request_error",
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 => "overloaded_error",
        504 => "timeout_error",
        _ => "api_error",
    };
    json!({ "type": "error", "error": { "type": kind, "message": error.message() } })
}

/// What is open in a streamed message.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    Nothing,
    Text,
    Thinking,
    /// A tool call, by its number in OpenAI's chunks.
    Tool(u64),
}

/// An answer as a message.
struct Messages {
    stops: Vec<Value>,
    begun: bool,
    open: Open,
    /// Id of the last tool call.
    call: String,
    /// Blocks that were opened.
    blocks: u64,
    stop_reason: &'static str,
    usage: Value,
}

impl Messages {
    fn new(stops: Vec<Value>) -> Self {
        Self {
            stops,
            begun: false,
            open: Open::Nothing,
            call: String::new(),
            blocks: 0,
            stop_reason: "end_turn",
            usage: Value::Null,
        }
    }

    fn begin(&mut self, chunk: &Value, out: &mut String) {
        if self.begun {
            return;
        }
        self.begun = true;
        let message = json!({
            "id": id(chunk), "type": "message", "role": "assistant", "model": chunk["model"], "content": [],
            "stop_reason": null, "stop_sequence": null, "usage": usage(&Value::Null),
        });
        event(
            out,
            "message_start",
            &json!({ "type": "message_start", "message": message }),
        );
    }

    /// Opens a block where another one, or none, is open.
    fn turn_to(&mut self, block: Open, begins: impl FnOnce() -> Value, out: &mut String) {
        if self.open == block {
            return;
        }
        self.close(out);
        self.open = block;
        let start = json!({ "type": "content_block_start", "index": self.blocks, "content_block": begins() });
        event(out, "content_block_start", &start);
        self.blocks += 1;
    }

    fn close(&mut self, out: &mut String) {
        if self.open != Open::Nothing {
            self.open = Open::Nothing;
            let stop = json!({ "type": "content_block_stop", "index": self.blocks - 1 });
            event(out, "content_block_stop", &stop);
        }
    }

    fn say(&self, delta: &Value, out: &mut String) {
        let said = json!({ "type": "content_block_delta", "index": self.blocks - 1, "delta": delta });
        event(out, "content_block_delta", &said);
    }

    fn call(&mut self, call: &Value, out: &mut String) {
        let number = call["index"].as_u64().unwrap_or(0);
        // Some engines number every call 0; a new id is a new call all the same.
        if let Some(id) = call["id"].as_str().filter(|id| !id.is_empty() && *id != self.call) {
            self.close(out);
            id.clone_into(&mut self.call);
        }
        let begins = || json!({ "type": "tool_use", "id": call["id"], "name": call["function"]["name"], "input": {} });
        self.turn_to(Open::Tool(number), begins, out);
        if let Some(arguments) = call["function"]["arguments"].as_str().filter(|text| !text.is_empty()) {
            self.say(&json!({ "type": "input_json_delta", "partial_json": arguments }), out);
        }
    }
}

impl Dialect for Messages {
    fn chunk(&mut self, chunk: &Value, out: &mut String) {
        self.begin(chunk, out);
        let delta = delta(chunk);
        if let Some(thought) = reasoning(delta) {
            let begins = || json!({ "type": "thinking", "thinking": "", "signature": "" });
            self.turn_to(Open::Thinking, begins, out);
            self.say(&json!({ "type": "thinking_delta", "thinking": thought }), out);
        }
        if let Some(text) = delta["content"].as_str().filter(|text| !text.is_empty()) {
            self.turn_to(Open::Text, || json!({ "type": "text", "text": "" }), out);
            self.say(&json!({ "type": "text_delta", "text": text }), out);
        }
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            self.call(call, out);
        }
        if let Some(reason) = chunk["choices"][0]["finish_reason"].as_str() {
            self.stop_reason = stop_reason(reason);
        }
        if chunk["usage"].is_object() {
            self.usage = chunk["usage"].clone();
        }
    }

    fn done(&mut self, out: &mut String) {
        self.begin(&Value::Null, out);
        self.close(out);
        let mut delta = json!({
            "type": "message_delta", "delta": { "stop_reason": self.stop_reason, "stop_sequence": null },
            "usage": usage(&self.usage),
        });
        if let Some(told) = self.usage.get("infernet") {
            delta["usage"]["infernet"] = told.clone();
        }
        event(out, "message_delta", &delta);
        event(out, "message_stop", &json!({ "type": "message_stop" }));
    }

    fn failed(&mut self, error: &Value, out: &mut String) {
        let kind = if error["code"] == "no_provider_free" {
            "overloaded_error"
        } else {
            "api_error"
        };
        let told = json!({ "type": "error", "error": { "type": kind, "message": error["message"] } });
        event(out, "error", &told);
    }

    fn document(&mut self, whole: &Value) -> Value {
        let message = &whole["choices"][0]["message"];
        let mut blocks = Vec::new();
        if let Some(thought) = reasoning(message) {
            blocks.push(json!({ "type": "thinking", "thinking": thought, "signature": "" }));
        }
        if let Some(text) = message["content"].as_str().filter(|text| !text.is_empty()) {
            blocks.push(text_part(text.to_owned()));
        }
        for call in message["tool_calls"].as_array().into_iter().flatten() {
            let input = arguments(call["function"]["arguments"].as_str().unwrap_or("{}"));
            blocks.push(json!({
                "type": "tool_use", "id": call["id"], "name": call["function"]["name"], "input": input,
            }));
        }
        let mut usage = usage(&whole["usage"]);
        if let Some(told) = whole["usage"].get("infernet") {
            usage["infernet"] = told.clone();
        }
        let reason = whole["choices"][0]["finish_reason"].as_str().unwrap_or("stop");
        // Engines that name the string that stopped them do so in this field.
        let stopped_by = &whole["choices"][0]["stop_reason"];
        let stop = self.stops.iter().find(|stop| *stop == stopped_by);
        json!({
            "id": id(whole), "type": "message", "role": "assistant", "model": whole["model"], "content": blocks,
            "stop_reason": if stop.is_some() { "stop_sequence" } else { stop_reason(reason) },
            "stop_sequence": stop, "usage": usage,
        })
    }
}

fn id(chunk: &Value) -> String {
    let id = chunk["id"].as_str().unwrap_or_default();
    format!("msg_{}", id.trim_start_matches("chatcmpl-"))
}

fn usage(usage: &Value) -> Value {
    let cached = tokens(&usage["prompt_tokens_details"], "cached_tokens");
    json!({
        "input_tokens": tokens(usage, "prompt_tokens").saturating_sub(cached),
        "output_tokens": tokens(usage, "completion_tokens"),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
    })
}

fn stop_reason(finish: &str) -> &'static str {
    match finish {
        "length" => "max_tokens",
        "tool_calls" | "function_call" => "tool_use",
        "content_filter" => "refusal",
        _ => "end_turn",
    }
}

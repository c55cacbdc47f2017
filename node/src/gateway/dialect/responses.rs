//! OpenAI's Responses API: `POST /v1/responses`. Nothing is stored, so what needs a stored answer is refused.
//!
//! Shapes: <https://platform.openai.com/docs/api-reference/responses> and
//! <https://platform.openai.com/docs/api-reference/responses-streaming>.

use serde_json::{Map, Value, json};

use super::{Dialect, Fields, Translated, chat, content, delta, event, member, reasoning, text_part, tokens};
use crate::clock;
use crate::gateway::errors::ApiError;

/// Reads a request.
pub(in crate::gateway) fn read(body: &[u8]) -> Result<Translated, ApiError> {
    let mut fields = Fields::read(body)?;
    let mut request = Map::new();
    let mut echo = Map::new();
    for name in ["previous_response_id", "conversation", "prompt"] {
        if fields.take(name).is_some() {
            let message = format!("`{name}` needs a stored answer, and this gateway stores none: send the whole input");
            return Err(ApiError::invalid(message, name));
        }
    }
    if fields.flag("background")? == Some(true) {
        return Err(ApiError::invalid(
            "`background` needs a stored answer, and this gateway stores none",
            "background",
        ));
    }
    let stream = fields.flag("stream")?.unwrap_or(false);
    let mut messages = Vec::new();
    if let Some(text) = fields.text("instructions")? {
        echo.insert("instructions".to_owned(), text.clone().into());
        messages.push(json!({ "role": "system", "content": text }));
    }
    let input = fields
        .take("input")
        .ok_or_else(|| ApiError::invalid("`input` is required", "input"))?;
    read_input(input, &mut messages)?;
    request.insert("messages".to_owned(), messages.into());
    for name in [
        "temperature",
        "top_p",
        "max_output_tokens",
        "parallel_tool_calls",
        "metadata",
        "user",
    ] {
        if let Some(value) = fields.0.get(name) {
            echo.insert(name.to_owned(), value.clone());
        }
    }
    read_tools(&mut fields, &mut request, &mut echo)?;
    if let Some(text) = fields.take("text") {
        echo.insert("text".to_owned(), text.clone());
        read_format(record(text, "text")?, &mut request)?;
    }
    if let Some(wanted) = fields.take("reasoning") {
        echo.insert("reasoning".to_owned(), wanted.clone());
        let mut wanted = record(wanted, "reasoning")?;
        hand_on(&mut wanted, "effort", "reasoning_effort", &mut request);
    }
    fields.pass(
        &[
            ("model", "model"),
            ("max_output_tokens", "max_completion_tokens"),
            ("temperature", "temperature"),
            ("top_p", "top_p"),
            ("top_k", "top_k"),
            ("seed", "seed"),
            ("parallel_tool_calls", "parallel_tool_calls"),
            ("user", "user"),
            ("metadata", "metadata"),
            ("safety_identifier", "safety_identifier"),
            ("prompt_cache_key", "prompt_cache_key"),
        ],
        &mut request,
    );
    if fields
        .list("include")?
        .is_some_and(|asked| asked.iter().any(|what| what != "reasoning.encrypted_content"))
    {
        return Err(ApiError::unsupported("include"));
    }
    // Where and for how long OpenAI itself would keep or queue it.
    fields.ignore(&[
        "store",
        "service_tier",
        "truncation",
        "stream_options",
        "prompt_cache_retention",
    ]);
    fields.pass_own(&mut request);
    fields.end()?;
    Ok(chat(request, stream, Box::new(Answer::new(echo))))
}

fn read_input(input: Value, messages: &mut Vec<Value>) -> Result<(), ApiError> {
    let items = match input {
        Value::String(text) => {
            messages.push(json!({ "role": "user", "content": text }));
            return Ok(());
        }
        Value::Array(items) => items,
        _ => return Err(ApiError::invalid("`input` is a string or a list of items", "input")),
    };
    for mut item in items {
        let kind = item["type"].as_str();
        if matches!(kind, Some("function_call" | "function_call_output")) && !item["call_id"].is_string() {
            return Err(ApiError::invalid("a call and its output have a `call_id`", "input"));
        }
        match kind {
            None if !item["type"].is_null() => return Err(ApiError::invalid("an item's `type` is a string", "input")),
            None | Some("message") => {
                let role = match item["role"].as_str() {
                    Some(role @ ("user" | "assistant" | "system" | "developer")) => role.to_owned(),
                    _ => {
                        return Err(ApiError::invalid(
                            "a message's role is user, assistant, system or developer",
                            "input",
                        ));
                    }
                };
                let said = said(member(&mut item, "content"))?;
                messages.push(json!({ "role": role, "content": said }));
            }
            Some("function_call") => call(&item, messages),
            Some("function_call_output") => {
                let output = output(&member(&mut item, "output"))?;
                messages.push(json!({ "role": "tool", "tool_call_id": item["call_id"], "content": output }));
            }
            // What was thought in earlier turns is not shown to a model again.
            Some("reasoning") => {}
            Some(kind) => {
                let message = format!("items of the type `{kind}` are not supported here");
                return Err(ApiError::invalid(message, "input"));
            }
        }
    }
    Ok(())
}

/// Calls that follow one another are of one message.
fn call(item: &Value, messages: &mut Vec<Value>) {
    let call = json!({
        "id": item["call_id"], "type": "function",
        "function": { "name": item["name"], "arguments": item["arguments"] },
    });
    if let Some(last) = messages.last_mut()
        && last["role"] == "assistant"
    {
        match last["tool_calls"].as_array_mut() {
            Some(calls) => calls.push(call),
            None => last["tool_calls"] = json!([call]),
        }
        return;
    }
    messages.push(json!({ "role": "assistant", "content": null, "tool_calls": [call] }));
}

/// What a tool gave: a text, or several.
fn output(parts: &Value) -> Result<String, ApiError> {
    let text = |part: &Value| match (part["type"].as_str(), part["text"].as_str()) {
        (Some("input_text" | "output_text" | "text"), Some(text)) => Some(text.to_owned()),
        _ => None,
    };
    let texts = match parts {
        Value::String(text) => Some(vec![text.clone()]),
        Value::Array(parts) => parts.iter().map(text).collect(),
        _ => None,
    };
    let texts = texts.ok_or_else(|| ApiError::invalid("the output of a call is text", "input"))?;
    Ok(texts.join("\n"))
}

fn said(parts: Value) -> Result<Value, ApiError> {
    let parts = match parts {
        Value::String(text) => return Ok(text.into()),
        Value::Array(parts) => parts,
        _ => return Err(ApiError::invalid("content is a string or a list of parts", "input")),
    };
    let text = |part: &Value, name: &str| match part[name].as_str() {
        Some(text) => Ok(text_part(text.to_owned())),
        None => Err(ApiError::invalid(format!("a part lacks its `{name}`"), "input")),
    };
    let part = |mut part: Value| match part["type"].as_str() {
        Some("input_text" | "output_text" | "text") => text(&part, "text"),
        Some("refusal") => text(&part, "refusal"),
        Some("input_image") if part["image_url"].is_string() => {
            Ok(json!({ "type": "image_url", "image_url": { "url": member(&mut part, "image_url") } }))
        }
        kind => {
            let message = format!("parts of the type `{}` are not supported here", kind.unwrap_or("?"));
            Err(ApiError::invalid(message, "input"))
        }
    };
    Ok(content(parts.into_iter().map(part).collect::<Result<_, _>>()?))
}

fn read_tools(
    fields: &mut Fields,
    request: &mut Map<String, Value>,
    echo: &mut Map<String, Value>,
) -> Result<(), ApiError> {
    if let Some(tools) = fields.list("tools")? {
        echo.insert("tools".to_owned(), tools.clone().into());
        let function = |mut tool: Value| {
            if tool["type"] != "function" {
                let message = format!("tools of the type {} run at OpenAI and nowhere else", tool["type"]);
                return Err(ApiError::invalid(message, "tools"));
            }
            let mut function = Map::new();
            for name in ["name", "description", "parameters", "strict"] {
                if !tool[name].is_null() {
                    function.insert(name.to_owned(), member(&mut tool, name));
                }
            }
            Ok(json!({ "type": "function", "function": function }))
        };
        let tools: Result<Vec<_>, _> = tools.into_iter().map(function).collect();
        request.insert("tools".to_owned(), tools?.into());
    }
    if let Some(choice) = fields.take("tool_choice") {
        echo.insert("tool_choice".to_owned(), choice.clone());
        let choice = match choice {
            Value::String(word) => word.into(),
            choice if choice["type"] == "function" => {
                json!({ "type": "function", "function": { "name": choice["name"] } })
            }
            _ => {
                return Err(ApiError::invalid(
                    "`tool_choice` is auto, none, required or a function",
                    "tool_choice",
                ));
            }
        };
        request.insert("tool_choice".to_owned(), choice);
    }
    Ok(())
}

/// A value that has to be an object.
fn record(value: Value, name: &str) -> Result<Value, ApiError> {
    match value {
        Value::Object(_) => Ok(value),
        _ => Err(ApiError::invalid(format!("`{name}` is an object"), name)),
    }
}

/// Hands on what is there, be it what it may: it is checked under its new name.
fn hand_on(from: &mut Value, theirs: &str, ours: &str, to: &mut Map<String, Value>) {
    let value = member(from, theirs);
    if !value.is_null() {
        to.insert(ours.to_owned(), value);
    }
}

fn read_format(mut text: Value, request: &mut Map<String, Value>) -> Result<(), ApiError> {
    hand_on(&mut text, "verbosity", "verbosity", request);
    let mut format = match member(&mut text, "format") {
        Value::Null => return Ok(()),
        format => record(format, "text.format")?,
    };
    let kind = member(&mut format, "type");
    let format = match kind.as_str() {
        Some("text") => return Ok(()),
        None if kind.is_null() => return Ok(()),
        Some("json_object") => json!({ "type": "json_object" }),
        Some("json_schema") => {
            let mut schema = Map::new();
            for name in ["name", "description", "schema", "strict"] {
                if !format[name].is_null() {
                    schema.insert(name.to_owned(), member(&mut format, name));
                }
            }
            json!({ "type": "json_schema", "json_schema": schema })
        }
        _ => {
            return Err(ApiError::invalid(
                "`text.format` is text, json_object or json_schema",
                "text",
            ));
        }
    };
    request.insert("response_format".to_owned(), format);
    Ok(())
}

/// What an item of the output is made of.
#[derive(Clone, Debug)]
enum Item {
    Reasoning {
        text: String,
    },
    Message {
        text: String,
    },
    Call {
        number: u64,
        id: Value,
        name: String,
        arguments: String,
    },
}

/// An answer as a response object with items.
struct Answer {
    /// What the response repeats of the request, as JSON text: as a tree it may be a hundred times as large, for as long
    /// as the answer comes.
    echo: String,
    begun: bool,
    /// Items that are complete.
    output: Vec<Value>,
    open: Option<Item>,
    id: String,
    model: Value,
    created_at: u64,
    events: u64,
    cut: bool,
    usage: Value,
}

impl Answer {
    fn new(echo: Map<String, Value>) -> Self {
        Self {
            echo: Value::Object(echo).to_string(),
            begun: false,
            output: Vec::new(),
            open: None,
            id: String::new(),
            model: Value::Null,
            created_at: clock::wall().0 / 1000,
            events: 0,
            cut: false,
            usage: Value::Null,
        }
    }

    fn learn(&mut self, chunk: &Value) {
        if self.id.is_empty()
            && let Some(id) = chunk["id"].as_str()
        {
            id.trim_start_matches("chatcmpl-").clone_into(&mut self.id);
        }
        if self.model.is_null() {
            self.model = chunk["model"].clone();
        }
        if chunk["usage"].is_object() {
            self.usage = chunk["usage"].clone();
        }
        if chunk["choices"][0]["finish_reason"] == "length" {
            self.cut = true;
        }
    }

    /// The whole response, as far as it has come.
    fn response(&self, status: &str, error: Value) -> Value {
        let mut response = json!({
            "id": format!("resp_{}", self.id), "object": "response", "created_at": self.created_at, "status": status,
            "error": error, "incomplete_details": null, "instructions": null, "max_output_tokens": null,
            "model": self.model, "output": self.output, "parallel_tool_calls": true, "previous_response_id": null,
            "reasoning": { "effort": null, "summary": null }, "store": false, "temperature": null,
            "text": { "format": { "type": "text" } }, "tool_choice": "auto", "tools": [], "top_p": null,
            "truncation": "disabled", "usage": null, "user": null, "metadata": {},
        });
        if let (Some(response), Ok(echo)) = (
            response.as_object_mut(),
            serde_json::from_str::<Map<String, Value>>(&self.echo),
        ) {
            response.extend(echo);
        }
        if status == "incomplete" {
            response["incomplete_details"] = json!({ "reason": "max_output_tokens" });
        }
        if self.usage.is_object() {
            response["usage"] = usage(&self.usage);
        }
        response
    }

    fn tell(&mut self, name: &str, mut data: Value, out: &mut String) {
        data["type"] = name.into();
        data["sequence_number"] = self.events.into();
        self.events += 1;
        event(out, name, &data);
    }

    fn begin(&mut self, out: &mut String) {
        if !self.begun {
            self.begun = true;
            for name in ["response.created", "response.in_progress"] {
                let response = self.response("in_progress", Value::Null);
                self.tell(name, json!({ "response": response }), out);
            }
        }
    }

    fn item_id(&self, kind: &str) -> String {
        format!("{kind}_{}_{}", self.id, self.output.len())
    }

    /// Where an event of the open item belongs.
    fn place(&self, kind: &str, more: Value) -> Value {
        let mut place = json!({ "item_id": self.item_id(kind), "output_index": self.output.len() });
        if let (Some(place), Value::Object(more)) = (place.as_object_mut(), more) {
            place.extend(more);
        }
        place
    }

    /// An item as it stands.
    fn item(&self, item: &Item, status: &str) -> Value {
        match item {
            Item::Reasoning { text } => json!({
                "id": self.item_id("rs"), "type": "reasoning", "summary": [], "status": status,
                "content": [{ "type": "reasoning_text", "text": text }],
            }),
            Item::Message { text } => json!({
                "id": self.item_id("msg"), "type": "message", "role": "assistant", "status": status,
                "content": [output_text(text)],
            }),
            Item::Call {
                id, name, arguments, ..
            } => json!({
                "id": self.item_id("fc"), "type": "function_call", "call_id": id, "name": name,
                "arguments": arguments, "status": status,
            }),
        }
    }

    /// Opens an item, which closes the one before.
    fn open(&mut self, item: Item, out: &mut String) {
        self.close(out);
        let mut added = self.item(&item, "in_progress");
        if added["content"].is_array() {
            added["content"] = json!([]);
        }
        let index = self.output.len();
        self.tell(
            "response.output_item.added",
            json!({ "output_index": index, "item": added }),
            out,
        );
        if matches!(item, Item::Message { .. }) {
            let part = self.place("msg", json!({ "content_index": 0, "part": output_text("") }));
            self.tell("response.content_part.added", part, out);
        }
        self.open = Some(item);
    }

    fn close(&mut self, out: &mut String) {
        let Some(item) = self.open.take() else { return };
        match &item {
            Item::Reasoning { text } => {
                let said = self.place("rs", json!({ "content_index": 0, "text": text }));
                self.tell("response.reasoning_text.done", said, out);
            }
            Item::Message { text } => {
                let said = self.place("msg", json!({ "content_index": 0, "text": text, "logprobs": [] }));
                self.tell("response.output_text.done", said, out);
                let part = self.place("msg", json!({ "content_index": 0, "part": output_text(text) }));
                self.tell("response.content_part.done", part, out);
            }
            Item::Call { name, arguments, .. } => {
                let said = self.place("fc", json!({ "name": name, "arguments": arguments }));
                self.tell("response.function_call_arguments.done", said, out);
            }
        }
        let whole = self.item(&item, self.status());
        let index = self.output.len();
        self.tell(
            "response.output_item.done",
            json!({ "output_index": index, "item": whole }),
            out,
        );
        self.output.push(whole);
    }

    fn text(&mut self, said: &str, out: &mut String) {
        if !matches!(self.open, Some(Item::Message { .. })) {
            self.open(Item::Message { text: String::new() }, out);
        }
        if let Some(Item::Message { text }) = &mut self.open {
            text.push_str(said);
        }
        let delta = self.place("msg", json!({ "content_index": 0, "delta": said, "logprobs": [] }));
        self.tell("response.output_text.delta", delta, out);
    }

    fn thought(&mut self, said: &str, out: &mut String) {
        if !matches!(self.open, Some(Item::Reasoning { .. })) {
            self.open(Item::Reasoning { text: String::new() }, out);
        }
        if let Some(Item::Reasoning { text }) = &mut self.open {
            text.push_str(said);
        }
        let delta = self.place("rs", json!({ "content_index": 0, "delta": said }));
        self.tell("response.reasoning_text.delta", delta, out);
    }

    fn call(&mut self, call: &Value, out: &mut String) {
        let wanted = call["index"].as_u64().unwrap_or(0);
        // Some engines number every call 0; a new id is a new call all the same.
        let is_new = |id: &Value| call["id"].as_str().is_some_and(|new| !new.is_empty()) && call["id"] != *id;
        if !matches!(&self.open, Some(Item::Call { number, id, .. }) if *number == wanted && !is_new(id)) {
            let name = call["function"]["name"].as_str().unwrap_or_default().to_owned();
            let (id, arguments) = (call["id"].clone(), String::new());
            self.open(
                Item::Call {
                    number: wanted,
                    id,
                    name,
                    arguments,
                },
                out,
            );
        }
        let Some(said) = call["function"]["arguments"].as_str().filter(|text| !text.is_empty()) else {
            return;
        };
        if let Some(Item::Call { arguments, .. }) = &mut self.open {
            arguments.push_str(said);
        }
        let delta = self.place("fc", json!({ "delta": said }));
        self.tell("response.function_call_arguments.delta", delta, out);
    }

    fn status(&self) -> &'static str {
        if self.cut { "incomplete" } else { "completed" }
    }
}

fn output_text(text: &str) -> Value {
    json!({ "type": "output_text", "text": text, "annotations": [], "logprobs": [] })
}

fn usage(usage: &Value) -> Value {
    let mut told = json!({
        "input_tokens": tokens(usage, "prompt_tokens"),
        "input_tokens_details": { "cached_tokens": tokens(&usage["prompt_tokens_details"], "cached_tokens") },
        "output_tokens": tokens(usage, "completion_tokens"),
        "output_tokens_details": {
            "reasoning_tokens": tokens(&usage["completion_tokens_details"], "reasoning_tokens"),
        },
        "total_tokens": tokens(usage, "prompt_tokens").saturating_add(tokens(usage, "completion_tokens")),
    });
    if let Some(infernet) = usage.get("infernet") {
        told["infernet"] = infernet.clone();
    }
    told
}

impl Dialect for Answer {
    fn chunk(&mut self, chunk: &Value, out: &mut String) {
        self.learn(chunk);
        self.begin(out);
        let delta = delta(chunk);
        if let Some(thought) = reasoning(delta) {
            self.thought(thought, out);
        }
        if let Some(text) = delta["content"].as_str().filter(|text| !text.is_empty()) {
            self.text(text, out);
        }
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            self.call(call, out);
        }
    }

    fn done(&mut self, out: &mut String) {
        self.begin(out);
        self.close(out);
        let status = self.status();
        let response = self.response(status, Value::Null);
        self.tell(&format!("response.{status}"), json!({ "response": response }), out);
    }

    fn failed(&mut self, error: &Value, out: &mut String) {
        self.begin(out);
        self.close(out);
        let told = json!({ "code": error["code"].as_str().unwrap_or("server_error"), "message": error["message"] });
        let response = self.response("failed", told);
        self.tell("response.failed", json!({ "response": response }), out);
        let last = json!({
            "error": error, "code": error["code"], "message": error["message"], "param": error["param"],
        });
        self.tell("error", last, out);
    }

    fn document(&mut self, whole: &Value) -> Value {
        self.learn(whole);
        let message = &whole["choices"][0]["message"];
        let mut items = Vec::new();
        if let Some(thought) = reasoning(message) {
            items.push(Item::Reasoning {
                text: thought.to_owned(),
            });
        }
        if let Some(text) = message["content"].as_str().filter(|text| !text.is_empty()) {
            items.push(Item::Message { text: text.to_owned() });
        }
        for (number, call) in message["tool_calls"].as_array().into_iter().flatten().enumerate() {
            let text = |name: &str| call["function"][name].as_str().unwrap_or_default().to_owned();
            let (number, id) = (number as u64, call["id"].clone());
            items.push(Item::Call {
                number,
                id,
                name: text("name"),
                arguments: text("arguments"),
            });
        }
        let last = items.len().saturating_sub(1);
        for (place, item) in items.iter().enumerate() {
            let status = if place == last { self.status() } else { "completed" };
            let whole = self.item(item, status);
            self.output.push(whole);
        }
        self.response(self.status(), Value::Null)
    }
}

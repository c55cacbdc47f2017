//! Ollama's API, so that its clients work by changing one address: `/api/chat`, `/api/generate`, `/api/embed`,
//! `/api/embeddings`, `/api/tags`, `/api/show`, `/api/ps`, `/api/version`.
//!
//! Shapes: <https://github.com/ollama/ollama/blob/main/docs/api.md>.

use std::time::Instant;

use infernet_inference::Endpoint;
use infernet_inference::json::{self, Edit, Object};
use infernet_protocol::capability::Features;
use serde_json::{Map, Value, json};

use super::{
    Dialect, Fields, Translated, arguments, chat, content, delta, image, member, reasoning, text_part, tokens,
};
use crate::clock;
use crate::gateway::errors::ApiError;
use crate::gateway::inference::ServedModel;

/// Options that mean the same under OpenAI's names.
const OPTIONS: [(&str, &str); 8] = [
    ("temperature", "temperature"),
    ("top_p", "top_p"),
    ("top_k", "top_k"),
    ("min_p", "min_p"),
    ("seed", "seed"),
    ("stop", "stop"),
    ("presence_penalty", "presence_penalty"),
    ("frequency_penalty", "frequency_penalty"),
];
/// Options that say how an engine is to load a model, which is its provider's affair.
const LOADING: [&str; 12] = [
    "num_ctx",
    "num_keep",
    "num_batch",
    "num_gpu",
    "main_gpu",
    "num_thread",
    "numa",
    "use_mmap",
    "use_mlock",
    "low_vram",
    "f16_kv",
    "vocab_only",
];

/// Reads a chat.
pub(in crate::gateway) fn read_chat(body: &[u8]) -> Result<Translated, ApiError> {
    let mut fields = Fields::read(body)?;
    let mut request = Map::new();
    let messages = fields
        .list("messages")?
        .ok_or_else(|| ApiError::invalid("`messages` is required", "messages"))?;
    request.insert("messages".to_owned(), conversation(messages)?.into());
    if let Some(tools) = fields.list("tools")? {
        request.insert("tools".to_owned(), tools.into());
    }
    finish(fields, request, Kind::Chat)
}

/// Reads a request for a text: a chat of one message, or a bare completion where it says so.
pub(in crate::gateway) fn read_generate(body: &[u8]) -> Result<Translated, ApiError> {
    let mut fields = Fields::read(body)?;
    let mut request = Map::new();
    let prompt = fields.text("prompt")?.filter(|prompt| !prompt.is_empty());
    let prompt = prompt.ok_or_else(|| ApiError::invalid("`prompt` is required", "prompt"))?;
    let suffix = fields.text("suffix")?.filter(|suffix| !suffix.is_empty());
    let raw = fields.flag("raw")?.unwrap_or(false);
    let (system, images) = (fields.text("system")?, fields.list("images")?.unwrap_or_default());
    if raw || suffix.is_some() {
        if system.is_some() || !images.is_empty() {
            return Err(ApiError::unsupported("system"));
        }
        request.insert("prompt".to_owned(), prompt.into());
        if let Some(suffix) = suffix {
            request.insert("suffix".to_owned(), suffix.into());
        }
        return finish(fields, request, Kind::Completion);
    }
    let system = system.filter(|text| !text.is_empty());
    let mut messages: Vec<_> = system
        .map(|text| json!({ "role": "system", "content": text }))
        .into_iter()
        .collect();
    messages.push(json!({ "role": "user", "content": user(prompt, &images)? }));
    request.insert("messages".to_owned(), messages.into());
    finish(fields, request, Kind::Generate)
}

/// A request that asks for no text: Ollama's programs have a model loaded that way before they use it, and unloaded with
/// a `keep_alive` of 0.
pub(in crate::gateway) struct Loading {
    /// The same request with a text, by which the rest of it is checked.
    pub(in crate::gateway) asked: Vec<u8>,
    /// What it is told, but for the model.
    pub(in crate::gateway) told: Value,
}

impl Loading {
    pub(in crate::gateway) fn of_chat(body: &[u8]) -> Option<Self> {
        let is_empty = |list: &[u8]| list.starts_with(b"[") && json::elements(list).next().is_none();
        let edit = Edit::set("messages", r#"[{"role":"user","content":"-"}]"#);
        let told = json!({ "message": { "role": "assistant", "content": "" } });
        Self::read(body, "messages", is_empty, edit, told)
    }

    pub(in crate::gateway) fn of_generate(body: &[u8]) -> Option<Self> {
        let edit = Edit::set("prompt", r#""-""#);
        Self::read(body, "prompt", |text| text == br#""""#, edit, json!({ "response": "" }))
    }

    /// Where the `field` to answer is `empty` or not there.
    fn read(body: &[u8], field: &str, empty: fn(&[u8]) -> bool, edit: Edit<'static>, mut told: Value) -> Option<Self> {
        let object = Object::read(body).ok()?;
        if !object.get(field).is_none_or(|text| text == b"null" || empty(text)) {
            return None;
        }
        let leaves = object.get("keep_alive").is_some_and(is_no_time);
        told["created_at"] = now().into();
        told["done"] = true.into();
        told["done_reason"] = if leaves { "unload" } else { "load" }.into();
        Some(Self {
            asked: object.edited(&[edit]),
            told,
        })
    }
}

/// Whether a `keep_alive` is none: `0`, or a duration such as `"0s"`.
fn is_no_time(text: &[u8]) -> bool {
    let digits = str::from_utf8(text).map(|text| text.trim_matches('"').trim_end_matches(char::is_alphabetic));
    digits.is_ok_and(|digits| digits.parse() == Ok(0.0))
}

/// Reads a request for embeddings; `single` is the older route with one text and one vector.
pub(in crate::gateway) fn read_embed(body: &[u8], single: bool) -> Result<Translated, ApiError> {
    let mut fields = Fields::read(body)?;
    let mut request = Map::new();
    let input = if single { "prompt" } else { "input" };
    fields.pass(
        &[("model", "model"), (input, "input"), ("dimensions", "dimensions")],
        &mut request,
    );
    fields.ignore(&["truncate", "keep_alive", "options"]);
    fields.pass_own(&mut request);
    fields.end()?;
    Ok(Translated {
        endpoint: Endpoint::Embeddings,
        body: Value::Object(request).to_string().into(),
        dialect: Box::new(Embedding {
            single,
            began: Instant::now(),
        }),
    })
}

fn finish(mut fields: Fields, mut request: Map<String, Value>, kind: Kind) -> Result<Translated, ApiError> {
    let stream = fields.flag("stream")?.unwrap_or(true);
    fields.pass(&[("model", "model")], &mut request);
    if let Some(format) = fields.take("format").filter(|format| format != "") {
        request.insert("response_format".to_owned(), response_format(format)?);
    }
    match fields.take("think") {
        None => {}
        Some(Value::Bool(think)) => {
            request.insert("chat_template_kwargs".to_owned(), json!({ "enable_thinking": think }));
        }
        Some(Value::String(effort)) => {
            request.insert("reasoning_effort".to_owned(), effort.into());
        }
        Some(_) => return Err(ApiError::invalid("`think` is true, false or a level", "think")),
    }
    if let Some(options) = fields.take("options") {
        read_options(options, &mut request)?;
    }
    if let Some(template) = fields.text("template")?.filter(|template| !template.is_empty()) {
        drop(template);
        return Err(ApiError::unsupported("template"));
    }
    fields.ignore(&["keep_alive"]);
    fields.pass_own(&mut request);
    fields.end()?;
    let dialect = Box::new(Lines::new(kind));
    let mut translated = chat(request, stream, dialect);
    if kind == Kind::Completion {
        translated.endpoint = Endpoint::Completions;
    }
    Ok(translated)
}

fn read_options(options: Value, request: &mut Map<String, Value>) -> Result<(), ApiError> {
    let Value::Object(options) = options else {
        return Err(ApiError::invalid("`options` is an object", "options"));
    };
    let mut options = Fields(options);
    options.pass(&OPTIONS, request);
    options.pass(&[("repeat_penalty", "repeat_penalty")], request);
    // Below zero is as long as it likes.
    if let Some(most) = options
        .take("num_predict")
        .filter(|most| most.as_i64().is_none_or(|most| most >= 0))
    {
        request.insert("max_tokens".to_owned(), most);
    }
    options.ignore(&LOADING);
    options.end()
}

fn response_format(format: Value) -> Result<Value, ApiError> {
    match format {
        Value::String(word) if word == "json" => Ok(json!({ "type": "json_object" })),
        Value::Object(_) => {
            Ok(json!({ "type": "json_schema", "json_schema": { "name": "answer", "strict": true, "schema": format } }))
        }
        _ => Err(ApiError::invalid("`format` is \"json\" or a JSON schema", "format")),
    }
}

/// Ollama's calls have no ids: a result answers the earliest call that has none yet.
fn conversation(messages: Vec<Value>) -> Result<Vec<Value>, ApiError> {
    let (mut calls, mut answered) = (0_usize, 0_usize);
    let mut out = Vec::with_capacity(messages.len());
    for message in messages {
        let text = match &message["content"] {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            _ => return Err(ApiError::invalid("`content` is a string", "messages")),
        };
        let is_call = |call: &Value| {
            let function = &call["function"];
            function["name"].is_string() && (function["arguments"].is_object() || function["arguments"].is_string())
        };
        if !list(&message, "tool_calls")?.iter().all(is_call) {
            return Err(ApiError::invalid(
                "each of `tool_calls` has a `function` with `name` and `arguments`",
                "messages",
            ));
        }
        if !list(&message, "images")?.iter().all(Value::is_string) {
            return Err(ApiError::invalid("`images` are base64 strings", "images"));
        }
        match message["role"].as_str() {
            Some("tool") => {
                out.push(json!({ "role": "tool", "tool_call_id": call_id(answered), "content": text }));
                answered += 1;
            }
            Some("assistant") => {
                let mut said = json!({ "role": "assistant", "content": text });
                let made: Vec<_> = list(&message, "tool_calls")?
                    .iter()
                    .map(|call| {
                        let function = &call["function"];
                        let arguments = match &function["arguments"] {
                            Value::String(text) => text.clone(),
                            other => other.to_string(),
                        };
                        let function = json!({ "name": function["name"], "arguments": arguments });
                        calls += 1;
                        json!({ "id": call_id(calls - 1), "type": "function", "function": function })
                    })
                    .collect();
                if !made.is_empty() {
                    said["tool_calls"] = made.into();
                }
                out.push(said);
            }
            Some("user") => {
                out.push(json!({ "role": "user", "content": user(text, list(&message, "images")?)? }));
            }
            Some(role @ ("system" | "developer")) => out.push(json!({ "role": role, "content": text })),
            _ => {
                return Err(ApiError::invalid(
                    "a message's role is system, user, assistant or tool",
                    "messages",
                ));
            }
        }
    }
    Ok(out)
}

/// A list of a message, which may lack it.
fn list<'a>(message: &'a Value, name: &str) -> Result<&'a [Value], ApiError> {
    match &message[name] {
        Value::Null => Ok(&[]),
        Value::Array(list) => Ok(list),
        _ => Err(ApiError::invalid(format!("`{name}` is a list"), "messages")),
    }
}

fn call_id(number: usize) -> String {
    format!("call_{number}")
}

fn user(text: String, images: &[Value]) -> Result<Value, ApiError> {
    let mut parts = vec![text_part(text)];
    for data in images {
        let data = data
            .as_str()
            .ok_or_else(|| ApiError::invalid("`images` are base64 strings", "images"))?;
        parts.push(image(image_type(data), data));
    }
    Ok(content(parts))
}

/// The type of an image, which Ollama's clients do not tell, by how its bytes begin.
fn image_type(base64: &str) -> &'static str {
    match base64.get(..4) {
        Some("/9j/") => "image/jpeg",
        Some("R0lG") => "image/gif",
        Some("UklG") => "image/webp",
        _ => "image/png",
    }
}

/// An error in Ollama's words.
pub(in crate::gateway) fn error(error: &ApiError) -> Value {
    json!({ "error": error.message() })
}

/// What is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Chat,
    Generate,
    /// As `Generate`, from an engine's bare completion.
    Completion,
}

/// A call of a tool, as its pieces come.
#[derive(Default)]
struct Call {
    number: u64,
    id: Option<String>,
    name: String,
    arguments: String,
}

/// An answer as one line of JSON per chunk.
struct Lines {
    kind: Kind,
    began: Instant,
    first: Option<u64>,
    model: Value,
    calls: Vec<Call>,
    reason: &'static str,
    usage: Value,
}

impl Lines {
    fn new(kind: Kind) -> Self {
        Self {
            kind,
            began: Instant::now(),
            first: None,
            model: Value::Null,
            calls: Vec::new(),
            reason: "stop",
            usage: Value::Null,
        }
    }

    fn nanos(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// A line with text, thought and calls as this route has them.
    fn line(&self, text: &str, thought: Option<&str>, calls: Vec<Value>) -> Value {
        let mut line = json!({ "model": self.model, "created_at": now(), "done": false });
        let mut part = Map::new();
        if let Some(thought) = thought {
            part.insert("thinking".to_owned(), thought.into());
        }
        match self.kind {
            Kind::Chat => {
                part.insert("role".to_owned(), "assistant".into());
                part.insert("content".to_owned(), text.into());
                if !calls.is_empty() {
                    part.insert("tool_calls".to_owned(), calls.into());
                }
                line["message"] = part.into();
            }
            Kind::Generate | Kind::Completion => {
                line["response"] = text.into();
                if let Some(thought) = part.remove("thinking") {
                    line["thinking"] = thought;
                }
            }
        }
        line
    }

    fn calls(&mut self) -> Vec<Value> {
        let calls = std::mem::take(&mut self.calls);
        calls
            .into_iter()
            .map(|call| function(&call.name, &call.arguments))
            .collect()
    }

    /// What the last line says beside: why it ended, how long it took, how much it was.
    fn end(&self, line: &mut Value) {
        let total = self.nanos();
        // What came in one piece took all that time: programs divide the tokens by it.
        let first = self.first.filter(|first| *first < total).unwrap_or(0);
        line["done"] = true.into();
        line["done_reason"] = self.reason.into();
        line["total_duration"] = total.into();
        line["load_duration"] = 0.into();
        line["prompt_eval_count"] = tokens(&self.usage, "prompt_tokens").into();
        line["prompt_eval_duration"] = first.into();
        line["eval_count"] = tokens(&self.usage, "completion_tokens").into();
        line["eval_duration"] = (total - first).into();
        if let Some(told) = self.usage.get("infernet") {
            line["infernet"] = told.clone();
        }
    }

    fn ended_by(&mut self, choice: &Value) {
        if let Some(reason) = choice["finish_reason"].as_str() {
            self.reason = if reason == "length" { "length" } else { "stop" };
        }
    }
}

fn function(name: &str, text: &str) -> Value {
    json!({ "function": { "name": name, "arguments": arguments(text) } })
}

impl Dialect for Lines {
    fn stream_type(&self) -> &'static str {
        "application/x-ndjson"
    }

    fn chunk(&mut self, chunk: &Value, out: &mut String) {
        if chunk["model"].is_string() {
            self.model = chunk["model"].clone();
        }
        if chunk["usage"].is_object() {
            self.usage = chunk["usage"].clone();
        }
        let choice = &chunk["choices"][0];
        let delta = delta(chunk);
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            // Some engines number every call 0; a new id is a new call all the same.
            let number = call["index"].as_u64().unwrap_or(0);
            let id = call["id"].as_str().filter(|id| !id.is_empty()).map(str::to_owned);
            let known = self
                .calls
                .last()
                .is_some_and(|last| last.number == number && (id.is_none() || id == last.id));
            if !known {
                self.calls.push(Call {
                    number,
                    id,
                    ..Call::default()
                });
            }
            let Some(held) = self.calls.last_mut() else { continue };
            held.name
                .push_str(call["function"]["name"].as_str().unwrap_or_default());
            held.arguments
                .push_str(call["function"]["arguments"].as_str().unwrap_or_default());
        }
        let text = delta["content"]
            .as_str()
            .or(choice["text"].as_str())
            .unwrap_or_default();
        let thought = reasoning(delta);
        if !text.is_empty() || thought.is_some() {
            let nanos = self.nanos();
            self.first.get_or_insert(nanos);
            out.push_str(&self.line(text, thought, Vec::new()).to_string());
            out.push('\n');
        }
        self.ended_by(choice);
    }

    fn done(&mut self, out: &mut String) {
        let calls = self.calls();
        if !calls.is_empty() {
            out.push_str(&self.line("", None, calls).to_string());
            out.push('\n');
        }
        let mut line = self.line("", None, Vec::new());
        self.end(&mut line);
        out.push_str(&line.to_string());
        out.push('\n');
    }

    fn failed(&mut self, error: &Value, out: &mut String) {
        out.push_str(&json!({ "error": error["message"] }).to_string());
        out.push('\n');
    }

    fn document(&mut self, whole: &Value) -> Value {
        self.model = whole["model"].clone();
        self.usage = whole["usage"].clone();
        let choice = &whole["choices"][0];
        let message = &choice["message"];
        self.ended_by(choice);
        let calls = message["tool_calls"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|call| {
                let text = |name: &str| call["function"][name].as_str().unwrap_or_default();
                function(text("name"), text("arguments"))
            })
            .collect();
        let text = message["content"]
            .as_str()
            .or(choice["text"].as_str())
            .unwrap_or_default();
        let mut line = self.line(text, reasoning(message), calls);
        self.end(&mut line);
        line
    }
}

/// Vectors, which are never streamed.
struct Embedding {
    single: bool,
    began: Instant,
}

impl Dialect for Embedding {
    fn chunk(&mut self, _: &Value, _: &mut String) {}

    fn done(&mut self, _: &mut String) {}

    fn failed(&mut self, _: &Value, _: &mut String) {}

    fn document(&mut self, whole: &Value) -> Value {
        let mut vectors: Vec<_> = whole["data"].as_array().cloned().unwrap_or_default();
        vectors.sort_by_key(|vector| vector["index"].as_u64());
        let mut vectors = vectors.into_iter().map(|mut vector| member(&mut vector, "embedding"));
        if self.single {
            return json!({ "embedding": vectors.next() });
        }
        json!({
            "model": whole["model"], "embeddings": vectors.collect::<Vec<_>>(),
            "total_duration": u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX),
            "load_duration": 0, "prompt_eval_count": tokens(&whole["usage"], "prompt_tokens"),
        })
    }
}

// -------------------------------------------------------------------------------------------------------- models

/// `/api/tags`.
pub(in crate::gateway) fn tags(models: &[ServedModel]) -> Value {
    let models: Vec<_> = models
        .iter()
        .map(|model| {
            let name = model.id.as_str();
            json!({
                "name": name, "model": name, "modified_at": now(), "size": 0, "digest": "", "details": details(model),
            })
        })
        .collect();
    json!({ "models": models })
}

/// `/api/show`.
pub(in crate::gateway) fn show(model: &ServedModel) -> Value {
    let offers = |feature| model.features.contains(feature);
    let mut capabilities = Vec::new();
    for (feature, name) in [
        (Features::CHAT, "completion"),
        (Features::TOOLS, "tools"),
        (Features::VISION, "vision"),
        (Features::EMBEDDINGS, "embedding"),
    ] {
        if offers(feature) {
            capabilities.push(name);
        }
    }
    let mut info = json!({ "general.architecture": "network" });
    if let Some(context) = model.context {
        info["network.context_length"] = context.into();
    }
    json!({
        "modelfile": format!("FROM {}", model.id), "parameters": "", "template": "", "license": "",
        "details": details(model), "model_info": info, "capabilities": capabilities, "modified_at": now(),
    })
}

/// The model that a request of `/api/show` or `/api/pull` names.
pub(in crate::gateway) fn named(body: &[u8]) -> Result<String, ApiError> {
    let mut fields = Fields::read(body)?;
    let name = fields.text("model")?.or(fields.text("name")?);
    name.ok_or_else(|| ApiError::invalid("`model` is required", "model"))
}

fn details(model: &ServedModel) -> Value {
    json!({
        "parent_model": "", "format": "", "family": "", "families": [], "parameter_size": "",
        "quantization_level": model.quantisations.join(", "),
    })
}

/// RFC 3339.
fn now() -> String {
    format!("{}Z", clock::utc(clock::wall().0).replace(' ', "T"))
}

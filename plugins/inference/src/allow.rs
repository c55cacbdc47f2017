//! What a stranger's request may contain: an allow list of fields, each with its shape and the feature it belongs to.
//!
//! Engines take many more fields than OpenAI's API names, and some of them let a request name a file, fetch an address,
//! replace the chat template or run for ever. What is not listed here is therefore refused, by name.
//! Implements `specs/stream.md`, "What a stranger's request may contain".

use infernet_protocol::capability::Features;

use crate::backend::Endpoint;
use crate::json::{self, Object};
use crate::request::RequestError;

/// Most choices of one stranger's request: each is a sequence of its own in the engine.
pub const STRANGER_CHOICES: u32 = 16;
/// Most stop strings: OpenAI's four, and room for programs that give more.
const STOPS_MAX: usize = 16;
/// Most biased tokens: OpenAI's own bound.
const BIASES_MAX: usize = 1024;
/// Most tools of one request: OpenAI's own bound.
const TOOLS_MAX: usize = 128;
/// Most messages of one request: a long agent run has hundreds.
const MESSAGES_MAX: usize = 4096;
/// Longest short text in characters, such as a name or an effort.
const WORD_CHARS: usize = 256;
/// Longest value of `metadata`: OpenAI's own bound.
const METADATA_CHARS: usize = 512;
/// Most pairs in `metadata`: OpenAI's own bound.
const METADATA_MAX: usize = 16;

/// The shape of a field.
#[derive(Clone, Copy)]
enum Shape {
    Flag,
    /// A finite number.
    Number,
    /// A whole number up to this.
    Whole(u64),
    /// A short string.
    Word,
    Text,
    Stop,
    StreamOptions,
    LogitBias,
    Metadata,
    Messages,
    Tools,
    ToolChoice,
    ResponseFormat,
    TemplateArguments,
    /// `true`, `false` or a whole number up to 20, as the two routes have it.
    Logprobs,
    /// Read and typed already.
    Read,
}

const NONE: Features = Features(0);

/// Fields of all routes that generate.
const GENERATE: &[(&str, Shape, Features)] = &[
    ("model", Shape::Read, NONE),
    ("stream", Shape::Read, NONE),
    ("stream_options", Shape::StreamOptions, NONE),
    ("max_tokens", Shape::Read, NONE),
    ("n", Shape::Read, NONE),
    ("temperature", Shape::Number, NONE),
    ("top_p", Shape::Number, NONE),
    ("top_k", Shape::Number, NONE),
    ("min_p", Shape::Number, NONE),
    ("seed", Shape::Number, NONE),
    ("stop", Shape::Stop, NONE),
    ("presence_penalty", Shape::Number, NONE),
    ("frequency_penalty", Shape::Number, NONE),
    ("repetition_penalty", Shape::Number, NONE),
    ("repeat_penalty", Shape::Number, NONE),
    ("logit_bias", Shape::LogitBias, NONE),
    ("logprobs", Shape::Logprobs, Features::LOGPROBS),
    ("user", Shape::Word, NONE),
];

/// Fields of chat alone.
const CHAT: &[(&str, Shape, Features)] = &[
    ("messages", Shape::Messages, NONE),
    ("max_completion_tokens", Shape::Read, NONE),
    ("top_logprobs", Shape::Whole(20), Features::LOGPROBS),
    ("tools", Shape::Tools, Features::TOOLS),
    ("tool_choice", Shape::ToolChoice, Features::TOOLS),
    ("parallel_tool_calls", Shape::Flag, Features::TOOLS),
    ("response_format", Shape::ResponseFormat, NONE),
    ("reasoning_effort", Shape::Word, NONE),
    ("verbosity", Shape::Word, NONE),
    ("chat_template_kwargs", Shape::TemplateArguments, NONE),
    // OpenAI's clients send these; they mean nothing to an engine and harm none.
    ("store", Shape::Flag, NONE),
    ("metadata", Shape::Metadata, NONE),
    ("service_tier", Shape::Word, NONE),
    ("safety_identifier", Shape::Word, NONE),
    ("prompt_cache_key", Shape::Word, NONE),
];

/// Fields of text completion alone.
const COMPLETION: &[(&str, Shape, Features)] = &[
    ("prompt", Shape::Read, NONE),
    ("suffix", Shape::Text, NONE),
    ("echo", Shape::Flag, NONE),
];

/// Fields of embeddings.
const EMBEDDING: &[(&str, Shape, Features)] = &[
    ("model", Shape::Read, NONE),
    ("input", Shape::Read, NONE),
    ("encoding_format", Shape::Word, NONE),
    ("dimensions", Shape::Whole(1 << 16), NONE),
    ("user", Shape::Word, NONE),
];

/// Whether a stranger may send `body`, which [`crate::request::Request::read`] has read, to a model that offers
/// `offered`.
pub fn check(endpoint: Endpoint, body: &[u8], offered: Features) -> Result<(), RequestError> {
    let tables: [&[_]; 2] = match endpoint {
        Endpoint::ChatCompletions => [GENERATE, CHAT],
        Endpoint::Completions => [GENERATE, COMPLETION],
        Endpoint::Embeddings => [EMBEDDING, &[]],
    };
    for member in Object::read(body)?.members() {
        let name = member.name();
        let name = String::from_utf8_lossy(&name);
        let Some((name, shape, feature)) = tables.into_iter().flatten().find(|(known, ..)| *known == name) else {
            return Err(RequestError::NotAllowed {
                param: name.into_owned(),
            });
        };
        if json::is_null(member.value) {
            continue;
        }
        let asks = !matches!(member.value, b"false" | b"[]");
        if asks && !offered.contains(*feature) {
            return Err(lacking(name, *feature));
        }
        check_shape(name, *shape, member.value, offered)?;
    }
    Ok(())
}

fn lacking(param: &str, feature: Features) -> RequestError {
    RequestError::Feature {
        param: param.to_owned(),
        feature: feature.names().next().unwrap_or("more"),
    }
}

fn check_shape(name: &str, shape: Shape, value: &[u8], offered: Features) -> Result<(), RequestError> {
    let holds = |good: bool, expected| {
        if good {
            Ok(())
        } else {
            Err(RequestError::invalid(name, expected))
        }
    };
    match shape {
        Shape::Read => Ok(()),
        Shape::Flag => holds(is_flag(value), "true or false"),
        Shape::Number => holds(is_number(value), "a number"),
        Shape::Whole(most) => holds(whole(value).is_some_and(|n| n <= most), "a small whole number"),
        Shape::Word => holds(is_word(value), "a short string"),
        Shape::Text => holds(value.starts_with(b"\""), "a string"),
        Shape::Stop => {
            let list = value.starts_with(b"[")
                && json::elements(value).count() <= STOPS_MAX
                && json::elements(value).all(is_word);
            holds(is_word(value) || list, "a short string or at most 16 of them")
        }
        Shape::StreamOptions => only(value, name, &["include_usage"], |_, value| is_flag(value)),
        Shape::LogitBias => {
            let good = json::members(value).map_while(Result::ok).all(|member| {
                std::str::from_utf8(&member.name()).is_ok_and(|id| id.parse::<u32>().is_ok()) && is_number(member.value)
            });
            let few = value.starts_with(b"{") && json::members(value).count() <= BIASES_MAX;
            holds(good && few, "at most 1024 token ids with a number each")
        }
        Shape::Metadata => {
            let good = json::members(value)
                .map_while(Result::ok)
                .all(|member| is_text(member.value, METADATA_CHARS));
            let few = value.starts_with(b"{") && json::members(value).count() <= METADATA_MAX;
            holds(good && few, "at most 16 short strings by name")
        }
        Shape::Logprobs => holds(
            is_flag(value) || whole(value).is_some_and(|n| n <= 20),
            "true, false or at most 20",
        ),
        Shape::TemplateArguments => only(value, name, &["enable_thinking", "thinking"], |_, value| is_flag(value)),
        Shape::ResponseFormat => check_format(value, offered),
        Shape::ToolChoice => {
            if value.starts_with(b"\"") {
                let known = matches!(value, b"\"none\"" | b"\"auto\"" | b"\"required\"");
                return holds(known, "none, auto, required or a function");
            }
            only(value, name, &["type", "function"], |field, value| match field {
                "type" => value == b"\"function\"",
                _ => {
                    names_in(value, &["name"]) && Object::read(value).is_ok_and(|f| f.get("name").is_some_and(is_word))
                }
            })?;
            has(value, name, &["type", "function"])
        }
        Shape::Tools => check_tools(value),
        Shape::Messages => check_messages(value, offered),
    }
}

fn is_flag(value: &[u8]) -> bool {
    matches!(value, b"true" | b"false" | b"null")
}

fn is_number(value: &[u8]) -> bool {
    matches!(value.first(), Some(b'-' | b'0'..=b'9'))
        && std::str::from_utf8(value).is_ok_and(|text| text.parse::<f64>().is_ok_and(f64::is_finite))
}

fn whole(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

fn is_word(value: &[u8]) -> bool {
    is_text(value, WORD_CHARS)
}

/// Whether `value` is a string of at most so many characters, each of which takes up to twelve bytes.
fn is_text(value: &[u8], chars: usize) -> bool {
    value.len() <= 12 * chars + 2 && json::string(value).is_some_and(|text| text.chars().count() <= chars)
}

/// Whether `value` is an object with no other names than `names`.
fn names_in(value: &[u8], names: &[&str]) -> bool {
    Object::read(value).is_ok_and(|object| {
        object
            .members()
            .iter()
            .all(|member| names.iter().any(|name| *member.name() == *name.as_bytes()))
    })
}

/// Whether `value` is an object of `fields` whose values `good` accepts; the error names the one that is not.
fn only(value: &[u8], path: &str, fields: &[&str], good: impl Fn(&str, &[u8]) -> bool) -> Result<(), RequestError> {
    let object = Object::read(value).map_err(|_| RequestError::invalid(path, "an object"))?;
    for member in object.members() {
        let name = member.name();
        let name = String::from_utf8_lossy(&name);
        let param = || format!("{path}.{name}");
        if !fields.contains(&&*name) {
            return Err(RequestError::NotAllowed { param: param() });
        }
        if !json::is_null(member.value) && !good(&name, member.value) {
            return Err(RequestError::invalid(param(), "of the type that OpenAI's API gives it"));
        }
    }
    Ok(())
}

/// Whether the object `value` has these members.
fn has(value: &[u8], path: &str, names: &[&str]) -> Result<(), RequestError> {
    let object = Object::read(value)?;
    match names.iter().find(|name| object.get(name).is_none()) {
        None => Ok(()),
        Some(name) => Err(RequestError::invalid(format!("{path}.{name}"), "given")),
    }
}

/// Whether `value` describes a function that a model may call.
fn is_function(value: &[u8]) -> bool {
    Object::read(value).is_ok_and(|function| {
        let good = |name: &str, good: fn(&[u8]) -> bool| function.get(name).is_none_or(good);
        names_in(value, &["name", "description", "parameters", "strict"])
            && function.get("name").is_some_and(is_word)
            && good("description", |value| value.starts_with(b"\""))
            && good("parameters", |value| value.starts_with(b"{"))
            && good("strict", is_flag)
    })
}

/// Whether `value` is a call that a model made: a name and arguments, as texts.
fn is_call(value: &[u8]) -> bool {
    Object::read(value).is_ok_and(|function| {
        let is_text = |name| function.get(name).is_some_and(|value| value.starts_with(b"\""));
        names_in(value, &["name", "arguments"]) && is_text("name") && is_text("arguments")
    })
}

fn check_format(value: &[u8], offered: Features) -> Result<(), RequestError> {
    only(
        value,
        "response_format",
        &["type", "json_schema"],
        |field, value| match field {
            "type" => matches!(value, b"\"text\"" | b"\"json_object\"" | b"\"json_schema\""),
            _ => names_in(value, &["name", "description", "schema", "strict"]),
        },
    )?;
    let plain = Object::read(value)?.get("type").is_some_and(|kind| kind == b"\"text\"");
    if !plain && !offered.contains(Features::JSON_SCHEMA) {
        return Err(lacking("response_format", Features::JSON_SCHEMA));
    }
    Ok(())
}

fn check_tools(value: &[u8]) -> Result<(), RequestError> {
    if !value.starts_with(b"[") || json::elements(value).count() > TOOLS_MAX {
        return Err(RequestError::invalid("tools", "an array of at most 128 tools"));
    }
    for (index, tool) in json::elements(value).enumerate() {
        only(
            tool,
            &format!("tools[{index}]"),
            &["type", "function"],
            |field, value| match field {
                "type" => value == b"\"function\"",
                _ => is_function(value),
            },
        )?;
        has(tool, &format!("tools[{index}]"), &["type", "function"])?;
    }
    Ok(())
}

const ROLES: [&[u8]; 5] = [
    b"\"system\"",
    b"\"developer\"",
    b"\"user\"",
    b"\"assistant\"",
    b"\"tool\"",
];

const MESSAGE: &[&str] = &[
    "role",
    "content",
    "name",
    "tool_calls",
    "tool_call_id",
    "refusal",
    "reasoning",
    "reasoning_content",
    "audio",
    "function_call",
    "annotations",
];

fn check_messages(value: &[u8], offered: Features) -> Result<(), RequestError> {
    if json::elements(value).count() > MESSAGES_MAX {
        return Err(RequestError::invalid("messages", "at most 4096 messages"));
    }
    for (index, message) in json::elements(value).enumerate() {
        let path = format!("messages[{index}]");
        only(message, &path, MESSAGE, |field, value| match field {
            "role" => ROLES.contains(&value),
            "content" => value.starts_with(b"\"") || value.starts_with(b"["),
            "name" | "tool_call_id" => is_word(value),
            "tool_calls" => value.starts_with(b"["),
            "refusal" | "reasoning" | "reasoning_content" => value.starts_with(b"\""),
            // OpenAI's clients repeat these as they got them: empty.
            "annotations" => value == b"[]",
            _ => false,
        })?;
        let message = Object::read(message)?;
        for (place, call) in json::elements(message.get("tool_calls").unwrap_or(b"[]")).enumerate() {
            if !offered.contains(Features::TOOLS) {
                return Err(lacking(&format!("{path}.tool_calls"), Features::TOOLS));
            }
            only(
                call,
                &format!("{path}.tool_calls[{place}]"),
                &["id", "type", "function", "index"],
                |field, value| match field {
                    "id" => is_word(value),
                    "type" => value == b"\"function\"",
                    "index" => whole(value).is_some(),
                    _ => is_call(value),
                },
            )?;
            has(call, &format!("{path}.tool_calls[{place}]"), &["function"])?;
        }
        for (place, part) in json::elements(message.get("content").unwrap_or(b"[]")).enumerate() {
            check_part(part, &format!("{path}.content[{place}]"), offered)?;
        }
    }
    Ok(())
}

fn check_part(part: &[u8], path: &str, offered: Features) -> Result<(), RequestError> {
    let kind = Object::read(part).ok().and_then(|part| part.get("type"));
    let holds = match kind {
        Some(b"\"text\"") => "text",
        Some(b"\"image_url\"") => "image_url",
        Some(b"\"refusal\"") => "refusal",
        _ => {
            let expected = "text, image_url or refusal";
            return Err(RequestError::invalid(format!("{path}.type"), expected));
        }
    };
    only(part, path, &["type", holds], |field, value| match field {
        "type" => true,
        "image_url" => names_in(value, &["url", "detail"]),
        _ => value.starts_with(b"\""),
    })?;
    has(part, path, &[holds])?;
    let part = Object::read(part)?;
    let Some(image) = part.get("image_url") else {
        return Ok(());
    };
    if !offered.contains(Features::VISION) {
        return Err(lacking(&format!("{path}.image_url"), Features::VISION));
    }
    let image = Object::read(image)?;
    let data = image.get("url").is_some_and(|url| url.starts_with(b"\"data:image/"));
    if data {
        Ok(())
    } else {
        Err(RequestError::invalid(
            format!("{path}.image_url.url"),
            "a `data:image/` address: nothing is fetched for strangers",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Features = Features(u32::MAX);

    fn chat(rest: &str, offered: Features) -> Result<(), RequestError> {
        let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"hello"}}]{rest}}}"#);
        crate::request::Request::read(Endpoint::ChatCompletions, body.as_bytes())?;
        check(Endpoint::ChatCompletions, body.as_bytes(), offered)
    }

    fn message(fields: &str, offered: Features) -> Result<(), RequestError> {
        let body = format!(r#"{{"model":"m","messages":[{{{fields}}}]}}"#);
        check(Endpoint::ChatCompletions, body.as_bytes(), offered)
    }

    #[test]
    fn what_clients_send_is_carried() {
        for rest in [
            "",
            r#","temperature":0.7,"top_p":1,"seed":-3,"stop":["a","b"],"user":null,"logit_bias":{"17":-100}"#,
            r#","stream":true,"stream_options":{"include_usage":true},"stop":"x","metadata":{"a":"b"},"store":false"#,
            r#","tools":[{"type":"function","function":{"name":"f","parameters":{"anything":[1]},"strict":true}}]"#,
            r#","tool_choice":"auto","parallel_tool_calls":false"#,
            r#","tool_choice":{"type":"function","function":{"name":"f"}}"#,
            r#","response_format":{"type":"json_schema","json_schema":{"name":"x","schema":{"type":"object"}}}"#,
            r#","logprobs":true,"top_logprobs":5,"chat_template_kwargs":{"enable_thinking":false}"#,
        ] {
            assert_eq!(chat(rest, ALL), Ok(()), "{rest}");
        }
        let calls = r#""role":"assistant","content":null,"tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{}"}}]"#;
        assert_eq!(message(calls, ALL), Ok(()));
        assert_eq!(
            message(r#""role":"tool","tool_call_id":"1","content":"42""#, ALL),
            Ok(())
        );
    }

    #[test]
    fn what_engines_take_beyond_that_is_refused_by_name() {
        for field in [
            r#""chat_template":"x""#,
            r#""guided_regex":"(a+)+""#,
            r#""best_of":100"#,
            r#""ignore_eos":true"#,
            r#""n_predict":-1"#,
            r#""cache_prompt":true"#,
            r#""lora":[{"id":0}]"#,
            r#""options":{"num_ctx":1000000}"#,
            r#""keep_alive":-1"#,
            r#""provider":{}"#,
            r#""functions":[]"#,
        ] {
            let name = field.split('"').nth(1).unwrap();
            let error = chat(&format!(",{field}"), ALL).unwrap_err();
            assert_eq!(error, RequestError::NotAllowed { param: name.into() });
        }
        assert_eq!(
            chat(r#","chat_template_kwargs":{"template":"x"}"#, ALL)
                .unwrap_err()
                .param(),
            Some("chat_template_kwargs.template")
        );
    }

    #[test]
    fn shapes_are_checked() {
        for rest in [
            r#","temperature":"hot""#,
            r#","temperature":1e999"#,
            r#","stop":[["a"]]"#,
            r#","logit_bias":{"a":1}"#,
            r#","logit_bias":[1]"#,
            r#","top_logprobs":21"#,
            r#","tools":{}"#,
            r#","tools":[{"type":"code_interpreter"}]"#,
            r#","response_format":{"type":"grammar"}"#,
            r#","stream_options":{"chunk_include_usage":true}"#,
            r#","user":{"a":1}"#,
        ] {
            assert!(chat(rest, ALL).is_err(), "{rest}");
        }
        for fields in [
            r#""role":"root","content":"x""#,
            r#""role":"user","content":"x","path":"/etc""#,
            r#""role":"user","content":[{"type":"file","file":{"id":"1"}}]"#,
            r#""role":"user","content":[{"type":"input_audio","input_audio":{}}]"#,
        ] {
            assert!(message(fields, ALL).is_err(), "{fields}");
        }
    }

    #[test]
    fn nothing_is_fetched_for_strangers() {
        let image = |url: &str| {
            message(
                &format!(r#""role":"user","content":[{{"type":"image_url","image_url":{{"url":"{url}"}}}}]"#),
                ALL,
            )
        };
        assert_eq!(image("data:image/png;base64,AAAA"), Ok(()));
        for url in [
            "http://127.0.0.1/x",
            "https://a/b.png",
            "file:///etc/passwd",
            "data:text/html,x",
            "",
        ] {
            assert_eq!(
                image(url).unwrap_err().param(),
                Some("messages[0].content[0].image_url.url"),
                "{url}"
            );
        }
    }

    #[test]
    fn features_that_a_model_lacks_are_named() {
        let lacks = |rest, feature| match chat(rest, Features::CHAT) {
            Err(RequestError::Feature { feature: named, .. }) => assert_eq!(named, feature),
            other => panic!("{rest}: {other:?}"),
        };
        lacks(r#","tools":[{"type":"function","function":{"name":"f"}}]"#, "tools");
        lacks(r#","logprobs":true"#, "logprobs");
        lacks(r#","response_format":{"type":"json_object"}"#, "json_schema");
        for harmless in [
            r#","tools":[]"#,
            r#","logprobs":false"#,
            r#","response_format":{"type":"text"}"#,
            r#","tools":null"#,
        ] {
            assert_eq!(chat(harmless, Features::CHAT), Ok(()), "{harmless}");
        }
    }

    #[test]
    fn the_other_routes_have_their_own_lists() {
        let completion = |rest: &str| {
            check(
                Endpoint::Completions,
                format!(r#"{{"model":"m","prompt":"x"{rest}}}"#).as_bytes(),
                ALL,
            )
        };
        assert_eq!(completion(r#","logprobs":5,"echo":true,"suffix":"y""#), Ok(()));
        assert!(completion(r#","messages":[]"#).is_err() && completion(r#","best_of":2"#).is_err());
        let embedding = |rest: &str| {
            check(
                Endpoint::Embeddings,
                format!(r#"{{"model":"m","input":"x"{rest}}}"#).as_bytes(),
                ALL,
            )
        };
        assert_eq!(embedding(r#","encoding_format":"base64","dimensions":256"#), Ok(()));
        assert!(embedding(r#","temperature":1"#).is_err());
    }
}

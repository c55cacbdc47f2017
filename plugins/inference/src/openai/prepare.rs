//! A consumer's body made ready for the engine: four edits at most, every other byte as it came.

use bytes::Bytes;

use crate::backend::{BackendError, Endpoint, Job};
use crate::json::{self, Edit, Object};
use crate::wire::error_json;

/// What the engine is sent.
pub(super) struct Prepared {
    /// The body.
    pub(super) body: Bytes,
    /// Whether the stream's usage chunk was asked for by this node alone.
    pub(super) usage_is_ours: bool,
}

/// Maps the model's name, asks for usage, and bounds the output.
pub(super) fn prepare(job: &Job) -> Result<Prepared, BackendError> {
    if job.resume.is_some() {
        return Err(BackendError::Unsupported("continue"));
    }
    let malformed = |error: json::Malformed| BackendError::Refused {
        status: 400,
        body: error_json(&error.to_string(), "invalid_request_error", None, None).into(),
    };
    json::validate(&job.body).map_err(malformed)?;
    let object = Object::read(&job.body).map_err(malformed)?;
    let name = json::quoted(&job.model);
    let mut edits = Vec::new();
    if object.get("model") != Some(name.as_bytes()) {
        edits.push(Edit::set("model", name));
    }
    let mut usage_is_ours = false;
    let options = if object.get("stream") == Some(b"true") {
        with_usage(&object).map_err(malformed)?
    } else {
        None
    };
    if let Some(options) = options {
        edits.push(Edit::set("stream_options", options));
        usage_is_ours = true;
    }
    if let Some(most) = job.max_output {
        bound_output(&object, job.endpoint, most, &mut edits);
    }
    let body = if edits.is_empty() {
        job.body.clone()
    } else {
        object.edited(&edits).into()
    };
    Ok(Prepared { body, usage_is_ours })
}

/// `stream_options` with usage asked for, where the consumer did not.
fn with_usage(object: &Object<'_>) -> Result<Option<String>, json::Malformed> {
    let text = object.get("stream_options").unwrap_or(b"{}");
    let options = Object::read(text)?;
    if options.get("include_usage") == Some(b"true") {
        return Ok(None);
    }
    let edited = options.edited(&[Edit::set("include_usage", "true")]);
    Ok(Some(String::from_utf8_lossy(&edited).into_owned()))
}

fn bound_output<'a>(object: &Object<'_>, endpoint: Endpoint, most: u32, edits: &mut Vec<Edit<'a>>) {
    let names: &[&str] = match endpoint {
        Endpoint::ChatCompletions => &["max_completion_tokens", "max_tokens"],
        Endpoint::Completions => &["max_tokens"],
        Endpoint::Embeddings => return,
    };
    let mut bounded = false;
    for name in names {
        let Some(value) = object.get(name) else { continue };
        bounded = true;
        let asked = std::str::from_utf8(value)
            .ok()
            .and_then(|text| text.parse::<u32>().ok());
        if asked.is_none_or(|asked| asked > most) {
            edits.push(Edit {
                name: if *name == "max_tokens" {
                    "max_tokens"
                } else {
                    "max_completion_tokens"
                },
                value: Some(most.to_string().into()),
            });
        }
    }
    if !bounded {
        edits.push(Edit::set("max_tokens", most.to_string()));
    }
}

#[cfg(test)]
mod tests {
    use infernet_protocol::ModelId;

    use super::*;

    fn prepared(endpoint: Endpoint, body: &str, max_output: Option<u32>) -> (String, bool) {
        let job = Job {
            endpoint,
            model: "own".into(),
            id: ModelId::new("net").unwrap(),
            body: Bytes::copy_from_slice(body.as_bytes()),
            max_output,
            resume: None,
        };
        let prepared = prepare(&job).unwrap();
        (
            String::from_utf8(prepared.body.to_vec()).unwrap(),
            prepared.usage_is_ours,
        )
    }

    fn chat(body: &str, max_output: Option<u32>) -> (String, bool) {
        prepared(Endpoint::ChatCompletions, body, max_output)
    }

    #[test]
    fn only_the_name_changes_where_nothing_else_must() {
        let body = "{ \"model\" : \"net\",\"temperature\":1.0e0 ,\"max_tokens\":5,\"x\":{\"model\":\"net\"}}";
        assert_eq!(chat(body, Some(9)).0, body.replacen("\"net\"", "\"own\"", 1));
        let own = r#"{"model":"own"}"#;
        assert_eq!(chat(own, None), (own.into(), false));
    }

    #[test]
    fn usage_is_asked_for_once() {
        for (given, sent, ours) in [
            (
                r#"{"model":"own","stream":true}"#,
                r#"{"model":"own","stream":true,"stream_options":{"include_usage":true}}"#,
                true,
            ),
            (
                r#"{"model":"own","stream":false}"#,
                r#"{"model":"own","stream":false}"#,
                false,
            ),
            (
                r#"{"model":"own","stream":true,"stream_options":{"x":1}}"#,
                r#"{"model":"own","stream":true,"stream_options":{"x":1,"include_usage":true}}"#,
                true,
            ),
            (
                r#"{"model":"own","stream_options":{"include_usage":false},"stream":true}"#,
                r#"{"model":"own","stream_options":{"include_usage":true},"stream":true}"#,
                true,
            ),
            (
                r#"{"model":"own","stream":true,"stream_options":null}"#,
                r#"{"model":"own","stream":true,"stream_options":{"include_usage":true}}"#,
                true,
            ),
            (
                r#"{"model":"own","stream":true,"stream_options":{"include_usage":true}}"#,
                r#"{"model":"own","stream":true,"stream_options":{"include_usage":true}}"#,
                false,
            ),
        ] {
            assert_eq!(chat(given, None), (sent.into(), ours));
        }
    }

    #[test]
    fn output_is_bounded() {
        for (given, sent) in [
            ("", r#","max_tokens":9"#),
            (r#","max_tokens":10"#, r#","max_tokens":9"#),
            (r#","max_tokens":8"#, r#","max_tokens":8"#),
            (r#","max_tokens":null"#, r#","max_tokens":9"#),
            (r#","max_tokens":-1"#, r#","max_tokens":9"#),
            (
                r#","max_completion_tokens":99999999999"#,
                r#","max_completion_tokens":9"#,
            ),
            (
                r#","max_completion_tokens":1,"max_tokens":10"#,
                r#","max_completion_tokens":1,"max_tokens":9"#,
            ),
        ] {
            let body = |rest: &str| format!(r#"{{"model":"own"{rest}}}"#);
            assert_eq!(chat(&body(given), Some(9)).0, body(sent));
        }
        let embed = r#"{"model":"own","input":"x"}"#;
        assert_eq!(prepared(Endpoint::Embeddings, embed, Some(9)).0, embed);
    }
}

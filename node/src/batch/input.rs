//! A batch's input: one request per line, checked before the first of them runs.
//!
//! Format: OpenAI's batch input (platform.openai.com/docs/api-reference/batch/request-input).

use std::collections::HashSet;
use std::io::{self, BufRead};

use infernet_inference::json::{self, Object};
use serde::{Deserialize, Serialize};

/// Most requests of one batch, as at OpenAI.
pub const ITEMS_MAX: usize = 50_000;
/// Longest line: a request body and the few names around it.
pub const LINE_BYTES: usize = 32 * 1024 * 1024 + 4_096;
/// Longest `custom_id`.
const CUSTOM_ID_BYTES: usize = 512;
/// Errors that are told of one file; the rest is like them.
const ERRORS_TOLD: usize = 100;

/// Routes that a batch may use.
pub const ENDPOINTS: [&str; 4] = [
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
];

/// Where a line lies in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its first byte.
    pub offset: u64,
    /// Its bytes, without the line's end.
    pub length: u64,
}

/// What is wrong with a line, in OpenAI's words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineError {
    /// `invalid_json_line`, `duplicate_custom_id`, ...
    pub code: String,
    /// For people.
    pub message: String,
    /// Which member.
    pub param: Option<String>,
    /// Which line, from 1.
    pub line: Option<u64>,
}

impl LineError {
    /// Of the file as a whole.
    pub(super) fn of_file(code: &str, message: impl ToString) -> Self {
        Self {
            code: code.to_owned(),
            message: message.to_string(),
            param: None,
            line: None,
        }
    }
}

/// One request.
#[derive(Debug)]
pub struct Item<'a> {
    /// The user's name for it.
    pub custom_id: String,
    /// The body, as it stands.
    pub body: &'a [u8],
}

/// Reads one line, whose batch is for `endpoint`.
pub fn item<'a>(line: &'a [u8], endpoint: &str) -> Result<Item<'a>, (&'static str, &'static str, String)> {
    json::validate(line).map_err(|why| ("invalid_json_line", "", format!("this line is not JSON: {why}")))?;
    let object = Object::read(line).map_err(|_| ("invalid_json_line", "", "this line is not an object".to_owned()))?;
    let text = |name: &'static str| {
        let found = object.get(name).and_then(json::string);
        found.ok_or_else(|| ("missing_required_parameter", name, format!("`{name}` must be a string")))
    };
    let custom_id = text("custom_id")?.into_owned();
    if custom_id.is_empty() || custom_id.len() > CUSTOM_ID_BYTES {
        let message = format!("`custom_id` must have 1 to {CUSTOM_ID_BYTES} bytes");
        return Err(("invalid_custom_id", "custom_id", message));
    }
    if !text("method")?.eq_ignore_ascii_case("post") {
        return Err(("invalid_method", "method", "`method` must be POST".to_owned()));
    }
    if text("url")? != endpoint {
        return Err((
            "mismatched_endpoint",
            "url",
            format!("`url` must be the batch's, `{endpoint}`"),
        ));
    }
    let body = object.get("body").filter(|body| body.starts_with(b"{"));
    let body = body.ok_or_else(|| {
        (
            "missing_required_parameter",
            "body",
            "`body` must be an object".to_owned(),
        )
    })?;
    if Object::read(body).is_ok_and(|body| body.get("stream") == Some(b"true")) {
        return Err((
            "invalid_request",
            "body.stream",
            "a batch cannot be streamed".to_owned(),
        ));
    }
    Ok(Item { custom_id, body })
}

/// Reads a whole input: where each request lies, or what is wrong with the file.
pub fn check(mut input: impl BufRead, endpoint: &str) -> io::Result<Result<Vec<Place>, Vec<LineError>>> {
    let (mut places, mut errors, mut known) = (Vec::new(), Vec::new(), HashSet::new());
    let (mut offset, mut number, mut line) = (0_u64, 0_u64, Vec::new());
    loop {
        line.clear();
        let read = io::Read::take(&mut input, LINE_BYTES as u64 + 1).read_until(b'\n', &mut line)?;
        if read == 0 {
            break;
        }
        number += 1;
        let mut wrong = |code: &str, param: &str, message: String| {
            errors.push(LineError {
                code: code.to_owned(),
                message,
                param: (!param.is_empty()).then(|| param.to_owned()),
                line: Some(number),
            });
        };
        if read > LINE_BYTES {
            wrong("line_too_long", "", format!("a line may have {LINE_BYTES} bytes"));
            break;
        }
        let bare = line.trim_ascii_end();
        if !bare.is_empty() {
            match item(bare, endpoint) {
                Ok(item) if !known.insert(item.custom_id.clone()) => {
                    let message = format!("`{}` is there twice", item.custom_id);
                    wrong("duplicate_custom_id", "custom_id", message);
                }
                Ok(_) => places.push(Place {
                    offset,
                    length: bare.len() as u64,
                }),
                Err((code, param, message)) => wrong(code, param, message),
            }
        }
        if places.len() > ITEMS_MAX {
            wrong(
                "too_many_requests",
                "",
                format!("a batch may have {ITEMS_MAX} requests"),
            );
            break;
        }
        if errors.len() >= ERRORS_TOLD {
            break;
        }
        offset += read as u64;
    }
    if places.is_empty() && errors.is_empty() {
        errors.push(LineError::of_file("empty_file", "the file has no requests"));
    }
    Ok(if errors.is_empty() { Ok(places) } else { Err(errors) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMBED: &str = "/v1/embeddings";

    fn line(id: &str) -> String {
        format!(r#"{{"custom_id":"{id}","method":"POST","url":"{EMBED}","body":{{"model":"m","input":"x"}}}}"#)
    }

    fn codes(text: &str) -> Vec<String> {
        match check(text.as_bytes(), EMBED).unwrap() {
            Ok(_) => Vec::new(),
            Err(errors) => errors.into_iter().map(|error| error.code).collect(),
        }
    }

    #[test]
    fn lines_are_found_where_they_are() {
        let text = format!("{}\n\n{}\r\n{}", line("a"), line("b"), line("ü"));
        let places = check(text.as_bytes(), EMBED).unwrap().unwrap();
        let ids: Vec<_> = places
            .iter()
            .map(|place| {
                let start = usize::try_from(place.offset).unwrap();
                let bytes = &text.as_bytes()[start..start + usize::try_from(place.length).unwrap()];
                item(bytes, EMBED).unwrap().custom_id
            })
            .collect();
        assert_eq!(ids, ["a", "b", "ü"]);
    }

    #[test]
    fn what_is_wrong_is_told_by_line() {
        assert_eq!(codes(""), ["empty_file"]);
        assert_eq!(codes("\n\n"), ["empty_file"]);
        assert_eq!(codes("{"), ["invalid_json_line"]);
        assert_eq!(codes("[1]"), ["invalid_json_line"]);
        assert_eq!(codes(&format!("{}\n{}", line("a"), line("a"))), ["duplicate_custom_id"]);
        assert_eq!(codes(&line("a").replace("POST", "GET")), ["invalid_method"]);
        assert_eq!(
            codes(&line("a").replace("embeddings", "completions")),
            ["mismatched_endpoint"]
        );
        assert_eq!(codes(&line("")), ["invalid_custom_id"]);
        assert_eq!(
            codes(&line("a").replace("\"body\"", "\"bodi\"")),
            ["missing_required_parameter"]
        );
        assert_eq!(
            codes(&line("a").replace("\"input\"", "\"stream\":true,\"input\"")),
            ["invalid_request"]
        );
        let errors = check(format!("{}\n{{\n", line("a")).as_bytes(), EMBED)
            .unwrap()
            .unwrap_err();
        assert_eq!(errors[0].line, Some(2));
        assert!(codes(&"{\n".repeat(1_000)).len() <= ERRORS_TOLD);
        let many: String = (0..=ITEMS_MAX).map(|number| line(&number.to_string()) + "\n").collect();
        assert_eq!(codes(&many), ["too_many_requests"]);
    }
}

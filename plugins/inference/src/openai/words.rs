//! An engine's refusal in OpenAI's shape: engines agree on the statuses and not on the bodies.
//!
//! FastAPI's servers write `{"detail": "..."}` or a list of what is wrong, older vLLM and SGLang
//! `{"object": "error", "message": "..."}`, proxies `{"error": "..."}`. Their words are kept.

use bytes::Bytes;
use serde_json::Value;

use crate::wire::error_json;

/// The same words as an error object; a body that is one already, or that says nothing known, stays as it is.
pub(super) fn as_error_object(status: u16, body: Bytes) -> Bytes {
    let Ok(told) = serde_json::from_slice::<Value>(&body) else {
        return body;
    };
    if told["error"]["message"].is_string() {
        return body;
    }
    let words = [&told["error"], &told["message"], &told["detail"]]
        .into_iter()
        .find_map(Value::as_str)
        .map(str::to_owned)
        .or_else(|| listed(&told["detail"]));
    let kind = match status {
        400..500 => "invalid_request_error",
        _ => "server_error",
    };
    match words {
        Some(words) => error_json(&words, kind, None, None).into(),
        None => body,
    }
}

/// What is wrong with each field, as pydantic lists it.
fn listed(detail: &Value) -> Option<String> {
    let each = detail.as_array()?.iter().filter_map(|wrong| {
        let place = wrong["loc"].as_array().into_iter().flatten();
        let place: Vec<_> = place
            .filter_map(|step| {
                step.as_str()
                    .map(str::to_owned)
                    .or_else(|| Some(step.as_u64()?.to_string()))
            })
            .collect();
        Some(format!("{}: {}", place.join("."), wrong["msg"].as_str()?))
    });
    let each: Vec<_> = each.collect();
    (!each.is_empty()).then(|| each.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_where_engines_put_them() {
        for (body, words) in [
            (r#"{"error":"Unauthorized"}"#, "Unauthorized"),
            (r#"{"object":"error","message":"too long","code":400}"#, "too long"),
            (r#"{"detail":"Value error."}"#, "Value error."),
            (
                // Shape: fastapi.tiangolo.com, "Handling Errors": RequestValidationError.
                r#"{"detail":[{"loc":["body","messages",0],"msg":"field required","type":"missing"}]}"#,
                "body.messages.0: field required",
            ),
        ] {
            let object: Value = serde_json::from_slice(&as_error_object(400, body.into())).unwrap();
            assert_eq!(object["error"]["message"], words);
            assert_eq!(object["error"]["type"], "invalid_request_error");
        }
        for body in [
            r#"{"error":{"message":"no","code":400}}"#,
            "<html>",
            "{}",
            "[1]",
            r#"{"detail":[]}"#,
        ] {
            assert_eq!(as_error_object(400, body.into()), body);
        }
    }
}

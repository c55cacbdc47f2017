//! The gateway's own description, OpenAPI 3.1, at `/openapi.json`: one file for each API in `openapi/`, merged, with the
//! errors that every route of a kind shares filled in.
//!
//! An operation says with `x-errors` how far its requests go: `body` is read here, `inference` goes to a provider. A new
//! API is a new file in [`FILES`]; a test compares all of it with the router.

use std::sync::LazyLock;

use bytes::Bytes;
use serde_json::{Map, Value, json};

const BASE: &str = include_str!("openapi/base.json");
const FILES: [&str; 5] = [
    include_str!("openapi/openai.json"),
    include_str!("openapi/batches.json"),
    include_str!("openapi/anthropic.json"),
    include_str!("openapi/ollama.json"),
    include_str!("openapi/node.json"),
];

/// What may be answered before a route is looked at.
const GUARD: [u16; 4] = [400, 401, 403, 508];
/// What a body may meet.
const BODY: [u16; 4] = [400, 408, 413, 429];
/// What a request may meet beyond.
const INFERENCE: [u16; 8] = [402, 404, 409, 422, 500, 502, 503, 504];

static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| merged().to_string().into());

/// The document.
pub(super) fn document() -> Bytes {
    DOCUMENT.clone()
}

fn merged() -> Value {
    let mut document = part(BASE);
    document["info"]["version"] = env!("CARGO_PKG_VERSION").into();
    for file in FILES {
        add(&mut document, part(file));
    }
    let responses = document["components"]["responses"].take();
    let mut all = responses.clone();
    for (tag, schema) in [("anthropic", "AnthropicError"), ("ollama", "OllamaError")] {
        for (status, response) in object(&responses) {
            if status.parse::<u16>().is_ok() {
                let mut response = response.clone();
                response["content"]["application/json"]["schema"] =
                    json!({ "$ref": format!("#/components/schemas/{schema}") });
                all[format!("{tag}-{status}")] = response;
            }
        }
    }
    document["components"]["responses"] = all;
    if let Value::Object(paths) = &mut document["paths"] {
        let operations = paths.values_mut().filter_map(Value::as_object_mut);
        operations.flat_map(Map::values_mut).for_each(with_errors);
    }
    document
}

/// # Panics
/// Where a file of this folder is no JSON, which the tests would have told.
fn part(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("a part of the OpenAPI document: {error}"))
}

fn object(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

/// Adds what `more` has to the objects of `document`; one place has one thing.
fn add(document: &mut Value, more: Value) {
    match (document, more) {
        (Value::Object(document), Value::Object(more)) => {
            for (name, value) in more {
                add(document.entry(name).or_insert(Value::Null), value);
            }
        }
        (document, more) => *document = more,
    }
}

/// The answers of an operation that it does not name itself.
fn with_errors(operation: &mut Value) {
    let tag = operation["tags"][0].as_str().unwrap_or_default();
    let prefix = match tag {
        "anthropic" | "ollama" => format!("{tag}-"),
        _ => String::new(),
    };
    // Routes that are open to all have no key to be wrong.
    let is_open = operation["security"] == json!([{}]);
    let Value::Object(responses) = &mut operation["responses"] else {
        return;
    };
    let kind = responses.remove("x-errors");
    let mut statuses = GUARD.to_vec();
    if is_open {
        statuses.retain(|status| *status != 401);
    } else {
        // A key has its rate.
        statuses.push(429);
    }
    if kind.is_some() {
        statuses.extend(BODY);
    }
    let is_inference = kind.is_some_and(|kind| kind == "inference");
    if is_inference {
        statuses.extend(INFERENCE);
    }
    for status in statuses {
        let response = json!({ "$ref": format!("#/components/responses/{prefix}{status}") });
        responses.entry(status.to_string()).or_insert(response);
    }
    for (status, response) in responses.iter_mut() {
        if !prefix.is_empty() && response["$ref"] == format!("#/components/responses/{status}") {
            *response = json!({ "$ref": format!("#/components/responses/{prefix}{status}") });
        }
    }
    if is_inference {
        let key = json!({ "$ref": "#/components/parameters/IdempotencyKey" });
        match &mut operation["parameters"] {
            Value::Array(parameters) => parameters.push(key),
            parameters => *parameters = json!([key]),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::gateway::routes::routes;

    #[test]
    fn every_route_is_described_and_every_description_is_a_route() {
        let served: BTreeSet<_> = routes()
            .iter()
            .map(|route| (route.path.replace("{*", "{"), route.method.as_str().to_lowercase()))
            .collect();
        let document = merged();
        let described: BTreeSet<_> = object(&document["paths"])
            .flat_map(|(path, methods)| object(methods).map(|(method, _)| (path.clone(), method.clone())))
            .collect();
        assert_eq!(described, served);
    }

    #[test]
    fn what_is_referred_to_is_there_and_what_is_there_is_used() {
        let text = merged().to_string();
        let document = merged();
        let referred: BTreeSet<_> = text
            .split("\"#/components/")
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
            .collect();
        for name in &referred {
            assert!(document.pointer(&format!("/components/{name}")).is_some(), "{name}");
        }
        for (name, _) in object(&document["components"]["schemas"]) {
            assert!(
                referred.contains(&*format!("schemas/{name}")),
                "nothing refers to {name}"
            );
        }
        assert!(!text.contains("x-errors"));
    }

    #[test]
    fn operations_have_names_and_answers_of_their_own() {
        let document = merged();
        let mut names = BTreeSet::new();
        for (path, method) in object(&document["paths"]) {
            for (_, operation) in object(method) {
                assert!(
                    names.insert(operation["operationId"].as_str().unwrap().to_owned()),
                    "{path}"
                );
                let answers = &operation["responses"];
                assert!(answers["200"].is_object() && answers["403"].is_object(), "{path}");
                let error = answers["400"]["$ref"].as_str().unwrap();
                assert_eq!(error.contains("ollama"), path.starts_with("/api/"), "{path}");
                assert_eq!(error.contains("anthropic"), path.starts_with("/v1/messages"), "{path}");
                let retried = operation["parameters"].to_string().contains("IdempotencyKey");
                assert_eq!(
                    retried,
                    answers["502"].is_object(),
                    "{path}: what is paid can be sent again"
                );
            }
        }
    }
}

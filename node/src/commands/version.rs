//! `infernet version`: which version this is, and what it was built from.

use serde_json::json;

use super::{Context, Result};
use crate::out::Exit;

/// What the binary was built from.
const BUILD: [(&str, &str); 5] = [
    ("version", env!("CARGO_PKG_VERSION")),
    ("commit", env!("INFERNET_COMMIT")),
    ("commit_date", env!("INFERNET_COMMIT_DATE")),
    ("target", env!("INFERNET_TARGET")),
    ("profile", env!("INFERNET_PROFILE")),
];

pub(super) fn run(context: &Context) -> Result {
    let engine = if cfg!(feature = "embedded") { "embedded" } else { "none" };
    if context.out.is_json() {
        let mut value = json!({ "engine": engine });
        for (name, text) in BUILD {
            value[name] = if text.is_empty() { json!(null) } else { json!(text) };
        }
        context.out.json(&value);
        return Ok(Exit::Done);
    }
    let [(_, version), (_, commit), (_, date), (_, target), (_, profile)] = BUILD;
    let commit = if commit.is_empty() {
        "development build".to_owned()
    } else {
        format!("{commit} {date}")
    };
    context.out.line(format_args!(
        "infernet {version} ({}, {target}, {profile}, engine {engine})",
        commit.trim()
    ));
    Ok(Exit::Done)
}

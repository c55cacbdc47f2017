//! `infernet model list`: what is in the home, and what an Ollama has where one answers.

use indicatif::HumanBytes;
use serde_json::{Value, json};

use super::{Context, Result};
use crate::models::local;
use crate::models::ollama::OllamaError;
use crate::out::{Exit, Style};
use crate::runtime;

pub(super) fn run(context: &Context) -> Result {
    let config = super::config(context)?;
    let out = &context.out;
    let mut rows: Vec<Value> = local::list(&context.home.models())?
        .iter()
        .map(|local| {
            json!({
                "name": local.name,
                "bytes": local.bytes,
                "kind": local.kind.as_str(),
                "in_use": super::is_in_use(&local.path, &config),
                "path": local.path,
            })
        })
        .collect();
    if let Ok(ollama) = super::ollama(&config) {
        match runtime::executor()?.block_on(ollama.tags()) {
            Ok(tags) => rows.extend(tags.iter().map(|tag| {
                json!({ "name": tag.name, "bytes": tag.size, "kind": "ollama", "in_use": null, "digest": tag.digest })
            })),
            // Nobody needs to have one.
            Err(OllamaError::Unreachable { .. }) => {}
            Err(error) => out.note(format_args!("warning: {error}")),
        }
    }
    if out.is_json() {
        out.json(&Value::Array(rows));
        return Ok(Exit::Done);
    }
    if rows.is_empty() {
        let hint = "no models yet: `infernet model pull hf:owner/name` gets one; the demo model is built in";
        out.note(out.paint(Style::Dim, hint));
        return Ok(Exit::Done);
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let in_use = match row["in_use"].as_bool() {
                Some(true) => "yes",
                Some(false) => "no",
                None => "-",
            };
            let size = HumanBytes(row["bytes"].as_u64().unwrap_or_default()).to_string();
            vec![text(&row["name"]), size, text(&row["kind"]), in_use.to_owned()]
        })
        .collect();
    out.table(&["name", "size", "kind", "in use"], &cells);
    Ok(Exit::Done)
}

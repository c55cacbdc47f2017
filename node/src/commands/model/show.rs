//! `infernet model show`: what one model is.

use indicatif::HumanBytes;
use serde_json::{Map, Value, json};

use super::{Context, Result};
use crate::cli::ModelNameArgs;
use crate::models::local::Local;
use crate::models::name;
use crate::models::ollama::Ollama;
use crate::out::Exit;
use crate::runtime;

pub(super) fn run(args: &ModelNameArgs, context: &Context) -> Result {
    let config = super::config(context)?;
    let shown = match super::find(context, &args.name)? {
        Some(local) => {
            let mut shown = json!({
                "name": local.name,
                "kind": local.kind.as_str(),
                "path": local.path,
                "bytes": local.bytes,
                "in_use": super::is_in_use(&local.path, &config),
            });
            add(&mut shown, described(&local)?);
            shown
        }
        None => {
            let name = name::model(&args.name)?;
            runtime::executor()?.block_on(of_ollama(&super::ollama(&config)?, name))?
        }
    };
    let out = &context.out;
    if out.is_json() {
        out.json(&shown);
        return Ok(Exit::Done);
    }
    let fields: Vec<(&str, String)> = shown
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| (name.as_str(), cell(name, value)))
        .collect();
    out.fields(&fields);
    Ok(Exit::Done)
}

/// What the file itself says.
#[cfg(feature = "embedded")]
pub(super) fn described(local: &Local) -> Result<Value> {
    use infernet_inference::embedded::{Description, describe};

    use crate::out::Failure;

    Ok(
        match describe(&local.path).map_err(|error| Failure::new(Exit::Failed, error))? {
            Description::Generator(info) => json!({
                "architecture": info.architecture,
                "context": info.context_length,
                "quantisation": info.quantisation,
                "parameters": info.parameters,
                "digest": hex::encode(info.weights_digest),
            }),
            Description::Embedder(info) => json!({
                "architecture": info.architecture,
                "context": info.context_length,
                "dimensions": info.dimensions,
                "quantisation": info.quantisation,
                "parameters": info.parameters,
                "digest": hex::encode(info.weights_digest),
            }),
        },
    )
}

#[cfg(not(feature = "embedded"))]
pub(super) fn described(_: &Local) -> Result<Value> {
    Ok(json!({}))
}

/// What Ollama says: `details` and `model_info` of `/api/show`, and the digest of `/api/tags`.
async fn of_ollama(ollama: &Ollama, name: &str) -> Result<Value> {
    let said = ollama.show(name).await?;
    let (details, info) = (&said["details"], &said["model_info"]);
    let architecture = &info["general.architecture"];
    let context = format!("{}.context_length", architecture.as_str().unwrap_or_default());
    let tags = ollama.tags().await?;
    let tag = tags
        .iter()
        .find(|tag| tag.name == name || tag.name == format!("{name}:latest"));
    Ok(json!({
        "name": name,
        "kind": "ollama",
        "bytes": tag.map(|tag| tag.size),
        "architecture": if architecture.is_null() { &details["family"] } else { architecture },
        "context": info[&context],
        "quantisation": details["quantization_level"],
        "parameters": if info["general.parameter_count"].is_null() { &details["parameter_size"] } else { &info["general.parameter_count"] },
        "digest": tag.map(|tag| tag.digest.clone()),
        "capabilities": said["capabilities"],
    }))
}

fn add(to: &mut Value, more: Value) {
    let empty = Map::new();
    if let Some(to) = to.as_object_mut() {
        to.extend(more.as_object().unwrap_or(&empty).clone());
    }
}

fn cell(name: &str, value: &Value) -> String {
    match (name, value) {
        ("bytes", _) => HumanBytes(value.as_u64().unwrap_or_default()).to_string(),
        (_, Value::Bool(yes)) => if *yes { "yes" } else { "no" }.to_owned(),
        (_, Value::String(text)) => text.clone(),
        (_, Value::Array(list)) => {
            let words: Vec<&str> = list.iter().filter_map(Value::as_str).collect();
            words.join(", ")
        }
        (_, other) => other.to_string(),
    }
}

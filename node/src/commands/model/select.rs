//! `infernet model use`: the embedded engine serves this model from the next start on.

use serde_json::json;

use super::{Context, Result};
use crate::cli::ModelNameArgs;
use crate::config;
use crate::out::{Exit, Failure};

pub(super) fn run(args: &ModelNameArgs, context: &Context) -> Result {
    // What the configuration has now must be sound before anything is changed in it.
    super::config(context)?;
    let local = super::find(context, &args.name)?.ok_or_else(|| {
        let name = &args.name;
        let message = format!("no model `{name}` is here: `infernet model list` shows which are, and `infernet model pull hf:owner/name` gets one; Ollama's own are served where `provider.backend` is `ollama` or `auto`");
        Failure::new(Exit::Failed, message)
    })?;
    // What cannot be served is found out now and not at the next start.
    super::show::described(&local)?;
    let path = local.path.display().to_string();
    config::set(
        &context.home,
        &[("provider.backend", "embedded"), ("provider.model", &path)],
    )?;
    let out = &context.out;
    let running = context.home.holder()?.is_some();
    if out.is_json() {
        out.json(&json!({ "name": local.name, "path": local.path, "restart_needed": running }));
        return Ok(Exit::Done);
    }
    out.line(format_args!("the embedded engine serves `{}`", local.name));
    if running {
        out.note("the node that runs now goes on with what it had: `infernet restart` takes the change");
    }
    Ok(Exit::Done)
}

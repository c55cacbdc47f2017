//! `infernet model rm`: removes a model, here or from Ollama, after asking.

use std::io::IsTerminal as _;

use indicatif::HumanBytes;
use serde_json::json;

use super::{Context, Result};
use crate::cli::ModelRmArgs;
use crate::models::{local, name};
use crate::out::{Exit, Failure};
use crate::runtime;

pub(super) fn run(args: &ModelRmArgs, context: &Context) -> Result {
    let config = super::config(context)?;
    let name = match super::find(context, &args.name)? {
        Some(local) => {
            if super::is_in_use(&local.path, &config) && !args.force {
                let name = &local.name;
                let message = format!(
                    "`{name}` is what `provider.model` names: choose another with `infernet model use`, or pass --force"
                );
                return Err(Failure::new(Exit::Failed, message));
            }
            let question = format!("remove `{}` ({})", local.name, HumanBytes(local.bytes));
            confirm(&question, args, context)?;
            local::remove(&context.home.models(), &local)?;
            local.name
        }
        None => {
            let name = name::model(&args.name)?;
            let ollama = super::ollama(&config)?;
            confirm(&format!("remove `{name}` from Ollama"), args, context)?;
            runtime::executor()?.block_on(ollama.delete(name))?;
            name.to_owned()
        }
    };
    match context.out.is_json() {
        true => context.out.json(&json!({ "removed": name })),
        false => context.out.line(format_args!("removed `{name}`")),
    }
    Ok(Exit::Done)
}

/// Asks at a terminal; elsewhere nothing is removed without `--yes`.
fn confirm(question: &str, args: &ModelRmArgs, context: &Context) -> Result<()> {
    if args.yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        let message = "nobody can be asked here: pass --yes to remove it without asking";
        return Err(Failure::new(Exit::Usage, message));
    }
    context.out.note(format_args!("{question}? [y/N]"));
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::new(Exit::Failed, "nothing was removed")),
    }
}

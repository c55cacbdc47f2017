//! `infernet model`: the models that this machine has for its engines.

mod list;
mod pull;
mod remove;
mod select;
mod show;
#[cfg(test)]
#[cfg(feature = "embedded")]
mod tests;

use std::path::Path;

use super::{Context, Result};
use crate::cli::ModelCommand;
use crate::config::{Backend, Config, Engine, Overrides};
use crate::models::local::{self, Local};
use crate::models::ollama::Ollama;
use crate::out::{Exit, Failure};

pub(super) fn run(command: &ModelCommand, context: &Context) -> Result {
    match command {
        ModelCommand::List => list::run(context),
        ModelCommand::Pull(args) => pull::run(args, context),
        ModelCommand::Show(args) => show::run(args, context),
        ModelCommand::Use(args) => select::run(args, context),
        ModelCommand::Rm(args) => remove::run(args, context),
    }
}

fn config(context: &Context) -> Result<Config> {
    Ok(context.config(&Overrides::default())?.config)
}

/// The Ollama that the configuration names.
fn ollama(config: &Config) -> Result<Ollama> {
    let is_ollama = |engine: &&Engine| engine.kind == Backend::Ollama;
    let engine = config.engines.hosts.iter().find(is_ollama).ok_or_else(|| {
        let message = "no address of Ollama is set: set `engines.ollama_host` (OLLAMA_HOST), or use `hf:owner/name`";
        Failure::new(Exit::Usage, message)
    })?;
    Ok(Ollama::new(engine)?)
}

/// A model in the home, if the name is one's.
fn find(context: &Context, name: &str) -> Result<Option<Local>> {
    Ok(local::find(&context.home.models(), name)?)
}

/// Whether the embedded engine is set to serve this file or folder.
fn is_in_use(path: &Path, config: &Config) -> bool {
    let embeds = matches!(config.provider.backend, Backend::Embedded | Backend::Auto);
    let same = |model: &Path| match (model.canonicalize(), path.canonicalize()) {
        (Ok(model), Ok(path)) => model == path || model.starts_with(path),
        _ => model == path,
    };
    embeds && config.provider.model.as_deref().is_some_and(same)
}

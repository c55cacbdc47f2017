//! `infernet model pull`: a model from Hugging Face into the home, or one of Ollama's own into Ollama.

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::{Context, Result};
use crate::cli::ModelPullArgs;
use crate::config::Config;
use crate::models::choice::{Choice, choose};
use crate::models::download::{self, Came, Folder};
use crate::models::hub::Hub;
use crate::models::name::{Repository, Wanted};
use crate::out::{Exit, Failure};
use crate::runtime;

/// What a download looks like.
const BAR: &str = "{msg}  {bar:30} {bytes}/{total_bytes}  {binary_bytes_per_sec}  {eta} left";

pub(super) fn run(args: &ModelPullArgs, context: &Context) -> Result {
    let wanted: Wanted = args.name.parse()?;
    let config = super::config(context)?;
    context.home.ensure()?;
    runtime::executor()?.block_on(async {
        tokio::select! {
            ended = pull(&wanted, &config, context) => ended,
            signal = runtime::signal() => {
                signal?;
                let message = "interrupted: run the same again, and it goes on where it ended";
                Err(Failure::new(Exit::Interrupted, message))
            }
        }
    })
}

async fn pull(wanted: &Wanted, config: &Config, context: &Context) -> Result {
    match wanted {
        Wanted::Hub { repository, file } => from_hub(repository, file.as_deref(), config, context).await,
        Wanted::Engine(name) => {
            let bar = bar(name, context);
            super::ollama(config)?.pull(name, &bar).await?;
            bar.finish_and_clear();
            let out = &context.out;
            match out.is_json() {
                true => out.json(&json!({ "name": name, "kind": "ollama" })),
                false => out.line(format_args!("Ollama has `{name}`")),
            }
            Ok(Exit::Done)
        }
    }
}

async fn from_hub(repository: &Repository, file: Option<&str>, config: &Config, context: &Context) -> Result {
    let out = &context.out;
    let hub = Hub::new(&config.hub.endpoint, config.hub.token.clone())?;
    let files = hub.files(repository).await?;
    let choice = choose(&files, file)
        .map_err(|error| Failure::new(Exit::Failed, format_args!("cannot pull from `{repository}`: {error}")))?;
    if let (Some(file), false) = (&choice.file, choice.others.is_empty()) {
        let others = choice.others.join("`, `");
        out.note(format_args!(
            "taking `{file}`; `hf:{repository}:FILE` takes another of `{others}`"
        ));
    }
    let folder = Folder::claim(&context.home.models(), repository, download::free)?;
    folder.check_room(&choice.files)?;
    let mut came = Came::WasThere;
    for file in &choice.files {
        let bar = bar(&file.path, context);
        if folder.fetch(&hub, repository, file, &bar).await? == Came::Downloaded {
            came = Came::Downloaded;
        }
        bar.finish_and_clear();
        check_embedding_model(&choice, &file.path, &folder)?;
    }
    told(repository, &choice, &folder, came, context);
    Ok(Exit::Done)
}

/// The settings of an embedding model come before its weights, which are large: one that cannot be served is not
/// downloaded.
#[cfg(feature = "embedded")]
fn check_embedding_model(choice: &Choice, came: &str, folder: &Folder) -> Result<()> {
    if choice.file.is_none() && came == "config.json" {
        let text = std::fs::read(folder.path().join(came))?;
        let checked = infernet_inference::embedded::check_embedding_config(&text);
        checked.map_err(|error| Failure::new(Exit::Failed, error))?;
    }
    Ok(())
}

#[cfg(not(feature = "embedded"))]
fn check_embedding_model(_: &Choice, _: &str, _: &Folder) -> Result<()> {
    Ok(())
}

fn told(repository: &Repository, choice: &Choice, folder: &Folder, came: Came, context: &Context) {
    let out = &context.out;
    let (name, path) = match &choice.file {
        Some(file) => (format!("{repository}/{file}"), folder.path().join(file)),
        None => (repository.to_string(), folder.path().to_owned()),
    };
    if out.is_json() {
        let bytes: u64 = choice.files.iter().map(|file| file.size).sum();
        let downloaded = came == Came::Downloaded;
        out.json(&json!({ "name": name, "path": path, "bytes": bytes, "downloaded": downloaded }));
        return;
    }
    if came == Came::WasThere {
        out.note("it was here already");
    }
    out.line(path.display());
    out.note(format_args!("`infernet model use {name}` serves it"));
}

fn bar(name: &str, context: &Context) -> ProgressBar {
    // A bar is for people; where stderr is no terminal it draws nothing by itself.
    if context.out.is_json() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(BAR).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(0).with_style(style).with_message(name.to_owned())
}

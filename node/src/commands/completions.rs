//! `infernet completions SHELL`: the script that completes commands.

use clap::CommandFactory as _;
use clap_complete::{Shell as Script, generate};

use super::{Context, Result};
use crate::cli::{Cli, CompletionsArgs, Shell};
use crate::out::Exit;

pub(super) fn run(args: CompletionsArgs, context: &Context) -> Result {
    let shell = match args.shell {
        Shell::Bash => Script::Bash,
        Shell::Elvish => Script::Elvish,
        Shell::Fish => Script::Fish,
        Shell::PowerShell => Script::PowerShell,
        Shell::Zsh => Script::Zsh,
    };
    let mut script = Vec::new();
    generate(shell, &mut Cli::command(), "infernet", &mut script);
    context.out.piece(&String::from_utf8_lossy(&script));
    Ok(Exit::Done)
}

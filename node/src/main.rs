//! The `infernet` binary: reads the command line, runs the command, and says how it went with its exit code.
//!
//! What there is to say goes through `out`; what each command does is in `commands`, one file each.

use std::process::ExitCode;

use clap::Parser as _;
use infernet_node::{cli::Cli, commands};

fn main() -> ExitCode {
    commands::run(&Cli::parse()).into()
}

//! `infernet-bootstrap`: the node that others join the network through.
//!
//! It serves the DHT, forwards gossip that it has judged, hands out the ads that it knows, and relays connections for
//! nodes that cannot be reached. It neither buys nor sells, and no prompt goes through it unencrypted. With a command
//! it works on recordings of what it heard, and speaks to nobody.

mod arguments;
mod commands;
mod home;
mod lists;
mod metrics;
mod serve;
mod status_page;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Parser as _;
use tracing_subscriber::EnvFilter;

use arguments::{Arguments, Command};

/// Exit code of a failed start, of which a wrong configuration is by far the most usual.
const FAILED: u8 = 1;

/// The swarm has a task, the judging of gossip has another; more threads would only cost memory.
const WORKERS: usize = 2;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let level = ["info", "debug", "trace"][usize::from(arguments.verbose.min(2))];
    tracing_subscriber::fmt()
        // The DHT warns of an empty table, which is what the first node of a network has.
        .with_env_filter(EnvFilter::new(format!(
            "warn,libp2p_kad=error,infernet_bootstrap={level},infernet_swarm={level},infernet_study={level}"
        )))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let mut out = std::io::stdout().lock();
    let done = match arguments.command {
        None => {
            drop(out);
            run(serve::serve(arguments.serve))
        }
        Some(Command::Crawl(arguments)) => commands::crawl::run(&arguments, &mut out),
        Some(Command::Report(arguments)) => commands::report::run(&arguments, &mut out),
        Some(Command::Publish(arguments)) => commands::publish::run(&arguments, &mut out),
        Some(Command::Replay(arguments)) => commands::replay::run(&arguments, &mut out),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::from(FAILED)
        }
    }
}

fn run(serving: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()?;
    runtime.block_on(serving)
}

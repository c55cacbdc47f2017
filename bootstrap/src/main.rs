//! `infernet-bootstrap`: the node that others join the network through.
//!
//! It serves the DHT, forwards gossip that it has judged, hands out the ads that it knows, and relays connections for
//! nodes that cannot be reached. It neither buys nor sells, and no prompt goes through it unencrypted.

mod arguments;
mod home;
mod metrics;
mod serve;

use std::process::ExitCode;

use clap::Parser as _;
use tracing_subscriber::EnvFilter;

use arguments::Arguments;

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
            "warn,libp2p_kad=error,infernet_bootstrap={level},infernet_swarm={level}"
        )))
        .with_writer(std::io::stderr)
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build();
    let served = match runtime {
        Ok(runtime) => runtime.block_on(serve::serve(arguments)),
        Err(error) => Err(error.into()),
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::from(FAILED)
        }
    }
}

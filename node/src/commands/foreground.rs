//! `infernet start --foreground` and `infernet gateway`: the node itself, until it is asked to end.

use std::io::IsTerminal as _;
use std::pin::pin;
use std::time::Duration;

use tracing_subscriber::EnvFilter;

use super::{Context, Result};
use crate::cli::NodeArgs;
use crate::config::{Config, Overrides, Role};
use crate::launch::{Launched, launch};
use crate::out::{Exit, Failure, Style};
use crate::runtime::{self, Signal, Tasks};

/// Crates whose words are worth reading every day; others speak when something is wrong.
const OURS: [&str; 5] = [
    "infernet_node",
    "infernet_swarm",
    "infernet_inference",
    "infernet_engine",
    "infernet_protocol",
];

/// What others may say: warnings, but for two that are everyday here. A small network has nobody in its DHT at first,
/// and a bid goes out both because it was invited and because its offer was heard.
const QUIET: &str = "warn,libp2p_gossipsub=error,libp2p_kad=error";

/// Runs a node.
pub(super) fn start(args: &NodeArgs, context: &Context) -> Result {
    run(&args.overrides(), context)
}

/// Runs a node that only buys, with its API on localhost.
pub(super) fn gateway(args: &NodeArgs, context: &Context) -> Result {
    if args.no_gateway || args.role.as_deref().is_some_and(|role| role != Role::Consumer.as_str()) {
        return Err(Failure::new(
            Exit::Usage,
            "`infernet gateway` is a consumer with a gateway: for anything else use `infernet start --foreground`",
        ));
    }
    let mut flags = args.overrides();
    flags.text("role", "infernet gateway", Role::Consumer.as_str());
    run(&flags, context)
}

fn run(flags: &Overrides, context: &Context) -> Result {
    let config = context.config(flags)?.config;
    log(&config.log, context)?;
    let home = context.home.lock()?;
    runtime::executor()?.block_on(async {
        let tasks = Tasks::new();
        // One watch from before the launch to the end, so that no signal falls in between.
        let mut asked = pin!(runtime::signal());
        let launched = tokio::select! {
            launched = launch(&home, &config, &tasks) => launched,
            signal = &mut asked => return signal.map(exit_of).map_err(Failure::from),
        };
        let launched = match launched {
            Ok(launched) => launched,
            Err(error) => {
                tasks.drain(DRAIN).await;
                return Err(error.into());
            }
        };
        say_ready(&launched, &config, context);
        let ended = tokio::select! {
            signal = &mut asked => {
                tracing::info!("stopping");
                signal.map(exit_of).map_err(Failure::from)
            }
            () = tasks.cancelled() => Ok(Exit::Done),
        };
        launched.node.stop().await;
        match tasks.failure() {
            Some(why) => Err(Failure::new(Exit::Failed, why)),
            None => ended,
        }
    })
}

/// A node that did not come up has this long to put away what it had begun.
const DRAIN: Duration = Duration::from_secs(5);

fn exit_of(signal: Signal) -> Exit {
    match signal {
        Signal::Interrupt => Exit::Interrupted,
        Signal::Terminate => Exit::Done,
    }
}

fn say_ready(launched: &Launched, config: &Config, context: &Context) {
    let out = &context.out;
    if out.is_json() {
        out.json(&launched.ready());
        return;
    }
    let mut fields = vec![("peer id", out.paint(Style::Cyan, &launched.node.id().peer_id()))];
    fields.extend(
        launched
            .listen
            .iter()
            .map(|address| ("listens on", address.to_string())),
    );
    if let Some(url) = &launched.gateway {
        fields.push(("local API", out.paint(Style::Cyan, &format!("{url}/v1"))));
    }
    fields.push(("network", config.network.to_string()));
    out.fields(&fields);
    out.note(out.paint(Style::Dim, "Ctrl-C ends it"));
}

/// Sends the log to stderr. A bare level is meant for this project's own crates.
pub(super) fn log(level: &str, context: &Context) -> Result<()> {
    let level = match context.verbose {
        0 => level,
        1 => "debug",
        _ => "trace",
    };
    let filter = if level.parse::<tracing::Level>().is_ok() && context.verbose < 2 {
        OURS.iter()
            .fold(QUIET.to_owned(), |filter, name| format!("{filter},{name}={level}"))
    } else {
        level.to_owned()
    };
    let filter = EnvFilter::try_new(&filter)
        .map_err(|error| Failure::new(Exit::Usage, format_args!("`log.level` cannot be `{level}`: {error}")))?;
    let colour = std::io::stderr().is_terminal() && context.environment.get("NO_COLOR").is_none();
    // A second command in one process, as in tests, keeps the first one's log.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colour)
        .try_init();
    Ok(())
}

//! `infernet doctor`: what is well with the node here and what is not, why, and what to do about it. Where none runs, one is
//! started for the look, as the flags say, which buys and sells nothing.

use std::time::{Duration, Instant};

use infernet_swarm::{Filtering, Mapping, Reached, Situation};
use serde_json::Value;

use super::{Context, Result};
use crate::cli::NodeArgs;
use crate::config::Role;
use crate::doctor;
use crate::ipc::{self, CallError};
use crate::launch::{LaunchError, launch_for};
use crate::node::Purpose;
use crate::out::{Exit, Failure, Out, Style};
use crate::runtime::{self, Tasks};

/// A look takes this long at most: others answer within a second, and a call back that does not get through takes them ten
/// or twenty to give up.
const LOOK: Duration = Duration::from_secs(45);
/// Where nobody has answered by then, nobody will.
const ALONE: Duration = Duration::from_secs(8);
/// Where nobody outside this network is near, nothing more becomes known once nothing has for so long.
const SETTLED: Duration = Duration::from_secs(6);
/// Between two looks at what has become known.
const LOOK_EVERY: Duration = Duration::from_millis(250);

pub(super) fn run(args: &NodeArgs, context: &Context) -> Result {
    let diagnosis = match ipc::call(&context.home, "doctor", Value::Null) {
        Ok(diagnosis) => {
            if !args.is_empty() {
                context
                    .out
                    .note("a node runs here: this is about it, and the flags are not used");
            }
            diagnosis
        }
        Err(CallError::NotRunning(_)) => match look(args, context)? {
            Some(diagnosis) => diagnosis,
            None => return Ok(Exit::Interrupted),
        },
        Err(error) => return Err(error.into()),
    };
    let is_wrong = findings(&diagnosis).any(|finding| finding["state"] == "wrong");
    match context.out.is_json() {
        true => context.out.json(&diagnosis),
        false => show(&diagnosis, &context.out),
    }
    Ok(if is_wrong { Exit::Failed } else { Exit::Done })
}

fn findings(diagnosis: &Value) -> impl Iterator<Item = &Value> {
    diagnosis["findings"].as_array().into_iter().flatten()
}

/// Starts a node for the look; `None` where somebody broke it off.
fn look(args: &NodeArgs, context: &Context) -> Result<Option<Value>> {
    let mut flags = args.overrides();
    // Nothing is sold by a look, and no port but the network's is opened.
    flags.text("role", "infernet doctor", Role::Consumer.as_str());
    let mut config = context.config(&flags)?.config;
    (config.gateway.listen, config.metrics) = (None, None);
    let home = context.home.lock()?;
    let bar = context.out.spinner();
    runtime::executor()?.block_on(async {
        let tasks = Tasks::new();
        bar.set_message("starting a node for a look");
        let looked = async {
            let launched = launch_for(Purpose::Look, &home, &config, &tasks).await?;
            bar.set_message("asking others how they see this node");
            settle(&launched.node).await?;
            let facts = doctor::facts(&launched.node, &home).await?;
            launched.node.stop().await;
            Ok::<_, LaunchError>(doctor::to_json(&facts))
        };
        let looked = tokio::select! {
            looked = looked => looked.map(Some).map_err(Failure::from),
            signal = runtime::signal() => signal.map(|_| None).map_err(Failure::from),
        };
        tasks.drain(SETTLED).await;
        bar.finish_and_clear();
        looked
    })
}

/// Waits until no more will become known.
async fn settle(node: &crate::node::Node) -> std::result::Result<(), infernet_swarm::Closed> {
    let began = Instant::now();
    let (mut known, mut since) = (None, began);
    while began.elapsed() < LOOK {
        let situation = node.situation().await?;
        let now = summary(&situation);
        if known.as_ref() != Some(&now) {
            (known, since) = (Some(now), Instant::now());
        }
        let is_told = situation.filtering != Filtering::Unknown
            && (situation.tcp != Mapping::Unknown || situation.quic != Mapping::Unknown);
        let has_ended = match situation.peers {
            0 => began.elapsed() > ALONE,
            _ if situation.outbound_only => situation.reached.relays > 0 || since.elapsed() > SETTLED,
            // A place on a relay is looked for once it is clear that it is needed.
            _ if is_told && (situation.reached.directly || situation.reached.relays > 0) => {
                since.elapsed() > LOOK_EVERY * 4
            }
            _ => {
                (situation.seen_at.is_empty() || situation.filtering != Filtering::Unknown) && since.elapsed() > SETTLED
            }
        };
        if has_ended {
            break;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// What may still change.
fn summary(situation: &Situation) -> (usize, Reached, Mapping, Mapping, Filtering, usize) {
    let Situation {
        peers,
        reached,
        tcp,
        quic,
        filtering,
        external,
        ..
    } = situation;
    (*peers, *reached, *tcp, *quic, *filtering, external.len())
}

fn show(diagnosis: &Value, out: &Out) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let width = findings(diagnosis)
        .map(|finding| text(&finding["about"]).len())
        .max()
        .unwrap_or_default();
    for finding in findings(diagnosis) {
        let (mark, style) = match finding["state"].as_str() {
            Some("well") => ("✓", Style::Green),
            Some("note") => ("·", Style::Yellow),
            _ => ("✗", Style::Red),
        };
        let about = format!("{:width$}", text(&finding["about"]));
        out.line(format_args!(
            "{} {}  {}",
            out.paint(style, mark),
            out.paint(Style::Bold, &about),
            text(&finding["found"])
        ));
        let indent = " ".repeat(width + 4);
        if let Some(cause) = finding["cause"].as_str() {
            out.line(format_args!(
                "{indent}{}",
                out.paint(Style::Dim, &format!("since {cause}"))
            ));
        }
        if let Some(cure) = finding["cure"].as_str() {
            out.line(format_args!("{indent}{} {cure}", out.paint(Style::Cyan, "→")));
        }
    }
}

//! `crawl`: walks the DHT and writes a row for each peer as it is found.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use infernet_protocol::Network;
use infernet_study::crawl::{self, Reachable, Row};
use infernet_study::place::Place;
use infernet_study::record::Peer;
use infernet_swarm::{Found, Multiaddr, Reachability};
use tokio::sync::mpsc;

/// Rows that wait to be written.
const WAITING: usize = 64;
/// Whoever may be named in a crawl is its owner's business until it is published.
const FILE_MODE: u32 = 0o600;

/// Where to walk, and what to write.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Address of a node to begin at
    #[arg(value_name = "MULTIADDR", required = true)]
    from: Vec<Multiaddr>,

    /// Network to walk
    #[arg(long, value_name = "NAME", default_value = "main", env = "INFERNET_NETWORK")]
    network: Network,

    /// Where to write the rows, one JSON object in a line, each as it is found
    #[arg(long, value_name = "FILE", default_value = "crawl.jsonl")]
    out: PathBuf,

    /// Where to write them as CSV as well, at the end
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,

    /// Say what was found as JSON
    #[arg(long)]
    json: bool,
}

/// Walks.
pub(crate) fn run(arguments: &Arguments, out: &mut impl Write) -> Result<()> {
    let mut file = create(&arguments.out)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let rows = runtime.block_on(walk(arguments, &mut file))?;
    if let Some(path) = &arguments.csv {
        crawl::write_csv(&rows, create(path)?).with_context(|| cannot_write(path))?;
    }
    let reached = rows.iter().filter(|row| row.reachable == Reachable::Yes).count();
    let path = arguments.out.display();
    if rows.is_empty() || reached == 0 {
        bail!("nobody was reached; see `{path}` for the reasons, and begin at an address that answers");
    }
    if arguments.json {
        let told = serde_json::json!({
            "event": "crawl", "file": arguments.out, "csv": arguments.csv, "peers": rows.len(), "reached": reached,
        });
        writeln!(out, "{told}")?;
    } else {
        writeln!(
            out,
            "{} peers, {reached} reached: {path}\ndraw it with `infernet-bootstrap report --crawl {path}`",
            rows.len()
        )?;
    }
    Ok(())
}

fn cannot_write(path: &Path) -> String {
    format!("cannot write `{}`; name another file", path.display())
}

fn create(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(FILE_MODE);
    options.open(path).with_context(|| cannot_write(path))
}

async fn walk(arguments: &Arguments, file: &mut File) -> Result<Vec<Row>> {
    let bar = ProgressBar::new(0).with_style(ProgressStyle::with_template(
        "{bar:30} {pos} of {len} peers known so far, {elapsed}",
    )?);
    bar.enable_steady_tick(Duration::from_millis(200));
    let (sender, mut found) = mpsc::channel(WAITING);
    let walking = infernet_swarm::crawl(arguments.network.as_str(), &arguments.from, sender);
    tokio::pin!(walking);
    let mut rows = Vec::new();
    let mut walked = None;
    loop {
        tokio::select! {
            biased;
            one = found.recv() => match one {
                Some(one) => {
                    bar.set_length(one.known as u64);
                    bar.inc(1);
                    let Some(row) = row(&one) else { continue };
                    crawl::write_jsonl(std::slice::from_ref(&row), &mut *file)
                        .with_context(|| cannot_write(&arguments.out))?;
                    rows.push(row);
                }
                None => break,
            },
            ended = &mut walking, if walked.is_none() => walked = Some(ended),
            _ = tokio::signal::ctrl_c() => {
                tracing::warn!("stopped early: what was found so far is kept");
                break;
            }
        }
    }
    bar.finish_and_clear();
    walked.transpose()?;
    Ok(rows)
}

fn row(found: &Found) -> Option<Row> {
    let millis = |at: SystemTime| at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let millis = |at: SystemTime| u64::try_from(millis(at)).unwrap_or_default();
    let mut addresses = BTreeMap::new();
    for place in found
        .addresses
        .iter()
        .filter_map(|address| Place::of(&address.to_string()))
    {
        *addresses.entry(place).or_default() += 1;
    }
    let (reachable, reason) = match &found.reached {
        Reachability::Direct => (Reachable::Yes, None),
        Reachability::Relayed => (Reachable::Relayed, None),
        Reachability::Unreached(why) => (Reachable::No, Some(in_a_word(why).to_owned())),
    };
    Some(Row {
        peer: Peer::new(&found.peer.to_bytes())?,
        agent: found.agent.clone(),
        protocols: found.protocols.clone(),
        addresses,
        reachable,
        reason,
        round_trip_ms: found
            .round_trip
            .map(|trip| u32::try_from(trip.as_millis()).unwrap_or(u32::MAX)),
        asked: found.asked,
        answered: found.answered,
        neighbours: found
            .neighbours
            .iter()
            .filter_map(|peer| Peer::new(&peer.to_bytes()))
            .collect(),
        first_seen: millis(found.first_seen),
        last_seen: millis(found.last_seen),
    })
}

/// Why a peer was not reached, without where it was looked for.
fn in_a_word(why: &str) -> &'static str {
    let why = why.to_lowercase();
    let known = [
        ("refused", "connection refused"),
        ("no address", "no address"),
        ("in time", "no answer in time"),
        ("timeout", "no answer in time"),
        ("timed out", "no answer in time"),
        ("unreachable", "network unreachable"),
        ("peer id", "another peer answers"),
        ("denied", "denied"),
    ];
    let told = known.iter().find(|(sign, _)| why.contains(sign));
    told.map_or("not reached", |(_, told)| told)
}

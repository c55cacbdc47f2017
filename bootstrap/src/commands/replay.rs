//! `replay`: the gossip of recordings again.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use infernet_study::record::Verdict;
use infernet_study::recording::Reader;
use infernet_study::replay::{Judged, judge};
use serde_json::{Map, Value, json};

/// What is replayed, and to whom.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Recordings: files, or directories of them
    #[arg(value_name = "RECORDING", required = true)]
    recordings: Vec<PathBuf>,

    /// Judge each message anew, offline, and compare the verdicts with the recorded ones
    #[arg(long, required = true)]
    judge: bool,

    /// Say what came of it as JSON
    #[arg(long)]
    json: bool,
}

/// Judges recorded gossip anew.
pub(crate) fn run(arguments: &Arguments, out: &mut impl Write) -> Result<()> {
    let mut reader = Reader::open(&arguments.recordings)?;
    let judged = judge(&mut reader)?;
    super::warn(&reader);
    if arguments.json {
        writeln!(out, "{}", as_json(&judged))?;
        return Ok(());
    }
    writeln!(out, "{:<17} {:>10} {:>12}", "", "recorded", "judged anew")?;
    for verdict in Verdict::ALL {
        let (recorded, now) = (judged.recorded(*verdict), judged.now(*verdict));
        writeln!(out, "{:<17} {recorded:>10} {now:>12}", verdict.as_str())?;
    }
    let (alike, all) = (judged.alike(), judged.messages());
    writeln!(out, "{alike} of {all} messages are judged as they were")?;
    for ((recorded, now), count) in judged.verdicts.iter().filter(|((recorded, now), _)| recorded != now) {
        writeln!(out, "{count} were {recorded} and are {now} now")?;
    }
    for (why, count) in &judged.ignored {
        writeln!(out, "{count} are ignored as {why}")?;
    }
    Ok(())
}

fn as_json(judged: &Judged) -> Value {
    let of = |count: &dyn Fn(Verdict) -> u64| -> Map<String, Value> {
        Verdict::ALL
            .iter()
            .map(|verdict| (verdict.to_string(), count(*verdict).into()))
            .collect()
    };
    let changed = judged.verdicts.iter().filter(|((recorded, now), _)| recorded != now);
    let changed: Vec<Value> = changed
        .map(|((recorded, now), count)| json!({ "recorded": recorded.as_str(), "now": now.as_str(), "count": count }))
        .collect();
    let by_kind: Vec<Value> = judged
        .sorts
        .iter()
        .map(|((sort, now), count)| json!({ "message": sort.as_str(), "now": now.as_str(), "count": count }))
        .collect();
    json!({
        "event": "judged", "messages": judged.messages(), "alike": judged.alike(), "starts": judged.starts,
        "recorded": of(&|verdict| judged.recorded(verdict)), "now": of(&|verdict| judged.now(verdict)),
        "changed": changed, "ignored": judged.ignored, "by_kind": by_kind,
    })
}

//! `replay`: the gossip of recordings again: judged anew, or told as it came.

use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::Result;
use clap::Args;
use infernet_protocol::NodeId;
use infernet_study::contents::{Content, Sort, messages};
use infernet_study::record::Verdict;
use infernet_study::recording::Reader;
use infernet_study::replay::{Due, Judged, Pace, Replay, judge};
use infernet_study::stamp;
use serde_json::{Map, Value, json};

/// Models of an ad that are named.
const MODELS_NAMED: usize = 3;

/// What is replayed, and how.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Recordings: files, or directories of them
    #[arg(value_name = "RECORDING", required = true)]
    recordings: Vec<PathBuf>,

    /// Judge each message anew, offline, and compare the verdicts with the recorded ones
    #[arg(long, conflicts_with = "speed")]
    judge: bool,

    /// How fast time passes, where messages are told as they came: `1` as it did, `10` ten times as fast, `max` without pauses
    #[arg(long, value_name = "TIMES", default_value = "1")]
    speed: Speed,

    /// Say what came of it as JSON, or each message as a line of JSON with its bytes in hex
    #[arg(long)]
    json: bool,
}

/// How fast recorded time passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Speed(Pace);

impl FromStr for Speed {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "use `max`, or a number from 0.001 to 1000000";
        if text == "max" {
            return Ok(Self(Pace::AtOnce));
        }
        let times: f64 = text.parse().map_err(|_| WRONG)?;
        if !(0.001..=1_000_000.0).contains(&times) {
            return Err(WRONG);
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it was bounded above"
        )]
        let thousandths = (times * 1000.0).round() as u32;
        Ok(Self(Pace::Thousandths(thousandths)))
    }
}

/// Goes through recorded gossip again.
pub(crate) fn run(arguments: &Arguments, out: &mut impl Write) -> Result<()> {
    let reader = Reader::open(&arguments.recordings)?;
    if arguments.judge {
        return judged(reader, arguments, out);
    }
    let mut replay = Replay::new(reader, arguments.speed.0);
    for due in replay.by_ref() {
        let due = due?;
        std::thread::sleep(due.delay);
        let line = match arguments.json {
            true => line_of_json(&due).to_string(),
            false => line(&due),
        };
        match writeln!(out, "{line}").and_then(|()| out.flush()) {
            // Whoever listened has heard enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            written => written?,
        }
    }
    super::warn(replay.reader());
    Ok(())
}

/// A message for people.
fn line(due: &Due) -> String {
    let messages = messages(&due.data);
    let signer = messages
        .first()
        .map_or("-".to_owned(), |message| short(&message.signer));
    let said = messages.first().and_then(Content::of).map(|content| said(&content));
    let (at, verdict, sort) = (stamp::long(due.at), due.verdict.as_str(), Sort::of(&messages).as_str());
    format!(
        "{at}  {verdict:<12} {sort:<16} {signer:<14} {}",
        said.unwrap_or_default()
    )
    .trim_end()
    .to_owned()
}

fn short(node: &NodeId) -> String {
    let name = node.npub();
    format!("{}…{}", &name[..8], &name[name.len() - 4..])
}

/// What a message is about, in a few words.
fn said(content: &Content) -> String {
    match content {
        Content::Ad(ad) if ad.models.is_empty() => "withdraws".to_owned(),
        Content::Ad(ad) => {
            let named: Vec<&str> = ad
                .models
                .iter()
                .take(MODELS_NAMED)
                .map(|model| model.id.as_str())
                .collect();
            let more = match ad.models.len().saturating_sub(MODELS_NAMED) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            format!("{}{more}, {} slots", named.join(", "), ad.slots)
        }
        Content::Offer(offer) => offer.requirement.model.to_string(),
        Content::Bid(bid) => format!("{} ms to the first token", bid.ttft.0),
        Content::Accept(accept) => format!("to {}", short(&accept.winner)),
        Content::Receipt(receipt) => format!("{} requests, {}", receipt.total.requests, receipt.total.amount),
        Content::Countersign(_) => String::new(),
    }
}

/// A message for programs.
fn line_of_json(due: &Due) -> Value {
    let messages = messages(&due.data);
    let bytes: String = due.data.iter().map(|byte| format!("{byte:02x}")).collect();
    json!({
        "at": due.at.0,
        "topic": due.topic,
        "verdict": due.verdict.as_str(),
        "message": Sort::of(&messages).as_str(),
        "signer": messages.first().map(|message| message.signer.npub()),
        "bytes": bytes,
    })
}

/// Judges recorded gossip anew.
fn judged(mut reader: Reader, arguments: &Arguments, out: &mut impl Write) -> Result<()> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_speed_is_a_number_or_none_at_all() {
        for (text, pace) in [
            ("1", Pace::Thousandths(1000)),
            ("0.5", Pace::Thousandths(500)),
            ("250", Pace::Thousandths(250_000)),
            ("max", Pace::AtOnce),
        ] {
            assert_eq!(text.parse::<Speed>().unwrap(), Speed(pace));
        }
        for text in ["0", "-1", "fast", "NaN", "1e9"] {
            assert!(text.parse::<Speed>().is_err(), "{text}");
        }
    }
}

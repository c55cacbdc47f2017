//! `infernet peers`: who the running node is connected to, and how they behave; and how values of the node read to people.

use serde_json::{Value, json};

use super::{Context, Result};
use crate::cli::{PeersArgs, PeersCommand};
use crate::ipc;
use crate::out::{Exit, Out, Style};

/// What is told of a connected peer, and of a bound.
const PEER_COLUMNS: [&str; 6] = ["peer_id", "agent", "relayed", "direction", "round_trip_ms", "addresses"];
const LIMIT_COLUMNS: [&str; 5] = ["limit", "value", "at_once", "of", "hits"];

pub(super) fn peers(args: &PeersArgs, context: &Context) -> Result {
    match &args.command {
        None => connected(context),
        Some(PeersCommand::Why { peer }) => why(peer, context),
        Some(PeersCommand::Limits) => limits(context),
    }
}

/// The bounds that are kept against peers.
fn limits(context: &Context) -> Result {
    let answer = ipc::call(&context.home, "limits", Value::Null)?;
    match answer.as_array() {
        Some(list) if !context.out.is_json() => columns(list, &LIMIT_COLUMNS, &context.out),
        _ => context.out.json(&answer),
    }
    Ok(Exit::Done)
}

/// What one peer has done.
fn why(peer: &str, context: &Context) -> Result {
    let answer = ipc::call(&context.home, "why", json!({ "peer": peer }))?;
    let out = &context.out;
    if out.is_json() {
        out.json(&answer);
        return Ok(Exit::Done);
    }
    out.fields(&[
        ("peer", answer["peer_id"].as_str().unwrap_or_default().to_owned()),
        ("connected", cell("", &answer["connected"])),
        ("verdict", verdict(&answer)),
        (
            "points",
            format!("{} of {}", cell("", &answer["points"]), cell("", &answer["banned_at"])),
        ),
        ("bans", cell("", &answer["bans"])),
        ("gossip score", gossip_score(&answer)),
    ]);
    match answer["offences"].as_array() {
        Some(offences) if !offences.is_empty() => {
            let rows: Vec<Vec<String>> = offences
                .iter()
                .map(|offence| {
                    let last = offence["last_s"].as_u64().unwrap_or_default();
                    vec![
                        cell("", &offence["what"]),
                        cell("", &offence["times"]),
                        format!("{} ago", span(last)),
                    ]
                })
                .collect();
            out.line("");
            out.table(&["what it did", "times", "last"], &rows);
        }
        _ => out.note(out.paint(Style::Dim, "nothing is held against it")),
    }
    Ok(Exit::Done)
}

/// What becomes of a peer.
fn verdict(answer: &Value) -> String {
    let score = answer["gossip_score"].as_f64().unwrap_or_default();
    let below = |index: usize| {
        answer["gossip_thresholds"][index]
            .as_f64()
            .is_some_and(|threshold| score < threshold)
    };
    match answer["banned_for_s"].as_u64() {
        _ if answer["blocked"] == true => "kept out by this node itself".to_owned(),
        Some(left) => format!("kept out for another {}", span(left)),
        None if below(2) => "connected, and its gossip is not listened to".to_owned(),
        None if below(1) => "connected, and nothing is published to it".to_owned(),
        None if below(0) => "connected, and not gossiped with".to_owned(),
        None => "in good standing".to_owned(),
    }
}

fn gossip_score(answer: &Value) -> String {
    match answer["gossip_score"].as_f64() {
        Some(score) => format!("{score} (not listened to below {})", answer["gossip_thresholds"][2]),
        None => "none yet".to_owned(),
    }
}

/// Who is connected.
fn connected(context: &Context) -> Result {
    let answer = ipc::call(&context.home, "peers", Value::Null)?;
    let out = &context.out;
    let nothing = "connected to nobody yet: see `bootstrap` in `infernet config show`";
    match answer.as_array() {
        _ if out.is_json() => out.json(&answer),
        Some(list) if list.is_empty() => out.note(out.paint(Style::Dim, nothing)),
        Some(list) => columns(list, &PEER_COLUMNS, out),
        None => out.json(&answer),
    }
    Ok(Exit::Done)
}

/// Prints these members of objects as a table.
fn columns(list: &[Value], names: &[&str], out: &Out) {
    let header: Vec<String> = names.iter().map(|name| heading(name)).collect();
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let rows: Vec<Vec<String>> = list
        .iter()
        .map(|row| {
            let cells = names.iter().map(|name| cell(name, &row[*name]));
            cells
                .map(|cell| if cell.is_empty() { "-".to_owned() } else { cell })
                .collect()
        })
        .collect();
    out.table(&header, &rows);
}

/// A member's name for people; units stand with the values.
pub(super) fn heading(name: &str) -> String {
    let name = ["_microusd_per_mtok", "_microusd", "_ms", "_s"]
        .iter()
        .find_map(|unit| name.strip_suffix(unit))
        .unwrap_or(name);
    name.replace('_', " ")
}

/// A member's value for people.
pub(super) fn cell(name: &str, value: &Value) -> String {
    use infernet_protocol::MicroUsd;
    match (value, value.as_u64()) {
        (Value::Null, _) => String::new(),
        (Value::Bool(yes), _) => if *yes { "yes" } else { "no" }.to_owned(),
        (_, Some(price)) if name.ends_with("_microusd_per_mtok") => match price {
            0 => "free".to_owned(),
            price => format!("{}/M", MicroUsd(price)),
        },
        (_, Some(amount)) if name.ends_with("_microusd") => MicroUsd(amount).to_string(),
        (_, Some(time)) if name.ends_with("_ms") => format!("{time} ms"),
        (_, Some(time)) if name.ends_with("_s") => span(time),
        (Value::Array(items), _) => items.iter().map(|item| cell(name, item)).collect::<Vec<_>>().join(", "),
        (Value::String(text), _) => text.clone(),
        (other, _) => other.to_string(),
    }
}

/// Seconds for people.
fn span(seconds: u64) -> String {
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, seconds) => format!("{seconds} s"),
        (0, 0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (0, hours, minutes, _) => format!("{hours} h {minutes} min"),
        (days, hours, ..) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_read_well() {
        for (name, value, text) in [
            ("uptime_s", json!(3_700), "1 h 1 min"),
            ("uptime_s", json!(200_000), "2 d 7 h"),
            ("ttft_ms", json!(12), "12 ms"),
            ("price_input_microusd_per_mtok", json!(150_000), "$0.15/M"),
            ("price_input_microusd_per_mtok", json!(0), "free"),
            ("spent_microusd", json!(7), "$0.000007"),
            ("listen", json!(["/a", "/b"]), "/a, /b"),
            ("relayed", json!(false), "no"),
            ("gateway", json!(null), ""),
        ] {
            assert_eq!(cell(name, &value), text);
        }
        assert_eq!(heading("price_input_microusd_per_mtok"), "price input");
        assert_eq!(heading("peer_id"), "peer id");
    }
}

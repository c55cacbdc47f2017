//! `infernet receipts`: the ledger. The running node is asked where there is one; else the ledger is opened here.

mod verify;

use std::io::Write as _;

use serde_json::{Value, json};

use super::{Context, Result, network};
use crate::cli::{ReceiptsCommand, ReceiptsExportArgs, ReceiptsListArgs, ReceiptsShowArgs};
use crate::clock;
use crate::config::Overrides;
use crate::ipc::{self, CallError};
use crate::out::{Exit, Failure, Style};
use crate::runtime;
use crate::store::{self, Query, Store};

/// Hex digits of an id in a table: enough to name it again.
const ID_SHOWN: usize = 12;
/// Fewest hex digits that name something.
const ID_SHORTEST: usize = 4;

pub(super) fn run(command: &ReceiptsCommand, context: &Context) -> Result {
    match command {
        ReceiptsCommand::List(args) => list(args, context),
        ReceiptsCommand::Show(args) => show(args, context),
        ReceiptsCommand::Export(args) => export(args, context),
        ReceiptsCommand::Verify(args) => verify::run(args, context),
    }
}

/// Asks the node that runs, or the ledger itself where none does. A home without a ledger has nothing to say.
fn ask(method: &str, params: Value, context: &Context) -> Result<Value> {
    match ipc::call(&context.home, method, params.clone()) {
        Err(CallError::NotRunning(_)) => {}
        answer => return Ok(answer?),
    }
    let network = context.config(&Overrides::default())?.config.network;
    if !Store::exists(&context.home, &network) {
        return Ok(json!([]));
    }
    let home = context.home.lock()?;
    let (store, recovered) = Store::open(&home, &network)?;
    for repair in &recovered.repairs {
        context.out.note(format_args!("warning: {repair}"));
    }
    let answer = runtime::executor()?.block_on(async {
        match method {
            "receipts" => store::answer_receipts(&store, &params).await,
            _ => store::answer_export(&store, &params).await,
        }
    });
    answer.map_err(|why| Failure::new(Exit::Failed, why))
}

fn rows(query: &Query, context: &Context) -> Result<Vec<Value>> {
    match ask("receipts", query.to_json(), context)? {
        Value::Array(rows) => Ok(rows),
        _ => Err(Failure::new(
            Exit::Failed,
            "the node answered something unknown: restart it",
        )),
    }
}

fn list(args: &ReceiptsListArgs, context: &Context) -> Result {
    let side = args.role.as_deref().map(str::parse).transpose();
    let query = Query {
        limit: args.limit,
        side: side.map_err(|why: String| Failure::new(Exit::Usage, why))?,
        id: None,
    };
    let rows = rows(&query, context)?;
    if context.out.is_json() {
        context.out.json(&json!(rows));
    } else if rows.is_empty() {
        context.out.note(
            context
                .out
                .paint(Style::Dim, "no request yet: ask something with `infernet chat`"),
        );
    } else {
        table(&rows, context);
    }
    Ok(Exit::Done)
}

fn table(rows: &[Value], context: &Context) {
    let shown: Vec<Value> = rows
        .iter()
        .map(|row| {
            let id = |name: &str| {
                row[name]
                    .as_str()
                    .map(|id| id.chars().take(ID_SHOWN).collect::<String>())
            };
            // The beginning of a PeerId is the same in all of them.
            let peer = row["peer"]
                .as_str()
                .map(|peer| peer[peer.len().saturating_sub(ID_SHOWN)..].to_owned());
            let signed = match (row["countersigned"].as_bool(), row["dispute"].as_str()) {
                (_, Some(why)) => format!("disputed ({why})"),
                (Some(true), None) => "both".to_owned(),
                _ if row["receipt"].is_null() => String::new(),
                _ => "provider only".to_owned(),
            };
            json!([
                ["finished", row["finished_at"].as_u64().map(clock::utc)],
                ["request", id("request")],
                ["job", id("job")],
                ["role", row["role"]],
                ["peer", peer],
                ["model", row["model"]],
                ["status", row["status"]],
                ["in", row["input_tokens"]],
                ["out", row["output_tokens"]],
                ["ttft_ms", row["ttft_ms"]],
                ["cost_microusd", row["amount_microusd"]],
                ["signed", signed],
            ])
        })
        .collect();
    let names: Vec<String> = columns(&shown[0])
        .map(|column| network::heading(column[0].as_str().unwrap_or("")))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let cells: Vec<Vec<String>> = shown
        .iter()
        .map(|row| {
            columns(row)
                .map(|column| network::cell(column[0].as_str().unwrap_or(""), &column[1]))
                .collect()
        })
        .collect();
    context.out.table(&names, &cells);
}

fn columns(row: &Value) -> impl Iterator<Item = &Value> {
    row.as_array().into_iter().flatten()
}

/// An id that somebody typed.
fn id(text: &str) -> Result<String> {
    let text = text.trim().to_lowercase();
    if text.len() < ID_SHORTEST || !text.chars().all(|c| c.is_ascii_hexdigit()) {
        return Err(Failure::new(
            Exit::Usage,
            format_args!("`{text}` is no id: use at least {ID_SHORTEST} hex digits of one in `infernet receipts list`"),
        ));
    }
    Ok(text)
}

fn unknown(id: &str) -> Failure {
    Failure::new(
        Exit::Failed,
        format_args!("no job or request begins with `{id}`: see `infernet receipts list`"),
    )
}

fn show(args: &ReceiptsShowArgs, context: &Context) -> Result {
    let id = id(&args.id)?;
    let query = Query {
        id: Some(id.clone()),
        ..Query::default()
    };
    let rows = rows(&query, context)?;
    let out = &context.out;
    match &rows[..] {
        [] => return Err(unknown(&id)),
        rows if out.is_json() => out.json(&json!(rows)),
        [row] => {
            let members = row
                .as_object()
                .into_iter()
                .flatten()
                .filter(|(_, value)| !value.is_null());
            let fields: Vec<(String, String)> = members
                .map(|(name, value)| match (name.as_str(), value.as_u64()) {
                    ("finished_at", Some(at)) => ("finished".to_owned(), format!("{} UTC", clock::utc(at))),
                    _ => (network::heading(name), network::cell(name, value)),
                })
                .collect();
            let fields: Vec<(&str, String)> = fields
                .iter()
                .map(|(name, value)| (name.as_str(), value.clone()))
                .collect();
            out.fields(&fields);
        }
        rows => table(rows, context),
    }
    Ok(Exit::Done)
}

fn export(args: &ReceiptsExportArgs, context: &Context) -> Result {
    let id = id(&args.id)?;
    let answer = ask("export", json!({ "id": id }), context)?;
    let deals: Vec<&Value> = answer.as_array().into_iter().flatten().collect();
    let attempt = |deal: &Value| deal["attempt"].as_u64();
    let deal = match args.attempt {
        Some(wanted) => deals.iter().find(|deal| attempt(deal) == Some(wanted.into())),
        None => deals.iter().rev().find(|deal| deal["receipts"].as_u64() > Some(0)),
    };
    let Some(deal) = deal else {
        return Err(unknown(&id));
    };
    let bytes = deal["file"].as_str().and_then(|text| hex::decode(text).ok());
    let bytes = bytes.ok_or_else(|| Failure::new(Exit::Failed, "the node answered something unknown: restart it"))?;
    let cannot = |error| {
        Failure::new(
            Exit::Failed,
            format_args!("cannot write `{}`: {error}", args.file.display()),
        )
    };
    std::fs::File::create(&args.file)
        .and_then(|mut file| file.write_all(&bytes).and_then(|()| file.sync_all()))
        .map_err(cannot)?;
    if context.out.is_json() {
        let mut told = json!({ "file": args.file });
        for name in ["job", "attempt", "role", "receipts", "countersigned"] {
            told[name] = deal[name].clone();
        }
        context.out.json(&told);
    } else {
        context.out.note(format_args!(
            "wrote {} receipts ({} signed by both) to `{}`: check it anywhere with `infernet receipts verify {}`",
            deal["receipts"],
            deal["countersigned"],
            args.file.display(),
            args.file.display()
        ));
    }
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_dates() {
        for (millis, text) in [
            (0, "1970-01-01 00:00:00"),
            (951_782_399_999, "2000-02-28 23:59:59"),
            (951_782_400_000, "2000-02-29 00:00:00"),
            (1_700_000_000_000, "2023-11-14 22:13:20"),
            (4_107_542_400_000, "2100-03-01 00:00:00"),
        ] {
            assert_eq!(clock::utc(millis), text);
        }
    }

    #[test]
    fn ids_are_checked_before_anybody_is_asked() {
        assert_eq!(id(" 0A1b ").unwrap(), "0a1b");
        for wrong in ["", "0a", "xyzw", "../.."] {
            assert_eq!(id(wrong).unwrap_err().exit, Exit::Usage);
        }
    }
}

//! `infernet keys`: who may call this node's gateway, and for how much.

use infernet_protocol::MicroUsd;
use serde_json::{Value, json};

use super::{Context, Result};
use crate::cli::{KeysAddArgs, KeysCommand};
use crate::clock;
use crate::gateway::keys::{self, Grant, Key};
use crate::ipc::{self, CallError};
use crate::out::{Exit, Style};

pub(super) fn run(command: &KeysCommand, context: &Context) -> Result {
    match command {
        KeysCommand::Add(args) => add(args, context),
        KeysCommand::List => list(context),
        KeysCommand::Revoke(args) => revoke(&args.name, context),
    }
}

fn add(args: &KeysAddArgs, context: &Context) -> Result {
    context.home.ensure()?;
    let grant = Grant {
        budget_day: args.budget_day,
        requests_per_minute: args.rate,
    };
    let (key, text) = keys::add(&context.home.keys_file(), &args.name, grant)?;
    let out = &context.out;
    if out.is_json() {
        let mut told = as_json(&key);
        told["key"] = text.into();
        out.json(&told);
        return Ok(Exit::Done);
    }
    out.note("keep this key: it is shown once, and only its hash is stored");
    out.line(out.paint(Style::Cyan, &text));
    Ok(Exit::Done)
}

fn list(context: &Context) -> Result {
    let keys = keys::list(&context.home.keys_file())?;
    // Only the running node counts.
    let spent = match ipc::call(&context.home, "spent", Value::Null) {
        Err(CallError::NotRunning(_)) => None,
        spent => Some(spent?),
    };
    let spent = |key: &Key| {
        let by_key = &spent.as_ref()?["keys_day_microusd"];
        Some(MicroUsd(by_key[hex::encode(key.id)].as_u64().unwrap_or(0)))
    };
    if context.out.is_json() {
        let told = |key: &Key| {
            let mut told = as_json(key);
            told["spent_day_microusd"] = json!(spent(key).map(|amount| amount.0));
            told
        };
        context.out.json(&keys.iter().map(told).collect());
        return Ok(Exit::Done);
    }
    if keys.is_empty() {
        context.out.note("no keys yet; make one with `infernet keys add NAME`");
        return Ok(Exit::Done);
    }
    let rows: Vec<_> = keys.iter().map(|key| row(key, spent(key))).collect();
    let columns = [
        "name",
        "made",
        "budget per day",
        "spent in a day",
        "requests per minute",
    ];
    context.out.table(&columns, &rows);
    Ok(Exit::Done)
}

fn row(key: &Key, spent: Option<MicroUsd>) -> Vec<String> {
    let budget = key.budget_day_microusd.map(|amount| MicroUsd(amount).to_string());
    let rate = key.requests_per_minute.map(|rate| rate.to_string());
    vec![
        key.name.clone(),
        clock::utc(key.created_at),
        budget.unwrap_or_else(|| "-".to_owned()),
        spent.map_or_else(|| "-".to_owned(), |amount| amount.to_string()),
        rate.unwrap_or_else(|| "-".to_owned()),
    ]
}

fn revoke(name: &str, context: &Context) -> Result {
    let key = keys::revoke(&context.home.keys_file(), name)?;
    if context.out.is_json() {
        context.out.json(&as_json(&key));
    } else {
        context.out.line(format_args!("`{}` is revoked", key.name));
    }
    Ok(Exit::Done)
}

fn as_json(key: &Key) -> Value {
    json!({
        "name": key.name,
        "id": hex::encode(key.id),
        "created_at": key.created_at,
        "budget_day_microusd": key.budget_day_microusd,
        "requests_per_minute": key.requests_per_minute,
    })
}

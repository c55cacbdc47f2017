//! `infernet models`: what the network serves, as a table that a person can choose from.
//!
//! What the table holds and in which order is `listing`.

mod listing;

use std::time::{Duration, Instant};

use serde_json::Value;

pub(super) use self::listing::{Model, sort, table};
use super::{Context, Result};
use crate::cli::ModelsArgs;
use crate::ipc;
use crate::out::{Exit, Failure, terminal_width};

/// A node that has just started hears its first ads within this, or there is nobody near.
const HEAR_WITHIN: Duration = Duration::from_secs(3);
/// How often the node is asked in the meantime: its socket answers, and does not call back.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// Nobody serves anything, and what a person can do about it.
pub(super) const NOBODY: &str = "nobody on the network serves a model yet: see who is connected with `infernet peers`, and name a \
                          node to join through with `--bootstrap` (ads of a new network come within half a minute)";

pub(super) fn run(args: &ModelsArgs, context: &Context) -> Result {
    let out = &context.out;
    let known = known(context)?;
    if known.is_empty() {
        if out.is_json() {
            out.json(&Value::Array(Vec::new()));
        }
        return Err(Failure::new(Exit::Unreachable, NOBODY));
    }
    let mut models: Vec<Model> = known.iter().filter_map(Model::read).collect();
    models.retain(|model| {
        let found = args.search.as_deref().is_none_or(|word| model.matches(word));
        found && (!args.free || model.price.is_free())
    });
    sort(&mut models, args.sort);
    if out.is_json() {
        out.json(&models.iter().map(|model| model.json.clone()).collect());
        return Ok(Exit::Done);
    }
    if models.is_empty() {
        let hidden = known.len();
        out.note(format_args!(
            "{hidden} served, and none is like that: leave `--search` or `--free` out to see them"
        ));
        return Ok(Exit::Done);
    }
    let (columns, rows) = table(&models, None);
    out.table_within(&columns, &rows, terminal_width());
    Ok(Exit::Done)
}

/// What the running node knows, once it knows something or had time to.
fn known(context: &Context) -> Result<Vec<Value>> {
    let until = Instant::now() + HEAR_WITHIN;
    loop {
        let answer = ipc::call(&context.home, "models", Value::Null)?;
        let Value::Array(models) = answer else {
            return Err(Failure::new(
                Exit::Failed,
                "the node answered something unknown: restart it",
            ));
        };
        if !models.is_empty() || Instant::now() >= until {
            return Ok(models);
        }
        std::thread::sleep(ASK_EVERY);
    }
}

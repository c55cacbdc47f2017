//! One question and its answer: text for people and pipes, or each chunk as a line of JSON.

use std::io::{IsTerminal as _, Read as _};

use infernet_protocol::names::BODY_BYTES;
use serde_json::json;

use super::connection::Connection;
use super::wishes::Wishes;
use crate::cli::ChatArgs;
use crate::commands::{Context, Result};
use crate::config::Config;
use crate::out::{Exit, Failure, plain};
use crate::runtime::{Signals, Tasks};

pub(super) async fn run(args: &ChatArgs, config: Config, context: &Context, tasks: &Tasks) -> Result {
    let question = question(args, context)?;
    let mut signals = Signals::new()?;
    let connection = tokio::select! {
        opened = Connection::open(args, config, context, tasks) => opened?,
        _ = signals.next() => return Ok(Exit::Interrupted),
    };
    let ended = tokio::select! {
        ended = answer(&question, &connection, args, context) => ended,
        _ = signals.next() => Ok(Exit::Interrupted),
    };
    if !context.out.is_json() {
        context.out.line("");
    }
    connection.leave().await;
    ended
}

/// What is asked: the argument, and behind it what comes on stdin where that is no terminal.
fn question(args: &ChatArgs, context: &Context) -> Result<String> {
    let stdin = std::io::stdin();
    let given = match (&args.prompt, stdin.is_terminal()) {
        (Some(prompt), true) => return Ok(prompt.clone()),
        (None, true) => {
            context
                .out
                .note("type the question; Ctrl-D on a line of its own ends it");
            read()?
        }
        (_, false) => read()?,
    };
    let question = match (&args.prompt, given.trim()) {
        (Some(prompt), "") => prompt.clone(),
        (Some(prompt), given) => format!("{prompt}\n\n{given}"),
        (None, given) => given.to_owned(),
    };
    match question.trim() {
        "" => Err(Failure::new(
            Exit::Usage,
            "there is no question: give one as an argument or on stdin",
        )),
        _ => Ok(question),
    }
}

fn read() -> Result<String> {
    let mut text = String::new();
    let read = std::io::stdin().take(BODY_BYTES + 1).read_to_string(&mut text)?;
    if read as u64 > BODY_BYTES {
        let why = format!("stdin holds more than one request can ({BODY_BYTES} bytes): ask about a part of it");
        return Err(Failure::new(Exit::Usage, why));
    }
    Ok(text)
}

async fn answer(question: &str, connection: &Connection, args: &ChatArgs, context: &Context) -> Result {
    let out = &context.out;
    let model = match &args.model {
        Some(model) => model.clone(),
        None => connection.first_model().await?,
    };
    let system = args
        .system
        .iter()
        .map(|text| json!({ "role": "system", "content": text }));
    let messages: Vec<_> = system.chain([json!({ "role": "user", "content": question })]).collect();
    let body = Wishes::new(args, model).body(&messages, None);
    let mut answer = connection.ask(&body).await?;
    while let Some(chunk) = answer.next().await? {
        if out.is_json() {
            out.json(&chunk.0);
        } else if let Some(text) = chunk.text() {
            match out.is_terminal() {
                true => out.piece(&plain(text)),
                false => out.piece(text),
            }
        }
    }
    Ok(Exit::Done)
}

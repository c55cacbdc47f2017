//! `infernet chat`: one question from the command line or stdin, or a session on a terminal. It talks to the gateway of
//! the node that runs here; where none runs, it joins the network by itself for as long as it takes.
//!
//! ```text
//!   session   reads (editor, history, orders), asks, shows (showing), adds up (cost), remembers (conversation)
//!   once      one question, one answer, for people, pipes and programs
//!      both: wishes -> the request;  connection -> the gateway;  answer -> its chunks
//! ```

mod answer;
mod connection;
mod conversation;
mod cost;
mod editor;
mod history;
mod once;
mod orders;
mod session;
mod showing;
mod terminal;
mod wishes;

use std::io::IsTerminal as _;
use std::time::Duration;

use super::{Context, Result};
use crate::cli::ChatArgs;
use crate::runtime::{self, Tasks};

/// A node that joined for this gets so long to end.
const DRAIN: Duration = Duration::from_secs(3);

/// Terminals on which no line can be edited.
const DUMB: [&str; 3] = ["dumb", "cons25", "emacs"];

pub(super) fn run(args: &ChatArgs, context: &Context) -> Result {
    let is_session =
        args.prompt.is_none() && std::io::stdin().is_terminal() && context.out.is_terminal() && !is_dumb(context);
    // Warnings of a node that only joined for this would stand in the middle of a conversation.
    super::foreground::log(if is_session { "error" } else { "warn" }, context)?;
    let config = context.config(&args.overrides())?.config;
    runtime::executor()?.block_on(async {
        let tasks = Tasks::new();
        let ended = if is_session {
            session::run(args, config, context, &tasks).await
        } else {
            once::run(args, config, context, &tasks).await
        };
        tasks.drain(DRAIN).await;
        ended
    })
}

fn is_dumb(context: &Context) -> bool {
    let terminal = context.environment.get("TERM");
    terminal.is_some_and(|name| DUMB.contains(&name))
}

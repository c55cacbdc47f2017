//! A conversation on a terminal: questions and orders, line by line, until somebody leaves.

mod obey;

use std::collections::VecDeque;
use std::time::Duration;

use infernet_protocol::{ModelId, NodeId};

use super::connection::Connection;
use super::conversation::{Answered, Asked, Conversation};
use super::cost::Costs;
use super::editor::{Editor, Typed};
use super::history::History;
use super::orders::{self, Input, Names};
use super::showing::{Showing, Waiting, columns};
use super::terminal::Terminal;
use super::wishes::Wishes;
use crate::cli::ChatArgs;
use crate::commands::models::Model;
use crate::commands::{Context, Result};
use crate::config::Config;
use crate::out::{Exit, Out, Style, wrapped};
use crate::runtime::{Signal, Signals, Tasks};
use crate::similar::similar;

/// Providers that are remembered to be named again.
const PROVIDERS: usize = 64;
/// How long who leaves waits for the receipts of answers that were cut.
const SETTLE_WITHIN: Duration = Duration::from_secs(1);
/// How often the ledger is asked in the meantime.
const ASK_EVERY: Duration = Duration::from_millis(50);

pub(super) async fn run(args: &ChatArgs, config: Config, context: &Context, tasks: &Tasks) -> Result {
    // Before the editor is: it puts its own in the place of a handler, and back.
    let mut signals = Signals::new()?;
    let terminal = Terminal::hushed()?;
    let history = History::new(&context.home, config.chat.history);
    let editor = Editor::start(history.entries()?, context.out)?;
    let opening = Waiting::new("joining the network");
    let connection = tokio::select! {
        opened = Connection::open(args, config, context, tasks) => opened?,
        _ = signals.next() => return Ok(Exit::Interrupted),
    };
    let models = tokio::select! {
        models = connection.some_models() => models,
        _ = signals.next() => return Ok(Exit::Interrupted),
    };
    drop(opening);
    let ended = match models {
        Ok(models) => {
            let model = args
                .model
                .clone()
                .unwrap_or_else(|| Model::first_to_chat(&models).id.clone());
            let mut session = Session {
                out: context.out,
                user_home: context.environment.get("HOME").map(str::to_owned),
                wishes: Wishes::new(args, model),
                talk: Conversation::new(args.system.clone()),
                connection: &connection,
                editor,
                history,
                terminal,
                signals,
                models,
                costs: Costs::default(),
                answered: VecDeque::new(),
                tried: None,
            };
            let ended = session.converse().await;
            session.say_goodbye().await;
            ended
        }
        Err(failure) => Err(failure),
    };
    connection.leave().await;
    ended
}

struct Session<'a> {
    out: Out,
    user_home: Option<String>,
    wishes: Wishes,
    talk: Conversation,
    connection: &'a Connection,
    editor: Editor,
    history: History,
    terminal: Terminal,
    signals: Signals,
    /// What was served when it was last looked.
    models: Vec<Model>,
    costs: Costs,
    /// Who has answered, the latest last.
    answered: VecDeque<NodeId>,
    /// Who the last question went to.
    tried: Option<NodeId>,
}

impl Session<'_> {
    async fn converse(&mut self) -> Result {
        self.greet();
        let mut leaving = false;
        loop {
            match self.typed().await {
                None => return Ok(Exit::Interrupted),
                Some(Typed::End) => return Ok(Exit::Done),
                Some(Typed::Cancelled { empty: true }) if leaving => return Ok(Exit::Interrupted),
                Some(Typed::Cancelled { .. }) => {
                    leaving = true;
                    self.aside("Ctrl-C again leaves, as does Ctrl-D");
                }
                Some(Typed::Line(line)) => {
                    leaving = false;
                    if let Some(exit) = self.take(&line).await? {
                        return Ok(exit);
                    }
                }
            }
        }
    }

    /// The next line; `None` where the process is asked to end.
    async fn typed(&mut self) -> Option<Typed> {
        let names = Names {
            models: self.models.iter().map(|model| model.id.clone()).collect(),
            providers: self.answered.iter().map(NodeId::peer_id).collect(),
        };
        let mut line = std::pin::pin!(self.editor.read(names));
        loop {
            tokio::select! {
                line = &mut line => return Some(line),
                signal = self.signals.next() => match signal {
                    // One for an answer that was over by then.
                    Signal::Interrupt => {}
                    Signal::Terminate => {
                        self.terminal.reclaim(&self.out);
                        return None;
                    }
                },
            }
        }
    }

    fn greet(&self) {
        let model = &self.wishes.model;
        match self.served(model) {
            Some(served) => self.aside(&format!("{model} · {}", served.in_short())),
            None => self.out.note(self.nobody_serves(model)),
        }
        self.aside("/help lists the orders; Ctrl-C stops an answer, Ctrl-D leaves");
    }

    /// Does what was typed; an exit code where that ends the session.
    async fn take(&mut self, line: &str) -> Result<Option<Exit>> {
        if !line.trim().is_empty()
            && let Err(error) = self.history.keep(line)
        {
            self.out.note(format_args!("warning: {error}"));
        }
        match orders::read(line) {
            Ok(Input::Nothing) => Ok(None),
            Ok(Input::Question(question)) => {
                let asked = self.talk.ask(question);
                Ok(self.ask(asked, None).await)
            }
            Ok(Input::Order(order)) => self.obey(order).await,
            Err(wrong) => {
                self.out.error(wrong);
                Ok(None)
            }
        }
    }

    /// Asks, shows the answer as it comes, and remembers it; an exit code where the process is asked to end meanwhile.
    async fn ask(&mut self, asked: Asked, ignored: Option<NodeId>) -> Option<Exit> {
        let body = self.wishes.body(&asked.messages, ignored);
        let mut showing = Showing::new(self.out, "auctioning, then waiting for a first token");
        let ended = tokio::select! {
            ended = showing.receive(self.connection, &body) => Ok(ended),
            signal = self.signals.next() => Err(signal),
        };
        let (word, failure) = match &ended {
            Ok(Ok(())) if showing.at_limit => ("at its length limit (`--max-tokens`)", None),
            Ok(Ok(())) => ("", None),
            Ok(Err(failure)) if showing.text.is_empty() => ("no answer", Some(failure)),
            Ok(Err(failure)) => ("broken off", Some(failure)),
            Err(_) if showing.text.is_empty() => ("stopped", None),
            Err(_) => ("cut", None),
        };
        showing.end(word);
        match failure {
            Some(failure) if ignored.is_some() && failure.exit == Exit::Unreachable => {
                let model = &self.wishes.model;
                self.out.error(format_args!(
                    "no other provider of `{model}` is free: ask anew to let the last one answer"
                ));
            }
            Some(failure) => self.out.error(&failure.message),
            None => {}
        }
        self.remember(asked, showing, !matches!(ended, Ok(Ok(()))));
        self.out.line("");
        matches!(ended, Err(Signal::Terminate)).then_some(Exit::Interrupted)
    }

    fn remember(&mut self, asked: Asked, showing: Showing, cut: bool) {
        let provider = showing
            .provider
            .as_deref()
            .and_then(|peer| NodeId::from_peer_id(peer).ok());
        self.tried = provider;
        if showing.request.is_some() {
            self.costs.add(showing.request, showing.usage);
        }
        if showing.text.is_empty() {
            return self.talk.failed(asked);
        }
        if let Some(provider) = provider {
            self.answered.retain(|known| *known != provider);
            self.answered.push_back(provider);
            if self.answered.len() > PROVIDERS {
                self.answered.pop_front();
            }
        }
        let answer = Answered {
            text: showing.text,
            cut,
            provider: showing.provider,
            model: self.wishes.model.clone(),
        };
        self.talk.answered(asked, answer);
    }

    /// Asks the ledger for the receipts of answers that were cut.
    async fn settle(&mut self) {
        for request in self.costs.awaited() {
            if let Some(usage) = self.connection.receipt(&request).await {
                self.costs.settled(&request, usage);
            }
        }
    }

    async fn say_goodbye(&mut self) {
        if self.costs.is_empty() {
            return;
        }
        let settled = async {
            self.settle().await;
            while !self.costs.awaited().is_empty() {
                tokio::time::sleep(ASK_EVERY).await;
                self.settle().await;
            }
        };
        let _ = tokio::time::timeout(SETTLE_WITHIN, settled).await;
        self.aside(&self.costs.line());
    }

    fn served(&self, name: &str) -> Option<&Model> {
        let id = ModelId::new(name).ok()?;
        self.models.iter().find(|model| model.id == id.as_str())
    }

    fn nobody_serves(&self, model: &str) -> String {
        let near = similar(model, self.models.iter().map(|model| model.id.as_str()));
        let near: Vec<String> = near.iter().map(|name| format!("`{name}`")).collect();
        match near.is_empty() {
            true => format!("nobody serves `{model}`: `/model` lists what is served"),
            false => format!("nobody serves `{model}`: did you mean {}?", near.join(" or ")),
        }
    }

    /// What matters less than answers.
    fn aside(&self, text: &str) {
        let text = wrapped(text, columns());
        self.out.line(self.out.paint(Style::Dim, &text));
    }
}

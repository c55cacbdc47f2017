//! One answer on its way to the screen: a hint while nothing comes, then its text, then who gave it and what it cost.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;

use super::answer::Chunk;
use super::connection::Connection;
use super::cost::{Pace, Usage};
use crate::commands::Result;
use crate::out::{Out, Style, Wrap, plain, short_peer, terminal_width, wrapped};

/// Longest lines of text that are comfortable to read.
const WIDEST: usize = 100;
/// Columns of a terminal that does not say how many it has.
const USUAL: usize = 80;
/// Columns that the lines of a session have.
pub(super) fn columns() -> usize {
    // A word that fills the last column makes some terminals begin a line of their own.
    terminal_width().unwrap_or(USUAL).saturating_sub(1).min(WIDEST)
}

/// How often the hint moves.
const TICK: Duration = Duration::from_millis(100);

/// A hint that something is awaited. It is gone when this is.
#[derive(Debug)]
pub(super) struct Waiting(ProgressBar);

impl Waiting {
    pub(super) fn new(what: &str) -> Self {
        let style = ProgressStyle::with_template("{spinner} {msg}");
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stdout());
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.set_message(what.to_owned());
        bar.enable_steady_tick(TICK);
        Self(bar)
    }

    fn say(&self, what: String) {
        self.0.set_message(what);
    }

    fn end(&self) {
        if !self.0.is_finished() {
            self.0.finish_and_clear();
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.end();
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Showing {
    out: Out,
    waiting: Waiting,
    wrap: Wrap,
    pace: Pace,
    pub(super) text: String,
    /// PeerId of who gives it.
    pub(super) provider: Option<String>,
    /// The request's id in the ledger.
    pub(super) request: Option<String>,
    pub(super) usage: Option<Usage>,
    /// Whether it ended because it may not be longer.
    pub(super) at_limit: bool,
}

impl Showing {
    /// From the moment that the question is asked.
    pub(super) fn new(out: Out, what: &str) -> Self {
        Self {
            out,
            waiting: Waiting::new(what),
            wrap: Wrap::new(columns(), ""),
            pace: Pace::new(Instant::now()),
            text: String::new(),
            provider: None,
            request: None,
            usage: None,
            at_limit: false,
        }
    }

    /// Asks, and shows the answer to its end. Dropping the future cancels it.
    pub(super) async fn receive(&mut self, connection: &Connection, body: &Value) -> Result<()> {
        let mut answer = connection.ask(body).await?;
        self.request = answer.request.take();
        self.provider = answer.provider.take();
        if let Some(provider) = &self.provider {
            self.waiting.say(format!("waiting for {}", short_peer(provider)));
        }
        while let Some(chunk) = answer.next().await? {
            self.take(&chunk);
        }
        Ok(())
    }

    fn take(&mut self, chunk: &Chunk) {
        if chunk.thinks() {
            self.waiting.say("thinking".to_owned());
        }
        if let Some(text) = chunk.text() {
            self.waiting.end();
            self.pace.text(Instant::now());
            self.text.push_str(&plain(text));
            self.out.piece(&self.wrap.push(text));
        }
        self.at_limit |= chunk.is_at_limit();
        if let Some(usage) = chunk.usage() {
            self.usage = Some(usage);
            self.provider = chunk.provider().map(str::to_owned).or(self.provider.take());
        }
    }

    /// Shows what is left; nothing more comes.
    pub(super) fn end(&mut self, ended: &str) {
        self.waiting.end();
        if !self.text.is_empty() {
            self.out.line(self.wrap.finish());
        }
        let line = self.pace.line(self.provider.as_deref(), self.usage);
        let line = [ended, &line]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>();
        let line = wrapped(&line.join(" · "), columns());
        self.out.line(self.out.paint(Style::Dim, &line));
    }
}

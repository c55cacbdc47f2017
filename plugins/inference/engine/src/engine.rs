//! Runs sequences: one thread, up to `slots` sequences, one step each in turn. A step reads a chunk of a prompt or
//! makes one token. A sequence whose reader does not read is passed over until there is room; one whose reader is gone
//! ends before its next step. Nothing here waits for a reader, and nothing grows with one that does not read.
//!
//! ```text
//!   Engine::generate -- admission, bounded queue --> thread (turns.rs): sequence, sequence, ...   (sequence.rs)
//!        Sequence <-- bounded channel of events -----------'
//! ```

mod sequence;

use std::thread::Thread;

use tokio::sync::mpsc;

use crate::error::{GenerateError, Refusal};
use crate::model::Model;
use crate::params::Params;
use crate::turns::Turns;
use sequence::{Job, Running};

/// Events that wait for the reader of one sequence. A token's event is some dozens of bytes; a reader that falls this
/// far behind pauses its sequence.
const EVENTS_AHEAD: usize = 64;
/// Most events that one step brings: text, what was held back, the end. A step is taken only with room for these.
const EVENTS_PER_STEP: usize = 3;

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// A stop string was reached.
    Stop,
    /// `max_tokens` or the end of the context was reached.
    Length,
    /// The model ended it.
    Eos,
}

/// What a sequence cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens made for the answer: the ids of all events together. The token that ends an answer does not count.
    pub completion_tokens: u32,
}

/// What a sequence says.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// More of the answer: complete characters, never a part of a stop string. The text is exactly the text of the
    /// ids, except in the last event before a stop, whose ids go to the end of the stop string.
    Token {
        /// What to show.
        text: String,
        /// The tokens it came from, at least one.
        ids: Vec<u32>,
    },
    /// The end. Nothing follows.
    Done {
        /// Why.
        reason: Reason,
        /// What it cost.
        usage: Usage,
    },
    /// The end, before its time. Nothing follows.
    Failed(GenerateError),
}

/// The receiving end of one answer. Dropping it cancels the sequence before its next step.
#[derive(Debug)]
pub struct Sequence {
    events: mpsc::Receiver<Event>,
    thread: Thread,
}

impl Sequence {
    /// The next event; `None` after the last, or when the engine was dropped.
    pub async fn recv(&mut self) -> Option<Event> {
        let event = self.events.recv().await;
        self.thread.unpark();
        event
    }

    /// The same for a thread of its own. Panics inside an asynchronous task.
    pub fn blocking_recv(&mut self) -> Option<Event> {
        let event = self.events.blocking_recv();
        self.thread.unpark();
        event
    }

    /// An event that is there already.
    pub fn try_recv(&mut self) -> Option<Event> {
        let event = self.events.try_recv().ok();
        self.thread.unpark();
        event
    }
}

impl Drop for Sequence {
    fn drop(&mut self) {
        self.events.close();
        self.thread.unpark();
    }
}

/// A model at work. Dropping it ends all sequences and waits for the step that runs.
#[derive(Debug)]
pub struct Engine {
    model: Model,
    turns: Turns<Running>,
}

impl Engine {
    /// Starts the thread. `slots` sequences run at once (at least one), as many more wait. An idle engine sleeps.
    pub fn start(model: Model, slots: usize) -> Result<Self, std::io::Error> {
        let turns = Turns::start(model.clone(), slots)?;
        Ok(Self { model, turns })
    }

    /// The model that runs here.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Sequences that can run at once.
    pub fn slots(&self) -> usize {
        self.turns.slots()
    }

    /// Sequences that run or wait now.
    pub fn in_flight(&self) -> usize {
        self.turns.in_flight()
    }

    /// Returns once none runs or waits.
    pub async fn rest(&self) {
        self.turns.rest().await;
    }

    /// Continues these ids. Refuses at once what cannot run, and when slots and queue are full.
    pub fn generate(&self, prompt: Vec<u32>, params: Params) -> Result<Sequence, Refusal> {
        self.check(&prompt)?;
        params.check(prompt.len())?;
        let (sender, events) = mpsc::channel(EVENTS_AHEAD + EVENTS_PER_STEP);
        let thread = self.turns.submit(Job {
            prompt,
            params,
            events: sender,
        })?;
        Ok(Sequence { events, thread })
    }

    fn check(&self, prompt: &[u32]) -> Result<(), Refusal> {
        let info = self.model.info();
        if prompt.is_empty() {
            return Err(Refusal::EmptyPrompt);
        }
        if prompt.len() >= info.context_length {
            return Err(Refusal::PromptTooLong {
                prompt: prompt.len(),
                context: info.context_length,
            });
        }
        let last = info.vocabulary as u32 - 1;
        match prompt.iter().find(|id| **id > last) {
            Some(id) => Err(Refusal::UnknownToken { id: *id, last }),
            None => Ok(()),
        }
    }
}

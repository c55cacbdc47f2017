//! One sequence as the thread sees it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::sync::mpsc::Sender;

use super::{EVENTS_PER_STEP, Event, Reason, Usage};
use crate::decoder::Cache;
use crate::error::GenerateError;
use crate::model::Model;
use crate::params::Params;
use crate::sampler::Sampler;
use crate::text::{Flow, Holdback, Piece};
use crate::turns::{Admission, Turn};

/// Prompt tokens read in one step. Others wait for as long as this takes; larger chunks gain little on a CPU.
const PROMPT_CHUNK: usize = 32;

/// A request on its way to the thread.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) prompt: Vec<u32>,
    pub(super) params: Params,
    pub(super) events: Sender<Event>,
}

/// A sequence that has a slot.
pub(super) struct Running {
    prompt: Vec<u32>,
    /// Tokens of the prompt that the cache holds.
    read: usize,
    /// The newest token, which the cache does not hold yet.
    newest: Option<u32>,
    made: u32,
    max_tokens: u32,
    cache: Cache,
    sampler: Sampler,
    holdback: Holdback,
    events: Sender<Event>,
    /// Given back before the end is told, so that whoever has read the end finds room.
    admission: Option<Admission>,
}

impl Turn for Running {
    type Model = Model;
    type Job = Job;

    fn begin(model: &Model, job: Job, admission: Admission) -> Self {
        let Job { prompt, params, events } = job;
        let generated = &prompt[prompt.len() - params.already_generated as usize..];
        Self {
            sampler: Sampler::new(&params, generated),
            holdback: Holdback::new(&params.stop),
            cache: Cache::new(&model.weights().shape),
            read: 0,
            newest: None,
            made: 0,
            max_tokens: params.max_tokens,
            events,
            admission: Some(admission),
            prompt,
        }
    }

    fn is_abandoned(&self) -> bool {
        self.events.is_closed()
    }

    fn has_room(&self) -> bool {
        self.events.capacity() >= EVENTS_PER_STEP
    }

    fn step(&mut self, model: &Model) -> bool {
        if self.max_tokens == 0 {
            return self.end(Reason::Length);
        }
        // A panic inside a kernel must cost this sequence, not the others.
        let scores = match catch_unwind(AssertUnwindSafe(|| self.compute(model))) {
            Ok(Ok(Some(scores))) => scores,
            Ok(Ok(None)) => return true,
            Ok(Err(error)) => return self.fail(GenerateError::Computation(error.to_string())),
            Err(_) => return self.fail(GenerateError::Computation("it panicked".to_owned())),
        };
        self.take(scores, model)
    }
}

impl Running {
    /// Reads a chunk of the prompt or the newest token: scores of the next one, unless more of the prompt is left.
    fn compute(&mut self, model: &Model) -> Result<Option<Vec<f32>>, candle_core::Error> {
        if let Some(newest) = self.newest {
            return model.weights().forward(&[newest], &mut self.cache, true).map(Some);
        }
        let end = self.prompt.len().min(self.read + PROMPT_CHUNK);
        let complete = end == self.prompt.len();
        let scores = model
            .weights()
            .forward(&self.prompt[self.read..end], &mut self.cache, complete)?;
        self.read = end;
        Ok(complete.then_some(scores))
    }

    fn take(&mut self, mut scores: Vec<f32>, model: &Model) -> bool {
        let Some(id) = self.sampler.next(&mut scores) else {
            return self.fail(GenerateError::NotFinite);
        };
        if model.is_end(id) {
            return self.end(Reason::Eos);
        }
        self.newest = Some(id);
        self.made += 1;
        match self.holdback.push(id, model.token_bytes(id)) {
            Flow::Held => {}
            Flow::Shown(piece) => self.show(piece),
            Flow::Stopped(piece) => {
                self.show(piece);
                return self.end(Reason::Stop);
            }
        }
        let full = self.prompt.len() + self.made as usize >= model.info().context_length;
        if full || self.made >= self.max_tokens {
            return self.end(Reason::Length);
        }
        true
    }

    fn show(&self, piece: Piece) {
        if !piece.ids.is_empty() {
            self.send(Event::Token {
                text: piece.text,
                ids: piece.ids,
            });
        }
    }

    fn end(&mut self, reason: Reason) -> bool {
        let rest = self.holdback.finish();
        let usage = Usage {
            prompt_tokens: self.prompt.len() as u32,
            completion_tokens: self.made,
        };
        self.show(rest);
        self.admission = None;
        self.send(Event::Done { reason, usage });
        false
    }

    fn fail(&mut self, error: GenerateError) -> bool {
        tracing::warn!(%error, "a sequence failed");
        self.admission = None;
        self.send(Event::Failed(error));
        false
    }

    /// Steps are taken only with room, so what is refused here was meant for a reader that is gone.
    fn send(&self, event: Event) {
        let _ = self.events.try_send(event);
    }
}

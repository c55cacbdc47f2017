//! One request for embeddings as the thread sees it: some inputs at a time, one layer in each step.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::sync::oneshot::Sender;

use super::Vectors;
use super::model::EmbeddingModel;
use crate::encoder::Pass;
use crate::error::EmbedError;
use crate::turns::{Admission, Turn};

/// Tokens that are computed together, unless one input alone is longer: enough for a matrix product to be worth its
/// way through memory, few enough that others soon have their turn.
const TOKENS_PER_PASS: usize = 256;

/// A request on its way to the thread.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) inputs: Vec<Vec<u32>>,
    pub(super) answer: Sender<Result<Vectors, EmbedError>>,
}

/// A request that has a slot.
pub(super) struct Running {
    inputs: Vec<Vec<u32>>,
    /// Inputs whose vectors are there, or are being computed.
    begun: usize,
    pass: Option<Pass>,
    vectors: Vectors,
    /// Gone once it was used.
    answer: Option<Sender<Result<Vectors, EmbedError>>>,
    /// Given back before the end is told, so that whoever has read the end finds room.
    admission: Option<Admission>,
}

impl Turn for Running {
    type Model = EmbeddingModel;
    type Job = Job;

    fn begin(_: &EmbeddingModel, job: Job, admission: Admission) -> Self {
        Self {
            vectors: Vec::with_capacity(job.inputs.len()),
            inputs: job.inputs,
            begun: 0,
            pass: None,
            answer: Some(job.answer),
            admission: Some(admission),
        }
    }

    fn is_abandoned(&self) -> bool {
        self.answer.as_ref().is_none_or(Sender::is_closed)
    }

    fn has_room(&self) -> bool {
        true
    }

    fn step(&mut self, model: &EmbeddingModel) -> bool {
        // A panic inside a kernel must cost this request, not the others.
        match catch_unwind(AssertUnwindSafe(|| self.compute(model))) {
            Ok(Ok(false)) => true,
            Ok(Ok(true)) => self.end(),
            Ok(Err(error)) => self.tell(Err(EmbedError::Computation(error.to_string()))),
            Err(_) => self.tell(Err(EmbedError::Computation("it panicked".to_owned()))),
        }
    }
}

impl Running {
    /// Goes one layer; true once all vectors are there.
    fn compute(&mut self, model: &EmbeddingModel) -> Result<bool, candle_core::Error> {
        let mut pass = self.pass.take().unwrap_or_else(|| model.begin(self.next()));
        match model.advance(&mut pass)? {
            None => self.pass = Some(pass),
            Some(vectors) => self.vectors.extend(vectors),
        }
        Ok(self.vectors.len() == self.inputs.len())
    }

    /// The inputs of the next pass, at least one.
    fn next(&mut self) -> &[Vec<u32>] {
        let first = self.begun;
        let mut tokens = 0;
        for input in &self.inputs[first..] {
            tokens += input.len();
            if self.begun > first && tokens > TOKENS_PER_PASS {
                break;
            }
            self.begun += 1;
        }
        &self.inputs[first..self.begun]
    }

    fn end(&mut self) -> bool {
        let finite = self.vectors.iter().flatten().all(|value| value.is_finite());
        let vectors = std::mem::take(&mut self.vectors);
        self.tell(finite.then_some(vectors).ok_or(EmbedError::NotFinite))
    }

    /// Whoever no longer listens is told nothing.
    fn tell(&mut self, result: Result<Vectors, EmbedError>) -> bool {
        if let Err(error) = &result {
            tracing::warn!(%error, "embeddings failed");
        }
        self.admission = None;
        if let Some(answer) = self.answer.take() {
            let _ = answer.send(result);
        }
        false
    }
}

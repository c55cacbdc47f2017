//! Training: two halves of every batch on two threads, gradients added, one step of AdamW.
//!
//! The run can be killed at any time: it goes on from its last checkpoint with the same documents and the same rate,
//! because document `n` needs nothing but its number. What is exported is a running average of the weights.

mod checkpoint;
mod feed;
mod optimizer;

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use candle_core::backprop::GradStore;
use indicatif::{ProgressBar, ProgressStyle};
use tokenizers::Tokenizer;

use crate::model::weights::Weights;
use crate::model::{self, Batch};
use feed::Feed;
use optimizer::Optimizer;

/// Positions per half of a batch; the last document may go beyond it.
const HALF: usize = 1_280;
/// Steps between two looks at the validation loss.
const VALIDATE_EVERY: u64 = 250;
/// Positions in each half of the validation text.
const VALIDATION: usize = 12_000;
/// Time between two checkpoints; what a kill costs at most.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(60);
/// How much of the shown loss is history.
const SMOOTHING: f32 = 0.98;

/// The streams of documents to learn from, and to be tested on.
const TRAINING_SEED: u64 = 1;
const VALIDATION_SEED: u64 = 2;
/// Where the weights begin.
const WEIGHTS_SEED: u64 = 3;

/// Trains for `steps` steps in all, from the checkpoint in `folder` if there is one. Reports go to `out`.
pub(crate) fn run(vocabulary: &Tokenizer, folder: &Path, steps: u64, out: &mut dyn Write) -> Result<()> {
    ensure!(
        candle_core::utils::get_num_threads() == 1,
        "set RAYON_NUM_THREADS=1: two halves on two threads are faster"
    );
    let mut feed = Feed::new(vocabulary.clone(), TRAINING_SEED);
    let mut optimizer = Optimizer::new(crate::model::weights::initial(WEIGHTS_SEED)?)?;
    if let Some(next) = checkpoint::load(folder, &mut optimizer)? {
        feed.next = next;
        writeln!(out, "going on from step {}", optimizer.step)?;
    }
    let mut check = Feed::new(vocabulary.clone(), VALIDATION_SEED);
    let validation = [check.answers(VALIDATION)?, check.answers(VALIDATION)?];

    let bar = ProgressBar::new(steps).with_position(optimizer.step);
    bar.set_style(ProgressStyle::with_template(
        "{bar:40} {pos}/{len} steps  {elapsed} (left: {eta})  {msg}",
    )?);
    let (mut smooth, mut saved, begin, mut read) = (None, Instant::now(), Instant::now(), 0);
    while optimizer.step < steps {
        let halves = [feed.batch(HALF)?, feed.batch(HALF)?];
        read += halves.iter().map(|half| half.tokens.len()).sum::<usize>();
        let (loss, gradients) = both(&optimizer, halves)?;
        optimizer.step(&gradients, steps)?;
        let shown = smooth.map_or(loss, |smooth| SMOOTHING * smooth + (1.0 - SMOOTHING) * loss);
        smooth = Some(shown);
        bar.inc(1);
        let speed = read as f64 / begin.elapsed().as_secs_f64();
        bar.set_message(format!("loss {shown:.3}, {speed:.0} tokens/s"));
        let done = optimizer.step == steps;
        if optimizer.step.is_multiple_of(VALIDATE_EVERY) || done {
            let answers = validate(&optimizer, &validation)?;
            let step = optimizer.step;
            writeln!(
                out,
                "step {step}: loss {shown:.4}, validation {answers:.4}, document {}, {speed:.0} tokens/s",
                feed.next
            )?;
            out.flush()?;
        }
        if saved.elapsed() > CHECKPOINT_EVERY || done {
            checkpoint::save(folder, &optimizer, feed.next)?;
            saved = Instant::now();
        }
    }
    bar.finish_and_clear();
    Ok(())
}

/// The averaged weights of the checkpoint in `folder`.
pub(crate) fn averaged(folder: &Path) -> Result<Weights> {
    let mut optimizer = Optimizer::new(crate::model::weights::initial(WEIGHTS_SEED)?)?;
    checkpoint::load(folder, &mut optimizer)?
        .ok_or_else(|| anyhow!("no checkpoint in {}; run `demo-model train` first", folder.display()))?;
    optimizer.averages()
}

/// Loss and gradients of both halves, computed side by side; the loss is per unit of emphasis over both.
fn both(optimizer: &Optimizer, halves: [Batch; 2]) -> Result<(f32, [GradStore; 2])> {
    let weight = halves.iter().map(Batch::weight).sum();
    let half = |batch| -> Result<(f32, GradStore)> {
        let loss = model::loss(|name| optimizer.var(name), batch, weight)?;
        Ok((loss.to_scalar()?, loss.backward()?))
    };
    let [first, second] = halves;
    let (first, second) = side_by_side(|| half(first), || half(second))?;
    let ((a, first), (b, second)) = (first?, second?);
    Ok((a + b, [first, second]))
}

/// Cross entropy per token of an answer under the averaged weights, in nats.
fn validate(optimizer: &Optimizer, halves: &[Batch; 2]) -> Result<f32> {
    let averaged = Optimizer::new(optimizer.averages()?)?;
    let weight = halves.iter().map(Batch::weight).sum();
    let half = |batch: &Batch| -> Result<f32> {
        Ok(model::loss(|name| averaged.var(name), batch.clone(), weight)?.to_scalar()?)
    };
    let (a, b) = side_by_side(|| half(&halves[0]), || half(&halves[1]))?;
    Ok(a? + b?)
}

/// Runs `there` on a thread of its own and `here` on this one.
fn side_by_side<R: Send>(here: impl FnOnce() -> R, there: impl FnOnce() -> R + Send) -> Result<(R, R)> {
    std::thread::scope(|scope| {
        let there = scope.spawn(there);
        let here = here();
        Ok((here, there.join().map_err(|_| anyhow!("a training thread panicked"))?))
    })
}

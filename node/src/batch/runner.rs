//! One batch from its input to its results.

use std::fs::File;
use std::io::{BufReader, Read as _, Seek as _, SeekFrom};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::stream::{FuturesUnordered, StreamExt as _};
use serde_json::{Value, json};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::chunks::{Chunks, Run};
use super::input::{self, LineError, Place};
use super::record::{Batch, Ended, Results, Status};
use super::{Answers, BatchError, Batches, enter, files};
use crate::clock;
use crate::runtime::unpoisoned;

/// Chunks at once: they go to different providers where one is full.
const CHUNKS_AT_ONCE: usize = 4;
/// Requests of one chunk at once.
const ITEMS_AT_ONCE: usize = 8;
/// A model that nobody serves may be one whose providers are not known yet, after a start; then it is nobody's.
const MODEL_SOUGHT: Duration = Duration::from_secs(60);
/// How often the counts are written down, where somebody may look.
const COUNTS_EVERY: Duration = Duration::from_millis(500);

/// A batch's input, and where its requests lie in it.
struct Input {
    file: File,
    places: Vec<Place>,
}

impl Input {
    fn line(&mut self, item: u32) -> Result<Vec<u8>, BatchError> {
        let place = self.places[item as usize];
        let mut line = Vec::new();
        self.file.seek(SeekFrom::Start(place.offset))?;
        std::io::Read::by_ref(&mut self.file)
            .take(place.length)
            .read_to_end(&mut line)?;
        Ok(line)
    }
}

/// Runs a batch to its end, from wherever it is.
pub(super) async fn run(
    batches: &Batches,
    id: &str,
    answers: &dyn Answers,
    cancel: &CancellationToken,
) -> Result<(), BatchError> {
    let batch = batches.get(id)?;
    let path = match batches.files().content(&batch.input_file_id) {
        Err(error @ BatchError::NoFile(_)) => {
            return failed(batches, id, vec![LineError::of_file("input_missing", &error)]);
        }
        found => found?,
    };
    let endpoint = batch.endpoint.clone();
    let checking = tokio::task::spawn_blocking(move || {
        let file = File::open(path)?;
        let checked = input::check(BufReader::new(&file), &endpoint)?;
        Ok::<_, std::io::Error>((file, checked))
    });
    let (file, checked) = checking.await.map_err(std::io::Error::other)??;
    let places = match checked {
        Ok(places) => places,
        Err(errors) => return failed(batches, id, errors),
    };
    let total = u32::try_from(places.len()).unwrap_or(u32::MAX);
    let results = batches.folder_of(id).results()?;
    let batch = batches.change(id, |batch| {
        batch.total = total;
        if batch.status == Status::Validating {
            enter(batch, Status::InProgress);
        }
    })?;
    info!(
        batch = id,
        requests = total,
        done = results.completed + results.failed,
        "batch runs"
    );
    let driver = Driver {
        batches,
        answers,
        began: Instant::now(),
        results: Mutex::new(results),
        batch,
    };
    if driver.batch.status == Status::Cancelling {
        cancel.cancel();
    }
    let end = driver.drive(Input { file, places }, cancel).await?;
    let results = driver.results.into_inner().unwrap_or_else(PoisonError::into_inner);
    let (batches, id) = (batches.clone(), id.to_owned());
    let finishing = tokio::task::spawn_blocking(move || finish(&batches, &id, results, end));
    finishing.await.map_err(std::io::Error::other)?
}

/// Its input is no good: nothing of it runs.
fn failed(batches: &Batches, id: &str, errors: Vec<LineError>) -> Result<(), BatchError> {
    batches.change(id, |batch| {
        batch.errors = errors;
        enter(batch, Status::Failed);
    })?;
    Ok(())
}

struct Driver<'a> {
    batches: &'a Batches,
    batch: Batch,
    answers: &'a dyn Answers,
    results: Mutex<Results>,
    began: Instant,
}

/// How one request went.
enum Went {
    Ended(Ended),
    /// Another provider may do better; this is what is told if none does.
    Failed(Ended),
    Unasked(u32),
}

/// A chunk that has run: its number, what is left of it, and what is told of those that failed.
type Ran = (usize, Run, Vec<Ended>);

impl Driver<'_> {
    /// Runs chunks until all are done, the batch is cancelled or its time is up.
    async fn drive(&self, mut input: Input, cancel: &CancellationToken) -> Result<Status, BatchError> {
        let left: Vec<u32> = {
            let results = unpoisoned(&self.results);
            (0..self.batch.total).filter(|item| !results.has(*item)).collect()
        };
        let mut chunks = Chunks::new(left, Instant::now());
        let window = Duration::from_secs(self.batch.expires_at.saturating_sub(clock::wall().0 / 1_000));
        let expires = tokio::time::sleep(window);
        tokio::pin!(expires);
        let mut running = FuturesUnordered::new();
        let mut counting = tokio::time::interval(COUNTS_EVERY);
        counting.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = (self.batch.completed, self.batch.failed);
        while !chunks.is_done() {
            while running.len() < CHUNKS_AT_ONCE
                && let Some((number, items)) = chunks.next(Instant::now())
            {
                let requests = items.into_iter().map(|item| Ok((item, input.line(item)?)));
                let requests = requests.collect::<Result<Vec<_>, BatchError>>()?;
                running.push(self.chunk(number, requests));
            }
            let wakes = chunks.wakes().unwrap_or_else(|| Instant::now() + window);
            tokio::select! {
                biased;
                () = cancel.cancelled() => return Ok(Status::Cancelled),
                () = &mut expires => {
                    self.give_up(chunks.left(), &mut input)?;
                    return Ok(Status::Expired);
                }
                _ = counting.tick() => self.tell_counts(&mut told)?,
                Some(ran) = running.next() => self.ran(ran?, &mut chunks)?,
                () = tokio::time::sleep_until(wakes.into()), if running.len() < CHUNKS_AT_ONCE => {}
            }
        }
        Ok(Status::Completed)
    }

    /// One chunk, some requests at once; what ends is written down as it does.
    async fn chunk(&self, number: usize, requests: Vec<(u32, Vec<u8>)>) -> Result<Ran, BatchError> {
        let sought = self.began.elapsed() > MODEL_SOUGHT;
        let asking = requests
            .into_iter()
            .map(|(item, line)| ask(self.answers, &self.batch, item, line, sought));
        let mut asking = futures::stream::iter(asking).buffer_unordered(ITEMS_AT_ONCE);
        let (mut run, mut told) = (Run::default(), Vec::new());
        while let Some(went) = asking.next().await {
            match went {
                Went::Ended(ended) => {
                    unpoisoned(&self.results).add(&ended)?;
                }
                Went::Unasked(item) => run.unasked.push(item),
                Went::Failed(ended) => {
                    run.failed.push(ended.item);
                    told.push(ended);
                }
            }
        }
        Ok((number, run, told))
    }

    fn ran(&self, (number, run, told): Ran, chunks: &mut Chunks) -> Result<(), BatchError> {
        let failed = run.failed.len();
        let given_up = chunks.ran(number, run, Instant::now());
        if failed > 0 {
            debug!(
                batch = self.batch.id,
                chunk = number,
                failed,
                given_up = given_up.len(),
                "chunk failed"
            );
        }
        let mut results = unpoisoned(&self.results);
        for ended in told.iter().filter(|ended| given_up.contains(&ended.item)) {
            results.add(ended)?;
        }
        results.sync()?;
        Ok(())
    }

    /// Writes down how far it is, where that is not what was told last.
    fn tell_counts(&self, told: &mut (u32, u32)) -> Result<(), BatchError> {
        let results = unpoisoned(&self.results);
        let counts = (results.completed, results.failed);
        if counts != *told {
            self.batches.change(&self.batch.id, |batch| count(batch, &results))?;
            *told = counts;
        }
        Ok(())
    }

    /// The batch's time is up: what is left has no answer.
    fn give_up(&self, left: impl Iterator<Item = u32>, input: &mut Input) -> Result<(), BatchError> {
        let mut results = unpoisoned(&self.results);
        for item in left {
            if results.has(item) {
                continue;
            }
            let line = input.line(item)?;
            let custom_id = input::item(&line, &self.batch.endpoint).map(|item| item.custom_id);
            results.add(&Ended {
                item,
                status: 504,
                line: json!({
                    "id": files::fresh("batch_req_"), "custom_id": custom_id.unwrap_or_default(), "response": null,
                    "error": { "code": "batch_expired", "message": "it could not be run before the batch expired" },
                }),
            })?;
        }
        Ok(())
    }
}

async fn ask(answers: &dyn Answers, batch: &Batch, number: u32, line: Vec<u8>, sought: bool) -> Went {
    // It was checked when the batch began, and the file is ours.
    let (custom_id, body) = match input::item(&line, &batch.endpoint) {
        Ok(item) => (item.custom_id, Bytes::copy_from_slice(item.body)),
        Err((_, _, message)) => (String::new(), Bytes::from(message)),
    };
    let answered = answers.answer(&batch.endpoint, body).await;
    let is_unknown = answered.status == 404;
    if answered.nobody && (!is_unknown || !sought) {
        return Went::Unasked(number);
    }
    let body: Value = serde_json::from_slice(&answered.body).unwrap_or(Value::Null);
    let request = format!("{}-{number}", batch.id);
    let response = json!({ "status_code": answered.status, "request_id": request, "body": body });
    let ended = Ended {
        item: number,
        status: answered.status,
        line: json!({ "id": files::fresh("batch_req_"), "custom_id": custom_id, "response": response, "error": null }),
    };
    match answered.may_retry && !is_unknown {
        true => Went::Failed(ended),
        false => Went::Ended(ended),
    }
}

fn count(batch: &mut Batch, results: &Results) {
    (batch.completed, batch.failed) = (results.completed, results.failed);
}

/// Writes the results in order, and says that the batch is over.
fn finish(batches: &Batches, id: &str, mut results: Results, end: Status) -> Result<(), BatchError> {
    let batch = batches.change(id, |batch| {
        count(batch, &results);
        if end != Status::Cancelled {
            enter(batch, Status::Finalizing);
        }
    })?;
    results.sync()?;
    let files = batches.files();
    if results.completed > 0 {
        results.write(
            true,
            files.draft_as(batch.output_file_id.clone())?,
            &format!("{id}_output.jsonl"),
        )?;
    }
    if results.failed > 0 {
        results.write(
            false,
            files.draft_as(batch.error_file_id.clone())?,
            &format!("{id}_error.jsonl"),
        )?;
    }
    batches.change(id, |batch| {
        enter(
            batch,
            if batch.status == Status::Cancelling {
                Status::Cancelled
            } else {
                end
            },
        );
    })?;
    info!(
        batch = id,
        completed = results.completed,
        failed = results.failed,
        "batch is over"
    );
    Ok(())
}

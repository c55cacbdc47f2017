//! OpenAI's files and batches, and the gateway as the one that answers their requests.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use axum::Json;
use axum::body::Body;
use axum::extract::multipart::{MultipartError, MultipartRejection};
use axum::extract::{Extension, Multipart, Path, Query, Request, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::io::ReaderStream;

use super::Shared;
use super::dialect::Fields;
use super::errors::ApiError;
use super::reading::Arrived;
use super::routes::{respond_to, words_of};
use crate::batch::files::{Draft, Stored};
use crate::batch::{Answered, Answers, BatchError, Batches, Wanted};
use crate::spending::Caller;

/// Entries of one page, and the most that are given.
const PAGE: usize = 20;
const PAGE_MAX: usize = 100;
/// Of the word for what a file is for, so much is looked at.
const PURPOSE_BYTES: usize = 64;
/// Longest answer of one request of a batch.
const ANSWER_BYTES: usize = infernet_inference::watch::ANSWER_BYTES;

type Gateway = State<Arc<Shared>>;

impl From<BatchError> for ApiError {
    fn from(error: BatchError) -> Self {
        let message = error.to_string();
        match error {
            BatchError::NoFile(_) | BatchError::NoBatch(_) => Self::not_found(message),
            BatchError::TooLarge => Self::too_large(),
            BatchError::Invalid { param, .. } => Self::invalid(message, param),
            BatchError::TooManyFiles(_) | BatchError::TooManyBatches(_) | BatchError::InUse(_) | BatchError::Over => {
                Self::conflict(message)
            }
            BatchError::Home(_) | BatchError::Io(_) | BatchError::Damaged { .. } => Self::no_room(message),
        }
    }
}

/// Who asks, where a key says so.
pub(super) type By = Option<Extension<Caller>>;

/// Runs file work beside the runtime.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BatchError> + Send + 'static,
) -> Result<T, ApiError> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|error| BatchError::Io(std::io::Error::other(error)))??)
}

async fn batches(shared: &Arc<Shared>, by: By) -> Result<Batches, ApiError> {
    if shared.shelves.is_none() {
        return Err(ApiError::no_batches());
    }
    let (shared, caller) = (shared.clone(), by.map(|Extension(caller)| caller));
    // A key's folder is made where it is asked for first.
    blocking(move || match &shared.shelves {
        Some(shelves) => shelves.of(caller, &shared),
        None => Err(BatchError::Over),
    })
    .await
}

/// The same with the caller's batches.
async fn beside<T: Send + 'static>(
    shared: &Arc<Shared>,
    by: By,
    work: impl FnOnce(&Batches) -> Result<T, BatchError> + Send + 'static,
) -> Result<T, ApiError> {
    let batches = batches(shared, by).await?;
    blocking(move || work(&batches)).await
}

fn told(shared: &Shared, route: &'static str, answer: Result<Response, ApiError>) -> Response {
    let response = answer.unwrap_or_else(ApiError::into_response);
    shared.metrics.responded(route, response.status());
    response
}

pub(super) async fn upload(State(shared): Gateway, by: By, form: Result<Multipart, MultipartRejection>) -> Response {
    let uploaded = async {
        let form = form.map_err(|error| ApiError::invalid(error.body_text(), "file"))?;
        Ok(Json(
            receive(&batches(&shared, by).await?, form, shared.settings.patience.piece)
                .await?
                .to_json(),
        )
        .into_response())
    };
    let uploaded = uploaded.await;
    told(&shared, "files", uploaded)
}

/// A piece of a form, unless its client stops sending.
async fn in_time<T>(patience: Duration, piece: impl Future<Output = Result<T, MultipartError>>) -> Result<T, ApiError> {
    let piece = tokio::time::timeout(patience, piece)
        .await
        .map_err(|_| ApiError::too_slow())?;
    piece.map_err(|error| ApiError::invalid(error.body_text(), "file"))
}

async fn receive(batches: &Batches, mut form: Multipart, patience: Duration) -> Result<Stored, ApiError> {
    let (mut draft, mut purpose): (Option<(Draft, String)>, Option<String>) = (None, None);
    while let Some(mut field) = in_time(patience, form.next_field()).await? {
        match field.name() {
            Some("purpose") => {
                let mut word = Vec::new();
                while let Some(bytes) = in_time(patience, field.chunk()).await? {
                    word.extend_from_slice(&bytes[..bytes.len().min(PURPOSE_BYTES)]);
                    word.truncate(PURPOSE_BYTES);
                }
                purpose = Some(String::from_utf8_lossy(&word).into_owned());
            }
            Some("file") => {
                let name = field.file_name().unwrap_or("upload.jsonl").to_owned();
                let mut file = batches.files().draft()?;
                while let Some(bytes) = in_time(patience, field.chunk()).await? {
                    file.write(&bytes)?;
                }
                draft = Some((file, name));
            }
            _ => {}
        }
    }
    let purpose = purpose.ok_or_else(|| ApiError::invalid("`purpose` is missing".to_owned(), "purpose"))?;
    if purpose != "batch" {
        let message = "files are for batches here: `purpose` must be `batch`".to_owned();
        return Err(ApiError::invalid(message, "purpose"));
    }
    let (file, name) = draft.ok_or_else(|| ApiError::invalid("`file` is missing".to_owned(), "file"))?;
    blocking(move || file.keep(&name, &purpose)).await
}

/// Which page of a list.
#[derive(Debug, Deserialize)]
pub(super) struct Page {
    limit: Option<usize>,
    after: Option<String>,
}

pub(super) type Asked = Result<Query<Page>, axum::extract::rejection::QueryRejection>;

/// One page of a list whose members are named by `id`.
fn page(all: Vec<Value>, asked: Asked) -> Result<Response, ApiError> {
    let Query(asked) = asked.map_err(|error| ApiError::invalid(error.body_text(), "limit"))?;
    let limit = asked.limit.unwrap_or(PAGE);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(ApiError::invalid(format!("`limit` must be 1 to {PAGE_MAX}"), "limit"));
    }
    let start = match &asked.after {
        None => 0,
        Some(after) => {
            let found = all.iter().position(|one| one["id"] == after.as_str());
            found.ok_or_else(|| ApiError::invalid("`after` names nothing in this list".to_owned(), "after"))? + 1
        }
    };
    let rest = &all[start..];
    let shown = &rest[..rest.len().min(limit)];
    let list = json!({
        "object": "list", "data": shown, "has_more": shown.len() < rest.len(),
        "first_id": shown.first().map(|one| &one["id"]), "last_id": shown.last().map(|one| &one["id"]),
    });
    Ok(Json(list).into_response())
}

pub(super) async fn list_files(State(shared): Gateway, by: By, asked: Asked) -> Response {
    let listed = beside(&shared, by, |batches| batches.files().list()).await;
    let listed = listed.and_then(|files| page(files.iter().map(Stored::to_json).collect(), asked));
    told(&shared, "files", listed)
}

pub(super) async fn file(State(shared): Gateway, by: By, Path(id): Path<String>) -> Response {
    let found = beside(&shared, by, move |batches| batches.files().get(&id)).await;
    told(&shared, "files", found.map(|file| Json(file.to_json()).into_response()))
}

pub(super) async fn remove(State(shared): Gateway, by: By, Path(id): Path<String>) -> Response {
    let answer = json!({ "id": id, "object": "file", "deleted": true });
    let removed = beside(&shared, by, move |batches| batches.remove_file(&id)).await;
    told(&shared, "files", removed.map(|()| Json(answer).into_response()))
}

pub(super) async fn content(State(shared): Gateway, by: By, Path(id): Path<String>) -> Response {
    let opened = async {
        let path = beside(&shared, by, move |batches| batches.files().content(&id)).await?;
        let file = tokio::fs::File::open(path).await.map_err(BatchError::Io)?;
        let kind = [(CONTENT_TYPE, "application/jsonl")];
        Ok((kind, Body::from_stream(ReaderStream::new(file))).into_response())
    };
    let opened = opened.await;
    told(&shared, "files", opened)
}

/// What a new batch is to be. Fields that are not known say how results are kept, which they are here anyway.
fn read_wanted(body: &[u8]) -> Result<Wanted, ApiError> {
    let mut fields = Fields::read(body)?;
    let mut required = |name| match fields.text(name)? {
        Some(text) => Ok(text),
        None => Err(ApiError::invalid(format!("`{name}` is required"), name)),
    };
    let (input_file_id, endpoint) = (required("input_file_id")?, required("endpoint")?);
    let metadata = fields.take("metadata").map(serde_json::from_value).transpose();
    Ok(Wanted {
        endpoint,
        input_file_id,
        completion_window: fields.text("completion_window")?.unwrap_or_else(|| "24h".to_owned()),
        metadata: metadata.map_err(|_| ApiError::invalid("`metadata` is an object of strings", "metadata"))?,
    })
}

pub(super) async fn create(State(shared): Gateway, by: By, request: Request) -> Response {
    let created = async {
        let (body, _share) = super::routes::read_body(&shared, request).await?;
        let wanted = read_wanted(&body)?;
        let batch = beside(&shared, by, move |batches| batches.create(wanted)).await?;
        Ok(Json(batch.to_json()).into_response())
    };
    let created = created.await;
    told(&shared, "batches", created)
}

pub(super) async fn list(State(shared): Gateway, by: By, asked: Asked) -> Response {
    let listed = beside(&shared, by, Batches::list).await;
    let listed = listed.and_then(|all| page(all.iter().map(|batch| batch.to_json()).collect(), asked));
    told(&shared, "batches", listed)
}

pub(super) async fn batch(State(shared): Gateway, by: By, Path(id): Path<String>) -> Response {
    let found = beside(&shared, by, move |batches| batches.get(&id)).await;
    told(
        &shared,
        "batches",
        found.map(|batch| Json(batch.to_json()).into_response()),
    )
}

pub(super) async fn cancel(State(shared): Gateway, by: By, Path(id): Path<String>) -> Response {
    let cancelled = beside(&shared, by, move |batches| batches.cancel(&id)).await;
    told(
        &shared,
        "batches",
        cancelled.map(|batch| Json(batch.to_json()).into_response()),
    )
}

/// The gateway, answering a batch's requests as it answers any.
pub(super) struct FromFile {
    shared: Arc<Shared>,
    /// Whose budget they are on.
    caller: Option<Caller>,
}

impl FromFile {
    pub(super) fn new(shared: Arc<Shared>, caller: Option<Caller>) -> Self {
        Self { shared, caller }
    }
}

#[async_trait]
impl Answers for FromFile {
    async fn answer(&self, endpoint: &str, body: Bytes) -> Answered {
        let Some((route, words)) = words_of(endpoint) else {
            return whole(ApiError::no_route("POST", endpoint).into_response()).await;
        };
        // A key has its rate here too, and one that was revoked asks for nothing more.
        if let Some(caller) = &self.caller
            && let Err(error) = self.shared.keys.admit_again(&caller.id, Instant::now())
        {
            return whole(ApiError::from(error).into_response()).await;
        }
        let _place = self.shared.batched.acquire().await;
        let arrived = Arrived::from_batch(self.caller, self.shared.settings.deadline);
        whole(respond_to(&self.shared, route, words, body, &arrived, None).await).await
    }
}

/// A response in one piece, and what its status means for a second try.
async fn whole(response: Response) -> Answered {
    let status = response.status();
    let refusal = response.extensions().get::<ApiError>().and_then(ApiError::word);
    let waits = response.headers().contains_key(RETRY_AFTER);
    let nobody = match refusal {
        Some("model_not_found" | "no_allowed_provider" | "no_provider_free" | "rate_limit_exceeded") => true,
        // What can never be afforded is not waited for.
        Some("budget") => waits,
        _ => false,
    };
    // Even where a part was delivered and paid for: half an answer is no result.
    let may_retry = nobody || status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
    let (status, body) = match axum::body::to_bytes(response.into_body(), ANSWER_BYTES).await {
        Ok(body) => (status, body),
        Err(_) => (StatusCode::BAD_GATEWAY, Bytes::new()),
    };
    Answered {
        status: status.as_u16(),
        body,
        may_retry,
        nobody,
    }
}

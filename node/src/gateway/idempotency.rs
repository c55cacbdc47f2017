//! `Idempotency-Key`: a request that is sent again with the same key gets the answer of the first time, and is paid once.
//!
//! Answers are kept in memory for a while and within bounds; only whole ones count. What failed, or was given up by its
//! client, is forgotten, so that the next try is a new one.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::CONTENT_LENGTH;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use infernet_protocol::Digest;

use super::Shared;
use super::errors::ApiError;
use crate::runtime::unpoisoned;
use crate::spending::{Caller, CallerId};

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Tells an answer that was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// Longest key: clients send UUIDs.
const KEY_BYTES: usize = 255;
/// Clients try again for minutes.
const KEPT: Duration = Duration::from_secs(60 * 60);
/// Answers that are kept at once, and their bytes each and together.
const ANSWERS: usize = 1_024;
const ANSWER_BYTES: usize = 4 * 1024 * 1024;
const ALL_BYTES: usize = 64 * 1024 * 1024;

/// Whose key, for which route, and the key.
type Name = (Option<CallerId>, String, String);

/// What is known of keys.
#[derive(Debug, Default)]
pub(super) struct Answers(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    answers: HashMap<Name, Held>,
    bytes: usize,
}

#[derive(Debug)]
struct Held {
    request: Digest,
    at: Instant,
    answer: Option<Recorded>,
}

/// A whole answer.
#[derive(Clone, Debug)]
struct Recorded {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

/// What a key means now.
enum Meaning {
    New,
    Running,
    Other,
    Answered(Recorded),
}

impl Answers {
    fn look(&self, name: &Name, request: Digest, now: Instant) -> Meaning {
        let mut known = unpoisoned(&self.0);
        let is_fresh = |one: &Held| one.answer.is_none() || now.saturating_duration_since(one.at) < KEPT;
        if known.answers.len() >= ANSWERS || known.answers.get(name).is_some_and(|one| !is_fresh(one)) {
            known.forget(is_fresh);
        }
        if known.answers.len() >= ANSWERS || known.bytes >= ALL_BYTES {
            known.forget(|one| one.answer.is_none());
        }
        match known.answers.entry(name.clone()) {
            Entry::Occupied(one) if one.get().request != request => Meaning::Other,
            Entry::Occupied(one) => match &one.get().answer {
                None => Meaning::Running,
                Some(answer) => Meaning::Answered(answer.clone()),
            },
            Entry::Vacant(place) => {
                place.insert(Held {
                    request,
                    at: now,
                    answer: None,
                });
                Meaning::New
            }
        }
    }
}

impl Known {
    fn forget(&mut self, keep: impl Fn(&Held) -> bool) {
        self.answers.retain(|_, one| keep(one));
        let lengths = self
            .answers
            .values()
            .filter_map(|one| Some(one.answer.as_ref()?.body.len()));
        self.bytes = lengths.sum();
    }
}

/// An answer on its way. Dropped before its end, it is forgotten.
struct Recording {
    shared: Arc<Shared>,
    name: Name,
    status: StatusCode,
    headers: HeaderMap,
    body: BytesMut,
    too_long: bool,
    over: bool,
}

impl Recording {
    fn take(&mut self, bytes: &Bytes) {
        self.too_long |= self.body.len() + bytes.len() > ANSWER_BYTES;
        if !self.too_long {
            self.body.extend_from_slice(bytes);
        }
    }

    /// The whole answer has passed.
    fn end(mut self) {
        // A stream that tells an error is no answer to give again.
        let failed = memchr::memmem::find(&self.body, b"\ndata: {\"error\":").is_some();
        if self.too_long || failed {
            return;
        }
        self.over = true;
        let answer = Recorded {
            status: self.status,
            headers: std::mem::take(&mut self.headers),
            body: std::mem::take(&mut self.body).freeze(),
        };
        let mut known = unpoisoned(&self.shared.answers.0);
        let length = answer.body.len();
        if let Some(one) = known.answers.get_mut(&self.name) {
            (one.answer, one.at) = (Some(answer), Instant::now());
            known.bytes += length;
        }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        if !self.over {
            unpoisoned(&self.shared.answers.0).answers.remove(&self.name);
        }
    }
}

/// Answers a request once per key.
pub(super) async fn once(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    if request.method() != Method::POST || !request.headers().contains_key(KEY) {
        return next.run(request).await;
    }
    match keyed(&shared, request, next).await {
        Ok(response) => response,
        Err(error) => error.into_response(),
    }
}

async fn keyed(shared: &Arc<Shared>, request: Request, next: Next) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let key = parts.headers.get(KEY).and_then(|key| key.to_str().ok()).map(str::trim);
    let key = key.filter(|key| !key.is_empty() && key.len() <= KEY_BYTES);
    let key = key.ok_or_else(|| {
        let message = format!("`Idempotency-Key` must have 1 to {KEY_BYTES} printable characters");
        ApiError::invalid(message, "Idempotency-Key")
    })?;
    let caller = parts.extensions.get::<Caller>().map(|caller| caller.id);
    let name = (caller, parts.uri.path().to_owned(), key.to_owned());
    let told = parts
        .headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse().ok());
    // The route takes a share of its own.
    let (body, _) = shared.limits.read(body, told, None).await?;
    match shared.answers.look(&name, Digest::of(&[&body]), Instant::now()) {
        Meaning::Other => Err(ApiError::key_of_another()),
        Meaning::Running => Err(ApiError::key_in_use()),
        Meaning::Answered(answer) => {
            let mut response = (answer.status, answer.body).into_response();
            *response.headers_mut() = answer.headers;
            response
                .headers_mut()
                .insert(REPLAYED, HeaderValue::from_static("true"));
            Ok(response)
        }
        Meaning::New => {
            let mut recording = Recording {
                shared: shared.clone(),
                name,
                status: StatusCode::OK,
                headers: HeaderMap::new(),
                body: BytesMut::new(),
                too_long: false,
                over: false,
            };
            let response = next.run(Request::from_parts(parts, Body::from(body))).await;
            if !response.status().is_success() {
                return Ok(response);
            }
            (recording.status, recording.headers) = (response.status(), response.headers().clone());
            Ok(recorded(response, recording))
        }
    }
}

/// The response, with each of its bytes recorded as it passes.
fn recorded(response: Response, recording: Recording) -> Response {
    let (parts, body) = response.into_parts();
    let course = (body.into_data_stream(), Some(recording));
    let bytes = futures::stream::unfold(course, |(mut body, mut recording)| async move {
        match body.next().await {
            Some(Ok(bytes)) => {
                if let Some(recording) = &mut recording {
                    recording.take(&bytes);
                }
                Some((Ok(bytes), (body, recording)))
            }
            Some(Err(error)) => Some((Err(error), (body, None))),
            None => {
                if let Some(recording) = recording.take() {
                    recording.end();
                }
                None
            }
        }
    });
    Response::from_parts(parts, Body::from_stream(bytes))
}

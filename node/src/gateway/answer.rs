//! An answer on its way to the client: bytes as they come, and the seam at the end.
//!
//! What an answer cost is known only after its last byte. The usage event and `[DONE]` therefore wait for the summary,
//! which is merged into the usage as `infernet`, or told in a comment where the client asked for no usage. A stream
//! never ends silently: its last event is `[DONE]` or an error.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt as _};
use infernet_inference::ContentType;
use infernet_inference::json::{self, Edit, Object};
use infernet_inference::sse::{Splitter, TooLong};
use infernet_inference::watch::ANSWER_BYTES;
use infernet_inference::wire::{DONE, usage_json};
use infernet_protocol::{JobId, Price, RequestId};
use memchr::memmem;

use super::dialect::{self, Dialect};
use super::errors::ApiError;
use super::inference::{InferError, Part, Reply, Summary};
use super::metrics::Watching;

/// How long a complete answer waits for its receipt before it goes out without.
const SUMMARY_WITHIN: Duration = Duration::from_secs(2);

/// What a request wants of its answer's form.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// As a stream.
    pub(super) stream: bool,
    /// With usage at the end of the stream.
    pub(super) usage: bool,
}

/// The response to a request that is being answered.
pub(super) async fn respond(
    reply: Reply,
    wanted: Wanted,
    mut watching: Watching,
    dialect: Option<Box<dyn Dialect>>,
) -> Response {
    watching.begun(&reply.source);
    let told = told(&reply);
    // Another success than this one has no body, or a part of one.
    let is_good = reply.status == StatusCode::OK.as_u16();
    let is_stream = reply.content_type == ContentType::EventStream;
    let names = Names {
        job: reply.job,
        request: reply.request,
    };
    let (content_type, body) = match is_good {
        true if is_stream != wanted.stream => {
            watching.failed();
            ("", Err(ApiError::of(other_form(), &[])))
        }
        true if is_stream => {
            let seam = Seam {
                body: reply.body,
                names,
                usage_asked: wanted.usage,
                splitter: Splitter::default(),
                held: Held::default(),
                over: false,
                watching,
            };
            match dialect {
                None => ("text/event-stream; charset=utf-8", Ok(told_as(seam.events().boxed()))),
                Some(dialect) => (
                    dialect.stream_type(),
                    Ok(told_as(dialect::translated(seam.events().boxed(), dialect))),
                ),
            }
        }
        _ => {
            let whole = document(reply.body, &names, watching).await;
            let whole = whole.and_then(|whole| match dialect {
                _ if !is_good => Err(dialect::refusal(reply.status, whole)),
                Some(dialect) => in_other_words(&whole, dialect),
                None => Ok(whole),
            });
            ("application/json", whole.map(Body::from))
        }
    };
    let mut response = match body {
        Ok(body) => {
            let mut response = body.into_response();
            response
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
            response
        }
        Err(error) => error.into_response(),
    };
    response.headers_mut().extend(told);
    response
}

fn told_as(events: BoxStream<'static, Bytes>) -> Body {
    Body::from_stream(events.map(Ok::<_, Infallible>))
}

fn in_other_words(whole: &[u8], mut dialect: Box<dyn Dialect>) -> Result<Bytes, ApiError> {
    let value = dialect::tree(whole).ok_or_else(|| ApiError::of(broken_off(true), &[]))?;
    Ok(dialect.document(&value).to_string().into())
}

/// Headers that tell who answers.
fn told(reply: &Reply) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut tell = |name: &'static str, value: String| {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    if let Some(job) = reply.job {
        tell("x-infernet-job", job.to_string());
    }
    tell("x-infernet-request", reply.request.to_string());
    if let Some(provider) = &reply.provider {
        tell("x-infernet-provider", provider.clone());
    }
    tell("x-infernet-model", reply.model.to_string());
    tell("x-infernet-source", reply.source.to_string());
    tell("x-infernet-price", price(&reply.price));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // Proxies in front of a gateway would collect a stream before they pass it on.
    headers.insert(
        HeaderName::from_static("x-accel-buffering"),
        HeaderValue::from_static("no"),
    );
    headers
}

/// A price with its units: micro-USD per million tokens, and per request.
fn price(price: &Price) -> String {
    let Price { input, output, request } = price;
    format!(
        "input={}; output={}; request={}; unit=microusd/mtok",
        input.0, output.0, request.0
    )
}

/// What the summary repeats of the head.
struct Names {
    job: Option<JobId>,
    request: RequestId,
}

impl Names {
    /// The `infernet` object.
    fn summary(&self, summary: &Summary) -> String {
        serde_json::json!({
            "job": self.job.map(|job| job.to_string()),
            "request": self.request.to_string(),
            "cost_microusd": summary.cost.0,
            "attempts": summary.attempts,
            "providers": summary.providers,
            "receipt": summary.receipt.map(|receipt| receipt.to_string()),
        })
        .to_string()
    }
}

/// Events that wait for the summary.
#[derive(Default)]
struct Held {
    /// The JSON of the usage event.
    usage: Option<Vec<u8>>,
    done: bool,
}

/// A streamed answer.
struct Seam {
    body: BoxStream<'static, Result<Part, InferError>>,
    names: Names,
    usage_asked: bool,
    /// Cuts what comes into whole events: a provider may send half of one and leave.
    splitter: Splitter,
    held: Held,
    over: bool,
    watching: Watching,
}

impl Seam {
    fn events(self) -> impl Stream<Item = Bytes> + Send + 'static {
        stream::unfold(self, |mut seam| async move {
            let bytes = seam.next().await?;
            Some((bytes, seam))
        })
    }

    async fn next(&mut self) -> Option<Bytes> {
        while !self.over {
            let part = if self.held.done {
                tokio::time::timeout(SUMMARY_WITHIN, self.body.next())
                    .await
                    .unwrap_or(None)
            } else {
                self.body.next().await
            };
            let out = match part {
                Some(Ok(Part::Data(bytes))) => {
                    self.watching.data(&bytes);
                    self.pass(bytes)
                        .unwrap_or_else(|TooLong| Some(self.fail(broken_off(true))))
                }
                Some(Ok(Part::End(summary))) => {
                    self.watching.completed(&summary.usage);
                    Some(self.finish(Some(&summary)))
                }
                // The client has the whole answer; what became of the receipt is not its concern.
                Some(Err(_)) | None if self.held.done => Some(self.finish(None)),
                Some(Err(error)) => Some(self.fail(error)),
                None => Some(self.fail(broken_off(true))),
            };
            if let Some(out) = out.filter(|out| !out.is_empty()) {
                return Some(out);
            }
        }
        None
    }

    /// Passes whole events on, all but the end.
    fn pass(&mut self, bytes: Bytes) -> Result<Option<Bytes>, TooLong> {
        let has = |needle: &[u8]| memmem::find(&bytes, needle).is_some();
        let is_whole = self.splitter.is_empty() && bytes.ends_with(b"\n\n");
        let may_end = has(b"[DONE]") || self.usage_asked && has(b"\"usage\"");
        if is_whole && !may_end {
            return Ok(Some(bytes));
        }
        let mut out = Vec::with_capacity(bytes.len());
        self.splitter.push(bytes);
        while let Some(event) = self.splitter.next_event()? {
            match event.data().as_deref() {
                Some(b"[DONE]") => self.held.done = true,
                Some(payload) if self.usage_asked && is_usage(payload) => self.held.usage = Some(payload.to_vec()),
                _ => out.extend_from_slice(&event.raw),
            }
        }
        Ok(Some(out.into()))
    }

    fn finish(&mut self, summary: Option<&Summary>) -> Bytes {
        self.over = true;
        let mut out = Vec::new();
        let told = summary.map(|summary| self.names.summary(summary));
        match (self.held.usage.take(), told) {
            (Some(usage), Some(told)) => out.extend(event(&merged(&usage, &told))),
            (Some(usage), None) => out.extend(event(&usage)),
            (None, Some(told)) => out.extend_from_slice(format!(": infernet {told}\n\n").as_bytes()),
            (None, None) => {}
        }
        out.extend_from_slice(DONE.as_bytes());
        out.into()
    }

    fn fail(&mut self, error: InferError) -> Bytes {
        self.over = true;
        self.watching.failed();
        ApiError::of(error, &[]).event()
    }
}

fn other_form() -> InferError {
    InferError::Failed {
        reason: "it answered in another form than was asked for".into(),
        delivered: true,
    }
}

fn broken_off(delivered: bool) -> InferError {
    InferError::Failed {
        reason: "the answer broke off".into(),
        delivered,
    }
}

fn event(payload: &[u8]) -> Vec<u8> {
    [b"data: ", payload, b"\n\n"].concat()
}

/// Whether an event tells usage and nothing else.
fn is_usage(payload: &[u8]) -> bool {
    Object::read(payload).is_ok_and(|object| {
        let no_choice = object
            .get("choices")
            .is_none_or(|choices| json::elements(choices).next().is_none());
        no_choice && object.get("usage").is_some()
    })
}

/// `document` with the summary in its usage object.
fn merged(document: &[u8], told: &str) -> Vec<u8> {
    let Ok(object) = Object::read(document) else {
        return document.to_vec();
    };
    let Some(usage) = object.get("usage").and_then(|usage| Object::read(usage).ok()) else {
        return document.to_vec();
    };
    let usage = usage.edited(&[Edit::set("infernet", told)]);
    object.edited(&[Edit::set("usage", String::from_utf8_lossy(&usage))])
}

/// An answer that is not streamed: all of it, with its summary, or an error.
async fn document(
    mut body: BoxStream<'static, Result<Part, InferError>>,
    names: &Names,
    mut watching: Watching,
) -> Result<Bytes, ApiError> {
    let mut document = Vec::new();
    let ended = loop {
        match body.next().await {
            Some(Ok(Part::Data(bytes))) if document.len() + bytes.len() <= ANSWER_BYTES => {
                watching.data(&bytes);
                document.extend_from_slice(&bytes);
            }
            Some(Ok(Part::Data(_))) => break Err(broken_off(true)),
            Some(Ok(Part::End(summary))) => break Ok(summary),
            Some(Err(error)) => break Err(error),
            None => break Err(broken_off(!document.is_empty())),
        }
    };
    let whole = json::validate(&document).is_ok();
    match ended {
        Ok(summary) if whole => {
            watching.completed(&summary.usage);
            Ok(with_usage(&document, &summary, &names.summary(&summary)).into())
        }
        // The client gets the whole answer; what became of the receipt is not its concern.
        Err(_) if whole => Ok(document.into()),
        Err(error) => {
            watching.failed();
            Err(ApiError::of(error, &[]))
        }
        Ok(_) => {
            watching.failed();
            Err(ApiError::of(broken_off(true), &[]))
        }
    }
}

/// `document` with the summary in its usage, which it gets where the engine gave none.
fn with_usage(document: &[u8], summary: &Summary, told: &str) -> Vec<u8> {
    match Object::read(document) {
        Ok(object) if object.get("usage").is_none() => {
            let usage = usage_json(&summary.usage);
            merged(&object.edited(&[Edit::set("usage", usage)]), told)
        }
        _ => merged(document, told),
    }
}

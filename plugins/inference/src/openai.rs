//! Any server that speaks OpenAI's API: Ollama, vLLM, SGLang, MAX, llama.cpp and the rest.
//!
//! Bodies pass through. Of a request, the model's name is mapped, the output bounded, and usage asked for; of an
//! answer, see `relay`. Everything else keeps its bytes, so that features of engines work without being known here.

mod prepare;
mod relay;
mod words;

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt as _, stream};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, Url, redirect};
use tokio::time::{Sleep, sleep};

use crate::backend::{Answer, Backend, BackendError, ContentType, Endpoint, Job, Model, Piece};
use crate::detect::{BackendKind, Shown};
use crate::json;
use relay::{Document, Events, Terms};

/// Header that marks a request as coming from a node of this network: a gateway that meets it refuses, so that a node
/// whose engine is a gateway cannot send a request in circles.
pub const HOP_HEADER: &str = "x-infernet-hop";

/// How long a connection may take: engines are near.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// How long an idle connection is kept: below the five seconds after which the servers of Python engines close it.
const IDLE_FOR: Duration = Duration::from_secs(4);
/// Idle connections kept: as many as slots that a node is likely to have.
const IDLE_MAX: usize = 64;
/// Longest silence: a large model may be loaded, and a long prompt read, before the first byte.
const SILENCE_MAX: Duration = Duration::from_secs(600);
/// How long what is not an inference may take.
const METADATA_WITHIN: Duration = Duration::from_secs(5);
/// Longest error body that is carried on.
const ERROR_BYTES: usize = 64 * 1024;
/// Longest list of models.
const METADATA_BYTES: usize = 4 * 1024 * 1024;
/// Most bytes that are merged into one piece before the reader is asked to take them.
const MERGE_BYTES: usize = 64 * 1024;
/// Models of one server about which is remembered what they can do.
const MODELS_REMEMBERED: usize = 1024;
/// Pieces of an answer that go on as they come: its role, and its first token.
const FIRST_PIECES: u32 = 2;
/// How long an engine may take to close its answer after `[DONE]`, so that its connection can be used again.
const CLOSE_WITHIN: Duration = Duration::from_millis(200);

/// See the module.
#[derive(Clone, Debug)]
pub struct OpenAiBackend {
    kind: BackendKind,
    base: Url,
    client: Client,
    /// What asking about its models has shown, by their names.
    shown: Arc<Mutex<BTreeMap<String, Shown>>>,
}

impl OpenAiBackend {
    /// The server at `address`, such as `http://127.0.0.1:8000`, with or without `/v1`; nothing is asked of it yet.
    pub fn new(kind: BackendKind, address: &str, api_key: Option<&str>) -> Result<Self, BackendError> {
        let bad = |reason: &str| BackendError::Unreachable {
            address: address.to_owned(),
            reason: reason.to_owned(),
        };
        let trimmed = address.trim().trim_end_matches('/');
        let trimmed = trimmed.strip_suffix("/v1").unwrap_or(trimmed);
        let base =
            Url::parse(&format!("{trimmed}/")).map_err(|_| bad("not an address such as http://127.0.0.1:8000"))?;
        if !matches!(base.scheme(), "http" | "https") || !base.has_host() {
            return Err(bad("not an http or https address"));
        }
        let mut headers = HeaderMap::new();
        headers.insert(HOP_HEADER, HeaderValue::from_static("1"));
        if let Some(key) = api_key {
            let mut value = HeaderValue::from_str(&format!("Bearer {key}"))
                .map_err(|_| bad("the API key has characters that a header cannot carry"))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let client = Client::builder()
            .default_headers(headers)
            .no_proxy()
            .redirect(redirect::Policy::none())
            .tcp_nodelay(true)
            .connect_timeout(CONNECT_WITHIN)
            .read_timeout(SILENCE_MAX)
            .pool_idle_timeout(IDLE_FOR)
            .pool_max_idle_per_host(IDLE_MAX)
            .http1_only()
            .build()
            .map_err(|error| bad(&error.to_string()))?;
        Ok(Self {
            kind,
            base,
            client,
            shown: Arc::default(),
        })
    }

    /// What kind of server it is taken for.
    #[must_use]
    pub fn kind(&self) -> BackendKind {
        self.kind
    }

    /// Where it is, without its key.
    #[must_use]
    pub fn address(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    fn url(&self, path: &str) -> Result<Url, BackendError> {
        self.base
            .join(path.trim_start_matches('/'))
            .map_err(|_| BackendError::Broken("its address takes no path"))
    }

    /// Gets a small JSON document; `None` where the server has no such route.
    pub(crate) async fn get(&self, path: &str) -> Result<Option<(HeaderMap, Bytes)>, BackendError> {
        let request = self.client.get(self.url(path)?).timeout(METADATA_WITHIN);
        let response = request.send().await.map_err(|error| self.sending(&error))?;
        match response.status() {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(self.unauthorised()),
            status if status.is_success() => {
                let headers = response.headers().clone();
                let body = bounded(response, METADATA_BYTES).await?;
                Ok(Some((headers, body)))
            }
            status if status == StatusCode::SERVICE_UNAVAILABLE => Err(BackendError::Busy { retry_after: None }),
            _ => Ok(None),
        }
    }

    /// Posts a small JSON document; gives the status and the answer.
    pub(crate) async fn ask(&self, path: &str, body: String) -> Result<(u16, Bytes), BackendError> {
        let request = self.client.post(self.url(path)?).timeout(METADATA_WITHIN);
        let json = HeaderValue::from_static("application/json");
        let response = request.header(CONTENT_TYPE, json).body(body).send().await;
        let response = response.map_err(|error| self.sending(&error))?;
        let status = response.status().as_u16();
        Ok((status, bounded(response, METADATA_BYTES).await?))
    }

    /// What was found out about a model before.
    pub(crate) fn remembered(&self, model: &str) -> Option<Shown> {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.get(model).copied()
    }

    pub(crate) fn remember(&self, model: &str, shown: Shown) {
        let mut known = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MODELS_REMEMBERED {
            known.clear();
        }
        known.insert(model.to_owned(), shown);
    }

    /// Forgets what was found out: another server may have taken the address.
    fn forget(&self) {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn unauthorised(&self) -> BackendError {
        BackendError::Unauthorised {
            address: self.address().to_owned(),
        }
    }

    fn sending(&self, error: &reqwest::Error) -> BackendError {
        if error.is_timeout() && !error.is_connect() {
            return BackendError::Timeout(SILENCE_MAX);
        }
        if error.is_connect() {
            return BackendError::Unreachable {
                address: self.address().to_owned(),
                reason: root(error),
            };
        }
        BackendError::Broken("it closed the connection before it answered")
    }

    /// Sends `body` and waits for the head. A kept connection may have been closed by the server at the moment it was
    /// used again; nothing was answered then, and a second try goes over a new one.
    async fn post(&self, endpoint: Endpoint, body: Bytes) -> Result<Response, BackendError> {
        let url = self.url(endpoint.path())?;
        let send = |body: Bytes| {
            let json = HeaderValue::from_static("application/json");
            self.client
                .post(url.clone())
                .header(CONTENT_TYPE, json)
                .body(body)
                .send()
        };
        match send(body.clone()).await {
            Ok(response) => Ok(response),
            Err(error) if error.is_connect() || error.is_timeout() => Err(self.sending(&error)),
            Err(_) => send(body).await.map_err(|error| self.sending(&error)),
        }
    }

    async fn refusal(&self, response: Response) -> BackendError {
        let status = response.status();
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return self.unauthorised(),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                let seconds = response
                    .headers()
                    .get(RETRY_AFTER)
                    .and_then(|value| value.to_str().ok()?.parse().ok());
                return BackendError::Busy {
                    retry_after: seconds.map(Duration::from_secs),
                };
            }
            // It was listed a moment ago, so that is no fault of the request.
            StatusCode::NOT_FOUND => return BackendError::Gone,
            _ if status.is_redirection() => return BackendError::Broken("it redirects; name its final address"),
            _ => {}
        }
        let body = match tokio::time::timeout(METADATA_WITHIN, bounded(response, ERROR_BYTES)).await {
            Ok(Ok(body)) => body,
            _ => Bytes::new(),
        };
        BackendError::Refused {
            status: status.as_u16(),
            body: words::as_error_object(status.as_u16(), body),
        }
    }
}

#[async_trait]
impl Backend for OpenAiBackend {
    fn name(&self) -> &str {
        self.kind.as_str()
    }

    async fn models(&self) -> Result<Vec<Model>, BackendError> {
        let models = crate::detect::models(self).await;
        if matches!(models, Err(BackendError::Unreachable { .. })) {
            self.forget();
        }
        models
    }

    async fn run(&self, job: Job) -> Result<Answer, BackendError> {
        let prepared = prepare::prepare(&job)?;
        let response = self.post(job.endpoint, prepared.body).await?;
        if !response.status().is_success() {
            return Err(self.refusal(response).await);
        }
        let terms = Terms {
            model: json::quoted(job.id.as_str()),
            usage_is_ours: prepared.usage_is_ours,
            input_bytes: job.body.len() as u64,
        };
        let kind = response
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let framing = ContentType::of(kind);
        let body = response.bytes_stream();
        if framing == ContentType::EventStream {
            let relay = Relay {
                body: Box::pin(body),
                events: Events::new(terms),
                closing: None,
                fresh: false,
                pieces: 0,
                ended: false,
                failure: None,
            };
            return Ok(Answer::new(framing, relay));
        }
        Ok(Answer::new(framing, whole(body, Document::new(terms))))
    }
}

/// A document's pieces, once it is there.
fn whole(
    body: impl Stream<Item = reqwest::Result<Bytes>> + Send + 'static,
    document: Document,
) -> impl Stream<Item = Result<Piece, BackendError>> + Send {
    let collect = async move {
        let mut body = Box::pin(body);
        let mut document = document;
        while let Some(chunk) = body.next().await {
            document.push(&chunk.map_err(|error| reading(&error))?)?;
        }
        document.end()
    };
    stream::once(collect).flat_map(|end: Result<[Piece; 2], BackendError>| {
        stream::iter(match end {
            Ok(pieces) => VecDeque::from(pieces.map(Ok)),
            Err(error) => VecDeque::from([Err(error)]),
        })
    })
}

/// A streamed answer, driven by whoever reads it: no task stands between the engine and the reader, so that a slow
/// reader slows the engine, and one that goes away closes the engine's connection.
struct Relay {
    body: Pin<Box<dyn Stream<Item = reqwest::Result<Bytes>> + Send>>,
    events: Events,
    /// Runs out when the engine does not close after `[DONE]`.
    closing: Option<Pin<Box<Sleep>>>,
    /// Something came since the connection was last let run.
    fresh: bool,
    /// Pieces that went on.
    pieces: u32,
    ended: bool,
    failure: Option<BackendError>,
}

impl Relay {
    /// Reads what is there, and returns whether the body has ended.
    fn fill(&mut self, context: &mut Context<'_>) -> Result<Poll<()>, BackendError> {
        while self.events.ready() < MERGE_BYTES {
            match self.body.as_mut().poll_next(context) {
                Poll::Ready(Some(Ok(chunk))) => {
                    self.events.push(chunk)?;
                    self.fresh = true;
                }
                Poll::Ready(Some(Err(error))) => {
                    // After its last word, how an engine hangs up is its own affair.
                    if self.events.is_done() {
                        return Ok(Poll::Ready(()));
                    }
                    return Err(reading(&error));
                }
                Poll::Ready(None) => {
                    self.events.end()?;
                    return Ok(Poll::Ready(()));
                }
                Poll::Pending => break,
            }
        }
        Ok(Poll::Pending)
    }
}

impl Stream for Relay {
    type Item = Result<Piece, BackendError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if !this.ended {
            match this.fill(context) {
                // The connection hands over one chunk at a time: it is let run once more, so that what the engine has
                // ready goes on as one piece. Nothing is waited for, and the first pieces, for which a person waits, are
                // not merged.
                Ok(Poll::Pending)
                    if this.fresh && this.pieces >= FIRST_PIECES && (1..MERGE_BYTES).contains(&this.events.ready()) =>
                {
                    this.fresh = false;
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Ok(Poll::Pending) => {}
                Ok(Poll::Ready(())) => this.ended = true,
                Err(error) => {
                    this.ended = true;
                    this.failure = Some(error);
                    this.body = Box::pin(stream::empty());
                }
            }
        }
        // What came before an error goes out before it.
        if let Some(piece) = this.events.take() {
            this.pieces = this.pieces.saturating_add(1);
            return Poll::Ready(Some(Ok(piece)));
        }
        if let Some(error) = this.failure.take() {
            return Poll::Ready(Some(Err(error)));
        }
        if this.ended {
            return Poll::Ready(None);
        }
        if this.events.is_done() {
            let closing = this.closing.get_or_insert_with(|| Box::pin(sleep(CLOSE_WITHIN)));
            if closing.as_mut().poll(context).is_ready() {
                this.ended = true;
                return Poll::Ready(None);
            }
        }
        Poll::Pending
    }
}

fn reading(error: &reqwest::Error) -> BackendError {
    if error.is_timeout() {
        BackendError::Timeout(SILENCE_MAX)
    } else {
        BackendError::Broken("the connection broke")
    }
}

/// The innermost reason of an error: `connection refused` and not four sentences around it.
fn root(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string().to_lowercase()
}

/// A body that must be short.
async fn bounded(response: Response, most: usize) -> Result<Bytes, BackendError> {
    let mut body = BytesMut::new();
    let mut chunks = Box::pin(response.bytes_stream());
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| reading(&error))?;
        if body.len() + chunk.len() > most {
            return Err(BackendError::Broken("its answer is too long"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

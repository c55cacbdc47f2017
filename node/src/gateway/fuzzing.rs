//! The way of a request and of an answer as functions of bytes, with what must hold of any: for `node/fuzz`, which feeds
//! them whatever reaches new code, and for the tests, which feed them mutations of a corpus.
//!
//! The first byte of an input says whose words it is in, and what follows is the body, or the parts of an answer with
//! [`NEXT_PART`] between them. A function returns where its claims hold, and panics where they do not.

#[cfg(test)]
mod mutation;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use infernet_inference::json::{self, Object};
use infernet_inference::request::CHOICES_MAX;
use infernet_inference::{ContentType, Endpoint, Request, allow};
use infernet_protocol::capability::Features;
use infernet_protocol::ids::MODEL_ID_BYTES;
use infernet_protocol::names::BODY_BYTES;
use infernet_protocol::{Price, RequestId};
use serde_json::Value;

use super::answer::{self, Wanted};
use super::dialect::ollama::Loading;
use super::dialect::{Dialect, anthropic, ollama, responses};
use super::errors::ApiError;
use super::extension::FIELDS;
use super::idempotency::Answers;
use super::inference::{InferError, Inference, InferenceRequest, Part, Reply, ServedModel, Source, Summary};
use super::keys::Keys;
use super::limits::Limits;
use super::metrics::{Metrics, Watching};
use super::reading::{self, Arrived, Words};
use super::{Settings, Shared};

/// Stands between the parts in which an answer comes.
pub const NEXT_PART: u8 = 0x1e;
/// Longest error that is told.
const ERROR_BYTES: usize = 16 * 1024;
/// Ways to read a request.
const READERS: u8 = 10;

/// Digits say it in a corpus that people can read.
fn number(reader: u8) -> u8 {
    reader.wrapping_sub(b'0') % READERS
}

fn words(reader: u8) -> Words {
    match number(reader) {
        0 => Words::OpenAi(Endpoint::ChatCompletions),
        1 => Words::OpenAi(Endpoint::Completions),
        2 => Words::OpenAi(Endpoint::Embeddings),
        3 => Words::Other(responses::read),
        4 => Words::Other(anthropic::read),
        5 => Words::Other(anthropic::read_to_count),
        6 => Words::Other(ollama::read_chat),
        7 => Words::Other(ollama::read_generate),
        8 => Words::Other(|body| ollama::read_embed(body, false)),
        _ => Words::Other(|body| ollama::read_embed(body, true)),
    }
}

/// A request: read, or refused in bounded words. Whether it was read.
///
/// # Panics
/// Where what was read is not what may go on.
pub fn request(input: &[u8]) -> bool {
    let Some((reader, body)) = input.split_first() else {
        return false;
    };
    let arrived = Arrived {
        at: Instant::now(),
        within: Duration::from_secs(600),
        caller: None,
        background: false,
    };
    let _ = ollama::named(body).map_err(|error| refused(&error));
    let loading = match number(*reader) {
        6 => Loading::of_chat(body),
        7 => Loading::of_generate(body),
        _ => None,
    };
    let body = loading.map_or_else(
        || Bytes::copy_from_slice(body),
        |Loading { asked, told }| {
            assert!(told["done"] == true && told["done_reason"].is_string(), "{told}");
            asked.into()
        },
    );
    match reading::read(&words(*reader), &body, &arrived) {
        Ok(asked) => holds(&asked.request),
        Err(error) => {
            refused(&error);
            return false;
        }
    }
    true
}

/// What a request is that was read.
fn holds(asked: &InferenceRequest) {
    let InferenceRequest {
        model,
        request,
        body,
        preferences,
        ..
    } = asked;
    assert!(model.as_str().len() <= MODEL_ID_BYTES && !model.as_str().is_empty());
    assert!((1..=CHOICES_MAX).contains(&request.choices));
    assert!(body.len() as u64 <= BODY_BYTES && request.input_bytes <= body.len() as u64);
    assert!(
        preferences.order.len() <= 64 && preferences.only.len() <= 64 && preferences.quantisations.len() <= 64,
        "bounded preferences"
    );
    // A provider reads it again, and must read the same.
    assert_eq!(json::validate(body), Ok(()));
    assert_eq!(Request::read(request.endpoint, body).as_ref(), Ok(request));
    assert_eq!(allow::check(request.endpoint, body, Features(u32::MAX)), Ok(()));
    let object = Object::read(body).expect("an object");
    assert!(
        FIELDS.iter().all(|field| object.get(field).is_none()),
        "our own fields are taken out"
    );
}

/// What a refusal is.
fn refused(error: &ApiError) {
    assert!(error.status().is_client_error(), "{}", error.status());
    let told: Value = serde_json::from_slice(&error.json()).expect("JSON");
    assert!(
        told["error"]["message"].is_string() && told["error"]["type"].is_string(),
        "{told}"
    );
    for told in [told, anthropic::error(error), ollama::error(error)] {
        assert!(told.to_string().len() < ERROR_BYTES, "a long error");
    }
}

/// An answer: passed on, or put into another API's words, to its end. The status that it was told with.
///
/// # Panics
/// Where a client could not read what it is told, or could not tell where it ends.
pub fn answer(input: &[u8]) -> u16 {
    let &[reader, form, ref said @ ..] = input else {
        return 0;
    };
    let (streamed, usage, ends) = (form & 1 == 0, form & 2 == 0, form >> 2 & 3);
    let mut parts: Vec<_> = said
        .split(|&byte| byte == NEXT_PART)
        .map(|part| Ok(Part::Data(Bytes::copy_from_slice(part))))
        .collect();
    match ends {
        0 | 1 => parts.push(Ok(Part::End(Summary::default()))),
        2 => parts.push(Err(InferError::Deadline { delivered: true })),
        _ => {}
    }
    let reply = Reply {
        job: None,
        request: RequestId([2; 16]),
        provider: None,
        model: infernet_protocol::ModelId::new("m").expect("a name"),
        source: Source::Network,
        price: Price::FREE,
        status: 200,
        content_type: if streamed {
            ContentType::EventStream
        } else {
            ContentType::Json
        },
        body: stream::iter(parts).boxed(),
    };
    // Nobody can ask for a stream of embeddings.
    let wanted = Wanted {
        stream: streamed && !matches!(number(reader), 2 | 8 | 9),
        usage,
    };
    let executor = tokio::runtime::Builder::new_current_thread().enable_time().build();
    executor.expect("an executor").block_on(async {
        let response = answer::respond(reply, wanted, watching().await, dialect_of(reader)).await;
        let (head, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.expect("no body fails");
        match (head.status.as_u16(), streamed) {
            (200, true) => ended(&bytes, number(reader)),
            (200, false) => assert!(json::validate(&bytes).is_ok(), "a document"),
            (502 | 504, _) => assert!(!bytes.is_empty(), "an error is told"),
            (status, _) => panic!("no status of an answer: {status}"),
        }
        head.status.as_u16()
    })
}

/// How a reader's answers are put back, of a request that asks for nothing special.
fn dialect_of(reader: u8) -> Option<Box<dyn Dialect>> {
    let body = r#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"x"}]}"#;
    let body = match number(reader) {
        6 => r#"{"model":"m","messages":[{"role":"user","content":"x"}]}"#,
        3 | 8 => r#"{"model":"m","input":"x"}"#,
        7 | 9 => r#"{"model":"m","prompt":"x"}"#,
        _ => body,
    };
    match words(reader) {
        Words::OpenAi(_) => None,
        Words::Other(read) => Some(read(body.as_bytes()).ok().expect("a good request").dialect),
    }
}

/// A stream ends where it says so, and what another API's client has to parse can be parsed.
fn ended(bytes: &[u8], reader: u8) {
    let text = String::from_utf8_lossy(bytes);
    let parsed = |line: &str| serde_json::from_str::<Value>(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
    let events = || text.lines().filter_map(|line| line.strip_prefix("data: "));
    match reader {
        0..=2 => {
            let last = text.lines().rfind(|line| !line.is_empty()).unwrap_or_default();
            let is_error = || parsed(last.trim_start_matches("data: "))["error"].is_object();
            assert!(
                text.ends_with("\n\n") && (last == "data: [DONE]" || is_error()),
                "no end: {text}"
            );
        }
        3 => {
            let kinds: Vec<_> = events().map(|data| parsed(data)["type"].clone()).collect();
            let last = kinds.last().and_then(Value::as_str);
            let ends = ["response.completed", "response.incomplete", "error"];
            assert!(last.is_some_and(|last| ends.contains(&last)), "no end: {text}");
        }
        4 | 5 => {
            let kinds: Vec<_> = events().map(|data| parsed(data)["type"].clone()).collect();
            let last = kinds.last().and_then(Value::as_str);
            assert!(
                last.is_some_and(|last| ["message_stop", "error"].contains(&last)),
                "no end: {text}"
            );
        }
        _ => {
            let lines: Vec<_> = text.lines().map(parsed).collect();
            let last = lines.last().expect("a line");
            assert!(last["done"] == true || !last["error"].is_null(), "no end: {text}");
        }
    }
}

/// Nobody, who answers nothing: what counts answers needs a gateway.
struct Nobody;

#[async_trait]
impl Inference for Nobody {
    async fn models(&self) -> Vec<ServedModel> {
        Vec::new()
    }

    async fn infer(&self, _: InferenceRequest) -> Result<Reply, InferError> {
        Err(InferError::Deadline { delivered: false })
    }
}

async fn watching() -> Watching {
    let settings = Settings::default();
    let limits = Limits::new(settings.patience);
    let (_, share) = limits
        .read(axum::body::Body::empty(), None, None)
        .await
        .ok()
        .expect("a share");
    let shared = Shared {
        inference: Arc::new(Nobody),
        settings,
        keys: Keys::new(None),
        shelves: None,
        limits,
        answers: Answers::default(),
        batched: tokio::sync::Semaphore::new(1),
        metrics: Metrics::default(),
    };
    Watching::begin(&Arc::new(shared), Instant::now(), Some(share))
}

//! What every backend keeps, as checks that run against a live one: the scripted engine, a server behind the OpenAI
//! backend, the embedded engine, a real llama.cpp.
//!
//! A check tells which clause was broken and how; it never panics, so that a diagnosis can run it too. Which clauses
//! hold depends on what the model is for: those of embeddings are in `embeddings`.

mod embeddings;

use std::fmt;
use std::future::Future;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use infernet_protocol::ModelId;
use infernet_protocol::capability::Features;
use serde_json::Value;
use tokio::time::timeout;

use crate::backend::{Backend, BackendError, ContentType, Counted, Endpoint, Job, Model, Piece, Usage};
use crate::json;
use crate::sse::Splitter;
use crate::watch::{Finish, Seen, Watch};

/// How long one clause may take: a slow engine on a busy machine reads a prompt in seconds.
const CLAUSE_WITHIN: Duration = Duration::from_secs(60);
/// Tokens of a job that is to be cancelled: far more than are made before it is.
const LONG: u32 = 4096;
/// Bytes of a prompt that is longer than most contexts.
const BIG_BYTES: usize = 1024 * 1024;
/// Jobs that run at once.
const AT_ONCE: usize = 4;
/// What a job of several at once asks for.
const STREAMED: &str = r#","stream":true,"max_tokens":8"#;

/// A clause that a backend does not keep.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{clause}: {what}")]
pub struct Violation {
    /// The clause.
    pub clause: &'static str,
    /// What happened instead.
    pub what: String,
}

/// How a check learns that the engine behind a backend has nothing to do.
#[async_trait]
pub trait Idle: Send + Sync {
    /// Returns once the engine runs nothing.
    async fn idle(&self);
}

/// A backend to be checked.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// It.
    pub backend: &'a dyn Backend,
    /// What tells that it is idle.
    pub engine: &'a dyn Idle,
    /// Whether the engine counts tokens itself.
    pub counts: bool,
}

impl fmt::Debug for Subject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject")
            .field("backend", &self.backend.name())
            .finish_non_exhaustive()
    }
}

type Kept = Result<(), String>;

/// Checks every clause in turn, and returns their names.
pub async fn check(subject: Subject<'_>) -> Result<Vec<&'static str>, Violation> {
    let model = clause("a backend lists its models", models(subject)).await?;
    let on = Bench { subject, model: &model };
    let mut kept = vec!["a backend lists its models"];
    macro_rules! clauses {
        ($($name:literal => $check:expr,)*) => {
            $(kept.push($name); clause($name, $check).await?;)*
        };
    }
    if !model.features.contains(Features::CHAT) {
        clauses! {
            "embeddings are one document with a vector for each input" => on.embeds(),
            "a text has the same vector alone and among others" => on.embeds_alike(),
            "vectors in base64 are those in numbers, or refused" => on.embeds_in_base64(),
            "token ids are embedded or refused" => on.embeds_token_ids(),
            "several jobs at once are all answered" => on.at_once(Endpoint::Embeddings, ""),
            "a dropped answer stops the engine" => on.embeds_cancelled(),
            "a job dropped before its head stops the engine" => on.cancelled_early(on.many_inputs()),
            "a malformed request is refused as such" => on.malformed(Endpoint::Embeddings),
            "an unknown model is refused as such" => on.unknown_model(Endpoint::Embeddings, ""),
            "a large input is answered or refused" => on.large(Endpoint::Embeddings, ""),
        }
        return Ok(kept);
    }
    clauses! {
        "a streamed chat is whole events, ends in [DONE] and tells usage once" => on.streams(Endpoint::ChatCompletions),
        "a streamed completion does the same" => on.streams(Endpoint::Completions),
        "a usage chunk goes on when it was asked for, and only then" => on.usage_chunk(),
        "a document is one JSON object with usage" => on.document(),
        "max_tokens bounds the output, the consumer's and the node's" => on.bounded(),
        "a stream says what a document says, characters whole" => on.unicode(),
        "several jobs at once are all answered" => on.at_once(Endpoint::ChatCompletions, STREAMED),
        "a slow reader gets everything" => on.slow_reader(),
        "a dropped answer stops the engine" => on.cancelled(),
        "a job dropped before its head stops the engine" => on.cancelled_early(on.chat(&format!(r#","max_tokens":{LONG}"#))),
        "a malformed request is refused as such" => on.malformed(Endpoint::ChatCompletions),
        "an unknown model is refused as such" => on.unknown_model(Endpoint::ChatCompletions, r#","max_tokens":1"#),
        "a large prompt is answered or refused" => on.large(Endpoint::ChatCompletions, r#","stream":true,"max_tokens":1"#),
    }
    Ok(kept)
}

async fn clause<T>(clause: &'static str, check: impl Future<Output = Result<T, String>>) -> Result<T, Violation> {
    let broken = |what| Violation { clause, what };
    timeout(CLAUSE_WITHIN, check)
        .await
        .map_err(|_| broken("it takes too long".into()))?
        .map_err(broken)
}

async fn models(subject: Subject<'_>) -> Result<Model, String> {
    let models = subject.backend.models().await.map_err(|error| error.to_string())?;
    let model = models.into_iter().next().ok_or("it serves none")?;
    // An id of its own shows whether the name that goes out is the network's.
    let id = ModelId::new(&format!("contract/{}", model.id)).map_err(|error| error.to_string())?;
    Ok(Model { id, ..model })
}

/// One whole answer.
struct Told {
    bytes: Vec<u8>,
    content_type: ContentType,
    usage: Usage,
    seen: Seen,
}

struct Bench<'a> {
    subject: Subject<'a>,
    model: &'a Model,
}

impl Bench<'_> {
    fn job(&self, endpoint: Endpoint, prompt: &str, rest: &str) -> Job {
        let (model, prompt) = (json::quoted(&self.model.name), json::quoted(prompt));
        let asked = match endpoint {
            Endpoint::ChatCompletions => format!(r#""messages":[{{"role":"user","content":{prompt}}}]"#),
            Endpoint::Completions => format!(r#""prompt":{prompt}"#),
            Endpoint::Embeddings => format!(r#""input":{prompt}"#),
        };
        Job {
            endpoint,
            model: self.model.name.clone(),
            id: self.model.id.clone(),
            body: format!(r#"{{"model":{model},{asked}{rest}}}"#).into(),
            max_output: None,
            resume: None,
        }
    }

    /// A job of a few words.
    fn plain(&self, endpoint: Endpoint, rest: &str) -> Job {
        self.job(endpoint, "Tell me a story about a fox.", rest)
    }

    fn chat(&self, rest: &str) -> Job {
        self.plain(Endpoint::ChatCompletions, rest)
    }

    /// Runs a job to its end and checks what holds for every answer.
    async fn tell(&self, job: Job) -> Result<Told, String> {
        let request_bytes = job.body.len() as u64;
        let mut answer = self.subject.backend.run(job).await.map_err(|error| error.to_string())?;
        let content_type = answer.content_type;
        let mut watch = Watch::new(content_type);
        let (mut bytes, mut usage) = (Vec::new(), None);
        while let Some(piece) = answer.next().await {
            match piece.map_err(|error| error.to_string())? {
                Piece::Data { bytes: data, .. } => {
                    if usage.is_some() {
                        return Err("data comes after usage".into());
                    }
                    if content_type == ContentType::EventStream && !whole_events(&data) {
                        return Err("a piece ends inside an event".into());
                    }
                    watch.push(&data).map_err(|error| error.to_string())?;
                    bytes.extend_from_slice(&data);
                }
                Piece::Usage(told) if usage.is_none() => usage = Some(told),
                Piece::Usage(_) => return Err("usage is told twice".into()),
            }
        }
        let seen = watch.end();
        let usage = usage.ok_or("usage is not told")?;
        seen.plausible(&usage, request_bytes)
            .map_err(|error| error.to_string())?;
        if !seen.done {
            return Err("the answer is not whole".into());
        }
        if self.subject.counts && usage.counted != Counted::Engine {
            return Err("usage is an estimate".into());
        }
        Ok(Told {
            bytes,
            content_type,
            usage,
            seen,
        })
    }

    async fn streams(&self, endpoint: Endpoint) -> Kept {
        let told = self
            .tell(self.job(endpoint, "Once upon a time", r#","stream":true,"max_tokens":12"#))
            .await?;
        if told.content_type != ContentType::EventStream {
            return Err("it is not streamed".into());
        }
        let chunks = chunks(&told.bytes)?;
        let id = self.model.id.as_str();
        if let Some(other) = chunks.iter().find(|chunk| chunk["model"] != id) {
            return Err(format!("a chunk names the model `{}`, not `{id}`", other["model"]));
        }
        if told.seen.finish.is_none() || told.usage.input_tokens == 0 || told.usage.output_tokens == 0 {
            return Err(format!("finish {:?}, {:?}", told.seen.finish, told.usage));
        }
        Ok(())
    }

    async fn usage_chunk(&self) -> Kept {
        let usages = |told: &Told| -> Result<usize, String> {
            Ok(chunks(&told.bytes)?
                .iter()
                .filter(|chunk| chunk["choices"] == Value::Array(vec![]))
                .count())
        };
        let plain = self.tell(self.chat(r#","stream":true,"max_tokens":3"#)).await?;
        if usages(&plain)? != 0 {
            return Err("one goes on that nobody asked for".into());
        }
        let asked = self.chat(r#","stream":true,"max_tokens":3,"stream_options":{"include_usage":true}"#);
        let asked = self.tell(asked).await?;
        if usages(&asked)? != 1 || asked.seen.usage.is_none() {
            return Err("the one that was asked for is missing".into());
        }
        Ok(())
    }

    async fn document(&self) -> Kept {
        let told = self.tell(self.chat(r#","max_tokens":5"#)).await?;
        let document: Value = serde_json::from_slice(&told.bytes).map_err(|error| error.to_string())?;
        if told.content_type != ContentType::Json || document["model"] != self.model.id.as_str() {
            return Err(format!("{:?} of model {}", told.content_type, document["model"]));
        }
        let claimed = told.seen.usage.map(|usage| usage.output_tokens);
        if self.subject.counts && claimed != Some(told.usage.output_tokens) {
            return Err(format!(
                "the document says {claimed:?} tokens, the backend {:?}",
                told.usage
            ));
        }
        Ok(())
    }

    async fn bounded(&self) -> Kept {
        let theirs = self.chat(r#","stream":true,"max_tokens":2"#);
        let ours = Job {
            max_output: Some(2),
            ..self.chat(r#","stream":true"#)
        };
        let smaller = Job {
            max_output: Some(2),
            ..self.chat(r#","stream":true,"max_tokens":200"#)
        };
        for job in [theirs, ours, smaller] {
            let told = self.tell(job).await?;
            if told.usage.output_tokens > 2 || told.seen.finish != Some(Finish::Length) {
                return Err(format!("{:?}, finish {:?}", told.usage, told.seen.finish));
            }
        }
        Ok(())
    }

    async fn unicode(&self) -> Kept {
        let prompt = "Répète : naïve 日本語 \u{1f98a}\u{1f98a} \u{65}\u{301}";
        let greedy = |rest: &str| {
            let rest = format!(r#","temperature":0,"seed":1,"max_tokens":40{rest}"#);
            self.tell(self.job(Endpoint::ChatCompletions, prompt, &rest))
        };
        let streamed = greedy(r#","stream":true"#).await?;
        let whole = greedy("").await?;
        let chunks = chunks(&streamed.bytes)?;
        let text: String = chunks
            .iter()
            .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str())
            .collect();
        let whole: Value = serde_json::from_slice(&whole.bytes).map_err(|error| error.to_string())?;
        match whole["choices"][0]["message"]["content"].as_str() {
            Some(whole) if whole == text => Ok(()),
            _ => Err("the stream's text is not the document's".into()),
        }
    }

    async fn at_once(&self, endpoint: Endpoint, rest: &str) -> Kept {
        let jobs = (0..AT_ONCE).map(|_| self.tell(self.plain(endpoint, rest)));
        for told in futures::future::join_all(jobs).await {
            told?;
        }
        Ok(())
    }

    async fn slow_reader(&self) -> Kept {
        let job = self.chat(r#","stream":true,"max_tokens":30"#);
        let mut answer = self.subject.backend.run(job).await.map_err(|error| error.to_string())?;
        let mut watch = Watch::new(answer.content_type);
        while let Some(piece) = answer.next().await {
            if let Piece::Data { bytes, .. } = piece.map_err(|error| error.to_string())? {
                watch.push(&bytes).map_err(|error| error.to_string())?;
            }
            // Slower than any engine makes tokens of a small model.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        if watch.end().done {
            Ok(())
        } else {
            Err("something is missing".into())
        }
    }

    async fn cancelled(&self) -> Kept {
        let job = self.chat(&format!(r#","stream":true,"max_tokens":{LONG}"#));
        let mut answer = self.subject.backend.run(job).await.map_err(|error| error.to_string())?;
        match answer.next().await {
            Some(Ok(Piece::Data { .. })) => {}
            other => return Err(format!("the first piece is {other:?}")),
        }
        drop(answer);
        self.subject.engine.idle().await;
        Ok(())
    }

    async fn cancelled_early(&self, job: Job) -> Kept {
        // One poll sends the request; whether the head is there by then is the engine's affair.
        let run = self.subject.backend.run(job);
        drop(timeout(Duration::from_millis(20), run).await);
        self.subject.engine.idle().await;
        Ok(())
    }

    async fn malformed(&self, endpoint: Endpoint) -> Kept {
        for body in [
            "{",
            "[]",
            r#"{"messages":7}"#,
            r#"{"model":"a","model":"b","messages":[]}"#,
        ] {
            let job = Job {
                body: Bytes::from_static(body.as_bytes()),
                ..self.plain(endpoint, "")
            };
            match self.subject.backend.run(job).await {
                Err(BackendError::Refused { status: 400..500, .. }) => {}
                Err(BackendError::Refused { status: 500, body }) if !body.is_empty() => {}
                other => return Err(format!("`{body}` gives {other:?}")),
            }
        }
        Ok(())
    }

    async fn unknown_model(&self, endpoint: Endpoint, rest: &str) -> Kept {
        // Servers of a single model answer in its name whatever is asked for.
        let job = Job {
            model: "no-such-model".into(),
            ..self.plain(endpoint, rest)
        };
        match self.subject.backend.run(job).await {
            Ok(_) | Err(BackendError::Gone | BackendError::Refused { status: 400..500, .. }) => Ok(()),
            Err(other) => Err(other.to_string()),
        }
    }

    async fn large(&self, endpoint: Endpoint, rest: &str) -> Kept {
        let prompt = "fox ".repeat(BIG_BYTES / 4);
        match self.tell(self.job(endpoint, &prompt, rest)).await {
            Ok(_) => Ok(()),
            Err(error) if error.contains("status 4") => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn whole_events(data: &[u8]) -> bool {
    let mut splitter = Splitter::default();
    splitter.push(Bytes::copy_from_slice(data));
    while let Ok(Some(_)) = splitter.next_event() {}
    !splitter.is_inside_event()
}

/// The JSON documents of a stream.
fn chunks(bytes: &[u8]) -> Result<Vec<Value>, String> {
    let mut splitter = Splitter::default();
    splitter.push(Bytes::copy_from_slice(bytes));
    let mut chunks = Vec::new();
    while let Some(event) = splitter.next_event().map_err(|error| error.to_string())? {
        match event.data().as_deref() {
            None | Some(b"[DONE]") => {}
            Some(data) => chunks.push(serde_json::from_slice(data).map_err(|error| error.to_string())?),
        }
    }
    Ok(chunks)
}

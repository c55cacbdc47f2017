//! The engine in this process, spoken to in OpenAI's shapes: a node with no inference server installed can still serve.
//!
//! It does what a plain chat or completion asks; a field that it would have to ignore is refused by name. Token ids go
//! along with the text, and an answer that another provider began is continued from them exactly.

mod parse;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{Stream, stream};
use infernet_engine::{Engine, Event, LoadError, Params, Reason, Refusal, Sequence};
use infernet_protocol::capability::Features;

use crate::backend::{Answer, Backend, BackendError, ContentType, Continuation, Counted, Job, Model, Piece, Usage};
use crate::request::Request;
use crate::watch::Finish;
use crate::wire::{Writer, error_json};
use parse::{Parsed, Prompt};

/// What the network calls the model that comes with this program.
pub const DEMO_MODEL: &str = "infernet-demo";
/// It: a Q8_0 GGUF that `infernet-demo-model` makes.
const DEMO_FILE: &[u8] = include_bytes!("../demo-model/infernet-demo.gguf");

/// Texts up to this length are cut into tokens where they arrive, in well under a millisecond; longer ones beside.
const INLINE_BYTES: usize = 4 * 1024;
/// Bytes of text per token of context above which a prompt is not even looked at: words are shorter.
const BYTES_PER_CONTEXT_TOKEN: usize = 64;
/// Most events that are merged into one piece.
const MERGE_EVENTS: usize = 32;

/// Why an embedded engine does not start.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// The file cannot be used.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Its name cannot be a model's.
    #[error("`{0}` cannot be the name of a model; rename the file")]
    Name(String),
    /// The system gives no thread.
    #[error("the engine's thread cannot be started ({0}); free some memory")]
    Thread(#[from] std::io::Error),
}

/// See the module.
#[derive(Clone, Debug)]
pub struct EmbeddedBackend {
    engine: Arc<Engine>,
    model: Model,
}

impl EmbeddedBackend {
    /// The demo model, `slots` requests at once.
    pub fn demo(slots: usize) -> Result<Self, EmbeddedError> {
        Self::start(infernet_engine::Model::from_bytes(DEMO_FILE)?, DEMO_MODEL, slots)
    }

    /// A GGUF file, `slots` requests at once. Reads it: seconds, for one of some gigabytes.
    pub fn open(path: &Path, slots: usize) -> Result<Self, EmbeddedError> {
        let model = infernet_engine::Model::open(path)?;
        let name = model.info().name.clone();
        Self::start(model, &name, slots)
    }

    fn start(file: infernet_engine::Model, name: &str, slots: usize) -> Result<Self, EmbeddedError> {
        let model = Model::named(name).ok_or_else(|| EmbeddedError::Name(name.to_owned()))?;
        let info = file.info();
        let model = Model {
            digest: Some(info.weights_digest),
            context: u32::try_from(info.context_length).ok(),
            quantisation: Some(info.quantisation.to_lowercase()),
            features: model.features.with(Features::CONTINUE),
            slots: u16::try_from(slots).ok(),
            ..model
        };
        Ok(Self {
            engine: Arc::new(Engine::start(file, slots)?),
            model,
        })
    }

    /// What it serves.
    #[must_use]
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Requests that run or wait now.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.engine.in_flight()
    }

    /// Token ids of the prompt, cut beside the runtime's threads where that takes long.
    async fn tokens(&self, prompt: Prompt) -> Result<Vec<u32>, BackendError> {
        let bytes = prompt.bytes();
        let context = self.engine.model().info().context_length;
        if bytes > context.saturating_mul(BYTES_PER_CONTEXT_TOKEN) {
            return Err(too_long("the prompt is far longer than the model's context"));
        }
        let model = self.engine.model().clone();
        if bytes <= INLINE_BYTES {
            return prompt.tokens(&model);
        }
        let cut = tokio::task::spawn_blocking(move || prompt.tokens(&model)).await;
        cut.map_err(|_| BackendError::Broken("its tokenizer failed"))?
    }
}

#[async_trait]
impl Backend for EmbeddedBackend {
    fn name(&self) -> &str {
        "embedded"
    }

    async fn models(&self) -> Result<Vec<Model>, BackendError> {
        Ok(vec![self.model.clone()])
    }

    async fn run(&self, job: Job) -> Result<Answer, BackendError> {
        let request = Request::read(job.endpoint, &job.body).map_err(|error| parse::refused(&error))?;
        if job.model != self.model.name {
            let body = error_json(
                "this engine has no such model",
                "invalid_request_error",
                Some("model"),
                Some("model_not_found"),
            );
            return Err(BackendError::Refused {
                status: 404,
                body: body.into(),
            });
        }
        let Parsed { prompt, mut params } = parse::parse(&request, &job)?;
        let mut ids = self.tokens(prompt).await?;
        let resumed = match &job.resume {
            None => Vec::new(),
            Some(Continuation::Tokens(tokens)) => tokens.clone(),
            Some(Continuation::Text(text)) => self
                .engine
                .model()
                .tokenize(text, false)
                .map_err(|error| parse::bad(&error.to_string(), None))?,
        };
        params.already_generated = u32::try_from(resumed.len()).unwrap_or(u32::MAX);
        ids.extend(resumed);
        let sequence = self.generate(ids, params)?;
        let content_type = if request.stream {
            ContentType::EventStream
        } else {
            ContentType::Json
        };
        let writer = Writer::new(&request, job.id.as_str());
        Ok(Answer::new(
            content_type,
            Telling {
                sequence,
                writer: Some(writer),
                ids: Vec::new(),
                usage: None,
            }
            .pieces(),
        ))
    }
}

impl EmbeddedBackend {
    fn generate(&self, ids: Vec<u32>, params: Params) -> Result<Sequence, BackendError> {
        self.engine.generate(ids, params).map_err(|refusal| match &refusal {
            Refusal::Busy { .. } => BackendError::Busy { retry_after: None },
            Refusal::PromptTooLong { .. } => too_long(&refusal.to_string()),
            Refusal::Parameter { name, .. } => parse::bad(&refusal.to_string(), Some(name)),
            Refusal::EmptyPrompt | Refusal::UnknownToken { .. } => parse::bad(&refusal.to_string(), None),
            _ => BackendError::Broken("it has stopped"),
        })
    }
}

fn too_long(message: &str) -> BackendError {
    let body = error_json(message, "invalid_request_error", None, Some("context_length_exceeded"));
    BackendError::Refused {
        status: 400,
        body: body.into(),
    }
}

/// One answer on its way out; dropping it drops the sequence, which ends before its next token.
struct Telling {
    sequence: Sequence,
    /// Gone after the end.
    writer: Option<Writer>,
    /// Ids behind text that has not gone out: all of them, where the answer is one document.
    ids: Vec<u32>,
    usage: Option<Usage>,
}

impl Telling {
    fn pieces(self) -> impl Stream<Item = Result<Piece, BackendError>> + Send + 'static {
        stream::unfold(self, |mut telling| async move {
            let piece = telling.next().await?;
            Some((piece, telling))
        })
    }

    async fn next(&mut self) -> Option<Result<Piece, BackendError>> {
        if let Some(usage) = self.usage.take() {
            return Some(Ok(Piece::Usage(usage)));
        }
        loop {
            self.writer.as_ref()?;
            let Some(event) = self.sequence.recv().await else {
                self.writer = None;
                return Some(Err(BackendError::Broken("it has stopped")));
            };
            if let Some(piece) = self.tell(event) {
                return Some(piece);
            }
        }
    }

    fn tell(&mut self, event: Event) -> Option<Result<Piece, BackendError>> {
        let mut text = String::new();
        let mut event = Some(event);
        let mut merged = 0;
        let last = loop {
            match event {
                Some(Event::Token { text: more, ids }) => {
                    text.push_str(&more);
                    self.ids.extend(ids);
                }
                other => break other,
            }
            merged += 1;
            event = if merged < MERGE_EVENTS {
                self.sequence.try_recv()
            } else {
                None
            };
        };
        let mut writer = self.writer.take()?;
        let mut out = Vec::new();
        if !text.is_empty() {
            out.extend(writer.text(&text));
        }
        match last {
            None => {
                self.writer = Some(writer);
                let bytes = out.pop()?;
                Some(Ok(self.data(bytes)))
            }
            Some(Event::Done { reason, usage }) => {
                let usage = Usage {
                    input_tokens: usage.prompt_tokens,
                    output_tokens: usage.completion_tokens,
                    counted: Counted::Engine,
                };
                let finish = if reason == Reason::Length {
                    Finish::Length
                } else {
                    Finish::Stop
                };
                self.usage = Some(usage);
                out.push(writer.end(finish, &usage));
                Some(Ok(self.data(out.concat().into())))
            }
            Some(Event::Failed(error)) => {
                let body = error_json(&error.to_string(), "server_error", None, None);
                Some(Err(BackendError::Failed { body: body.into() }))
            }
            Some(Event::Token { .. }) => None,
        }
    }

    fn data(&mut self, bytes: Bytes) -> Piece {
        Piece::Data {
            bytes,
            tokens: Some(std::mem::take(&mut self.ids)),
        }
    }
}

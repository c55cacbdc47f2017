//! What an inference engine is to the rest of the node: what it serves, and one job run on it.
//!
//! A backend takes the consumer's OpenAI body as it came and answers in OpenAI's wire shapes. Who may ask, what a
//! request may contain and what it costs are settled before a job reaches it.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use infernet_protocol::ModelId;
use infernet_protocol::capability::Features;

use crate::watch::Seen;

/// An engine, or a server in front of one.
#[async_trait]
pub trait Backend: Send + Sync + fmt::Debug {
    /// What kind of engine answers: `ollama`, `openai`, `embedded`, `scripted`.
    fn name(&self) -> &str;

    /// What it serves now.
    async fn models(&self) -> Result<Vec<Model>, BackendError>;

    /// Runs one job; returns once the engine has answered with a status. Dropping the future, or later the
    /// [`Answer`], cancels the job in the engine at once.
    async fn run(&self, job: Job) -> Result<Answer, BackendError>;
}

/// A model as one backend serves it. What an engine does not tell is `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// What the network calls it.
    pub id: ModelId,
    /// What the engine calls it: the name that its requests must carry.
    pub name: String,
    /// SHA-256 of the weights.
    pub digest: Option<[u8; 32]>,
    /// Longest input and output together, in tokens.
    pub context: Option<u32>,
    /// The engine's word for it: `q8_0`, `fp8`.
    pub quantisation: Option<String>,
    /// What requests may use.
    pub features: Features,
    /// Most output tokens of one choice.
    pub max_output: Option<u32>,
    /// How many requests the engine says it runs at once.
    pub slots: Option<u16>,
}

impl Model {
    /// A model of which nothing is known but the engine's name for it. `None` when that cannot be a network id.
    ///
    /// Servers that were given a file name their model after it, with its path, which tells about the machine: the
    /// network hears the file's bare name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let stem = name.strip_suffix(".gguf").unwrap_or(name);
        let is_path = stem.len() < name.len() || name.starts_with(['/', '.', '~', '\\']) || name.get(1..2) == Some(":");
        let public = if is_path {
            stem.rsplit(['/', '\\']).next().unwrap_or(stem)
        } else {
            name
        };
        Some(Self {
            id: ModelId::new(&public.replace(' ', "-")).ok()?,
            name: name.to_owned(),
            digest: None,
            context: None,
            quantisation: None,
            features: Features::CHAT.with(Features::COMPLETIONS),
            max_output: None,
            slots: None,
        })
    }
}

/// A route of OpenAI's API that an engine can serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `/v1/chat/completions`
    ChatCompletions,
    /// `/v1/completions`
    Completions,
    /// `/v1/embeddings`
    Embeddings,
}

impl Endpoint {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::ChatCompletions, Self::Completions, Self::Embeddings];

    /// The route's path, with its leading slash.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::ChatCompletions => "/v1/chat/completions",
            Self::Completions => "/v1/completions",
            Self::Embeddings => "/v1/embeddings",
        }
    }

    /// The endpoint of a path.
    #[must_use]
    pub fn parse(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|endpoint| endpoint.path() == path)
    }
}

/// One request for one engine.
#[derive(Clone)]
pub struct Job {
    /// Which route.
    pub endpoint: Endpoint,
    /// The engine's own name of the model, put into the request.
    pub model: String,
    /// The network's name of it, put into the answer.
    pub id: ModelId,
    /// The consumer's JSON, as it came.
    pub body: Bytes,
    /// Most output tokens of one choice: inserted where the body has none, and a bound on what it has.
    pub max_output: Option<u32>,
    /// What another provider delivered of the answer, to go on from.
    pub resume: Option<Continuation>,
}

impl fmt::Debug for Job {
    /// Without the text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("endpoint", &self.endpoint)
            .field("model", &self.model)
            .field("body_bytes", &self.body.len())
            .field("max_output", &self.max_output)
            .field("resume", &self.resume)
            .finish()
    }
}

/// The part of an answer that was delivered already.
#[derive(Clone, PartialEq, Eq)]
pub enum Continuation {
    /// As text.
    Text(String),
    /// As token ids of the same weights.
    Tokens(Vec<u32>),
}

impl fmt::Debug for Continuation {
    /// Without the text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "Text({} bytes)", text.len()),
            Self::Tokens(tokens) => write!(f, "Tokens({})", tokens.len()),
        }
    }
}

/// How an answer is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentType {
    /// `application/json`: one document.
    Json,
    /// `text/event-stream`: server-sent events.
    EventStream,
}

impl ContentType {
    /// What a header says: events, or else a document.
    #[must_use]
    pub fn of(header: &str) -> Self {
        match header.starts_with(Self::EventStream.as_str()) {
            true => Self::EventStream,
            false => Self::Json,
        }
    }

    /// The header's value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::EventStream => "text/event-stream",
        }
    }
}

/// The pieces of an answer as a stream.
pub type Pieces = Pin<Box<dyn Stream<Item = Result<Piece, BackendError>> + Send>>;

/// An engine's answer, as it comes. Dropping it cancels the job in the engine.
pub struct Answer {
    /// HTTP status, always a success: refusals are errors of [`Backend::run`].
    pub status: u16,
    /// How the bytes are framed.
    pub content_type: ContentType,
    pieces: Pieces,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("status", &self.status)
            .field("content_type", &self.content_type)
            .finish_non_exhaustive()
    }
}

impl Answer {
    /// A successful answer made of `pieces`.
    pub fn new(
        content_type: ContentType,
        pieces: impl Stream<Item = Result<Piece, BackendError>> + Send + 'static,
    ) -> Self {
        Self {
            status: 200,
            content_type,
            pieces: Box::pin(pieces),
        }
    }

    /// The next piece. After `None`, or after an error, there is nothing more; an answer that ends with `None` was
    /// complete and has told its usage.
    pub async fn next(&mut self) -> Option<Result<Piece, BackendError>> {
        self.pieces.next().await
    }

    /// The pieces as a stream.
    #[must_use]
    pub fn into_pieces(self) -> Pieces {
        self.pieces
    }
}

/// A part of an answer.
#[derive(Clone, PartialEq, Eq)]
pub enum Piece {
    /// Bytes for the consumer: whole server-sent events, several where several were ready, or a part of a JSON body.
    Data {
        /// What goes to the consumer.
        bytes: Bytes,
        /// The token ids behind it, where the engine hands them over.
        tokens: Option<Vec<u32>>,
    },
    /// What the answer counts: once, after the last data.
    Usage(Usage),
}

impl Piece {
    /// Data of an engine that does not tell token ids.
    #[must_use]
    pub fn data(bytes: Bytes) -> Self {
        Self::Data { bytes, tokens: None }
    }
}

impl fmt::Debug for Piece {
    /// Without the text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Data { bytes, tokens } => {
                write!(
                    f,
                    "Data({} bytes, {} ids)",
                    bytes.len(),
                    tokens.as_ref().map_or(0, Vec::len)
                )
            }
            Self::Usage(usage) => usage.fmt(f),
        }
    }
}

/// What an answer counts, in tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt.
    pub input_tokens: u32,
    /// Tokens of all choices.
    pub output_tokens: u32,
    /// Who counted.
    pub counted: Counted,
}

/// Who counted tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Counted {
    /// The engine, with its tokenizer.
    #[default]
    Engine,
    /// This node, from what passed by.
    Estimated,
}

/// Bytes of text that one token stands for, in English and within a factor of two elsewhere.
const BYTES_PER_TOKEN: u64 = 4;

impl Usage {
    /// A count for an engine that gives none, or for an answer that was cut short: a content chunk counts as one token,
    /// which is what engines send, and the prompt by its length.
    #[must_use]
    pub fn estimated(input_bytes: u64, seen: &Seen) -> Self {
        let by_chunks = if seen.chunks > 1 {
            u64::from(seen.chunks)
        } else {
            seen.text_bytes.div_ceil(BYTES_PER_TOKEN)
        };
        Self {
            input_tokens: tokens_of(input_bytes),
            output_tokens: u32::try_from(by_chunks.min(seen.text_bytes)).unwrap_or(u32::MAX),
            counted: Counted::Estimated,
        }
    }
}

/// Roughly how many tokens so many bytes of text are.
#[must_use]
pub fn tokens_of(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(BYTES_PER_TOKEN)).unwrap_or(u32::MAX)
}

/// Why an engine did not answer, or stopped.
#[derive(Clone, thiserror::Error)]
pub enum BackendError {
    /// Nothing listens there, or the connection could not be made.
    #[error("the engine at `{address}` cannot be reached ({reason}); is it running")]
    Unreachable {
        /// Where it was looked for.
        address: String,
        /// What the connection said.
        reason: String,
    },
    /// The engine wants a key, or another one.
    #[error("the engine at `{address}` refused the key; set the backend's API key")]
    Unauthorised {
        /// Where it is.
        address: String,
    },
    /// The engine refused the request. The body is its own words, for the consumer and for no log.
    #[error("the engine refused the request with status {status}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// OpenAI error object with the engine's words, or whatever it wrote.
        body: Bytes,
    },
    /// All slots are taken, or the model is being loaded; it may be asked again.
    #[error("the engine is busy; try again later")]
    Busy {
        /// When the engine says.
        retry_after: Option<Duration>,
    },
    /// The engine does not serve the model any more.
    #[error("the engine no longer serves this model")]
    Gone,
    /// What came back is no answer: cut short, not HTTP, not server-sent events, too long.
    #[error("the engine broke off: {0}")]
    Broken(&'static str),
    /// The engine reported a failure of its own in the middle of an answer.
    #[error("the engine failed in the middle of an answer")]
    Failed {
        /// Its error object, for the consumer and for no log.
        body: Bytes,
    },
    /// The engine stayed silent too long.
    #[error("the engine said nothing for {0:?}")]
    Timeout(Duration),
    /// This backend cannot do that.
    #[error("this backend does not support `{0}`")]
    Unsupported(&'static str),
    /// The engine is a gateway of this network.
    #[error("`{address}` is a gateway of this network, not an engine; point the backend at an engine")]
    Loop {
        /// Where it is.
        address: String,
    },
}

impl fmt::Debug for BackendError {
    /// As displayed: error bodies may repeat a part of a prompt.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BackendError({self})")
    }
}

impl BackendError {
    /// Whether the same request may succeed elsewhere, or here later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Refused { status, .. } => *status >= 500,
            Self::Unsupported(_) => false,
            Self::Unreachable { .. }
            | Self::Unauthorised { .. }
            | Self::Busy { .. }
            | Self::Gone
            | Self::Broken(_)
            | Self::Failed { .. }
            | Self::Timeout(_)
            | Self::Loop { .. } => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_endpoints_are_one_to_one() {
        for endpoint in Endpoint::ALL {
            assert_eq!(Endpoint::parse(endpoint.path()), Some(endpoint));
        }
        assert_eq!(Endpoint::parse("/v1/chat/completions/"), None);
    }

    #[test]
    fn paths_stay_at_home() {
        for (name, id) in [
            ("/home/joe/models/Qwen2.5-7B Q4.gguf", "qwen2.5-7b-q4"),
            ("C:\\models\\x.gguf", "x"),
            ("./y", "y"),
            ("org/Repo", "org/repo"),
            ("llama3:latest", "llama3"),
        ] {
            let model = Model::named(name).unwrap();
            assert_eq!((model.id.as_str(), model.name.as_str()), (id, name));
        }
        assert_eq!(Model::named("/"), None);
    }

    #[test]
    fn nothing_prints_what_was_said() {
        let secret = "canary-7731";
        let job = Job {
            endpoint: Endpoint::ChatCompletions,
            model: "m".into(),
            id: ModelId::new("m").unwrap(),
            body: Bytes::from_static(b"canary-7731"),
            max_output: None,
            resume: Some(Continuation::Text(secret.into())),
        };
        let refused = BackendError::Refused {
            status: 400,
            body: job.body.clone(),
        };
        let failed = BackendError::Failed { body: job.body.clone() };
        let piece = Piece::data(job.body.clone());
        for text in [
            format!("{job:?} {piece:?}"),
            format!("{refused:?} {refused} {failed:?} {failed}"),
        ] {
            assert!(!text.contains(secret), "{text}");
        }
    }

    #[test]
    fn estimates_never_exceed_what_was_seen() {
        let seen = Seen {
            text_bytes: 3,
            chunks: 5,
            ..Seen::default()
        };
        assert_eq!(Usage::estimated(9, &seen).output_tokens, 3);
        assert_eq!(Usage::estimated(9, &seen).input_tokens, 3);
        let whole = Seen {
            text_bytes: 40,
            chunks: 1,
            ..Seen::default()
        };
        assert_eq!(
            Usage::estimated(0, &whole),
            Usage {
                input_tokens: 0,
                output_tokens: 10,
                counted: Counted::Estimated
            }
        );
    }
}

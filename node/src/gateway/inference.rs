//! What the gateway asks of whoever answers: what is served, and one answer.

use std::fmt;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use infernet_inference::{ContentType, Request, Usage};
use infernet_protocol::capability::Features;
use infernet_protocol::{Digest, JobId, MicroUsd, ModelId, Price, RequestId};

use super::extension::Preferences;
use crate::spending::Caller;

/// When a consumer that found nobody free may try again.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Answers requests: the buyer of the network, or an engine of this node.
#[async_trait]
pub trait Inference: Send + Sync {
    /// What is served now.
    async fn models(&self) -> Vec<ServedModel>;

    /// The model that a name stands for now.
    async fn model(&self, name: &ModelId) -> Option<ServedModel> {
        self.models().await.into_iter().find(|model| model.id == *name)
    }

    /// Returns once an answer has begun. Dropping the future, or later the reply, cancels.
    async fn infer(&self, request: InferenceRequest) -> Result<Reply, InferError>;
}

/// One model as the network serves it.
#[derive(Clone, Debug, PartialEq)]
pub struct ServedModel {
    /// What it is called.
    pub id: ModelId,
    /// How many providers serve it.
    pub providers: u32,
    /// The longest context among them, in tokens.
    pub context: Option<u32>,
    /// Most output tokens of one request.
    pub max_output: Option<u32>,
    /// What requests may use.
    pub features: Features,
    /// Quantisations, as the providers name them.
    pub quantisations: Vec<String>,
    /// The lowest price.
    pub price: Price,
    /// The shortest time to the first token that is claimed or was measured, in milliseconds.
    pub ttft_ms: Option<u32>,
    /// The highest speed of one stream that is claimed or was measured, in tokens per second.
    pub tokens_per_second: Option<f32>,
}

impl ServedModel {
    /// Whether it has these features, and room for so many tokens at once.
    #[must_use]
    pub fn can(&self, needs: Features, context: u32) -> bool {
        self.features.contains(needs) && self.context.is_none_or(|most| most >= context)
    }
}

/// A request, read and checked.
#[derive(Clone)]
pub struct InferenceRequest {
    /// The model, as the network calls it.
    pub model: ModelId,
    /// What it asks for.
    pub request: Request,
    /// The body for the engine: the consumer's, without this network's own fields.
    pub body: Bytes,
    /// How the consumer wants its provider chosen.
    pub preferences: Preferences,
    /// Whether nobody waits for it: a line of a batch.
    pub background: bool,
    /// Whose key asked, where a key did.
    pub caller: Option<Caller>,
    /// When it is to be given up.
    pub deadline: Instant,
}

impl fmt::Debug for InferenceRequest {
    /// Without the text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InferenceRequest")
            .field("request", &self.request)
            .field("body_bytes", &self.body.len())
            .field("preferences", &self.preferences)
            .finish_non_exhaustive()
    }
}

/// Who answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A provider on the network.
    Network,
    /// An engine of this node.
    Local,
    /// The embedded engine of this node.
    Embedded,
    /// A service outside the network, by name.
    Fallback(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network => f.write_str("network"),
            Self::Local => f.write_str("local"),
            Self::Embedded => f.write_str("embedded"),
            Self::Fallback(name) => write!(f, "fallback:{name}"),
        }
    }
}

/// An answer that has begun. Dropping it cancels.
pub struct Reply {
    /// The auctioned job, where there was an auction.
    pub job: Option<JobId>,
    /// The request.
    pub request: RequestId,
    /// PeerId of the provider that began to answer.
    pub provider: Option<String>,
    /// The model that answers: another than was asked for where the name stands for several.
    pub model: ModelId,
    /// Who answers.
    pub source: Source,
    /// The agreed price.
    pub price: Price,
    /// HTTP status of the engine.
    pub status: u16,
    /// How the bytes are framed.
    pub content_type: ContentType,
    /// Data, then one summary. One that ends without is broken off.
    pub body: BoxStream<'static, Result<Part, InferError>>,
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply")
            .field("request", &self.request)
            .field("provider", &self.provider)
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

/// A part of a reply.
#[derive(Clone, PartialEq, Eq)]
pub enum Part {
    /// Whole server-sent events, or a part of a document.
    Data(Bytes),
    /// The end.
    End(Summary),
}

impl fmt::Debug for Part {
    /// Without the text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Data(bytes) => write!(f, "Data({} bytes)", bytes.len()),
            Self::End(summary) => summary.fmt(f),
        }
    }
}

/// What is known when an answer is over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Tokens.
    pub usage: Usage,
    /// What it cost.
    pub cost: MicroUsd,
    /// Attempts that it took.
    pub attempts: u32,
    /// PeerIds of the providers that delivered, in order.
    pub providers: Vec<String>,
    /// Hash of the receipt.
    pub receipt: Option<Digest>,
}

/// Why there is no answer, or no more of it.
#[derive(Clone, thiserror::Error)]
pub enum InferError {
    /// No provider of the model is known.
    #[error("nobody on the network serves `{model}`")]
    NobodyServes {
        /// The model.
        model: String,
        /// Served models with a similar name; looked up by the gateway where empty.
        near: Vec<String>,
    },
    /// There are providers, and all ask for more than the consumer pays.
    #[error(
        "every provider of `{model}` asks for more than your price cap ({cheapest}); raise it, or choose another model"
    )]
    TooDear {
        /// The model.
        model: String,
        /// The lowest price asked, for people.
        cheapest: String,
    },
    /// There are providers, and this node cannot pay any of them.
    #[error(
        "every provider of `{model}` within your price cap wants to be paid in a way that this node cannot pay; choose \
         another model"
    )]
    NoRail {
        /// The model.
        model: String,
    },
    /// It may cost more than is left to spend.
    #[error("the request is over budget: {reason}")]
    OverBudget {
        /// Which limit, and what to do.
        reason: String,
        /// When there may be enough, where waiting helps.
        retry_after: Option<Duration>,
    },
    /// There are providers, and none can do what the request needs.
    #[error("no provider of `{model}` can do what the request needs ({needs}); leave it out, or choose another model")]
    Unfit {
        /// The model.
        model: String,
        /// What it needs, for people.
        needs: String,
    },
    /// There are providers, and none that the request allows.
    #[error(
        "`{model}` is served only where the request is not to go: see its `provider.only`, `ignore` and `allow_fallbacks`"
    )]
    LeftOut {
        /// The model.
        model: String,
    },
    /// There are providers, and none is free.
    #[error("no provider is free; try again in a moment")]
    NobodyFree {
        /// When.
        retry_after: Duration,
    },
    /// Too many of this node's own requests wait.
    #[error("too many requests wait already; try again in a moment")]
    TooManyWait {
        /// When.
        retry_after: Duration,
    },
    /// The engine refused the request itself; its own words, for the consumer and for no log.
    #[error("the provider refused the request with status {status}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// An error object, or whatever the engine wrote.
        body: Bytes,
    },
    /// The provider failed, and so did those after it.
    #[error("the provider failed: {reason}")]
    Failed {
        /// How, for people.
        reason: String,
        /// Whether something was delivered, and is to be paid for.
        delivered: bool,
    },
    /// Time is up.
    #[error("no answer within the deadline")]
    Deadline {
        /// Whether something was delivered, and is to be paid for.
        delivered: bool,
    },
    /// This node cannot do its part.
    #[error("this node cannot do its part: {0}")]
    Internal(String),
}

impl InferError {
    /// This node is told to stop, and what has begun is not to be waited for.
    #[must_use]
    pub fn stopping() -> Self {
        Self::Internal("it is stopping".to_owned())
    }

    /// Nobody serves a model, and no similar one is known.
    #[must_use]
    pub fn nobody_serves(model: &ModelId) -> Self {
        Self::NobodyServes {
            model: model.to_string(),
            near: Vec::new(),
        }
    }

    /// Nobody is free; one who comes again in a moment may find somebody.
    #[must_use]
    pub fn nobody_free() -> Self {
        Self::NobodyFree {
            retry_after: RETRY_AFTER,
        }
    }

    /// The cheapest of those that serve a model asks for this.
    #[must_use]
    pub fn too_dear(model: String, cheapest: &Price) -> Self {
        let cheapest = format!("{} in, {} out per million tokens", cheapest.input, cheapest.output);
        Self::TooDear { model, cheapest }
    }

    /// Whether somebody else, or another model, may do what this one could not; nothing was delivered.
    #[must_use]
    pub fn is_anothers_chance(&self) -> bool {
        match self {
            Self::NobodyServes { .. }
            | Self::TooDear { .. }
            | Self::NoRail { .. }
            | Self::OverBudget { .. }
            | Self::Unfit { .. }
            | Self::LeftOut { .. }
            | Self::NobodyFree { .. }
            | Self::TooManyWait { .. } => true,
            Self::Failed { delivered, .. } => !delivered,
            Self::Refused { .. } | Self::Deadline { .. } | Self::Internal(_) => false,
        }
    }
}

impl fmt::Debug for InferError {
    /// As displayed: an engine's words may repeat a part of a prompt.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InferError({self})")
    }
}

//! The inference workload: the backend trait and the engines behind it.
//!
//! ```text
//!   consumer's body ──> request (what it asks) ──> allow (may a stranger ask it) ──> Job
//!                                                                                     │
//!                        backend: trait Backend, Job, Answer, Piece                   v
//!       ┌───────────────────────┬───────────────────────┬────────────────────────────────┐
//!    openai                  embedded                scripted
//!    a server with OpenAI's  the engine in this      an engine that follows a script,
//!    API: bytes pass         process                 for tests
//!       └───────────────────────┴───────────────────────┴────────────────────────────────┘
//!                                                                                     │
//!   consumer, bytes as they come <── watch (what passed, is the claim plausible) <── Answer
//! ```
//!
//! `json` and `sse` read and edit bytes in place; `wire` writes OpenAI's shapes for engines in this process; `detect`
//! finds servers; `contract` is what every backend must keep. Nothing here knows the network.

pub mod allow;
pub mod backend;
pub mod contract;
pub mod detect;
#[cfg(feature = "embedded")]
pub mod embedded;
pub mod json;
pub mod openai;
pub mod request;
pub mod scripted;
pub mod sse;
pub mod watch;
pub mod wire;

pub use backend::{
    Answer, Backend, BackendError, ContentType, Continuation, Counted, Endpoint, Job, Model, Piece, Usage,
};
pub use detect::BackendKind;
#[cfg(feature = "embedded")]
pub use embedded::EmbeddedBackend;
pub use openai::OpenAiBackend;
pub use request::{Request, RequestError};
pub use scripted::ScriptedBackend;
pub use watch::{Seen, Watch};

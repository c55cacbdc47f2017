//! The engine of the bench: a scripted one behind HTTP, as a real engine would be.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use futures::StreamExt as _;
use infernet_inference::backend::{Backend, BackendError, Piece};
use infernet_inference::json::{self, Object};
use infernet_inference::scripted::{Reply, Script, ScriptedBackend};
use infernet_inference::{Endpoint, Job};
use infernet_protocol::ModelId;
use tokio::net::TcpListener;

use super::{Context, Result, loopback_failed as failed};
use crate::out::Exit;
use crate::runtime::{self, Tasks};

/// A model that says all it has to say at once.
pub(super) const FAST: &str = "bench";
/// One that says some words at the pace of a good GPU.
pub(super) const SHORT: &str = "bench-short";
/// How long that takes.
pub(super) const SHORT_TIME: Duration = Duration::from_millis(SHORT_WORDS as u64 * TOKEN_MS);
/// One that says many.
pub(super) const PACED: &str = "bench-paced";

/// From one token to the next at that pace.
pub(super) const TOKEN_TIME: Duration = Duration::from_millis(TOKEN_MS);

const TOKEN_MS: u64 = 20;
const SHORT_WORDS: u32 = 16;
/// Tokens of one answer of each, and their pace.
const TOKENS: [(&str, u32, u64); 3] = [(FAST, 64, 0), (SHORT, SHORT_WORDS, TOKEN_MS), (PACED, 250, TOKEN_MS)];

/// `infernet bench engine`: the engine of `bench gateway`, in a process of its own.
pub(super) fn run(context: &Context) -> Result {
    runtime::executor()?.block_on(async {
        let tasks = Tasks::new();
        let mut models = Vec::new();
        for (name, words, token_ms) in TOKENS {
            let script = Script {
                models: vec![name.to_owned()],
                reply: Reply::Words(words),
                token_ms,
                ..Script::default()
            };
            models.push((ModelId::new(name).map_err(failed)?, ScriptedBackend::new(script)));
        }
        let address = serve(models, &tasks).await?;
        context.out.line(format_args!("http://{address}"));
        runtime::signal().await?;
        Ok(Exit::Done)
    })
}

/// Serves scripted engines on loopback, one per model, and gives their address.
pub(super) async fn serve(engines: Engines, tasks: &Tasks) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let router = Router::new()
        .route("/v1/models", get(models))
        .route("/v1/chat/completions", post(chat))
        .with_state(Arc::new(engines));
    let stop = tasks.token();
    tasks.spawn("bench engine", async move {
        let served = axum::serve(NoDelay(listener), router).with_graceful_shutdown(stop.cancelled_owned());
        if let Err(error) = served.await {
            tracing::warn!(%error, "the bench's engine stopped");
        }
    });
    Ok(address)
}

/// Sockets that send at once, as every engine's do.
struct NoDelay(TcpListener);

impl axum::serve::Listener for NoDelay {
    type Io = tokio::net::TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let (socket, address) = axum::serve::Listener::accept(&mut self.0).await;
        let _ = socket.set_nodelay(true);
        (socket, address)
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.0.local_addr()
    }
}

type Engines = Vec<(ModelId, ScriptedBackend)>;

async fn models(State(engines): State<Arc<Engines>>) -> Response {
    let listed = engines
        .iter()
        .map(|(id, _)| serde_json::json!({ "id": id.as_str(), "object": "model" }));
    axum::Json(serde_json::json!({ "object": "list", "data": listed.collect::<Vec<_>>() })).into_response()
}

async fn chat(State(engines): State<Arc<Engines>>, body: Bytes) -> Response {
    let model = Object::read(&body)
        .ok()
        .and_then(|object| json::string(object.get("model")?).map(Cow::into_owned));
    let Some((id, engine)) = engines.iter().find(|(id, _)| Some(id.as_str()) == model.as_deref()) else {
        return (StatusCode::NOT_FOUND, "no such model").into_response();
    };
    let job = Job {
        endpoint: Endpoint::ChatCompletions,
        model: id.to_string(),
        id: id.clone(),
        body,
        max_output: None,
        resume: None,
    };
    match engine.run(job).await {
        Ok(answer) => {
            let kind = answer.content_type.as_str();
            let pieces = answer.into_pieces().filter_map(async |piece| match piece {
                Ok(Piece::Data { bytes, .. }) => Some(Ok(bytes)),
                Ok(Piece::Usage(_)) => None,
                Err(error) => Some(Err::<Bytes, BackendError>(error)),
            });
            ([(header::CONTENT_TYPE, kind)], Body::from_stream(pieces)).into_response()
        }
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response(),
    }
}

//! The engine of the bench: a scripted one behind HTTP, as a real engine would be.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use futures::StreamExt as _;
use infernet_inference::backend::{Backend, BackendError, Piece};
use infernet_inference::scripted::ScriptedBackend;
use infernet_inference::{Endpoint, Job};
use infernet_protocol::ModelId;
use tokio::net::TcpListener;

use crate::runtime::Tasks;

/// Serves the engine on loopback and gives its address.
pub(super) async fn serve(engine: ScriptedBackend, model: ModelId, tasks: &Tasks) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let router = Router::new()
        .route("/v1/models", get(models))
        .route("/v1/chat/completions", post(chat))
        .with_state(Arc::new((engine, model)));
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

type Engine = State<Arc<(ScriptedBackend, ModelId)>>;

async fn models(State(engine): Engine) -> Response {
    let list = serde_json::json!({ "object": "list", "data": [{ "id": engine.1.as_str(), "object": "model" }] });
    axum::Json(list).into_response()
}

async fn chat(State(engine): Engine, body: Bytes) -> Response {
    let (engine, id) = &*engine;
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

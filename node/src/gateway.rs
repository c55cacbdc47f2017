//! The HTTP edge: OpenAI's API on this machine in front of whoever answers, and other APIs put into its words.
//!
//! ```text
//!   client ── guard ──────> routes ──────> extension ───> Inference (the buyer)
//!             Host, Origin,  read once,     `provider`      |
//!             key, hops      allow list     taken out       v
//!   client <── body as it comes <─────── answer <───── Reply: data, then Summary
//!              usage with `infernet`,     the seam at the end; errors that are told
//!
//!   another API's client ── dialect ──> the same, and back through it
//! ```
//!
//! It knows nothing of the network: [`Inference`] is all that it asks for. Bytes of an answer pass untouched; only the
//! last events wait for what is known at the end. A client that goes away drops the reply, which cancels the engine.

mod answer;
mod batches;
mod connections;
mod dialect;
mod errors;
mod extension;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod guard;
mod idempotency;
pub mod inference;
pub mod keys;
mod limits;
mod metrics;
pub mod models;
mod openapi;
mod reading;
mod routes;
mod shelves;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use connections::{Connections, Place, Visitor};
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;

use crate::batch::BatchError;
use crate::config::Secret;
use crate::runtime::Tasks;
pub use extension::{Preferences, Quality};
use idempotency::Answers;
pub use inference::{InferError, Inference, InferenceRequest, Part, Reply, ServedModel, Source, Summary};
use keys::Keys;
pub use limits::Patience;
use limits::{DRAIN_WITHIN, HEAD_BYTES, HEADERS_MAX, Limits};
use metrics::Metrics;
use shelves::Shelves;

/// How the gateway is run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it listens; port 0 takes any.
    pub listen: SocketAddr,
    /// What callers must send as their key; without one it listens on the loopback only.
    pub api_key: Option<Secret>,
    /// The file with the hashes of further keys, each with a budget and a rate of its own.
    pub keys: Option<PathBuf>,
    /// Host names, beside this machine's own, under which it may be called.
    pub allowed_hosts: Vec<String>,
    /// Origins of web pages that may call it; `*` is all of them.
    pub cors_origins: Vec<String>,
    /// How long one request may take in all.
    pub deadline: Duration,
    /// Where uploaded files and batches are kept; without it there are none.
    pub batches: Option<PathBuf>,
    /// How long its client may take.
    pub patience: Patience,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], infernet_protocol::names::GATEWAY_PORT)),
            api_key: None,
            keys: None,
            allowed_hosts: Vec::new(),
            cors_origins: Vec::new(),
            deadline: Duration::from_secs(600),
            batches: None,
            patience: Patience::default(),
        }
    }
}

/// Why the gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// Anybody who reaches the address could use it.
    #[error(
        "the gateway at `{0}` can be reached from outside; make a key with `infernet keys add NAME`, set \
         `gateway.api_key`, or listen on 127.0.0.1"
    )]
    Exposed(SocketAddr),
    /// The folder of batches.
    #[error(transparent)]
    Batches(#[from] BatchError),
    /// The address is taken, or not this machine's.
    #[error("the gateway cannot listen on `{address}` ({source}); choose another with `--gateway`, port 0 for any")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
}

/// What every request sees.
struct Shared {
    inference: Arc<dyn Inference>,
    settings: Settings,
    keys: Keys,
    shelves: Option<Shelves>,
    limits: Limits,
    answers: Answers,
    /// Places for requests of batches, so that they leave room for those that somebody waits for.
    batched: Semaphore,
    metrics: Metrics,
}

/// A bound gateway.
pub struct Gateway {
    listener: TcpListener,
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Gateway {
    /// Binds the socket; nothing is answered before [`Self::serve`].
    pub async fn bind(settings: Settings, inference: Arc<dyn Inference>) -> Result<Self, GatewayError> {
        let address = settings.listen;
        let keys = Keys::new(settings.keys.clone());
        if !address.ip().is_loopback() && settings.api_key.is_none() && keys.is_empty(Instant::now()) {
            return Err(GatewayError::Exposed(address));
        }
        let bound = async {
            let listener = TcpListener::bind(address).await?;
            let address = listener.local_addr()?;
            Ok((listener, address))
        };
        let (listener, address) = bound.await.map_err(|source| GatewayError::Bind { address, source })?;
        let shelves = settings.batches.clone().map(Shelves::open).transpose()?;
        let shared = Shared {
            inference,
            limits: Limits::new(settings.patience),
            settings,
            keys,
            shelves,
            answers: Answers::default(),
            batched: Semaphore::new(limits::BATCHED_MAX),
            metrics: Metrics::default(),
        };
        Ok(Self {
            listener,
            address,
            shared: Arc::new(shared),
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The base address for clients on this machine, without `/v1`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers until `tasks` is cancelled; connections are tasks of it and finish the answers that they are in.
    pub async fn serve(self, tasks: Tasks) {
        let connections = Arc::new(Connections::default());
        let patience = self.shared.settings.patience;
        if let Some(shelves) = &self.shared.shelves {
            shelves.run(&self.shared, &tasks);
        }
        let router = routes::router(self.shared);
        loop {
            let accepted = tokio::select! {
                biased;
                () = tasks.cancelled() => return,
                accepted = accept(&self.listener, &connections) => accepted,
            };
            let Some((socket, place)) = accepted else { continue };
            let (router, owner) = (router.clone(), tasks.clone());
            tasks.spawn("gateway connection", async move {
                tokio::select! {
                    () = converse(socket, router, place.visitor(), patience, &owner) => {}
                    () = place.given_away() => tracing::debug!("a gateway connection waited for too long"),
                }
            });
        }
    }
}

async fn accept(listener: &TcpListener, connections: &Arc<Connections>) -> Option<(TcpStream, Place)> {
    match listener.accept().await {
        Ok((socket, _)) => Some((socket, connections.place().await)),
        Err(error) => {
            // Mostly no file descriptor left: some come back when connections end.
            tracing::warn!(%error, "the gateway cannot accept a connection");
            tokio::time::sleep(limits::ACCEPT_AGAIN).await;
            None
        }
    }
}

async fn converse(socket: TcpStream, router: axum::Router, visitor: Visitor, patience: Patience, owner: &Tasks) {
    // A token is worth more than a full packet.
    let _ = socket.set_nodelay(true);
    let mut socket = TimeoutStream::new(socket);
    socket.set_write_timeout(Some(patience.unread));
    let routes = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(visitor.clone());
        routes.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience.head)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(Box::pin(socket)), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = owner.cancelled() => {
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(DRAIN_WITHIN, connection).await {
                Ok(ended) => ended,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a gateway connection broke");
    }
}

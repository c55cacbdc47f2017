//! From a configuration to a running node: its key, its store, its engines, its sockets, its gateway.

use std::net::SocketAddr;
use std::sync::Arc;

use infernet_inference::backend::Backend;
use infernet_inference::detect::Candidate;
use infernet_inference::{BackendKind, OpenAiBackend};
use infernet_swarm::Multiaddr;
use serde_json::{Value, json};

use crate::config::{self, Config, Role};
use crate::control::Controlled;
use crate::engines::Sources;
use crate::gateway::{self, Gateway};
use crate::home::LockedHome;
use crate::node::{LeaseTerms, Node, Purpose, Selling, Settings, StartError};
use crate::routing::{Outside, Router};
use crate::runtime::Tasks;
use crate::service::Service;
use crate::store::{Store, StoreError};
use crate::{identity, ipc, metrics};

/// Requests at once of the embedded engine, which shares the processor with everything else.
const EMBEDDED_SLOTS: u16 = 4;

/// Why a node cannot be launched.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The key.
    #[error(transparent)]
    Identity(#[from] identity::IdentityError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The network.
    #[error(transparent)]
    Node(#[from] StartError),
    /// The gateway.
    #[error(transparent)]
    Gateway(#[from] gateway::GatewayError),
    /// The metrics' address is taken, or not this machine's.
    #[error("metrics cannot be served on `{address}` ({source}); choose another with `--metrics`, port 0 for any")]
    Metrics {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The local socket.
    #[error(transparent)]
    Ipc(#[from] ipc::ServeError),
    /// The swarm has ended.
    #[error(transparent)]
    Closed(#[from] infernet_swarm::Closed),
    /// An address that is none.
    #[error("`{0}` is not a multiaddr; write it like `/ip4/203.0.113.7/tcp/46337`")]
    Address(String),
    /// The engine that was asked for by name is not there.
    #[error("no {kind} answers at `{url}`: start it, or name its address with {variable}")]
    NoEngine {
        /// Which engine.
        kind: &'static str,
        /// Where it was looked for.
        url: String,
        /// The variable that names its address.
        variable: &'static str,
    },
    /// A role that sells, and nothing to sell.
    #[error("there is no engine to sell: start one (Ollama, vLLM, llama.cpp, ...) or take `--backend embedded`")]
    NothingToSell,
    /// A service outside.
    #[error("`fallback.{name}_*` cannot be used: {why}")]
    Fallback {
        /// Which.
        name: &'static str,
        /// Why not.
        why: String,
    },
    /// The embedded engine.
    #[error("the embedded engine does not start: {0}")]
    Embedded(String),
}

/// A node that is up.
#[derive(Debug)]
pub struct Launched {
    /// The node.
    pub node: Arc<Node>,
    /// Where its gateway listens.
    pub gateway: Option<String>,
    /// Where its metrics are read.
    pub metrics: Option<String>,
    /// Where it can be dialled.
    pub listen: Vec<Multiaddr>,
}

impl Launched {
    /// The line that tells others that it is up.
    #[must_use]
    pub fn ready(&self) -> Value {
        json!({
            "event": "ready",
            "peer_id": self.node.id().peer_id(),
            "npub": self.node.id().npub(),
            "listen": self.listen.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "gateway": self.gateway,
            "metrics": self.metrics,
        })
    }
}

/// Launches a node under `tasks`; what it needs was locked before.
pub async fn launch(home: &LockedHome, config: &Config, tasks: &Tasks) -> Result<Launched, LaunchError> {
    launch_for(Purpose::Run, home, config, tasks).await
}

/// The same for a purpose of its own; for a look it answers no command.
pub(crate) async fn launch_for(
    purpose: Purpose,
    home: &LockedHome,
    config: &Config,
    tasks: &Tasks,
) -> Result<Launched, LaunchError> {
    let identity = identity::load_or_create(home)?;
    let (sold, own) = shared_out(config).await?;
    let selling = selling(config, sold)?;
    let (store, recovered) = Store::open(home, &config.network)?;
    let settings = Settings {
        identity,
        network: config.network.clone(),
        listen: listen(config)?,
        bootstrap: config.p2p.bootstrap.clone(),
        external: Vec::new(),
        mdns: config.p2p.mdns,
        upnp: config.p2p.upnp,
        advertise: config.p2p.advertise,
        selling,
        budget: config.consumer.budget,
        own,
        lease: LeaseTerms::default(),
        wallets: Vec::new(),
        purpose,
    };
    let node = Node::start(settings, store, recovered, tasks.clone()).await?;
    let gateway = match config.gateway.listen {
        Some(address) => Some(serve(home, config, address, &node, tasks).await?),
        None => None,
    };
    let metrics = match config.metrics {
        Some(address) => {
            let bound = metrics::serve(node.clone(), address, tasks).await;
            let bound = bound.map_err(|source| LaunchError::Metrics { address, source })?;
            Some(format!("http://{bound}/metrics"))
        }
        None => None,
    };
    if purpose == Purpose::Run {
        let control = Controlled::new(node.clone(), gateway.clone(), metrics.clone(), (**home).clone());
        ipc::serve(home, Arc::new(control), tasks)?;
    }
    Ok(Launched {
        listen: node.listening().await?,
        node,
        gateway,
        metrics,
    })
}

async fn serve(
    home: &LockedHome,
    config: &Config,
    listen: SocketAddr,
    node: &Arc<Node>,
    tasks: &Tasks,
) -> Result<String, LaunchError> {
    let service = Service::new(node.clone(), config.consumer.policy, config.consumer.price_cap)
        .public(config.consumer.public)
        .failover(config.consumer.failover)
        .hedging(config.consumer.hedging);
    let settings = gateway::Settings {
        api_key: config.gateway.api_key.clone(),
        keys: Some(home.keys_file()),
        batches: config.gateway.batches.then(|| home.batches()),
        allowed_hosts: config.gateway.allowed_hosts.clone(),
        cors_origins: config.gateway.cors_origins.clone(),
        listen,
        ..gateway::Settings::default()
    };
    let router = Router::new(node.clone(), service)
        .names(config.consumer.names.clone())
        .local_first(config.consumer.local_first)
        .outside(outside(config)?);
    let gateway = Gateway::bind(settings, Arc::new(router)).await?;
    let url = gateway.url();
    tasks.spawn("gateway", gateway.serve(tasks.clone()));
    Ok(url)
}

fn outside(config: &Config) -> Result<Vec<Outside>, LaunchError> {
    let opened = config.consumer.fallbacks.iter().map(|fallback| {
        let backend = OpenAiBackend::new(BackendKind::OpenAi, &fallback.url, Some(fallback.api_key.expose()));
        let backend = backend.map_err(|error| LaunchError::Fallback {
            name: fallback.name,
            why: error.to_string(),
        })?;
        Ok(Outside {
            name: fallback.name,
            backend: Arc::new(backend),
            model: fallback.model.clone(),
        })
    });
    opened.collect()
}

fn listen(config: &Config) -> Result<Vec<Multiaddr>, LaunchError> {
    if !config.p2p.listen.is_empty() {
        return multiaddrs(&config.p2p.listen);
    }
    let port = config.p2p.port;
    multiaddrs(&[
        format!("/ip4/0.0.0.0/tcp/{port}"),
        format!("/ip4/0.0.0.0/udp/{port}/quic-v1"),
        format!("/ip6/::/tcp/{port}"),
        format!("/ip6/::/udp/{port}/quic-v1"),
    ])
}

fn multiaddrs(texts: &[String]) -> Result<Vec<Multiaddr>, LaunchError> {
    texts
        .iter()
        .map(|text| text.parse().map_err(|_| LaunchError::Address(text.clone())))
        .collect()
}

/// What the node sells: nothing as a consumer, and nothing by default until an engine answers.
fn selling(config: &Config, engines: Sources) -> Result<Option<Selling>, LaunchError> {
    let sells = match config.role {
        Role::Consumer => false,
        Role::Auto => !engines.is_empty(),
        Role::Provider | Role::Both if engines.is_empty() => return Err(LaunchError::NothingToSell),
        Role::Provider | Role::Both => true,
    };
    let provider = &config.provider;
    let slots = provider.slots.map(|slots| u16::try_from(slots).unwrap_or(u16::MAX));
    Ok(sells.then(|| Selling {
        slots: slots.or((provider.backend == config::Backend::Embedded).then_some(EMBEDDED_SLOTS)),
        engines,
        price: provider.price,
        stranger_slots: u16::try_from(provider.stranger_slots).unwrap_or(u16::MAX),
        public: provider.public,
        payees: Vec::new(),
    }))
}

/// The engines that the configuration chooses.
async fn engines(config: &Config) -> Result<Sources, LaunchError> {
    let named = |backend| Sources {
        backends: vec![backend],
        ..Sources::default()
    };
    Ok(match config.provider.backend {
        config::Backend::None => Sources::default(),
        config::Backend::Embedded => named(embedded(config).await?),
        config::Backend::Auto => Sources {
            candidates: config.engines.hosts.iter().map(candidate).collect(),
            ..Sources::default()
        },
        server => named(self::server(config, server)?),
    })
}

/// What is sold, and what is for this node's own consumers alone.
async fn shared_out(config: &Config) -> Result<(Sources, Sources), LaunchError> {
    if config.role == Role::Consumer {
        let own = if config.consumer.local_first {
            engines(config).await?
        } else {
            Sources::default()
        };
        return Ok((Sources::default(), own));
    }
    let mut own = Sources::default();
    // A model file is sold only where the embedded engine was asked for by name.
    if config.provider.backend == config::Backend::Auto && config.provider.model.is_some() {
        own.backends.push(embedded(config).await?);
    }
    Ok((engines(config).await?, own))
}

fn candidate(engine: &config::Engine) -> Candidate {
    Candidate {
        kind: kind(engine.kind),
        address: engine.url.clone(),
        api_key: engine.api_key.as_ref().map(|key| key.expose().to_owned()),
        named: engine.named,
    }
}

/// The one server that was asked for. It may come up later, so silence is no error here.
fn server(config: &Config, named: config::Backend) -> Result<Arc<dyn Backend>, LaunchError> {
    let kind = kind(named);
    let missing = |url: &str| LaunchError::NoEngine {
        kind: kind.as_str(),
        url: url.to_owned(),
        variable: kind.variables().map_or("its variable", |(host, _)| host),
    };
    let engine = config
        .engines
        .hosts
        .iter()
        .find(|engine| engine.kind == named)
        .ok_or_else(|| missing("no address"))?;
    let key = engine.api_key.as_ref().map(|key| key.expose());
    let backend = OpenAiBackend::new(kind, &engine.url, key).map_err(|_| missing(&engine.url))?;
    Ok(Arc::new(backend))
}

fn kind(backend: config::Backend) -> BackendKind {
    match backend {
        config::Backend::Auto => BackendKind::Auto,
        config::Backend::Embedded => BackendKind::Embedded,
        config::Backend::Ollama => BackendKind::Ollama,
        config::Backend::Vllm => BackendKind::Vllm,
        config::Backend::Sglang => BackendKind::Sglang,
        config::Backend::Max => BackendKind::Max,
        config::Backend::Llamacpp => BackendKind::LlamaCpp,
        config::Backend::Openai => BackendKind::OpenAi,
        config::Backend::None => BackendKind::None,
    }
}

#[cfg(feature = "embedded")]
async fn embedded(config: &Config) -> Result<Arc<dyn Backend>, LaunchError> {
    use infernet_inference::embedded::EmbeddedBackend;
    let slots = config
        .provider
        .slots
        .map_or(usize::from(EMBEDDED_SLOTS), |slots| slots as usize);
    let model = config.provider.model.clone();
    let opened = tokio::task::spawn_blocking(move || match model {
        Some(path) => EmbeddedBackend::open(&path, slots),
        None => EmbeddedBackend::demo(slots),
    });
    match opened.await {
        Ok(Ok(backend)) => Ok(Arc::new(backend)),
        Ok(Err(error)) => Err(LaunchError::Embedded(error.to_string())),
        Err(error) => Err(LaunchError::Embedded(error.to_string())),
    }
}

#[cfg(not(feature = "embedded"))]
async fn embedded(_: &Config) -> Result<Arc<dyn Backend>, LaunchError> {
    Err(LaunchError::Embedded("this program was built without it".to_owned()))
}

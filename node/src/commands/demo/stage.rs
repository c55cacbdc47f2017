//! The demo's network: who is on it, and what is asked.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use infernet_inference::{Backend, Endpoint, Request};
use infernet_protocol::auction::Policy;
use infernet_protocol::{ModelId, Network, NodeId, Price};
use infernet_swarm::Multiaddr;
use serde_json::json;

use super::page::Page;
use super::{Result, failed};
use crate::cli::DemoArgs;
use crate::home::Home;
use crate::identity;
use crate::node::{Node, Selling, Settings};
use crate::runtime::Tasks;
use crate::store::Store;

/// Providers in the demo.
pub(super) const PROVIDERS: usize = 2;
/// Requests at once of one of them.
const SLOTS: u16 = 4;
/// An answer of a model that small is over in a second; a machine that swaps gets time.
const DEADLINE: Duration = Duration::from_secs(120);
/// Chance in an answer: at none all stories of a small model share one plot.
const TEMPERATURE: f32 = 0.7;

/// Who is on stage.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) consumer: Arc<Node>,
    pub(super) model: ModelId,
    bootstrap: NodeId,
    providers: Vec<Arc<Node>>,
    network: Network,
    /// Gone with the stage.
    _homes: Vec<Home>,
}

impl Stage {
    pub(super) async fn set(tasks: &Tasks, page: &mut Page<'_>) -> Result<Self> {
        let network = Network::new("demo").map_err(failed)?;
        let (bootstrap, at) = bootstrap(&network, tasks).await?;
        page.node("bootstrap", &bootstrap, &at, "DHT, gossip, relay");
        let (backends, model) = tokio::task::spawn_blocking(engines).await.map_err(failed)??;
        let (mut providers, mut homes) = (Vec::new(), Vec::new());
        for (name, backend) in ["provider A", "provider B"].into_iter().zip(backends) {
            let selling = Selling {
                backends: vec![backend],
                price: Price::FREE,
                slots: Some(SLOTS),
                stranger_slots: SLOTS,
                public: true,
            };
            let node = node(&network, &at, Some(selling), tasks, &mut homes).await?;
            let listen = node.listening().await.map_err(failed)?;
            page.node(
                name,
                &node.id(),
                &listen,
                &format!("sells {model}, embedded engine, free"),
            );
            providers.push(node);
        }
        let consumer = node(&network, &at, None, tasks, &mut homes).await?;
        page.node(
            "consumer",
            &consumer.id(),
            &consumer.listening().await.map_err(failed)?,
            "buys",
        );
        Ok(Self {
            consumer,
            model,
            bootstrap,
            providers,
            network,
            _homes: homes,
        })
    }

    pub(super) fn network(&self) -> &Network {
        &self.network
    }

    /// What a node is called on the page.
    pub(super) fn name(&self, node: &NodeId) -> String {
        let provider = self.providers.iter().position(|provider| provider.id() == *node);
        match provider {
            Some(place) => format!("provider {}", ["A", "B"][place]),
            None if self.consumer.id() == *node => "consumer".to_owned(),
            None if self.bootstrap == *node => "bootstrap".to_owned(),
            None => node.short(),
        }
    }

    /// The question as a program would ask it.
    pub(super) fn purchase(&self, args: &DemoArgs) -> Result<crate::buyer::Purchase> {
        let mut body = json!({
            "model": self.model.as_str(),
            "stream": true,
            "max_tokens": args.max_tokens,
            "temperature": TEMPERATURE,
            "messages": [{ "role": "user", "content": args.prompt }],
        });
        if let Some(seed) = args.seed {
            body["seed"] = json!(seed);
        }
        let body = Bytes::from(body.to_string());
        let request = Request::read(Endpoint::ChatCompletions, &body).map_err(failed)?;
        Ok(crate::buyer::Purchase {
            endpoint: request.endpoint,
            model: self.model.clone(),
            body,
            needs: request.needs,
            input_tokens: request.input_tokens,
            max_output: request.max_output,
            policy: Policy::Balanced,
            price_cap: Price::FREE,
            only: Vec::new(),
            ignore: Vec::new(),
            public: true,
            deadline: Instant::now() + DEADLINE,
        })
    }
}

fn loopback() -> Result<Vec<Multiaddr>> {
    ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"]
        .into_iter()
        .map(|address| address.parse().map_err(failed))
        .collect()
}

async fn bootstrap(network: &Network, tasks: &Tasks) -> Result<(NodeId, Vec<Multiaddr>)> {
    let identity = identity::random();
    let mut config = infernet_bootstrap::config(&identity, network);
    config.listen = loopback()?;
    let (swarm, events, event_loop) = infernet_swarm::new(config).map_err(failed)?;
    tasks.spawn("bootstrap swarm", event_loop.run(tasks.token()));
    tasks.spawn_until_cancelled(
        "bootstrap",
        infernet_bootstrap::forward(network.clone(), events, swarm.clone()),
    );
    Ok((identity.node(), swarm.dialable_addrs().await.map_err(failed)?))
}

async fn node(
    network: &Network,
    bootstrap: &[Multiaddr],
    selling: Option<Selling>,
    tasks: &Tasks,
    homes: &mut Vec<Home>,
) -> Result<Arc<Node>> {
    let home = Home::temporary()?;
    homes.push(home.clone());
    let (store, recovered) = Store::open(&home.lock()?, network)?;
    let settings = Settings {
        identity: identity::random(),
        network: network.clone(),
        listen: loopback()?,
        bootstrap: bootstrap.to_vec(),
        external: Vec::new(),
        mdns: false,
        upnp: false,
        advertise: true,
        selling,
    };
    Node::start(settings, store, recovered, tasks.clone())
        .await
        .map_err(failed)
}

/// One engine for each provider, and what their model is called.
#[cfg(feature = "embedded")]
fn engines() -> Result<(Vec<Arc<dyn Backend>>, ModelId)> {
    use infernet_inference::embedded::{DEMO_MODEL, EmbeddedBackend};
    let engine = || EmbeddedBackend::demo(usize::from(SLOTS)).map(|engine| Arc::new(engine) as Arc<dyn Backend>);
    let engines = (0..PROVIDERS)
        .map(|_| engine().map_err(failed))
        .collect::<Result<_>>()?;
    Ok((engines, ModelId::new(DEMO_MODEL).map_err(failed)?))
}

#[cfg(not(feature = "embedded"))]
fn engines() -> Result<(Vec<Arc<dyn Backend>>, ModelId)> {
    Err(failed(
        "the demo runs on the embedded engine; build with the feature `embedded`",
    ))
}

//! Networks of real nodes in one process: real sockets on loopback, engines that follow a script, stores in memory.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use infernet_inference::backend::Backend;
use infernet_inference::scripted::{Script, ScriptedBackend};
use infernet_inference::{Endpoint, Request};
use infernet_node::Sources;
use infernet_node::buyer::consumer::{Answer, Said, Summary};
use infernet_node::buyer::{BuyError, Purchase};
use infernet_node::joining::Source;
use infernet_node::node::{LeaseTerms, Node, Purpose, Selling, Settings};
use infernet_node::runtime::Tasks;
use infernet_node::spending::Limits;
use infernet_node::store::{Recovered, Store};
use infernet_protocol::{Identity, ModelId, Network, Price};
use infernet_swarm::Multiaddr;

/// No test waits longer for anything.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A node and its tasks.
#[derive(Debug)]
pub struct Peer {
    /// The node.
    pub node: Arc<Node>,
    /// Its engine, where it has one.
    pub engine: Option<ScriptedBackend>,
}

/// Settings of a quiet node on loopback whose key is `number`.
#[must_use]
pub fn settings(number: u8, bootstrap: &[Multiaddr]) -> Settings {
    let mut secret = [0; 32];
    secret[31] = number;
    Settings {
        identity: Identity::from_secret(&secret).expect("small numbers are keys"),
        network: Network::new("test").expect("a good name"),
        listen: vec!["/ip4/127.0.0.1/tcp/0".parse().expect("a good address")],
        bootstrap: bootstrap.iter().cloned().map(Source::Address).collect(),
        external: Vec::new(),
        mdns: false,
        upnp: false,
        advertise: true,
        selling: None,
        budget: Limits::default(),
        own: Sources::default(),
        lease: LeaseTerms::default(),
        wallets: Vec::new(),
        purpose: Purpose::Run,
    }
}

/// Starts a node with a store in memory.
pub async fn start(settings: Settings) -> Arc<Node> {
    let store = Store::in_memory(&settings.network);
    Node::start(settings, store, Recovered::default(), Tasks::new())
        .await
        .expect("a node on loopback")
}

/// Starts a consumer, which may serve as the others' bootstrap node.
pub async fn consumer(number: u8, bootstrap: &[Multiaddr]) -> Arc<Node> {
    start(settings(number, bootstrap)).await
}

/// Starts a provider with a scripted engine.
pub async fn provider(number: u8, bootstrap: &[Multiaddr], script: Script) -> Peer {
    let engine = ScriptedBackend::new(script);
    let mut settings = settings(number, bootstrap);
    settings.selling = Some(selling(Arc::new(engine.clone())));
    Peer {
        node: start(settings).await,
        engine: Some(engine),
    }
}

/// What a provider with one backend sells.
#[must_use]
pub fn selling(backend: Arc<dyn Backend>) -> Selling {
    Selling {
        engines: Sources {
            backends: vec![backend],
            ..Sources::default()
        },
        price: Price::FREE,
        slots: None,
        stranger_slots: 4,
        public: true,
        payees: Vec::new(),
    }
}

/// A chat request for the scripted model.
#[must_use]
pub fn chat(prompt: &str) -> Purchase {
    let body = format!(r#"{{"model":"scripted","stream":true,"messages":[{{"role":"user","content":"{prompt}"}}]}}"#);
    let request = Request::read(Endpoint::ChatCompletions, body.as_bytes()).expect("a good request");
    let model = ModelId::new(&request.model).expect("a good name");
    Purchase::new(model, &request, Bytes::from(body), Instant::now() + PATIENCE)
}

/// Takes a whole answer: its bytes, and how it ended.
pub async fn whole(answer: Answer) -> (Vec<u8>, Result<Summary, BuyError>) {
    let Answer { head, mut said } = answer;
    let mut bytes = Vec::new();
    if let Err(error) = head.await.expect("the spine says how it began") {
        return (bytes, Err(error));
    }
    loop {
        match said.recv().await {
            Some(Said::Data(data)) => bytes.extend_from_slice(&data),
            Some(Said::Over(outcome)) => return (bytes, *outcome),
            None => panic!("an answer never ends silently"),
        }
    }
}

//! Nodes on loopback inside this process, in homes that are gone when they are: the stage of the demo and the bench.

use std::sync::Arc;

use infernet_inference::Backend;
use infernet_protocol::{Network, NodeId, Price};
use infernet_swarm::Multiaddr;

use super::Result;
use crate::engines::Sources;
use crate::home::Home;
use crate::identity;
use crate::joining::Source;
use crate::node::{LeaseTerms, Node, Purpose, Selling, Settings};
use crate::out::{Exit, Failure};
use crate::runtime::Tasks;
use crate::spending::Limits;
use crate::store::Store;

/// A network on loopback.
#[derive(Debug)]
pub(super) struct Loopback<'a> {
    pub(super) network: Network,
    /// The bootstrap node, and where it listens.
    pub(super) bootstrap: NodeId,
    pub(super) at: Vec<Multiaddr>,
    /// Gone with the network.
    homes: Vec<Home>,
    tasks: &'a Tasks,
}

impl<'a> Loopback<'a> {
    /// A network with a bootstrap node.
    pub(super) async fn new(name: &str, tasks: &'a Tasks) -> Result<Self> {
        let network = Network::new(name).map_err(failed)?;
        let identity = identity::random();
        let mut config = infernet_bootstrap::config(&identity, &network);
        config.listen = listen()?;
        let (swarm, events, event_loop) = infernet_swarm::new(config).map_err(failed)?;
        tasks.spawn("bootstrap swarm", event_loop.run(tasks.token()));
        tasks.spawn_until_cancelled(
            "bootstrap",
            infernet_bootstrap::forward(network.clone(), events, swarm.clone()),
        );
        let at = swarm.dialable_addrs().await.map_err(failed)?;
        Ok(Self {
            network,
            bootstrap: identity.node(),
            at,
            homes: Vec::new(),
            tasks,
        })
    }

    /// One more node, which sells or only buys.
    pub(super) async fn node(&mut self, selling: Option<Selling>) -> Result<Arc<Node>> {
        let home = Home::temporary()?;
        self.homes.push(home.clone());
        let (store, recovered) = Store::open(&home.lock()?, &self.network)?;
        let settings = Settings {
            identity: identity::random(),
            network: self.network.clone(),
            listen: listen()?,
            bootstrap: self.at.iter().cloned().map(Source::Address).collect(),
            external: Vec::new(),
            mdns: false,
            upnp: false,
            advertise: true,
            selling,
            budget: Limits::default(),
            own: Sources::default(),
            lease: LeaseTerms::default(),
            wallets: Vec::new(),
            purpose: Purpose::Run,
        };
        Node::start(settings, store, recovered, self.tasks.clone())
            .await
            .map_err(failed)
    }
}

/// A provider's offer: one engine, free, all of its slots for whoever comes.
pub(super) fn free(backend: Arc<dyn Backend>, slots: u16) -> Selling {
    Selling {
        engines: Sources {
            backends: vec![backend],
            ..Sources::default()
        },
        price: Price::FREE,
        slots: Some(slots),
        stranger_slots: slots,
        public: true,
        payees: Vec::new(),
    }
}

fn listen() -> Result<Vec<Multiaddr>> {
    Ok(vec!["/ip4/127.0.0.1/tcp/0".parse().map_err(failed)?])
}

pub(super) fn failed(why: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Failed, why)
}

//! A node: its parts, put together once, and the tasks that move them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use infernet_inference::backend::Model;
use infernet_protocol::auction::{Payee, Payer};
use infernet_protocol::capability::{ADDRESSES, Address, CapabilityAd, Rail};
use infernet_protocol::codec::{List, Text};
use infernet_protocol::market::worker::{self, Load};
use infernet_protocol::names::INFERENCE;
use infernet_protocol::receipt::JobReceipt;
use infernet_protocol::reputation::{Service, Standing};
use infernet_protocol::stream::frames::{FailCode, WorkerFrame};
use infernet_protocol::{Identity, LeaseId, MicroUsd, Millis, ModelId, Network, NodeId, Price, Verified};
use infernet_swarm::{Counters, Handle, Hits, Multiaddr, PeerConduct, PeerId, PeerInfo, Reached, Role, Situation};
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::buyer::consumer::{self, Answer};
use crate::buyer::{self, Purchase};
use crate::engines::{Engines, Served, Sources};
use crate::happenings::{Happening, Happenings};
use crate::joining::{self, Source};
use crate::leases::Leases;
use crate::market::Market;
use crate::provider::Provider;
use crate::queue::Queue;
use crate::runtime::{Tasks, unpoisoned};
use crate::spending::{CallerId, Limits};
use crate::store::{Recovered, Store};
use crate::{ads, network, recovery, twin};

/// What this program calls itself towards peers.
pub(crate) const AGENT: &str = concat!("infernet/", env!("CARGO_PKG_VERSION"));
/// Slots of a provider whose engines do not say.
const SLOTS_USUAL: u16 = 16;
/// Relays on which a provider that cannot be reached holds a place: the loss of one cuts nobody off.
const RELAYS: usize = 2;
/// Tasks get this long to end when the node stops.
const DRAIN: Duration = Duration::from_secs(10);
/// What still runs then gets this long to say that it ends.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);
/// What was published last gets this long to be written out: gossipsub does not tell when it has been.
const LAST_WORD: Duration = Duration::from_millis(200);

/// What a provider sells.
#[derive(Clone, Debug)]
pub struct Selling {
    /// Engines, in the order of preference.
    pub engines: Sources,
    /// What it asks.
    pub price: Price,
    /// Requests at once; `None` for what the engines say.
    pub slots: Option<u16>,
    /// Requests at once that an unknown buyer gets.
    pub stranger_slots: u16,
    /// Whether deals may be seen by everybody.
    pub public: bool,
    /// Where it can be paid; without any it can only give away.
    pub payees: Vec<Payee>,
}

/// What a node is made from.
#[derive(Debug)]
pub struct Settings {
    /// The key.
    pub identity: Identity,
    /// The network.
    pub network: Network,
    /// Where to listen; port 0 takes any.
    pub listen: Vec<Multiaddr>,
    /// Where to join.
    pub bootstrap: Vec<Source>,
    /// Addresses under which the node is known to be reachable.
    pub external: Vec<Multiaddr>,
    /// Whether to look for peers on the local network.
    pub mdns: bool,
    /// Whether to ask the router for a port.
    pub upnp: bool,
    /// Whether others may learn this node's addresses from its ad.
    pub advertise: bool,
    /// What it sells; a consumer sells nothing.
    pub selling: Option<Selling>,
    /// The most that its consumers may spend.
    pub budget: Limits,
    /// Engines that answer this node's own consumers and nobody else.
    pub own: Sources,
    /// What a lease is bought for.
    pub lease: LeaseTerms,
    /// What its consumers pay from; without any they take only what is free.
    pub wallets: Vec<Payer>,
    /// What it is started for.
    pub purpose: Purpose,
}

/// What a node is started for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Purpose {
    /// To take part.
    #[default]
    Run,
    /// For a look at how it stands, by `infernet doctor`: it takes places on relays as a seller would, sells nothing, and
    /// stays where another process has its key.
    Look,
}

/// What a lease is bought for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTerms {
    /// How long it lives from its first use.
    pub time: Millis,
    /// Requests under it.
    pub requests: u32,
}

impl Default for LeaseTerms {
    /// Long enough that a conversation needs one auction, short enough that prices follow the market.
    fn default() -> Self {
        Self {
            time: Millis(10 * 60_000),
            requests: 10_000,
        }
    }
}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The swarm.
    #[error(transparent)]
    Swarm(#[from] infernet_swarm::Error),
    /// The swarm ended at once.
    #[error(transparent)]
    Closed(#[from] infernet_swarm::Closed),
}

/// A running node.
#[derive(Debug)]
pub struct Node {
    pub(crate) identity: Identity,
    pub(crate) network: Network,
    pub(crate) tasks: Tasks,
    /// Cancelled once the node is about to stop.
    pub(crate) leaving: CancellationToken,
    pub(crate) swarm: Handle,
    pub(crate) store: Store,
    pub(crate) market: Market,
    pub(crate) provider: Arc<Provider>,
    pub(crate) leases: Leases,
    pub(crate) engines: Engines,
    pub(crate) own: Engines,
    pub(crate) happenings: Happenings,
    pub(crate) tags: Vec<String>,
    addresses: watch::Sender<List<Address, ADDRESSES>>,
    slots: Option<u16>,
    sells: bool,
    purpose: Purpose,
    /// Why lists to join by gave nothing the last time, by source.
    lists: Mutex<BTreeMap<String, Option<String>>>,
    pub(crate) rails: Vec<Rail>,
    /// Requests of this node's own consumers that are under way.
    buying: Arc<AtomicUsize>,
    /// Slots of its engines that its own consumers use.
    lent: AtomicU16,
    /// How its own consumers wait for them.
    pub(crate) queue: Queue,
    /// What still runs is to end, and to say so.
    pub(crate) closing: CancellationToken,
}

/// A slot of this node's engines in its own consumers' hands.
#[derive(Debug)]
pub(crate) struct Lent(Arc<Node>);

impl Drop for Lent {
    fn drop(&mut self) {
        self.0.lent.fetch_sub(1, Ordering::Relaxed);
        self.0.slots_changed();
        self.0.queue.give_back();
    }
}

/// Counts a request while it is under way.
struct Buying(Arc<AtomicUsize>);

impl Drop for Buying {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Node {
    /// Puts a node together, binds its sockets and starts its tasks under `tasks`.
    pub async fn start(
        settings: Settings,
        store: Store,
        recovered: Recovered,
        tasks: Tasks,
    ) -> Result<Arc<Self>, StartError> {
        let Settings { identity, network, .. } = &settings;
        let (swarm, events, event_loop) = infernet_swarm::new(swarm_config(&settings, &recovered.peers))?;
        tasks.spawn("swarm", event_loop.run(tasks.token()));
        let happenings = Happenings::default();
        let selling = settings.selling.clone();
        let worker = worker_config(selling.as_ref());
        let mut worker = worker::Worker::new(identity.clone(), network.clone(), worker);
        let bought = recovery::restore(&recovered, &mut worker);
        let (sources, price) = selling
            .as_ref()
            .map_or_else(Default::default, |s| (s.engines.clone(), s.price));
        // Bound by now, what is known of them comes with the first events.
        swarm.listen_addrs().await?;
        let addresses = swarm.advertised().await?;
        let node = Arc::new(Self {
            market: Market::new(
                identity.clone(),
                network.clone(),
                swarm.clone(),
                recovery::reputation(&recovered).as_ref(),
            )
            .buying(settings.lease, settings.wallets.clone())
            .after(recovered.ad_sequence),
            provider: Arc::new(Provider::new(
                network.clone(),
                store.clone(),
                happenings.clone(),
                worker,
            )),
            leases: Leases::new(store.clone(), bought, recovery::spending(&recovered, settings.budget)),
            engines: Engines::new(sources, price),
            own: Engines::new(settings.own.clone(), Price::FREE),
            tags: vec!["c0mpute:role:infernet".to_owned(), "c0mpute:class:A".to_owned()],
            addresses: watch::Sender::new(texts(&addresses)),
            slots: selling.as_ref().and_then(|selling| selling.slots),
            sells: selling.is_some(),
            purpose: settings.purpose,
            lists: Mutex::default(),
            rails: selling
                .iter()
                .flat_map(|selling| selling.payees.iter().map(|payee| payee.rail.clone()))
                .collect(),
            identity: settings.identity.clone(),
            network: settings.network.clone(),
            tasks,
            leaving: CancellationToken::new(),
            buying: Arc::default(),
            lent: AtomicU16::new(0),
            queue: Queue::default(),
            closing: CancellationToken::new(),
            swarm,
            store,
            happenings,
        });
        node.tasks
            .spawn_until_cancelled("network", network::run(node.clone(), events));
        node.tasks.spawn_until_cancelled("twin", twin::watch(node.clone()));
        node.tasks
            .spawn_until_cancelled("sweep", network::sweep(node.clone(), recovered.peers));
        let alone = joining::watch_alone(node.clone(), settings.bootstrap.clone());
        node.tasks.spawn_until_cancelled("alone", alone);
        for source in joining::lists(&settings.bootstrap) {
            node.tasks
                .spawn_until_cancelled("join", joining::follow(node.clone(), source));
        }
        if selling.is_some() {
            node.engines.refresh().await;
            node.slots_changed();
            node.tasks.spawn("ads", ads::publish(node.clone()));
        }
        if !node.own.is_empty() {
            node.own.refresh().await;
        }
        if selling.is_some() || !node.own.is_empty() {
            node.tasks
                .spawn_until_cancelled("engines", ads::watch_engines(node.clone()));
        }
        info!(peer = %node.identity.node().peer_id(), network = %node.network, "node started");
        Ok(node)
    }

    /// Buys one answer.
    #[must_use]
    pub fn buy(self: &Arc<Self>, purchase: Purchase) -> Answer {
        let (consumer, answer) = consumer::pair();
        self.buying.fetch_add(1, Ordering::Relaxed);
        let (node, counted) = (self.clone(), Buying(self.buying.clone()));
        self.tasks.spawn("request", async move {
            let _counted = counted;
            buyer::serve(node, purchase, consumer).await;
        });
        answer
    }

    /// Where it can be dialled, with its peer id.
    pub async fn listening(&self) -> Result<Vec<Multiaddr>, infernet_swarm::Closed> {
        self.swarm.dialable_addrs().await
    }

    /// Who is connected.
    pub async fn peers(&self) -> Result<Vec<PeerInfo>, infernet_swarm::Closed> {
        self.swarm.peers().await
    }

    /// Ads that are known, its own first.
    #[must_use]
    pub fn ads(&self) -> Vec<Verified<CapabilityAd>> {
        self.market.ads()
    }

    /// Waits until so many providers of a model are known.
    pub async fn until_served(&self, model: &ModelId, providers: usize) {
        self.market.until_served(model, providers).await;
    }

    /// Waits until nobody is known to serve a model.
    pub async fn until_withdrawn(&self, model: &ModelId) {
        self.market.until_withdrawn(model).await;
    }

    /// How another node stands here.
    #[must_use]
    pub fn standing(&self, node: &NodeId) -> Standing {
        self.market.standing(node)
    }

    /// What it has on as a provider.
    #[must_use]
    pub fn load(&self) -> Load {
        self.provider.load()
    }

    /// Requests of its own consumers that are under way.
    #[must_use]
    pub fn buying(&self) -> usize {
        self.buying.load(Ordering::Relaxed)
    }

    /// Providers that kept failing, and that it does not ask for a while.
    #[must_use]
    pub fn left_alone(&self) -> usize {
        self.market.left_alone()
    }

    /// How others reach it.
    pub async fn reached(&self) -> Result<Reached, infernet_swarm::Closed> {
        self.swarm.reached().await
    }

    /// How it stands towards the rest of the network.
    pub async fn situation(&self) -> Result<Situation, infernet_swarm::Closed> {
        self.swarm.situation().await
    }

    /// How a peer behaves.
    pub async fn conduct(&self, peer: PeerId) -> Result<PeerConduct, infernet_swarm::Closed> {
        self.swarm.conduct(peer).await
    }

    /// How often each bound against peers was met.
    pub async fn limit_hits(&self) -> Result<Hits, infernet_swarm::Closed> {
        self.swarm.hits().await
    }

    /// Totals of its swarm since the start.
    pub async fn counters(&self) -> Result<Counters, infernet_swarm::Closed> {
        self.swarm.counters().await
    }

    /// Closes the connections with a node; both may connect again.
    pub async fn hang_up(&self, node: &NodeId) {
        self.market.hang_up(node).await;
    }

    /// Live leases that it bought.
    #[must_use]
    pub fn leases(&self) -> Vec<(LeaseId, NodeId, ModelId)> {
        self.leases.list()
    }

    /// Ends all leases that it bought; the next request begins with an auction.
    pub fn drop_leases(&self) {
        self.leases.end_all();
    }

    /// What its consumers have spent, with what is set aside: in the last hour, and in the last day.
    #[must_use]
    pub fn spent(&self) -> (MicroUsd, MicroUsd) {
        self.leases.spending().totals(crate::clock::wall())
    }

    /// The same for each key of its gateway, in the last day.
    #[must_use]
    pub fn spent_by_key(&self) -> Vec<(CallerId, MicroUsd)> {
        self.leases.spending().by_caller(crate::clock::wall())
    }

    /// What it keeps.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Its key's public half.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.identity.node()
    }

    /// What happens from now on.
    #[must_use]
    pub fn happenings(&self) -> broadcast::Receiver<Happening> {
        self.happenings.look()
    }

    /// Takes no more work, finishes what runs, withdraws, and stops every task.
    pub async fn stop(&self) {
        self.provider.drain();
        // Others learn at once that nothing more is taken here, and not when the ad has had its time.
        self.leaving.cancel();
        let _ = tokio::time::timeout(DRAIN, self.idle()).await;
        self.closing.cancel();
        let _ = tokio::time::timeout(CLOSE_WITHIN, self.idle()).await;
        if self.market.own_ad().is_some() {
            tokio::time::sleep(LAST_WORD).await;
        }
        self.leases.end_all();
        self.leases.sweep(self);
        network::keep_reputation(self);
        self.tasks.drain(DRAIN).await;
        if let Err(error) = self.store.sync().await {
            tracing::warn!(%error, "the journal could not be synced");
        }
    }

    /// Whether it takes nothing more that nobody waits for.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.is_cancelled()
    }

    /// Returns once nothing runs.
    async fn idle(&self) {
        while self.provider.load().running > 0 || self.buying.load(Ordering::Relaxed) > 0 || self.lent() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) fn advertised(&self) -> List<Address, ADDRESSES> {
        self.addresses.borrow().clone()
    }

    /// Changes whenever what this node may say of where it is does.
    pub(crate) fn whereabouts(&self) -> watch::Receiver<List<Address, ADDRESSES>> {
        self.addresses.subscribe()
    }

    /// Whether it was started for a look alone.
    pub(crate) fn is_look(&self) -> bool {
        self.purpose == Purpose::Look
    }

    /// A list to join by was read, or why not.
    pub(crate) fn list_read(&self, source: String, why: Option<String>) {
        unpoisoned(&self.lists).insert(source, why);
    }

    /// Lists to join by that were tried, and why each gave nothing, if it did.
    pub(crate) fn lists(&self) -> BTreeMap<String, Option<String>> {
        unpoisoned(&self.lists).clone()
    }

    /// Whether it is a provider, with or without an engine at the moment.
    pub(crate) fn sells(&self) -> bool {
        self.sells
    }

    /// The ad is published again at once.
    pub(crate) fn say_again(&self) {
        self.addresses.send_modify(|_| {});
    }

    /// Where another process was found lately that has this node's key.
    #[must_use]
    pub fn twin(&self) -> Option<Vec<String>> {
        self.market.twin().found()
    }

    pub(crate) fn reachable_at(&self, addresses: &[Multiaddr]) {
        let told = texts(addresses);
        self.addresses.send_if_modified(|known| {
            let changes = *known != told;
            *known = told;
            changes
        });
    }

    /// Requests at once, as the operator or the engines say.
    pub(crate) fn slots(&self) -> u16 {
        self.slots.or_else(|| self.engines.slots()).unwrap_or(SLOTS_USUAL)
    }

    pub(crate) fn slots_changed(&self) {
        let lent = self.lent.load(Ordering::Relaxed);
        self.provider.set_slots(self.slots().saturating_sub(lent));
    }

    /// An engine of this node that has a model, and a slot of it where it is shared with buyers; `None` where there is
    /// none or all slots are taken, but for those that are to be kept free.
    pub(crate) fn engine_of_our_own(
        self: &Arc<Self>,
        model: &ModelId,
        kept_free: u16,
    ) -> Option<(Served, Option<Lent>)> {
        if let Some(served) = self.own.find(model) {
            return Some((served, None));
        }
        let served = self.engines.find(model)?;
        let running = self.provider.load().running;
        let slots = self.slots().saturating_sub(kept_free);
        let taken = self.lent.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |lent| {
            (lent.saturating_add(running) < slots).then_some(lent + 1)
        });
        taken.ok()?;
        self.slots_changed();
        Some((served, Some(Lent(self.clone()))))
    }

    /// Slots that this node's own consumers use.
    pub(crate) fn lent(&self) -> u16 {
        self.lent.load(Ordering::Relaxed)
    }

    /// Whether an engine of this node serves a model, be it free or not.
    pub(crate) fn serves_itself(&self, model: &ModelId) -> bool {
        self.own.has(model) || self.engines.has(model)
    }

    /// The engine of this node that serves a model, be it free or not.
    pub(crate) fn own_engine(&self, model: &ModelId) -> Option<Served> {
        self.own.find(model).or_else(|| self.engines.find(model))
    }

    /// Models that this node's own engines serve.
    pub(crate) fn models_of_our_own(&self) -> Vec<Model> {
        let mut models = self.own.served();
        models.extend(self.engines.served());
        models
    }

    /// Learns from a receipt of our own how fast our engines are.
    pub(crate) fn observe(&self, receipt: &Verified<JobReceipt>, is_streamed: bool) {
        self.engines.observe(&receipt.step, is_streamed);
        if let Some(model) = self.provider.model(&receipt.lease) {
            let measured = self.engines.measured();
            self.provider.measured(
                model,
                Service {
                    ttft: measured.ttft,
                    speed: measured.speed,
                },
            );
        }
    }
}

fn swarm_config(settings: &Settings, remembered: &[String]) -> infernet_swarm::Config {
    let network = &settings.network;
    let mut config = infernet_swarm::Config::new(settings.identity.secret(), network.as_str(), Role::Node);
    config.listen.clone_from(&settings.listen);
    config.bootstrap = joining::addresses(&settings.bootstrap);
    // One that this version does not read is one less.
    config.remembered = remembered.iter().filter_map(|address| address.parse().ok()).collect();
    config.external.clone_from(&settings.external);
    config.topics = vec![network.capability_topic(), network.jobs_topic(INFERENCE)];
    config.agent = AGENT.to_owned();
    config.outbound_only = !settings.advertise;
    if config.outbound_only {
        // It is called through its relays' circuits alone.
        config.listen.clear();
    }
    // Nobody calls who only buys.
    let is_called = settings.selling.is_some() || settings.purpose == Purpose::Look;
    config.relays = if is_called { RELAYS } else { 0 };
    config.mdns = settings.mdns;
    config.upnp = settings.upnp;
    let full = crate::worker::fail(FailCode::Busy, "too many streams are open here");
    config.refusal = WorkerFrame::Fail(full).to_bytes().into();
    config
}

fn worker_config(selling: Option<&Selling>) -> worker::Config {
    match selling {
        None => worker::Config {
            slots: 0,
            ..worker::Config::default()
        },
        Some(selling) => worker::Config {
            slots: selling.slots.unwrap_or(SLOTS_USUAL),
            stranger_slots: selling.stranger_slots,
            public: selling.public,
            payees: selling.payees.clone(),
            ..worker::Config::default()
        },
    }
}

/// Addresses as an ad has them.
fn texts(addresses: &[Multiaddr]) -> List<Address, ADDRESSES> {
    let texts = addresses.iter().map(ToString::to_string);
    List::first_of(texts.filter_map(|text| Text::new(text).ok()))
}

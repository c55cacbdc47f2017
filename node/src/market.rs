//! The market driver: carries the pure machines of `protocol::market` between the swarm, the clock and the spines.
//!
//! ```text
//!   gossip    -> verify (pool) -> judge (admission, registry) -> verdict to the swarm, news to whom it concerns
//!   exchanges -> ads that are known; a bid for an offer
//!   buyer     -> auction: begin -> invite, publish, collect -> close -> accept, runners-up, wider rounds   auction
//!   newcomer  -> asks peers and the DHT for ads before it auctions                                        discovery
//! ```
//!
//! Decisions are made in `protocol`; this file decides nothing but what to ask next. Implements `specs/auction.md`.

mod auction;
mod breaker;
mod discovery;
mod paces;
mod skew;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use infernet_protocol::auction::{Decline, JobBid, JobOffer, OfferReply, Payer};
use infernet_protocol::capability::{self, AdList, AdQuery, AdScope, Address, CapabilityAd, ModelAd, Registry};
use infernet_protocol::codec::{self, Blob};
use infernet_protocol::market::Admission;
use infernet_protocol::market::admission::{Judgement, News};
use infernet_protocol::market::buyer::Event as AuctionEvent;
use infernet_protocol::market::gossip::{Gossip, Settled, Topic};
use infernet_protocol::market::lease::Papers;
use infernet_protocol::market::worker::Via;
use infernet_protocol::names::INFERENCE;
use infernet_protocol::receipt::Countersign;
use infernet_protocol::reputation::{Book, Outcome, Reputation, Service, Standing};
use infernet_protocol::{Digest, Identity, Millis, ModelId, Network, NodeId, Verified};
use infernet_swarm::{DirectStream, Handle, Multiaddr, OpenError, PeerId, Verdict};
use tokio::sync::{Notify, mpsc};
use tracing::{debug, info};

use crate::buyer::{Failure, Purchase};
use crate::clock;
use crate::happenings::Happening;
use crate::node::{LeaseTerms, Node};
use crate::twin::Twin;

use breaker::Breaker;
use paces::Paces;
use skew::Skew;

pub(crate) use auction::Placed;

/// Bids that wait for the auction's task; more than the invited and the drawn can be are not worth waiting for.
const BIDS: usize = 128;
/// Auctions of this node that run at once; the next waits for its turn in `leases`.
const AUCTIONS: usize = 256;

/// What the market knows, behind one lock that is never held across an await.
#[derive(Debug)]
struct State {
    registry: Registry,
    admission: Admission,
    reputation: Reputation,
    reputation_changed: bool,
    auctions: HashMap<Digest, mpsc::Sender<AuctionEvent>>,
    round_trips: HashMap<NodeId, Millis>,
    own: Option<Verified<CapabilityAd>>,
    breaker: Breaker,
    paces: Paces,
    skew: Skew,
}

/// The market as this node sees it.
#[derive(Debug)]
pub(crate) struct Market {
    identity: Identity,
    network: Network,
    swarm: Handle,
    state: Mutex<State>,
    twin: Twin,
    /// Told when an ad was news.
    learned: Notify,
    wallets: Vec<Payer>,
    lease: LeaseTerms,
    began: Instant,
}

impl Market {
    pub(crate) fn new(identity: Identity, network: Network, swarm: Handle, reputation: Option<&Book>) -> Self {
        let mut table = Reputation::default();
        if let Some(book) = reputation {
            table.import(book);
        }
        let state = State {
            registry: Registry::default(),
            admission: Admission::default(),
            reputation: table,
            reputation_changed: false,
            auctions: HashMap::new(),
            round_trips: HashMap::new(),
            own: None,
            breaker: Breaker::default(),
            paces: Paces::default(),
            skew: Skew::default(),
        };
        Self {
            identity,
            network,
            swarm,
            state: Mutex::new(state),
            twin: Twin::new(0, clock::wall()),
            learned: Notify::new(),
            wallets: Vec::new(),
            began: Instant::now(),
            lease: LeaseTerms::default(),
        }
    }

    /// What auctions of this node ask for, and offer to pay from.
    pub(crate) fn buying(self, lease: LeaseTerms, wallets: Vec<Payer>) -> Self {
        Self { wallets, lease, ..self }
    }

    /// The highest sequence of an ad that this node signed in earlier lives.
    pub(crate) fn after(self, sequence: u64) -> Self {
        Self {
            twin: Twin::new(sequence, clock::wall()),
            ..self
        }
    }

    /// Whether another process has this node's key.
    pub(crate) fn twin(&self) -> &Twin {
        &self.twin
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- gossip

    /// Judges a message, says so to the swarm, and passes on what is news.
    pub(crate) fn judge(&self, node: &Node, topic: &str, data: &[u8]) -> Verdict {
        let topic = if topic == self.network.capability_topic() {
            Topic::Capability
        } else {
            Topic::Jobs
        };
        let judgement = match Gossip::from_bytes(topic, data, &self.network) {
            Ok(gossip) => {
                let now = clock::now();
                // In this node's own name: it passes on, and is none of those to buy from.
                if let Gossip::Ad(ad) = &gossip
                    && ad.signer() == self.identity.node()
                {
                    self.twin.hears(ad, now.wall);
                    return match ad.is_fresh(now.wall) {
                        true => Verdict::Accept,
                        false => Verdict::Ignore,
                    };
                }
                let state = &mut *self.state();
                // Also what is too old or too new to count: then this clock may be the one that is wrong.
                if let Gossip::Ad(ad) = &gossip {
                    state.skew.hears(ad.signer(), ad.issued_at, now);
                }
                state.admission.judge(gossip, &mut state.registry, now)
            }
            Err(refused) => Judgement::of_refused(&refused),
        };
        match judgement {
            Judgement::Accept(news) => {
                self.on_news(node, news);
                Verdict::Accept
            }
            Judgement::Ignore(why) => {
                debug!(?topic, ?why, "gossip ignored");
                Verdict::Ignore
            }
            Judgement::Reject => Verdict::Reject,
        }
    }

    fn on_news(&self, node: &Node, news: News) {
        match news {
            News::Offer(offer) => {
                if let Ok(bid) = node.provider.bid(&offer, Via::Gossip, self.ads_held()) {
                    self.say(node, bid.bytes().to_vec());
                }
            }
            News::Bid(bid, _) => self.route(bid),
            News::Accept(accept, _) if accept.winner == self.identity.node() => node.provider.hold(&accept),
            News::Ad(..) => self.learned.notify_waiters(),
            News::Accept(..) | News::Settled(..) => {}
        }
    }

    /// Hands a bid to the auction of ours that it answers.
    fn route(&self, bid: Verified<JobBid>) {
        if let Some(auction) = self.state().auctions.get(&bid.offer) {
            // A full queue means more bids than an auction can use.
            let _ = auction.try_send(AuctionEvent::Bid(bid));
        }
    }

    /// Publishes on the topic of auctions. Nobody waits for it: all that matters also goes directly.
    fn say(&self, node: &Node, message: Vec<u8>) {
        let (swarm, topic) = (self.swarm.clone(), self.network.jobs_topic(INFERENCE));
        node.tasks.spawn_until_cancelled("say", async move {
            if let Err(error) = swarm.publish(topic, Bytes::from(message)).await {
                debug!(%error, "not published");
            }
        });
    }

    // ---- exchanges

    /// Answers an offer that a buyer sent directly.
    pub(crate) fn answer_offer(&self, node: &Node, peer: PeerId, data: &[u8]) -> Vec<u8> {
        let reply = match self.bid_for(node, peer, data) {
            Ok(bid) => OfferReply {
                bid: Some(Blob(bid.bytes().to_vec())),
                decline: None,
            },
            Err(decline) => OfferReply {
                bid: None,
                decline: Some(decline),
            },
        };
        codec::to_vec(&reply)
    }

    fn bid_for(&self, node: &Node, peer: PeerId, data: &[u8]) -> Result<Verified<JobBid>, Decline> {
        let offer = Verified::<JobOffer>::from_bytes(data, &self.network).map_err(|_| Decline::Invalid)?;
        if NodeId::from_peer_id_bytes(&peer.to_bytes()) != Ok(offer.signer()) {
            return Err(Decline::Invalid);
        }
        self.state().admission.note_offer(&offer, clock::now());
        let bid = node.provider.bid(&offer, Via::Direct, self.ads_held())?;
        if offer.public && bid.public {
            self.say(node, bid.bytes().to_vec());
        }
        Ok(bid)
    }

    /// Answers a question for ads: our own first, then what we know.
    pub(crate) fn answer_ads(&self, data: &[u8]) -> Option<Vec<u8>> {
        let query: AdQuery = codec::from_slice(data).ok()?;
        let state = self.state();
        let fits = |ad: &&Verified<CapabilityAd>| query.model.as_ref().is_none_or(|model| ad.model(model).is_some());
        let own = state.own.as_ref().filter(|ad| !ad.models.is_empty()).filter(fits);
        let known = match query.scope {
            AdScope::Own => None,
            AdScope::Known => Some(state.registry.iter(clock::wall())),
        };
        let chance = u64::from_be_bytes(clock::entropy());
        let answer = AdList::of(own, known.into_iter().flatten().filter(fits), chance);
        Some(codec::to_vec(&answer))
    }

    // ---- what is known

    /// Takes ads in that somebody handed over; how many were news.
    pub(crate) fn learn(&self, ads: &AdList) -> usize {
        let verified = ads
            .ads
            .iter()
            .filter_map(|ad| Verified::from_bytes(&ad.0, &self.network).ok());
        let (own, verified): (Vec<_>, Vec<_>) =
            verified.partition(|ad: &Verified<CapabilityAd>| ad.signer() == self.identity.node());
        let now = clock::wall();
        own.iter().for_each(|ad| self.twin.hears(ad, now));
        let mut state = self.state();
        let news = verified
            .into_iter()
            .filter(|ad| state.registry.observe(ad.clone(), now).is_news())
            .count();
        self.learned.notify_waiters();
        news
    }

    /// How many milliseconds this machine's clock is ahead of most others; negative where it is behind.
    pub(crate) fn clock_ahead_ms(&self) -> Option<i64> {
        self.state().skew.ahead(clock::now())
    }

    fn ads_held(&self) -> usize {
        self.state().registry.len()
    }

    /// Time to this node's next ad: longer in a large network, so that ads cost everybody the same.
    pub(crate) fn ad_interval(&self) -> Millis {
        let listened = Millis(u32::try_from(self.began.elapsed().as_millis()).unwrap_or(u32::MAX));
        let state = self.state();
        let intervals = state.registry.iter(clock::wall()).map(|ad| ad.interval);
        capability::interval(capability::providers(intervals, listened))
    }

    /// Ads that are known, our own first.
    pub(crate) fn ads(&self) -> Vec<Verified<CapabilityAd>> {
        let state = self.state();
        let own = state.own.iter().filter(|ad| !ad.models.is_empty());
        own.chain(state.registry.iter(clock::wall())).cloned().collect()
    }

    /// Sequence of the ad that is known of a provider.
    pub(crate) fn ad_sequence_of(&self, provider: &NodeId) -> Option<u64> {
        let state = self.state();
        state.registry.get(provider, clock::wall()).map(|ad| ad.sequence)
    }

    /// Where a provider advertises to be.
    pub(crate) fn addresses_of(&self, provider: &NodeId) -> Vec<Address> {
        let state = self.state();
        let ad = state.registry.get(provider, clock::wall());
        ad.map(|ad| ad.addresses.to_vec()).unwrap_or_default()
    }

    /// What a provider advertises of a model.
    pub(crate) fn entry_of(&self, provider: &NodeId, model: &ModelId) -> Option<ModelAd> {
        let state = self.state();
        let ad = state.registry.get(provider, clock::wall())?;
        ad.model(model).cloned()
    }

    /// Providers whose ads do not meet what a purchase asks for; where some meet what it prefers and do not keep failing,
    /// the others too.
    fn unwanted(&self, purchase: &Purchase, left_out: &[NodeId]) -> Vec<NodeId> {
        let (state, now) = (self.state(), Instant::now());
        let serving = state.registry.serving(&purchase.model, clock::wall());
        let (mut able, mut unwanted) = (Vec::new(), Vec::new());
        for (ad, entry) in serving {
            let node = ad.signer();
            if !purchase.accepts(entry) {
                unwanted.push(node);
            } else if !left_out.contains(&node) && purchase.may_go_to(&node) {
                able.push((node, purchase.prefers(entry), !state.breaker.is_open(&node, now)));
            }
        }
        // Each of the two counts only while it leaves somebody.
        for is_better in [
            |(_, _, closed): &(NodeId, bool, bool)| *closed,
            |(_, preferred, _): &(NodeId, bool, bool)| *preferred,
        ] {
            if able.iter().any(is_better) {
                unwanted.extend(able.iter().filter(|one| !is_better(one)).map(|(node, ..)| *node));
                able.retain(is_better);
            }
        }
        unwanted
    }

    /// Whether anybody who advertises what a purchase asks for is one that it may go to.
    fn allows_any(&self, purchase: &Purchase) -> bool {
        let state = self.state();
        let mut serving = state.registry.serving(&purchase.model, clock::wall());
        serving.any(|(ad, entry)| purchase.accepts(entry) && purchase.may_go_to(&ad.signer()))
    }

    /// Whether a provider has failed so often in a row that others go first.
    pub(crate) fn keeps_failing(&self, node: &NodeId) -> bool {
        self.state().breaker.is_open(node, Instant::now())
    }

    /// How many providers are not asked for now, since they kept failing.
    pub(crate) fn left_alone(&self) -> usize {
        self.state().breaker.open(Instant::now())
    }

    /// After how long the first word of a provider is late.
    pub(crate) fn late_after(&self, provider: NodeId, purchase: &Purchase) -> Option<Duration> {
        self.state().paces.late_after(provider, purchase.input_tokens)
    }

    /// Whether one more request may be asked twice.
    pub(crate) fn take_hedge(&self) -> bool {
        self.state().paces.take_hedge()
    }

    /// A provider said the first word of a stream.
    pub(crate) fn said_first_word(&self, provider: NodeId, purchase: &Purchase, after: Duration) {
        self.state().paces.note(provider, purchase.input_tokens, after);
    }

    /// How a node stands here.
    pub(crate) fn standing(&self, node: &NodeId) -> Standing {
        self.state().reputation.standing(node, clock::wall())
    }

    /// Our own ad.
    pub(crate) fn own_ad(&self) -> Option<Verified<CapabilityAd>> {
        self.state().own.clone()
    }

    /// From now on this is our ad.
    pub(crate) fn advertise(&self, ad: Verified<CapabilityAd>) {
        self.twin.signs(ad.sequence);
        self.state().own = Some(ad);
    }

    /// Round trips as the swarm measured them.
    pub(crate) fn measured_round_trips(&self, measured: impl Iterator<Item = (PeerId, Duration)>) {
        let trips = measured.filter_map(|(peer, trip)| {
            let node = NodeId::from_peer_id_bytes(&peer.to_bytes()).ok()?;
            Some((node, Millis(u32::try_from(trip.as_millis()).unwrap_or(u32::MAX))))
        });
        self.state().round_trips = trips.collect();
    }

    /// Drops what is over; called now and then. Gives the reputation table where it has changed.
    pub(crate) fn tick(&self) -> Option<Book> {
        let mut state = self.state();
        state.admission.tick(clock::now());
        state.registry.expire(clock::wall());
        std::mem::take(&mut state.reputation_changed).then(|| state.reputation.export())
    }

    // ---- outcomes

    fn observe(&self, node: NodeId, outcome: Outcome) {
        let mut state = self.state();
        state.reputation.observe(node, outcome, clock::wall());
        state.reputation_changed = true;
    }

    /// A provider did not bring the answer.
    pub(crate) fn disappointed(&self, node: &Node, worker: NodeId, failure: &Failure) {
        let outcome = match failure {
            Failure::Unreachable | Failure::Lost(_) => Outcome::Failed,
            Failure::Failed(fail) if !fail.retryable => return,
            Failure::Failed(fail) if fail.code == infernet_protocol::stream::frames::FailCode::Refused => {
                Outcome::Refused
            }
            Failure::Failed(_) => Outcome::Failed,
            Failure::Busy => Outcome::Busy,
            Failure::Fault(_) => Outcome::Disputed,
            Failure::Ended
            | Failure::OverBudget(_)
            | Failure::Journal
            | Failure::Cancelled
            | Failure::Beaten
            | Failure::Late
            | Failure::Stopping => return,
        };
        let now = Instant::now();
        let is_lost = matches!(failure, Failure::Unreachable | Failure::Lost(_));
        // A node that goes down takes all its streams with it: that is one incident.
        if is_lost && !self.state().breaker.is_new_incident(worker, now) {
            return;
        }
        self.observe(worker, outcome);
        let counts = matches!(outcome, Outcome::Failed | Outcome::Disputed | Outcome::Refused);
        if counts && self.state().breaker.failed(worker, now) {
            info!(provider = %worker.short(), "it keeps failing, and is left alone for a while");
            node.leases.end_with(worker);
        }
    }

    /// A provider brought the answer, at this pace as the buyer saw it.
    pub(crate) fn delivered(&self, worker: NodeId, promised: Service, seen: Service) {
        self.observe(worker, Outcome::Served { bid: promised, seen });
        self.state().breaker.served(&worker);
    }

    /// A bid was accepted: said to all where both sides agreed to that.
    pub(crate) fn accepted(&self, node: &Node, papers: &Papers, after_us: u64) {
        if papers.offer.public && papers.bid.public {
            self.say(node, papers.accept.bytes().to_vec());
        }
        let (lease, winner) = (papers.accept.lease, papers.accept.winner);
        node.happenings.tell(|| Happening::Accepted {
            lease,
            winner,
            after_us,
        });
    }

    /// A lease is over: its last receipt with both signatures, for all where both sides agreed to that.
    pub(crate) fn closed(&self, node: &Node, papers: &Papers, last: &infernet_protocol::receipt::ledger::Entry) {
        let (true, true, Some(sign)) = (papers.offer.public, papers.bid.public, &last.countersign) else {
            return;
        };
        // It is news from now on, however long the lease was idle, and nobody forwards what was signed long ago.
        let fresh = Countersign {
            signed_at: clock::wall(),
            ..(**sign).clone()
        };
        let fresh = Verified::sign(fresh, &self.identity, &self.network, &clock::entropy());
        self.say(node, Settled::new(&last.receipt, &fresh).to_bytes());
    }

    // ---- peers

    /// A direct stream to a node, at these addresses or where it is known to be.
    pub(crate) async fn open_stream(&self, worker: NodeId, addresses: &[Address]) -> Result<DirectStream, OpenError> {
        self.swarm.open(peer_id(&worker), multiaddrs(addresses)).await
    }

    /// Closes what connections there are to a node: they may be dead without anybody having been told.
    pub(crate) async fn hang_up(&self, worker: &NodeId) {
        let _ = self.swarm.disconnect(peer_id(worker)).await;
    }

    /// A peer broke the rules of the direct stream.
    pub(crate) fn punish(&self, node: &Arc<Node>, peer: PeerId) {
        if let Ok(worker) = NodeId::from_peer_id_bytes(&peer.to_bytes()) {
            self.observe(worker, Outcome::Disputed);
        }
        let swarm = self.swarm.clone();
        node.tasks.spawn_until_cancelled("punish", async move {
            let _ = swarm.disconnect(peer).await;
        });
    }

    /// Waits until so many providers of a model are known.
    pub(crate) async fn until_served(&self, model: &ModelId, providers: usize) {
        self.until(|serving| serving >= providers, model).await;
    }

    /// Waits until no provider of a model is known.
    pub(crate) async fn until_withdrawn(&self, model: &ModelId) {
        self.until(|serving| serving == 0, model).await;
    }

    async fn until(&self, enough: impl Fn(usize) -> bool, model: &ModelId) {
        loop {
            let learned = self.learned.notified();
            if enough(self.state().registry.serving(model, clock::wall()).count()) {
                return;
            }
            learned.await;
        }
    }

    /// Whether anybody is known to serve a model.
    pub(crate) fn serving(&self, model: &ModelId) -> bool {
        let state = self.state();
        state.registry.serving(model, clock::wall()).next().is_some()
    }
}

/// The libp2p name of a node.
pub(crate) fn peer_id(node: &NodeId) -> PeerId {
    // A key that is no point of the curve never verified anything, so it cannot have come this far; a dial of this
    // name would then fail like any other.
    PeerId::from_bytes(&node.peer_id_bytes()).unwrap_or_else(|_| PeerId::random())
}

/// Addresses that can be read.
pub(crate) fn multiaddrs(addresses: &[Address]) -> Vec<Multiaddr> {
    addresses
        .iter()
        .filter_map(|address| address.as_str().parse().ok())
        .collect()
}

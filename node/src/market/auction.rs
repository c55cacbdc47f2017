//! One auction of this node: the machine's effects carried out, its events brought to it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use infernet_protocol::auction::{JobOffer, OfferReply, Requirement, Volume};
use infernet_protocol::capability::{Address, Class};
use infernet_protocol::codec::{self, List};
use infernet_protocol::market::buyer::{Auction, Closed, Effect, Event, NoProvider, View, Want};
use infernet_protocol::market::lease::Papers;
use infernet_protocol::{Digest, NodeId, Price, Verified};
use infernet_swarm::Exchange;
use tokio::sync::mpsc;
use tracing::{debug, info};

use super::{AUCTIONS, BIDS, Market, State, multiaddrs, peer_id};
use crate::buyer::Purchase;
use crate::clock;
use crate::happenings::Happening;
use crate::leases::Unplaced;
use crate::node::Node;
use infernet_protocol::reputation::Outcome;

/// Requests at once that a gateway asks for; the provider grants what it grants this buyer.
const AT_ONCE: u16 = 256;
/// Output tokens of a request that does not say.
const OUTPUT_USUAL: u32 = 512;

/// An auction that has closed with bids: the best may be accepted, then each runner-up.
#[derive(Debug)]
pub(crate) struct Placed {
    auction: Mutex<Auction>,
    heard: Mutex<BTreeSet<NodeId>>,
    began: Instant,
}

impl Placed {
    fn new(auction: Auction) -> Self {
        Self {
            auction: Mutex::new(auction),
            heard: Mutex::default(),
            began: Instant::now(),
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Auction) -> T) -> T {
        act(&mut self.auction.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Accepts the best bid that was not accepted yet and that suits.
    pub(crate) fn accept_next(&self, suits: impl Fn(&Papers) -> bool) -> Option<Papers> {
        self.with(|auction| std::iter::from_fn(|| auction.accept(clock::now())).find(suits))
    }

    /// Whether this bidder is heard for the first time: a bid may come by gossip and by invitation.
    fn is_first_of(&self, bidder: NodeId) -> bool {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).insert(bidder)
    }

    /// Microseconds since the offer went out.
    pub(crate) fn elapsed_us(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// Registers an auction for bids off the topic, for as long as it lives.
struct Registered {
    node: Arc<Node>,
    offer: Digest,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.node.market.state().auctions.remove(&self.offer);
    }
}

impl Market {
    /// Auctions a lease for the purchase, in as many rounds as it takes.
    pub(crate) async fn auction(
        &self,
        node: &Arc<Node>,
        purchase: &Purchase,
        leave_out: &[NodeId],
    ) -> Result<Arc<Placed>, Unplaced> {
        if !self.serving(&purchase.model) {
            self.discover(node, &purchase.model).await;
        }
        let mut leave_out = leave_out.to_vec();
        let unwanted = self.unwanted(purchase, &leave_out);
        leave_out.extend(&unwanted);
        let leave_out = &leave_out[..];
        let began =
            self.with_view(|view| Auction::begin(self.want(purchase, leave_out), view, clock::entropy(), clock::now()));
        let (mut auction, mut effects) =
            began.map_err(|missing| unplaced(purchase, &missing, &unwanted, self.allows_any(purchase)))?;
        loop {
            let (placed, closed) = self.round(node, auction, effects).await;
            if closed == Closed::Ranked {
                return Ok(placed);
            }
            let wider = placed.with(|auction| {
                auction.may_widen().then(|| {
                    let leave_out = leave_out.iter().copied().collect();
                    self.with_view(|view| auction.widen(&leave_out, view, clock::entropy(), clock::now()))
                })
            });
            match wider {
                Some(Ok(wider)) => (auction, effects) = wider,
                _ => {
                    return Err(Unplaced::NobodyFree {
                        model: purchase.model.clone(),
                    });
                }
            }
            info!(model = %purchase.model, "nobody bid, asking wider");
        }
    }

    fn with_view<T>(&self, act: impl FnOnce(&View<'_>) -> T) -> T {
        let State {
            registry,
            reputation,
            round_trips,
            ..
        } = &*self.state();
        let round_trip = |node: &NodeId| round_trips.get(node).copied();
        act(&View {
            identity: &self.identity,
            network: &self.network,
            registry,
            reputation,
            round_trip: &round_trip,
        })
    }

    /// One round, until it closes. Bids that come later still join the runners-up.
    async fn round(&self, node: &Arc<Node>, auction: Auction, effects: Vec<Effect>) -> (Arc<Placed>, Closed) {
        let offer = auction.offer().clone();
        let placed = Arc::new(Placed::new(auction));
        let (events, mut incoming) = mpsc::channel(BIDS);
        {
            let mut state = self.state();
            if state.auctions.len() < AUCTIONS {
                state.auctions.insert(offer.hash(), events.clone());
            }
            state.admission.note_offer(&offer, clock::now());
        }
        node.happenings.tell(|| Happening::Offered(offer.clone()));
        let mut round = Round {
            node,
            market: self,
            placed: &placed,
            events,
            wake: None,
        };
        let mut closed = round.carry_out(effects);
        let registered = Registered {
            node: node.clone(),
            offer: offer.hash(),
        };
        while closed.is_none() {
            let event = round.next(&mut incoming).await;
            tell_of_bid(node, &event, &placed, false);
            let effects = placed.with(|auction| auction.handle(event, clock::now()));
            closed = round.carry_out(effects);
        }
        let left = round.wake.unwrap_or_default().saturating_sub(placed.began.elapsed());
        collect_late(registered, placed.clone(), incoming, left);
        (placed, closed.unwrap_or(Closed::Nothing))
    }
}

fn tell_of_bid(node: &Node, event: &Event, placed: &Placed, late: bool) {
    if let Event::Bid(bid) = event
        && placed.is_first_of(bid.signer())
    {
        let (bid, after_us) = (bid.clone(), placed.elapsed_us());
        node.happenings.tell(|| Happening::Bid { bid, after_us, late });
    }
}

/// Lets bids join the runners-up until the window ends.
fn collect_late(registered: Registered, placed: Arc<Placed>, mut incoming: mpsc::Receiver<Event>, left: Duration) {
    let tasks = registered.node.tasks.clone();
    tasks.spawn_until_cancelled("late bids", async move {
        let ends = tokio::time::sleep(left);
        tokio::pin!(ends);
        loop {
            let event = tokio::select! {
                event = incoming.recv() => event.unwrap_or(Event::Tick),
                () = &mut ends => Event::Tick,
            };
            let over = matches!(event, Event::Tick);
            tell_of_bid(&registered.node, &event, &placed, true);
            for effect in placed.with(|auction| auction.handle(event, clock::now())) {
                registered.node.market.learn_from(&effect);
            }
            if over {
                return;
            }
        }
    });
}

/// What a round needs while it is open.
struct Round<'a> {
    node: &'a Arc<Node>,
    market: &'a Market,
    placed: &'a Placed,
    events: mpsc::Sender<Event>,
    wake: Option<Duration>,
}

impl Round<'_> {
    async fn next(&self, incoming: &mut mpsc::Receiver<Event>) -> Event {
        tokio::select! {
            biased;
            event = incoming.recv() => event.unwrap_or(Event::Tick),
            () = tokio::time::sleep(self.wake.unwrap_or_default().saturating_sub(self.placed.began.elapsed())) => {
                Event::Tick
            }
        }
    }

    fn carry_out(&mut self, effects: Vec<Effect>) -> Option<Closed> {
        let mut closed = None;
        for effect in effects {
            self.market.learn_from(&effect);
            match effect {
                Effect::Publish(offer) => self.market.say(self.node, offer.bytes().to_vec()),
                Effect::Invite { node, offer, addresses } => self.invite(node, &offer, &addresses),
                Effect::Warm(node, addresses) => self.warm(node, &addresses),
                Effect::WakeAt(at) => {
                    self.wake = Some(Duration::from_millis(at.since(clock::now().mono)) + self.placed.began.elapsed());
                }
                Effect::Closed(how) => closed = Some(how),
                Effect::Refused(node, fault) => debug!(bidder = %node.short(), %fault, "bid not counted"),
                Effect::Answered(_) | Effect::Missed(_) => {}
            }
        }
        closed
    }

    fn invite(&self, worker: NodeId, offer: &Verified<JobOffer>, addresses: &[Address]) {
        let swarm = self.market.swarm.clone();
        let (network, events) = (self.market.network.clone(), self.events.clone());
        let (addresses, request) = (multiaddrs(addresses), Bytes::copy_from_slice(offer.bytes()));
        let window = Duration::from_millis(u64::from(offer.window.0));
        self.node.tasks.spawn_until_cancelled("invite", async move {
            let answer = swarm
                .ask(Exchange::Offer, peer_id(&worker), addresses, request, window)
                .await;
            let event = match answer.as_deref().map(codec::from_slice::<OfferReply>) {
                Ok(Ok(OfferReply { bid: Some(bid), .. })) => match Verified::from_bytes(&bid.0, &network) {
                    Ok(bid) => Event::Bid(bid),
                    Err(_) => Event::Unreachable(worker),
                },
                Ok(Ok(OfferReply {
                    decline: Some(decline), ..
                })) => Event::Declined(worker, decline),
                Ok(_) | Err(_) => Event::Unreachable(worker),
            };
            // The round may have closed without it.
            let _ = events.send(event).await;
        });
    }

    fn warm(&self, worker: NodeId, addresses: &[Address]) {
        let (swarm, addresses) = (self.market.swarm.clone(), multiaddrs(addresses));
        self.node.tasks.spawn_until_cancelled("warm", async move {
            if let Err(error) = swarm.dial(peer_id(&worker), addresses).await {
                debug!(provider = %worker.short(), %error, "likely winner cannot be dialled");
            }
        });
    }
}

impl Market {
    /// What an auction teaches of the invited.
    fn learn_from(&self, effect: &Effect) {
        match effect {
            Effect::Answered(node) => self.observe(*node, Outcome::Answered),
            Effect::Missed(node) => self.observe(*node, Outcome::Missed),
            _ => {}
        }
    }
}

impl Market {
    /// What a purchase asks the market for.
    fn want(&self, purchase: &Purchase, leave_out: &[NodeId]) -> Want {
        let output_tokens = purchase.max_output.unwrap_or(OUTPUT_USUAL);
        Want {
            requirement: Requirement {
                model: purchase.model.clone(),
                digest: purchase.weights,
                tags: List::default(),
                vram: None,
                context: purchase.context,
                features: purchase.needs,
                class: Class::A,
            },
            volume: Volume {
                input_tokens: purchase.input_tokens,
                output_tokens,
                requests: self.lease.requests,
                at_once: AT_ONCE,
                lease: self.lease.time,
            },
            policy: purchase.policy,
            price_cap: purchase.price_cap,
            wallets: self.wallets.clone(),
            public: purchase.public,
            trusted: BTreeSet::new(),
            ignore: purchase.ignore.iter().chain(leave_out).copied().collect(),
            only: (!purchase.only.is_empty()).then(|| purchase.only.iter().copied().collect()),
        }
    }
}

fn unplaced(purchase: &Purchase, missing: &NoProvider, unwanted: &[NodeId], allows_any: bool) -> Unplaced {
    let model = purchase.model.clone();
    if !unwanted.is_empty() && missing.excluded as usize <= unwanted.len() {
        Unplaced::Unfit { model }
    } else if missing.excluded > 0 && !allows_any {
        Unplaced::LeftOut { model }
    } else if missing.excluded > 0 {
        Unplaced::NobodyFree { model }
    } else if missing.no_rail > 0 {
        Unplaced::NoRail { model }
    } else if missing.above_cap > 0 {
        Unplaced::TooDear {
            model,
            cheapest: missing.cheapest.unwrap_or(Price::FREE),
        }
    } else if !missing.unfit.is_empty() {
        Unplaced::Unfit { model }
    } else {
        Unplaced::NobodyServes {
            model,
            near: missing.near.clone(),
        }
    }
}

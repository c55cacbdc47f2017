//! Jobs: the real `Auction` at their buyers, the real `Worker` at providers, and what travels between them.

mod worker;

use std::collections::BTreeSet;

use infernet_protocol::auction::{Decline, JobAccept, JobBid, JobOffer};
use infernet_protocol::market::Auction;
use infernet_protocol::market::admission::BIDS_PER_OFFER;
use infernet_protocol::market::buyer::{Closed, Effect, Event as Heard, View};
use infernet_protocol::market::gossip::Gossip;
use infernet_protocol::market::lease::Papers;
use infernet_protocol::market::worker::Refusal;
use infernet_protocol::reputation::Outcome;
use infernet_protocol::{LeaseId, Millis, NodeId, RequestId, Verified};

use crate::dht::{ASK_ROUNDS, DIAL_ROUNDS};
use crate::judge::Judge;
use crate::message::What;
use crate::population::popular;
use crate::setup::{SETTLE, START, Stress};
use crate::world::{Event, World, wall};

/// A worker that says nothing to an accept is given up after this: what an accept may hold a slot.
const START_WITHIN: u64 = 2_000;
/// Time over which a crowd comes.
const CROWD: u64 = 5_000;
/// A newcomer buys this long after it joined.
pub(crate) const SETTLES_IN: u64 = 5_000;
/// Peers that a buyer without providers asks for ads.
const ASKED: usize = 8;

/// One job of a buyer.
pub(crate) struct Job {
    pub(crate) buyer: u32,
    /// The node whose ads it looks at.
    pub(crate) view: u32,
    pub(crate) newcomer: bool,
    pub(crate) model: usize,
    pub(crate) began: Option<u64>,
    pub(crate) auction: Option<Auction>,
    offer: u32,
    bidders: BTreeSet<u32>,
    /// Bids of each round that is over.
    pub(crate) bids: Vec<usize>,
    pub(crate) placed: Option<u64>,
    pub(crate) failed: bool,
    /// Accepts that came to nothing.
    pub(crate) misses: u32,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job")
            .field("buyer", &self.buyer)
            .finish_non_exhaustive()
    }
}

impl Job {
    pub(crate) fn new(buyer: u32, view: u32, newcomer: bool) -> Self {
        Self {
            buyer,
            view,
            newcomer,
            model: 0,
            began: None,
            auction: None,
            offer: u32::MAX,
            bidders: BTreeSet::new(),
            bids: Vec::new(),
            placed: None,
            failed: false,
            misses: 0,
        }
    }
}

/// What happens to a job.
#[derive(Debug)]
pub(crate) enum Step {
    Begin(usize),
    /// The buyer has asked around.
    Discovered(usize),
    /// An offer reaches an invited worker.
    Asked(usize, u32, u32),
    /// Its answer reaches the buyer.
    Answer(usize, u32, Result<Verified<JobBid>, Decline>),
    Gone(usize, u32),
    Tick(usize),
    /// An accept reaches its winner.
    Start(usize, u32, Box<Papers>),
    Started(usize, u32, Option<Refusal>),
    Silent(usize, u32),
    Done(usize, u32, LeaseId, RequestId),
}

impl World {
    pub(crate) fn plan_jobs(&mut self) {
        let count = self.jobs.len() as u64;
        // The last ones get time to end.
        let span = match self.setup.stress {
            Stress::Crowd => CROWD,
            _ => self.setup.lasts.saturating_sub(20_000),
        };
        for number in 0..self.jobs.len() {
            let at = START + SETTLE + span * number as u64 / count.max(1);
            let crowd = self.setup.stress == Stress::Crowd;
            self.jobs[number].model = if crowd { 0 } else { popular(&mut self.rng) };
            if !self.jobs[number].newcomer {
                self.wheel.put(at, Event::Market(Box::new(Step::Begin(number))));
            }
        }
    }

    fn later(&mut self, delay: u64, step: Step) {
        self.wheel.put(self.now + delay, Event::Market(Box::new(step)));
    }

    pub(crate) fn on_step(&mut self, step: Step) {
        match step {
            Step::Begin(job) => self.on_begin(job),
            Step::Discovered(job) => self.open(job),
            Step::Asked(job, worker, offer) => self.on_asked(job, worker, offer),
            Step::Answer(job, worker, Ok(bid)) => {
                self.note_bidder(job, worker);
                self.tell(job, Heard::Bid(bid));
            }
            Step::Answer(job, worker, Err(why)) => {
                let node = self.population.node(worker);
                self.tell(job, Heard::Declined(node, why));
            }
            Step::Gone(job, worker) => {
                let node = self.population.node(worker);
                self.tell(job, Heard::Unreachable(node));
            }
            Step::Tick(job) => self.tell(job, Heard::Tick),
            Step::Start(job, worker, papers) => self.on_start(job, worker, &papers),
            Step::Started(job, worker, refused) => self.on_started(job, worker, refused),
            Step::Silent(job, worker) => self.on_missed(job, worker, Outcome::Failed),
            Step::Done(job, worker, lease, request) => self.on_done(job, worker, lease, request),
        }
    }

    // ---- the buyer

    fn on_begin(&mut self, number: usize) {
        let Job { buyer, view, model, .. } = self.jobs[number];
        if !self.nodes[buyer as usize].up {
            return;
        }
        self.jobs[number].began = Some(self.now);
        let id = self.population.models[model].clone();
        let serves = match &self.nodes[view as usize].judge {
            Judge::Real(real) => real.1.serving(&id, wall(self.now)).next().is_some(),
            Judge::Lean(_) => false,
        };
        if serves {
            self.open(number);
            return;
        }
        // Nobody is known: some peers are asked for what they know, over connections that there are.
        let links: Vec<u32> = self.nodes[buyer as usize].links.iter().map(|link| link.peer).collect();
        let asked = self.rng.some(&links, ASKED);
        let mut slowest = 1;
        for peer in asked {
            slowest = slowest.max(ASK_ROUNDS * 2 * self.way(buyer, peer));
            if self.reaches(buyer, peer) {
                self.hand_over(peer, buyer, Some(model));
            }
        }
        self.later(slowest, Step::Discovered(number));
    }

    /// Opens the auction, or a wider round of it.
    fn open(&mut self, number: usize) {
        let Job { buyer, view, model, .. } = self.jobs[number];
        let before = self.jobs[number].auction.take();
        if before.as_ref().is_some_and(|auction| !auction.may_widen()) {
            self.jobs[number].failed = true;
            return;
        }
        let want = self.population.want(model);
        let (entropy, now) = (self.rng.bytes(), self.instant());
        let reputation = self.reputations.remove(&buyer).unwrap_or_default();
        let opened = {
            let node = &self.nodes[buyer as usize];
            let round_trip = |id: &NodeId| {
                let other = *self.population.numbers.get(id)?;
                let connected = node.is_linked(other) || self.met.contains(&(buyer, other));
                (connected && !self.setup.loopback)
                    .then(|| Millis(u32::try_from(2 * self.places.between(buyer, other)).unwrap_or(0)))
            };
            let Judge::Real(real) = &self.nodes[view as usize].judge else {
                return;
            };
            let view = View {
                identity: &self.population.members[buyer as usize].identity,
                network: &self.population.network,
                registry: &real.1,
                reputation: &reputation,
                round_trip: &round_trip,
            };
            match &before {
                Some(auction) => auction.widen(&BTreeSet::new(), &view, entropy, now),
                None => Auction::begin(want, &view, entropy, now),
            }
        };
        self.reputations.insert(buyer, reputation);
        match opened {
            Ok((auction, effects)) => {
                self.jobs[number].auction = Some(auction);
                self.carry(number, effects);
            }
            Err(_) => self.jobs[number].failed = true,
        }
    }

    fn tell(&mut self, number: usize, event: Heard) {
        let now = self.instant();
        let Some(auction) = &mut self.jobs[number].auction else {
            return;
        };
        let effects = auction.handle(event, now);
        self.carry(number, effects);
    }

    fn carry(&mut self, number: usize, effects: Vec<Effect>) {
        let buyer = self.jobs[number].buyer;
        for effect in effects {
            match effect {
                Effect::Publish(offer) => {
                    let message = self.message_of(number, &offer);
                    let now = self.instant();
                    self.nodes[buyer as usize]
                        .judge
                        .note_offer(message, &self.messages[message as usize], now);
                    self.publish_job(buyer, message);
                }
                Effect::Invite { node, offer, .. } => {
                    let message = self.message_of(number, &offer);
                    let worker = self.population.numbers[&node];
                    let rounds = self.rounds(buyer, worker);
                    let way = self.way(buyer, worker);
                    if self.reaches(buyer, worker) {
                        self.met.insert((buyer, worker));
                        self.later((2 * rounds - 1) * way, Step::Asked(number, worker, message));
                    } else if worker % 2 == 1 && !self.parted {
                        self.later(2 * way, Step::Gone(number, worker));
                    }
                }
                Effect::WakeAt(at) => self.later(at.0.saturating_sub(self.now), Step::Tick(number)),
                Effect::Answered(node) => self.judge_of(buyer, node, Outcome::Answered),
                Effect::Missed(node) => self.judge_of(buyer, node, Outcome::Missed),
                Effect::Closed(Closed::Ranked) => self.accept(number),
                Effect::Closed(Closed::Nothing) => self.round_over(number),
                Effect::Warm(..) | Effect::Refused(..) => {}
            }
        }
    }

    /// Round trips of a question to a peer.
    fn rounds(&self, from: u32, to: u32) -> u64 {
        if self.nodes[from as usize].is_linked(to) || self.met.contains(&(from, to)) {
            ASK_ROUNDS
        } else {
            DIAL_ROUNDS + ASK_ROUNDS
        }
    }

    fn judge_of(&mut self, buyer: u32, node: NodeId, outcome: Outcome) {
        self.reputations
            .entry(buyer)
            .or_default()
            .observe(node, outcome, wall(self.now));
    }

    /// The message that holds an offer.
    fn message_of(&mut self, number: usize, offer: &Verified<JobOffer>) -> u32 {
        if let Some(message) = self.offers.get(&offer.hash()) {
            return *message;
        }
        let message = self.put_message(What::Offer(offer.clone()), self.jobs[number].buyer);
        self.offers.insert(offer.hash(), message);
        self.job_of.insert(message, number);
        self.jobs[number].offer = message;
        message
    }

    fn publish_job(&mut self, node: u32, message: u32) {
        self.wheel
            .put(self.now + crate::setup::gossip::REMEMBERED, Event::Forget(message));
        self.publish(node, message);
    }

    fn note_bidder(&mut self, number: usize, worker: u32) {
        self.jobs[number].bidders.insert(worker);
    }

    fn end_round(&mut self, number: usize) {
        let job = &mut self.jobs[number];
        let bids = std::mem::take(&mut job.bidders).len();
        assert!(bids <= BIDS_PER_OFFER, "{bids} bids for one offer");
        job.bids.push(bids);
    }

    fn round_over(&mut self, number: usize) {
        self.end_round(number);
        self.open(number);
    }

    /// Accepts the best bid that is left.
    fn accept(&mut self, number: usize) {
        let now = self.instant();
        let (buyer, offer) = (self.jobs[number].buyer, self.jobs[number].offer);
        let Some(papers) = self.jobs[number]
            .auction
            .as_mut()
            .and_then(|auction| auction.accept(now))
        else {
            self.round_over(number);
            return;
        };
        let worker = self.population.numbers[&papers.accept.winner];
        self.say_accept(buyer, &papers.accept, offer);
        let invited = papers.offer.invited.contains(&papers.accept.winner);
        let rounds = if invited {
            ASK_ROUNDS
        } else {
            self.rounds(buyer, worker)
        };
        let way = self.way(buyer, worker);
        let reached = self.reaches(buyer, worker) && !self.nodes[worker as usize].hostile;
        match reached {
            true => self.later((2 * rounds - 1) * way, Step::Start(number, worker, Box::new(papers))),
            false => self.later(START_WITHIN, Step::Silent(number, worker)),
        }
    }

    fn say_accept(&mut self, buyer: u32, accept: &Verified<JobAccept>, offer: u32) {
        let message = self.put_message(What::Rest(Gossip::Accept(accept.clone()), offer, None), buyer);
        self.publish_job(buyer, message);
    }

    fn on_missed(&mut self, number: usize, worker: u32, outcome: Outcome) {
        let node = self.population.node(worker);
        self.jobs[number].misses += 1;
        self.judge_of(self.jobs[number].buyer, node, outcome);
        self.accept(number);
    }

    fn on_started(&mut self, number: usize, worker: u32, refused: Option<Refusal>) {
        match refused {
            Some(Refusal::Busy | Refusal::Crowded | Refusal::AtOnce) => self.on_missed(number, worker, Outcome::Busy),
            Some(_) => self.on_missed(number, worker, Outcome::Refused),
            None => {
                self.jobs[number].placed = Some(self.now);
                self.end_round(number);
                self.jobs[number].auction = None;
            }
        }
    }
}

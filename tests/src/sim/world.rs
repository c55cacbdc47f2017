//! The network, the clock and the queue; who is handed what, and the laws after every step.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};

use infernet_protocol::market::gossip::Gossip;
use infernet_protocol::market::{Mono, Now};
use infernet_protocol::{Digest, Identity, LeaseId, Network, NodeId, RequestId, UnixMillis};

use super::attacker::Attacker;
use super::buyer::{BuyerNode, Evaluation};
use super::laws::{self, Law, Laws};
use super::message::{Direct, Parcel};
use super::population::{Habit, Truth};
use super::queue::Queue;
use super::rng::Rng;
use super::setup::{Gossiping, SEED_VARIABLE, Seeds, Setup};
use super::summary::Summary;
use super::worker::WorkerNode;

/// Where wall clocks begin.
const WALL: u64 = 1_800_000_000_000;
/// One-way delays, the least and the most.
const DELAY: (u64, u64) = (20, 150);
/// Notice of a broken connection or a dead peer: three missed beats.
const NOTICE: u64 = 1_500;
/// How long everything is left in peace at the end, so that all can meet again.
const PEACE: u64 = 60_000;
/// A simulation that lasts longer than this has lost a job.
const LIMIT: u64 = 60 * 60 * 1_000;
/// One message in this many is verified from its bytes.
const VERIFY_ONE_IN: u64 = 32;

/// What a node is waiting for.
#[derive(Clone, Debug)]
pub(super) enum Timer {
    /// A consumer has a job.
    Job,
    /// An auction's window ends.
    Auction(u64),
    /// Try a job again.
    Retry(u64),
    /// Talk to this peer again.
    Reconnect(usize),
    /// A request takes too long.
    Deadline(RequestId),
    /// The engine is done.
    Done(LeaseId, RequestId),
    /// A lost stream is not waited for any more, if it was lost this many times.
    GiveUp(LeaseId, RequestId, u32),
    /// Tidy up.
    Tick,
    /// Publish the ad.
    Advertise,
}

enum Event {
    Gossip {
        to: usize,
        from: usize,
        id: u64,
        parcel: Rc<Parcel>,
    },
    Direct {
        to: usize,
        from: usize,
        message: Direct,
    },
    Lost {
        at: usize,
        peer: usize,
    },
    Timer {
        at: usize,
        epoch: u32,
        timer: Timer,
    },
    Crash,
    Restart(usize),
    Attack,
}

/// Everything that the nodes share.
pub(super) struct Net {
    pub(super) setup: Setup,
    pub(super) rng: Rng,
    pub(super) network: Network,
    pub(super) now: u64,
    pub(super) laws: Laws,
    pub(super) summary: Summary,
    pub(super) who: HashMap<NodeId, usize>,
    pub(super) ids: Vec<NodeId>,
    /// Buyers' offers, so that a bid on a path finds its buyer.
    pub(super) offers: HashMap<Digest, usize>,
    pub(super) evaluations: Vec<Evaluation>,
    /// Leases that this step touched.
    pub(super) touched: Vec<LeaseId>,
    /// What can be overheard on the topics.
    pub(super) overheard: Vec<Gossip>,
    queue: Queue<Event>,
    up: Vec<bool>,
    epochs: Vec<u32>,
    booted: Vec<u64>,
    skews: Vec<i64>,
    mesh: Vec<Vec<usize>>,
    distances: u64,
    published: u64,
    /// Whether faults have stopped and no new job begins.
    pub(super) peace: bool,
}

/// Messages that the attacker remembers.
const OVERHEARD: usize = 256;

impl Net {
    /// Now, as a node sees it: its wall clock is wrong and its monotonic one starts when it did.
    pub(super) fn at(&self, node: usize) -> Now {
        let wall = (WALL + self.now).saturating_add_signed(self.skews[node]);
        Now {
            wall: UnixMillis(wall),
            mono: Mono(self.now - self.booted[node]),
        }
    }

    /// Mean one-way delay between two nodes.
    pub(super) fn distance(&self, a: usize, b: usize) -> u64 {
        let (low, high) = (a.min(b) as u64, a.max(b) as u64);
        let mut mixed = self.distances ^ (low << 32 | high).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        DELAY.0 + (mixed >> 33) % (DELAY.1 - DELAY.0 + 1)
    }

    fn delay(&mut self, a: usize, b: usize) -> u64 {
        let mean = self.distance(a, b);
        let delay = (mean * self.rng.between(85, 115) / 100).clamp(DELAY.0, DELAY.1);
        if !self.peace && self.rng.chance(self.setup.stragglers) {
            delay + self.rng.below(400)
        } else {
            delay
        }
    }

    pub(super) fn entropy(&mut self) -> [u8; 32] {
        self.rng.bytes()
    }

    pub(super) fn timer(&mut self, at: usize, after: u64, timer: Timer) {
        let epoch = self.epochs[at];
        self.queue.put(self.now + after, Event::Timer { at, epoch, timer });
    }

    /// The instant of a node's own monotonic clock as milliseconds from now.
    pub(super) fn until(&self, at: usize, mono: Mono) -> u64 {
        (mono.0 + self.booted[at]).saturating_sub(self.now)
    }

    pub(super) fn is_up(&self, node: usize) -> bool {
        self.up[node]
    }

    /// Sends on a direct connection. One that breaks is noticed on both sides.
    pub(super) fn direct(&mut self, from: usize, to: usize, message: Direct) {
        if !self.peace && self.rng.chance(self.setup.breaks) {
            self.summary.breaks += 1;
            let notice = self.rng.between(100, NOTICE);
            self.queue.put(self.now + notice, Event::Lost { at: from, peer: to });
            self.queue.put(self.now + NOTICE, Event::Lost { at: to, peer: from });
            return;
        }
        if !self.peace && self.rng.chance(self.setup.repeats) {
            let time = self.now + self.delay(from, to) + self.rng.below(1_000);
            let message = message.clone();
            self.queue.put(time, Event::Direct { to, from, message });
        }
        let time = self.now + self.delay(from, to);
        self.queue.put(time, Event::Direct { to, from, message });
    }

    /// Publishes on the topics.
    pub(super) fn publish(&mut self, from: usize, gossip: Gossip) {
        if self.setup.attack_every > 0 {
            if self.overheard.len() >= OVERHEARD {
                let place = self.rng.index(OVERHEARD);
                self.overheard.swap_remove(place);
            }
            self.overheard.push(gossip.clone());
        }
        let parcel = if self.rng.below(VERIFY_ONE_IN) == 0 {
            Parcel::Bytes(gossip.to_bytes())
        } else {
            Parcel::Known(gossip)
        };
        self.publish_parcel(from, parcel);
    }

    pub(super) fn publish_parcel(&mut self, from: usize, parcel: Parcel) {
        self.published += 1;
        let (id, parcel) = (self.published, Rc::new(parcel));
        match self.setup.gossip {
            Gossiping::Mesh { .. } => self.forward(from, None, id, &parcel),
            Gossiping::Paths { paths, links } => {
                for to in self.interested(from, &parcel) {
                    if let Some(delay) = self.along(paths, links) {
                        let parcel = Rc::clone(&parcel);
                        self.queue.put(self.now + delay, Event::Gossip { to, from, id, parcel });
                    }
                }
            }
        }
    }

    /// On paths, only those are told to whom a message can matter.
    fn interested(&self, from: usize, parcel: &Parcel) -> Vec<usize> {
        let workers = self.setup.workers + self.setup.sybils;
        let bid = match parcel {
            Parcel::Known(Gossip::Bid(bid)) => Some(bid.clone()),
            Parcel::Known(_) => None,
            Parcel::Bytes(bytes) => infernet_protocol::Verified::from_bytes(bytes, &self.network).ok(),
        };
        match bid {
            Some(bid) => self.offers.get(&bid.offer).copied().into_iter().collect(),
            None => (0..workers).filter(|to| *to != from).collect(),
        }
    }

    /// The delay of the fastest path that loses nothing.
    fn along(&mut self, paths: u32, links: u32) -> Option<u64> {
        let mut best = None;
        for _ in 0..paths {
            let lost = (0..links).any(|_| self.rng.chance(self.setup.gossip_loss));
            let delay: u64 = (0..links).map(|_| self.rng.between(DELAY.0, DELAY.1)).sum();
            if !lost {
                best = Some(best.map_or(delay, |other: u64| other.min(delay)));
            }
        }
        best
    }

    /// Passes a message on to a node's neighbours in the mesh.
    pub(super) fn forward(&mut self, node: usize, not: Option<usize>, id: u64, parcel: &Rc<Parcel>) {
        let neighbours = std::mem::take(&mut self.mesh[node]);
        for to in &neighbours {
            if Some(*to) == not || (!self.peace && self.rng.chance(self.setup.gossip_loss)) {
                continue;
            }
            let time = self.now + self.delay(node, *to);
            let parcel = Rc::clone(parcel);
            self.queue.put(
                time,
                Event::Gossip {
                    to: *to,
                    from: node,
                    id,
                    parcel,
                },
            );
        }
        self.mesh[node] = neighbours;
    }
}

/// A random mesh in which every node has about `degree` neighbours, and which hangs together.
fn mesh(nodes: usize, degree: usize, rng: &mut Rng) -> Vec<Vec<usize>> {
    let mut links: Vec<HashSet<usize>> = vec![HashSet::new(); nodes];
    let mut link = |a: usize, b: usize| {
        if a != b {
            links[a].insert(b);
            links[b].insert(a);
        }
    };
    for node in 0..nodes {
        link(node, (node + 1) % nodes);
        for _ in 0..degree.saturating_sub(2) / 2 {
            link(node, rng.index(nodes));
        }
    }
    let sorted = |set: HashSet<usize>| {
        let mut list: Vec<usize> = set.into_iter().collect();
        list.sort_unstable();
        list
    };
    links.into_iter().map(sorted).collect()
}

/// A law that was broken, where and when.
#[derive(Clone, Debug)]
pub struct Broken {
    scenario: &'static str,
    seed: u64,
    step: u64,
    time: u64,
    law: String,
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            scenario,
            seed,
            step,
            time,
            law,
        } = self;
        write!(
            f,
            "{law}\n  in `{scenario}`, seed {seed}, step {step}, {time} ms in; replay it with\n  \
             {SEED_VARIABLE}={seed} cargo nextest run -p infernet-tests --test simulation {scenario} --no-capture"
        )
    }
}

struct World {
    net: Net,
    workers: Vec<WorkerNode>,
    buyers: Vec<BuyerNode>,
    attacker: Attacker,
    steps: u64,
    ends: Option<u64>,
}

/// Runs one scenario from many seeds, as many at a time as there are cores. The first broken law ends it.
pub fn run_all(setup: &Setup, seeds: Seeds) -> Result<Summary, Box<Broken>> {
    let seeds = Mutex::new(seeds.iter());
    let all = Mutex::new(Ok(Summary::default()));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        loop {
            let next = seeds.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(seed) = next else { return };
            let one = run(setup, seed);
            let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
            match (&mut *all, one) {
                (Ok(all), Ok(one)) => all.add(one),
                (Ok(_), Err(broken)) => *all = Err(broken),
                (Err(_), _) => return,
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(work);
        }
    });
    all.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Runs one scenario from one seed.
pub fn run(setup: &Setup, seed: u64) -> Result<Summary, Box<Broken>> {
    let mut world = World::new(setup.clone(), seed);
    match world.run() {
        Ok(()) => {
            let mut summary = world.net.summary;
            summary.seeds = 1;
            summary.steps = world.steps;
            Ok(summary)
        }
        Err(law) => Err(Box::new(Broken {
            scenario: setup.name,
            seed,
            step: world.steps,
            time: world.net.now,
            law,
        })),
    }
}

impl World {
    fn new(setup: Setup, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let providers = setup.workers + setup.sybils;
        let consumers = setup.buyers + usize::from(setup.debtor);
        let nodes = providers + consumers + 1;
        let identities: Vec<Identity> = (0..nodes).map(|_| identity(&mut rng)).collect();
        let degree = match setup.gossip {
            Gossiping::Mesh { degree } => degree,
            Gossiping::Paths { .. } => 0,
        };
        let skews = (0..nodes)
            .map(|_| i64::try_from(rng.below(2 * setup.skew + 1)).unwrap_or(0) - i64::try_from(setup.skew).unwrap_or(0))
            .collect();
        let ids: Vec<NodeId> = identities.iter().map(Identity::node).collect();
        let mut net = Net {
            network: Network::default(),
            now: 0,
            laws: Laws::default(),
            summary: Summary::default(),
            who: ids.iter().enumerate().map(|(at, id)| (*id, at)).collect(),
            ids,
            offers: HashMap::new(),
            evaluations: Vec::new(),
            touched: Vec::new(),
            overheard: Vec::new(),
            queue: Queue::new(),
            up: vec![true; nodes],
            epochs: vec![0; nodes],
            booted: vec![0; nodes],
            skews,
            mesh: mesh(nodes, degree, &mut rng),
            distances: rng.below(u64::MAX),
            published: 0,
            peace: false,
            setup,
            rng,
        };
        let workers = (0..providers)
            .map(|at| {
                let truth = if at < net.setup.workers {
                    Truth::honest(&mut net.rng)
                } else {
                    Truth::sybil(&mut net.rng, at)
                };
                WorkerNode::new(at, identities[at].clone(), truth, &mut net)
            })
            .collect::<Vec<_>>();
        let buyers = (providers..providers + consumers)
            .map(|at| BuyerNode::new(at, identities[at].clone(), at - providers >= net.setup.buyers, &mut net))
            .collect();
        let attacker = Attacker::new(nodes - 1, identities[nodes - 1].clone());
        Self {
            net,
            workers,
            buyers,
            attacker,
            steps: 0,
            ends: None,
        }
    }

    fn run(&mut self) -> Law {
        self.begin();
        while let Some((time, event)) = self.net.queue.take() {
            self.net.now = time;
            self.steps += 1;
            self.step(event)?;
            self.check()?;
            self.evaluate();
            match self.ends {
                None if self.buyers.iter().all(BuyerNode::is_done) => self.make_peace()?,
                Some(ends) if time >= ends => return self.settle(),
                None if time > LIMIT => return Err("a job was never placed".to_owned()),
                _ => {}
            }
        }
        Err("the queue ran dry".to_owned())
    }

    fn begin(&mut self) {
        let preload = matches!(self.net.setup.gossip, Gossiping::Paths { .. });
        for worker in &mut self.workers {
            worker.begin(&mut self.net);
            if preload {
                for buyer in &mut self.buyers {
                    buyer.hear_ad(&worker.ad, &mut self.net);
                }
            }
        }
        for buyer in &mut self.buyers {
            buyer.begin(&mut self.net);
        }
        if self.net.setup.crash_every > 0 {
            self.later(self.net.setup.crash_every, Event::Crash);
        }
        if self.net.setup.attack_every > 0 {
            self.later(self.net.setup.attack_every, Event::Attack);
        }
    }

    fn later(&mut self, mean: u64, event: Event) {
        let after = self.net.rng.between(mean / 2, mean * 3 / 2);
        self.net.queue.put(self.net.now + after, event);
    }

    fn step(&mut self, event: Event) -> Law {
        let providers = self.workers.len();
        let net = &mut self.net;
        match event {
            Event::Gossip { to, from, id, parcel } => {
                if !net.up[to] {
                    return Ok(());
                }
                match self.workers.get_mut(to) {
                    Some(worker) => worker.on_gossip(from, id, &parcel, net),
                    None => match self.buyers.get_mut(to - providers) {
                        Some(buyer) => buyer.on_gossip(from, id, &parcel, net),
                        None => Ok(()),
                    },
                }
            }
            Event::Direct { to, from, message } => {
                if !net.up[to] {
                    net.queue.put(net.now + NOTICE, Event::Lost { at: from, peer: to });
                    return Ok(());
                }
                match self.workers.get_mut(to) {
                    Some(worker) => worker.on_direct(from, message, net),
                    None => match self.buyers.get_mut(to - providers) {
                        Some(buyer) => buyer.on_direct(from, message, net),
                        None => self.attacker.on_direct(&message),
                    },
                }
            }
            Event::Lost { at, peer } => {
                if !net.up[at] {
                    return Ok(());
                }
                match self.workers.get_mut(at) {
                    Some(worker) => worker.on_lost(peer, net),
                    None => match self.buyers.get_mut(at - providers) {
                        Some(buyer) => return buyer.on_lost(peer, net),
                        None => return Ok(()),
                    },
                }
                Ok(())
            }
            Event::Timer { at, epoch, timer } => {
                if !net.up[at] || epoch != net.epochs[at] {
                    return Ok(());
                }
                match self.workers.get_mut(at) {
                    Some(worker) => worker.on_timer(timer, net),
                    None => self.buyers[at - providers].on_timer(timer, net),
                }
            }
            Event::Crash => self.crash(),
            Event::Restart(at) => self.restart(at),
            Event::Attack => {
                if self.ends.is_none() {
                    net.summary.attacks += 1;
                    self.attacker.act(&self.workers, &self.buyers, net);
                    self.later(self.net.setup.attack_every, Event::Attack);
                }
                Ok(())
            }
        }
    }

    fn crash(&mut self) -> Law {
        if self.ends.is_some() {
            return Ok(());
        }
        let nodes = self.workers.len() + self.buyers.len();
        let victim = self.net.rng.index(nodes);
        if self.net.up[victim] {
            self.net.summary.crashes += 1;
            self.net.up[victim] = false;
            self.net.epochs[victim] += 1;
            let power = self.net.rng.chance(300);
            match self.workers.get_mut(victim) {
                Some(worker) => worker.crash(power, &mut self.net),
                None => self.buyers[victim - self.workers.len()].crash(power, &mut self.net),
            }
            let consumers = self.workers.len()..nodes;
            let others = if victim < self.workers.len() {
                consumers
            } else {
                0..self.workers.len()
            };
            for at in others {
                self.net
                    .queue
                    .put(self.net.now + NOTICE, Event::Lost { at, peer: victim });
            }
            let back = self.net.rng.between(500, 6_000);
            self.net.queue.put(self.net.now + back, Event::Restart(victim));
        }
        self.later(self.net.setup.crash_every, Event::Crash);
        Ok(())
    }

    fn restart(&mut self, at: usize) -> Law {
        self.net.up[at] = true;
        self.net.booted[at] = self.net.now;
        match self.workers.get_mut(at) {
            Some(worker) => worker.restart(&mut self.net),
            None => self.buyers[at - self.workers.len()].restart(&mut self.net),
        }
    }

    /// The laws for whatever this step touched.
    fn check(&mut self) -> Law {
        let mut touched = std::mem::take(&mut self.net.touched);
        touched.sort_unstable();
        touched.dedup();
        for lease in &touched {
            let Some((buyer, worker)) = self.net.laws.parties(lease) else {
                continue;
            };
            let node = &self.workers[worker];
            if self.net.up[worker] {
                node.check(&self.net)?;
            }
            self.compare(lease, buyer, worker, laws::books_agree)?;
        }
        touched.clear();
        self.net.touched = touched;
        Ok(())
    }

    fn compare(
        &self,
        lease: &LeaseId,
        buyer: usize,
        worker: usize,
        law: fn(&infernet_protocol::receipt::ledger::Ledger, &infernet_protocol::receipt::ledger::Ledger) -> Law,
    ) -> Law {
        if self.workers[worker].truth.habit == Habit::Equivocates {
            // Whose books contradict each other already.
            return Ok(());
        }
        let buyer = &self.buyers[buyer - self.workers.len()];
        let theirs = self.workers[worker].machine.lease(lease);
        match (buyer.book(lease), theirs) {
            (Some(ours), Some(theirs)) => law(ours.ledger(), theirs.ledger()),
            _ => Ok(()),
        }
    }

    /// Measures the choice of an auction against the best there was.
    fn evaluate(&mut self) {
        for evaluation in std::mem::take(&mut self.net.evaluations) {
            let best = self
                .workers
                .iter()
                .filter_map(|worker| evaluation.of(worker, None, &self.net))
                .max();
            let winner = &self.workers[evaluation.winner];
            let won = evaluation.of_winner(winner, &self.net);
            let best = best.unwrap_or(won).max(1);
            let share = (u64::from(won) * 1_000_000 / u64::from(best)).min(1_000_000);
            self.net.summary.shares.push(u32::try_from(share).unwrap_or(0));
            self.net.summary.sybil_wins += u64::from(!winner.truth.is_honest());
            self.net.summary.explored += u64::from(evaluation.explored);
        }
    }

    /// Faults stop, everybody is up, and all who dealt with each other meet once more.
    fn make_peace(&mut self) -> Law {
        self.net.peace = true;
        self.ends = Some(self.net.now + PEACE);
        for buyer in &mut self.buyers {
            buyer.meet_all(&mut self.net);
        }
        Ok(())
    }

    fn settle(&mut self) -> Law {
        for (lease, (buyer, worker)) in self.net.laws.leases() {
            self.compare(lease, *buyer, *worker, laws::books_agree)?;
            let means_it = !self.buyers[*buyer - self.workers.len()].debtor;
            if means_it && self.workers[*worker].truth.is_honest() {
                self.compare(lease, *buyer, *worker, laws::books_equal)?;
                let outstanding = self.workers[*worker].machine.lease(lease);
                let open = outstanding.map_or(0, |lease| lease.running().len() + lease.lost().len());
                if open > 0 {
                    return Err(format!("{lease}: {open} requests are open after all have met"));
                }
            }
        }
        Ok(())
    }
}

fn identity(rng: &mut Rng) -> Identity {
    loop {
        if let Ok(identity) = Identity::from_secret(&rng.bytes()) {
            return identity;
        }
    }
}

//! The network as one queue of events: who is up, who is linked with whom, what was said.
//!
//! ```text
//!   world     the queue, the clock, what is counted
//!   ads       said on their timers, held, handed over, counted
//!   overlay   connections and meshes
//!   gossip    messages from node to node, judged before they go on
//!   market    jobs: the real auction and the real workers
//!   stress    nodes that come and go, a network in halves, nodes that break the rules
//! ```

use std::collections::{BTreeMap, HashMap, HashSet};

use infernet_protocol::capability;
use infernet_protocol::market::worker::Worker;
use infernet_protocol::market::{Mono, Now};
use infernet_protocol::reputation::Reputation;
use infernet_protocol::{Digest, UnixMillis};

use crate::gossip::Ids;
use crate::judge::Judge;
use crate::market::{Job, Step};
use crate::message::{Message, What};
use crate::node::{Node, Traffic};
use crate::places::Places;
use crate::population::{Life, Population};
use crate::rng::Rng;
use crate::setup::{SETTLE, START, Setup, Stress, gossip::HEARTBEAT};
use crate::wheel::Wheel;
use crate::wire::Wire;

/// The wall clock at the beginning.
const WALL: u64 = 1_800_000_000_000;
/// Buyers whose auctions see the ads that they themselves hold; in a crowd others look over their shoulders.
const VIEWS: usize = 16;

/// What happens.
#[derive(Debug)]
pub(crate) enum Event {
    Deliver { to: u32, from: u32, message: u32 },
    Judged { node: u32, message: u32 },
    Have(Box<Ids>),
    Want(Box<Ids>),
    Heartbeat(u32),
    Ad(u32),
    Count(u32),
    Forget(u32),
    Market(Box<Step>),
    Leave,
    Join(u32),
    Unlink(u32),
    Part,
    Heal,
    Census,
    Reconnect(u32, usize),
    Misbehave(u32),
}

/// What is counted on the way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// Messages that a full queue or a full line took.
    pub(crate) queue_drops: u64,
    pub(crate) line_drops: u64,
    /// Messages that nodes were not allowed to forward, having forwarded so many.
    pub(crate) not_forwarded: u64,
    /// Honest nodes that were blamed.
    pub(crate) blamed: u64,
    /// Ads published in the time that is measured.
    pub(crate) ads: u64,
    pub(crate) intervals: Vec<u64>,
    /// When a split ended, and when the ads of both halves were known again.
    pub(crate) healed_at: Option<u64>,
    pub(crate) whole_at: Option<u64>,
}

/// The network.
pub(crate) struct World {
    pub(crate) setup: Setup,
    pub(crate) rng: Rng,
    pub(crate) now: u64,
    pub(crate) wheel: Wheel<Event>,
    pub(crate) places: Places,
    pub(crate) wire: Wire,
    pub(crate) population: Population,
    pub(crate) lives: Vec<Life>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) parted: bool,
    /// Nodes that are up.
    pub(crate) ups: u32,
    /// Connections of a node, bootstrap peers aside.
    pub(crate) degree: usize,
    pub(crate) messages: Vec<Message>,
    /// The messages that hold each node's ads.
    pub(crate) ads: Vec<Vec<u32>>,
    /// Nodes in the order of their ids, as a registry lists them.
    pub(crate) order: Vec<u32>,
    pub(crate) offers: HashMap<Digest, u32>,
    pub(crate) jobs: Vec<Job>,
    pub(crate) job_of: HashMap<u32, usize>,
    pub(crate) workers: BTreeMap<u32, Worker>,
    pub(crate) bids_said: HashSet<Digest>,
    /// Workers that a buyer asked something, and so is connected with.
    pub(crate) met: HashSet<(u32, u32)>,
    pub(crate) reputations: BTreeMap<u32, Reputation>,
    pub(crate) tally: Tally,
}

impl World {
    /// A network that has been up for a while: all hold the ads of all.
    pub(crate) fn new(setup: &Setup, degree: usize) -> Self {
        let mut rng = Rng::new(setup.seed);
        let (nodes, all) = (setup.nodes, setup.population());
        let population = Population::new(all, |number| setup.is_hostile(number), &mut rng);
        let life = |number: usize| Life {
            born: if number < nodes { 0 } else { u64::MAX },
            died: u64::MAX,
            hostile: setup.is_hostile(number),
        };
        let places = if setup.loopback {
            Places::default()
        } else {
            Places::new(all, &mut rng)
        };
        let (views, buyers) = cast(setup, &mut rng);
        let mut order: Vec<u32> = (0..).take(all).collect();
        order.sort_by_key(|number| population.node(*number));
        let judge = |number: u32| Judge::new(nodes <= setup.real_up_to || views.contains(&number), all);
        let mut world = Self {
            nodes: (0..)
                .take(all)
                .map(|number| {
                    Node::new(
                        judge(number),
                        setup.is_hostile(number as usize),
                        u8::from(number % 2 == 1),
                    )
                })
                .collect(),
            lives: (0..all).map(life).collect(),
            ads: vec![Vec::new(); all],
            setup: setup.clone(),
            now: START,
            wheel: Wheel::new(START),
            wire: Wire::default(),
            parted: false,
            ups: u32::try_from(nodes).unwrap_or(0),
            messages: Vec::new(),
            offers: HashMap::new(),
            jobs: buyers,
            job_of: HashMap::new(),
            workers: BTreeMap::new(),
            bids_said: HashSet::new(),
            met: HashSet::new(),
            reputations: BTreeMap::new(),
            tally: Tally::default(),
            degree,
            rng,
            places,
            population,
            order,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        let nodes = u32::try_from(self.setup.nodes).unwrap_or(0);
        for node in 0..nodes {
            self.nodes[node as usize].up = true;
        }
        let interval = self
            .setup
            .interval
            .unwrap_or_else(|| capability::interval(self.setup.nodes));
        for node in 0..nodes {
            let before = self.rng.below(u64::from(interval.0));
            let ad = self.sign_ad(node, START - before, interval);
            let number = self.put_message(What::Ad(ad, 1), node);
            self.nodes[node as usize].ads = 1;
            self.ads[node as usize].push(number);
            self.messages[number as usize].forget();
            self.wheel.put(START - before + u64::from(interval.0), Event::Ad(node));
            let beat = self.rng.below(HEARTBEAT);
            self.wheel.put(START + beat, Event::Heartbeat(node));
        }
        for node in 0..nodes {
            let now = self.instant();
            for author in (0..nodes).filter(|author| *author != node) {
                let message = &self.messages[self.ads[author as usize][0] as usize];
                self.nodes[node as usize].judge.learn(message, now);
            }
        }
        self.link_all();
        self.plan_jobs();
        self.plan_stress();
    }

    /// Runs to the end.
    pub(crate) fn run(&mut self) {
        let end = self.setup.ends();
        let measured = START + SETTLE;
        let mut measuring = false;
        while let Some((time, event)) = self.wheel.take(end) {
            if !measuring && time >= measured {
                measuring = true;
                for node in &mut self.nodes {
                    (node.sent, node.received) = (Traffic::default(), Traffic::default());
                }
            }
            self.now = time;
            self.on_event(event);
        }
        self.now = end;
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Deliver { to, from, message } => self.on_deliver(to, from, message),
            Event::Judged { node, message } => self.on_judged(node, message),
            Event::Have(ids) => self.on_have(&ids),
            Event::Want(ids) => self.on_want(&ids),
            Event::Heartbeat(node) => self.on_heartbeat(node),
            Event::Ad(node) => self.on_ad_due(node),
            Event::Count(message) => self.count(message),
            Event::Forget(message) => self.messages[message as usize].forget(),
            Event::Market(step) => self.on_step(*step),
            Event::Leave => self.on_leave(),
            Event::Join(node) => self.on_join(node),
            Event::Unlink(node) => self.unlink_all(node),
            Event::Part => self.part(),
            Event::Heal => self.heal(),
            Event::Census => self.census(),
            Event::Reconnect(node, count) => self.reconnect(node, count),
            Event::Misbehave(node) => self.misbehave(node),
        }
    }

    pub(crate) fn instant(&self) -> Now {
        Now {
            wall: wall(self.now),
            mono: Mono(self.now),
        }
    }

    /// Whether a message from one to the other arrives.
    pub(crate) fn reaches(&self, from: u32, to: u32) -> bool {
        let (from, to) = (&self.nodes[from as usize], &self.nodes[to as usize]);
        to.up && (!self.parted || from.side == to.side)
    }

    /// One way of one message.
    pub(crate) fn way(&mut self, from: u32, to: u32) -> u64 {
        self.places.latency(from, to, &mut self.rng)
    }

    /// Nodes that could hear a node.
    fn audience(&self, node: u32) -> u32 {
        if !self.parted {
            return self.ups - 1;
        }
        let hears = |(number, _): &(u32, &Node)| *number != node && self.reaches(node, *number);
        u32::try_from((0..).zip(&self.nodes).filter(hears).count()).unwrap_or(0)
    }

    pub(crate) fn put_message(&mut self, what: What, author: u32) -> u32 {
        let audience = self.audience(author);
        self.messages
            .push(Message::new(what, author, self.now, self.nodes.len(), audience));
        u32::try_from(self.messages.len() - 1).unwrap_or(u32::MAX)
    }
}

pub(crate) fn wall(at: u64) -> UnixMillis {
    UnixMillis(WALL + at)
}

/// Who buys: jobs with their buyers, and the nodes through whose memory they look.
fn cast(setup: &Setup, rng: &mut Rng) -> (Vec<u32>, Vec<Job>) {
    let able = |number: &u32| *number as usize >= setup.bootstraps() && !setup.is_hostile(*number as usize);
    let candidates: Vec<u32> = (0..).take(setup.nodes).filter(able).collect();
    let wanted = if setup.stress == Stress::Crowd {
        setup.jobs
    } else {
        VIEWS.min(setup.jobs)
    };
    let buyers = rng.some(&candidates, wanted);
    let mut views: Vec<u32> = buyers.iter().copied().take(VIEWS).collect();
    let mut jobs: Vec<Job> = Vec::with_capacity(setup.jobs);
    // Every other job of a network in churn is a newcomer's.
    let newcomers: Vec<u32> = (0..).take(setup.population()).skip(setup.nodes).collect();
    let step = (newcomers.len() / setup.jobs.max(1)).max(1);
    for number in 0..setup.jobs {
        let newcomer = newcomers.get(number * step).copied().filter(|_| number % 2 == 1);
        let place = number % buyers.len().max(1);
        let buyer = newcomer.unwrap_or(buyers[place]);
        views.extend(newcomer);
        let real = setup.nodes <= setup.real_up_to || views.contains(&buyer);
        let view = if real { buyer } else { views[place % VIEWS] };
        jobs.push(Job::new(buyer, view, newcomer.is_some()));
    }
    (views, jobs)
}

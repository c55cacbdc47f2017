//! What happens to a network: nodes that come and go, halves that do not hear of each other, nodes that break the
//! rules.

use infernet_protocol::market::admission::{ADS_PER_SIGNER, Judgement, RATE_WINDOW};
use infernet_protocol::market::gossip::{Gossip, Topic};

use crate::judge::Verdict;
use crate::market::{SETTLES_IN, Step};
use crate::message::What;
use crate::setup::gossip::HEARTBEAT;
use crate::setup::node::{DEAD_AFTER, REJOIN};
use crate::setup::{SETTLE, START, Stress};
use crate::world::{Event, World};

/// A hostile node says a broken, a repeated and a new ad this often: as many new ones as are forwarded.
const MISBEHAVES: u64 = RATE_WINDOW.0 as u64 / ADS_PER_SIGNER as u64;
/// A network is whole again when half of so many nodes hold this share of all ads, in per cent.
const SAMPLE: usize = 32;
const WHOLE: usize = 95;
/// The network is parted this long after measuring began.
const PARTS_AFTER: u64 = 60_000;

impl World {
    pub(crate) fn plan_stress(&mut self) {
        match self.setup.stress {
            Stress::None | Stress::Crowd => {}
            Stress::Churn => self.plan_churn(),
            Stress::Parted(lasts) => {
                let at = START + SETTLE + PARTS_AFTER;
                self.wheel.put(at, Event::Part);
                self.wheel.put(at + lasts, Event::Heal);
            }
            Stress::Hostile => {
                for node in (0..)
                    .take(self.nodes.len())
                    .filter(|node| self.nodes[*node as usize].hostile)
                    .collect::<Vec<u32>>()
                {
                    let phase = self.rng.below(MISBEHAVES);
                    self.wheel.put(START + SETTLE + phase, Event::Misbehave(node));
                }
            }
        }
    }

    // ---- churn

    fn plan_churn(&mut self) {
        let (nodes, count) = (self.setup.nodes, self.setup.nodes / 2);
        for number in 0..count {
            let phase = self.rng.below(self.setup.lasts);
            self.wheel.put(START + SETTLE + phase, Event::Leave);
            let at = START + SETTLE + self.setup.lasts * number as u64 / count.max(1) as u64;
            self.wheel
                .put(at, Event::Join(u32::try_from(nodes + number).unwrap_or(0)));
        }
    }

    /// Somebody goes: half of them without a word, and their connections are found dead later.
    pub(crate) fn on_leave(&mut self) {
        let bootstraps = self.setup.bootstraps();
        let node = loop {
            let node = u32::try_from(self.rng.index(self.nodes.len())).unwrap_or(0);
            let buys = self.jobs.iter().any(|job| job.buyer == node);
            if self.nodes[node as usize].up && node as usize >= bootstraps && !buys {
                break node;
            }
        };
        self.nodes[node as usize].up = false;
        self.ups -= 1;
        self.lives[node as usize].died = self.now;
        let noticed = if self.rng.chance(500) { 0 } else { DEAD_AFTER };
        self.wheel.put(self.now + noticed, Event::Unlink(node));
    }

    /// Somebody comes: connects, is told some ads, says its own.
    pub(crate) fn on_join(&mut self, node: u32) {
        let own = &mut self.nodes[node as usize];
        (own.up, own.joined) = (true, self.now);
        self.ups += 1;
        self.lives[node as usize].born = self.now;
        let mut peers: Vec<u32> = self.bootstraps_of(node).collect();
        let up: Vec<u32> = (0..)
            .zip(&self.nodes)
            .filter(|(_, node)| node.up)
            .map(|(number, _)| number)
            .collect();
        peers.extend(self.rng.some(&up, self.degree / 2));
        for peer in peers {
            self.meet(node, peer);
        }
        self.wheel.put(self.now + HEARTBEAT, Event::Heartbeat(node));
        self.wheel.put(self.now + HEARTBEAT, Event::Ad(node));
        if let Some(job) = self.jobs.iter().position(|job| job.newcomer && job.buyer == node) {
            self.wheel
                .put(self.now + SETTLES_IN, Event::Market(Box::new(Step::Begin(job))));
        }
    }

    /// Connects two nodes, which tell each other what they know.
    fn meet(&mut self, one: u32, other: u32) {
        if self.link(one, other) {
            self.hand_over(other, one, None);
            self.hand_over(one, other, None);
        }
    }

    // ---- halves

    pub(crate) fn part(&mut self) {
        self.parted = true;
        for node in 0..u32::try_from(self.nodes.len()).unwrap_or(0) {
            let side = self.nodes[node as usize].side;
            let links = self.nodes[node as usize].links.iter().map(|link| link.peer);
            let across: Vec<u32> = links.filter(|peer| self.nodes[*peer as usize].side != side).collect();
            for peer in across {
                self.nodes[node as usize].unlink(peer);
                self.nodes[peer as usize].unlink(node);
            }
        }
    }

    /// The halves meet again: soon at the bootstrap peers, and then as the DHT leads nodes to each other.
    pub(crate) fn heal(&mut self) {
        self.parted = false;
        self.tally.healed_at = Some(self.now);
        self.wheel.put(self.now + HEARTBEAT, Event::Census);
        for node in 0..u32::try_from(self.nodes.len()).unwrap_or(0) {
            let rejoin = self.rng.between(1_000, REJOIN);
            self.wheel.put(self.now + rejoin, Event::Reconnect(node, 0));
            let refresh = self.rng.below(crate::dht::REFRESH);
            self.wheel
                .put(self.now + refresh, Event::Reconnect(node, self.degree / 4));
        }
    }

    /// Whether both halves know each other's ads again; else another look later.
    pub(crate) fn census(&mut self) {
        let sample = (0..).take(self.nodes.len()).step_by((self.nodes.len() / SAMPLE).max(1));
        let mut held: Vec<usize> = sample.map(|node| self.fresh_ads(node).len()).collect();
        held.sort_unstable();
        if held[held.len() / 2] * 100 >= (self.nodes.len() - 1) * WHOLE {
            self.tally.whole_at = Some(self.now);
        } else {
            self.wheel.put(self.now + HEARTBEAT, Event::Census);
        }
    }

    pub(crate) fn reconnect(&mut self, node: u32, count: usize) {
        if !self.nodes[node as usize].up {
            return;
        }
        let mut peers: Vec<u32> = Vec::new();
        if count == 0 {
            peers.extend(self.bootstraps_of(node));
        } else {
            let side = self.nodes[node as usize].side;
            let across = (0..)
                .zip(&self.nodes)
                .filter(|(_, other)| other.up && other.side != side);
            let across: Vec<u32> = across.map(|(number, _)| number).collect();
            peers.extend(self.rng.some(&across, count));
        }
        for peer in peers {
            self.meet(node, peer);
        }
    }

    // ---- hostile nodes

    /// One ad with a bad signature, one that everybody has, and one too many.
    pub(crate) fn misbehave(&mut self, node: u32) {
        self.wheel.put(self.now + MISBEHAVES, Event::Misbehave(node));
        let interval = self.interval_of(node);
        let ad = self
            .population
            .ad(node, crate::world::wall(self.now), interval, &mut self.rng);
        let mut bytes = ad.bytes().to_vec();
        if let Some(last) = bytes.last_mut() {
            *last ^= 1;
        }
        let verdict = match Gossip::from_bytes(Topic::Capability, &bytes, &self.population.network) {
            Ok(_) => Verdict::Accept,
            Err(refused) => Verdict::of(&Judgement::of_refused(&refused)),
        };
        let broken = self.put_message(What::Broken(bytes, verdict), node);
        self.flood(node, broken);
        let victim = self.rng.index(self.setup.nodes);
        let first = self.ads[victim]
            .first()
            .map(|first| self.messages[*first as usize].what.clone());
        if let Some(What::Ad(ad, ordinal)) = first {
            // It verifies, since it went around before.
            let author = u32::try_from(victim).unwrap_or(0);
            let number = self.put_message(What::Ad(ad, ordinal), author);
            self.flood(node, number);
        }
        self.say_ad(node, interval);
    }

    fn flood(&mut self, node: u32, message: u32) {
        self.wheel
            .put(self.now + crate::setup::gossip::REMEMBERED, Event::Forget(message));
        self.publish(node, message);
    }
}

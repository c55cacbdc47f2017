//! The DHT of a network, surveyed: what its upkeep costs a node, how many connections come of it, and what lookups
//! find.

use std::collections::BTreeSet;

use crate::dht::{Dht, Ground, K, PUBLISH, REFRESH, key_of_model};
use crate::market::SETTLES_IN;
use crate::places::Places;
use crate::population::{Life, Population, popular};
use crate::rng::Rng;
use crate::setup::node::{GREETED, IDLE};
use crate::setup::{START, Setup};
use crate::wire::{self, PACKET};
use crate::world::World;

/// Nodes whose upkeep is looked at, and lookups that are made.
const SAMPLE: usize = 24;
const LOOKUPS: usize = 200;
/// Bytes of an ad as this network's nodes write them, about; the greeting hands over some.
const AD: u64 = 520;

/// What the DHT costs and does.
#[derive(Clone, Debug, Default)]
pub(crate) struct Survey {
    /// Connections that a node has on average, bootstrap peers aside.
    pub(crate) degree: usize,
    /// Bytes a second and node, each way: questions and answers of refreshing and publishing.
    pub(crate) upkeep: u64,
    /// Bytes a second and node, each way: connections made for it, and the ads that are handed over on each.
    pub(crate) greeting: u64,
    /// Of the lookups: hops, questions, milliseconds to the first provider and to the end, each sorted.
    pub(crate) hops: Vec<u64>,
    pub(crate) asked: Vec<u64>,
    pub(crate) first: Vec<u64>,
    pub(crate) ended: Vec<u64>,
    /// Lookups that named a provider that is up and honest, and those among the first eight that were so, per mille.
    pub(crate) found: u64,
    pub(crate) honest: u64,
    pub(crate) lookups: u64,
}

/// What upkeep makes of connections, in a network that is undisturbed.
pub(crate) fn degree(setup: &Setup) -> usize {
    let mut rng = Rng::new(setup.seed);
    let nodes = setup.nodes;
    let population = Population::new(nodes, |_| false, &mut rng);
    let places = Places::new(nodes, &mut rng);
    let lives = vec![
        Life {
            born: 0,
            died: u64::MAX,
            hostile: false
        };
        nodes
    ];
    let ground = Ground {
        keys: &population.keys,
        lives: &lives,
        places: &places,
        sides: None,
        now: START,
    };
    let mut dht = Dht::new(ground, rng.clone());
    let upkeep = Upkeep::of(&mut dht, &population, nodes, &mut rng);
    upkeep.degree(nodes)
}

/// What a node does for the DHT, on average over a sample.
struct Upkeep {
    /// Different peers asked in one refresh and in one round of publication, in hundredths.
    refreshed: u64,
    published: u64,
    /// Bytes of each.
    refresh: u64,
    publication: u64,
}

impl Upkeep {
    fn of(dht: &mut Dht<'_>, population: &Population, nodes: usize, rng: &mut Rng) -> Self {
        let mut sum = Self {
            refreshed: 0,
            published: 0,
            refresh: 0,
            publication: 0,
        };
        for _ in 0..SAMPLE {
            let node = u32::try_from(rng.index(nodes)).unwrap_or(0);
            let (mut peers, mut bytes) = (BTreeSet::new(), 0);
            for target in dht.buckets(node) {
                let lookup = dht.look_up(node, target, false, &|_| true);
                bytes += lookup.sent + lookup.received;
                peers.extend(lookup.asked);
            }
            sum.refreshed += peers.len() as u64 * 100;
            sum.refresh += bytes;
            let (mut peers, mut bytes) = (BTreeSet::new(), 0);
            for model in &population.members[node as usize].models {
                // Two keys for each model: its own, and that of the shard, which lies anywhere.
                for key in [key_of_model(&population.models[*model]), rng.below(u64::MAX)] {
                    let lookup = dht.look_up(node, key, false, &|_| true);
                    bytes += lookup.sent + lookup.received + K as u64 * u64::from(wire::RECORD);
                    peers.extend(lookup.asked);
                }
            }
            sum.published += peers.len() as u64 * 100;
            sum.publication += bytes;
        }
        let sample = SAMPLE as u64;
        Self {
            refreshed: sum.refreshed / sample,
            published: sum.published / sample,
            refresh: sum.refresh / sample,
            publication: sum.publication / sample,
        }
    }

    /// Pairs of nodes are connected if either asked the other within the time that an unused connection is kept.
    fn degree(&self, nodes: usize) -> usize {
        const WHOLE: u64 = 1_000_000;
        let others = (nodes as u64).saturating_sub(1).max(1);
        let share = |asked: u64, every: u64| (asked * WHOLE / 100 / others).min(WHOLE) * IDLE / every;
        let not = |share: u64| WHOLE - share.min(WHOLE);
        let apart = not(share(self.refreshed, REFRESH)) * not(share(self.published, PUBLISH)) / WHOLE;
        let apart = apart * apart / WHOLE;
        usize::try_from(others * (WHOLE - apart) / WHOLE).unwrap_or(0).max(1)
    }

    /// Bytes a second for questions and answers, those that are answered and those that are asked.
    fn bytes(&self) -> u64 {
        self.refresh * 1_000 / REFRESH + self.publication * 1_000 / PUBLISH
    }

    /// Bytes a second each way for connections that have to be made, and their greetings.
    fn greeting(&self, nodes: usize, degree: usize) -> u64 {
        let apart = (nodes as u64).saturating_sub(1 + degree as u64);
        // Connections a second and node in thousandths, its own and those of others.
        let asked = 2 * (self.refreshed * 10_000 / REFRESH + self.published * 10_000 / PUBLISH);
        let made = asked * apart / (nodes as u64).max(1);
        let ads = (nodes as u64).min(GREETED as u64) * (AD + 3) + u64::from(PACKET);
        made * (u64::from(wire::HANDSHAKE) + ads) / 1_000
    }
}

/// Surveys a network at one time of its simulation.
pub(crate) fn survey(world: &World, now: u64) -> Survey {
    let mut rng = Rng::new(world.setup.seed ^ 0xd117);
    let sides: Vec<u8> = world.nodes.iter().map(|node| node.side).collect();
    let ground = Ground {
        keys: &world.population.keys,
        lives: &world.lives,
        places: &world.places,
        sides: world.parted.then_some(sides.as_slice()),
        now,
    };
    let mut dht = Dht::new(ground, rng.clone());
    let keys: Vec<u64> = world.population.models.iter().map(key_of_model).collect();
    let mut served = Vec::new();
    for (model, key) in keys.iter().enumerate() {
        let providers = world.population.serving(model);
        // Who means harm names itself for every model.
        let hostile = (0..)
            .zip(&world.nodes)
            .filter(|(_, node)| node.hostile)
            .map(|(number, _)| number);
        let all: BTreeSet<u32> = providers.into_iter().chain(hostile).collect();
        let all: Vec<u32> = all.into_iter().collect();
        dht.publish(*key, &all);
        served.push(
            all.iter()
                .any(|node| world.nodes[*node as usize].up && !world.nodes[*node as usize].hostile),
        );
    }
    let upkeep = Upkeep::of(&mut dht, &world.population, world.setup.nodes, &mut rng);
    let mut survey = Survey {
        degree: world.degree,
        upkeep: upkeep.bytes(),
        greeting: upkeep.greeting(world.setup.nodes, world.degree),
        ..Survey::default()
    };
    let able = |(number, node): (u32, &crate::node::Node)| {
        (node.up && !node.hostile && node.joined + SETTLES_IN <= now).then_some(number)
    };
    let askers: Vec<u32> = (0..).zip(&world.nodes).filter_map(able).collect();
    for _ in 0..LOOKUPS.min(20 * askers.len()) {
        let asker = askers[rng.index(askers.len())];
        let model = popular(&mut rng);
        if !served[model] {
            // In a small network; there is nothing to find.
            continue;
        }
        let linked = |peer: u32| world.nodes[asker as usize].is_linked(peer);
        let lookup = dht.look_up(asker, keys[model], true, &linked);
        let good = |provider: &&u32| {
            let node = &world.nodes[**provider as usize];
            node.up && !node.hostile && world.reaches(asker, **provider)
        };
        survey.lookups += 1;
        survey.found += u64::from(lookup.found.iter().any(|provider| good(&provider)));
        survey.honest += u64::from(lookup.found.iter().take(8).any(|provider| good(&provider)));
        survey.hops.push(u64::from(lookup.hops));
        survey.asked.push(lookup.asked.len() as u64);
        survey.first.extend(lookup.first);
        survey.ended.push(lookup.ended);
    }
    let share = |count: u64| count * 1_000 / survey.lookups.max(1);
    (survey.found, survey.honest) = (share(survey.found), share(survey.honest));
    for list in [
        &mut survey.hops,
        &mut survey.asked,
        &mut survey.first,
        &mut survey.ended,
    ] {
        list.sort_unstable();
    }
    survey
}

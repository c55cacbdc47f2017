//! The DHT at one instant: who is in whose routing table, who holds which provider records, and what a lookup costs.
//!
//! The tables are those of a network that has found its state: each bucket holds up to twenty peers that were up when
//! its owner last refreshed it. The lookup takes the steps of libp2p's iterator, with its parallelism and its rule
//! for the end. Records lie where their provider's last publication put them. Parameters:
//! `node/swarm/src/behaviour.rs`, `node/swarm/src/dht.rs`, and the defaults of `libp2p-kad` 0.49.

use std::collections::{BTreeMap, HashMap};

use infernet_protocol::{Digest, ModelId};

use crate::places::Places;
use crate::population::Life;
use crate::rng::Rng;
use crate::wire;

/// Peers in a bucket, in an answer, and to which a record goes.
pub(crate) const K: usize = 20;
/// Questions under way at once, and while nothing closer turns up.
const ALPHA: usize = 3;
/// The routing table is refreshed this often.
pub(crate) const REFRESH: u64 = 5 * 60_000;
/// Records are published again this often, and live this long.
pub(crate) const PUBLISH: u64 = 10 * 60_000;
const RECORD_LIFE: u64 = 30 * 60_000;
/// Providers kept for one key, and of one subnet among them: `node/swarm/src/limits.rs`.
const RECORDS_PER_KEY: usize = 32;
const RECORDS_PER_SUBNET: usize = 4;
/// Hostile nodes in one subnet: as many as connections are taken from it.
const HOSTILE_PER_SUBNET: u32 = 64;
/// A lookup ends when this many providers are known, or after this long.
const WANTED: usize = 64;
const LOOKUP_TIMEOUT: u64 = 15_000;
/// A peer that does not answer is given up after this.
const PEER_TIMEOUT: u64 = 10_000;
/// Round trips before a question can go to a peer that is not connected, by QUIC, which is there first; TCP with
/// Noise and Yamux, each negotiated, takes four. And for the question itself on a substream that is negotiated too.
pub(crate) const DIAL_ROUNDS: u64 = 1;
pub(crate) const ASK_ROUNDS: u64 = 2;
/// Randomly chosen members of a bucket are looked for this often before it is left as it is.
const TRIES: usize = 120;

/// Where a peer lies among the keys: SHA-256 of its id, of which the first 64 bits tell all peers apart.
pub(crate) fn key_of_peer(peer: &[u8]) -> u64 {
    first_bits(&Digest::of(&[peer]))
}

/// Where a model's records lie: SHA-256 of the multihash that `specs/capability.md` names.
pub(crate) fn key_of_model(model: &ModelId) -> u64 {
    first_bits(&Digest::of(&[&[0x12, 0x20], model.record_key().as_bytes()]))
}

fn first_bits(digest: &Digest) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&digest.0[..8]);
    u64::from_be_bytes(word)
}

/// What a lookup took and found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lookup {
    /// Until it ended, in milliseconds.
    pub(crate) ended: u64,
    /// Until the first provider was named.
    pub(crate) first: Option<u64>,
    /// Peers asked.
    pub(crate) asked: Vec<u32>,
    /// How many of them did not answer.
    pub(crate) silent: usize,
    /// Steps from the asker to the closest peer that answered.
    pub(crate) hops: u32,
    /// Providers that were named.
    pub(crate) found: Vec<u32>,
    /// Bytes sent and received, connections aside.
    pub(crate) sent: u64,
    pub(crate) received: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    New,
    Asked,
    Answered,
    Silent,
}

/// Nodes, the keys they have, and who reaches whom.
#[derive(Debug)]
pub(crate) struct Ground<'a> {
    pub(crate) keys: &'a [u64],
    pub(crate) lives: &'a [Life],
    pub(crate) places: &'a Places,
    /// The half that each node is in, where the network is parted.
    pub(crate) sides: Option<&'a [u8]>,
    pub(crate) now: u64,
}

impl Ground<'_> {
    fn answers(&self, from: u32, to: u32) -> bool {
        let joined = self
            .sides
            .is_none_or(|sides| sides[from as usize] == sides[to as usize]);
        joined && self.lives[to as usize].is_up(self.now)
    }
}

/// The DHT.
pub(crate) struct Dht<'a> {
    ground: Ground<'a>,
    sorted: Vec<(u64, u32)>,
    hostile: Vec<u32>,
    tables: Vec<Option<Box<[u32]>>>,
    records: HashMap<(u64, u32), Vec<u32>>,
    rng: Rng,
}

impl<'a> Dht<'a> {
    pub(crate) fn new(ground: Ground<'a>, mut rng: Rng) -> Self {
        let mut sorted: Vec<(u64, u32)> = ground.keys.iter().zip(0..).map(|(key, node)| (*key, node)).collect();
        sorted.sort_unstable();
        let hostile = (0..)
            .zip(ground.lives)
            .filter(|(_, life)| life.hostile)
            .map(|(node, _)| node)
            .collect();
        let tables = vec![None; ground.keys.len()];
        let rng = Rng::new(rng.below(u64::MAX));
        Self {
            ground,
            sorted,
            hostile,
            tables,
            records: HashMap::new(),
            rng,
        }
    }

    /// Puts the records of a model where its providers published them, in the order of their first publication.
    pub(crate) fn publish(&mut self, key: u64, providers: &[u32]) {
        let now = self.ground.now;
        let mut order: Vec<(u64, u32, u64)> = Vec::new();
        for provider in providers {
            let life = self.ground.lives[*provider as usize];
            // Its last round of publication before now or before its end.
            let phase = self.rng.below(PUBLISH);
            let last = now.min(life.died).saturating_sub(phase).max(life.born);
            if last <= now && last + RECORD_LIFE > now {
                let came = if life.born == 0 {
                    self.rng.below(PUBLISH)
                } else {
                    PUBLISH + life.born
                };
                order.push((came, *provider, last));
            }
        }
        order.sort_unstable();
        let near = self.nearest(key, 8 * K);
        for (_, provider, last) in order {
            let lives = self.ground.lives;
            let up = near.iter().filter(|node| lives[**node as usize].is_up(last)).take(K);
            for holder in up {
                keep(self.records.entry((key, *holder)).or_default(), provider, lives);
            }
        }
    }

    /// The closest of all nodes that ever were.
    fn nearest(&self, key: u64, count: usize) -> Vec<u32> {
        let mut all = self.sorted.clone();
        all.sort_unstable_by_key(|(other, _)| other ^ key);
        all.truncate(count);
        all.into_iter().map(|(_, node)| node).collect()
    }

    fn table(&mut self, node: u32) -> &[u32] {
        if self.tables[node as usize].is_none() {
            self.tables[node as usize] = Some(self.fill(node).into());
        }
        self.tables[node as usize].as_deref().unwrap_or_default()
    }

    fn fill(&mut self, node: u32) -> Vec<u32> {
        let own = self.ground.keys[node as usize];
        // What it refreshed last, it knew of those who were up then.
        let then = self
            .ground
            .now
            .saturating_sub(self.rng.below(REFRESH))
            .max(self.ground.lives[node as usize].born);
        let mut table = Vec::new();
        for bit in (0..64).rev() {
            let low = (own ^ (1 << bit)) >> bit << bit;
            let high = low | ((1 << bit) - 1);
            let from = self.sorted.partition_point(|(key, _)| *key < low);
            let to = self.sorted.partition_point(|(key, _)| *key <= high);
            let range = &self.sorted[from..to];
            let up = |other: u32| other != node && self.ground.lives[other as usize].is_up(then);
            if range.len() <= 3 * K {
                let members: Vec<u32> = range
                    .iter()
                    .map(|(_, other)| *other)
                    .filter(|other| up(*other))
                    .collect();
                table.extend(self.rng.some(&members, K));
            } else {
                let mut bucket: Vec<u32> = Vec::with_capacity(K);
                for _ in 0..TRIES {
                    let other = range[self.rng.index(range.len())].1;
                    if bucket.len() < K && up(other) && !bucket.contains(&other) {
                        bucket.push(other);
                    }
                }
                table.extend(bucket);
            }
        }
        table
    }

    /// The closest peers to a key that a node knows of. A hostile one names its own kind alone.
    fn closest(&mut self, node: u32, key: u64, asker: u32) -> Vec<u32> {
        let mut known = match self.ground.lives[node as usize].hostile {
            true => self.hostile.clone(),
            false => self.table(node).to_vec(),
        };
        let keys = self.ground.keys;
        known.retain(|other| *other != asker && *other != node);
        let distance = |other: &u32| keys[*other as usize] ^ key;
        if known.len() > K {
            known.select_nth_unstable_by_key(K - 1, distance);
            known.truncate(K);
        }
        known.sort_unstable_by_key(distance);
        known
    }

    /// Buckets that a refresh looks up a key in: all that are further than the closest neighbour.
    pub(crate) fn buckets(&mut self, node: u32) -> Vec<u64> {
        let own = self.ground.keys[node as usize];
        let keys = self.ground.keys;
        let nearest = self
            .table(node)
            .iter()
            .map(|other| keys[*other as usize] ^ own)
            .min()
            .unwrap_or(u64::MAX);
        let first = 64 - nearest.leading_zeros();
        let mut targets = vec![own];
        targets.extend((first..64).map(|bit| own ^ (1 << bit) ^ self.rng.below(1 << bit)));
        targets
    }

    /// Looks a key up, for providers or for the closest peers alone.
    pub(crate) fn look_up(&mut self, from: u32, key: u64, wants: bool, linked: &dyn Fn(u32) -> bool) -> Lookup {
        let mut known: BTreeMap<u64, (u32, State, u32)> = BTreeMap::new();
        for peer in self.closest(from, key, from) {
            known.insert(self.ground.keys[peer as usize] ^ key, (peer, State::New, 1));
        }
        let mut lookup = Lookup::default();
        let (mut time, mut idle) = (0, 0);
        let mut due: BTreeMap<(u64, u64), bool> = BTreeMap::new();
        if wants {
            let own = self.held(from, key);
            lookup.take(&own, time);
        }
        loop {
            let room = if idle >= ALPHA { K } else { ALPHA };
            while due.len() < room
                && !is_over(&known)
                && let Some((distance, (peer, state, _))) = known.iter_mut().find(|(_, it)| it.1 == State::New)
            {
                *state = State::Asked;
                let (peer, distance) = (*peer, *distance);
                lookup.asked.push(peer);
                lookup.sent += u64::from(wire::QUESTION);
                let rounds = if linked(peer) {
                    ASK_ROUNDS
                } else {
                    DIAL_ROUNDS + ASK_ROUNDS
                };
                let way = 2 * self.ground.places.latency(from, peer, &mut self.rng);
                let answers = self.ground.answers(from, peer);
                // A machine that is gone says nothing; a program that is gone is said to be so by its machine.
                let takes = match answers {
                    true => rounds * way,
                    false if peer % 2 == 0 => PEER_TIMEOUT,
                    false => way,
                };
                due.insert((time + takes, distance), answers);
            }
            let Some(((at, distance), answers)) = due.pop_first() else {
                break;
            };
            time = at;
            if time > LOOKUP_TIMEOUT {
                time = LOOKUP_TIMEOUT;
                break;
            }
            let Some((peer, state, depth)) = known.get_mut(&distance) else {
                continue;
            };
            let (peer, depth) = (*peer, *depth);
            if !answers {
                *state = State::Silent;
                lookup.silent += 1;
                continue;
            }
            *state = State::Answered;
            let far = known.keys().nth(K - 1).copied();
            let mut news = far.is_none();
            let named = self.closest(peer, key, from);
            for other in &named {
                let distance = self.ground.keys[*other as usize] ^ key;
                if let std::collections::btree_map::Entry::Vacant(place) = known.entry(distance) {
                    place.insert((*other, State::New, depth + 1));
                    news |= far.is_none_or(|far| distance < far);
                }
            }
            idle = if news { 0 } else { idle + 1 };
            let held = if wants { self.held(peer, key) } else { Vec::new() };
            lookup.received += u64::from(wire::answer(named.len() + held.len()));
            lookup.take(&held, time);
            if lookup.found.len() >= WANTED || is_over(&known) {
                break;
            }
        }
        lookup.ended = time;
        let closest = known.values().find(|it| it.1 == State::Answered);
        lookup.hops = closest.map_or(0, |it| it.2);
        lookup
    }

    /// Providers that a peer names. A hostile one names its own kind, whatever it was told.
    fn held(&mut self, peer: u32, key: u64) -> Vec<u32> {
        if self.ground.lives[peer as usize].hostile {
            return self.hostile.iter().copied().take(RECORDS_PER_KEY).collect();
        }
        let held = self.records.get(&(key, peer)).cloned().unwrap_or_default();
        self.rng.some(&held, RECORDS_PER_KEY)
    }
}

/// Honest nodes have a subnet each.
fn subnet(node: u32, lives: &[Life]) -> u32 {
    if lives[node as usize].hostile {
        u32::MAX - node / 10 / HOSTILE_PER_SUBNET
    } else {
        node
    }
}

/// Keeps a record as the node's store does: of a subnet that has its share, or of the one with most where there are
/// too many, the oldest makes room.
fn keep(held: &mut Vec<u32>, provider: u32, lives: &[Life]) {
    let of = |subnet_of: u32, held: &[u32]| held.iter().filter(|other| subnet(**other, lives) == subnet_of).count();
    let own = subnet(provider, lives);
    let crowded = if of(own, held) >= RECORDS_PER_SUBNET {
        Some(own)
    } else if held.len() >= RECORDS_PER_KEY {
        held.iter()
            .map(|other| subnet(*other, lives))
            .max_by_key(|subnet| (of(*subnet, held), *subnet))
    } else {
        None
    };
    if let Some(place) = crowded.and_then(|crowded| held.iter().position(|other| subnet(*other, lives) == crowded)) {
        held.remove(place);
    }
    held.push(provider);
}

/// The twenty closest that are not silent have answered.
fn is_over(known: &BTreeMap<u64, (u32, State, u32)>) -> bool {
    let mut closest = known.values().filter(|it| it.1 != State::Silent).take(K).peekable();
    closest.peek().is_none() || closest.all(|it| it.1 == State::Answered)
}

impl Lookup {
    fn take(&mut self, providers: &[u32], time: u64) {
        for provider in providers {
            if !self.found.contains(provider) {
                self.found.push(*provider);
                self.first.get_or_insert(time);
            }
        }
    }
}

//! Who takes part: keys, what each can do and says, how long it is there, and what buyers want.

use std::collections::HashMap;

use infernet_protocol::auction::{Payee, Payer, Policy, Requirement, Volume};
use infernet_protocol::capability::{CapabilityAd, Class, Features, GpuGroup, GpuVendor, ModelAd, Rail, VramTier};
use infernet_protocol::codec::{List, Text};
use infernet_protocol::market::buyer::Want;
use infernet_protocol::market::worker::{Config, Worker};
use infernet_protocol::{Digest, Identity, MicroUsd, Millis, ModelId, Network, NodeId, Price, UnixMillis, Verified};

use crate::dht;
use crate::rng::Rng;

/// Models of the network. The nth is served n times less often than the first.
pub(crate) const MODELS: usize = 16;
/// Most models of one node.
const MODELS_PER_NODE: u64 = 4;
/// The most that buyers pay, in micro-USD per million tokens.
const CAP: u64 = 1_000;
/// Bytes that a decoded ad takes besides its parts: two list headers of the registry's tree, counters, alignment.
const ENTRY: usize = 128;

/// From when to when a node is up, in milliseconds of the simulation, and whether it means well.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Life {
    pub(crate) born: u64,
    pub(crate) died: u64,
    pub(crate) hostile: bool,
}

impl Life {
    pub(crate) fn is_up(&self, at: u64) -> bool {
        self.born <= at && at < self.died
    }
}

/// A node's key and abilities.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) identity: Identity,
    /// Numbers of the models that it serves.
    pub(crate) models: Vec<usize>,
    ttft: Millis,
    speed: u32,
    price: u64,
    slots: u16,
}

/// All nodes that ever are.
#[derive(Debug)]
pub(crate) struct Population {
    pub(crate) members: Vec<Member>,
    pub(crate) numbers: HashMap<NodeId, u32>,
    /// Where each lies in the DHT.
    pub(crate) keys: Vec<u64>,
    pub(crate) models: Vec<ModelId>,
    pub(crate) network: Network,
}

impl Population {
    /// That many nodes; the models of those for whom `greedy` holds are all of them, at the best terms.
    pub(crate) fn new(count: usize, greedy: impl Fn(usize) -> bool, rng: &mut Rng) -> Self {
        let members: Vec<Member> = (0..count).map(|number| member(greedy(number), rng)).collect();
        let name = |number| ModelId::new(&format!("family/model-{number}-7b-instruct:q4_k_m"));
        Self {
            numbers: (0..)
                .zip(&members)
                .map(|(number, member)| (member.identity.node(), number))
                .collect(),
            keys: members
                .iter()
                .map(|member| dht::key_of_peer(&member.identity.node().peer_id_bytes()))
                .collect(),
            models: (0..MODELS).filter_map(|number| name(number).ok()).collect(),
            network: Network::default(),
            members,
        }
    }

    pub(crate) fn node(&self, number: u32) -> NodeId {
        self.members[number as usize].identity.node()
    }

    /// An ad as nodes write it: two addresses, one kind of GPU, its models, a rail.
    pub(crate) fn ad(&self, number: u32, wall: UnixMillis, interval: Millis, rng: &mut Rng) -> Verified<CapabilityAd> {
        let member = &self.members[number as usize];
        let [_, a, b, c] = (0x0b00_0000 + number).to_be_bytes();
        let address = |rest: &str| Text::lossy(&format!("/ip4/11.{a}.{b}.{c}/{rest}"));
        let entry = |model: &usize| ModelAd {
            id: self.models[*model].clone(),
            digest: Some(Digest::of(&[self.models[*model].as_str().as_bytes()])),
            context: 8_192,
            quantisation: Text::lossy("Q4_K_M"),
            features: Features::CHAT.with(Features::COMPLETIONS).with(Features::TOOLS),
            price: each(member.price),
            max_output: 4_096,
            ttft: member.ttft,
            speed: member.speed,
        };
        let tags = ["c0mpute:role:infernet", "c0mpute:gpu:nvidia", "c0mpute:class:A"];
        let ad = CapabilityAd {
            sequence: wall.0,
            issued_at: wall,
            interval,
            agent: Text::lossy("infernet/0.1.0"),
            tags: List::first_of(tags.map(Text::lossy)),
            addresses: List::first_of([address("tcp/46337"), address("udp/46337/quic-v1")]),
            gpus: List::first_of([GpuGroup {
                vendor: GpuVendor::Nvidia,
                tier: VramTier::Large,
                model: Text::lossy("NVIDIA GeForce RTX 4090"),
                count: 1,
            }]),
            models: List::first_of(member.models.iter().map(entry)),
            models_total: u16::try_from(member.models.len()).unwrap_or(0),
            slots: member.slots,
            rails: List::first_of([rail()]),
        };
        Verified::sign(ad, &member.identity, &self.network, &rng.bytes())
    }

    /// A provider's side of the market.
    pub(crate) fn worker(&self, number: u32) -> Worker {
        let member = &self.members[number as usize];
        let floor = each(member.price * 7 / 10);
        let config = Config {
            slots: member.slots,
            stranger_slots: member.slots.min(2),
            floors: member
                .models
                .iter()
                .map(|model| (self.models[*model].clone(), floor))
                .collect(),
            payees: vec![Payee {
                rail: rail(),
                address: Text::lossy("0x00000000000000000000000000000000deadbeef"),
            }],
            ..Config::default()
        };
        Worker::new(member.identity.clone(), self.network.clone(), config)
    }

    /// Who serves a model.
    pub(crate) fn serving(&self, model: usize) -> Vec<u32> {
        let serves = |(number, member): (u32, &Member)| member.models.contains(&model).then_some(number);
        (0..).zip(&self.members).filter_map(serves).collect()
    }

    /// What a buyer wants: some minutes of one model for one conversation at a time.
    pub(crate) fn want(&self, model: usize) -> Want {
        Want {
            requirement: Requirement {
                model: self.models[model].clone(),
                digest: None,
                tags: List::default(),
                vram: None,
                context: 2_048,
                features: Features::CHAT,
                class: Class::A,
            },
            volume: Volume {
                input_tokens: 500,
                output_tokens: 200,
                requests: 16,
                at_once: 1,
                lease: Millis(5 * 60_000),
            },
            policy: Policy::Balanced,
            price_cap: each(CAP),
            wallets: vec![Payer {
                rail: rail(),
                wallet: Text::lossy("0x00000000000000000000000000000000cafebabe"),
            }],
            public: true,
            trusted: Default::default(),
            ignore: Default::default(),
            only: None,
        }
    }
}

fn rail() -> Rail {
    Text::lossy("evm:base:usdc")
}

pub(crate) fn each(price: u64) -> Price {
    Price {
        input: MicroUsd(price),
        output: MicroUsd(price),
        request: MicroUsd(0),
    }
}

fn member(greedy: bool, rng: &mut Rng) -> Member {
    let count = rng.between(1, MODELS_PER_NODE);
    let mut models: Vec<usize> = (0..count).map(|_| popular(rng)).collect();
    models.sort_unstable();
    models.dedup();
    let honest = Member {
        identity: identity(rng),
        models,
        ttft: Millis(u32::try_from(rng.between(50, 400)).unwrap_or(50)),
        speed: u32::try_from(rng.between(20_000, 120_000)).unwrap_or(20_000),
        price: rng.between(100, 300),
        slots: u16::try_from(rng.between(2, 6)).unwrap_or(2),
    };
    match greedy {
        false => honest,
        true => Member {
            models: (0..4).collect(),
            ttft: Millis(40),
            speed: 150_000,
            price: 90,
            ..honest
        },
    }
}

/// A model by its popularity: the nth with a weight of 1/n (Zipf).
pub(crate) fn popular(rng: &mut Rng) -> usize {
    /// Divisible by all numbers up to 16.
    const WHOLE: u64 = 720_720;
    let weight = |place: usize| WHOLE / (place as u64 + 1);
    let mut left = rng.below((0..MODELS).map(weight).sum());
    for place in 0..MODELS {
        match left.checked_sub(weight(place)) {
            Some(rest) => left = rest,
            None => return place,
        }
    }
    0
}

fn identity(rng: &mut Rng) -> Identity {
    loop {
        // One draw in 2^128 is no key.
        if let Ok(identity) = Identity::from_secret(&rng.bytes()) {
            return identity;
        }
    }
}

/// What an ad takes in memory: its envelope as bytes, and the same decoded.
pub(crate) fn memory_of(ad: &Verified<CapabilityAd>) -> usize {
    let texts = ad.addresses.iter().map(|address| address.as_str().len()).sum::<usize>()
        + ad.tags.iter().map(|tag| tag.as_str().len()).sum::<usize>()
        + ad.models.iter().map(|model| model.id.as_str().len()).sum::<usize>();
    let parts =
        size_of_val(&*ad.addresses) + size_of_val(&*ad.tags) + size_of_val(&*ad.models) + size_of_val(&*ad.gpus);
    ad.bytes().len() + size_of::<CapabilityAd>() + parts + texts + ENTRY
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_popular_model_is_served_more_often() {
        let population = Population::new(400, |_| false, &mut Rng::new(1));
        let serving: Vec<usize> = [0, 1, 15].map(|model| population.serving(model).len()).into();
        assert!(serving[0] > serving[1] && serving[1] > 3 * serving[2], "{serving:?}");
    }
}

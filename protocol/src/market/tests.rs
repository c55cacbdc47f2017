//! The two machines against each other, without a network in between.

mod auction;
mod forwarding;
mod leases;

use super::buyer::{View, Want};
use super::worker::{Config, Via, Worker};
use super::*;
use crate::auction::{JobBid, JobOffer, Policy, Requirement, Volume};
use crate::capability::{CapabilityAd, Class, Features, Limits, ModelAd, Registry};
use crate::codec::{List, Text};
use crate::identity::Identity;
use crate::ids::{ModelId, NodeId};
use crate::names::Network;
use crate::reputation::Reputation;
use crate::signed::Verified;
use crate::units::{MicroUsd, Price};

const WALL: u64 = 1_700_000_000_000;
const ZERO: [u8; 32] = [0; 32];

fn at(mono: u64) -> Now {
    Now {
        wall: UnixMillis(WALL + mono),
        mono: Mono(mono),
    }
}

fn identity(number: u16) -> Identity {
    let mut secret = [1; 32];
    secret[..2].copy_from_slice(&number.to_be_bytes());
    Identity::from_secret(&secret).unwrap()
}

fn model() -> ModelId {
    ModelId::new("demo").unwrap()
}

fn price(each: u64) -> Price {
    Price {
        input: MicroUsd(each),
        output: MicroUsd(each),
        request: MicroUsd(0),
    }
}

fn ad(identity: &Identity, number: u16, asks: Price, speed: u32) -> Verified<CapabilityAd> {
    let address = format!("/ip4/10.{}.{}.1/tcp/46337", number >> 8, number & 255);
    let ad = CapabilityAd {
        sequence: WALL,
        issued_at: UnixMillis(WALL),
        interval: Millis(60_000),
        agent: Text::lossy("infernet/test"),
        tags: List::default(),
        addresses: List::first_of([Text::lossy(&address)]),
        gpus: List::default(),
        models: List::first_of([ModelAd {
            id: model(),
            digest: None,
            context: 4_096,
            quantisation: Text::default(),
            features: Features::CHAT,
            price: asks,
            max_output: 1_024,
            ttft: Millis(100),
            speed,
        }]),
        models_total: 1,
        slots: 4,
        rails: List::default(),
    };
    Verified::sign(ad, identity, &Network::default(), &ZERO)
}

fn want() -> Want {
    Want {
        requirement: Requirement {
            model: model(),
            digest: None,
            tags: List::default(),
            vram: None,
            context: 1_024,
            features: Features::CHAT,
            class: Class::A,
        },
        volume: Volume {
            input_tokens: 200,
            output_tokens: 100,
            requests: 20,
            at_once: 2,
            lease: Millis(60_000),
        },
        policy: Policy::Balanced,
        price_cap: Price::FREE,
        wallets: Vec::new(),
        public: true,
        trusted: Default::default(),
        ignore: Default::default(),
        only: None,
    }
}

/// Some workers, the registry that knows them, and one buyer.
struct Market {
    buyer: Identity,
    network: Network,
    registry: Registry,
    reputation: Reputation,
    workers: Vec<(NodeId, Worker)>,
}

impl Market {
    fn new(workers: u16) -> Self {
        Self::with(
            workers,
            Config {
                slots: 4,
                ..Config::default()
            },
        )
    }

    fn with(workers: u16, config: Config) -> Self {
        let mut market = Self {
            buyer: identity(u16::MAX),
            network: Network::default(),
            registry: Registry::new(Limits::default()),
            reputation: Reputation::default(),
            workers: Vec::new(),
        };
        for number in 0..workers {
            let identity = identity(number);
            let ad = ad(&identity, number, Price::FREE, 20_000 + 1_000 * u32::from(number));
            market.registry.observe(ad.clone(), UnixMillis(WALL));
            let mut worker = Worker::new(identity.clone(), Network::default(), config.clone());
            worker.set_ad(Some(ad));
            market.workers.push((identity.node(), worker));
        }
        market
    }

    fn view<T>(&self, use_it: impl FnOnce(&View<'_>) -> T) -> T {
        use_it(&View {
            identity: &self.buyer,
            network: &self.network,
            registry: &self.registry,
            reputation: &self.reputation,
            round_trip: &|_| Some(Millis(40)),
        })
    }

    fn worker(&mut self, node: &NodeId) -> &mut Worker {
        let found = self.workers.iter_mut().find(|(id, _)| id == node);
        &mut found.unwrap().1
    }

    fn bid(&mut self, node: &NodeId, offer: &Verified<JobOffer>, now: Now) -> Verified<JobBid> {
        let held = self.registry.len();
        self.worker(node)
            .on_offer(offer, Via::Direct, held, &ZERO, now)
            .unwrap()
    }
}

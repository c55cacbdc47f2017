//! Who takes part: what providers can do and what they say, and what buyers want.

use infernet_protocol::auction::{Payee, Payer, Policy, Requirement, Volume};
use infernet_protocol::capability::{CapabilityAd, Class, Features, ModelAd, Rail};
use infernet_protocol::codec::{List, Text};
use infernet_protocol::market::buyer::Want;
use infernet_protocol::market::worker::Config;
use infernet_protocol::{Identity, MicroUsd, Millis, ModelId, Network, Price, UnixMillis, Verified};

use super::rng::Rng;
use super::setup::{Gossiping, Setup};

/// What kind of provider it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Habit {
    /// Keeps what it bids, nearly always.
    Honest,
    /// Takes requests and fails them.
    Fails,
    /// Delivers at an eighth of the speed it bid.
    Slow,
    /// Takes requests and says nothing more.
    Silent,
    /// Bills three times the tokens.
    Overbills,
    /// Bids above its ad and the cap, drawn or not.
    Overasks,
    /// Signs two receipts for one place.
    Equivocates,
}

const SYBILS: [Habit; 6] = [
    Habit::Fails,
    Habit::Slow,
    Habit::Silent,
    Habit::Overbills,
    Habit::Overasks,
    Habit::Equivocates,
];

/// What a provider really does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Truth {
    pub(super) habit: Habit,
    pub(super) ttft: Millis,
    pub(super) speed: u32,
    /// Requests that end well, per mille.
    pub(super) reliable: u32,
    /// Micro-USD per million tokens when full, and when idle.
    pub(super) price: u64,
    pub(super) floor: u64,
    pub(super) slots: u16,
}

/// The most that buyers pay.
pub(super) const CAP: u64 = 1_000;

pub(super) fn model() -> ModelId {
    ModelId::new("demo").unwrap_or_else(|reason| unreachable!("{reason}"))
}

fn rail() -> Rail {
    Text::lossy("test:rail")
}

pub(super) fn each(price: u64) -> Price {
    Price {
        input: MicroUsd(price),
        output: MicroUsd(price),
        request: MicroUsd(0),
    }
}

impl Truth {
    pub(super) fn honest(rng: &mut Rng) -> Self {
        let price = rng.between(100, 300);
        Self {
            habit: Habit::Honest,
            ttft: Millis(u32::try_from(rng.between(50, 400)).unwrap_or(50)),
            speed: u32::try_from(rng.between(20_000, 120_000)).unwrap_or(20_000),
            reliable: u32::try_from(rng.between(970, 1_000)).unwrap_or(1_000),
            price,
            floor: price * 7 / 10,
            slots: u16::try_from(rng.between(2, 6)).unwrap_or(2),
        }
    }

    pub(super) fn sybil(rng: &mut Rng, number: usize) -> Self {
        Self {
            habit: SYBILS[number % SYBILS.len()],
            reliable: 1_000,
            ttft: Millis(60),
            speed: 150_000,
            price: 80,
            floor: 60,
            ..Self::honest(rng)
        }
    }

    pub(super) fn is_honest(&self) -> bool {
        self.habit == Habit::Honest
    }

    /// What it does for a request, where it bid `ttft` and `speed`.
    pub(super) fn served(&self) -> (Millis, u32) {
        match self.habit {
            Habit::Slow => (Millis(self.ttft.0 * 8), self.speed / 8),
            _ => (self.ttft, self.speed),
        }
    }

    pub(super) fn config(&self) -> Config {
        Config {
            slots: self.slots,
            stranger_slots: self.slots.min(2),
            floors: [(model(), each(self.floor))].into(),
            payees: vec![Payee {
                rail: rail(),
                address: Text::lossy("worker"),
            }],
            ..Config::default()
        }
    }

    pub(super) fn ad(
        &self,
        number: usize,
        identity: &Identity,
        setup: &Setup,
        wall: UnixMillis,
        entropy: &[u8; 32],
    ) -> Verified<CapabilityAd> {
        let interval = match setup.gossip {
            Gossiping::Mesh { .. } => Millis(30_000),
            Gossiping::Paths { .. } => Millis(20 * 60_000),
        };
        let address = format!("/ip4/10.{}.{}.7/tcp/46337", number >> 8, number & 255);
        let ad = CapabilityAd {
            sequence: wall.0,
            issued_at: wall,
            interval,
            agent: Text::lossy("infernet/simulation"),
            tags: List::default(),
            addresses: List::first_of([Text::lossy(&address)]),
            gpus: List::default(),
            models: List::first_of([ModelAd {
                id: model(),
                digest: None,
                context: 8_192,
                quantisation: Text::default(),
                features: Features::CHAT,
                price: each(self.price),
                max_output: 1_024,
                ttft: self.ttft,
                speed: self.speed,
            }]),
            models_total: 1,
            slots: self.slots,
            rails: List::first_of([rail()]),
        };
        Verified::sign(ad, identity, &Network::default(), entropy)
    }
}

/// What a buyer wants.
pub(super) fn want(setup: &Setup, policy: Policy, public: bool) -> Want {
    Want {
        requirement: Requirement {
            model: model(),
            digest: None,
            tags: List::default(),
            vram: None,
            context: 2_048,
            features: Features::CHAT,
            class: Class::A,
        },
        volume: Volume {
            input_tokens: 200,
            output_tokens: 60,
            requests: setup.requests,
            at_once: setup.at_once,
            lease: Millis(setup.lease),
        },
        policy,
        price_cap: each(CAP),
        wallets: vec![Payer {
            rail: rail(),
            wallet: Text::lossy("buyer"),
        }],
        public,
        trusted: Default::default(),
        ignore: Default::default(),
        only: None,
    }
}

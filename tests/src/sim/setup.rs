//! What is simulated, and from which seeds.

use infernet_protocol::auction::Policy;

/// Environment variable that replays one seed.
pub const SEED_VARIABLE: &str = "INFERNET_SIM_SEED";
/// Environment variable that says how many seeds to run.
pub const SEEDS_VARIABLE: &str = "INFERNET_SIM_SEEDS";

/// How gossip gets around.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gossiping {
    /// Every node forwards what its own admission accepts to its neighbours in a random mesh, and each link loses some.
    Mesh {
        /// Neighbours of a node, at least.
        degree: usize,
    },
    /// Between any two nodes there are some independent paths of some links, each of which loses some. Each message
    /// passes one real forwarder. Costs a thousandth of a mesh, and loses more than one.
    Paths {
        /// How many.
        paths: u32,
        /// Links of each.
        links: u32,
    },
}

/// A scenario.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Its name in reports.
    pub name: &'static str,
    /// Honest providers.
    pub workers: usize,
    /// Providers that bid what they will not keep.
    pub sybils: usize,
    /// Buyers that mean it.
    pub buyers: usize,
    /// Whether one more buyer never countersigns and uses everything twice.
    pub debtor: bool,
    /// How gossip gets around.
    pub gossip: Gossiping,
    /// Share of gossip that one link loses, per mille.
    pub gossip_loss: u32,
    /// Share of direct messages at which the connection breaks, per mille.
    pub breaks: u32,
    /// Share of messages that come twice, per mille.
    pub repeats: u32,
    /// Share of messages that are held up and overtaken, per mille.
    pub stragglers: u32,
    /// Mean time between crashes of a node in milliseconds; 0 for none.
    pub crash_every: u64,
    /// Mean time between acts of the attacker in milliseconds; 0 for none.
    pub attack_every: u64,
    /// Largest error of a node's wall clock, either way, in milliseconds.
    pub skew: u64,
    /// Jobs of each buyer before anything is measured.
    pub warm_up: u32,
    /// Jobs of each buyer that are measured.
    pub measured: u32,
    /// Mean time between two jobs of a buyer in milliseconds.
    pub pace: u64,
    /// Requests under one lease.
    pub requests: u32,
    /// Requests at once under one lease.
    pub at_once: u16,
    /// Length of a lease in milliseconds.
    pub lease: u32,
    /// Share of auctions that are public, per mille.
    pub public: u32,
    /// What buyers care about.
    pub policy: Policy,
}

impl Setup {
    /// The market at size: 500 workers, 50 sybils, one-way delays of 20 to 150 ms, 20% loss of gossip links.
    #[must_use]
    pub fn market() -> Self {
        Self {
            name: "market",
            workers: 500,
            sybils: 50,
            buyers: 4,
            debtor: false,
            gossip: Gossiping::Paths { paths: 4, links: 3 },
            gossip_loss: 200,
            breaks: 2,
            repeats: 5,
            stragglers: 5,
            crash_every: 120_000,
            attack_every: 0,
            skew: 5_000,
            warm_up: 100,
            measured: 50,
            pace: 2_500,
            requests: 1,
            at_once: 1,
            lease: 60_000,
            public: 0,
            policy: Policy::Balanced,
        }
    }

    /// A small market in a hostile place: everything breaks all the time, and an attacker listens to all of it.
    #[must_use]
    pub fn chaos() -> Self {
        Self {
            name: "chaos",
            workers: 14,
            sybils: 6,
            buyers: 4,
            debtor: true,
            gossip: Gossiping::Mesh { degree: 4 },
            gossip_loss: 200,
            breaks: 40,
            repeats: 60,
            stragglers: 60,
            crash_every: 3_000,
            attack_every: 400,
            skew: 14_000,
            warm_up: 0,
            measured: 30,
            pace: 700,
            requests: 6,
            at_once: 2,
            lease: 15_000,
            public: 700,
            policy: Policy::Balanced,
        }
    }
}

/// Which seeds a test runs.
#[derive(Clone, Copy, Debug)]
pub struct Seeds {
    first: u64,
    count: u64,
}

impl Seeds {
    /// The one seed of `INFERNET_SIM_SEED`; else as many as `INFERNET_SIM_SEEDS` says, or `few`.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place where the simulation's settings are read"
    )]
    pub fn from_environment(few: u64) -> Self {
        let number = |name| {
            std::env::var(name)
                .ok()
                .and_then(|text: String| text.trim().parse::<u64>().ok())
        };
        match number(SEED_VARIABLE) {
            Some(first) => Self { first, count: 1 },
            None => Self {
                first: 1,
                count: number(SEEDS_VARIABLE).unwrap_or(few),
            },
        }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The seeds.
    pub fn iter(&self) -> impl Iterator<Item = u64> + use<> {
        self.first..self.first + self.count
    }
}

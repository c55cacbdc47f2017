//! What is simulated: the scenarios, and the parameters of the network with where they come from.

use infernet_protocol::Millis;

/// Where the clock stands when a simulation begins, so that there is a past: an hour.
pub(crate) const START: u64 = 3_600_000;
/// Time for meshes to form before anything is measured.
pub(crate) const SETTLE: u64 = 20_000;
/// After this long it is counted who got a message.
pub(crate) const COUNT_AFTER: u64 = 15_000;

/// Gossipsub: `node/swarm/src/gossip.rs`, and the defaults of `libp2p-gossipsub` 0.50 for what is not set there.
pub(crate) mod gossip {
    /// Peers wanted in a mesh, and its bounds.
    pub(crate) const MESH: usize = 6;
    pub(crate) const MESH_LOW: usize = 4;
    pub(crate) const MESH_HIGH: usize = 12;
    pub(crate) const MESH_OUTBOUND: usize = 2;
    /// Between two rounds of upkeep.
    pub(crate) const HEARTBEAT: u64 = 1_000;
    /// Heartbeats for which a message is handed out, and in which it is named to others.
    pub(crate) const HISTORY: usize = 6;
    pub(crate) const NAMED: usize = 3;
    /// Peers outside the mesh that are told of messages: at least this many, or this share in per cent.
    pub(crate) const LAZY: usize = 6;
    pub(crate) const LAZY_SHARE: usize = 25;
    /// Time in which a peer that was pruned is not grafted again.
    pub(crate) const BACKOFF: u64 = 60_000;
    /// Time that something asked for may take before another is asked.
    pub(crate) const FOLLOW_UP: u64 = 3_000;
    /// A message's id is remembered this long.
    pub(crate) const REMEMBERED: u64 = 120_000;
    /// Most credit that a peer has, and where its score stops mattering in which way.
    pub(crate) const CREDIT: i64 = 10;
    pub(crate) const NO_GOSSIP: i64 = -20;
    pub(crate) const NO_PUBLISH: i64 = -40;
    pub(crate) const NOT_HEARD: i64 = -80;
    /// Rejected messages that are held against a peer.
    pub(crate) const REJECTS: u32 = 10;
    /// Time in which a forwarded or an own message must leave.
    pub(crate) const FORWARD_WITHIN: u64 = 1_000;
    pub(crate) const PUBLISH_WITHIN: u64 = 5_000;
}

/// The rest of a node.
pub(crate) mod node {
    /// Messages that wait to be judged: `EVENT_QUEUE` of `node/swarm/src/config.rs`.
    pub(crate) const QUEUE: u64 = 1_024;
    /// Microseconds to read, verify and judge a message: a signature on a slow core.
    pub(crate) const JUDGE: u64 = 200;
    /// Messages of others that are forwarded a second, and at once: `FORWARDED` of `node/swarm/src/limits.rs`.
    pub(crate) const FORWARDED: u64 = 60;
    pub(crate) const FORWARDED_AT_ONCE: u64 = 500;
    /// Bytes per millisecond of the line to the Internet: 20 Mbit/s, a usual uplink of a home.
    pub(crate) const UPLINK: u64 = 2_500;
    /// Connections that a node opens and takes: `Limits` of `node/swarm/src/config.rs`.
    pub(crate) const MOST_CONNECTIONS: usize = 512 + 512;
    /// An unused connection is kept this long: `IDLE_TIMEOUT` of `node/swarm/src/config.rs`.
    pub(crate) const IDLE: u64 = 120_000;
    /// A connection to a machine that is gone is closed after this: ping, 10 s apart and 10 s at most.
    pub(crate) const DEAD_AFTER: u64 = 20_000;
    /// Longest wait before a bootstrap peer is dialled again, with its spread.
    pub(crate) const REJOIN: u64 = 19_000;
    /// Nodes for each bootstrap peer; there are two at least.
    pub(crate) const PER_BOOTSTRAP: usize = 2_000;
    /// Bootstrap peers that a node is connected with.
    pub(crate) const BOOTSTRAPS: usize = 2;
    /// Ads handed over when two nodes meet: `ADS_PER_ANSWER`; each asks the other (`node/src/network.rs`, `greet`).
    pub(crate) const GREETED: usize = 32;
}

/// What happens besides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stress {
    /// Nothing: all are up, and the jobs come evenly.
    #[default]
    None,
    /// Half of the nodes leave and as many come, evenly over the time.
    Churn,
    /// After a minute the network is two halves, for this many milliseconds; then it is one again.
    Parted(u64),
    /// All jobs come within five seconds, for the same model.
    Crowd,
    /// A tenth of the nodes is hostile.
    Hostile,
}

/// A simulation.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The scenario's name in tables.
    pub name: &'static str,
    /// What happens.
    pub stress: Stress,
    /// Nodes; each of them sells.
    pub nodes: usize,
    /// Milliseconds that are measured.
    pub lasts: u64,
    /// Jobs that are to be placed in that time.
    pub jobs: usize,
    /// Up to how many nodes each has the product's own memory of ads; above, buyers alone have it.
    pub real_up_to: usize,
    /// Whether newcomers tell the size of the network from the intervals that ads claim, or count what they hold.
    pub extrapolate: bool,
    /// Share of the peers outside its mesh that a node tells of messages, in per cent; six at least.
    pub lazy_share: usize,
    /// An interval of all ads instead of the one that grows.
    pub interval: Option<Millis>,
    /// Connections of a node instead of those that the DHT makes.
    pub connections: Option<usize>,
    /// Whether all are on one machine: no latency but a millisecond.
    pub loopback: bool,
    /// The seed.
    pub seed: u64,
}

impl Setup {
    fn of(name: &'static str, stress: Stress, nodes: usize, seconds: u64, jobs: usize) -> Self {
        Self {
            name,
            stress,
            nodes,
            lasts: seconds * 1_000,
            jobs,
            real_up_to: 1_000,
            extrapolate: true,
            lazy_share: gossip::LAZY_SHARE,
            interval: None,
            connections: None,
            loopback: false,
            seed: 1,
        }
    }

    /// All is well.
    #[must_use]
    pub fn steady(nodes: usize) -> Self {
        Self::of("steady", Stress::None, nodes, 120, 60)
    }

    /// All is well, and messages are named to six peers and no more.
    #[must_use]
    pub fn few_named(nodes: usize) -> Self {
        Self {
            name: "steady, named to six",
            lazy_share: 0,
            ..Self::steady(nodes)
        }
    }

    /// All is well, and no connection is ever closed: all that the limits of a node allow.
    #[must_use]
    pub fn none_closed(nodes: usize) -> Self {
        Self {
            name: "steady, none closed",
            connections: Some(node::MOST_CONNECTIONS.min(nodes - 1)),
            ..Self::steady(nodes)
        }
    }

    /// Half of the nodes leave and as many come within ten minutes.
    #[must_use]
    pub fn churn(nodes: usize) -> Self {
        Self::of("churn", Stress::Churn, nodes, 600, 60)
    }

    /// The same, where newcomers count what they hold.
    #[must_use]
    pub fn naive_churn(nodes: usize) -> Self {
        Self {
            name: "churn, counting",
            extrapolate: false,
            ..Self::churn(nodes)
        }
    }

    /// One minute of one network, ten of two, five of one.
    #[must_use]
    pub fn parted(nodes: usize) -> Self {
        Self::of("parted", Stress::Parted(600_000), nodes, 960, 96)
    }

    /// A thousand buyers want one model within five seconds; fewer in a smaller network.
    #[must_use]
    pub fn crowd(nodes: usize) -> Self {
        Self::of("crowd", Stress::Crowd, nodes, 40, nodes.min(1_000))
    }

    /// A tenth is hostile.
    #[must_use]
    pub fn hostile(nodes: usize) -> Self {
        Self::of("hostile", Stress::Hostile, nodes, 40, 20)
    }

    /// A tenth is hostile, and messages are named to six peers and no more.
    #[must_use]
    pub fn hostile_few_named(nodes: usize) -> Self {
        Self {
            name: "hostile, named to six",
            lazy_share: 0,
            ..Self::hostile(nodes)
        }
    }

    /// What `tests/tests/swarms.rs` does with real swarms: all on one machine, everybody connected with everybody.
    #[must_use]
    pub fn swarms(nodes: usize) -> Self {
        Self {
            connections: Some(nodes - 1),
            loopback: true,
            interval: Some(Millis(5_000)),
            ..Self::of("swarms", Stress::None, nodes, 30, 0)
        }
    }

    /// All that `specs/scale.md` shows.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let steady = [100, 300, 1_000, 3_000, 10_000].map(Self::steady);
        let rest = [
            Self::none_closed(300),
            Self::none_closed(1_000),
            Self::none_closed(3_000),
            Self::few_named(1_000),
            Self::few_named(10_000),
            Self::churn(1_000),
            Self::naive_churn(1_000),
            Self::naive_churn(3_000),
            Self::churn(3_000),
            Self::churn(10_000),
            Self::parted(1_000),
            Self::crowd(100),
            Self::crowd(1_000),
            Self::crowd(3_000),
            Self::hostile(100),
            Self::hostile(1_000),
            Self::hostile(10_000),
            Self::hostile_few_named(1_000),
        ];
        steady.into_iter().chain(rest).collect()
    }

    /// Those that take seconds and are run with every check.
    #[must_use]
    pub fn small() -> Vec<Self> {
        vec![
            Self::steady(100),
            Self::steady(300),
            Self::crowd(100),
            Self::hostile(100),
        ]
    }

    /// Nodes that ever are.
    pub(crate) fn population(&self) -> usize {
        match self.stress {
            Stress::Churn => self.nodes + self.nodes / 2,
            _ => self.nodes,
        }
    }

    /// Bootstrap peers, which are the first nodes.
    pub(crate) fn bootstraps(&self) -> usize {
        self.nodes.div_ceil(node::PER_BOOTSTRAP).max(node::BOOTSTRAPS)
    }

    pub(crate) fn is_hostile(&self, number: usize) -> bool {
        self.stress == Stress::Hostile && number >= self.bootstraps() && number % 10 == 7
    }

    pub(crate) fn ends(&self) -> u64 {
        START + SETTLE + self.lasts
    }
}

//! A believable network that never was: real messages, signed with keys that anybody can make, for tests and examples.
//!
//! Its keys are SHA-256 of a text that says so, its addresses those of documentation (RFC 5737), and its network's name
//! is `synthetic`, so that nothing of it counts anywhere.

mod deal;
mod peers;
pub mod vector;

use std::collections::BTreeMap;

use infernet_protocol::codec::{Blob, Text};
use infernet_protocol::market::gossip::{Gossip, Topic};
use infernet_protocol::market::{Mono, Now};
use infernet_protocol::names::INFERENCE;
use infernet_protocol::{Millis, Network, UnixMillis};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

use crate::crawl::{Reachable, Row};
use crate::place::{Path, Place, Reach, Transport};
use crate::record::{Body, Change, Heard, Lost, Peer, PeerEvent, Record, Sample, Verdict};
use crate::recording::Session;

pub use peers::Member;

/// When it begins: 2026-11-28 05:52:44 UTC.
pub const BEGAN: UnixMillis = UnixMillis(1_795_845_164_000);
/// Between two samples.
const SAMPLE_EVERY: Millis = Millis(10_000);

/// What the network is like.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Providers.
    pub providers: usize,
    /// Buyers.
    pub buyers: usize,
    /// Time that is recorded.
    pub time: Millis,
    /// Mean time from one auction to the next.
    pub auction_every: Millis,
    /// Whether the recorder is away for a while, and loses some records.
    pub is_gappy: bool,
    /// Chooses one of many.
    pub seed: u64,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            providers: 24,
            buyers: 12,
            time: Millis(20 * 60_000),
            auction_every: Millis(4_000),
            is_gappy: true,
            seed: 1,
        }
    }
}

/// The network's name.
#[must_use]
pub fn network() -> Network {
    Network::new("synthetic").unwrap_or_default()
}

/// What its recorder says of itself.
#[must_use]
pub fn session() -> Session {
    Session {
        network: network(),
        recorder: *b"synthetic record",
        recording: *b"never took place",
        agent: "infernet-bootstrap/0.1.0".to_owned(),
        sample_every: SAMPLE_EVERY,
        is_publication: false,
    }
}

/// Chance, the same for the same seed everywhere.
#[derive(Debug)]
pub(crate) struct Chance(ChaCha8Rng);

impl Chance {
    fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// A number below `bound`.
    fn below(&mut self, bound: u64) -> u64 {
        self.0.next_u64() % bound.max(1)
    }

    /// A number from `from` up to `to`, small ones more often.
    fn skewed(&mut self, from: u64, to: u64) -> u64 {
        let spread = to.saturating_sub(from).max(1);
        let (one, two, three) = (self.below(spread), self.below(spread), self.below(spread));
        from + one.min(two).min(three)
    }

    /// True in so many of a hundred cases.
    fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.fill_bytes(&mut bytes);
        bytes
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        let index = usize::try_from(self.below(of.len() as u64)).unwrap_or_default();
        &of[index]
    }
}

/// The members of the network, providers first.
#[must_use]
pub fn members(shape: &Shape) -> Vec<Member> {
    peers::members(shape, &mut Chance::new(shape.seed))
}

/// What its recorder recorded, in order, without headers.
#[must_use]
pub fn records(shape: &Shape) -> Vec<Record> {
    let mut chance = Chance::new(shape.seed);
    let members = peers::members(shape, &mut chance);
    let mut world = World {
        members: &members,
        chance,
        records: BTreeMap::new(),
        count: 0,
    };
    world.connections(shape);
    world.ads(shape);
    world.auctions(shape);
    world.noise(shape);
    let mut records: Vec<Record> = world.records.into_values().collect();
    judge(&mut records);
    samples(&mut records, shape);
    if shape.is_gappy {
        gap(&mut records, shape);
    }
    records
}

/// Records by their time, each in its place.
#[derive(Debug)]
struct World<'a> {
    members: &'a [Member],
    chance: Chance,
    records: BTreeMap<(u64, u64), Record>,
    count: u64,
}

impl World<'_> {
    fn put(&mut self, at: UnixMillis, body: Body) {
        self.count += 1;
        self.records.insert((at.0, self.count), Record { at, body });
    }

    /// The recorder hears a message, from one of those that it is connected with.
    fn hear(&mut self, at: UnixMillis, gossip: &Gossip) {
        let network = network();
        let topic = match gossip.topic() {
            Topic::Capability => network.capability_topic(),
            Topic::Jobs => network.jobs_topic(INFERENCE),
        };
        self.hear_bytes(at, &topic, gossip.to_bytes());
    }

    fn hear_bytes(&mut self, at: UnixMillis, topic: &str, data: Vec<u8>) {
        let members = self.members;
        let source = self.chance.pick(members).peer();
        let heard = Heard {
            topic: Text::lossy(topic),
            source,
            verdict: Verdict::Accept,
            data: Blob(data),
        };
        self.put(at, Body::Heard(heard));
    }

    fn connections(&mut self, shape: &Shape) {
        let time = u64::from(shape.time.0);
        for member in self.members {
            let from = BEGAN.0 + self.chance.skewed(500, time / 2);
            let event = |change, agent: Option<&str>| {
                Body::Peer(PeerEvent {
                    peer: member.peer(),
                    change,
                    transport: if agent.is_some() {
                        member.transport
                    } else {
                        Transport::Unknown
                    },
                    path: match (agent, member.is_relayed) {
                        (None, _) => Path::Unknown,
                        (_, true) => Path::Relayed,
                        (_, false) => Path::Direct,
                    },
                    outbound: Some(false),
                    agent: agent.map(Text::lossy),
                })
            };
            self.put(UnixMillis(from), event(Change::Connected, None));
            let told = from + self.chance.below(400) + 40;
            self.put(UnixMillis(told), event(Change::Described, Some(&member.agent)));
            if self.chance.percent(15) {
                let until = told + self.chance.below(time / 2);
                self.put(UnixMillis(until), event(Change::Disconnected, None));
            }
        }
    }

    fn ads(&mut self, shape: &Shape) {
        let end = BEGAN.0 + u64::from(shape.time.0);
        for member in self.members.iter().filter(|member| !member.models.is_empty()) {
            let mut at = BEGAN.0 + self.chance.below(30_000);
            while at < end {
                let ad = member.ad(UnixMillis(at), self.chance.bytes());
                let heard = at + self.chance.skewed(15, 400);
                self.hear(UnixMillis(heard), &Gossip::Ad(ad));
                at += 30_000 + self.chance.below(1_500);
            }
        }
    }

    fn auctions(&mut self, shape: &Shape) {
        let end = BEGAN.0 + u64::from(shape.time.0);
        // Providers are known by then.
        let mut at = BEGAN.0 + 35_000;
        while at < end {
            deal::play(self, UnixMillis(at));
            at += self.chance.below(2 * u64::from(shape.auction_every.0)) + 1;
        }
    }

    /// What every network has: messages that are damaged, old, or of another age.
    fn noise(&mut self, shape: &Shape) {
        let topic = network().jobs_topic(INFERENCE);
        for _ in 0..shape.time.0 / 60_000 {
            let at = UnixMillis(BEGAN.0 + self.chance.below(u64::from(shape.time.0)));
            let garbage = self.chance.bytes::<96>().to_vec();
            self.hear_bytes(at, &topic, garbage);
            let Some(provider) = self.members.first() else { return };
            let old = provider.ad(UnixMillis(at.0.saturating_sub(600_000)), self.chance.bytes());
            self.hear(at, &Gossip::Ad(old));
        }
    }
}

/// Gives each message the verdict that it has earned, by the code that judges in a node.
fn judge(records: &mut [Record]) {
    use infernet_protocol::capability::{Limits, Registry};
    use infernet_protocol::market::Admission;
    use infernet_protocol::market::admission::Judgement;

    let (mut admission, mut registry) = (Admission::default(), Registry::new(Limits::default()));
    let network = network();
    for Record { at, body } in records {
        let Body::Heard(heard) = body else { continue };
        let is_ads = heard.topic.as_str() == network.capability_topic();
        let topic = if is_ads { Topic::Capability } else { Topic::Jobs };
        let now = Now {
            wall: *at,
            mono: Mono(at.since(BEGAN)),
        };
        let judgement = match Gossip::from_bytes(topic, &heard.data.0, &network) {
            Ok(gossip) => admission.judge(gossip, &mut registry, now),
            Err(refused) => Judgement::of_refused(&refused),
        };
        heard.verdict = match judgement {
            Judgement::Accept(_) => Verdict::Accept,
            Judgement::Ignore(_) => Verdict::Ignore,
            Judgement::Reject => Verdict::Reject,
        };
    }
}

/// Puts a sample in after every ten seconds, of what the records before it make.
fn samples(records: &mut Vec<Record>, shape: &Shape) {
    let mut with = Vec::with_capacity(records.len());
    let (mut peers, mut relayed) = (std::collections::BTreeSet::new(), std::collections::BTreeSet::new());
    let mut ads = std::collections::BTreeSet::new();
    let mut due = BEGAN.0;
    let end = BEGAN.0 + u64::from(shape.time.0);
    for record in records.drain(..) {
        while due <= record.at.0.min(end) {
            let count = |of: usize| u32::try_from(of).unwrap_or(u32::MAX);
            let body = Body::Sample(Sample {
                peers: count(peers.len()),
                relayed: count(relayed.len()),
                ads: count(ads.len()),
                mesh: None,
                round_trip: (!peers.is_empty()).then(|| Millis(30 + u32::try_from(due / 7 % 23).unwrap_or_default())),
            });
            with.push(Record {
                at: UnixMillis(due),
                body,
            });
            due += u64::from(SAMPLE_EVERY.0);
        }
        match &record.body {
            Body::Peer(event) if event.change == Change::Disconnected => {
                peers.remove(&event.peer);
                relayed.remove(&event.peer);
            }
            Body::Peer(event) => {
                peers.insert(event.peer.clone());
                if event.path == Path::Relayed {
                    relayed.insert(event.peer.clone());
                }
            }
            Body::Heard(heard) if heard.verdict == Verdict::Accept => {
                let messages = crate::contents::messages(&heard.data.0);
                if crate::contents::Sort::of(&messages) == crate::contents::Sort::Ad {
                    ads.extend(messages.iter().map(|message| message.signer));
                }
            }
            _ => {}
        }
        with.push(record);
    }
    *records = with;
}

/// The recorder was away for two minutes, and later behind.
fn gap(records: &mut Vec<Record>, shape: &Shape) {
    let third = BEGAN.0 + u64::from(shape.time.0) / 3;
    let away = third..third + 120_000;
    records.retain(|record| !away.contains(&record.at.0));
    let late = UnixMillis(BEGAN.0 + u64::from(shape.time.0) * 3 / 4);
    let place = records.partition_point(|record| record.at <= late);
    let body = Body::Lost(Lost { records: 17 });
    records.insert(place, Record { at: late, body });
}

/// What a crawler finds in a network of so many peers.
#[must_use]
pub fn crawl(peers: usize, seed: u64) -> Vec<Row> {
    let shape = Shape {
        providers: peers * 2 / 3,
        buyers: peers - peers * 2 / 3,
        seed,
        ..Shape::default()
    };
    let mut chance = Chance::new(seed);
    let members = peers::members(&shape, &mut chance);
    let names: Vec<Peer> = members.iter().map(Member::peer).collect();
    let mut rows: Vec<Row> = members.iter().map(|member| row(member, &names, &mut chance)).collect();
    rows.sort_by(|left, right| left.peer.cmp(&right.peer));
    rows
}

fn row(member: &Member, names: &[Peer], chance: &mut Chance) -> Row {
    let reachable = match chance.below(10) {
        _ if member.is_relayed => Reachable::Relayed,
        0 => Reachable::No,
        _ => Reachable::Yes,
    };
    let is_met = reachable != Reachable::No;
    let mut neighbours: Vec<Peer> = Vec::new();
    if is_met {
        let wanted = 4 + chance.below(8);
        neighbours.extend(
            (0..wanted)
                .map(|_| chance.pick(names).clone())
                .filter(|peer| *peer != member.peer()),
        );
        neighbours.sort();
        neighbours.dedup();
    }
    let mut addresses = BTreeMap::new();
    let mut count = |transport, reach, count| addresses.insert(Place { transport, reach }, count);
    if member.is_relayed {
        count(Transport::Tcp, Reach::Relayed, 2);
    } else {
        count(Transport::Tcp, Reach::Public, 1);
        count(Transport::Quic, Reach::Public, 1);
        count(Transport::Tcp, Reach::Private, 1);
    }
    let protocols = [
        "/c0mpute/synthetic/id/1.0.0",
        "/c0mpute/synthetic/kad/1.0.0",
        "/meshsub/1.1.0",
    ];
    let first_seen = BEGAN.0 + chance.below(20_000);
    Row {
        peer: member.peer(),
        agent: is_met.then(|| member.agent.clone()),
        protocols: if is_met {
            protocols.map(str::to_owned).to_vec()
        } else {
            Vec::new()
        },
        addresses,
        reachable,
        reason: (!is_met).then(|| ["timeout", "connection refused"][usize::from(chance.percent(40))].to_owned()),
        round_trip_ms: is_met.then(|| u32::try_from(chance.skewed(8, 260)).unwrap_or_default()),
        asked: 3,
        answered: if is_met { 3 } else { 0 },
        neighbours,
        first_seen,
        last_seen: first_seen + chance.below(30_000),
    }
}

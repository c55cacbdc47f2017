//! What a simulation found, as one row of named numbers.

use crate::judge::Judge;
use crate::message::{Message, What};
use crate::node::{Node, Traffic};
use crate::population::memory_of;
use crate::setup::{SETTLE, START, Setup, Stress};
use crate::survey::{Survey, survey};
use crate::wire::{ADS, JOBS};
use crate::world::World;

/// The columns, in order: name, unit, and what it is.
pub const COLUMNS: [(&str, &str); 43] = [
    (
        "connections",
        "connections of a node besides those with bootstrap peers",
    ),
    ("interval", "seconds between two ads of a node, median"),
    ("ad_bytes", "bytes of an ad, median"),
    ("ads_per_s", "ads published in the network a second, in hundredths"),
    ("ad_in", "bytes a second and node that ads cost, received, median"),
    ("ad_in_p99", "the same, 99th percentile"),
    ("ad_out", "sent, median"),
    ("ad_out_p99", "sent, 99th percentile"),
    (
        "ad_named",
        "share of what ads cost that names them and does not carry them, per cent",
    ),
    ("ad_cost", "bytes that one ad costs a node, received"),
    ("copies", "copies of an ad that a node receives, in hundredths"),
    ("half_ms", "milliseconds until half of the nodes have an ad, median"),
    ("most_ms", "until 99% have it, median"),
    ("most_p99_ms", "the same, 99th percentile"),
    ("delivered", "nodes that get an ad within 15 s, per mille, mean"),
    ("ads_held", "ads that a node holds and that count, median"),
    ("ads_kib", "KiB that they take"),
    ("jobs", "jobs that buyers had"),
    ("failed", "jobs that were not placed"),
    ("place_ms", "milliseconds from a job to its running request, median"),
    ("place_p99_ms", "99th percentile"),
    ("newcomer_ms", "the same of nodes that came 5 s before, median"),
    ("offers", "offers, wider rounds included"),
    ("misses", "accepts that came to nothing"),
    ("bids", "bids that went round for an offer, median"),
    ("bids_p99", "99th percentile"),
    ("bids_max", "most"),
    (
        "job_messages",
        "different messages that a placed job puts on gossip, in hundredths",
    ),
    (
        "job_copies",
        "messages that a node receives for one offer, in hundredths",
    ),
    ("job_cost", "bytes that one placed job costs every node, received"),
    ("dht_hops", "steps of a lookup, median"),
    ("dht_asked", "peers that a lookup asks, median"),
    ("dht_first_ms", "milliseconds until a lookup names a provider, median"),
    ("dht_first_p99_ms", "99th percentile"),
    ("dht_ms", "until it ends, median"),
    (
        "dht_found",
        "lookups that name an honest provider that is up, per mille",
    ),
    ("dht_honest", "lookups that name one among the first eight, per mille"),
    (
        "dht_upkeep",
        "bytes a second and node for refreshing and publishing, each way",
    ),
    (
        "greeting",
        "bytes a second and node for new connections and the ads handed over on them, each way",
    ),
    ("drops", "messages that a full queue or line took"),
    (
        "held_back",
        "times that a node forwarded nothing, having forwarded as much as it may",
    ),
    ("blamed", "honest nodes that were blamed"),
    (
        "heal_s",
        "seconds from the end of a split until a node holds 95% of all ads again",
    ),
];

/// A row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The scenario.
    pub scenario: String,
    /// Nodes.
    pub nodes: usize,
    /// A number for each of [`COLUMNS`].
    pub values: Vec<u64>,
}

impl Row {
    /// The value of a column; 0 where there is none of that name.
    #[must_use]
    pub fn get(&self, column: &str) -> u64 {
        let place = COLUMNS.iter().position(|(name, _)| *name == column);
        place.and_then(|place| self.values.get(place)).copied().unwrap_or(0)
    }
}

/// The value that `percent` of the sorted ones do not exceed.
fn at(sorted: &[u64], percent: usize) -> u64 {
    let last = sorted.len().saturating_sub(1);
    sorted
        .get((sorted.len() * percent / 100).min(last))
        .copied()
        .unwrap_or(0)
}

fn sorted(values: impl IntoIterator<Item = u64>) -> Vec<u64> {
    let mut values: Vec<u64> = values.into_iter().collect();
    values.sort_unstable();
    values
}

fn mean(values: &[u64]) -> u64 {
    values.iter().sum::<u64>() / (values.len() as u64).max(1)
}

/// Measures a network at the end of its simulation.
pub(crate) fn measure(world: &World) -> Row {
    let survey = survey(world, world.now);
    let mut row = Fields::default();
    ads(world, &survey, &mut row);
    jobs(world, &mut row);
    dht(&survey, &mut row);
    row.put("drops", world.tally.queue_drops + world.tally.line_drops);
    row.put("held_back", world.tally.not_forwarded);
    row.put("blamed", world.tally.blamed);
    row.put("heal_s", heal(world));
    Row {
        scenario: world.setup.name.to_owned(),
        nodes: world.setup.nodes,
        values: row.0,
    }
}

#[derive(Debug)]
struct Fields(Vec<u64>);

impl Default for Fields {
    fn default() -> Self {
        Self(vec![0; COLUMNS.len()])
    }
}

impl Fields {
    fn put(&mut self, column: &str, value: u64) {
        if let Some(place) = COLUMNS.iter().position(|(name, _)| *name == column) {
            self.0[place] = value;
        }
    }
}

/// Ads of honest nodes that were published while it was measured, and are counted.
fn measured_ads(world: &World) -> impl Iterator<Item = &Message> {
    world.messages.iter().filter(|message| {
        matches!(message.what, What::Ad(..))
            && message.delivered.is_some()
            && !world.nodes[message.author as usize].hostile
            && world.is_measured(message.sent_at)
    })
}

/// Nodes that were there all the time.
fn steadfast(world: &World) -> impl Iterator<Item = &Node> {
    world
        .nodes
        .iter()
        .filter(|node| node.up && node.joined == 0 && !node.hostile)
}

fn ads(world: &World, survey: &Survey, row: &mut Fields) {
    let seconds = (world.setup.lasts / 1_000).max(1);
    let cost = |traffic: &Traffic| (traffic.data[ADS] + traffic.control[ADS]) / seconds;
    let received = sorted(steadfast(world).map(|node| cost(&node.received)));
    let sent = sorted(steadfast(world).map(|node| cost(&node.sent)));
    let sum = |of: fn(&Traffic) -> u64| steadfast(world).map(|node| of(&node.received)).sum::<u64>();
    let (data, named) = (sum(|traffic| traffic.data[ADS]), sum(|traffic| traffic.control[ADS]));
    let said = world.messages.iter().filter(|message| {
        matches!(message.what, What::Ad(..)) && message.sent_at >= START + SETTLE && message.sent_at > 0
    });
    let said = said.count() as u64;
    let span = seconds * 1_000 - crate::setup::COUNT_AFTER;
    let nodes = (steadfast(world).count() as u64).max(1);
    row.put("connections", survey.degree as u64);
    row.put(
        "interval",
        at(&sorted(world.tally.intervals.iter().copied()), 50) / 1_000,
    );
    row.put(
        "ad_bytes",
        at(&sorted(measured_ads(world).map(|ad| u64::from(ad.size))), 50),
    );
    row.put("ads_per_s", world.tally.ads * 100_000 / span.max(1));
    row.put("ad_in", at(&received, 50));
    row.put("ad_in_p99", at(&received, 99));
    row.put("ad_out", at(&sent, 50));
    row.put("ad_out_p99", at(&sent, 99));
    row.put("ad_named", named * 100 / (data + named).max(1));
    row.put("ad_cost", (data + named) / nodes / said.max(1));
    let copies = sorted(measured_ads(world).map(|ad| ad.copies * 100 / u64::from(ad.audience.max(1))));
    row.put("copies", mean(&copies));
    row.put("half_ms", at(&sorted(measured_ads(world).filter_map(|ad| ad.half)), 50));
    let most = sorted(measured_ads(world).filter_map(|ad| ad.most));
    row.put("most_ms", at(&most, 50));
    row.put("most_p99_ms", at(&most, 99));
    let delivered: Vec<u64> = measured_ads(world)
        .filter_map(|ad| ad.delivered)
        .map(u64::from)
        .collect();
    row.put("delivered", mean(&delivered));
    let views: Vec<u32> = (0..)
        .zip(&world.nodes)
        .filter(|(_, node)| node.up && !node.hostile)
        .map(|(n, _)| n)
        .collect();
    let sample = views.iter().step_by((views.len() / 32).max(1));
    let held = sorted(sample.map(|node| held_of(world, *node)));
    row.put("ads_held", at(&held, 50));
    let memory: Vec<u64> = world
        .ads
        .iter()
        .take(64)
        .filter_map(|ads| {
            let What::Ad(ad, _) = &world.messages[*ads.first()? as usize].what else {
                return None;
            };
            Some(memory_of(ad) as u64)
        })
        .collect();
    row.put("ads_kib", mean(&memory) * at(&held, 50) / 1_024);
}

fn held_of(world: &World, node: u32) -> u64 {
    let fresh = world.fresh_ads(node).len() as u64;
    match &world.nodes[node as usize].judge {
        Judge::Real(_) => fresh,
        Judge::Lean(_) => fresh.min(infernet_protocol::capability::Limits::default().ads as u64),
    }
}

fn jobs(world: &World, row: &mut Fields) {
    let begun: Vec<_> = world.jobs.iter().filter(|job| job.began.is_some()).collect();
    let took = |newcomer: bool| {
        let jobs = world.jobs.iter().filter(move |job| job.newcomer == newcomer);
        sorted(jobs.filter_map(|job| Some(job.placed? - job.began?)))
    };
    let placed = took(false);
    row.put("jobs", begun.len() as u64);
    row.put("failed", begun.iter().filter(|job| job.placed.is_none()).count() as u64);
    row.put("place_ms", at(&placed, 50));
    row.put("place_p99_ms", at(&placed, 99));
    row.put("newcomer_ms", at(&took(true), 50));
    row.put("misses", world.jobs.iter().map(|job| u64::from(job.misses)).sum());
    let (mut offers, mut went) = (0, 0);
    let mut bids = std::collections::BTreeMap::new();
    for (number, message) in (0u32..).zip(&world.messages) {
        match &message.what {
            What::Offer(_) => {
                offers += 1;
                bids.entry(number).or_insert(0u64);
            }
            // A bid that its neighbours did not pass on did not go round.
            What::Bid(_, offer, _) if message.reached * 2 >= message.audience => *bids.entry(*offer).or_insert(0) += 1,
            _ => {}
        }
        let jobs = !matches!(message.what, What::Ad(..) | What::Broken(..));
        went += u64::from(jobs && message.reached * 2 >= message.audience);
    }
    let bids = sorted(bids.into_values());
    row.put("offers", offers);
    row.put("bids", at(&bids, 50));
    row.put("bids_p99", at(&bids, 99));
    row.put("bids_max", at(&bids, 100));
    let all = placed.len() as u64 + took(true).len() as u64;
    row.put("job_messages", went * 100 / all.max(1));
    let nodes = (steadfast(world).count() as u64).max(1);
    let sum = |of: fn(&Traffic) -> u64| steadfast(world).map(|node| of(&node.received)).sum::<u64>();
    row.put(
        "job_copies",
        sum(|traffic| traffic.copies[JOBS]) * 100 / nodes / offers.max(1),
    );
    row.put(
        "job_cost",
        sum(|traffic| traffic.data[JOBS] + traffic.control[JOBS]) / nodes / all.max(1),
    );
}

fn dht(survey: &Survey, row: &mut Fields) {
    row.put("dht_hops", at(&survey.hops, 50));
    row.put("dht_asked", at(&survey.asked, 50));
    row.put("dht_first_ms", at(&survey.first, 50));
    row.put("dht_first_p99_ms", at(&survey.first, 99));
    row.put("dht_ms", at(&survey.ended, 50));
    row.put("dht_found", survey.found);
    row.put("dht_honest", survey.honest);
    row.put("dht_upkeep", survey.upkeep);
    row.put("greeting", survey.greeting);
}

/// From the end of a split until nodes hold the ads of both halves again, in seconds.
fn heal(world: &World) -> u64 {
    let Some(healed) = world.tally.healed_at else { return 0 };
    world.tally.whole_at.map_or(u64::MAX, |whole| (whole - healed) / 1_000)
}

/// What must hold in every simulation.
pub(crate) fn check(setup: &Setup, row: &Row) {
    assert_eq!(row.get("blamed"), 0, "{}: an honest node was blamed", setup.name);
    let bound = infernet_protocol::market::admission::BIDS_PER_OFFER as u64;
    assert!(
        row.get("bids_max") <= bound,
        "{}: {} bids went round for one offer",
        setup.name,
        row.get("bids_max")
    );
    if setup.stress == Stress::None {
        assert!(
            row.get("delivered") >= 990,
            "{}: ads reach {} per mille",
            setup.name,
            row.get("delivered")
        );
        assert!(
            row.get("failed") * 50 <= row.get("jobs"),
            "{}: {} jobs were not placed",
            setup.name,
            row.get("failed")
        );
    }
}

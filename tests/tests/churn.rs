//! Ring `network`: a relay among peers that come and go. After many of them it holds what it held after the first: as much
//! memory, and as many things of each kind. The ring `soak` has the long form.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(
    clippy::disallowed_methods,
    reason = "the ring `soak` says in the environment how long it is"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use infernet_protocol::capability::{AdQuery, AdScope};
use infernet_protocol::names::INFERENCE;
use infernet_protocol::{Network, codec};
use infernet_swarm::{Config, Event, Exchange, Multiaddr, Role};
use infernet_tests::processes::{Client, NodeHome, PATIENCE, Process, soon};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// Peers that are there at once.
const AT_ONCE: usize = 24;
/// How long the churn lasts after the first round, where the environment says nothing.
const USUAL: Duration = Duration::from_secs(180);
/// How long the first round lasts: caches of a fixed size, allocators and threads come to rest.
const WARM_UP: Duration = Duration::from_secs(60);
/// And in the long form. What is remembered of a peer goes five minutes after it: by then as many are remembered as ever
/// will be, and while they come and go for as long again, tables grow to the size that they keep.
const WARM_UP_LONG: Duration = Duration::from_secs(720);
/// Between two that come: forty come in a second, and machine and test have time for other things.
const COMES_EVERY: Duration = Duration::from_millis(25);
/// A place that is asked for at a bad moment is asked for again after a minute.
const PLACE_WITHIN: Duration = Duration::from_secs(300);
/// What may be held more than after the first round, in percent.
const GROWTH: u64 = 10;

/// The same peers come back, as many as this; in the long form each is new.
const DIFFERENT: u32 = 512;

/// One peer in so many takes a place on the relay: a relay gives one address sixty at once and then one a minute, and all
/// have the same here.
const PLACES: u32 = 2048;

/// A peer's short life: it joins, listens for gossip, asks for ads, takes a place on the relay perhaps, and goes.
async fn live(number: u32, different: u32, at: Multiaddr) {
    let mut secret = [0xc4; 32];
    secret[28..].copy_from_slice(&(number % different).to_be_bytes());
    let network = Network::new("test").unwrap();
    let mut config = Config::new(secret, network.as_str(), Role::Node);
    config.topics = vec![network.capability_topic(), network.jobs_topic(INFERENCE)];
    let takes_place = number.is_multiple_of(PLACES);
    (config.bootstrap, config.relays, config.outbound_only) = (vec![at], usize::from(takes_place), true);
    let (handle, mut events, event_loop) = infernet_swarm::new(config).unwrap();
    let (stop, mut task) = (CancellationToken::new(), JoinSet::new());
    task.spawn(event_loop.run(stop.clone()));
    let relay = soon("it joins", async {
        loop {
            if let Event::Subscribed { peer, .. } = events.recv().await.unwrap() {
                break peer;
            }
        }
    })
    .await;
    let query = AdQuery {
        scope: AdScope::Known,
        model: None,
    };
    let asked = handle.ask(Exchange::Ad, relay, Vec::new(), codec::to_vec(&query).into(), PATIENCE);
    asked.await.unwrap();
    if takes_place {
        let placed = async { while handle.reached().await.unwrap().relays == 0 {} };
        let placed = tokio::time::timeout(PLACE_WITHIN, placed).await;
        placed.expect("a place on the relay");
    }
    stop.cancel();
    task.join_next().await;
}

/// Peers come and go for a while; how many there were.
async fn churn(at: &Multiaddr, time: Duration, different: u32, numbers: &Arc<AtomicU32>) -> u32 {
    let (began, first) = (Instant::now(), numbers.load(Ordering::Relaxed));
    let mut lives = JoinSet::new();
    let mut comes = tokio::time::interval(COMES_EVERY);
    comes.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while began.elapsed() < time {
        tokio::select! {
            _ = comes.tick(), if lives.len() < AT_ONCE => {
                lives.spawn(live(numbers.fetch_add(1, Ordering::Relaxed), different, at.clone()));
            }
            Some(lived) = lives.join_next() => lived.unwrap(),
        }
    }
    while let Some(lived) = lives.join_next().await {
        lived.unwrap();
    }
    numbers.load(Ordering::Relaxed) - first
}

/// What a process holds when nobody is connected: KiB of memory, and its gauges.
async fn held(process: &Process, client: &Client) -> BTreeMap<String, u64> {
    let url = process.ready["metrics"].as_str().unwrap().to_owned();
    soon("all are gone", async {
        loop {
            let text = client.text(url.clone()).await;
            let held: BTreeMap<String, u64> = text
                .lines()
                .filter(|line| line.starts_with("infernet_held_") || line.starts_with("infernet_peers "))
                .filter_map(|line| line.split_once(' '))
                .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
                .collect();
            if held["infernet_peers"] == 0 {
                break held;
            }
        }
    })
    .await
}

fn resident(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_holds_no_more_after_many_peers_than_after_few() {
    let time = std::env::var("INFERNET_CHURN_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok());
    let (warm_up, time, different) = match time {
        Some(seconds) => (WARM_UP_LONG, Duration::from_secs(seconds), u32::MAX),
        None => (WARM_UP, USUAL, DIFFERENT),
    };
    let home = NodeHome::default();
    let relay = Process::bootstrap(&home).await;
    let (at, numbers, client): (Multiaddr, _, _) = (
        relay.address().parse().unwrap(),
        Arc::new(AtomicU32::new(1)),
        Client::default(),
    );
    let few = churn(&at, warm_up, different, &numbers).await;
    let (before, memory_before) = (held(&relay, &client).await, resident(relay.id()));
    let many = churn(&at, time, different, &numbers).await;
    let (after, memory_after) = (held(&relay, &client).await, resident(relay.id()));
    eprintln!("{few} peers, then {many}: {memory_before} KiB, then {memory_after} KiB; {before:?}, then {after:?}");
    assert!(few > 100 && many > few, "{few} {many}");
    let allowed = |value: u64| value + value * GROWTH / 100;
    assert!(
        memory_after <= allowed(memory_before),
        "{memory_before} KiB, then {memory_after} KiB"
    );
    assert!(before.len() > 3);
    for (name, value) in &before {
        assert!(after[name] <= allowed(*value), "{name}: {value}, then {}", after[name]);
    }
}

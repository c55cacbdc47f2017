//! Ring `network`: as many real swarms as a machine carries, in one process, against the simulator at the same size.
//!
//! What is compared are counts: who got each message, how many copies of it a node received, what a message costs in
//! bytes, whether lookups in the DHT find what was published. Every connection leads through a meter, which counts
//! the bytes. Copies are the slope of the cost over the size of messages, so that headers and control do not blur
//! them. `INFERNET_SWARMS` says how many swarms to run; each pair takes four file descriptors and each swarm a part
//! of a core, so that some eighty fit two cores and 20,000 descriptors.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use infernet_scale::{Row, Setup, simulate};
use infernet_swarm::{Config, Event, EventReceiver, Handle, Multiaddr, Role, Verdict};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Swarms, where the environment does not say how many.
const SWARMS: usize = 24;
/// The environment variable.
const VARIABLE: &str = "INFERNET_SWARMS";
/// Messages of each size, and the sizes. Above a thousand bytes gossipsub has peers say what they do not want.
const MESSAGES: usize = 40;
const SIZES: [usize; 2] = [200, 900];
/// Between two messages.
const PACE: Duration = Duration::from_millis(100);
/// Heartbeats in which meshes settle, and in which what was said is named to others.
const HEARTBEATS: Duration = Duration::from_secs(5);
/// No step takes longer.
const PATIENCE: Duration = Duration::from_secs(60);
const TOPIC: &str = "c0mpute/test/v1";
/// How far apart simulator and swarms may be, in per cent of the swarms.
const COPIES_APART: u64 = 30;
const COST_APART: u64 = 30;
/// Headers of IP and TCP, which the simulator counts for each packet and the meters do not see.
const BELOW: u64 = 40;

/// Bytes over all connections, and messages that arrived at all nodes.
#[derive(Debug, Default)]
struct Meters {
    bytes: AtomicU64,
    heard: AtomicU64,
    subscribed: AtomicU64,
}

struct Swarm {
    handle: Handle,
    metered: Multiaddr,
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place where the test's setting is read"
)]
fn swarms() -> usize {
    let number = std::env::var(VARIABLE).ok();
    number.and_then(|text| text.trim().parse().ok()).unwrap_or(SWARMS)
}

fn config(number: usize, serves_dht: bool) -> Config {
    let mut secret = [9; 32];
    secret[30..].copy_from_slice(&u16::try_from(number).unwrap().to_be_bytes());
    let mut config = Config::new(secret, "test", Role::Node);
    config.listen = vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()];
    config.topics = vec![TOPIC.to_owned()];
    config.kad_server = Some(serves_dht);
    config
}

/// Swarms that are all connected with each other through meters. Where they serve the DHT, they also find ways of
/// their own to each other.
async fn fleet(count: usize, serves_dht: bool, meters: &Arc<Meters>, tasks: &mut JoinSet<()>) -> Vec<Swarm> {
    let mut nodes = Vec::new();
    for number in 0..count {
        nodes.push(start(config(number + 1, serves_dht), meters, tasks).await);
    }
    for (number, node) in nodes.iter().enumerate() {
        for other in &nodes[number + 1..] {
            let to = vec![other.metered.clone()];
            node.handle.dial(other.handle.local_peer_id(), to).await.unwrap();
        }
    }
    let pairs = (count * (count - 1)) as u64;
    until("meeting", || meters.subscribed.load(Ordering::Relaxed) >= pairs).await;
    nodes
}

/// A swarm, and in front of it a meter.
async fn start(config: Config, meters: &Arc<Meters>, tasks: &mut JoinSet<()>) -> Swarm {
    let (handle, events, event_loop) = infernet_swarm::new(config).unwrap();
    tasks.spawn(event_loop.run(CancellationToken::new()));
    tasks.spawn(listen(handle.clone(), events, meters.clone()));
    let bound = handle.listen_addrs().await.unwrap().remove(0);
    let port = bound
        .iter()
        .find_map(|part| part.to_string().strip_prefix("/tcp/")?.parse::<u16>().ok());
    let meter = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let metered = format!("/ip4/127.0.0.1/tcp/{}", meter.local_addr().unwrap().port());
    tasks.spawn(measure(meter, port.unwrap(), meters.clone()));
    Swarm {
        handle,
        metered: metered.parse().unwrap(),
    }
}

/// Accepts all gossip.
async fn listen(handle: Handle, mut events: EventReceiver, meters: Arc<Meters>) {
    while let Some(event) = events.recv().await {
        match event {
            Event::Gossip { ticket, .. } => {
                meters.heard.fetch_add(1, Ordering::Relaxed);
                if handle.judge(ticket, Verdict::Accept).await.is_err() {
                    break;
                }
            }
            Event::Subscribed { .. } => {
                meters.subscribed.fetch_add(1, Ordering::Relaxed);
            }
            _ => {}
        }
    }
}

/// Passes connections on and counts their bytes.
async fn measure(meter: TcpListener, port: u16, meters: Arc<Meters>) {
    let mut connections = JoinSet::new();
    while let Ok((near, _)) = meter.accept().await {
        let meters = meters.clone();
        connections.spawn(async move {
            let Ok(far) = TcpStream::connect(("127.0.0.1", port)).await else {
                return;
            };
            // Small frames go at once, as they do without a meter.
            let _ = (near.set_nodelay(true), far.set_nodelay(true));
            let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
            tokio::join!(copy(near_in, far_out, &meters), copy(far_in, near_out, &meters));
        });
    }
}

async fn copy(from: tokio::net::tcp::OwnedReadHalf, to: tokio::net::tcp::OwnedWriteHalf, meters: &Meters) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        if from.readable().await.is_err() {
            return;
        }
        match from.try_read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => {
                meters.bytes.fetch_add(count as u64, Ordering::Relaxed);
                let mut left = &buffer[..count];
                while !left.is_empty() {
                    if to.writable().await.is_err() {
                        return;
                    }
                    match to.try_write(left) {
                        Ok(written) => left = &left[written..],
                        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                        Err(_) => return,
                    }
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

async fn until(what: &str, done: impl Fn() -> bool) {
    let waiting = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .unwrap_or_else(|_| panic!("{what} takes too long"));
}

/// Bytes of all connections over some time in which nothing is said.
async fn idle(meters: &Meters) -> u64 {
    let before = meters.bytes.load(Ordering::Relaxed);
    tokio::time::sleep(HEARTBEATS).await;
    meters.bytes.load(Ordering::Relaxed) - before
}

/// Bytes that a message of that size costs, over all connections, less what would have gone over them anyway.
async fn say(nodes: &[Swarm], size: usize, idle: u64, meters: &Meters) -> u64 {
    let (bytes, heard) = (
        meters.bytes.load(Ordering::Relaxed),
        meters.heard.load(Ordering::Relaxed),
    );
    let began = tokio::time::Instant::now();
    for number in 0..MESSAGES {
        let mut data = vec![u8::try_from(number).unwrap(); size];
        data[..8].copy_from_slice(&(size as u64).to_be_bytes());
        let from = &nodes[number * 7 % nodes.len()].handle;
        from.publish(TOPIC, Bytes::from(data)).await.unwrap();
        tokio::time::sleep(PACE).await;
    }
    let all = heard + (MESSAGES * (nodes.len() - 1)) as u64;
    until("gossip", || meters.heard.load(Ordering::Relaxed) >= all).await;
    tokio::time::sleep(HEARTBEATS).await;
    let took = u64::try_from(began.elapsed().as_millis()).unwrap();
    let idle = idle * took / u64::try_from(HEARTBEATS.as_millis()).unwrap();
    assert_eq!(
        meters.heard.load(Ordering::Relaxed),
        all,
        "each node hears each message once"
    );
    (meters.bytes.load(Ordering::Relaxed) - bytes).saturating_sub(idle) / MESSAGES as u64
}

/// Share of lookups, per mille, that name the provider of what is looked for.
async fn look_up(nodes: &[Swarm]) -> u64 {
    let mut digests = Vec::new();
    for number in 0..8 {
        let digest = [u8::try_from(number).unwrap() * 31 + 1; 32];
        nodes[number * 5 % nodes.len()].handle.provide(digest).await.unwrap();
        digests.push((digest, nodes[number * 5 % nodes.len()].handle.local_peer_id()));
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (mut found, mut all) = (0, 0);
    for (number, node) in nodes.iter().enumerate() {
        let (digest, provider) = digests[number % digests.len()];
        if provider != node.handle.local_peer_id() {
            all += 1;
            let providers = node.handle.providers(digest).await.unwrap_or_default();
            found += u64::from(providers.iter().any(|it| it.peer == provider));
        }
    }
    found * 1_000 / all
}

fn apart(real: u64, simulated: u64) -> u64 {
    real.abs_diff(simulated) * 100 / real.max(1)
}

/// What the simulator has for the same: copies in hundredths, and bytes of a message of that size at one node.
fn simulated(row: &Row, size: u64) -> (u64, u64) {
    let copies = row.get("copies");
    let packets = copies / 100 + 1;
    let cost = row.get("ad_cost") - BELOW * packets;
    (
        copies,
        (cost + copies * size / 100).saturating_sub(copies * row.get("ad_bytes") / 100),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_swarms_do_what_the_simulator_says() {
    let count = swarms();
    let (meters, mut tasks) = (Arc::new(Meters::default()), JoinSet::new());
    let nodes = fleet(count, false, &meters, &mut tasks).await;
    tokio::time::sleep(HEARTBEATS).await;
    let quiet = idle(&meters).await;
    let mut costs = Vec::new();
    for size in SIZES {
        costs.push(say(&nodes, size, quiet, &meters).await);
    }
    drop((nodes, tasks));
    let mut tasks = JoinSet::new();
    let found = look_up(&fleet(count, true, &Arc::default(), &mut tasks).await).await;
    let row = simulate(&Setup::swarms(count));

    let receivers = (count - 1) as u64;
    let copies = (costs[1] - costs[0]) * 100 / receivers / (SIZES[1] - SIZES[0]) as u64;
    let middle = (costs[0] + costs[1]) / 2 / count as u64;
    let (sim_copies, sim_cost) = simulated(&row, ((SIZES[0] + SIZES[1]) / 2) as u64);
    println!("{count} swarms: {copies} hundredths of a copy, simulated {sim_copies}");
    println!(
        "a message of {} bytes costs {middle} bytes a node, simulated {sim_cost}",
        (SIZES[0] + SIZES[1]) / 2
    );
    println!(
        "lookups that find: {found} per mille, simulated {}",
        row.get("dht_found")
    );
    assert!(
        apart(copies, sim_copies) <= COPIES_APART,
        "copies: {copies} and {sim_copies}"
    );
    assert!(apart(middle, sim_cost) <= COST_APART, "bytes: {middle} and {sim_cost}");
    assert_eq!((found, row.get("delivered")), (1_000, 1_000));
    assert_eq!(row.get("dht_found"), 1_000);
}

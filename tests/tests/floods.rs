//! Ring `hostile`: twenty peers push garbage at a provider as fast as they can. They are cut off, no honest peer is held to
//! account for it, and an honest buyer is served during it and after. What it cost is printed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::print_stderr, reason = "what a flood cost is there to be read")]

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use infernet_inference::{Endpoint, Request};
use infernet_node::buyer::Purchase;
use infernet_node::buyer::consumer::{Answer, Said};
use infernet_node::node::Node;
use infernet_protocol::{ModelId, Network};
use infernet_tests::flooder::{Flooder, Garbage};
use infernet_tests::network::{PATIENCE, consumer, whole};
use infernet_tests::processes::{NodeHome, Process, soon};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Peers that push garbage, the same number of each kind.
const HOSTILE: usize = 20;
/// Auctions that are timed before, during and after.
const AUCTIONS: usize = 20;
/// Between two looks during the flood: a provider gives a stranger so many leases and no more.
const PAUSE: Duration = Duration::from_millis(100);
/// A second flood may take a tenth more memory than the first has left.
const GROWTH: u64 = 10;
/// They are cut off by then, on a machine that is busy with the floods themselves.
const LONG: Duration = Duration::from_secs(180);
/// Kernel clock ticks in a second, as `/proc` counts.
const TICKS: u64 = 100;

/// Buys one answer under a lease of its own: how long it took to begin, where it did.
async fn auction(buyer: &Arc<Node>, model: &ModelId) -> Option<Duration> {
    buyer.drop_leases();
    let body =
        format!(r#"{{"model":"{model}","stream":true,"max_tokens":1,"messages":[{{"role":"user","content":"hi"}}]}}"#);
    let request = Request::read(Endpoint::ChatCompletions, body.as_bytes()).unwrap();
    let began = Instant::now();
    let Answer { head, mut said } = buyer.buy(Purchase::new(
        model.clone(),
        &request,
        Bytes::from(body),
        began + PATIENCE,
    ));
    head.await.unwrap().ok()?;
    let took = began.elapsed();
    while let Some(said) = said.recv().await {
        if let Said::Over(outcome) = said {
            return outcome.is_ok().then_some(took);
        }
    }
    None
}

async fn median(buyer: &Arc<Node>, model: &ModelId) -> Duration {
    let mut times = Vec::new();
    for _ in 0..AUCTIONS {
        times.push(auction(buyer, model).await.expect("an honest buyer is served"));
    }
    times.sort();
    times[AUCTIONS / 2]
}

/// Processor time in milliseconds and resident memory in KiB of a process.
fn cost(process: u32) -> (u64, u64) {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<u64>().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let resident = resident.trim().trim_end_matches(" kB").parse().unwrap();
    ((ticks(11) + ticks(12)) * 1000 / TICKS, resident)
}

async fn why(home: &NodeHome, peer: &str) -> Value {
    home.ask("why", json!({ "peer": peer })).await.unwrap()
}

/// Whether nothing that a peer says is taken any more.
fn is_cut_off(standing: &Value) -> bool {
    let silenced = standing["gossip_score"].as_f64() < standing["gossip_thresholds"][2].as_f64();
    standing["banned_for_s"].is_u64() || standing["gossip_score"].is_f64() && silenced
}

/// A provider among an honest buyer and its bootstrap node.
struct Stage {
    network: Network,
    model: ModelId,
    buyer: Arc<Node>,
    victim: Process,
    home: NodeHome,
}

/// What became of one flood.
#[derive(Debug, Default)]
struct Flood {
    /// Of those that were cut off, what they pushed.
    cut: Vec<Garbage>,
    /// Honest auctions meanwhile, in order of length.
    during: Vec<Duration>,
    unserved: usize,
    /// Resident memory at most, in KiB, and processor time in milliseconds until all were cut off.
    peak: u64,
    cpu: u64,
}

impl Stage {
    /// Twenty peers, with keys from this number on, push until they are cut off, and on through `meanwhile` after.
    async fn flood<T>(&self, first: u16, meanwhile: impl Future<Output = T>) -> (Flood, T) {
        let network = self.network.clone();
        let prepare = move || {
            let kinds = Garbage::ALL.into_iter().cycle().take(HOSTILE);
            let made = (first..).zip(kinds);
            made.map(|(number, kind)| Arc::new(Flooder::new(number, kind, &network)))
                .collect::<Vec<_>>()
        };
        let flooders = tokio::task::spawn_blocking(prepare).await.unwrap();
        let (cpu_before, _) = cost(self.victim.id());
        let stop = CancellationToken::new();
        let pushing = push_aside(&flooders, &self.victim, &self.network, &stop);
        let (began, mut flood) = (Instant::now(), Flood::default());
        let is_heard = |flooder: &&Arc<Flooder>| flooder.garbage != Garbage::Oversized;
        let mut open: Vec<_> = flooders.iter().filter(is_heard).collect();
        tokio::time::timeout(LONG, async {
            let mut next = tokio::time::interval(PAUSE);
            while !open.is_empty() {
                next.tick().await;
                match auction(&self.buyer, &self.model).await {
                    Some(took) => flood.during.push(took),
                    None => flood.unserved += 1,
                }
                flood.peak = flood.peak.max(cost(self.victim.id()).1);
                let mut still = Vec::new();
                for flooder in open.drain(..) {
                    if is_cut_off(&why(&self.home, &flooder.peer.to_string()).await) {
                        // They share one thread, and are let in one after another.
                        let let_in = *flooder.let_in.get_or_init(|| began);
                        let (after, at) = (let_in.elapsed().as_millis(), (let_in - began).as_millis());
                        eprintln!(
                            "{:?} cut off {after} ms after it was let in, at {at} ms",
                            flooder.garbage
                        );
                        flood.cut.push(flooder.garbage);
                    } else {
                        still.push(flooder);
                    }
                }
                open = still;
            }
        })
        .await
        .expect("all are cut off");
        flood.cpu = cost(self.victim.id()).0 - cpu_before;
        flood.during.sort();
        // They go on knocking.
        let meanwhile = meanwhile.await;
        stop.cancel();
        pushing.join().unwrap();
        for kind in Garbage::ALL {
            let pushed = flooders.iter().filter(|flooder| flooder.garbage == kind);
            let pushed: u64 = pushed.map(|flooder| flooder.pushed.load(Ordering::Relaxed)).sum();
            eprintln!("{kind:?}: {pushed} messages pushed");
        }
        (flood, meanwhile)
    }
}

/// Pushes from a thread of its own, so that the flood does not hold up the buyer's.
fn push_aside(
    flooders: &[Arc<Flooder>],
    victim: &Process,
    network: &Network,
    stop: &CancellationToken,
) -> std::thread::JoinHandle<()> {
    let at: infernet_swarm::Multiaddr = victim.address().parse().unwrap();
    let (flooders, network, stop) = (flooders.to_vec(), network.clone(), stop.clone());
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            // A task for each, so that none waits for another's turn.
            let push = |flooder: Arc<Flooder>| {
                let (at, network) = (at.clone(), network.clone());
                async move { flooder.push(at, &network).await }
            };
            let _pushing: JoinSet<()> = flooders.into_iter().map(push).collect();
            stop.cancelled().await;
        });
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_floods_are_cut_off_and_honest_peers_are_not() {
    let (hub_home, home) = <(NodeHome, NodeHome)>::default();
    let hub = Process::bootstrap(&hub_home).await;
    let victim = Process::provider(&home, hub.address(), None).await;
    let at = [hub.address().parse().unwrap(), victim.address().parse().unwrap()];
    let stage = Stage {
        network: Network::new("test").unwrap(),
        model: ModelId::new("infernet-demo").unwrap(),
        buyer: consumer(1, &at).await,
        victim,
        home,
    };
    let Stage { buyer, model, .. } = &stage;
    soon("an ad", buyer.until_served(model, 1)).await;
    auction(buyer, model).await.expect("an honest buyer is served");
    let before = median(buyer, model).await;
    let (_, memory_before) = cost(stage.victim.id());

    let (flood, after) = stage.flood(1, median(buyer, model)).await;
    let (_, memory_after) = cost(stage.victim.id());
    let usual = flood.during.get(flood.during.len() / 2).copied().unwrap_or_default();
    let ratio = |time: Duration| time.as_secs_f64() / before.as_secs_f64();
    eprintln!(
        "honest auctions, median: before {before:?}, during {usual:?} ({:.2}, {} of {} not served), after {after:?} ({:.2})",
        ratio(usual),
        flood.unserved,
        flood.during.len() + flood.unserved,
        ratio(after)
    );
    let (again, ()) = stage.flood(1001, std::future::ready(())).await;
    let (_, memory_again) = cost(stage.victim.id());
    eprintln!(
        "processor: {} ms until all were cut off, {} ms in a second flood; memory {memory_before} KiB before, {} KiB at \
         most, {memory_after} KiB after, {memory_again} KiB after the second; limits met: {}",
        flood.cpu,
        again.cpu,
        flood.peak.max(memory_after),
        home_limits(&stage.home).await
    );

    for honest in [hub.peer_id().to_owned(), buyer.id().peer_id()] {
        let standing = why(&stage.home, &honest).await;
        assert_eq!(
            (&standing["points"], &standing["bans"]),
            (&json!(0), &json!(0)),
            "{standing}"
        );
        assert_eq!(standing["offences"], json!([]), "{standing}");
        assert!(!is_cut_off(&standing), "{standing}");
    }
    for flood in [&flood, &again] {
        assert_eq!(flood.cut.len(), HOSTILE - HOSTILE / Garbage::ALL.len());
    }
    // The first fills what is kept of strangers; others find it full.
    assert!(
        memory_again <= memory_after + memory_after / GROWTH,
        "{memory_after} KiB after one flood, {memory_again} KiB after two"
    );
    let (bytes, ended) = whole(buyer.buy(purchase(model))).await;
    ended.unwrap();
    assert!(bytes.ends_with(b"data: [DONE]\n\n"));
}

fn purchase(model: &ModelId) -> Purchase {
    let body = format!(r#"{{"model":"{model}","stream":true,"messages":[{{"role":"user","content":"hi"}}]}}"#);
    let request = Request::read(Endpoint::ChatCompletions, body.as_bytes()).unwrap();
    Purchase::new(model.clone(), &request, Bytes::from(body), Instant::now() + PATIENCE)
}

/// The bounds that were met, and how often.
async fn home_limits(home: &NodeHome) -> String {
    let rows = home.ask("limits", Value::Null).await.unwrap();
    let met = rows.as_array().unwrap().iter().filter(|row| row["hits"] != json!(0));
    let met: Vec<String> = met
        .map(|row| format!("{} {}", row["limit"].as_str().unwrap(), row["hits"]))
        .collect();
    met.join(", ")
}

//! Ring `hostile`: twenty peers push garbage at a provider as fast as they can. They are cut off, no honest peer is held to
//! account for it, and an honest buyer is served during it and after. What it cost is printed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

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
use tokio_util::sync::CancellationToken;

/// Peers that push garbage, the same number of each kind.
const HOSTILE: usize = 20;
/// Auctions that are timed before, during and after.
const AUCTIONS: usize = 20;
/// Between two looks during the flood: a provider gives a stranger so many leases and no more.
const PAUSE: Duration = Duration::from_millis(100);
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_floods_are_cut_off_and_honest_peers_are_not() {
    let homes: [NodeHome; 2] = Default::default();
    let hub = Process::bootstrap(&homes[0]).await;
    let victim = Process::provider(&homes[1], hub.address(), None).await;
    let network = Network::new("test").unwrap();
    let at: infernet_swarm::Multiaddr = victim.address().parse().unwrap();
    let buyer = consumer(1, &[hub.address().parse().unwrap(), at.clone()]).await;
    let model = ModelId::new("infernet-demo").unwrap();
    soon("an ad", buyer.until_served(&model, 1)).await;

    let flooders = tokio::task::spawn_blocking({
        let network = network.clone();
        move || {
            let kinds = Garbage::ALL.into_iter().cycle().take(HOSTILE);
            let made = (1..)
                .zip(kinds)
                .map(|(number, kind)| Arc::new(Flooder::new(number, kind, &network)));
            made.collect::<Vec<_>>()
        }
    })
    .await
    .unwrap();
    auction(&buyer, &model).await.expect("an honest buyer is served");
    let before = median(&buyer, &model).await;
    let (cpu_before, memory_before) = cost(victim.id());

    // A thread of their own, so that they do not hold up the buyer's.
    let stop = CancellationToken::new();
    let began = Instant::now();
    let pushing = std::thread::spawn({
        let (flooders, stop, at, network) = (flooders.clone(), stop.clone(), at.clone(), network.clone());
        move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let all = futures::future::join_all(flooders.iter().map(|flooder| flooder.push(at.clone(), &network)));
                tokio::select! { _ = all => {}, () = stop.cancelled() => {} }
            });
        }
    });
    let mut open: Vec<_> = flooders
        .iter()
        .filter(|flooder| flooder.garbage != Garbage::Oversized)
        .collect();
    let mut cut = Vec::new();
    let (mut peak, mut during, mut unserved) = (0, Vec::new(), 0);
    tokio::time::timeout(LONG, async {
        let mut next = tokio::time::interval(PAUSE);
        while !open.is_empty() {
            next.tick().await;
            match auction(&buyer, &model).await {
                Some(took) => during.push(took),
                None => unserved += 1,
            }
            peak = peak.max(cost(victim.id()).1);
            let mut still = Vec::new();
            for flooder in open.drain(..) {
                match is_cut_off(&why(&homes[1], &flooder.peer.to_string()).await) {
                    true => {
                        eprintln!("{:?} cut off after {} ms", flooder.garbage, began.elapsed().as_millis());
                        cut.push(flooder.garbage);
                    }
                    false => still.push(flooder),
                }
            }
            open = still;
        }
    })
    .await
    .expect("all are cut off");
    let (cpu_cut, _) = cost(victim.id());
    // They go on knocking while the market goes on.
    let after = median(&buyer, &model).await;
    let (cpu_after, memory_after) = cost(victim.id());
    peak = peak.max(memory_after);
    during.sort();
    let metrics = home_limits(&homes[1]).await;
    stop.cancel();
    pushing.join().unwrap();

    for kind in Garbage::ALL {
        let pushed = flooders.iter().filter(|flooder| flooder.garbage == kind);
        let pushed: u64 = pushed.map(|flooder| flooder.pushed.load(Ordering::Relaxed)).sum();
        eprintln!("{kind:?}: {pushed} messages pushed");
    }
    let usual = during.get(during.len() / 2).copied().unwrap_or_default();
    let ratio = |time: Duration| time.as_secs_f64() / before.as_secs_f64();
    eprintln!(
        "honest auctions, median: before {before:?}, during {usual:?} ({:.2}, {unserved} of {} not served), after {after:?} \
         ({:.2})",
        ratio(usual),
        during.len() + unserved,
        ratio(after)
    );
    eprintln!(
        "processor: {} ms until all were cut off, {} ms for {AUCTIONS} auctions after; memory {memory_before} KiB before, \
         {peak} KiB at most, {memory_after} KiB after; limits met: {metrics}",
        cpu_cut - cpu_before,
        cpu_after - cpu_cut
    );

    for honest in [hub.peer_id().to_owned(), buyer.id().peer_id()] {
        let standing = why(&homes[1], &honest).await;
        assert_eq!(
            (&standing["points"], &standing["bans"]),
            (&json!(0), &json!(0)),
            "{standing}"
        );
        assert_eq!(standing["offences"], json!([]), "{standing}");
        assert!(!is_cut_off(&standing), "{standing}");
    }
    assert_eq!(cut.len(), HOSTILE - HOSTILE / Garbage::ALL.len());
    let (bytes, ended) = whole(buyer.buy(purchase(&model))).await;
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

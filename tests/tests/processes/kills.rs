//! `kill -9` at random moments, again and again, with the index taken away or damaged in between.
//!
//! `INFERNET_KILLS=100` makes more rounds, as the ring `soak` does; `INFERNET_KILLS_SEED=7` draws the same victims and
//! the same damage again (when exactly they are struck is the machine's affair).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use infernet_inference::scripted::{Reply, Script};
use infernet_protocol::codec::List;
use infernet_protocol::stream::frames::{BuyerFrame, Reconcile, WorkerFrame};
use infernet_tests::hostile::{Buyer, Raw, start};
use infernet_tests::processes::{CHAT, Client, NodeHome, PATIENCE, Process, soon};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use tokio::task::JoinSet;

use super::{Engine, even};

/// Rounds of every run of the tests.
const ROUNDS: u64 = 5;
/// Consumers at once.
const CONSUMERS: u64 = 6;
/// Victims are struck before their engine has said so much more.
const STRIKE_WITHIN_TOKENS: u64 = 1_200;
/// A provider of one request is struck within this long after it was asked.
const STRIKE_WITHIN_MS: u64 = 300;

pub(super) fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

fn rounds() -> u64 {
    from_environment("INFERNET_KILLS").unwrap_or(ROUNDS)
}

pub(super) fn chance() -> ChaCha8Rng {
    let seed = from_environment("INFERNET_KILLS_SEED").unwrap_or_else(rand::random);
    println!("INFERNET_KILLS_SEED={seed}");
    ChaCha8Rng::seed_from_u64(seed)
}

/// Asks until its gateway is gone, and now and then goes away in the middle of an answer.
async fn consume(client: Client, url: String, seed: u64) {
    let mut chance = ChaCha8Rng::seed_from_u64(seed);
    loop {
        let tokens = chance.random_range(1..200);
        let stream = chance.random_bool(0.8);
        let Ok(mut answer) = client.begin_at(&url, "scripted", stream, tokens).await else {
            return;
        };
        let patience = chance.random_bool(0.3).then(|| chance.random_range(0..40));
        let mut pieces = 0;
        while patience.is_none_or(|most| pieces < most) {
            match answer.chunk().await {
                Ok(Some(_)) => pieces += 1,
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}

/// Does to an index what a bad disk or a bad day would.
fn damage(index: &Path, chance: &mut ChaCha8Rng) -> &'static str {
    match chance.random_range(0..4) {
        0 => "whole",
        1 => {
            fs::remove_dir_all(index).unwrap();
            "gone"
        }
        which => {
            let mut files = Vec::new();
            collect(index, &mut files);
            for file in files {
                let mut bytes = fs::read(&file).unwrap();
                if which == 2 {
                    chance.fill(&mut bytes[..]);
                } else {
                    bytes.truncate(bytes.len() / 2);
                }
                fs::write(&file, bytes).unwrap();
            }
            if which == 2 { "garbage" } else { "cut short" }
        }
    }
}

fn collect(directory: &Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else {
            files.push(path);
        }
    }
}

/// The ledger of a home whose node is dead, by request.
async fn rows_of_the_dead(home: &NodeHome, role: &str) -> Vec<Value> {
    let listed = home
        .infernet(&["--json", "receipts", "list", "--role", role, "--limit", "10000"])
        .await;
    let said = String::from_utf8_lossy(&listed.stderr);
    assert!(
        listed.status.success(),
        "the ledger of a dead {role} does not open: {said}"
    );
    match serde_json::from_slice(&listed.stdout).unwrap() {
        Value::Array(rows) => rows,
        other => panic!("no rows but {other}"),
    }
}

fn by_request(rows: &[Value]) -> BTreeMap<&str, &Value> {
    let known: BTreeMap<_, _> = rows.iter().map(|row| (row["request"].as_str().unwrap(), row)).collect();
    assert_eq!(known.len(), rows.len(), "a request stands in the ledger twice");
    known
}

/// What one side was told by the other, the other still knows.
fn nothing_acknowledged_is_lost(buyer: &[Value], provider: &[Value], when: &str) {
    let (bought, sold) = (by_request(buyer), by_request(provider));
    for (request, row) in &bought {
        if row["receipt"].is_string() {
            let theirs = sold.get(request).map(|row| &row["receipt"]);
            assert_eq!(
                theirs,
                Some(&row["receipt"]),
                "{when}: the provider lost a receipt that it sent"
            );
        }
    }
    for (request, row) in &sold {
        if row["countersigned"] == true || row["dispute"].is_string() {
            let verdict = |row: &Value| {
                (
                    row["receipt"].clone(),
                    row["countersigned"].clone(),
                    row["dispute"].clone(),
                )
            };
            let theirs = bought.get(request).map(|row| verdict(row));
            assert_eq!(
                theirs,
                Some(verdict(row)),
                "{when}: the buyer lost a verdict that it sent"
            );
        }
    }
}

/// Asks until there is an answer.
async fn answered(client: &Client, gateway: &Process, when: &str) {
    let mut last = String::new();
    let asking = async {
        loop {
            let answer = client.chat(gateway, "scripted", true).await.unwrap();
            if answer.status == 200 && answer.body.contains("[DONE]") {
                return;
            }
            last = answer.body;
        }
    };
    if tokio::time::timeout(PATIENCE, asking).await.is_err() {
        panic!("{when}: no answer, but {last}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_ledgers_survive_kills_at_random_moments() {
    let mut chance = chance();
    let homes: [NodeHome; 3] = Default::default();
    let [_, provider_home, buyer_home] = &homes;
    let hub = Process::bootstrap(&homes[0]).await;
    let script = Script {
        reply: Reply::Words(120),
        token_ms: 1,
        ..Script::default()
    };
    let engine = Engine::start(script).await;
    let mut provider = Process::provider(provider_home, hub.address(), engine.address()).await;
    let mut gateway = Process::gateway(buyer_home, hub.address()).await;
    let client = Client::default();
    answered(&client, &gateway, "at first").await;
    let mut struck = BTreeSet::new();
    for round in 0..rounds() {
        let mut consumers = JoinSet::new();
        for _ in 0..CONSUMERS {
            consumers.spawn(consume(client.clone(), gateway.url(CHAT), chance.random()));
        }
        engine.until("work is under way", |counts| counts.running > 0).await;
        let strike = engine.scripted.counts().tokens + chance.random_range(0..STRIKE_WITHIN_TOKENS);
        engine.until("the moment", |counts| counts.tokens >= strike).await;
        let (buyer_dies, provider_dies) = [(true, false), (false, true), (true, true)][chance.random_range(0..3)];
        let mut when = format!("round {round}");
        if buyer_dies {
            gateway.kill().await;
            when += ", buyer killed, its index ";
            when += damage(&buyer_home.index(), &mut chance);
        }
        if provider_dies {
            provider.kill().await;
            when += ", provider killed, its index ";
            when += damage(&provider_home.index(), &mut chance);
        }
        struck.insert((buyer_dies, provider_dies));
        println!("{when}");
        consumers.shutdown().await;
        let bought = match buyer_dies {
            true => rows_of_the_dead(buyer_home, "buyer").await,
            false => buyer_home.rows("buyer").await,
        };
        let sold = match provider_dies {
            true => rows_of_the_dead(provider_home, "provider").await,
            false => provider_home.rows("provider").await,
        };
        // Whoever lives was read after the other had died; of two that live on, what is on its way is not compared.
        nothing_acknowledged_is_lost(&bought, &sold, &when);
        if provider_dies {
            damage(&provider_home.index(), &mut chance);
            provider = Process::provider(provider_home, hub.address(), engine.address()).await;
        }
        if buyer_dies {
            damage(&buyer_home.index(), &mut chance);
            gateway = Process::gateway(buyer_home, hub.address()).await;
        }
        answered(&client, &gateway, &when).await;
        let rows = even(buyer_home, provider_home).await;
        let receipted = |row: &&Value| row["receipt"].is_string();
        assert!(
            rows.len() >= bought.iter().filter(receipted).count(),
            "{when}: receipts are gone"
        );
    }
    assert!(rounds() < 20 || struck.len() == 3, "somebody was never struck");
}

/// A request that reached the engine reaches it never again, however often the provider dies and its lease is shown.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_was_used_is_used_up_after_every_restart() {
    let mut chance = chance();
    let homes: [NodeHome; 2] = Default::default();
    let hub = Process::bootstrap(&homes[0]).await;
    // It never ends by itself, so that every request is lost.
    let script = Script {
        reply: Reply::Words(1_000_000),
        token_ms: 5,
        ..Script::default()
    };
    let engine = Engine::start(script).await;
    let mut provider = Process::provider(&homes[1], hub.address(), engine.address()).await;
    let raw = Raw::start(90, &[hub.address().parse().unwrap()], Buyer).await;
    for round in 0..rounds() {
        let before = engine.scripted.counts().started;
        let papers = raw.papers(&provider).await;
        let (_, request) = raw.request();
        let frames = [vec![start(&papers)], request].concat();
        for life in 0..3 {
            let mut line = raw.open(&provider).await;
            line.say(&frames).await;
            let answer = async {
                while let Some(frame) = line.hear().await {
                    if matches!(frame, WorkerFrame::Fail(_)) {
                        return;
                    }
                }
            };
            let strike = Duration::from_millis(chance.random_range(0..STRIKE_WITHIN_MS));
            let _ = tokio::time::timeout(strike, answer).await;
            provider.kill().await;
            damage(&homes[1].index(), &mut chance);
            provider = Process::provider(&homes[1], hub.address(), engine.address()).await;
            let ran = engine.scripted.counts().started - before;
            assert!(ran <= 1, "round {round}, life {life}: the request ran {ran} times");
        }
        // Its account, by which the provider writes the request off.
        let mut line = raw.open(&provider).await;
        let account = Reconcile {
            lease: papers.accept.lease,
            held: 0,
            hash: papers.accept.hash(),
            open: List::default(),
        };
        line.say(&[BuyerFrame::from(account).to_bytes()]).await;
        let told = soon("the provider's account", line.hear()).await;
        assert!(matches!(told, Some(WorkerFrame::Reconcile(theirs)) if theirs.open.is_empty()));
    }
    assert!(engine.scripted.counts().started > 0);
}

//! Ring `processes`: the real programs, killed at bad moments.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(
    clippy::disallowed_methods,
    reason = "the ring `soak` says in the environment how long it is"
)]
#![expect(clippy::print_stdout, reason = "what was struck is there to be read")]

mod batches;
mod chat;
mod failover;
mod joining;
mod kills;
mod load;
#[path = "../../../plugins/inference/tests/replay/mod.rs"]
mod replay;

use std::fs;

use infernet_inference::ScriptedBackend;
use infernet_inference::scripted::{Counts, Fault, Reply, Script};
use infernet_tests::processes::{Client, NodeHome, PATIENCE, Process, soon};
use serde_json::Value;

/// Answers are cut into pieces of this many bytes by the engine's server.
const CUT: usize = 4096;

/// An engine that a test commands, behind a server that other processes reach.
struct Engine {
    scripted: ScriptedBackend,
    server: replay::Server,
}

impl Engine {
    async fn start(script: Script) -> Self {
        let scripted = ScriptedBackend::new(script);
        let server = replay::engine(scripted.clone(), CUT).await;
        Self { scripted, server }
    }

    fn address(&self) -> Option<&str> {
        Some(&self.server.address)
    }

    async fn until(&self, what: &str, holds: impl FnMut(&Counts) -> bool) {
        let mut counts = self.scripted.observe();
        soon(what, counts.wait_for(holds)).await.unwrap();
    }
}

/// Waits until both sides tell the same of every request between them, and gives the rows.
async fn even(buyer: &NodeHome, provider: &NodeHome) -> Vec<Value> {
    even_with(buyer, provider, |_| true).await
}

/// The same, of those requests of the buyer that went to this provider.
async fn even_with(buyer: &NodeHome, provider: &NodeHome, is_its: impl Fn(&Value) -> bool) -> Vec<Value> {
    let told = |rows: &[Value]| {
        let facts = |row: &Value| {
            let mut row = row.clone();
            for name in ["role", "peer"] {
                row.as_object_mut().unwrap().remove(name);
            }
            row
        };
        rows.iter().map(facts).collect::<Vec<_>>()
    };
    let mut last = (Vec::new(), Vec::new());
    let evened = async {
        loop {
            last = (buyer.rows("buyer").await, provider.rows("provider").await);
            last.0.retain(&is_its);
            // Who was killed after it had signed for the last frames, and before they arrived, is answered with a dispute.
            let verdict = |row: &Value| row["countersigned"] == true || row["dispute"] == "commitment";
            let settled = |rows: &[Value]| rows.iter().all(verdict);
            if told(&last.0) == told(&last.1) && settled(&last.0) {
                return;
            }
        }
    };
    if tokio::time::timeout(PATIENCE, evened).await.is_err() {
        panic!("the ledgers differ:\n{:#?}\n{:#?}", last.0, last.1);
    }
    last.0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_answer_and_their_receipts_are_verified() {
    let homes: [NodeHome; 4] = Default::default();
    let hub = Process::bootstrap(&homes[0]).await;
    let one = Process::provider(&homes[1], hub.address(), None).await;
    let gateway = Process::gateway(&homes[3], hub.address()).await;
    let client = Client::default();

    let whole = client.chat(&gateway, "infernet-demo", false).await.unwrap();
    assert_eq!(whole.status, 200, "{}", whole.body);
    let document: Value = serde_json::from_str(&whole.body).unwrap();
    assert!(
        document["usage"]["completion_tokens"].as_u64().unwrap() > 0,
        "{document}"
    );
    assert!(
        !document["choices"][0]["message"]["content"]
            .as_str()
            .unwrap()
            .is_empty()
    );
    assert_eq!(whole.provider.as_deref(), Some(one.peer_id()));

    let streamed = client.chat(&gateway, "infernet-demo", true).await.unwrap();
    assert!(streamed.body.trim_end().ends_with("data: [DONE]"), "{}", streamed.body);
    assert!(streamed.body.matches("\"content\"").count() > 2, "it came in pieces");

    let models = client.get(gateway.url("/v1/models")).await;
    assert_eq!(models["data"][0]["id"], "infernet-demo", "{models}");

    let rows = even(&homes[3], &homes[1]).await;
    assert_eq!(rows.len(), 2);
    let listed = homes[3].infernet(&["--json", "receipts", "list"]).await;
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 2);

    let file = homes[3].path().join("deal");
    let file_name = file.to_str().unwrap();
    let job = rows[0]["job"].as_str().unwrap();
    assert!(
        homes[3]
            .infernet(&["receipts", "export", job, file_name])
            .await
            .status
            .success()
    );
    let verified = homes[2].infernet(&["--json", "receipts", "verify", file_name]).await;
    assert!(verified.status.success());
    let verified: Value = serde_json::from_slice(&verified.stdout).unwrap();
    assert_eq!(
        (&verified["valid"], &verified["settled"]),
        (&true.into(), &2.into()),
        "{verified}"
    );

    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, bytes).unwrap();
    let verified = homes[2].infernet(&["--json", "receipts", "verify", file_name]).await;
    assert_eq!(verified.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&verified.stdout).contains("fault"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_winner_killed_before_its_first_token_is_replaced_in_the_same_request() {
    let homes: [NodeHome; 4] = Default::default();
    let hub = Process::bootstrap(&homes[0]).await;
    let hung = Script {
        fault: Some(Fault::Silent),
        ..Script::default()
    };
    let engines = [Engine::start(hung.clone()).await, Engine::start(hung).await];
    let mut providers = [
        Process::provider(&homes[1], hub.address(), engines[0].address()).await,
        Process::provider(&homes[2], hub.address(), engines[1].address()).await,
    ];
    let gateway = Process::gateway(&homes[3], hub.address()).await;
    let client = Client::default();
    let begun = async |which: usize| {
        engines[which]
            .until("the engine is asked", |counts| counts.running > 0)
            .await
    };
    let kill = async {
        let winner = tokio::select! { () = begun(0) => 0, () = begun(1) => 1 };
        engines[1 - winner].scripted.follow(Script::default());
        providers[winner].kill().await;
        1 - winner
    };
    let (answer, survivor) = tokio::join!(client.chat(&gateway, "scripted", true), kill);
    let answer = answer.unwrap();
    assert!(answer.status == 200 && answer.body.contains("[DONE]"), "{answer:?}");
    assert_eq!(answer.provider.as_deref(), Some(providers[survivor].peer_id()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_started_late_buys_its_first_answer_at_once() {
    let homes: [NodeHome; 4] = Default::default();
    let hub = Process::bootstrap(&homes[0]).await;
    let engine = Engine::start(Script::default()).await;
    let _provider = Process::provider(&homes[1], hub.address(), engine.address()).await;
    let client = Client::default();
    for home in &homes[2..] {
        let gateway = Process::gateway(home, hub.address()).await;
        let first = client.chat(&gateway, "scripted", false).await.unwrap();
        assert_eq!(first.status, 200, "the very first request: {}", first.body);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_goes_away_stops_the_engine_and_leaves_a_receipt() {
    let homes: [NodeHome; 3] = Default::default();
    let hub = Process::bootstrap(&homes[0]).await;
    let slow = Script {
        reply: Reply::Words(100_000),
        token_ms: 5,
        ..Script::default()
    };
    let engine = Engine::start(slow).await;
    let _provider = Process::provider(&homes[1], hub.address(), engine.address()).await;
    let gateway = Process::gateway(&homes[2], hub.address()).await;
    let client = Client::default();
    let mut answer = client.begin(&gateway, "scripted", true, 100_000).await.unwrap();
    soon("bytes", answer.chunk()).await.unwrap().unwrap();
    drop(answer);
    drop(client);
    engine
        .until("the engine stops", |counts| {
            counts.cancelled == 1 && counts.running == 0
        })
        .await;
    let cancelled = soon("a receipt", async {
        loop {
            let rows = even(&homes[2], &homes[1]).await;
            if let [row] = &rows[..] {
                return row.clone();
            }
        }
    })
    .await;
    assert_eq!(cancelled["status"], "cancelled", "{cancelled}");
    assert!(
        cancelled["output_tokens"].as_u64().unwrap() > 0,
        "what was delivered is on it"
    );
}

/// Nobody says Cancel, and nobody comes back: the engine goes on for as long as somebody may.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_whose_consumer_died_ends_when_nobody_comes_back() {
    let homes: [NodeHome; 3] = Default::default();
    let hub = Process::bootstrap(&homes[0]).await;
    let slow = Script {
        reply: Reply::Words(100_000),
        token_ms: 5,
        ..Script::default()
    };
    let engine = Engine::start(slow).await;
    let _provider = Process::provider(&homes[1], hub.address(), engine.address()).await;
    let mut gateway = Process::gateway(&homes[2], hub.address()).await;
    let client = Client::default();
    let mut answer = client.begin(&gateway, "scripted", true, 100_000).await.unwrap();
    soon("bytes", answer.chunk()).await.unwrap().unwrap();
    gateway.kill().await;
    let struck = engine.scripted.counts();
    assert_eq!((struck.running, struck.cancelled), (1, 0));
    engine
        .until("the engine stops", |counts| {
            counts.cancelled == 1 && counts.running == 0
        })
        .await;
    assert!(
        engine.scripted.counts().tokens > struck.tokens,
        "it went on for a while"
    );
}

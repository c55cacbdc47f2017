//! A batch of embeddings that outlives two of its three providers and the gateway itself: every item once, in order.
//!
//! `INFERNET_BATCH_ITEMS=10000` makes it longer, as the ring `soak` does.

use std::fmt::Write as _;
use std::path::Path;

use infernet_tests::processes::{Client, NodeHome, Process, soon};
use serde_json::{Value, json};

use super::kills::from_environment;

/// Items of every run of the tests.
const ITEMS: u64 = 1_500;
/// A small BERT model with made-up weights.
const MODEL: &str = "../plugins/inference/engine/tests/fixtures/bert";
/// Slots of each provider.
const SLOTS: &str = "8";

fn text(number: u64) -> String {
    const WORDS: [&str; 7] = ["river", "stone", "small", "bird", "winter", "long", "green"];
    let word = |place: u64| WORDS[(number / 7_u64.pow(u32::try_from(place).unwrap()) % 7) as usize];
    (0..6).map(word).collect::<Vec<_>>().join(" ")
}

fn input(items: u64, model: &str) -> String {
    (0..items).fold(String::new(), |mut all, number| {
        let body = json!({ "model": model, "input": text(number) });
        let line =
            json!({ "custom_id": format!("item-{number}"), "method": "POST", "url": "/v1/embeddings", "body": body });
        writeln!(all, "{line}").unwrap();
        all
    })
}

/// The batch, once so many requests have ended; asked again while its gateway is away.
async fn until(client: &Client, gateway: &Process, id: &str, done: u64) -> Value {
    let looked = async {
        loop {
            let batch = client.get(gateway.url(&format!("/v1/batches/{id}"))).await;
            let counts = &batch["request_counts"];
            let ended = counts["completed"].as_u64().unwrap() + counts["failed"].as_u64().unwrap();
            let over = matches!(
                batch["status"].as_str(),
                Some("completed" | "failed" | "expired" | "cancelled")
            );
            if over || done > 0 && ended >= done {
                return batch;
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(600), looked)
        .await
        .expect("the batch goes on")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_outlives_providers_and_its_gateway() {
    let items = from_environment("INFERNET_BATCH_ITEMS").unwrap_or(ITEMS);
    let homes: [NodeHome; 5] = Default::default();
    let hub = Process::bootstrap(&homes[0]).await;
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join(MODEL);
    let mut providers = Vec::new();
    for home in &homes[1..4] {
        providers.push(Process::embedded(home, hub.address(), Some(&model), SLOTS).await);
    }
    let mut gateway = Process::gateway(&homes[4], hub.address()).await;
    let client = Client::default();
    let name = soon("a model is known", async {
        loop {
            let models = client.get(gateway.url("/v1/models")).await;
            if models["data"][0]["infernet"]["providers"] == 3 {
                return models["data"][0]["id"].as_str().unwrap().to_owned();
            }
        }
    })
    .await;
    let reference = client
        .post(
            &gateway.url("/v1/embeddings"),
            &json!({ "model": name, "input": text(7) }),
        )
        .await
        .unwrap();
    let reference: Value = reference.json().await.unwrap();
    assert!(
        reference["data"][0]["embedding"]
            .as_array()
            .is_some_and(|vector| vector.len() > 8),
        "{reference}"
    );

    let file = client.upload(&gateway, input(items, &name)).await;
    let wanted = json!({ "input_file_id": file, "endpoint": "/v1/embeddings", "completion_window": "24h" });
    let batch: Value = client
        .post(&gateway.url("/v1/batches"), &wanted)
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let id = batch["id"].as_str().unwrap().to_owned();
    until(&client, &gateway, &id, items / 5).await;
    providers[0].kill().await;
    until(&client, &gateway, &id, items * 2 / 5).await;
    gateway.kill().await;
    gateway = Process::gateway(&homes[4], hub.address()).await;
    let resumed = until(&client, &gateway, &id, items * 3 / 5).await;
    assert_ne!(resumed["status"], "completed", "it was struck in the middle");
    providers[1].kill().await;

    let batch = until(&client, &gateway, &id, 0).await;
    assert_eq!(
        batch["request_counts"],
        json!({ "total": items, "completed": items, "failed": 0 }),
        "{batch}"
    );
    let output = client
        .text(gateway.url(&format!(
            "/v1/files/{}/content",
            batch["output_file_id"].as_str().unwrap()
        )))
        .await;
    let mut lines = 0;
    for (number, line) in output.lines().enumerate() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["custom_id"], format!("item-{number}"), "each once, in order");
        let vector = &line["response"]["body"]["data"][0]["embedding"];
        assert!(vector.as_array().is_some_and(|vector| vector.len() > 8));
        if number == 7 {
            assert_eq!(vector, &reference["data"][0]["embedding"]);
        }
        lines += 1;
    }
    assert_eq!(lines, items);
    println!("{items} embeddings, every one once, past two providers and the gateway");
}

//! The OpenAI backend in front of a real llama.cpp server, at the address in `INFERNET_TEST_LLAMACPP`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::disallowed_methods, reason = "the ring names the server in the environment")]

use std::time::Duration;

use infernet_inference::BackendKind;
use infernet_inference::contract::{Idle, Subject, check};
use infernet_inference::detect::{Candidate, probe};
use serde_json::Value;

/// llama.cpp tells at `/slots` what runs.
struct Slots(reqwest::Client, String);

#[async_trait::async_trait]
impl Idle for Slots {
    async fn idle(&self) {
        loop {
            let slots = self
                .0
                .get(format!("{}/slots", self.1))
                .send()
                .await
                .unwrap()
                .bytes()
                .await
                .unwrap();
            let slots: Vec<Value> = serde_json::from_slice(&slots).unwrap();
            if slots.iter().all(|slot| slot["is_processing"] == false) {
                return;
            }
            // The server has no event to wait for.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test]
async fn a_real_server_keeps_the_contract() {
    let address = std::env::var("INFERNET_TEST_LLAMACPP").expect("INFERNET_TEST_LLAMACPP names a llama.cpp server");
    let candidate = Candidate {
        kind: BackendKind::OpenAi,
        address: address.clone(),
        api_key: None,
        named: true,
    };
    let detected = probe(&candidate).await.unwrap();
    assert_eq!(
        (detected.kind, detected.backend.name()),
        (BackendKind::LlamaCpp, "llamacpp")
    );
    let model = &detected.models[0];
    assert!(
        model.slots.is_some() && model.context.is_some() && model.quantisation.is_some(),
        "{model:?}"
    );
    assert!(
        !model.id.as_str().contains('/'),
        "a path of this machine is no model's name: {}",
        model.id
    );
    let engine = Slots(reqwest::Client::new(), address);
    check(Subject {
        backend: &*detected.backend,
        engine: &engine,
        counts: true,
    })
    .await
    .unwrap();
}

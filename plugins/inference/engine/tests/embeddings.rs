//! Vectors of small models against those that `fixtures/reference.py` computed, and what the embedder refuses.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use infernet_engine::{Embedder, EmbeddingModel, EmbeddingModelInfo, INPUTS_MAX, Refusal, Vectors};
use serde::Deserialize;

/// The engine computes in single precision, the reference in double.
const NEAR: f32 = 2e-6;

#[derive(Deserialize)]
struct Case {
    text: Option<String>,
    ids: Vec<u32>,
    vector: Vec<f32>,
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn cases(name: &str) -> Vec<Case> {
    let text = std::fs::read(folder("expected.json")).unwrap();
    let mut all: std::collections::HashMap<String, Vec<Case>> = serde_json::from_slice(&text).unwrap();
    all.remove(name).unwrap()
}

fn embedder(name: &str, slots: usize) -> Embedder {
    Embedder::start(EmbeddingModel::open(&folder(name)).unwrap(), slots).unwrap()
}

fn embed(embedder: &Embedder, inputs: Vec<Vec<u32>>) -> Vectors {
    embedder.embed(inputs).unwrap().blocking_vectors().unwrap().unwrap()
}

fn assert_near(found: &[f32], expected: &[f32], of: &str) {
    let most = found
        .iter()
        .zip(expected)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max);
    assert!(found.len() == expected.len() && most < NEAR, "{of}: off by {most}");
}

#[test]
fn vectors_are_those_of_the_reference() {
    for name in ["bert", "roberta", "distilbert"] {
        let embedder = embedder(name, 1);
        let cases = cases(name);
        assert_eq!(cases.len(), 9);
        for case in &cases {
            if let Some(text) = &case.text {
                assert_eq!(embedder.model().tokenize(text).unwrap(), case.ids, "{name}: {text}");
            }
            let alone = embed(&embedder, vec![case.ids.clone()]);
            assert_near(&alone[0], &case.vector, name);
        }
        let together = embed(&embedder, cases.iter().map(|case| case.ids.clone()).collect());
        for (found, case) in together.iter().zip(&cases) {
            assert_near(found, &case.vector, name);
        }
    }
}

#[test]
fn a_model_says_what_it_is() {
    let info = |name: &str| EmbeddingModelInfo::read(&folder(name)).unwrap();
    let bert = info("bert");
    assert_eq!((bert.name.as_str(), bert.architecture.as_str()), ("bert", "bert"));
    assert_eq!(
        (bert.dimensions, bert.context_length, bert.quantisation.as_str()),
        (32, 48, "F32"),
        "the model was tuned for less than it has positions for"
    );
    let (roberta, distilbert) = (info("roberta"), info("distilbert"));
    assert_eq!(
        (roberta.context_length, roberta.quantisation.as_str()),
        (40, "F16"),
        "positions begin after the padding token"
    );
    assert_eq!(
        (distilbert.context_length, distilbert.quantisation.as_str()),
        (40, "BF16")
    );
    assert_ne!(bert.weights_digest, roberta.weights_digest);
    let open = EmbeddingModel::open(&folder("bert/model.safetensors")).unwrap();
    assert_eq!(*open.info(), bert, "the file stands for its folder");
}

#[test]
fn what_cannot_be_embedded_is_refused() {
    let embedder = embedder("bert", 1);
    let refusal = |inputs| embedder.embed(inputs).unwrap_err();
    assert_eq!(refusal(vec![]), Refusal::InputCount { found: 0 });
    let found = INPUTS_MAX + 1;
    assert_eq!(refusal(vec![vec![5]; found]), Refusal::InputCount { found });
    assert_eq!(refusal(vec![vec![5], vec![]]), Refusal::EmptyInput { index: 1 });
    let (index, tokens, context) = (1, 49, 48);
    assert_eq!(
        refusal(vec![vec![5; 48], vec![5; 49]]),
        Refusal::InputTooLong { index, tokens, context }
    );
    let last = embedder.model().info().vocabulary as u32 - 1;
    assert_eq!(
        refusal(vec![vec![last + 1]]),
        Refusal::UnknownToken { id: last + 1, last }
    );
    assert_eq!(embedder.in_flight(), 0);
    assert_eq!(embed(&embedder, vec![vec![last; 48]]).len(), 1);
}

#[test]
fn slots_and_queue_are_all_there_is_and_a_dropped_request_gives_its_place_back() {
    let embedder = embedder("bert", 1);
    let long = || vec![vec![5; 48]; INPUTS_MAX];
    let held = [embedder.embed(long()).unwrap(), embedder.embed(long()).unwrap()];
    assert_eq!(embedder.embed(vec![vec![5]]).unwrap_err(), Refusal::Busy { slots: 1 });
    drop(held);
    // What would take minutes is over as soon as the thread has looked; it has no event for its own rest.
    while embedder.in_flight() > 0 {
        std::thread::yield_now();
    }
    assert_eq!(embed(&embedder, vec![vec![5]]).len(), 1);
    let waiting = embedder.embed(long()).unwrap();
    drop(embedder);
    assert_eq!(waiting.blocking_vectors(), None, "the embedder is gone");
}

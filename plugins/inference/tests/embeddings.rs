//! The embedded engine with a model that embeds.

#![cfg(feature = "embedded")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use bytes::Bytes;
use infernet_inference::embedded::{Description, describe};
use infernet_inference::{Backend, BackendError, EmbeddedBackend, Endpoint, Job, Piece};
use infernet_protocol::ModelId;
use infernet_protocol::capability::Features;
use serde_json::{Value, json};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/engine/tests/fixtures/bert");
const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/demo-model/infernet-demo.gguf");

fn backend() -> EmbeddedBackend {
    EmbeddedBackend::open(FOLDER.as_ref(), 2).unwrap()
}

fn job(body: Value) -> Job {
    let mut body = body;
    body["model"] = "bert".into();
    Job {
        endpoint: Endpoint::Embeddings,
        model: "bert".into(),
        id: ModelId::new("network/bert").unwrap(),
        body: Bytes::from(body.to_string()),
        max_output: None,
        resume: None,
    }
}

async fn document(backend: &EmbeddedBackend, body: Value) -> Value {
    let mut answer = backend.run(job(body)).await.unwrap();
    let mut bytes = Vec::new();
    while let Some(piece) = answer.next().await {
        if let Piece::Data { bytes: more, .. } = piece.unwrap() {
            bytes.extend_from_slice(&more);
        }
    }
    serde_json::from_slice(&bytes).unwrap()
}

async fn refusal(backend: &EmbeddedBackend, body: Value) -> (u16, Value) {
    match backend.run(job(body)).await {
        Err(BackendError::Refused { status, body }) => {
            let error: Value = serde_json::from_slice(&body).unwrap();
            (status, error["error"].clone())
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_vectors_are_those_of_the_reference_and_tokens_are_counted() {
    let expected = std::fs::read(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/engine/tests/fixtures/expected.json"
    ))
    .unwrap();
    let expected: Value = serde_json::from_slice(&expected).unwrap();
    let cases = &expected["bert"].as_array().unwrap()[..7];
    let texts: Vec<&Value> = cases.iter().map(|case| &case["text"]).collect();
    let told = document(&backend(), json!({ "input": texts, "user": "u", "dimensions": 32 })).await;
    assert_eq!(told["model"], "network/bert");
    let tokens: usize = cases.iter().map(|case| case["ids"].as_array().unwrap().len()).sum();
    assert_eq!(
        told["usage"],
        json!({ "prompt_tokens": tokens, "total_tokens": tokens })
    );
    let numbers = |value: &Value| serde_json::from_value::<Vec<f32>>(value.clone()).unwrap();
    for (case, entry) in cases.iter().zip(told["data"].as_array().unwrap()) {
        let (found, expected) = (numbers(&entry["embedding"]), numbers(&case["vector"]));
        assert_eq!(found.len(), 32);
        assert!(
            found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 2e-6),
            "{}",
            case["text"]
        );
    }
}

#[tokio::test]
async fn an_answer_of_many_pieces_is_one_document() {
    let told = document(&backend(), json!({ "input": vec!["a fox"; 1_000] })).await;
    let data = told["data"].as_array().unwrap();
    assert_eq!(data.len(), 1_000);
    assert!(data.iter().enumerate().all(|(index, entry)| entry["index"] == index));
    assert_eq!(told["usage"]["total_tokens"], 4_000);
}

#[tokio::test]
async fn what_cannot_be_embedded_is_refused_in_openais_words() {
    let backend = backend();
    let (status, error) = refusal(&backend, json!({ "input": ["a", "fox ".repeat(60)] })).await;
    assert_eq!(
        (status, &error["code"], &error["param"], &error["type"]),
        (
            400,
            &json!("context_length_exceeded"),
            &json!("input"),
            &json!("invalid_request_error")
        )
    );
    let message = error["message"].as_str().unwrap();
    assert!(
        message.contains("`1`") && message.contains("`62`") && message.contains("`48`"),
        "{message}"
    );
    let (status, error) = refusal(&backend, json!({ "input": "fox ".repeat(50_000) })).await;
    assert_eq!((status, &error["code"]), (400, &json!("context_length_exceeded")));
    for (body, param) in [
        (json!({ "input": "" }), "input"),
        (json!({ "input": ["a", ""] }), "input"),
        (json!({ "input": [] }), "input"),
        (json!({ "input": [[1], []] }), "input"),
        (json!({ "input": [[1_000_000]] }), "input"),
        (json!({ "input": [1.5] }), "input"),
        (json!({ "input": vec!["a"; 2_049] }), "input"),
        (json!({ "input": "a", "dimensions": 16 }), "dimensions"),
        (json!({ "input": "a", "dimensions": "32" }), "dimensions"),
        (json!({ "input": "a", "encoding_format": "hex" }), "encoding_format"),
        (json!({ "input": "a", "encoding_format": 7 }), "encoding_format"),
        (json!({ "input": "a", "stream": true }), "stream"),
        (json!({ "input": "a", "made_up": 1 }), "made_up"),
    ] {
        let (status, error) = refusal(&backend, body.clone()).await;
        assert_eq!((status, error["param"].as_str()), (400, Some(param)), "{body}");
    }
    assert_eq!(backend.in_flight(), 0);
}

#[tokio::test]
async fn a_folder_serves_embeddings_alone_and_a_file_none() {
    let embeds = backend();
    let models = embeds.models().await.unwrap();
    assert_eq!(models.len(), 1);
    let model = &models[0];
    assert_eq!(
        (
            model.features,
            model.context,
            model.id.as_str(),
            model.quantisation.as_deref()
        ),
        (Features::EMBEDDINGS, Some(48), "bert", Some("f32"))
    );
    let Description::Embedder(info) = describe(FOLDER.as_ref()).unwrap() else {
        panic!("a folder holds an embedding model");
    };
    assert_eq!(model.digest, Some(info.weights_digest));
    let Description::Generator(info) = describe(DEMO.as_ref()).unwrap() else {
        panic!("a GGUF file holds a model that generates");
    };
    let demo = EmbeddedBackend::open(DEMO.as_ref(), 1).unwrap();
    assert_eq!(demo.model().digest, Some(info.weights_digest));

    let chat = Job {
        endpoint: Endpoint::ChatCompletions,
        body: Bytes::from_static(br#"{"model":"bert","messages":[{"role":"user","content":"a"}]}"#),
        ..job(json!({}))
    };
    let refused = embeds.run(chat).await;
    assert!(
        matches!(refused, Err(BackendError::Unsupported("/v1/chat/completions"))),
        "{refused:?}"
    );
    let model = demo.model().name.clone();
    let embeddings = Job {
        model,
        ..job(json!({ "input": "a" }))
    };
    let refused = demo.run(embeddings).await;
    assert!(
        matches!(refused, Err(BackendError::Refused { status: 400, .. })),
        "{refused:?}"
    );
}

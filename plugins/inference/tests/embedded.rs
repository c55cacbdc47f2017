//! The embedded engine with the model that comes with it.

#![cfg(feature = "embedded")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use bytes::Bytes;
use infernet_inference::embedded::DEMO_MODEL;
use infernet_inference::{Backend, BackendError, Continuation, EmbeddedBackend, Endpoint, Job, Piece, Usage};
use infernet_protocol::ModelId;
use serde_json::Value;

fn job(endpoint: Endpoint, rest: &str) -> Job {
    Job {
        endpoint,
        model: DEMO_MODEL.into(),
        id: ModelId::new(DEMO_MODEL).unwrap(),
        body: Bytes::from(format!(r#"{{"model":"infernet-demo",{rest}}}"#)),
        max_output: None,
        resume: None,
    }
}

fn chat(rest: &str) -> Job {
    job(
        Endpoint::ChatCompletions,
        &format!(r#""messages":[{{"role":"user","content":"Tell me a story about a fox."}}]{rest}"#),
    )
}

struct Told {
    bytes: Vec<u8>,
    ids: Vec<u32>,
    usage: Usage,
}

impl Told {
    fn text(&self) -> String {
        let document: Value = serde_json::from_slice(&self.bytes).unwrap();
        let choice = &document["choices"][0];
        choice["message"]["content"]
            .as_str()
            .or(choice["text"].as_str())
            .unwrap()
            .to_owned()
    }
}

async fn tell(backend: &EmbeddedBackend, job: Job) -> Told {
    let mut answer = backend.run(job).await.unwrap();
    let mut told = Told {
        bytes: Vec::new(),
        ids: Vec::new(),
        usage: Usage::default(),
    };
    while let Some(piece) = answer.next().await {
        match piece.unwrap() {
            Piece::Data { bytes, tokens } => {
                told.bytes.extend_from_slice(&bytes);
                told.ids.extend(tokens.unwrap());
            }
            Piece::Usage(usage) => told.usage = usage,
        }
    }
    told
}

async fn refusal(backend: &EmbeddedBackend, job: Job) -> (u16, Value) {
    match backend.run(job).await {
        Err(BackendError::Refused { status, body }) => (status, serde_json::from_slice(&body).unwrap()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn it_answers_and_counts_its_tokens() {
    let backend = EmbeddedBackend::demo(2).unwrap();
    let model = backend.model();
    assert!(
        model.digest.is_some() && model.quantisation.as_deref() == Some("q8_0"),
        "{model:?}"
    );
    let told = tell(&backend, chat(r#","temperature":0,"max_tokens":60"#)).await;
    assert!(!told.text().is_empty());
    assert_eq!(told.usage.output_tokens as usize, told.ids.len());
    assert!(told.usage.input_tokens > 5);
}

#[tokio::test]
async fn a_story_goes_on_from_its_token_ids_as_if_nothing_had_happened() {
    let backend = EmbeddedBackend::demo(2).unwrap();
    for sampling in [
        r#","temperature":0,"max_tokens":40"#,
        r#","temperature":0.9,"seed":7,"max_tokens":40"#,
    ] {
        let whole = tell(&backend, chat(sampling)).await;
        let (first, rest) = whole.ids.split_at(15);
        let resume = Some(Continuation::Tokens(first.to_vec()));
        let resumed = tell(
            &backend,
            Job {
                resume,
                max_output: Some(rest.len() as u32),
                ..chat(sampling)
            },
        )
        .await;
        assert_eq!(resumed.ids, rest, "{sampling}");
        assert!(whole.text().ends_with(&resumed.text()));
    }
}

#[tokio::test]
async fn completions_take_text_and_token_ids() {
    let backend = EmbeddedBackend::demo(2).unwrap();
    let prompt = |prompt: &str| {
        job(
            Endpoint::Completions,
            &format!(r#""prompt":{prompt},"temperature":0,"max_tokens":8"#),
        )
    };
    let by_text = tell(&backend, prompt(r#""Once upon a time""#)).await;
    assert_eq!(by_text.usage.output_tokens, 8);
    assert_eq!(
        tell(&backend, prompt(r#"["Once upon a time"]"#)).await.text(),
        by_text.text()
    );
    assert_eq!(tell(&backend, prompt("[5,6,7]")).await.usage.input_tokens, 3);
    assert_eq!(tell(&backend, prompt("[[5,6,7,8]]")).await.usage.input_tokens, 4);
    let stop = by_text.text().chars().skip(5).take(3).collect::<String>();
    let stopped = job(
        Endpoint::Completions,
        &format!(
            r#""prompt":"Once upon a time","temperature":0,"max_tokens":8,"stop":[{}]"#,
            Value::from(stop.clone())
        ),
    );
    assert!(!tell(&backend, stopped).await.text().contains(&stop));
}

#[tokio::test]
async fn what_it_would_have_to_ignore_is_refused_by_name() {
    let backend = EmbeddedBackend::demo(1).unwrap();
    for (field, param) in [
        (r#","tools":[{"type":"function","function":{"name":"f"}}]"#, "tools"),
        (r#","response_format":{"type":"json_object"}"#, "response_format"),
        (r#","logprobs":true"#, "logprobs"),
        (r#","n":2"#, "n"),
        (r#","logit_bias":{"1":5}"#, "logit_bias"),
        (r#","min_p":0.1"#, "min_p"),
        (r#","made_up":1"#, "made_up"),
        (r#","temperature":-1"#, "temperature"),
        (r#","top_p":0"#, "top_p"),
        (r#","seed":"x""#, "seed"),
    ] {
        let (status, error) = refusal(&backend, chat(field)).await;
        assert_eq!(
            (status, error["error"]["param"].as_str()),
            (400, Some(param)),
            "{field}"
        );
    }
    let accepted = r#","tools":[],"response_format":{"type":"text"},"logprobs":false,"user":"u","n":1,"min_p":0,"max_tokens":1,"top_k":-1,"stop":"""#;
    assert_eq!(tell(&backend, chat(accepted)).await.usage.output_tokens, 1);
}

#[tokio::test]
async fn prompts_beyond_the_context_are_refused_as_such() {
    let backend = EmbeddedBackend::demo(1).unwrap();
    for words in [2_000, 50_000] {
        let content = Value::from("fox ".repeat(words));
        let (status, error) = refusal(
            &backend,
            job(
                Endpoint::ChatCompletions,
                &format!(r#""messages":[{{"role":"user","content":{content}}}]"#),
            ),
        )
        .await;
        assert_eq!(
            (status, error["error"]["code"].as_str()),
            (400, Some("context_length_exceeded"))
        );
    }
    assert_eq!(backend.in_flight(), 0);
}

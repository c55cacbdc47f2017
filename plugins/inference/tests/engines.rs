//! The OpenAI backend against the wire shapes of each engine. `engines/` has a file for each: its list of models, its
//! other routes, an answer in both forms, an error in the middle of one, and its refusals, with where they are from.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod replay;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use infernet_inference::detect::{Candidate, Detected, probe};
use infernet_inference::{Backend, BackendError, BackendKind, Endpoint, Job, Model, Piece, Usage, Watch};
use infernet_protocol::capability::Features;
use replay::{Reply, Server};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Engine {
    /// Where its shapes are from.
    source: Vec<String>,
    models: Value,
    #[serde(default)]
    routes: Vec<Route>,
    /// Whose usual port it has, where it is not told by what it answers alone.
    #[serde(default)]
    port_of: Option<String>,
    kind: String,
    model: Described,
    stream: Vec<Value>,
    whole: Value,
    answer: Counted,
    #[serde(default)]
    late_error: Option<Value>,
    errors: Vec<Refusal>,
}

#[derive(Debug, Deserialize)]
struct Route {
    path: String,
    body: Value,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Described {
    id: String,
    context: Option<u32>,
    #[serde(default)]
    slots: Option<u16>,
    #[serde(default)]
    quantisation: Option<String>,
    features: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Counted {
    text_bytes: u64,
    input_tokens: u32,
    output_tokens: u32,
}

#[derive(Debug, Deserialize)]
struct Refusal {
    status: u16,
    outcome: String,
    body: Value,
}

/// What the server says to a request for an answer.
#[derive(Clone, Debug)]
enum Says {
    Answers,
    Breaks,
    Refuses(usize),
}

fn engines() -> Vec<(String, Arc<Engine>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/engines");
    let read = |path: std::path::PathBuf| {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let engine = serde_json::from_slice(&std::fs::read(&path).unwrap());
        (
            name.clone(),
            Arc::new(engine.unwrap_or_else(|error| panic!("{name}: {error}"))),
        )
    };
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| read(entry.unwrap().path())).collect()
}

async fn answer(engine: &Engine, says: &Says, path: &str, body: &[u8], reply: &mut Reply) {
    if path == "/v1/models" {
        return reply.json(200, &engine.models.to_string()).await;
    }
    if let Some(route) = engine.routes.iter().find(|route| route.path == path) {
        return reply.json(200, &route.body.to_string()).await;
    }
    let asked: Value = serde_json::from_slice(body).unwrap_or_default();
    // What only trials ask for is nothing that these engines can do.
    let is_trial = asked["max_tokens"] == 1 || path == "/v1/embeddings";
    if path != "/v1/chat/completions" || is_trial {
        return reply.json(if is_trial { 400 } else { 404 }, "{}").await;
    }
    match says {
        Says::Refuses(which) => {
            let refusal = &engine.errors[*which];
            reply.json(refusal.status, &refusal.body.to_string()).await;
        }
        Says::Answers if asked["stream"] != true => reply.json(200, &engine.whole.to_string()).await,
        Says::Answers | Says::Breaks => {
            reply.head("text/event-stream; charset=utf-8").await;
            let breaks = matches!(says, Says::Breaks);
            let told = engine.stream.iter().take(if breaks { 2 } else { usize::MAX });
            for event in told.chain(engine.late_error.iter().filter(|_| breaks)) {
                reply.chunk(format!("data: {event}\n\n").as_bytes()).await;
            }
            reply.chunk(b"data: [DONE]\n\n").await;
            reply.end().await;
        }
    }
}

async fn serve(engine: &Arc<Engine>, says: Says) -> (Server, Detected) {
    let (serving, kind) = (engine.clone(), engine.port_of.as_deref().unwrap_or("openai"));
    let server = Server::start(move |request, mut reply| {
        let (engine, says) = (serving.clone(), says.clone());
        Box::pin(async move {
            answer(&engine, &says, &request.path, &request.body, &mut reply).await;
            reply
        })
    })
    .await;
    let candidate = Candidate {
        kind: kind.parse().unwrap(),
        address: server.address.clone(),
        api_key: None,
        named: true,
    };
    let detected = probe(&candidate).await.unwrap();
    (server, detected)
}

fn job(model: &Model, stream: bool) -> Job {
    let body =
        json!({ "model": model.id.as_str(), "stream": stream, "messages": [{ "role": "user", "content": "Hi" }] });
    Job {
        endpoint: Endpoint::ChatCompletions,
        model: model.name.clone(),
        id: model.id.clone(),
        body: body.to_string().into(),
        max_output: None,
        resume: None,
    }
}

/// Takes an answer to its end, as a worker does.
async fn take(backend: &dyn Backend, job: Job) -> (Watch, Usage, Bytes, Option<BackendError>) {
    let mut answer = backend.run(job).await.unwrap();
    let (mut watch, mut usage, mut text) = (Watch::new(answer.content_type), Usage::default(), Vec::new());
    while let Some(piece) = answer.next().await {
        match piece {
            Ok(Piece::Data { bytes, .. }) => {
                watch.push(&bytes).unwrap();
                text.extend_from_slice(&bytes);
            }
            Ok(Piece::Usage(told)) => usage = told,
            Err(error) => return (watch, usage, text.into(), Some(error)),
        }
    }
    (watch, usage, text.into(), None)
}

fn features(names: &[String]) -> Features {
    let one = |name: &String| {
        let known = Features::NAMES.iter().find(|(known, _)| known == name);
        known.unwrap_or_else(|| panic!("{name}")).1
    };
    names.iter().map(one).fold(Features::default(), Features::with)
}

#[tokio::test]
async fn engines_are_told_apart_and_described() {
    for (name, engine) in engines() {
        assert!(!engine.source.is_empty(), "{name}");
        let (_server, detected) = serve(&engine, Says::Answers).await;
        assert_eq!(
            (detected.kind.as_str(), detected.backend.name()),
            (engine.kind.as_str(), engine.kind.as_str()),
            "{name}"
        );
        let (model, expected) = (&detected.models[0], &engine.model);
        assert_eq!(
            (model.id.as_str(), model.context),
            (expected.id.as_str(), expected.context),
            "{name}"
        );
        assert_eq!(
            (&model.quantisation, model.slots),
            (&expected.quantisation, expected.slots),
            "{name}"
        );
        assert_eq!(model.features, features(&expected.features), "{name}");
    }
}

#[tokio::test]
async fn their_answers_pass_and_are_counted() {
    for (name, engine) in engines() {
        let (_server, Detected { backend, models, .. }) = serve(&engine, Says::Answers).await;
        for stream in [true, false] {
            let (watch, usage, text, error) = take(&*backend, job(&models[0], stream)).await;
            assert!(error.is_none(), "{name}");
            let seen = watch.end();
            assert!(seen.done && !seen.failed, "{name}");
            assert_eq!(seen.text_bytes, engine.answer.text_bytes, "{name}");
            assert_eq!(
                (usage.input_tokens, usage.output_tokens),
                (engine.answer.input_tokens, engine.answer.output_tokens),
                "{name}"
            );
            let text = std::str::from_utf8(&text).unwrap();
            assert!(
                text.contains(&format!("\"{}\"", models[0].id)),
                "{name}: the network's name is told: {text}"
            );
            assert!(
                !stream || !text.contains("prompt_tokens"),
                "{name}: nobody asked for usage"
            );
        }
    }
}

#[tokio::test]
async fn an_error_in_the_middle_is_one() {
    let engines = engines().into_iter().filter(|(_, engine)| engine.late_error.is_some());
    let mut count = 0;
    for (name, engine) in engines {
        let (_server, Detected { backend, models, .. }) = serve(&engine, Says::Breaks).await;
        let (_, _, _, error) = take(&*backend, job(&models[0], true)).await;
        match error {
            Some(BackendError::Failed { body }) => {
                let told: Value = serde_json::from_slice(&body).unwrap();
                assert!(told["error"]["message"].is_string(), "{name}: {told}");
            }
            other => panic!("{name}: {other:?}"),
        }
        count += 1;
    }
    assert!(count >= 5);
}

#[tokio::test]
async fn refusals_keep_their_meaning_and_their_words() {
    for (name, engine) in engines() {
        for (which, refusal) in engine.errors.iter().enumerate() {
            let (_server, Detected { backend, models, .. }) = serve(&engine, Says::Refuses(which)).await;
            let error = backend.run(job(&models[0], true)).await.unwrap_err();
            let place = format!("{name}: {refusal:?}: {error:?}");
            match (refusal.outcome.as_str(), &error) {
                ("busy", BackendError::Busy { .. }) => assert!(error.is_retryable(), "{place}"),
                ("unauthorised", BackendError::Unauthorised { .. }) | ("gone", BackendError::Gone) => {
                    assert!(error.is_retryable(), "{place}");
                }
                ("refused", BackendError::Refused { status, body }) => {
                    assert_eq!(*status, refusal.status, "{place}");
                    assert_eq!(error.is_retryable(), *status >= 500, "{place}");
                    assert_words(body, &refusal.body, &place);
                }
                ("broken", BackendError::Refused { status: 500..600, body }) => {
                    assert!(error.is_retryable(), "{place}");
                    assert_words(body, &refusal.body, &place);
                }
                _ => panic!("{place}"),
            }
        }
    }
}

fn assert_words(told: &[u8], engine: &Value, place: &str) {
    let told: Value = serde_json::from_slice(told).unwrap();
    let places = [
        &engine["error"]["message"],
        &engine["error"],
        &engine["message"],
        &engine["detail"],
    ];
    let words = places.into_iter().find_map(Value::as_str).unwrap();
    assert_eq!(told["error"]["message"], words, "{place}");
}

/// A server that loads models as they are asked for, with one loaded and one at rest.
async fn loads_models(list: Value, routes: Vec<(&'static str, Value)>) -> (Server, Candidate) {
    let routes = Arc::new(routes);
    let server = Server::start(move |request, mut reply| {
        let (list, routes) = (list.to_string(), routes.clone());
        Box::pin(async move {
            match routes.iter().find(|(path, _)| *path == request.path) {
                Some((_, body)) => reply.json(200, &body.to_string()).await,
                None if request.path == "/v1/models" => reply.json(200, &list).await,
                None if request.path == "/v1/embeddings" => reply.json(501, "{}").await,
                None => reply.json(404, "{}").await,
            }
            reply
        })
    })
    .await;
    let candidate = Candidate {
        kind: BackendKind::LlamaCpp,
        address: server.address.clone(),
        api_key: None,
        named: true,
    };
    (server, candidate)
}

/// Nothing that names the model at rest was asked, and the loaded one was asked about once however often one looks.
async fn rests(server: &Server, candidate: &Candidate, path: &str) {
    let detected = probe(candidate).await.unwrap();
    let text = Features::CHAT.with(Features::COMPLETIONS);
    let by_name = |name: &str| detected.models.iter().find(|model| model.name == name).unwrap().clone();
    let (awake, asleep) = (by_name("awake"), by_name("asleep"));
    assert_eq!((awake.context, awake.slots), (Some(4096), Some(2)));
    assert!(awake.features.contains(text.with(Features::TOOLS)));
    assert!(asleep.context.is_none() && !asleep.features.contains(Features::TOOLS));
    assert!(asleep.features.contains(text), "it is sold all the same");
    let again = detected.backend.models().await.unwrap();
    assert!(
        again
            .iter()
            .any(|model| model.name == "awake" && model.context == Some(4096))
    );
    let seen = server.seen.borrow().clone();
    let asked = |text: &str| {
        let about = seen.requests.iter();
        about
            .filter(|request| {
                request.path.contains(text) || request.body.windows(text.len()).any(|part| part == text.as_bytes())
            })
            .count()
    };
    assert_eq!(asked("asleep"), 0);
    assert_eq!(seen.requests.iter().filter(|request| request.path == path).count(), 1);
    assert_eq!(asked("\"awake\""), 1, "one trial");
}

#[tokio::test]
async fn a_router_of_llamacpp_wakes_no_model_to_describe_it() {
    // Shape: github.com/ggml-org/llama.cpp, tools/server/README.md, "Using multiple models", "GET /models".
    let entry = |name, status| json!({ "id": name, "object": "model", "created": 1, "owned_by": "llamacpp", "in_cache": true, "status": { "value": status, "args": [] } });
    let list = json!({ "object": "list", "data": [entry("awake", "loaded"), entry("asleep", "unloaded")] });
    let props = json!({ "default_generation_settings": { "n_ctx": 4096 }, "total_slots": 2, "chat_template_caps": { "supports_tools": true } });
    let path = "/props?model=awake&autoload=false";
    let (server, candidate) = loads_models(list, vec![(path, props)]).await;
    rests(&server, &candidate, path).await;
}

#[tokio::test]
async fn llama_swap_is_not_made_to_swap_by_being_looked_at() {
    // Shapes: see engines/llamaswap.json.
    let entry = |name| json!({ "id": name, "object": "model", "created": 1, "owned_by": "llama-swap" });
    let list = json!({ "object": "list", "data": [entry("asleep"), entry("awake")] });
    let running = json!({ "running": [{ "model": "awake", "state": "ready" }] });
    let props = json!({ "default_generation_settings": { "n_ctx": 4096 }, "total_slots": 2, "chat_template_caps": { "supports_tools": true } });
    let path = "/upstream/awake/props";
    let (server, candidate) = loads_models(list, vec![(path, props), ("/running", running)]).await;
    rests(&server, &candidate, path).await;
}

#[tokio::test]
async fn behind_llama_swap_may_be_another_engine() {
    let list = json!({ "object": "list", "data": [{ "id": "org/big", "object": "model", "owned_by": "llama-swap" }] });
    let running = json!({ "running": [{ "model": "org/big", "state": "ready" }] });
    let behind = json!({ "object": "list", "data": [{ "id": "org/big", "owned_by": "vllm", "max_model_len": 8192 }] });
    let routes = vec![("/running", running), ("/upstream/org/big/v1/models", behind)];
    let (_server, candidate) = loads_models(list, routes).await;
    let model = probe(&candidate).await.unwrap().models.remove(0);
    assert_eq!(model.context, Some(8192));
    assert!(model.features.contains(Features::JSON_SCHEMA.with(Features::LOGPROBS)));
}

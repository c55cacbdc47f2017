//! Mid-stream failover: a provider is killed in the middle of a greedy answer of the embedded engine, and the consumer's
//! text is what one provider would have said. How long it had to wait for the next words is printed.

use std::time::{Duration, Instant};

use infernet_inference::scripted::Script;
use infernet_tests::processes::{CHAT, Client, NodeHome, Process, soon};
use serde_json::{Value, json};

use super::{Engine, even_with};

/// Most tokens of an answer: long enough to be struck in the middle.
const TOKENS: u32 = 400;
const QUESTIONS: [&str; 3] = [
    "Tell me a story about a fox.",
    "Tell me a story about a hedgehog.",
    "Tell me a long story about a bear.",
];

pub(super) fn greedy(question: &str) -> Value {
    json!({
        "model": "infernet-demo", "stream": true, "stream_options": { "include_usage": true },
        "temperature": 0, "max_tokens": TOKENS, "messages": [{ "role": "user", "content": question }],
    })
}

/// What a stream says: its text, the ids of its chunks, its last usage, and its comments.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Said {
    pub(super) text: String,
    pub(super) ids: Vec<String>,
    pub(super) usage: Value,
    pub(super) comments: Vec<String>,
    pub(super) finish: Vec<String>,
    pub(super) done: bool,
    pub(super) error: Value,
    /// The longest wait for a next piece.
    pub(super) pause: Duration,
}

pub(super) fn read(body: &str) -> Said {
    let mut said = Said::default();
    for event in body.split("\n\n").filter(|event| !event.is_empty()) {
        let Some(data) = event.strip_prefix("data: ") else {
            said.comments.push(event.to_owned());
            continue;
        };
        if data == "[DONE]" {
            said.done = true;
            continue;
        }
        let chunk: Value = serde_json::from_str(data).unwrap();
        if !chunk["error"].is_null() {
            said.error = chunk["error"].clone();
            continue;
        }
        let choice = &chunk["choices"][0];
        said.text
            .push_str(choice["delta"]["content"].as_str().unwrap_or_default());
        said.finish.extend(choice["finish_reason"].as_str().map(str::to_owned));
        let id = chunk["id"].as_str().unwrap().to_owned();
        if said.ids.last() != Some(&id) {
            said.ids.push(id);
        }
        if chunk["usage"].is_object() {
            said.usage = chunk["usage"].clone();
        }
    }
    said
}

/// Asks, and does something once the answer has begun.
async fn ask(client: &Client, gateway: &Process, question: &str, begun: impl AsyncFnOnce(&str)) -> Said {
    ask_for(client, gateway, &greedy(question), begun).await
}

async fn ask_for(client: &Client, gateway: &Process, wanted: &Value, begun: impl AsyncFnOnce(&str)) -> Said {
    let mut answer = client.post(&gateway.url(CHAT), wanted).await.unwrap();
    assert_eq!(answer.status(), 200);
    let provider = answer.headers()["x-infernet-provider"].to_str().unwrap().to_owned();
    let mut body = soon("the first bytes", answer.chunk()).await.unwrap().unwrap().to_vec();
    begun(&provider).await;
    let (mut last, mut pause) = (Instant::now(), Duration::ZERO);
    while let Some(bytes) = soon("more bytes", answer.chunk()).await.unwrap() {
        pause = pause.max(last.elapsed());
        last = Instant::now();
        body.extend_from_slice(&bytes);
    }
    Said {
        pause,
        ..read(std::str::from_utf8(&body).unwrap())
    }
}

/// Asks, and kills the provider that begins to answer; gives which it was.
async fn ask_and_strike(
    client: &Client,
    gateway: &Process,
    wanted: &Value,
    providers: &mut [Process],
) -> (Said, usize) {
    let mut struck = None;
    let said = ask_for(client, gateway, wanted, async |provider| {
        let which = providers.iter().position(|process| process.peer_id() == provider);
        let which = which.unwrap();
        providers[which].kill().await;
        struck = Some(which);
    })
    .await;
    (said, struck.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_provider_goes_on_with_the_very_same_text() {
    let homes: [NodeHome; 4] = Default::default();
    let hub = Process::bootstrap(&homes[0]).await;
    let start = async |which: usize| Process::provider(&homes[which], hub.address(), None).await;
    let mut providers = [start(1).await, start(2).await];
    let gateway = Process::gateway(&homes[3], hub.address()).await;
    let client = Client::default();
    let mut struck_in_the_middle = 0;
    // On a busy machine the blow may come when all is said already; then it is tried again.
    for question in QUESTIONS.iter().cycle().take(4 * QUESTIONS.len()) {
        if struck_in_the_middle == QUESTIONS.len() {
            break;
        }
        let whole = ask(&client, &gateway, question, async |_| {}).await;
        assert!(
            whole.done && whole.usage["completion_tokens"].as_u64().unwrap() > 20,
            "{whole:?}"
        );
        let mut wanted = greedy(question);
        // Who is to begin says nothing of who may go on.
        if struck_in_the_middle == 1 {
            wanted["provider"] = json!({ "order": [providers[0].peer_id()] });
        }
        let (continued, which) = ask_and_strike(&client, &gateway, &wanted, &mut providers).await;
        assert_eq!(continued.text, whole.text);
        assert!(continued.done && continued.error.is_null(), "{continued:?}");
        assert_eq!(
            (continued.ids.len(), &continued.finish),
            (1, &whole.finish),
            "one answer"
        );
        for count in ["prompt_tokens", "completion_tokens", "total_tokens"] {
            assert_eq!(continued.usage[count], whole.usage[count], "{count}");
        }
        let told = &continued.usage["infernet"]["providers"];
        let in_the_middle = told.as_array().is_some_and(|told| told.len() == 2);
        if in_the_middle {
            struck_in_the_middle += 1;
            println!("the longest wait after a kill was {:?}", continued.pause);
            assert_eq!(
                continued.comments.len(),
                1,
                "the seam is marked: {:?}",
                continued.comments
            );
        }
        // What the dead one delivered is settled when it is back.
        providers[which] = start(1 + which).await;
        let peer = providers[which].peer_id().to_owned();
        let rows = even_with(&homes[3], &homes[1 + which], |row| row["peer"] == peer).await;
        assert!(
            !in_the_middle || rows.iter().any(|row| row["status"] == "failed"),
            "{rows:#?}"
        );
    }
    assert_eq!(struck_in_the_middle, QUESTIONS.len());
}

/// A provider that stands still holds its connections open, so that only its silence tells.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_stands_still_is_left_and_settles_when_it_moves_again() {
    let homes: [NodeHome; 4] = Default::default();
    let hub = Process::bootstrap(&homes[0]).await;
    let start = async |which: usize| Process::provider(&homes[which], hub.address(), None).await;
    let providers = [start(1).await, start(2).await];
    let gateway = Process::gateway(&homes[3], hub.address()).await;
    let client = Client::default();
    // On a busy machine it may be too late to stop it; then it is tried again.
    for question in QUESTIONS.iter().cycle().take(4 * QUESTIONS.len()) {
        let whole = ask(&client, &gateway, question, async |_| {}).await;
        let mut stopped = None;
        let continued = ask(&client, &gateway, question, async |provider| {
            let which = providers.iter().find(|process| process.peer_id() == provider);
            which.unwrap().stand_still();
            stopped = which;
        })
        .await;
        let stopped = stopped.unwrap();
        stopped.move_on();
        assert_eq!(continued.text, whole.text);
        assert!(continued.done && continued.error.is_null(), "{continued:?}");
        let peer = stopped.peer_id().to_owned();
        let home = providers.iter().position(|process| process.peer_id() == peer).unwrap();
        let rows = even_with(&homes[3], &homes[1 + home], |row| row["peer"] == peer).await;
        if continued.usage["infernet"]["providers"].as_array().map(Vec::len) == Some(2) {
            println!(
                "the longest wait after a provider stood still was {:?}",
                continued.pause
            );
            assert!(rows.iter().any(|row| row["status"] != "completed"), "{rows:#?}");
            return;
        }
    }
    panic!("no provider was stopped in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cannot_go_on_is_not_asked_to() {
    let homes: [NodeHome; 4] = Default::default();
    let hub = Process::bootstrap(&homes[0]).await;
    let script = Script {
        models: vec!["infernet-demo".to_owned()],
        ..Script::default()
    };
    // It serves the model too, and says nothing of going on.
    let engine = Engine::start(script).await;
    let mut able = Process::provider(&homes[1], hub.address(), None).await;
    let _unable = Process::provider(&homes[2], hub.address(), engine.address()).await;
    let gateway = Process::gateway(&homes[3], hub.address()).await;
    let client = Client::default();
    soon("both are known", async {
        loop {
            let models = client.get(gateway.url("/v1/models")).await;
            if models["data"][0]["infernet"]["providers"] == 2 {
                return;
            }
        }
    })
    .await;
    let question = |question: &str| {
        let mut body = greedy(question);
        body["provider"] = json!({ "order": [able.peer_id()] });
        body
    };
    let bodies = QUESTIONS.map(question);
    for body in bodies.iter().cycle().take(4 * QUESTIONS.len()) {
        let whole = ask_for(&client, &gateway, body, async |_| {}).await;
        // Nobody but the one that was killed can go on: it is waited for.
        let continued = ask_for(&client, &gateway, body, async |_| {
            able.kill().await;
            able = Process::provider(&homes[1], hub.address(), None).await;
        })
        .await;
        assert_eq!(continued.text, whole.text);
        assert_eq!(engine.scripted.counts().started, 0, "it was never asked");
        if !continued.comments.is_empty() {
            return;
        }
    }
    panic!("no blow came in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_failover_off_a_broken_stream_says_so() {
    let homes: [NodeHome; 4] = Default::default();
    let hub = Process::bootstrap(&homes[0]).await;
    let mut providers = [
        Process::provider(&homes[1], hub.address(), None).await,
        Process::provider(&homes[2], hub.address(), None).await,
    ];
    let gateway = Process::gateway_set(&homes[3], hub.address(), &[("INFERNET_CONSUMER_FAILOVER", "false")]).await;
    let client = Client::default();
    // On a busy machine the blow may come when all is said already; then it is tried again.
    for question in QUESTIONS.iter().cycle().take(4 * QUESTIONS.len()) {
        let (said, which) = ask_and_strike(&client, &gateway, &greedy(question), &mut providers).await;
        if said.done {
            providers[which] = Process::provider(&homes[1 + which], hub.address(), None).await;
            continue;
        }
        assert_eq!(said.error["code"], "provider_failed", "{said:?}");
        assert!(!said.text.is_empty() && said.comments.is_empty(), "{said:?}");
        return;
    }
    panic!("no blow came in time");
}

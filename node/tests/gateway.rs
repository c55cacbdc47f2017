//! The gateway over plain HTTP, in front of a scripted engine.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "gateway/fake.rs"]
mod fake;

use std::time::Duration;

use fake::{Fake, PROVIDER, Running};
use infernet_inference::scripted::{Fault, Reply, Script};
use infernet_node::config::Secret;
use infernet_node::gateway::keys::{self, Grant};
use infernet_node::gateway::{Gateway, GatewayError, InferError, Settings};
use infernet_node::home::Home;
use infernet_protocol::auction::Policy;
use reqwest::{Client, RequestBuilder, Response};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

fn client() -> Client {
    Client::builder().no_proxy().build().unwrap()
}

fn body(more: Value) -> Value {
    let mut body = json!({"model": "scripted", "messages": [{"role": "user", "content": "hello"}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn chat(gateway: &Running, more: Value) -> RequestBuilder {
    post(gateway, "/v1/chat/completions", body(more).to_string())
}

fn post(gateway: &Running, path: &str, body: impl Into<reqwest::Body>) -> RequestBuilder {
    client()
        .post(format!("{}{path}", gateway.url))
        .header("content-type", "application/json")
        .body(body)
}

async fn get(gateway: &Running, path: &str) -> Response {
    client().get(format!("{}{path}", gateway.url)).send().await.unwrap()
}

async fn value(response: Response) -> Value {
    serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

/// Status and error object.
async fn refused(request: RequestBuilder) -> (u16, Value) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    assert_eq!(header(&response, "content-type"), "application/json");
    let error = value(response).await["error"].take();
    assert!(error["message"].is_string() && error["type"].is_string(), "{error}");
    (status, error)
}

#[tokio::test]
async fn models_are_listed_and_shown() {
    let script = Script {
        models: vec!["org/Big-Model".into(), "small:latest".into()],
        ..Script::default()
    };
    let gateway = Running::with(script).await;
    let list = value(get(&gateway, "/v1/models").await).await;
    let ids: Vec<_> = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|model| model["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["org/big-model", "small"]);
    assert_eq!(list["data"][0]["infernet"]["price"]["input_microusd_per_mtok"], 150_000);
    assert_eq!(list["data"][0]["infernet"]["providers"], 2);
    for path in ["/v1/models/org/Big-Model", "/v1/models/org%2Fbig-model"] {
        assert_eq!(value(get(&gateway, path).await).await["id"], "org/big-model", "{path}");
    }
    let missing = get(&gateway, "/v1/models/org/bigmodel").await;
    assert_eq!(missing.status(), 404);
    let message = value(missing).await["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("`org/big-model`"), "{message}");
}

#[tokio::test]
async fn a_stream_passes_and_ends_in_a_comment_and_done() {
    let gateway = Running::with(Script {
        reply: Reply::Words(30),
        ..Script::default()
    })
    .await;
    let response = chat(&gateway, json!({"stream": true})).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(header(&response, "content-type"), "text/event-stream; charset=utf-8");
    assert_eq!(header(&response, "x-infernet-job"), "01".repeat(16));
    assert_eq!(header(&response, "x-infernet-request"), "02".repeat(16));
    assert_eq!(header(&response, "x-infernet-provider"), PROVIDER);
    assert_eq!(header(&response, "x-infernet-source"), "network");
    assert!(header(&response, "x-infernet-price").starts_with("input=150000; output=0"));
    let text = response.text().await.unwrap();
    let events: Vec<_> = text.split_terminator("\n\n").collect();
    let [head @ .., comment, done] = &events[..] else {
        panic!("{text}")
    };
    assert_eq!(*done, "data: [DONE]");
    let summary: Value = serde_json::from_str(comment.strip_prefix(": infernet ").unwrap()).unwrap();
    assert_eq!(summary["cost_microusd"], 42);
    assert_eq!(summary["providers"], json!([PROVIDER]));
    assert_eq!(summary["receipt"], "07".repeat(32));
    assert_eq!(head.len(), 1 + 30 + 1, "role, words, finish");
    assert!(!text.contains("\"usage\""), "none was asked for");
}

#[tokio::test]
async fn usage_that_was_asked_for_tells_what_it_cost() {
    let gateway = Running::with(Script::default()).await;
    let asked = json!({"stream": true, "stream_options": {"include_usage": true}});
    let text = chat(&gateway, asked).send().await.unwrap().text().await.unwrap();
    let events: Vec<_> = text.split_terminator("\n\n").collect();
    let usage: Value = serde_json::from_str(events[events.len() - 2].strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!(usage["usage"]["completion_tokens"], 16);
    assert_eq!(usage["usage"]["infernet"]["attempts"], 1);
    assert_eq!(usage["choices"], json!([]));
    assert_eq!(text.matches("\"usage\"").count(), 1);
    assert!(text.ends_with("data: [DONE]\n\n") && !text.contains(": infernet"));
}

#[tokio::test]
async fn a_document_tells_usage_and_cost() {
    let gateway = Running::with(Script {
        reply: Reply::Echo,
        ..Script::default()
    })
    .await;
    let response = chat(&gateway, json!({})).send().await.unwrap();
    assert_eq!(header(&response, "content-type"), "application/json");
    assert_eq!(header(&response, "x-infernet-provider"), PROVIDER);
    let document = value(response).await;
    assert_eq!(document["choices"][0]["message"]["content"], "hello");
    assert_eq!(document["usage"]["total_tokens"], 2);
    assert_eq!(document["usage"]["infernet"]["cost_microusd"], 42);
    let completion = post(&gateway, "/v1/completions", r#"{"model":"scripted","prompt":"a b"}"#);
    let document = value(completion.send().await.unwrap()).await;
    assert_eq!(
        (&document["object"], &document["choices"][0]["text"]),
        (&json!("text_completion"), &json!("a b"))
    );
}

#[tokio::test]
async fn our_own_fields_are_read_and_taken_out() {
    let gateway = Running::with(Script::default()).await;
    let sent = r#"{"model" : "scripted","provider":{"sort":"throughput","max_price":{"prompt":1}},"messages":[{"role":"user","content":"x"}] ,"policy":"trusted"}"#;
    post(&gateway, "/v1/chat/completions", sent).send().await.unwrap();
    let asked = gateway.fake.last_asked();
    assert_eq!(
        asked.body,
        r#"{"model" : "scripted","messages":[{"role":"user","content":"x"}]}"#
    );
    assert_eq!(asked.preferences.policy, Some(Policy::Trusted));
    assert_eq!(asked.preferences.max_price.unwrap().input.0, 1_000_000);
    assert!(
        !format!("{asked:?}").contains("content"),
        "nothing prints what was said"
    );
}

#[tokio::test]
async fn malformed_requests_are_refused_with_what_is_wrong() {
    let gateway = Running::with(Script::default()).await;
    for (sent, status, param, code) in [
        ("", 400, Value::Null, Value::Null),
        ("{", 400, Value::Null, Value::Null),
        ("[]", 400, Value::Null, Value::Null),
        (r#"{"messages":[]}"#, 400, json!("model"), Value::Null),
        (r#"{"model":"scripted"}"#, 400, json!("messages"), Value::Null),
        (
            r#"{"model":"scripted","model":"x","messages":[]}"#,
            400,
            json!("model"),
            Value::Null,
        ),
        (
            &body(json!({"max_tokens": -1})).to_string(),
            400,
            json!("max_tokens"),
            Value::Null,
        ),
        (
            &body(json!({"chat_template": "x"})).to_string(),
            400,
            json!("chat_template"),
            json!("unsupported_field"),
        ),
        (
            &body(json!({"policy": "best"})).to_string(),
            400,
            json!("policy"),
            Value::Null,
        ),
        (
            &body(json!({"provider": {"order": ["x"]}})).to_string(),
            400,
            json!("provider.order"),
            Value::Null,
        ),
        (
            &body(json!({"model": "a model"})).to_string(),
            404,
            json!("model"),
            json!("model_not_found"),
        ),
        (
            &body(json!({"model": "scribted"})).to_string(),
            404,
            json!("model"),
            json!("model_not_found"),
        ),
    ] {
        let (got, error) = refused(post(&gateway, "/v1/chat/completions", sent.to_owned())).await;
        assert_eq!(
            (got, &error["param"], &error["code"]),
            (status, &param, &code),
            "{sent}: {error}"
        );
        if sent.contains("scribted") {
            assert!(
                error["message"].as_str().unwrap().contains("did you mean `scripted`"),
                "{error}"
            );
        }
    }
    assert_eq!(gateway.fake.engine.counts().started, 0);
}

#[tokio::test]
async fn other_routes_are_json_too() {
    let gateway = Running::with(Script::default()).await;
    let url = |path: &str| format!("{}{path}", gateway.url);
    for (request, status) in [
        (client().get(url("/v1/nothing")), 404),
        (client().get(url("/nothing")), 404),
        (client().get(url("/v1/chat/completions")), 405),
        (client().post(url("/v1/models")), 405),
    ] {
        assert_eq!(refused(request).await.0, status);
    }
    assert_eq!(get(&gateway, "/").await.status(), 200);
    assert_eq!(get(&gateway, "/healthz").await.status(), 200);
    assert_eq!(get(&gateway, "/readyz").await.status(), 200);
    let nobody = Running::with(Script {
        models: vec![],
        ..Script::default()
    })
    .await;
    assert_eq!(get(&nobody, "/readyz").await.status(), 503);
}

#[tokio::test]
async fn failures_have_the_status_that_they_mean() {
    let gateway = Running::with(Script::default()).await;
    let soon = Duration::from_secs(3);
    let model = || "m".to_owned();
    let own_words = r#"{"error":{"message":"too long","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#;
    for (error, status, code, retry_after, should_retry) in [
        (
            InferError::NobodyServes {
                model: model(),
                near: vec!["n".into()],
            },
            404,
            "model_not_found",
            "",
            "",
        ),
        (
            InferError::TooDear {
                model: model(),
                cheapest: "$1".into(),
            },
            402,
            "price_cap",
            "",
            "",
        ),
        (
            InferError::Unfit {
                model: model(),
                needs: "tools".into(),
            },
            422,
            "unsupported_feature",
            "",
            "",
        ),
        (
            InferError::NobodyFree { retry_after: soon },
            503,
            "no_provider_free",
            "3",
            "",
        ),
        (
            InferError::TooManyWait {
                retry_after: Duration::ZERO,
            },
            429,
            "rate_limit_exceeded",
            "1",
            "",
        ),
        (
            InferError::Refused {
                status: 400,
                body: own_words.into(),
            },
            400,
            "context_length_exceeded",
            "",
            "",
        ),
        (
            InferError::Failed {
                reason: "x".into(),
                delivered: false,
            },
            502,
            "provider_failed",
            "",
            "",
        ),
        (
            InferError::Failed {
                reason: "x".into(),
                delivered: true,
            },
            502,
            "provider_failed",
            "",
            "false",
        ),
        (InferError::Deadline { delivered: true }, 504, "deadline", "", "false"),
        (InferError::Internal("disk".into()), 500, "internal", "", ""),
    ] {
        gateway.fake.fail_with(error.clone());
        for stream in [true, false] {
            let response = chat(&gateway, json!({"stream": stream})).send().await.unwrap();
            assert_eq!(response.status(), status, "{error}");
            assert_eq!(
                (header(&response, "retry-after"), header(&response, "x-should-retry")),
                (retry_after, should_retry)
            );
            assert_eq!(value(response).await["error"]["code"], code);
        }
    }
    gateway.fake.fail_with(InferError::Refused {
        status: 422,
        body: "<html>".into(),
    });
    let (status, error) = refused(chat(&gateway, json!({}))).await;
    assert_eq!((status, &error["type"]), (422, &json!("invalid_request_error")));
}

#[tokio::test]
async fn a_stream_never_ends_silently() {
    for fault in [Fault::Break(3), Fault::Fail(3)] {
        let gateway = Running::with(Script {
            fault: Some(fault),
            ..Script::default()
        })
        .await;
        let text = chat(&gateway, json!({"stream": true}))
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        let last = text.split_terminator("\n\n").last().unwrap();
        let error: Value = serde_json::from_str(last.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(error["error"]["code"], "provider_failed");
        assert_eq!(
            text.matches("data: ").count(),
            1 + 3 + 1,
            "what came before it was delivered"
        );
        let document = chat(&gateway, json!({})).send().await.unwrap();
        assert_eq!(
            (document.status().as_u16(), header(&document, "x-should-retry")),
            (502, "false")
        );
        assert_eq!(header(&document, "x-infernet-provider"), PROVIDER, "who failed is told");
        assert_eq!(header(&document, "content-type"), "application/json");
    }
}

#[tokio::test]
async fn an_answer_whose_receipt_does_not_come_is_delivered() {
    let fake = Fake {
        summary: false,
        ..Fake::new(Script::default())
    };
    let gateway = Running::start(fake, Settings::default()).await;
    let text = chat(&gateway, json!({"stream": true}))
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(text.ends_with("data: [DONE]\n\n") && !text.contains("error"));
    let document = value(chat(&gateway, json!({})).send().await.unwrap()).await;
    assert_eq!(document["usage"]["completion_tokens"], 16);
}

/// Sends a request by hand, so that the connection can be dropped by hand.
async fn connect(gateway: &Running, sent: &Value) -> TcpStream {
    let mut socket = TcpStream::connect(gateway.host()).await.unwrap();
    let body = sent.to_string();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    socket
}

#[tokio::test]
async fn a_client_that_goes_away_stops_the_engine() {
    for (fault, stream) in [
        (Fault::Hang(2), true),
        (Fault::Hang(2), false),
        (Fault::Hang(0), true),
        (Fault::Silent, false),
    ] {
        let gateway = Running::with(Script {
            fault: Some(fault.clone()),
            ..Script::default()
        })
        .await;
        let mut socket = connect(&gateway, &body(json!({"stream": stream}))).await;
        gateway.fake.until(|counts| counts.running == 1).await;
        if stream && fault == Fault::Hang(2) {
            let mut buffer = [0; 4096];
            assert!(socket.read(&mut buffer).await.unwrap() > 0);
        }
        drop(socket);
        let counts = gateway.fake.until(|counts| counts.running == 0).await;
        assert_eq!((counts.cancelled, counts.completed), (1, 0), "{fault:?}");
    }
}

#[tokio::test]
async fn a_slow_reader_slows_the_engine() {
    let gateway = Running::with(Script {
        reply: Reply::Words(200_000),
        ..Script::default()
    })
    .await;
    let mut socket = connect(&gateway, &body(json!({"stream": true}))).await;
    let mut buffer = vec![0; 1024];
    socket.read_exact(&mut buffer).await.unwrap();
    // The engine is far faster than this; unread, it stops when the sockets' buffers are full.
    let mut counts = gateway.fake.engine.observe();
    while tokio::time::timeout(Duration::from_millis(300), counts.changed())
        .await
        .is_ok()
    {}
    let told = gateway.fake.engine.counts().tokens;
    assert!(
        told < 200_000,
        "{told} tokens were made for a reader that does not read"
    );
    drop(socket);
    gateway.fake.until(|counts| counts.running == 0).await;
}

#[tokio::test]
async fn bodies_are_bounded() {
    let gateway = Running::with(Script::default()).await;
    let mut socket = TcpStream::connect(gateway.host()).await.unwrap();
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99999999999\r\n\r\n";
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut buffer = vec![0; 512];
    let read = socket.read(&mut buffer).await.unwrap();
    assert!(
        buffer[..read].starts_with(b"HTTP/1.1 413"),
        "{}",
        String::from_utf8_lossy(&buffer[..read])
    );
    // Without a length it is counted as it comes.
    let mut socket = TcpStream::connect(gateway.host()).await.unwrap();
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n";
    socket.write_all(head.as_bytes()).await.unwrap();
    let chunk = format!("{:x}\r\n{}\r\n", 1 << 20, " ".repeat(1 << 20));
    let (mut reader, mut writer) = socket.into_split();
    let write = async {
        for _ in 0..40 {
            if writer.write_all(chunk.as_bytes()).await.is_err() {
                return;
            }
        }
        std::future::pending().await
    };
    let answer = async {
        let read = reader.read(&mut buffer).await.unwrap_or(0);
        buffer[..read].to_vec()
    };
    let answer = tokio::select! { answer = answer => answer, () = write => Vec::new() };
    assert!(
        answer.is_empty() || answer.starts_with(b"HTTP/1.1 413"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    assert_eq!(gateway.fake.engine.counts().started, 0);
    let large = body(json!({"messages": [{"role": "user", "content": "x".repeat(8 << 20)}]}));
    assert_eq!(
        post(&gateway, "/v1/chat/completions", large.to_string())
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
}

#[tokio::test]
async fn requests_at_once_are_bounded() {
    let gateway = Running::with(Script {
        fault: Some(Fault::Silent),
        ..Script::default()
    })
    .await;
    let mut sockets = Vec::new();
    for _ in 0..256 {
        sockets.push(connect(&gateway, &body(json!({}))).await);
    }
    gateway.fake.until(|counts| counts.running == 256).await;
    let response = chat(&gateway, json!({})).send().await.unwrap();
    assert_eq!(
        (response.status().as_u16(), header(&response, "retry-after")),
        (429, "1")
    );
    drop(sockets);
    gateway.fake.until(|counts| counts.running == 0).await;
    gateway.fake.engine.follow(Script::default());
    assert_eq!(chat(&gateway, json!({})).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn names_and_pages_of_others_are_refused() {
    let settings = Settings {
        allowed_hosts: vec!["box.internal".into()],
        cors_origins: vec!["https://app.example".into()],
        ..Settings::default()
    };
    let gateway = Running::start(Fake::new(Script::default()), settings).await;
    let url = format!("{}/v1/models", gateway.url);
    for (name, sent, status) in [
        ("host", "evil.example", 403),
        ("host", "box.internal:46338", 200),
        ("host", "localhost", 200),
        ("origin", "https://evil.example", 403),
        ("origin", "null", 403),
        ("origin", "https://app.example", 200),
        ("x-infernet-hop", "1", 508),
    ] {
        let response = client().get(&url).header(name, sent).send().await.unwrap();
        assert_eq!(response.status(), status, "{name}: {sent}");
        assert_eq!(header(&response, "x-infernet-gateway"), "1");
        let allowed = header(&response, "access-control-allow-origin");
        assert_eq!(allowed, if name == "origin" && status == 200 { sent } else { "" });
    }
    let preflight = client()
        .request(reqwest::Method::OPTIONS, &url)
        .header("origin", "https://app.example");
    let preflight = preflight.send().await.unwrap();
    assert_eq!(preflight.status(), 204);
    assert!(header(&preflight, "access-control-allow-headers").contains("authorization"));
}

#[tokio::test]
async fn a_key_is_needed_where_one_is_set() {
    let settings = Settings {
        api_key: Some(Secret::new("the-key")),
        ..Settings::default()
    };
    let gateway = Running::start(Fake::new(Script::default()), settings).await;
    let url = format!("{}/v1/models", gateway.url);
    assert_eq!(refused(client().get(&url)).await.0, 401);
    assert_eq!(refused(client().get(&url).bearer_auth("the-kez")).await.0, 401);
    assert_eq!(
        client().get(&url).bearer_auth("the-key").send().await.unwrap().status(),
        200
    );
    assert_eq!(
        client()
            .get(&url)
            .header("x-api-key", "the-key")
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
    assert_eq!(get(&gateway, "/healthz").await.status(), 200);
    let open = Settings {
        listen: ([0, 0, 0, 0], 0).into(),
        ..Settings::default()
    };
    let bound = Gateway::bind(open, std::sync::Arc::new(gateway.fake.clone())).await;
    assert!(matches!(bound, Err(GatewayError::Exposed(_))));
}

#[tokio::test]
async fn keys_of_the_file_open_the_gateway_to_others_and_hold_their_rate() {
    let home = Home::temporary().unwrap();
    let path = home.keys_file();
    let grant = Grant {
        requests_per_minute: Some(2),
        ..Grant::default()
    };
    let (_, text) = keys::add(&path, "laptop", grant).unwrap();
    let settings = Settings {
        listen: ([0, 0, 0, 0], 0).into(),
        keys: Some(path),
        ..Settings::default()
    };
    let gateway = Running::start(Fake::new(Script::default()), settings).await;
    let url = format!("{}/v1/models", gateway.url);
    let status = async |key: &str| {
        client()
            .get(&url)
            .bearer_auth(key)
            .send()
            .await
            .unwrap()
            .status()
            .as_u16()
    };
    assert_eq!(status("sk-infernet-0").await, 401);
    assert_eq!([status(&text).await, status(&text).await], [200, 200]);
    let often = client().get(&url).bearer_auth(&text).send().await.unwrap();
    assert_eq!(often.status(), 429);
    assert_eq!(header(&often, "retry-after"), "30");
}

#[tokio::test]
async fn a_request_with_a_key_is_answered_once() {
    let gateway = Running::with(Script::default()).await;
    let ask = |stream: bool, key: &str| chat(&gateway, json!({ "stream": stream })).header("idempotency-key", key);
    for stream in [false, true] {
        let key = format!("key-{stream}");
        let first = ask(stream, &key).send().await.unwrap();
        assert_eq!(
            (first.status().as_u16(), header(&first, "idempotent-replayed")),
            (200, "")
        );
        let (request, first) = (
            header(&first, "x-infernet-request").to_owned(),
            first.text().await.unwrap(),
        );
        let again = ask(stream, &key).send().await.unwrap();
        assert_eq!(
            (
                header(&again, "idempotent-replayed"),
                header(&again, "x-infernet-request")
            ),
            ("true", request.as_str())
        );
        assert_eq!(again.text().await.unwrap(), first);
    }
    assert_eq!(gateway.fake.engine.counts().started, 2);
    let other = chat(&gateway, json!({ "stream": false, "max_tokens": 3 })).header("idempotency-key", "key-false");
    assert_eq!(refused(other).await.0, 422);
    assert_eq!(refused(ask(false, &"k".repeat(300))).await.0, 400);

    // What failed, and what was given up, may be asked again.
    gateway.fake.fail_with(InferError::NobodyFree {
        retry_after: Duration::from_secs(1),
    });
    assert_eq!(refused(ask(false, "failed")).await.0, 503);
    *gateway.fake.error.lock().unwrap() = None;
    assert_eq!(ask(false, "failed").send().await.unwrap().status(), 200);
    gateway.fake.engine.follow(Script {
        token_ms: 60_000,
        ..Script::default()
    });
    let held = ask(true, "held").send().await.unwrap();
    assert_eq!(refused(ask(true, "held")).await.0, 409);
    drop(held);
    gateway.fake.until(|counts| counts.running == 0).await;
    gateway.fake.engine.follow(Script::default());
    let again = ask(true, "held").send().await.unwrap();
    assert!(again.text().await.unwrap().ends_with("data: [DONE]\n\n"));
}

#[tokio::test]
async fn what_happens_is_counted() {
    let gateway = Running::with(Script::default()).await;
    chat(&gateway, json!({"stream": true}))
        .send()
        .await
        .unwrap()
        .bytes()
        .await
        .unwrap();
    chat(&gateway, json!({"max_tokens": -1})).send().await.unwrap();
    get(&gateway, "/nothing").await;
    let text = get(&gateway, "/metrics").await.text().await.unwrap();
    for line in [
        "infernet_gateway_requests_total{route=\"chat_completions\",status=\"200\"} 1",
        "infernet_gateway_requests_total{route=\"chat_completions\",status=\"400\"} 1",
        "infernet_gateway_requests_total{route=\"other\",status=\"404\"} 1",
        "infernet_gateway_answers_total{end=\"completed\"} 1",
        "infernet_gateway_answers_begun_total{source=\"network\"} 1",
        "infernet_gateway_tokens_total{kind=\"output\"} 16",
        "infernet_gateway_first_token_ms_count 1",
        "infernet_gateway_answers_running 0",
    ] {
        assert!(text.lines().any(|known| known == line), "{line}\n{text}");
    }
}

#[tokio::test]
async fn answers_are_finished_when_the_node_stops() {
    let script = Script {
        reply: Reply::Words(20),
        token_ms: 10,
        ..Script::default()
    };
    let gateway = Running::with(script).await;
    let response = chat(&gateway, json!({"stream": true})).send().await.unwrap();
    let (drained, text) = tokio::join!(gateway.tasks.drain(Duration::from_secs(10)), response.text());
    assert!(drained && text.unwrap().ends_with("data: [DONE]\n\n"));
    assert!(
        client().get(&gateway.url).send().await.is_err(),
        "nobody listens any more"
    );
}

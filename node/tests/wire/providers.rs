//! Providers that break the rules of an answer: what a client gets is an answer or an error, and has an end.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use infernet_inference::ContentType;
use infernet_node::gateway::{
    Gateway, InferError, Inference, InferenceRequest, Part, Reply, ServedModel, Settings, Source, Summary,
};
use infernet_node::runtime::Tasks;
use infernet_protocol::{Price, RequestId};
use serde_json::{Value, json};

/// What is answered next.
#[derive(Clone)]
enum Says {
    Refusal(u16, Bytes),
    Answer(u16, ContentType, Vec<Bytes>),
}

struct Rude(Mutex<Says>);

#[async_trait]
impl Inference for Rude {
    async fn models(&self) -> Vec<ServedModel> {
        Vec::new()
    }

    async fn infer(&self, request: InferenceRequest) -> Result<Reply, InferError> {
        let (status, content_type, parts) = match self.0.lock().unwrap().clone() {
            Says::Refusal(status, body) => return Err(InferError::Refused { status, body }),
            Says::Answer(status, content_type, parts) => (status, content_type, parts),
        };
        let parts = parts.into_iter().map(Part::Data).chain([Part::End(Summary::default())]);
        Ok(Reply {
            job: None,
            request: RequestId([2; 16]),
            provider: None,
            model: request.model,
            source: Source::Network,
            price: Price::FREE,
            status,
            content_type,
            body: stream::iter(parts.map(Ok)).boxed(),
        })
    }
}

struct Place {
    rude: Arc<Rude>,
    url: String,
    _tasks: Tasks,
}

impl Place {
    async fn new() -> Self {
        let rude = Arc::new(Rude(Mutex::new(Says::Refusal(400, Bytes::new()))));
        let settings = Settings {
            listen: ([127, 0, 0, 1], 0).into(),
            ..Settings::default()
        };
        let gateway = Gateway::bind(settings, rude.clone()).await.unwrap();
        let (url, tasks) = (gateway.url(), Tasks::new());
        tasks.spawn("gateway", gateway.serve(tasks.clone()));
        Self {
            rude,
            url,
            _tasks: tasks,
        }
    }

    /// Status and text of the answer to a chat, in the words of one of the APIs.
    async fn ask(&self, path: &str, says: Says) -> (u16, String) {
        let stream = matches!(&says, Says::Answer(_, ContentType::EventStream, _));
        *self.rude.0.lock().unwrap() = says;
        let mut body = json!({ "model": "m", "stream": stream, "messages": [{ "role": "user", "content": "x" }] });
        if path == "/v1/messages" {
            body["max_tokens"] = 9.into();
        }
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let asked = client.post(format!("{}{path}", self.url)).body(body.to_string()).send();
        let answer = asked.await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }
}

const CHAT: &str = "/v1/chat/completions";
const PATHS: [&str; 3] = [CHAT, "/v1/messages", "/api/chat"];

#[tokio::test]
async fn a_refusal_is_a_refusal() {
    let place = Place::new().await;
    let words = |error: Value| Bytes::from(json!({ "error": error }).to_string());
    let good = json!({ "message": "their words", "type": "invalid_request_error", "param": null, "code": 3 });
    for (status, expected) in [
        (400, 400),
        (422, 422),
        (0, 502),
        (101, 502),
        (200, 502),
        (304, 502),
        (500, 502),
        (999, 502),
    ] {
        for path in PATHS {
            let (got, text) = place.ask(path, Says::Refusal(status, words(good.clone()))).await;
            assert_eq!(got, expected, "{path} {status}: {text}");
            assert!(text.contains("their words"), "{path} {status}: {text}");
        }
    }
    let long = "x".repeat(1 << 20);
    for error in [
        json!(5),
        json!({}),
        json!({ "message": 5 }),
        json!({ "message": "", "type": [] }),
        json!({ "message": long }),
    ] {
        for path in PATHS {
            let (got, text) = place.ask(path, Says::Refusal(400, words(error.clone()))).await;
            assert!(
                got == 400 && text.contains("the provider refused the request"),
                "{path}: {text:.200}"
            );
        }
    }
}

#[tokio::test]
async fn only_a_plain_success_is_one() {
    let place = Place::new().await;
    for kind in [ContentType::EventStream, ContentType::Json] {
        for (status, expected) in [
            (101, 502),
            (103, 502),
            (204, 502),
            (206, 502),
            (304, 502),
            (404, 404),
            (500, 502),
            (0, 502),
        ] {
            for path in PATHS {
                let parts = vec![Bytes::from_static(b"{\"choices\":[]}")];
                let (got, text) = place.ask(path, Says::Answer(status, kind, parts)).await;
                assert_eq!(got, expected, "{path} {status}");
                let error: Value = serde_json::from_str(&text).unwrap();
                assert!(!error["error"].is_null(), "{path} {status}: {text}");
            }
        }
    }
}

#[tokio::test]
async fn a_stream_has_one_end_that_stands_alone() {
    let place = Place::new().await;
    let chunk = r#"data: {"model":"m","choices":[{"index":0,"delta":{"content":"hi"}}]}"#;
    for (name, parts) in [
        ("nothing", vec![]),
        ("half an event", vec!["data: {\"choices\":"]),
        ("an event and a half", vec![chunk, "\n\ndata: {"]),
        ("an end in two", vec![chunk, "\n\ndata: [DO", "NE]\n\n"]),
        ("an end without an end", vec![chunk, "\n\ndata: [DONE]"]),
        ("two ends", vec!["data: [DONE]\n\ndata: [DONE]\n\n"]),
        ("more after the end", vec!["data: [DONE]\n\n", chunk, "\n\n"]),
        ("no lines", vec!["[DONE]"]),
        ("bytes", vec!["\u{0}\u{1}"]),
    ] {
        for path in PATHS {
            let bytes = parts.iter().map(|part| Bytes::from_static(part.as_bytes())).collect();
            let (status, text) = place
                .ask(path, Says::Answer(200, ContentType::EventStream, bytes))
                .await;
            assert_eq!(status, 200);
            let end = match path {
                CHAT => "data: [DONE]\n\n",
                "/v1/messages" => "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
                _ => "}\n",
            };
            assert!(text.ends_with(end), "{path}, {name}: {text}");
            let ends = if path == "/api/chat" { "\"done\":true" } else { end };
            assert_eq!(text.matches(ends).count(), 1, "{path}, {name}: {text}");
            assert!(
                !text.contains("data: {\n") && !text.contains("{\"choices\":data"),
                "{path}, {name}: {text}"
            );
        }
    }
}

#[tokio::test]
async fn a_document_that_is_a_bomb_is_broken_off() {
    let place = Place::new().await;
    let bomb = format!("{{\"choices\":[{}{{}}]}}", "{\"\":0},".repeat(2_000_000));
    for path in ["/v1/messages", "/api/chat"] {
        let (status, text) = place
            .ask(
                path,
                Says::Answer(200, ContentType::Json, vec![Bytes::from(bomb.clone())]),
            )
            .await;
        assert_eq!(status, 502, "{path}: {text:.200}");
    }
    let arguments = "[{\\\"\\\":0}".to_owned() + &",{\\\"\\\":0}".repeat(1_000_000) + "]";
    let call = format!("{{\"id\":\"1\",\"function\":{{\"name\":\"f\",\"arguments\":\"{arguments}\"}}}}");
    let nested = format!("{{\"choices\":[{{\"message\":{{\"tool_calls\":[{call}]}}}}]}}");
    for path in ["/v1/messages", "/api/chat"] {
        let (status, text) = place
            .ask(
                path,
                Says::Answer(200, ContentType::Json, vec![Bytes::from(nested.clone())]),
            )
            .await;
        assert_eq!(status, 200, "{path}");
        assert!(text.contains("\"arguments\":\"[{"), "{path}: handed on as text");
    }
}

//! Batches over a scripted engine: results in order, once each, whatever stops in between.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "gateway/fake.rs"]
mod fake;

use std::collections::BTreeMap;
use std::time::Duration;

use fake::{Fake, Running};
use infernet_inference::scripted::{Fault, Reply, Script};
use infernet_node::gateway::keys::{self, Grant};
use infernet_node::gateway::{InferError, Patience, Settings};
use infernet_node::home::Home;
use reqwest::Client;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const CHAT: &str = "/v1/chat/completions";
const PATIENCE: Duration = Duration::from_secs(60);

fn echo() -> Script {
    Script {
        reply: Reply::Echo,
        ..Script::default()
    }
}

fn line(number: usize, body: Value) -> String {
    json!({ "custom_id": format!("item-{number}"), "method": "POST", "url": CHAT, "body": body }).to_string() + "\n"
}

fn question(number: usize) -> Value {
    json!({ "model": "scripted", "messages": [{ "role": "user", "content": format!("number {number}") }] })
}

/// A gateway with a home of its own, and a caller of it.
struct Stage {
    gateway: Running,
    key: Option<String>,
}

impl Stage {
    async fn start(home: &Home, fake: Fake) -> Self {
        let settings = Settings {
            batches: Some(home.batches()),
            keys: Some(home.keys_file()),
            ..Settings::default()
        };
        Self {
            gateway: Running::start(fake, settings).await,
            key: None,
        }
    }

    fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        let request = Client::new().request(method, format!("{}{path}", self.gateway.url));
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        let answer = self.request(reqwest::Method::GET, path).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        let answer = self
            .request(reqwest::Method::POST, path)
            .json(&body)
            .send()
            .await
            .unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    async fn upload(&self, text: String) -> String {
        let part = Part::bytes(text.into_bytes()).file_name("input.jsonl");
        let form = Form::new().text("purpose", "batch").part("file", part);
        let answer = self
            .request(reqwest::Method::POST, "/v1/files")
            .multipart(form)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
        let file: Value = answer.json().await.unwrap();
        assert_eq!((&file["object"], &file["purpose"]), (&json!("file"), &json!("batch")));
        file["id"].as_str().unwrap().to_owned()
    }

    async fn submit(&self, text: String) -> String {
        let file = self.upload(text).await;
        let wanted =
            json!({ "input_file_id": file, "endpoint": CHAT, "completion_window": "24h", "metadata": {"a": "b"} });
        let (status, batch) = self.post("/v1/batches", wanted).await;
        assert_eq!((status, &batch["metadata"]["a"]), (200, &json!("b")), "{batch}");
        batch["id"].as_str().unwrap().to_owned()
    }

    /// The batch once `holds`.
    async fn until(&self, id: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let looked = async {
            loop {
                let (_, batch) = self.get(&format!("/v1/batches/{id}")).await;
                if holds(&batch) {
                    return batch;
                }
            }
        };
        tokio::time::timeout(PATIENCE, looked).await.expect("in time")
    }

    async fn lines(&self, file: &Value) -> Vec<Value> {
        let path = format!("/v1/files/{}/content", file.as_str().unwrap());
        let text = self
            .request(reqwest::Method::GET, &path)
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn is(status: &str) -> impl Fn(&Value) -> bool + '_ {
    move |batch| batch["status"] == status
}

#[tokio::test]
async fn results_come_in_order_with_their_ids_and_failures_apart() {
    let home = Home::temporary().unwrap();
    let stage = Stage::start(&home, Fake::new(echo())).await;
    let mut input: String = (0..150).map(|number| line(number, question(number))).collect();
    input += &line(150, json!({ "model": "scripted", "messages": [], "max_tokens": -1 }));
    let id = stage.submit(input).await;
    let batch = stage.until(&id, is("completed")).await;
    assert_eq!(
        batch["request_counts"],
        json!({ "total": 151, "completed": 150, "failed": 1 })
    );
    let output = stage.lines(&batch["output_file_id"]).await;
    for (number, line) in output.iter().enumerate() {
        assert_eq!(line["custom_id"], format!("item-{number}"));
        let said = &line["response"]["body"]["choices"][0]["message"]["content"];
        assert!(said.as_str().unwrap().contains(&format!("number {number}")), "{line}");
        assert_eq!(
            (&line["response"]["status_code"], &line["error"]),
            (&json!(200), &Value::Null)
        );
    }
    let failed = stage.lines(&batch["error_file_id"]).await;
    assert_eq!((failed.len(), &failed[0]["custom_id"]), (1, &json!("item-150")));
    assert_eq!(failed[0]["response"]["status_code"], 400);
    assert!(failed[0]["response"]["body"]["error"]["message"].is_string());

    let (_, listed) = stage.get("/v1/batches?limit=1").await;
    assert_eq!(
        (&listed["data"][0]["id"], &listed["has_more"]),
        (&json!(id), &json!(false))
    );
    let (_, files) = stage.get("/v1/files?limit=2").await;
    assert_eq!(
        (files["data"].as_array().unwrap().len(), &files["has_more"]),
        (2, &json!(true))
    );
}

#[tokio::test]
async fn a_gateway_that_is_stopped_goes_on_and_every_request_has_one_result() {
    const ITEMS: usize = 300;
    let home = Home::temporary().unwrap();
    let fake = Fake::new(Script { token_ms: 1, ..echo() });
    let first = Stage::start(&home, fake.clone()).await;
    let input = (0..ITEMS).map(|number| line(number, question(number))).collect();
    let id = first.submit(input).await;
    fake.until(|counts| counts.completed > 40).await;
    first.gateway.tasks.drain(Duration::ZERO).await;
    let before = fake.engine.counts().completed;
    assert!(before < ITEMS as u64, "it was stopped in the middle");

    let second = Stage::start(&home, fake.clone()).await;
    let batch = second.until(&id, is("completed")).await;
    assert_eq!(batch["request_counts"]["completed"], ITEMS);
    let output = second.lines(&batch["output_file_id"]).await;
    let ids: Vec<_> = output.iter().map(|line| line["custom_id"].clone()).collect();
    let expected: Vec<_> = (0..ITEMS).map(|number| json!(format!("item-{number}"))).collect();
    assert_eq!(ids, expected);
    let run_again = fake.engine.counts().completed - ITEMS as u64;
    assert!(run_again < 64, "only what was under way is run again: {run_again}");
}

#[tokio::test]
async fn what_fails_is_tried_again_and_nobody_there_is_waited_for() {
    let home = Home::temporary().unwrap();
    let fake = Fake::new(Script {
        fault: Some(Fault::Break(0)),
        fault_requests: Some(5),
        ..echo()
    });
    fake.fail_with(InferError::NobodyFree {
        retry_after: Duration::from_secs(1),
    });
    let stage = Stage::start(&home, fake.clone()).await;
    let id = stage
        .submit((0..10).map(|number| line(number, question(number))).collect())
        .await;
    stage.until(&id, is("in_progress")).await;
    *fake.error.lock().unwrap() = None;
    let batch = stage.until(&id, is("completed")).await;
    assert_eq!(
        batch["request_counts"],
        json!({ "total": 10, "completed": 10, "failed": 0 })
    );
    assert_eq!(fake.engine.counts().failed, 5);
}

#[tokio::test]
async fn progress_is_told_while_all_that_is_left_waits() {
    let home = Home::temporary().unwrap();
    let fake = Fake::new(Script {
        fault: Some(Fault::Hang(0)),
        fault_requests: Some(1),
        ..echo()
    });
    let stage = Stage::start(&home, fake).await;
    let id = stage
        .submit((0..5).map(|number| line(number, question(number))).collect())
        .await;
    let batch = stage
        .until(&id, |batch| batch["request_counts"]["completed"] == 4)
        .await;
    assert_eq!(batch["status"], "in_progress");
    stage.post(&format!("/v1/batches/{id}/cancel"), json!({})).await;
    stage.until(&id, is("cancelled")).await;
}

#[tokio::test]
async fn a_batch_can_be_cancelled_and_keeps_what_it_has() {
    let home = Home::temporary().unwrap();
    let fake = Fake::new(Script {
        fault: Some(Fault::Hang(0)),
        ..echo()
    });
    let stage = Stage::start(&home, fake.clone()).await;
    let id = stage
        .submit((0..10).map(|number| line(number, question(number))).collect())
        .await;
    fake.until(|counts| counts.running > 0).await;
    let (_, running) = stage.get(&format!("/v1/batches/{id}")).await;
    let input = format!("/v1/files/{}", running["input_file_id"].as_str().unwrap());
    let delete = async || {
        stage
            .request(reqwest::Method::DELETE, &input)
            .send()
            .await
            .unwrap()
            .status()
    };
    assert_eq!(delete().await, 409, "it is being read");
    let (status, batch) = stage.post(&format!("/v1/batches/{id}/cancel"), json!({})).await;
    assert_eq!((status, &batch["status"]), (200, &json!("cancelling")));
    let batch = stage.until(&id, is("cancelled")).await;
    assert_eq!(batch["request_counts"]["completed"], 0);
    fake.until(|counts| counts.running == 0).await;
    let (status, _) = stage.post(&format!("/v1/batches/{id}/cancel"), json!({})).await;
    assert_eq!(status, 409);
    assert_eq!(delete().await, 200);
}

#[tokio::test]
async fn an_upload_that_stops_coming_is_given_up() {
    let home = Home::temporary().unwrap();
    let settings = Settings {
        batches: Some(home.batches()),
        patience: Patience {
            piece: Duration::from_millis(50),
            ..Patience::default()
        },
        ..Settings::default()
    };
    let gateway = Running::start(Fake::new(echo()), settings).await;
    let mut socket = TcpStream::connect(gateway.host()).await.unwrap();
    let half = "--b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"x\"\r\n\r\n{";
    let head = "POST /v1/files HTTP/1.1\r\nhost: localhost\r\ncontent-type: multipart/form-data; boundary=b";
    let request = format!("{head}\r\ncontent-length: 1000\r\n\r\n{half}");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = [0; 64];
    let read = tokio::time::timeout(PATIENCE, socket.read(&mut answer))
        .await
        .expect("in time");
    let answer = String::from_utf8_lossy(&answer[..read.unwrap()]).into_owned();
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    let left = std::fs::read_dir(home.batches().join("files")).unwrap().count();
    assert_eq!(left, 0, "nothing of it is kept");
}

#[tokio::test]
async fn what_is_wrong_is_said() {
    let home = Home::temporary().unwrap();
    let stage = Stage::start(&home, Fake::new(echo())).await;
    let id = stage.submit("{\n".to_owned()).await;
    let batch = stage.until(&id, is("failed")).await;
    assert_eq!(batch["errors"]["data"][0]["code"], "invalid_json_line");
    let file = stage.upload(line(0, question(0))).await;
    for (wrong, status) in [
        (
            json!({ "input_file_id": "file-000000000000000000000000", "endpoint": CHAT }),
            404,
        ),
        (json!({ "input_file_id": "../../etc/passwd", "endpoint": CHAT }), 404),
        (json!({ "input_file_id": file, "endpoint": "/v1/files" }), 400),
        (
            json!({ "input_file_id": file, "endpoint": CHAT, "completion_window": "1y" }),
            400,
        ),
        (json!({ "endpoint": CHAT }), 400),
        (json!([]), 400),
    ] {
        let (told, answer) = stage.post("/v1/batches", wrong.clone()).await;
        assert_eq!(told, status, "{wrong} {answer}");
        assert!(answer["error"]["message"].is_string());
    }
    for (wrong, field) in [
        (json!({ "input_file_id": file }), "endpoint"),
        (json!({ "input_file_id": 3, "endpoint": CHAT }), "input_file_id"),
        (
            json!({ "input_file_id": file, "endpoint": CHAT, "metadata": { "a": 1 } }),
            "metadata",
        ),
    ] {
        let (told, answer) = stage.post("/v1/batches", wrong).await;
        assert_eq!((told, &answer["error"]["param"]), (400, &json!(field)), "{answer}");
    }
    for path in ["/v1/files/nothing", "/v1/batches/nothing", "/v1/files/nothing/content"] {
        assert_eq!(stage.get(path).await.0, 404, "{path}");
    }
    assert_eq!(stage.get("/v1/files?limit=0").await.0, 400);
    assert_eq!(stage.get("/v1/files?after=x").await.0, 400);
    let form = Form::new()
        .text("purpose", "fine-tune")
        .part("file", Part::bytes(vec![1]));
    let answer = stage
        .request(reqwest::Method::POST, "/v1/files")
        .multipart(form)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 400);
    assert_eq!(stage.post("/v1/files", json!({})).await.0, 400);
}

#[tokio::test]
async fn each_key_has_its_own_files() {
    let home = Home::temporary().unwrap();
    let [one, two] = ["one", "two"].map(|name| keys::add(&home.keys_file(), name, Grant::default()).unwrap().1);
    let mut stage = Stage::start(&home, Fake::new(echo())).await;
    let mut files = BTreeMap::new();
    for key in [None, Some(one), Some(two)] {
        stage.key.clone_from(&key);
        let id = stage.submit(line(0, question(0))).await;
        stage.until(&id, is("completed")).await;
        files.insert(key, stage.until(&id, is("completed")).await["output_file_id"].clone());
    }
    for key in files.keys() {
        stage.key.clone_from(key);
        for (owner, file) in &files {
            let (status, _) = stage.get(&format!("/v1/files/{}", file.as_str().unwrap())).await;
            assert_eq!(status == 200, owner == key);
        }
        assert_eq!(stage.get("/v1/batches").await.1["data"].as_array().unwrap().len(), 1);
    }
}

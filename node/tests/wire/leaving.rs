//! Clients that go away, at every stage of a request.

use infernet_inference::scripted::{Fault, Script};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::fake::Running;
use crate::raw::{CHAT, all_is_well, connect, post, send};

const STREAMED: &[u8] = br#"{"model":"scripted","stream":true,"messages":[{"role":"user","content":"hello"}]}"#;

/// A figure of the gateway's own.
async fn figure(gateway: &Running, name: &str) -> u64 {
    let answer = send(gateway, b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    let text = String::from_utf8(answer.body).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().parse().unwrap()
}

#[tokio::test]
async fn a_request_may_end_at_any_byte() {
    let gateway = Running::with(Script::default()).await;
    let whole = post("/v1/chat/completions", CHAT.as_bytes());
    for end in 0..whole.len() {
        let mut socket = connect(&gateway).await;
        socket.write_all(&whole[..end]).await.unwrap();
    }
    // Half closed, so that what is cut short can be told.
    for end in [1, whole.len() - CHAT.len(), whole.len() - 1] {
        let mut socket = connect(&gateway).await;
        socket.write_all(&whole[..end]).await.unwrap();
        socket.shutdown().await.unwrap();
        let mut answer = String::new();
        tokio::time::timeout(crate::raw::WITHIN, socket.read_to_string(&mut answer))
            .await
            .unwrap()
            .unwrap();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
    all_is_well(&gateway, "requests that end early").await;
    assert_eq!(gateway.fake.engine.counts().started, 1, "none of them was a request");
    assert_eq!(figure(&gateway, "infernet_gateway_answers_running").await, 0);
}

#[tokio::test]
async fn an_answer_may_be_left_at_any_byte() {
    let gateway = Running::with(Script {
        fault: Some(Fault::Hang(12)),
        ..Script::default()
    })
    .await;
    for (left, read) in (0..1500).step_by(150).enumerate() {
        let mut socket = connect(&gateway).await;
        socket.write_all(&post("/v1/chat/completions", STREAMED)).await.unwrap();
        socket.read_exact(&mut vec![0; read]).await.unwrap();
        gateway.fake.until(|counts| counts.started == left as u64 + 1).await;
        drop(socket);
        gateway.fake.until(|counts| counts.running == 0).await;
    }
    let counts = gateway.fake.engine.counts();
    assert_eq!((counts.cancelled, counts.completed), (10, 0));
    gateway.fake.engine.follow(Script::default());
    all_is_well(&gateway, "those who left").await;
    assert_eq!(figure(&gateway, "infernet_gateway_answers_running").await, 0);
    assert_eq!(
        figure(&gateway, "infernet_gateway_answers_total{end=\"cancelled\"}").await,
        10
    );
}

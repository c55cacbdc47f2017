//! Requests as bytes, answers as what came back before the connection was closed or an answer was whole.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use crate::fake::Running;

/// No exchange takes longer, on a machine with other work.
pub(crate) const WITHIN: Duration = Duration::from_secs(30);

/// An ordinary chat, whole.
pub(crate) const CHAT: &str = r#"{"model":"scripted","messages":[{"role":"user","content":"hello"}]}"#;

/// What came back.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// Nothing where the connection was closed without an answer.
    pub(crate) status: Option<u16>,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// Whether the answer came from behind the HTTP parser, which says nothing but a status.
    pub(crate) fn is_of_the_gateway(&self) -> bool {
        self.head.contains("x-infernet-gateway: 1")
    }

    /// Every error of the gateway is an error object in the words of the API that was called.
    pub(crate) fn is_told(&self) -> bool {
        let told: Option<Value> = serde_json::from_slice(&self.body).ok();
        let Some(told) = told else { return false };
        let error = &told["error"];
        self.head.contains("content-type: application/json")
            && (error.is_string() || error["message"].is_string() && error["type"].is_string())
            && self.body.len() < 4096
    }
}

pub(crate) async fn connect(gateway: &Running) -> TcpStream {
    TcpStream::connect(gateway.host()).await.unwrap()
}

/// A POST with a length.
pub(crate) fn post(path: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

/// Sends bytes on a connection of their own, and reads the first answer.
pub(crate) async fn send(gateway: &Running, bytes: &[u8]) -> Answer {
    let socket = connect(gateway).await;
    let (reader, mut writer) = socket.into_split();
    let mut reader = BufReader::new(reader);
    // A gateway that refuses before it has read all is one that works.
    let write = async {
        let _ = writer.write_all(bytes).await;
        std::future::pending::<()>().await;
    };
    let exchanged = async {
        tokio::select! { answer = read(&mut reader) => answer, () = write => Answer::default() }
    };
    tokio::time::timeout(WITHIN, exchanged)
        .await
        .expect("an answer in time")
}

/// One answer, and not a byte more; where it has no length, what came before the end.
pub(crate) async fn read(reader: &mut (impl AsyncBufRead + Unpin)) -> Answer {
    let mut answer = Answer::default();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match reader.read_until(b'\n', &mut head).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
    }
    answer.head = String::from_utf8_lossy(&head).into_owned();
    answer.status = answer.head.get(9..12).and_then(|status| status.parse().ok());
    let length = answer
        .head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    answer.body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    if reader.read_exact(&mut answer.body).await.is_err() {
        answer.body.clear();
    }
    answer
}

/// An ordinary request is served, now.
pub(crate) async fn all_is_well(gateway: &Running, after: &str) {
    let answer = send(gateway, &post("/v1/chat/completions", CHAT.as_bytes())).await;
    assert_eq!(answer.status, Some(200), "after {after}: {answer:?}");
}

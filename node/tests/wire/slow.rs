//! Clients that take their time: with heads, with bodies, with reading; many of them at once.

use std::time::Duration;

use infernet_inference::scripted::{Reply, Script};
use infernet_node::gateway::{Patience, Settings};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::fake::{Fake, Running};
use crate::raw::{Answer, WITHIN, all_is_well, connect, read, send};

/// More than there are places for connections.
const MANY: usize = 600;

/// File descriptors for both ends of [`MANY`] connections.
fn room_for_many() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: limit.maximum.map_or(Some(8192), |most| Some(most.min(8192))),
        ..limit
    };
    setrlimit(Resource::Nofile, wanted).unwrap();
}

async fn patient_for(unit: Duration) -> Running {
    let patience = Patience {
        head: unit,
        body: 2 * unit,
        piece: unit,
        unread: unit,
    };
    let settings = Settings {
        patience,
        ..Settings::default()
    };
    Running::start(Fake::new(Script::default()), settings).await
}

const LARGE: &str = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 33554432\r\n\r\n";

/// Sends a byte now and then, until it is answered or cut off.
async fn trickle(mut socket: TcpStream, bytes: &'static str) -> Answer {
    let (reader, mut writer) = socket.split();
    let mut reader = BufReader::new(reader);
    let mut pace = tokio::time::interval(Duration::from_millis(50));
    let drip = async {
        for byte in bytes.bytes().cycle() {
            pace.tick().await;
            if writer.write_all(&[byte]).await.is_err() {
                break;
            }
        }
        std::future::pending().await
    };
    tokio::select! { answer = read(&mut reader) => answer, answer = drip => answer }
}

#[tokio::test]
async fn those_who_trickle_are_cut_off_and_hold_nobody_up() {
    room_for_many();
    let gateway = patient_for(Duration::from_millis(500)).await;
    let mut heads = JoinSet::new();
    let mut bodies = JoinSet::new();
    for _ in 0..200 {
        let mut socket = connect(&gateway).await;
        heads.spawn(trickle(connect(&gateway).await, "GET /v1/models HTTP/1.1\r\nx: "));
        bodies.spawn(async move {
            socket.write_all(LARGE.as_bytes()).await.unwrap();
            trickle(socket, " ").await
        });
    }
    all_is_well(&gateway, "four hundred that trickle").await;
    let ended = async {
        while let Some(answer) = heads.join_next().await {
            assert_eq!(answer.unwrap().status, None, "a head without end is cut off");
        }
        while let Some(answer) = bodies.join_next().await {
            let answer = answer.unwrap();
            assert!(answer.status == Some(408) && answer.is_told(), "{answer:?}");
        }
    };
    tokio::time::timeout(WITHIN, ended).await.expect("all were cut off");
    all_is_well(&gateway, "them").await;
}

#[tokio::test]
async fn who_promises_a_body_takes_nothing_from_others() {
    let gateway = Running::with(Script::default()).await;
    let mut silent = Vec::new();
    // More than requests at once, and thirty times what bodies may hold.
    for _ in 0..300 {
        let mut socket = connect(&gateway).await;
        socket.write_all(LARGE.as_bytes()).await.unwrap();
        silent.push(socket);
    }
    all_is_well(&gateway, "three hundred promises").await;
    drop(silent);
    let gateway = patient_for(Duration::from_millis(200)).await;
    let answer = send(&gateway, LARGE.as_bytes()).await;
    assert!(answer.status == Some(408) && answer.is_told(), "{answer:?}");
}

#[tokio::test]
async fn connections_that_wait_give_way() {
    room_for_many();
    // None is cut off by its time alone.
    let gateway = patient_for(Duration::from_secs(3600)).await;
    let mut waiting = Vec::new();
    for number in 0..MANY {
        let mut socket = connect(&gateway).await;
        if number % 3 == 1 {
            socket.write_all(b"GET / HT").await.unwrap();
        } else if number % 3 == 2 {
            socket.write_all(LARGE.as_bytes()).await.unwrap();
        }
        waiting.push(socket);
    }
    all_is_well(&gateway, "six hundred connections").await;
    let mut first = waiting.swap_remove(0);
    let read = tokio::time::timeout(WITHIN, first.read(&mut [0; 1]))
        .await
        .expect("in time");
    assert!(matches!(read, Ok(0) | Err(_)), "the one that waited longest was closed");
}

#[tokio::test]
async fn an_answer_that_nobody_reads_is_given_up() {
    let gateway = patient_for(Duration::from_millis(300)).await;
    gateway.fake.engine.follow(Script {
        reply: Reply::Words(5_000_000),
        ..Script::default()
    });
    let streamed = br#"{"model":"scripted","stream":true,"messages":[{"role":"user","content":"hello"}]}"#;
    let mut silent = Vec::new();
    for path in ["/v1/chat/completions", "/v1/responses"] {
        let body = if path.ends_with("responses") {
            br#"{"model":"scripted","stream":true,"input":"hello"}"#.as_slice()
        } else {
            streamed.as_slice()
        };
        let mut socket = connect(&gateway).await;
        socket.write_all(&crate::raw::post(path, body)).await.unwrap();
        silent.push(socket);
    }
    gateway.fake.until(|counts| counts.started == 2).await;
    let counts = gateway.fake.until(|counts| counts.running == 0).await;
    assert_eq!((counts.cancelled, counts.completed), (2, 0), "the engine is free again");
    gateway.fake.engine.follow(Script::default());
    all_is_well(&gateway, "those who did not read").await;
    drop(silent);
}

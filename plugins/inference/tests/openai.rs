//! The OpenAI backend against a server that misbehaves on purpose.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod replay;

use std::time::Duration;

use bytes::Bytes;
use infernet_inference::scripted::{Fault, Reply, Script};
use infernet_inference::{
    Backend, BackendError, BackendKind, Endpoint, Job, OpenAiBackend, Piece, ScriptedBackend, Usage,
};
use infernet_protocol::ModelId;
use replay::Server;

const STREAMING: &str = r#"{"model":"net","stream":true,"messages":[{"role":"user","content":"x"}]}"#;

fn job(body: &'static str) -> Job {
    Job {
        endpoint: Endpoint::ChatCompletions,
        model: "own".into(),
        id: ModelId::new("net").unwrap(),
        body: Bytes::from_static(body.as_bytes()),
        max_output: None,
        resume: None,
    }
}

fn backend(server: &Server) -> OpenAiBackend {
    OpenAiBackend::new(BackendKind::OpenAi, &server.address, Some("the-key")).unwrap()
}

async fn tell(backend: &OpenAiBackend) -> Result<(String, Usage), (String, BackendError)> {
    let mut answer = backend
        .run(job(STREAMING))
        .await
        .map_err(|error| (String::new(), error))?;
    let (mut text, mut usage) = (String::new(), Usage::default());
    while let Some(piece) = answer.next().await {
        match piece {
            Ok(Piece::Data { bytes, .. }) => text.push_str(std::str::from_utf8(&bytes).unwrap()),
            Ok(Piece::Usage(told)) => usage = told,
            Err(error) => return Err((text, error)),
        }
    }
    Ok((text, usage))
}

/// A server that gives every chat the same answer.
async fn always(status: u16, headers: &'static str, body: &'static str) -> Server {
    Server::start(move |_, mut reply| {
        Box::pin(async move {
            reply.whole(status, headers, body).await;
            reply
        })
    })
    .await
}

#[tokio::test]
async fn a_request_arrives_as_it_was_but_for_its_name_and_usage() {
    let server = replay::engine(
        ScriptedBackend::new(Script {
            models: vec!["own".into()],
            ..Script::default()
        }),
        999,
    )
    .await;
    tell(&backend(&server)).await.unwrap();
    let seen = server.until(|seen| seen.requests.len() == 1).await;
    let request = &seen.requests[0];
    assert_eq!(
        (request.method.as_str(), request.path.as_str()),
        ("POST", "/v1/chat/completions")
    );
    assert_eq!(request.header("authorization"), Some("Bearer the-key"));
    assert_eq!(request.header("x-infernet-hop"), Some("1"));
    let sent = r#"{"model":"own","stream":true,"messages":[{"role":"user","content":"x"}],"stream_options":{"include_usage":true}}"#;
    assert_eq!(request.body, sent);
}

#[tokio::test]
async fn connections_are_used_again() {
    let server = replay::engine(
        ScriptedBackend::new(Script {
            models: vec!["own".into()],
            ..Script::default()
        }),
        999,
    )
    .await;
    let backend = backend(&server);
    for _ in 0..20 {
        tell(&backend).await.unwrap();
    }
    let seen = server.until(|seen| seen.requests.len() == 20).await;
    assert_eq!(seen.connections, 1);
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_is_replaced() {
    // Each connection takes one request and is closed without a word, as servers do when their keep-alive runs out.
    let server = Server::start(|_, mut reply| {
        Box::pin(async move {
            reply.head("text/event-stream").await;
            reply.chunk(b"data: {\"choices\":[{\"delta\":{\"content\":\"x\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n").await;
            reply.end().await;
            reply.close().await;
            reply
        })
    })
    .await;
    let backend = backend(&server);
    for _ in 0..5 {
        tell(&backend).await.unwrap();
    }
}

#[tokio::test]
async fn statuses_keep_their_meaning() {
    let json = "content-type: application/json\r\n";
    let told = async |status, headers, body| {
        tell(&backend(&always(status, headers, body).await))
            .await
            .unwrap_err()
            .1
    };
    match told(429, "retry-after: 7\r\n", "{}").await {
        BackendError::Busy { retry_after } => assert_eq!(retry_after, Some(Duration::from_secs(7))),
        other => panic!("{other:?}"),
    }
    assert!(matches!(
        told(503, json, r#"{"error":{"message":"Loading model"}}"#).await,
        BackendError::Busy { retry_after: None }
    ));
    assert!(matches!(told(401, json, "{}").await, BackendError::Unauthorised { .. }));
    assert!(matches!(
        told(302, "location: http://elsewhere/\r\n", "").await,
        BackendError::Broken(_)
    ));
    assert!(matches!(told(404, json, "{}").await, BackendError::Gone));
    for status in [400, 422, 500] {
        match told(status, json, r#"{"error":{"message":"no"}}"#).await {
            BackendError::Refused { status: kept, body } => {
                assert_eq!((kept, &body[..]), (status, &br#"{"error":{"message":"no"}}"#[..]));
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(
        told(200, json, r#"{"error":{"message":"no"}}"#).await,
        BackendError::Failed { .. }
    ));
    assert!(
        matches!(told(200, json, "").await, BackendError::Broken(_)),
        "200 with an empty body is no answer"
    );
    assert!(matches!(
        told(200, "content-type: text/html\r\n", "<html>").await,
        BackendError::Broken(_)
    ));
}

#[tokio::test]
async fn nobody_there_is_unreachable() {
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let backend = OpenAiBackend::new(BackendKind::OpenAi, &format!("http://{closed}"), None).unwrap();
    let error = backend.run(job(STREAMING)).await.unwrap_err();
    assert!(
        matches!(error, BackendError::Unreachable { .. }) && error.to_string().contains("refused"),
        "{error}"
    );
    for wrong in ["", "not an address", "ftp://x", "http://"] {
        assert!(OpenAiBackend::new(BackendKind::OpenAi, wrong, None).is_err(), "{wrong}");
    }
}

#[tokio::test]
async fn what_came_before_a_break_is_delivered() {
    let script = Script {
        models: vec!["own".into()],
        fault: Some(Fault::Break(3)),
        ..Script::default()
    };
    let server = replay::engine(ScriptedBackend::new(script), 50).await;
    let (text, error) = tell(&backend(&server)).await.unwrap_err();
    assert!(matches!(error, BackendError::Broken(_)), "{error}");
    assert_eq!(text.matches("data: ").count(), 4, "the role and three words");
}

#[tokio::test]
async fn a_silent_engine_is_cancelled_when_nobody_waits() {
    for fault in [Fault::Hang(0), Fault::Hang(2), Fault::Silent] {
        let script = Script {
            models: vec!["own".into()],
            fault: Some(fault.clone()),
            ..Script::default()
        };
        let scripted = ScriptedBackend::new(script);
        let server = replay::engine(scripted.clone(), 999).await;
        let backend = backend(&server);
        if fault == Fault::Silent {
            let run = backend.run(job(STREAMING));
            tokio::select! {
                _ = run => panic!("it is silent"),
                _ = server.until(|seen| seen.running == 1) => {}
            }
        } else {
            let mut answer = backend.run(job(STREAMING)).await.unwrap();
            if fault == Fault::Hang(2) {
                answer.next().await.unwrap().unwrap();
            }
            drop(answer);
        }
        let seen = server
            .until(|seen| seen.running == 0 && !seen.requests.is_empty())
            .await;
        assert_eq!((seen.abandoned, scripted.counts().cancelled), (1, 1), "{fault:?}");
    }
}

#[tokio::test]
async fn an_engine_that_does_not_close_after_done_is_left() {
    let server = Server::start(|_, mut reply| {
        Box::pin(async move {
            reply.head("text/event-stream").await;
            reply.chunk(b"data: {\"choices\":[{\"text\":\"x\"}],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1}}\n\ndata: [DONE]\n\n").await;
            std::future::pending().await
        })
    })
    .await;
    let (text, usage) = tell(&backend(&server)).await.unwrap();
    assert!(text.ends_with("data: [DONE]\n\n"));
    assert_eq!((usage.input_tokens, usage.output_tokens), (1, 1));
}

#[tokio::test]
async fn ready_events_are_merged() {
    let server = replay::engine(
        ScriptedBackend::new(Script {
            models: vec!["own".into()],
            reply: Reply::Words(2_000),
            ..Script::default()
        }),
        100_000,
    )
    .await;
    let mut answer = backend(&server).run(job(STREAMING)).await.unwrap();
    let mut pieces = 0;
    while let Some(piece) = answer.next().await {
        piece.unwrap();
        pieces += 1;
    }
    assert!(pieces < 500, "{pieces} pieces for 2,000 events");
}

#[tokio::test]
async fn a_gateway_of_this_network_is_no_engine() {
    let by_header = always(200, "x-infernet-gateway: 1\r\n", r#"{"data":[]}"#).await;
    let by_owner = always(200, "", r#"{"data":[{"id":"m","owned_by":"infernet"}]}"#).await;
    for server in [by_header, by_owner] {
        assert!(matches!(
            backend(&server).models().await,
            Err(BackendError::Loop { .. })
        ));
    }
}

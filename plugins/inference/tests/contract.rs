//! Every backend keeps the same contract.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod replay;

use infernet_inference::contract::{Idle, Subject, check};
use infernet_inference::scripted::{Counts, Fault, Reply, Script};
use infernet_inference::{BackendKind, OpenAiBackend, ScriptedBackend};
use tokio::sync::watch;

struct Running(watch::Receiver<Counts>);

#[async_trait::async_trait]
impl Idle for Running {
    async fn idle(&self) {
        self.0.clone().wait_for(|counts| counts.running == 0).await.unwrap();
    }
}

/// Says enough for every clause, and goes slowly enough to be cancelled in the middle.
fn script() -> Script {
    Script {
        reply: Reply::Words(400),
        token_ms: 1,
        first_token_ms: 30,
        context: 100_000,
        ..Script::default()
    }
}

#[tokio::test]
async fn the_scripted_engine_keeps_it() {
    let backend = ScriptedBackend::new(script());
    let engine = Running(backend.observe());
    let kept = check(Subject {
        backend: &backend,
        engine: &engine,
        counts: true,
    })
    .await
    .unwrap();
    assert_eq!(kept.len(), 14);
    assert_eq!(
        backend.counts().cancelled,
        2,
        "both cancelled jobs were stopped, and no other"
    );
}

#[tokio::test]
async fn a_server_behind_the_openai_backend_keeps_it() {
    let scripted = ScriptedBackend::new(script());
    // 7 bytes cut every chunk inside words, escapes and characters.
    let server = replay::engine(scripted.clone(), 7).await;
    let backend = OpenAiBackend::new(BackendKind::Vllm, &server.address, None).unwrap();
    let engine = Running(scripted.observe());
    check(Subject {
        backend: &backend,
        engine: &engine,
        counts: true,
    })
    .await
    .unwrap();
    server.idle().await;
    assert!(scripted.counts().cancelled >= 1);
}

#[cfg(feature = "embedded")]
mod embedded {
    use infernet_inference::EmbeddedBackend;

    use super::*;

    struct Engine(EmbeddedBackend);

    #[async_trait::async_trait]
    impl Idle for Engine {
        async fn idle(&self) {
            self.0.rest().await;
        }
    }

    #[tokio::test]
    async fn the_embedded_engine_keeps_it() {
        let backend = EmbeddedBackend::demo(4).unwrap();
        check(Subject {
            backend: &backend,
            engine: &Engine(backend.clone()),
            counts: true,
        })
        .await
        .unwrap();
    }

    #[tokio::test]
    async fn the_embedded_engine_keeps_it_with_a_model_that_embeds() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/engine/tests/fixtures/bert");
        let backend = EmbeddedBackend::open(folder.as_ref(), 4).unwrap();
        let kept = check(Subject {
            backend: &backend,
            engine: &Engine(backend.clone()),
            counts: true,
        })
        .await
        .unwrap();
        assert_eq!(kept.len(), 11);
    }
}

#[tokio::test]
async fn a_backend_that_breaks_it_is_found_out() {
    for (script, clause) in [
        (
            Script {
                usage_percent: 100_000,
                ..script()
            },
            "a streamed chat",
        ),
        (
            Script {
                models: vec![],
                ..script()
            },
            "a backend lists its models",
        ),
        (
            Script {
                fault: Some(Fault::Break(5)),
                ..script()
            },
            "a streamed chat",
        ),
    ] {
        let backend = ScriptedBackend::new(script);
        let engine = Running(backend.observe());
        let broken = check(Subject {
            backend: &backend,
            engine: &engine,
            counts: true,
        })
        .await
        .unwrap_err();
        assert!(broken.clause.starts_with(clause), "{broken}");
    }
}

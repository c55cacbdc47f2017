//! Ring `clients`: official clients against separate processes that sell the embedded engine's answers.
//! `INFERNET_TEST_PYTHON` names a Python that has what `tests/clients/requirements.txt` asks for.

#![allow(clippy::disallowed_methods, reason = "the ring names its Python in the environment")]

use std::process::Stdio;

use infernet_tests::processes::{NodeHome, Process, soon};
use tokio::process::Command;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_openai_client_for_python_buys_from_two_embedded_providers() {
    let python = std::env::var("INFERNET_TEST_PYTHON").expect("INFERNET_TEST_PYTHON names a Python with the client");
    let homes: [NodeHome; 4] = Default::default();
    let hub = Process::bootstrap(&homes[0]).await;
    let _one = Process::provider(&homes[1], hub.address(), None).await;
    let _other = Process::provider(&homes[2], hub.address(), None).await;
    let gateway = Process::gateway(&homes[3], hub.address()).await;
    let checking = Command::new(python)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/clients/openai_python.py"))
        .env("INFERNET_GATEWAY", gateway.url(""))
        .env("INFERNET_MODEL", "infernet-demo")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let checked = soon("the client is done", checking).await.expect("Python runs");
    let told = String::from_utf8_lossy(&checked.stdout);
    assert!(
        checked.status.success() && told.contains("checks hold"),
        "{told}\n{}",
        String::from_utf8_lossy(&checked.stderr)
    );
}

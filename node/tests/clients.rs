//! Foreign clients against the gateway, in front of a scripted engine. `INFERNET_TEST_PYTHON` names a Python that has
//! what `tests/clients/requirements.txt` asks for.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::disallowed_methods, reason = "the ring names its Python in the environment")]

#[path = "gateway/fake.rs"]
mod fake;

use std::process::Stdio;

use fake::Running;
use infernet_inference::scripted::{Reply, Script};
use tokio::process::Command;

#[tokio::test]
async fn the_openai_client_for_python_is_content() {
    let python = std::env::var("INFERNET_TEST_PYTHON").expect("INFERNET_TEST_PYTHON names a Python with the client");
    let script = Script {
        models: vec!["org/model".into(), "scripted".into()],
        reply: Reply::Words(40),
        ..Script::default()
    };
    let gateway = Running::with(script).await;
    let checked = Command::new(python)
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../tests/clients/openai_python.py"
        ))
        .env("INFERNET_GATEWAY", &gateway.url)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let told = String::from_utf8_lossy(&checked.stdout);
    assert!(
        checked.status.success(),
        "{told}\n{}",
        String::from_utf8_lossy(&checked.stderr)
    );
    assert!(told.contains("checks hold"), "{told}");
}

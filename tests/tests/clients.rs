//! Ring `clients`: official clients against separate processes, in front of the embedded engine and of llama.cpp's
//! server. `INFERNET_TEST_PYTHON` names a Python that has what `tests/clients/requirements.txt` and
//! `tests/llamacpp/requirements.txt` ask for.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::disallowed_methods, reason = "the ring names its Python in the environment")]

use std::path::{Path, PathBuf};
use std::process::Stdio;

use infernet_tests::processes::{NodeHome, PATIENCE, Process, soon};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

const HERE: &str = env!("CARGO_MANIFEST_DIR");
const CLIENTS: [&str; 4] = [
    "openai_python.py",
    "anthropic_python.py",
    "ollama_python.py",
    "js/openai.js",
];

fn python() -> Command {
    interpreter("")
}

/// The ring's Python for a script in Python, and the Node.js beside it for one in JavaScript.
fn interpreter(script: &str) -> Command {
    let python = std::env::var("INFERNET_TEST_PYTHON").expect("INFERNET_TEST_PYTHON names a Python with the clients");
    let python = PathBuf::from(python);
    let mut command = match script.ends_with(".js") {
        true => Command::new(python.with_file_name("node")),
        false => Command::new(python),
    };
    command.stdin(Stdio::piped()).kill_on_drop(true);
    command
}

/// An engine in Python that tells its address in its first line.
async fn engine(script: &str, arguments: &[&str]) -> (Child, String) {
    let mut server = python()
        .arg(format!("{HERE}/{script}"))
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut address = String::new();
    let mut out = BufReader::new(server.stdout.take().unwrap());
    soon("the engine's address", out.read_line(&mut address)).await.unwrap();
    (server, address.trim().to_owned())
}

/// Every client is content with a gateway in front of these providers.
async fn content(gateway: &Process, model: &str, features: &str, embedder: Option<&str>) {
    for client in CLIENTS {
        let checking = interpreter(client)
            .arg(format!("{HERE}/clients/{client}"))
            .env("INFERNET_GATEWAY", gateway.url(""))
            .env("INFERNET_MODEL", model)
            .env("INFERNET_FEATURES", features)
            .envs(embedder.map(|name| ("INFERNET_EMBEDDER", name)))
            .output();
        let checked = tokio::time::timeout(2 * PATIENCE, checking)
            .await
            .expect("the client is done")
            .unwrap();
        let told = String::from_utf8_lossy(&checked.stdout);
        assert!(
            checked.status.success() && told.contains("checks hold"),
            "{client}:\n{told}\n{}",
            String::from_utf8_lossy(&checked.stderr)
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn official_clients_buy_from_two_embedded_providers() {
    let homes: [NodeHome; 5] = Default::default();
    let hub = Process::bootstrap(&homes[0]).await;
    let _one = Process::provider(&homes[1], hub.address(), None).await;
    let _other = Process::provider(&homes[2], hub.address(), None).await;
    let embeds = Path::new(HERE).join("../plugins/inference/engine/tests/fixtures/bert");
    let _embedder = Process::embedded(&homes[4], hub.address(), Some(&embeds), "4").await;
    let gateway = Process::gateway(&homes[3], hub.address()).await;
    content(&gateway, "infernet-demo", "", Some("bert")).await;
}

/// A provider of an engine, and a gateway that buys from it.
async fn in_front_of(engine: &str, model: &str, features: &str) {
    let homes: [NodeHome; 3] = Default::default();
    let hub = Process::bootstrap(&homes[0]).await;
    let _provider = Process::provider(&homes[1], hub.address(), Some(engine)).await;
    let gateway = Process::gateway(&homes[2], hub.address()).await;
    content(&gateway, model, features, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn official_clients_buy_from_a_provider_of_llamacpp() {
    let model = format!("{HERE}/../plugins/inference/demo-model/infernet-demo.gguf");
    let script = "../plugins/inference/tests/llamacpp_server.py";
    let (_server, address) = engine(script, &[&model, "4", "--embeddings"]).await;
    in_front_of(&address, "infernet-demo", "json_schema,embeddings").await;
}

/// The demo model has not learnt to call tools, so a model is made that does nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn official_clients_have_tools_called_by_llamacpp() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("tool-caller.gguf");
    let model = model.to_str().unwrap();
    let made = python()
        .arg(format!("{HERE}/llamacpp/tool_model.py"))
        .arg(model)
        .status();
    assert!(soon("a model is made", made).await.unwrap().success());
    let script = "../plugins/inference/tests/llamacpp_server.py";
    let (_server, address) = engine(script, &[model, "4", "--context", "4096"]).await;
    in_front_of(&address, "tool-caller", "json_schema,tools").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn official_clients_buy_from_an_engine_that_calls_tools() {
    let (_server, address) = engine("clients/shaped_engine.py", &[]).await;
    in_front_of(&address, "shaped", "json_schema,tools").await;
}

//! Ring `http`, with real processes: a gateway in front of a provider, the requests that its description allows and those
//! that it does not, and its memory under requests that are made to take much. `INFERNET_TEST_PYTHON` names a Python that
//! has what `tests/hostile_http/requirements.txt` asks for.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::disallowed_methods, reason = "the ring names its Python in the environment")]

use std::process::Stdio;
use std::time::Duration;

use infernet_tests::processes::{Client, NodeHome, Process, soon};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

const HERE: &str = env!("CARGO_MANIFEST_DIR");
/// Schemathesis takes less than a minute on two idle cores.
const WITHIN: Duration = Duration::from_secs(240);

fn python(script: &str) -> Command {
    let python = std::env::var("INFERNET_TEST_PYTHON").expect("INFERNET_TEST_PYTHON names a Python with Schemathesis");
    let mut command = Command::new(python);
    command
        .arg(format!("{HERE}/{script}"))
        .stdin(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// A hub, a provider of a scripted engine in Python, and a gateway.
struct Place {
    provider: Process,
    gateway: Process,
    _hub: Process,
    _engine: Child,
    _homes: [NodeHome; 3],
}

impl Place {
    async fn new() -> Self {
        let mut engine = python("clients/shaped_engine.py")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut address = String::new();
        let mut out = BufReader::new(engine.stdout.take().unwrap());
        soon("the engine's address", out.read_line(&mut address)).await.unwrap();
        let homes: [NodeHome; 3] = Default::default();
        let hub = Process::bootstrap(&homes[0]).await;
        let provider = Process::provider(&homes[1], hub.address(), Some(address.trim())).await;
        let gateway = Process::gateway(&homes[2], hub.address()).await;
        let place = Self {
            provider,
            gateway,
            _hub: hub,
            _engine: engine,
            _homes: homes,
        };
        soon("a model is served", place.is_ready()).await;
        place
    }

    async fn is_ready(&self) {
        let client = Client::default();
        while client.get(self.gateway.url("/v1/models")).await["data"] == Value::Array(Vec::new()) {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gateway_is_as_it_describes_itself() {
    let place = Place::new().await;
    let checking = python("hostile_http/described.py")
        .env("INFERNET_GATEWAY", place.gateway.url(""))
        .env("INFERNET_MODEL", "shaped")
        .env("INFERNET_PROVIDER", place.provider.peer_id())
        .output();
    let checked = tokio::time::timeout(WITHIN, checking)
        .await
        .expect("it ends in time")
        .unwrap();
    let told = String::from_utf8_lossy(&checked.stdout);
    assert!(
        checked.status.success() && told.contains("Tested: "),
        "{told}\n{}",
        String::from_utf8_lossy(&checked.stderr)
    );
    let answered = Client::default().chat(&place.gateway, "shaped", false).await.unwrap();
    assert_eq!(
        answered.status, 200,
        "an ordinary request afterwards: {}",
        answered.body
    );
}

/// A figure of `/proc/PID/status`, in MiB.
fn mebibytes(process: &Process, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    let kibibytes: u64 = line
        .trim_matches([':', ' ', '\t'])
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    kibibytes / 1024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_is_bounded_however_many_requests_are_hostile() {
    let place = Place::new().await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let full = |piece: &str, open: &str| [open, &piece.repeat((31 << 20) / piece.len()), "{}]}"].concat();
    let bombs = [
        full("{\"\":0},", "{\"model\":\"shaped\",\"max_tokens\":1,\"messages\":["),
        full("0,", "{\"model\":\"shaped\",\"max_tokens\":1,\"input\":["),
        full("\"\":0,", "{\"model\":\"shaped\",\"x\":[{"),
    ];
    let bombs: Vec<_> = bombs.into_iter().map(bytes::Bytes::from).collect();
    let round = async || {
        for path in ["/v1/chat/completions", "/v1/messages", "/api/chat", "/v1/responses"] {
            let sent = bombs
                .iter()
                .map(|bomb| client.post(place.gateway.url(path)).body(bomb.clone()).send());
            for answer in futures::future::join_all(sent).await {
                // A gateway that closes while it is still being sent to has refused as well.
                assert!(
                    answer.map_or(true, |answer| answer.status().is_client_error()),
                    "{path}"
                );
            }
        }
    };
    round().await;
    let (first, peak) = (mebibytes(&place.gateway, "VmRSS"), mebibytes(&place.gateway, "VmHWM"));
    for _ in 0..4 {
        round().await;
    }
    let (last, highest) = (mebibytes(&place.gateway, "VmRSS"), mebibytes(&place.gateway, "VmHWM"));
    assert!(last < first + 200, "{first} MiB became {last} MiB");
    assert!(
        highest < peak + 200 && highest < 900,
        "{peak} MiB, then {highest} MiB at once"
    );
    let answered = Client::default().chat(&place.gateway, "shaped", false).await.unwrap();
    assert_eq!(answered.status, 200);
}

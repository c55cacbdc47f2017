//! Ring `foreign`: other implementations of libp2p in a network of the real programs. What they know of this
//! project's messages is written from `specs/` alone, in `tests/foreign`. `INFERNET_TEST_PYTHON` names a Python that
//! has what `tests/foreign/requirements.txt` asks for, with the Node.js that comes with it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::disallowed_methods, reason = "the ring names its Python in the environment")]

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use infernet_inference::{Endpoint, Request};
use infernet_node::buyer::Purchase;
use infernet_node::node::{LeaseTerms, Node, Settings};
use infernet_protocol::ModelId;
use infernet_tests::network::{settings, start, whole};
use infernet_tests::processes::{Client, NodeHome, PATIENCE, Process, soon};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

const HERE: &str = env!("CARGO_MANIFEST_DIR");
const MODEL: &str = "infernet-demo";
/// A foreign program says so when it listens for a deal.
const ASKS: &str = "ask: a deal";

/// A foreign program at work; its checks are lines of its output.
struct Foreign {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    told: String,
}

impl Foreign {
    /// Starts one in Python, or in JavaScript with the Node.js beside that Python.
    fn start(script: &str, hub: &Process, settings: &[(&str, &str)]) -> Self {
        let python = std::env::var("INFERNET_TEST_PYTHON").expect("INFERNET_TEST_PYTHON names a Python with libp2p");
        let python = PathBuf::from(python);
        let interpreter = match script.ends_with(".js") {
            true => python.with_file_name("node"),
            false => python,
        };
        let mut child = Command::new(interpreter)
            .arg(format!("{HERE}/foreign/{script}"))
            .env("INFERNET_NETWORK", "test")
            .env("INFERNET_BOOTSTRAP", hub.address())
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self {
            child,
            lines,
            told: String::new(),
        }
    }

    /// Reads on until it asks for a deal, or is done.
    async fn asks(&mut self) -> bool {
        while let Some(line) = self.lines.next_line().await.unwrap() {
            if line == ASKS {
                return true;
            }
            self.told.push_str(&line);
            self.told.push('\n');
        }
        false
    }

    /// Waits until it is done, which it must be with every check passed.
    async fn content(mut self) {
        assert!(!self.asks().await, "there is one deal for each");
        let status = soon("the program ends", self.child.wait()).await.unwrap();
        let counted = self.told.trim_end().ends_with(" passed, 0 failed, 0 skipped");
        assert!(status.success() && counted, "{status}:\n{}", self.told);
    }
}

/// A program's checks have a deadline each; a dozen that fail are waited for, so that all are told.
async fn in_time<T>(future: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(4 * PATIENCE, future).await;
    done.expect("the foreign program is done")
}

/// Buys an answer from whoever sells the model.
async fn buy(buyer: &Arc<Node>) {
    let body =
        format!(r#"{{"model":"{MODEL}","max_tokens":8,"messages":[{{"role":"user","content":"Who are you?"}}]}}"#);
    let request = Request::read(Endpoint::ChatCompletions, body.as_bytes()).unwrap();
    let model = ModelId::new(MODEL).unwrap();
    let purchase = Purchase::new(model, &request, Bytes::from(body), Instant::now() + PATIENCE);
    let (answer, outcome) = soon("an answer", whole(buyer.buy(purchase))).await;
    outcome.unwrap_or_else(|error| panic!("no answer but {error}"));
    assert!(!answer.is_empty());
}

/// One answer through a gateway, and the deal behind it in a file, when the buyer has signed all of it.
async fn exported(home: &NodeHome, gateway: &Process) -> String {
    let answered = Client::default().chat(gateway, MODEL, true).await.unwrap();
    assert_eq!(answered.status, 200, "{}", answered.body);
    let signed = async {
        loop {
            let rows = home.rows("buyer").await;
            if rows.first().is_some_and(|row| row["countersigned"] == true) {
                return rows;
            }
        }
    };
    let rows = soon("a countersigned receipt", signed).await;
    let job = rows[0]["job"].as_str().unwrap();
    let file = home.path().join("deal").to_str().unwrap().to_owned();
    let written = home.infernet(&["receipts", "export", job, &file]).await;
    assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
    file
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn js_libp2p_joins_finds_verifies_and_is_relayed() {
    let homes: [NodeHome; 3] = Default::default();
    let hub = Process::bootstrap(&homes[0]).await;
    let provider = Process::provider(&homes[1], hub.address(), None).await;
    let gateway = Process::gateway(&homes[2], hub.address()).await;
    let deal = exported(&homes[2], &gateway).await;

    // The programs' leases last for minutes; one of a single request is over, and its receipt heard, at once.
    let buyer = start(Settings {
        lease: LeaseTerms {
            requests: 1,
            ..LeaseTerms::default()
        },
        ..settings(31, &[hub.address().parse().unwrap()])
    })
    .await;

    let named = [
        ("INFERNET_PROVIDER", provider.peer_id()),
        ("INFERNET_MODEL", MODEL),
        ("INFERNET_EXPORT", &deal),
    ];
    let mut foreign = Foreign::start("js/checks.js", &hub, &named);
    in_time(async {
        if foreign.asks().await {
            buy(&buyer).await;
        }
        foreign.content().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn py_libp2p_connects_identifies_and_pings() {
    let home = NodeHome::default();
    let hub = Process::bootstrap(&home).await;
    in_time(Foreign::start("py/checks.py", &hub, &[]).content()).await;
}

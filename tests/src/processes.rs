//! The real programs on loopback: started, watched until they are ready, killed, and always reaped.
//!
//! Programs are taken from beside the test, where Cargo put them; `tests/run` builds them first.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use infernet_node::home::Home;
use infernet_node::ipc;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::namespaces::Host;

/// No test waits longer for one thing to happen, on a machine with other work.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for something that has to happen.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("not within {} s: {what}", PATIENCE.as_secs()),
    }
}

/// A program of this workspace.
///
/// # Panics
/// Where it was not built, with the command that builds it.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    // Set for measurements, to programs that were built for speed.
    if let Some((_, folder)) = std::env::vars_os().find(|(variable, _)| variable == "INFERNET_TEST_PROGRAMS") {
        return PathBuf::from(folder).join(name);
    }
    let test = std::env::current_exe().expect("a test has a path");
    // `target/debug/deps/processes-...` stands one below the programs.
    let target = test.parent().and_then(Path::parent).expect("tests lie in `deps`");
    let path = target.join(name);
    assert!(
        path.is_file(),
        "`{}` is missing: build it with `cargo build -p infernet-node -p infernet-bootstrap`",
        path.display()
    );
    path
}

/// A directory for a node, which outlives the node's processes.
#[derive(Debug)]
pub struct NodeHome {
    directory: TempDir,
}

impl Default for NodeHome {
    fn default() -> Self {
        let directory = tempfile::Builder::new().prefix("inf-").tempdir();
        Self {
            directory: directory.expect("a temporary directory"),
        }
    }
}

impl NodeHome {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("home")
    }

    /// Its index, which the journal can remake.
    #[must_use]
    pub fn index(&self) -> PathBuf {
        self.path().join("data/networks/test/index")
    }

    /// Asks the node that runs here, as the commands do.
    pub async fn ask(&self, method: &'static str, params: Value) -> Result<Value, String> {
        let home = Home::at(self.path());
        tokio::task::spawn_blocking(move || ipc::call(&home, method, params))
            .await
            .expect("asking does not panic")
            .map_err(|error| error.to_string())
    }

    /// The ledger of the node that runs here, by request.
    pub async fn rows(&self, role: &str) -> Vec<Value> {
        let mut rows = match self.ask("receipts", json!({ "role": role })).await {
            Ok(Value::Array(rows)) => rows,
            other => panic!("no receipts: {other:?}"),
        };
        rows.sort_by_key(|row| row["request"].as_str().map(str::to_owned));
        rows
    }

    /// A command of `infernet` on this home, to its end.
    pub async fn infernet(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(program("infernet"));
        quiet(&mut command)
            .arg("--home")
            .arg(self.path())
            .args(arguments)
            .env("INFERNET_NETWORK", "test");
        soon("a command ends", command.output()).await.expect("it runs")
    }
}

/// What this user's environment says must not matter here.
fn quiet(command: &mut Command) -> &mut Command {
    let path = std::env::vars_os().find(|(name, _)| name == "PATH");
    command.env_clear().envs(path).stdin(Stdio::null()).kill_on_drop(true)
}

/// A process that is ready. Dropped, it is killed and reaped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// Its ready line.
    pub ready: Value,
}

impl Process {
    async fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the program starts");
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("it has an output"));
        soon("a ready line", stdout.read_line(&mut line))
            .await
            .expect("its output can be read");
        let ready = serde_json::from_str(&line).unwrap_or_else(|_| panic!("no ready line but {line:?}"));
        Self { child, ready }
    }

    /// A bootstrap node.
    pub async fn bootstrap(home: &NodeHome) -> Self {
        let mut command = Command::new(program("infernet-bootstrap"));
        quiet(&mut command)
            .args([
                "--json",
                "--network",
                "test",
                "--listen",
                "/ip4/127.0.0.1/tcp/0",
                "--metrics",
                "127.0.0.1:0",
                "--home",
            ])
            .arg(home.path())
            .stderr(Stdio::null());
        Self::start(command).await
    }

    /// A node that sells what an OpenAI-compatible server runs, or the embedded engine where none is named.
    pub async fn provider(home: &NodeHome, at: &str, engine: Option<&str>) -> Self {
        let mut command = node(home, at, "start");
        command.arg("--foreground");
        match engine {
            Some(address) => command
                .args(["--backend", "openai"])
                .env("INFERNET_OPENAI_HOST", address),
            None => command.args(["--backend", "embedded"]),
        };
        Self::start(command).await
    }

    /// A node that sells what the embedded engine runs, its own model or this one, with so many slots for anybody.
    pub async fn embedded(home: &NodeHome, at: &str, model: Option<&Path>, slots: &str) -> Self {
        let mut command = node(home, at, "start");
        command.args(["--foreground", "--backend", "embedded", "--slots", slots]);
        command.args(["--stranger-slots", slots]);
        if let Some(model) = model {
            command.arg("--model").arg(model);
        }
        Self::start(command).await
    }

    /// A bootstrap node on a machine of its own.
    pub async fn bootstrap_on(host: &Host, home: &NodeHome, join: &[&str]) -> Self {
        let mut command = host.command(&program("infernet-bootstrap"));
        quiet(&mut command)
            .args(["--json", "--network", "test", "--home"])
            .arg(home.path())
            .stderr(Stdio::null());
        for address in join {
            command.args(["--bootstrap", address]);
        }
        Self::start(command).await
    }

    /// A node on a machine of its own: `start` or `gateway` with what else is said.
    pub async fn node_on(
        host: &Host,
        home: &NodeHome,
        join: &[&str],
        words: &[&str],
        settings: &[(&str, &str)],
    ) -> Self {
        let log = std::env::vars_os().find(|(name, _)| name == "INFERNET_LOG");
        let stderr = if log.is_some() { Stdio::inherit() } else { Stdio::null() };
        let mut command = host.command(&program("infernet"));
        quiet(&mut command)
            .envs(log)
            .envs(settings.iter().copied())
            .arg("--home")
            .arg(home.path())
            .args(["--json", words[0], "--no-mdns", "--no-upnp", "--network", "test"])
            .args(&words[1..])
            .args(["--gateway", "127.0.0.1:0"])
            .stderr(stderr);
        for address in join {
            command.args(["--bootstrap", address]);
        }
        Self::start(command).await
    }

    /// The engine of the benchmarks on a machine of its own, and its address there: `bench-paced` says fifty tokens a
    /// second.
    pub async fn engine_on(host: &Host) -> (Child, String) {
        let mut command = host.command(&program("infernet"));
        quiet(&mut command)
            .arg("--home")
            .arg(std::env::temp_dir())
            .args(["bench", "engine"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().expect("the program starts");
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("it has an output"));
        soon("the engine's address", stdout.read_line(&mut line))
            .await
            .expect("its output can be read");
        assert!(line.starts_with("http"), "no address but {line:?}");
        (child, line.trim().to_owned())
    }

    /// A node that only buys.
    pub async fn gateway(home: &NodeHome, at: &str) -> Self {
        Self::gateway_set(home, at, &[]).await
    }

    /// The same, with settings of its own.
    pub async fn gateway_set(home: &NodeHome, at: &str, settings: &[(&str, &str)]) -> Self {
        let mut command = node(home, at, "gateway");
        command.envs(settings.iter().copied());
        Self::start(command).await
    }

    /// The first address that it listens on.
    #[must_use]
    pub fn address(&self) -> &str {
        self.ready["listen"][0].as_str().expect("it listens")
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// Its peer id.
    #[must_use]
    pub fn peer_id(&self) -> &str {
        self.ready["peer_id"].as_str().expect("it has a peer id")
    }

    /// A route of its gateway.
    #[must_use]
    pub fn url(&self, route: &str) -> String {
        format!("{}{route}", self.ready["gateway"].as_str().expect("it has a gateway"))
    }

    /// `kill -STOP`: it does nothing, and its connections stay open.
    pub fn stand_still(&self) {
        self.signal(rustix::process::Signal::STOP);
    }

    /// `kill -CONT`.
    pub fn move_on(&self) {
        self.signal(rustix::process::Signal::CONT);
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let id = i32::try_from(self.id()).ok().and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(id.expect("a process id"), signal).expect("a child takes signals");
    }

    /// `kill -9`, and waits until it is gone.
    pub async fn kill(&mut self) {
        self.child.kill().await.expect("a child can be killed");
    }
}

fn node(home: &NodeHome, at: &str, command: &str) -> Command {
    let mut process = Command::new(program("infernet"));
    // Set for a look into a failing test; the rest of the environment stays out.
    let log = std::env::vars_os().find(|(name, _)| name == "INFERNET_LOG");
    let stderr = if log.is_some() { Stdio::inherit() } else { Stdio::null() };
    quiet(&mut process)
        .envs(log)
        .arg("--home")
        .arg(home.path())
        .args(["--json", command, "--no-mdns", "--no-upnp", "--network", "test"])
        .args(["--listen", "/ip4/127.0.0.1/tcp/0", "--gateway", "127.0.0.1:0"])
        .args(["--bootstrap", at])
        .stderr(stderr);
    process
}

/// The route that the client uses.
pub const CHAT: &str = "/v1/chat/completions";
/// Tokens of a usual answer at most.
const USUAL_TOKENS: u32 = 64;

/// A client of a gateway.
#[derive(Clone, Debug, Default)]
pub struct Client(reqwest::Client);

/// A whole answer of a gateway.
#[derive(Clone, Debug)]
pub struct Answered {
    /// HTTP status.
    pub status: u16,
    /// The request's id in the ledgers.
    pub request: Option<String>,
    /// Who answered.
    pub provider: Option<String>,
    /// The body.
    pub body: String,
}

impl Client {
    /// A document.
    pub async fn get(&self, url: String) -> Value {
        let text = soon("a document", async { self.0.get(url).send().await?.text().await }).await;
        serde_json::from_str(&text.expect("the gateway answers")).expect("JSON")
    }

    /// A text.
    pub async fn text(&self, url: String) -> String {
        let text = soon("a text", async { self.0.get(url).send().await?.text().await }).await;
        text.expect("the gateway answers")
    }

    /// Uploads a batch's input and gives its id.
    pub async fn upload(&self, node: &Process, text: String) -> String {
        let part = reqwest::multipart::Part::text(text).file_name("input.jsonl");
        let form = reqwest::multipart::Form::new()
            .text("purpose", "batch")
            .part("file", part);
        let sent = self.0.post(node.url("/v1/files")).multipart(form).send();
        let answer = soon("a file is taken", sent).await.expect("the gateway answers");
        let file: Value = answer.json().await.expect("JSON");
        file["id"].as_str().expect("an id").to_owned()
    }

    /// Begins a chat of so many tokens at most; the response's head is here when this returns.
    pub async fn begin(
        &self,
        node: &Process,
        model: &str,
        stream: bool,
        tokens: u32,
    ) -> Result<reqwest::Response, reqwest::Error> {
        self.begin_at(&node.url(CHAT), model, stream, tokens).await
    }

    /// The same, of a gateway that may be gone.
    pub async fn begin_at(
        &self,
        url: &str,
        model: &str,
        stream: bool,
        tokens: u32,
    ) -> Result<reqwest::Response, reqwest::Error> {
        let body = json!({
            "model": model,
            "stream": stream,
            "max_tokens": tokens,
            "messages": [{ "role": "user", "content": "Tell me a story about a fox." }],
        });
        self.post(url, &body).await
    }

    /// Any request; the response's head is here when this returns.
    pub async fn post(&self, url: &str, body: &Value) -> Result<reqwest::Response, reqwest::Error> {
        let request = self
            .0
            .post(url)
            .header("content-type", "application/json")
            .body(body.to_string());
        soon("an answer begins", request.send()).await
    }

    /// A whole chat.
    pub async fn chat(&self, node: &Process, model: &str, stream: bool) -> Result<Answered, reqwest::Error> {
        let response = self.begin(node, model, stream, USUAL_TOKENS).await?;
        let header = |name: &str| {
            let value = response.headers().get(name)?;
            value.to_str().ok().map(str::to_owned)
        };
        let (request, provider) = (header("x-infernet-request"), header("x-infernet-provider"));
        Ok(Answered {
            status: response.status().as_u16(),
            request,
            provider,
            body: soon("an answer ends", response.text()).await?,
        })
    }
}

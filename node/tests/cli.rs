//! The command line as a person or a script meets it: the real binary, its output and its exit codes. Nodes that run
//! here keep to loopback and to ports of their own.

#![expect(clippy::unwrap_used, reason = "a panic here is a failed test")]

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use infernet_node::home::Home;
use infernet_node::store::{Record, Side, Store};
use infernet_protocol::UnixMillis;
use infernet_protocol::receipt::chain;
use serde_json::{Value, json};

/// A home of its own, in which nothing is left running.
struct Infernet {
    home: Home,
}

impl Drop for Infernet {
    fn drop(&mut self) {
        if self
            .home
            .holder()
            .is_ok_and(|holder| holder.is_some_and(|pid| pid != std::process::id()))
        {
            let _ = self.run(&["stop", "--force"]);
        }
    }
}

/// A node that speaks to nobody but this machine.
const QUIET: &[&str] = &[
    "--network",
    "test",
    "--listen",
    "/ip4/127.0.0.1/tcp/0",
    "--no-mdns",
    "--no-upnp",
    "--role",
    "consumer",
    "--gateway",
    "127.0.0.1:0",
];

impl Infernet {
    fn new() -> Self {
        Self {
            home: Home::temporary().unwrap(),
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_infernet"));
        command
            .env_clear()
            .env("INFERNET_HOME", self.home.path())
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// What a command prints when all is well.
    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let all: Vec<&str> = ["--json"].iter().chain(arguments).copied().collect();
        serde_json::from_str(&self.ok(&all)).unwrap()
    }

    /// What a command complains of when it ends with this code.
    fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    fn with_stdin(&self, arguments: &[&str], text: &str) -> Output {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    fn mode(&self, file: &Path) -> u32 {
        fs::metadata(file).unwrap().permissions().mode() & 0o777
    }
}

fn quiet<'a>(before: &[&'a str]) -> Vec<&'a str> {
    before.iter().chain(QUIET).copied().collect()
}

#[test]
fn version_and_completions() {
    let infernet = Infernet::new();
    assert!(
        infernet
            .ok(&["version"])
            .starts_with(concat!("infernet ", env!("CARGO_PKG_VERSION")))
    );
    assert_eq!(infernet.json(&["version"])["version"], env!("CARGO_PKG_VERSION"));
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = infernet.ok(&["completions", shell]);
        assert!(script.contains("receipts") && script.contains("infernet"), "{shell}");
    }
    infernet.fails(2, &["completions", "cobol"]);
    infernet.fails(2, &["dance"]);
    infernet.fails(2, &[]);
    assert!(infernet.ok(&["--help"]).contains("gateway"));
}

#[test]
fn an_identity_is_made_once_and_can_be_taken_elsewhere() {
    let (one, two) = (Infernet::new(), Infernet::new());
    assert!(one.fails(1, &["identity"]).contains("infernet init"));
    let made = one.json(&["init"]);
    assert_eq!(made["created"], true);
    assert!(made["peer_id"].as_str().unwrap().starts_with("16Uiu2"));
    assert!(made["npub"].as_str().unwrap().starts_with("npub1"));
    assert_eq!(one.mode(one.home.path()), 0o700);
    assert_eq!(
        (one.mode(&one.home.identity_file()), one.mode(&one.home.config_file())),
        (0o600, 0o600)
    );
    let again = one.json(&["init"]);
    assert_eq!(
        (&again["created"], &again["peer_id"]),
        (&json!(false), &made["peer_id"])
    );
    assert_eq!(one.json(&["identity"])["npub"], made["npub"]);
    let plain = one.ok(&["identity"]);
    assert!(plain.contains(made["peer_id"].as_str().unwrap()) && !plain.contains("nsec"));

    let nsec = one.ok(&["identity", "--nsec"]);
    assert!(nsec.starts_with("nsec1"));
    let taken = two.with_stdin(&["--json", "init", "--import", "-"], &nsec);
    assert!(taken.status.success(), "{taken:?}");
    assert_eq!(two.json(&["identity"])["peer_id"], made["peer_id"]);
    let refused = two.with_stdin(&["init", "--import", "-"], &nsec);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        String::from_utf8(refused.stderr)
            .unwrap()
            .contains("holds an identity already")
    );
}

#[test]
fn a_key_is_found_in_an_older_configuration_file() {
    let infernet = Infernet::new();
    let file = infernet.home.path().join("older.json");
    let key = "0".repeat(63) + "3";
    let older =
        json!({ "nodeId": "x", "keys": { "privkey": key }, "database": { "url": "https://db", "secretKey": "s" } });
    fs::write(&file, older.to_string()).unwrap();
    let output = infernet.run(&["--json", "init", "--import", file.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    let made: Value = serde_json::from_slice(&output.stdout).unwrap();
    let expected = "f9308a019258c31049344f85f89d5229b531c845836f99b08601f113bce036f9";
    assert_eq!(made["public_key"], expected);
    assert!(
        !fs::read_to_string(infernet.home.config_file())
            .unwrap()
            .contains("https://db")
    );

    let other = Infernet::new();
    fs::write(&file, json!({ "privkey": key, "nsec": "1".repeat(64) }).to_string()).unwrap();
    assert!(
        other
            .fails(1, &["init", "--import", file.to_str().unwrap()])
            .contains("several secret keys")
    );
    fs::write(&file, json!({ "port": 1 }).to_string()).unwrap();
    assert!(
        other
            .fails(1, &["init", "--import", file.to_str().unwrap()])
            .contains("holds no secret key")
    );
}

#[test]
fn every_setting_says_where_it_comes_from() {
    let infernet = Infernet::new();
    infernet.ok(&["init"]);
    fs::write(
        infernet.home.config_file(),
        "[p2p]\nport = 4000\n[engines]\nvllm_api_key = \"sk-hidden\"\n",
    )
    .unwrap();
    let output = infernet
        .command(&["--json", "config", "show"])
        .env("INFERNET_ROLE", "both")
        .output()
        .unwrap();
    let settings: Value = serde_json::from_slice(&output.stdout).unwrap();
    let find = |key: &str| {
        settings
            .as_array()
            .unwrap()
            .iter()
            .find(|setting| setting["key"] == key)
            .unwrap()
            .clone()
    };
    assert_eq!(
        (&find("role")["value"], &find("role")["from"]),
        (&json!("both"), &json!("INFERNET_ROLE"))
    );
    assert_eq!(find("p2p.port")["value"], "4000");
    assert_eq!(find("p2p.port")["from"], infernet.home.config_file().to_str().unwrap());
    assert_eq!(find("consumer.policy")["from"], "default");
    let plain = infernet.ok(&["config", "show"]);
    assert!(plain.contains("46338") && !plain.contains("sk-hidden"));
    assert!(!plain.contains('\u{1b}'), "no colours where no terminal is");

    fs::write(infernet.home.config_file(), "[p2p]\nprot = 4000\n").unwrap();
    assert!(
        infernet
            .fails(2, &["config", "show"])
            .contains("did you mean `p2p.port`?")
    );
    fs::write(infernet.home.config_file(), "").unwrap();
    fs::set_permissions(infernet.home.config_file(), fs::Permissions::from_mode(0o644)).unwrap();
    let refused = infernet.fails(2, &["config", "show"]);
    assert!(
        refused.contains(&format!("chmod 600 {}", infernet.home.config_file().display())),
        "{refused}"
    );
}

#[test]
fn without_a_node_commands_say_so() {
    let infernet = Infernet::new();
    for command in ["status", "peers", "models"] {
        assert!(infernet.fails(69, &[command]).contains("no node runs"), "{command}");
    }
    assert!(infernet.fails(69, &["stop"]).contains("no node runs"));
    assert!(infernet.fails(1, &["logs"]).contains("infernet start"));
    let status = infernet.run(&["--json", "status"]);
    assert_eq!(status.stdout, b"{\"running\":false}\n");
    assert_eq!(infernet.json(&["receipts", "list"]), json!([]));
    assert!(infernet.fails(2, &["receipts", "show", "fox"]).contains("no id"));
    assert!(
        infernet
            .fails(1, &["receipts", "show", "0123"])
            .contains("no job or request")
    );
    assert!(!infernet.home.path().join("data").exists(), "asking makes nothing");
    let nowhere = infernet
        .command(&["status"])
        .env_remove("INFERNET_HOME")
        .output()
        .unwrap();
    assert!(String::from_utf8(nowhere.stderr).unwrap().contains("--home DIR"));
}

/// A true exported file and false ones, each with what is wrong.
fn vectors() -> (Vec<u8>, Vec<(Vec<u8>, String)>) {
    let vectors: Value = serde_json::from_str(include_str!("../../specs/vectors/export.json")).unwrap();
    let bytes = |value: &Value| hex::decode(value.as_str().unwrap()).unwrap();
    let faults = vectors["faults"].as_array().unwrap().iter();
    let faults = faults.map(|fault| (bytes(&fault["file"]), fault["says"].as_str().unwrap().to_owned()));
    (bytes(&vectors["file"]), faults.collect())
}

#[test]
fn a_receipt_is_checked_with_nothing_but_the_file() {
    let infernet = Infernet::new();
    let (valid, faults) = vectors();
    let file = infernet.home.path().join("deal");
    let path = file.to_str().unwrap();
    fs::write(&file, &valid).unwrap();
    let said = infernet.ok(&["receipts", "verify", path]);
    assert!(said.starts_with("true  ") && said.contains("2 of 3"), "{said}");
    let told = infernet.json(&["receipts", "verify", path]);
    assert_eq!(
        (&told["valid"], &told["receipts"], &told["settled"]),
        (&json!(true), &json!(3), &json!(2))
    );
    assert_eq!(told["settled_total"]["amount_microusd"], 472);
    for (bytes, says) in faults {
        fs::write(&file, bytes).unwrap();
        let output = infernet.run(&["receipts", "verify", path]);
        assert_eq!(output.status.code(), Some(1), "{says}");
        assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("false  {says}\n"));
    }
    let missing = infernet.fails(1, &["receipts", "verify", "/nowhere/deal"]);
    assert!(missing.contains("cannot read `/nowhere/deal`"), "{missing}");
    assert!(!infernet.home.path().join("data").exists());
}

/// Puts the deal of the vectors into a home's ledger.
fn keep(home: &Home) -> Vec<u8> {
    let (valid, _) = vectors();
    let deal = chain::check(&valid).unwrap();
    let (store, _) = Store::open(&home.lock().unwrap(), &deal.network).unwrap();
    let opened = Record::lease_opened(Side::Provider, &deal.offer, &deal.bid, &deal.accept, UnixMillis(1));
    store.append(opened).unwrap();
    for entry in deal.ledger.entries() {
        store.append(Record::receipt(&entry.receipt)).unwrap();
        if let Some(sign) = &entry.countersign {
            store.append(Record::countersign(sign)).unwrap();
        }
    }
    valid
}

#[test]
fn the_ledger_is_listed_shown_and_exported() {
    let infernet = Infernet::new();
    let exported = keep(&infernet.home);
    let rows = infernet.json(&["receipts", "list"]);
    let rows = rows.as_array().unwrap();
    assert_eq!(rows.len(), 3);
    for name in [
        "request",
        "job",
        "role",
        "peer",
        "model",
        "status",
        "input_tokens",
        "output_tokens",
        "ttft_ms",
        "amount_microusd",
        "finished_at",
    ] {
        assert!(!rows[0][name].is_null(), "{name}");
    }
    assert_eq!(rows[0]["role"], "provider");
    assert_eq!(
        infernet
            .json(&["receipts", "list", "-n", "1"])
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(infernet.json(&["receipts", "list", "--role", "buyer"]), json!([]));
    let (job, request) = (rows[0]["job"].as_str().unwrap(), rows[0]["request"].as_str().unwrap());
    assert!(infernet.ok(&["receipts", "list"]).contains(&job[..12]));
    assert!(infernet.ok(&["receipts", "show", &request[..8]]).contains(request));
    assert_eq!(infernet.json(&["receipts", "show", job]).as_array().unwrap().len(), 3);
    let file = infernet.home.path().join("deal");
    let path = file.to_str().unwrap();
    for id in [job, &request[..8]] {
        infernet.ok(&["receipts", "export", id, path]);
        assert_eq!(fs::read(&file).unwrap(), exported);
    }
    infernet.ok(&["receipts", "verify", path]);
    let missing = infernet.fails(1, &["receipts", "export", job, path, "--attempt", "9"]);
    assert!(missing.contains("no job or request"), "{missing}");
    fs::remove_dir_all(infernet.home.path().join("data/index")).unwrap();
    let output = infernet.run(&["receipts", "list"]);
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("made again from the journal")
    );
}

#[test]
fn a_node_is_started_asked_restarted_and_stopped() {
    let infernet = Infernet::new();
    let ready = infernet.json(&quiet(&["start"]));
    assert_eq!(ready["event"], "ready");
    let listen = ready["listen"][0].as_str().unwrap();
    assert!(
        listen.starts_with("/ip4/127.0.0.1/tcp/") && !listen.contains("/tcp/0"),
        "{listen}"
    );
    assert!(ready["gateway"].as_str().unwrap().starts_with("http://127.0.0.1:"));
    let pid = infernet.home.holder().unwrap().unwrap();
    let pid_file = fs::read_to_string(infernet.home.pid_file()).unwrap();
    assert_eq!(
        pid_file.trim(),
        pid.to_string(),
        "and nothing that a script would take for another"
    );
    assert_eq!(
        (
            infernet.mode(&infernet.home.socket()),
            infernet.mode(&infernet.home.log_file())
        ),
        (0o600, 0o600)
    );

    let status = infernet.json(&["status"]);
    assert_eq!(
        (&status["running"], &status["peer_id"]),
        (&json!(true), &ready["peer_id"])
    );
    assert_eq!(status["network"], "test");
    assert!(infernet.ok(&["status"]).contains(ready["peer_id"].as_str().unwrap()));
    assert_eq!(infernet.json(&["peers"]), json!([]));
    let none = infernet.run(&["--json", "models"]);
    assert_eq!((none.status.code(), &*none.stdout), (Some(69), &b"[]\n"[..]));
    assert!(
        String::from_utf8_lossy(&none.stderr).contains("`infernet peers`"),
        "{none:?}"
    );
    assert_eq!(infernet.json(&["receipts", "list"]), json!([]));
    let second = infernet.fails(1, &quiet(&["start"]));
    assert!(second.contains(&format!("pid {pid}")), "{second}");
    let second = infernet.fails(1, &quiet(&["start", "--foreground"]));
    assert!(second.contains(&format!("pid {pid}")), "{second}");

    infernet.ok(&["restart"]);
    let restarted = infernet.json(&["status"]);
    assert_eq!(
        (&restarted["peer_id"], &restarted["network"]),
        (&ready["peer_id"], &json!("test"))
    );
    assert_ne!(infernet.home.holder().unwrap().unwrap(), pid);
    assert!(infernet.ok(&["logs"]).contains("node started"));
    infernet.ok(&["stop"]);
    assert!(!infernet.home.socket().exists() && !infernet.home.pid_file().exists());
    assert!(infernet.fails(69, &["status"]).contains("no node runs"));
    infernet.ok(&["restart"]);
    assert_eq!(infernet.json(&["status"])["network"], "test", "as it was begun");
    infernet.ok(&["stop"]);
    let never = Infernet::new().fails(2, &["restart"]);
    assert!(never.contains("`infernet start`"), "{never}");
}

#[test]
fn a_start_that_fails_shows_the_end_of_its_log() {
    let infernet = Infernet::new();
    let start = |code: i32, more: &[&str]| {
        let all = [
            "start",
            "--network",
            "test",
            "--no-mdns",
            "--no-upnp",
            "--role",
            "consumer",
        ];
        infernet.fails(code, &[&all[..], more].concat())
    };
    let failed = start(2, &["--listen", "/ip4/nonsense", "--no-gateway"]);
    assert!(
        failed.contains("ended before it was ready") && failed.contains("/ip4/nonsense"),
        "{failed}"
    );
    let listen = ["--listen", "/ip4/127.0.0.1/tcp/0"];
    let open = start(2, &[&listen[..], &["--gateway", "0.0.0.0:0"]].concat());
    assert!(open.contains("can be reached from outside"), "{open}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let failed = start(1, &[&listen[..], &["--no-gateway", "--metrics", &taken]].concat());
    assert!(failed.contains(&taken), "{failed}");
    fs::set_permissions(infernet.home.identity_file(), fs::Permissions::from_mode(0o644)).unwrap();
    let loose = infernet.fails(2, &["identity"]);
    assert!(loose.contains("chmod 600"), "{loose}");
    assert!(infernet.home.holder().unwrap().is_none() && !infernet.home.pid_file().exists());
}

/// A node in the foreground, once it is ready.
fn foreground(infernet: &Infernet, arguments: &[&str]) -> (Child, Value) {
    let mut child = infernet
        .command(&quiet(arguments))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let ready = serde_json::from_str(&line).unwrap();
    (child, ready)
}

#[test]
fn a_node_in_the_foreground_ends_when_it_is_asked_to() {
    let infernet = Infernet::new();
    let (mut child, ready) = foreground(&infernet, &["--json", "start", "--foreground"]);
    assert_eq!(ready["event"], "ready");
    infernet.ok(&["stop"]);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    // Killed, it leaves its socket behind; the next one takes over.
    let (mut child, _) = foreground(&infernet, &["--json", "start", "--foreground"]);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(infernet.fails(69, &["status"]).contains("no node runs"));
    let (mut child, _) = foreground(&infernet, &["--json", "gateway"]);
    infernet.ok(&["status"]);
    infernet.ok(&["stop"]);
    child.wait().unwrap();
    assert!(
        infernet
            .fails(2, &["gateway", "--no-gateway"])
            .contains("consumer with a gateway")
    );
}

//! The real binary, on loopback: what it prints, what it forwards, what it remembers, and how it ends.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use infernet_protocol::capability::{AdList, AdQuery, AdScope, CapabilityAd, Features, ModelAd};
use infernet_protocol::codec::{self, List, Text};
use infernet_protocol::{Identity, Millis, ModelId, Network, NodeId, Price, UnixMillis, Verified};
use infernet_swarm::{Config, Event, EventReceiver, Exchange, Handle, Multiaddr, PeerId, Role};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Longest time that one expected thing may take, on a machine with other work.
const PATIENCE: Duration = Duration::from_secs(30);

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("it should have happened by now")
}

fn command(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_infernet-bootstrap"));
    command
        .args([
            "--listen",
            "/ip4/127.0.0.1/tcp/0",
            "--network",
            "test",
            "--metrics",
            "127.0.0.1:0",
            "--json",
            "--home",
        ])
        .arg(home)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// A running process and its ready line.
async fn start(home: &Path) -> (Child, Value) {
    started(command(home)).await
}

async fn started(mut command: Command) -> (Child, Value) {
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    soon(BufReader::new(child.stdout.take().unwrap()).read_line(&mut line))
        .await
        .unwrap();
    (child, serde_json::from_str(&line).expect("the ready line is JSON"))
}

async fn signal(child: &Child, which: &str) {
    let id = child.id().unwrap().to_string();
    let sent = Command::new("kill").args([which, &id]).status().await.unwrap();
    assert!(sent.success());
}

async fn stop(mut child: Child) {
    signal(&child, "-TERM").await;
    assert!(soon(child.wait()).await.unwrap().success());
}

#[tokio::test]
async fn it_says_where_it_listens_keeps_its_identity_and_stops_when_told() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path().join("home");
    let (child, ready) = start(&home).await;
    assert_eq!((&ready["event"], &ready["gateway"]), (&"ready".into(), &Value::Null));
    let node = NodeId::from_npub(ready["npub"].as_str().unwrap()).unwrap();
    assert_eq!(ready["peer_id"], node.peer_id(), "one key has both names");
    let listen = ready["listen"].as_array().unwrap();
    assert_eq!(listen.len(), 1);
    let suffix = format!("/p2p/{}", node.peer_id());
    let address = listen[0].as_str().unwrap();
    assert!(
        address.starts_with("/ip4/127.0.0.1/tcp/") && address.ends_with(&suffix),
        "{address}"
    );

    let second = soon(command(&home).output()).await.unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(second.stdout.is_empty());
    assert!(String::from_utf8_lossy(&second.stderr).contains("another process"));

    stop(child).await;
    let (child, again) = start(&home).await;
    assert_eq!(again["npub"], ready["npub"]);
    stop(child).await;
}

/// What a server answers, head and all.
async fn get(url: &str) -> String {
    let (address, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut connection = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET /{path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon(connection.read_to_string(&mut answer)).await.unwrap();
    answer
}

struct Node {
    handle: Handle,
    events: EventReceiver,
    _task: JoinSet<()>,
}

fn node(secret: u8, bootstrap: &Multiaddr) -> Node {
    let network = Network::new("test").unwrap();
    let mut config = Config::new([secret; 32], network.as_str(), Role::Node);
    config.bootstrap = vec![bootstrap.clone()];
    config.topics = vec![network.capability_topic()];
    let (handle, events, event_loop) = infernet_swarm::new(config).unwrap();
    let mut task = JoinSet::new();
    task.spawn(event_loop.run(CancellationToken::new()));
    Node {
        handle,
        events,
        _task: task,
    }
}

impl Node {
    async fn event<T>(&mut self, mut wanted: impl FnMut(Event) -> Option<T>) -> T {
        soon(async {
            loop {
                if let Some(found) = wanted(self.events.recv().await.unwrap()) {
                    return found;
                }
            }
        })
        .await
    }
}

fn ad() -> Verified<CapabilityAd> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let now = u64::try_from(now.as_millis()).unwrap();
    let model = ModelAd {
        id: ModelId::new("tiny").unwrap(),
        digest: None,
        context: 2048,
        quantisation: Text::default(),
        features: Features::CHAT,
        price: Price::default(),
        max_output: 512,
        ttft: Millis(5),
        speed: 50_000,
    };
    let ad = CapabilityAd {
        sequence: now,
        issued_at: UnixMillis(now),
        interval: Millis(30_000),
        agent: Text::default(),
        tags: List::default(),
        addresses: List::default(),
        gpus: List::default(),
        models: List::first_of([model]),
        models_total: 1,
        slots: 4,
        rails: List::default(),
    };
    let identity = Identity::from_secret(&[9; 32]).unwrap();
    Verified::sign(ad, &identity, &Network::new("test").unwrap(), &[3; 32])
}

async fn known(node: &Node, peer: PeerId, scope: AdScope, model: Option<&str>) -> AdList {
    let query = AdQuery {
        scope,
        model: model.map(|model| ModelId::new(model).unwrap()),
    };
    let answer = node
        .handle
        .ask(Exchange::Ad, peer, Vec::new(), codec::to_vec(&query).into(), PATIENCE);
    codec::from_slice(&soon(answer).await.unwrap()).unwrap()
}

#[tokio::test]
async fn it_forwards_what_is_true_and_remembers_it_for_newcomers() {
    let home = tempfile::tempdir().unwrap();
    let (child, ready) = start(&home.path().join("home")).await;
    let at: Multiaddr = ready["listen"][0].as_str().unwrap().parse().unwrap();
    let bootstrap: PeerId = ready["peer_id"].as_str().unwrap().parse().unwrap();
    let topic = Network::new("test").unwrap().capability_topic();
    let (mut seller, mut buyer) = (node(1, &at), node(2, &at));
    for node in [&mut seller, &mut buyer] {
        node.event(|event| matches!(event, Event::Subscribed { .. }).then_some(()))
            .await;
    }
    // Both are in the mesh when the bootstrap node has heard from both.
    known(&seller, bootstrap, AdScope::Known, None).await;
    known(&buyer, bootstrap, AdScope::Known, None).await;

    let ad = ad();
    let mut forged = ad.bytes().to_vec();
    *forged.last_mut().unwrap() ^= 1;
    seller.handle.publish(topic.as_str(), forged.into()).await.unwrap();
    seller
        .handle
        .publish(topic.as_str(), ad.bytes().to_vec().into())
        .await
        .unwrap();
    let heard = buyer
        .event(|event| match event {
            Event::Gossip { data, .. } => Some(data),
            _ => None,
        })
        .await;
    assert_eq!(heard, ad.bytes(), "the forged one went nowhere");

    let late = node(3, &at);
    soon(late.handle.dial(bootstrap, vec![at.clone()])).await.unwrap();
    for (scope, model, expected) in [
        (AdScope::Known, None, 1),
        (AdScope::Known, Some("tiny"), 1),
        (AdScope::Known, Some("other"), 0),
        (AdScope::Own, None, 0),
    ] {
        let list = known(&late, bootstrap, scope, model).await;
        assert_eq!(list.ads.len(), expected, "{scope:?} {model:?}");
        assert!(list.ads.iter().all(|known| known.0 == ad.bytes()));
    }

    let answer = get(ready["metrics"].as_str().unwrap()).await;
    for line in [
        "infernet_peers 3",
        "infernet_gossip_accepted_total 1",
        "infernet_gossip_rejected_total 1",
    ] {
        assert!(answer.lines().any(|it| it == line), "{answer}");
    }
    stop(child).await;
}

/// What the program says of recordings, as JSON.
async fn done(arguments: &[&str]) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_infernet-bootstrap"));
    // What a server is told by its environment does not keep it from other work.
    command.args(arguments).arg("--json").env("INFERNET_NETWORK", "test");
    let output = soon(command.output()).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test]
async fn what_passed_is_recorded_and_can_be_judged_published_and_drawn() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).into_os_string().into_string().unwrap();
    let (recording, public, page) = (at("recording"), at("public"), at("page.html"));
    let mut recorder = command(Path::new(&at("home")));
    recorder.args(["--record", &recording]);
    let (child, ready) = started(recorder).await;
    let address: Multiaddr = ready["listen"][0].as_str().unwrap().parse().unwrap();
    let bootstrap: PeerId = ready["peer_id"].as_str().unwrap().parse().unwrap();
    let topic = Network::new("test").unwrap().capability_topic();
    let mut seller = node(1, &address);
    let subscribed = |event| matches!(event, Event::Subscribed { .. }).then_some(());
    seller.event(subscribed).await;
    known(&seller, bootstrap, AdScope::Known, None).await;
    let ad = ad();
    let mut forged = ad.bytes().to_vec();
    *forged.last_mut().unwrap() ^= 1;
    seller.handle.publish(topic.as_str(), forged.into()).await.unwrap();
    seller
        .handle
        .publish(topic.as_str(), ad.bytes().to_vec().into())
        .await
        .unwrap();
    soon(async {
        while known(&seller, bootstrap, AdScope::Known, None).await.ads.is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    stop(child).await;

    let judged = done(&["replay", "--judge", &recording]).await;
    assert_eq!(
        (&judged["messages"], &judged["alike"]),
        (&2.into(), &2.into()),
        "{judged}"
    );
    assert_eq!(
        (&judged["now"]["accepted"], &judged["now"]["rejected"]),
        (&1.into(), &1.into())
    );

    let mut replay = Command::new(env!("CARGO_BIN_EXE_infernet-bootstrap"));
    replay.args(["replay", "--speed", "max", "--json", &recording]);
    let replayed = soon(replay.output()).await.unwrap();
    let lines: Vec<Value> = String::from_utf8(replayed.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let verdicts: Vec<&str> = lines.iter().map(|line| line["verdict"].as_str().unwrap()).collect();
    assert_eq!(verdicts, ["rejected", "accepted"]);
    let hex: String = ad.bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!((&lines[1]["bytes"], &lines[1]["topic"]), (&hex.into(), &topic.into()));

    let published = done(&["publish", &recording, "--out", &public]).await;
    assert_eq!(
        (&published["withheld"], &published["pseudonyms"]),
        (&1.into(), &true.into()),
        "{published}"
    );
    assert!(
        published["records"].as_u64().unwrap() >= 4,
        "who came is there, too: {published}"
    );
    let refused = Command::new(env!("CARGO_BIN_EXE_infernet-bootstrap"))
        .args(["replay", "--judge", &public])
        .output();
    let refused = soon(refused).await.unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("holds no signed message"));

    let peer = Identity::from_secret(&[1; 32]).unwrap().node().peer_id();
    for source in [&recording, &public] {
        done(&["report", source, "--out", &page]).await;
        let html = std::fs::read_to_string(&page).unwrap();
        assert!(
            html.contains("The network <b>test</b>") && html.contains(">tiny<"),
            "{html}"
        );
        assert!(!html.contains(&peer[peer.len() - 8..]) && !html.contains("127.0.0.1"));
    }
}

#[tokio::test]
async fn the_public_counts_name_nobody_and_a_crawl_finds_who_serves_the_dht() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).into_os_string().into_string().unwrap();
    let mut server = command(Path::new(&at("home")));
    server.args(["--status", "127.0.0.1:0"]);
    let (child, ready) = started(server).await;
    let address: Multiaddr = ready["listen"][0].as_str().unwrap().parse().unwrap();
    let topic = Network::new("test").unwrap().capability_topic();
    let mut seller = node(1, &address);
    let subscribed = |event| matches!(event, Event::Subscribed { .. }).then_some(());
    seller.event(subscribed).await;
    let ad = ad();
    seller
        .handle
        .publish(topic.as_str(), ad.bytes().to_vec().into())
        .await
        .unwrap();
    let url = ready["status"].as_str().unwrap().to_owned();
    let counted = soon(async {
        loop {
            let answer = get(&format!("{url}/status.json")).await;
            let counted: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
            if counted["workers_online"] == 1 {
                return counted;
            }
        }
    })
    .await;
    assert_eq!(
        (&counted["models"], &counted["jobs_in_flight"]),
        (&1.into(), &0.into()),
        "{counted}"
    );
    let page = get(&format!("{url}/")).await;
    assert!(page.contains("<dd>1</dd>") && page.contains("workers online"), "{page}");
    for told in [counted.to_string(), page] {
        assert!(
            !told.contains("16Uiu2") && !told.contains("tiny") && !told.contains("/ip4/"),
            "{told}"
        );
    }

    let (rows, csv) = (at("crawl.jsonl"), at("crawl.csv"));
    let crawled = done(&["crawl", &address.to_string(), "--out", &rows, "--csv", &csv]).await;
    assert_eq!(
        (&crawled["peers"], &crawled["reached"]),
        (&1.into(), &1.into()),
        "{crawled}"
    );
    let row: Value = serde_json::from_str(&std::fs::read_to_string(&rows).unwrap()).unwrap();
    assert_eq!(
        (&row["peer"], &row["reachable"]),
        (&ready["peer_id"], &"yes".into()),
        "{row}"
    );
    assert!(
        row["agent"].as_str().unwrap().starts_with("infernet-bootstrap/"),
        "{row}"
    );
    assert!(std::fs::read_to_string(&csv).unwrap().lines().count() == 2);
    done(&["report", "--crawl", &rows, "--out", &at("page.html")]).await;
    stop(child).await;

    let mut gone = Command::new(env!("CARGO_BIN_EXE_infernet-bootstrap"));
    gone.args(["crawl", &address.to_string(), "--out", &rows])
        .env("INFERNET_NETWORK", "test");
    let gone = soon(gone.output()).await.unwrap();
    assert_eq!(gone.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&gone.stderr).contains("nobody was reached"));
}

/// Files of a recording.
fn files(recording: &Path) -> usize {
    let files = std::fs::read_dir(recording).unwrap();
    files
        .filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|end| end == "gz"))
        .count()
}

#[tokio::test]
async fn lists_are_read_again_when_it_is_told_to_and_nobody_else_notices() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let (other, told) = start(&at("other")).await;
    let (blocked, join, recording) = (at("blocked"), at("join"), at("recording"));
    std::fs::write(&blocked, "# nobody yet\n").unwrap();
    std::fs::write(&join, "").unwrap();
    let mut server = command(&at("home"));
    server.arg("--blocked").arg(&blocked).arg("--record").arg(&recording);
    server.arg("--bootstrap").arg(format!("file:{}", join.display()));
    let (child, ready) = started(server).await;
    let address: Multiaddr = ready["listen"][0].as_str().unwrap().parse().unwrap();
    let bootstrap: PeerId = ready["peer_id"].as_str().unwrap().parse().unwrap();
    let (mut liar, mut honest) = (node(1, &address), node(2, &address));
    for node in [&mut liar, &mut honest] {
        let connected = |event| matches!(event, Event::Connected { peer } if peer == bootstrap).then_some(());
        node.event(connected).await;
    }
    // What was recorded so far is on the disk, in the first file, once it has begun another.
    known(&honest, bootstrap, AdScope::Known, None).await;
    let before = files(&recording);

    std::fs::write(&blocked, format!("{}  # it lies\n", liar.handle.local_peer_id())).unwrap();
    std::fs::write(&join, told["listen"][0].as_str().unwrap()).unwrap();
    signal(&child, "-HUP").await;
    liar.event(|event| matches!(event, Event::Disconnected { .. }).then_some(()))
        .await;
    let metrics = told["metrics"].as_str().unwrap();
    soon(async {
        while !get(metrics).await.lines().any(|line| line == "infernet_peers 1") {
            tokio::task::yield_now().await;
        }
    })
    .await;
    soon(async {
        while files(&recording) <= before {
            tokio::task::yield_now().await;
        }
    })
    .await;

    // A list with a mistake changes nothing, and one without lets it in again.
    std::fs::write(&blocked, "nobody\n").unwrap();
    signal(&child, "-HUP").await;
    assert!(liar.handle.dial(bootstrap, vec![address.clone()]).await.is_err() || !is_served(&liar, bootstrap).await);
    std::fs::write(&blocked, "").unwrap();
    signal(&child, "-HUP").await;
    soon(async {
        while !is_served(&liar, bootstrap).await {
            let _refused = liar.handle.dial(bootstrap, vec![address.clone()]).await;
        }
    })
    .await;
    assert!(
        soon(honest.handle.is_connected(bootstrap)).await.unwrap(),
        "it has noticed nothing"
    );
    stop(child).await;
    stop(other).await;

    std::fs::write(&blocked, "nobody\n").unwrap();
    let mut server = command(&at("home"));
    server.arg("--blocked").arg(&blocked);
    let refused = soon(server.output()).await.unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("line 1 of"),
        "a mistake is told at the start"
    );
}

/// Whether a bootstrap node answers a node's question.
async fn is_served(node: &Node, bootstrap: PeerId) -> bool {
    let query = AdQuery {
        scope: AdScope::Known,
        model: None,
    };
    let asked = node.handle.ask(
        Exchange::Ad,
        bootstrap,
        Vec::new(),
        codec::to_vec(&query).into(),
        PATIENCE,
    );
    asked.await.is_ok()
}

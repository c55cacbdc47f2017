//! Ring `nat`: the real programs on machines of their own, behind routers, in network namespaces that each test makes and
//! takes away.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use infernet_tests::namespaces::{Host, Internet, Mapping};
use infernet_tests::processes::{CHAT, Client, NodeHome, Process, soon};
use serde_json::Value;
use tokio::sync::oneshot;

const DEMO: &str = "infernet-demo";
/// Between two looks at a process that has no event to wait for.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// What a word of the bench's engine looks like.
const WORD: &str = "\"content\":\"";
/// How soon a network that was parted is whole again.
const HEALS_WITHIN: Duration = Duration::from_secs(30);

fn provider() -> Vec<&'static str> {
    vec!["start", "--foreground", "--backend", "embedded"]
}

/// One chat from a machine's own gateway: status and body.
async fn chat(host: &Host, gateway: &Process, model: &str, tokens: u32) -> (u16, String) {
    chat_watched(host, gateway, model, tokens, |_| {}).await
}

/// The same; `seen` is shown all that has come, whenever more has.
async fn chat_watched(
    host: &Host,
    gateway: &Process,
    model: &str,
    tokens: u32,
    mut seen: impl FnMut(&str) + Send + 'static,
) -> (u16, String) {
    let (url, model) = (gateway.url(CHAT), model.to_owned());
    host.from_here(async move || {
        let answer = Client::default().begin_at(&url, &model, true, tokens).await;
        match answer {
            Ok(mut answer) => {
                let (status, mut body) = (answer.status().as_u16(), Vec::new());
                let ended = soon("an answer ends", async {
                    while let Some(bytes) = answer.chunk().await? {
                        body.extend_from_slice(&bytes);
                        seen(&String::from_utf8_lossy(&body));
                    }
                    Ok::<_, reqwest::Error>(())
                });
                match ended.await {
                    Ok(()) => (status, String::from_utf8_lossy(&body).into_owned()),
                    Err(error) => (status, error.to_string()),
                }
            }
            Err(error) => (0, error.to_string()),
        }
    })
    .await
}

/// Chats until somebody answers, and gives the answer.
async fn answered(host: &Host, gateway: &Process, model: &str) -> String {
    soon("an answer", async {
        loop {
            let (status, body) = chat(host, gateway, model, 16).await;
            if status == 200 && body.trim_end().ends_with("data: [DONE]") {
                return body;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    })
    .await
}

/// What a node answers to a question, once something is found in it.
async fn told<T>(home: &NodeHome, method: &'static str, what: &str, found: impl Fn(&Value) -> Option<T>) -> T {
    soon(what, async {
        loop {
            let said = home.ask(method, Value::Null).await.unwrap_or_default();
            if let Some(found) = found(&said) {
                return found;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    })
    .await
}

/// What a list says of a peer.
fn entry<'a>(list: &'a Value, id: &str) -> Option<&'a Value> {
    list.as_array()?.iter().find(|entry| entry["peer_id"] == id)
}

/// What a node says of its connection with a peer, once it satisfies `holds`.
async fn peer(home: &NodeHome, id: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    told(home, "peers", what, |peers| {
        entry(peers, id).filter(|peer| holds(peer)).cloned()
    })
    .await
}

/// Ads that a node knows, with the addresses in them.
async fn advertised(home: &NodeHome, id: &str, what: &str, holds: impl Fn(&[String]) -> bool) -> Vec<String> {
    told(home, "ads", what, |ads| {
        let texts = entry(ads, id)?["addresses"].as_array().into_iter().flatten();
        let addresses: Vec<String> = texts.filter_map(|text| text.as_str().map(str::to_owned)).collect();
        holds(&addresses).then_some(addresses)
    })
    .await
}

fn is_circuit(address: &str) -> bool {
    address.contains("/p2p-circuit")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_behind_nats_punch_through_and_stream_directly() {
    let mut internet = Internet::default();
    let (hub, seller, buyer) = (
        internet.public(),
        internet.behind_nat(Mapping::Kept),
        internet.behind_nat(Mapping::Kept),
    );
    let homes: [NodeHome; 3] = Default::default();
    let mut relay = Process::bootstrap_on(&hub, &homes[0], &[]).await;
    let sells = Process::node_on(&seller, &homes[1], &[relay.address()], &provider(), &[]).await;
    let buys = Process::node_on(&buyer, &homes[2], &[relay.address()], &["gateway"], &[]).await;
    let told = advertised(&homes[2], sells.peer_id(), "a circuit is advertised", |told| {
        told.iter().any(|address| is_circuit(address))
    })
    .await;
    assert!(
        told.iter().all(|address| !address.contains("192.168.")),
        "a home's addresses are told to nobody: {told:?}"
    );
    answered(&buyer, &buys, DEMO).await;
    peer(&homes[2], sells.peer_id(), "a direct way", |peer| {
        peer["relayed"] == false
    })
    .await;
    // What is asked now goes there: the relay is not needed any more.
    relay.kill().await;
    let (status, body) = chat(&buyer, &buys, DEMO, 16).await;
    assert!(status == 200 && body.contains("[DONE]"), "{status} {body}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_symmetric_nats_they_stream_through_a_relay() {
    let mut internet = Internet::default();
    let (hub, seller, buyer) = (
        internet.public(),
        internet.behind_nat(Mapping::Random),
        internet.behind_nat(Mapping::Random),
    );
    let homes: [NodeHome; 3] = Default::default();
    let relay = Process::bootstrap_on(&hub, &homes[0], &[]).await;
    let sells = Process::node_on(&seller, &homes[1], &[relay.address()], &provider(), &[]).await;
    let buys = Process::node_on(&buyer, &homes[2], &[relay.address()], &["gateway"], &[]).await;
    for _ in 0..3 {
        answered(&buyer, &buys, DEMO).await;
    }
    let connected = peer(&homes[2], sells.peer_id(), "a connection", |_| true).await;
    assert_eq!(connected["relayed"], true, "{connected}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_relay_dies_in_the_middle_of_an_answer_which_goes_on_through_another() {
    let mut internet = Internet::default();
    let hubs = [internet.public(), internet.public()];
    let (seller, buyer) = (
        internet.behind_nat(Mapping::Random),
        internet.behind_nat(Mapping::Random),
    );
    let homes: [NodeHome; 4] = Default::default();
    let one = Process::bootstrap_on(&hubs[0], &homes[0], &[]).await;
    let other = Process::bootstrap_on(&hubs[1], &homes[1], &[one.address()]).await;
    let join = [one.address().to_owned(), other.address().to_owned()];
    let join: Vec<&str> = join.iter().map(String::as_str).collect();
    let (_engine, engine) = Process::engine_on(&seller).await;
    let words = ["start", "--foreground", "--backend", "openai"];
    let sells = Process::node_on(&seller, &homes[2], &join, &words, &[("INFERNET_OPENAI_HOST", &engine)]).await;
    let buys = Process::node_on(&buyer, &homes[3], &join, &["gateway"], &[]).await;
    advertised(&homes[3], sells.peer_id(), "two circuits are advertised", |told| {
        let relays = [one.peer_id(), other.peer_id()];
        relays.iter().all(|relay| {
            told.iter()
                .any(|address| is_circuit(address) && address.contains(*relay))
        })
    })
    .await;
    answered(&buyer, &buys, "bench").await;
    let connected = peer(&homes[3], sells.peer_id(), "a circuit", |peer| peer["relayed"] == true).await;
    let through = connected["addresses"].to_string();
    let mut relays = [one, other];
    let used = relays
        .iter()
        .position(|relay| through.contains(relay.peer_id()))
        .unwrap();
    let (come, begun) = oneshot::channel();
    let mut come = Some(come);
    let asking = chat_watched(&buyer, &buys, "bench-paced", 300, move |body| {
        if body.matches(WORD).count() > 100
            && let Some(come) = come.take()
        {
            let _ = come.send(());
        }
    });
    let striking = async {
        soon("a part of an answer", begun).await.unwrap();
        relays[used].kill().await;
    };
    let ((status, body), ()) = tokio::join!(asking, striking);
    assert_eq!(status, 200, "{body}");
    let end = &body[body.len().saturating_sub(400)..];
    assert!(end.trim_end().ends_with("data: [DONE]"), "{end}");
    assert_eq!(body.matches(WORD).count(), 250 + 1, "every word once, and the role");
    let rows = homes[3].rows("buyer").await;
    let whole = rows.iter().filter(|row| row["output_tokens"] == 250).count();
    assert_eq!((whole, rows.len()), (1, 2), "one request, which was resumed: {rows:#?}");
    let connected = peer(&homes[3], sells.peer_id(), "the other circuit", |peer| {
        peer["relayed"] == true
    })
    .await;
    assert!(
        connected["addresses"].to_string().contains(relays[1 - used].peer_id()),
        "{connected}"
    );
}

/// Everything that a machine sends and receives, in a file.
struct Capture {
    tcpdump: tokio::process::Child,
    file: PathBuf,
    _folder: tempfile::TempDir,
}

impl Capture {
    async fn start(host: &Host) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("packets");
        let mut tcpdump = host
            .command("tcpdump".as_ref())
            .args(["-i", "any", "--immediate-mode", "-U", "-s", "0", "-w"])
            .arg(&file)
            // One cable's own search for who is on it tells no more than that somebody is.
            .args(["-Z", "root", "not", "arp"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut told = tokio::io::BufReader::new(tcpdump.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("listening on") {
            let read = tokio::io::AsyncBufReadExt::read_line(&mut told, &mut line);
            assert!(soon("tcpdump listens", read).await.unwrap() > 0, "{line}");
        }
        Self {
            tcpdump,
            file,
            _folder: folder,
        }
    }

    /// The packets so far.
    async fn end(mut self) -> Vec<u8> {
        // SIGTERM has it write what it holds.
        let id = i32::try_from(self.tcpdump.id().unwrap()).unwrap();
        let id = rustix::process::Pid::from_raw(id).unwrap();
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        soon("tcpdump ends", self.tcpdump.wait()).await.unwrap();
        std::fs::read(&self.file).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outbound_only_provider_serves_and_nobody_but_its_relay_learns_where_it_is() {
    let mut internet = Internet::default();
    let (hub, hidden, other) = (internet.public(), internet.public(), internet.public());
    let seen = internet.public();
    let buyer = internet.behind_nat(Mapping::Kept);
    let homes: [NodeHome; 5] = Default::default();
    let captures = [Capture::start(&buyer).await, Capture::start(&other).await];
    let relay = Process::bootstrap_on(&hub, &homes[0], &[]).await;
    let mut words = provider();
    words.push("--no-advertise");
    let sells = Process::node_on(&hidden, &homes[1], &[relay.address()], &words, &[]).await;
    let buys = Process::node_on(&buyer, &homes[2], &[relay.address()], &["gateway"], &[]).await;
    let open = Process::node_on(&seen, &homes[4], &[relay.address()], &provider(), &[]).await;
    let third = Process::node_on(
        &other,
        &homes[3],
        &[relay.address()],
        &["gateway", "--no-advertise"],
        &[],
    )
    .await;
    for (host, gateway) in [(&buyer, &buys), (&other, &third), (&buyer, &buys)] {
        answered(host, gateway, DEMO).await;
    }
    for home in &homes[2..4] {
        let told = advertised(home, sells.peer_id(), "an ad", |told| !told.is_empty()).await;
        assert!(told.iter().all(|address| is_circuit(address)), "{told:?}");
        let connected = peer(home, sells.peer_id(), "a circuit", |_| true).await;
        assert_eq!(connected["relayed"], true, "{connected}");
        let everything = [
            home.ask("peers", Value::Null).await.unwrap().to_string(),
            home.ask("ads", Value::Null).await.unwrap().to_string(),
        ];
        assert!(
            everything.iter().all(|text| !text.contains(&hidden.ip.to_string())),
            "{everything:?}"
        );
    }
    advertised(&homes[3], open.peer_id(), "the other provider's ad", |told| {
        !told.is_empty()
    })
    .await;
    let (status, body) = chat(&other, &third, DEMO, 16).await;
    assert_eq!(status, 200, "{body}");
    let peers = homes[3].ask("peers", Value::Null).await.unwrap();
    let direct = peers.as_array().unwrap().iter().filter(|peer| peer["relayed"] == false);
    let direct: Vec<_> = direct.map(|peer| peer["peer_id"].as_str().unwrap()).collect();
    assert_eq!(
        direct,
        [relay.peer_id()],
        "who buys like that dials its relay alone too"
    );
    let std::net::IpAddr::V4(ip) = hidden.ip else {
        panic!("it has an address of IPv4")
    };
    for capture in captures {
        let packets = capture.end().await;
        assert!(packets.len() > 10_000, "something was captured");
        let found = packets.windows(4).filter(|bytes| *bytes == ip.octets()).count();
        assert_eq!(found, 0, "its address is nowhere in what was sent and received");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_was_parted_is_whole_again_within_half_a_minute() {
    let mut internet = Internet::default();
    let hosts: Vec<Host> = (0..4).map(|_| internet.public()).collect();
    let homes: [NodeHome; 4] = Default::default();
    let hub = Process::bootstrap_on(&hosts[0], &homes[0], &[]).await;
    let sells = Process::node_on(&hosts[1], &homes[1], &[hub.address()], &provider(), &[]).await;
    let near = Process::node_on(&hosts[2], &homes[2], &[hub.address()], &["gateway"], &[]).await;
    let far = Process::node_on(&hosts[3], &homes[3], &[hub.address()], &["gateway"], &[]).await;
    for (host, gateway) in [(&hosts[2], &near), (&hosts[3], &far)] {
        answered(host, gateway, DEMO).await;
    }
    // Provider and one consumer on one side, bootstrap node and the other consumer on the other.
    internet.part(&[&hosts[1], &hosts[3]], true);
    let (status, body) = chat(&hosts[3], &far, DEMO, 16).await;
    assert_eq!(status, 200, "who is on the same side is served all the same: {body}");
    told(&homes[2], "peers", "the sides lose each other", |peers| {
        peers.as_array()?;
        entry(peers, sells.peer_id()).is_none().then_some(())
    })
    .await;
    internet.part(&[&hosts[1], &hosts[3]], false);
    let healed = Instant::now();
    let whole = async {
        for (host, gateway) in [(&hosts[2], &near), (&hosts[3], &far)] {
            answered(host, gateway, DEMO).await;
        }
        let hub = hub.peer_id();
        peer(&homes[1], hub, "the provider is with the bootstrap node again", |_| {
            true
        })
        .await;
        peer(&homes[3], hub, "and so is the other consumer", |_| true).await;
    };
    tokio::time::timeout(HEALS_WITHIN, whole)
        .await
        .expect("it heals by itself");
    println!("the network was whole after {:?}", healed.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_with_ipv6_alone_take_part() {
    let mut internet = Internet::default();
    let hosts: Vec<Host> = (0..3).map(|_| internet.public_v6()).collect();
    let homes: [NodeHome; 3] = Default::default();
    let hub = Process::bootstrap_on(&hosts[0], &homes[0], &[]).await;
    let sells = Process::node_on(&hosts[1], &homes[1], &[hub.address()], &provider(), &[]).await;
    let buys = Process::node_on(&hosts[2], &homes[2], &[hub.address()], &["gateway"], &[]).await;
    answered(&hosts[2], &buys, DEMO).await;
    let connected = peer(&homes[2], sells.peer_id(), "a connection", |_| true).await;
    assert!(
        connected["relayed"] == false && connected["addresses"].to_string().contains("/ip6/"),
        "{connected}"
    );
}

/// What `infernet doctor` finds on a machine where no node runs.
async fn diagnosed(host: &Host, home: &NodeHome, join: &[&str]) -> Value {
    let mut command = host.command(&infernet_tests::processes::program("infernet"));
    command.arg("--home").arg(home.path());
    command.args(["--json", "doctor", "--no-mdns", "--no-upnp", "--network", "test"]);
    for address in join {
        command.args(["--bootstrap", address]);
    }
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = soon("a diagnosis", output).await.unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    serde_json::from_str(&told).unwrap_or_else(|_| panic!("{told}{}", String::from_utf8_lossy(&output.stderr)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_tells_what_kind_of_router_a_node_is_behind() {
    let mut internet = Internet::default();
    let hubs = [internet.public(), internet.public()];
    let (open, kept, random) = (
        internet.public(),
        internet.behind_nat(Mapping::Kept),
        internet.behind_nat(Mapping::Random),
    );
    let homes: [NodeHome; 6] = Default::default();
    let one = Process::bootstrap_on(&hubs[0], &homes[0], &[]).await;
    let other = Process::bootstrap_on(&hubs[1], &homes[1], &[one.address()]).await;
    let join = [one.address(), other.address()];
    let cases = [
        (&open, "none", "address-dependent", "directly"),
        (
            &kept,
            "endpoint-independent",
            "address-and-port-dependent",
            "through relays",
        ),
        (
            &random,
            "endpoint-dependent",
            "address-and-port-dependent",
            "through relays",
        ),
    ];
    for ((host, mapping, filtering, reached), home) in cases.into_iter().zip(&homes[2..]) {
        let told = diagnosed(host, home, &join).await;
        let nat = &told["nat"];
        assert_eq!(
            (&nat["mapping_tcp"], &nat["filtering"], &told["reached"]),
            (&mapping.into(), &filtering.into(), &reached.into()),
            "{told:#}"
        );
    }
    // A node that runs says it of itself, and who sells takes places on relays.
    let _sells = Process::node_on(&kept, &homes[3], &join, &provider(), &[]).await;
    told(&homes[3], "doctor", "it is reached", |told| {
        (told["reached"] == "through relays").then_some(())
    })
    .await;
    // Somebody who names a node that is not there is told so.
    let told = diagnosed(&open, &homes[5], &["/ip4/203.0.113.1/tcp/9"]).await;
    let network = told["findings"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["about"] == "network");
    let network = network.unwrap();
    assert_eq!(network["state"], "wrong");
    assert!(
        network["cure"].as_str().unwrap().contains("nobody listens there"),
        "{network}"
    );
}

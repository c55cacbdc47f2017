//! Where a network is joined: a list in a file or on the web is as good as an address, and so are peers that were met
//! before.

use std::net::SocketAddr;

use axum::Router;
use axum::routing::get;
use infernet_tests::processes::{Client, NodeHome, Process, soon};
use serde_json::Value;

/// What a node has written down of whom it met.
fn peers_known(home: &NodeHome) -> String {
    let path = home.path().join("data/networks/test/peers.snapshot");
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_in_a_file_or_on_the_web_is_enough() {
    let homes: [NodeHome; 4] = Default::default();
    let hub = Process::bootstrap(&homes[0]).await;
    let list = format!("# nodes of the test network\n\n{}  # the only one\n", hub.address());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("peers.txt");
    std::fs::write(&path, &list).unwrap();
    let _provider = Process::provider(&homes[1], &format!("file:{}", path.display()), None).await;

    let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))
        .await
        .unwrap();
    let url = format!("http://{}/peers", listener.local_addr().unwrap());
    let router = Router::new().route("/peers", get(|| async move { list }));
    let _server = tokio::task::JoinSet::from_iter([async move { axum::serve(listener, router).await.unwrap() }]);
    let gateway = Process::gateway(&homes[2], &url).await;
    let client = Client::default();
    soon("the gateway joins", async {
        while client.chat(&gateway, "infernet-demo", false).await.unwrap().status != 200 {}
    })
    .await;

    let refused = homes[3]
        .infernet(&["gateway", "--bootstrap", "http://peers.example/list"])
        .await;
    assert_eq!(
        refused.status.code(),
        Some(2),
        "a list that anybody on the way can change"
    );
    assert!(String::from_utf8_lossy(&refused.stderr).contains("use `https`"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_bootstrap_node_is_gone_joins_through_peers_that_it_met() {
    let homes: [NodeHome; 3] = Default::default();
    let mut hub = Process::bootstrap(&homes[0]).await;
    let provider = Process::provider(&homes[1], hub.address(), None).await;
    let mut gateway = Process::gateway(&homes[2], hub.address()).await;
    let client = Client::default();
    let first = client.chat(&gateway, "infernet-demo", false).await.unwrap();
    assert_eq!(first.status, 200, "{}", first.body);
    soon("it is written down whom it met", async {
        while !peers_known(&homes[2]).contains(provider.peer_id()) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let gone = hub.address().to_owned();
    hub.kill().await;
    gateway.kill().await;
    let again = Process::gateway(&homes[2], &gone).await;
    soon("it joins", async {
        while client.chat(&again, "infernet-demo", false).await.unwrap().status != 200 {}
    })
    .await;
    let peers = homes[2].ask("peers", Value::Null).await.unwrap();
    let peers = peers.as_array().unwrap();
    assert!(
        peers.iter().all(|peer| peer["peer_id"] == provider.peer_id()),
        "{peers:?}"
    );
}

/// A node that sells on a copy of another's key.
const COPY: [&str; 12] = [
    "--json",
    "start",
    "--foreground",
    "--backend",
    "embedded",
    "--no-mdns",
    "--no-upnp",
    "--listen",
    "/ip4/127.0.0.1/tcp/0",
    "--no-gateway",
    "--bootstrap",
    "",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_on_one_key_gives_way_to_the_first() {
    let homes: [NodeHome; 4] = Default::default();
    let hub = Process::bootstrap(&homes[0]).await;
    let mut first = Process::provider(&homes[1], hub.address(), None).await;
    let gateway = Process::gateway(&homes[3], hub.address()).await;
    let client = Client::default();
    soon("the first sells", async {
        while client.chat(&gateway, "infernet-demo", false).await.unwrap().status != 200 {}
    })
    .await;

    let created = homes[2].infernet(&["init"]).await;
    assert!(created.status.success());
    std::fs::copy(
        homes[1].path().join("identity.key"),
        homes[2].path().join("identity.key"),
    )
    .unwrap();
    let mut arguments = COPY;
    arguments[COPY.len() - 1] = hub.address();
    let second = homes[2].infernet(&arguments).await;
    let why = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1), "{why}");
    assert!(
        why.contains("another node runs with this node's key") && why.contains("/tcp/"),
        "{why}"
    );

    let served = client.chat(&gateway, "infernet-demo", false).await.unwrap();
    assert_eq!(
        (served.status, served.provider.as_deref()),
        (200, Some(first.peer_id())),
        "{}",
        served.body
    );
    first.kill().await;
    // What the first has said last is still about; nobody is there any more who could say more.
    let moved = Process::provider(&homes[2], hub.address(), None).await;
    assert_eq!(moved.peer_id(), first.peer_id());
    soon("the key has moved to another home", async {
        while client.chat(&gateway, "infernet-demo", false).await.unwrap().status != 200 {}
    })
    .await;
}

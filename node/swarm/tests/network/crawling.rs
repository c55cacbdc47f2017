//! Walking the DHT.

use std::collections::BTreeSet;

use infernet_swarm::{Reachability, Role, crawl};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::harness::{Node, config, soon, start};

#[tokio::test]
async fn a_walk_finds_every_server_of_the_dht_and_whom_each_knows() {
    let bootstrap = start(config(Role::Bootstrap));
    let at = bootstrap.addresses().await;
    let servers: Vec<Node> = (0..30)
        .map(|_| {
            let mut config = config(Role::Node);
            (config.bootstrap, config.kad_server) = (at.clone(), Some(true));
            start(config)
        })
        .collect();
    let wanted: BTreeSet<_> = servers.iter().chain([&bootstrap]).map(Node::id).collect();
    let found = soon(async {
        loop {
            let (sender, mut receiver) = mpsc::channel(8);
            let mut walk = JoinSet::new();
            let at = at.clone();
            walk.spawn(async move { crawl("test", &at, sender).await });
            let mut found = Vec::new();
            while let Some(one) = receiver.recv().await {
                found.push(one);
            }
            if found.iter().map(|one| one.peer).collect::<BTreeSet<_>>() == wanted {
                return found;
            }
        }
    })
    .await;
    for one in &found {
        assert_eq!(one.reached, Reachability::Direct, "{one:?}");
        assert!(
            one.agent.is_some() && one.asked >= 2 && one.answered == one.asked,
            "{one:?}"
        );
        assert!(
            one.protocols
                .iter()
                .any(|protocol| protocol == "/c0mpute/test/kad/1.0.0"),
            "{one:?}"
        );
        assert!(
            !one.neighbours.is_empty() && one.neighbours.iter().all(|peer| wanted.contains(peer)),
            "{one:?}"
        );
    }
    let hub = found.iter().find(|one| one.peer == bootstrap.id()).unwrap();
    assert!(
        hub.neighbours.len() > 20,
        "more than one answer holds: {}",
        hub.neighbours.len()
    );
}

#[tokio::test]
async fn a_walk_from_where_nobody_is_ends_with_a_reason() {
    let (sender, mut receiver) = mpsc::channel(8);
    let peer = start(config(Role::Node)).id();
    let gone = [format!("/ip4/127.0.0.1/tcp/1/p2p/{peer}").parse().unwrap()];
    let (walked, found) = soon(async { tokio::join!(crawl("test", &gone, sender), receiver.recv()) }).await;
    walked.unwrap();
    let found = found.unwrap();
    assert!(matches!(found.reached, Reachability::Unreached(why) if !why.is_empty()));
    assert!(receiver.recv().await.is_none());
}

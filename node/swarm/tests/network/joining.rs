//! Finding one another, and going away.

use infernet_swarm::{Closed, DhtError, DialError, Direction, Error, PublishError, Role};

use super::harness::{TOPIC, config, joining, node, pair, soon, start};

#[tokio::test]
async fn two_nodes_find_each_other_through_a_bootstrap_node_known_by_address_alone() {
    let mut bootstrap = start(config(Role::Bootstrap));
    let at = bootstrap.addresses().await;
    let server = |at| {
        let mut config = config(Role::Node);
        (config.bootstrap, config.kad_server) = (at, Some(true));
        start(config)
    };
    let mut one = server(at.clone());
    one.connected(bootstrap.id()).await;
    bootstrap.connected(one.id()).await;
    let mut other = server(at);
    other.connected(one.id()).await;
    one.connected(other.id()).await;
}

#[tokio::test]
async fn a_lost_bootstrap_node_is_dialled_again() {
    let first = config(Role::Bootstrap);
    let (secret, mut bootstrap) = (first.secret, start(first));
    let at = bootstrap.addresses().await;
    let mut node = joining(at.clone());
    node.connected(bootstrap.id()).await;
    bootstrap.cancel.cancel();
    soon(bootstrap.task.join_next()).await.unwrap().unwrap();
    node.disconnected(bootstrap.id()).await;

    let mut again = config(Role::Bootstrap);
    (again.secret, again.listen) = (secret, at);
    let again = start(again);
    node.connected(again.id()).await;
}

#[tokio::test]
async fn a_peer_is_described_as_it_identified_itself() {
    let (one, other) = pair().await;
    let info = soon(async {
        loop {
            let peers = one.handle.peers().await.unwrap();
            let info = peers
                .into_iter()
                .find(|info| info.peer == other.id())
                .expect("it is connected");
            if info.same_network.is_some() && info.round_trip.is_some() {
                return info;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(info.same_network, Some(true));
    assert_eq!(
        info.agent.as_deref(),
        Some(concat!("infernet/", env!("CARGO_PKG_VERSION")))
    );
    assert!(
        info.protocols
            .iter()
            .any(|protocol| protocol == "/infernet/test/inference/1.0.0"),
        "{:?}",
        info.protocols
    );
    assert_eq!(
        info.listen,
        other.addresses().await,
        "loopback is worth knowing over loopback"
    );
    assert!(!info.relayed());
    assert_eq!(info.connections[0].direction, Direction::Outbound);
    assert_eq!(
        one.handle.round_trip(other.id()).await.unwrap().is_some(),
        info.round_trip.is_some()
    );
}

#[tokio::test]
async fn provider_records_are_found_and_lead_to_the_provider() {
    let bootstrap = start(config(Role::Bootstrap));
    let provider = joining(bootstrap.addresses().await);
    let mut buyer = node();
    let digest = [5; 32];
    assert_eq!(
        buyer.handle.providers(digest).await,
        Err(DhtError::NoPeers),
        "nobody is known yet"
    );

    // Announced before anybody is connected, and again once somebody is.
    provider.handle.provide(digest).await.unwrap();
    soon(async {
        while bootstrap.handle.counters().await.unwrap().providers_stored == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    buyer
        .handle
        .dial(bootstrap.id(), bootstrap.addresses().await)
        .await
        .unwrap();
    buyer.connected(bootstrap.id()).await;
    let found = soon(async {
        loop {
            match buyer.handle.providers(digest).await {
                Ok(found) if !found.is_empty() => return found,
                Ok(_) | Err(DhtError::NoPeers) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    })
    .await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].peer, provider.id());
    let opened = soon(buyer.handle.open(provider.id(), Vec::new())).await.unwrap();
    assert_eq!(opened.peer, provider.id(), "its addresses came with the record");
    assert!(buyer.handle.providers([6; 32]).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_blocked_peer_stays_out_until_it_is_let_in() {
    let (mut one, mut other) = pair().await;
    other.connected(one.id()).await;
    one.connected(other.id()).await;
    one.handle.block(other.id()).await.unwrap();
    other.disconnected(one.id()).await;
    one.disconnected(other.id()).await;
    assert!(matches!(
        soon(one.handle.dial(other.id(), other.addresses().await)).await,
        Err(DialError::Unreachable { .. })
    ));
    one.handle.unblock(other.id()).await.unwrap();
    soon(one.handle.dial(other.id(), other.addresses().await))
        .await
        .unwrap();
    assert!(one.handle.is_connected(other.id()).await.unwrap());
}

#[tokio::test]
async fn a_peer_without_an_address_and_one_that_is_gone_are_told_apart() {
    let (one, mut gone) = (node(), node());
    let nobody = infernet_swarm::PeerId::random();
    assert_eq!(
        one.handle.dial(nobody, Vec::new()).await,
        Err(DialError::NoAddresses { peer: nobody })
    );
    let at = gone.addresses().await;
    gone.cancel.cancel();
    soon(gone.task.join_next()).await;
    let error = soon(one.handle.dial(gone.id(), at.clone())).await.unwrap_err();
    assert!(error.to_string().contains(&at[0].to_string()), "{error}");
}

#[tokio::test]
async fn a_taken_port_is_an_error_that_names_it() {
    let first = node();
    let mut second = config(Role::Node);
    second.listen = first.addresses().await;
    let error = infernet_swarm::new(second).unwrap_err();
    let Error::Listen { address, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(*address, first.addresses().await[0]);
    assert!(error.to_string().contains("--p2p-port"), "{error}");
}

#[tokio::test]
async fn when_the_loop_ends_everything_ends() {
    let (mut one, mut other) = pair().await;
    other.connected(one.id()).await;
    let stream = soon(one.handle.open(other.id(), Vec::new())).await.unwrap();
    let (mut reader, mut writer) = stream.split();
    writer.send("hello").await.unwrap();
    let (_, mut theirs, _their_writer) = other.inbound().await;
    assert_eq!(soon(theirs.next()).await.unwrap().unwrap(), "hello");

    one.cancel.cancel();
    soon(one.task.join_next())
        .await
        .expect("the task")
        .expect("it ends by itself");
    assert_eq!(
        one.handle.publish(TOPIC, "x".into()).await,
        Err(PublishError::Closed(Closed))
    );
    assert_eq!(one.handle.peers().await.unwrap_err(), Closed);
    while one.events.recv().await.is_some() {}
    assert!(!matches!(soon(reader.next()).await, Ok(Some(_))));
    assert!(!matches!(soon(theirs.next()).await, Ok(Some(_))));
    other.disconnected(one.id()).await;
}

#[tokio::test]
async fn the_loop_ends_with_its_last_handle() {
    let mut node = node();
    let second = node.handle.clone();
    drop(node.handle);
    second.listen_addrs().await.unwrap();
    drop(second);
    soon(node.task.join_next())
        .await
        .expect("the task")
        .expect("it ends by itself");
}

//! Streams through a relay, and away from it.

use infernet_swarm::multiaddr::Protocol;
use infernet_swarm::{Event, Role};

use super::harness::{TOPIC, config, node, soon, start};

#[tokio::test]
async fn a_stream_goes_through_a_relay_until_a_direct_way_is_known() {
    let mut relay = config(Role::Bootstrap);
    relay.external = vec!["/ip4/127.0.0.1/tcp/9".parse().unwrap()];
    // So that nobody but the hidden node could hear the buyer.
    relay.topics = Vec::new();
    let relay = start(relay);
    let circuit = relay
        .addresses()
        .await
        .remove(0)
        .with(Protocol::P2p(relay.id()))
        .with(Protocol::P2pCircuit);

    let mut hidden = config(Role::Node);
    hidden.listen.push(circuit.clone());
    let mut hidden = start(hidden);
    let mut direct = None;
    let mut reserved = false;
    while !reserved || direct.is_none() {
        let address = hidden
            .event(|event| match event {
                Event::NewListenAddr { address } => Some(address),
                _ => None,
            })
            .await;
        if address.iter().any(|part| part == Protocol::P2pCircuit) {
            reserved = true;
        } else {
            direct = Some(address);
        }
    }

    let mut buyer = node();
    let through = circuit.with(Protocol::P2p(hidden.id()));
    for (addresses, relayed) in [(vec![through], true), (vec![direct.unwrap()], false)] {
        let stream = soon(buyer.handle.open(hidden.id(), addresses)).await.unwrap();
        assert_eq!(stream.relayed, relayed);
        if !relayed {
            buyer.subscribed(hidden.id()).await;
        }
        let (mut reader, mut writer) = stream.split();
        writer.send("hello").await.unwrap();
        let theirs = hidden
            .event(|event| match event {
                Event::Inbound(stream) => Some(stream),
                _ => None,
            })
            .await;
        assert_eq!((theirs.relayed, theirs.peer), (relayed, buyer.id()));
        let (mut their_reader, mut their_writer) = theirs.split();
        assert_eq!(soon(their_reader.next()).await.unwrap().unwrap(), "hello");
        their_writer.send("welcome").await.unwrap();
        assert_eq!(soon(reader.next()).await.unwrap().unwrap(), "welcome");
        let published = buyer.handle.publish(TOPIC, format!("relayed: {relayed}").into()).await;
        assert_eq!(published.is_err(), relayed, "gossip does not go over circuits");
    }
}

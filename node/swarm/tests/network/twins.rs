//! Another process on a node's key is told from this one, wherever a router leads.

use infernet_swarm::multiaddr::Protocol;
use infernet_swarm::{Multiaddr, Role};

use super::harness::{config, soon, start};

#[tokio::test]
async fn a_twin_is_found_and_a_node_is_not_its_own() {
    let mut settings = config(Role::Node);
    settings.listen = vec!["/ip4/0.0.0.0/tcp/0".parse().unwrap()];
    let mut same_key = config(Role::Node);
    same_key.secret = settings.secret;
    let (node, twin, other) = (start(settings), start(same_key), start(config(Role::Node)));
    let port = node.addresses().await[0].iter().find_map(|part| match part {
        Protocol::Tcp(port) => Some(port),
        _ => None,
    });
    let port = port.unwrap();
    // It listens everywhere, and does not know this address for its own: as behind a router that leads back.
    let back: Multiaddr = format!("/ip4/127.0.0.2/tcp/{port}").parse().unwrap();
    let at_twin = twin.addresses().await.remove(0);
    let named = at_twin.clone().with_p2p(node.id()).unwrap();
    for (address, expected) in [
        (back, false),
        (node.addresses().await.remove(0), false),
        (other.addresses().await.remove(0), false),
        ("/ip4/127.0.0.1/tcp/9".parse().unwrap(), false),
        (at_twin, true),
        (named, true),
    ] {
        let found = soon(node.handle.is_twin_at(address.clone())).await.unwrap();
        assert_eq!(found, expected, "{address}");
    }
}

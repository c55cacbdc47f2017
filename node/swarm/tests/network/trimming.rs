//! Connections that nothing uses are let go of where there are many, and no others.

use std::time::Duration;

use infernet_swarm::{Bound, Keep, Multiaddr, Role};

use super::harness::{Node, config, soon, start};

/// Peers that come.
const PEERS: usize = 10;
/// Of them some stay.
const KEEP: Keep = Keep {
    most: 5,
    least: 4,
    grace: Duration::from_millis(200),
};

/// A node without gossip, whose meshes would hold on to everybody.
fn quiet(keep: Option<Keep>, bootstrap: Vec<Multiaddr>) -> Node {
    let mut config = config(Role::Node);
    (config.topics, config.bootstrap) = (Vec::new(), bootstrap);
    if let Some(keep) = keep {
        config.limits.keep = keep;
    }
    start(config)
}

async fn peers(node: &Node) -> Vec<infernet_swarm::PeerId> {
    soon(node.handle.peers())
        .await
        .unwrap()
        .iter()
        .map(|peer| peer.peer)
        .collect()
}

#[tokio::test]
async fn a_node_lets_go_of_strangers_and_keeps_whom_it_needs() {
    let root = quiet(None, Vec::new());
    let center = quiet(Some(KEEP), root.addresses().await);
    soon(async {
        while peers(&center).await.is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let at = center.addresses().await;
    let mut others = Vec::new();
    let mut lines = Vec::new();
    for number in 0..PEERS {
        let other = quiet(None, Vec::new());
        soon(other.handle.dial(center.id(), at.clone())).await.unwrap();
        // The first two hold a direct stream, one opened by either side.
        let opened = match number {
            0 => Some(other.handle.open(center.id(), Vec::new()).await.unwrap()),
            1 => Some(center.handle.open(other.id(), other.addresses().await).await.unwrap()),
            _ => None,
        };
        if let Some(stream) = opened {
            let (reader, mut writer) = stream.split();
            // Who is called learns of a stream by the first word on it.
            soon(writer.send("hello")).await.unwrap();
            lines.push((reader, writer));
        }
        others.push(other);
    }
    let kept = soon(async {
        loop {
            let kept = peers(&center).await;
            if kept.len() <= KEEP.most {
                return kept;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(kept.len() >= KEEP.least, "no more go than must: {}", kept.len());
    for needed in [root.id(), others[0].id(), others[1].id()] {
        assert!(kept.contains(&needed), "what it joined by, and direct streams, stay");
    }
    let gone = soon(center.handle.hits()).await.unwrap().of(Bound::PeersKept);
    assert!(gone as usize >= PEERS + 1 - KEEP.most, "{gone}");

    // A stream that has ended holds nobody: with more who come, it goes first.
    drop(lines);
    let mut more = Vec::new();
    for _ in 0..KEEP.most {
        let other = quiet(None, Vec::new());
        soon(other.handle.dial(center.id(), at.clone())).await.unwrap();
        more.push(other);
    }
    soon(async {
        while peers(&center).await.contains(&others[1].id()) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(peers(&center).await.contains(&root.id()));
}

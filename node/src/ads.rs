//! This node's own advertisement: what it says, when it says it again, and where a newcomer finds it.
//!
//! Implements `specs/capability.md`, "Publishing".

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use infernet_protocol::capability::{CapabilityAd, MODELS};
use infernet_protocol::codec::{List, Text};
use infernet_protocol::names::CLOCK_SKEW;
use infernet_protocol::{ModelId, Verified};
use infernet_swarm::PublishError;
use tracing::{debug, info, warn};

use crate::clock;
use crate::node::{AGENT, Node};
use crate::store::Record;

/// Milliseconds that a sequence may be ahead of the time (`specs/capability.md`).
const AHEAD: u64 = CLOCK_SKEW.0 as u64;
/// A node that nobody listens to yet tries again after this.
const UNHEARD: Duration = Duration::from_millis(250);
/// Engines are asked for their models this often.
const REFRESH: Duration = Duration::from_secs(3);

/// Publishes this node's ad now, at its interval, and whenever what it serves changes; withdraws it when the node is
/// about to stop.
pub(crate) async fn publish(node: Arc<Node>) {
    let (mut changes, mut whereabouts) = (node.engines.changes(), node.whereabouts());
    let mut announced = Vec::new();
    loop {
        let heard = match sign(&node) {
            Some(ad) => {
                let heard = tell(&node, &ad).await;
                announce(&node, &ad, &mut announced).await;
                heard
            }
            // Nothing to sell, and nothing said before that would have to be withdrawn.
            None => true,
        };
        let pause = if heard {
            Duration::from_millis(node.market.ad_interval().0.into())
        } else {
            UNHEARD
        };
        tokio::select! {
            () = node.leaving.cancelled() => break,
            () = node.tasks.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
            Ok(()) = changes.changed() => {}
            Ok(()) = whereabouts.changed() => {}
        }
    }
    withdraw(&node).await;
}

/// Keeps asking the engines what they serve.
pub(crate) async fn watch_engines(node: Arc<Node>) {
    loop {
        tokio::time::sleep(REFRESH).await;
        node.engines.refresh().await;
        node.own.refresh().await;
        node.slots_changed();
    }
}

/// The next ad of this node; `None` where it never had anything to sell.
fn sign(node: &Arc<Node>) -> Option<Verified<CapabilityAd>> {
    let models = node.engines.entries();
    if models.is_empty() && node.market.own_ad().is_none() {
        return None;
    }
    let ad = Verified::sign(describe(node, models), &node.identity, &node.network, &clock::entropy());
    if let Err(error) = node.store.append(Record::AdSequence(ad.sequence)) {
        warn!(%error, "the ad's sequence could not be written down, so the ad is not published");
        return None;
    }
    node.market.advertise(ad.clone());
    node.provider.set_ad(ad.clone());
    Some(ad)
}

fn describe(node: &Arc<Node>, models: Vec<infernet_protocol::capability::ModelAd>) -> CapabilityAd {
    let issued_at = clock::wall();
    CapabilityAd {
        // No further ahead than others accept, whatever another in this node's name has said.
        sequence: issued_at
            .0
            .max((node.market.twin().highest() + 1).min(issued_at.0 + AHEAD)),
        issued_at,
        interval: node.market.ad_interval(),
        agent: Text::lossy(AGENT),
        tags: List::first_of(node.tags.iter().map(|tag| Text::lossy(tag))),
        addresses: node.advertised(),
        gpus: List::default(),
        models_total: u16::try_from(models.len()).unwrap_or(u16::MAX),
        slots: if models.is_empty() { 0 } else { node.slots() },
        models: List::<_, MODELS>::first_of(models),
        rails: List::first_of(node.rails.iter().cloned()),
    }
}

/// Whether anybody heard it.
async fn tell(node: &Arc<Node>, ad: &Verified<CapabilityAd>) -> bool {
    match node
        .swarm
        .publish(node.network.capability_topic(), Bytes::copy_from_slice(ad.bytes()))
        .await
    {
        Ok(()) | Err(PublishError::Duplicate) => true,
        Err(error) => {
            debug!(%error, "ad not published yet");
            false
        }
    }
}

/// Names this node as a provider of each of its models in the DHT, and of none that it no longer has.
async fn announce(node: &Arc<Node>, ad: &Verified<CapabilityAd>, announced: &mut Vec<ModelId>) {
    let shard = node.identity.node().0[31];
    let now: Vec<ModelId> = ad.models.iter().map(|model| model.id.clone()).collect();
    for model in now.iter().filter(|model| !announced.contains(model)) {
        for key in [model.record_key(), model.shard_key(shard)] {
            if let Err(error) = node.swarm.provide(key.0).await {
                debug!(%model, %error, "not in the DHT yet");
            }
        }
    }
    for model in announced.iter().filter(|model| !now.contains(model)) {
        for key in [model.record_key(), model.shard_key(shard)] {
            let _ = node.swarm.stop_providing(key.0).await;
        }
    }
    *announced = now;
}

async fn withdraw(node: &Arc<Node>) {
    // Where another process has this node's key, it would be withdrawn too.
    if node.market.own_ad().is_none_or(|ad| ad.models.is_empty()) || node.market.twin().found().is_some() {
        return;
    }
    let ad = Verified::sign(
        describe(node, Vec::new()),
        &node.identity,
        &node.network,
        &clock::entropy(),
    );
    if tell(node, &ad).await {
        info!("withdrawn from the market");
    }
}

//! What a running node answers to the command line, over the local socket.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use infernet_protocol::NodeId;
use infernet_swarm::{Bound, Direction, PeerId, Reached};
use serde_json::{Value, json};

use crate::doctor;
use crate::home::Home;
use crate::ipc::{Answer, Control, Refusal};
use crate::node::Node;
use crate::service;
use crate::store;

/// The node, as the command line controls it.
#[derive(Debug)]
pub struct Controlled {
    node: Arc<Node>,
    gateway: Option<String>,
    metrics: Option<String>,
    home: Home,
    began: Instant,
}

impl Controlled {
    /// Controls `node`, whose books are in `home`.
    #[must_use]
    pub fn new(node: Arc<Node>, gateway: Option<String>, metrics: Option<String>, home: Home) -> Self {
        Self {
            node,
            gateway,
            metrics,
            home,
            began: Instant::now(),
        }
    }
}

#[async_trait]
impl Control for Controlled {
    async fn status(&self) -> Answer {
        let node = &self.node;
        let listen = node.listening().await.map_err(Refusal::new)?;
        let peers = node.peers().await.map_err(Refusal::new)?;
        let load = node.load();
        let reached = node.reached().await.map_err(Refusal::new)?;
        let own = node.ads().into_iter().find(|ad| ad.signer() == node.id());
        let serves = own
            .iter()
            .flat_map(|ad| ad.models.iter())
            .map(|model| model.id.to_string());
        Ok(json!({
            "peer_id": node.id().peer_id(),
            "npub": node.id().npub(),
            "version": env!("CARGO_PKG_VERSION"),
            "network": node.network.as_str(),
            "listen": listen.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "gateway": self.gateway,
            "metrics": self.metrics,
            "reached": match reached {
                Reached { directly: true, .. } => "directly",
                Reached { relays: 0, .. } => "not known",
                Reached { .. } => "through relays",
            },
            "relays": reached.relays,
            "key_also_used": node.twin().map(|at| match at.is_empty() {
                true => "by another node somewhere".to_owned(),
                false => format!("at {}", at.join(", ")),
            }),
            "uptime_s": self.began.elapsed().as_secs(),
            "peers": peers.len(),
            "ads": node.ads().len(),
            "serves": serves.collect::<Vec<_>>(),
            "slots": load.slots,
            "running": load.running,
            "running_own": node.lent(),
            "leases_sold": load.leases,
            "leases_bought": node.leases().len(),
            "spent_day_microusd": Some(node.spent().1.0).filter(|amount| *amount > 0),
        }))
    }

    async fn peers(&self) -> Answer {
        let peers = self.node.peers().await.map_err(Refusal::new)?;
        let rows = peers.iter().map(|peer| {
            json!({
                "peer_id": peer.peer.to_string(),
                "agent": peer.agent,
                "relayed": peer.relayed(),
                "direction": peer.connections.first().map(|connection| match connection.direction {
                    Direction::Inbound => "inbound",
                    Direction::Outbound => "outbound",
                }),
                "round_trip_ms": peer.round_trip.map(|trip| trip.as_millis() as u64),
                "addresses": peer.connections.iter().map(|c| c.address.to_string()).collect::<Vec<_>>(),
            })
        });
        Ok(rows.collect::<Vec<_>>().into())
    }

    async fn why(&self, params: Value) -> Answer {
        let named = params["peer"].as_str().unwrap_or_default();
        let peer = peer_named(named).ok_or_else(|| {
            Refusal::new(format!(
                "`{named}` is neither a peer id nor an npub; `infernet peers` lists them"
            ))
        })?;
        let conduct = self.node.conduct(peer).await.map_err(Refusal::new)?;
        let standing = conduct.standing;
        let offences = standing
            .offences
            .iter()
            .map(|(offence, count, last)| json!({ "what": offence.name(), "times": count, "last_s": last.as_secs() }));
        Ok(json!({
            "peer_id": peer.to_string(),
            "connected": conduct.connected,
            "points": standing.points,
            "banned_at": standing.banned_at,
            "banned_for_s": standing.banned_for.map(|left| left.as_secs()),
            "bans": standing.bans,
            "blocked": conduct.blocked,
            "gossip_score": conduct.gossip_score.map(|score| (score * 10.0).round() / 10.0),
            "gossip_thresholds": conduct.gossip_thresholds,
            "offences": offences.collect::<Vec<_>>(),
        }))
    }

    async fn doctor(&self) -> Answer {
        let facts = doctor::facts(&self.node, &self.home).await;
        facts.map(|facts| doctor::to_json(&facts)).map_err(Refusal::new)
    }

    async fn limits(&self) -> Answer {
        let hits = self.node.limit_hits().await.map_err(Refusal::new)?;
        let rows = Bound::ALL.iter().map(|bound| {
            let (value, at_once) = bound.value();
            json!({
                "limit": bound.name(),
                "value": value,
                "at_once": at_once,
                "of": bound.unit(),
                "hits": hits.of(*bound),
            })
        });
        Ok(rows.collect::<Vec<_>>().into())
    }

    async fn models(&self) -> Answer {
        Ok(service::served_or_ours(&self.node)
            .iter()
            .map(crate::gateway::models::model)
            .collect::<Vec<_>>()
            .into())
    }

    async fn ads(&self) -> Answer {
        let ads = self.node.ads().into_iter().map(|ad| {
            json!({
                "peer_id": ad.signer().peer_id(),
                "agent": ad.agent.to_string(),
                "sequence": ad.sequence,
                "addresses": ad.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "models": ad.models.iter().map(|model| model.id.to_string()).collect::<Vec<_>>(),
                "slots": ad.slots,
            })
        });
        Ok(ads.collect::<Vec<_>>().into())
    }

    async fn spent(&self) -> Answer {
        let (hour, day) = self.node.spent();
        let by_key = self.node.spent_by_key().into_iter();
        let by_key: serde_json::Map<_, _> = by_key
            .map(|(key, amount)| (hex::encode(key.0), amount.0.into()))
            .collect();
        Ok(json!({ "hour_microusd": hour.0, "day_microusd": day.0, "keys_day_microusd": by_key }))
    }

    async fn receipts(&self, params: Value) -> Answer {
        store::answer_receipts(self.node.store(), &params)
            .await
            .map_err(Refusal)
    }

    async fn export(&self, params: Value) -> Answer {
        store::answer_export(self.node.store(), &params).await.map_err(Refusal)
    }

    async fn stop(&self) -> Answer {
        self.node.tasks.shut_down();
        Ok(Value::Null)
    }
}

/// A peer as people name it: by its peer id, or by its npub.
fn peer_named(name: &str) -> Option<PeerId> {
    let by_npub = || PeerId::from_bytes(&NodeId::from_npub(name).ok()?.peer_id_bytes()).ok();
    name.parse().ok().or_else(by_npub)
}

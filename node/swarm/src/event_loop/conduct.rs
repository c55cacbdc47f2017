//! What becomes of peers that break a bound: it is noted, and where it adds up they are kept out for a while. And what is
//! held in all.

use libp2p::swarm::ListenError;
use libp2p::{PeerId, memory_connection_limits};
use tokio::time::Instant;

use super::EventLoop;
use crate::conduct::Offence;
use crate::event::{Held, PeerConduct};
use crate::gossip::THRESHOLDS;
use crate::limits::{Bound, Hits, Subnet, Within};

impl EventLoop {
    /// Whether something is within its bound; notes it where it is to be held against the peer.
    pub(super) fn is_within(&mut self, peer: PeerId, within: Within, offence: Offence) -> bool {
        if within == Within::Held {
            self.on_offence(peer, offence);
        }
        within == Within::Yes
    }

    pub(super) fn on_offence(&mut self, peer: PeerId, offence: Offence) {
        let (now, connected) = (Instant::now(), self.peers.count());
        tracing::debug!(%peer, offence = offence.name(), "held against a peer");
        let Some(length) = self.conduct.on_offence(peer, offence, connected, now) else {
            return;
        };
        tracing::warn!(%peer, offence = offence.name(), seconds = length.as_secs(), "kept out for a while");
        self.counters.bans += 1;
        let subnet = Subnet::of(peer, self.peers.seen_at(&peer));
        let behaviour = self.swarm.behaviour_mut();
        if !matches!(subnet, Subnet::Alone(_)) {
            behaviour.gate.on_ban(subnet, now);
        }
        behaviour.blocked.block_peer(peer);
    }

    pub(super) fn end_bans(&mut self, now: Instant) {
        while let Some(peer) = self.conduct.over(now) {
            // The node may have its own reasons.
            if !self.blocked.contains(&peer) {
                self.swarm.behaviour_mut().blocked.unblock_peer(peer);
            }
        }
    }

    pub(super) fn on_incoming_failed(&mut self, error: &ListenError) {
        if let ListenError::Denied { cause } = error
            && cause
                .downcast_ref::<memory_connection_limits::MemoryUsageLimitExceeded>()
                .is_some()
        {
            self.limiter.hits.add(Bound::Memory);
        }
    }

    pub(super) fn conduct_of(&self, peer: &PeerId) -> PeerConduct {
        PeerConduct {
            connected: self.swarm.is_connected(peer),
            blocked: self.blocked.contains(peer),
            standing: self.conduct.standing(peer, Instant::now()),
            gossip_score: self.swarm.behaviour().gossip.peer_score(peer),
            gossip_thresholds: [
                THRESHOLDS.gossip_threshold,
                THRESHOLDS.publish_threshold,
                THRESHOLDS.graylist_threshold,
            ],
        }
    }

    pub(super) fn held(&mut self) -> Held {
        Held {
            connections: self.peers.connections(),
            addresses: self.peers.remembered(),
            table: self.dht.table_len(),
            records: self.swarm.behaviour_mut().kad.store_mut().len(),
            counted: self.limiter.len(),
            conduct: self.conduct.len(),
            judgments: self.judgments.len(),
            tasks: self.tasks.len(),
        }
    }

    pub(super) fn hits(&mut self) -> Hits {
        let behaviour = self.swarm.behaviour_mut();
        let records = behaviour.kad.store_mut().hits;
        self.limiter
            .hits
            .and(&behaviour.gate.hits)
            .and(&records)
            .and(&self.dht.hits)
    }
}

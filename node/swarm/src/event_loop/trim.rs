//! Lets go of connections that nothing uses, where there are many.

use std::collections::HashSet;
use std::time::Duration;

use libp2p::{PeerId, relay};
use tokio::time::Instant;

use super::EventLoop;
use crate::limits::Bound;
use crate::trim::{Candidate, let_go};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(10);

impl EventLoop {
    pub(super) fn trim(&mut self, now: Instant) {
        if self.trim_due > now {
            return;
        }
        // Of a short grace, as in tests, no more than half is waited for.
        self.trim_due = now + LOOK_EVERY.min(self.keep.grace / 2);
        if self.peers.count() <= self.keep.most {
            return;
        }
        let mesh: HashSet<&PeerId> = self.swarm.behaviour().gossip.all_mesh_peers().collect();
        let candidates = self.peers.used().map(|(peer, used)| Candidate {
            peer,
            used,
            is_needed: mesh.contains(&peer) || self.is_needed(&peer),
        });
        let gone = let_go(self.keep, candidates.collect(), now);
        tracing::debug!(
            peers = self.peers.count(),
            gone = gone.len(),
            "connections that nothing uses"
        );
        self.counters.let_go += gone.len() as u64;
        for peer in gone {
            self.limiter.hits.add(Bound::PeersKept);
            // An error says that it has gone by itself.
            let _already = self.swarm.disconnect_peer_id(peer);
        }
    }

    /// Whether something but gossip hangs on the connection with a peer: a direct stream, a place on a relay, a circuit.
    fn is_needed(&self, peer: &PeerId) -> bool {
        let streams = self.swarm.behaviour().streams.as_ref();
        streams.is_some_and(|streams| streams.is_in_use(peer))
            || self.join.leads_to(peer)
            || self.dials.contains_key(peer)
            || self.served.contains_key(peer)
    }

    /// Whom this node relays for, and how many ways: a place, and each circuit.
    pub(super) fn on_relaying(&mut self, event: &relay::Event) {
        match event {
            relay::Event::ReservationReqAccepted {
                src_peer_id,
                renewed: false,
            } => self.serve(*src_peer_id),
            relay::Event::ReservationClosed { src_peer_id } | relay::Event::ReservationTimedOut { src_peer_id } => {
                self.serve_no_more(src_peer_id);
            }
            relay::Event::CircuitReqAccepted {
                src_peer_id,
                dst_peer_id,
            } => {
                self.serve(*src_peer_id);
                self.serve(*dst_peer_id);
            }
            relay::Event::CircuitClosed {
                src_peer_id,
                dst_peer_id,
                ..
            } => {
                self.serve_no_more(src_peer_id);
                self.serve_no_more(dst_peer_id);
            }
            _ => {}
        }
    }

    fn serve(&mut self, peer: PeerId) {
        *self.served.entry(peer).or_default() += 1;
    }

    fn serve_no_more(&mut self, peer: &PeerId) {
        if let Some(ways) = self.served.get_mut(peer) {
            *ways -= 1;
            if *ways == 0 {
                self.served.remove(peer);
            }
        }
    }
}

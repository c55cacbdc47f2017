//! Lets go of connections that nothing uses, where there are many.

use std::collections::HashSet;
use std::time::Duration;

use libp2p::{PeerId, relay};
use tokio::time::Instant;

use super::EventLoop;
use super::reaching::relay_of;
use crate::limits::Bound;
use crate::trim::{Candidate, let_go};

/// What a peer has of this node as a relay.
#[derive(Debug, Default)]
pub(super) struct Served {
    place: bool,
    circuits: usize,
}

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
        // The relays of this node's own circuits.
        let relays: HashSet<PeerId> = self.peers.addresses_in_use().filter_map(relay_of).collect();
        let candidates = self.peers.used().map(|(peer, used)| Candidate {
            peer,
            used,
            is_needed: mesh.contains(&peer) || relays.contains(&peer) || self.is_needed(&peer),
        });
        let gone = let_go(self.keep, candidates.collect(), now);
        tracing::debug!(
            peers = self.peers.count(),
            gone = gone.len(),
            "connections that nothing uses"
        );
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

    /// Whom this node relays for: a place on it, and circuits. A place is told to have closed with each connection of its
    /// peer, whichever it was made on; so it counts until it is over in time, or its peer has gone.
    pub(super) fn on_relaying(&mut self, event: &relay::Event) {
        match event {
            relay::Event::ReservationReqAccepted { src_peer_id, .. } => {
                self.served.entry(*src_peer_id).or_default().place = true;
            }
            relay::Event::ReservationTimedOut { src_peer_id } => self.serve(src_peer_id, |served| served.place = false),
            relay::Event::CircuitReqAccepted {
                src_peer_id,
                dst_peer_id,
            } => {
                for peer in [src_peer_id, dst_peer_id] {
                    self.served.entry(*peer).or_default().circuits += 1;
                }
            }
            relay::Event::CircuitClosed {
                src_peer_id,
                dst_peer_id,
                ..
            } => {
                for peer in [src_peer_id, dst_peer_id] {
                    self.serve(peer, |served| served.circuits = served.circuits.saturating_sub(1));
                }
            }
            _ => {}
        }
    }

    fn serve(&mut self, peer: &PeerId, less: impl FnOnce(&mut Served)) {
        if let Some(served) = self.served.get_mut(peer) {
            less(served);
            if !served.place && served.circuits == 0 {
                self.served.remove(peer);
            }
        }
    }
}

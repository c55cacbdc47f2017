//! Hears no peer more often than allowed: what comes beyond is dropped as it comes off the connection, before anything is
//! computed over it.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

use crate::limits::{Bound, GOSSIP_REPEATS, Pace, Rate};
use crate::repeats::{Recent, Tap};

/// Of a flood it is told at its first packet, and each time that so many more were dropped.
const TOLD_EVERY: u32 = 64;

/// A behaviour whose peers keep to a rate.
#[derive(Debug)]
pub(crate) struct Paced<B> {
    inner: B,
    bound: Bound,
    rate: Rate,
    tap: Option<Tap>,
    peers: HashMap<PeerId, Heard>,
    floods: Vec<(PeerId, Bound)>,
}

#[derive(Debug, Default)]
struct Heard {
    packets: Pace,
    dropped: u32,
    recent: Recent,
    repeats: Pace,
    repeated: u32,
}

/// What a paced behaviour tells.
#[derive(Debug)]
pub(crate) enum Told<E> {
    /// What the behaviour tells.
    Event(E),
    /// A peer sends more than this bound allows.
    Flood(PeerId, Bound),
}

impl<B> Paced<B> {
    /// Packets of a peer are bounded by `rate`, which is told as `bound`.
    pub(crate) fn new(inner: B, bound: Bound, rate: Rate) -> Self {
        Self {
            inner,
            bound,
            rate,
            tap: None,
            peers: HashMap::new(),
            floods: Vec::new(),
        }
    }

    /// Counts also the messages that a peer repeats; `tap` sits where `inner` decodes them.
    pub(crate) fn without_repeats(self, tap: Tap) -> Self {
        Self { tap: Some(tap), ..self }
    }

    /// Whether one more packet of a peer is heard.
    fn hears(&mut self, peer: PeerId, now: Instant) -> bool {
        let heard = self.peers.entry(peer).or_default();
        if heard.packets.takes(1, self.rate, now) {
            return true;
        }
        if is_told(&mut heard.dropped) {
            self.floods.push((peer, self.bound));
        }
        false
    }

    /// What was in the packet that has just been heard.
    fn has_said(&mut self, peer: PeerId, now: Instant) {
        let Some(tap) = &self.tap else { return };
        let marks = tap.take();
        let heard = self.peers.entry(peer).or_default();
        for mark in marks {
            if heard.recent.has_again(mark)
                && !heard.repeats.takes(1, GOSSIP_REPEATS, now)
                && is_told(&mut heard.repeated)
            {
                self.floods.push((peer, Bound::GossipRepeats));
            }
        }
    }
}

/// Counts one above a bound; whether it is time to tell of it.
fn is_told(above: &mut u32) -> bool {
    let told = above.is_multiple_of(TOLD_EVERY);
    *above = above.wrapping_add(1);
    told
}

impl<B> Deref for Paced<B> {
    type Target = B;

    fn deref(&self) -> &B {
        &self.inner
    }
}

impl<B> DerefMut for Paced<B> {
    fn deref_mut(&mut self) -> &mut B {
        &mut self.inner
    }
}

impl<B: NetworkBehaviour> NetworkBehaviour for Paced<B> {
    type ConnectionHandler = THandler<B>;
    type ToSwarm = Told<B::ToSwarm>;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.inner.handle_pending_inbound_connection(id, local, remote)
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner
            .handle_established_inbound_connection(id, peer, local, remote)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        self.inner.handle_pending_outbound_connection(id, peer, addresses, role)
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner
            .handle_established_outbound_connection(id, peer, address, role, port)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if let FromSwarm::ConnectionClosed(closed) = &event
            && closed.remaining_established == 0
        {
            self.peers.remove(&closed.peer_id);
        }
        self.inner.on_swarm_event(event);
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, id: ConnectionId, event: THandlerOutEvent<Self>) {
        let now = Instant::now();
        if self.hears(peer, now) {
            self.inner.on_connection_handler_event(peer, id, event);
            self.has_said(peer, now);
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        if let Some((peer, bound)) = self.floods.pop() {
            return Poll::Ready(ToSwarm::GenerateEvent(Told::Flood(peer, bound)));
        }
        self.inner.poll(cx).map(|step| step.map_out(Told::Event))
    }
}

#[cfg(test)]
mod tests {
    use libp2p::gossipsub::{DataTransform as _, RawMessage, TopicHash};

    use super::*;

    #[tokio::test]
    async fn a_flood_is_dropped_and_told_now_and_then() {
        let mut paced = Paced::new((), Bound::DhtPackets, Rate::new(1, 10));
        let (peer, now) = (PeerId::random(), Instant::now());
        let heard = (0..10 + 2 * TOLD_EVERY).filter(|_| paced.hears(peer, now)).count();
        assert_eq!((heard, paced.floods.len()), (10, 2));
        assert!(paced.hears(PeerId::random(), now), "others are heard");
    }

    #[tokio::test]
    async fn who_repeats_itself_is_told_of_and_who_says_much_is_not() {
        let tap = Tap::default();
        let mut paced = Paced::new((), Bound::GossipPackets, Rate::new(1, 10_000)).without_repeats(tap.clone());
        let now = Instant::now();
        let mut says = |peer: PeerId, text: u32| {
            assert!(paced.hears(peer, now));
            let raw = RawMessage {
                source: None,
                data: text.to_be_bytes().to_vec(),
                sequence_number: None,
                topic: TopicHash::from_raw("a"),
                signature: None,
                key: None,
                validated: false,
            };
            tap.inbound_transform(raw).unwrap();
            paced.has_said(peer, now);
            paced.floods.len()
        };
        let (talker, parrot, other) = (PeerId::random(), PeerId::random(), PeerId::random());
        let allowed = 1 + u32::try_from(GOSSIP_REPEATS.burst()).unwrap();
        for text in 0..4 * allowed {
            assert_eq!(says(talker, text), 0, "all of it is new");
            assert_eq!(says(other, text), 0, "it has heard the same");
        }
        for _ in 0..allowed {
            assert_eq!(says(parrot, 0), 0);
        }
        assert_eq!(says(parrot, 0), 1);
        for _ in 0..TOLD_EVERY {
            says(parrot, 0);
        }
        assert_eq!(says(parrot, 0), 2);
        assert!(
            paced
                .floods
                .iter()
                .all(|flood| *flood == (parrot, Bound::GossipRepeats))
        );
    }
}

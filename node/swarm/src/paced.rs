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

use crate::limits::{Pace, Rate};

/// Of a flood it is told at its first packet, and each time that so many more were dropped.
const TOLD_EVERY: u32 = 64;

/// A behaviour whose peers keep to a rate.
#[derive(Debug)]
pub(crate) struct Paced<B> {
    inner: B,
    rate: Rate,
    peers: HashMap<PeerId, Heard>,
    floods: Vec<PeerId>,
}

#[derive(Debug, Default)]
struct Heard {
    pace: Pace,
    dropped: u32,
}

/// What a paced behaviour tells.
#[derive(Debug)]
pub(crate) enum Told<E> {
    /// What the behaviour tells.
    Event(E),
    /// A peer sends more than it may.
    Flood(PeerId),
}

impl<B> Paced<B> {
    pub(crate) fn new(inner: B, rate: Rate) -> Self {
        Self {
            inner,
            rate,
            peers: HashMap::new(),
            floods: Vec::new(),
        }
    }

    /// Whether one more packet of a peer is heard.
    fn hears(&mut self, peer: PeerId, now: Instant) -> bool {
        let heard = self.peers.entry(peer).or_default();
        if heard.pace.takes(1, self.rate, now) {
            return true;
        }
        if heard.dropped.is_multiple_of(TOLD_EVERY) {
            self.floods.push(peer);
        }
        heard.dropped = heard.dropped.wrapping_add(1);
        false
    }
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
        if self.hears(peer, Instant::now()) {
            self.inner.on_connection_handler_event(peer, id, event);
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        if let Some(peer) = self.floods.pop() {
            return Poll::Ready(ToSwarm::GenerateEvent(Told::Flood(peer)));
        }
        self.inner.poll(cx).map(|step| step.map_out(Told::Event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_flood_is_dropped_and_told_now_and_then() {
        let (mut paced, peer, now) = (Paced::new((), Rate::new(1, 10)), PeerId::random(), Instant::now());
        let heard = (0..10 + 2 * TOLD_EVERY).filter(|_| paced.hears(peer, now)).count();
        assert_eq!((heard, paced.floods.len()), (10, 2));
        assert!(paced.hears(PeerId::random(), now), "others are heard");
    }
}

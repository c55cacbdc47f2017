//! Keeps a protocol off relayed connections: gossip and DHT would fill a circuit that carries little, and are the relay's
//! own business anyway.

use std::collections::HashMap;
use std::convert::Infallible;
use std::ops::{Deref, DerefMut};
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::behaviour::{AddressChange, ConnectionClosed, ConnectionEstablished};
use libp2p::swarm::derive_prelude::Either;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId};

use crate::stream::behaviour::is_relayed;

/// A behaviour that hears of direct connections only.
#[derive(Debug)]
pub(crate) struct DirectOnly<B> {
    inner: B,
    /// Direct connections; all that the inner behaviour knows of.
    direct: HashMap<PeerId, Vec<ConnectionId>>,
}

impl<B> DirectOnly<B> {
    pub(crate) fn new(inner: B) -> Self {
        Self {
            inner,
            direct: HashMap::new(),
        }
    }

    fn is_direct(&self, peer: &PeerId, connection: ConnectionId) -> bool {
        self.direct.get(peer).is_some_and(|direct| direct.contains(&connection))
    }
}

impl<B> Deref for DirectOnly<B> {
    type Target = B;

    fn deref(&self) -> &B {
        &self.inner
    }
}

impl<B> DerefMut for DirectOnly<B> {
    fn deref_mut(&mut self) -> &mut B {
        &mut self.inner
    }
}

impl<B: NetworkBehaviour> DirectOnly<B> {
    fn on_established(&mut self, established: ConnectionEstablished<'_>) {
        if established.endpoint.is_relayed() {
            return;
        }
        let direct = self.direct.entry(established.peer_id).or_default();
        let other_established = direct.len();
        direct.push(established.connection_id);
        let established = ConnectionEstablished {
            other_established,
            ..established
        };
        self.inner.on_swarm_event(FromSwarm::ConnectionEstablished(established));
    }

    fn on_closed(&mut self, closed: ConnectionClosed<'_>) {
        if !self.is_direct(&closed.peer_id, closed.connection_id) {
            return;
        }
        let direct = self.direct.entry(closed.peer_id).or_default();
        direct.retain(|connection| *connection != closed.connection_id);
        let remaining_established = direct.len();
        if remaining_established == 0 {
            self.direct.remove(&closed.peer_id);
        }
        let closed = ConnectionClosed {
            remaining_established,
            ..closed
        };
        self.inner.on_swarm_event(FromSwarm::ConnectionClosed(closed));
    }

    /// An order for any connection goes to a direct one.
    fn aim(&self, peer: &PeerId, handler: NotifyHandler) -> Option<NotifyHandler> {
        match handler {
            NotifyHandler::One(connection) => Some(NotifyHandler::One(connection)),
            NotifyHandler::Any => self.direct.get(peer)?.first().copied().map(NotifyHandler::One),
        }
    }
}

impl<B: NetworkBehaviour> NetworkBehaviour for DirectOnly<B> {
    type ConnectionHandler = Either<THandler<B>, dummy::ConnectionHandler>;
    type ToSwarm = B::ToSwarm;

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
        if is_relayed(local) || is_relayed(remote) {
            return Ok(Either::Right(dummy::ConnectionHandler));
        }
        self.inner
            .handle_established_inbound_connection(id, peer, local, remote)
            .map(Either::Left)
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
        if is_relayed(address) {
            return Ok(Either::Right(dummy::ConnectionHandler));
        }
        self.inner
            .handle_established_outbound_connection(id, peer, address, role, port)
            .map(Either::Left)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(established) => self.on_established(established),
            FromSwarm::ConnectionClosed(closed) => self.on_closed(closed),
            FromSwarm::AddressChange(AddressChange {
                peer_id, connection_id, ..
            }) if !self.is_direct(&peer_id, connection_id) => {}
            other => self.inner.on_swarm_event(other),
        }
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, id: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {
            Either::Left(event) => self.inner.on_connection_handler_event(peer, id, event),
            Either::Right(never) => {
                let never: Infallible = never;
                match never {}
            }
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        loop {
            match self.inner.poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(ToSwarm::NotifyHandler {
                    peer_id,
                    handler,
                    event,
                }) => {
                    // Without a direct connection left the order is void, as it is for a peer that is gone.
                    if let Some(handler) = self.aim(&peer_id, handler) {
                        return Poll::Ready(ToSwarm::NotifyHandler {
                            peer_id,
                            handler,
                            event: Either::Left(event),
                        });
                    }
                }
                Poll::Ready(other) => return Poll::Ready(other.map_in(Either::Left)),
            }
        }
    }
}

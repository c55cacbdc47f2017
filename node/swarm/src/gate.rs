//! The door: how many connections there may be, of one peer and of one subnet, and how fast they may come. Before a
//! connection is encrypted nothing but its address is known; after that its peer is.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::convert::Infallible;
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::behaviour::{ConnectionClosed, ConnectionEstablished};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
    dummy,
};
use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

use crate::config::Limits;
use crate::limits::{Bound, CONNECTIONS_FROM_SUBNET, CONNECTIONS_PER_SUBNET, Hits, Pace, Subnet};

/// Subnets that are counted at once; those of which nothing is open are forgotten first.
const SUBNETS: usize = 16_384;

/// Peers of one subnet that are banned at the same time, from which on the subnet as a whole is kept out.
const BANS_PER_SUBNET: u32 = 4;
/// For so long.
const SUBNET_OUT: Duration = Duration::from_secs(300);

/// Why a connection is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Denied {
    #[error("too many connections of this peer")]
    Peer,
    #[error("too many connections of this network")]
    Many,
    #[error("connections of this network come too fast")]
    Fast,
    #[error("this network is kept out for a while")]
    Out,
}

/// See the module.
pub(crate) struct Gate {
    /// How many there may be in all. The library counts by peer besides, and keeps an entry of each that ever came
    /// (libp2p-connection-limits 0.7.0); so it is told that all of them are one.
    totals: connection_limits::Behaviour,
    one: PeerId,
    /// Connections of each connected peer.
    peers: HashMap<PeerId, u32>,
    per_peer: u32,
    subnets: HashMap<Subnet, Known>,
    open: HashMap<ConnectionId, Subnet>,
    pub(crate) hits: Hits,
}

#[derive(Debug, Default)]
struct Known {
    connections: usize,
    pace: Pace,
    bans: u32,
    out_until: Option<Instant>,
}

impl Known {
    fn is_idle(&self, now: Instant) -> bool {
        self.connections == 0 && self.pace.is_idle(now) && self.out_until.is_none_or(|until| until <= now)
    }
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate")
            .field("peers", &self.peers.len())
            .field("subnets", &self.subnets.len())
            .finish_non_exhaustive()
    }
}

impl Gate {
    /// Of this node.
    pub(crate) fn new(limits: &Limits, me: PeerId) -> Self {
        let totals = ConnectionLimits::default()
            .with_max_pending_incoming(Some(limits.pending))
            .with_max_pending_outgoing(Some(limits.pending))
            .with_max_established_incoming(Some(limits.incoming))
            .with_max_established_outgoing(Some(limits.outgoing));
        Self {
            totals: connection_limits::Behaviour::new(totals),
            one: me,
            peers: HashMap::new(),
            per_peer: limits.per_peer,
            subnets: HashMap::new(),
            open: HashMap::new(),
            hits: Hits::default(),
        }
    }

    /// Whether a peer may have another connection.
    fn has_room(&self, peer: &PeerId) -> Result<(), ConnectionDenied> {
        match self.peers.get(peer).is_some_and(|open| *open >= self.per_peer) {
            true => Err(ConnectionDenied::new(Denied::Peer)),
            false => Ok(()),
        }
    }

    fn peer_closed(&mut self, peer: PeerId) {
        if let Entry::Occupied(mut open) = self.peers.entry(peer) {
            *open.get_mut() -= 1;
            if *open.get() == 0 {
                open.remove();
            }
        }
    }

    /// A peer of this subnet was banned.
    pub(crate) fn on_ban(&mut self, subnet: Subnet, now: Instant) {
        let Some(known) = self.known(subnet, now) else { return };
        if known.out_until.is_none_or(|until| until <= now) && known.bans >= BANS_PER_SUBNET {
            known.bans = 0;
        }
        known.bans += 1;
        if known.bans >= BANS_PER_SUBNET {
            known.out_until = Some(now + SUBNET_OUT);
        }
    }

    fn known(&mut self, subnet: Subnet, now: Instant) -> Option<&mut Known> {
        if self.subnets.len() >= SUBNETS && !self.subnets.contains_key(&subnet) {
            self.subnets.retain(|_, known| !known.is_idle(now));
            if self.subnets.len() >= SUBNETS {
                return None;
            }
        }
        Some(self.subnets.entry(subnet).or_default())
    }

    fn admit(&mut self, subnet: Subnet, now: Instant) -> Result<(), Denied> {
        let known = self.known(subnet, now).ok_or(Denied::Many)?;
        let judged = if known.out_until.is_some_and(|until| until > now) {
            Err(Denied::Out)
        } else if known.connections >= CONNECTIONS_PER_SUBNET {
            Err(Denied::Many)
        } else if !known.pace.takes(1, CONNECTIONS_FROM_SUBNET, now) {
            Err(Denied::Fast)
        } else {
            Ok(())
        };
        match judged {
            Err(Denied::Many) => self.hits.add(Bound::ConnectionsPerSubnet),
            Err(Denied::Fast) => self.hits.add(Bound::ConnectionsFromSubnet),
            _ => {}
        }
        judged
    }

    fn opened(&mut self, id: ConnectionId, subnet: Subnet, now: Instant) {
        if let Some(known) = self.known(subnet, now) {
            known.connections += 1;
            self.open.insert(id, subnet);
        }
    }

    fn closed(&mut self, id: ConnectionId) {
        if let Some(subnet) = self.open.remove(&id)
            && let Some(known) = self.subnets.get_mut(&subnet)
        {
            known.connections = known.connections.saturating_sub(1);
        }
    }
}

impl NetworkBehaviour for Gate {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        if let Some(subnet) = Subnet::public(remote) {
            self.admit(subnet, Instant::now()).map_err(ConnectionDenied::new)?;
        }
        self.totals.handle_pending_inbound_connection(id, local, remote)
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        // The totals first, in any case: a connection is no longer pending then.
        let handler = self
            .totals
            .handle_established_inbound_connection(id, self.one, local, remote)?;
        self.has_room(&peer).map(|()| handler)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        id: ConnectionId,
        _: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        self.totals
            .handle_pending_outbound_connection(id, None, addresses, role)
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let handler = self
            .totals
            .handle_established_outbound_connection(id, self.one, address, role, port)?;
        self.has_room(&peer).map(|()| handler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        let peer_id = self.one;
        let told = match event {
            FromSwarm::ConnectionEstablished(it) => {
                *self.peers.entry(it.peer_id).or_default() += 1;
                if it.endpoint.is_listener()
                    && let Some(subnet) = Subnet::public(it.endpoint.get_remote_address())
                {
                    self.opened(it.connection_id, subnet, Instant::now());
                }
                FromSwarm::ConnectionEstablished(ConnectionEstablished { peer_id, ..it })
            }
            FromSwarm::ConnectionClosed(it) => {
                self.peer_closed(it.peer_id);
                self.closed(it.connection_id);
                FromSwarm::ConnectionClosed(ConnectionClosed { peer_id, ..it })
            }
            other => other,
        };
        self.totals.on_swarm_event(told);
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, never: THandlerOutEvent<Self>) {
        match never {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use libp2p::core::ConnectedPoint;

    use super::*;
    use crate::config::Role;

    fn gate() -> Gate {
        Gate::new(&Limits::of(Role::Node), PeerId::random())
    }

    #[tokio::test]
    async fn a_peer_has_so_many_connections_and_leaves_nothing_behind() {
        let mut gate = gate();
        let at: Multiaddr = "/ip4/127.0.0.1/tcp/1".parse().unwrap();
        let endpoint = ConnectedPoint::Listener {
            local_addr: at.clone(),
            send_back_addr: at.clone(),
        };
        for peer in (0..50).map(|_| PeerId::random()) {
            let ids: Vec<_> = (0..=gate.per_peer as usize).map(ConnectionId::new_unchecked).collect();
            let (extra, ids) = ids.split_last().unwrap();
            for (other_established, id) in ids.iter().enumerate() {
                gate.handle_established_inbound_connection(*id, peer, &at, &at).unwrap();
                gate.on_swarm_event(FromSwarm::ConnectionEstablished(ConnectionEstablished {
                    peer_id: peer,
                    connection_id: *id,
                    endpoint: &endpoint,
                    failed_addresses: &[],
                    other_established,
                }));
            }
            assert!(
                gate.handle_established_inbound_connection(*extra, peer, &at, &at)
                    .is_err()
            );
            let other = gate.handle_established_inbound_connection(*extra, PeerId::random(), &at, &at);
            assert!(other.is_ok(), "others come in");
            for (remaining_established, id) in ids.iter().enumerate().rev() {
                gate.on_swarm_event(FromSwarm::ConnectionClosed(ConnectionClosed {
                    peer_id: peer,
                    connection_id: *id,
                    endpoint: &endpoint,
                    cause: None,
                    remaining_established,
                }));
            }
            assert!(gate.peers.is_empty());
        }
    }

    #[tokio::test]
    async fn a_subnet_has_so_many_connections_and_no_more_in_time() {
        let (mut gate, mut now) = (gate(), Instant::now());
        let subnet = Subnet::V4([203, 0, 114]);
        let ids: Vec<_> = (0..CONNECTIONS_PER_SUBNET).map(ConnectionId::new_unchecked).collect();
        for id in &ids {
            gate.admit(subnet, now).unwrap();
            gate.opened(*id, subnet, now);
        }
        assert_eq!(gate.admit(subnet, now), Err(Denied::Many));
        assert!(gate.admit(Subnet::V4([203, 0, 115]), now).is_ok(), "others come in");
        gate.closed(ids[0]);
        assert!(gate.admit(subnet, now).is_ok());
        for id in &ids {
            gate.closed(*id);
        }
        let come = std::iter::repeat_with(|| gate.admit(subnet, now))
            .take_while(Result::is_ok)
            .count();
        assert!(come < 100 && gate.admit(subnet, now) == Err(Denied::Fast), "{come}");
        now += Duration::from_secs(1);
        assert!(gate.admit(subnet, now).is_ok());
        assert!(gate.hits.of(Bound::ConnectionsPerSubnet) > 0 && gate.hits.of(Bound::ConnectionsFromSubnet) > 0);
    }

    #[tokio::test]
    async fn a_subnet_of_banned_peers_is_kept_out_for_a_while() {
        let (mut gate, now) = (gate(), Instant::now());
        let subnet = Subnet::V6([1; 6]);
        for _ in 1..BANS_PER_SUBNET {
            gate.on_ban(subnet, now);
        }
        assert!(gate.admit(subnet, now).is_ok());
        gate.on_ban(subnet, now);
        assert_eq!(gate.admit(subnet, now), Err(Denied::Out));
        let after = now + SUBNET_OUT;
        assert!(gate.admit(subnet, after).is_ok());
        gate.on_ban(subnet, after);
        assert!(gate.admit(subnet, after).is_ok(), "it is counted from the beginning");
    }

    #[tokio::test]
    async fn what_is_idle_is_forgotten() {
        let (mut gate, now) = (gate(), Instant::now());
        for n in 0..SUBNETS {
            let [.., a, b, c] = n.to_be_bytes();
            gate.admit(Subnet::V4([a, b, c]), now).unwrap();
        }
        assert_eq!(gate.admit(Subnet::V4([255, 0, 0]), now), Err(Denied::Many));
        let later = now + Duration::from_secs(60);
        assert!(gate.admit(Subnet::V4([255, 0, 0]), later).is_ok());
        assert_eq!(gate.subnets.len(), 1);
    }
}

//! The door: how many connections one subnet may have, and how fast they may come. It is asked before a connection is
//! encrypted, when nothing but the address is known.

use std::collections::HashMap;
use std::convert::Infallible;
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
    dummy,
};
use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

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
    #[error("too many connections of this network")]
    Many,
    #[error("connections of this network come too fast")]
    Fast,
    #[error("this network is kept out for a while")]
    Out,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Gate {
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

impl Gate {
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
        _: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        match Subnet::public(remote) {
            Some(subnet) => self.admit(subnet, Instant::now()).map_err(ConnectionDenied::new),
            None => Ok(()),
        }
    }

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(it) if it.endpoint.is_listener() => {
                if let Some(subnet) = Subnet::public(it.endpoint.get_remote_address()) {
                    self.opened(it.connection_id, subnet, Instant::now());
                }
            }
            FromSwarm::ConnectionClosed(it) => self.closed(it.connection_id),
            _ => {}
        }
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
    use super::*;

    #[tokio::test]
    async fn a_subnet_has_so_many_connections_and_no_more_in_time() {
        let (mut gate, mut now) = (Gate::default(), Instant::now());
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
        let (mut gate, now) = (Gate::default(), Instant::now());
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
        let (mut gate, now) = (Gate::default(), Instant::now());
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

//! Who is connected and how, and which addresses are worth remembering of whom.

use std::collections::{HashMap, VecDeque};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use libp2p::core::ConnectedPoint;
use libp2p::core::transport::PortUse;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId, identify};
use tokio::time::Instant;

use crate::event::{ConnectionInfo, Direction, PeerInfo};
use crate::names::Names;

/// Addresses remembered of one peer: TCP and QUIC over IPv4 and IPv6, twice.
pub(crate) const ADDRESSES_PER_PEER: usize = 8;

/// Peers of whom addresses are remembered beyond their connection, the newest.
const BOOK: usize = 2048;

/// Protocol ids remembered of one peer.
const PROTOCOLS_PER_PEER: usize = 64;

/// Characters remembered of what a peer says its program is. It is shown to people, so nothing but text is kept.
const AGENT: usize = 64;

/// Connected peers, and addresses of others.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    connected: HashMap<PeerId, Peer>,
    book: HashMap<PeerId, Vec<Multiaddr>>,
    book_order: VecDeque<PeerId>,
}

#[derive(Debug, Default)]
struct Peer {
    connections: Vec<Connection>,
    agent: Option<String>,
    protocols: Vec<String>,
    same_network: Option<bool>,
    serves_dht: bool,
    listen: Vec<Multiaddr>,
    round_trip: Option<Duration>,
    /// When it was last of use.
    used: Option<Instant>,
}

#[derive(Debug)]
struct Connection {
    id: ConnectionId,
    address: Multiaddr,
    relayed: bool,
    direction: Direction,
    /// This node called from the port on which it listens.
    from_listener: bool,
    since: Instant,
}

impl Peers {
    pub(crate) fn on_established(&mut self, peer: PeerId, id: ConnectionId, endpoint: &ConnectedPoint) {
        let direction = if endpoint.is_dialer() {
            Direction::Outbound
        } else {
            Direction::Inbound
        };
        self.connected.entry(peer).or_default().connections.push(Connection {
            id,
            address: endpoint.get_remote_address().clone(),
            relayed: endpoint.is_relayed(),
            direction,
            from_listener: matches!(
                endpoint,
                ConnectedPoint::Dialer {
                    port_use: PortUse::Reuse,
                    ..
                }
            ),
            since: Instant::now(),
        });
    }

    /// Whether a peer is connected, and through relays alone.
    pub(crate) fn is_relayed(&self, peer: &PeerId) -> bool {
        let known = self.connected.get(peer);
        known.is_some_and(|known| known.connections.iter().all(|connection| connection.relayed))
    }

    /// Where a connected peer was dialled directly.
    pub(crate) fn dialled_at(&self, peer: &PeerId) -> Option<&Multiaddr> {
        let mut connections = self.connected.get(peer)?.connections.iter();
        let dialled = |it: &&Connection| !it.relayed && matches!(it.direction, Direction::Outbound);
        Some(&connections.find(dialled)?.address)
    }

    /// Where a connected peer is seen directly.
    pub(crate) fn seen_at(&self, peer: &PeerId) -> Option<&Multiaddr> {
        let mut connections = self.connected.get(peer)?.connections.iter();
        Some(&connections.find(|connection| !connection.relayed)?.address)
    }

    /// Where a peer was called directly from the port on which this node listens, on this connection.
    pub(crate) fn called_from_listener(&self, peer: &PeerId, id: ConnectionId) -> Option<&Multiaddr> {
        let connections = &self.connected.get(peer)?.connections;
        let called = connections.iter().find(|connection| connection.id == id)?;
        (called.from_listener && !called.relayed).then_some(&called.address)
    }

    /// A peer was of use.
    pub(crate) fn on_used(&mut self, peer: &PeerId, now: Instant) {
        if let Some(known) = self.connected.get_mut(peer) {
            known.used = Some(now);
        }
    }

    /// Connected peers, and when each came or was last of use.
    pub(crate) fn used(&self) -> impl Iterator<Item = (PeerId, Instant)> {
        self.connected.iter().filter_map(|(peer, known)| {
            let came = known.connections.iter().map(|connection| connection.since);
            came.chain(known.used).max().map(|used| (*peer, used))
        })
    }

    /// Where connections lead.
    pub(crate) fn addresses_in_use(&self) -> impl Iterator<Item = &Multiaddr> {
        let connections = self.connected.values().flat_map(|known| &known.connections);
        connections.map(|connection| &connection.address)
    }

    /// Peers that are connected through relays alone.
    pub(crate) fn relayed(&self) -> usize {
        self.connected.keys().filter(|peer| self.is_relayed(peer)).count()
    }

    /// From how far away the furthest directly connected peer is.
    pub(crate) fn furthest(&self) -> Option<Reach> {
        let connections = self.connected.values().flat_map(|known| &known.connections);
        let direct = connections.filter(|connection| !connection.relayed);
        direct.map(|connection| reach(&connection.address)).max()
    }

    pub(crate) fn on_closed(&mut self, peer: PeerId, id: ConnectionId) {
        if let Some(known) = self.connected.get_mut(&peer) {
            known.connections.retain(|connection| connection.id != id);
            if known.connections.is_empty() {
                self.connected.remove(&peer);
            }
        }
    }

    /// Takes over what a peer says of itself on one of its connections; gives the addresses that make sense from here.
    pub(crate) fn on_identified(
        &mut self,
        peer: PeerId,
        id: ConnectionId,
        info: &identify::Info,
        names: &Names,
    ) -> Vec<Multiaddr> {
        let Some(known) = self.connected.get_mut(&peer) else {
            return Vec::new();
        };
        let seen = known
            .connections
            .iter()
            .find(|connection| connection.id == id)
            .map(|connection| &connection.address);
        let reach_of_connection = seen.map_or(Reach::Public, reach);
        let listen: Vec<_> = info
            .listen_addrs
            .iter()
            .filter(|address| reach(address) >= reach_of_connection)
            .take(ADDRESSES_PER_PEER)
            .cloned()
            .collect();
        known.agent = Some(
            info.agent_version
                .chars()
                .filter(|c| !c.is_control())
                .take(AGENT)
                .collect(),
        );
        known.protocols = info
            .protocols
            .iter()
            .take(PROTOCOLS_PER_PEER)
            .map(ToString::to_string)
            .collect();
        known.same_network = Some(info.protocol_version == names.family);
        known.serves_dht = info.protocols.contains(&names.kad);
        known.listen.clone_from(&listen);
        self.remember(peer, &listen);
        listen
    }

    pub(crate) fn on_round_trip(&mut self, peer: PeerId, round_trip: Duration) {
        if let Some(known) = self.connected.get_mut(&peer) {
            known.round_trip = Some(round_trip);
        }
    }

    pub(crate) fn round_trip(&self, peer: &PeerId) -> Option<Duration> {
        self.connected.get(peer)?.round_trip
    }

    /// Connections to all of them.
    pub(crate) fn connections(&self) -> usize {
        self.connected.values().map(|known| known.connections.len()).sum()
    }

    /// Peers of which addresses are remembered.
    pub(crate) fn remembered(&self) -> usize {
        self.book.len()
    }

    pub(crate) fn count(&self) -> usize {
        self.connected.len()
    }

    /// Keeps addresses for a later dial, newest first.
    pub(crate) fn remember(&mut self, peer: PeerId, addresses: &[Multiaddr]) {
        let useful = |address: &&Multiaddr| reach(address) > Reach::Nowhere;
        for address in addresses.iter().rev().filter(useful) {
            let known = self.book.entry(peer).or_insert_with(|| {
                self.book_order.push_back(peer);
                Vec::new()
            });
            known.retain(|old| old != address);
            known.insert(0, address.clone());
            known.truncate(ADDRESSES_PER_PEER);
        }
        while self.book_order.len() > BOOK {
            if let Some(oldest) = self.book_order.pop_front() {
                self.book.remove(&oldest);
            }
        }
    }

    /// `given`, and what is remembered of the peer besides.
    pub(crate) fn addresses(&self, peer: &PeerId, mut given: Vec<Multiaddr>) -> Vec<Multiaddr> {
        for known in self.book.get(peer).into_iter().flatten() {
            if !given.contains(known) {
                given.push(known.clone());
            }
        }
        given
    }

    pub(crate) fn infos(&self) -> Vec<PeerInfo> {
        let mut infos: Vec<_> = self.connected.iter().map(|(peer, known)| known.info(*peer)).collect();
        infos.sort_by_key(|info| info.peer);
        infos
    }
}

impl Peer {
    fn info(&self, peer: PeerId) -> PeerInfo {
        let connection = |connection: &Connection| ConnectionInfo {
            address: connection.address.clone(),
            relayed: connection.relayed,
            direction: connection.direction,
            age: connection.since.elapsed(),
        };
        PeerInfo {
            peer,
            agent: self.agent.clone(),
            protocols: self.protocols.clone(),
            same_network: self.same_network,
            serves_dht: self.serves_dht,
            listen: self.listen.clone(),
            round_trip: self.round_trip,
            connections: self.connections.iter().map(connection).collect(),
        }
    }
}

/// From how far away an address can be dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reach {
    /// Not at all: unspecified, multicast, or not an Internet address.
    Nowhere,
    /// From the same machine.
    Loopback,
    /// From the same local network.
    Private,
    /// From anywhere, as far as can be told; names count as this.
    Public,
}

/// From how far away an address can be dialled; for a relayed address, its relay.
///
/// An address is worth telling to a peer only if the peer is at least that near: loopback addresses of a peer make sense
/// only to whom it is connected over loopback.
pub(crate) fn reach(address: &Multiaddr) -> Reach {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => reach_v4(ip),
        Some(Protocol::Ip6(ip)) => ip.to_ipv4_mapped().map_or_else(|| reach_v6(ip), reach_v4),
        Some(Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_) | Protocol::Dnsaddr(_)) => Reach::Public,
        // A peer that came through a relay is known by its id alone.
        Some(Protocol::P2p(_)) => Reach::Public,
        _ => Reach::Nowhere,
    }
}

/// Whether an address is of the kind that machines give to their own containers, or has no meaning beyond one cable.
pub(crate) fn is_bridge(address: &Multiaddr) -> bool {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => matches!(ip.octets(), [172, 17..=31, ..] | [169, 254, ..]),
        Some(Protocol::Ip6(ip)) => ip.is_unicast_link_local(),
        _ => false,
    }
}

/// Those of `addresses` that reach as far as any of them: what can be told to anybody without telling of a home network.
pub(crate) fn furthest(mut addresses: Vec<Multiaddr>) -> Vec<Multiaddr> {
    let best = addresses.iter().map(reach).max();
    addresses.retain(|address| Some(reach(address)) == best);
    addresses
}

fn reach_v4(ip: Ipv4Addr) -> Reach {
    let shared = ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64;
    if ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast() {
        Reach::Nowhere
    } else if ip.is_loopback() {
        Reach::Loopback
    } else if ip.is_private() || ip.is_link_local() || shared {
        Reach::Private
    } else {
        Reach::Public
    }
}

fn reach_v6(ip: Ipv6Addr) -> Reach {
    if ip.is_unspecified() || ip.is_multicast() {
        Reach::Nowhere
    } else if ip.is_loopback() {
        Reach::Loopback
    } else if ip.is_unique_local() || ip.is_unicast_link_local() {
        Reach::Private
    } else {
        Reach::Public
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_reaches_as_far_as_its_network() {
        let cases = [
            ("/ip4/127.0.0.1/tcp/1", Reach::Loopback),
            ("/ip6/::1/udp/1/quic-v1", Reach::Loopback),
            ("/ip4/0.0.0.0/tcp/1", Reach::Nowhere),
            ("/ip4/192.168.1.2/tcp/1", Reach::Private),
            ("/ip4/100.64.0.1/tcp/1", Reach::Private),
            ("/ip4/100.128.0.1/tcp/1", Reach::Public),
            ("/ip6/fd00::1/tcp/1", Reach::Private),
            ("/ip6/::ffff:10.0.0.1/tcp/1", Reach::Private),
            ("/ip4/8.8.8.8/tcp/1", Reach::Public),
            ("/dns4/example.org/tcp/1", Reach::Public),
            ("/memory/1", Reach::Nowhere),
        ];
        for (address, expected) in cases {
            assert_eq!(reach(&address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn only_the_addresses_of_the_furthest_reach_are_told() {
        let addresses = [
            "/ip4/10.0.0.1/tcp/1",
            "/ip4/8.8.8.8/tcp/1",
            "/ip4/127.0.0.1/tcp/1",
            "/dns/a.example/tcp/1",
        ];
        let mut addresses: Vec<Multiaddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
        assert_eq!(
            furthest(addresses.clone()),
            [addresses[1].clone(), addresses[3].clone()]
        );
        addresses.truncate(1);
        assert_eq!(furthest(addresses.clone()), addresses);
        assert!(furthest(Vec::new()).is_empty());
    }

    #[test]
    fn the_book_keeps_the_newest_peers_and_addresses() {
        let mut peers = Peers::default();
        let peer = PeerId::random();
        for port in 1..=20 {
            peers.remember(peer, &[format!("/ip4/8.8.8.8/tcp/{port}").parse().unwrap()]);
        }
        let known = peers.addresses(&peer, Vec::new());
        assert_eq!(known.len(), ADDRESSES_PER_PEER);
        assert_eq!(known[0].to_string(), "/ip4/8.8.8.8/tcp/20");
        peers.remember(PeerId::random(), &["/ip4/0.0.0.0/tcp/1".parse().unwrap()]);
        assert_eq!(peers.book.len(), 1, "what leads nowhere is not remembered");
        for _ in 0..BOOK {
            peers.remember(PeerId::random(), &["/ip4/8.8.8.8/tcp/1".parse().unwrap()]);
        }
        assert_eq!((peers.book.len(), peers.book_order.len()), (BOOK, BOOK));
        assert!(peers.addresses(&peer, Vec::new()).is_empty());
    }
}

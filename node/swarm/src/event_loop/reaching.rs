//! How others reach this node: whether they can, through which relays they can where they cannot, and what of all that may
//! be told to them.

use libp2p::core::transport::ListenerId;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId, upnp};
use tokio::time::Instant;

use super::EventLoop;
use crate::event::{Event, Reached, Situation};
use crate::nat::{Gateway, Transport};
use crate::peers::{Reach, is_bridge, reach};
use crate::relays::{Action, circuit};
use crate::stream::behaviour::is_relayed;

impl EventLoop {
    /// A connected peer relays. Anybody can say so of itself, so that places are taken only with peers that this node was
    /// told to join by, and where it has dialled them.
    pub(super) fn on_relay(&mut self, peer: PeerId) {
        let Some(address) = self.peers.dialled_at(&peer).cloned() else {
            return;
        };
        if self.join.leads_to(&peer) {
            self.relays.on_relay(peer, &address, Instant::now());
            self.reserve(Instant::now());
        }
    }

    pub(super) fn on_listening(&mut self, id: ListenerId, address: &Multiaddr) {
        if is_relayed(address) {
            tracing::info!(%address, "reachable through a relay");
            self.relays.on_reserved(id);
        } else if self.serves_others()
            && (self.is_named(address) || reach(address) > Reach::Loopback && !is_bridge(address))
        {
            // Where it listens it is meant to be reached, and a relay that knows no address of its own relays nothing.
            self.swarm.add_external_address(address.clone());
        }
    }

    pub(super) fn on_router(&mut self, event: upnp::Event) {
        tracing::debug!(?event, "the router");
        self.nat.gateway = match event {
            upnp::Event::NewExternalAddr { external_addr, .. } => Gateway::Opened(external_addr),
            upnp::Event::ExpiredExternalAddr { .. } | upnp::Event::GatewayNotFound => Gateway::NotFound,
            upnp::Event::NonRoutableGateway => Gateway::NotPublic,
        };
    }

    pub(super) fn reached(&self) -> Reached {
        Reached {
            directly: self.relays.is_reachable(),
            relays: self.relays.reserved(),
        }
    }

    /// How this node stands towards the rest of the network.
    pub(super) fn situation(&self) -> Situation {
        let direct = |address: &&Multiaddr| !is_relayed(address);
        let listen: Vec<Multiaddr> = self.swarm.listeners().filter(direct).cloned().collect();
        Situation {
            external: self.swarm.external_addresses().filter(direct).cloned().collect(),
            probed: self.nat.probed().to_vec(),
            seen_at: self.nat.seen_at(),
            tcp: self.nat.mapping(Transport::Tcp, &listen),
            quic: self.nat.mapping(Transport::Quic, &listen),
            filtering: self.nat.filtering(Instant::now()),
            gateway: self.nat.gateway.clone(),
            reached: self.reached(),
            wants_relays: self.relays.are_wanted(),
            outbound_only: self.outbound_only,
            joins: self.join.told(),
            peers: self.peers.count(),
            relayed: self.peers.relayed(),
            punched: (self.counters.punched, self.counters.not_punched),
            listen,
        }
    }

    /// Whether the user said that the node shall listen there, and not merely everywhere.
    fn is_named(&self, address: &Multiaddr) -> bool {
        address.iter().next().is_some_and(|ip| self.named.contains(&ip))
    }

    fn serves_others(&self) -> bool {
        self.swarm.behaviour().relay_server.is_enabled()
    }

    /// Asks relays for a place, or lets go of places, as is due.
    pub(super) fn reserve(&mut self, now: Instant) {
        while let Some(action) = self.relays.next(now) {
            match action {
                Action::Reserve(peer, address) => match self.swarm.listen_on(address.clone()) {
                    Ok(listener) => self.relays.asked(&peer, listener),
                    Err(error) => {
                        tracing::debug!(%address, %error, "a relay cannot be asked for a place");
                        self.relays.failed(&peer, now);
                    }
                },
                Action::LetGo(listener) => {
                    self.swarm.remove_listener(listener);
                }
            }
        }
    }

    /// Where the node is known to be reached from outside has changed.
    pub(super) fn on_external(&mut self) {
        let near = self.furthest_peer();
        // A circuit is confirmed as soon as it is there, and is what a node has that is not reached otherwise.
        let is_open = |address: &Multiaddr| !is_relayed(address) && reach(address) >= near;
        let reachable = self.swarm.external_addresses().any(is_open);
        self.relays.on_reachable(reachable);
        self.reserve(Instant::now());
        self.tell_reachable();
    }

    /// How far this node's network extends, as far as it knows. What reaches less far helps nobody and tells of a home.
    fn furthest_peer(&self) -> Reach {
        let own = self
            .swarm
            .listeners()
            .filter(|address| !is_relayed(address))
            .map(reach)
            .max();
        let alone = match own {
            Some(Reach::Loopback) => Reach::Loopback,
            _ => Reach::Public,
        };
        self.peers.furthest().unwrap_or(alone)
    }

    /// What may be told to others: where the user said that the node is, where it was found to be reached, where it listens
    /// as far as that makes sense to the furthest of its peers, and the circuits that lead to it.
    pub(super) fn advertised(&self) -> Vec<Multiaddr> {
        let (near, me) = (self.furthest_peer(), *self.swarm.local_peer_id());
        let external = self.swarm.external_addresses();
        let listeners = self.swarm.listeners();
        let told = external.chain(listeners).filter(|address| match self.outbound_only {
            true => is_relayed(address),
            false => self.is_named(address) || reach(address) >= near && !is_bridge(address),
        });
        let mut addresses: Vec<Multiaddr> = Vec::new();
        for address in told.map(|address| without_own(address, me)) {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses.sort_by_key(|address| {
            (
                is_relayed(address),
                std::cmp::Reverse(reach(address)),
                address.to_string(),
            )
        });
        addresses
    }

    /// Tells the node what it may advertise, where that has changed.
    pub(super) fn tell_reachable(&mut self) {
        let addresses = self.advertised();
        if addresses != self.advertised {
            self.advertised.clone_from(&addresses);
            self.tell(Event::Reachable { addresses });
        }
    }

    /// Those of `addresses` that this node may dial: all, or the circuits of relays that it is connected with. Where a relay
    /// is to be dialled, an address of somebody else's does not say.
    pub(super) fn permitted(&self, addresses: Vec<Multiaddr>) -> Vec<Multiaddr> {
        if !self.outbound_only {
            return addresses;
        }
        let through = |address: &Multiaddr| {
            let relay = relay_of(address).filter(|relay| self.join.leads_to(relay))?;
            let behind = address.iter().skip_while(|part| *part != Protocol::P2pCircuit).skip(1);
            let base = circuit(self.peers.dialled_at(&relay)?, relay);
            Some(behind.fold(base, Multiaddr::with))
        };
        addresses.iter().filter_map(through).collect()
    }
}

/// The relay of a circuit.
pub(super) fn relay_of(address: &Multiaddr) -> Option<PeerId> {
    let relay = address.iter().take_while(|part| *part != Protocol::P2pCircuit);
    let relay = relay.filter_map(|part| match part {
        Protocol::P2p(peer) => Some(peer),
        _ => None,
    });
    relay.last().filter(|_| is_relayed(address))
}

/// An address without the id of the peer that is there.
pub(super) fn without_own(address: &Multiaddr, peer: PeerId) -> Multiaddr {
    let mut address = address.clone();
    if address.iter().last() == Some(Protocol::P2p(peer)) {
        address.pop();
    }
    address
}

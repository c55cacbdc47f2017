//! Finds the connection for a direct stream: an existing direct one, else a new direct one, else a relayed one.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::behaviour::{ConnectionClosed, ConnectionEstablished, DialFailure};
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{
    CloseConnection, ConnectionDenied, ConnectionId, DialError, FromSwarm, NetworkBehaviour, NotifyHandler, THandler,
    THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId, StreamProtocol};
use tokio::time::Instant;

use super::admission::{Admission, Origin, PeerShare};
use super::handler::{Handler, Hostile, Open, OpenReply};
use crate::error::{OpenError, describe_dial};

/// Opens that wait for a connection, over all peers. Beyond it the node is asking for more than it can dial.
const WAITING: usize = 1024;

/// After a direct dial to a peer that a relay reaches has failed, streams go through the relay for this long before
/// another try: most such peers are behind a NAT.
const DIRECT_RETRY: Duration = Duration::from_secs(60);

/// What the behaviour tells the event loop.
#[derive(Debug)]
pub(crate) enum Event {
    /// A peer opened far more streams than it may and is being disconnected.
    HostilePeer(PeerId),
}

#[derive(Debug)]
struct Connection {
    id: ConnectionId,
    relayed: bool,
}

#[derive(Debug, Default)]
struct Peer {
    connections: Vec<Connection>,
    share: Arc<PeerShare>,
    direct_failed: Option<Instant>,
}

#[derive(Debug)]
struct Waiting {
    reply: OpenReply,
    addresses: Vec<Multiaddr>,
    /// Our dial for it; `None` while another part of the node dials the same peer.
    dial: Option<ConnectionId>,
}

/// The behaviour; see the module.
#[derive(Debug)]
pub(crate) struct Behaviour {
    protocol: StreamProtocol,
    admission: Arc<Admission>,
    peers: HashMap<PeerId, Peer>,
    waiting: HashMap<PeerId, Vec<Waiting>>,
    events: VecDeque<ToSwarm<Event, Open>>,
}

impl Behaviour {
    pub(crate) fn new(protocol: StreamProtocol, admission: Arc<Admission>) -> Self {
        Self {
            protocol,
            admission,
            peers: HashMap::new(),
            waiting: HashMap::new(),
            events: VecDeque::new(),
        }
    }

    /// Opens a stream to `peer`, dialling `addresses` and what else is known of it where there is no direct connection.
    pub(crate) fn open(&mut self, peer: PeerId, addresses: Vec<Multiaddr>, reply: OpenReply) {
        let may_improve = addresses.iter().any(|address| !is_relayed(address)) && self.direct_may_work(peer);
        match self.best(peer) {
            Some(connection) if !connection.relayed || !may_improve => {
                let id = connection.id;
                self.notify(peer, id, reply);
            }
            _ => self.wait_for_connection(peer, addresses, reply),
        }
    }

    /// Whether streams with a peer are open, or wait to be.
    pub(crate) fn is_in_use(&self, peer: &PeerId) -> bool {
        self.waiting.contains_key(peer) || self.peers.get(peer).is_some_and(|peer| peer.share.is_in_use())
    }

    fn wait_for_connection(&mut self, peer: PeerId, addresses: Vec<Multiaddr>, reply: OpenReply) {
        self.waiting.retain(|_, opens| {
            opens.retain(|open| !open.reply.is_closed());
            !opens.is_empty()
        });
        if self.waiting.values().map(Vec::len).sum::<usize>() >= WAITING {
            let _gone = reply.send(Err(OpenError::Busy));
            return;
        }
        let opens = self.waiting.get(&peer).into_iter().flatten();
        let under_way = opens.filter_map(|open| open.dial).next();
        let dial = under_way.unwrap_or_else(|| self.dial(peer, &addresses));
        self.waiting.entry(peer).or_default().push(Waiting {
            reply,
            addresses,
            dial: Some(dial),
        });
    }

    fn dial(&mut self, peer: PeerId, addresses: &[Multiaddr]) -> ConnectionId {
        let condition = match self.best(peer) {
            Some(_) => PeerCondition::NotDialing,
            // Beside what others try: a way through routers may take long to turn out to be none.
            None => PeerCondition::Disconnected,
        };
        let opts = DialOpts::peer_id(peer)
            .condition(condition)
            .addresses(addresses.to_vec())
            .extend_addresses_through_behaviour()
            .build();
        let id = opts.connection_id();
        self.events.push_back(ToSwarm::Dial { opts });
        id
    }

    fn best(&self, peer: PeerId) -> Option<&Connection> {
        self.peers
            .get(&peer)?
            .connections
            .iter()
            .min_by_key(|connection| connection.relayed)
    }

    fn direct_may_work(&self, peer: PeerId) -> bool {
        let failed = self.peers.get(&peer).and_then(|peer| peer.direct_failed);
        failed.is_none_or(|at| at.elapsed() >= DIRECT_RETRY)
    }

    fn notify(&mut self, peer_id: PeerId, connection: ConnectionId, reply: OpenReply) {
        let handler = NotifyHandler::One(connection);
        self.events.push_back(ToSwarm::NotifyHandler {
            peer_id,
            handler,
            event: Open(reply),
        });
    }

    fn on_established(&mut self, established: ConnectionEstablished<'_>) {
        let ConnectionEstablished {
            peer_id,
            connection_id,
            endpoint,
            ..
        } = established;
        let relayed = endpoint.is_relayed();
        self.peers.entry(peer_id).or_default().connections.push(Connection {
            id: connection_id,
            relayed,
        });
        for open in self.waiting.remove(&peer_id).unwrap_or_default() {
            let direct_dial_under_way = relayed && open.dial.is_some_and(|dial| dial != connection_id);
            if direct_dial_under_way {
                self.waiting.entry(peer_id).or_default().push(open);
            } else {
                self.notify(peer_id, connection_id, open.reply);
            }
        }
    }

    fn on_closed(&mut self, closed: ConnectionClosed<'_>) {
        let ConnectionClosed {
            peer_id, connection_id, ..
        } = closed;
        if let Some(peer) = self.peers.get_mut(&peer_id) {
            peer.connections.retain(|connection| connection.id != connection_id);
            if peer.connections.is_empty() {
                self.peers.remove(&peer_id);
            }
        }
    }

    fn on_dial_failure(&mut self, peer: PeerId, connection: ConnectionId, error: &DialError) {
        let Some(opens) = self.waiting.remove(&peer) else {
            return;
        };
        let already = matches!(error, DialError::DialPeerConditionFalse(_));
        if !already && let Some(peer) = self.peers.get_mut(&peer) {
            peer.direct_failed = Some(Instant::now());
        }
        let fallback = self.best(peer).map(|connection| connection.id);
        for mut open in opens {
            let ours = open.dial == Some(connection);
            match fallback {
                Some(id) if ours => self.notify(peer, id, open.reply),
                None if ours && !already => {
                    let _gone = open.reply.send(Err(OpenError::Unreachable {
                        reason: describe_dial(error),
                    }));
                }
                _ => {
                    // Either somebody else's dial is under way, or it has just failed and ours is still to come.
                    if ours {
                        open.dial = None;
                    } else if open.dial.is_none() && !already {
                        open.dial = Some(self.dial(peer, &open.addresses));
                    }
                    self.waiting.entry(peer).or_default().push(open);
                }
            }
        }
    }

    fn handler(&mut self, peer: PeerId, address: &Multiaddr, relayed: bool) -> Handler {
        let share = Arc::clone(&self.peers.entry(peer).or_default().share);
        let origin = Origin {
            peer,
            address: address.clone(),
            relayed,
            share,
        };
        Handler::new(self.protocol.clone(), origin, Arc::clone(&self.admission))
    }
}

/// Whether `address` leads through a relay.
pub(crate) fn is_relayed(address: &Multiaddr) -> bool {
    address.iter().any(|part| part == Protocol::P2pCircuit)
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(peer, remote, is_relayed(local) || is_relayed(remote)))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(peer, address, is_relayed(address)))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(established) => self.on_established(established),
            FromSwarm::ConnectionClosed(closed) => self.on_closed(closed),
            FromSwarm::DialFailure(DialFailure {
                peer_id: Some(peer),
                connection_id,
                error,
            }) => {
                self.on_dial_failure(peer, connection_id, error);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, peer_id: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        let Hostile = event;
        self.events.push_back(ToSwarm::CloseConnection {
            peer_id,
            connection: CloseConnection::All,
        });
        self.events
            .push_back(ToSwarm::GenerateEvent(Event::HostilePeer(peer_id)));
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        match self.events.pop_front() {
            Some(event) => Poll::Ready(event),
            None => Poll::Pending,
        }
    }
}

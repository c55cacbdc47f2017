//! What the swarm tells the node.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use libp2p::gossipsub::MessageId;
use libp2p::request_response::ResponseChannel;
use libp2p::{Multiaddr, PeerId};
use tokio::sync::mpsc;

use crate::conduct::Standing;
use crate::error::Closed;
use crate::exchange::Exchange;
use crate::handle::Command;
use crate::nat::{Filtering, Gateway, Mapping};
use crate::stream::DirectStream;

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// A gossip message, not yet forwarded: it is when, and only when, [`crate::Handle::judge`] accepts it in time.
    Gossip {
        /// The topic.
        topic: String,
        /// The peer that handed it on; who wrote it is for the message itself to prove.
        source: PeerId,
        /// The message.
        data: Bytes,
        /// What [`crate::Handle::judge`] takes.
        ticket: Ticket,
    },
    /// A peer asks for an answer.
    Asked {
        /// In which exchange.
        exchange: Exchange,
        /// Who, as proved by the connection.
        peer: PeerId,
        /// The request.
        data: Bytes,
        /// Takes the answer; dropped, it tells the peer that there is none.
        reply: Reply,
    },
    /// A peer opened a direct stream.
    Inbound(DirectStream),
    /// The first connection to a peer is up.
    Connected {
        /// The peer.
        peer: PeerId,
    },
    /// The last connection to a peer is gone.
    Disconnected {
        /// The peer.
        peer: PeerId,
    },
    /// A connected peer listens to a topic from now on.
    Subscribed {
        /// The peer.
        peer: PeerId,
        /// The topic.
        topic: String,
    },
    /// An address is bound and takes connections.
    NewListenAddr {
        /// The address, without `/p2p`.
        address: Multiaddr,
    },
    /// An address no longer takes connections.
    ExpiredListenAddr {
        /// The address.
        address: Multiaddr,
    },
    /// What may be told to others of where this node is has changed: all of it, without its peer id.
    Reachable {
        /// Addresses, those that reach furthest first.
        addresses: Vec<Multiaddr>,
    },
    /// A peer that was reached through a relay is now reached directly.
    Direct {
        /// The peer.
        peer: PeerId,
    },
}

/// Events, in order, and inbound streams, which go first and have a queue of their own.
#[derive(Debug)]
pub struct EventReceiver {
    pub(crate) events: mpsc::Receiver<Event>,
    pub(crate) inbound: mpsc::Receiver<DirectStream>,
}

impl EventReceiver {
    /// The next event; `None` once the event loop has stopped and all was handed out.
    /// Dropping the future before it is ready loses nothing.
    pub async fn recv(&mut self) -> Option<Event> {
        tokio::select! {
            biased;
            Some(stream) = self.inbound.recv() => Some(Event::Inbound(stream)),
            event = self.events.recv() => event,
        }
    }
}

/// What the node found a gossip message to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Well-formed, new and believed: forward it.
    Accept,
    /// Malformed or badly signed, which no honest peer would have forwarded: drop it and hold it against the source.
    Reject,
    /// Stale, superseded, unknown, or a matter of state: drop it.
    Ignore,
    /// Not judged, since there is too much to do: drop it and hold it against nobody.
    Pass,
}

/// The right to judge one gossip message, once. Unused, it counts as [`Verdict::Ignore`] after a few seconds.
#[derive(Debug)]
pub struct Ticket {
    pub(crate) id: MessageId,
}

/// The right to answer one request, once.
#[derive(Debug)]
pub struct Reply {
    pub(crate) exchange: Exchange,
    pub(crate) channel: ResponseChannel<Bytes>,
    pub(crate) commands: mpsc::Sender<Command>,
}

impl Reply {
    /// Sends the answer. Whether it arrives is not known here; an answer over the exchange's bound is not sent, and the
    /// peer learns that there is none.
    ///
    /// # Errors
    /// [`Closed`] once the event loop has stopped.
    pub async fn send(self, answer: Bytes) -> Result<(), Closed> {
        let Self {
            exchange,
            channel,
            commands,
        } = self;
        if answer.len() > exchange.max_answer() {
            tracing::warn!(
                ?exchange,
                len = answer.len(),
                max = exchange.max_answer(),
                "answer is too long to be sent"
            );
            return Ok(());
        }
        commands
            .send(Command::Answer {
                exchange,
                channel,
                answer,
            })
            .await
            .map_err(|_| Closed)
    }
}

/// A connected peer.
#[derive(Debug, Clone)]
pub struct PeerInfo {
    /// The peer.
    pub peer: PeerId,
    /// What it says its program is.
    pub agent: Option<String>,
    /// Protocol ids it speaks, as far as it has said.
    pub protocols: Vec<String>,
    /// Whether it is of this network; `None` until it has identified itself.
    pub same_network: Option<bool>,
    /// Whether it serves this network's DHT, as far as it has said.
    pub serves_dht: bool,
    /// Addresses at which it says it listens, less those that make no sense from here.
    pub listen: Vec<Multiaddr>,
    /// The last measured round trip.
    pub round_trip: Option<Duration>,
    /// Its connections, oldest first; at least one.
    pub connections: Vec<ConnectionInfo>,
}

impl PeerInfo {
    /// Where this node reached it directly.
    pub fn dialled(&self) -> Option<&Multiaddr> {
        let dialled = |it: &&ConnectionInfo| !it.relayed && it.direction == Direction::Outbound;
        Some(&self.connections.iter().find(dialled)?.address)
    }

    /// Whether every connection leads through a relay.
    pub fn relayed(&self) -> bool {
        self.connections.iter().all(|connection| connection.relayed)
    }
}

/// How a peer behaves.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerConduct {
    /// Whether it is connected.
    pub connected: bool,
    /// Whether the node itself keeps it out.
    pub blocked: bool,
    /// Its account.
    pub standing: Standing,
    /// What gossipsub makes of it, and from which score down it is not gossiped with, not published to, not listened to.
    pub gossip_score: Option<f64>,
    /// Those.
    pub gossip_thresholds: [f64; 3],
}

/// How others reach this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reached {
    /// Whether somebody is known to have reached it from outside.
    pub directly: bool,
    /// Relays on which it holds a place.
    pub relays: usize,
}

/// How this node stands towards the rest of the network: for a diagnosis.
#[derive(Debug, Clone)]
pub struct Situation {
    /// Where it listens, circuits left out.
    pub listen: Vec<Multiaddr>,
    /// Addresses at which others have reached it, or which the user named.
    pub external: Vec<Multiaddr>,
    /// Addresses that others were asked to call, and whether that worked.
    pub probed: Vec<(Multiaddr, bool)>,
    /// Public addresses that others see.
    pub seen_at: Vec<IpAddr>,
    /// How its port for TCP looks from outside.
    pub tcp: Mapping,
    /// How its port for QUIC does.
    pub quic: Mapping,
    /// Who gets in.
    pub filtering: Filtering,
    /// What the router says.
    pub gateway: Gateway,
    /// How others reach it.
    pub reached: Reached,
    /// Whether it wants a place on relays; who only buys does not.
    pub wants_relays: bool,
    /// Whether it dials its relays alone.
    pub outbound_only: bool,
    /// Addresses that it was told to join by.
    pub joins: Vec<Joined>,
    /// Connected peers.
    pub peers: usize,
    /// Of them, those through relays alone.
    pub relayed: usize,
    /// Connections through relays that were replaced by direct ones, and those that could not be.
    pub punched: (u64, u64),
}

/// What became of an address to join by.
#[derive(Debug, Clone)]
pub struct Joined {
    /// The address.
    pub address: Multiaddr,
    /// Whether it is connected.
    pub connected: bool,
    /// Why the last dial failed.
    pub why: Option<String>,
}

/// A connection.
#[derive(Debug, Clone)]
pub struct ConnectionInfo {
    /// The remote address.
    pub address: Multiaddr,
    /// Whether it leads through a relay.
    pub relayed: bool,
    /// Who opened it.
    pub direction: Direction,
    /// How long it has been up.
    pub age: Duration,
}

/// Who opened a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The peer.
    Inbound,
    /// This node.
    Outbound,
}

/// A peer that the DHT names as a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// The peer.
    pub peer: PeerId,
    /// Addresses that the record gave, possibly none.
    pub addresses: Vec<Multiaddr>,
}

/// What a swarm holds now, by kind: each is bounded, and of peers that are gone little is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    /// Connections.
    pub connections: usize,
    /// Peers of which addresses are remembered.
    pub addresses: usize,
    /// Peers in the routing table.
    pub table: usize,
    /// Provider records of others.
    pub records: usize,
    /// Peers of whose use of rates something is counted.
    pub counted: usize,
    /// Peers of whose conduct something is remembered.
    pub conduct: usize,
    /// Gossip messages that wait to be judged.
    pub judgments: usize,
    /// Tasks of connections.
    pub tasks: usize,
}

/// Totals since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections through relays that were replaced by direct ones.
    pub punched: u64,
    /// Those that could not be.
    pub not_punched: u64,
    /// Gossip messages that arrived.
    pub gossip_received: u64,
    /// Judged good and forwarded.
    pub gossip_accepted: u64,
    /// Judged bad.
    pub gossip_rejected: u64,
    /// Judged not worth forwarding.
    pub gossip_ignored: u64,
    /// Not judged in time, and ignored therefore.
    pub gossip_unjudged: u64,
    /// Never handed to the node because it was behind; ignored.
    pub gossip_dropped: u64,
    /// Messages of our own that went out.
    pub gossip_published: u64,
    /// Exchanges answered.
    pub asks_answered: u64,
    /// Exchanges that found the node behind, and failed.
    pub asks_dropped: u64,
    /// Exchanges that we began.
    pub asks_sent: u64,
    /// Inbound direct streams handed to the node.
    pub streams_accepted: u64,
    /// Inbound direct streams answered with the refusal.
    pub streams_refused: u64,
    /// Inbound direct streams that were reset, the peer being out of all bounds.
    pub streams_dropped: u64,
    /// Direct streams that we opened or tried to.
    pub streams_opened: u64,
    /// Bans of peers for their conduct.
    pub bans: u64,
    /// Peers that are banned now.
    pub banned: u64,
    /// Peers disconnected for opening streams without end.
    pub hostile_peers: u64,
    /// Connection events that the node never heard of because it was far behind.
    pub events_lost: u64,
    /// Provider records of others that were kept.
    pub providers_stored: u64,
    /// Provider records that were refused.
    pub providers_refused: u64,
}

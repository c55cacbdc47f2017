//! What the swarm is told when it starts, and every bound it keeps, with the reason.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use libp2p::Multiaddr;

use crate::limits::{PEERS_KEPT, PEERS_LEFT};
use crate::trim::Keep;

/// Commands that wait for the event loop. Callers wait beyond it, which is the back-pressure they should feel.
pub(crate) const COMMAND_QUEUE: usize = 256;

/// Events that wait for the node. At the target load of a thousand gossip messages a second this is a second's worth;
/// beyond it gossip is ignored and exchanges fail, while the connections stay healthy.
pub(crate) const EVENT_QUEUE: usize = 1024;

/// Connection events that wait behind a full event queue; each connection makes two in its life.
pub(crate) const EVENT_BACKLOG: usize = 4096;

/// Longest time to say a refusal to a peer that does not read.
pub(crate) const REFUSAL_TIMEOUT: Duration = Duration::from_secs(2);

/// Time for a connection to be dialled, encrypted and multiplexed, over a slow mobile link included.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection that nothing uses is kept this long. A buyer comes back within a conversation's pause, and a new
/// connection costs three round trips.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(120);

/// Where there are many, a peer that was of no use for so long may be let go of.
const UNUSED: Duration = Duration::from_secs(60);

/// Substreams that a peer may be negotiating at once on a connection (the library's own default is 128).
pub(crate) const NEGOTIATING_STREAMS: usize = 256;

/// Substreams on a Yamux or QUIC connection. It is above what one peer may keep, so that what is too much is answered by
/// us and does not break the connection (the library's own defaults are 512 and 256).
pub(crate) const MUXED_STREAMS: u32 = 2048;

/// Connections to one peer: both sides may dial at once, over TCP and QUIC, and through a relay meanwhile.
const CONNECTIONS_PER_PEER: u32 = 8;

/// What a swarm is made from.
pub struct Config {
    /// The identity: a secp256k1 secret, already normalised to an even public key where the node wants to trade.
    pub secret: [u8; 32],
    /// Name of the network, `main` or another; it is part of every protocol id.
    pub network: String,
    /// What this process is for.
    pub role: Role,
    /// Addresses to listen on; port 0 takes any.
    pub listen: Vec<Multiaddr>,
    /// Where to join, with or without `/p2p/<peer id>`; redialled for as long as it is not connected.
    pub bootstrap: Vec<Multiaddr>,
    /// Peers met before, freshest first, with `/p2p/<peer id>`; dialled while too few others are connected. They are
    /// trusted with nothing, and an outbound-only node does without them.
    pub remembered: Vec<Multiaddr>,
    /// Addresses under which the node is known to be reachable from outside.
    pub external: Vec<Multiaddr>,
    /// Gossip topics in full; others are neither subscribed to nor remembered of peers.
    pub topics: Vec<String>,
    /// What identify says about this program, `infernet/0.1.0` for example.
    pub agent: String,
    /// Whether to look for peers on the local network. Off, no multicast packet is sent.
    pub mdns: bool,
    /// Whether to ask the router for a port. Off, no multicast packet is sent.
    pub upnp: bool,
    /// Whether to serve the DHT; `None` decides by role and by confirmed external addresses, of which loopback has none.
    pub kad_server: Option<bool>,
    /// Payload of the one frame with which a direct stream is refused when the node is full. The peer's node reads it.
    pub refusal: Bytes,
    /// Relays on which a node that cannot be reached from outside reserves a place; none for a node that nobody calls.
    pub relays: usize,
    /// Whether no address of this machine may become known to anybody but the peers in `bootstrap`: nothing else is
    /// dialled, nothing is asked of the DHT, and it is reached through their circuits alone.
    pub outbound_only: bool,
    /// Bounds that differ between deployments.
    pub limits: Limits,
}

impl Config {
    /// A quiet node: listens nowhere, knows nobody, sends no multicast.
    pub fn new(secret: [u8; 32], network: impl Into<String>, role: Role) -> Self {
        Self {
            secret,
            network: network.into(),
            role,
            listen: Vec::new(),
            bootstrap: Vec::new(),
            remembered: Vec::new(),
            external: Vec::new(),
            topics: Vec::new(),
            agent: concat!("infernet/", env!("CARGO_PKG_VERSION")).to_owned(),
            mdns: false,
            upnp: false,
            kad_server: None,
            refusal: Bytes::new(),
            relays: 0,
            outbound_only: false,
            limits: Limits::of(role),
        }
    }
}

impl fmt::Debug for Config {
    /// Leaves the secret out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("network", &self.network)
            .field("role", &self.role)
            .field("listen", &self.listen)
            .field("bootstrap", &self.bootstrap)
            .field("remembered", &self.remembered.len())
            .field("external", &self.external)
            .field("topics", &self.topics)
            .field("mdns", &self.mdns)
            .field("upnp", &self.upnp)
            .field("kad_server", &self.kad_server)
            .field("relays", &self.relays)
            .field("outbound_only", &self.outbound_only)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// What a process is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Buys or sells: direct streams, exchanges, relay client.
    Node,
    /// Lets others join: DHT server, relay server, exchanges; no direct streams.
    Bootstrap,
}

/// Bounds that differ between deployments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Established connections that others opened.
    pub incoming: u32,
    /// Established connections that we opened.
    pub outgoing: u32,
    /// Handshakes under way, each direction. A handshake costs memory and two signatures before anybody is known.
    pub pending: u32,
    /// Connections to one peer.
    pub per_peer: u32,
    /// Inbound direct streams of one peer: all that a gateway runs at once and some that rest, so that honest buyers do
    /// not meet it.
    pub streams_per_peer: usize,
    /// Inbound direct streams in all; an idle one costs about 20 KiB.
    pub streams: usize,
    /// Inbound direct streams that wait for the node to take them; the next is refused with an answer.
    pub accept_queue: usize,
    /// Provider records kept for others; one takes some 500 bytes.
    pub provider_records: usize,
    /// Connected peers that are kept. A bootstrap node is there for everybody, and keeps room for who comes.
    pub keep: Keep,
}

impl Limits {
    /// What suits a role on a small machine.
    pub fn of(role: Role) -> Self {
        let node = Self {
            incoming: 512,
            outgoing: 512,
            pending: 64,
            per_peer: CONNECTIONS_PER_PEER,
            streams_per_peer: 320,
            streams: 2048,
            accept_queue: 320,
            provider_records: 8192,
            keep: Keep {
                most: PEERS_KEPT,
                least: PEERS_LEFT,
                grace: UNUSED,
            },
        };
        match role {
            Role::Node => node,
            Role::Bootstrap => Self {
                incoming: 4096,
                pending: 256,
                provider_records: 131_072,
                keep: Keep {
                    most: 3_584,
                    least: 3_072,
                    grace: UNUSED,
                },
                ..node
            },
        }
    }
}

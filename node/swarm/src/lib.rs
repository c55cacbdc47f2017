//! The libp2p side of an Infernet node. It carries opaque bytes and knows no message of the protocol.
//!
//! ```text
//!            Handle --- commands ---> +-----------+ ---> gossip, two exchanges, DHT      behaviour, gossip, exchange, dht
//!   node                              | EventLoop |      identify, ping, relay, mDNS
//!            EventReceiver <- events -+-----------+ ---> connections: TCP, QUIC, relayed  transport, peers, join
//!                 ^                                           |
//!                 +---- inbound DirectStreams (own queue) ----+---- substreams            stream
//! ```
//!
//! One task owns the swarm ([`EventLoop::run`]); nothing else touches it. Every queue, table and count has a bound with a
//! name and a reason, beside the code that keeps it. Gossip is forwarded only after the node has judged it. Direct
//! streams leave the loop's way once they are open: reading and writing them costs it nothing.
//!
//! The crate stands apart from the node so that an edit there does not compile the network behaviour anew.

mod behaviour;
mod conduct;
mod config;
mod crawler;
mod dht;
mod direct_only;
mod error;
mod event;
mod event_loop;
mod exchange;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod gate;
mod gossip;
mod handle;
mod join;
mod limits;
mod names;
mod nat;
mod paced;
mod peers;
mod relays;
mod repeats;
mod stream;
mod transport;
mod trim;

pub use libp2p::multiaddr;
pub use libp2p::{Multiaddr, PeerId};

pub use conduct::{Offence, Standing};
pub use config::{Config, Limits, Role};
pub use crawler::{Found, Reachability, crawl};
pub use error::{AskError, Closed, DhtError, DialError, Error, OpenError, PublishError};
pub use event::{
    ConnectionInfo, Counters, Direction, Event, EventReceiver, Held, Joined, PeerConduct, PeerInfo, Provider, Reached,
    Reply, Situation, Ticket, Verdict,
};
pub use event_loop::{EventLoop, new, peer_id};
pub use exchange::Exchange;
pub use gossip::MAX_GOSSIP;
pub use handle::Handle;
pub use limits::{Bound, Hits};
pub use names::MAIN as MAIN_NETWORK;
pub use nat::{Filtering, Gateway, Mapping, Transport};
pub use stream::{
    DirectStream, FrameError, FrameReader, FrameWriter, MAX_FRAME, StreamReader, StreamWriter, Substream,
};
pub use trim::Keep;

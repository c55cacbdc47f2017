//! What can go wrong, one reason per variant; each text ends in what to do about it.

use std::time::Duration;

use libp2p::swarm::DialError as SwarmDialError;
use libp2p::{Multiaddr, PeerId};

/// Longest reason kept of a failed dial, in bytes: with many addresses the library's own text runs to pages.
const REASON: usize = 400;

/// Why a swarm could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The secret is zero or not below the curve's order.
    #[error("the identity is not a secp256k1 secret; restore it from its backup or run `infernet init`")]
    Secret,
    /// The network's name cannot stand in a protocol id.
    #[error("network name `{name}` is not 1 to {max} of a-z, 0-9 and `-`; choose another with `--network`")]
    NetworkName {
        /// The name as given.
        name: String,
        /// Longest allowed, in bytes.
        max: usize,
    },
    /// A protocol id was malformed in spite of a checked network name.
    #[error("a protocol id is malformed; report this as a bug")]
    ProtocolId,
    /// The address is taken, forbidden or not an address of this machine.
    #[error("cannot listen on `{address}`: {reason}; choose another with `--p2p-port` or `--listen`")]
    Listen {
        /// The address as given.
        address: Multiaddr,
        /// What the system said.
        reason: String,
    },
    /// Encryption could not be set up.
    #[error("cannot set up encryption: {0}; report this as a bug")]
    Encryption(String),
    /// The name resolver could not be set up.
    #[error("cannot read the resolver's configuration: {0}; repair /etc/resolv.conf")]
    Resolver(#[source] std::io::Error),
    /// Gossip could not be set up.
    #[error("cannot set up gossip: {0}; report this as a bug")]
    Gossip(String),
    /// Multicast discovery could not be set up.
    #[error("cannot listen for multicast: {0}; start with `--no-mdns`")]
    Multicast(#[source] std::io::Error),
}

/// The event loop has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the swarm has stopped; restart the node")]
pub struct Closed;

/// Why a message was not published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// No connected peer listens to the topic.
    #[error("no peer listens to `{topic}`; wait until one is connected")]
    NoPeers {
        /// The topic.
        topic: String,
    },
    /// The very same bytes went round lately.
    #[error("this message was published already; nothing is to be done")]
    Duplicate,
    /// Over the network's bound.
    #[error("message of {len} bytes is longer than the {max} allowed; shorten it")]
    TooLarge {
        /// Length of the message in bytes.
        len: usize,
        /// The bound in bytes.
        max: usize,
    },
    /// Not a topic of this swarm.
    #[error("`{topic}` is not a topic of this node; name it in the configuration")]
    UnknownTopic {
        /// The topic.
        topic: String,
    },
    /// Every peer is behind with reading.
    #[error("no peer reads fast enough; publish again later")]
    Busy,
    /// The event loop has stopped.
    #[error(transparent)]
    Closed(#[from] Closed),
}

/// Why a peer could not be reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// No address of the peer is known.
    #[error("no address of `{peer}` is known; wait for its ad or name one")]
    NoAddresses {
        /// The peer.
        peer: PeerId,
    },
    /// Every address failed.
    #[error("cannot reach the peer: {reason}; try again later or choose another")]
    Unreachable {
        /// What each address said, shortened.
        reason: String,
    },
    /// Too many dials are under way.
    #[error("too many dials are under way; try again in a moment")]
    Busy,
    /// The event loop has stopped.
    #[error(transparent)]
    Closed(#[from] Closed),
}

/// Why an exchange brought no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// The request is over the exchange's bound; nothing was sent.
    #[error("request of {len} bytes is longer than the {max} allowed; shorten it")]
    TooLarge {
        /// Length of the request in bytes.
        len: usize,
        /// The bound in bytes.
        max: usize,
    },
    /// The peer broke the rules: its answer is over the exchange's bound.
    #[error("the peer's answer is longer than the {max} bytes allowed; choose another peer")]
    AnswerTooLarge {
        /// The bound in bytes.
        max: usize,
    },
    /// The peer could not be reached.
    #[error("cannot reach the peer; try again later or choose another")]
    Unreachable,
    /// Nothing came in time.
    #[error("no answer within {} ms; choose another peer", after.as_millis())]
    Timeout {
        /// The time waited.
        after: Duration,
    },
    /// The peer does not speak the exchange.
    #[error("the peer does not speak this exchange; choose another peer")]
    Unsupported,
    /// The peer ended the exchange, or the connection broke.
    #[error("the peer gave no answer: {reason}; choose another peer")]
    Declined {
        /// What the connection said.
        reason: String,
    },
    /// Too many exchanges are under way.
    #[error("too many exchanges are under way; try again in a moment")]
    Busy,
    /// The event loop has stopped.
    #[error(transparent)]
    Closed(#[from] Closed),
}

/// Why a direct stream could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// No connection to the peer came about, or it broke meanwhile.
    #[error("cannot reach the peer: {reason}; choose another")]
    Unreachable {
        /// What was tried, shortened.
        reason: String,
    },
    /// The peer does not speak the stream protocol.
    #[error("the peer does not speak the direct stream protocol; choose another")]
    Unsupported,
    /// Neither a connection nor a substream in time.
    #[error("the peer took too long to open a stream; choose another")]
    Timeout,
    /// Too many streams are being opened.
    #[error("too many streams are being opened; try again in a moment")]
    Busy,
    /// This role has no direct streams.
    #[error("a bootstrap node has no direct streams; use a node")]
    NotInThisRole,
    /// The event loop has stopped.
    #[error(transparent)]
    Closed(#[from] Closed),
}

/// Why nothing was announced to or learnt from the DHT.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DhtError {
    /// No peer that serves the DHT is known.
    #[error("no peer that serves the DHT is known; name one with `--bootstrap`")]
    NoPeers,
    /// Too many keys are provided or looked up.
    #[error("too many keys at once; try again in a moment")]
    Busy,
    /// The event loop has stopped.
    #[error(transparent)]
    Closed(#[from] Closed),
}

/// The library's dial error in one line.
pub(crate) fn describe_dial(error: &SwarmDialError) -> String {
    let mut reason = match error {
        SwarmDialError::NoAddresses => "no address is known".to_owned(),
        SwarmDialError::LocalPeerId { .. } => "it is this node".to_owned(),
        SwarmDialError::WrongPeerId { obtained, .. } => format!("`{obtained}` answered there"),
        SwarmDialError::Transport(failures) => failures
            .iter()
            .map(|(address, error)| match error {
                libp2p::TransportError::MultiaddrNotSupported(_) => format!("`{address}` is of no known kind"),
                libp2p::TransportError::Other(error) => format!("`{address}` {}", innermost(error)),
            })
            .collect::<Vec<_>>()
            .join(", "),
        other => other.to_string(),
    };
    if reason.len() > REASON {
        let cut = (0..=REASON).rev().find(|at| reason.is_char_boundary(*at)).unwrap_or(0);
        reason.truncate(cut);
    }
    reason
}

/// The last cause of an error: "connection refused" and not the layers around it.
pub(crate) fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

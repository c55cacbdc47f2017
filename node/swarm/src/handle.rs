//! The handle: how the node asks the swarm for something.
//!
//! Every method sends one bounded command and waits for its own answer, so a caller feels the swarm's load and nothing
//! else of it. Handles are cheap to clone; when the last is gone the event loop ends.

use std::time::Duration;

use bytes::Bytes;
use libp2p::gossipsub::MessageId;
use libp2p::request_response::ResponseChannel;
use libp2p::{Multiaddr, PeerId};
use tokio::sync::{mpsc, oneshot};

use crate::behaviour::ASK_TIMEOUT;
use crate::error::{AskError, Closed, DhtError, DialError, OpenError, PublishError};
use crate::event::{Counters, Held, PeerConduct, PeerInfo, Provider, Reached, Situation, Ticket, Verdict};
use crate::exchange::Exchange;
use crate::gossip::MAX_GOSSIP;
use crate::limits::Hits;
use crate::stream::DirectStream;

/// Longest wait for a direct stream: a dial, a fallback, and a substream.
const OPEN_TIMEOUT: Duration = Duration::from_secs(15);

type Answer<T, E> = oneshot::Sender<Result<T, E>>;

/// What the event loop is asked to do.
#[derive(Debug)]
pub(crate) enum Command {
    Publish {
        topic: String,
        data: Bytes,
        reply: Answer<(), PublishError>,
    },
    Judge {
        id: MessageId,
        verdict: Verdict,
    },
    Dial {
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        reply: Answer<(), DialError>,
    },
    Ask {
        exchange: Exchange,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        request: Bytes,
        reply: Answer<Bytes, AskError>,
    },
    Answer {
        exchange: Exchange,
        channel: ResponseChannel<Bytes>,
        answer: Bytes,
    },
    Open {
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        reply: Answer<DirectStream, OpenError>,
    },
    Provide {
        digest: [u8; 32],
        reply: Answer<(), DhtError>,
    },
    StopProviding {
        digest: [u8; 32],
    },
    Providers {
        digest: [u8; 32],
        reply: Answer<Vec<Provider>, DhtError>,
    },
    TryOwn {
        address: Multiaddr,
        reply: oneshot::Sender<bool>,
    },
    Join {
        addresses: Vec<Multiaddr>,
    },
    RefreshTable {
        reply: Answer<(), DhtError>,
    },
    AddAddress {
        peer: PeerId,
        address: Multiaddr,
    },
    Disconnect {
        peer: PeerId,
    },
    Block {
        peer: PeerId,
        blocked: bool,
    },
    Reached {
        reply: oneshot::Sender<Reached>,
    },
    Situation {
        reply: oneshot::Sender<Situation>,
    },
    Advertised {
        reply: oneshot::Sender<Vec<Multiaddr>>,
    },
    Conduct {
        peer: PeerId,
        reply: oneshot::Sender<PeerConduct>,
    },
    Held {
        reply: oneshot::Sender<Held>,
    },
    Hits {
        reply: oneshot::Sender<Hits>,
    },
    ListenAddrs {
        reply: oneshot::Sender<Vec<Multiaddr>>,
    },
    IsConnected {
        peer: PeerId,
        reply: oneshot::Sender<bool>,
    },
    RoundTrip {
        peer: PeerId,
        reply: oneshot::Sender<Option<Duration>>,
    },
    Peers {
        reply: oneshot::Sender<Vec<PeerInfo>>,
    },
    Counters {
        reply: oneshot::Sender<Counters>,
    },
}

/// The node's side of the swarm.
#[derive(Debug, Clone)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    local: PeerId,
}

impl Handle {
    pub(crate) fn new(commands: mpsc::Sender<Command>, local: PeerId) -> Self {
        Self { commands, local }
    }

    async fn tell(&self, command: Command) -> Result<(), Closed> {
        self.commands.send(command).await.map_err(|_| Closed)
    }

    async fn query<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Closed> {
        let (reply, answer) = oneshot::channel();
        self.tell(command(reply)).await?;
        answer.await.map_err(|_| Closed)
    }

    /// This node's id.
    pub fn local_peer_id(&self) -> PeerId {
        self.local
    }

    /// The addresses that are bound, without `/p2p`. Waits until every listener has one.
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn listen_addrs(&self) -> Result<Vec<Multiaddr>, Closed> {
        self.query(|reply| Command::ListenAddrs { reply }).await
    }

    /// As [`listen_addrs`](Self::listen_addrs), with `/p2p/<this node>`, as others dial them.
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn dialable_addrs(&self) -> Result<Vec<Multiaddr>, Closed> {
        let bound = self.listen_addrs().await?;
        Ok(bound
            .into_iter()
            .filter_map(|address| address.with_p2p(self.local).ok())
            .collect())
    }

    /// How others reach this node.
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn reached(&self) -> Result<Reached, Closed> {
        self.query(|reply| Command::Reached { reply }).await
    }

    /// What may be told to others of where this node is, without its peer id; see
    /// [`Event::Reachable`](crate::Event::Reachable).
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn advertised(&self) -> Result<Vec<Multiaddr>, Closed> {
        self.query(|reply| Command::Advertised { reply }).await
    }

    /// Publishes a message of at most [`MAX_GOSSIP`] bytes to all peers known to listen to `topic`.
    ///
    /// # Errors
    /// [`PublishError`]; [`PublishError::NoPeers`] is what a node that has just started gets.
    pub async fn publish(&self, topic: impl Into<String>, data: Bytes) -> Result<(), PublishError> {
        if data.len() > MAX_GOSSIP {
            return Err(PublishError::TooLarge {
                len: data.len(),
                max: MAX_GOSSIP,
            });
        }
        let topic = topic.into();
        self.query(|reply| Command::Publish { topic, data, reply }).await?
    }

    /// Judges a gossip message. Accepted, it is forwarded; judged too late, it is not.
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn judge(&self, ticket: Ticket, verdict: Verdict) -> Result<(), Closed> {
        self.tell(Command::Judge { id: ticket.id, verdict }).await
    }

    /// Connects to a peer at `addresses` or at what is known of it; at once where it is connected.
    ///
    /// # Errors
    /// [`DialError`].
    pub async fn dial(&self, peer: PeerId, addresses: Vec<Multiaddr>) -> Result<(), DialError> {
        self.query(|reply| Command::Dial { peer, addresses, reply }).await?
    }

    /// Whether another process answers at `address` that has this node's own key. Circuits are not tried, nor what this
    /// node is known by itself.
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn is_twin_at(&self, address: Multiaddr) -> Result<bool, Closed> {
        self.query(|reply| Command::TryOwn { address, reply }).await
    }

    /// How this node stands towards the rest of the network.
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn situation(&self) -> Result<Situation, Closed> {
        self.query(|reply| Command::Situation { reply }).await
    }

    /// Joins the network by these addresses as well, as by those of [`Config::bootstrap`](crate::Config::bootstrap).
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn join(&self, addresses: Vec<Multiaddr>) -> Result<(), Closed> {
        self.tell(Command::Join { addresses }).await
    }

    /// Whether there is a connection to `peer`.
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn is_connected(&self, peer: PeerId) -> Result<bool, Closed> {
        self.query(|reply| Command::IsConnected { peer, reply }).await
    }

    /// All connected peers, by id.
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn peers(&self) -> Result<Vec<PeerInfo>, Closed> {
        self.query(|reply| Command::Peers { reply }).await
    }

    /// The last measured round trip to a connected peer.
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn round_trip(&self, peer: PeerId) -> Result<Option<Duration>, Closed> {
        self.query(|reply| Command::RoundTrip { peer, reply }).await
    }

    /// Asks a peer, connecting to it first where needed, and gives its answer. `timeout` counts from now and is ten
    /// seconds at most.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn ask(
        &self,
        exchange: Exchange,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        request: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, AskError> {
        let max = exchange.max_request();
        if request.len() > max {
            return Err(AskError::TooLarge {
                len: request.len(),
                max,
            });
        }
        let after = timeout.min(ASK_TIMEOUT);
        let asked = self.query(|reply| Command::Ask {
            exchange,
            peer,
            addresses,
            request,
            reply,
        });
        tokio::time::timeout(after, asked)
            .await
            .map_err(|_| AskError::Timeout { after })??
    }

    /// Opens a direct stream to a peer: on a direct connection if there is one or one can be dialled, else on a relayed
    /// one. Negotiation is lazy, so a peer that does not speak the protocol shows at the first read.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(&self, peer: PeerId, addresses: Vec<Multiaddr>) -> Result<DirectStream, OpenError> {
        let (reply, answer) = oneshot::channel();
        self.tell(Command::Open { peer, addresses, reply }).await?;
        match tokio::time::timeout(OPEN_TIMEOUT, answer).await {
            Err(_) => Err(OpenError::Timeout),
            Ok(Ok(outcome)) => outcome,
            // The connection that was to open it went away with the order.
            Ok(Err(_)) if self.commands.is_closed() => Err(Closed.into()),
            Ok(Err(_)) => Err(OpenError::Unreachable {
                reason: "the connection was lost".to_owned(),
            }),
        }
    }

    /// Announces in the DHT that this node provides what `digest` (a SHA-256) stands for, now and again until
    /// [`stop_providing`](Self::stop_providing).
    ///
    /// # Errors
    /// [`DhtError::Busy`] beyond the bound on keys, or [`DhtError::Closed`].
    pub async fn provide(&self, digest: [u8; 32]) -> Result<(), DhtError> {
        self.query(|reply| Command::Provide { digest, reply }).await?
    }

    /// Announces `digest` no more. Records that others hold end by themselves within half an hour.
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn stop_providing(&self, digest: [u8; 32]) -> Result<(), Closed> {
        self.tell(Command::StopProviding { digest }).await
    }

    /// Who provides `digest`, as far as the DHT knows, without this node. Their addresses are remembered, so that
    /// [`ask`](Self::ask) and [`open`](Self::open) find them.
    ///
    /// # Errors
    /// [`DhtError`].
    pub async fn providers(&self, digest: [u8; 32]) -> Result<Vec<Provider>, DhtError> {
        self.query(|reply| Command::Providers { digest, reply }).await?
    }

    /// Refreshes the DHT's routing table now; it happens by itself every few minutes.
    ///
    /// # Errors
    /// [`DhtError`].
    pub async fn refresh_table(&self) -> Result<(), DhtError> {
        self.query(|reply| Command::RefreshTable { reply }).await?
    }

    /// Remembers an address of a peer.
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn add_address(&self, peer: PeerId, address: Multiaddr) -> Result<(), Closed> {
        self.tell(Command::AddAddress { peer, address }).await
    }

    /// Closes all connections to a peer.
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn disconnect(&self, peer: PeerId) -> Result<(), Closed> {
        self.tell(Command::Disconnect { peer }).await
    }

    /// Closes all connections to a peer and lets it make no other.
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn block(&self, peer: PeerId) -> Result<(), Closed> {
        self.tell(Command::Block { peer, blocked: true }).await
    }

    /// Undoes [`block`](Self::block).
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn unblock(&self, peer: PeerId) -> Result<(), Closed> {
        self.tell(Command::Block { peer, blocked: false }).await
    }

    /// How a peer behaves, and what that adds up to.
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn conduct(&self, peer: PeerId) -> Result<PeerConduct, Closed> {
        self.query(|reply| Command::Conduct { peer, reply }).await
    }

    /// What the swarm holds now.
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn held(&self) -> Result<Held, Closed> {
        self.query(|reply| Command::Held { reply }).await
    }

    /// How often each bound against peers was met.
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn hits(&self) -> Result<Hits, Closed> {
        self.query(|reply| Command::Hits { reply }).await
    }

    /// Totals since the start.
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn counters(&self) -> Result<Counters, Closed> {
        self.query(|reply| Command::Counters { reply }).await
    }
}

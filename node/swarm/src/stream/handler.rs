//! The direct stream protocol on one connection: opens what we ask for, admits or refuses what the peer opens.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use libp2p::core::upgrade::ReadyUpgrade;
use libp2p::swarm::handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound};
use libp2p::swarm::{ConnectionHandler, ConnectionHandlerEvent, StreamUpgradeError, SubstreamProtocol};
use libp2p::{Stream, StreamProtocol};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::DirectStream;
use super::admission::{Admission, Origin};
use crate::error::OpenError;

/// Substreams that we negotiate at once on a connection; enough that a burst of requests goes out in one round trip.
const OPENING: usize = 32;

/// Opens that wait behind those. A caller beyond it is told at once, while another peer may still serve it.
const OPEN_QUEUE: usize = 320;

/// Refusals that are being written at once on a connection. Each is a few bytes; a peer that does not read them is reset.
const REFUSALS: usize = 64;

/// Refusals within [`REFUSAL_WINDOW`] after which the peer is taken for hostile and disconnected. An honest peer stops
/// at the first one.
const REFUSALS_TOLERATED: u32 = 512;

/// See [`REFUSALS_TOLERATED`].
const REFUSAL_WINDOW: Duration = Duration::from_secs(10);

/// Time for a substream to be opened and negotiated.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// Where an opened stream goes.
pub(crate) type OpenReply = oneshot::Sender<Result<DirectStream, OpenError>>;

/// An order to open a substream.
#[derive(Debug)]
pub(crate) struct Open(pub(super) OpenReply);

/// The peer opened far more streams than it may.
#[derive(Debug)]
pub(crate) struct Hostile;

/// The handler of one connection.
pub(crate) struct Handler {
    protocol: StreamProtocol,
    origin: Origin,
    admission: Arc<Admission>,
    queue: VecDeque<OpenReply>,
    opening: usize,
    refusing: FuturesUnordered<BoxFuture<'static, ()>>,
    refused: u32,
    window_start: Instant,
    hostile: bool,
    told: bool,
}

impl Handler {
    pub(super) fn new(protocol: StreamProtocol, origin: Origin, admission: Arc<Admission>) -> Self {
        Self {
            protocol,
            origin,
            admission,
            queue: VecDeque::new(),
            opening: 0,
            refusing: FuturesUnordered::new(),
            refused: 0,
            window_start: Instant::now(),
            hostile: false,
            told: false,
        }
    }

    fn on_inbound(&mut self, stream: Stream) {
        if let Err(stream) = self.admission.admit(stream, &self.origin) {
            self.refuse(stream);
        }
    }

    fn refuse(&mut self, stream: Stream) {
        if self.window_start.elapsed() > REFUSAL_WINDOW {
            self.window_start = Instant::now();
            self.refused = 0;
        }
        self.refused += 1;
        self.hostile |= self.refused > REFUSALS_TOLERATED;
        if self.hostile || self.refusing.len() >= REFUSALS {
            self.admission.note_dropped();
        } else {
            self.refusing.push(Box::pin(Arc::clone(&self.admission).refuse(stream)));
        }
    }

    fn on_open_failed(&mut self, reply: OpenReply, error: StreamUpgradeError<std::convert::Infallible>) {
        self.opening = self.opening.saturating_sub(1);
        let error = match error {
            StreamUpgradeError::NegotiationFailed => OpenError::Unsupported,
            StreamUpgradeError::Timeout => OpenError::Timeout,
            StreamUpgradeError::Io(error) => OpenError::Unreachable {
                reason: error.to_string(),
            },
            StreamUpgradeError::Apply(never) => match never {},
        };
        let _gone = reply.send(Err(error));
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Open;
    type ToBehaviour = Hostile;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = OpenReply;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(ReadyUpgrade::new(self.protocol.clone()), ())
    }

    fn on_behaviour_event(&mut self, Open(reply): Open) {
        if self.queue.len() >= OPEN_QUEUE {
            let _gone = reply.send(Err(OpenError::Busy));
        } else {
            self.queue.push_back(reply);
        }
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol, (), OpenReply>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol: stream, .. }) => {
                self.on_inbound(stream);
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: stream,
                info: reply,
            }) => {
                self.opening = self.opening.saturating_sub(1);
                let _gone = reply.send(Ok(self.origin.opened(stream)));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info: reply, error }) => {
                self.on_open_failed(reply, error);
            }
            _ => {}
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, OpenReply, Self::ToBehaviour>> {
        while let Poll::Ready(Some(())) = self.refusing.poll_next_unpin(cx) {}
        if self.hostile && !self.told {
            self.told = true;
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(Hostile));
        }
        while self.opening < OPENING {
            let Some(reply) = self.queue.pop_front() else { break };
            if reply.is_closed() {
                continue;
            }
            self.opening += 1;
            let protocol =
                SubstreamProtocol::new(ReadyUpgrade::new(self.protocol.clone()), reply).with_timeout(OPEN_TIMEOUT);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        Poll::Pending
    }
}

impl std::fmt::Debug for Handler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handler")
            .field("origin", &self.origin)
            .field("queue", &self.queue.len())
            .finish_non_exhaustive()
    }
}

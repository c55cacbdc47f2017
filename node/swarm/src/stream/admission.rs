//! Who may have how many direct streams, and what those get who may not.
//!
//! Every substream that a peer opens is either handed to the node through a bounded queue or answered with the node's
//! refusal; none is dropped in silence as long as the peer keeps within reason.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::{BufMut, Bytes, BytesMut};
use futures::AsyncWriteExt as _;
use libp2p::{Multiaddr, PeerId, Stream};
use tokio::sync::mpsc;

use super::{DirectStream, Substream};
use crate::config::{Limits, REFUSAL_TIMEOUT};

/// Rules and tallies that all connections share.
#[derive(Debug)]
pub(crate) struct Admission {
    accepted: mpsc::Sender<DirectStream>,
    /// The refusal as it goes on the wire, with its length in front.
    refusal: Bytes,
    streams_per_peer: usize,
    streams: usize,
    open: AtomicUsize,
    pub(crate) counters: StreamCounters,
}

/// What happened to inbound streams, in all.
#[derive(Debug, Default)]
pub(crate) struct StreamCounters {
    pub(crate) accepted: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) dropped: AtomicU64,
}

/// How many streams with one peer are open, over all its connections.
#[derive(Debug, Default)]
pub(crate) struct PeerShare {
    /// Those that it opened.
    open: AtomicUsize,
    /// Those that this node opened.
    ours: AtomicUsize,
}

impl PeerShare {
    /// Whether any is.
    pub(super) fn is_in_use(&self) -> bool {
        self.open.load(Ordering::Relaxed) + self.ours.load(Ordering::Relaxed) > 0
    }
}

/// What a stream counts as while it is open.
#[derive(Debug)]
pub(super) enum Held {
    /// One that the peer opened.
    Theirs(#[expect(dead_code, reason = "it is held to be dropped")] Place),
    /// One that this node opened.
    Ours(Arc<PeerShare>),
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Self::Ours(share) = self {
            share.ours.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// One open inbound stream, taken from the peer's share and from the node's.
#[derive(Debug)]
pub(super) struct Place {
    share: Arc<PeerShare>,
    admission: Arc<Admission>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.share.open.fetch_sub(1, Ordering::Relaxed);
        self.admission.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The connection on which a stream came.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    pub(super) peer: PeerId,
    pub(super) address: Multiaddr,
    pub(super) relayed: bool,
    pub(super) share: Arc<PeerShare>,
}

impl Admission {
    /// Streams within `limits` go to `accepted`; the others are answered with `refusal`, one frame's payload.
    pub(crate) fn new(accepted: mpsc::Sender<DirectStream>, refusal: &[u8], limits: &Limits) -> Arc<Self> {
        let mut frame = BytesMut::with_capacity(refusal.len() + 4);
        frame.put_u32(u32::try_from(refusal.len()).unwrap_or(0));
        frame.put_slice(refusal);
        Arc::new(Self {
            accepted,
            refusal: frame.freeze(),
            streams_per_peer: limits.streams_per_peer,
            streams: limits.streams,
            open: AtomicUsize::new(0),
            counters: StreamCounters::default(),
        })
    }

    /// Hands the stream to the node, or gives it back to be refused.
    #[expect(clippy::result_large_err, reason = "the stream goes back to where it came from")]
    pub(super) fn admit(self: &Arc<Self>, stream: Stream, origin: &Origin) -> Result<(), Stream> {
        // Taken before it is checked and given back by `Place`, so that two connections cannot both take the last one.
        let of_peer = origin.share.open.fetch_add(1, Ordering::Relaxed);
        let of_all = self.open.fetch_add(1, Ordering::Relaxed);
        let place = Place {
            share: Arc::clone(&origin.share),
            admission: Arc::clone(self),
        };
        if of_peer >= self.streams_per_peer || of_all >= self.streams {
            return Err(stream);
        }
        let Ok(permit) = self.accepted.try_reserve() else {
            return Err(stream);
        };
        self.counters.accepted.fetch_add(1, Ordering::Relaxed);
        permit.send(origin.stream(Substream::new(stream, Held::Theirs(place)), true));
        Ok(())
    }

    /// Says the refusal and ends the stream.
    pub(super) async fn refuse(self: Arc<Self>, mut stream: Stream) {
        let answer = async {
            stream.write_all(&self.refusal).await?;
            stream.close().await
        };
        let counter = match tokio::time::timeout(REFUSAL_TIMEOUT, answer).await {
            Ok(Ok(())) => &self.counters.refused,
            _ => &self.counters.dropped,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a stream that was reset without an answer.
    pub(super) fn note_dropped(&self) {
        self.counters.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

impl Origin {
    /// A stream that this node has opened.
    pub(super) fn opened(&self, stream: Stream) -> DirectStream {
        self.share.ours.fetch_add(1, Ordering::Relaxed);
        self.stream(Substream::new(stream, Held::Ours(Arc::clone(&self.share))), false)
    }

    pub(super) fn stream(&self, substream: Substream, inbound: bool) -> DirectStream {
        DirectStream {
            peer: self.peer,
            address: self.address.clone(),
            relayed: self.relayed,
            inbound,
            substream,
        }
    }
}

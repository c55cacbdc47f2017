//! What one client, and all of them together, may ask of this process.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use infernet_protocol::names::BODY_BYTES;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::connections::{Answering, Visitor};
use super::errors::ApiError;

/// Connections at once: clients keep some idle each, and file descriptors are often limited to 1,024 in all.
pub(super) const CONNECTIONS_MAX: usize = 512;
/// Requests at once: more than a machine's programs ask for, fewer than would exhaust it.
const REQUESTS_MAX: usize = 256;
/// Memory for request bodies at once, in [`UNIT`]s: 256 MiB.
const BODY_UNITS: usize = 4096;
/// Bodies are counted in units of this many bytes.
const UNIT: u64 = 64 * 1024;
/// Longest head of a request.
pub(super) const HEAD_BYTES: usize = 64 * 1024;
/// Most headers of a request.
pub(super) const HEADERS_MAX: usize = 100;
/// Requests of batches at once, over all batches: fewer than may wait for a provider.
pub(super) const BATCHED_MAX: usize = 64;
/// How long answers may go on when the node shuts down.
pub(super) const DRAIN_WITHIN: Duration = Duration::from_secs(3);
/// Pause after a connection could not be accepted.
pub(super) const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// How long a client may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For a head, and between requests.
    pub head: Duration,
    /// For a whole body: it comes from this machine or a near one.
    pub body: Duration,
    /// Between two pieces of a body.
    pub piece: Duration,
    /// For reading something, anything, of an answer that waits for it. What the kernel holds is several seconds of any
    /// engine's answer.
    pub unread: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(60),
            body: Duration::from_secs(60),
            piece: Duration::from_secs(15),
            unread: Duration::from_secs(60),
        }
    }
}

/// Counts what is taken.
pub(super) struct Limits {
    requests: Arc<Semaphore>,
    bodies: Arc<Semaphore>,
    patience: Patience,
}

/// One request's share, given back when dropped.
#[derive(Debug)]
pub(super) struct Share {
    _request: OwnedSemaphorePermit,
    _body: Option<OwnedSemaphorePermit>,
    _answering: Option<Answering>,
}

impl Limits {
    pub(super) fn new(patience: Patience) -> Self {
        Self {
            requests: Arc::new(Semaphore::new(REQUESTS_MAX)),
            bodies: Arc::new(Semaphore::new(BODY_UNITS)),
            patience,
        }
    }

    /// Reads the body, whose length the client may have told, and takes a share. A body counts as it comes and a request
    /// once it is whole, so that clients who promise much and send little take nothing from others.
    pub(super) async fn read(
        &self,
        body: axum::body::Body,
        told: Option<u64>,
        visitor: Option<Visitor>,
    ) -> Result<(Bytes, Share), ApiError> {
        if told.is_some_and(|told| told > BODY_BYTES) {
            return Err(ApiError::too_large());
        }
        if self.requests.available_permits() == 0 {
            return Err(ApiError::too_many());
        }
        let read = tokio::time::timeout(self.patience.body, self.collect(body)).await;
        let (bytes, held) = read.map_err(|_| ApiError::too_slow())??;
        let request = Arc::clone(&self.requests)
            .try_acquire_owned()
            .map_err(|_| ApiError::too_many())?;
        let share = Share {
            _request: request,
            _body: held,
            _answering: visitor.map(Visitor::answering),
        };
        Ok((bytes, share))
    }

    async fn collect(&self, body: axum::body::Body) -> Result<(Bytes, Option<OwnedSemaphorePermit>), ApiError> {
        let mut chunks = body.into_data_stream();
        let (mut first, mut all, mut held) = (Bytes::new(), BytesMut::new(), None);
        loop {
            let next = tokio::time::timeout(self.patience.piece, chunks.next());
            let Some(chunk) = next.await.map_err(|_| ApiError::too_slow())? else {
                // Most requests come in one piece, which is not copied.
                return Ok((if all.is_empty() { first } else { all.freeze() }, held));
            };
            let chunk = chunk.map_err(|_| ApiError::cut_short())?;
            let length = (first.len().max(all.len()) + chunk.len()) as u64;
            if length > BODY_BYTES {
                return Err(ApiError::too_large());
            }
            self.hold(&mut held, length)?;
            if first.is_empty() {
                first = chunk;
                continue;
            }
            if all.is_empty() {
                all.extend_from_slice(&first);
            }
            all.extend_from_slice(&chunk);
        }
    }

    /// Holds as many units as `length` bytes are.
    fn hold(&self, held: &mut Option<OwnedSemaphorePermit>, length: u64) -> Result<(), ApiError> {
        let units = usize::try_from(length.div_ceil(UNIT)).unwrap_or(usize::MAX);
        let has = held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let lacks = u32::try_from(units.saturating_sub(has)).unwrap_or(u32::MAX);
        let more = Arc::clone(&self.bodies)
            .try_acquire_many_owned(lacks)
            .map_err(|_| ApiError::too_many())?;
        match held {
            Some(held) => held.merge(more),
            None => *held = Some(more),
        }
        Ok(())
    }
}

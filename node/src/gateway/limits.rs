//! What one client, and all of them together, may ask of this process.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use infernet_protocol::names::BODY_BYTES;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

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
/// How long a head may take, and how long a connection may be idle between requests.
pub(super) const HEAD_WITHIN: Duration = Duration::from_secs(60);
/// How long a body may take: it comes from this machine or a near one.
const BODY_WITHIN: Duration = Duration::from_secs(60);
/// How long answers may go on when the node shuts down.
pub(super) const DRAIN_WITHIN: Duration = Duration::from_secs(3);
/// Pause after a connection could not be accepted.
pub(super) const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Counts what is taken.
pub(super) struct Limits {
    requests: Arc<Semaphore>,
    bodies: Arc<Semaphore>,
}

/// One request's share, given back when dropped.
#[derive(Debug)]
pub(super) struct Share {
    _request: OwnedSemaphorePermit,
    _body: OwnedSemaphorePermit,
}

impl Limits {
    pub(super) fn new() -> Self {
        Self {
            requests: Arc::new(Semaphore::new(REQUESTS_MAX)),
            bodies: Arc::new(Semaphore::new(BODY_UNITS)),
        }
    }

    /// Takes a share and reads the body, whose length the client may have told.
    pub(super) async fn read(&self, body: axum::body::Body, told: Option<u64>) -> Result<(Bytes, Share), ApiError> {
        let length = told.unwrap_or(BODY_BYTES);
        if length > BODY_BYTES {
            return Err(ApiError::too_large());
        }
        let units = u32::try_from(length.div_ceil(UNIT)).unwrap_or(u32::MAX);
        let request = Arc::clone(&self.requests)
            .try_acquire_owned()
            .map_err(|_| ApiError::too_many())?;
        let held = Arc::clone(&self.bodies)
            .try_acquire_many_owned(units)
            .map_err(|_| ApiError::too_many())?;
        let read = tokio::time::timeout(BODY_WITHIN, collect(body, length)).await;
        let bytes = read.map_err(|_| ApiError::too_slow())??;
        Ok((
            bytes,
            Share {
                _request: request,
                _body: held,
            },
        ))
    }
}

async fn collect(body: axum::body::Body, most: u64) -> Result<Bytes, ApiError> {
    let mut chunks = body.into_data_stream();
    let Some(first) = chunks.next().await else {
        return Ok(Bytes::new());
    };
    let first = first.map_err(|_| ApiError::cut_short())?;
    // Most requests come in one piece, which is not copied.
    let Some(second) = chunks.next().await else {
        return Ok(first);
    };
    let mut all = BytesMut::from(&first[..]);
    let mut next = Some(second);
    while let Some(chunk) = next {
        let chunk = chunk.map_err(|_| ApiError::cut_short())?;
        if (all.len() + chunk.len()) as u64 > most {
            return Err(ApiError::too_large());
        }
        all.extend_from_slice(&chunk);
        next = chunks.next().await;
    }
    Ok(all.freeze())
}

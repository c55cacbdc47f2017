//! Direct streams: the connection between a buyer and a worker on which prompts and answers travel.
//!
//! Implements `specs/stream.md` up to the frame; what frames say is left to the node.
//!
//! ```text
//! Handle::open -> behaviour -> handler -> substream -> DirectStream -> FrameReader + FrameWriter
//!                 prefers a     one per connection; counts, admits      opaque frames
//!                 direct one    or refuses what the peer opens
//! ```

pub(crate) mod admission;
pub(crate) mod behaviour;
pub(crate) mod frames;
mod handler;

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadHalf, WriteHalf};
use libp2p::{Multiaddr, PeerId};

pub(crate) use frames::is_unsupported;
pub use frames::{FrameError, FrameReader, FrameWriter, MAX_FRAME};

use admission::Held;

/// The reading half of a [`DirectStream`].
pub type StreamReader = FrameReader<ReadHalf<Substream>>;

/// The writing half of a [`DirectStream`].
pub type StreamWriter = FrameWriter<WriteHalf<Substream>>;

/// A substream to an authenticated peer. The connection stays up while it, or a half of it, exists.
#[derive(Debug)]
pub struct DirectStream {
    /// Who is at the other end, as proved by the connection's handshake.
    pub peer: PeerId,
    /// The address of the connection that carries the stream.
    pub address: Multiaddr,
    /// Whether a relay carries the connection.
    pub relayed: bool,
    /// Whether the peer opened the stream.
    pub inbound: bool,
    substream: Substream,
}

impl DirectStream {
    /// Frames from and to the peer.
    pub fn split(self) -> (StreamReader, StreamWriter) {
        let (reader, writer) = self.substream.split();
        (FrameReader::new(reader), FrameWriter::new(writer))
    }
}

/// The bytes under a [`DirectStream`].
///
/// A lazily negotiated substream must not be touched again, in either direction, once a read has failed (it panics), so
/// that error drops it here and later calls find it gone.
pub struct Substream {
    inner: Option<libp2p::Stream>,
    /// What it counts as while it is open.
    _held: Held,
}

impl Substream {
    fn new(inner: libp2p::Stream, held: Held) -> Self {
        Self {
            inner: Some(inner),
            _held: held,
        }
    }
}

impl fmt::Debug for Substream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Substream")
            .field("open", &self.inner.is_some())
            .finish()
    }
}

impl AsyncRead for Substream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let Some(stream) = self.inner.as_mut() else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        let outcome = Pin::new(stream).poll_read(cx, buf);
        if matches!(outcome, Poll::Ready(Err(_))) {
            self.inner = None;
        }
        outcome
    }
}

/// A failed write leaves the substream readable: what the peer said last (a refusal, say) may still wait there.
impl AsyncWrite for Substream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.inner.as_mut() {
            Some(stream) => Pin::new(stream).poll_write(cx, buf),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.inner.as_mut() {
            Some(stream) => Pin::new(stream).poll_flush(cx),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.inner.as_mut() {
            Some(stream) => Pin::new(stream).poll_close(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}

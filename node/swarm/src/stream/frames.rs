//! Frames on a byte stream: a `u32` big-endian length, then that many opaque bytes.
//!
//! Implements "Frames" of `specs/stream.md`. What is inside a frame, and how payloads that are ready together become one
//! frame, is left to the caller; this file only cuts, joins, bounds and paces.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::io::{AsyncRead, AsyncWrite};
use libp2p::core::upgrade::NegotiationError;
use tokio::time::Instant;

/// Longest frame payload in bytes, both ways. Longer content travels in parts.
pub const MAX_FRAME: usize = 1024 * 1024;

/// Bytes in front of every payload.
const HEADER: usize = 4;

/// Bytes taken from the stream in one read: a whole Yamux data frame fits, and an idle reader stays small.
const READ_CHUNK: usize = 16 * 1024;

/// A write buffer larger than this is given back after the frame that needed it.
const KEEP_BUFFER: usize = 64 * 1024;

/// Paced frames that are never held: the first tokens of an answer are what a person waits for.
const UNHELD_FRAMES: u32 = 4;

/// Shortest time between two writes once pacing holds. Measured: below it the kernel's wake-ups cost more than the wait.
const PACE: Duration = Duration::from_millis(1);

/// Held bytes that are written without waiting for the pace, so that pacing never limits throughput.
const PACE_BYTES: usize = 32 * 1024;

/// Why a frame could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The frame, ours or the peer's, is longer than the protocol allows. Nothing of it was kept.
    #[error("frame of {len} bytes is longer than the {max} allowed; split it into parts")]
    TooLarge {
        /// Length of the offending payload in bytes.
        len: usize,
        /// The bound, [`MAX_FRAME`].
        max: usize,
    },
    /// The stream ended inside a frame.
    #[error("stream ended {missing} bytes before the end of a frame; ask again on a new stream")]
    Truncated {
        /// Bytes that were announced and did not come (of the header where that is incomplete).
        missing: usize,
    },
    /// The peer does not speak the stream protocol. With lazy negotiation this shows at the first read.
    #[error("the peer does not speak the direct stream protocol; choose another peer")]
    Unsupported,
    /// The connection failed.
    #[error("direct stream failed: {0}; ask again on a new stream")]
    Io(#[source] io::Error),
}

impl From<io::Error> for FrameError {
    fn from(error: io::Error) -> Self {
        if is_unsupported(&error) {
            Self::Unsupported
        } else {
            Self::Io(error)
        }
    }
}

/// Whether an error says that the peer did not agree to a lazily negotiated protocol.
pub(crate) fn is_unsupported(error: &io::Error) -> bool {
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<NegotiationError>());
    matches!(inner, Some(NegotiationError::Failed))
}

/// The reading half of a stream. After an error it stays failed.
#[derive(Debug)]
pub struct FrameReader<R> {
    io: R,
    /// Bytes that came and are not yet handed out; begins at a header.
    buffer: BytesMut,
    /// Where the stream is read into; part of the reader so that a dropped `next` loses nothing.
    chunk: Box<[u8]>,
    ended: bool,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Reads frames from `io`.
    pub fn new(io: R) -> Self {
        Self {
            io,
            buffer: BytesMut::new(),
            chunk: vec![0; READ_CHUNK].into(),
            ended: false,
        }
    }

    /// The next frame's payload, or `None` where the stream ended between two frames.
    /// Dropping the future before it is ready loses nothing.
    ///
    /// # Errors
    /// [`FrameError`]; the stream is of no use afterwards, and further calls answer `None`.
    pub async fn next(&mut self) -> Result<Option<Bytes>, FrameError> {
        if self.ended {
            return Ok(None);
        }
        let outcome = self.read_frame().await;
        self.ended = !matches!(outcome, Ok(Some(_)));
        outcome
    }

    async fn read_frame(&mut self) -> Result<Option<Bytes>, FrameError> {
        loop {
            let missing = match self.buffer.first_chunk::<HEADER>() {
                None => HEADER - self.buffer.len(),
                Some(header) => {
                    let len = usize::try_from(u32::from_be_bytes(*header)).unwrap_or(usize::MAX);
                    if len > MAX_FRAME {
                        return Err(FrameError::TooLarge { len, max: MAX_FRAME });
                    }
                    let have = self.buffer.len() - HEADER;
                    if have >= len {
                        self.buffer.advance(HEADER);
                        return Ok(Some(self.buffer.split_to(len).freeze()));
                    }
                    len - have
                }
            };
            let read = std::future::poll_fn(|cx| Pin::new(&mut self.io).poll_read(cx, &mut self.chunk)).await?;
            if read == 0 {
                return if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(FrameError::Truncated { missing })
                };
            }
            self.buffer.extend_from_slice(&self.chunk[..read]);
        }
    }
}

/// The writing half of a stream: one buffer, and one write for all that is in it.
///
/// Every method may be dropped before it is ready; what it took over is written by the next call.
#[derive(Debug)]
pub struct FrameWriter<W> {
    io: W,
    buffer: BytesMut,
    /// Paced frames since the pace was last restarted.
    paced: u32,
    last_write: Instant,
    /// Whether what is held must not wait for the pace.
    hurry: bool,
    /// Whether a flush was begun and not finished.
    unflushed: bool,
    written: u64,
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    /// Writes frames to `io`.
    pub fn new(io: W) -> Self {
        Self {
            io,
            buffer: BytesMut::new(),
            paced: 0,
            last_write: Instant::now(),
            hurry: false,
            unflushed: false,
            written: 0,
        }
    }

    /// Writes a frame, and all that was held, at once. Waits while the peer does not read.
    ///
    /// # Errors
    /// [`FrameError::TooLarge`] before anything is written; [`FrameError::Io`] where the connection failed.
    pub async fn send(&mut self, frame: impl AsRef<[u8]>) -> Result<(), FrameError> {
        self.take(frame.as_ref())?;
        self.flush().await
    }

    /// Takes a frame of a long answer: the first few are written at once, later ones at most once per millisecond and
    /// together. Where frames are left [held](Self::held), the caller waits for [`due`](Self::due) beside its other
    /// work and then calls [`flush`](Self::flush); the last frame goes through [`send`](Self::send).
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn send_paced(&mut self, frame: impl AsRef<[u8]>) -> Result<(), FrameError> {
        self.take(frame.as_ref())?;
        self.paced = self.paced.saturating_add(1);
        let unheld = self.paced <= UNHELD_FRAMES;
        if unheld || self.buffer.len() >= PACE_BYTES || self.last_write.elapsed() >= PACE {
            self.flush().await?;
        }
        Ok(())
    }

    /// Takes a frame without writing it: what is held goes out together, with the next write.
    ///
    /// # Errors
    /// [`FrameError::TooLarge`].
    pub fn hold(&mut self, frame: impl AsRef<[u8]>) -> Result<(), FrameError> {
        self.hurry = true;
        self.take(frame.as_ref())
    }

    /// As [`hold`](Self::hold), for a frame that nobody waits for: it goes out with the next one, or a millisecond
    /// later.
    ///
    /// # Errors
    /// [`FrameError::TooLarge`].
    pub fn hold_back(&mut self, frame: impl AsRef<[u8]>) -> Result<(), FrameError> {
        if self.buffer.is_empty() {
            self.last_write = Instant::now();
        }
        self.take(frame.as_ref())
    }

    /// As [`hold`](Self::hold), for a frame of a long answer: [`due`](Self::due) tells when to [`flush`](Self::flush),
    /// at once for the first few and at most once per millisecond for later ones.
    ///
    /// # Errors
    /// [`FrameError::TooLarge`].
    pub fn hold_paced(&mut self, frame: impl AsRef<[u8]>) -> Result<(), FrameError> {
        self.take(frame.as_ref())?;
        self.paced = self.paced.saturating_add(1);
        self.hurry |= self.paced <= UNHELD_FRAMES || self.buffer.len() >= PACE_BYTES;
        Ok(())
    }

    /// Bytes that the connection has taken so far: while some wait and this stands still, the peer does not read.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Bytes that wait to be written.
    pub fn held_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Begins a new answer: its first frames are not held.
    pub fn restart_pace(&mut self) {
        self.paced = 0;
    }

    /// Whether frames wait to be written, or to be handed to the connection.
    pub fn held(&self) -> bool {
        self.unflushed || !self.buffer.is_empty()
    }

    /// Ready when held frames are to be flushed; never, where none are held.
    pub fn due(&self) -> impl Future<Output = ()> + Send + use<W> {
        let (held, hurry, at) = (self.held(), self.hurry, self.last_write + PACE);
        async move {
            match held {
                false => std::future::pending().await,
                // The timer's grain is a millisecond, so what is due now must not go through it.
                true if hurry || at <= Instant::now() => {}
                true => tokio::time::sleep_until(at).await,
            }
        }
    }

    /// Writes what is held and hands it to the connection.
    ///
    /// # Errors
    /// [`FrameError::Io`] where the connection failed.
    pub async fn flush(&mut self) -> Result<(), FrameError> {
        while !self.buffer.is_empty() {
            self.unflushed = true;
            let written = std::future::poll_fn(|cx| Pin::new(&mut self.io).poll_write(cx, &self.buffer)).await?;
            if written == 0 {
                return Err(FrameError::Io(io::ErrorKind::WriteZero.into()));
            }
            self.buffer.advance(written);
            self.written += written as u64;
        }
        if self.buffer.capacity() > KEEP_BUFFER {
            self.buffer = BytesMut::new();
        }
        self.last_write = Instant::now();
        std::future::poll_fn(|cx| Pin::new(&mut self.io).poll_flush(cx)).await?;
        self.unflushed = false;
        self.hurry = false;
        Ok(())
    }

    /// Writes what is held and ends our direction of the stream.
    ///
    /// # Errors
    /// [`FrameError::Io`] where the connection failed.
    pub async fn close(&mut self) -> Result<(), FrameError> {
        self.flush().await?;
        std::future::poll_fn(|cx| Pin::new(&mut self.io).poll_close(cx)).await?;
        Ok(())
    }

    /// What it writes to, once nothing is held.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn into_inner(self) -> W {
        self.io
    }

    fn take(&mut self, frame: &[u8]) -> Result<(), FrameError> {
        let too_large = FrameError::TooLarge {
            len: frame.len(),
            max: MAX_FRAME,
        };
        if frame.len() > MAX_FRAME {
            return Err(too_large);
        }
        let len = u32::try_from(frame.len()).map_err(|_| too_large)?;
        self.buffer.reserve(HEADER + frame.len());
        self.buffer.put_u32(len);
        self.buffer.put_slice(frame);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll};

    use futures::io::Cursor;

    use super::*;

    /// Counts writes, so that "one write per frame" is a fact.
    #[derive(Default)]
    struct Sink {
        writes: Vec<Vec<u8>>,
    }

    impl AsyncWrite for Sink {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            self.writes.push(buf.to_vec());
            Poll::Ready(Ok(buf.len()))
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn a_frame_is_its_length_and_its_bytes_in_one_write() {
        let mut writer = FrameWriter::new(Sink::default());
        writer.send(b"hello").await.unwrap();
        assert_eq!(writer.io.writes, [b"\x00\x00\x00\x05hello".to_vec()]);
    }

    #[tokio::test]
    async fn frames_come_out_as_they_went_in_whatever_the_reads() {
        let mut reader = FrameReader::new(Cursor::new(
            b"\x00\x00\x00\x02ab\x00\x00\x00\x00\x00\x00\x00\x01c".to_vec(),
        ));
        assert_eq!(reader.next().await.unwrap().unwrap(), "ab");
        assert_eq!(reader.next().await.unwrap().unwrap(), "");
        assert_eq!(reader.next().await.unwrap().unwrap(), "c");
        assert!(reader.next().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn an_oversized_frame_names_both_sizes_before_it_is_read() {
        let mut reader = FrameReader::new(Cursor::new(b"\x00\x10\x00\x01rest".to_vec()));
        let error = reader.next().await.unwrap_err();
        assert!(
            matches!(
                error,
                FrameError::TooLarge {
                    len: 1_048_577,
                    max: MAX_FRAME
                }
            ),
            "{error}"
        );
        assert!(
            reader.next().await.unwrap().is_none(),
            "a failed reader hands out nothing more"
        );

        let mut writer = FrameWriter::new(Sink::default());
        assert!(matches!(
            writer.send(vec![0; MAX_FRAME + 1]).await,
            Err(FrameError::TooLarge { .. })
        ));
        assert!(writer.io.writes.is_empty());
        writer.send(vec![0; MAX_FRAME]).await.unwrap();
    }

    #[tokio::test]
    async fn an_end_inside_a_frame_is_truncation_in_header_and_payload() {
        let mut reader = FrameReader::new(Cursor::new(b"\x00\x00\x00\x05hel".to_vec()));
        assert!(matches!(reader.next().await, Err(FrameError::Truncated { missing: 2 })));
        let mut reader = FrameReader::new(Cursor::new(b"\x00\x00\x00".to_vec()));
        assert!(matches!(reader.next().await, Err(FrameError::Truncated { missing: 1 })));
    }

    #[tokio::test]
    async fn what_is_urgent_is_due_at_once() {
        let mut writer = FrameWriter::new(Sink::default());
        writer.last_write = Instant::now() + Duration::from_secs(60);
        let due = |writer: &FrameWriter<Sink>| futures::FutureExt::now_or_never(writer.due()).is_some();
        assert!(!due(&writer), "nothing is held");
        writer.hold_paced(b"first").unwrap();
        assert!(due(&writer) && writer.held_bytes() == 9);
        writer.flush().await.unwrap();
        for _ in 1..UNHELD_FRAMES {
            writer.hold_paced(b"second").unwrap();
        }
        writer.flush().await.unwrap();
        writer.last_write = Instant::now() + Duration::from_secs(60);
        writer.hold_paced(b"later").unwrap();
        assert!(!due(&writer), "it waits for the pace");
        writer.hold(b"beat").unwrap();
        assert!(due(&writer), "what is urgent takes along what waits");
    }

    #[tokio::test]
    async fn pacing_holds_later_frames_and_writes_them_together() {
        let mut writer = FrameWriter::new(Sink::default());
        for n in 0..UNHELD_FRAMES {
            writer.send_paced([u8::try_from(n).unwrap()]).await.unwrap();
            assert!(!writer.held());
        }
        // As if the last write were still to come, so that a slow machine does not find the pace over.
        let unhurried = Instant::now() + Duration::from_secs(60);
        writer.last_write = unhurried;
        writer.send_paced(b"x").await.unwrap();
        writer.send_paced(b"y").await.unwrap();
        assert!(writer.held());
        writer.last_write = Instant::now();
        writer.due().await;
        writer.flush().await.unwrap();
        let writes = &writer.io.writes;
        assert_eq!(writes.len(), usize::try_from(UNHELD_FRAMES).unwrap() + 1);
        assert_eq!(writes.last().unwrap(), b"\x00\x00\x00\x01x\x00\x00\x00\x01y");

        writer.last_write = unhurried;
        writer.send_paced(b"held").await.unwrap();
        assert!(writer.held());
        writer.send(b"end").await.unwrap();
        assert_eq!(
            writer.io.writes.last().unwrap(),
            b"\x00\x00\x00\x04held\x00\x00\x00\x03end"
        );
        writer.restart_pace();
        writer.send_paced(b"first").await.unwrap();
        assert!(!writer.held());
    }
}

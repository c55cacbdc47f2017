//! One substream of a direct stream with its session: frames in and out, checked against what may come when.
//!
//! Implements `specs/stream.md` between the bytes of `infernet_swarm` and the two spines.

use std::time::Duration;

use bytes::Bytes;
use infernet_protocol::codec::Malformed;
use infernet_protocol::names::{BEAT_EVERY, BEATS_MISSED};
use infernet_protocol::stream::frames::{BuyerFrame, WorkerFrame};
use infernet_protocol::stream::session::{BuyerSession, ToBuyer, ToWorker, Violation, WorkerSession};
use infernet_protocol::{NodeId, identity::KeyError};
use infernet_swarm::{DirectStream, FrameError, StreamReader, StreamWriter};
use tokio::time::Instant;

/// Silence from a worker that counts as its loss: three beats, and a fifth of a second for the network between.
pub(crate) const SILENCE: Duration = Duration::from_millis(BEAT_EVERY.0 as u64 * BEATS_MISSED as u64 + 200);
/// A peer that takes nothing for this long is given up. Back-pressure of a living consumer is shorter.
pub(crate) const STALLED: Duration = Duration::from_secs(60);

/// Why a line is of no more use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LineError {
    /// The stream ended or failed.
    #[error("the connection was lost")]
    Lost,
    /// Nothing came for [`SILENCE`].
    #[error("the provider fell silent")]
    Silent,
    /// The peer did not read for [`STALLED`].
    #[error("the peer does not read")]
    Stalled,
    /// The peer does not speak the protocol.
    #[error("the peer does not speak the direct stream protocol")]
    Unsupported,
    /// A frame was no frame.
    #[error("the peer sent a malformed frame: {0}")]
    Malformed(#[from] Malformed),
    /// A frame came where it has no place.
    #[error("the peer broke the protocol: {0}")]
    Violation(#[from] Violation),
    /// The frame is above the limit.
    #[error("the peer sent a frame above the limit")]
    Oversized,
    /// The peer's key cannot trade.
    #[error("the peer cannot trade: {0}")]
    Key(#[from] KeyError),
}

impl LineError {
    /// Whether the peer broke the rules, rather than the network or the machine.
    pub(crate) fn is_fault_of_peer(&self) -> bool {
        matches!(self, Self::Malformed(_) | Self::Violation(_) | Self::Oversized)
    }
}

impl From<FrameError> for LineError {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::TooLarge { .. } => Self::Oversized,
            FrameError::Unsupported => Self::Unsupported,
            FrameError::Truncated { .. } | FrameError::Io(_) => Self::Lost,
        }
    }
}

async fn unstalled<T>(sending: impl Future<Output = Result<T, FrameError>>) -> Result<T, LineError> {
    match tokio::time::timeout(STALLED, sending).await {
        Ok(sent) => Ok(sent?),
        Err(_) => Err(LineError::Stalled),
    }
}

/// The buyer's end.
#[derive(Debug)]
pub(crate) struct BuyerLine {
    reader: StreamReader,
    writer: StreamWriter,
    session: BuyerSession,
    relayed: bool,
    fell_silent: bool,
}

impl BuyerLine {
    pub(crate) fn new(stream: DirectStream) -> Self {
        let relayed = stream.relayed;
        let (reader, writer) = stream.split();
        Self {
            reader,
            writer,
            session: BuyerSession::default(),
            relayed,
            fell_silent: false,
        }
    }

    /// Sends frames in one write.
    pub(crate) async fn send(&mut self, frames: &[BuyerFrame]) -> Result<(), LineError> {
        let Some((last, first)) = frames.split_last() else {
            return Ok(());
        };
        for frame in first {
            self.writer.hold(frame.to_bytes())?;
        }
        for frame in frames {
            match frame {
                BuyerFrame::Request(_) => self.session.requested(),
                BuyerFrame::Resume(resume) => self.session.resumed(resume.next),
                _ => {}
            }
        }
        unstalled(self.writer.send(last.to_bytes())).await
    }

    /// Puts a frame before the next that is sent.
    pub(crate) fn hold(&mut self, frame: &BuyerFrame) -> Result<(), LineError> {
        Ok(self.writer.hold(frame.to_bytes())?)
    }

    /// The worker's next frame. Safe to drop before it is ready.
    pub(crate) async fn next(&mut self) -> Result<ToBuyer, LineError> {
        let bytes = match tokio::time::timeout(SILENCE, self.reader.next()).await {
            Ok(frame) => frame?.ok_or(LineError::Lost)?,
            Err(_) => {
                self.fell_silent = true;
                return Err(LineError::Silent);
            }
        };
        Ok(self.session.on_frame(WorkerFrame::from_bytes(&bytes)?)?)
    }

    /// Whether it leads through a relay.
    pub(crate) fn is_relayed(&self) -> bool {
        self.relayed
    }

    /// Whether its connection may be dead without anybody having been told.
    pub(crate) fn fell_silent(&self) -> bool {
        self.fell_silent
    }

    /// Whether another request may use it.
    pub(crate) fn is_idle(&self) -> bool {
        self.session.is_idle()
    }
}

/// The worker's end.
#[derive(Debug)]
pub(crate) struct WorkerLine {
    /// Who is at the other end, by the key that its connection proved.
    pub(crate) peer: NodeId,
    reader: StreamReader,
    writer: StreamWriter,
    session: WorkerSession,
    patience: Patience,
}

impl WorkerLine {
    pub(crate) fn new(stream: DirectStream) -> Result<Self, LineError> {
        let peer = NodeId::from_peer_id_bytes(&stream.peer.to_bytes())?;
        let (reader, writer) = stream.split();
        Ok(Self {
            peer,
            reader,
            writer,
            session: WorkerSession::default(),
            patience: Patience::new(Instant::now()),
        })
    }

    /// The buyer's next frame; `None` where it closed the line. Safe to drop before it is ready.
    pub(crate) async fn next(&mut self) -> Result<Option<ToWorker>, LineError> {
        let Some(bytes) = self.reader.next().await? else {
            return Ok(None);
        };
        Ok(Some(self.session.on_frame(BuyerFrame::from_bytes(&bytes)?)?))
    }

    /// Puts a frame of an answer behind those that wait to be written; the first few of an answer are due at once.
    pub(crate) fn hold(&mut self, frame: &[u8]) -> Result<(), LineError> {
        Ok(self.writer.hold_paced(frame)?)
    }

    /// Puts a frame before the next one: nobody waits for it.
    pub(crate) fn hold_back(&mut self, frame: impl Into<WorkerFrame>) -> Result<(), LineError> {
        Ok(self.writer.hold_back(frame.into().to_bytes())?)
    }

    /// Puts a frame behind those that wait, and has all of them written at once.
    pub(crate) fn hold_now(&mut self, frame: impl Into<WorkerFrame>) -> Result<(), LineError> {
        Ok(self.writer.hold(frame.into().to_bytes())?)
    }

    /// Whether frames wait, so that more should not be taken from the engine.
    pub(crate) fn is_full(&self) -> bool {
        self.writer.held_bytes() >= HELD_BYTES
    }

    /// Both at once: the buyer's next frame, or the end of a write.
    pub(crate) async fn turn(&mut self) -> Result<Turn, LineError> {
        let Self {
            reader,
            writer,
            session,
            patience,
            ..
        } = self;
        let ends = patience.ends(writer.held(), writer.written(), Instant::now());
        let draining = async {
            writer.due().await;
            match tokio::time::timeout_at(ends, writer.flush()).await {
                Ok(flushed) => Ok(flushed?),
                Err(_) => Err(LineError::Stalled),
            }
        };
        tokio::select! {
            biased;
            frame = reader.next() => match frame? {
                Some(bytes) => Ok(Turn::Frame(session.on_frame(BuyerFrame::from_bytes(&bytes)?)?)),
                None => Err(LineError::Lost),
            },
            drained = draining => drained.map(|()| Turn::Drained),
        }
    }

    /// Sends a frame, and all that waits before it, at once.
    pub(crate) async fn send(&mut self, frame: impl Into<WorkerFrame>) -> Result<(), LineError> {
        unstalled(self.writer.send(frame.into().to_bytes())).await
    }

    /// Sends frames in one write.
    pub(crate) async fn send_all(&mut self, frames: &[Bytes]) -> Result<(), LineError> {
        for frame in frames {
            self.writer.hold(frame)?;
        }
        unstalled(self.writer.flush()).await
    }

    /// The first frames of the next answer are not held.
    pub(crate) fn begin_answer(&mut self) {
        self.writer.restart_pace();
    }

    /// The request is over: its last frame was sent.
    pub(crate) fn end_request(&mut self) {
        self.session.finished();
    }
}

/// With a peer that takes nothing: it ends [`STALLED`] after the last byte that was taken, however often a write is broken
/// off for something else and begun anew.
#[derive(Debug)]
struct Patience {
    written: u64,
    since: Instant,
}

impl Patience {
    fn new(now: Instant) -> Self {
        Self { written: 0, since: now }
    }

    /// When it ends, with so many bytes taken so far and perhaps some that wait.
    fn ends(&mut self, waits: bool, written: u64, now: Instant) -> Instant {
        if !waits || written != self.written {
            (self.written, self.since) = (written, now);
        }
        self.since + STALLED
    }
}

/// Bytes that may wait to be written before the engine is made to wait: one Yamux window.
const HELD_BYTES: usize = 256 * 1024;

/// What a turn of a worker's line brought.
#[derive(Debug)]
pub(crate) enum Turn {
    /// A frame of the buyer.
    Frame(ToWorker),
    /// What was due is written.
    Drained,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_peer_that_takes_nothing_is_given_up_and_one_that_reads_slowly_is_not() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut patience = Patience::new(start);
        // Nothing waits: it begins when something does.
        assert_eq!(
            patience.ends(false, 0, start + second * 500),
            start + second * 500 + STALLED
        );
        for beat in 500..600 {
            let now = start + second * beat;
            assert_eq!(
                patience.ends(true, 0, now),
                start + second * 500 + STALLED,
                "a beat is no sign of a reader"
            );
        }
        // A byte is.
        assert_eq!(
            patience.ends(true, 1, start + second * 601),
            start + second * 601 + STALLED
        );
        assert_eq!(
            patience.ends(true, 1, start + second * 640),
            start + second * 601 + STALLED
        );
    }
}

//! What must hold of any bytes that come on a substream: for `node/swarm/fuzz`, which feeds them whatever reaches new code,
//! and for the tests, which feed them a corpus and every way to cut it short or change a byte of it.
//!
//! The first byte of an input says into pieces of what size a connection cuts the rest. A function returns where its claims
//! hold, whether the bytes were read or refused, and panics where they do not.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::FutureExt as _;
use futures::io::AsyncRead;
use libp2p::StreamProtocol;
use libp2p::request_response::Codec as _;

use crate::crawler::find_node::{self, FindNode};
use crate::exchange::{Codec, Exchange};
use crate::stream::frames::{FrameError, FrameReader, FrameWriter, MAX_FRAME};

/// Any name will do: it is not read.
const PROTOCOL: StreamProtocol = StreamProtocol::new("/fuzzing");

/// A stream that hands out so many bytes at a time, and pretends in between that none are there.
#[derive(Debug)]
struct Cut<'a> {
    left: &'a [u8],
    piece: usize,
    waits: bool,
}

impl<'a> Cut<'a> {
    fn new(input: &'a [u8]) -> Option<Self> {
        let (piece, left) = input.split_first()?;
        Some(Self {
            left,
            piece: usize::from(*piece).max(1),
            waits: false,
        })
    }
}

impl AsyncRead for Cut<'_> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.waits = !self.waits;
        if self.waits {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let count = self.piece.min(buffer.len()).min(self.left.len());
        let (now, later) = self.left.split_at(count);
        buffer[..count].copy_from_slice(now);
        self.left = later;
        Poll::Ready(Ok(count))
    }
}

/// What a future gives that waits for nothing but [`Cut`].
fn finish<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    loop {
        if let Some(done) = future.as_mut().now_or_never() {
            return done;
        }
    }
}

/// Frames of a direct stream; how many were read.
pub fn frames(input: &[u8]) -> usize {
    let Some(cut) = Cut::new(input) else { return 0 };
    let whole = cut.left;
    let mut reader = FrameReader::new(cut);
    let mut frames = Vec::new();
    let error = loop {
        // A future that is dropped and made anew loses nothing.
        let next = loop {
            if let Some(next) = reader.next().now_or_never() {
                break next;
            }
        };
        match next {
            Ok(Some(frame)) => frames.push(frame),
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };
    assert!(
        matches!(finish(reader.next()), Ok(None)),
        "what has failed or ended stays so"
    );
    let mut writer = FrameWriter::new(Vec::new());
    for frame in &frames {
        assert!(frame.len() <= MAX_FRAME, "a frame is longer than any may be");
        assert!(finish(writer.send(frame)).is_ok(), "what was read can be written");
    }
    let written = writer.into_inner();
    assert!(whole.starts_with(&written), "frames are written as they came");
    let rest = &whole[written.len()..];
    match error {
        None => assert!(rest.is_empty(), "bytes were lost without a word"),
        Some(FrameError::Truncated { missing }) => assert!(missing > 0 && !rest.is_empty()),
        Some(FrameError::TooLarge { len, .. }) => assert!(len > MAX_FRAME && rest.len() >= 4),
        Some(error) => panic!("a stream that cannot fail failed: {error}"),
    }
    frames.len()
}

/// A question and an answer of either exchange; whether any was read.
pub fn exchange(input: &[u8]) -> bool {
    let mut was_read = false;
    for exchange in [Exchange::Ad, Exchange::Offer] {
        for (is_request, most) in [(true, exchange.max_request()), (false, exchange.max_answer())] {
            let Some(mut cut) = Cut::new(input) else { return false };
            let whole = cut.left;
            let mut codec = Codec(exchange);
            let read = finish(async {
                match is_request {
                    true => codec.read_request(&PROTOCOL, &mut cut).await,
                    false => codec.read_response(&PROTOCOL, &mut cut).await,
                }
            });
            let Ok(read) = read else { continue };
            assert!(read.len() <= most, "longer than the exchange allows");
            assert_eq!(read, whole[4..4 + read.len()]);
            was_read = true;
        }
    }
    was_read
}

/// A question and an answer of the crawler's; whether an answer was read.
pub fn find_node(input: &[u8]) -> bool {
    let Some(mut cut) = Cut::new(input) else { return false };
    let Ok(answer) = finish(FindNode.read_response(&PROTOCOL, &mut cut)) else {
        return false;
    };
    assert!(answer.len() <= find_node::PEERS);
    assert!(
        answer
            .iter()
            .all(|(_, addresses)| addresses.len() <= find_node::ADDRESSES)
    );
    let mut written = Vec::from([255]);
    let mut body = futures::io::Cursor::new(Vec::new());
    assert!(finish(FindNode.write_response(&PROTOCOL, &mut body, answer.clone())).is_ok());
    written.extend(body.into_inner());
    // What was read and is written again says the same, unless it has grown too long for one answer.
    if let Some(mut cut) = Cut::new(&written)
        && let Ok(again) = finish(FindNode.read_response(&PROTOCOL, &mut cut))
    {
        assert_eq!(again, answer);
    }
    true
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Runs `holds` over the corpus of a target and changes of it; how many of the corpus itself were read.
    fn replay(target: &str, mut holds: impl FnMut(&[u8]) -> bool) -> usize {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        let files = std::fs::read_dir(folder).unwrap();
        let mut read = 0;
        for file in files {
            let input = std::fs::read(file.unwrap().path()).unwrap();
            read += usize::from(holds(&input));
            // Of a long one the beginning and the end, where the lengths stand.
            let near = |at: usize| at < 300 || input.len() - at < 50;
            for at in (0..input.len()).filter(|at| near(*at)) {
                holds(&input[..at]);
                for change in [0x01, 0x80, 0xff] {
                    let mut changed = input.clone();
                    changed[at] ^= change;
                    holds(&changed);
                }
            }
        }
        read
    }

    #[test]
    fn frames_hold() {
        assert!(replay("frames", |input| frames(input) > 0) >= 3);
    }

    #[test]
    fn exchanges_hold() {
        assert!(replay("exchange", exchange) >= 2);
    }

    #[test]
    fn answers_of_the_dht_hold() {
        assert!(replay("find_node", find_node) >= 2);
    }
}

//! One question, one answer, on a substream of its own: the ad and the offer exchange.
//!
//! On the wire both directions are a `u32` big-endian length and that many bytes, which this crate does not read.

use std::io;

use bytes::Bytes;
use futures::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use libp2p::StreamProtocol;
use libp2p::request_response;

/// Which exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Exchange {
    /// `/c0mpute/ad/1.0.0`: a question for ads, answered with ads.
    Ad,
    /// `/c0mpute/offer/1.0.0`: an offer, answered with a bid.
    Offer,
}

impl Exchange {
    /// Longest request in bytes: gossip's own bound, with room for a list around it.
    pub const fn max_request(self) -> usize {
        match self {
            Self::Ad => 16 * 1024,
            Self::Offer => 32 * 1024,
        }
    }

    /// Longest answer in bytes (`specs/capability.md`, "Ad exchange"): a list of ads; a bid is one message.
    pub const fn max_answer(self) -> usize {
        match self {
            Self::Ad => 256 * 1024,
            Self::Offer => 32 * 1024,
        }
    }
}

/// The peer announced more than the exchange allows.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("message of {len} bytes is longer than the {max} allowed")]
pub(crate) struct Oversized {
    pub(crate) len: usize,
    pub(crate) max: usize,
}

/// Reads and writes bounded byte strings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Codec(pub(crate) Exchange);

async fn read<T: AsyncRead + Unpin + Send>(io: &mut T, max: usize) -> io::Result<Bytes> {
    let mut header = [0; 4];
    io.read_exact(&mut header).await?;
    let len = usize::try_from(u32::from_be_bytes(header)).unwrap_or(usize::MAX);
    if len > max {
        return Err(io::Error::new(io::ErrorKind::InvalidData, Oversized { len, max }));
    }
    let mut data = vec![0; len];
    io.read_exact(&mut data).await?;
    Ok(data.into())
}

async fn write<T: AsyncWrite + Unpin + Send>(io: &mut T, data: &[u8]) -> io::Result<()> {
    let len = u32::try_from(data.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut message = Vec::with_capacity(data.len() + 4);
    message.extend_from_slice(&len.to_be_bytes());
    message.extend_from_slice(data);
    io.write_all(&message).await
}

impl request_response::Codec for Codec {
    type Protocol = StreamProtocol;
    type Request = Bytes;
    type Response = Bytes;

    async fn read_request<T: AsyncRead + Unpin + Send>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Bytes> {
        read(io, self.0.max_request()).await
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Bytes> {
        read(io, self.0.max_answer()).await
    }

    async fn write_request<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        request: Bytes,
    ) -> io::Result<()> {
        write(io, &request).await
    }

    async fn write_response<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        answer: Bytes,
    ) -> io::Result<()> {
        write(io, &answer).await
    }
}

#[cfg(test)]
mod tests {
    use futures::io::Cursor;

    use super::*;

    #[tokio::test]
    async fn what_is_too_long_is_refused_by_its_header_alone() {
        let error = read(
            &mut Cursor::new(b"\x00\x00\x40\x01".to_vec()),
            Exchange::Ad.max_request(),
        )
        .await
        .unwrap_err();
        let oversized = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<Oversized>())
            .unwrap();
        assert_eq!((oversized.len, oversized.max), (16_385, 16_384));
    }

    #[tokio::test]
    async fn what_is_cut_short_is_an_error() {
        assert!(
            read(&mut Cursor::new(b"\x00\x00\x00\x05abc".to_vec()), 100)
                .await
                .is_err()
        );
        assert_eq!(
            read(&mut Cursor::new(b"\x00\x00\x00\x03abc".to_vec()), 100)
                .await
                .unwrap(),
            "abc"
        );
    }
}

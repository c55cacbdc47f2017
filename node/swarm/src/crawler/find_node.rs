//! One question of Kademlia's, FIND_NODE, as a protocol of its own: the library's behaviour asks whom it sees fit, and a
//! crawler asks each peer for all that it knows. The messages are those of libp2p's `kad-dht` specification.

use std::io;

use futures::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use libp2p::{Multiaddr, PeerId, StreamProtocol, request_response};
use prost::Message as _;

/// Longest answer in bytes: twenty peers with a score of addresses each.
const ANSWER: usize = 64 * 1024;
/// Peers of an answer, and addresses of a peer, that are read.
pub(crate) const PEERS: usize = 64;
pub(crate) const ADDRESSES: usize = 16;
/// FIND_NODE in the enumeration of messages.
const FIND_NODE: i32 = 4;

/// What is asked: peers near the hash of this key.
pub(crate) type Key = Vec<u8>;
/// What is answered: peers, and where they are.
pub(crate) type Answer = Vec<(PeerId, Vec<Multiaddr>)>;

#[derive(Clone, PartialEq, prost::Message)]
struct Message {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(bytes = "vec", tag = "2")]
    key: Vec<u8>,
    #[prost(message, repeated, tag = "8")]
    closer: Vec<Peer>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Peer {
    #[prost(bytes = "vec", tag = "1")]
    id: Vec<u8>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    addresses: Vec<Vec<u8>>,
}

/// Reads and writes them, each behind its length as an unsigned varint.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct FindNode;

fn refused(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

async fn read<T: AsyncRead + Unpin + Send>(io: &mut T) -> io::Result<Message> {
    let mut length = 0;
    for shift in (0..).step_by(7) {
        let mut byte = [0];
        io.read_exact(&mut byte).await?;
        if shift > 14 {
            return Err(refused("the length of an answer is no varint of a sensible size"));
        }
        length |= usize::from(byte[0] & 0x7f) << shift;
        if byte[0] & 0x80 == 0 {
            break;
        }
    }
    if length > ANSWER {
        return Err(refused("an answer is longer than any is"));
    }
    let mut bytes = vec![0; length];
    io.read_exact(&mut bytes).await?;
    Message::decode(bytes.as_slice()).map_err(|_| refused("an answer is not of Kademlia"))
}

async fn write<T: AsyncWrite + Unpin + Send>(io: &mut T, message: &Message) -> io::Result<()> {
    io.write_all(&message.encode_length_delimited_to_vec()).await?;
    io.close().await
}

impl request_response::Codec for FindNode {
    type Protocol = StreamProtocol;
    type Request = Key;
    type Response = Answer;

    async fn read_request<T: AsyncRead + Unpin + Send>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Key> {
        Ok(read(io).await?.key)
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Answer> {
        let answer = read(io).await?;
        let peers = answer.closer.into_iter().take(PEERS).filter_map(|peer| {
            let addresses = peer.addresses.into_iter().take(ADDRESSES);
            let addresses = addresses.filter_map(|bytes| Multiaddr::try_from(bytes).ok());
            Some((PeerId::from_bytes(&peer.id).ok()?, addresses.collect()))
        });
        Ok(peers.collect())
    }

    async fn write_request<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        key: Key,
    ) -> io::Result<()> {
        let message = Message {
            kind: FIND_NODE,
            key,
            closer: Vec::new(),
        };
        write(io, &message).await
    }

    async fn write_response<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        answer: Answer,
    ) -> io::Result<()> {
        let peer = |(id, addresses): (PeerId, Vec<Multiaddr>)| Peer {
            id: id.to_bytes(),
            addresses: addresses.iter().map(Multiaddr::to_vec).collect(),
        };
        let message = Message {
            kind: FIND_NODE,
            key: Vec::new(),
            closer: answer.into_iter().map(peer).collect(),
        };
        write(io, &message).await
    }
}

#[cfg(test)]
mod tests {
    use futures::io::Cursor;
    use libp2p::request_response::Codec as _;

    use super::*;

    const PROTOCOL: StreamProtocol = StreamProtocol::new("/test");

    #[tokio::test]
    async fn a_question_is_written_as_the_specification_says() {
        let mut written = Cursor::new(Vec::new());
        FindNode
            .write_request(&PROTOCOL, &mut written, vec![0xaa, 0xbb])
            .await
            .unwrap();
        // A length of six; field 1, varint 4; field 2, two bytes.
        assert_eq!(written.into_inner(), [6, 0x08, 4, 0x12, 2, 0xaa, 0xbb]);
    }

    #[tokio::test]
    async fn an_answer_comes_back_and_nonsense_is_refused() {
        let answer = vec![(PeerId::random(), vec!["/ip4/203.0.113.7/tcp/1".parse().unwrap()])];
        let mut written = Cursor::new(Vec::new());
        FindNode
            .write_response(&PROTOCOL, &mut written, answer.clone())
            .await
            .unwrap();
        let bytes = written.into_inner();
        let read = |bytes: Vec<u8>| async move { FindNode.read_response(&PROTOCOL, &mut Cursor::new(bytes)).await };
        assert_eq!(read(bytes.clone()).await.unwrap(), answer);
        for bad in [
            vec![],
            vec![0xff; 8],
            vec![0xff, 0xff, 0x7f],
            vec![3, 0xff, 0xff, 0xff],
            bytes[..bytes.len() - 1].to_vec(),
        ] {
            assert!(read(bad.clone()).await.is_err(), "{bad:?}");
        }
    }
}

//! What a message costs on the wire: the encoded message, what carries it, and the headers below.
//!
//! The protobuf shapes are those of gossipsub (libp2p specs, `pubsub/gossipsub`, `RPC`) and Kademlia (`kad-dht`,
//! `Message`). Each packet is counted as if it went alone; a busy connection packs several into one.

use infernet_protocol::Network;
use infernet_protocol::names::INFERENCE;

/// Yamux header 12, Noise length and tag 18, IPv4 and TCP headers 40.
pub(crate) const PACKET: u32 = 70;

/// Bytes of a message id: the start of a SHA-256 (`specs/auction.md`, "Gossip").
const ID: u32 = 20;

/// Each way of a connection being made over TCP: handshake of TCP, negotiation, Noise XX, identify with its protocols
/// and addresses, the subscriptions. Measured by no one; the parts add up to about this.
pub(crate) const HANDSHAKE: u32 = 2_000;

/// Topics: ads, auctions.
pub(crate) const TOPICS: usize = 2;
/// The topic of ads.
pub(crate) const ADS: usize = 0;
/// The topic of auctions.
pub(crate) const JOBS: usize = 1;

/// Bytes of a peer in a Kademlia answer: id 41, two addresses with their tags 26, kind of connection 2, frame 3.
const PEER: u32 = 72;
/// A Kademlia question: type 2, key 36, length 2.
pub(crate) const QUESTION: u32 = 40 + PACKET;
/// A record sent to be stored.
pub(crate) const RECORD: u32 = QUESTION + PEER;

/// A Kademlia answer that names that many peers.
pub(crate) fn answer(peers: usize) -> u32 {
    u32::try_from(peers).unwrap_or(0) * PEER + 4 + PACKET
}

fn varint(value: u32) -> u32 {
    match value {
        0..=0x7f => 1,
        0x80..=0x3fff => 2,
        _ => 3,
    }
}

/// A field of that many bytes with its tag and length.
fn field(bytes: u32) -> u32 {
    1 + varint(bytes) + bytes
}

/// Sizes on the two topics.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wire {
    topics: [u32; TOPICS],
}

impl Default for Wire {
    fn default() -> Self {
        let network = Network::default();
        let length = |name: String| u32::try_from(name.len()).unwrap_or(0);
        Self {
            topics: [
                length(network.capability_topic()),
                length(network.jobs_topic(INFERENCE)),
            ],
        }
    }
}

impl Wire {
    fn rpc(body: u32) -> u32 {
        varint(body) + body + PACKET
    }

    /// A message with that much data, published or forwarded.
    pub(crate) fn data(&self, topic: usize, data: u32) -> u32 {
        Self::rpc(field(field(data) + field(self.topics[topic])))
    }

    /// IHAVE with that many ids.
    pub(crate) fn have(&self, topic: usize, ids: usize) -> u32 {
        let ids = u32::try_from(ids).unwrap_or(0);
        Self::rpc(field(field(field(self.topics[topic]) + ids * field(ID))))
    }

    /// IWANT with that many ids.
    pub(crate) fn want(&self, ids: usize) -> u32 {
        let ids = u32::try_from(ids).unwrap_or(0);
        Self::rpc(field(field(ids * field(ID))))
    }

    /// GRAFT or PRUNE.
    pub(crate) fn graft(&self, topic: usize) -> u32 {
        Self::rpc(field(field(field(self.topics[topic]))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_protobuf() {
        let wire = Wire::default();
        // Topic `c0mpute/cap/v1` has 14 bytes: field 16; data of 300 bytes: field 303; in all 319, and 322 as a
        // field.
        assert_eq!(wire.data(ADS, 300), 2 + 322 + PACKET);
        assert_eq!(wire.have(ADS, 2), 1 + (2 + 2 + 16 + 44) + PACKET);
        assert_eq!(wire.want(1), 1 + (2 + 2 + 22) + PACKET);
    }
}

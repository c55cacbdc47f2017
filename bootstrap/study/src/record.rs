//! What a recording consists of: records, each `[kind, at, body]`. Implements `specs/recording.md`, "Records".

use infernet_protocol::codec::{Blob, List, Malformed, Reader, Text, Wire, Writer};
use infernet_protocol::names::{GOSSIP_BYTES, PAYLOAD_BYTES};
use infernet_protocol::{Digest, Millis, NodeId, UnixMillis, wire_enum, wire_struct};

use crate::place::{Path, Transport};

/// First word of a recording: evidence, as it passed.
pub const RECORDING: &str = "infernet-recording";
/// First word of a publication: nobody is named, nothing is signed.
pub const PUBLICATION: &str = "infernet-publication";
/// The version that is written and read.
pub const VERSION: u16 = 1;

/// Largest record in bytes: a gossip message with room for all that stands around it.
pub const RECORD_BYTES: usize = 20 * 1024;
/// Longest peer id in bytes: a multihash with a digest of 64.
const PEER_BYTES: usize = 72;
/// Bytes of a pseudonym, of a recording's id and of a recorder's.
pub const PSEUDONYM_BYTES: usize = 16;

/// A peer of the DHT: the bytes of its PeerId, or in a publication the 16 bytes of a pseudonym.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peer(Vec<u8>);

impl Peer {
    /// From the bytes of a PeerId or a pseudonym; `None` where they cannot be either.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        (1..=PEER_BYTES).contains(&bytes.len()).then(|| Self(bytes.to_vec()))
    }

    /// The peer that a node is.
    #[must_use]
    pub fn of_node(node: &NodeId) -> Self {
        Self(node.peer_id_bytes().to_vec())
    }

    /// The peer of a signer: its PeerId, or in a publication, where signers are pseudonyms, the first half of that.
    #[must_use]
    pub fn of_signer(signer: &NodeId, is_pseudonym: bool) -> Self {
        if is_pseudonym {
            Self(signer.as_bytes()[..PSEUDONYM_BYTES].to_vec())
        } else {
            Self::of_node(signer)
        }
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Display for Peer {
    /// A PeerId in base58, as libp2p prints it; a pseudonym in hex.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.len() == PSEUDONYM_BYTES {
            f.pad(&hex::encode(&self.0))
        } else {
            f.pad(&bs58::encode(&self.0).into_string())
        }
    }
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Peer({self})")
    }
}

impl std::str::FromStr for Peer {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = match hex::decode(text) {
            Ok(bytes) if bytes.len() == PSEUDONYM_BYTES => bytes,
            _ => bs58::decode(text)
                .into_vec()
                .map_err(|_| "a peer is base58, or 32 hex digits")?,
        };
        Self::new(&bytes).ok_or("a peer id has 1 to 72 bytes")
    }
}

impl Wire for Peer {
    fn encode(&self, writer: &mut Writer) {
        writer.bytes(&self.0);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let bytes = reader.bytes(PEER_BYTES)?;
        Self::new(&bytes).ok_or_else(|| reader.refuse("peer is empty"))
    }
}

wire_struct! {
    /// The first record of each file: what made it, and how.
    pub struct Header {
        /// [`RECORDING`] or [`PUBLICATION`].
        pub format: Text<32>,
        /// [`VERSION`].
        pub version: u16,
        /// Name of the network.
        pub network: Text<32>,
        /// Who recorded: the same for all recordings of one node, and nobody's PeerId.
        pub recorder: [u8; 16],
        /// This recording: drawn at random when the recorder starts.
        pub recording: [u8; 16],
        /// When the recording began, maybe in an earlier file.
        pub began_at: UnixMillis,
        /// Place of the file in its recording, from 1.
        pub file: u32,
        /// Program and version.
        pub agent: Text<64>,
        /// Time from one sample to the next; 0 where none are taken.
        pub sample_every: Millis,
        /// What may be lost in a kill: records are compressed and synced at least this often.
        pub sync_every: Millis,
    }
}

impl Header {
    /// Whether names in it are pseudonyms and nothing is signed.
    #[must_use]
    pub fn is_publication(&self) -> bool {
        self.format.as_str() == PUBLICATION
    }
}

wire_enum! {
    /// What the recorder did with a gossip message.
    pub enum Verdict {
        /// Forwarded it.
        Accept = 0 => "accepted",
        /// Kept it, and blamed nobody.
        Ignore = 1 => "ignored",
        /// Kept it, and held it against the peer that handed it over.
        Reject = 2 => "rejected",
        /// Kept it without a look, since there was too much to do.
        Pass = 3 => "unjudged",
    }
}

wire_struct! {
    /// A gossip message as it passed.
    pub struct Heard {
        /// The topic in full.
        pub topic: Text<128>,
        /// The peer that handed it over first.
        pub source: Peer,
        /// What became of it.
        pub verdict: Verdict,
        /// The message.
        pub data: Blob<GOSSIP_BYTES>,
    }
}

wire_struct! {
    /// A message without its signature. All names in it are pseudonyms, and so is the hash.
    pub struct Unsigned {
        /// Number of its kind.
        pub kind: u16,
        /// Who signed it.
        pub signer: NodeId,
        /// How other messages name it.
        pub hash: Digest,
        /// The message's encoding.
        pub payload: Blob<PAYLOAD_BYTES>,
    }
}

/// Messages in one gossip message: a settled receipt has two.
pub const MESSAGES: usize = 2;

wire_struct! {
    /// A gossip message in a publication.
    pub struct Published {
        /// The topic in full.
        pub topic: Text<128>,
        /// The peer that handed it over first.
        pub source: Peer,
        /// What became of it.
        pub verdict: Verdict,
        /// Bytes that it had on the wire.
        pub size: u32,
        /// What it said; nothing where it was not accepted or could not be read.
        pub messages: List<Unsigned, MESSAGES>,
    }
}

wire_enum! {
    /// What happened to a peer.
    pub enum Change {
        /// The first connection to it came up.
        Connected = 0 => "connected",
        /// The last one went.
        Disconnected = 1 => "disconnected",
        /// More was learnt of it, or it is reached in another way.
        Described = 2 => "described",
    }
}

wire_struct! {
    /// A peer of the recorder came, went or changed.
    pub struct PeerEvent {
        /// The peer.
        pub peer: Peer,
        /// What happened.
        pub change: Change,
        /// How bytes travel.
        pub transport: Transport,
        /// Whether a relay is between.
        pub path: Path,
        /// Whether the recorder dialled; null where it is not known.
        pub outbound: Option<bool>,
        /// What the peer says its program is.
        pub agent: Option<Text<64>>,
    }
}

wire_struct! {
    /// The recorder's own state at one instant.
    pub struct Sample {
        /// Connected peers.
        pub peers: u32,
        /// Those of them that are reached through relays alone.
        pub relayed: u32,
        /// Fresh ads held.
        pub ads: u32,
        /// Peers in the gossip meshes; null where it is not known.
        pub mesh: Option<u32>,
        /// Median round trip to connected peers; null where none was measured.
        pub round_trip: Option<Millis>,
    }
}

wire_struct! {
    /// Records that the recorder could not take since the last one.
    pub struct Lost {
        /// How many.
        pub records: u64,
    }
}

/// What is in a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Kind 0.
    Header(Header),
    /// Kind 1.
    Heard(Heard),
    /// Kind 2.
    Peer(PeerEvent),
    /// Kind 3.
    Sample(Sample),
    /// Kind 4.
    Lost(Lost),
    /// Kind 5, in publications instead of kind 1.
    Published(Published),
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// When it happened, on the recorder's clock.
    pub at: UnixMillis,
    /// What happened.
    pub body: Body,
}

impl Wire for Record {
    fn encode(&self, writer: &mut Writer) {
        let mut put = |kind: u64, body: &dyn Fn(&mut Writer)| {
            writer.array(3);
            writer.uint(kind);
            self.at.encode(writer);
            body(writer);
        };
        match &self.body {
            Body::Header(body) => put(0, &|writer| body.encode(writer)),
            Body::Heard(body) => put(1, &|writer| body.encode(writer)),
            Body::Peer(body) => put(2, &|writer| body.encode(writer)),
            Body::Sample(body) => put(3, &|writer| body.encode(writer)),
            Body::Lost(body) => put(4, &|writer| body.encode(writer)),
            Body::Published(body) => put(5, &|writer| body.encode(writer)),
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        reader.array(3).map_err(|error| error.within("record"))?;
        let kind = reader.uint(u64::MAX)?;
        let at = UnixMillis::decode(reader).map_err(|error| error.within("at"))?;
        let body = match kind {
            0 => Body::Header(Wire::decode(reader)?),
            1 => Body::Heard(Wire::decode(reader)?),
            2 => Body::Peer(Wire::decode(reader)?),
            3 => Body::Sample(Wire::decode(reader)?),
            4 => Body::Lost(Wire::decode(reader)?),
            5 => Body::Published(Wire::decode(reader)?),
            _ => return Err(reader.refuse("unknown kind of record")),
        };
        Ok(Self { at, body })
    }
}

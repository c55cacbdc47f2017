//! What is written down, record by record. Implements the ledger part of `specs/receipts.md`, "Keeping receipts".

use infernet_protocol::auction::{JobAccept, JobBid, JobOffer};
use infernet_protocol::codec::{Blob, Malformed, Reader, Wire, Writer};
use infernet_protocol::receipt::chain::EnvelopeBytes;
use infernet_protocol::receipt::ledger::Seen;
use infernet_protocol::receipt::{Countersign, JobReceipt};
use infernet_protocol::{Digest, LeaseId, RequestId, UnixMillis, Verified, wire_enum, wire_struct};

wire_enum! {
    /// Which side of a lease this node is.
    pub enum Side {
        /// It buys.
        Buyer = 0 => "buyer",
        /// It sells.
        Provider = 1 => "provider",
    }
}

wire_struct! {
    /// A lease began: the three messages that make it.
    pub struct LeaseOpened {
        /// Which side this node is.
        pub side: Side,
        /// The offer's envelope.
        pub offer: EnvelopeBytes,
        /// The bid's envelope.
        pub bid: EnvelopeBytes,
        /// The accept's envelope.
        pub accept: EnvelopeBytes,
        /// When, by this node's clock.
        pub opened_at: UnixMillis,
    }
}

wire_struct! {
    /// Buyer, before it sends a request: what it is about to ask, so that a receipt for it can be judged after a crash.
    #[derive(Copy)]
    pub struct RequestMade {
        /// The lease.
        pub lease: LeaseId,
        /// The request.
        pub request: RequestId,
        /// The most input tokens that its bytes can be.
        pub input_tokens_max: u32,
        /// The most output tokens that it allows.
        pub output_tokens_max: u32,
        /// When, by this node's clock.
        pub made_at: UnixMillis,
    }
}

wire_struct! {
    /// Buyer, beside [`RequestMade`]: whose key of the gateway asked for it, so that the key's budget outlives the
    /// process.
    #[derive(Copy)]
    pub struct RequestFor {
        /// The lease.
        pub lease: LeaseId,
        /// The request.
        pub request: RequestId,
        /// The key.
        pub caller: [u8; 16],
    }
}

wire_struct! {
    /// A request that costs nothing, so that no receipt is due: it was not taken, or failed with nothing delivered, or
    /// the other side knows nothing of it.
    #[derive(Copy)]
    pub struct RequestDropped {
        /// The lease.
        pub lease: LeaseId,
        /// The request.
        pub request: RequestId,
    }
}

wire_struct! {
    /// Worker, before it runs a request: this one is used up.
    #[derive(Copy)]
    pub struct LeaseUsed {
        /// The lease.
        pub lease: LeaseId,
        /// The request.
        pub request: RequestId,
        /// When, by this node's clock.
        pub used_at: UnixMillis,
    }
}

wire_struct! {
    /// Buyer: what a provider delivered before it was lost, to be reconciled when it returns.
    #[derive(Copy)]
    pub struct Unreceipted {
        /// The lease.
        pub lease: LeaseId,
        /// The request.
        pub request: RequestId,
        /// Number of the first Data frame that did not come.
        pub next_frame: u64,
        /// The most input tokens that the request's bytes can be.
        pub input_tokens_max: u32,
        /// The most output tokens that the delivered bytes can be.
        pub output_tokens_max: u32,
        /// End of the commitment chain at the last Data frame that came.
        pub commitment: Digest,
        /// When it was lost, by this node's clock.
        pub lost_at: UnixMillis,
    }
}

impl Unreceipted {
    /// What the ledger judges a late receipt by.
    #[must_use]
    pub fn seen(&self) -> Seen {
        Seen {
            input_tokens_max: self.input_tokens_max,
            output_tokens_max: self.output_tokens_max,
            commitment: Some(self.commitment),
        }
    }
}

wire_struct! {
    /// Damage that was repaired: everything that was open then may have lost its last steps.
    #[derive(Copy)]
    pub struct Repaired {
        /// The damaged segment.
        pub segment: u64,
        /// Where the damage began.
        pub offset: u64,
        /// Bytes that could not be read.
        pub lost: u64,
    }
}

/// One thing that must not be lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A lease began.
    LeaseOpened(LeaseOpened),
    /// Buyer: a request is about to be sent.
    RequestMade(RequestMade),
    /// Buyer: whose key asked for a request.
    RequestFor(RequestFor),
    /// Buyer: a request was not taken.
    RequestDropped(RequestDropped),
    /// Worker: a request is about to run.
    LeaseUsed(LeaseUsed),
    /// Both: a receipt was issued or filed.
    Receipt(EnvelopeBytes),
    /// Both: a countersignature was given or filed.
    Countersign(EnvelopeBytes),
    /// Buyer: a provider was lost in the middle of an answer.
    Unreceipted(Unreceipted),
    /// The sequence of an ad that is about to be published.
    AdSequence(u64),
    /// The journal was repaired.
    Repaired(Repaired),
    /// What this node thinks of others; replaces the one before.
    Reputation(Vec<u8>),
    /// Addresses of nodes that were met, freshest first; replaces the ones before.
    Peers(Vec<String>),
}

impl Record {
    /// A lease that begins.
    #[must_use]
    pub fn lease_opened(
        side: Side,
        offer: &Verified<JobOffer>,
        bid: &Verified<JobBid>,
        accept: &Verified<JobAccept>,
        opened_at: UnixMillis,
    ) -> Self {
        Self::LeaseOpened(LeaseOpened {
            side,
            offer: Blob(offer.bytes().to_vec()),
            bid: Blob(bid.bytes().to_vec()),
            accept: Blob(accept.bytes().to_vec()),
            opened_at,
        })
    }

    /// A receipt, ours or a provider's.
    #[must_use]
    pub fn receipt(receipt: &Verified<JobReceipt>) -> Self {
        Self::Receipt(Blob(receipt.bytes().to_vec()))
    }

    /// A countersignature, ours or a buyer's.
    #[must_use]
    pub fn countersign(sign: &Verified<Countersign>) -> Self {
        Self::Countersign(Blob(sign.bytes().to_vec()))
    }

    /// Whether it begins something that could as well not begin: refused first when the disk is full.
    #[must_use]
    pub fn is_new_work(&self) -> bool {
        matches!(self, Self::LeaseOpened(_) | Self::RequestMade(_) | Self::LeaseUsed(_))
    }
}

/// Numbers of the records that the journal holds. Snapshots replace each other and are kept as files.
mod number {
    pub(super) const LEASE_OPENED: u8 = 1;
    pub(super) const REQUEST_MADE: u8 = 2;
    pub(super) const REQUEST_DROPPED: u8 = 3;
    pub(super) const LEASE_USED: u8 = 4;
    pub(super) const RECEIPT: u8 = 5;
    pub(super) const COUNTERSIGN: u8 = 6;
    pub(super) const UNRECEIPTED: u8 = 7;
    pub(super) const AD_SEQUENCE: u8 = 8;
    pub(super) const REPAIRED: u8 = 9;
    pub(super) const REPUTATION: u8 = 10;
    pub(super) const PEERS: u8 = 11;
    pub(super) const REQUEST_FOR: u8 = 12;
}

fn pair<T: Wire>(writer: &mut Writer, number: u8, body: &T) {
    writer.array(2);
    number.encode(writer);
    body.encode(writer);
}

/// Largest snapshot in bytes: a reputation table of some ten thousand signers.
pub(super) const SNAPSHOT_BYTES: usize = 4 * 1024 * 1024;
/// Most addresses that are remembered.
pub const PEERS_KEPT: usize = 256;
/// Longest address in bytes: a relayed one with two peer ids fits.
const PEER_BYTES: usize = 256;

impl Wire for Record {
    fn encode(&self, writer: &mut Writer) {
        match self {
            Self::LeaseOpened(body) => pair(writer, number::LEASE_OPENED, body),
            Self::RequestMade(body) => pair(writer, number::REQUEST_MADE, body),
            Self::RequestFor(body) => pair(writer, number::REQUEST_FOR, body),
            Self::RequestDropped(body) => pair(writer, number::REQUEST_DROPPED, body),
            Self::LeaseUsed(body) => pair(writer, number::LEASE_USED, body),
            Self::Receipt(body) => pair(writer, number::RECEIPT, body),
            Self::Countersign(body) => pair(writer, number::COUNTERSIGN, body),
            Self::Unreceipted(body) => pair(writer, number::UNRECEIPTED, body),
            Self::AdSequence(body) => pair(writer, number::AD_SEQUENCE, body),
            Self::Repaired(body) => pair(writer, number::REPAIRED, body),
            Self::Reputation(bytes) => {
                writer.array(2);
                number::REPUTATION.encode(writer);
                writer.bytes(bytes);
            }
            Self::Peers(list) => {
                let kept = list.iter().filter(|peer| peer.len() <= PEER_BYTES).take(PEERS_KEPT);
                writer.array(2);
                number::PEERS.encode(writer);
                writer.array(kept.clone().count());
                kept.for_each(|peer| writer.text(peer));
            }
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        reader.array(2)?;
        Ok(match u8::decode(reader)? {
            number::LEASE_OPENED => Self::LeaseOpened(Wire::decode(reader)?),
            number::REQUEST_MADE => Self::RequestMade(Wire::decode(reader)?),
            number::REQUEST_FOR => Self::RequestFor(Wire::decode(reader)?),
            number::REQUEST_DROPPED => Self::RequestDropped(Wire::decode(reader)?),
            number::LEASE_USED => Self::LeaseUsed(Wire::decode(reader)?),
            number::RECEIPT => Self::Receipt(Wire::decode(reader)?),
            number::COUNTERSIGN => Self::Countersign(Wire::decode(reader)?),
            number::UNRECEIPTED => Self::Unreceipted(Wire::decode(reader)?),
            number::AD_SEQUENCE => Self::AdSequence(Wire::decode(reader)?),
            number::REPAIRED => Self::Repaired(Wire::decode(reader)?),
            number::REPUTATION => Self::Reputation(reader.bytes(SNAPSHOT_BYTES)?),
            number::PEERS => {
                let count = reader.list(PEERS_KEPT)?;
                Self::Peers((0..count).map(|_| reader.text(PEER_BYTES)).collect::<Result<_, _>>()?)
            }
            _ => return Err(reader.refuse("unknown record")),
        })
    }
}

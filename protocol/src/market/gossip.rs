//! What travels on the topics, as a forwarder reads it: one verified message, or a settled receipt.
//!
//! Reading and verifying needs no state, so it can be done on any thread; what becomes of the message is decided in
//! `admission`. Implements `specs/auction.md`, "Gossip".

use crate::auction::{JobAccept, JobBid, JobOffer};
use crate::capability::CapabilityAd;
use crate::codec::{self, Blob};
use crate::names::{GOSSIP_BYTES, Network};
use crate::receipt::{Countersign, JobReceipt};
use crate::signed::{Any, Refused, Verified};

/// Which topic a message came on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// Capability ads.
    Capability,
    /// Auctions of a workload.
    Jobs,
}

wire_struct! {
    /// The last receipt of a public lease with its countersignature: `[receipt envelope, countersign envelope]`.
    pub struct Settled {
        /// The receipt's envelope.
        pub receipt: Blob<GOSSIP_BYTES>,
        /// The countersignature's envelope.
        pub countersign: Blob<GOSSIP_BYTES>,
    }
}

impl Settled {
    /// Puts the two envelopes together.
    #[must_use]
    pub fn new(receipt: &Verified<JobReceipt>, countersign: &Verified<Countersign>) -> Self {
        Self {
            receipt: Blob(receipt.bytes().to_vec()),
            countersign: Blob(countersign.bytes().to_vec()),
        }
    }

    /// The message's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::to_vec(self)
    }

    fn verify(&self, network: &Network) -> Result<Gossip, Refused> {
        let receipt = Verified::<JobReceipt>::from_bytes(&self.receipt.0, network)?;
        let countersign = Verified::<Countersign>::from_bytes(&self.countersign.0, network)?;
        if countersign.receipt != receipt.hash() || countersign.lease != receipt.lease || countersign.seq != receipt.seq
        {
            return Err(Refused::Content("countersignature is under another receipt"));
        }
        if countersign.signer() == receipt.signer() {
            return Err(Refused::Content("receipt is countersigned by its own signer"));
        }
        Ok(Gossip::Settled(receipt, countersign))
    }
}

/// A message off a topic, verified.
#[derive(Clone, Debug)]
pub enum Gossip {
    /// A provider's ad.
    Ad(Verified<CapabilityAd>),
    /// A buyer's offer.
    Offer(Verified<JobOffer>),
    /// A worker's bid.
    Bid(Verified<JobBid>),
    /// A buyer's accept.
    Accept(Verified<JobAccept>),
    /// The last receipt of a lease, signed by both.
    Settled(Verified<JobReceipt>, Verified<Countersign>),
}

/// First byte of a CBOR array with two members: a settled receipt; an envelope has five.
const TWO_MEMBERS: u8 = 0x82;

impl Gossip {
    /// Reads and verifies a message; one that does not belong on its topic is of an unexpected kind.
    pub fn from_bytes(topic: Topic, bytes: &[u8], network: &Network) -> Result<Self, Refused> {
        if bytes.first() == Some(&TWO_MEMBERS) {
            let settled: Settled = codec::from_slice(bytes)?;
            return match topic {
                Topic::Jobs => settled.verify(network),
                Topic::Capability => Err(Refused::Kind(<JobReceipt as crate::signed::Message>::KIND.number)),
            };
        }
        match (topic, Any::from_bytes(bytes, network)?) {
            (Topic::Capability, Any::Ad(ad)) => Ok(Self::Ad(ad)),
            (Topic::Jobs, Any::Offer(offer)) => Ok(Self::Offer(offer)),
            (Topic::Jobs, Any::Bid(bid)) => Ok(Self::Bid(bid)),
            (Topic::Jobs, Any::Accept(accept)) => Ok(Self::Accept(accept)),
            (_, other) => Err(Refused::Kind(other.kind())),
        }
    }

    /// The message as it travels.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Ad(ad) => ad.bytes().to_vec(),
            Self::Offer(offer) => offer.bytes().to_vec(),
            Self::Bid(bid) => bid.bytes().to_vec(),
            Self::Accept(accept) => accept.bytes().to_vec(),
            Self::Settled(receipt, countersign) => Settled::new(receipt, countersign).to_bytes(),
        }
    }

    /// The topic it belongs on.
    #[must_use]
    pub fn topic(&self) -> Topic {
        match self {
            Self::Ad(_) => Topic::Capability,
            _ => Topic::Jobs,
        }
    }
}

//! What gossip says, read from a recording or a publication alike. Signatures are looked at by `replay` alone: what is
//! counted here was judged by the recorder.

use infernet_protocol::auction::{JobAccept, JobBid, JobOffer};
use infernet_protocol::capability::CapabilityAd;
use infernet_protocol::codec::{self, Blob, List};
use infernet_protocol::market::gossip::Settled;
use infernet_protocol::receipt::{Countersign, JobReceipt};
use infernet_protocol::signed::{self, Envelope, Message};
use infernet_protocol::{Digest, NodeId};

use crate::record::{MESSAGES, Unsigned};

/// First byte of a CBOR array with two members: a settled receipt.
const TWO_MEMBERS: u8 = 0x82;

/// A message without its envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A provider's ad.
    Ad(CapabilityAd),
    /// A buyer's offer.
    Offer(JobOffer),
    /// A worker's bid.
    Bid(JobBid),
    /// A buyer's accept.
    Accept(JobAccept),
    /// A worker's receipt.
    Receipt(JobReceipt),
    /// A buyer's countersignature.
    Countersign(Countersign),
}

/// Kinds of gossip messages, as they are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sort {
    /// Ads.
    Ad,
    /// Offers.
    Offer,
    /// Bids.
    Bid,
    /// Accepts.
    Accept,
    /// Settled receipts.
    Settled,
    /// What cannot be read, or is not known.
    Other,
}

impl Sort {
    /// All of them, in the order of a deal.
    pub const ALL: [Self; 6] = [
        Self::Ad,
        Self::Offer,
        Self::Bid,
        Self::Accept,
        Self::Settled,
        Self::Other,
    ];

    /// What they are called.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ad => "ads",
            Self::Offer => "offers",
            Self::Bid => "bids",
            Self::Accept => "accepts",
            Self::Settled => "settled receipts",
            Self::Other => "other",
        }
    }

    /// What a gossip message is, by the kind of its first message.
    #[must_use]
    pub fn of(messages: &[Unsigned]) -> Self {
        match messages.first().map(|message| message.kind) {
            Some(kind) if kind == CapabilityAd::KIND.number => Self::Ad,
            Some(kind) if kind == JobOffer::KIND.number => Self::Offer,
            Some(kind) if kind == JobBid::KIND.number => Self::Bid,
            Some(kind) if kind == JobAccept::KIND.number => Self::Accept,
            Some(kind) if kind == JobReceipt::KIND.number => Self::Settled,
            _ => Self::Other,
        }
    }
}

/// The messages in a gossip message, without their signatures; none where it cannot be read.
#[must_use]
pub fn messages(data: &[u8]) -> List<Unsigned, MESSAGES> {
    let envelopes: Option<Vec<Unsigned>> = if data.first() == Some(&TWO_MEMBERS) {
        let settled = codec::from_slice::<Settled>(data).ok();
        settled.and_then(|settled| {
            [settled.receipt, settled.countersign]
                .iter()
                .map(|Blob(bytes)| unsigned(bytes))
                .collect()
        })
    } else {
        unsigned(data).map(|message| vec![message])
    };
    List::first_of(envelopes.unwrap_or_default())
}

fn unsigned(bytes: &[u8]) -> Option<Unsigned> {
    let Envelope {
        kind, signer, payload, ..
    } = signed::open(bytes).ok()?;
    Some(Unsigned {
        kind,
        signer,
        hash: Digest::of(&[bytes]),
        payload,
    })
}

impl Content {
    /// Reads a message of a kind that is known.
    #[must_use]
    pub fn of(message: &Unsigned) -> Option<Self> {
        fn read<T: Message>(message: &Unsigned) -> Option<T> {
            let content: T = codec::from_slice(&message.payload.0).ok()?;
            content.check().ok().map(|()| content)
        }
        match message.kind {
            kind if kind == CapabilityAd::KIND.number => read(message).map(Self::Ad),
            kind if kind == JobOffer::KIND.number => read(message).map(Self::Offer),
            kind if kind == JobBid::KIND.number => read(message).map(Self::Bid),
            kind if kind == JobAccept::KIND.number => read(message).map(Self::Accept),
            kind if kind == JobReceipt::KIND.number => read(message).map(Self::Receipt),
            kind if kind == Countersign::KIND.number => read(message).map(Self::Countersign),
            _ => None,
        }
    }

    /// The message of this content, under another name and hash.
    #[must_use]
    pub fn unsigned(&self, signer: NodeId, hash: Digest) -> Unsigned {
        let (kind, payload) = match self {
            Self::Ad(ad) => (CapabilityAd::KIND.number, codec::to_vec(ad)),
            Self::Offer(offer) => (JobOffer::KIND.number, codec::to_vec(offer)),
            Self::Bid(bid) => (JobBid::KIND.number, codec::to_vec(bid)),
            Self::Accept(accept) => (JobAccept::KIND.number, codec::to_vec(accept)),
            Self::Receipt(receipt) => (JobReceipt::KIND.number, codec::to_vec(receipt)),
            Self::Countersign(countersign) => (Countersign::KIND.number, codec::to_vec(countersign)),
        };
        Unsigned {
            kind,
            signer,
            hash,
            payload: Blob(payload),
        }
    }
}

//! The messages of an auction. What is done with them is in `market`. Implements `specs/auction.md`.

use crate::capability::{ADDRESSES, Address, Class, Features, RAILS, Rail, TAGS, Tag, VramTier};
use crate::codec::{Blob, List, Text};
use crate::ids::{Digest, JobId, LeaseId, ModelId, NodeId};
use crate::names::{AT_ONCE_MAX, GOSSIP_BYTES, INVITED, LEASE_MAX, OFFER_LIFE_MAX, WINDOW_MAX};
use crate::signed::{Kind, Message};
use crate::units::{Millis, Price, UnixMillis};

/// `open` at which everybody may bid uninvited.
pub const OPEN_TO_ALL: u32 = 65_536;

wire_enum! {
    /// What a buyer cares about.
    pub enum Policy {
        /// The lowest price.
        Cheapest = 0 => "cheapest",
        /// Price, speed and reputation together.
        Balanced = 1 => "balanced",
        /// The highest speed.
        Fastest = 2 => "fastest",
        /// Whom the user trusts, then reputation.
        Trusted = 3 => "trusted",
    }
}

wire_struct! {
    /// What a provider must have.
    pub struct Requirement {
        /// The model.
        pub model: ModelId,
        /// Exactly these weights.
        pub digest: Option<Digest>,
        /// Tags that its ad must carry.
        pub tags: List<Tag, TAGS>,
        /// GPU memory of at least this tier.
        pub vram: Option<VramTier>,
        /// Context length in tokens, at least.
        pub context: u32,
        /// Features, all of them.
        pub features: Features,
        /// Class of workload.
        pub class: Class,
    }
}

wire_struct! {
    /// How much is wanted.
    #[derive(Copy)]
    pub struct Volume {
        /// Input tokens of a usual request.
        pub input_tokens: u32,
        /// Output tokens of a usual request.
        pub output_tokens: u32,
        /// Requests under the lease at most.
        pub requests: u32,
        /// Requests at once.
        pub at_once: u16,
        /// How long the lease lives from its first use.
        pub lease: Millis,
    }
}

wire_struct! {
    /// A buyer's offer. It never holds the prompt or anything derived from it.
    pub struct JobOffer {
        /// The job.
        pub job: JobId,
        /// The workload's id.
        pub workload: Text<64>,
        /// What is required.
        pub requirement: Requirement,
        /// How much is wanted.
        pub volume: Volume,
        /// What the buyer cares about.
        pub policy: Policy,
        /// The most it pays.
        pub price_cap: Price,
        /// Payment rails it can use; none when it pays nothing.
        pub rails: List<Rail, RAILS>,
        /// How long it takes bids, from when it sent the offer.
        pub window: Millis,
        /// Signers whose bids it waits for.
        pub invited: List<NodeId, INVITED>,
        /// Who else may bid: signers whose draw is below this, of 65,536.
        pub open: u32,
        /// Whether the deal may be seen by everybody.
        pub public: bool,
        /// When it was signed.
        pub issued_at: UnixMillis,
        /// When it stops counting.
        pub expires_at: UnixMillis,
    }
}

impl Message for JobOffer {
    const KIND: Kind = Kind {
        number: 0x0201,
        name: "offer",
    };

    fn check(&self) -> Result<(), &'static str> {
        if self.expires_at <= self.issued_at || self.expires_at.since(self.issued_at) > u64::from(OFFER_LIFE_MAX.0) {
            return Err("offer lives too long or not at all");
        }
        if self.window.0 == 0 || self.window > WINDOW_MAX {
            return Err("offer window is out of range");
        }
        if self.open > OPEN_TO_ALL {
            return Err("offer is open to more than everybody");
        }
        let Volume {
            requests,
            at_once,
            lease,
            ..
        } = self.volume;
        if requests == 0 || at_once == 0 || at_once > AT_ONCE_MAX || lease.0 == 0 || lease > LEASE_MAX {
            return Err("offer asks for no request, too many at once or too long a lease");
        }
        if self
            .invited
            .iter()
            .enumerate()
            .any(|(i, node)| self.invited[i + 1..].contains(node))
        {
            return Err("offer invites a signer twice");
        }
        Ok(())
    }
}

wire_struct! {
    /// Where a payee takes money.
    pub struct Payee {
        /// The rail.
        pub rail: Rail,
        /// The address on it.
        pub address: Text<128>,
    }
}

/// Most payees in a bid.
pub const PAYEES: usize = 4;

wire_struct! {
    /// A worker's bid. It stays acceptable for the lease time and reserves nothing.
    pub struct JobBid {
        /// The job.
        pub job: JobId,
        /// Hash of the offer's envelope.
        pub offer: Digest,
        /// What the worker asks: not above its current ad, nor the offer's cap.
        pub price: Price,
        /// Time to first token that it expects.
        pub ttft: Millis,
        /// Speed of one stream that it expects, in thousandths of a token per second.
        pub speed: u32,
        /// Requests that stand before this one.
        pub queue: u16,
        /// Where it can be dialled.
        pub addresses: List<Address, ADDRESSES>,
        /// Where it takes money; none when it asks nothing.
        pub payees: List<Payee, PAYEES>,
        /// SHA-256 of the weights it will run, where known.
        pub digest: Option<Digest>,
        /// Requests at once that it grants this buyer.
        pub at_once: u16,
        /// Whether the deal may be seen by everybody.
        pub public: bool,
    }
}

impl Message for JobBid {
    const KIND: Kind = Kind {
        number: 0x0301,
        name: "bid",
    };

    fn check(&self) -> Result<(), &'static str> {
        if self.at_once == 0 {
            Err("bid grants no request at once")
        } else {
            Ok(())
        }
    }
}

wire_struct! {
    /// The buyer that a wallet and rail belong to.
    pub struct Payer {
        /// The rail.
        pub rail: Rail,
        /// The buyer's wallet on it.
        pub wallet: Text<128>,
    }
}

wire_struct! {
    /// A buyer's accept of one bid; signed by the offer's key. It makes the lease.
    pub struct JobAccept {
        /// Job and attempt.
        pub lease: LeaseId,
        /// Hash of the bid's envelope.
        pub bid: Digest,
        /// The bid's signer.
        pub winner: NodeId,
        /// Who pays, where anything is paid.
        pub payer: Option<Payer>,
        /// When it was signed.
        pub issued_at: UnixMillis,
    }
}

impl Message for JobAccept {
    const KIND: Kind = Kind {
        number: 0x0401,
        name: "accept",
    };
}

/// Bytes of SHA-256(job || signer) that decide who may bid uninvited.
#[must_use]
pub fn draw(job: &JobId, signer: &NodeId) -> u32 {
    let digest = Digest::of(&[job.as_bytes(), signer.as_bytes()]);
    u32::from(u16::from_be_bytes([digest.0[0], digest.0[1]]))
}

/// Below this a draw may bid uninvited: min(`open`, 4K x 65,536 / ads held), so that about 4K strangers bid at most.
#[must_use]
pub fn open_threshold(open: u32, ads_held: usize) -> u32 {
    let expected = 4 * INVITED as u64 * u64::from(OPEN_TO_ALL) / (ads_held.max(1) as u64);
    u32::try_from(expected.min(u64::from(open))).unwrap_or(open)
}

wire_enum! {
    /// Why a worker does not bid.
    pub enum Decline {
        /// It does not serve what is required.
        Unfit = 1 => "unfit",
        /// The cap is below its price.
        Price = 2 => "price",
        /// It is full or draining.
        Busy = 3 => "busy",
        /// Neither invited nor drawn.
        Uninvited = 4 => "uninvited",
        /// The offer is stale, malformed or badly signed.
        Invalid = 5 => "invalid",
        /// No rail in common.
        Rail = 6 => "rail",
        /// The buyer owes countersignatures, or used up its quota.
        Credit = 7 => "credit",
    }
}

wire_struct! {
    /// Answer to an offer that was sent directly, over `/c0mpute/offer/1.0.0`.
    pub struct OfferReply {
        /// The bid's envelope.
        pub bid: Option<Blob<GOSSIP_BYTES>>,
        /// Why there is none.
        pub decline: Option<Decline>,
    }
}

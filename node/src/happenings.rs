//! What a node sees and does on the market, as a stream for whoever looks: the demo, the live view, tests.
//!
//! Nothing waits for a looker: one that falls behind misses happenings. A happening never holds a prompt or an answer.

use infernet_protocol::auction::{JobBid, JobOffer};
use infernet_protocol::receipt::{Countersign, JobReceipt};
use infernet_protocol::{LeaseId, NodeId, RequestId, Verified};
use tokio::sync::broadcast;

/// Happenings kept for a looker that is slow.
const KEPT: usize = 256;

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Happening {
    /// This node offered a job.
    Offered(Verified<JobOffer>),
    /// A bid for an offer of this node came, so many microseconds after the offer.
    Bid {
        /// The bid.
        bid: Verified<JobBid>,
        /// Time since the offer.
        after_us: u64,
        /// Whether the choice was made without it. It is then a runner-up.
        late: bool,
    },
    /// This node accepted a bid.
    Accepted {
        /// The lease that it made.
        lease: LeaseId,
        /// The winner.
        winner: NodeId,
        /// Time since the offer, in microseconds.
        after_us: u64,
    },
    /// The engine of a provider began to answer a request of this node.
    FirstToken {
        /// The request.
        request: RequestId,
        /// Time since the request was sent, in microseconds.
        after_us: u64,
    },
    /// A receipt of this node's was filed and countersigned, on either side.
    Settled {
        /// The worker's receipt.
        receipt: Verified<JobReceipt>,
        /// The buyer's signature.
        countersign: Verified<Countersign>,
    },
    /// A provider's first word is late, and another was asked too.
    Hedged {
        /// Who is late.
        provider: NodeId,
        /// Who was asked too.
        also: NodeId,
    },
    /// A provider failed before it delivered anything, and the next one is asked.
    WentOn {
        /// Who failed.
        provider: NodeId,
        /// Why, in words.
        why: String,
    },
}

/// Where happenings are told.
#[derive(Clone, Debug)]
pub(crate) struct Happenings(broadcast::Sender<Happening>);

impl Default for Happenings {
    fn default() -> Self {
        Self(broadcast::Sender::new(KEPT))
    }
}

impl Happenings {
    /// Tells whoever looks. The closure runs only where somebody does.
    pub(crate) fn tell(&self, happening: impl FnOnce() -> Happening) {
        if self.0.receiver_count() > 0 {
            // Fails only where the last looker has just gone.
            let _ = self.0.send(happening());
        }
    }

    pub(crate) fn look(&self) -> broadcast::Receiver<Happening> {
        self.0.subscribe()
    }
}

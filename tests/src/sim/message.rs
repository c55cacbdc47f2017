//! What travels between the nodes of a simulation.

use std::rc::Rc;

use infernet_protocol::auction::{Decline, JobBid, JobOffer};
use infernet_protocol::market::gossip::Gossip;
use infernet_protocol::market::lease::Papers;
use infernet_protocol::market::worker::Refusal;
use infernet_protocol::receipt::{Countersign, JobReceipt};
use infernet_protocol::reputation::Service;
use infernet_protocol::stream::frames::Reconcile;
use infernet_protocol::{Digest, LeaseId, RequestId, Verified};

/// A gossip message on its way.
#[derive(Debug)]
pub(super) enum Parcel {
    /// Verified when it was made, or by the first who read it.
    Known(Gossip),
    /// Bytes that each reader verifies.
    Bytes(Vec<u8>),
}

/// What a worker delivers when a request ends.
#[derive(Clone, Debug)]
pub(super) struct Delivery {
    pub(super) request: RequestId,
    pub(super) input_tokens: u32,
    pub(super) output_tokens: u32,
    pub(super) commitment: Digest,
    pub(super) service: Service,
    pub(super) receipt: Verified<JobReceipt>,
}

/// A message on a direct connection.
#[derive(Clone, Debug)]
pub(super) enum Direct {
    /// Offer exchange, there.
    Offer(Verified<JobOffer>),
    /// Offer exchange, back with a bid.
    Bid(Verified<JobBid>),
    /// Offer exchange, back without one.
    Declined(Digest, Decline),
    /// Start and Request.
    Start(Rc<Papers>, RequestId, u32),
    /// A Start or a Request was refused.
    Refused(LeaseId, RequestId, Refusal),
    /// Data, End, Usage and Receipt.
    Delivered(Rc<Delivery>),
    /// Fail, and nothing was delivered.
    Failed(LeaseId, RequestId),
    /// Countersign.
    Countersign(Verified<Countersign>),
    /// Resume.
    Resume(LeaseId, RequestId),
    /// Nothing to resume.
    Gone(LeaseId, RequestId),
    /// How far one side's book goes; the worker's asks the buyer for its own.
    Reconcile(Reconcile),
    /// What the buyer lacks, and the worker's Reconcile; null where the worker knows no such lease.
    Answer(LeaseId, Vec<Verified<JobReceipt>>, Option<Reconcile>),
    /// A receipt by itself.
    Receipt(Verified<JobReceipt>),
}

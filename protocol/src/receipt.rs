//! Receipts: one per request, ordered and signed by the worker, countersigned by the buyer.
//!
//! Who owes whom what is in `ledger`; the offline check of an exported deal is in `chain`.
//! Implements `specs/receipts.md`.

pub mod chain;
pub mod commitment;
pub mod ledger;

use crate::codec::Text;
use crate::ids::{Digest, LeaseId, RequestId};
use crate::signed::{Kind, Message};
use crate::units::{MicroUsd, Millis, UnixMillis};

pub use commitment::Commitment;

wire_enum! {
    /// How a request ended.
    pub enum Status {
        /// The engine said all it had to say.
        Completed = 0 => "completed",
        /// The engine or the connection failed.
        Failed = 1 => "failed",
        /// The buyer cancelled.
        Cancelled = 2 => "cancelled",
        /// A deadline passed.
        Timeout = 3 => "timeout",
    }
}

wire_struct! {
    /// What one request used.
    #[derive(Copy)]
    pub struct Step {
        /// The request.
        pub request: RequestId,
        /// How it ended.
        pub status: Status,
        /// Input tokens.
        pub input_tokens: u32,
        /// Output tokens that were delivered.
        pub output_tokens: u32,
        /// Time from Request to the first Data frame at the worker; 0 when there was none.
        pub ttft: Millis,
        /// Time from Request to the end at the worker.
        pub duration: Millis,
        /// What it costs at the bid's price.
        pub amount: MicroUsd,
        /// Hash chain over the request and the answer.
        pub commitment: Digest,
    }
}

wire_struct! {
    /// Sums over the lease up to and including a step.
    #[derive(Copy, Default)]
    pub struct Total {
        /// Requests.
        pub requests: u32,
        /// Input tokens.
        pub input_tokens: u64,
        /// Output tokens.
        pub output_tokens: u64,
        /// Money.
        pub amount: MicroUsd,
    }
}

impl Total {
    /// The sums after one more step.
    #[must_use]
    pub fn plus(&self, step: &Step) -> Self {
        Self {
            requests: self.requests.saturating_add(1),
            input_tokens: self.input_tokens.saturating_add(u64::from(step.input_tokens)),
            output_tokens: self.output_tokens.saturating_add(u64::from(step.output_tokens)),
            amount: MicroUsd(self.amount.0.saturating_add(step.amount.0)),
        }
    }
}

wire_struct! {
    /// The worker's statement of what one request used.
    pub struct JobReceipt {
        /// The lease.
        pub lease: LeaseId,
        /// 0 for the first receipt of the lease, then one more each.
        pub seq: u32,
        /// Hash of the lease's previous receipt; of the accept for the first.
        pub prev: Digest,
        /// This request.
        pub step: Step,
        /// All requests so far.
        pub total: Total,
        /// When the request ended.
        pub finished_at: UnixMillis,
    }
}

impl Message for JobReceipt {
    const KIND: Kind = Kind {
        number: 0x0501,
        name: "receipt",
    };

    fn check(&self) -> Result<(), &'static str> {
        if self.total.requests != self.seq.saturating_add(1) {
            return Err("receipt totals do not count its steps");
        }
        if self.total.amount < self.step.amount {
            return Err("receipt total is below its step");
        }
        Ok(())
    }
}

wire_enum! {
    /// Why a buyer does not accept a receipt.
    pub enum Dispute {
        /// Tokens that were not delivered.
        Tokens = 1 => "tokens",
        /// Another price than the bid's.
        Price = 2 => "price",
        /// The commitment is not that of the stream.
        Commitment = 3 => "commitment",
        /// Out of order, or sums that do not add up.
        Order = 4 => "order",
        /// A request that the buyer did not make.
        Request = 5 => "request",
    }
}

wire_struct! {
    /// The buyer's signature under a receipt, or its refusal.
    pub struct Countersign {
        /// Hash of the receipt's envelope.
        pub receipt: Digest,
        /// The lease, so that it can be filed without the receipt at hand.
        pub lease: LeaseId,
        /// The receipt's place in the lease.
        pub seq: u32,
        /// Null accepts.
        pub dispute: Option<Dispute>,
        /// For people.
        pub note: Text<128>,
        /// When it was signed.
        pub signed_at: UnixMillis,
    }
}

impl Message for Countersign {
    const KIND: Kind = Kind {
        number: 0x0601,
        name: "countersign",
    };
}

//! The market as pure state machines: `(event, now) -> effects`. They read no clock, draw no randomness of their own
//! and send nothing; the node's driver and the seeded simulator run the very same code.
//!
//! ```text
//!   fit        does an ad meet a requirement
//!   choice     utility of a bid under a policy, and the ranking of bids
//!   buyer      one auction: rank, invite, collect, close, accept, go to the runner-up, widen
//!   worker     a provider's side: quote, hold, start, request, receipt, drain
//!   lease      both sides' account of one lease
//!   gossip     what travels on the topics
//!   admission  what a forwarder does with it
//! ```
//!
//! Implements `specs/auction.md` and `specs/receipts.md`, "Exposure".

pub mod admission;
pub mod buyer;
pub mod choice;
pub mod fit;
pub mod gossip;
pub mod lease;
pub mod worker;

#[cfg(test)]
mod tests;

pub use admission::Admission;
pub use buyer::Auction;
pub use gossip::Gossip;
pub use lease::BuyerLease;
pub use worker::Worker;

use crate::ids::Digest;
use crate::units::{Millis, UnixMillis};

/// Milliseconds on a clock that never steps back; where it starts is nobody's business.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(pub u64);

impl Mono {
    /// The instant `duration` later.
    #[must_use]
    pub fn after(self, duration: Millis) -> Self {
        Self(self.0.saturating_add(u64::from(duration.0)))
    }

    /// Milliseconds from `earlier` to this instant, 0 when it lies in the future.
    #[must_use]
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// One instant on both clocks: the wall's serves freshness and replay only, durations count on the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The wall clock, which may be wrong by the tolerated skew.
    pub wall: UnixMillis,
    /// The monotonic clock.
    pub mono: Mono,
}

/// Stretches 32 random bytes into as many as are needed: SHA-256(seed, counter).
#[derive(Clone, Debug)]
pub(crate) struct Entropy {
    seed: [u8; 32],
    counter: u64,
}

impl Entropy {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Self { seed, counter: 0 }
    }

    /// The next 32 bytes.
    pub(crate) fn next(&mut self) -> [u8; 32] {
        self.counter += 1;
        Digest::of(&[b"infernet/entropy/v1", &self.seed, &self.counter.to_be_bytes()]).0
    }

    /// A number below `bound`, which must not be 0. The bias is below `bound` / 2^64.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        let bytes = self.next();
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[..8]);
        (u64::from_be_bytes(word) % (bound.max(1) as u64)) as usize
    }

    /// Puts the values into random order.
    pub(crate) fn shuffle<T>(&mut self, values: &mut [T]) {
        for last in (1..values.len()).rev() {
            values.swap(last, self.below(last + 1));
        }
    }
}

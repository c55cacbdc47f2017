//! A seeded, deterministic simulation of the market: the machines of `infernet_protocol::market` and nothing else of
//! the product, on a network that delays, loses, repeats and reorders, among nodes that crash, lie and are attacked.
//!
//! ```text
//!   setup    what is simulated, and the seeds
//!   world    the queue of events, the network, the clock; who is handed what
//!   buyer    an actor around Auction, BuyerLease, Admission, Registry and Reputation
//!   worker   an actor around Worker, and what kind of provider it is
//!   journal  what survives a crash
//!   attacker replays, forges and presents what is not its own
//!   laws     what must hold after every step
//! ```
//!
//! Messages are shared as `Verified` values instead of being verified again at every node, except that one in some
//! dozens, and everything that the attacker touches, goes through bytes and is really verified.

mod attacker;
mod buyer;
mod journal;
mod laws;
mod message;
mod population;
mod queue;
mod rng;
mod setup;
mod summary;
mod worker;
mod world;

pub use setup::{Gossiping, SEED_VARIABLE, SEEDS_VARIABLE, Seeds, Setup};
pub use summary::Summary;
pub use world::{Broken, run, run_all};

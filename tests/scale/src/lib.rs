//! The network at size: thousands of nodes on the product's own state machines, on a model of gossipsub, of the DHT
//! and of the Internet between them. `specs/scale.md` says what is modelled and what is not, and shows what came out.
//!
//! ```text
//!   setup     the scenarios, and every parameter with its source
//!   world     one queue of events: overlay, gossip, market, stress
//!   judge     what a node does with a message: the real Admission, or a stand-in of two bytes an author
//!   dht       routing tables, provider records, lookups; survey: what they cost and find
//!   measures  one row of numbers; report, plot: tables and pictures of them
//! ```
//!
//! The same seed makes the same row, on any machine: nothing here reads a clock, and no number of a row is a float.

mod ads;
mod dht;
mod gossip;
mod judge;
mod market;
mod measures;
mod message;
mod node;
mod overlay;
mod places;
pub mod plot;
mod population;
pub mod report;
mod rng;
mod setup;
mod stress;
mod survey;
mod wheel;
mod wire;
mod world;

pub use measures::{COLUMNS, Row};
pub use setup::{Setup, Stress};

/// Runs a simulation.
///
/// # Panics
/// When something happened that must not: an honest node was blamed, an offer drew more bids than forwarders allow,
/// or a network without any trouble lost an ad or a job.
#[must_use]
pub fn simulate(setup: &Setup) -> Row {
    let degree = setup.connections.unwrap_or_else(|| survey::degree(setup));
    let mut world = world::World::new(setup, degree);
    world.run();
    let row = measures::measure(&world);
    measures::check(setup, &row);
    row
}

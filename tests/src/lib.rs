//! Harness and cross-crate tests of Infernet.
//!
//! `network` puts whole networks of real nodes on loopback inside one process; `sim` runs the pure state machines in a
//! seeded simulation. The rings that use them are in `tests/`.

pub mod network;
pub mod sim;

//! Harness and cross-crate tests of Infernet.
//!
//! ```text
//!   sim    many buyers and workers on the real state machines, on a simulated network, from one seed
//! ```

pub mod sim;

//! Harness and cross-crate tests of Infernet.
//!
//! `network` puts whole networks of real nodes on loopback inside one process; the rings that use it are in `tests/`.

pub mod network;

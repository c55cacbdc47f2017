//! Harness and cross-crate tests of Infernet.
//!
//! `network` puts whole networks of real nodes on loopback inside one process, and `hostile` adds peers that break the
//! rules, and `flooder` those that push garbage; `processes` runs the real programs, and `terminal` puts one in front of a person; `sim` runs the pure state
//! machines in a seeded simulation; `namespaces` makes an internet with routers for the programs to run in. The rings that use them are in `tests/`.

pub mod flooder;
pub mod hostile;
pub mod namespaces;
pub mod network;
pub mod processes;
pub mod sim;
pub mod terminal;

//! Whole networks in one process, on loopback with ports that the system picks. Each test waits for events and fails as a
//! whole when they do not come in time.

mod direct;
mod exchanges;
mod gossip;
mod harness;
mod joining;
mod relayed;

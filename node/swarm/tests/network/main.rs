//! Whole networks in one process, on loopback with ports that the system picks. Each test waits for events and fails as a
//! whole when they do not come in time.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod crawling;
mod direct;
mod exchanges;
mod gossip;
mod harness;
mod joining;
mod relayed;
mod trimming;
mod twins;

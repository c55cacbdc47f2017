//! What `specs/` says, tested from outside of the crate: one module for each promise.
#![expect(clippy::unwrap_used, reason = "a panic here is a failed test")]

mod bip340;
mod codec;
mod exports;
mod forged;
#[path = "../../examples/vectors/frames.rs"]
mod frames;
mod hex_frames;
mod ledger;
mod mutation;
mod registry;
#[path = "../../examples/vectors/sample.rs"]
mod sample;
mod session;
mod vectors;

use infernet_protocol::Network;

/// Any network but `main`.
fn other_network() -> Network {
    Network::new("test-1").unwrap()
}

/// A file of `specs/vectors`.
fn vector_file(name: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../specs/vectors")
        .join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

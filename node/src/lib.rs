//! The Infernet node as a library; `main.rs` is the command line in front of it.
//!
//! ```text
//!   consumer's program                                                   another node
//!        | HTTP                                                                |
//!        v                                                                     v
//!    gateway --> buyer ----> leases -----> market <------- network <------ swarm (one task)
//!    routes      one request  live ones,    auctions,      events, to      gossip, DHT,
//!                top to       substreams,   ads, judging   whom they       exchanges, streams
//!                bottom       receipts                     concern             |
//!                   |                          ^                               |
//!                   +------- line <------------|--- direct stream --------> worker one substream
//!                            frames            |                              |    top to bottom
//!                                              ads <---- engines <------------+
//!                                              our own   backends          provider
//!                                                                          slots, receipts
//!    batch: files of many requests, which go to the gateway's routes as any other does
//!    store: journal and index; what must not be lost, written before it is acknowledged
//!    models: files for the embedded engine, and their download
//!    runtime: the only place that spawns.   config, home, identity: what a node is.   commands, ipc: how it is run
//! ```
//!
//! Start with [`buyer`] and `worker`: they are the two spines.

mod ads;
pub mod batch;
pub mod buyer;
pub mod cli;
mod clock;
pub mod commands;
pub mod config;
pub mod control;
pub mod doctor;
mod engines;
pub mod gateway;
pub mod happenings;
pub mod home;
pub mod identity;
pub mod ipc;
pub mod joining;
pub mod launch;
mod leases;
mod line;
mod market;
mod metrics;
pub mod models;
mod network;
pub mod node;
pub mod out;
mod provider;
mod queue;
mod recovery;
pub mod routing;
pub mod runtime;
pub mod service;
mod similar;
pub mod spending;
pub mod store;
mod twin;
mod worker;

pub use engines::Sources;
pub use leases::Unplaced;
pub use leases::affinity::Prefixes;

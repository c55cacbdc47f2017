//! The Infernet node: everything behind the `infernet` binary.

pub mod cli;
pub mod commands;
pub mod config;
pub mod home;
pub mod identity;
pub mod ipc;
pub mod out;
pub mod runtime;
pub mod store;

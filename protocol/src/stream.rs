//! The direct stream: the only way that a prompt and an answer travel. Implements `specs/stream.md`.

pub mod frames;
pub mod session;

pub use frames::{BuyerFrame, WorkerFrame};

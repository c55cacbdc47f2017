//! What researchers record of the network, publish of it and draw from it.
//!
//! Nothing here speaks to a network: a bootstrap node hands its records over, a crawler its rows. Only `recording`
//! touches files, and only its `Recorder` has a thread.
//!
//! ```text
//!   record                 what a recording consists of, and how it is written
//!   recording/{writer,recorder,reader}   rotating compressed files, and out of them again
//!   place contents         addresses and signed messages, reduced to what is counted
//!   publish                a copy in which nobody is named
//!   replay                 recorded gossip again, at its own pace, or judged anew
//!   crawl                  what walking the DHT found, as JSONL and CSV
//!   report/{collect,chart,topology,page}   one HTML page of all that
//!   synthetic              a believable network that never was, for tests and examples
//! ```
//!
//! Implements `specs/recording.md`.

pub mod contents;
pub mod crawl;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod place;
pub mod publish;
pub mod record;
pub mod recording;
pub mod replay;
pub mod report;
pub mod stamp;
pub mod synthetic;

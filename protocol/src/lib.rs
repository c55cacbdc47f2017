//! The Infernet protocol as pure code: ids, units, messages, signing, framing, and the auction as state machines.
//!
//! Nothing here does I/O, waits, reads a clock or draws randomness of its own: time and entropy are arguments. The
//! same machines therefore run in the node and in the seeded simulator. The authoritative text is `specs/`.
//!
//! ```text
//!   ids units names codec        what a value is, how it is written, how large it may be
//!   identity signed              one key per node; Envelope -> Signed<T> -> verify() -> Verified<T>
//!   capability registry          what providers advertise, and what a node remembers of it
//!   auction                      JobOffer, JobBid, JobAccept
//!   market/{buyer,worker,choice,lease,admission}   (event, now) -> effects
//!   receipt ledger chain         what was delivered, signed by both; who owes whom a signature; offline check
//!   reputation                   what this node saw of others
//!   stream/{frames,session}      the direct stream, frame by frame
//! ```

#[macro_use]
pub mod codec;

pub mod auction;
pub mod capability;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod identity;
pub mod ids;
pub mod market;
pub mod names;
pub mod receipt;
pub mod reputation;
pub mod signed;
pub mod stream;
pub mod units;

pub use identity::Identity;
pub use ids::{Digest, JobId, LeaseId, ModelId, NodeId, RequestId};
pub use names::Network;
pub use signed::{Envelope, Message, Signed, Verified};
pub use units::{MicroUsd, Millis, Price, UnixMillis};

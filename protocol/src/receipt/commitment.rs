//! A hash chain over one request and its answer. Both sides compute it as they go; the receipt carries its end, so
//! neither can later say that other bytes were sent. The salt, which only the two know, keeps anybody else from
//! guessing a prompt and checking the guess.

use crate::ids::{Digest, RequestId};

/// Keeps these hashes apart from every other use of SHA-256.
const DOMAIN: &[u8] = b"infernet/commitment/v1";

/// The chain so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commitment(Digest);

impl Commitment {
    /// Starts with the salt, the request's id and its whole body.
    #[must_use]
    pub fn of_request(salt: &[u8; 32], request: &RequestId, body: &[u8]) -> Self {
        Self(Digest::of(&[
            DOMAIN,
            salt,
            request.as_bytes(),
            Digest::of(&[body]).as_bytes(),
        ]))
    }

    /// Adds one Data frame: its number and its bytes.
    pub fn add(&mut self, frame: u64, bytes: &[u8]) {
        self.0 = Digest::of(&[self.0.as_bytes(), &frame.to_be_bytes(), bytes]);
    }

    /// The end of the chain.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.0
    }
}

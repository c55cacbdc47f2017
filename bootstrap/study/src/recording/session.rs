//! What a recording is begun with: who records what, and within which bounds.

use infernet_protocol::{Millis, Network};

#[cfg(doc)]
use crate::record::Header;

/// When a file or a member ends, and how much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A file that has grown to this many bytes is the last but one.
    pub file_bytes: u64,
    /// So is one that holds this much time.
    pub file_age: Millis,
    /// Records of this many bytes, uncompressed, are written together.
    pub member_bytes: usize,
    /// So are those of this much time: what a kill may lose.
    pub member_age: Millis,
    /// Most files kept.
    pub keep_files: usize,
    /// Most bytes kept, in all files together.
    pub keep_bytes: u64,
}

impl Limits {
    /// What a recorder keeps by default: 1 GiB, which is weeks of a small network.
    pub const KEEP_BYTES: u64 = 1024 * 1024 * 1024;
    /// And a month of files of an hour each.
    pub const KEEP_FILES: usize = 24 * 31;
    /// Largest file: small enough to be opened whole, large enough for an hour of a busy network.
    const FILE_BYTES: u64 = 64 * 1024 * 1024;

    /// Limits that keep at most so much.
    #[must_use]
    pub fn keeping(keep_files: usize, keep_bytes: u64) -> Self {
        Self {
            // With eight files in what is kept, an eighth of it goes at a time.
            file_bytes: (keep_bytes / 8).min(Self::FILE_BYTES),
            file_age: Millis(3_600_000),
            member_bytes: 256 * 1024,
            member_age: Millis(5_000),
            keep_files: keep_files.max(1),
            keep_bytes,
        }
    }

    /// Limits under which nothing is ever removed.
    #[must_use]
    pub fn keeping_all() -> Self {
        Self::keeping(usize::MAX, u64::MAX)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::keeping(Self::KEEP_FILES, Self::KEEP_BYTES)
    }
}

/// Who records what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The network.
    pub network: Network,
    /// See [`Header::recorder`].
    pub recorder: [u8; 16],
    /// See [`Header::recording`].
    pub recording: [u8; 16],
    /// Program and version.
    pub agent: String,
    /// See [`Header::sample_every`].
    pub sample_every: Millis,
    /// Whether it is a publication.
    pub is_publication: bool,
}

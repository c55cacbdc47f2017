//! What the journal asks of a disk, so that tests can put a small or a broken one in its place.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::home;

/// Small enough to be read whole when a segment must be repaired.
const SEGMENT_BYTES: u64 = 16 * 1024 * 1024;

/// A disk. The real one is `Real`.
pub(super) trait Disk: std::fmt::Debug + Send + Sync {
    /// Writes all of `bytes` at `offset`.
    fn write(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Returns when what was written to `file` survives a power cut.
    fn sync(&self, file: &File) -> io::Result<()>;

    /// Claims `length` bytes under `path`, to be given back when the disk is full.
    fn reserve(&self, path: &Path, length: usize) -> io::Result<()>;

    /// A segment is closed above this size.
    fn segment_bytes(&self) -> u64 {
        SEGMENT_BYTES
    }

    /// Gives the reserve back. Whether there was one.
    fn release(&self, path: &Path) -> bool;
}

/// The machine's own file system.
#[derive(Debug)]
pub(super) struct Real;

impl Disk for Real {
    fn write(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn reserve(&self, path: &Path, length: usize) -> io::Result<()> {
        if fs::metadata(path).is_ok_and(|found| found.len() == length as u64) {
            return Ok(());
        }
        // Written out and not only sized: a sparse file would reserve nothing.
        let written = home::private_file()
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)
            .and_then(|mut file| file.write_all(&vec![0x5a; length]).and_then(|()| file.sync_data()));
        if written.is_err() {
            let _ = fs::remove_file(path);
        }
        written
    }

    fn release(&self, path: &Path) -> bool {
        fs::remove_file(path).is_ok()
    }
}

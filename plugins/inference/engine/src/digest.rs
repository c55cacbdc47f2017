//! SHA-256 of a whole file, read piece by piece.

use std::fs::File;
use std::io::Read;

use sha2::{Digest, Sha256};

/// Read at once, in bytes.
const CHUNK: usize = 1 << 20;

/// The digest of what is left of `file`.
pub(crate) fn digest(file: &mut File) -> std::io::Result<[u8; 32]> {
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(hasher.finalize().into()),
            read => hasher.update(&chunk[..read]),
        }
    }
}

//! Writes the vector of recordings.
//!
//! `cargo run -p infernet-study --example recording_vectors -- specs/vectors`

use std::error::Error;
use std::io::Write as _;
use std::path::PathBuf;

use flate2::Compression;
use flate2::write::GzEncoder;
use infernet_protocol::codec;
use infernet_study::synthetic::vector;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(std::env::args().nth(1).ok_or("name the folder of the vectors")?);
    std::fs::write(folder.join("recording.json"), vector::json())?;
    // Two members, as a recorder would have written it in two goes.
    let mut file = Vec::new();
    for records in vector::recording().chunks(8) {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        for (_, record) in records {
            encoder.write_all(&codec::to_vec(record))?;
        }
        file.extend_from_slice(&encoder.finish()?);
    }
    std::fs::write(folder.join("recording.cborseq.gz"), file)?;
    Ok(())
}

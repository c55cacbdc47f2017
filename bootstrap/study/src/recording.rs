//! Recordings as files: gzip members (RFC 1952) of a CBOR sequence (RFC 8742) of records, in files that follow each
//! other. Implements `specs/recording.md`, "Files".

mod reader;
mod recorder;
mod session;
mod writer;

pub use reader::{ReadError, Reader, Warning};
pub use recorder::Recorder;
pub use session::{Limits, Session};
pub use writer::{WriteError, Writer};

/// End of the name of a recording's file.
pub const ENDING: &str = ".cborseq.gz";
/// End of the name of a publication's file, so that neither people nor the recorder take it for a recording.
pub const PUBLISHED_ENDING: &str = ".published.cborseq.gz";

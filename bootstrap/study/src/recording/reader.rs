//! Reads recordings and publications, file by file in the order of their names.
//!
//! Whoever hands over a file is not believed: a record has a bound before it is read, nothing is kept, and what is
//! wrong is an error. What a kill or a full disk leaves behind, a file that ends in the middle, is a warning.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use infernet_protocol::codec::{self, Malformed, Reason, Wire};

use crate::record::{Body, Header, PUBLICATION, RECORD_BYTES, RECORDING, Record, VERSION};

/// End of the names that are looked for in a directory; published files have it too.
const ENDING: &str = super::ENDING;
/// Read at once.
const CHUNK: usize = 64 * 1024;

/// Why a recording cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is nothing to read.
    #[error("`{path}` has no file `*.cborseq.gz`; name a recording's directory or its files", path = path.display())]
    Nothing {
        /// The directory.
        path: PathBuf,
    },
    /// The system refuses.
    #[error("cannot read `{path}` ({error}); look after its name and permissions", path = path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// It does not begin as a recording does.
    #[error("`{path}` is no recording ({why}); leave it out", path = path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What is missing.
        why: &'static str,
    },
    /// A later version.
    #[error("`{path}` is of version {version} and this program reads {VERSION}; update it", path = path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u16,
    },
    /// It holds what no recorder writes.
    #[error("`{path}` is malformed after {records} records ({malformed}); leave it out", path = path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Records before it.
        records: u64,
        /// What is wrong.
        malformed: Malformed,
    },
}

/// What is missing from a recording that can be read nevertheless.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The file.
    pub path: PathBuf,
    /// Records that were read from it.
    pub records: u64,
    /// Whether it ends in the middle, as after a kill; else its compressed data are damaged there.
    pub is_torn: bool,
}

impl std::fmt::Display for Warning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (path, records) = (self.path.display(), self.records);
        let how = if self.is_torn {
            "ends in the middle"
        } else {
            "is damaged"
        };
        write!(
            f,
            "`{path}` {how} after {records} records; what follows there was left out"
        )
    }
}

/// Records, in order.
#[derive(Debug)]
pub struct Reader {
    files: VecDeque<PathBuf>,
    current: Option<Open>,
    header: Option<Header>,
    warnings: Vec<Warning>,
    records: u64,
}

impl Reader {
    /// Reads files, and those of directories that end in `.cborseq.gz`, in the order of their names.
    ///
    /// # Errors
    /// [`ReadError`] where a directory cannot be listed or has none.
    pub fn open<P: AsRef<Path>>(paths: &[P]) -> Result<Self, ReadError> {
        let mut files = Vec::new();
        for path in paths.iter().map(AsRef::as_ref) {
            if path.is_dir() {
                files.extend(list(path)?);
            } else {
                files.push(path.to_owned());
            }
        }
        // By name and not by path: files of one recording may lie in several places.
        files.sort_by(|left, right| (left.file_name(), left).cmp(&(right.file_name(), right)));
        Ok(Self {
            files: files.into(),
            current: None,
            header: None,
            warnings: Vec::new(),
            records: 0,
        })
    }

    /// The header of the file that the last record came from.
    #[must_use]
    pub fn header(&self) -> Option<&Header> {
        self.header.as_ref()
    }

    /// What was missing so far.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// Records read so far, headers among them.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.records
    }

    fn advance(&mut self) -> Result<Option<Record>, ReadError> {
        loop {
            let Some(open) = &mut self.current else {
                match self.files.pop_front() {
                    Some(path) => self.current = Some(Open::new(path)?),
                    None => return Ok(None),
                }
                continue;
            };
            if let Some(record) = open.next()? {
                if let Body::Header(header) = &record.body {
                    open.check(header)?;
                    self.header = Some(header.clone());
                } else if open.records == 1 {
                    return Err(open.foreign("its first record is no header"));
                }
                self.records += 1;
                return Ok(Some(record));
            }
            self.warnings.extend(open.warning());
            self.current = None;
        }
    }
}

impl Iterator for Reader {
    type Item = Result<Record, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.advance().transpose();
        if let Some(Err(_)) = next {
            // Nothing that follows would be in its place.
            self.files.clear();
            self.current = None;
        }
        next
    }
}

fn list(directory: &Path) -> Result<Vec<PathBuf>, ReadError> {
    let refused = |error| ReadError::File {
        path: directory.to_owned(),
        error,
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(refused)? {
        let entry = entry.map_err(refused)?;
        if entry.file_name().to_str().is_some_and(|name| name.ends_with(ENDING)) {
            files.push(entry.path());
        }
    }
    if files.is_empty() {
        return Err(ReadError::Nothing {
            path: directory.to_owned(),
        });
    }
    Ok(files)
}

/// How the compressed data came to their end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Behind a whole member.
    Whole,
    /// Inside of one.
    Torn,
    /// Before something that is no member.
    Damaged,
}

/// A file that is being read.
#[derive(Debug)]
struct Open {
    path: PathBuf,
    source: MultiGzDecoder<BufReader<File>>,
    buffer: Vec<u8>,
    start: usize,
    end: Option<End>,
    records: u64,
}

/// The first bytes of a gzip file (RFC 1952, 2.3.1), and what is said of one that has others.
const GZIP: [u8; 2] = [0x1f, 0x8b];
const NO_GZIP: &str = "it is not compressed with gzip";

impl Open {
    fn new(path: PathBuf) -> Result<Self, ReadError> {
        let opened = File::open(&path).and_then(|file| {
            let mut file = BufReader::new(file);
            // A file that was cut off before it had two bytes is a recording all the same.
            let is_gzip = match file.fill_buf()? {
                [one, other, ..] => [*one, *other] == GZIP,
                _ => true,
            };
            Ok((file, is_gzip))
        });
        match opened {
            Ok((file, true)) => Ok(Self {
                path,
                source: MultiGzDecoder::new(file),
                buffer: Vec::new(),
                start: 0,
                end: None,
                records: 0,
            }),
            Ok((_, false)) => Err(ReadError::Foreign { path, why: NO_GZIP }),
            Err(error) => Err(ReadError::File { path, error }),
        }
    }

    fn foreign(&self, why: &'static str) -> ReadError {
        ReadError::Foreign {
            path: self.path.clone(),
            why,
        }
    }

    fn check(&self, header: &Header) -> Result<(), ReadError> {
        if ![RECORDING, PUBLICATION].contains(&header.format.as_str()) {
            return Err(self.foreign("its header names another format"));
        }
        if header.version != VERSION {
            return Err(ReadError::Version {
                path: self.path.clone(),
                version: header.version,
            });
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Option<Record>, ReadError> {
        self.fill()?;
        let rest = &self.buffer[self.start..];
        let rest = &rest[..rest.len().min(RECORD_BYTES)];
        if rest.is_empty() {
            if self.records == 0 && self.end == Some(End::Damaged) {
                return Err(self.foreign(NO_GZIP));
            }
            return Ok(None);
        }
        let mut reader = codec::Reader::new(rest);
        match Record::decode(&mut reader) {
            Ok(record) => {
                // A failure says where it is, and a success is where the next record begins.
                self.start += reader.fail(Reason::Trailing).offset;
                self.records += 1;
                Ok(Some(record))
            }
            Err(Malformed {
                reason: Reason::Truncated,
                ..
            }) if rest.len() < RECORD_BYTES => {
                // It is the end of the file: otherwise there would be more in the buffer.
                self.end = Some(End::Torn);
                self.start = self.buffer.len();
                Ok(None)
            }
            Err(malformed) => Err(ReadError::Malformed {
                path: self.path.clone(),
                records: self.records,
                malformed,
            }),
        }
    }

    /// Sees to it that the largest record is in the buffer whole, or all that is left of the file.
    fn fill(&mut self) -> Result<(), ReadError> {
        while self.end.is_none() && self.buffer.len() - self.start < RECORD_BYTES {
            self.buffer.drain(..self.start);
            self.start = 0;
            let held = self.buffer.len();
            self.buffer.resize(held + CHUNK, 0);
            let read = self.source.read(&mut self.buffer[held..]);
            self.buffer.truncate(held + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => self.end = Some(End::Whole),
                Ok(_) => {}
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::UnexpectedEof => self.end = Some(End::Torn),
                    ErrorKind::InvalidInput | ErrorKind::InvalidData => self.end = Some(End::Damaged),
                    _ => {
                        let path = self.path.clone();
                        return Err(ReadError::File { path, error });
                    }
                },
            }
        }
        Ok(())
    }

    fn warning(&self) -> Option<Warning> {
        let is_torn = match self.end {
            Some(End::Torn) => true,
            Some(End::Damaged) => false,
            _ if self.records == 0 => true,
            _ => return None,
        };
        Some(Warning {
            path: self.path.clone(),
            records: self.records,
            is_torn,
        })
    }
}

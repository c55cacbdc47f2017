//! The journal: append-only segments of checksummed records. It is the truth; the index is made from it.
//!
//! A segment is `data/journal/NNNNNNNN.log`: a header of 16 bytes (`INFJRNL1`, the segment's number), then records, each
//! its length (u32, little endian), the CRC-32 of length and payload, and the payload. An append is one write, so the
//! kernel has it when `append` returns and the death of the process loses nothing; `sync` is for power cuts.
//!
//! A record that was cut short at the very end never counted, and is cut off. Damage anywhere else is an error.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use infernet_protocol::codec::{self, Wire as _};

use super::disk::Disk;
use super::record::{Record, Repaired};
use super::{Repair, StoreError};
use crate::home;

/// First bytes of a segment; the digit is the format's version.
const MAGIC: &[u8; 8] = b"INFJRNL1";
/// Magic and segment number.
pub(super) const HEADER_BYTES: u64 = 16;
/// Length and checksum before each payload.
const PREFIX_BYTES: usize = 8;
/// Largest payload: a lease with three envelopes of full size, and their fields.
const PAYLOAD_BYTES: usize = 64 * 1024;
/// Pieces of one segment that are kept after a repair. A segment that needs more of them is on a disk to be replaced.
const QUARANTINED: u32 = 64;
/// Read at once when records are replayed; a multiple of the largest record.
const WINDOW_BYTES: usize = 16 * PAYLOAD_BYTES;

/// A place in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    /// Number of the segment, from 1.
    pub(super) segment: u64,
    /// Byte in the segment.
    pub(super) offset: u64,
}

impl Position {
    /// Where the first record is.
    pub(super) const START: Self = Self {
        segment: 1,
        offset: HEADER_BYTES,
    };
}

/// Something that cannot be read, and is not the torn end.
#[derive(Debug)]
pub(super) struct Damage {
    pub(super) at: Position,
}

/// Why a replay stopped.
#[derive(Debug)]
pub(super) enum ReplayError<E> {
    Damaged(Damage),
    Io(StoreError),
    Refused(E),
}

/// The open journal.
#[derive(Debug)]
pub(super) struct Journal {
    directory: PathBuf,
    disk: Arc<dyn Disk>,
    segment: u64,
    file: Arc<File>,
    length: u64,
}

pub(super) fn segment_path(directory: &Path, segment: u64) -> PathBuf {
    directory.join(format!("{segment:08}.log"))
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |error| StoreError::io(what, path, error)
}

impl Journal {
    /// Opens the last segment and cuts a torn end off. `durable` is what is known to have been on disk: anything
    /// unreadable before it is damage, even at the end.
    pub(super) fn open(
        directory: &Path,
        disk: Arc<dyn Disk>,
        durable: Position,
        repairs: &mut Vec<Repair>,
    ) -> Result<Result<Self, Damage>, StoreError> {
        home::create_directory(directory)?;
        let segments = segments(directory)?;
        for (place, segment) in segments.iter().enumerate() {
            let expected = place as u64 + 1;
            if *segment != expected {
                return Ok(Err(Damage {
                    at: Position {
                        segment: expected,
                        offset: 0,
                    },
                }));
            }
        }
        let last = segments.len().max(1) as u64;
        let path = segment_path(directory, last);
        if segments.is_empty() {
            create_segment(directory, last)?;
        }
        let file = File::options()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(failed("open", &path))?;
        let bytes = read_whole(&file).map_err(failed("read", &path))?;
        let durable_here = match durable.segment.cmp(&last) {
            // Nothing is known of a journal from its start on, not even its header.
            _ if durable <= Position::START => 0,
            std::cmp::Ordering::Less => 0,
            std::cmp::Ordering::Equal => durable.offset,
            std::cmp::Ordering::Greater => u64::MAX,
        };
        let scan = scan(&bytes, last);
        let end = scan.end as u64;
        if scan.resumes.is_some() || (scan.end < bytes.len() && end < durable_here) {
            return Ok(Err(Damage {
                at: Position {
                    segment: last,
                    offset: end,
                },
            }));
        }
        let mut journal = Self {
            directory: directory.to_owned(),
            disk,
            segment: last,
            file: Arc::new(file),
            length: end,
        };
        if scan.end < bytes.len() || bytes.len() < HEADER_BYTES as usize {
            journal.cut(&path, &bytes[scan.end..], repairs)?;
        }
        if durable > journal.end() {
            return Ok(Err(Damage { at: journal.end() }));
        }
        Ok(Ok(journal))
    }

    /// Cuts the torn end off, after it was put aside.
    fn cut(&mut self, path: &Path, torn: &[u8], repairs: &mut Vec<Repair>) -> Result<(), StoreError> {
        let at = self.length;
        if self.length < HEADER_BYTES {
            write_header(&self.file, self.segment).map_err(failed("write", path))?;
            self.length = HEADER_BYTES;
        }
        let kept = match torn {
            [] => None,
            torn => Some(put_aside(&self.directory, &format!("{:08}.torn", self.segment), torn)?),
        };
        self.file
            .set_len(self.length)
            .and_then(|()| self.file.sync_all())
            .map_err(failed("repair", path))?;
        if let Some(kept) = kept {
            repairs.push(Repair::TornEnd {
                file: path.to_owned(),
                offset: at,
                bytes: torn.len() as u64,
                kept,
            });
        }
        Ok(())
    }

    /// Where the next record will be.
    pub(super) fn end(&self) -> Position {
        Position {
            segment: self.segment,
            offset: self.length,
        }
    }

    /// The open segment, to be synced without holding the journal.
    pub(super) fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// Writes one record. On an error nothing of it is left behind, or the journal must not be used again.
    pub(super) fn append(&mut self, record: &Record) -> Result<(), AppendError> {
        let bytes = frame(record).ok_or(AppendError::TooLarge)?;
        match self.disk.write(&self.file, &bytes, self.length) {
            Ok(()) => {
                self.length += bytes.len() as u64;
                Ok(())
            }
            Err(error) => match self.file.set_len(self.length) {
                Ok(()) => Err(AppendError::Refused(error)),
                Err(_) => Err(AppendError::Broken(error)),
            },
        }
    }

    /// Whether the segment has grown to its size.
    pub(super) fn is_due(&self) -> bool {
        self.length >= self.disk.segment_bytes()
    }

    /// Goes on in a new segment. Everything in the old one must be synced.
    pub(super) fn rotate(&mut self) -> Result<(), StoreError> {
        self.file = Arc::new(create_segment(&self.directory, self.segment + 1)?);
        self.segment += 1;
        self.length = HEADER_BYTES;
        Ok(())
    }
}

/// Why a record was not written.
#[derive(Debug)]
pub(super) enum AppendError {
    /// It is larger than any record may be.
    TooLarge,
    /// The disk did not take it; nothing of it is left.
    Refused(io::Error),
    /// The disk took a part of it and would not let go.
    Broken(io::Error),
}

/// Hands every record from `from` to `to` to `each`, in order, with its place.
pub(super) fn replay<E>(
    directory: &Path,
    from: Position,
    to: Position,
    mut each: impl FnMut(Position, Record) -> Result<(), E>,
) -> Result<(), ReplayError<E>> {
    let mut at = from;
    while at < to {
        let path = segment_path(directory, at.segment);
        let open = || -> io::Result<(File, u64)> {
            let file = File::open(&path)?;
            let length = file.metadata()?.len();
            Ok((file, length))
        };
        let (file, length) = open().map_err(|error| ReplayError::Io(failed("read", &path)(error)))?;
        let end = if at.segment == to.segment { to.offset } else { length };
        while at.offset < end {
            let window = (end - at.offset).min(WINDOW_BYTES as u64) as usize;
            let mut bytes = vec![0; window];
            file.read_exact_at(&mut bytes, at.offset)
                .map_err(|error| ReplayError::Io(failed("read", &path)(error)))?;
            let before = at.offset;
            let mut rest = &bytes[..];
            while let Some(payload) = payload(rest) {
                let record = codec::from_slice(payload).map_err(|_| {
                    ReplayError::Io(StoreError::Newer {
                        path: path.clone(),
                        offset: at.offset,
                    })
                })?;
                each(at, record).map_err(ReplayError::Refused)?;
                let used = PREFIX_BYTES + payload.len();
                at.offset += used as u64;
                rest = &rest[used..];
            }
            if at.offset == before {
                return Err(ReplayError::Damaged(Damage { at }));
            }
        }
        if at.segment == to.segment {
            break;
        }
        at = Position {
            segment: at.segment + 1,
            offset: HEADER_BYTES,
        };
    }
    Ok(())
}

/// Puts a damaged segment aside and writes what can be read of it in its place.
pub(super) fn salvage(directory: &Path, damage: &Damage) -> Result<(PathBuf, Repaired), StoreError> {
    let segment = damage.at.segment;
    let path = segment_path(directory, segment);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(failed("read", &path)(error)),
    };
    let kept = put_aside(directory, &format!("{segment:08}.damaged"), &bytes)?;
    let mut readable = header(segment).to_vec();
    let mut lost = 0;
    let mut start = HEADER_BYTES as usize;
    loop {
        let scan = scan_records(&bytes, start);
        readable.extend_from_slice(bytes.get(start..scan.end).unwrap_or_default());
        match scan.resumes {
            Some(next) => {
                lost += next - scan.end;
                start = next;
            }
            None => {
                lost += bytes.len().saturating_sub(scan.end);
                break;
            }
        }
    }
    home::write_atomically(&path, &readable)?;
    Ok((
        kept,
        Repaired {
            segment,
            offset: damage.at.offset,
            lost: lost as u64,
        },
    ))
}

/// Keeps bytes that are taken out of the journal under the first free name `quarantine/NAME-N`. Once all are taken the
/// last one is written over: the first ones tell more of how it began.
fn put_aside(directory: &Path, name: &str, bytes: &[u8]) -> Result<PathBuf, StoreError> {
    let quarantine = directory.with_file_name("quarantine");
    home::create_directory(&quarantine)?;
    let place = |n: u32| quarantine.join(format!("{name}-{n}"));
    let free = (0..QUARANTINED).map(place).find(|path| !path.exists());
    let free = free.unwrap_or_else(|| place(QUARANTINED - 1));
    home::write_atomically(&free, bytes)?;
    Ok(free)
}

fn segments(directory: &Path) -> Result<Vec<u64>, StoreError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed("list", directory))? {
        let name = entry.map_err(failed("list", directory))?.file_name();
        let number: Option<u64> = name.to_str().and_then(|name| name.strip_suffix(".log")?.parse().ok());
        found.extend(number);
    }
    found.sort_unstable();
    Ok(found)
}

fn header(segment: u64) -> [u8; HEADER_BYTES as usize] {
    let mut header = [0; HEADER_BYTES as usize];
    header[..8].copy_from_slice(MAGIC);
    header[8..].copy_from_slice(&segment.to_le_bytes());
    header
}

fn write_header(file: &File, segment: u64) -> io::Result<()> {
    file.write_all_at(&header(segment), 0)
}

fn create_segment(directory: &Path, segment: u64) -> Result<File, StoreError> {
    let path = segment_path(directory, segment);
    let file = home::private_file()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)
        .and_then(|file| {
            write_header(&file, segment)
                .and_then(|()| file.sync_all())
                .map(|()| file)
        })
        .map_err(failed("create", &path))?;
    home::sync_directory(directory)?;
    Ok(file)
}

fn read_whole(file: &File) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; file.metadata()?.len() as usize];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

fn checksum(length: [u8; 4], payload: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&length);
    crc.update(payload);
    crc.finalize()
}

/// A record as it lies in a segment; `None` if it is larger than any may be.
fn frame(record: &Record) -> Option<Vec<u8>> {
    let mut writer = codec::Writer::with_capacity(512);
    record.encode(&mut writer);
    let payload = writer.into_bytes();
    if payload.len() > PAYLOAD_BYTES {
        return None;
    }
    let length = u32::try_from(payload.len()).ok()?.to_le_bytes();
    let mut bytes = Vec::with_capacity(PREFIX_BYTES + payload.len());
    bytes.extend_from_slice(&length);
    bytes.extend_from_slice(&checksum(length, &payload).to_le_bytes());
    bytes.extend_from_slice(&payload);
    Some(bytes)
}

/// The payload of the record at the start of `bytes`, if a whole and undamaged one is there.
fn payload(bytes: &[u8]) -> Option<&[u8]> {
    let length: [u8; 4] = bytes.get(..4)?.try_into().ok()?;
    let crc = u32::from_le_bytes(bytes.get(4..PREFIX_BYTES)?.try_into().ok()?);
    let size = u32::from_le_bytes(length) as usize;
    if size == 0 || size > PAYLOAD_BYTES {
        return None;
    }
    let payload = bytes.get(PREFIX_BYTES..PREFIX_BYTES + size)?;
    (checksum(length, payload) == crc).then_some(payload)
}

/// What a segment holds.
struct Scan {
    /// End of the readable records.
    end: usize,
    /// The next readable record behind something unreadable.
    resumes: Option<usize>,
}

fn scan(bytes: &[u8], segment: u64) -> Scan {
    let start = HEADER_BYTES as usize;
    if bytes.get(..start) == Some(&header(segment)) {
        return scan_records(bytes, start);
    }
    // A header is written and synced before anything else, so records behind a bad one mean damage.
    Scan {
        end: 0,
        resumes: (start..bytes.len()).find(|at| payload(&bytes[*at..]).is_some()),
    }
}

fn scan_records(bytes: &[u8], start: usize) -> Scan {
    let mut end = start.min(bytes.len());
    while let Some(payload) = payload(&bytes[end..]) {
        end += PREFIX_BYTES + payload.len();
    }
    Scan {
        end,
        resumes: (end + 1..bytes.len()).find(|at| payload(&bytes[*at..]).is_some()),
    }
}

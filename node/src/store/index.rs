//! The index: what the journal says, arranged for questions. Applying a record twice changes nothing, so after a crash
//! the journal is replayed from a place before the last one.

mod applying;

use std::ops::ControlFlow;
use std::path::Path;

use infernet_protocol::codec::{self, Wire};
use infernet_protocol::receipt::chain::EnvelopeBytes;
use infernet_protocol::receipt::{Countersign, JobReceipt};
use infernet_protocol::signed::{self, Message};
use infernet_protocol::{Digest, JobId, LeaseId, MicroUsd, ModelId, NodeId, RequestId, UnixMillis, wire_struct};

use super::journal::{self, Position, ReplayError};
use super::record::{LeaseOpened, Record, RequestMade, Unreceipted};
use super::rows::{Query, ReceiptRow, RowStatus};
use super::trees::{IndexError, Tree, Trees};
use crate::spending::{CallerId, Spent, WINDOW_MS};
use applying::Applying;

/// Changes with any key or value below; an index of another schema is made again from the journal.
const SCHEMA: u64 = 3;
/// A lease that nobody came back for is kept open this long after its end, in milliseconds: 30 days.
const UNSETTLED_KEPT: u64 = 30 * 24 * 3600 * 1000;

/// Records that are taken in before others may have the processor: that is a fraction of a millisecond. Where processors
/// are full each time may cost a whole turn of somebody else, and a sync of the journal may wait behind it.
const GIVE_WAY_EVERY: u64 = 16;

const META_SCHEMA: &[u8] = b"schema";
const META_APPLIED: &[u8] = b"applied";
const META_AD_SEQUENCE: &[u8] = b"ad_sequence";

wire_struct! {
    /// A lease's messages, and what is asked of them most.
    pub struct LeaseCell {
        pub opened: LeaseOpened,
        pub expires_at: UnixMillis,
        pub model: ModelId,
        pub peer: NodeId,
    }
}

wire_struct! {
    /// One place of a lease.
    #[derive(Default)]
    pub struct ReceiptCell {
        pub receipt: Option<EnvelopeBytes>,
        pub countersign: Option<EnvelopeBytes>,
    }
}

wire_struct! {
    /// What is known of a request.
    #[derive(Default)]
    pub struct RequestCell {
        pub made: Option<RequestMade>,
        pub used_at: Option<UnixMillis>,
        pub unreceipted: Option<Unreceipted>,
        pub dropped: bool,
        pub seq: Option<u32>,
        pub listed: Option<[u8; 16]>,
        pub caller: Option<[u8; 16]>,
    }
}

wire_struct! {
    /// What a request cost.
    pub struct SpentCell {
        pub amount: MicroUsd,
        pub caller: Option<[u8; 16]>,
    }
}

/// A lease in the index.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) cell: LeaseCell,
    /// Opened before the journal was damaged: its last steps may be missing.
    pub(super) suspended: bool,
    pub(super) receipts: Vec<ReceiptCell>,
    pub(super) requests: Vec<(RequestId, RequestCell)>,
}

#[derive(Debug)]
pub(super) struct Index {
    trees: Trees,
}

fn encode<T: Wire>(value: &T) -> Vec<u8> {
    codec::to_vec(value)
}

fn decode<T: Wire>(bytes: &[u8]) -> Result<T, IndexError> {
    codec::from_slice(bytes).map_err(|error| IndexError(format!("index holds something unreadable: {error}")))
}

fn lease_key(lease: &LeaseId) -> Vec<u8> {
    [&lease.job.0[..], &lease.attempt.to_be_bytes()].concat()
}

fn request_key(lease: &LeaseId, request: &RequestId) -> Vec<u8> {
    [&lease_key(lease)[..], &request.0].concat()
}

fn receipt_key(lease: &LeaseId, seq: u32) -> Vec<u8> {
    [&lease_key(lease)[..], &seq.to_be_bytes()].concat()
}

/// What a lease waits for: the end of a request, or a verdict on a receipt.
fn pending_request(lease: &LeaseId, request: &RequestId) -> Vec<u8> {
    [&lease_key(lease)[..], &[0], &request.0].concat()
}

fn pending_verdict(lease: &LeaseId, seq: u32) -> Vec<u8> {
    [&lease_key(lease)[..], &[1], &seq.to_be_bytes()].concat()
}

fn spent_key(at: UnixMillis, request: &RequestId) -> Vec<u8> {
    [&at.0.to_be_bytes()[..], &request.0].concat()
}

fn place_key(at: Position) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&at.segment.to_be_bytes());
    key[8..].copy_from_slice(&at.offset.to_be_bytes());
    key
}

/// The payload of an envelope whose signature was checked before it was written down.
pub(super) fn payload<T: Message>(envelope: &[u8]) -> Result<T, IndexError> {
    let envelope = signed::open(envelope).map_err(|error| IndexError(error.to_string()))?;
    decode(&envelope.payload.0)
}

impl Index {
    pub(super) fn new(trees: Trees) -> Result<Self, IndexError> {
        let index = Self { trees };
        let schema = index.trees.get(Tree::Meta, META_SCHEMA)?;
        match schema.map(|bytes| decode::<u64>(&bytes)).transpose()? {
            Some(SCHEMA) => {}
            Some(other) => return Err(IndexError(format!("index has schema {other} where {SCHEMA} is read"))),
            None => index.trees.put(Tree::Meta, META_SCHEMA, encode(&SCHEMA))?,
        }
        Ok(index)
    }

    /// Up to where the journal is in the index for certain.
    pub(super) fn applied(&self) -> Result<Position, IndexError> {
        let Some(bytes) = self.trees.get(Tree::Meta, META_APPLIED)? else {
            return Ok(Position::START);
        };
        let key: [u8; 16] = decode(&bytes)?;
        let number = |half: &[u8]| half.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
        Ok(Position {
            segment: number(&key[..8]),
            offset: number(&key[8..]),
        })
    }

    /// Puts everything on disk, and then the place up to which it reaches.
    pub(super) fn checkpoint(&self, applied: Position) -> Result<(), IndexError> {
        self.trees.flush()?;
        self.trees.put(Tree::Meta, META_APPLIED, encode(&place_key(applied)))?;
        self.trees.flush()
    }

    /// Begins to take records in.
    pub(super) fn applying(&self) -> Applying<'_> {
        Applying::new(&self.trees)
    }

    /// Takes one record in.
    pub(super) fn apply(&self, at: Position, record: &Record) -> Result<(), IndexError> {
        let mut applying = self.applying();
        applying.apply(at, record)?;
        applying.commit()
    }

    /// Takes in what the journal in `directory` says between two places; how many records that was.
    pub(super) fn take_in(
        &self,
        directory: &Path,
        from: Position,
        to: Position,
    ) -> Result<u64, ReplayError<IndexError>> {
        let (mut applying, mut records) = (self.applying(), 0);
        journal::replay(directory, from, to, |at, record| {
            records += 1;
            // On a small machine somebody who is in more of a hurry may wait for this processor.
            if records % GIVE_WAY_EVERY == 0 {
                std::thread::yield_now();
            }
            applying.apply(at, &record)
        })?;
        applying.commit().map_err(ReplayError::Refused)?;
        Ok(records)
    }

    fn request(&self, lease: &LeaseId, request: &RequestId) -> Result<Option<RequestCell>, IndexError> {
        let bytes = self.trees.get(Tree::Requests, &request_key(lease, request))?;
        bytes.map(|bytes| decode(&bytes)).transpose()
    }

    fn cell(&self, key: &[u8]) -> Result<ReceiptCell, IndexError> {
        let bytes = self.trees.get(Tree::Receipts, key)?;
        Ok(bytes.map(|bytes| decode(&bytes)).transpose()?.unwrap_or_default())
    }

    /// What was spent lately. What lies further back is forgotten here, and stays in the ledger.
    pub(super) fn spent_lately(&self, now: UnixMillis) -> Result<Vec<Spent>, IndexError> {
        let (mut spent, mut old) = (Vec::new(), Vec::new());
        self.trees.walk(Tree::Spent, &[], |key, value| {
            let at = key
                .get(..8)
                .and_then(|time| time.try_into().ok())
                .map(u64::from_be_bytes);
            let at = UnixMillis(at.ok_or_else(|| IndexError("index holds a key that is too short".to_owned()))?);
            if now.since(at) > WINDOW_MS {
                old.push(key.to_vec());
                return Ok(ControlFlow::Continue(()));
            }
            let SpentCell { amount, caller } = decode(value)?;
            let caller = caller.map(CallerId);
            spent.push(Spent { at, amount, caller });
            Ok(ControlFlow::Continue(()))
        })?;
        for key in old {
            self.trees.remove(Tree::Spent, &key)?;
        }
        Ok(spent)
    }

    fn keys(&self, tree: Tree) -> Result<Vec<Vec<u8>>, IndexError> {
        let mut keys = Vec::new();
        self.trees.walk(tree, &[], |key, _| {
            keys.push(key.to_vec());
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(keys)
    }

    /// Sequence of the last ad.
    pub(super) fn ad_sequence(&self) -> Result<u64, IndexError> {
        let bytes = self.trees.get(Tree::Meta, META_AD_SEQUENCE)?;
        Ok(bytes.map(|bytes| decode(&bytes)).transpose()?.unwrap_or(0))
    }

    /// Leases that are not over or not settled. Those that are both are forgotten here, and stay in the ledger.
    pub(super) fn open_leases(&self, now: UnixMillis) -> Result<Vec<Found>, IndexError> {
        let mut found = Vec::new();
        for key in self.keys(Tree::Open)? {
            let cell: LeaseCell = match self.trees.get(Tree::Leases, &key)? {
                Some(bytes) => decode(&bytes)?,
                None => return Err(IndexError("index lacks an open lease".to_owned())),
            };
            let over = now.since(cell.expires_at);
            let is_over = now > cell.expires_at;
            if is_over && (over > UNSETTLED_KEPT || !self.waits(&key)?) {
                self.trees.remove(Tree::Open, &key)?;
                continue;
            }
            found.push(self.found(&key, cell)?);
        }
        Ok(found)
    }

    fn waits(&self, lease: &[u8]) -> Result<bool, IndexError> {
        let mut waits = false;
        self.trees.walk(Tree::Pending, lease, |_, _| {
            waits = true;
            Ok(ControlFlow::Break(()))
        })?;
        Ok(waits)
    }

    /// Every lease of a job.
    pub(super) fn leases_of(&self, job: &JobId) -> Result<Vec<Found>, IndexError> {
        let mut cells = Vec::new();
        self.trees.walk(Tree::Leases, &job.0, |key, value| {
            cells.push((key.to_vec(), decode(value)?));
            Ok(ControlFlow::Continue(()))
        })?;
        cells.into_iter().map(|(key, cell)| self.found(&key, cell)).collect()
    }

    fn found(&self, key: &[u8], cell: LeaseCell) -> Result<Found, IndexError> {
        let mut receipts = Vec::new();
        self.trees.walk(Tree::Receipts, key, |_, value| {
            receipts.push(decode(value)?);
            Ok(ControlFlow::Continue(()))
        })?;
        let mut requests = Vec::new();
        self.trees.walk(Tree::Requests, key, |key, value| {
            requests.push((request_of(key)?, decode(value)?));
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(Found {
            cell,
            suspended: self.trees.get(Tree::Open, key)?.is_some_and(|flag| flag == [1]),
            receipts,
            requests,
        })
    }

    /// Ended requests, the latest first.
    pub(super) fn rows(&self, query: &Query) -> Result<Vec<ReceiptRow>, IndexError> {
        let mut rows = Vec::new();
        self.trees.walk_back(Tree::Timeline, |_, request| {
            if rows.len() >= query.limit {
                return Ok(ControlFlow::Break(()));
            }
            if query.may_match(&request[..16], request.get(LEASE_KEY..).unwrap_or_default()) {
                rows.extend(
                    self.row(request)?
                        .filter(|row| query.side.is_none_or(|side| side == row.side)),
                );
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(rows)
    }

    fn row(&self, key: &[u8]) -> Result<Option<ReceiptRow>, IndexError> {
        let (lease, request) = (lease_of(key)?, request_of(key)?);
        let (Some(cell), Some(known)) = (
            self.trees.get(Tree::Leases, &key[..LEASE_KEY])?,
            self.request(&lease, &request)?,
        ) else {
            return Ok(None);
        };
        let cell: LeaseCell = decode(&cell)?;
        let mut row = ReceiptRow {
            request,
            job: lease.job,
            attempt: lease.attempt,
            side: cell.opened.side,
            peer: cell.peer,
            model: cell.model,
            status: RowStatus::Unreceipted,
            input_tokens: 0,
            output_tokens: 0,
            ttft_ms: 0,
            duration_ms: 0,
            amount: infernet_protocol::MicroUsd(0),
            finished_at: known.unreceipted.map(|lost| lost.lost_at).unwrap_or_default(),
            countersigned: None,
            hash: None,
        };
        if let Some(seq) = known.seq {
            let cell = self.cell(&receipt_key(&lease, seq))?;
            let Some(envelope) = &cell.receipt else {
                return Ok(None);
            };
            let receipt: JobReceipt = payload(&envelope.0)?;
            row.status = RowStatus::Receipted(receipt.step.status);
            row.input_tokens = receipt.step.input_tokens;
            row.output_tokens = receipt.step.output_tokens;
            row.ttft_ms = receipt.step.ttft.0;
            row.duration_ms = receipt.step.duration.0;
            row.amount = receipt.step.amount;
            row.finished_at = receipt.finished_at;
            row.hash = Some(Digest::of(&[&envelope.0]));
            let sign = cell
                .countersign
                .map(|sign| payload::<Countersign>(&sign.0))
                .transpose()?;
            row.countersigned = sign.map(|sign| sign.dispute);
        }
        Ok(Some(row))
    }
}

/// Bytes of a lease's key: the job and the attempt.
const LEASE_KEY: usize = 18;

fn lease_of(key: &[u8]) -> Result<LeaseId, IndexError> {
    let short = || IndexError("index holds a key that is too short".to_owned());
    let job = key.get(..16).and_then(|job| job.try_into().ok()).ok_or_else(short)?;
    let attempt = key
        .get(16..LEASE_KEY)
        .and_then(|attempt| attempt.try_into().ok())
        .ok_or_else(short)?;
    Ok(LeaseId {
        job: JobId(job),
        attempt: u16::from_be_bytes(attempt),
    })
}

fn request_of(key: &[u8]) -> Result<RequestId, IndexError> {
    let request = key.get(LEASE_KEY..).and_then(|request| request.try_into().ok());
    request
        .map(RequestId)
        .ok_or_else(|| IndexError("index holds a key that is too short".to_owned()))
}

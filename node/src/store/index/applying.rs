//! Taking the journal in: what each record changes. The changes are gathered, so that a key that several records write is
//! written once, and what comes and goes in between never.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use infernet_protocol::auction::{JobAccept, JobOffer};
use infernet_protocol::receipt::chain::EnvelopeBytes;
use infernet_protocol::receipt::{Countersign, JobReceipt};
use infernet_protocol::signed;
use infernet_protocol::{LeaseId, MicroUsd, RequestId, UnixMillis};

use super::super::journal::Position;
use super::super::record::{LeaseOpened, Record, Side, Unreceipted};
use super::super::trees::{IndexError, TREES, Tree, Trees};
use super::{
    LeaseCell, META_AD_SEQUENCE, ReceiptCell, RequestCell, SpentCell, decode, encode, lease_key, payload,
    pending_request, pending_verdict, place_key, receipt_key, request_key, spent_key,
};

/// Changes that are held at once; more are written in between.
const HELD: usize = 4096;

/// The order in which trees are written. What decides whether a record has been taken in already, a lease or a request
/// that is there, comes last: a crash in between leaves nothing that a replay takes for done.
const ORDER: [Tree; TREES.len()] = [
    Tree::Meta,
    Tree::Open,
    Tree::Pending,
    Tree::Timeline,
    Tree::Spent,
    Tree::Receipts,
    Tree::Requests,
    Tree::Leases,
];

/// The index while records are taken in. It has all of them once they are committed, and before that perhaps some.
#[derive(Debug)]
pub(in crate::store) struct Applying<'a> {
    changes: Changes<'a>,
}

impl<'a> Applying<'a> {
    pub(super) fn new(trees: &'a Trees) -> Self {
        Self {
            changes: Changes {
                trees,
                of: [const { BTreeMap::new() }; TREES.len()],
            },
        }
    }

    /// Writes what has been gathered.
    pub(in crate::store) fn commit(&mut self) -> Result<(), IndexError> {
        self.changes.write(&ORDER)
    }

    /// Writes what a crash in the middle of it would leave: some trees and not the others.
    #[cfg(test)]
    pub(in crate::store) fn commit_torn(mut self, trees: usize) -> Result<(), IndexError> {
        self.changes.write(&ORDER[..trees])
    }

    /// Takes one record in.
    pub(in crate::store) fn apply(&mut self, at: Position, record: &Record) -> Result<(), IndexError> {
        match record {
            Record::LeaseOpened(opened) => self.lease_opened(opened),
            Record::RequestMade(made) => {
                self.pend(&made.lease, &made.request)?;
                self.edit(&made.lease, &made.request, |cell| cell.made = Some(*made))
            }
            Record::RequestFor(by) => self.edit(&by.lease, &by.request, |cell| cell.caller = Some(by.caller)),
            Record::RequestDropped(dropped) => self.dropped(&dropped.lease, &dropped.request),
            Record::LeaseUsed(used) => {
                self.pend(&used.lease, &used.request)?;
                self.edit(&used.lease, &used.request, |cell| cell.used_at = Some(used.used_at))
            }
            Record::Receipt(envelope) => self.receipt(at, envelope),
            Record::Countersign(envelope) => self.countersign(envelope),
            Record::Unreceipted(lost) => self.unreceipted(at, lost),
            Record::AdSequence(sequence) => {
                self.changes.put(Tree::Meta, META_AD_SEQUENCE, encode(sequence));
                Ok(())
            }
            Record::Repaired(_) => self.suspend_all(),
            Record::Reputation(_) | Record::Peers(_) => Ok(()),
        }?;
        if self.changes.count() >= HELD {
            self.commit()?;
        }
        Ok(())
    }

    fn lease_opened(&mut self, opened: &LeaseOpened) -> Result<(), IndexError> {
        let offer: JobOffer = payload(&opened.offer.0)?;
        let accept: JobAccept = payload(&opened.accept.0)?;
        let signer = |envelope: &EnvelopeBytes| signed::open(&envelope.0).map(|open| open.signer);
        let peer = match opened.side {
            Side::Buyer => accept.winner,
            Side::Provider => signer(&opened.offer).map_err(|error| IndexError(error.to_string()))?,
        };
        // The accept is good for the lease time, and the lease lives that long from its first use.
        let life = u64::from(offer.volume.lease.0).saturating_mul(2);
        let cell = LeaseCell {
            opened: opened.clone(),
            expires_at: UnixMillis(opened.opened_at.0.saturating_add(life)),
            model: offer.requirement.model,
            peer,
        };
        let key = lease_key(&accept.lease);
        if self.changes.get(Tree::Leases, &key)?.is_none() {
            self.changes.put(Tree::Open, &key, vec![0]);
        }
        self.changes.put(Tree::Leases, &key, encode(&cell));
        Ok(())
    }

    fn pend(&mut self, lease: &LeaseId, request: &RequestId) -> Result<(), IndexError> {
        let receipted = self.request(lease, request)?.is_some_and(|cell| cell.seq.is_some());
        if receipted {
            return Ok(());
        }
        self.changes
            .put(Tree::Pending, &pending_request(lease, request), Vec::new());
        Ok(())
    }

    fn request(&self, lease: &LeaseId, request: &RequestId) -> Result<Option<RequestCell>, IndexError> {
        let bytes = self.changes.get(Tree::Requests, &request_key(lease, request))?;
        bytes.map(|bytes| decode(&bytes)).transpose()
    }

    fn edit(
        &mut self,
        lease: &LeaseId,
        request: &RequestId,
        change: impl FnOnce(&mut RequestCell),
    ) -> Result<(), IndexError> {
        let mut cell = self.request(lease, request)?.unwrap_or_default();
        change(&mut cell);
        self.changes
            .put(Tree::Requests, &request_key(lease, request), encode(&cell));
        Ok(())
    }

    /// Moves a request to this place of the timeline.
    fn list(&mut self, at: Position, lease: &LeaseId, request: &RequestId, cell: &mut RequestCell) {
        if let Some(listed) = cell.listed.replace(place_key(at)) {
            self.changes.remove(Tree::Timeline, &listed);
        }
        self.changes
            .put(Tree::Timeline, &place_key(at), request_key(lease, request));
    }

    fn receipt(&mut self, at: Position, envelope: &EnvelopeBytes) -> Result<(), IndexError> {
        let receipt: JobReceipt = payload(&envelope.0)?;
        let (lease, request) = (&receipt.lease, &receipt.step.request);
        let key = receipt_key(lease, receipt.seq);
        let mut cell = self.cell(&key)?;
        if cell.countersign.is_none() {
            self.changes
                .put(Tree::Pending, &pending_verdict(lease, receipt.seq), Vec::new());
        }
        cell.receipt = Some(envelope.clone());
        self.changes.put(Tree::Receipts, &key, encode(&cell));
        self.changes.remove(Tree::Pending, &pending_request(lease, request));
        let mut known = self.request(lease, request)?.unwrap_or_default();
        known.seq = Some(receipt.seq);
        self.list(at, lease, request, &mut known);
        self.changes
            .put(Tree::Requests, &request_key(lease, request), encode(&known));
        Ok(())
    }

    fn cell(&self, key: &[u8]) -> Result<ReceiptCell, IndexError> {
        let bytes = self.changes.get(Tree::Receipts, key)?;
        Ok(bytes.map(|bytes| decode(&bytes)).transpose()?.unwrap_or_default())
    }

    fn countersign(&mut self, envelope: &EnvelopeBytes) -> Result<(), IndexError> {
        let sign: Countersign = payload(&envelope.0)?;
        let key = receipt_key(&sign.lease, sign.seq);
        let mut cell = self.cell(&key)?;
        cell.countersign = Some(envelope.clone());
        self.changes.put(Tree::Receipts, &key, encode(&cell));
        if let (Some(receipt), None) = (&cell.receipt, sign.dispute) {
            self.spent(&payload(&receipt.0)?)?;
        }
        self.changes
            .remove(Tree::Pending, &pending_verdict(&sign.lease, sign.seq));
        Ok(())
    }

    /// An accepted receipt: where this node is the buyer, that is money.
    fn spent(&mut self, receipt: &JobReceipt) -> Result<(), IndexError> {
        let (request, amount) = (&receipt.step.request, receipt.step.amount);
        let Some(cell) = self.request(&receipt.lease, request)? else {
            return Ok(());
        };
        let (Some(made), true) = (cell.made, amount > MicroUsd(0)) else {
            return Ok(());
        };
        let spent = SpentCell {
            amount,
            caller: cell.caller,
        };
        self.changes
            .put(Tree::Spent, &spent_key(made.made_at, request), encode(&spent));
        Ok(())
    }

    fn unreceipted(&mut self, at: Position, lost: &Unreceipted) -> Result<(), IndexError> {
        let mut cell = self.request(&lost.lease, &lost.request)?.unwrap_or_default();
        cell.unreceipted = Some(*lost);
        if cell.seq.is_none() {
            self.list(at, &lost.lease, &lost.request, &mut cell);
        }
        self.changes
            .put(Tree::Requests, &request_key(&lost.lease, &lost.request), encode(&cell));
        Ok(())
    }

    fn dropped(&mut self, lease: &LeaseId, request: &RequestId) -> Result<(), IndexError> {
        self.changes.remove(Tree::Pending, &pending_request(lease, request));
        let mut cell = self.request(lease, request)?.unwrap_or_default();
        if cell.seq.is_some() {
            return Ok(());
        }
        cell.dropped = true;
        if let Some(listed) = cell.listed.take() {
            self.changes.remove(Tree::Timeline, &listed);
        }
        self.changes
            .put(Tree::Requests, &request_key(lease, request), encode(&cell));
        Ok(())
    }

    fn suspend_all(&mut self) -> Result<(), IndexError> {
        for key in self.changes.keys(Tree::Open)? {
            self.changes.put(Tree::Open, &key, vec![1]);
        }
        Ok(())
    }
}

/// What is to be written to each tree: a value, or nothing any more.
#[derive(Debug)]
struct Changes<'a> {
    trees: &'a Trees,
    of: [BTreeMap<Vec<u8>, Option<Vec<u8>>>; TREES.len()],
}

impl Changes<'_> {
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        match self.of[tree as usize].get(key) {
            Some(change) => Ok(change.clone()),
            None => self.trees.get(tree, key),
        }
    }

    fn put(&mut self, tree: Tree, key: &[u8], value: Vec<u8>) {
        self.of[tree as usize].insert(key.to_vec(), Some(value));
    }

    fn remove(&mut self, tree: Tree, key: &[u8]) {
        self.of[tree as usize].insert(key.to_vec(), None);
    }

    fn keys(&self, tree: Tree) -> Result<BTreeSet<Vec<u8>>, IndexError> {
        let mut keys = BTreeSet::new();
        self.trees.walk(tree, &[], |key, _| {
            keys.insert(key.to_vec());
            Ok(ControlFlow::Continue(()))
        })?;
        for (key, change) in &self.of[tree as usize] {
            match change {
                Some(_) => keys.insert(key.clone()),
                None => keys.remove(key),
            };
        }
        Ok(keys)
    }

    fn count(&self) -> usize {
        self.of.iter().map(BTreeMap::len).sum()
    }

    fn write(&mut self, trees: &[Tree]) -> Result<(), IndexError> {
        for tree in trees.iter().copied() {
            let changes = std::mem::take(&mut self.of[tree as usize]);
            if !changes.is_empty() {
                self.trees.write(tree, changes)?;
            }
        }
        Ok(())
    }
}

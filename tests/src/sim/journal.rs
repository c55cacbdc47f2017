//! What survives a crash: records in the order in which they were appended. A killed process loses nothing of them; a
//! power cut may lose those that were not synced.

use std::collections::BTreeMap;

use infernet_protocol::market::lease::{Bounds, Papers};
use infernet_protocol::receipt::ledger::Ledger;
use infernet_protocol::receipt::{Countersign, JobReceipt};
use infernet_protocol::{LeaseId, RequestId, Verified};

use super::rng::Rng;

/// One record.
#[derive(Clone, Debug)]
pub(super) enum Record {
    /// A lease began at this time on the node's wall clock.
    Lease(Papers, u64),
    /// A request under it.
    Use(LeaseId, RequestId, Bounds),
    /// The request failed and nothing was delivered: nobody owes anything for it.
    Void(LeaseId, RequestId),
    /// A receipt.
    Receipt(Verified<JobReceipt>),
    /// A countersignature.
    Countersign(Verified<Countersign>),
}

/// A node's journal.
#[derive(Clone, Debug, Default)]
pub(super) struct Journal {
    records: Vec<Record>,
    synced: usize,
}

/// A lease as the journal has it.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) papers: Papers,
    pub(super) began: u64,
    pub(super) ledger: Ledger,
    pub(super) used: Vec<(RequestId, Bounds)>,
    pub(super) void: Vec<RequestId>,
}

impl Journal {
    pub(super) fn append(&mut self, record: Record) {
        self.records.push(record);
    }

    pub(super) fn sync(&mut self) {
        self.synced = self.records.len();
    }

    /// A power cut: some of what was not synced is gone.
    pub(super) fn lose_unsynced(&mut self, rng: &mut Rng) {
        let kept = rng.index(self.records.len() - self.synced + 1);
        self.records.truncate(self.synced + kept);
    }

    /// Every lease with its book.
    pub(super) fn replay(&self) -> Result<BTreeMap<LeaseId, Kept>, String> {
        let mut leases: BTreeMap<LeaseId, Kept> = BTreeMap::new();
        for record in &self.records {
            match record {
                Record::Lease(papers, began) => {
                    let kept = Kept {
                        ledger: Ledger::new(papers.deal()),
                        papers: papers.clone(),
                        began: *began,
                        used: Vec::new(),
                        void: Vec::new(),
                    };
                    leases.insert(papers.accept.lease, kept);
                }
                Record::Use(lease, request, bounds) => {
                    let kept = leases
                        .get_mut(lease)
                        .ok_or("journal uses a lease that it does not hold")?;
                    kept.used.push((*request, *bounds));
                }
                Record::Void(lease, request) => {
                    let kept = leases
                        .get_mut(lease)
                        .ok_or("journal voids a request of a lease that it does not hold")?;
                    kept.void.push(*request);
                }
                Record::Receipt(receipt) => {
                    let kept = leases
                        .get_mut(&receipt.lease)
                        .ok_or("journal has a receipt and no lease")?;
                    kept.ledger
                        .file(receipt.clone())
                        .map_err(|error| format!("journal: {error}"))?;
                }
                Record::Countersign(sign) => {
                    let kept = leases
                        .get_mut(&sign.lease)
                        .ok_or("journal has a countersignature and no lease")?;
                    kept.ledger
                        .countersign(sign.clone())
                        .map_err(|error| format!("journal: {error}"))?;
                }
            }
        }
        Ok(leases)
    }
}

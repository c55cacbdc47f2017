//! What a node finds again when it starts: leases with their books, rebuilt from messages whose signatures are checked
//! once more.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use infernet_protocol::auction::{JobAccept, JobBid, JobOffer};
use infernet_protocol::receipt::chain;
use infernet_protocol::receipt::ledger::{Deal, Ledger};
use infernet_protocol::{LeaseId, Network, RequestId, UnixMillis, Verified};

use super::index::Found;
use super::record::{RequestMade, Side, Unreceipted};
use crate::spending::{CallerId, Spent};

/// Everything that outlived the process.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// Leases that are not over, or not settled.
    pub leases: Vec<OpenLease>,
    /// What this node spent as a buyer in the last day.
    pub spent: Vec<Spent>,
    /// Sequence of the last ad; the next is larger.
    pub ad_sequence: u64,
    /// The last reputation snapshot.
    pub reputation: Option<Vec<u8>>,
    /// Addresses of nodes that were met, freshest first.
    pub peers: Vec<String>,
    /// What had to be mended; each deserves a warning in the log.
    pub repairs: Vec<Repair>,
}

/// A lease and its book.
#[derive(Clone, Debug)]
pub struct StoredDeal {
    /// Which side this node is.
    pub side: Side,
    /// The offer.
    pub offer: Verified<JobOffer>,
    /// The bid.
    pub bid: Verified<JobBid>,
    /// The accept.
    pub accept: Verified<JobAccept>,
    /// The receipts and countersignatures.
    pub ledger: Ledger,
}

impl StoredDeal {
    /// The lease.
    #[must_use]
    pub fn lease(&self) -> LeaseId {
        self.accept.lease
    }

    /// As a file that a stranger can check.
    #[must_use]
    pub fn export(&self, network: &Network) -> Vec<u8> {
        chain::Export::new(network, &self.offer, &self.bid, &self.accept, &self.ledger).to_bytes()
    }
}

/// A lease that the node was in when it stopped.
#[derive(Clone, Debug)]
pub struct OpenLease {
    /// Its messages and its book.
    pub deal: StoredDeal,
    /// When it began.
    pub opened_at: UnixMillis,
    /// When it is over at the latest: its accept may be used for the lease time, and the lease lives that long from
    /// its first use.
    pub expires_at: UnixMillis,
    /// When its first request ran or was sent.
    pub first_used_at: Option<UnixMillis>,
    /// Whether its last steps may be missing, since the journal was damaged: settle it, and run nothing more under it.
    pub suspended: bool,
    /// Worker: requests that were used up.
    pub used: BTreeSet<RequestId>,
    /// Worker: those of them that cost nothing.
    pub free: BTreeSet<RequestId>,
    /// Buyer: requests that were sent, and may cost something.
    pub made: BTreeMap<RequestId, RequestMade>,
    /// Buyer: whose key asked for a request.
    pub callers: BTreeMap<RequestId, CallerId>,
    /// Buyer: what lost providers had delivered, without those that were receipted since.
    pub unreceipted: BTreeMap<RequestId, Unreceipted>,
}

/// Something that had to be mended at the start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Repair {
    /// The last record had not been written to its end when the node was stopped; it never counted.
    #[error(
        "the journal ended in the middle of a record: {bytes} bytes of `{file}` from byte {offset} were cut off and kept as `{kept}`"
    )]
    TornEnd {
        /// The segment.
        file: PathBuf,
        /// Where the cut is.
        offset: u64,
        /// Bytes that were cut off.
        bytes: u64,
        /// Where they are kept.
        kept: PathBuf,
    },
    /// The index was made again from the journal.
    #[error("the index was made again from the journal: {why}{}", .kept.as_ref().map(|kept|
        format!("; the old one is kept as `{}`", kept.display())).unwrap_or_default())]
    IndexRebuilt {
        /// What was wrong with it.
        why: String,
        /// Where the old one is kept.
        kept: Option<PathBuf>,
    },
    /// A snapshot was unreadable; the node starts without it.
    #[error("`{file}` is damaged and was left out; it will be written anew")]
    Snapshot {
        /// The file.
        file: PathBuf,
    },
    /// A lease whose messages do not fit together.
    #[error("a lease in the ledger was left out ({why}): look at it with `infernet receipts show {lease}`")]
    Lease {
        /// The lease.
        lease: String,
        /// What does not fit.
        why: String,
    },
}

/// Rebuilds one lease, checking every signature.
pub(super) fn open_lease(found: &Found, network: &Network) -> Result<OpenLease, String> {
    let deal = stored_deal(found, network)?;
    let requests = &found.requests;
    let times = requests
        .iter()
        .filter_map(|(_, cell)| cell.used_at.or(cell.made.map(|made| made.made_at)));
    Ok(OpenLease {
        deal,
        opened_at: found.cell.opened.opened_at,
        expires_at: found.cell.expires_at,
        first_used_at: times.min(),
        suspended: found.suspended,
        used: requests
            .iter()
            .filter(|(_, cell)| cell.used_at.is_some())
            .map(|(id, _)| *id)
            .collect(),
        free: requests
            .iter()
            .filter(|(_, cell)| cell.used_at.is_some() && cell.dropped)
            .map(|(id, _)| *id)
            .collect(),
        made: requests
            .iter()
            .filter(|(_, cell)| !cell.dropped)
            .filter_map(|(id, cell)| Some((*id, cell.made?)))
            .collect(),
        callers: requests
            .iter()
            .filter_map(|(id, cell)| Some((*id, CallerId(cell.caller?))))
            .collect(),
        unreceipted: requests
            .iter()
            .filter(|(_, cell)| cell.seq.is_none() && !cell.dropped)
            .filter_map(|(id, cell)| Some((*id, cell.unreceipted?)))
            .collect(),
    })
}

/// Rebuilds one lease's messages and book, checking every signature.
pub(super) fn stored_deal(found: &Found, network: &Network) -> Result<StoredDeal, String> {
    let opened = &found.cell.opened;
    let offer: Verified<JobOffer> =
        Verified::from_bytes(&opened.offer.0, network).map_err(|why| format!("offer: {why}"))?;
    let bid: Verified<JobBid> = Verified::from_bytes(&opened.bid.0, network).map_err(|why| format!("bid: {why}"))?;
    let accept: Verified<JobAccept> =
        Verified::from_bytes(&opened.accept.0, network).map_err(|why| format!("accept: {why}"))?;
    chain::check_deal(&offer, &bid, &accept).map_err(|fault| fault.to_string())?;
    let mut ledger = Ledger::new(Deal::new(&accept, &bid));
    for (place, cell) in found.receipts.iter().enumerate() {
        let part = |why: String| format!("receipt {place}: {why}");
        let receipt = cell.receipt.as_ref().ok_or_else(|| part("is missing".to_owned()))?;
        let receipt = Verified::from_bytes(&receipt.0, network).map_err(|why| part(why.to_string()))?;
        ledger.file(receipt).map_err(|why| part(why.to_string()))?;
        if let Some(sign) = &cell.countersign {
            let sign = Verified::from_bytes(&sign.0, network).map_err(|why| part(why.to_string()))?;
            ledger.countersign(sign).map_err(|why| part(why.to_string()))?;
        }
    }
    Ok(StoredDeal {
        side: opened.side,
        offer,
        bid,
        accept,
        ledger,
    })
}

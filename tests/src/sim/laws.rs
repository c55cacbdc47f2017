//! What must hold after every step. The laws are kept apart from the machines: they remember what was said and done
//! and compare.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use infernet_protocol::auction::{JobBid, JobOffer};
use infernet_protocol::market::Now;
use infernet_protocol::market::lease::Papers;
use infernet_protocol::market::worker::Worker;
use infernet_protocol::names::EXPOSURE_FACTOR;
use infernet_protocol::receipt::JobReceipt;
use infernet_protocol::receipt::ledger::Ledger;
use infernet_protocol::{Digest, LeaseId, NodeId, Price, RequestId, Verified};

/// A law that was broken, in words.
pub(super) type Law = Result<(), String>;

fn law(holds: bool, what: impl FnOnce() -> String) -> Law {
    if holds { Ok(()) } else { Err(what()) }
}

/// Memory of the laws.
#[derive(Debug, Default)]
pub(super) struct Laws {
    bids: HashMap<Digest, NodeId>,
    caps: HashMap<Digest, Price>,
    ads: HashMap<NodeId, Vec<Price>>,
    accepts: BTreeMap<LeaseId, Digest>,
    opened: BTreeMap<LeaseId, NodeId>,
    accepted_bids: HashSet<Digest>,
    ran: BTreeMap<LeaseId, BTreeSet<RequestId>>,
    parties: BTreeMap<LeaseId, (usize, usize)>,
}

impl Laws {
    /// A provider advertised this price.
    pub(super) fn advertised(&mut self, node: NodeId, price: Price) {
        self.ads.entry(node).or_default().push(price);
    }

    /// A buyer sent this offer.
    pub(super) fn offered(&mut self, offer: &Verified<JobOffer>) {
        self.caps.insert(offer.hash(), offer.price_cap);
    }

    /// A worker made this bid; its machine, and not a forger.
    pub(super) fn bid(&mut self, bid: &Verified<JobBid>) -> Law {
        self.bids.insert(bid.hash(), bid.signer());
        self.priced(bid)
    }

    fn priced(&self, bid: &Verified<JobBid>) -> Law {
        let cap = self.caps.get(&bid.offer).ok_or("a bid for an offer that nobody made")?;
        law(bid.price.within(cap), || {
            format!("bid {:?} above the cap {cap:?}", bid.price)
        })?;
        let ads = self.ads.get(&bid.signer()).ok_or("a bid without an ad")?;
        law(ads.iter().any(|ad| bid.price.within(ad)), || {
            format!("bid {:?} above the ads {ads:?}", bid.price)
        })
    }

    /// A buyer accepted.
    pub(super) fn accepted(&mut self, papers: &Papers, buyer: usize, worker: usize) -> Law {
        let lease = papers.accept.lease;
        self.priced(&papers.bid)?;
        law(papers.accept.winner == papers.bid.signer(), || {
            "accept names another winner".to_owned()
        })?;
        self.parties.insert(lease, (buyer, worker));
        match self.accepts.insert(lease, papers.accept.hash()) {
            None => Ok(()),
            Some(_) => Err(format!("two winners for attempt {lease}")),
        }
    }

    /// A worker opened a lease by a Start of `peer`.
    pub(super) fn opened(&mut self, papers: &Papers, worker: NodeId, peer: NodeId) -> Law {
        let lease = papers.accept.lease;
        law(self.bids.get(&papers.bid.hash()) == Some(&worker), || {
            format!("{lease} opened on a bid that its worker never made")
        })?;
        law(self.accepts.get(&lease) == Some(&papers.accept.hash()), || {
            format!("{lease} opened by an accept that its buyer never signed")
        })?;
        law(papers.accept.signer() == peer, || {
            format!("{lease} opened by a stranger")
        })?;
        law(self.accepted_bids.insert(papers.bid.hash()), || {
            format!("{lease} is the second lease of one bid")
        })?;
        law(self.opened.insert(lease, worker).is_none(), || {
            format!("{lease} opened twice")
        })
    }

    /// A worker runs a request.
    pub(super) fn runs(&mut self, papers: &Papers, request: RequestId, worker: NodeId, peer: NodeId) -> Law {
        let lease = papers.accept.lease;
        law(self.opened.get(&lease) == Some(&worker), || {
            format!("{lease} runs a request and was never opened")
        })?;
        law(papers.accept.signer() == peer, || {
            format!("{lease} runs a request of a stranger")
        })?;
        let ran = self.ran.entry(lease).or_default();
        law(ran.insert(request), || format!("{lease} runs a request twice"))?;
        law(ran.len() <= papers.offer.volume.requests as usize, || {
            format!("{lease} runs more than was offered")
        })
    }

    /// A request whose use a power cut took out of the journal may be counted again.
    pub(super) fn forgot(&mut self, lease: &LeaseId, kept: &BTreeSet<RequestId>) {
        if let Some(ran) = self.ran.get_mut(lease) {
            ran.retain(|request| kept.contains(request));
        }
    }

    /// A worker issued a receipt.
    pub(super) fn receipt(&self, receipt: &Verified<JobReceipt>, price: &Price) -> Law {
        let due = price.cost(receipt.step.input_tokens, receipt.step.output_tokens);
        law(receipt.step.amount <= due, || {
            format!("{} billed above the bid's price", receipt.lease)
        })
    }

    /// Who made a lease: buyer and worker.
    pub(super) fn parties(&self, lease: &LeaseId) -> Option<(usize, usize)> {
        self.parties.get(lease).copied()
    }

    /// All leases that were accepted.
    pub(super) fn leases(&self) -> impl Iterator<Item = (&LeaseId, &(usize, usize))> {
        self.parties.iter()
    }
}

/// A worker keeps to its slots and to what it may have outstanding with each buyer.
pub(super) fn worker_keeps(worker: &Worker, slots: u16, jobs: usize, now: Now) -> Law {
    let load = worker.load(now);
    law(load.running <= slots && jobs <= usize::from(slots), || {
        format!("{} requests run in {slots} slots", load.running)
    })?;
    let running: usize = worker.leases().map(|(_, lease)| lease.running().len()).sum();
    law(running == usize::from(load.running), || {
        format!("{running} requests run and {} are counted", load.running)
    })?;
    let mut most: BTreeMap<NodeId, u16> = BTreeMap::new();
    for (id, lease) in worker.leases() {
        let at_once = most.entry(lease.buyer()).or_default();
        *at_once = (*at_once).max(lease.at_once());
        law(lease.running().len() <= usize::from(lease.at_once()), || {
            format!("{id} runs more at once than was agreed")
        })?;
    }
    for (buyer, at_once) in most {
        let exposure = worker.exposure(&buyer) as usize;
        law(exposure <= limit(at_once), || {
            format!("{exposure} requests of one buyer are outstanding at {at_once} at once")
        })?;
    }
    Ok(())
}

fn limit(at_once: u16) -> usize {
    (EXPOSURE_FACTOR * u32::from(at_once)) as usize
}

/// Two books of one lease differ by unacknowledged steps only: the buyer's receipts are the first of the worker's, and
/// the worker's countersignatures are among the buyer's.
pub(super) fn books_agree(buyer: &Ledger, worker: &Ledger) -> Law {
    let lease = buyer.deal().lease;
    law(buyer.entries().len() <= worker.entries().len(), || {
        format!("{lease}: the buyer holds a receipt that its worker does not")
    })?;
    for (ours, theirs) in buyer.entries().iter().zip(worker.entries()) {
        law(ours.receipt == theirs.receipt, || {
            format!("{lease}: two receipts for one place")
        })?;
    }
    for (seq, theirs) in worker.entries().iter().enumerate() {
        if let Some(sign) = &theirs.countersign {
            let ours = buyer.entries().get(seq).and_then(|entry| entry.countersign.as_ref());
            law(ours == Some(sign), || {
                format!("{lease}: the worker holds another countersignature than its buyer")
            })?;
        }
    }
    Ok(())
}

/// Two books are the same.
pub(super) fn books_equal(buyer: &Ledger, worker: &Ledger) -> Law {
    books_agree(buyer, worker)?;
    law(buyer.entries() == worker.entries(), || {
        format!(
            "{}: after contact the buyer holds {} receipts and the worker {}, of which {} and {} are settled",
            buyer.deal().lease,
            buyer.entries().len(),
            worker.entries().len(),
            buyer.settled(),
            worker.settled(),
        )
    })
}

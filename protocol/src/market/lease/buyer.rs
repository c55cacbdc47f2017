//! The buyer's account of a lease.

use super::*;
use crate::codec::List;
use crate::identity::Identity;
use crate::names::Network;
use crate::receipt::ledger::LedgerError;

/// A worker that is full is not asked again for this long at first; each further time doubles it.
const BUSY_PAUSE: Millis = Millis(100);
/// Doublings of that pause: it stays below two seconds.
const BUSY_DOUBLINGS: u32 = 4;

/// Why a lease cannot take a request now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotUsable {
    /// Its time is over.
    #[error("lease has expired")]
    Expired,
    /// All its requests were made.
    #[error("lease is used up")]
    UsedUp,
    /// The worker ended it, or a receipt was disputed.
    #[error("lease has ended")]
    Ended,
    /// As many requests run as it allows.
    #[error("lease carries as many requests at once as it may")]
    InUse,
    /// So much is unsettled that the worker would refuse.
    #[error("too many receipts of the lease are unsettled")]
    Unsettled,
    /// The worker was full a moment ago.
    #[error("worker is full")]
    Busy,
    /// The id was used before.
    #[error("request id was used before")]
    Duplicate,
}

/// The most that a request may be billed for, known before it is sent; journalled with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Input tokens that its bytes can be.
    pub input_tokens: u32,
    /// Output tokens that it asks for.
    pub output_tokens: u32,
}

/// What the buyer can say about a request when its receipt comes.
#[derive(Clone, Copy, Debug)]
enum Made {
    /// Its stream is open.
    Running,
    /// Its stream ended or was lost after this many Data frames.
    Seen(Seen, u64),
    /// It was journalled before a crash, and what came of it is not known.
    Journalled(Bounds),
    /// It failed and nothing was delivered.
    Void,
}

/// What a buyer knows of one of its leases.
#[derive(Clone, Debug)]
pub struct BuyerLease {
    papers: Papers,
    ledger: Ledger,
    expires: Mono,
    made: BTreeMap<RequestId, Made>,
    running: BTreeSet<RequestId>,
    /// Requests that are due a receipt, those that run included.
    due: BTreeSet<RequestId>,
    /// Requests that the last Reconcile named.
    named: BTreeSet<RequestId>,
    /// Receipts that came before the one they follow, as substreams race.
    early: BTreeMap<u32, Verified<JobReceipt>>,
    busy: Option<(Mono, u32)>,
    ended: bool,
}

impl BuyerLease {
    /// A lease that has just been accepted.
    #[must_use]
    pub fn open(papers: Papers, now: Now) -> Self {
        Self {
            ledger: Ledger::new(papers.deal()),
            expires: now.mono.after(papers.offer.volume.lease),
            papers,
            made: BTreeMap::new(),
            running: BTreeSet::new(),
            due: BTreeSet::new(),
            named: BTreeSet::new(),
            early: BTreeMap::new(),
            busy: None,
            ended: false,
        }
    }

    /// From the journal. What was under way is lost; only requests that were journalled will be accepted.
    #[must_use]
    pub fn restore(
        papers: Papers,
        ledger: Ledger,
        made: impl IntoIterator<Item = (RequestId, Bounds)>,
        left: Millis,
        now: Now,
    ) -> Self {
        let mut lease = Self::open(papers, now);
        lease.expires = now.mono.after(left);
        lease.ledger = ledger;
        lease.made = made
            .into_iter()
            .map(|(request, bounds)| (request, Made::Journalled(bounds)))
            .collect();
        lease.due = lease
            .made
            .keys()
            .filter(|request| lease.ledger.of_request(request).is_none())
            .copied()
            .collect();
        lease
    }

    /// The messages that made it: what a Start frame carries.
    #[must_use]
    pub fn papers(&self) -> &Papers {
        &self.papers
    }

    /// The deal.
    #[must_use]
    pub fn deal(&self) -> &Deal {
        self.ledger.deal()
    }

    /// The book.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// When it ends.
    #[must_use]
    pub fn expires(&self) -> Mono {
        self.expires
    }

    /// Requests that run.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Requests that may still be made under it.
    #[must_use]
    pub fn requests_left(&self) -> u32 {
        let most = self.papers.offer.volume.requests.min(LEASE_REQUESTS);
        most.saturating_sub(u32::try_from(self.made.len()).unwrap_or(u32::MAX))
    }

    /// Whether the stream of a request is up, so that what came of it is not known yet.
    #[must_use]
    pub fn runs(&self, request: &RequestId) -> bool {
        self.running.contains(request)
    }

    /// Whether a request may be made now.
    pub fn usable(&self, now: Now) -> Result<(), NotUsable> {
        let at_once = self.papers.bid.at_once;
        if self.ended || self.ledger.is_disputed() {
            return Err(NotUsable::Ended);
        }
        if now.mono >= self.expires {
            return Err(NotUsable::Expired);
        }
        if self.made.len() >= self.papers.offer.volume.requests.min(LEASE_REQUESTS) as usize {
            return Err(NotUsable::UsedUp);
        }
        if self.busy.is_some_and(|(until, _)| now.mono < until) {
            return Err(NotUsable::Busy);
        }
        if self.running.len() >= usize::from(at_once) {
            return Err(NotUsable::InUse);
        }
        if self.due.len() >= exposure_limit(at_once) as usize {
            return Err(NotUsable::Unsettled);
        }
        Ok(())
    }

    /// Takes a request. Journal it with its bounds before it is sent.
    pub fn begin(&mut self, request: RequestId, now: Now) -> Result<(), NotUsable> {
        if self.made.contains_key(&request) {
            return Err(NotUsable::Duplicate);
        }
        self.usable(now)?;
        self.made.insert(request, Made::Running);
        self.running.insert(request);
        self.due.insert(request);
        Ok(())
    }

    /// The stream of a request ended or was lost after `frames` Data frames: what came of it. Say so before its
    /// receipt is filed.
    pub fn delivered(&mut self, request: &RequestId, seen: Seen, frames: u64) {
        self.running.remove(request);
        self.busy = None;
        if let Some(made) = self.made.get_mut(request) {
            *made = Made::Seen(seen, frames);
        }
    }

    /// The request failed and nothing was delivered: no receipt is due, and none will be accepted.
    pub fn failed(&mut self, request: &RequestId) {
        self.running.remove(request);
        self.due.remove(request);
        if let Some(made) = self.made.get_mut(request) {
            *made = Made::Void;
        }
    }

    /// Nobody is there any more to take the rest of a request that was sent: what may come of it is bounded, and the
    /// next Reconcile settles it.
    pub fn abandoned(&mut self, request: &RequestId, bounds: Bounds) {
        self.running.remove(request);
        if let Some(made) = self.made.get_mut(request) {
            *made = Made::Journalled(bounds);
        }
    }

    /// The worker was full. The request was not run and may be made elsewhere.
    pub fn on_busy(&mut self, request: &RequestId, now: Now) {
        self.running.remove(request);
        self.due.remove(request);
        self.made.remove(request);
        let times = self.busy.map_or(0, |(_, times)| times);
        let pause = Millis(BUSY_PAUSE.0 << times.min(BUSY_DOUBLINGS));
        self.busy = Some((now.mono.after(pause), times.saturating_add(1)));
    }

    /// The worker will take no more under this lease.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// Whether it can carry no further request, ever.
    #[must_use]
    pub fn has_ended(&self, now: Now) -> bool {
        matches!(
            self.usable(now),
            Err(NotUsable::Ended | NotUsable::Expired | NotUsable::UsedUp)
        )
    }

    /// Whether every request that could have cost something has a receipt with a verdict.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.due.is_empty() && self.early.is_empty() && self.ledger.is_judged()
    }

    /// Whether something is due that no stream will bring any more: reconcile.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.has_gap() || self.due.iter().any(|request| !self.running.contains(request))
    }

    /// Whether a receipt is missing before one that came: reconcile.
    #[must_use]
    pub fn has_gap(&self) -> bool {
        !self.early.is_empty()
    }

    /// Files a receipt and gives its countersignature; several where it closes a gap, none where it leaves one.
    /// Journal each receipt with its countersignature before the countersignature is sent. A receipt that came before
    /// gets the same answer again.
    pub fn on_receipt(
        &mut self,
        receipt: Verified<JobReceipt>,
        identity: &Identity,
        network: &Network,
        entropy: &[u8; 32],
        now: Now,
    ) -> Result<Vec<Verified<Countersign>>, LedgerError> {
        let (seq, next) = (receipt.seq, self.ledger.next_seq());
        if seq > next {
            self.park(receipt)?;
            return Ok(Vec::new());
        }
        if seq < next {
            self.ledger.file(receipt)?;
            let again = self.ledger.entries().get(seq as usize);
            return Ok(again.and_then(|entry| entry.countersign.clone()).into_iter().collect());
        }
        let mut signed = Vec::new();
        let mut entropy = crate::market::Entropy::new(*entropy);
        let mut next = Some(receipt);
        while let Some(receipt) = next {
            let seen = self.seen(&receipt);
            self.ledger.file(receipt.clone())?;
            self.due.remove(&receipt.step.request);
            let verdict = self.ledger.judge(&receipt, seen.as_ref(), now.wall);
            let sign = Verified::sign(verdict, identity, network, &entropy.next());
            self.ledger.countersign(sign.clone())?;
            signed.push(sign);
            next = self.early.remove(&self.ledger.next_seq());
        }
        Ok(signed)
    }

    fn park(&mut self, receipt: Verified<JobReceipt>) -> Result<(), LedgerError> {
        if receipt.lease != self.deal().lease {
            return Err(LedgerError::OtherLease);
        }
        if receipt.signer() != self.deal().worker {
            return Err(LedgerError::OtherParty);
        }
        // More than may be outstanding cannot have been issued in between.
        let far = self
            .ledger
            .next_seq()
            .saturating_add(exposure_limit(self.papers.bid.at_once));
        if receipt.seq <= far {
            self.early.entry(receipt.seq).or_insert(receipt);
        }
        Ok(())
    }

    fn seen(&self, receipt: &JobReceipt) -> Option<Seen> {
        match self.made.get(&receipt.step.request)? {
            Made::Seen(seen, _) => Some(*seen),
            Made::Journalled(bounds) => Some(Seen {
                input_tokens_max: bounds.input_tokens,
                output_tokens_max: bounds.output_tokens,
                commitment: None,
            }),
            Made::Running | Made::Void => None,
        }
    }

    /// How far the buyer's book goes, and which requests it holds to be due a receipt, for as much of them as it has.
    #[must_use]
    pub fn reconcile(&mut self) -> Reconcile {
        let open: Vec<Open> = self
            .due
            .iter()
            .filter_map(|request| self.open_request(request))
            .collect();
        self.named = open.iter().map(|open| open.request).collect();
        Reconcile {
            lease: self.deal().lease,
            held: self.ledger.next_seq(),
            hash: self.ledger.head(),
            open: List::first_of(open),
        }
    }

    fn open_request(&self, request: &RequestId) -> Option<Open> {
        let (next, commitment) = match self.made.get(request)? {
            Made::Seen(seen, frames) => (*frames, seen.commitment.unwrap_or(self.deal().accept)),
            Made::Journalled(_) => (0, self.deal().accept),
            Made::Running | Made::Void => return None,
        };
        Some(Open {
            request: *request,
            next,
            commitment,
        })
    }

    /// Countersignatures that the worker lacks, as its Reconcile says.
    pub fn on_reconcile(&self, theirs: &Reconcile) -> impl Iterator<Item = &Verified<Countersign>> {
        self.ledger.countersigns_from(theirs.held)
    }

    /// The worker has answered the last Reconcile and sent what was missing: what was named in it, has no receipt and
    /// is not `open` at the worker costs nothing. Gives the requests that were written off.
    pub fn reconciled(&mut self, open: &[Open]) -> Vec<RequestId> {
        let is_open = |request: &RequestId| open.iter().any(|open| open.request == *request);
        let unreceipted = self.named.intersection(&self.due);
        let off: Vec<RequestId> = unreceipted.filter(|request| !is_open(request)).copied().collect();
        self.named.clear();
        for request in &off {
            self.failed(request);
        }
        off
    }
}

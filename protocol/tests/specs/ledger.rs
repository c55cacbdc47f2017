//! Both books of a lease: each thing that does not belong into them, and that they come to agree.

use infernet_protocol::receipt::ledger::{Deal, Ledger, LedgerError, Seen};
use infernet_protocol::receipt::{Countersign, Dispute, JobReceipt, Step};
use infernet_protocol::{Digest, MicroUsd, Network, Verified};
use proptest::prelude::*;

use crate::sample::{self, BUYER, STRANGER, Sample, WORKER, ended, key, sign};

struct Books {
    worker: Ledger,
    buyer: Ledger,
}

fn network() -> Network {
    Network::default()
}

impl Books {
    fn new() -> Self {
        let sample = Sample::new(&network());
        let deal = Deal::new(&sample.accept, &sample.bid);
        Self {
            worker: Ledger::new(deal),
            buyer: Ledger::new(deal),
        }
    }

    fn issue(&self, place: usize) -> JobReceipt {
        self.worker.issue(sample::step(place), ended(place))
    }

    /// The worker's next receipt, in its own book.
    fn receipt(&mut self, place: usize) -> Verified<JobReceipt> {
        let receipt = by_worker(self.issue(place));
        assert_eq!(self.worker.file(receipt.clone()), Ok(true));
        receipt
    }

    fn verdict(&mut self, receipt: &Verified<JobReceipt>, seen: Option<&Seen>) -> Countersign {
        assert_eq!(self.buyer.file(receipt.clone()), Ok(true));
        self.buyer.judge(receipt, seen, ended(0))
    }
}

fn by_worker(receipt: JobReceipt) -> Verified<JobReceipt> {
    sign(receipt, &key(WORKER), &network())
}

fn by_buyer(countersign: Countersign) -> Verified<Countersign> {
    sign(countersign, &key(BUYER), &network())
}

/// What a buyer saw that got what the step says.
fn seen(step: &Step) -> Seen {
    Seen {
        input_tokens_max: step.input_tokens,
        output_tokens_max: step.output_tokens,
        commitment: Some(step.commitment),
    }
}

#[test]
fn an_honest_deal_is_settled_step_by_step() {
    let mut books = Books::new();
    for place in 0..3 {
        let receipt = books.receipt(place);
        let verdict = books.verdict(&receipt, Some(&seen(&receipt.step)));
        assert_eq!(verdict.dispute, None);
        let verdict = by_buyer(verdict);
        assert_eq!(books.buyer.countersign(verdict.clone()), Ok(true));
        assert_eq!(books.worker.unsettled(), 1);
        assert_eq!(books.worker.countersign(verdict), Ok(true));
    }
    assert_eq!((books.worker.settled(), books.worker.unsettled()), (3, 0));
    assert_eq!(books.worker.entries(), books.buyer.entries());
    assert_eq!(books.worker.total(), books.buyer.total());
}

#[test]
fn the_buyer_disputes_what_it_did_not_get() {
    type Edit = fn(&mut JobReceipt, &mut Seen);
    let cases: [(Dispute, Edit); 8] = [
        (Dispute::Order, |receipt, _| receipt.prev = Digest([9; 32])),
        (Dispute::Order, |receipt, _| receipt.total.amount.0 += 1),
        (Dispute::Order, |receipt, _| receipt.total.output_tokens += 1),
        (Dispute::Price, |receipt, _| {
            receipt.step.amount.0 += 1;
            receipt.total.amount.0 += 1;
        }),
        (Dispute::Tokens, |receipt, seen| {
            seen.output_tokens_max = receipt.step.output_tokens - 1
        }),
        (Dispute::Tokens, |receipt, seen| {
            seen.input_tokens_max = receipt.step.input_tokens - 1
        }),
        (Dispute::Commitment, |_, seen| seen.commitment = Some(Digest([9; 32]))),
        (Dispute::Tokens, |receipt, seen| {
            // The tokens are told before the commitment: they are what is paid for.
            seen.output_tokens_max = receipt.step.output_tokens - 1;
            seen.commitment = Some(Digest([9; 32]));
        }),
    ];
    for (dispute, edit) in cases {
        let mut books = Books::new();
        let mut receipt = books.issue(0);
        let mut seen = seen(&receipt.step);
        edit(&mut receipt, &mut seen);
        let receipt = by_worker(receipt);
        let verdict = books.verdict(&receipt, Some(&seen));
        assert_eq!(verdict.dispute, Some(dispute), "{dispute}");
        assert_eq!(books.buyer.countersign(by_buyer(verdict)), Ok(true));
        assert!(books.buyer.is_disputed());
        assert_eq!(books.buyer.settled(), 0);
    }
}

#[test]
fn a_request_that_was_never_made_is_disputed() {
    let mut books = Books::new();
    let receipt = books.receipt(0);
    assert_eq!(books.verdict(&receipt, None).dispute, Some(Dispute::Request));
}

#[test]
fn a_request_that_is_billed_twice_is_disputed() {
    let mut books = Books::new();
    let first = books.receipt(0);
    let again = by_worker(books.worker.issue(sample::step(0), ended(1)));
    let seen = seen(&first.step);
    assert_eq!(books.verdict(&first, Some(&seen)).dispute, None);
    assert_eq!(books.verdict(&again, Some(&seen)).dispute, Some(Dispute::Request));
}

#[test]
fn a_lost_commitment_leaves_the_bounds() {
    let mut books = Books::new();
    let receipt = books.receipt(0);
    let lost = Seen {
        commitment: None,
        ..seen(&receipt.step)
    };
    assert_eq!(books.verdict(&receipt, Some(&lost)).dispute, None);
    let fewer = Seen {
        output_tokens_max: 1,
        ..lost
    };
    assert_eq!(
        books.buyer.judge(&receipt, Some(&fewer), ended(0)).dispute,
        Some(Dispute::Tokens)
    );
}

#[test]
fn less_than_the_price_is_welcome() {
    let mut books = Books::new();
    let mut step = sample::step(0);
    step.amount = MicroUsd(0);
    let receipt = by_worker(books.worker.issue(step, ended(0)));
    assert_eq!(books.verdict(&receipt, Some(&seen(&step))).dispute, None);
}

#[test]
fn receipts_that_do_not_belong_are_refused() {
    let mut books = Books::new();
    let receipt = books.issue(0);
    let mut other_lease = receipt.clone();
    other_lease.lease.attempt += 1;
    assert_eq!(books.buyer.file(by_worker(other_lease)), Err(LedgerError::OtherLease));
    let of_stranger = sign(receipt.clone(), &key(STRANGER), &network());
    assert_eq!(books.buyer.file(of_stranger), Err(LedgerError::OtherParty));

    let first = books.receipt(0);
    let second = books.receipt(1);
    assert_eq!(books.buyer.file(second), Err(LedgerError::Gap));
    assert_eq!(books.buyer.file(first.clone()), Ok(true));
    assert_eq!(books.buyer.file(first), Ok(false));
    let mut other = receipt.clone();
    other.finished_at.0 += 1;
    assert_eq!(books.buyer.file(by_worker(other)), Err(LedgerError::Equivocation));
    // Another signature under the same payload says nothing else.
    let resigned = Verified::sign(receipt, &key(WORKER), &network(), &[7; 32]);
    assert_eq!(books.buyer.file(resigned), Ok(false));
}

#[test]
fn countersignatures_that_do_not_belong_are_refused() {
    let mut books = Books::new();
    let receipt = books.receipt(0);
    let good = sample::countersign(&receipt);
    let mut other = good.clone();
    other.lease.attempt += 1;
    assert_eq!(books.worker.countersign(by_buyer(other)), Err(LedgerError::OtherLease));
    let of_stranger = sign(good.clone(), &key(STRANGER), &network());
    assert_eq!(books.worker.countersign(of_stranger), Err(LedgerError::OtherParty));
    let of_worker = sign(good.clone(), &key(WORKER), &network());
    assert_eq!(books.worker.countersign(of_worker), Err(LedgerError::OtherParty));
    let mut other = good.clone();
    other.seq = 1;
    assert_eq!(
        books.worker.countersign(by_buyer(other)),
        Err(LedgerError::UnknownReceipt)
    );
    let mut other = good.clone();
    other.receipt.0[0] ^= 1;
    assert_eq!(
        books.worker.countersign(by_buyer(other)),
        Err(LedgerError::UnknownReceipt)
    );
    assert_eq!(books.worker.settled(), 0);

    assert_eq!(books.worker.countersign(by_buyer(good.clone())), Ok(true));
    assert_eq!(books.worker.countersign(by_buyer(good)), Ok(false));
    let regret = by_buyer(sample::dispute(&receipt));
    assert_eq!(books.worker.countersign(regret), Err(LedgerError::Contradiction));
    assert_eq!(books.worker.settled(), 1);
}

#[test]
fn the_settled_prefix_stops_at_the_first_that_is_not() {
    let mut books = Books::new();
    let receipts: Vec<_> = (0..3).map(|place| books.receipt(place)).collect();
    books
        .worker
        .countersign(by_buyer(sample::countersign(&receipts[0])))
        .unwrap();
    books
        .worker
        .countersign(by_buyer(sample::countersign(&receipts[2])))
        .unwrap();
    assert_eq!((books.worker.settled(), books.worker.unsettled()), (1, 1));
    books
        .worker
        .countersign(by_buyer(sample::dispute(&receipts[1])))
        .unwrap();
    assert_eq!((books.worker.settled(), books.worker.unsettled()), (1, 1));
    assert!(books.worker.is_disputed());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever was lost on the way in either direction, one reconciliation makes the books equal.
    #[test]
    fn reconciliation_makes_the_books_equal(
        fate in prop::collection::vec((any::<bool>(), any::<bool>()), 1..12),
    ) {
        let mut books = Books::new();
        for (place, (arrives, returns)) in fate.into_iter().enumerate() {
            let receipt = books.receipt(place);
            // A receipt that arrives behind a lost one shows the gap and waits for reconciliation.
            if !arrives || books.buyer.file(receipt.clone()).is_err() {
                continue;
            }
            let verdict = by_buyer(books.buyer.judge(&receipt, Some(&seen(&receipt.step)), ended(place)));
            books.buyer.countersign(verdict.clone()).unwrap();
            if returns {
                books.worker.countersign(verdict).unwrap();
            }
        }
        let held = books.buyer.next_seq();
        for receipt in books.worker.receipts_from(held).cloned().collect::<Vec<_>>() {
            prop_assert_eq!(books.buyer.file(receipt.clone()), Ok(true));
            let verdict = books.buyer.judge(&receipt, Some(&seen(&receipt.step)), ended(0));
            prop_assert_eq!(books.buyer.countersign(by_buyer(verdict)), Ok(true));
        }
        let held = books.worker.settled();
        for sign in books.buyer.countersigns_from(held).cloned().collect::<Vec<_>>() {
            prop_assert!(books.worker.countersign(sign).is_ok());
        }
        prop_assert_eq!(books.worker.entries(), books.buyer.entries());
        prop_assert_eq!(books.worker.settled(), books.worker.next_seq());
    }
}

//! Starts, requests, receipts, exposure, restarts.

use super::*;
use crate::auction::JobAccept;
use crate::ids::{Digest, LeaseId, RequestId};
use crate::market::lease::{Bounds, BuyerLease, NotUsable, Papers};
use crate::market::worker::{LEASES_PER_BUYER, Refusal, Started};
use crate::receipt::ledger::{Ledger, Seen};
use crate::receipt::{Status, Step};
use proptest::prelude::*;

fn request(number: u8) -> RequestId {
    RequestId([number; 16])
}

fn step(number: u8) -> Step {
    Step {
        request: request(number),
        status: Status::Completed,
        input_tokens: 5,
        output_tokens: 7,
        ttft: Millis(1),
        duration: Millis(2),
        amount: MicroUsd(0),
        commitment: Digest([number; 32]),
    }
}

fn seen(number: u8) -> Seen {
    Seen {
        input_tokens_max: 5,
        output_tokens_max: 7,
        commitment: Some(Digest([number; 32])),
    }
}

fn papers(buyer: &Identity, offer: &Verified<JobOffer>, bid: &Verified<JobBid>, attempt: u16) -> Papers {
    let accept = JobAccept {
        lease: LeaseId {
            job: offer.job,
            attempt,
        },
        bid: bid.hash(),
        winner: bid.signer(),
        payer: None,
        issued_at: UnixMillis(WALL),
    };
    Papers {
        offer: offer.clone(),
        bid: bid.clone(),
        accept: Verified::sign(accept, buyer, &Network::default(), &ZERO),
    }
}

/// Starts a lease and some requests under it.
pub(super) fn start(
    worker: &mut Worker,
    buyer: &Identity,
    offer: &Verified<JobOffer>,
    bid: &Verified<JobBid>,
    attempt: u16,
    requests: &[u8],
    now: Now,
) -> Result<Papers, Refusal> {
    let papers = papers(buyer, offer, bid, attempt);
    worker.on_start(&papers, &buyer.node(), now)?;
    for number in requests {
        worker.on_request(&papers.accept.lease, request(*number), now)?;
    }
    Ok(papers)
}

/// One worker with a lease for the market's buyer, at most two requests at once.
fn leased(config: Config) -> (Worker, Papers, Identity) {
    let mut market = Market::with(1, config);
    let (auction, _) = market.view(|view| crate::market::Auction::begin(want(), view, ZERO, at(0)).unwrap());
    let offer = auction.offer().clone();
    let node = identity(0).node();
    let bid = market.bid(&node, &offer, at(0));
    let buyer = market.buyer.clone();
    let mut worker = market.workers.remove(0).1;
    let papers = start(&mut worker, &buyer, &offer, &bid, 0, &[], at(0)).unwrap();
    (worker, papers, buyer)
}

#[test]
fn only_its_own_live_bid_presented_by_that_buyer_once() {
    let mut market = Market::new(2);
    let (auction, _) = market.view(|view| crate::market::Auction::begin(want(), view, ZERO, at(0)).unwrap());
    let offer = auction.offer().clone();
    let (own, other) = (identity(0).node(), identity(1).node());
    let (bid, foreign) = (market.bid(&own, &offer, at(0)), market.bid(&other, &offer, at(0)));
    let (buyer, thief) = (market.buyer.clone(), identity(500));
    let worker = market.worker(&own);
    let good = papers(&buyer, &offer, &bid, 0);
    assert_eq!(worker.on_start(&good, &thief.node(), at(1)), Err(Refusal::OtherBuyer));
    assert_eq!(
        start(worker, &thief, &offer, &bid, 0, &[], at(1)).err(),
        Some(Refusal::Mismatch)
    );
    assert_eq!(
        start(worker, &buyer, &offer, &foreign, 0, &[], at(1)).err(),
        Some(Refusal::NotLive)
    );
    assert_eq!(
        worker.on_start(&good, &buyer.node(), at(60_000)),
        Err(Refusal::NotLive),
        "its time is over"
    );
    let lease = good.accept.lease;
    let opened = |is_new| Ok(Started { lease, is_new });
    assert_eq!(worker.on_start(&good, &buyer.node(), at(1)), opened(true));
    assert_eq!(
        worker.on_start(&good, &buyer.node(), at(2)),
        opened(false),
        "another substream"
    );
    assert_eq!(
        start(worker, &buyer, &offer, &bid, 1, &[], at(3)).err(),
        Some(Refusal::Used)
    );
}

#[test]
fn an_accept_holds_a_slot_once_and_yields_to_a_start() {
    let mut market = Market::with(
        1,
        Config {
            slots: 1,
            stranger_slots: 1,
            ..Config::default()
        },
    );
    let own = identity(0).node();
    let begin = |market: &Market, seed: u8| {
        market.view(|view| {
            crate::market::Auction::begin(want(), view, [seed; 32], at(0))
                .unwrap()
                .0
                .offer()
                .clone()
        })
    };
    let (first, second) = (begin(&market, 1), begin(&market, 2));
    let (bid, other) = (market.bid(&own, &first, at(0)), market.bid(&own, &second, at(0)));
    let buyer = market.buyer.clone();
    let worker = market.worker(&own);
    let accept = papers(&buyer, &first, &bid, 0).accept;
    worker.on_accept(&accept, at(0)).unwrap();
    assert_eq!((worker.load(at(1)).held, worker.load(at(1)).free()), (1, 0));
    assert_eq!(
        worker.on_accept(&accept, at(1_000)),
        Err(Refusal::Used),
        "a replay does not hold on"
    );
    start(worker, &buyer, &second, &other, 0, &[1], at(10)).unwrap();
    assert_eq!(worker.load(at(10)).running, 1);
    assert_eq!(worker.load(at(2_000)).held, 0, "the hold is over");
}

#[test]
fn exposure_is_bounded_and_a_missing_countersignature_suspends() {
    let (mut worker, papers, buyer) = leased(Config {
        slots: 4,
        ..Config::default()
    });
    let lease = papers.accept.lease;
    let mut book = BuyerLease::open(papers, at(0));
    let ask = |worker: &mut Worker, number, now| worker.on_request(&lease, request(number), now);
    ask(&mut worker, 1, at(0)).unwrap();
    ask(&mut worker, 2, at(0)).unwrap();
    assert_eq!(ask(&mut worker, 3, at(0)), Err(Refusal::AtOnce));
    assert_eq!(ask(&mut worker, 1, at(0)), Err(Refusal::Duplicate));
    let first = worker.finish(&lease, step(1), &ZERO, at(10)).unwrap();
    let second = worker.finish(&lease, step(2), &ZERO, at(11)).unwrap();
    ask(&mut worker, 3, at(12)).unwrap();
    ask(&mut worker, 4, at(12)).unwrap();
    worker.finish(&lease, step(3), &ZERO, at(13)).unwrap();
    assert_eq!(worker.exposure(&buyer.node()), 4);
    assert_eq!(ask(&mut worker, 5, at(13)), Err(Refusal::Exposure));
    worker.fail(&lease, &request(4));
    ask(&mut worker, 5, at(14)).unwrap();
    worker.fail(&lease, &request(5));
    assert_eq!(ask(&mut worker, 6, at(2_010)), Err(Refusal::Suspended));
    // The buyer gets the receipts in the wrong order and answers both.
    for number in [1, 2] {
        book.begin(request(number), at(0)).unwrap();
        book.delivered(&request(number), seen(number), 1);
    }
    let network = Network::default();
    assert!(
        book.on_receipt(second, &buyer, &network, &ZERO, at(20))
            .unwrap()
            .is_empty()
            && book.has_gap()
    );
    let signs = book.on_receipt(first.clone(), &buyer, &network, &ZERO, at(21)).unwrap();
    assert_eq!(
        signs.iter().map(|sign| (sign.seq, sign.dispute)).collect::<Vec<_>>(),
        [(0, None), (1, None)]
    );
    let again = book.on_receipt(first, &buyer, &network, &ZERO, at(22)).unwrap();
    assert_eq!(again, signs[..1]);
    for sign in signs {
        assert!(worker.on_countersign(sign.clone()).unwrap());
        assert!(!worker.on_countersign(sign).unwrap());
    }
    assert_eq!(worker.exposure(&buyer.node()), 1);
    ask(&mut worker, 6, at(2_012)).unwrap();
}

#[test]
fn a_dispute_ends_the_lease_on_both_sides() {
    for (amount, owed) in [(1, 1), (0, 0)] {
        let (mut worker, papers, buyer) = leased(Config::default());
        let lease = papers.accept.lease;
        let mut book = BuyerLease::open(papers, at(0));
        book.begin(request(1), at(0)).unwrap();
        worker.on_request(&lease, request(1), at(0)).unwrap();
        book.delivered(&request(1), seen(9), 1);
        let step = Step {
            amount: MicroUsd(amount),
            ..step(1)
        };
        let receipt = worker.finish(&lease, step, &ZERO, at(1)).unwrap();
        assert_eq!(worker.exposure(&buyer.node()), 1);
        let signs = book
            .on_receipt(receipt, &buyer, &Network::default(), &ZERO, at(2))
            .unwrap();
        assert!(signs[0].dispute.is_some());
        worker.on_countersign(signs[0].clone()).unwrap();
        assert_eq!(worker.on_request(&lease, request(2), at(3)), Err(Refusal::Disputed));
        assert_eq!(book.begin(request(2), at(3)), Err(NotUsable::Ended));
        assert_eq!(
            worker.exposure(&buyer.node()),
            owed,
            "what is disputed stays owed where it costs something"
        );
    }
}

#[test]
fn a_restart_keeps_the_lease_and_what_was_used_of_it() {
    let (mut worker, papers, buyer) = leased(Config::default());
    let lease = papers.accept.lease;
    worker.on_request(&lease, request(1), at(0)).unwrap();
    worker.on_request(&lease, request(2), at(0)).unwrap();
    let receipt = worker.finish(&lease, step(1), &ZERO, at(1)).unwrap();
    let mut ledger = Ledger::new(papers.deal());
    ledger.file(receipt).unwrap();
    let mut after = Worker::new(identity(0), Network::default(), Config::default());
    after
        .restore(&papers, ledger, [request(1), request(2)], Millis(30_000), at(5_000))
        .unwrap();
    assert_eq!(after.lease(&lease).unwrap().lost().len(), 1);
    assert_eq!(after.exposure(&buyer.node()), 2);
    assert!(!after.on_start(&papers, &buyer.node(), at(5_001)).unwrap().is_new);
    assert_eq!(after.on_request(&lease, request(2), at(5_002)), Err(Refusal::Duplicate));
    assert_eq!(after.on_request(&lease, request(3), at(35_000)), Err(Refusal::Expired));
    // The buyer crashed too and knows only what it journalled.
    let bounds = Bounds {
        input_tokens: 10,
        output_tokens: 10,
    };
    let made = [(request(1), bounds), (request(2), bounds)];
    let mut book = BuyerLease::restore(papers.clone(), Ledger::new(papers.deal()), made, Millis(30_000), at(0));
    let answer = after.on_reconcile(&book.reconcile(), &buyer.node()).unwrap();
    assert_eq!(
        (answer.receipts.len(), answer.to_receipt.len(), answer.written_off.len()),
        (1, 1, 0)
    );
    let last = after.finish(&lease, step(2), &ZERO, at(5_003)).unwrap();
    for receipt in answer.receipts.into_iter().chain([last]) {
        for sign in book
            .on_receipt(receipt, &buyer, &Network::default(), &ZERO, at(6))
            .unwrap()
        {
            assert_eq!(sign.dispute, None);
            after.on_countersign(sign).unwrap();
        }
    }
    assert!(book.is_settled() && after.lease(&lease).unwrap().exposure() == 0);
    assert!(!book.is_behind());
    assert_eq!(after.tick(at(35_000)), [lease]);
    assert_eq!(
        after.on_start(&papers, &buyer.node(), at(35_001)),
        Err(Refusal::NotLive),
        "never a second time"
    );
}

#[test]
fn a_stranger_grows_with_accepted_receipts_and_a_quota_bounds_what_is_free() {
    let (mut worker, papers, buyer) = leased(Config {
        stranger_slots: 2,
        quota: Some(crate::market::worker::Quota {
            requests: 10,
            per: Millis(1_000),
        }),
        ..Config::default()
    });
    let lease = papers.accept.lease;
    let mut book = BuyerLease::open(papers, at(0));
    assert_eq!(worker.grant(&buyer.node()), 2);
    for number in 1..=10 {
        worker.on_request(&lease, request(number), at(0)).unwrap();
        book.begin(request(number), at(0)).unwrap();
        book.delivered(&request(number), seen(number), 1);
        let receipt = worker.finish(&lease, step(number), &ZERO, at(1)).unwrap();
        for sign in book
            .on_receipt(receipt, &buyer, &Network::default(), &ZERO, at(1))
            .unwrap()
        {
            worker.on_countersign(sign).unwrap();
        }
    }
    assert_eq!(worker.grant(&buyer.node()), 3);
    assert_eq!(worker.on_request(&lease, request(11), at(2)), Err(Refusal::Quota));
    worker.on_request(&lease, request(11), at(1_000)).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Random requests, ends, losses and countersignatures never pass slots, at_once or exposure.
    #[test]
    fn limits_hold(steps in prop::collection::vec((0_u8..7, 0_u8..40, 0_u64..400), 1..80)) {
        let (mut worker, papers, buyer) = leased(Config { slots: 3, ..Config::default() });
        let lease = papers.accept.lease;
        let mut book = BuyerLease::open(papers, at(0));
        let (mut time, mut owed) = (0, Vec::new());
        for (what, number, pause) in steps {
            time += pause;
            match what {
                0 | 1 => {
                    if worker.on_request(&lease, request(number), at(time)).is_ok() {
                        let _ = book.begin(request(number), at(time));
                        book.delivered(&request(number), seen(number), 1);
                    }
                }
                2 => {
                    if let Ok(receipt) = worker.finish(&lease, step(number), &ZERO, at(time)) {
                        owed.push(receipt);
                    }
                }
                3 => worker.fail(&lease, &request(number)),
                4 => worker.lose(&lease, request(number)),
                5 => worker.rest(&lease, request(number)),
                _ => {
                    for receipt in owed.drain(..) {
                        for sign in book.on_receipt(receipt, &buyer, &Network::default(), &ZERO, at(time)).unwrap() {
                            worker.on_countersign(sign).unwrap();
                        }
                    }
                }
            }
            let held = worker.lease(&lease).unwrap();
            prop_assert!(held.running().len() <= 2 && worker.load(at(time)).running <= 3);
            prop_assert!(worker.exposure(&buyer.node()) <= 4);
            prop_assert_eq!(held.running().len(), usize::from(worker.load(at(time)).running));
        }
    }
}

/// A worker may learn later than the buyer that a connection is dead. Until it has, nothing is written off.
#[test]
fn what_the_worker_still_runs_stays_due() {
    let (mut worker, papers, buyer) = leased(Config::default());
    let lease = papers.accept.lease;
    let mut book = BuyerLease::open(papers.clone(), at(0));
    book.begin(request(1), at(0)).unwrap();
    worker.on_request(&lease, request(1), at(0)).unwrap();
    let bounds = Bounds {
        input_tokens: 10,
        output_tokens: 10,
    };
    book.abandoned(&request(1), bounds);
    assert!(book.is_behind());
    let answer = worker.on_reconcile(&book.reconcile(), &buyer.node()).unwrap();
    assert!(answer.to_receipt.is_empty());
    assert_eq!(book.reconciled(&answer.reconcile.open), []);
    assert!(book.is_behind());
    worker.lose(&lease, request(1));
    let answer = worker.on_reconcile(&book.reconcile(), &buyer.node()).unwrap();
    assert_eq!(answer.to_receipt.len(), 1);
    let receipt = worker.finish(&lease, step(1), &ZERO, at(2)).unwrap();
    assert_eq!(
        book.on_receipt(receipt, &buyer, &Network::default(), &ZERO, at(3))
            .unwrap()
            .len(),
        1
    );
    assert_eq!(book.reconciled(&[]), []);
    assert!(book.is_settled() && !book.is_behind());
}

/// An engine that is done has a slot for others, while the end of its answer waits for a buyer that may come back.
#[test]
fn what_rests_takes_no_slot_and_stays_due() {
    let (mut worker, papers, buyer) = leased(Config {
        slots: 1,
        ..Config::default()
    });
    let lease = papers.accept.lease;
    let mut book = BuyerLease::open(papers, at(0));
    book.begin(request(1), at(0)).unwrap();
    worker.on_request(&lease, request(1), at(0)).unwrap();
    assert_eq!(worker.on_request(&lease, request(2), at(1)), Err(Refusal::AtOnce));
    assert_eq!(worker.load(at(1)).free(), 0);
    for _ in 0..2 {
        worker.rest(&lease, request(1));
        assert_eq!(worker.load(at(1)).running, 0);
    }
    assert_eq!(worker.exposure(&buyer.node()), 1);
    let answer = worker.on_reconcile(&book.reconcile(), &buyer.node()).unwrap();
    assert!(answer.to_receipt.is_empty() && answer.written_off.is_empty());
    assert!(answer.reconcile.open.iter().any(|open| open.request == request(1)));
    worker.on_request(&lease, request(2), at(2)).unwrap();
    assert_eq!(worker.on_request(&lease, request(1), at(2)), Err(Refusal::Duplicate));
    // It came back, or it did not.
    assert!(worker.clone().finish(&lease, step(1), &ZERO, at(3)).is_ok());
    worker.lose(&lease, request(1));
    assert_eq!(worker.load(at(3)).running, 1);
    assert!(worker.lease(&lease).unwrap().lost().contains(&request(1)));
}

/// Nobody is kept out by leases of its own that nothing is due on.
#[test]
fn a_buyer_that_comes_back_often_gives_up_its_even_leases() {
    let mut market = Market::new(1);
    let (node, buyer) = (identity(0).node(), market.buyer.clone());
    let mut opened = Vec::new();
    for number in 0..u8::try_from(LEASES_PER_BUYER).unwrap() + 8 {
        let now = at(u64::from(number));
        let begun = market.view(|view| crate::market::Auction::begin(want(), view, [number; 32], now));
        let offer = begun.unwrap().0.offer().clone();
        let bid = market.bid(&node, &offer, now);
        let runs: &[u8] = if number == 0 { &[1] } else { &[] };
        opened.push(start(market.worker(&node), &buyer, &offer, &bid, 0, runs, now).unwrap());
        assert!(market.worker(&node).leases().count() <= LEASES_PER_BUYER);
    }
    let worker = market.worker(&node);
    let lease = |number: usize| opened[number].accept.lease;
    assert!(worker.lease(&lease(0)).is_some(), "what runs is not given up");
    assert!(worker.lease(&lease(1)).is_none() && worker.lease(&lease(LEASES_PER_BUYER)).is_some());
    assert!(
        worker.on_start(&opened[1], &buyer.node(), at(99)).is_err(),
        "and is used up"
    );
}

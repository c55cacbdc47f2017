//! What a forwarder lets through.

use super::*;
use crate::auction::JobAccept;
use crate::ids::LeaseId;
use crate::market::admission::{
    Admission, Ignored, Judgement, NEWCOMER_SPACING, NEWCOMERS_AT_ONCE, News, OFFERS_PER_SIGNER,
};
use crate::market::gossip::{Gossip, Topic};
use crate::names::{CLOCK_SKEW, INVITED};
use crate::signed::Refused;

fn ignored(judgement: &Judgement) -> Option<Ignored> {
    match judgement {
        Judgement::Ignore(why) => Some(*why),
        _ => None,
    }
}

fn is_accepted(judgement: &Judgement) -> bool {
    matches!(judgement, Judgement::Accept(_))
}

fn offer(market: &Market, seed: u8) -> Verified<JobOffer> {
    let auction = market.view(|view| Auction::begin(want(), view, [seed; 32], at(0)).unwrap().0);
    auction.offer().clone()
}

#[test]
fn each_message_goes_on_once() {
    let mut market = Market::new(20);
    let mut forwarder = Admission::default();
    let offer = offer(&market, 1);
    let node = offer.invited[0];
    let bid = market.bid(&node, &offer, at(1));
    let mut registry = market.registry.clone();
    let mut judge = |gossip: Gossip, mono| forwarder.judge(gossip, &mut registry, at(mono));
    assert_eq!(ignored(&judge(Gossip::Bid(bid.clone()), 0)), Some(Ignored::Unknown));
    assert!(is_accepted(&judge(Gossip::Offer(offer.clone()), 1)));
    assert_eq!(
        ignored(&judge(Gossip::Offer(offer.clone()), 2)),
        Some(Ignored::Duplicate)
    );
    assert!(is_accepted(&judge(Gossip::Bid(bid.clone()), 3)));
    assert_eq!(ignored(&judge(Gossip::Bid(bid.clone()), 4)), Some(Ignored::Duplicate));
    let accept = |signer: &Identity, attempt| {
        let accept = JobAccept {
            lease: LeaseId {
                job: offer.job,
                attempt,
            },
            bid: bid.hash(),
            winner: node,
            payer: None,
            issued_at: UnixMillis(WALL),
        };
        Gossip::Accept(Verified::sign(accept, signer, &Network::default(), &ZERO))
    };
    assert_eq!(
        ignored(&judge(accept(&identity(999), 0), 5)),
        Some(Ignored::Unfit),
        "a stranger's accept"
    );
    assert!(is_accepted(&judge(accept(&market.buyer, 0), 5)));
    assert_eq!(ignored(&judge(accept(&market.buyer, 0), 6)), Some(Ignored::Duplicate));
    let late = offer.expires_at.after(CLOCK_SKEW).0 - WALL;
    forwarder.tick(at(late));
    let stale = forwarder.judge(Gossip::Offer(offer), &mut market.registry, at(late));
    assert_eq!(
        ignored(&stale),
        Some(Ignored::Stale),
        "forgotten only when its dates keep it out"
    );
}

#[test]
fn strangers_bid_only_when_drawn_and_known_before() {
    let mut market = Market::new(300);
    let mut forwarder = Admission::default();
    let offer = offer(&market, 2);
    let mut registry = market.registry.clone();
    assert!(is_accepted(&forwarder.judge(
        Gossip::Offer(offer.clone()),
        &mut registry,
        at(10)
    )));
    let template = (*market.bid(&offer.invited[0], &offer, at(11))).clone();
    let mut through = 0;
    for number in 0..300 {
        let bid = Verified::sign(template.clone(), &identity(number), &Network::default(), &ZERO);
        through += usize::from(is_accepted(&forwarder.judge(Gossip::Bid(bid), &mut registry, at(12))));
    }
    assert!((INVITED..=4 * INVITED).contains(&through), "{through}");
    // A fresh key that the same hand brings after the offer has no say, whatever its draw.
    for number in 1_000..1_100 {
        let own = identity(number);
        registry.observe(ad(&own, number, Price::FREE, 1), at(13).wall);
        let bid = Verified::sign(template.clone(), &own, &Network::default(), &ZERO);
        let judged = forwarder.judge(Gossip::Bid(bid), &mut registry, at(14));
        assert_eq!(ignored(&judged), Some(Ignored::Uninvited));
    }
}

#[test]
fn one_signer_cannot_fill_the_memory() {
    let market = Market::new(1);
    let mut forwarder = Admission::default();
    let mut registry = market.registry.clone();
    let mut taken = 0;
    for seed in 0..=u8::MAX {
        let offer = offer(&market, seed);
        taken += u32::from(is_accepted(&forwarder.judge(
            Gossip::Offer(offer),
            &mut registry,
            at(1),
        )));
    }
    assert_eq!(taken, OFFERS_PER_SIGNER);
}

#[test]
fn only_the_malformed_is_held_against_the_sender() {
    let market = Market::new(1);
    let offer = offer(&market, 1);
    let network = Network::default();
    let mut bytes = offer.bytes().to_vec();
    assert!(matches!(
        Gossip::from_bytes(Topic::Jobs, &bytes, &network),
        Ok(Gossip::Offer(_))
    ));
    let foreign = Gossip::from_bytes(Topic::Capability, &bytes, &network).unwrap_err();
    assert_eq!(ignored(&Judgement::of_refused(&foreign)), Some(Ignored::Foreign));
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    let forged = Gossip::from_bytes(Topic::Jobs, &bytes, &network).unwrap_err();
    assert_eq!(forged, Refused::Signature);
    assert!(matches!(Judgement::of_refused(&forged), Judgement::Reject));
    let broken = Gossip::from_bytes(Topic::Jobs, &bytes[1..], &network).unwrap_err();
    assert!(matches!(Judgement::of_refused(&broken), Judgement::Reject));
}

#[test]
fn a_settled_receipt_is_one_message_that_both_signed() {
    let mut market = Market::new(1);
    let offer = offer(&market, 1);
    let node = identity(0).node();
    let bid = market.bid(&node, &offer, at(1));
    let buyer = market.buyer.clone();
    let papers = super::leases::start(market.worker(&node), &buyer, &offer, &bid, 0, &[], at(2)).unwrap();
    let request = crate::RequestId([1; 16]);
    let lease = papers.accept.lease;
    let worker = market.worker(&node);
    worker.on_request(&lease, request, at(2)).unwrap();
    let step = crate::receipt::Step {
        request,
        status: crate::receipt::Status::Completed,
        input_tokens: 0,
        output_tokens: 0,
        ttft: Millis(0),
        duration: Millis(0),
        amount: MicroUsd(0),
        commitment: crate::Digest([0; 32]),
    };
    let receipt = worker.finish(&lease, step, &ZERO, at(3)).unwrap();
    let sign = |signer: &Identity| {
        let verdict = crate::receipt::ledger::Ledger::new(papers.deal()).judge(&receipt, None, at(4).wall);
        Gossip::Settled(
            receipt.clone(),
            Verified::sign(verdict, signer, &Network::default(), &ZERO),
        )
    };
    let (network, good) = (Network::default(), sign(&buyer));
    let read = Gossip::from_bytes(Topic::Jobs, &good.to_bytes(), &network).unwrap();
    assert!(Gossip::from_bytes(Topic::Jobs, &sign(&identity(0)).to_bytes(), &network).is_err());
    let mut forwarder = Admission::default();
    let mut registry = market.registry.clone();
    let judged = forwarder.judge(read.clone(), &mut registry, at(5));
    assert!(matches!(judged, Judgement::Accept(News::Settled(..))));
    assert_eq!(
        ignored(&forwarder.judge(read, &mut registry, at(6))),
        Some(Ignored::Duplicate)
    );
}

#[test]
fn a_flood_of_new_signers_finds_little_room_and_whoever_is_known_keeps_his() {
    let mut market = Market::new(10);
    let mut forwarder = Admission::default();
    let held = market.registry.len();
    let mut newcomers = 0;
    let mut invent = |registry: &mut Registry, mono: u64| {
        newcomers += 1;
        let ad = ad(&identity(10_000 + newcomers), newcomers, Price::FREE, 1);
        forwarder.judge(Gossip::Ad(ad), registry, at(mono))
    };
    let taken = (0..1_000)
        .filter(|_| is_accepted(&invent(&mut market.registry, 1)))
        .count();
    assert_eq!(taken, usize::try_from(NEWCOMERS_AT_ONCE).unwrap());
    assert_eq!(market.registry.len(), held + taken);
    let refused = invent(&mut market.registry, 1);
    assert_eq!(ignored(&refused), Some(Ignored::Crowded));
    // So many more come in for each second that passes.
    let taken = (0..1_000)
        .filter(|_| is_accepted(&invent(&mut market.registry, 1_001)))
        .count();
    assert_eq!(taken, 1_000 / usize::try_from(NEWCOMER_SPACING.0).unwrap());
    let newer = |ad: &Verified<CapabilityAd>| CapabilityAd {
        sequence: ad.sequence + 1,
        ..(**ad).clone()
    };
    let known = identity(0);
    let own = market.registry.get(&known.node(), UnixMillis(WALL)).unwrap();
    let renewed = Verified::sign(newer(own), &known, &Network::default(), &ZERO);
    assert!(is_accepted(&forwarder.judge(
        Gossip::Ad(renewed),
        &mut market.registry,
        at(1_001)
    )));
}

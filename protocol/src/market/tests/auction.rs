//! Inviting, closing, accepting, widening.

use super::*;
use crate::auction::{Decline, draw};
use crate::market::buyer::{Auction, BidFault, Closed, Effect, Event};
use crate::market::choice::rank;
use crate::names::{INVITED, WINDOW_MIN};
use crate::reputation::{Outcome, Service};
use proptest::prelude::*;

fn invited(effects: &[Effect]) -> Vec<NodeId> {
    let node = |effect: &Effect| match effect {
        Effect::Invite { node, .. } => Some(*node),
        _ => None,
    };
    effects.iter().filter_map(node).collect()
}

fn closed(effects: &[Effect]) -> Option<Closed> {
    effects.iter().find_map(|effect| match effect {
        Effect::Closed(closed) => Some(*closed),
        _ => None,
    })
}

fn begin(market: &Market, seed: u8) -> (Auction, Vec<Effect>) {
    market.view(|view| Auction::begin(want(), view, [seed; 32], at(0)).unwrap())
}

fn praise(market: &mut Market, numbers: impl IntoIterator<Item = u16>) {
    let kept = Service {
        ttft: Millis(100),
        speed: 1_000,
    };
    for number in numbers {
        for _ in 0..20 {
            let outcome = Outcome::Served { bid: kept, seen: kept };
            market
                .reputation
                .observe(identity(number).node(), outcome, UnixMillis(WALL));
        }
    }
}

#[test]
fn the_known_are_invited_and_two_strangers() {
    let mut market = Market::new(40);
    praise(&mut market, 0..20);
    let (auction, effects) = begin(&market, 1);
    let invited = invited(&effects);
    assert_eq!(invited.len(), INVITED);
    assert_eq!(&*auction.offer().invited, &invited[..]);
    let known = |node: &NodeId| (0..20).any(|number| identity(number).node() == *node);
    assert_eq!(invited.iter().filter(|node| known(node)).count(), INVITED - 2);
    // Ads of equal price and reputation: the fastest of the known come first.
    assert_eq!(invited[0], identity(19).node());
}

#[test]
fn with_no_history_anywhere_all_are_drawn() {
    let market = Market::new(40);
    let first = invited(&begin(&market, 1).1);
    let second = invited(&begin(&market, 2).1);
    assert_eq!((first.len(), second.len()), (INVITED, INVITED));
    assert_ne!(first, second);
}

#[test]
fn it_closes_as_soon_as_nothing_missing_can_win() {
    let mut market = Market::new(12);
    praise(&mut market, 0..12);
    let (mut auction, effects) = begin(&market, 3);
    let (best, second) = (invited(&effects)[0], invited(&effects)[1]);
    let offer = auction.offer().clone();
    let bid = market.bid(&second, &offer, at(10));
    assert_eq!(
        closed(&auction.handle(Event::Bid(bid), at(20))),
        None,
        "the best may still bid"
    );
    assert!(auction.accept(at(20)).is_none(), "nothing is accepted while it is open");
    let bid = market.bid(&best, &offer, at(10));
    assert_eq!(closed(&auction.handle(Event::Bid(bid), at(30))), Some(Closed::Ranked));
    let first = auction.accept(at(30)).unwrap();
    let runner_up = auction.accept(at(31)).unwrap();
    assert_eq!((first.accept.winner, first.accept.lease.attempt), (best, 0));
    assert_eq!((runner_up.accept.winner, runner_up.accept.lease.attempt), (second, 1));
    assert!(auction.accept(at(32)).is_none());
}

#[test]
fn it_does_not_wait_for_who_declined_or_is_gone() {
    let mut market = Market::new(3);
    praise(&mut market, 0..3);
    let (mut auction, effects) = begin(&market, 3);
    let nodes = invited(&effects);
    let bid = market.bid(&nodes[2], &auction.offer().clone(), at(10));
    assert_eq!(closed(&auction.handle(Event::Bid(bid), at(20))), None);
    assert_eq!(
        closed(&auction.handle(Event::Declined(nodes[0], Decline::Busy), at(21))),
        None
    );
    assert_eq!(
        closed(&auction.handle(Event::Unreachable(nodes[1]), at(22))),
        Some(Closed::Ranked)
    );
}

#[test]
fn the_window_ends_it_and_late_bids_are_named() {
    let mut market = Market::new(3);
    let (mut auction, effects) = begin(&market, 3);
    let nodes = invited(&effects);
    let end = u64::from(WINDOW_MIN.0);
    assert!(
        effects
            .iter()
            .any(|effect| matches!(effect, Effect::WakeAt(Mono(at)) if *at == end))
    );
    let effects = auction.handle(Event::Tick, at(end));
    assert_eq!(closed(&effects), Some(Closed::Nothing));
    let missed = effects
        .iter()
        .filter(|effect| matches!(effect, Effect::Missed(_)))
        .count();
    assert_eq!(missed, 3);
    let bid = market.bid(&nodes[0], &auction.offer().clone(), at(10));
    let effects = auction.handle(Event::Bid(bid), at(end + 1));
    assert!(matches!(effects[..], [Effect::Refused(node, BidFault::Late)] if node == nodes[0]));
    assert!(auction.accept(at(end + 2)).is_none());
    let (wider, effects) = market.view(|view| auction.widen(&[nodes[0]].into(), view, [9; 32], at(end + 2)).unwrap());
    assert!(!invited(&effects).contains(&nodes[0]));
    assert!(wider.offer().open >= auction.offer().open && wider.offer().job != auction.offer().job);
}

#[test]
fn nobody_to_ask_says_why() {
    let mut market = Market::new(2);
    let mut asks = want();
    asks.requirement.model = ModelId::new("dema").unwrap();
    let why = market.view(|view| Auction::begin(asks, view, ZERO, at(0)).unwrap_err());
    assert_eq!(why.near, [model()]);
    let mut asks = want();
    asks.requirement.context = 1 << 20;
    let why = market.view(|view| Auction::begin(asks, view, ZERO, at(0)).unwrap_err());
    assert_eq!(why.unfit.values().sum::<u32>(), 2);
    let dear = identity(77);
    market.registry = Registry::default();
    market.registry.observe(ad(&dear, 77, price(5), 1), UnixMillis(WALL));
    let why = market.view(|view| Auction::begin(want(), view, ZERO, at(0)).unwrap_err());
    assert_eq!((why.above_cap, why.cheapest), (1, Some(price(5))));
}

fn forge(bid: &JobBid, signer: u16, change: impl FnOnce(&mut JobBid)) -> Verified<JobBid> {
    let mut bid = bid.clone();
    change(&mut bid);
    Verified::sign(bid, &identity(signer), &Network::default(), &ZERO)
}

#[test]
fn bids_that_break_the_rules_are_refused_by_name() {
    let mut market = Market::new(3);
    let (mut auction, _) = begin(&market, 3);
    let offer = auction.offer().clone();
    let good = market.bid(&identity(0).node(), &offer, at(1));
    let mut fault = |bid: Verified<JobBid>| {
        auction
            .handle(Event::Bid(bid), at(5))
            .into_iter()
            .find_map(|effect| match effect {
                Effect::Refused(_, fault) => Some(fault),
                _ => None,
            })
    };
    assert_eq!(
        fault(forge(&good, 0, |bid| bid.price = price(1))),
        Some(BidFault::AboveCap)
    );
    assert_eq!(fault(forge(&good, 0, |bid| bid.at_once = 3)), Some(BidFault::AtOnce));
    assert_eq!(
        fault(forge(&good, 0, |bid| bid.offer = crate::Digest([1; 32]))),
        Some(BidFault::OtherOffer)
    );
    assert_eq!(
        fault(forge(&good, 0, |bid| bid.digest = Some(crate::Digest([1; 32])))),
        Some(BidFault::Digest)
    );
    assert_eq!(fault(forge(&good, 900, |_| ())), Some(BidFault::Unknown));
    assert_eq!(fault(good.clone()), None);
    assert_eq!(
        fault(good.clone()),
        None,
        "the same bid by another way is no second one"
    );
    assert_eq!(fault(forge(&good, 0, |bid| bid.speed = 1)), Some(BidFault::Second));
}

#[test]
fn only_the_drawn_bid_uninvited() {
    let mut market = Market::new(200);
    let (auction, _) = begin(&market, 3);
    let offer = auction.offer().clone();
    let held = market.registry.len();
    let mut strangers = 0;
    for (node, worker) in &mut market.workers {
        let bid = worker.on_offer(&offer, Via::Gossip, held, &ZERO, at(1));
        let drawn = draw(&offer.job, node) < offer.open;
        match bid {
            Ok(_) => assert!(drawn || offer.invited.contains(node)),
            Err(decline) => assert!(!drawn && decline == Decline::Uninvited),
        }
        strangers += usize::from(drawn && !offer.invited.contains(node));
    }
    assert!((1..=16).contains(&strangers), "{strangers}");
}

#[test]
fn price_follows_load_between_floor_ad_and_cap() {
    let own = identity(5);
    let mut worker = Worker::new(
        own.clone(),
        Network::default(),
        Config {
            slots: 4,
            floors: [(model(), price(100))].into(),
            payees: vec![crate::auction::Payee {
                rail: Text::lossy("test"),
                address: Text::lossy("a"),
            }],
            ..Config::default()
        },
    );
    worker.set_ad(Some(ad(&own, 5, price(300), 1_000)));
    let offer = |cap: u64, job: u8| {
        let (buyer, mut auction) = (identity(6), begin(&Market::new(1), job).0.offer().to_owned_message());
        auction.price_cap = price(cap);
        auction.invited = List::first_of([own.node()]);
        auction.rails = List::first_of([Text::lossy("test")]);
        Verified::sign(auction, &buyer, &Network::default(), &ZERO)
    };
    let asked = |worker: &mut Worker, cap, job| {
        worker
            .on_offer(&offer(cap, job), Via::Direct, 1, &ZERO, at(0))
            .map(|bid| bid.price)
    };
    assert_eq!(asked(&mut worker, 1_000, 1), Ok(price(100)));
    assert_eq!(asked(&mut worker, 99, 2), Err(Decline::Price));
    let taken = offer(1_000, 3);
    let bid = worker.on_offer(&taken, Via::Direct, 1, &ZERO, at(0)).unwrap();
    leases::start(&mut worker, &identity(6), &taken, &bid, 0, &[1, 2], at(0)).unwrap();
    assert_eq!(asked(&mut worker, 1_000, 4), Ok(price(200)), "half full, half way");
    assert_eq!(asked(&mut worker, 150, 5), Ok(price(150)), "the cap binds");
}

trait Owned {
    fn to_owned_message(&self) -> JobOffer;
}

impl Owned for Verified<JobOffer> {
    fn to_owned_message(&self) -> JobOffer {
        (**self).clone()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever comes in whatever order: one winner per attempt, each winner once, and the best comes first.
    #[test]
    fn one_winner_per_attempt(order in prop::collection::vec((0_usize..8, 0_u64..300, 0_u8..4), 1..24), seed: u8) {
        let mut market = Market::new(8);
        praise(&mut market, 0..5);
        let (mut auction, _) = begin(&market, seed);
        let offer = auction.offer().clone();
        let (mut time, mut winners) = (0, Vec::new());
        let mut closings = 0;
        for (who, pause, what) in order {
            time += pause;
            let node = market.workers[who].0;
            let event = match what {
                0 => Event::Declined(node, Decline::Busy),
                1 => Event::Tick,
                2 => Event::Unreachable(node),
                _ => Event::Bid(market.bid(&node, &offer, at(1))),
            };
            let effects = auction.handle(event, at(time));
            closings += usize::from(closed(&effects).is_some());
            if let Some(papers) = auction.accept(at(time)) {
                crate::receipt::chain::check_deal(&papers.offer, &papers.bid, &papers.accept).unwrap();
                winners.push(papers);
            }
        }
        prop_assert!(closings <= 1);
        for (attempt, papers) in winners.iter().enumerate() {
            prop_assert_eq!(usize::from(papers.accept.lease.attempt), attempt);
            prop_assert!(winners[..attempt].iter().all(|other| other.accept.winner != papers.accept.winner));
        }
    }

    /// The order in which bids are handed in does not matter.
    #[test]
    fn choice_is_a_function_of_the_set(swap in 0_usize..5, seed: u8) {
        let mut market = Market::new(6);
        praise(&mut market, 0..3);
        let (auction, _) = begin(&market, seed);
        let offer = auction.offer().clone();
        let mut candidates: Vec<_> = (0..6).map(|number| {
            let node = identity(number).node();
            crate::market::choice::Candidate {
                bid: market.bid(&node, &offer, at(1)),
                standing: market.reputation.standing(&node, UnixMillis(WALL)),
                trusted: false,
                round_trip: Millis(40),
                explored: false,
            }
        }).collect();
        let order = |ranked: Vec<crate::market::choice::Ranked>| {
            ranked.into_iter().map(|entry| (entry.bid.signer(), entry.utility)).collect::<Vec<_>>()
        };
        let before = order(rank(&candidates, auction.rule(), &offer.job));
        candidates.swap(swap, swap + 1);
        prop_assert_eq!(before, order(rank(&candidates, auction.rule(), &offer.job)));
    }
}

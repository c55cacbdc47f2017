//! Ring `hostile`: peers that break the rules. After everything that they do the honest node still serves an honest
//! buyer, and has run nothing for them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::Arc;

use infernet_inference::scripted::{Counts, Reply, Script};
use infernet_node::node::Node;
use infernet_protocol::auction::{JobBid, JobOffer};
use infernet_protocol::codec::{Blob, List};
use infernet_protocol::market::lease::Papers;
use infernet_protocol::stream::frames::{
    self, Beat, Body, BuyerFrame, Cancel, Enclosed, End, FailCode, Head, Reconcile, Request, Resume, Voucher,
    WorkerFrame,
};
use infernet_protocol::{Digest, MicroUsd, Millis, Price, UnixMillis, Verified};
use infernet_swarm::Exchange;
use infernet_tests::hostile::{Buyer, Conduct, Line, Raw, start};
use infernet_tests::network::{Peer, chat, consumer, provider, whole};

/// No test takes longer.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(120);

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("in time")
}

/// An honest provider, an honest buyer, and somebody else.
struct Place {
    hub: Arc<Node>,
    provider: Peer,
    buyer: Arc<Node>,
    raw: Raw,
    /// Jobs that the provider was rightly asked for.
    due: u64,
}

impl Place {
    async fn new(first: u8) -> Self {
        let hub = consumer(first, &[]).await;
        let at = hub.listening().await.unwrap();
        let provider = provider(first + 1, &at, Script::default()).await;
        let buyer = consumer(first + 2, &at).await;
        let raw = Raw::start(first + 3, &at, Buyer).await;
        Self {
            hub,
            provider,
            buyer,
            raw,
            due: 0,
        }
    }

    fn counts(&self) -> Counts {
        self.provider.engine.as_ref().unwrap().counts()
    }

    /// The honest buyer is served, and the engine ran for nobody else.
    async fn all_is_well(&mut self, after: &str) {
        let (bytes, ended) = whole(self.buyer.buy(chat("hello"))).await;
        ended.unwrap_or_else(|error| panic!("after {after}: {error}"));
        assert!(bytes.ends_with(b"data: [DONE]\n\n"), "after {after}");
        self.due += 1;
        assert_eq!(
            self.counts().started,
            self.due,
            "the engine ran for the attacker: {after}"
        );
    }

    async fn line(&self) -> Line {
        self.raw.open(&self.provider.node).await
    }
}

fn refused(frames: &[WorkerFrame]) -> Option<FailCode> {
    frames.iter().find_map(|frame| match frame {
        WorkerFrame::Fail(fail) => Some(fail.code),
        _ => None,
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_accept_serves_only_who_signed_it_for_a_live_bid_and_once() {
    in_time(async {
        let mut place = Place::new(20).await;
        let node = place.provider.node.clone();
        let at = place.hub.listening().await.unwrap();
        let (raw, stranger) = (place.raw.clone(), Raw::start(24, &at, Buyer).await);
        let good = place.raw.papers(&node).await;
        let attempts: Vec<(&str, &Raw, Papers)> = vec![
            ("an accept that another peer signed", &stranger, good.clone()),
            (
                "an accept in one's own name of a bid for another's offer",
                &stranger,
                Papers {
                    accept: stranger.accept(&good.offer, &good.bid),
                    ..good.clone()
                },
            ),
            ("a bid that the provider never made", &raw, {
                let offer = raw.offer(node.id());
                let bid = raw.bid_at(&offer, Price::FREE);
                let accept = raw.accept(&offer, &bid);
                Papers { offer, bid, accept }
            }),
            (
                "another offer than the one that was bid for",
                &raw,
                Papers {
                    offer: raw.offer(node.id()),
                    ..good.clone()
                },
            ),
        ];
        for (what, who, papers) in attempts {
            let mut line = who.open(&node).await;
            let (_, request) = who.request();
            line.say(&[vec![start(&papers)], request].concat()).await;
            let said = line.rest().await;
            assert!(refused(&said).is_some() || said.is_empty(), "{what}: {said:?}");
            place.all_is_well(what).await;
        }
        // Flipped bits of every envelope.
        for which in 0..3 {
            let mut line = place.line().await;
            let mut envelopes = [
                &good.accept.bytes().to_vec(),
                &good.bid.bytes().to_vec(),
                &good.offer.bytes().to_vec(),
            ]
            .map(Clone::clone);
            let last = envelopes[which].len() - 1;
            envelopes[which][last] ^= 1;
            let [accept, bid, offer] = envelopes.map(Blob);
            let start = BuyerFrame::from(frames::Start { accept, bid, offer }).to_bytes();
            line.say(&[vec![start], place.raw.request().1].concat()).await;
            let said = line.rest().await;
            assert!(refused(&said).is_some() || said.is_empty(), "{said:?}");
            place.all_is_well("a forged envelope").await;
        }
        // The true one serves, and the same request a second time does not.
        let (_, request) = place.raw.request();
        let frames = [vec![start(&good)], request].concat();
        let mut line = place.line().await;
        line.say(&frames).await;
        let said = line.rest().await;
        assert!(matches!(said.last(), Some(WorkerFrame::Receipt(_))), "{said:?}");
        place.due += 1;
        for _ in 0..3 {
            let mut line = place.line().await;
            line.say(&frames).await;
            assert!(refused(&line.rest().await).is_some());
        }
        place.all_is_well("a request that was replayed").await;
        // A second lease from the same bid.
        let mut again = (*good.accept).clone();
        again.lease.attempt = 1;
        let twice = Papers {
            accept: place.raw.sign(again),
            ..good
        };
        let mut line = place.line().await;
        line.say(&[vec![start(&twice)], place.raw.request().1].concat()).await;
        let said = line.rest().await;
        assert!(refused(&said).is_some(), "{said:?}");
        place.all_is_well("a bid that was accepted twice").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_break_the_rules_end_the_stream_and_nothing_runs() {
    in_time(async {
        let mut place = Place::new(30).await;
        let node = place.provider.node.clone();
        let papers = place.raw.papers(&node).await;
        let start = start(&papers);
        let (request, whole) = place.raw.request();
        let body = |bytes: Vec<u8>| BuyerFrame::from(Body { bytes: Blob(bytes) }).to_bytes();
        let claims = |length| {
            BuyerFrame::from(Request {
                length,
                ..request.clone()
            })
            .to_bytes()
        };
        let enclosed = Enclosed {
            envelope: Blob(vec![1; 64]),
        };
        let reconcile = Reconcile {
            lease: papers.accept.lease,
            held: 9,
            hash: Digest([0; 32]),
            open: List::default(),
        };
        let every: Vec<Vec<u8>> = vec![
            start.clone(),
            claims(5),
            body(vec![0; 5]),
            BuyerFrame::from(Resume {
                request: request.request,
                next: 0,
            })
            .to_bytes(),
            BuyerFrame::from(reconcile).to_bytes(),
            BuyerFrame::Countersign(enclosed).to_bytes(),
            BuyerFrame::from(Voucher {
                lease: papers.accept.lease,
                voucher: Blob(vec![1; 64]),
            })
            .to_bytes(),
            BuyerFrame::from(Cancel {
                request: request.request,
            })
            .to_bytes(),
        ];
        let mut cases: Vec<(String, Vec<Vec<u8>>)> = vec![
            ("nothing in a frame".into(), vec![Vec::new()]),
            ("noise".into(), vec![vec![0xff; 100]]),
            ("a frame as long as can be".into(), vec![vec![0x42; 1024 * 1024]]),
            ("a request before its lease".into(), whole.clone()),
            ("a body before its request".into(), vec![start.clone(), body(vec![1])]),
            ("two leases".into(), vec![start.clone(), start.clone()]),
            ("a body above the limit".into(), vec![start.clone(), claims(u64::MAX)]),
            (
                "a body longer than said".into(),
                vec![start.clone(), claims(4), body(vec![1; 5])],
            ),
            (
                "a request inside a body".into(),
                vec![start.clone(), claims(4), claims(4)],
            ),
            (
                "a worker's frame".into(),
                vec![start.clone(), WorkerFrame::from(End { frames: 0 }).to_bytes()],
            ),
        ];
        for (number, frame) in every.iter().enumerate() {
            let first = if number == 0 { Vec::new() } else { vec![start.clone()] };
            let mut trailing = frame.clone();
            trailing.push(0);
            let mut unknown = frame.clone();
            unknown[1] = 15;
            for (what, bad) in [
                ("cut short", frame[..frame.len() - 1].to_vec()),
                ("with a byte too many", trailing),
                ("of an unknown number", unknown),
            ] {
                cases.push((format!("frame {number} {what}"), [first.clone(), vec![bad]].concat()));
            }
        }
        for (what, frames) in &cases {
            let mut line = place.line().await;
            line.say(frames).await;
            // The node ends the stream by itself; this would wait for ever if it did not.
            while line.hear().await.is_some() {}
            assert_eq!(place.counts().started, place.due, "{what}");
        }
        place.all_is_well("all of that").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_streams_keep_nobody_else_out() {
    in_time(async {
        let mut place = Place::new(40).await;
        let at = place.provider.node.listening().await.unwrap();
        let peer = infernet_tests::hostile::peer_of(place.provider.node.id());
        let enclosed = Enclosed {
            envelope: Blob(vec![1; 64]),
        };
        let hello = BuyerFrame::Countersign(enclosed).to_bytes();
        let mut held = Vec::new();
        for _ in 0..1_000 {
            let Ok(stream) = place.raw.handle.open(peer, at.clone()).await else {
                break;
            };
            let (reader, mut writer) = stream.split();
            // The first write is what opens it at the other side; a refusal there is what is hoped for.
            let _ = writer.send(&hello).await;
            held.push((reader, writer));
        }
        assert!(held.len() > 64, "more than anybody's share were tried: {}", held.len());
        place.all_is_well("a thousand streams").await;
        drop(held);
        place.all_is_well("their end").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_never_reads_holds_up_only_itself() {
    in_time(async {
        let mut place = Place::new(50).await;
        let engine = place.provider.engine.clone().unwrap();
        let node = place.provider.node.clone();
        engine.follow(Script {
            reply: Reply::Words(1_000_000),
            ..Script::default()
        });
        let papers = place.raw.papers(&node).await;
        let mut line = place.line().await;
        line.say(&[vec![start(&papers)], place.raw.request().1].concat()).await;
        engine.observe().wait_for(|counts| counts.tokens > 100).await.unwrap();
        place.due += 1;
        engine.follow(Script::default());
        for _ in 0..5 {
            place.all_is_well("an answer that is not read").await;
        }
        assert!(place.counts().tokens < 500_000, "the engine waits for its reader");
        drop(line);
        engine.observe().wait_for(|counts| counts.running == 0).await.unwrap();
        assert_eq!(place.counts().cancelled, 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_on_gossip_and_in_exchanges_is_dropped() {
    in_time(async {
        let mut place = Place::new(60).await;
        let node = place.provider.node.clone();
        let topics = [
            place.raw.network.capability_topic(),
            place.raw.network.jobs_topic(infernet_protocol::names::INFERENCE),
        ];
        let offer = place.raw.offer(node.id());
        let mut forged = offer.bytes().to_vec();
        let middle = forged.len() / 2;
        forged[middle] ^= 1;
        let mut stale = (*offer).clone();
        stale.issued_at = UnixMillis(1_000);
        stale.expires_at = UnixMillis(2_000);
        let stale = place.raw.sign(stale).bytes().to_vec();
        let garbage = [vec![0], vec![0xff; 1_000], vec![0x9f; 16 * 1024], forged, stale];
        for bytes in &garbage {
            for exchange in [Exchange::Offer, Exchange::Ad] {
                let answer = place.raw.ask(&node, exchange, bytes.clone()).await;
                let bid = answer.is_some_and(|answer| {
                    let reply = infernet_protocol::codec::from_slice::<infernet_protocol::auction::OfferReply>(&answer);
                    reply.is_ok_and(|reply| reply.bid.is_some())
                });
                assert!(!bid, "no bid for garbage");
            }
        }
        place.all_is_well("garbage in exchanges").await;
        for topic in topics {
            for bytes in &garbage {
                place.raw.publish(topic.clone(), bytes.clone()).await;
            }
        }
        place.all_is_well("garbage on gossip").await;
        // An offer in another's name: whoever asks has to be who signed it.
        let other = place.buyer.id();
        let bid = Raw::start(64, &place.hub.listening().await.unwrap(), Buyer).await;
        let answer = bid.ask(&node, Exchange::Offer, offer.bytes().to_vec()).await.unwrap();
        let reply: infernet_protocol::auction::OfferReply = infernet_protocol::codec::from_slice(&answer).unwrap();
        assert!(reply.bid.is_none() && other != bid.identity.node());
        place.all_is_well("a stolen offer").await;
    })
    .await;
}

/// Bids at a price, and answers with what it is told to.
struct Cheat {
    price: Price,
    frames: Vec<Vec<u8>>,
}

impl Conduct for Cheat {
    fn bid(&self, me: &Raw, offer: &Verified<JobOffer>) -> Option<Verified<JobBid>> {
        Some(me.bid_at(offer, self.price))
    }

    fn answer(&self, _: &Request) -> Vec<Vec<u8>> {
        self.frames.clone()
    }
}

/// A buyer that knows an honest provider and a cheat, and buys a few answers; how often the cheat was trusted.
async fn bought_beside(first: u8, cheat: Cheat) -> u64 {
    let hub = consumer(first, &[]).await;
    let at = hub.listening().await.unwrap();
    let slow = Script {
        first_token_ms: 20,
        ..Script::default()
    };
    let honest = provider(first + 1, &at, slow).await;
    let raw = Raw::start(first + 2, &at, cheat).await;
    let ad = raw.ad().await;
    raw.publish(raw.network.capability_topic(), ad.bytes().to_vec()).await;
    let purchase = chat("hello");
    // A buyer that comes now is told of both.
    hub.until_served(&purchase.model, 2).await;
    let buyer = consumer(first + 3, &at).await;
    buyer.until_served(&purchase.model, 2).await;
    for _ in 0..4 {
        let (bytes, ended) = whole(buyer.buy(chat("hello"))).await;
        let summary = ended.unwrap();
        assert_eq!(summary.chosen.provider, honest.node.id());
        assert!(bytes.ends_with(b"data: [DONE]\n\n"));
    }
    assert_eq!(honest.engine.unwrap().counts().completed, 4);
    raw.asked()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bid_above_the_cap_wins_nothing() {
    in_time(async {
        let cheat = Cheat {
            price: Price {
                output: MicroUsd(1),
                ..Price::FREE
            },
            frames: Vec::new(),
        };
        assert_eq!(bought_beside(70, cheat).await, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_answers_nonsense_is_replaced() {
    let head = || {
        WorkerFrame::from(Head {
            status: 200,
            content_type: infernet_protocol::codec::Text::lossy("text/event-stream"),
        })
        .to_bytes()
    };
    let answers: [(&str, Vec<Vec<u8>>); 8] = [
        ("nothing", vec![]),
        ("noise", vec![vec![0xff; 50]]),
        ("data before a head", vec![frames::data(0, b"data: {}\n\n", None)]),
        (
            "data out of order",
            vec![head(), frames::data(7, b"data: {}\n\n", None)],
        ),
        (
            "an end that miscounts",
            vec![head(), WorkerFrame::from(End { frames: 3 }).to_bytes()],
        ),
        (
            "a receipt for nothing",
            vec![
                WorkerFrame::Receipt(Enclosed {
                    envelope: Blob(vec![0; 200]),
                })
                .to_bytes(),
            ],
        ),
        (
            "a buyer's frame",
            vec![
                BuyerFrame::from(Body {
                    bytes: Blob(vec![0; 10]),
                })
                .to_bytes(),
            ],
        ),
        (
            "a beat, then the end",
            vec![WorkerFrame::from(Beat { next: 0 }).to_bytes()],
        ),
    ];
    for (number, (what, frames)) in answers.into_iter().enumerate() {
        let cheat = Cheat {
            price: Price::FREE,
            frames,
        };
        let first = 80 + 5 * u8::try_from(number).unwrap();
        let trusted = in_time(bought_beside(first, cheat)).await;
        println!("{what}: asked {trusted} times");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn durations_of_hostile_offers_are_bounded() {
    in_time(async {
        let mut place = Place::new(130).await;
        let node = place.provider.node.clone();
        let mut offer = (*place.raw.offer(node.id())).clone();
        offer.volume.lease = Millis(u32::MAX);
        let offer = place.raw.sign(offer);
        let answer = place
            .raw
            .ask(&node, Exchange::Offer, offer.bytes().to_vec())
            .await
            .unwrap();
        let reply: infernet_protocol::auction::OfferReply = infernet_protocol::codec::from_slice(&answer).unwrap();
        assert!(reply.bid.is_none());
        place.all_is_well("a lease without end").await;
    })
    .await;
}

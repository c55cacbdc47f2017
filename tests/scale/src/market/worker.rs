//! The providers of a simulated network: the real `Worker`, made for those alone who are asked something.

use infernet_protocol::auction::{Decline, JobBid, draw, open_threshold};
use infernet_protocol::codec::List;
use infernet_protocol::market::buyer::Event as Heard;
use infernet_protocol::market::gossip::Gossip;
use infernet_protocol::market::lease::Papers;
use infernet_protocol::market::worker::Via;
use infernet_protocol::receipt::{Countersign, Status, Step as Receipted};
use infernet_protocol::reputation::{Outcome, Service};
use infernet_protocol::{Digest, LeaseId, MicroUsd, Millis, RequestId, Verified};

use super::Step;
use crate::message::What;
use crate::population::each;
use crate::world::World;

/// A request keeps a slot for this long, at least and at most.
const SERVES: (u64, u64) = (5_000, 20_000);

impl World {
    /// An offer was heard on gossip.
    pub(crate) fn on_offer_heard(&mut self, node: u32, message: u32, via: Via) {
        let What::Offer(offer) = &self.messages[message as usize].what else {
            return;
        };
        let (own, held) = (self.population.node(node), self.nodes[node as usize].judge.held());
        if self.nodes[node as usize].hostile && via == Via::Gossip {
            self.bid_anyhow(node, message);
            return;
        }
        // What the worker itself asks first; it spares making a worker for each of ten thousand nodes.
        let drawn = draw(&offer.job, &own) < open_threshold(offer.open, held);
        if offer.invited.contains(&own) || drawn {
            let bid = self.quote(node, message, via);
            if let Ok(bid) = bid {
                self.say_bid(node, message, bid);
            }
        }
    }

    fn quote(&mut self, node: u32, message: u32, via: Via) -> Result<Verified<JobBid>, Decline> {
        let What::Offer(offer) = self.messages[message as usize].what.clone() else {
            return Err(Decline::Invalid);
        };
        let (held, entropy, now) = (self.nodes[node as usize].judge.held(), self.rng.bytes(), self.instant());
        let ad = self.newest_ad(node).map(|ad| self.messages[ad as usize].what.clone());
        let population = &self.population;
        let worker = self.workers.entry(node).or_insert_with(|| population.worker(node));
        if let Some(What::Ad(ad, _)) = ad {
            worker.set_ad(Some(ad));
        }
        worker.tick(now);
        worker.on_offer(&offer, via, held, &entropy, now)
    }

    fn say_bid(&mut self, node: u32, offer: u32, bid: Verified<JobBid>) {
        if self.bids_said.insert(bid.hash()) {
            let message = self.put_message(What::Bid(bid, offer, true), node);
            self.publish_job(node, message);
        }
    }

    /// A hostile node bids for everything, below everybody.
    fn bid_anyhow(&mut self, node: u32, message: u32) {
        let What::Offer(offer) = &self.messages[message as usize].what else {
            return;
        };
        let bid = JobBid {
            job: offer.job,
            offer: offer.hash(),
            price: each(1),
            ttft: Millis(1),
            speed: u32::MAX,
            queue: 0,
            addresses: List::default(),
            payees: List::default(),
            digest: None,
            at_once: 1,
            public: true,
        };
        let identity = &self.population.members[node as usize].identity;
        let bid = Verified::sign(bid, identity, &self.population.network, &self.rng.bytes());
        self.say_bid(node, message, bid);
    }

    pub(super) fn on_asked(&mut self, number: usize, worker: u32, message: u32) {
        let buyer = self.jobs[number].buyer;
        if !self.reaches(buyer, worker) {
            return;
        }
        let now = self.instant();
        self.nodes[worker as usize]
            .judge
            .note_offer(message, &self.messages[message as usize], now);
        let answer = self.quote(worker, message, Via::Direct);
        if let Ok(bid) = &answer {
            self.say_bid(worker, message, bid.clone());
        }
        let way = self.way(worker, buyer);
        self.later(way, Step::Answer(number, worker, answer));
    }

    /// A bid came by on gossip.
    pub(crate) fn on_bid_heard(&mut self, node: u32, offer: u32, bid: Verified<JobBid>) {
        let Some(number) = self
            .job_of
            .get(&offer)
            .copied()
            .filter(|number| self.jobs[*number].buyer == node)
        else {
            return;
        };
        if self.jobs[number].offer == offer && self.jobs[number].auction.is_some() {
            let bidder = self.population.numbers[&bid.signer()];
            self.note_bidder(number, bidder);
            self.tell(number, Heard::Bid(bid));
        }
    }

    pub(super) fn on_start(&mut self, number: usize, worker: u32, papers: &Papers) {
        let buyer = self.jobs[number].buyer;
        let (peer, now) = (self.population.node(buyer), self.instant());
        let request = RequestId(self.rng.bytes());
        let Some(machine) = self.workers.get_mut(&worker) else {
            return;
        };
        let started = machine.on_start(papers, &peer, now);
        let refused = started
            .and_then(|started| machine.on_request(&started.lease, request, now))
            .err();
        if refused.is_none() {
            let takes = self.rng.between(SERVES.0, SERVES.1);
            self.later(takes, Step::Done(number, worker, papers.accept.lease, request));
        }
        let way = self.way(worker, buyer);
        self.later(way, Step::Started(number, worker, refused));
    }

    /// A request ended well: its receipt, countersigned and made public.
    pub(super) fn on_done(&mut self, number: usize, worker: u32, lease: LeaseId, request: RequestId) {
        let (buyer, now) = (self.jobs[number].buyer, self.instant());
        let step = Receipted {
            request,
            status: Status::Completed,
            input_tokens: 500,
            output_tokens: 200,
            ttft: Millis(200),
            duration: Millis(10_000),
            amount: MicroUsd(1),
            commitment: Digest::of(&[&request.0]),
        };
        let (entropy, offer) = (self.rng.bytes(), self.offers.get(&self.offer_of(number)).copied());
        let Some(machine) = self.workers.get_mut(&worker) else {
            return;
        };
        let Ok(receipt) = machine.finish(&lease, step, &entropy, now) else {
            return;
        };
        let sign = Countersign {
            receipt: receipt.hash(),
            lease,
            seq: receipt.seq,
            dispute: None,
            note: Default::default(),
            signed_at: now.wall,
        };
        let identity = &self.population.members[buyer as usize].identity;
        let sign = Verified::sign(sign, identity, &self.population.network, &self.rng.bytes());
        // The worker has nothing against its own buyer's signature.
        let _new = machine.on_countersign(sign.clone());
        let service = Service {
            ttft: Millis(200),
            speed: 50_000,
        };
        let node = self.population.node(worker);
        self.judge_of(
            buyer,
            node,
            Outcome::Served {
                bid: service,
                seen: service,
            },
        );
        if let Some(offer) = offer.filter(|_| self.nodes[buyer as usize].up) {
            let message = self.put_message(What::Rest(Gossip::Settled(receipt, sign), offer, Some(worker)), buyer);
            self.publish_job(buyer, message);
        }
    }

    fn offer_of(&self, number: usize) -> Digest {
        let message = self
            .messages
            .get(self.jobs[number].offer as usize)
            .map(|message| &message.what);
        match message {
            Some(What::Offer(offer)) => offer.hash(),
            _ => Digest([0; 32]),
        }
    }
}

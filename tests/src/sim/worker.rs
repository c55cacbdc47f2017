//! A provider around the real `Worker`: what the node's driver does, and what kinds of liar do instead.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::rc::Rc;

use infernet_protocol::auction::{JobBid, JobOffer};
use infernet_protocol::capability::{CapabilityAd, Limits, Registry};
use infernet_protocol::market::admission::{Admission, Judgement, News};
use infernet_protocol::market::gossip::{Gossip, Topic};
use infernet_protocol::market::lease::{Bounds, Papers};
use infernet_protocol::market::worker::{Refusal, Via, Worker};
use infernet_protocol::names::RESUME_WITHIN;
use infernet_protocol::receipt::{Countersign, JobReceipt, Status, Step};
use infernet_protocol::reputation::Service;
use infernet_protocol::stream::frames::Reconcile;
use infernet_protocol::{Digest, Identity, LeaseId, Millis, NodeId, RequestId, Verified};

use super::journal::{Journal, Record};
use super::laws::{self, Law};
use super::message::{Delivery, Direct, Parcel};
use super::population::{CAP, Habit, Truth, each};
use super::setup::Gossiping;
use super::world::{Net, Timer};

/// How often a node tidies up, and a provider advertises, in milliseconds.
const TICK: u64 = 3_000;
const ADVERTISE: u64 = 25_000;

#[derive(Debug)]
struct Job {
    buyer: usize,
    papers: Rc<Papers>,
    tokens: u32,
    service: Service,
    fails: bool,
    /// Whether the stream to the buyer is gone, and how many times it was.
    lost: bool,
    losses: u32,
    ready: bool,
    delivery: Option<Rc<Delivery>>,
}

/// A provider.
pub(super) struct WorkerNode {
    pub(super) at: usize,
    pub(super) node: NodeId,
    pub(super) identity: Identity,
    pub(super) truth: Truth,
    pub(super) machine: Worker,
    pub(super) ad: Verified<CapabilityAd>,
    jobs: BTreeMap<(LeaseId, RequestId), Job>,
    journal: Journal,
    admission: Admission,
    registry: Registry,
    seen: HashSet<u64>,
}

/// The end of the commitment chain of a request that was answered, or of one of which nothing came.
pub(super) fn commitment(request: &RequestId, answered: bool) -> Digest {
    Digest::of(&[request.as_bytes(), &[u8::from(answered)]])
}

/// Input tokens of every request.
pub(super) const INPUT_TOKENS: u32 = 200;

impl WorkerNode {
    pub(super) fn new(at: usize, identity: Identity, truth: Truth, net: &mut Net) -> Self {
        let node = identity.node();
        let entropy = net.entropy();
        let ad = truth.ad(at, &identity, &net.setup, net.at(at).wall, &entropy);
        net.laws.advertised(node, each(truth.price));
        let mut machine = Worker::new(identity.clone(), net.network.clone(), truth.config());
        machine.set_ad(Some(ad.clone()));
        Self {
            at,
            node,
            identity,
            truth,
            machine,
            ad,
            jobs: BTreeMap::new(),
            journal: Journal::default(),
            admission: Admission::default(),
            registry: Registry::new(Limits::default()),
            seen: HashSet::new(),
        }
    }

    pub(super) fn begin(&mut self, net: &mut Net) {
        let tick = net.rng.below(TICK);
        net.timer(self.at, tick, Timer::Tick);
        if self.in_mesh(net) {
            let soon = net.rng.below(500);
            net.timer(self.at, soon, Timer::Advertise);
        }
    }

    fn in_mesh(&self, net: &Net) -> bool {
        matches!(net.setup.gossip, Gossiping::Mesh { .. })
    }

    /// What must hold of the machine as it is now.
    pub(super) fn check(&self, net: &Net) -> Law {
        let running = self.jobs.values().filter(|job| job.delivery.is_none()).count();
        laws::worker_keeps(&self.machine, self.truth.slots, running, net.at(self.at))
    }

    fn ads_held(&self, net: &Net) -> usize {
        if self.in_mesh(net) {
            self.registry.len()
        } else {
            net.setup.workers + net.setup.sybils
        }
    }

    pub(super) fn on_gossip(&mut self, from: usize, id: u64, parcel: &Rc<Parcel>, net: &mut Net) -> Law {
        if !self.seen.insert(id) {
            return Ok(());
        }
        let news = match hear(parcel, &mut self.admission, &mut self.registry, self.at, net) {
            Some(news) => news,
            None => return Ok(()),
        };
        if self.in_mesh(net) {
            net.forward(self.at, Some(from), id, parcel);
        }
        match news {
            News::Offer(offer) => self.on_offer_heard(&offer, net),
            News::Accept(accept, _) if accept.winner == self.node => {
                let _ = self.machine.on_accept(&accept, net.at(self.at));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn on_offer_heard(&mut self, offer: &Verified<JobOffer>, net: &mut Net) -> Law {
        let entropy = net.entropy();
        let held = self.ads_held(net);
        match self
            .machine
            .on_offer(offer, Via::Gossip, held, &entropy, net.at(self.at))
        {
            Ok(bid) => {
                net.laws.bid(&bid)?;
                if offer.invited.contains(&self.node) {
                    self.answer_directly(offer, bid, net);
                } else {
                    net.publish(self.at, Gossip::Bid(bid));
                }
            }
            // A liar does not wait to be drawn.
            Err(_) if !self.truth.is_honest() && net.rng.chance(100) => {
                if let Some(bid) = self.forge(offer, net) {
                    net.publish(self.at, Gossip::Bid(bid));
                }
            }
            Err(_) => {}
        }
        Ok(())
    }

    fn answer_directly(&mut self, offer: &Verified<JobOffer>, bid: Verified<JobBid>, net: &mut Net) {
        if let Some(buyer) = net.who.get(&offer.signer()).copied() {
            if offer.public && bid.public {
                net.publish(self.at, Gossip::Bid(bid.clone()));
            }
            net.direct(self.at, buyer, Direct::Bid(bid));
        }
    }

    /// A bid that the machine would not make: above the ad and the cap, or by somebody who was not drawn.
    fn forge(&mut self, offer: &Verified<JobOffer>, net: &mut Net) -> Option<Verified<JobBid>> {
        let price = match self.truth.habit {
            Habit::Overasks => each(CAP * 2),
            _ => each(self.truth.floor),
        };
        let bid = JobBid {
            job: offer.job,
            offer: offer.hash(),
            price,
            ttft: Millis(1),
            speed: 400_000,
            queue: 0,
            addresses: self.ad.addresses.clone(),
            payees: infernet_protocol::codec::List::first_of(self.truth.config().payees),
            digest: None,
            at_once: offer.volume.at_once,
            public: true,
        };
        let entropy = net.entropy();
        Some(Verified::sign(bid, &self.identity, &net.network, &entropy))
    }

    pub(super) fn on_direct(&mut self, from: usize, message: Direct, net: &mut Net) -> Law {
        match message {
            Direct::Offer(offer) => self.on_offer(from, &offer, net),
            Direct::Start(papers, request, tokens) => self.on_start(from, papers, request, tokens, net),
            Direct::Resume(lease, request) => self.on_resume(from, lease, request, net),
            Direct::Countersign(sign) => self.on_countersign(from, sign, net),
            Direct::Reconcile(theirs) => self.on_reconcile(from, &theirs, net),
            _ => Ok(()),
        }
    }

    fn on_offer(&mut self, from: usize, offer: &Verified<JobOffer>, net: &mut Net) -> Law {
        self.admission.note_offer(offer, net.at(self.at));
        if self.truth.habit == Habit::Overasks {
            if let Some(bid) = self.forge(offer, net) {
                net.direct(self.at, from, Direct::Bid(bid));
            }
            return Ok(());
        }
        let entropy = net.entropy();
        let held = self.ads_held(net);
        match self
            .machine
            .on_offer(offer, Via::Direct, held, &entropy, net.at(self.at))
        {
            Ok(bid) => {
                net.laws.bid(&bid)?;
                self.answer_directly(offer, bid, net);
            }
            Err(why) => net.direct(self.at, from, Direct::Declined(offer.hash(), why)),
        }
        Ok(())
    }

    fn on_start(&mut self, from: usize, papers: Rc<Papers>, request: RequestId, tokens: u32, net: &mut Net) -> Law {
        let (lease, peer, now) = (papers.accept.lease, net.ids[from], net.at(self.at));
        net.touched.push(lease);
        let begun = match self.machine.on_start(&papers, &peer, now) {
            Ok(started) => {
                if started.is_new {
                    net.laws.opened(&papers, self.node, peer)?;
                    net.summary.leases += 1;
                    self.journal.append(Record::Lease((*papers).clone(), now.wall.0));
                    self.journal.sync();
                }
                self.machine.on_request(&lease, request, now)
            }
            Err(why) => Err(why),
        };
        match begun {
            Ok(()) => self.run(from, papers, request, tokens, net),
            Err(why) => {
                net.summary.busy += u64::from(why == Refusal::Busy);
                net.summary.exposure_refusals += u64::from(matches!(why, Refusal::Exposure | Refusal::Suspended));
                net.direct(self.at, from, Direct::Refused(lease, request, why));
                Ok(())
            }
        }
    }

    fn run(&mut self, from: usize, papers: Rc<Papers>, request: RequestId, tokens: u32, net: &mut Net) -> Law {
        let lease = papers.accept.lease;
        net.laws.runs(&papers, request, self.node, net.ids[from])?;
        net.summary.requests += 1;
        let bounds = Bounds {
            input_tokens: INPUT_TOKENS,
            output_tokens: tokens,
        };
        self.journal.append(Record::Use(lease, request, bounds));
        let (ttft, speed) = self.truth.served();
        let noise = net.rng.between(96, 106);
        let service = Service {
            ttft: Millis(u32::try_from(u64::from(ttft.0) * noise / 100).unwrap_or(ttft.0)),
            speed: u32::try_from(u64::from(speed) * 100 / noise).unwrap_or(speed),
        };
        let fails = self.truth.habit == Habit::Fails || !net.rng.chance(self.truth.reliable);
        let streaming = u64::from(tokens) * 1_000_000 / u64::from(service.speed.max(1));
        let takes = u64::from(service.ttft.0) + if fails { 0 } else { streaming };
        if self.truth.habit != Habit::Silent {
            net.timer(self.at, takes, Timer::Done(lease, request));
        }
        let job = Job {
            buyer: from,
            papers,
            tokens,
            service,
            fails,
            lost: false,
            losses: 0,
            ready: false,
            delivery: None,
        };
        self.jobs.insert((lease, request), job);
        Ok(())
    }

    pub(super) fn on_timer(&mut self, timer: Timer, net: &mut Net) -> Law {
        match timer {
            Timer::Done(lease, request) => self.on_done(lease, request, net),
            Timer::GiveUp(lease, request, losses) => {
                self.give_up(lease, request, losses, net);
                Ok(())
            }
            Timer::Tick => {
                let now = net.at(self.at);
                self.machine.tick(now);
                self.admission.tick(now);
                self.registry.expire(now.wall);
                net.timer(self.at, TICK, Timer::Tick);
                Ok(())
            }
            Timer::Advertise => {
                self.advertise(net);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn advertise(&mut self, net: &mut Net) {
        let entropy = net.entropy();
        self.ad = self
            .truth
            .ad(self.at, &self.identity, &net.setup, net.at(self.at).wall, &entropy);
        self.machine.set_ad(Some(self.ad.clone()));
        self.registry.observe(self.ad.clone(), net.at(self.at).wall);
        net.publish(self.at, Gossip::Ad(self.ad.clone()));
        net.timer(self.at, ADVERTISE, Timer::Advertise);
    }

    fn on_done(&mut self, lease: LeaseId, request: RequestId, net: &mut Net) -> Law {
        let Some(job) = self.jobs.get_mut(&(lease, request)) else {
            return Ok(());
        };
        if job.fails {
            let buyer = job.buyer;
            self.machine.fail(&lease, &request);
            self.journal.append(Record::Void(lease, request));
            self.journal.sync();
            self.jobs.remove(&(lease, request));
            net.touched.push(lease);
            net.direct(self.at, buyer, Direct::Failed(lease, request));
            return Ok(());
        }
        job.ready = true;
        if job.lost {
            Ok(())
        } else {
            self.deliver(lease, request, net)
        }
    }

    /// Signs and journals the receipt, then sends the answer with it.
    fn deliver(&mut self, lease: LeaseId, request: RequestId, net: &mut Net) -> Law {
        let Some(job) = self.jobs.get(&(lease, request)) else {
            return Ok(());
        };
        let (buyer, service, price) = (job.buyer, job.service, job.papers.bid.price);
        let output_tokens = match self.truth.habit {
            Habit::Overbills => job.tokens * 3,
            _ => job.tokens,
        };
        let step = Step {
            request,
            status: Status::Completed,
            input_tokens: INPUT_TOKENS,
            output_tokens,
            ttft: service.ttft,
            duration: Millis(service.ttft.0 + 1),
            amount: price.cost(INPUT_TOKENS, output_tokens),
            commitment: commitment(&request, true),
        };
        let receipt = self.issue(&lease, step, net)?;
        let delivery = Rc::new(Delivery {
            request,
            input_tokens: INPUT_TOKENS,
            output_tokens: job_tokens(&self.jobs, lease, request),
            commitment: step.commitment,
            service,
            receipt: receipt.clone(),
        });
        if let Some(job) = self.jobs.get_mut(&(lease, request)) {
            job.delivery = Some(Rc::clone(&delivery));
            let losses = job.losses;
            net.timer(
                self.at,
                u64::from(RESUME_WITHIN.0),
                Timer::GiveUp(lease, request, losses),
            );
        }
        net.direct(self.at, buyer, Direct::Delivered(delivery));
        if self.truth.habit == Habit::Equivocates {
            let mut other = (*receipt).clone();
            other.step.output_tokens += 1;
            let entropy = net.entropy();
            let other = Verified::sign(other, &self.identity, &net.network, &entropy);
            net.direct(self.at, buyer, Direct::Receipt(other));
        }
        Ok(())
    }

    fn issue(&mut self, lease: &LeaseId, step: Step, net: &mut Net) -> Result<Verified<JobReceipt>, String> {
        let (entropy, now) = (net.entropy(), net.at(self.at));
        net.touched.push(*lease);
        let receipt = self
            .machine
            .finish(lease, step, &entropy, now)
            .map_err(|why| format!("a request that ran has no receipt: {why}"))?;
        self.journal.append(Record::Receipt(receipt.clone()));
        self.journal.sync();
        net.summary.receipts += 1;
        let deal = self
            .machine
            .lease(lease)
            .map(|lease| lease.deal().price)
            .unwrap_or_default();
        net.laws.receipt(&receipt, &deal)?;
        Ok(receipt)
    }

    fn give_up(&mut self, lease: LeaseId, request: RequestId, losses: u32, net: &mut Net) {
        let Some(job) = self.jobs.get(&(lease, request)) else {
            return;
        };
        if job.losses != losses {
            return;
        }
        let buyer = job.buyer;
        if job.delivery.is_none() {
            self.machine.lose(&lease, request);
            net.touched.push(lease);
            // The buyer may have compared books before this was lost, and does not know that it should again.
            if let Some(reconcile) = self.machine.lease(&lease).map(|lease| lease.reconcile()) {
                net.direct(self.at, buyer, Direct::Reconcile(reconcile));
            }
        }
        self.jobs.remove(&(lease, request));
    }

    pub(super) fn on_lost(&mut self, peer: usize, net: &mut Net) {
        for ((lease, request), job) in &mut self.jobs {
            if job.buyer == peer && job.delivery.is_none() && !job.lost {
                job.lost = true;
                job.losses += 1;
                let again = Timer::GiveUp(*lease, *request, job.losses);
                net.timer(self.at, u64::from(RESUME_WITHIN.0), again);
            }
        }
    }

    fn on_resume(&mut self, from: usize, lease: LeaseId, request: RequestId, net: &mut Net) -> Law {
        let job = self.jobs.get_mut(&(lease, request)).filter(|job| job.buyer == from);
        let Some(job) = job else {
            net.direct(self.at, from, Direct::Gone(lease, request));
            return Ok(());
        };
        job.lost = false;
        job.losses += 1;
        if let Some(delivery) = &job.delivery {
            net.direct(self.at, from, Direct::Delivered(Rc::clone(delivery)));
            net.timer(
                self.at,
                u64::from(RESUME_WITHIN.0),
                Timer::GiveUp(lease, request, job.losses),
            );
            return Ok(());
        }
        if job.ready {
            self.deliver(lease, request, net)
        } else {
            Ok(())
        }
    }

    fn on_countersign(&mut self, from: usize, sign: Verified<Countersign>, net: &mut Net) -> Law {
        let lease = sign.lease;
        net.touched.push(lease);
        match self.machine.on_countersign(sign.clone()) {
            Ok(news) => {
                if news {
                    self.journal.append(Record::Countersign(sign));
                    self.journal.sync();
                }
                let parties = net.laws.parties(&lease);
                match parties {
                    Some((buyer, _)) if buyer == from => Ok(()),
                    _ => Err(format!("{lease}: a stranger's countersignature was filed")),
                }
            }
            Err(_) => Ok(()),
        }
    }

    fn on_reconcile(&mut self, from: usize, theirs: &Reconcile, net: &mut Net) -> Law {
        let lease = theirs.lease;
        let peer = net.ids[from];
        // What the buyer calls open and we still run: its stream is over for the buyer.
        for open in &theirs.open {
            let key = (lease, open.request);
            let ours = self
                .jobs
                .get(&key)
                .is_some_and(|job| job.buyer == from && job.delivery.is_none());
            if ours {
                self.machine.lose(&lease, open.request);
                self.jobs.remove(&key);
            }
        }
        let answer = match self.machine.on_reconcile(theirs, &peer) {
            Ok(answer) => {
                for request in &answer.written_off {
                    self.journal.append(Record::Void(lease, *request));
                }
                self.journal.sync();
                answer
            }
            Err(Refusal::NoLease) => {
                net.direct(self.at, from, Direct::Answer(lease, Vec::new(), None));
                return Ok(());
            }
            Err(_) => return Ok(()),
        };
        if net.laws.parties(&lease).is_none_or(|(buyer, _)| buyer != from) {
            return Err(format!("{lease}: a stranger may look into the book"));
        }
        let mut receipts = answer.receipts;
        for open in answer.to_receipt {
            let step = Step {
                request: open.request,
                status: Status::Failed,
                input_tokens: 0,
                output_tokens: 0,
                ttft: Millis(0),
                duration: Millis(0),
                amount: infernet_protocol::MicroUsd(0),
                commitment: open.commitment,
            };
            receipts.push(self.issue(&lease, step, net)?);
        }
        let reconcile = self.machine.lease(&lease).map(|lease| lease.reconcile());
        net.touched.push(lease);
        net.direct(self.at, from, Direct::Answer(lease, receipts, reconcile));
        Ok(())
    }

    pub(super) fn crash(&mut self, power: bool, net: &mut Net) {
        self.jobs.clear();
        self.seen.clear();
        if power {
            self.journal.lose_unsynced(&mut net.rng);
        }
    }

    /// Starts again with nothing but the journal.
    pub(super) fn restart(&mut self, net: &mut Net) -> Law {
        let now = net.at(self.at);
        self.machine = Worker::new(self.identity.clone(), net.network.clone(), self.truth.config());
        self.machine.set_ad(Some(self.ad.clone()));
        self.admission = Admission::default();
        for (id, kept) in self.journal.replay()? {
            let used: BTreeSet<RequestId> = kept.used.iter().map(|(request, _)| *request).collect();
            net.laws.forgot(&id, &used);
            let ends = kept.began + u64::from(kept.papers.offer.volume.lease.0);
            let left = Millis(u32::try_from(ends.saturating_sub(now.wall.0)).unwrap_or(0));
            self.machine
                .restore(&kept.papers, kept.ledger, used, left, now)
                .map_err(|why| format!("{id} does not come back: {why}"))?;
            for request in &kept.void {
                self.machine.fail(&id, request);
            }
            net.touched.push(id);
        }
        self.begin(net);
        Ok(())
    }
}

fn job_tokens(jobs: &BTreeMap<(LeaseId, RequestId), Job>, lease: LeaseId, request: RequestId) -> u32 {
    jobs.get(&(lease, request)).map_or(0, |job| job.tokens)
}

/// Reads a parcel as a forwarder does. Null where it does not go on.
pub(super) fn hear(
    parcel: &Parcel,
    admission: &mut Admission,
    registry: &mut Registry,
    at: usize,
    net: &Net,
) -> Option<News> {
    let gossip = match parcel {
        Parcel::Known(gossip) => gossip.clone(),
        Parcel::Bytes(bytes) => [Topic::Jobs, Topic::Capability]
            .into_iter()
            .find_map(|topic| Gossip::from_bytes(topic, bytes, &net.network).ok())?,
    };
    match admission.judge(gossip, registry, net.at(at)) {
        Judgement::Accept(news) => Some(news),
        Judgement::Ignore(_) | Judgement::Reject => None,
    }
}

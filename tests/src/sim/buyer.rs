//! A consumer's node around the real `Auction` and `BuyerLease`: what the node's spine does, job by job.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::rc::Rc;

use infernet_protocol::auction::JobBid;
use infernet_protocol::capability::{CapabilityAd, Limits, Registry};
use infernet_protocol::market::admission::{Admission, News};
use infernet_protocol::market::buyer::{Auction, Closed, Effect, Event, View};
use infernet_protocol::market::choice::{Claim, Rule};
use infernet_protocol::market::gossip::{Gossip, Settled};
use infernet_protocol::market::lease::{Bounds, BuyerLease, Papers};
use infernet_protocol::market::worker::Refusal;
use infernet_protocol::receipt::JobReceipt;
use infernet_protocol::receipt::ledger::{Ledger, LedgerError, Seen};
use infernet_protocol::reputation::{Outcome, Reputation, Service, Standing, WHOLE};
use infernet_protocol::stream::frames::{FailCode, Reconcile};
use infernet_protocol::{Identity, LeaseId, Millis, NodeId, Price, RequestId, Verified};

use super::journal::{Journal, Record};
use super::laws::Law;
use super::message::{Delivery, Direct, Parcel};
use super::population::{CAP, Habit, each, model, want};
use super::setup::Gossiping;
use super::worker::{INPUT_TOKENS, WorkerNode, commitment, hear};
use super::world::{Net, Timer};

/// A request without an answer is given up after this.
const DEADLINE: u64 = 20_000;
/// Attempts to resume a request.
const RESUMES: u32 = 4;
/// Time between two attempts to talk to a peer that is gone.
const RECONNECT: u64 = 1_500;
/// Requests that a debtor makes again.
const SPENT: usize = 64;
/// Jobs that a debtor tries at once; nobody serves it for long.
const DEBTOR_JOBS: usize = 2;
/// Tidying up.
const TICK: u64 = 3_000;

#[derive(Debug)]
struct Task {
    tokens: u32,
    exclude: BTreeSet<NodeId>,
    auction: Option<u64>,
    request: Option<RequestId>,
    placed: bool,
    measured: bool,
}

struct Round {
    auction: Auction,
    task: u64,
    began: u64,
    bidders: BTreeSet<NodeId>,
    placed: bool,
    over: bool,
}

#[derive(Debug)]
struct Run {
    task: u64,
    lease: LeaseId,
    resumes: u32,
}

struct Held {
    book: BuyerLease,
    worker: usize,
    bid: Service,
    /// Whether the worker may lack something of ours.
    dirty: bool,
}

/// What it takes to compare the winner of an auction with the best there was.
pub(super) struct Evaluation {
    buyer: usize,
    rule: Rule,
    window: Millis,
    price: Price,
    pub(super) winner: usize,
    pub(super) explored: bool,
    eligible: BTreeSet<usize>,
}

impl Evaluation {
    /// True utility of an honest worker that is free and near enough; of any worker where a price is given.
    pub(super) fn of(&self, worker: &WorkerNode, price: Option<Price>, net: &Net) -> Option<u32> {
        let now = net.at(worker.at);
        let round_trip = 2 * net.distance(self.buyer, worker.at);
        let takes_part = net.is_up(worker.at)
            && worker.truth.is_honest()
            && self.eligible.contains(&worker.at)
            && round_trip <= u64::from(self.window.0)
            && worker.machine.load(now).free() > 0;
        if price.is_none() && !takes_part {
            return None;
        }
        let price = match price {
            Some(price) => price,
            None => worker.machine.asking(&model(), &each(CAP), now)?,
        };
        let (ttft, speed) = worker.truth.served();
        let score = match worker.truth.habit {
            Habit::Honest => worker.truth.reliable * (WHOLE / 1_000),
            Habit::Slow => WHOLE / 2,
            _ => 0,
        };
        let standing = Standing {
            score,
            ttft_kept: WHOLE,
            speed_kept: WHOLE,
            has_history: true,
            missed_lately: false,
        };
        let claim = Claim {
            price,
            ttft,
            speed,
            queue: 0,
            round_trip: Millis(u32::try_from(round_trip).unwrap_or(0)),
        };
        Some(self.rule.utility(&claim, &standing, false))
    }

    pub(super) fn of_winner(&self, worker: &WorkerNode, net: &Net) -> u32 {
        self.of(worker, Some(self.price), net).unwrap_or(0)
    }
}

/// A consumer's node.
pub(super) struct BuyerNode {
    at: usize,
    identity: Identity,
    /// Whether it never countersigns and uses everything twice.
    pub(super) debtor: bool,
    registry: Registry,
    reputation: Reputation,
    admission: Admission,
    journal: Journal,
    seen: HashSet<u64>,
    books: BTreeMap<LeaseId, Held>,
    rounds: BTreeMap<u64, Round>,
    tasks: BTreeMap<u64, Task>,
    runs: BTreeMap<RequestId, Run>,
    waiting_for: BTreeSet<usize>,
    /// What a debtor used, to use it again when the worker may have forgotten.
    spent: VecDeque<(usize, Rc<Papers>, RequestId)>,
    born: u32,
    numbered: u64,
}

impl BuyerNode {
    pub(super) fn new(at: usize, identity: Identity, debtor: bool, _net: &mut Net) -> Self {
        Self {
            at,
            identity,
            debtor,
            registry: Registry::new(Limits::default()),
            reputation: Reputation::default(),
            admission: Admission::default(),
            journal: Journal::default(),
            seen: HashSet::new(),
            books: BTreeMap::new(),
            rounds: BTreeMap::new(),
            tasks: BTreeMap::new(),
            runs: BTreeMap::new(),
            waiting_for: BTreeSet::new(),
            spent: VecDeque::new(),
            born: 0,
            numbered: 0,
        }
    }

    pub(super) fn begin(&mut self, net: &mut Net) {
        let first = 3_000 + net.rng.below(net.setup.pace);
        net.timer(self.at, first, Timer::Job);
        net.timer(self.at, TICK, Timer::Tick);
    }

    pub(super) fn hear_ad(&mut self, ad: &Verified<CapabilityAd>, net: &mut Net) {
        // What gossip loses of ads: one in fifty, until the next one.
        if !net.rng.chance(20) {
            self.registry.observe(ad.clone(), net.at(self.at).wall);
        }
    }

    pub(super) fn book(&self, lease: &LeaseId) -> Option<&BuyerLease> {
        self.books.get(lease).map(|held| &held.book)
    }

    fn jobs(&self, net: &Net) -> u32 {
        net.setup.warm_up + net.setup.measured
    }

    /// Whether all its jobs are done; a debtor's do not count.
    pub(super) fn is_done(&self) -> bool {
        self.debtor || (self.born == u32::MAX && self.tasks.is_empty())
    }

    fn number(&mut self) -> u64 {
        self.numbered += 1;
        self.numbered
    }

    // Jobs.

    pub(super) fn on_timer(&mut self, timer: Timer, net: &mut Net) -> Law {
        match timer {
            Timer::Job => self.on_job(net),
            Timer::Retry(task) => self.pursue(task, net),
            Timer::Auction(round) => self.on_window(round, net),
            Timer::Deadline(request) => self.give_up(request, net),
            Timer::Reconnect(peer) => self.reconnect(peer, net),
            Timer::Tick => {
                let now = net.at(self.at);
                self.admission.tick(now);
                self.registry.expire(now.wall);
                net.timer(self.at, TICK, Timer::Tick);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn on_job(&mut self, net: &mut Net) -> Law {
        if self.born == u32::MAX || net.peace {
            return Ok(());
        }
        if self.debtor && self.tasks.len() >= DEBTOR_JOBS {
            net.timer(self.at, net.setup.pace, Timer::Job);
            return Ok(());
        }
        let measured = self.born >= net.setup.warm_up;
        self.born += 1;
        let task = self.number();
        let tokens = u32::try_from(net.rng.between(20, 100)).unwrap_or(20);
        self.tasks.insert(
            task,
            Task {
                tokens,
                exclude: BTreeSet::new(),
                auction: None,
                request: None,
                placed: false,
                measured,
            },
        );
        if !self.debtor {
            net.summary.jobs += 1;
        }
        if self.born == self.jobs(net) && !self.debtor {
            self.born = u32::MAX;
        } else {
            let pace = net.setup.pace;
            let next = net.rng.between(pace / 2, pace * 3 / 2);
            net.timer(self.at, next, Timer::Job);
        }
        self.pursue(task, net)
    }

    fn pursue(&mut self, task: u64, net: &mut Net) -> Law {
        let Some(wanted) = self.tasks.get(&task) else {
            return Ok(());
        };
        if wanted.placed || wanted.auction.is_some() || wanted.request.is_some() {
            return Ok(());
        }
        let now = net.at(self.at);
        let usable = self
            .books
            .iter()
            .find(|(_, held)| held.book.usable(now).is_ok() && !wanted.exclude.contains(&held.book.deal().worker));
        if let Some(lease) = usable.map(|(lease, _)| *lease) {
            return self.ask(task, lease, net);
        }
        let public = net.rng.chance(net.setup.public);
        let mut want = want(&net.setup, net.setup.policy, public);
        want.ignore.clone_from(&wanted.exclude);
        let entropy = net.entropy();
        let begun = self.view(net, |view| Auction::begin(want, view, entropy, now));
        self.open_round(task, begun.ok(), net)
    }

    fn view<T>(&self, net: &Net, use_it: impl FnOnce(&View<'_>) -> T) -> T {
        let round_trip = |node: &NodeId| {
            let at = net.who.get(node)?;
            Some(Millis(u32::try_from(2 * net.distance(self.at, *at)).unwrap_or(0)))
        };
        use_it(&View {
            identity: &self.identity,
            network: &net.network,
            registry: &self.registry,
            reputation: &self.reputation,
            round_trip: &round_trip,
        })
    }

    fn open_round(&mut self, task: u64, begun: Option<(Auction, Vec<Effect>)>, net: &mut Net) -> Law {
        let Some((auction, effects)) = begun else {
            return self.later(task, net);
        };
        net.summary.offers += 1;
        net.summary.widened += u64::from(auction.round_number() > 0);
        net.laws.offered(auction.offer());
        net.offers.insert(auction.offer().hash(), self.at);
        self.admission.note_offer(auction.offer(), net.at(self.at));
        let number = self.number();
        if let Some(task) = self.tasks.get_mut(&task) {
            task.auction = Some(number);
        }
        self.rounds.insert(
            number,
            Round {
                auction,
                task,
                began: net.now,
                bidders: BTreeSet::new(),
                placed: false,
                over: false,
            },
        );
        self.carry_out(number, effects, net)
    }

    /// Tries again after a while, with everybody.
    fn later(&mut self, task: u64, net: &mut Net) -> Law {
        if let Some(task) = self.tasks.get_mut(&task) {
            task.exclude.clear();
            task.auction = None;
        }
        let patience = if self.debtor { 5 } else { 1 };
        let after = patience * net.rng.between(500, 2_000);
        net.timer(self.at, after, Timer::Retry(task));
        Ok(())
    }

    // Auctions.

    fn carry_out(&mut self, round: u64, effects: Vec<Effect>, net: &mut Net) -> Law {
        let wall = net.at(self.at).wall;
        for effect in effects {
            match effect {
                Effect::Publish(offer) => net.publish(self.at, Gossip::Offer(offer)),
                Effect::Invite { node, offer, .. } => {
                    let to = net.who[&node];
                    net.direct(self.at, to, Direct::Offer(offer));
                }
                Effect::WakeAt(mono) => {
                    let after = net.until(self.at, mono);
                    net.timer(self.at, after, Timer::Auction(round));
                }
                Effect::Answered(node) => {
                    self.reputation.observe(node, Outcome::Answered, wall);
                }
                Effect::Missed(node) => {
                    self.reputation.observe(node, Outcome::Missed, wall);
                }
                Effect::Closed(closed) => self.on_closed(round, closed, net)?,
                Effect::Warm(..) | Effect::Refused(..) => {}
            }
        }
        Ok(())
    }

    fn on_event(&mut self, round: u64, event: Event, net: &mut Net) -> Law {
        let now = net.at(self.at);
        match self.rounds.get_mut(&round) {
            Some(held) => {
                let effects = held.auction.handle(event, now);
                self.carry_out(round, effects, net)
            }
            None => Ok(()),
        }
    }

    fn on_window(&mut self, round: u64, net: &mut Net) -> Law {
        self.on_event(round, Event::Tick, net)?;
        if let Some(held) = self.rounds.get_mut(&round) {
            held.over = true;
            if self.tasks.get(&held.task).is_some_and(|task| task.measured) && !self.debtor {
                net.summary
                    .bids
                    .push(u32::try_from(held.bidders.len()).unwrap_or(u32::MAX));
            }
        }
        self.drop_rounds();
        Ok(())
    }

    /// Forgets rounds whose window is over and whose job is done or elsewhere.
    fn drop_rounds(&mut self) {
        let tasks = &self.tasks;
        self.rounds.retain(|number, round| {
            !round.over || tasks.get(&round.task).is_some_and(|task| task.auction == Some(*number))
        });
        self.tasks.retain(|_, task| !task.placed || task.request.is_some());
    }

    fn on_bid(&mut self, bid: Verified<JobBid>, net: &mut Net) -> Law {
        let found = self
            .rounds
            .iter_mut()
            .find(|(_, round)| round.auction.offer().hash() == bid.offer);
        let Some((number, round)) = found else { return Ok(()) };
        let number = *number;
        round.bidders.insert(bid.signer());
        self.on_event(number, Event::Bid(bid), net)
    }

    fn on_closed(&mut self, round: u64, closed: Closed, net: &mut Net) -> Law {
        match closed {
            Closed::Ranked => self.place(round, net),
            Closed::Nothing => self.widen(round, net),
        }
    }

    /// Accepts the best bid that is left, and asks its worker.
    fn place(&mut self, round: u64, net: &mut Net) -> Law {
        let now = net.at(self.at);
        let Some(held) = self.rounds.get_mut(&round) else {
            return Ok(());
        };
        let Some(papers) = held.auction.accept(now) else {
            return self.widen(round, net);
        };
        let (task, began, first) = (held.task, held.began, !std::mem::replace(&mut held.placed, true));
        let worker = net.who[&papers.bid.signer()];
        net.laws.accepted(&papers, self.at, worker)?;
        if first && !self.debtor && self.tasks.get(&task).is_some_and(|task| task.measured) {
            net.summary
                .closing
                .push(u32::try_from(net.now - began).unwrap_or(u32::MAX));
            if net.setup.warm_up > 0 {
                self.measure(round, &papers, worker, net);
            }
        }
        let lease = papers.accept.lease;
        if papers.offer.public {
            net.publish(self.at, Gossip::Accept(papers.accept.clone()));
        }
        self.journal.append(Record::Lease(papers.clone(), now.wall.0));
        self.journal.sync();
        let bid = Service {
            ttft: papers.bid.ttft,
            speed: papers.bid.speed,
        };
        self.books.insert(
            lease,
            Held {
                book: BuyerLease::open(papers, now),
                worker,
                bid,
                dirty: false,
            },
        );
        self.ask(task, lease, net)
    }

    fn measure(&mut self, round: u64, papers: &Papers, worker: usize, net: &mut Net) {
        let Some(held) = self.rounds.get(&round) else { return };
        let explored = held.auction.ranked().first().is_some_and(|best| best.explored);
        let eligible = net
            .who
            .iter()
            .filter(|(node, _)| held.auction.prospect(node).is_some())
            .map(|(_, at)| *at);
        net.evaluations.push(Evaluation {
            buyer: self.at,
            rule: *held.auction.rule(),
            window: papers.offer.window,
            price: papers.bid.price,
            winner: worker,
            explored,
            eligible: eligible.collect(),
        });
    }

    fn widen(&mut self, round: u64, net: &mut Net) -> Law {
        let Some(held) = self.rounds.get(&round) else {
            return Ok(());
        };
        let task = held.task;
        if !held.auction.may_widen() {
            return self.later(task, net);
        }
        let exclude = self
            .tasks
            .get(&task)
            .map(|task| task.exclude.clone())
            .unwrap_or_default();
        let (entropy, now) = (net.entropy(), net.at(self.at));
        let begun = self.view(net, |view| held.auction.widen(&exclude, view, entropy, now));
        self.open_round(task, begun.ok(), net)
    }

    // Requests.

    fn ask(&mut self, task: u64, lease: LeaseId, net: &mut Net) -> Law {
        let now = net.at(self.at);
        let request = RequestId(net.rng.bytes());
        let (Some(wanted), Some(held)) = (self.tasks.get_mut(&task), self.books.get_mut(&lease)) else {
            return Ok(());
        };
        held.book
            .begin(request, now)
            .map_err(|why| format!("{lease} cannot be used: {why}"))?;
        let bounds = Bounds {
            input_tokens: INPUT_TOKENS,
            output_tokens: wanted.tokens,
        };
        self.journal.append(Record::Use(lease, request, bounds));
        wanted.request = Some(request);
        let (worker, tokens) = (held.worker, wanted.tokens);
        let papers = Rc::new(held.book.papers().clone());
        self.runs.insert(
            request,
            Run {
                task,
                lease,
                resumes: 0,
            },
        );
        net.touched.push(lease);
        if self.debtor {
            self.cheat(worker, &papers, request, net)?;
        }
        net.direct(self.at, worker, Direct::Start(papers, request, tokens));
        net.timer(self.at, DEADLINE, Timer::Deadline(request));
        Ok(())
    }

    /// Uses the same request twice, and the same bid for another attempt.
    fn cheat(&mut self, worker: usize, papers: &Rc<Papers>, request: RequestId, net: &mut Net) -> Law {
        net.direct(self.at, worker, Direct::Start(Rc::clone(papers), request, 1));
        if self.spent.len() == SPENT {
            self.spent.pop_front();
        }
        self.spent.push_back((worker, Rc::clone(papers), request));
        let mut accept = (*papers.accept).clone();
        accept.lease.attempt = 1_000 + u16::try_from(net.rng.below(60_000)).unwrap_or(0);
        let entropy = net.entropy();
        let again = Papers {
            accept: Verified::sign(accept, &self.identity, &net.network, &entropy),
            ..(**papers).clone()
        };
        if net.laws.parties(&again.accept.lease).is_none() {
            net.laws.accepted(&again, self.at, worker)?;
            let other = RequestId(net.rng.bytes());
            net.direct(self.at, worker, Direct::Start(Rc::new(again), other, 1));
        }
        Ok(())
    }

    /// The request came to nothing: on with the runner-up, a wider round, or another auction.
    fn go_on(&mut self, task: u64, failed: Option<NodeId>, net: &mut Net) -> Law {
        let Some(wanted) = self.tasks.get_mut(&task) else {
            return Ok(());
        };
        wanted.request = None;
        wanted.exclude.extend(failed);
        if wanted.placed {
            self.drop_rounds();
            return Ok(());
        }
        match wanted.auction {
            Some(round) if self.rounds.contains_key(&round) => self.place(round, net),
            _ => {
                wanted.auction = None;
                self.pursue(task, net)
            }
        }
    }

    fn lose(&mut self, request: RequestId, outcome: Option<Outcome>, net: &mut Net) -> Law {
        let Some(run) = self.runs.remove(&request) else {
            return Ok(());
        };
        let Some(held) = self.books.get(&run.lease) else {
            return Ok(());
        };
        let worker = held.book.deal().worker;
        if let Some(outcome) = outcome {
            self.reputation.observe(worker, outcome, net.at(self.at).wall);
        }
        self.go_on(run.task, Some(worker), net)
    }

    /// Nothing more is expected of the stream, and nothing came: the worker may still hold the request to be open.
    fn give_up(&mut self, request: RequestId, net: &mut Net) -> Law {
        let Some(run) = self.runs.get(&request) else {
            return Ok(());
        };
        let lease = run.lease;
        if let Some(held) = self.books.get_mut(&lease) {
            let seen = Seen {
                input_tokens_max: 0,
                output_tokens_max: 0,
                commitment: Some(commitment(&request, false)),
            };
            held.book.delivered(&request, seen, 0);
            held.dirty = true;
            self.wait_for(lease, net);
        }
        self.lose(request, Some(Outcome::Failed), net)
    }

    fn wait_for(&mut self, lease: LeaseId, net: &mut Net) {
        if let Some(worker) = self.books.get(&lease).map(|held| held.worker)
            && self.waiting_for.insert(worker)
        {
            net.timer(self.at, RECONNECT, Timer::Reconnect(worker));
        }
    }

    fn on_refused(&mut self, lease: LeaseId, request: RequestId, why: Refusal, net: &mut Net) -> Law {
        // A repeated Start is refused while the first one runs.
        if why == Refusal::Duplicate || !self.runs.contains_key(&request) {
            return Ok(());
        }
        let now = net.at(self.at);
        let Some(held) = self.books.get_mut(&lease) else {
            return Ok(());
        };
        let outcome = match why.code() {
            FailCode::Busy => {
                held.book.on_busy(&request, now);
                Some(Outcome::Busy)
            }
            FailCode::Exposure => {
                held.book.failed(&request);
                held.dirty = true;
                self.wait_for(lease, net);
                None
            }
            FailCode::Refused => {
                held.book.failed(&request);
                held.book.end();
                Some(Outcome::Refused)
            }
            _ => {
                held.book.failed(&request);
                held.book.end();
                None
            }
        };
        self.lose(request, outcome, net)
    }

    fn on_delivered(&mut self, from: usize, delivery: &Delivery, net: &mut Net) -> Law {
        if let Some(run) = self.runs.remove(&delivery.request) {
            let wall = net.at(self.at).wall;
            let Some(held) = self.books.get_mut(&run.lease) else {
                return Ok(());
            };
            let seen = Seen {
                input_tokens_max: delivery.input_tokens,
                output_tokens_max: delivery.output_tokens,
                commitment: Some(delivery.commitment),
            };
            held.book.delivered(&delivery.request, seen, 1);
            let outcome = Outcome::Served {
                bid: held.bid,
                seen: delivery.service,
            };
            let worker = held.book.deal().worker;
            self.reputation.observe(worker, outcome, wall);
            if let Some(task) = self.tasks.get_mut(&run.task) {
                net.summary.placed += u64::from(!task.placed && !self.debtor);
                task.placed = true;
                task.request = None;
            }
            self.drop_rounds();
        }
        self.on_receipt(from, delivery.receipt.clone(), net)
    }

    fn on_receipt(&mut self, from: usize, receipt: Verified<JobReceipt>, net: &mut Net) -> Law {
        let lease = receipt.lease;
        net.touched.push(lease);
        let (entropy, now) = (net.entropy(), net.at(self.at));
        let Some(held) = self.books.get_mut(&lease) else {
            return Ok(());
        };
        let (worker, before) = (held.worker, held.book.ledger().next_seq());
        let answer = held
            .book
            .on_receipt(receipt, &self.identity, &net.network, &entropy, now);
        let signs = match answer {
            Ok(signs) => signs,
            Err(LedgerError::Equivocation) => {
                self.reputation
                    .observe(held.book.deal().worker, Outcome::Disputed, now.wall);
                held.book.end();
                return Ok(());
            }
            Err(_) => return Ok(()),
        };
        if from != worker && !signs.is_empty() {
            // Whoever hands a receipt over, only its signer counts; it still goes to the worker.
            held.dirty = true;
        }
        for sign in &signs {
            if sign.seq >= before {
                let entry = &held.book.ledger().entries()[sign.seq as usize];
                self.journal.append(Record::Receipt(entry.receipt.clone()));
                self.journal.append(Record::Countersign(sign.clone()));
                if sign.dispute.is_some() {
                    net.summary.disputes += 1;
                    self.reputation
                        .observe(held.book.deal().worker, Outcome::Disputed, now.wall);
                }
                if sign.dispute.is_none() && held.book.papers().offer.public && held.book.has_ended(now) {
                    let settled = Settled::new(&entry.receipt, sign);
                    net.publish_parcel(self.at, Parcel::Bytes(settled.to_bytes()));
                }
            }
        }
        self.journal.sync();
        let gap = held.book.has_gap();
        for sign in signs {
            if !self.debtor || net.rng.chance(200) {
                net.direct(self.at, worker, Direct::Countersign(sign));
            }
        }
        if gap {
            self.wait_for(lease, net);
        }
        Ok(())
    }

    // Contact.

    pub(super) fn on_lost(&mut self, peer: usize, net: &mut Net) -> Law {
        let node = net.ids[peer];
        for held in self.books.values_mut().filter(|held| held.worker == peer) {
            held.dirty = true;
        }
        let open: Vec<u64> = self.rounds.keys().copied().collect();
        for round in open {
            self.on_event(round, Event::Unreachable(node), net)?;
        }
        if self.books.values().any(|held| held.worker == peer) && self.waiting_for.insert(peer) {
            net.timer(self.at, RECONNECT, Timer::Reconnect(peer));
        }
        Ok(())
    }

    /// A connection to a peer stands again: resume what ran, and compare books.
    fn reconnect(&mut self, peer: usize, net: &mut Net) -> Law {
        self.waiting_for.remove(&peer);
        for (worker, papers, request) in self.spent.iter().filter(|(worker, ..)| *worker == peer) {
            net.direct(self.at, *worker, Direct::Start(Rc::clone(papers), *request, 1));
        }
        let books = &self.books;
        let running: Vec<RequestId> = self
            .runs
            .iter()
            .filter(|(_, run)| {
                books
                    .get(&run.lease)
                    .is_some_and(|held| held.worker == peer && held.dirty)
            })
            .map(|(request, _)| *request)
            .collect();
        for request in running {
            let Some(run) = self.runs.get_mut(&request) else {
                continue;
            };
            run.resumes += 1;
            let (lease, resumes) = (run.lease, run.resumes);
            if resumes > RESUMES {
                self.give_up(request, net)?;
            } else {
                net.direct(self.at, peer, Direct::Resume(lease, request));
            }
        }
        let dirty: Vec<LeaseId> = self
            .books
            .iter()
            .filter(|(_, held)| held.worker == peer && (held.dirty || held.book.has_gap()))
            .map(|(lease, _)| *lease)
            .collect();
        for lease in dirty {
            if let Some(held) = self.books.get_mut(&lease) {
                let reconcile = held.book.reconcile();
                net.direct(self.at, peer, Direct::Reconcile(reconcile));
            }
        }
        Ok(())
    }

    fn on_answer(
        &mut self,
        from: usize,
        lease: LeaseId,
        receipts: Vec<Verified<JobReceipt>>,
        theirs: Option<Reconcile>,
        net: &mut Net,
    ) -> Law {
        if self.books.get(&lease).is_none_or(|held| held.worker != from) {
            return Ok(());
        }
        for receipt in receipts {
            self.on_receipt(from, receipt, net)?;
        }
        let Some(held) = self.books.get_mut(&lease) else {
            return Ok(());
        };
        held.book.reconciled(theirs.as_ref().map_or(&[], |theirs| &theirs.open));
        net.touched.push(lease);
        let Some(theirs) = theirs else {
            held.book.end();
            held.dirty = false;
            return Ok(());
        };
        if !self.debtor {
            for sign in held.book.on_reconcile(&theirs) {
                net.direct(self.at, from, Direct::Countersign(sign.clone()));
            }
        }
        let same = theirs.held == held.book.ledger().settled() && !has_new_dispute(held.book.ledger(), theirs.held);
        held.dirty = !same;
        if !same {
            self.wait_for(lease, net);
        }
        Ok(())
    }

    pub(super) fn on_direct(&mut self, from: usize, message: Direct, net: &mut Net) -> Law {
        match message {
            Direct::Bid(bid) => self.on_bid(bid, net),
            Direct::Declined(offer, why) => {
                let node = net.ids[from];
                let found = self
                    .rounds
                    .iter()
                    .find(|(_, round)| round.auction.offer().hash() == offer);
                match found.map(|(number, _)| *number) {
                    Some(round) => self.on_event(round, Event::Declined(node, why), net),
                    None => Ok(()),
                }
            }
            Direct::Refused(lease, request, why) => self.on_refused(lease, request, why, net),
            Direct::Delivered(delivery) => self.on_delivered(from, &delivery, net),
            Direct::Failed(lease, request) => {
                if let Some(held) = self.books.get_mut(&lease).filter(|held| held.worker == from) {
                    held.book.failed(&request);
                    return self.lose(request, Some(Outcome::Failed), net);
                }
                Ok(())
            }
            Direct::Gone(lease, request) => {
                let ours = self.books.get(&lease).is_some_and(|held| held.worker == from);
                if ours { self.give_up(request, net) } else { Ok(()) }
            }
            Direct::Answer(lease, receipts, theirs) => self.on_answer(from, lease, receipts, theirs, net),
            Direct::Receipt(receipt) => self.on_receipt(from, receipt, net),
            Direct::Reconcile(theirs) => {
                if let Some(held) = self.books.get_mut(&theirs.lease).filter(|held| held.worker == from) {
                    held.dirty = true;
                    self.wait_for(theirs.lease, net);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    pub(super) fn on_gossip(&mut self, from: usize, id: u64, parcel: &Rc<Parcel>, net: &mut Net) -> Law {
        if !self.seen.insert(id) {
            return Ok(());
        }
        let Some(news) = hear(parcel, &mut self.admission, &mut self.registry, self.at, net) else {
            return Ok(());
        };
        if matches!(net.setup.gossip, Gossiping::Mesh { .. }) {
            net.forward(self.at, Some(from), id, parcel);
        }
        match news {
            News::Bid(bid, _) => self.on_bid(bid, net),
            _ => Ok(()),
        }
    }

    // Crashes.

    pub(super) fn crash(&mut self, power: bool, net: &mut Net) {
        if power {
            self.journal.lose_unsynced(&mut net.rng);
        }
        self.rounds.clear();
        self.runs.clear();
        self.seen.clear();
        self.waiting_for.clear();
    }

    /// Starts again from the journal; consumers ask again for what they did not get.
    pub(super) fn restart(&mut self, net: &mut Net) -> Law {
        let now = net.at(self.at);
        self.admission = Admission::default();
        let before = std::mem::take(&mut self.books);
        for (lease, kept) in self.journal.replay()? {
            let ends = kept.began + u64::from(kept.papers.offer.volume.lease.0);
            let left = Millis(u32::try_from(ends.saturating_sub(now.wall.0)).unwrap_or(0));
            let worker = net.who[&kept.papers.bid.signer()];
            if let Some(old) = before.get(&lease) {
                super::laws::books_equal(old.book.ledger(), &kept.ledger)?;
            }
            self.books.insert(
                lease,
                Held {
                    bid: Service {
                        ttft: kept.papers.bid.ttft,
                        speed: kept.papers.bid.speed,
                    },
                    book: BuyerLease::restore(kept.papers, kept.ledger, kept.used, left, now),
                    worker,
                    dirty: true,
                },
            );
            net.touched.push(lease);
        }
        let peers: BTreeSet<usize> = self.books.values().map(|held| held.worker).collect();
        for peer in peers {
            self.waiting_for.insert(peer);
            let soon = net.rng.below(RECONNECT);
            net.timer(self.at, soon, Timer::Reconnect(peer));
        }
        for (number, task) in &mut self.tasks {
            task.auction = None;
            task.request = None;
            let soon = net.rng.below(1_000);
            net.timer(self.at, soon, Timer::Retry(*number));
        }
        self.tasks.retain(|_, task| !task.placed);
        if self.born != u32::MAX {
            let next = net.rng.below(net.setup.pace);
            net.timer(self.at, next, Timer::Job);
        }
        net.timer(self.at, TICK, Timer::Tick);
        Ok(())
    }

    /// Talks to everybody with whom there is anything to compare.
    pub(super) fn meet_all(&mut self, net: &mut Net) {
        for held in self.books.values_mut() {
            held.dirty = true;
        }
        let peers: BTreeSet<usize> = self.books.values().map(|held| held.worker).collect();
        for peer in peers {
            if self.waiting_for.insert(peer) {
                let soon = net.rng.below(RECONNECT);
                net.timer(self.at, soon, Timer::Reconnect(peer));
            }
        }
    }
}

/// Whether a disputed receipt stands at or after `held`: the worker's count never passes it.
fn has_new_dispute(ledger: &Ledger, held: u32) -> bool {
    let later = ledger.entries().iter().skip(held as usize);
    later
        .filter_map(|entry| entry.countersign.as_ref())
        .any(|sign| sign.dispute.is_none())
}

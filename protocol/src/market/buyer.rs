//! One auction, as its buyer runs it: rank the ads, invite, collect bids, close as soon as waiting cannot pay, accept
//! the best and then each runner-up, and go wider when nothing was placed.
//!
//! The node carries out the effects and reports what happens. Nothing about the prompt is known here. Implements
//! `specs/auction.md`, "Buyer".

mod invite;
mod prospects;
mod terms;

use std::collections::{BTreeMap, BTreeSet};

use crate::auction::{Decline, JobAccept, JobBid, JobOffer, Payer, Policy, Requirement, Volume};
use crate::capability::{Address, Registry};
use crate::codec::{List, Text};
use crate::identity::Identity;
use crate::ids::{JobId, LeaseId, NodeId};
use crate::market::choice::{Candidate, Ranked, Rule, rank};
use crate::market::lease::Papers;
use crate::market::{Entropy, Mono, Now};
use crate::names::{INFERENCE, INVITED, Network, WINDOW_GRACE, WINDOW_MAX, WINDOW_MIN};
use crate::reputation::Reputation;
use crate::signed::Verified;
use crate::units::{Millis, Price};
pub use prospects::{NoProvider, Prospect};
pub use terms::BidFault;

/// Round trip to a node that was never measured: half the world.
pub const ROUND_TRIP_UNKNOWN: Millis = Millis(150);
/// Uninvited bids that are kept: what the sortition lets through, with room for luck.
pub const UNINVITED_BIDS: usize = 8 * INVITED;
/// Strangers that a first round lets draw, on average; each further round quadruples it.
pub const OPEN_FIRST: u64 = INVITED as u64 / 2;
/// Rounds of one auction, the first included; then nobody is free.
pub const ROUNDS: u8 = 4;
/// How long an offer counts beyond its window: an accept and its runners-up follow within seconds.
pub const OFFER_LINGER: Millis = Millis(10_000);
/// Bidders that are dialled while the window is open.
const WARM: usize = 2;

/// What a buyer wants.
#[derive(Clone, Debug)]
pub struct Want {
    /// What a provider must have.
    pub requirement: Requirement,
    /// How much is wanted.
    pub volume: Volume,
    /// What matters.
    pub policy: Policy,
    /// The most it pays.
    pub price_cap: Price,
    /// Its wallets and their rails; none when it pays nothing.
    pub wallets: Vec<Payer>,
    /// Whether the deal may be seen by everybody.
    pub public: bool,
    /// Whom the user trusts.
    pub trusted: BTreeSet<NodeId>,
    /// Whom the user does not want.
    pub ignore: BTreeSet<NodeId>,
    /// The only ones whom the user wants.
    pub only: Option<BTreeSet<NodeId>>,
}

/// What an auction looks at when it begins.
pub struct View<'a> {
    /// The buyer's key.
    pub identity: &'a Identity,
    /// The network.
    pub network: &'a Network,
    /// The ads it holds.
    pub registry: &'a Registry,
    /// What it knows of their signers.
    pub reputation: &'a Reputation,
    /// Round trip to a node, where it was measured.
    pub round_trip: &'a dyn Fn(&NodeId) -> Option<Millis>,
}

impl std::fmt::Debug for View<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View")
            .field("identity", self.identity)
            .finish_non_exhaustive()
    }
}

/// What happens to an auction.
#[derive(Clone, Debug)]
pub enum Event {
    /// A bid came, directly or on the topic.
    Bid(Verified<JobBid>),
    /// An invited signer answered without a bid.
    Declined(NodeId, Decline),
    /// An invited signer could not be reached.
    Unreachable(NodeId),
    /// Time has passed.
    Tick,
}

/// What an auction wants done.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Publish the offer on the topic.
    Publish(Verified<JobOffer>),
    /// Send the offer to this node over `/c0mpute/offer/1.0.0`.
    Invite {
        /// Whom.
        node: NodeId,
        /// The offer.
        offer: Verified<JobOffer>,
        /// Addresses from its ad.
        addresses: Vec<Address>,
    },
    /// Dial this node: it is likely to win.
    Warm(NodeId, Vec<Address>),
    /// Send a `Tick` then.
    WakeAt(Mono),
    /// A bid is not counted. For reputation and logs.
    Refused(NodeId, BidFault),
    /// This invited node answered the offer in time.
    Answered(NodeId),
    /// This invited node let the offer pass.
    Missed(NodeId),
    /// The auction is closed.
    Closed(Closed),
}

/// How an auction closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// There are bids to accept.
    Ranked,
    /// Nobody bid what could be accepted: widen.
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Waiting,
    Came,
    Missed,
}

/// One round of an auction.
#[derive(Clone, Debug)]
pub struct Auction {
    identity: Identity,
    network: Network,
    want: Want,
    rule: Rule,
    entropy: Entropy,
    offer: Verified<JobOffer>,
    prospects: BTreeMap<NodeId, Prospect>,
    invited: BTreeMap<NodeId, Answer>,
    candidates: Vec<Candidate>,
    accepted: BTreeSet<NodeId>,
    warmed: BTreeSet<NodeId>,
    tried: BTreeSet<NodeId>,
    explores: bool,
    ads_held: usize,
    ends: Mono,
    closed: Option<Closed>,
    over: bool,
    attempts: u16,
    round: u8,
}

impl Auction {
    /// Ranks the ads, invites the best of them and some newcomers, and opens the window.
    pub fn begin(
        want: Want,
        view: &View<'_>,
        entropy: [u8; 32],
        now: Now,
    ) -> Result<(Self, Vec<Effect>), Box<NoProvider>> {
        Self::round(want, view, entropy, now, 0, BTreeSet::new())
    }

    /// Another round for the same want, wider and with others invited first. `exclude` are those who failed meanwhile.
    pub fn widen(
        &self,
        exclude: &BTreeSet<NodeId>,
        view: &View<'_>,
        entropy: [u8; 32],
        now: Now,
    ) -> Result<(Self, Vec<Effect>), Box<NoProvider>> {
        let mut want = self.want.clone();
        want.ignore.extend(exclude);
        let tried = self.tried.iter().chain(self.invited.keys()).copied().collect();
        Self::round(want, view, entropy, now, self.round.saturating_add(1), tried)
    }

    fn round(
        want: Want,
        view: &View<'_>,
        entropy: [u8; 32],
        now: Now,
        round: u8,
        tried: BTreeSet<NodeId>,
    ) -> Result<(Self, Vec<Effect>), Box<NoProvider>> {
        let (prospects, rule) = prospects::find(&want, view, now)?;
        let mut entropy = Entropy::new(entropy);
        let explores = invite::explores(&prospects, &mut entropy);
        let invited = invite::choose(&prospects, &rule, &tried, &mut entropy);
        let window = window(invited.iter().filter_map(|node| prospects.get(node)));
        let offer = JobOffer {
            job: job_id(&mut entropy),
            workload: Text::lossy(INFERENCE),
            requirement: want.requirement.clone(),
            volume: want.volume,
            policy: want.policy,
            price_cap: want.price_cap,
            rails: List::first_of(want.wallets.iter().map(|wallet| wallet.rail.clone())),
            window,
            invited: List::first_of(invited.iter().copied()),
            open: open(round, prospects.len()),
            public: want.public,
            issued_at: now.wall,
            expires_at: now.wall.after(window).after(OFFER_LINGER),
        };
        let offer = Verified::sign(offer, view.identity, view.network, &entropy.next());
        let auction = Self {
            identity: view.identity.clone(),
            network: view.network.clone(),
            want,
            rule,
            entropy,
            offer,
            invited: invited.iter().map(|node| (*node, Answer::Waiting)).collect(),
            prospects,
            candidates: Vec::new(),
            accepted: BTreeSet::new(),
            warmed: BTreeSet::new(),
            tried,
            explores,
            ads_held: view.registry.len(),
            ends: now.mono.after(window),
            closed: None,
            over: false,
            attempts: 0,
            round,
        };
        let effects = auction.opening(&invited);
        Ok((auction, effects))
    }

    fn opening(&self, invited: &[NodeId]) -> Vec<Effect> {
        let invite = |node: &NodeId| {
            self.prospects.get(node).map(|prospect| Effect::Invite {
                node: *node,
                offer: self.offer.clone(),
                addresses: prospect.addresses.clone(),
            })
        };
        let mut effects: Vec<Effect> = invited.iter().filter_map(invite).collect();
        effects.push(Effect::Publish(self.offer.clone()));
        effects.push(Effect::WakeAt(self.ends));
        effects
    }

    /// The offer of this round.
    #[must_use]
    pub fn offer(&self) -> &Verified<JobOffer> {
        &self.offer
    }

    /// 0 for the first round.
    #[must_use]
    pub fn round_number(&self) -> u8 {
        self.round
    }

    /// Whether a wider round may follow.
    #[must_use]
    pub fn may_widen(&self) -> bool {
        self.round + 1 < ROUNDS
    }

    /// How it closed, once it has.
    #[must_use]
    pub fn closed(&self) -> Option<Closed> {
        self.closed
    }

    /// The rules by which bids are compared.
    #[must_use]
    pub fn rule(&self) -> &Rule {
        &self.rule
    }

    /// A provider as it was when the round began.
    #[must_use]
    pub fn prospect(&self, node: &NodeId) -> Option<&Prospect> {
        self.prospects.get(node)
    }

    /// All bids that count, from the best to the worst.
    #[must_use]
    pub fn ranked(&self) -> Vec<Ranked> {
        rank(&self.candidates, &self.rule, &self.offer.job)
    }

    /// Takes one event.
    pub fn handle(&mut self, event: Event, now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Bid(bid) => self.on_bid(bid, now, &mut effects),
            Event::Declined(node, _) => self.on_answer(&node, &mut effects),
            Event::Unreachable(node) => {
                if let Some(answer) = self.invited.get_mut(&node).filter(|answer| **answer == Answer::Waiting) {
                    *answer = Answer::Missed;
                    effects.push(Effect::Missed(node));
                }
            }
            Event::Tick => {}
        }
        self.advance(now, &mut effects);
        effects
    }

    fn on_bid(&mut self, bid: Verified<JobBid>, now: Now, effects: &mut Vec<Effect>) {
        let signer = bid.signer();
        if self.candidates.iter().any(|candidate| candidate.bid == bid) {
            return;
        }
        match self.check(&bid, now) {
            Ok(candidate) => {
                self.candidates.push(candidate);
                self.on_answer(&signer, effects);
                self.warm(effects);
            }
            Err(fault) => {
                // A bid that breaks the rules is an answer all the same: nothing better will come from there.
                if fault.is_of_this_auction() {
                    self.on_answer(&signer, effects);
                }
                effects.push(Effect::Refused(signer, fault));
            }
        }
    }

    fn on_answer(&mut self, node: &NodeId, effects: &mut Vec<Effect>) {
        if let Some(answer) = self.invited.get_mut(node).filter(|answer| **answer == Answer::Waiting) {
            *answer = Answer::Came;
            effects.push(Effect::Answered(*node));
        }
    }

    /// Has the likely winner dialled.
    fn warm(&mut self, effects: &mut Vec<Effect>) {
        if self.closed.is_some() || self.warmed.len() >= WARM {
            return;
        }
        if let Some(best) = self.ranked().first().map(|best| best.bid.clone())
            && self.warmed.insert(best.signer())
        {
            effects.push(Effect::Warm(best.signer(), best.addresses.to_vec()));
        }
    }

    fn advance(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if now.mono >= self.ends && !self.over {
            self.over = true;
            for (node, answer) in &mut self.invited {
                if *answer == Answer::Waiting {
                    *answer = Answer::Missed;
                    effects.push(Effect::Missed(*node));
                }
            }
        }
        if self.closed.is_some() {
            return;
        }
        let best = self.ranked();
        let closed = match best.first() {
            Some(best) if self.over || !self.worth_waiting(best) => Closed::Ranked,
            None if self.over => Closed::Nothing,
            _ => return,
        };
        self.closed = Some(closed);
        effects.push(Effect::Closed(closed));
    }

    /// Whether an invited signer that has not answered can be expected to beat the best bid so far. An ad names the
    /// most that is asked, so a missing bid is expected to better its ad by as much as the best bid does.
    fn worth_waiting(&self, best: &Ranked) -> bool {
        let promised = self
            .prospects
            .get(&best.bid.signer())
            .map_or(0, |prospect| prospect.promised);
        let bettered = best.utility.saturating_sub(promised);
        self.invited
            .iter()
            .filter(|(_, answer)| **answer == Answer::Waiting)
            .filter_map(|(node, _)| self.prospects.get(node))
            .any(|missing| {
                let explored = self.explores && !missing.standing.has_history;
                !missing.standing.missed_lately
                    && self.rule.admits(&missing.standing, missing.trusted)
                    && (explored, missing.promised.saturating_add(bettered)) > (best.explored, best.utility)
            })
    }

    /// Once closed: accepts the best bid that was not accepted before, with the next attempt number. Call it again
    /// for the runner-up. Null when there is none left.
    pub fn accept(&mut self, now: Now) -> Option<Papers> {
        self.closed?;
        let best = self
            .ranked()
            .into_iter()
            .find(|ranked| !self.accepted.contains(&ranked.bid.signer()))?;
        let attempt = self.attempts;
        self.attempts = attempt.checked_add(1)?;
        self.accepted.insert(best.bid.signer());
        let accept = JobAccept {
            lease: LeaseId {
                job: self.offer.job,
                attempt,
            },
            bid: best.bid.hash(),
            winner: best.bid.signer(),
            payer: self.payer(&best.bid),
            issued_at: now.wall,
        };
        let accept = Verified::sign(accept, &self.identity, &self.network, &self.entropy.next());
        Some(Papers {
            offer: self.offer.clone(),
            bid: best.bid,
            accept,
        })
    }
}

/// 1.5 times the longest expected round trip to an invited signer plus a grace, within its bounds.
fn window<'a>(invited: impl Iterator<Item = &'a Prospect>) -> Millis {
    let longest = invited.map(|prospect| prospect.claim.round_trip.0).max().unwrap_or(0);
    let window = longest.saturating_mul(3) / 2;
    Millis(window.saturating_add(WINDOW_GRACE.0)).clamp(WINDOW_MIN, WINDOW_MAX)
}

/// Who may draw: enough of those that could serve for a handful of strangers' bids, four times as many each round.
fn open(round: u8, prospects: usize) -> u32 {
    let strangers = OPEN_FIRST << (2 * u32::from(round.min(8)));
    let all = u64::from(crate::auction::OPEN_TO_ALL);
    u32::try_from((strangers * all / (prospects.max(1) as u64)).min(all)).unwrap_or(0)
}

fn job_id(entropy: &mut Entropy) -> JobId {
    let bytes = entropy.next();
    let mut id = [0; 16];
    id.copy_from_slice(&bytes[..16]);
    JobId(id)
}

//! What a node does with a message before it forwards it: the real `Admission` and `Registry`, or a stand-in that
//! takes two bytes for each author.
//!
//! The stand-in calls the same functions of the protocol for what depends on the node (`is_fresh`, `draw`,
//! `open_threshold`) and keeps the same bounds. It leaves out what does not occur here: two ads of one author with
//! one sequence, two offers of one job, more newcomers than there is room for. A test has both run the same seed.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use infernet_protocol::NodeId;
use infernet_protocol::auction::{draw, open_threshold};
use infernet_protocol::capability::{Limits, Registry};
use infernet_protocol::market::Now;
use infernet_protocol::market::admission::{ADS_PER_SIGNER, Admission, BIDS_PER_OFFER, Judgement, RATE_WINDOW};

use crate::message::{Message, What};

/// Authors counted before those are forgotten who said nothing lately.
const COUNTED: usize = 512;

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Accept,
    Ignore,
    Reject,
}

/// A node's memory of gossip.
#[derive(Debug)]
pub(crate) enum Judge {
    /// The product's own.
    Real(Box<(Admission, Registry)>),
    /// The stand-in.
    Lean(Lean),
}

/// Newest ad of each author, and how many authors there are.
#[derive(Debug, Default)]
pub(crate) struct Lean {
    newest: Vec<u16>,
    held: usize,
    /// Ads of those that said some lately, since when; and how many are counted before the others are forgotten.
    rates: HashMap<u32, (u64, u32)>,
    counted: usize,
    /// Whose bids were heard for each offer.
    bids: HashMap<u32, Vec<u32>>,
}

impl Lean {
    /// The number of an author's newest ad; 0 for none.
    pub(crate) fn newest(&self, author: u32) -> u16 {
        self.newest.get(author as usize).copied().unwrap_or(0)
    }
}

impl Judge {
    pub(crate) fn new(real: bool, nodes: usize) -> Self {
        match real {
            true => Self::Real(Box::new((Admission::default(), Registry::default()))),
            false => Self::Lean(Lean {
                newest: vec![0; nodes],
                ..Lean::default()
            }),
        }
    }

    /// Ads held, those that have ended included.
    pub(crate) fn held(&self) -> usize {
        match self {
            Self::Real(real) => real.1.len(),
            Self::Lean(lean) => lean.held.min(Limits::default().ads),
        }
    }

    /// Takes in an ad that was handed over, or known before the simulation began.
    pub(crate) fn learn(&mut self, message: &Message, now: Now) {
        let What::Ad(ad, ordinal) = &message.what else { return };
        match self {
            Self::Real(real) => {
                real.1.observe(ad.clone(), now.wall);
            }
            Self::Lean(lean) => {
                if lean.newest(message.author) < *ordinal && ad.is_fresh(now.wall) {
                    lean.note(message.author, *ordinal);
                }
            }
        }
    }

    /// Remembers an offer that came directly.
    pub(crate) fn note_offer(&mut self, number: u32, message: &Message, now: Now) {
        let What::Offer(offer) = &message.what else { return };
        match self {
            Self::Real(real) => {
                real.0.note_offer(offer, now);
            }
            Self::Lean(lean) => {
                lean.bids.entry(number).or_default();
            }
        }
    }

    /// Judges a message. `offer` is the message with the offer that this one refers to.
    pub(crate) fn judge(
        &mut self,
        number: u32,
        message: &Message,
        offer: Option<&Message>,
        signer: &NodeId,
        now: Now,
    ) -> Verdict {
        let gossip = match (&mut *self, message.read()) {
            (_, Err(verdict)) => return verdict,
            (Self::Real(real), Ok(gossip)) => {
                let (admission, registry) = &mut **real;
                return Verdict::of(&admission.judge(gossip, registry, now));
            }
            (Self::Lean(lean), Ok(_)) => lean,
        };
        match gossip.accepts(number, message, offer, signer, now) {
            true => Verdict::Accept,
            false => Verdict::Ignore,
        }
    }
}

impl Verdict {
    pub(crate) fn of(judgement: &Judgement) -> Self {
        match judgement {
            Judgement::Accept(_) => Self::Accept,
            Judgement::Ignore(_) => Self::Ignore,
            Judgement::Reject => Self::Reject,
        }
    }
}

impl Lean {
    fn note(&mut self, author: u32, ordinal: u16) {
        let newest = &mut self.newest[author as usize];
        self.held += usize::from(*newest == 0);
        *newest = ordinal;
    }

    fn allows(&mut self, author: u32, now: Now) -> bool {
        if self.rates.len() >= self.counted.max(COUNTED) {
            self.rates
                .retain(|_, (since, _)| now.mono.0 - *since < u64::from(RATE_WINDOW.0));
            self.counted = 2 * self.rates.len();
        }
        let (since, count) = self.rates.entry(author).or_insert((now.mono.0, 0));
        if now.mono.0 - *since >= u64::from(RATE_WINDOW.0) {
            (*since, *count) = (now.mono.0, 0);
        }
        *count += 1;
        *count <= ADS_PER_SIGNER
    }

    fn accepts(&mut self, number: u32, message: &Message, offer: Option<&Message>, signer: &NodeId, now: Now) -> bool {
        match (&message.what, offer) {
            (What::Ad(ad, ordinal), _) => {
                // One that is held already costs its author nothing.
                let held = self.newest(message.author) == *ordinal;
                let news = !held && ad.is_fresh(now.wall) && self.allows(message.author, now);
                let newer = news && self.newest(message.author) < *ordinal;
                if newer {
                    self.note(message.author, *ordinal);
                }
                newer
            }
            // One that came directly before is no news.
            (What::Offer(_), _) => match self.bids.entry(number) {
                Entry::Occupied(_) => false,
                Entry::Vacant(place) => {
                    place.insert(Vec::new());
                    true
                }
            },
            (
                What::Bid(_, of, fits),
                Some(Message {
                    what: What::Offer(offer),
                    ..
                }),
            ) => {
                let heard = self.bids.get(of);
                let room = heard.is_some_and(|heard| heard.len() < BIDS_PER_OFFER && !heard.contains(&message.author));
                if !room || !fits {
                    return false;
                }
                if !offer.invited.contains(signer) {
                    let held = self.held.min(Limits::default().ads);
                    let drawn = draw(&offer.job, signer) < open_threshold(offer.open, held).saturating_mul(2);
                    if self.newest[message.author as usize] == 0 || !drawn {
                        return false;
                    }
                }
                self.bids.entry(*of).or_default().push(message.author);
                true
            }
            (What::Rest(_, of, worker), _) => {
                let known = worker.is_none_or(|worker| self.newest(worker) > 0);
                known && self.bids.contains_key(of)
            }
            _ => false,
        }
    }
}

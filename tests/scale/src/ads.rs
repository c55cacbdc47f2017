//! Ads of a simulated network: said on their timers, held, handed over, and counted.

use infernet_protocol::Millis;
use infernet_protocol::Verified;
use infernet_protocol::capability::{self, CapabilityAd};

use crate::judge::Judge;
use crate::message::{Message, What};
use crate::node::Node;
use crate::setup::gossip::REMEMBERED;
use crate::setup::{COUNT_AFTER, SETTLE, START};
use crate::world::{Event, World, wall};

impl World {
    pub(crate) fn sign_ad(&mut self, node: u32, at: u64, interval: Millis) -> Verified<CapabilityAd> {
        self.population.ad(node, wall(at), interval, &mut self.rng)
    }

    /// The message with an author's newest ad.
    pub(crate) fn newest_ad(&self, author: u32) -> Option<u32> {
        self.ads[author as usize].last().copied()
    }

    pub(crate) fn on_ad_due(&mut self, node: u32) {
        if self.nodes[node as usize].up {
            let interval = self.setup.interval.unwrap_or_else(|| self.interval_of(node));
            self.say_ad(node, interval);
            self.wheel.put(self.now + u64::from(interval.0), Event::Ad(node));
        }
    }

    /// Publishes a node's next ad.
    pub(crate) fn say_ad(&mut self, node: u32, interval: Millis) {
        let ad = self.sign_ad(node, self.now, interval);
        self.nodes[node as usize].ads += 1;
        let number = self.put_message(What::Ad(ad, self.nodes[node as usize].ads), node);
        self.ads[node as usize].push(number);
        if self.is_measured(self.now) {
            self.tally.ads += 1;
            self.tally.intervals.push(u64::from(interval.0));
        }
        self.wheel.put(self.now + COUNT_AFTER, Event::Count(number));
        self.publish(node, number);
    }

    pub(crate) fn is_measured(&self, at: u64) -> bool {
        at >= START + SETTLE && at + COUNT_AFTER < self.setup.ends()
    }

    /// The interval that a node chooses.
    pub(crate) fn interval_of(&self, node: u32) -> Millis {
        let held: Vec<Millis> = self.fresh_ads(node).into_iter().map(|ad| ad.interval).collect();
        if !self.setup.extrapolate {
            return capability::interval(held.len());
        }
        let listened = match self.nodes[node as usize].joined {
            0 => Millis(u32::MAX),
            joined => Millis(u32::try_from(self.now - joined).unwrap_or(u32::MAX)),
        };
        capability::interval(capability::providers(held, listened))
    }

    /// The ads that a node holds and that count.
    pub(crate) fn fresh_ads(&self, node: u32) -> Vec<&Verified<CapabilityAd>> {
        let now = wall(self.now);
        match &self.nodes[node as usize].judge {
            Judge::Real(real) => real.1.iter(now).collect(),
            Judge::Lean(lean) => {
                let held = (0..).zip(&self.ads).filter_map(|(author, ads)| {
                    let newest = usize::from(lean.newest(author)).checked_sub(1)?;
                    match &self.messages[*ads.get(newest)? as usize].what {
                        What::Ad(ad, _) => Some(ad),
                        _ => None,
                    }
                });
                held.filter(|ad| ad.is_fresh(now) && !ad.models.is_empty()).collect()
            }
        }
    }

    /// Whether a node holds some ad of an author.
    pub(crate) fn knows(&self, node: u32, author: u32) -> bool {
        match &self.nodes[node as usize].judge {
            Judge::Real(real) => real.1.known_since(&self.population.node(author)).is_some(),
            Judge::Lean(lean) => lean.newest(author) > 0,
        }
    }

    /// Whether a node was told of an ad, or of a later one of its author, in another way than by gossip.
    fn has_newer(&self, node: u32, message: &Message) -> bool {
        let What::Ad(ad, ordinal) = &message.what else {
            return false;
        };
        match &self.nodes[node as usize].judge {
            Judge::Real(real) => {
                let held = real.1.get(&ad.signer(), wall(self.now));
                held.is_some_and(|held| held.sequence >= ad.sequence)
            }
            Judge::Lean(lean) => lean.newest(message.author) >= *ordinal,
        }
    }

    /// Hands over what one node answers when another asks for the ads that it knows: its own, then the first of its
    /// registry.
    pub(crate) fn hand_over(&mut self, from: u32, to: u32, model: Option<usize>) {
        let serves = |author: &u32| match model {
            Some(model) => self.population.members[*author as usize].models.contains(&model),
            None => true,
        };
        let known = self
            .order
            .iter()
            .copied()
            .filter(|author| *author != from && self.knows(from, *author));
        let handed: Vec<u32> = std::iter::once(from)
            .chain(known)
            .filter(|author| *author != to && serves(author))
            .take(crate::setup::node::GREETED)
            .filter_map(|author| self.newest_ad(author))
            .collect();
        let now = self.instant();
        for message in handed {
            self.nodes[to as usize]
                .judge
                .learn(&self.messages[message as usize], now);
        }
    }

    /// Counts who got a message of those who were there all the time.
    pub(crate) fn count(&mut self, number: u32) {
        let message = &self.messages[number as usize];
        let there = |node: &Node| node.up && node.joined < message.sent_at && !node.hostile;
        let same_side = |node: &Node| !self.parted || node.side == self.nodes[message.author as usize].side;
        let (mut all, mut got) = (0u64, 0u64);
        for (other, node) in (0..).zip(&self.nodes) {
            if other != message.author && there(node) && same_side(node) {
                all += 1;
                got += u64::from(message.taken.has(other) || self.has_newer(other, message));
            }
        }
        let share = got * 1_000 / all.max(1);
        self.messages[number as usize].delivered = u32::try_from(share).ok();
        self.wheel.put(self.now + REMEMBERED, Event::Forget(number));
    }
}

//! What a bootstrap node does with gossip: it judges each message as every node does, and remembers the ads, so that a
//! newcomer who asks for them need not wait for the next ones.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use infernet_protocol::capability::{AdList, AdQuery, AdScope, CapabilityAd, Limits, Registry};
use infernet_protocol::codec;
use infernet_protocol::market::admission::Judgement;
use infernet_protocol::market::gossip::Topic;
use infernet_protocol::market::{Admission, Gossip, Mono, Now};
use infernet_protocol::{Network, UnixMillis, Verified};
use infernet_swarm::Verdict;

use crate::status::{Status, Tally};

/// Ads remembered: at 2 KiB for a usual one, 16 MiB.
const ADS: usize = 8192;

/// The memory of one network's gossip.
#[derive(Debug)]
pub struct Forwarder {
    network: Network,
    registry: Registry,
    admission: Admission,
    tally: Tally,
    start: Instant,
}

impl Forwarder {
    /// Remembers nothing yet.
    #[must_use]
    pub fn new(network: Network) -> Self {
        Self {
            network,
            registry: Registry::new(Limits { ads: ADS }),
            admission: Admission::default(),
            tally: Tally::default(),
            start: Instant::now(),
        }
    }

    /// Judges a gossip message.
    pub fn judge(&mut self, topic: &str, data: &[u8]) -> Verdict {
        let topic = if topic == self.network.capability_topic() {
            Topic::Capability
        } else {
            Topic::Jobs
        };
        let now = self.now();
        let judgement = match Gossip::from_bytes(topic, data, &self.network) {
            Ok(gossip) => self.admission.judge(gossip, &mut self.registry, now),
            Err(refused) => Judgement::of_refused(&refused),
        };
        match judgement {
            Judgement::Accept(news) => {
                self.tally.on_news(&news, now);
                Verdict::Accept
            }
            Judgement::Ignore(why) => {
                tracing::debug!(?topic, ?why, "gossip ignored");
                Verdict::Ignore
            }
            Judgement::Reject => Verdict::Reject,
        }
    }

    /// Answers a question for ads; `None` to one that cannot be read.
    pub fn answer(&mut self, query: &[u8]) -> Option<Vec<u8>> {
        let query: AdQuery = codec::from_slice(query).ok()?;
        let now = self.now().wall;
        let known: Vec<&Verified<CapabilityAd>> = match (&query.scope, &query.model) {
            // It has nothing to sell.
            (AdScope::Own, _) => Vec::new(),
            (AdScope::Known, None) => self.registry.iter(now).collect(),
            (AdScope::Known, Some(model)) => self.registry.serving(model, now).map(|(ad, _)| ad).collect(),
        };
        Some(codec::to_vec(&AdList::of(None, known, rand::random())))
    }

    /// What may be said of the network in public.
    pub fn status(&mut self) -> Status {
        let now = self.now();
        self.tally.status(self.registry.iter(now.wall), now)
    }

    /// Ads remembered.
    #[must_use]
    pub fn ads(&self) -> usize {
        self.registry.len()
    }

    /// Forgets what is over.
    pub fn tick(&mut self) {
        let now = self.now();
        self.admission.tick(now);
        self.registry.expire(now.wall);
    }

    fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let milliseconds = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Now {
            wall: UnixMillis(milliseconds(wall)),
            mono: Mono(milliseconds(self.start.elapsed())),
        }
    }
}

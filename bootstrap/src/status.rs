//! What may be said of the network in public: how many take part and how much is done, and nothing of anybody. It is what
//! goes by in gossip, so that deals which are not public do not count.

use std::collections::{BTreeMap, VecDeque};

use infernet_protocol::capability::CapabilityAd;
use infernet_protocol::market::Now;
use infernet_protocol::market::admission::News;
use infernet_protocol::{LeaseId, Verified};
use serde::Serialize;

/// Leases that are counted as under way at once.
const LEASES: usize = 16_384;
/// Hours that are counted.
const HOURS: u64 = 24;
/// Milliseconds of one.
const HOUR: u64 = 3_600_000;
/// Different tags that are told; others of the same beginning are left out.
const TAGS: usize = 64;
/// Tags that are told begin with this: what a provider may write else is its own affair.
const KNOWN_TAGS: &str = "c0mpute:";

/// The public counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Providers whose ads are live.
    pub workers_online: usize,
    /// The same by tag: role, GPU vendor, class.
    pub workers_by_tag: BTreeMap<String, usize>,
    /// Models that they serve.
    pub models: usize,
    /// Leases that were made and have not ended.
    pub jobs_in_flight: usize,
    /// Requests that were receipted in the last 24 hours, as far as this node has run so long.
    pub jobs_completed_24h: u64,
    /// Mean time to the first token of those, in milliseconds.
    pub average_latency_ms: Option<u64>,
    /// For how long this node has counted, in seconds.
    pub counted_s: u64,
}

/// Counts what goes by.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// When each lease under way is over at the latest.
    leases: BTreeMap<LeaseId, u64>,
    hours: VecDeque<Hour>,
}

#[derive(Debug, Default)]
struct Hour {
    number: u64,
    requests: u64,
    first_tokens: u64,
    first_token_ms: u64,
}

impl Tally {
    /// Counts news.
    pub(crate) fn on_news(&mut self, news: &News, now: Now) {
        match news {
            News::Accept(accept, offer) if self.leases.len() < LEASES => {
                let end = now.mono.0.saturating_add(offer.volume.lease.0.into());
                self.leases.insert(accept.lease, end);
            }
            News::Settled(receipt, _) => {
                self.leases.remove(&receipt.lease);
                let hour = self.hour(now);
                hour.requests += u64::from(receipt.total.requests);
                if receipt.step.ttft.0 > 0 {
                    hour.first_tokens += 1;
                    hour.first_token_ms += u64::from(receipt.step.ttft.0);
                }
            }
            _ => {}
        }
    }

    fn hour(&mut self, now: Now) -> &mut Hour {
        let number = now.mono.0 / HOUR;
        if self.hours.back().is_none_or(|last| last.number != number) {
            self.hours.push_back(Hour {
                number,
                ..Hour::default()
            });
        }
        let last = self.hours.len() - 1;
        &mut self.hours[last]
    }

    /// The counts now.
    pub(crate) fn status<'a>(&mut self, ads: impl Iterator<Item = &'a Verified<CapabilityAd>>, now: Now) -> Status {
        self.leases.retain(|_, end| *end > now.mono.0);
        let number = now.mono.0 / HOUR;
        self.hours.retain(|hour| hour.number + HOURS > number);
        let mut status = Status {
            jobs_in_flight: self.leases.len(),
            jobs_completed_24h: self.hours.iter().map(|hour| hour.requests).sum(),
            counted_s: now.mono.0 / 1000,
            ..Status::default()
        };
        let first_tokens: u64 = self.hours.iter().map(|hour| hour.first_tokens).sum();
        let spent: u64 = self.hours.iter().map(|hour| hour.first_token_ms).sum();
        status.average_latency_ms = spent.checked_div(first_tokens);
        let mut models = std::collections::BTreeSet::new();
        for ad in ads {
            status.workers_online += 1;
            models.extend(ad.models.iter().map(|model| model.id.clone()));
            for tag in ad.tags.iter().map(|tag| tag.as_str()) {
                let known = status.workers_by_tag.contains_key(tag);
                if tag.starts_with(KNOWN_TAGS) && (known || status.workers_by_tag.len() < TAGS) {
                    *status.workers_by_tag.entry(tag.to_owned()).or_default() += 1;
                }
            }
        }
        status.models = models.len();
        status
    }
}

#[cfg(test)]
mod tests {
    use infernet_protocol::UnixMillis;
    use infernet_protocol::capability::{Limits, Registry};
    use infernet_protocol::market::admission::Judgement;
    use infernet_protocol::market::gossip::Topic;
    use infernet_protocol::market::{Admission, Gossip, Mono};
    use infernet_study::record::Body;
    use infernet_study::synthetic::{self, Shape};

    use super::*;

    #[test]
    fn a_market_is_counted_and_forgotten() {
        let (mut tally, mut admission) = (Tally::default(), Admission::default());
        let mut registry = Registry::new(Limits { ads: 1_000 });
        let network = synthetic::network();
        let zero = Now {
            wall: UnixMillis(0),
            mono: Mono(0),
        };
        let (mut last, mut most, mut settled) = (zero, 0, 0);
        let mut start = None;
        for record in synthetic::records(&Shape::default()) {
            let Body::Heard(heard) = record.body else { continue };
            let topic = match heard.topic.as_str() == network.capability_topic() {
                true => Topic::Capability,
                false => Topic::Jobs,
            };
            let start = *start.get_or_insert(record.at.0);
            let now = Now {
                wall: record.at,
                mono: Mono(record.at.0.saturating_sub(start)),
            };
            if let Ok(gossip) = Gossip::from_bytes(topic, &heard.data.0, &network)
                && let Judgement::Accept(news) = admission.judge(gossip, &mut registry, now)
            {
                settled += usize::from(matches!(news, News::Settled(..)));
                tally.on_news(&news, now);
            }
            let status = tally.status(registry.iter(now.wall), now);
            most = most.max(status.jobs_in_flight);
            last = now;
        }
        let status = tally.status(registry.iter(last.wall), last);
        assert!(most > 0 && settled > 0, "{most} {settled}");
        assert!(status.jobs_completed_24h >= settled as u64, "{status:?}");
        assert!(
            status.average_latency_ms > Some(0) && status.workers_online > 0 && status.models > 0,
            "{status:?}"
        );
        assert!(status.workers_by_tag.keys().all(|tag| tag.starts_with(KNOWN_TAGS)));
        let later = Now {
            mono: Mono(last.mono.0 + HOURS * HOUR),
            ..last
        };
        let later = tally.status(std::iter::empty(), later);
        assert_eq!(
            (later.jobs_in_flight, later.jobs_completed_24h, later.average_latency_ms),
            (0, 0, None)
        );
    }
}

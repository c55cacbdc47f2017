//! What happened when, in at most some hundreds of equal parts of the time, however long it was.

use std::collections::BTreeMap;

use infernet_protocol::UnixMillis;

use crate::contents::Sort;

/// Parts at most: on a page each is a pixel or two wide.
const PARTS: u64 = 160;
/// The shortest part: that of a sample.
const SHORTEST: u64 = 10_000;

/// One part of the time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Part {
    /// Gossip messages, by their sort.
    pub(super) gossip: [u64; Sort::ALL.len()],
    /// Most peers, and those of them behind relays, in a sample.
    pub(super) peers: Option<u32>,
    pub(super) relayed: Option<u32>,
    /// Most ads in a sample.
    pub(super) ads: Option<u32>,
}

impl Part {
    fn join(&mut self, other: &Self) {
        for (count, more) in self.gossip.iter_mut().zip(other.gossip) {
            *count += more;
        }
        self.peers = self.peers.max(other.peers);
        self.relayed = self.relayed.max(other.relayed);
        self.ads = self.ads.max(other.ads);
    }
}

/// Parts by their number since the epoch.
#[derive(Clone, Debug)]
pub(super) struct Timeline {
    width: u64,
    parts: BTreeMap<u64, Part>,
}

impl Default for Timeline {
    fn default() -> Self {
        Self {
            width: SHORTEST,
            parts: BTreeMap::new(),
        }
    }
}

impl Timeline {
    pub(super) fn at(&mut self, at: UnixMillis) -> &mut Part {
        let first = |parts: &BTreeMap<u64, Part>| parts.first_key_value().map(|(number, _)| *number);
        let last = |parts: &BTreeMap<u64, Part>| parts.last_key_value().map(|(number, _)| *number);
        loop {
            let number = at.0 / self.width;
            let from = first(&self.parts).map_or(number, |first| first.min(number));
            let to = last(&self.parts).map_or(number, |last| last.max(number));
            if to - from < PARTS || self.width > u64::MAX / 4 {
                break;
            }
            self.widen();
        }
        self.parts.entry(at.0 / self.width).or_default()
    }

    fn widen(&mut self) {
        self.width *= 2;
        for (number, part) in std::mem::take(&mut self.parts) {
            self.parts.entry(number / 2).or_default().join(&part);
        }
    }

    /// Length of a part in milliseconds.
    pub(super) fn width(&self) -> u64 {
        self.width
    }

    /// The beginning of each part in which something happened, with what did.
    pub(super) fn parts(&self) -> impl Iterator<Item = (u64, &Part)> {
        self.parts.iter().map(|(number, part)| (number * self.width, part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_time_has_as_few_parts_as_a_short_one_and_loses_nothing() {
        let mut timeline = Timeline::default();
        for at in (0..3_000_000_000).step_by(1_000_000) {
            timeline.at(UnixMillis(at)).gossip[0] += 1;
        }
        assert!(timeline.parts().count() as u64 <= PARTS);
        assert_eq!(timeline.parts().map(|(_, part)| part.gossip[0]).sum::<u64>(), 3_000);
        // A clock that says anything does no harm.
        timeline.at(UnixMillis(u64::MAX)).gossip[0] += 1;
        assert!(timeline.parts().count() as u64 <= PARTS);
    }
}

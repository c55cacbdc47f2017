//! How soon each provider says its first word, by its own record: what is later than that is late.
//!
//! A long prompt takes longer to read, so records are kept per size of prompt, in classes of a factor of four. Late
//! requests are asked of a second provider too (see `buyer::hedge`), and no more of them than a share of all requests:
//! a network that is slow as a whole must not be asked twice as much.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use infernet_protocol::NodeId;

/// First words remembered per provider and class.
const REMEMBERED: usize = 64;
/// Fewer say nothing about the slowest twentieth.
const ENOUGH: usize = 12;
/// Records held.
const HELD: usize = 4_096;
/// Requests of which one may be asked twice: a tenth bounds what hedging adds.
const REQUESTS_PER_HEDGE: u32 = 10;
/// Hedges that may be saved up.
const HEDGES_SAVED: u32 = 8;
/// Nothing is late before this: the tick of a scheduler, a lost packet on a near path.
const LATE_AT_LEAST: Duration = Duration::from_millis(20);

/// Records of first words.
#[derive(Debug, Default)]
pub(super) struct Paces {
    records: HashMap<(NodeId, u32), VecDeque<Duration>>,
    /// Requests towards the next hedge.
    saved: u32,
}

fn class(input_tokens: u32) -> u32 {
    input_tokens.max(1).ilog2() / 2
}

impl Paces {
    /// A provider said its first word after this long.
    pub(super) fn note(&mut self, provider: NodeId, input_tokens: u32, first: Duration) {
        self.saved = (self.saved + 1).min(HEDGES_SAVED * REQUESTS_PER_HEDGE);
        if self.records.len() >= HELD {
            self.records.clear();
        }
        let record = self.records.entry((provider, class(input_tokens))).or_default();
        if record.len() >= REMEMBERED {
            record.pop_front();
        }
        record.push_back(first);
    }

    /// After how long the first word is later than nineteen of twenty were; `None` where too little is known.
    pub(super) fn late_after(&self, provider: NodeId, input_tokens: u32) -> Option<Duration> {
        let record = self.records.get(&(provider, class(input_tokens)))?;
        if record.len() < ENOUGH {
            return None;
        }
        let mut sorted: Vec<_> = record.iter().copied().collect();
        sorted.sort_unstable();
        let place = (sorted.len() * 95).div_ceil(100) - 1;
        Some(sorted[place].max(LATE_AT_LEAST))
    }

    /// Takes one hedge of those that are saved up.
    pub(super) fn take_hedge(&mut self) -> bool {
        let left = self.saved.checked_sub(REQUESTS_PER_HEDGE);
        self.saved = left.unwrap_or(self.saved);
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use infernet_protocol::Identity;

    use super::*;

    #[test]
    fn late_is_what_nineteen_of_twenty_were_not() {
        let provider = Identity::from_secret(&[1; 32]).unwrap().node();
        let mut paces = Paces::default();
        for ms in 0..11 {
            paces.note(provider, 100, Duration::from_millis(100 + ms));
        }
        assert_eq!(paces.late_after(provider, 100), None, "too little is known");
        for ms in 11..20 {
            paces.note(provider, 100, Duration::from_millis(100 + ms));
        }
        assert_eq!(paces.late_after(provider, 100), Some(Duration::from_millis(118)));
        assert_eq!(
            paces.late_after(provider, 250),
            Some(Duration::from_millis(118)),
            "the same class"
        );
        assert_eq!(paces.late_after(provider, 100_000), None, "another class");
        for _ in 0..REMEMBERED {
            paces.note(provider, 100, Duration::from_millis(1));
        }
        assert_eq!(paces.late_after(provider, 100), Some(LATE_AT_LEAST));
    }

    #[test]
    fn hedges_are_a_share_of_requests() {
        let provider = Identity::from_secret(&[1; 32]).unwrap().node();
        let mut paces = Paces::default();
        assert!(!paces.take_hedge());
        for _ in 0..1_000 {
            paces.note(provider, 1, Duration::ZERO);
        }
        assert_eq!((0..100).filter(|_| paces.take_hedge()).count(), HEDGES_SAVED as usize);
    }
}

//! How far this machine's clock is from those of the network: ads say when they were signed, and are heard at once.

use std::collections::VecDeque;

use infernet_protocol::market::Now;
use infernet_protocol::{NodeId, UnixMillis};

/// Signers whose last ad is remembered.
const SIGNERS: usize = 64;
/// Ads heard within this time count: three of the usual intervals of a large network.
const COUNTED: u64 = 30 * 60 * 1000;
/// With fewer others nobody can tell whose clock is wrong.
const ENOUGH: usize = 3;

#[derive(Debug, Clone, Copy)]
struct Heard {
    signer: NodeId,
    issued_at: UnixMillis,
    /// When, by the clock that never goes back.
    at: u64,
    /// How much later this machine's clock was, in milliseconds.
    ahead: i64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Skew {
    heard: VecDeque<Heard>,
}

impl Skew {
    /// An ad came over gossip; each signer counts once, and what it said earlier not any more.
    pub(super) fn hears(&mut self, signer: NodeId, issued_at: UnixMillis, now: Now) {
        if let Some(known) = self.heard.iter().position(|heard| heard.signer == signer) {
            if self.heard[known].issued_at >= issued_at {
                return;
            }
            self.heard.remove(known);
        }
        if self.heard.len() >= SIGNERS {
            self.heard.pop_front();
        }
        let signed = |time: UnixMillis| i64::try_from(time.0).unwrap_or(i64::MAX);
        self.heard.push_back(Heard {
            signer,
            issued_at,
            at: now.mono.0,
            ahead: signed(now.wall).saturating_sub(signed(issued_at)),
        });
    }

    /// How many milliseconds this machine's clock is ahead of most others; negative where it is behind.
    pub(super) fn ahead(&self, now: Now) -> Option<i64> {
        let counted = self
            .heard
            .iter()
            .filter(|heard| now.mono.0.saturating_sub(heard.at) < COUNTED);
        let mut ahead: Vec<i64> = counted.map(|heard| heard.ahead).collect();
        ahead.sort_unstable();
        (ahead.len() >= ENOUGH).then(|| ahead[ahead.len() / 2])
    }
}

#[cfg(test)]
mod tests {
    use infernet_protocol::market::Mono;

    use super::*;

    fn now(wall: u64, mono: u64) -> Now {
        Now {
            wall: UnixMillis(wall),
            mono: Mono(mono),
        }
    }

    #[test]
    fn the_median_of_others_tells_whose_clock_is_wrong() {
        let mut skew = Skew::default();
        let node = |n: u8| NodeId([n; 32]);
        skew.hears(node(1), UnixMillis(100_000), now(112_000, 0));
        skew.hears(node(2), UnixMillis(100_500), now(112_600, 1));
        assert_eq!(skew.ahead(now(112_600, 1)), None, "two may both be wrong");
        skew.hears(node(3), UnixMillis(500_000), now(112_700, 2));
        assert_eq!(
            skew.ahead(now(112_700, 2)),
            Some(12_000),
            "one that is wrong changes nothing"
        );
        skew.hears(node(1), UnixMillis(90_000), now(113_000, 3));
        assert_eq!(
            skew.ahead(now(113_000, 3)),
            Some(12_000),
            "what is repeated says nothing"
        );
        assert_eq!(skew.ahead(now(1, COUNTED + 5)), None, "it is long ago");
    }

    #[test]
    fn it_is_bounded() {
        let mut skew = Skew::default();
        for n in 0..200u8 {
            skew.hears(NodeId([n; 32]), UnixMillis(1000), now(900, n.into()));
        }
        assert_eq!((skew.heard.len(), skew.ahead(now(0, 200))), (SIGNERS, Some(-100)));
    }
}

//! What each peer has used of the rates that are counted after a packet is decoded, and what this node has used of its own.

use std::collections::HashMap;

use libp2p::PeerId;
use tokio::time::Instant;

use super::{
    ASKED, ASKS, Bound, FORWARDED, GOSSIP_BYTES, GOSSIP_IGNORED, GOSSIP_MESSAGES, Hits, IDENTIFICATIONS, PUBLISHED,
    Pace,
};

/// Of what is above a rate, the first and each that so many more follow is held against its peer.
const HELD_EVERY: u32 = 64;

/// Peers that are counted at once: all that can be connected, and some that were asked in vain or have just left. Beyond it
/// those go that owe nothing, and all where that does not help: they begin anew.
const PEERS: usize = 8192;

/// See the module. Peers are forgotten with their last connection.
#[derive(Debug, Default)]
pub(crate) struct Limiter {
    peers: HashMap<PeerId, Used>,
    forwarded: Pace,
    published: Pace,
    pub(crate) hits: Hits,
}

#[derive(Debug, Default)]
struct Used {
    messages: Pace,
    bytes: Pace,
    ignored: Pace,
    asks: Pace,
    asked: Pace,
    identifications: Pace,
    above: HashMap<&'static str, u32>,
}

/// Whether something is within its bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Within {
    /// It is.
    Yes,
    /// It is not.
    No,
    /// It is not, and it is time to hold that against its peer.
    Held,
}

impl Used {
    fn is_idle(&self, now: Instant) -> bool {
        let paces = [
            self.messages,
            self.bytes,
            self.ignored,
            self.asks,
            self.asked,
            self.identifications,
        ];
        paces.iter().all(|pace| pace.is_idle(now))
    }
}

impl Limiter {
    fn make_room(&mut self, peer: PeerId, now: Instant) {
        if self.peers.len() >= PEERS && !self.peers.contains_key(&peer) {
            self.peers.retain(|_, used| !used.is_idle(now));
            if self.peers.len() >= PEERS {
                self.peers.clear();
            }
        }
    }

    fn judge(&mut self, peer: PeerId, bound: Bound, now: Instant, uses: impl FnOnce(&mut Used) -> bool) -> Within {
        self.make_room(peer, now);
        let used = self.peers.entry(peer).or_default();
        if uses(used) {
            return Within::Yes;
        }
        self.hits.add(bound);
        let above = used.above.entry(bound.name()).or_default();
        let held = above.is_multiple_of(HELD_EVERY);
        *above = above.wrapping_add(1);
        if held { Within::Held } else { Within::No }
    }

    /// A gossip message of so many bytes came first through a peer.
    pub(crate) fn message(&mut self, peer: PeerId, bytes: usize, now: Instant) -> Within {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        match self.judge(peer, Bound::GossipMessages, now, |used| {
            used.messages.takes(1, GOSSIP_MESSAGES, now)
        }) {
            Within::Yes => self.judge(peer, Bound::GossipBytes, now, |used| {
                used.bytes.takes(bytes, GOSSIP_BYTES, now)
            }),
            above => above,
        }
    }

    /// A message of a peer was not worth forwarding.
    pub(crate) fn ignored(&mut self, peer: PeerId, now: Instant) -> Within {
        self.judge(peer, Bound::GossipIgnored, now, |used| {
            used.ignored.takes(1, GOSSIP_IGNORED, now)
        })
    }

    /// A peer begins an exchange.
    pub(crate) fn asks(&mut self, peer: PeerId, now: Instant) -> Within {
        self.judge(peer, Bound::Asks, now, |used| used.asks.takes(1, ASKS, now))
    }

    /// A peer says who it is.
    pub(crate) fn identifies(&mut self, peer: PeerId, now: Instant) -> Within {
        self.judge(peer, Bound::Identifications, now, |used| {
            used.identifications.takes(1, IDENTIFICATIONS, now)
        })
    }

    /// Whether this node may begin another exchange with a peer.
    pub(crate) fn may_ask(&mut self, peer: PeerId, now: Instant) -> bool {
        self.make_room(peer, now);
        let may = self.peers.entry(peer).or_default().asked.takes(1, ASKED, now);
        if !may {
            self.hits.add(Bound::Asked);
        }
        may
    }

    /// Whether one more message of others may be forwarded.
    pub(crate) fn may_forward(&mut self, now: Instant) -> bool {
        let may = self.forwarded.takes(1, FORWARDED, now);
        if !may {
            self.hits.add(Bound::Forwarded);
        }
        may
    }

    /// Whether one more message of this node may be published.
    pub(crate) fn may_publish(&mut self, now: Instant) -> bool {
        let may = self.published.takes(1, PUBLISHED, now);
        if !may {
            self.hits.add(Bound::Published);
        }
        may
    }

    /// Peers of which something is counted.
    pub(crate) fn len(&self) -> usize {
        self.peers.len()
    }

    /// The last connection to a peer is gone.
    pub(crate) fn on_gone(&mut self, peer: &PeerId) {
        self.peers.remove(peer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_peer_is_counted_for_itself_and_held_to_account_now_and_then() {
        let (mut limiter, peer, now) = (Limiter::default(), PeerId::random(), Instant::now());
        let burst = usize::try_from(GOSSIP_IGNORED.burst()).unwrap();
        let judged: Vec<_> = (0..burst + 300).map(|_| limiter.ignored(peer, now)).collect();
        assert!(judged[..burst].iter().all(|within| *within == Within::Yes));
        let held = judged.iter().filter(|within| **within == Within::Held).count();
        assert_eq!((held, judged[burst]), (5, Within::Held));
        assert_eq!(limiter.hits.of(Bound::GossipIgnored), 300);
        assert_eq!(limiter.ignored(PeerId::random(), now), Within::Yes);
        limiter.on_gone(&peer);
        assert_eq!(limiter.ignored(peer, now), Within::Yes);
    }

    #[tokio::test]
    async fn peers_that_never_come_or_have_gone_do_not_pile_up() {
        let (mut limiter, now) = (Limiter::default(), Instant::now());
        for _ in 0..2 * PEERS {
            limiter.may_ask(PeerId::random(), now);
            limiter.ignored(PeerId::random(), now);
        }
        assert!(limiter.len() <= PEERS);
    }

    #[tokio::test]
    async fn messages_are_counted_by_number_and_by_size() {
        let (mut limiter, now) = (Limiter::default(), Instant::now());
        let (short, long) = (PeerId::random(), PeerId::random());
        let taken = |limiter: &mut Limiter, peer, bytes| {
            (0..10_000)
                .filter(|_| limiter.message(peer, bytes, now) == Within::Yes)
                .count()
        };
        assert_eq!(taken(&mut limiter, short, 100), 800);
        assert_eq!(taken(&mut limiter, long, 16 * 1024), 128);
    }
}

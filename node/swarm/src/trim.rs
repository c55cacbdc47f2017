//! Which connections are let go of when there are many: those that nothing uses, longest first.
//!
//! libp2p closes a connection once no substream is open on it, and gossipsub keeps one open with every peer that speaks it.
//! So none would ever close; each node would fill up with all others, until nobody could dial or be dialled any more.
//!
//! A machine without I/O.

use std::time::Duration;

use libp2p::PeerId;
use tokio::time::Instant;

/// How many connected peers a node keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// With more, some are let go of.
    pub most: usize,
    /// Down to this many.
    pub least: usize,
    /// Nobody is let go of who has been here, or was of use, within this time.
    pub grace: Duration,
}

/// A connected peer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate {
    pub(crate) peer: PeerId,
    /// When it came, or was last of use.
    pub(crate) used: Instant,
    /// Something hangs on the connection now.
    pub(crate) is_needed: bool,
}

/// Whom to let go of.
pub(crate) fn let_go(keep: Keep, mut peers: Vec<Candidate>, now: Instant) -> Vec<PeerId> {
    if peers.len() <= keep.most {
        return Vec::new();
    }
    let too_many = peers.len() - keep.least.min(keep.most);
    peers.retain(|peer| !peer.is_needed && now.duration_since(peer.used) >= keep.grace);
    peers.sort_by_key(|peer| peer.used);
    peers.truncate(too_many);
    peers.into_iter().map(|peer| peer.peer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP: Keep = Keep {
        most: 10,
        least: 6,
        grace: Duration::from_secs(30),
    };

    /// Peers of whom the nth was of use n minutes ago, beginning with one.
    fn peers(count: u32, now: Instant) -> Vec<Candidate> {
        let candidate = |minutes| Candidate {
            peer: PeerId::random(),
            used: now - Duration::from_secs(60) * minutes,
            is_needed: false,
        };
        (1..=count).map(candidate).collect()
    }

    #[tokio::test]
    async fn the_longest_unused_go_and_no_more_than_there_are_too_many() {
        let now = Instant::now() + Duration::from_secs(100_000);
        assert_eq!(let_go(KEEP, peers(10, now), now), []);
        let all = peers(13, now);
        let oldest: Vec<PeerId> = all.iter().rev().take(7).map(|one| one.peer).collect();
        assert_eq!(let_go(KEEP, all, now), oldest);
    }

    #[tokio::test]
    async fn who_is_needed_or_has_just_come_stays_even_where_too_many_do() {
        let now = Instant::now() + Duration::from_secs(100_000);
        let mut all = peers(20, now);
        all.iter_mut().rev().take(12).for_each(|one| one.is_needed = true);
        all[0].used = now;
        all[1].used = now - KEEP.grace / 2;
        let gone = let_go(KEEP, all.clone(), now);
        assert_eq!(gone.len(), 6);
        assert!(all[2..8].iter().all(|one| gone.contains(&one.peer)));
    }
}

//! Joining the network: the bootstrap addresses are dialled again, ever more patiently, while they are not connected, and
//! peers that were met before for as long as too few are.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use libp2p::multiaddr::Protocol;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{ConnectionId, DialError};
use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

use crate::error::describe_dial;
use crate::event::Joined;

/// First and longest wait before a bootstrap address is dialled again; it doubles in between. After an outage the network
/// is to be whole again within half a minute.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(15);

/// The same for a peer that was met before, which may be gone for good.
const REMEMBERED_FIRST_WAIT: Duration = Duration::from_secs(15);
const REMEMBERED_LONGEST_WAIT: Duration = Duration::from_secs(600);

/// Peers met before are dialled while fewer than this are connected: enough to be found by all others.
const ENOUGH: usize = 4;
/// Of those, dialled at once: most are gone after a while away, and each takes up to a connection's time to say so.
const REMEMBERED_AT_ONCE: usize = 8;

/// Addresses to join by, told and remembered together: those of a list, and what a node keeps of its last peers.
const TARGETS: usize = 512;

/// The addresses to join by.
#[derive(Debug, Default)]
pub(crate) struct Join {
    targets: Vec<Target>,
}

#[derive(Debug)]
struct Target {
    address: Multiaddr,
    origin: Origin,
    /// Known from the address or from its first answer.
    peer: Option<PeerId>,
    dial: Option<ConnectionId>,
    connected: bool,
    why: Option<String>,
    wait: Duration,
    /// When to dial; `None` while it is dialled or connected.
    due: Option<Instant>,
}

/// How this node comes to know an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// The user named it, or a list that the user named.
    Told,
    /// It was met before.
    Remembered,
}

impl Origin {
    fn waits(self) -> (Duration, Duration) {
        match self {
            Self::Told => (FIRST_WAIT, LONGEST_WAIT),
            Self::Remembered => (REMEMBERED_FIRST_WAIT, REMEMBERED_LONGEST_WAIT),
        }
    }
}

impl Join {
    /// Joins by `told`, and by `remembered` in that order where those are not enough.
    pub(crate) fn new(told: &[Multiaddr], remembered: &[Multiaddr], now: Instant) -> Self {
        let mut join = Self::default();
        join.add(told, Origin::Told, now);
        join.add(remembered, Origin::Remembered, now);
        join
    }

    /// Joins by these as well.
    pub(crate) fn tell(&mut self, addresses: &[Multiaddr], now: Instant) {
        self.add(addresses, Origin::Told, now);
    }

    fn add(&mut self, addresses: &[Multiaddr], origin: Origin, now: Instant) {
        for address in addresses {
            if let Some(known) = self.targets.iter_mut().find(|target| target.address == *address) {
                if origin == Origin::Told {
                    known.origin = origin;
                }
            } else if self.targets.len() < TARGETS {
                self.targets.push(Target {
                    address: address.clone(),
                    origin,
                    peer: peer_of(address),
                    dial: None,
                    connected: false,
                    why: None,
                    wait: origin.waits().0,
                    due: Some(now),
                });
            }
        }
    }

    /// Whether the user named a peer to join by.
    pub(crate) fn leads_to(&self, peer: &PeerId) -> bool {
        let mut told = self.targets.iter().filter(|target| target.origin == Origin::Told);
        told.any(|target| target.peer.as_ref() == Some(peer))
    }

    /// The addresses that the user named, and what became of them.
    pub(crate) fn told(&self) -> Vec<Joined> {
        let told = self.targets.iter().filter(|target| target.origin == Origin::Told);
        let joined = |target: &Target| Joined {
            address: target.address.clone(),
            connected: target.connected,
            why: target.why.clone(),
        };
        told.map(joined).collect()
    }

    /// Whether peers that were met before are wanted now.
    fn wants_remembered(&self) -> bool {
        let connected = self.targets.iter().filter(|target| target.connected).count();
        let remembered = |target: &&Target| target.origin == Origin::Remembered && target.dial.is_some();
        connected < ENOUGH && self.targets.iter().filter(remembered).count() < REMEMBERED_AT_ONCE
    }

    pub(crate) fn next_due(&self) -> Option<Instant> {
        let wants_remembered = self.wants_remembered();
        let wanted = |target: &&Target| target.origin == Origin::Told || wants_remembered;
        self.targets.iter().filter(wanted).filter_map(|target| target.due).min()
    }

    /// The next dial that is due, if any.
    pub(crate) fn dial(&mut self, now: Instant) -> Option<DialOpts> {
        let wants_remembered = self.wants_remembered();
        let is_due = |target: &&mut Target| {
            (target.origin == Origin::Told || wants_remembered) && target.due.is_some_and(|due| due <= now)
        };
        let target = self.targets.iter_mut().find(is_due)?;
        let opts = match target.peer {
            Some(peer) => DialOpts::peer_id(peer).addresses(vec![target.address.clone()]).build(),
            None => DialOpts::unknown_peer_id().address(target.address.clone()).build(),
        };
        target.dial = Some(opts.connection_id());
        target.due = None;
        Some(opts)
    }

    pub(crate) fn on_established(&mut self, peer: PeerId, connection: ConnectionId) {
        for target in &mut self.targets {
            if target.dial == Some(connection) || target.peer == Some(peer) {
                target.peer = Some(peer);
                target.dial = None;
                target.due = None;
                target.connected = true;
                target.why = None;
                target.wait = target.origin.waits().0;
            }
        }
    }

    /// The last connection to `peer` is gone.
    pub(crate) fn on_gone(&mut self, peer: PeerId, now: Instant) {
        for target in self.targets.iter_mut().filter(|target| target.peer == Some(peer)) {
            target.connected = false;
            target.due = Some(now + spread(target.wait));
        }
    }

    pub(crate) fn on_failed(&mut self, connection: ConnectionId, error: &DialError, now: Instant) {
        let Some(at) = self.targets.iter().position(|target| target.dial == Some(connection)) else {
            return;
        };
        match error {
            DialError::LocalPeerId { .. } => {
                self.targets.remove(at);
            }
            error => {
                let target = &mut self.targets[at];
                if let DialError::WrongPeerId { .. } = error
                    && target.origin == Origin::Told
                {
                    tracing::warn!(address = %target.address, "another peer than the one named answers at a bootstrap address");
                }
                target.dial = None;
                target.why = Some(describe_dial(error));
                target.due = Some(now + spread(target.wait));
                target.wait = (target.wait * 2).min(target.origin.waits().1);
            }
        }
    }
}

/// The peer that an address leads to, where it says so.
fn peer_of(address: &Multiaddr) -> Option<PeerId> {
    match address.iter().last() {
        Some(Protocol::P2p(peer)) => Some(peer),
        _ => None,
    }
}

/// Up to a quarter more than `wait`, so that a network does not come back in step after an outage.
fn spread(wait: Duration) -> Duration {
    let chance = u32::try_from(RandomState::new().hash_one(0u8) % 256).unwrap_or(0);
    wait + wait * chance / 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_is_dialled_ever_more_patiently_until_it_answers() {
        let mut now = Instant::now();
        let address: Multiaddr = "/ip4/127.0.0.1/tcp/1".parse().unwrap();
        let mut join = Join::new(std::slice::from_ref(&address), &[], now);
        let mut waits = Vec::new();
        for _ in 0..8 {
            let dial = join.dial(now).unwrap();
            assert!(join.dial(now).is_none(), "one dial at a time");
            join.on_failed(dial.connection_id(), &DialError::Aborted, now);
            let due = join.next_due().unwrap();
            waits.push(due - now);
            now = due;
        }
        assert!(waits[0] >= FIRST_WAIT && waits[0] < FIRST_WAIT * 2);
        assert!(waits[7] >= LONGEST_WAIT && waits[7] < LONGEST_WAIT * 2);

        let (peer, dial) = (PeerId::random(), join.dial(now).unwrap());
        join.on_established(peer, dial.connection_id());
        assert_eq!(join.next_due(), None);
        join.on_gone(PeerId::random(), now);
        assert_eq!(join.next_due(), None);
        join.on_gone(peer, now);
        assert!(
            join.next_due().unwrap() - now < FIRST_WAIT * 2,
            "what was connected is dialled soon"
        );
    }

    #[tokio::test]
    async fn an_address_of_our_own_is_given_up() {
        let now = Instant::now();
        let mut join = Join::new(&["/ip4/127.0.0.1/tcp/1".parse().unwrap()], &[], now);
        let dial = join.dial(now).unwrap();
        let address = "/ip4/127.0.0.1/tcp/1".parse().unwrap();
        join.on_failed(dial.connection_id(), &DialError::LocalPeerId { address }, now);
        assert!(join.targets.is_empty());
    }

    fn at(port: u16) -> Multiaddr {
        format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()
    }

    #[tokio::test]
    async fn peers_met_before_are_dialled_until_enough_are_connected() {
        let now = Instant::now();
        let remembered: Vec<_> = (10..30).map(at).collect();
        let mut join = Join::new(&[at(1)], &remembered, now);
        let dials: Vec<_> = std::iter::from_fn(|| join.dial(now)).collect();
        assert_eq!(dials.len(), 1 + REMEMBERED_AT_ONCE, "the one that was told, and a few");
        assert_eq!(join.next_due(), None);
        join.on_failed(dials[1].connection_id(), &DialError::Aborted, now);
        let next = join.dial(now).unwrap();
        let peers: Vec<_> = (0..ENOUGH).map(|_| PeerId::random()).collect();
        for (peer, dial) in peers.iter().zip(dials[2..].iter().chain([&next])) {
            join.on_established(*peer, dial.connection_id());
        }
        assert!(
            join.dial(now + REMEMBERED_LONGEST_WAIT).is_none(),
            "enough are connected"
        );
        assert!(
            !join.leads_to(&peers[0]),
            "whom the user did not name is trusted with nothing"
        );
        join.on_gone(peers[0], now);
        assert!(join.dial(now).is_some(), "one too few again");
    }

    #[tokio::test]
    async fn what_is_told_later_is_joined_by_too_once_and_within_bounds() {
        let now = Instant::now();
        let mut join = Join::new(&[], &[at(1)], now);
        join.tell(&[at(1), at(2), at(2)], now);
        assert_eq!(join.targets.len(), 2);
        assert!(join.targets.iter().all(|target| target.origin == Origin::Told));
        join.tell(&(1..2000).map(at).collect::<Vec<_>>(), now);
        assert_eq!(join.targets.len(), TARGETS);
    }
}

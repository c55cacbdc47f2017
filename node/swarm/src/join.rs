//! Joining the network: the bootstrap addresses are dialled again, ever more patiently, while they are not connected.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use libp2p::multiaddr::Protocol;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{ConnectionId, DialError};
use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

/// First and longest wait before an address is dialled again; it doubles in between. After an outage the network is to
/// be whole again within half a minute.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(15);

/// The addresses to join by.
#[derive(Debug, Default)]
pub(crate) struct Join {
    targets: Vec<Target>,
}

#[derive(Debug)]
struct Target {
    address: Multiaddr,
    /// Known from the address or from its first answer.
    peer: Option<PeerId>,
    dial: Option<ConnectionId>,
    wait: Duration,
    /// When to dial; `None` while it is dialled or connected.
    due: Option<Instant>,
}

impl Join {
    pub(crate) fn new(addresses: &[Multiaddr], now: Instant) -> Self {
        let target = |address: &Multiaddr| {
            let peer = match address.iter().last() {
                Some(Protocol::P2p(peer)) => Some(peer),
                _ => None,
            };
            Target {
                address: address.clone(),
                peer,
                dial: None,
                wait: FIRST_WAIT,
                due: Some(now),
            }
        };
        Self {
            targets: addresses.iter().map(target).collect(),
        }
    }

    /// Whether a peer is one of those that are joined by.
    pub(crate) fn leads_to(&self, peer: &PeerId) -> bool {
        self.targets.iter().any(|target| target.peer.as_ref() == Some(peer))
    }

    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.targets.iter().filter_map(|target| target.due).min()
    }

    /// The next dial that is due, if any.
    pub(crate) fn dial(&mut self, now: Instant) -> Option<DialOpts> {
        let target = self
            .targets
            .iter_mut()
            .find(|target| target.due.is_some_and(|due| due <= now))?;
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
                target.wait = FIRST_WAIT;
            }
        }
    }

    /// The last connection to `peer` is gone.
    pub(crate) fn on_gone(&mut self, peer: PeerId, now: Instant) {
        for target in self.targets.iter_mut().filter(|target| target.peer == Some(peer)) {
            target.due = Some(now + spread(target.wait));
        }
    }

    pub(crate) fn on_failed(&mut self, connection: ConnectionId, error: &DialError, now: Instant) {
        let Some(at) = self.targets.iter().position(|target| target.dial == Some(connection)) else {
            return;
        };
        match error {
            DialError::LocalPeerId { .. } => {
                self.targets.swap_remove(at);
            }
            error => {
                let target = &mut self.targets[at];
                if let DialError::WrongPeerId { .. } = error {
                    tracing::warn!(address = %target.address, "another peer than the one named answers at a bootstrap address");
                }
                target.dial = None;
                target.due = Some(now + spread(target.wait));
                target.wait = (target.wait * 2).min(LONGEST_WAIT);
            }
        }
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
        let mut join = Join::new(std::slice::from_ref(&address), now);
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
        let mut join = Join::new(&["/ip4/127.0.0.1/tcp/1".parse().unwrap()], now);
        let dial = join.dial(now).unwrap();
        let address = "/ip4/127.0.0.1/tcp/1".parse().unwrap();
        join.on_failed(dial.connection_id(), &DialError::LocalPeerId { address }, now);
        assert!(join.targets.is_empty());
    }
}

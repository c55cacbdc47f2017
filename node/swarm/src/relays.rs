//! Keeps reservations on relays for a node that cannot be reached from outside: on several, so that the loss of one cuts
//! nobody off, and none for a node that can be reached.
//!
//! A machine without I/O: it is told what happened and when, and says what to do.

use std::collections::BTreeMap;
use std::time::Duration;

use libp2p::core::transport::ListenerId;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

/// A node that is not told otherwise waits this long for somebody to reach it from outside, from the first relay that it
/// knows: longer than an AutoNAT server takes to dial it back.
const GRACE: Duration = Duration::from_secs(4);
/// First and longest wait before a relay that refused, or let go of us, is asked again; it doubles in between.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Relays that are known at once: a few times what is wanted.
const KNOWN: usize = 16;

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Listen on this circuit and say how that began, with [`Relays::asked`] or [`Relays::failed`].
    Reserve(PeerId, Multiaddr),
    /// Listen there no more.
    LetGo(ListenerId),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Relays {
    /// Reservations that are wanted while the node cannot be reached.
    wanted: usize,
    /// From when on they are, if nobody reaches the node before.
    since: Option<Instant>,
    grace: Duration,
    reachable: bool,
    known: BTreeMap<PeerId, Relay>,
}

#[derive(Debug)]
struct Relay {
    address: Multiaddr,
    state: State,
    wait: Duration,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// Asked again at this time.
    Idle(Instant),
    Asking,
    Asked(ListenerId),
    Reserved(ListenerId),
}

impl Relays {
    /// Wants so many reservations, at once where nobody shall ever reach the node otherwise.
    pub(crate) fn new(wanted: usize, at_once: bool) -> Self {
        Self {
            wanted,
            since: None,
            grace: if at_once { Duration::ZERO } else { GRACE },
            reachable: false,
            known: BTreeMap::new(),
        }
    }

    /// Whether a place is wanted at all.
    pub(crate) fn are_wanted(&self) -> bool {
        self.wanted > 0
    }

    /// A connected peer, dialled at `address`, relays.
    pub(crate) fn on_relay(&mut self, peer: PeerId, address: &Multiaddr, now: Instant) {
        if self.wanted == 0 || self.known.contains_key(&peer) || self.known.len() >= KNOWN {
            return;
        }
        self.since.get_or_insert(now + self.grace);
        let address = circuit(address, peer);
        let (state, wait) = (State::Idle(now), FIRST_WAIT);
        self.known.insert(peer, Relay { address, state, wait });
    }

    /// The last connection to a peer is gone, and with it what it had reserved.
    pub(crate) fn on_gone(&mut self, peer: &PeerId) {
        self.known.remove(peer);
    }

    /// Whether the node can be reached from outside.
    pub(crate) fn on_reachable(&mut self, reachable: bool) {
        self.reachable = reachable;
    }

    /// Whether it can, as far as was told.
    pub(crate) fn is_reachable(&self) -> bool {
        self.reachable
    }

    /// A relay was asked for a reservation.
    pub(crate) fn asked(&mut self, peer: &PeerId, listener: ListenerId) {
        if let Some(relay) = self.known.get_mut(peer) {
            relay.state = State::Asked(listener);
        }
    }

    /// A relay could not even be asked.
    pub(crate) fn failed(&mut self, peer: &PeerId, now: Instant) {
        if let Some(relay) = self.known.get_mut(peer) {
            relay.put_off(now);
        }
    }

    /// A circuit takes connections.
    pub(crate) fn on_reserved(&mut self, listener: ListenerId) {
        let asked = self
            .known
            .values_mut()
            .find(|relay| relay.state == State::Asked(listener));
        if let Some(relay) = asked {
            relay.state = State::Reserved(listener);
            relay.wait = FIRST_WAIT;
        }
    }

    /// A circuit takes no connections any more, or never did.
    pub(crate) fn on_closed(&mut self, listener: ListenerId, now: Instant) {
        let is_it =
            |relay: &&mut Relay| matches!(relay.state, State::Asked(it) | State::Reserved(it) if it == listener);
        if let Some(relay) = self.known.values_mut().find(is_it) {
            relay.put_off(now);
        }
    }

    fn wants(&self, now: Instant) -> bool {
        !self.reachable && self.since.is_some_and(|since| since <= now)
    }

    fn held(&self) -> usize {
        let idle = |relay: &&Relay| !matches!(relay.state, State::Idle(_));
        self.known.values().filter(idle).count()
    }

    /// Reservations that are held now.
    pub(crate) fn reserved(&self) -> usize {
        let held = |relay: &&Relay| matches!(relay.state, State::Reserved(_));
        self.known.values().filter(held).count()
    }

    /// When [`next`](Self::next) may have something to say.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let since = self.since?;
        if self.reachable || self.held() >= self.wanted {
            return None;
        }
        let due = self.known.values().filter_map(|relay| match relay.state {
            State::Idle(at) => Some(at.max(since)),
            _ => None,
        });
        due.min()
    }

    /// What to do next, if anything.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Action> {
        if self.reachable {
            let relay = self.known.values_mut().find_map(|relay| match relay.state {
                State::Asked(listener) | State::Reserved(listener) => Some((listener, relay)),
                _ => None,
            });
            let (listener, relay) = relay?;
            relay.state = State::Idle(now);
            return Some(Action::LetGo(listener));
        }
        if !self.wants(now) || self.held() >= self.wanted {
            return None;
        }
        let due = |relay: &Relay| matches!(relay.state, State::Idle(at) if at <= now);
        let (peer, relay) = self.known.iter_mut().find(|(_, relay)| due(relay))?;
        relay.state = State::Asking;
        Some(Action::Reserve(*peer, relay.address.clone()))
    }
}

impl Relay {
    fn put_off(&mut self, now: Instant) {
        self.state = State::Idle(now + self.wait);
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
    }
}

/// The address of a relay's circuits.
pub(crate) fn circuit(address: &Multiaddr, peer: PeerId) -> Multiaddr {
    let base = address.iter().filter(|part| !matches!(part, Protocol::P2p(_)));
    base.collect::<Multiaddr>()
        .with(Protocol::P2p(peer))
        .with(Protocol::P2pCircuit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u8) -> Multiaddr {
        format!("/ip4/203.0.113.{number}/tcp/1").parse().unwrap()
    }

    fn reserve(relays: &mut Relays, now: Instant) -> Option<PeerId> {
        match relays.next(now)? {
            Action::Reserve(peer, address) => {
                assert!(
                    address.to_string().ends_with(&format!("/p2p/{peer}/p2p-circuit")),
                    "{address}"
                );
                Some(peer)
            }
            Action::LetGo(_) => panic!("nothing is to be let go of"),
        }
    }

    #[tokio::test]
    async fn a_hidden_node_holds_several_and_replaces_what_it_loses() {
        let mut now = Instant::now();
        let mut relays = Relays::new(2, false);
        let peers: Vec<PeerId> = (0..3).map(|_| PeerId::random()).collect();
        for (number, peer) in (1..).zip(&peers) {
            relays.on_relay(*peer, &address(number), now);
        }
        assert_eq!(relays.next(now), None, "somebody may reach it yet");
        now = relays.next_due().unwrap();
        let mut held = Vec::new();
        while let Some(peer) = reserve(&mut relays, now) {
            let listener = ListenerId::next();
            relays.asked(&peer, listener);
            relays.on_reserved(listener);
            held.push((peer, listener));
        }
        assert_eq!((held.len(), relays.reserved(), relays.next_due()), (2, 2, None));
        // One lets go of it, and the third takes its place at once.
        relays.on_closed(held[0].1, now);
        let third = reserve(&mut relays, now).unwrap();
        assert!(held.iter().all(|(peer, _)| *peer != third));
        relays.failed(&third, now);
        assert_eq!(relays.next(now), None, "whoever failed is not asked again at once");
        let due = relays.next_due().unwrap();
        assert!(due >= now + FIRST_WAIT);
        assert!(reserve(&mut relays, due).is_some());
        // One whose connection is lost is forgotten with what it had reserved.
        relays.on_gone(&held[1].0);
        assert_eq!(relays.reserved(), 0);
    }

    #[tokio::test]
    async fn a_node_that_is_reached_lets_go_and_one_that_wants_none_asks_for_none() {
        let now = Instant::now();
        let mut relays = Relays::new(1, true);
        let peer = PeerId::random();
        relays.on_relay(peer, &address(1), now);
        assert_eq!(
            reserve(&mut relays, now),
            Some(peer),
            "an outbound-only node does not wait"
        );
        let listener = ListenerId::next();
        relays.asked(&peer, listener);
        relays.on_reserved(listener);
        relays.on_reachable(true);
        assert_eq!(relays.next(now), Some(Action::LetGo(listener)));
        assert_eq!((relays.next(now), relays.next_due()), (None, None));
        relays.on_reachable(false);
        assert_eq!(reserve(&mut relays, now), Some(peer), "what changes may change back");
        let mut none = Relays::new(0, true);
        none.on_relay(peer, &address(1), now);
        assert_eq!((none.next(now), none.next_due()), (None, None));
    }
}

//! How peers behave: what each broke, what that adds up to, and who is kept out for how long.
//!
//! Points are paid off in time. What can be the fault of a version that everybody runs, as a message that we alone take for
//! bad, costs only so much in one incident, and less than a ban: it silences a peer (see `gossip`) and does not part the
//! network. Floods have no such excuse, since every node keeps its own sending below what others take.
//!
//! A machine without I/O.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use libp2p::PeerId;
use tokio::time::Instant;

/// Points at which a peer is kept out.
pub(crate) const BANNED_AT: u32 = 100;
/// A point is paid off in this time: all of them in five minutes.
const PAID_OFF: Duration = Duration::from_secs(3);
/// What is not a flood counts up to this within one [`INCIDENT`].
const INCIDENT_COST: u32 = 60;
/// The time that one incident lasts.
const INCIDENT: Duration = Duration::from_secs(300);

/// First and longest ban; it doubles with each that follows within [`REMEMBERED`] of the last.
const FIRST_BAN: Duration = Duration::from_secs(300);
const LONGEST_BAN: Duration = Duration::from_secs(24 * 3600);
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);

/// With fewer connected peers than this a network is small: a ban may be what parts it, so it lasts no longer than
/// [`SMALL_BAN`].
const SMALL_NETWORK: usize = 8;
const SMALL_BAN: Duration = Duration::from_secs(30);

/// Peers whose conduct is remembered; those with nothing to their account are forgotten first, then the oldest.
const PEERS: usize = 4096;

/// What a peer can do wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Offence {
    /// It forwarded gossip that is malformed or badly signed.
    BadGossip,
    /// It sends gossip faster than it may.
    GossipFlood,
    /// It sends gossip of no worth faster than it may.
    WorthlessGossip,
    /// It asks or answers in the DHT faster than it may.
    DhtFlood,
    /// It begins exchanges faster than it may.
    AskFlood,
    /// It says who it is over and over.
    IdentifyFlood,
    /// It opens direct streams without end.
    StreamFlood,
}

impl Offence {
    /// What one costs.
    fn points(self) -> u32 {
        match self {
            Self::BadGossip => 10,
            Self::AskFlood | Self::DhtFlood | Self::IdentifyFlood => 25,
            Self::GossipFlood | Self::WorthlessGossip => 50,
            Self::StreamFlood => BANNED_AT,
        }
    }

    fn is_capped(self) -> bool {
        self == Self::BadGossip
    }

    /// What it is called.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::BadGossip => "bad gossip",
            Self::GossipFlood => "gossip flood",
            Self::WorthlessGossip => "worthless gossip",
            Self::DhtFlood => "DHT flood",
            Self::AskFlood => "exchange flood",
            Self::IdentifyFlood => "identification flood",
            Self::StreamFlood => "stream flood",
        }
    }
}

/// What is known of peers' conduct.
#[derive(Debug, Default)]
pub(crate) struct Conduct {
    peers: HashMap<PeerId, Account>,
    /// Who is kept out now, by when that ends: it is asked at each turn of the event loop.
    out: BTreeSet<(Instant, PeerId)>,
}

#[derive(Debug)]
struct Account {
    /// When all points are paid off.
    paid_off: Instant,
    /// When the incident began, and what it has cost.
    incident: Option<(Instant, u32)>,
    offences: BTreeMap<Offence, (u64, Instant)>,
    bans: u32,
    /// Until when the last ban lasts, or lasted.
    until: Option<Instant>,
    /// Whether it is kept out now.
    out: bool,
}

/// What is told of one peer.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// Points now, of those at which it is kept out.
    pub points: u32,
    /// Those.
    pub banned_at: u32,
    /// What it did: what, how often, how long ago last.
    pub offences: Vec<(Offence, u64, Duration)>,
    /// How often it was kept out.
    pub bans: u32,
    /// For how much longer it is.
    pub banned_for: Option<Duration>,
}

impl Account {
    fn new(now: Instant) -> Self {
        Self {
            paid_off: now,
            incident: None,
            offences: BTreeMap::new(),
            bans: 0,
            until: None,
            out: false,
        }
    }

    fn points(&self, now: Instant) -> u32 {
        let owed = self.paid_off.saturating_duration_since(now).as_millis();
        u32::try_from(owed.div_ceil(PAID_OFF.as_millis())).unwrap_or(u32::MAX)
    }

    /// What an offence costs now.
    fn cost(&mut self, offence: Offence, now: Instant) -> u32 {
        if !offence.is_capped() {
            return offence.points();
        }
        let (began, so_far) = match self.incident {
            Some((began, so_far)) if now.duration_since(began) < INCIDENT => (began, so_far),
            _ => (now, 0),
        };
        let cost = offence.points().min(INCIDENT_COST.saturating_sub(so_far));
        self.incident = Some((began, so_far + cost));
        cost
    }

    fn is_clean(&self, now: Instant) -> bool {
        !self.out && self.points(now) == 0 && self.until.is_none_or(|until| now.duration_since(until) > REMEMBERED)
    }
}

impl Conduct {
    /// Notes an offence; gives for how long its peer is to be kept out, if it is now.
    pub(crate) fn on_offence(
        &mut self,
        peer: PeerId,
        offence: Offence,
        connected: usize,
        now: Instant,
    ) -> Option<Duration> {
        self.make_room(&peer, now);
        let account = self.peers.entry(peer).or_insert_with(|| Account::new(now));
        let (count, last) = account.offences.entry(offence).or_insert((0, now));
        (*count, *last) = (count.saturating_add(1), now);
        account.paid_off = account.paid_off.max(now) + PAID_OFF * account.cost(offence, now);
        if account.points(now) < BANNED_AT || account.out {
            return None;
        }
        if account
            .until
            .is_some_and(|until| now.duration_since(until) > REMEMBERED)
        {
            account.bans = 0;
        }
        let usual = FIRST_BAN * 2u32.saturating_pow(account.bans.min(16));
        let length = match connected < SMALL_NETWORK {
            true => SMALL_BAN,
            false => usual.min(LONGEST_BAN),
        };
        account.bans += 1;
        (account.until, account.out, account.paid_off) = (Some(now + length), true, now);
        self.out.insert((now + length, peer));
        Some(length)
    }

    fn make_room(&mut self, peer: &PeerId, now: Instant) {
        if self.peers.len() < PEERS || self.peers.contains_key(peer) {
            return;
        }
        self.peers.retain(|_, account| !account.is_clean(now));
        // Whoever is kept out stays on the books: its end must be seen.
        let oldest = self.peers.iter().filter(|(_, account)| !account.out);
        let oldest = oldest
            .min_by_key(|(_, account)| account.paid_off)
            .map(|(peer, _)| *peer);
        if self.peers.len() >= PEERS
            && let Some(oldest) = oldest
        {
            self.peers.remove(&oldest);
        }
    }

    /// When the next ban ends.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.out.first().map(|(until, _)| *until)
    }

    /// A peer whose ban is over, if any; it is told once.
    pub(crate) fn over(&mut self, now: Instant) -> Option<PeerId> {
        self.out.first().filter(|(until, _)| *until <= now)?;
        let (_, peer) = self.out.pop_first()?;
        if let Some(account) = self.peers.get_mut(&peer) {
            account.out = false;
        }
        Some(peer)
    }

    /// Whether a peer is kept out now.
    pub(crate) fn is_out(&self, peer: &PeerId) -> bool {
        self.peers.get(peer).is_some_and(|account| account.out)
    }

    /// Peers of whom something is remembered.
    pub(crate) fn len(&self) -> usize {
        self.peers.len()
    }

    /// Peers that are kept out.
    pub(crate) fn banned(&self) -> usize {
        self.out.len()
    }

    /// What is known of one peer; nothing is a good name.
    pub(crate) fn standing(&self, peer: &PeerId, now: Instant) -> Standing {
        let account = self.peers.get(peer);
        let offences = account.iter().flat_map(|account| &account.offences);
        Standing {
            points: account.map_or(0, |account| account.points(now)),
            banned_at: BANNED_AT,
            offences: offences
                .map(|(offence, (count, last))| (*offence, *count, now.duration_since(*last)))
                .collect(),
            bans: account.map_or(0, |account| account.bans),
            banned_for: account
                .filter(|account| account.out)
                .and_then(|account| account.until)
                .map(|until| until.saturating_duration_since(now)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A network that is not small.
    const LARGE: usize = SMALL_NETWORK;

    #[tokio::test]
    async fn floods_add_up_to_bans_that_double_and_end() {
        let (mut conduct, peer, mut now) = (Conduct::default(), PeerId::random(), Instant::now());
        let mut lengths = Vec::new();
        for _ in 0..12 {
            assert_eq!(conduct.on_offence(peer, Offence::GossipFlood, LARGE, now), None);
            let length = conduct.on_offence(peer, Offence::GossipFlood, LARGE, now).unwrap();
            assert_eq!(
                conduct.on_offence(peer, Offence::GossipFlood, LARGE, now),
                None,
                "it is out"
            );
            assert_eq!((conduct.banned(), conduct.over(now)), (1, None));
            now = conduct.next_due().unwrap();
            assert_eq!((conduct.over(now), conduct.over(now)), (Some(peer), None));
            now += Duration::from_secs(300);
            lengths.push(length);
        }
        assert_eq!(lengths[..3], [FIRST_BAN, FIRST_BAN * 2, FIRST_BAN * 4]);
        assert_eq!(lengths[11], LONGEST_BAN);
        now += REMEMBERED + LONGEST_BAN;
        conduct.on_offence(peer, Offence::GossipFlood, LARGE, now);
        let again = conduct.on_offence(peer, Offence::GossipFlood, LARGE, now);
        assert_eq!(again, Some(FIRST_BAN), "after a good day it begins anew");
    }

    #[tokio::test]
    async fn what_may_be_a_misunderstanding_bans_nobody() {
        let (mut conduct, peer, now) = (Conduct::default(), PeerId::random(), Instant::now());
        for second in 0..3600 {
            let now = now + Duration::from_secs(second);
            assert_eq!(
                conduct.on_offence(peer, Offence::BadGossip, LARGE, now),
                None,
                "{second}"
            );
            assert!(conduct.standing(&peer, now).points <= INCIDENT_COST + Offence::BadGossip.points());
        }
    }

    #[tokio::test]
    async fn points_are_paid_off_and_a_small_network_keeps_nobody_out_for_long() {
        let (mut conduct, peer, now) = (Conduct::default(), PeerId::random(), Instant::now());
        conduct.on_offence(peer, Offence::AskFlood, 1, now);
        assert_eq!(conduct.standing(&peer, now).points, 25);
        let later = now + Duration::from_secs(75);
        assert_eq!(conduct.standing(&peer, later).points, 0);
        assert_eq!(
            conduct.on_offence(peer, Offence::StreamFlood, 1, later),
            Some(SMALL_BAN)
        );
        let standing = conduct.standing(&peer, later + Duration::from_secs(10));
        assert_eq!(
            (standing.bans, standing.banned_for),
            (1, Some(SMALL_BAN - Duration::from_secs(10)))
        );
        assert_eq!(standing.offences.len(), 2);
        let unknown = conduct.standing(&PeerId::random(), now);
        assert_eq!((unknown.points, unknown.offences.len()), (0, 0));
    }

    #[tokio::test]
    async fn the_books_are_bounded_and_keep_whoever_is_out() {
        let (mut conduct, peer, now) = (Conduct::default(), PeerId::random(), Instant::now());
        conduct.on_offence(peer, Offence::StreamFlood, LARGE, now);
        for _ in 0..2 * PEERS {
            conduct.on_offence(PeerId::random(), Offence::BadGossip, LARGE, now);
        }
        assert!(conduct.peers.len() <= PEERS);
        assert!(conduct.standing(&peer, now).banned_for.is_some());
    }
}

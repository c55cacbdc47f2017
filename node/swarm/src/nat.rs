//! What stands between this node and the others: how a router maps its ports, and whom it lets in, as RFC 4787 names it
//! (sections 4.1 and 5); concluded from what peers say they see, and from who gets through.
//!
//! A machine without I/O.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use tokio::time::Instant;

use crate::peers::{Reach, reach};

/// Peers whose word is remembered for each transport, the last of them.
const OBSERVERS: usize = 16;
/// Addresses of which it is remembered whether they were reached.
const PROBES: usize = 16;
/// A stranger who came in says for so long that strangers do.
const STRANGER_COUNTS: Duration = Duration::from_secs(3600);
/// Whoever is asked to call back and gets no answer at all says nothing either. With somebody there who can be asked, and
/// nobody through after this long, nobody gets in: a call back is given up after ten seconds.
const NOBODY_AFTER: Duration = Duration::from_secs(15);

/// How the ports of this machine look from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mapping {
    /// Nothing translates: others see the machine's own address.
    None,
    /// All see the same port, so that one peer can tell another where this node is.
    EndpointIndependent,
    /// Each sees a port of its own, so that what one sees is of no use to another.
    EndpointDependent,
    /// Too few have said what they see.
    Unknown,
}

/// Who gets in at such a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filtering {
    /// Anybody.
    EndpointIndependent,
    /// At least those to whom this node has talked, from whichever port.
    AddressDependent,
    /// Nobody but whom this node has called, at the very port that it called.
    AddressAndPortDependent,
    /// Nobody has tried.
    Unknown,
}

/// What a router that speaks UPnP says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Gateway {
    /// It is not asked.
    #[default]
    NotAsked,
    /// There is none, or it does not answer.
    NotFound,
    /// It has no public address itself: another router stands behind it, as at many mobile and cable providers.
    NotPublic,
    /// It has opened a port.
    Opened(Multiaddr),
}

/// A transport, whose ports are mapped for themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// QUIC over UDP.
    Quic,
}

/// What is known of the way to the others.
#[derive(Debug, Default)]
pub(crate) struct Nat {
    seen: BTreeMap<Transport, Vec<Seen>>,
    /// Whether this address was reached when somebody was asked to call it.
    probed: Vec<(Multiaddr, bool)>,
    /// Where this node was seen last.
    last_ip: Option<IpAddr>,
    /// Since when somebody outside is there who calls back when asked.
    asked_since: Option<Instant>,
    /// When somebody last came in whom this node had not called.
    stranger: Option<Instant>,
    pub(crate) gateway: Gateway,
}

/// What one peer sees of this node.
#[derive(Debug, Clone, Copy)]
struct Seen {
    by: IpAddr,
    ip: IpAddr,
    port: u16,
}

/// What an address says at its beginning.
fn socket(address: &Multiaddr) -> Option<(Transport, IpAddr, u16)> {
    let mut parts = address.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => IpAddr::V4(ip),
        Protocol::Ip6(ip) => ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4),
        _ => return None,
    };
    match (parts.next()?, parts.next()) {
        (Protocol::Tcp(port), _) => Some((Transport::Tcp, ip, port)),
        (Protocol::Udp(port), Some(Protocol::QuicV1)) => Some((Transport::Quic, ip, port)),
        _ => None,
    }
}

impl Nat {
    /// A peer that this node called from the port on which it listens says where it sees it.
    pub(crate) fn on_seen(&mut self, peer: &Multiaddr, seen: &Multiaddr) {
        // A neighbour sees nothing of a router, and IPv6 has none that translates.
        if reach(peer) != Reach::Public {
            return;
        }
        let (Some((transport, by, _)), Some((_, ip, port))) = (socket(peer), socket(seen)) else {
            return;
        };
        if !ip.is_ipv4() {
            return;
        }
        // Elsewhere now: what was found out before is of another router.
        if self.last_ip.is_some_and(|last| last != ip) {
            (self.stranger, self.asked_since) = (None, None);
            self.probed.clear();
        }
        self.last_ip = Some(ip);
        let known = self.seen.entry(transport).or_default();
        known.retain(|seen| seen.by != by);
        if known.len() >= OBSERVERS {
            known.remove(0);
        }
        known.push(Seen { by, ip, port });
    }

    /// Somebody was asked to call this address.
    pub(crate) fn on_probed(&mut self, address: &Multiaddr, reached: bool) {
        self.probed.retain(|(known, _)| known != address);
        if self.probed.len() >= PROBES {
            self.probed.remove(0);
        }
        self.probed.push((address.clone(), reached));
    }

    /// A peer at this address calls back when asked.
    pub(crate) fn on_prober(&mut self, at: &Multiaddr, now: Instant) {
        if reach(at) == Reach::Public {
            self.asked_since.get_or_insert(now);
        }
    }

    /// Somebody came in directly from this address, who is not connected otherwise. Whom this node has called is let in by
    /// any router.
    pub(crate) fn on_called(&mut self, from: &Multiaddr, now: Instant) {
        let Some((_, ip, _)) = socket(from) else { return };
        let has_called = self.seen.values().flatten().any(|seen| seen.by == ip);
        if reach(from) == Reach::Public && ip.is_ipv4() && !has_called {
            self.stranger = Some(now);
        }
    }

    pub(crate) fn mapping(&self, transport: Transport, own: &[Multiaddr]) -> Mapping {
        let seen = self.seen.get(&transport).map(Vec::as_slice).unwrap_or_default();
        let is_own = |ip: IpAddr| own.iter().filter_map(socket).any(|(_, own, _)| own == ip);
        let Some(last) = seen.last() else {
            return Mapping::Unknown;
        };
        if is_own(last.ip) {
            return Mapping::None;
        }
        // Those that see another address saw it before the network changed, or over another way out.
        let ports: Vec<u16> = seen
            .iter()
            .filter(|seen| seen.ip == last.ip)
            .map(|seen| seen.port)
            .collect();
        // A port that comes through unchanged is the same for all; who sees another saw a connection from another port.
        let is_kept = |port: &u16| own.iter().filter_map(socket).any(|(_, _, own)| own == *port);
        let agree = |port: &u16| ports.iter().filter(|other| *other == port).count();
        match (ports.len(), ports.iter().map(agree).max()) {
            (0 | 1, _) | (_, None) => Mapping::Unknown,
            (_, Some(1)) if !ports.iter().any(is_kept) => Mapping::EndpointDependent,
            _ => Mapping::EndpointIndependent,
        }
    }

    pub(crate) fn filtering(&self, now: Instant) -> Filtering {
        if self.stranger.is_some_and(|at| now.duration_since(at) < STRANGER_COUNTS) {
            return Filtering::EndpointIndependent;
        }
        let public = self
            .probed
            .iter()
            .filter(|(address, _)| reach(address) == Reach::Public);
        let results: Vec<bool> = public.map(|(_, reached)| *reached).collect();
        let in_vain = self
            .asked_since
            .is_some_and(|since| now.duration_since(since) > NOBODY_AFTER);
        if results.contains(&true) {
            Filtering::AddressDependent
        } else if !results.is_empty() || in_vain {
            Filtering::AddressAndPortDependent
        } else {
            Filtering::Unknown
        }
    }

    /// Addresses that somebody was asked to call, and whether that worked.
    pub(crate) fn probed(&self) -> &[(Multiaddr, bool)] {
        &self.probed
    }

    /// Public addresses under which this node is seen, without double ones.
    pub(crate) fn seen_at(&self) -> Vec<IpAddr> {
        let mut ips: Vec<IpAddr> = self.seen.values().flatten().map(|seen| seen.ip).collect();
        ips.sort_unstable();
        ips.dedup();
        ips
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    fn tcp(ip: &str, port: u16) -> Multiaddr {
        at(&format!("/ip4/{ip}/tcp/{port}"))
    }

    const HOME: &str = "/ip4/192.168.1.7/tcp/46337";

    fn mapping(seen: &[(&str, &str, u16)]) -> Mapping {
        let mut nat = Nat::default();
        for (peer, ip, port) in seen {
            nat.on_seen(&tcp(peer, 46337), &tcp(ip, *port));
        }
        nat.mapping(Transport::Tcp, &[at(HOME)])
    }

    #[test]
    fn a_mapping_is_concluded_from_what_two_peers_see() {
        assert_eq!(mapping(&[]), Mapping::Unknown);
        assert_eq!(mapping(&[("198.51.100.1", "203.0.113.9", 46337)]), Mapping::Unknown);
        let twice = [
            ("198.51.100.1", "203.0.113.9", 46337),
            ("198.51.100.2", "203.0.113.9", 46337),
        ];
        assert_eq!(mapping(&twice), Mapping::EndpointIndependent);
        let differ = [("198.51.100.1", "203.0.113.9", 1), ("198.51.100.2", "203.0.113.9", 2)];
        assert_eq!(mapping(&differ), Mapping::EndpointDependent);
        let kept_once = [
            ("198.51.100.1", "203.0.113.9", 1),
            ("198.51.100.2", "203.0.113.9", 46337),
        ];
        assert_eq!(mapping(&kept_once), Mapping::EndpointIndependent);
        let same_peer = [("198.51.100.1", "203.0.113.9", 1), ("198.51.100.1", "203.0.113.9", 2)];
        assert_eq!(
            mapping(&same_peer),
            Mapping::Unknown,
            "one peer says nothing of another's view"
        );
        assert_eq!(mapping(&[("198.51.100.1", "192.168.1.7", 46337)]), Mapping::None);
        let neighbours = [("192.168.1.1", "203.0.113.9", 1), ("192.168.1.2", "203.0.113.9", 2)];
        assert_eq!(mapping(&neighbours), Mapping::Unknown);
        let moved = [
            ("198.51.100.1", "203.0.113.8", 1),
            ("198.51.100.2", "203.0.113.9", 46337),
            ("198.51.100.3", "203.0.113.9", 46337),
        ];
        assert_eq!(mapping(&moved), Mapping::EndpointIndependent, "it was elsewhere before");
    }

    #[test]
    fn each_transport_is_for_itself() {
        let mut nat = Nat::default();
        for (peer, port) in [("198.51.100.1", 5), ("198.51.100.2", 6)] {
            nat.on_seen(&tcp(peer, 1), &tcp("203.0.113.9", 5));
            let udp = |ip: &str, port: u16| at(&format!("/ip4/{ip}/udp/{port}/quic-v1"));
            nat.on_seen(&udp(peer, 1), &udp("203.0.113.9", port));
        }
        let own = [at(HOME)];
        assert_eq!(nat.mapping(Transport::Tcp, &own), Mapping::EndpointIndependent);
        assert_eq!(nat.mapping(Transport::Quic, &own), Mapping::EndpointDependent);
        assert_eq!(nat.seen_at(), ["203.0.113.9".parse::<IpAddr>().unwrap()]);
    }

    #[tokio::test]
    async fn who_gets_in_is_concluded_from_who_did() {
        let (mut nat, now) = (Nat::default(), Instant::now());
        let later = now + NOBODY_AFTER * 2;
        nat.on_prober(&at(HOME), now);
        assert_eq!(
            nat.filtering(later),
            Filtering::Unknown,
            "a neighbour says nothing of the router"
        );
        nat.on_prober(&tcp("198.51.100.1", 1), now);
        assert_eq!(nat.filtering(now), Filtering::Unknown, "it has had no time to try");
        assert_eq!(
            nat.filtering(later),
            Filtering::AddressAndPortDependent,
            "it tries in vain"
        );
        let mut nat = Nat::default();
        assert_eq!(nat.filtering(now), Filtering::Unknown);
        nat.on_probed(&at(HOME), true);
        assert_eq!(
            nat.filtering(now),
            Filtering::Unknown,
            "a neighbour says nothing of the router"
        );
        nat.on_probed(&tcp("203.0.113.9", 46337), false);
        assert_eq!(nat.filtering(now), Filtering::AddressAndPortDependent);
        nat.on_probed(&tcp("203.0.113.9", 46337), true);
        assert_eq!(nat.filtering(now), Filtering::AddressDependent);
        nat.on_called(&tcp("192.168.1.3", 5), now);
        assert_eq!(nat.filtering(now), Filtering::AddressDependent);
        nat.on_seen(&tcp("198.51.100.1", 1), &tcp("203.0.113.9", 46337));
        nat.on_called(&tcp("198.51.100.1", 5), now);
        assert_eq!(
            nat.filtering(now),
            Filtering::AddressDependent,
            "this node has called it"
        );
        nat.on_called(&tcp("198.51.100.77", 5), now);
        assert_eq!(nat.filtering(now), Filtering::EndpointIndependent);
        nat.on_seen(&tcp("198.51.100.1", 1), &tcp("192.0.2.9", 46337));
        assert_eq!(nat.filtering(now), Filtering::Unknown, "it is elsewhere now");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut nat = Nat::default();
        for n in 0..100u8 {
            nat.on_seen(&tcp(&format!("198.51.100.{n}"), 1), &tcp("203.0.113.9", n.into()));
            nat.on_probed(&tcp("203.0.113.9", n.into()), n % 2 == 0);
        }
        assert_eq!(
            (nat.seen[&Transport::Tcp].len(), nat.probed().len()),
            (OBSERVERS, PROBES)
        );
    }
}

//! The network that an address lies in: what one party can easily have many addresses of.

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

use crate::peers::{Reach, reach};

/// Where a peer comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Subnet {
    /// An IPv4 /24.
    V4([u8; 3]),
    /// An IPv6 /48, which is what a site gets.
    V6([u8; 6]),
    /// No public address: a laboratory, a home, a relay. It is counted for itself.
    Alone(PeerId),
}

impl Subnet {
    /// The subnet of a public IP address.
    pub(crate) fn public(address: &Multiaddr) -> Option<Self> {
        if reach(address) < Reach::Public {
            return None;
        }
        let ip = match address.iter().next()? {
            Protocol::Ip6(ip) => ip.to_ipv4_mapped().map_or(Protocol::Ip6(ip), Protocol::Ip4),
            other => other,
        };
        match ip {
            Protocol::Ip4(ip) => {
                let [a, b, c, _] = ip.octets();
                Some(Self::V4([a, b, c]))
            }
            Protocol::Ip6(ip) => {
                let [a, b, c, d, e, f, ..] = ip.octets();
                Some(Self::V6([a, b, c, d, e, f]))
            }
            _ => None,
        }
    }

    /// Where a peer that is connected at `address` comes from.
    pub(crate) fn of(peer: PeerId, address: Option<&Multiaddr>) -> Self {
        address.and_then(Self::public).unwrap_or(Self::Alone(peer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_address_lies_in_its_network_and_others_stand_alone() {
        let subnet = |text: &str| Subnet::public(&text.parse().unwrap());
        assert_eq!(subnet("/ip4/203.0.114.7/tcp/1"), Some(Subnet::V4([203, 0, 114])));
        assert_eq!(
            subnet("/ip6/::ffff:203.0.114.9/tcp/1"),
            subnet("/ip4/203.0.114.7/udp/2/quic-v1")
        );
        assert_eq!(
            subnet("/ip6/2a01:4f8:1:2::3/tcp/1"),
            subnet("/ip6/2a01:4f8:1:ffff::1/tcp/9")
        );
        assert_ne!(subnet("/ip6/2a01:4f8:1::3/tcp/1"), subnet("/ip6/2a01:4f8:2::1/tcp/9"));
        for address in [
            "/ip4/127.0.0.1/tcp/1",
            "/ip4/10.0.0.1/tcp/1",
            "/dns/a.example/tcp/1",
            "/memory/1",
        ] {
            assert_eq!(subnet(address), None, "{address}");
        }
        let peer = PeerId::random();
        assert_eq!(Subnet::of(peer, None), Subnet::Alone(peer));
    }
}

//! Where a peer is, reduced to what is counted: how bytes travel, and from how far it can be reached.

use std::net::{Ipv4Addr, Ipv6Addr};

use infernet_protocol::wire_enum;
use serde::{Deserialize, Serialize};

wire_enum! {
    /// How bytes travel.
    pub enum Transport {
        /// It is not known.
        Unknown = 0 => "unknown",
        /// TCP, with Noise and Yamux.
        Tcp = 1 => "tcp",
        /// QUIC on UDP.
        Quic = 2 => "quic",
        /// Any other, such as WebSocket.
        Other = 3 => "other",
    }
}

wire_enum! {
    /// Whether a relay stands between.
    pub enum Path {
        /// It is not known.
        Unknown = 0 => "unknown",
        /// No.
        Direct = 1 => "direct",
        /// Yes.
        Relayed = 2 => "relayed",
    }
}

/// From how far an address can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reach {
    /// From everywhere: a public address or a name.
    Public,
    /// From its own network or machine.
    Private,
    /// Through a relay.
    Relayed,
}

impl Reach {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Private => "private",
            Self::Relayed => "relayed",
        }
    }
}

/// All that is kept of an address in public.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Place {
    /// How bytes travel.
    pub transport: Transport,
    /// From how far.
    pub reach: Reach,
}

impl Place {
    /// What a multiaddr, or a place that was written before, says; `None` to any other text.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        if !text.starts_with('/') {
            return Self::written(text);
        }
        let has = |name: &str| text.split('/').any(|part| part == name);
        let transport = if has("quic-v1") || has("quic") {
            Transport::Quic
        } else if has("ws") || has("wss") || has("webrtc-direct") || has("webtransport") {
            Transport::Other
        } else if has("tcp") {
            Transport::Tcp
        } else {
            Transport::Unknown
        };
        let reach = if has("p2p-circuit") {
            Reach::Relayed
        } else if is_public(text)? {
            Reach::Public
        } else {
            Reach::Private
        };
        Some(Self { transport, reach })
    }

    fn written(text: &str) -> Option<Self> {
        let (transport, reach) = text.split_once('/')?;
        let reach = [Reach::Public, Reach::Private, Reach::Relayed]
            .into_iter()
            .find(|known| known.as_str() == reach)?;
        Some(Self {
            transport: transport.parse().ok()?,
            reach,
        })
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.transport.as_str(), self.reach.as_str())
    }
}

impl From<Place> for String {
    fn from(place: Place) -> Self {
        place.to_string()
    }
}

impl TryFrom<String> for Place {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::of(&text).ok_or_else(|| format!("`{text}` is no place; write one as `tcp/public`"))
    }
}

/// Whether the host of a multiaddr can be reached from everywhere; `None` where it names no host.
fn is_public(text: &str) -> Option<bool> {
    let mut parts = text.split('/').skip(1);
    let (kind, host) = (parts.next()?, parts.next()?);
    match kind {
        "ip4" => host.parse().ok().map(|ip| is_public_v4(&ip)),
        "ip6" => host.parse().ok().map(|ip| is_public_v6(&ip)),
        "dns" | "dns4" | "dns6" | "dnsaddr" => Some(host != "localhost" && !host.ends_with(".local")),
        _ => None,
    }
}

fn is_public_v4(ip: &Ipv4Addr) -> bool {
    let [first, second, ..] = ip.octets();
    // RFC 6598: what a provider's own router hands out.
    let is_shared = first == 100 && (64..128).contains(&second);
    !(ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_unspecified() || is_shared)
}

fn is_public_v6(ip: &Ipv6Addr) -> bool {
    match ip.to_ipv4_mapped() {
        Some(ip) => is_public_v4(&ip),
        None => !(ip.is_loopback() || ip.is_unspecified() || ip.is_unique_local() || ip.is_unicast_link_local()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_reduced_to_how_and_how_far() {
        for (address, place) in [
            ("/ip4/203.0.113.7/tcp/46337", "tcp/public"),
            ("/ip4/192.168.1.7/udp/46337/quic-v1", "quic/private"),
            ("/ip4/100.64.0.9/tcp/1", "tcp/private"),
            ("/ip6/2001:db8::1/tcp/46337", "tcp/public"),
            ("/ip6/fe80::1/tcp/46337", "tcp/private"),
            ("/ip6/::ffff:10.0.0.1/tcp/46337", "tcp/private"),
            ("/dns4/relay.example.org/tcp/443/wss", "other/public"),
            ("/ip4/203.0.113.7/tcp/46337/p2p/16Uiu2/p2p-circuit", "tcp/relayed"),
            ("quic/relayed", "quic/relayed"),
        ] {
            assert_eq!(
                Place::of(address).map(|place| place.to_string()).as_deref(),
                Some(place),
                "{address}"
            );
        }
        for other in [
            "",
            "/",
            "/ip4",
            "/ip4/999.1.1.1/tcp/1",
            "/memory/1",
            "tcp/far",
            "somewhere",
        ] {
            assert_eq!(Place::of(other), None, "{other}");
        }
    }
}

//! Every bound that is kept against peers: its name, its value, and the reason. `specs/limits.md` is the same list for
//! people; `infernet peers limits` prints it with how often each was met.
//!
//! The shape is that of go-libp2p's resource manager: connections, streams, messages and bytes in time, by peer and by
//! protocol, and totals above them. What is sent is bounded below what is taken, so that an honest peer never meets a
//! bound of another.

mod limiter;
mod pace;
mod subnet;

use std::fmt::Write as _;

use crate::event::Counters;

pub(crate) use limiter::{Limiter, Within};
pub(crate) use pace::{Pace, Rate};
pub(crate) use subnet::Subnet;

/// Packets of gossip that one peer may send: each holds up to 17 KiB and is decoded before anything is known of it. A
/// mesh peer sends a few in a second, and some hundreds when it catches up: what it forwards and publishes, and as many
/// notes of what it need not be sent.
pub(crate) const GOSSIP_PACKETS: Rate = Rate::new(200, 1_000);

/// Messages that one peer sends again: an honest one sends a message once, and once more where it was asked for it while it
/// was under way.
pub(crate) const GOSSIP_REPEATS: Rate = Rate::new(4, 40);

/// Messages of one peer that came first through it. An honest one forwards no more than [`FORWARDED`] in all.
pub(crate) const GOSSIP_MESSAGES: Rate = Rate::new(120, 800);

/// Their bytes: at 2 KiB, which is more than a usual ad has, as many as the messages.
pub(crate) const GOSSIP_BYTES: Rate = Rate::new(240 * 1024, 2 * 1024 * 1024);

/// Messages of one peer that were not worth forwarding. Honest peers forward only what they found worth it themselves, and
/// differ from us where states or clocks do, and by the newcomers that either has room for: 20 a second, 200 at once.
pub(crate) const GOSSIP_IGNORED: Rate = Rate::new(40, 300);

/// Messages of others that this node forwards: more than ten thousand nodes say in a second (`specs/scale.md`), and below
/// what another takes from one peer, so that nobody who forwards a flood is taken for its source.
pub(crate) const FORWARDED: Rate = Rate::new(60, 500);

/// Messages of its own that this node publishes: an ad in half a minute, and offers, bids and receipts of a busy market.
pub(crate) const PUBLISHED: Rate = Rate::new(30, 250);

/// DHT packets of one peer, both its questions and its answers to ours: a lookup asks each peer once or twice.
pub(crate) const DHT_PACKETS: Rate = Rate::new(50, 1_000);

/// Exchanges that one peer may begin: an auction has one for each invited provider, and a buyer auctions for new models and
/// lost leases only.
pub(crate) const ASKS: Rate = Rate::new(200, 2_000);

/// Exchanges that this node begins with one peer: below what the other takes.
pub(crate) const ASKED: Rate = Rate::new(150, 1_500);

/// Times that one peer may tell anew who it is; it does so when its addresses change.
pub(crate) const IDENTIFICATIONS: Rate = Rate::new(1, 32);

/// Connections from one subnet (IPv4 /24, IPv6 /48) that others opened: a university or a provider of virtual machines,
/// and far from all that a node takes. Loopback and private networks are not counted.
pub(crate) const CONNECTIONS_PER_SUBNET: usize = 64;

/// New connections from one subnet.
pub(crate) const CONNECTIONS_FROM_SUBNET: Rate = Rate::new(10, 100);

/// Connected peers of a node beyond which those that nothing uses are let go of, and down to how many. Its meshes take two
/// dozen, direct streams are always kept, and the rest are strangers whose next bid comes without a handshake.
pub(crate) const PEERS_KEPT: usize = 128;
/// See [`PEERS_KEPT`].
pub(crate) const PEERS_LEFT: usize = 96;

/// Peers of one subnet in a routing table that is not small: whoever rents one network cannot fill it.
pub(crate) const TABLE_PER_SUBNET: usize = 3;

/// Provider records of one subnet under one key, of the [`RECORDS_PER_KEY`].
pub(crate) const RECORDS_PER_SUBNET: usize = 4;
/// Provider records kept for one key: a popular model is spread over sixteen keys besides.
pub(crate) const RECORDS_PER_KEY: usize = 32;
/// Provider records that one peer may have stored here: 256 models, each under its own key and a shard.
pub(crate) const RECORDS_PER_PEER: usize = 512;

/// Resident memory of the process in bytes, from which on no connection is taken: well above what a node at all its other
/// bounds needs, and below what small machines have.
pub(crate) const MEMORY: usize = 3 * 1024 * 1024 * 1024;

macro_rules! bounds {
    ($($variant:ident $name:literal $value:expr, $unit:literal;)*) => {
        /// A bound against peers.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Bound {
            $(#[doc = $name] $variant,)*
        }

        impl Bound {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its name, as in `specs/limits.md` and in metrics.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Its value, and how much of it may come at once where it is a rate.
            #[must_use]
            pub fn value(self) -> (u64, Option<u64>) {
                match self { $(Self::$variant => Value::from($value).0,)* }
            }

            /// What is counted.
            #[must_use]
            pub fn unit(self) -> &'static str {
                match self { $(Self::$variant => $unit,)* }
            }
        }
    };
}

/// A value as it is told.
struct Value((u64, Option<u64>));

impl From<Rate> for Value {
    fn from(rate: Rate) -> Self {
        Self((rate.per_second(), Some(rate.burst())))
    }
}

impl From<usize> for Value {
    fn from(value: usize) -> Self {
        Self((value as u64, None))
    }
}

bounds! {
    GossipPackets "gossip_packets" GOSSIP_PACKETS, "packets/s of a peer";
    GossipRepeats "gossip_repeats" GOSSIP_REPEATS, "messages/s of a peer";
    GossipMessages "gossip_messages" GOSSIP_MESSAGES, "messages/s of a peer";
    GossipBytes "gossip_bytes" GOSSIP_BYTES, "bytes/s of a peer";
    GossipIgnored "gossip_ignored" GOSSIP_IGNORED, "messages/s of a peer";
    Forwarded "forwarded" FORWARDED, "messages/s";
    Published "published" PUBLISHED, "messages/s";
    DhtPackets "dht_packets" DHT_PACKETS, "packets/s of a peer";
    Asks "asks" ASKS, "exchanges/s of a peer";
    Asked "asked" ASKED, "exchanges/s with a peer";
    Identifications "identifications" IDENTIFICATIONS, "times/s of a peer";
    ConnectionsPerSubnet "connections_per_subnet" CONNECTIONS_PER_SUBNET, "connections";
    ConnectionsFromSubnet "connections_from_subnet" CONNECTIONS_FROM_SUBNET, "connections/s of a subnet";
    PeersKept "peers_kept" PEERS_KEPT, "peers";
    TablePerSubnet "table_per_subnet" TABLE_PER_SUBNET, "peers";
    RecordsPerSubnet "records_per_subnet" RECORDS_PER_SUBNET, "records under a key";
    RecordsPerKey "records_per_key" RECORDS_PER_KEY, "records";
    RecordsPerPeer "records_per_peer" RECORDS_PER_PEER, "records";
    Memory "memory" MEMORY, "bytes";
}

/// How often each bound was met.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Hits([u64; Bound::ALL.len()]);

impl Hits {
    pub(crate) fn add(&mut self, bound: Bound) {
        self.0[bound as usize] += 1;
    }

    /// These, and the bans that came of them, in Prometheus' text form.
    #[must_use]
    pub fn to_prometheus(&self, counters: &Counters) -> String {
        let mut text = String::from(
            "# HELP infernet_limit_hits_total How often a bound against peers was met.\n\
             # TYPE infernet_limit_hits_total counter\n",
        );
        for bound in Bound::ALL {
            // Writing to a string does not fail.
            let _never = writeln!(
                text,
                "infernet_limit_hits_total{{limit=\"{}\"}} {}",
                bound.name(),
                self.of(*bound)
            );
        }
        let _never = write!(
            text,
            "# HELP infernet_bans_total Peers that were kept out for their conduct.\n\
             # TYPE infernet_bans_total counter\n\
             infernet_bans_total {}\n\
             # HELP infernet_peers_banned Peers that are kept out now.\n\
             # TYPE infernet_peers_banned gauge\n\
             infernet_peers_banned {}\n",
            counters.bans, counters.banned
        );
        text
    }

    /// All of these and those.
    #[must_use]
    pub(crate) fn and(mut self, others: &Self) -> Self {
        for (hits, more) in self.0.iter_mut().zip(others.0) {
            *hits += more;
        }
        self
    }

    /// How often one was.
    #[must_use]
    pub fn of(&self, bound: Bound) -> u64 {
        self.0[bound as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_for_people_has_every_bound_with_its_value() {
        let list = include_str!("../../../specs/limits.md");
        for bound in Bound::ALL {
            let (value, burst) = bound.value();
            let burst = burst.map_or("-".to_owned(), |burst| burst.to_string());
            let row = format!("| `{}` | {value} | {burst} | {} |", bound.name(), bound.unit());
            assert!(list.contains(&row), "specs/limits.md lacks: {row}");
        }
    }

    #[test]
    fn what_is_sent_stays_below_what_another_takes() {
        let sent = FORWARDED.per_second() + PUBLISHED.per_second();
        assert!(sent < GOSSIP_MESSAGES.per_second());
        assert!(FORWARDED.burst() + PUBLISHED.burst() < GOSSIP_MESSAGES.burst());
        assert!(ASKED.per_second() < ASKS.per_second() && ASKED.burst() < ASKS.burst());
        assert!(GOSSIP_MESSAGES.per_second() < GOSSIP_PACKETS.per_second());
    }

    #[test]
    fn every_bound_has_a_metric() {
        let counters = Counters {
            bans: 3,
            ..Counters::default()
        };
        let text = Hits::default().to_prometheus(&counters);
        for bound in Bound::ALL {
            assert!(text.contains(&format!(
                "\ninfernet_limit_hits_total{{limit=\"{}\"}} 0\n",
                bound.name()
            )));
        }
        assert!(text.contains("\ninfernet_bans_total 3\n") && text.ends_with("infernet_peers_banned 0\n"));
    }

    #[test]
    fn hits_are_counted_for_themselves() {
        let mut hits = Hits::default();
        hits.add(Bound::Asks);
        hits.add(Bound::Asks);
        assert_eq!((hits.of(Bound::Asks), hits.of(Bound::Memory)), (2, 0));
    }
}

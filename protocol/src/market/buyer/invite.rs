//! Who is invited: the best of those that are known, and some that are not.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::Prospect;
use crate::ids::NodeId;
use crate::market::Entropy;
use crate::market::choice::Rule;
use crate::names::{INVITED, INVITED_NEWCOMERS};
use crate::reputation::NEWCOMER_SCORE;

/// While fewer than this many providers are known to be good, one auction in `EXPLORE_EARLY` goes to a newcomer.
const KNOWN_FEW: usize = 4 * INVITED;
/// One auction in this many goes to a newcomer while few are known.
const EXPLORE_EARLY: usize = 2;
/// One auction in this many goes to a newcomer afterwards: 2.5% is what strangers' failures can cost.
const EXPLORE: usize = 40;

/// Whether this auction prefers newcomers, so that they can earn a history. Never where all are newcomers, or none.
pub(super) fn explores(prospects: &BTreeMap<NodeId, Prospect>, entropy: &mut Entropy) -> bool {
    let known = prospects
        .values()
        .filter(|prospect| prospect.standing.has_history)
        .count();
    let good = prospects
        .values()
        .filter(|prospect| prospect.standing.has_history && prospect.standing.score >= NEWCOMER_SCORE)
        .count();
    let one_in = if good < KNOWN_FEW { EXPLORE_EARLY } else { EXPLORE };
    known > 0 && known < prospects.len() && entropy.below(one_in) == 0
}

/// The signers to invite, at most K, from the best on. Those tried in an earlier round come last.
pub(super) fn choose(
    prospects: &BTreeMap<NodeId, Prospect>,
    rule: &Rule,
    tried: &BTreeSet<NodeId>,
    entropy: &mut Entropy,
) -> Vec<NodeId> {
    let admitted = || {
        prospects
            .iter()
            .filter(|(_, prospect)| rule.admits(&prospect.standing, prospect.trusted))
    };
    let last = |node: &NodeId, prospect: &Prospect| tried.contains(node) || prospect.standing.missed_lately;
    let mut known: Vec<_> = admitted()
        .filter(|(_, prospect)| prospect.standing.has_history)
        .collect();
    known.sort_by_key(|(node, prospect)| (last(node, prospect), Reverse(prospect.promised), **node));
    let mut newcomers: Vec<_> = admitted()
        .filter(|(_, prospect)| !prospect.standing.has_history)
        .collect();
    entropy.shuffle(&mut newcomers);
    newcomers.sort_by_key(|(node, prospect)| last(node, prospect));
    let (newcomers, neighbours) = spread(newcomers);

    // Newcomers get their share, then the known what is left of K, then whoever there is.
    let share = newcomers.len().min(INVITED_NEWCOMERS);
    let first_known = known.len().min(INVITED - share);
    let mut invited: Vec<NodeId> = known[..first_known].iter().map(|(node, _)| **node).collect();
    invited.extend(&newcomers[..share]);
    let rest = newcomers[share..]
        .iter()
        .copied()
        .chain(neighbours)
        .chain(known[first_known..].iter().map(|(node, _)| **node));
    for node in rest {
        if invited.len() >= INVITED {
            break;
        }
        invited.push(node);
    }
    invited
}

/// Keeps the first of each network, in order, and sets their neighbours aside: an operator with a thousand keys has
/// one network, and gets one of the places that are drawn.
fn spread(nodes: Vec<(&NodeId, &Prospect)>) -> (Vec<NodeId>, Vec<NodeId>) {
    let mut networks = BTreeSet::new();
    let (mut first, mut rest) = (Vec::new(), Vec::new());
    for (node, prospect) in nodes {
        let address = prospect.addresses.first().map_or("", |address| address.as_str());
        if networks.insert(network_of(address)) {
            first.push(*node);
        } else {
            rest.push(*node);
        }
    }
    (first, rest)
}

/// The /24 or /48 that a multiaddr is in; its host where it is a name.
fn network_of(address: &str) -> String {
    let mut parts = address.split('/').skip(1);
    let (kind, host) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
    match kind {
        "ip4" => host.rsplit_once('.').map_or(host, |(network, _)| network).to_owned(),
        "ip6" => match host.parse::<std::net::Ipv6Addr>() {
            Ok(ip) => format!("{:x}:{:x}:{:x}", ip.segments()[0], ip.segments()[1], ip.segments()[2]),
            Err(_) => host.to_owned(),
        },
        _ => host.to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_24_or_48_bits() {
        assert_eq!(
            network_of("/ip4/198.51.100.7/tcp/1"),
            network_of("/ip4/198.51.100.9/udp/2/quic-v1")
        );
        assert_ne!(
            network_of("/ip4/198.51.100.7/tcp/1"),
            network_of("/ip4/198.51.101.7/tcp/1")
        );
        assert_eq!(
            network_of("/ip6/2001:db8:1::5/tcp/1"),
            network_of("/ip6/2001:db8:1:2::1/tcp/1")
        );
        assert_ne!(
            network_of("/ip6/2001:db8:1::5/tcp/1"),
            network_of("/ip6/2001:db8:2::5/tcp/1")
        );
        assert_eq!(
            network_of("/dns4/Example.org/tcp/1"),
            network_of("/dns4/example.org/tcp/2")
        );
    }
}

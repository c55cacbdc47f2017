//! Findings about the way to the others, and theirs to this node.

use std::collections::BTreeMap;

use infernet_swarm::multiaddr::Protocol;
use infernet_swarm::{Filtering, Gateway, Mapping, Multiaddr, Reached, Situation};

use super::{Finding, State};

/// Addresses that are named before the rest is counted.
const NAMED: usize = 3;

/// So many of something.
fn counted(count: usize, what: &str) -> String {
    match count {
        1 => format!("one {what}"),
        count => format!("{count} {what}s"),
    }
}

/// What a system says, without its number.
fn without_number(why: &str) -> String {
    match why.split_once(" (os error ") {
        Some((before, after)) => format!("{before}{}", after.split_once(')').map_or("", |(_, rest)| rest)),
        None => why.to_owned(),
    }
}

/// Why each of some addresses or lists led nowhere, in a sentence.
fn reasons(failed: &[(String, String)], limit: usize) -> String {
    let told = failed.iter().take(limit).map(|(what, why)| {
        // What was dialled stands at the beginning of the reason already, mostly; a system's number says nothing to people.
        let why = why.strip_prefix(&format!("`{what}` ")).unwrap_or(why);
        format!("`{what}`: {}", without_number(why))
    });
    let rest = match failed.len().saturating_sub(limit) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    told.collect::<Vec<_>>().join("; ") + &rest
}

/// Whether it has joined.
pub(super) fn network(situation: &Situation, lists: &BTreeMap<String, Option<String>>) -> Finding {
    let of_lists = lists
        .iter()
        .filter_map(|(list, why)| Some((list.clone(), why.clone()?)));
    let addresses = situation.joins.iter().filter(|join| !join.connected).map(|join| {
        let why = join.why.as_deref().unwrap_or("it has not answered yet");
        (join.address.to_string(), why.to_owned())
    });
    let failed: Vec<(String, String)> = of_lists.chain(addresses).collect();
    match situation.peers {
        0 if failed.is_empty() => Finding::new("network", State::Wrong, "it is connected to nobody")
            .because("no address to join by is known")
            .cure("name one: `--bootstrap ADDRESS`, or `p2p.bootstrap` in `config.toml`"),
        0 => Finding::new("network", State::Wrong, "it is connected to nobody")
            .because(reasons(&failed, NAMED))
            .cure(cure_of_failures(&reasons(&failed, usize::MAX))),
        peers => {
            let through = match situation.relayed {
                0 => String::new(),
                relayed => format!(", {relayed} of them through relays"),
            };
            let found = format!("it is connected to {}{through}", counted(peers, "peer"));
            match failed.is_empty() {
                true => Finding::new("network", State::Well, found),
                false => Finding::new("network", State::Note, found)
                    .because(format!(
                        "not all that it was told to join by answers: {}",
                        reasons(&failed, NAMED)
                    ))
                    .cure("one that answers is enough; leave the others out, or check them"),
            }
        }
    }
}

fn cure_of_failures(why: &str) -> &'static str {
    let why = why.to_lowercase();
    let is = |word: &str| why.contains(word);
    if is("cannot read") || is("holds no") {
        "repair the list, or name another with `--bootstrap`"
    } else if is("refused") {
        "nobody listens there: check the address, or name another with `--bootstrap`"
    } else if is("unreachable") {
        "this machine has no way there: check its own connection to the Internet"
    } else if is("resolve") || is("lookup") || is("look up") || is("dns") {
        "the name is not known: check it, and whether this machine can look up names at all"
    } else if is("answered there") {
        "another node has moved there: get the address anew from whoever runs it"
    } else {
        "nothing comes back: allow outgoing TCP and UDP to any port in the firewall, or name another with `--bootstrap`"
    }
}

/// What a mapping is called.
pub(super) fn mapping_name(mapping: Mapping) -> &'static str {
    match mapping {
        Mapping::None => "none",
        Mapping::EndpointIndependent => "endpoint-independent",
        Mapping::EndpointDependent => "endpoint-dependent",
        Mapping::Unknown => "unknown",
    }
}

/// What a filter is called.
pub(super) fn filtering_name(filtering: Filtering) -> &'static str {
    match filtering {
        Filtering::EndpointIndependent => "endpoint-independent",
        Filtering::AddressDependent => "address-dependent",
        Filtering::AddressAndPortDependent => "address-and-port-dependent",
        Filtering::Unknown => "unknown",
    }
}

/// The better of the two transports: what one can do is done by it.
fn mapping(situation: &Situation) -> Mapping {
    match (situation.tcp, situation.quic) {
        (Mapping::None, _) | (_, Mapping::None) => Mapping::None,
        (Mapping::EndpointIndependent, _) | (_, Mapping::EndpointIndependent) => Mapping::EndpointIndependent,
        (Mapping::EndpointDependent, _) | (_, Mapping::EndpointDependent) => Mapping::EndpointDependent,
        (Mapping::Unknown, Mapping::Unknown) => Mapping::Unknown,
    }
}

/// What stands in between.
pub(super) fn nat(situation: &Situation) -> Finding {
    if situation.outbound_only {
        return Finding::new("NAT", State::Note, "not looked for: this node tells nobody where it is");
    }
    let filter = match situation.filtering {
        Filtering::EndpointIndependent => "anybody gets in",
        Filtering::AddressDependent => "others get in, at least those that this node has talked to",
        Filtering::AddressAndPortDependent => "nobody gets in whom this node has not called",
        Filtering::Unknown => "whether others get in has not been tried",
    };
    let seen = situation
        .seen_at
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ");
    match mapping(situation) {
        Mapping::None => Finding::new(
            "NAT",
            State::Well,
            format!("none: others see this machine's own address; {filter}"),
        ),
        Mapping::EndpointIndependent => Finding::new(
            "NAT",
            State::Well,
            format!("mapping is endpoint-independent: all others see this node at the same port of {seen}; {filter}"),
        ),
        Mapping::EndpointDependent => Finding::new(
            "NAT",
            State::Note,
            format!("mapping is endpoint-dependent (symmetric): each peer sees another port of {seen}; {filter}"),
        )
        .because(
            "the router gives each connection a port of its own, so that no peer can tell another where this node is",
        ),
        Mapping::Unknown if situation.seen_at.is_empty() => Finding::new(
            "NAT",
            State::Note,
            "not known: no peer outside this network has said what it sees",
        ),
        Mapping::Unknown => Finding::new(
            "NAT",
            State::Note,
            format!("others see {seen}; two peers at different addresses are needed to tell more, and {filter}"),
        ),
    }
}

/// How others reach it, in a word.
pub(super) fn reached(situation: &Situation) -> &'static str {
    match situation.reached {
        Reached { directly: true, .. } => "directly",
        Reached { relays: 1.., .. } => "through relays",
        Reached { .. } => "not",
    }
}

fn named(addresses: &[Multiaddr]) -> String {
    let named: Vec<String> = addresses.iter().take(NAMED).map(ToString::to_string).collect();
    let rest = match addresses.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{}{rest}", named.join(", "))
}

/// The port on which it listens, for whoever is to open it.
fn port(situation: &Situation) -> String {
    let port = situation.listen.iter().find_map(|address| {
        address.iter().find_map(|part| match part {
            Protocol::Tcp(port) | Protocol::Udp(port) => Some(port),
            _ => None,
        })
    });
    port.map_or("the node's port".to_owned(), |port| format!("port {port}"))
}

/// How others reach it, and what would be better.
pub(super) fn reachable(situation: &Situation, sells: bool) -> Finding {
    if situation.outbound_only {
        return match situation.reached.relays {
            0 if !situation.wants_relays => {
                Finding::new("reached", State::Well, "by nobody, which who only buys need not be")
            }
            0 => Finding::new(
                "reached",
                State::Wrong,
                "it holds a place on no relay, so that nobody reaches it",
            )
            .because("the peers that it was told to join by do not relay, or have no room")
            .cure("join by a bootstrap node: `--bootstrap ADDRESS`"),
            relays => Finding::new(
                "reached",
                State::Well,
                format!("through {}, as it is meant to be", counted(relays, "relay")),
            ),
        };
    }
    if reached(situation) == "directly" {
        let found = match situation.external.as_slice() {
            [] => "directly: others come in".to_owned(),
            external => format!("directly, at {}", named(external)),
        };
        return Finding::new("reached", State::Well, found);
    }
    let port = port(situation);
    let (cause, cure) = match mapping(situation) {
        _ if situation.gateway == Gateway::NotPublic => (
            "the router has no public address itself: the provider shares one among its customers".to_owned(),
            "forwarding a port does not help: ask the provider for a public address, or use IPv6".to_owned(),
        ),
        Mapping::None => (
            "a firewall on this machine, or before it, lets nobody in".to_owned(),
            format!("open {port} for incoming TCP and UDP"),
        ),
        Mapping::Unknown if situation.probed.is_empty() => (
            "nobody has tried yet whether it can be reached".to_owned(),
            "wait a little; a bootstrap node tries it".to_owned(),
        ),
        Mapping::EndpointDependent => (
            "the router gives each connection another port, so that a direct way is found only to peers with an open port"
                .to_owned(),
            format!("forward {port} (TCP and UDP) to this machine in the router, or switch UPnP on there"),
        ),
        Mapping::EndpointIndependent | Mapping::Unknown => (
            "the router lets in only whom this node has called; a direct way is found to most peers all the same".to_owned(),
            format!("forward {port} (TCP and UDP) to this machine in the router, or switch UPnP on there"),
        ),
    };
    let punched = match situation.punched {
        (0, 0) => String::new(),
        (punched, failed) => format!("; a direct way was found {punched} times, and {failed} times not"),
    };
    let finding = match situation.reached.relays {
        0 => {
            let found = "others cannot begin a connection with it, directly or through a relay";
            match sells {
                true => Finding::new("reached", State::Wrong, found),
                false => Finding::new("reached", State::Note, format!("{found}; who only buys needs neither")),
            }
        }
        relays => Finding::new(
            "reached",
            State::Note,
            format!("through {}{punched}", counted(relays, "relay")),
        ),
    };
    finding.because(cause).cure(cure)
}

/// What the router says, where it was asked.
pub(super) fn router(situation: &Situation) -> Option<Finding> {
    let (state, found) = match &situation.gateway {
        Gateway::NotAsked => return None,
        Gateway::NotFound => (State::Note, "none answers to UPnP".to_owned()),
        Gateway::NotPublic => (State::Note, "it answers to UPnP, and has no public address".to_owned()),
        Gateway::Opened(address) => (State::Well, format!("it has opened {address}")),
    };
    Some(Finding::new("router", state, found))
}

use std::net::IpAddr;

use infernet_swarm::{Filtering, Gateway, Joined, Mapping, Multiaddr, Reached, Situation};

use super::*;

/// What is different in a case.
type Change<T> = fn(&mut T);

fn at(text: &str) -> Multiaddr {
    text.parse().unwrap()
}

/// A node at home that has joined, behind a router that lets nobody in.
fn at_home() -> Situation {
    Situation {
        listen: vec![
            at("/ip4/192.168.1.7/tcp/46337"),
            at("/ip4/192.168.1.7/udp/46337/quic-v1"),
        ],
        external: Vec::new(),
        probed: vec![(at("/ip4/203.0.113.9/tcp/46337"), false)],
        seen_at: vec![IpAddr::from([203, 0, 113, 9])],
        tcp: Mapping::EndpointIndependent,
        quic: Mapping::EndpointIndependent,
        filtering: Filtering::AddressAndPortDependent,
        gateway: Gateway::NotFound,
        reached: Reached {
            directly: false,
            relays: 2,
        },
        wants_relays: true,
        outbound_only: false,
        joins: vec![joined(None)],
        peers: 7,
        relayed: 1,
        punched: (3, 0),
    }
}

fn joined(why: Option<&str>) -> Joined {
    Joined {
        address: at("/ip4/198.51.100.1/tcp/46337"),
        connected: why.is_none(),
        why: why.map(str::to_owned),
    }
}

fn facts(situation: Situation) -> Facts {
    Facts {
        situation,
        clock_ahead_ms: Some(120),
        lists: BTreeMap::new(),
        twin: None,
        serves: Some(vec!["llama3.2".to_owned()]),
        free: Some(1 << 40),
    }
}

fn found(facts: &Facts, about: &str) -> Finding {
    let found = findings(facts).into_iter().find(|finding| finding.about == about);
    found.unwrap_or_else(|| panic!("nothing about {about}"))
}

/// Everything that a finding says.
fn says(finding: &Finding) -> String {
    [Some(&finding.found), finding.cause.as_ref(), finding.cure.as_ref()]
        .into_iter()
        .flatten()
        .cloned()
        .collect::<Vec<_>>()
        .join(" | ")
}

#[test]
fn behind_a_usual_router_it_is_reached_through_relays_and_told_how_to_do_better() {
    let facts = facts(at_home());
    let nat = found(&facts, "NAT");
    assert_eq!(nat.state, State::Well);
    assert!(
        says(&nat).contains("endpoint-independent") && says(&nat).contains("203.0.113.9"),
        "{nat:?}"
    );
    let reached = found(&facts, "reached");
    assert_eq!(reached.state, State::Note);
    let told = says(&reached);
    for word in ["2 relays", "3 times", "lets in only", "forward port 46337", "UPnP"] {
        assert!(told.contains(word), "{word}: {told}");
    }
    let all = to_json(&facts);
    assert_eq!(
        (&all["reached"], &all["nat"]["mapping_tcp"]),
        (&json!("through relays"), &json!("endpoint-independent"))
    );
    assert_eq!(all["nat"]["filtering"], "address-and-port-dependent");
    assert!(findings(&facts).iter().all(|finding| finding.state != State::Wrong));
}

#[test]
fn each_kind_of_way_has_its_cause_and_cure() {
    let cases: [(&str, Change<Situation>, State, &str, &str); 8] = [
        (
            "symmetric",
            |s| (s.tcp, s.quic) = (Mapping::EndpointDependent, Mapping::EndpointDependent),
            State::Note,
            "each connection another port",
            "forward port 46337",
        ),
        (
            "one transport is better than the other",
            |s| s.quic = Mapping::EndpointDependent,
            State::Note,
            "lets in only",
            "forward port 46337",
        ),
        (
            "carrier-grade",
            |s| s.gateway = Gateway::NotPublic,
            State::Note,
            "shares one among its customers",
            "IPv6",
        ),
        (
            "firewall",
            |s| (s.tcp, s.quic, s.reached.relays) = (Mapping::None, Mapping::None, 0),
            State::Wrong,
            "firewall",
            "open port 46337",
        ),
        (
            "nobody has tried",
            |s| (s.tcp, s.quic, s.reached.relays, s.probed) = (Mapping::Unknown, Mapping::Unknown, 0, Vec::new()),
            State::Wrong,
            "nobody has tried",
            "wait",
        ),
        (
            "open",
            |s| (s.reached.directly, s.external) = (true, vec![at("/ip4/203.0.113.9/tcp/46337")]),
            State::Well,
            "directly, at /ip4/203.0.113.9/tcp/46337",
            "",
        ),
        (
            "outbound only, and it only buys",
            |s| (s.outbound_only, s.reached.relays, s.wants_relays) = (true, 0, false),
            State::Well,
            "which who only buys need not be",
            "",
        ),
        (
            "outbound only, and no relay has room",
            |s| (s.outbound_only, s.reached.relays) = (true, 0),
            State::Wrong,
            "do not relay",
            "--bootstrap",
        ),
    ];
    for (name, change, state, cause, cure) in cases {
        let mut situation = at_home();
        change(&mut situation);
        let reached = found(&facts(situation), "reached");
        let told = says(&reached);
        assert_eq!(reached.state, state, "{name}: {told}");
        assert!(told.contains(cause) && told.contains(cure), "{name}: {told}");
    }
}

#[test]
fn a_network_that_is_not_joined_says_why() {
    let cases = [
        ("connection refused", "nobody listens there"),
        ("Network is unreachable", "its own connection"),
        ("failed to lookup address", "look up names"),
        ("`16Uiu2HAm` answered there", "another node has moved there"),
        ("timeout", "allow outgoing TCP and UDP"),
    ];
    for (why, cure) in cases {
        let mut situation = at_home();
        (situation.peers, situation.joins) = (0, vec![joined(Some(why))]);
        let network = found(&facts(situation), "network");
        assert_eq!(network.state, State::Wrong);
        let told = says(&network);
        assert!(
            told.contains(why) && told.contains("198.51.100.1") && told.contains(cure),
            "{told}"
        );
    }
    let mut situation = at_home();
    (situation.peers, situation.joins) = (0, Vec::new());
    assert!(says(&found(&facts(situation), "network")).contains("--bootstrap"));
    let mut situation = at_home();
    situation.joins.push(joined(Some("timeout")));
    let network = found(&facts(situation), "network");
    assert_eq!(network.state, State::Note);
    assert!(says(&network).contains("one that answers is enough"));

    let mut lost = facts(at_home());
    (lost.situation.peers, lost.situation.joins) = (0, Vec::new());
    let why = "cannot read `/missing` (No such file or directory (os error 2)): repair it".to_owned();
    lost.lists = [("file:/missing".to_owned(), Some(why))].into();
    let told = says(&found(&lost, "network"));
    assert!(
        told.contains("`file:/missing`: cannot read `/missing` (No such file or directory): repair it")
            && told.contains("repair the list"),
        "{told}"
    );
    assert_eq!(found(&lost, "key").state, State::Note, "nobody is there who could tell");
}

#[test]
fn clocks_keys_engines_and_disks_are_looked_at() {
    let well = facts(at_home());
    for about in ["network", "clock", "key", "engine", "disk"] {
        assert_eq!(found(&well, about).state, State::Well, "{about}");
    }
    let cases: [(&str, Change<Facts>, State, &str); 9] = [
        ("clock", |f| f.clock_ahead_ms = Some(7_400), State::Note, "7 s ahead of"),
        (
            "clock",
            |f| f.clock_ahead_ms = Some(-61_000),
            State::Wrong,
            "61 s behind",
        ),
        (
            "clock",
            |f| f.clock_ahead_ms = Some(-61_000),
            State::Wrong,
            "takes them for the same",
        ),
        ("clock", |f| f.clock_ahead_ms = None, State::Note, "too few others"),
        (
            "key",
            |f| f.twin = Some(vec!["/ip4/203.0.113.5/tcp/1".to_owned()]),
            State::Wrong,
            "203.0.113.5",
        ),
        ("key", |f| f.twin = Some(Vec::new()), State::Wrong, "somewhere"),
        ("engine", |f| f.serves = Some(Vec::new()), State::Wrong, "OLLAMA_HOST"),
        ("disk", |f| f.free = Some(100 << 20), State::Wrong, "100 MiB"),
        ("disk", |f| f.free = Some(1 << 30), State::Note, "1024 MiB"),
    ];
    for (about, change, state, word) in cases {
        let mut facts = facts(at_home());
        change(&mut facts);
        let finding = found(&facts, about);
        let told = says(&finding);
        assert!(finding.state == state && told.contains(word), "{about}, {word}: {told}");
        // Whatever is wrong comes with something to do.
        assert!(state != State::Wrong || finding.cure.is_some(), "{told}");
    }
    let consumer = Facts { serves: None, ..well };
    assert!(findings(&consumer).iter().all(|finding| finding.about != "engine"));
}

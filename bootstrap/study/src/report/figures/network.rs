//! Of the network: how peers are reached, what they run and speak, and who knows whom.

use std::collections::BTreeMap;

use super::super::Names;
use super::super::chart::{self, Bar};
use super::super::collect::Collector;
use super::super::topology::{self, Picture};
use super::{Section, Table, number, percent};
use crate::crawl::{Reachable, Row};
use crate::place::{Path, Place, Reach, Transport};

/// Rows of a chart; the table has more.
const CHARTED: usize = 12;

pub(in super::super) fn reach(recording: Option<&Collector>, crawl: Option<&[Row]>) -> Section {
    const NAME: &str = "Reachability";
    match (crawl, recording) {
        (Some(rows), _) => of_crawl(rows),
        (None, Some(held)) if !held.peers.is_empty() || !held.providers.is_empty() => of_recording(held),
        _ => Section::empty(
            "reach",
            NAME,
            "How peers are reached.",
            "neither a crawl nor a peer was recorded",
        ),
    }
}

fn of_crawl(rows: &[Row]) -> Section {
    let all = rows.len() as u64;
    let mut table = Table::new(&[("reached", false), ("why not", false), ("peers", true), ("share", true)]);
    let mut bars = Vec::new();
    for (which, class, name) in [
        (Reachable::Yes, "s1", "directly"),
        (Reachable::Relayed, "s2", "through a relay"),
        (Reachable::No, "s3", "not at all"),
    ] {
        let of: Vec<&Row> = rows.iter().filter(|row| row.reachable == which).collect();
        let count = of.len() as u64;
        bars.push(Bar {
            name: name.to_owned(),
            parts: vec![(class, count as f64, format!("{} peers {name}", number(count)))],
            value: format!("{} ({})", number(count), percent(count, all)),
        });
        let mut reasons: BTreeMap<&str, u64> = BTreeMap::new();
        for row in &of {
            *reasons.entry(row.reason.as_deref().unwrap_or_default()).or_default() += 1;
        }
        for (reason, count) in reasons {
            table.row([name.to_owned(), reason.to_owned(), number(count), percent(count, all)]);
        }
    }
    let mut kinds: BTreeMap<Place, u64> = BTreeMap::new();
    rows.iter()
        .flat_map(|row| row.addresses.keys())
        .for_each(|place| *kinds.entry(*place).or_default() += 1);
    for (place, count) in kinds {
        table.row([
            format!("has an address {place}"),
            String::new(),
            number(count),
            percent(count, all),
        ]);
    }
    let (table, cut) = table.first();
    Section {
        id: "reach",
        name: "Reachability",
        about: "How the crawler reached the peers that it found.".to_owned(),
        svg: Some(chart::bars("Peers by how they were reached", &bars)),
        notes: cut.into_iter().collect(),
        table,
        ..Section::default()
    }
}

/// What providers say of where they are, and how the recorder is connected.
fn of_recording(held: &Collector) -> Section {
    let (mut direct, mut relayed, mut private, mut none) = (0, 0, 0, 0);
    for ad in held
        .providers
        .values()
        .map(|provider| &provider.ad)
        .filter(|ad| !ad.models.is_empty())
    {
        let places: Vec<Place> = ad
            .addresses
            .iter()
            .filter_map(|address| Place::of(address.as_str()))
            .collect();
        let has = |reach| places.iter().any(|place| place.reach == reach);
        match () {
            () if has(Reach::Public) => direct += 1,
            () if has(Reach::Relayed) => relayed += 1,
            () if has(Reach::Private) => private += 1,
            () => none += 1,
        }
    }
    let mut table = Table::new(&[("who", false), ("how", false), ("count", true)]);
    let mut bars = Vec::new();
    for (class, name, count) in [
        ("s1", "public address", direct),
        ("s2", "through a relay", relayed),
        ("s4", "private address", private),
        ("s3", "no address", none),
    ] {
        bars.push(Bar {
            name: name.to_owned(),
            parts: vec![(class, count as f64, format!("{} providers: {name}", number(count)))],
            value: number(count),
        });
        table.row(["provider's ad".to_owned(), name.to_owned(), number(count)]);
    }
    let mut met: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for peer in held.peers.values() {
        let (path, transport) = (
            peer.path.unwrap_or(Path::Unknown),
            peer.transport.unwrap_or(Transport::Unknown),
        );
        *met.entry((path.as_str(), transport.as_str())).or_default() += 1;
    }
    for ((path, transport), count) in met {
        table.row([
            "recorder's peer".to_owned(),
            format!("{path}, {transport}"),
            number(count),
        ]);
    }
    Section {
        id: "reach",
        name: "Reachability",
        about: "Where providers say that they are reached, by their last ads. No crawl says whether it is so."
            .to_owned(),
        svg: Some(chart::bars("Providers by how they say that they are reached", &bars)),
        table,
        ..Section::default()
    }
}

pub(in super::super) fn agents(recording: Option<&Collector>, crawl: Option<&[Row]>, names: &Names) -> Section {
    const ABOUT: &str = "Programs and versions, as peers name them.";
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    let mut count = |agent: Option<&str>| {
        let agent = agent.map_or_else(|| "not said".to_owned(), |agent| names.agent(agent));
        *counts.entry(agent).or_default() += 1;
    };
    let whose = match (crawl, recording) {
        (Some(rows), _) => {
            rows.iter().for_each(|row| count(row.agent.as_deref()));
            "peers of the crawl"
        }
        (None, Some(held)) => {
            held.peers
                .values()
                .for_each(|met| count(met.agent.as_ref().map(|agent| agent.as_str())));
            "peers of the recorder"
        }
        (None, None) => "nobody",
    };
    let all: u64 = counts.values().sum();
    if all == 0 {
        return Section::empty("agents", "Programs and versions", ABOUT, "no peer was recorded");
    }
    let mut ranked: Vec<(String, u64)> = counts.into_iter().collect();
    ranked.sort_by(|left, right| (right.1, &left.0).cmp(&(left.1, &right.0)));
    let mut table = Table::new(&[("program", false), ("peers", true), ("share", true)]);
    for (agent, count) in &ranked {
        table.row([agent.clone(), number(*count), percent(*count, all)]);
    }
    let (table, cut) = table.first();
    let bar = |(agent, count): &(String, u64)| Bar {
        name: agent.clone(),
        parts: vec![("s1", *count as f64, format!("{agent}: {} peers", number(*count)))],
        value: format!("{} ({})", number(*count), percent(*count, all)),
    };
    let bars: Vec<Bar> = ranked.iter().take(CHARTED).map(bar).collect();
    Section {
        id: "agents",
        name: "Programs and versions",
        about: format!("{ABOUT} Counted are {whose}."),
        svg: Some(chart::bars("Peers by program", &bars)),
        notes: cut.into_iter().collect(),
        table,
        ..Section::default()
    }
}

pub(in super::super) fn protocols(crawl: Option<&[Row]>) -> Section {
    const ABOUT: &str = "Protocols that the peers of the crawl speak.";
    let Some(rows) = crawl else {
        return Section::empty("protocols", "Protocols", ABOUT, "there is no crawl");
    };
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for protocol in rows.iter().flat_map(|row| &row.protocols) {
        *counts.entry(protocol).or_default() += 1;
    }
    if counts.is_empty() {
        return Section::empty("protocols", "Protocols", ABOUT, "no peer said what it speaks");
    }
    let mut ranked: Vec<(&str, u64)> = counts.into_iter().collect();
    ranked.sort_by_key(|(protocol, count)| (u64::MAX - count, *protocol));
    let mut table = Table::new(&[("protocol", false), ("peers", true), ("share", true)]);
    for (protocol, count) in &ranked {
        table.row([
            (*protocol).to_owned(),
            number(*count),
            percent(*count, rows.len() as u64),
        ]);
    }
    let (table, cut) = table.first();
    let bar = |(protocol, count): &(&str, u64)| Bar {
        name: (*protocol).to_owned(),
        parts: vec![("s1", *count as f64, format!("{protocol}: {} peers", number(*count)))],
        value: number(*count),
    };
    let bars: Vec<Bar> = ranked.iter().take(CHARTED).map(bar).collect();
    Section {
        id: "protocols",
        name: "Protocols",
        about: ABOUT.to_owned(),
        svg: Some(chart::bars("Peers by protocol", &bars)),
        notes: cut.into_iter().collect(),
        table,
        ..Section::default()
    }
}

pub(in super::super) fn topology(recording: Option<&Collector>, crawl: Option<&[Row]>, names: &Names) -> Section {
    const NAME: &str = "Topology";
    let (picture, about) = match (crawl, recording) {
        (Some(rows), _) => (
            topology::of_crawl(rows, names),
            "Peers of the crawl; a line where one of two has the other in its routing table.",
        ),
        (None, Some(held)) => (
            topology::of_recording(held, names),
            "Ways by which messages came: from each signer over the peer that handed most of them over first.",
        ),
        (None, None) => (None, "Who knows whom."),
    };
    let Some(Picture {
        svg,
        legend,
        peers,
        edges,
        hubs,
        note,
    }) = picture
    else {
        return Section::empty("topology", NAME, about, "neither a crawl nor gossip was recorded");
    };
    let mut table = Table::new(&[("peer", false), ("what it is", false), ("neighbours", true)]);
    for (name, what, degree) in hubs {
        table.row([name, what.to_owned(), number(degree as u64)]);
    }
    let mut notes = vec![format!(
        "{} nodes, {} lines.",
        number(peers as u64),
        number(edges as u64)
    )];
    notes.extend(note);
    Section {
        id: "topology",
        name: NAME,
        about: about.to_owned(),
        legend,
        svg: Some(svg),
        notes,
        table,
        is_wide: true,
        ..Section::default()
    }
}

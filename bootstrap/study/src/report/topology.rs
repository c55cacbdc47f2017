//! Who knows whom, laid out by forces: neighbours pull, all others push. The same graph is drawn alike each time.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::collect::Collector;
use super::page::escape;
use super::{Names, chart};
use crate::crawl::{Reachable, Row};
use crate::place::Path;
use crate::record::Peer;

/// Peers that are drawn: more are a cloud to the eye, and a second to the layout.
const NODES: usize = 300;
/// Lines that are drawn.
const EDGES: usize = 1_500;
/// Peers that are named in the picture, those with most neighbours.
const NAMED: usize = 6;
/// Rounds of the layout; it hardly moves after two thirds of them.
const ROUNDS: u32 = 240;
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 460.0;

/// A peer in the picture.
#[derive(Clone, Debug)]
struct Node {
    class: &'static str,
    what: &'static str,
    name: String,
}

/// A picture, and what it leaves out.
#[derive(Clone, Debug)]
pub(super) struct Picture {
    pub(super) svg: String,
    pub(super) legend: Vec<(&'static str, &'static str)>,
    pub(super) peers: usize,
    pub(super) edges: usize,
    /// Most connected peers: name, what it is, neighbours.
    pub(super) hubs: Vec<(String, &'static str, usize)>,
    pub(super) note: Option<String>,
}

/// Of a crawl: a line where one of two names the other in its routing table.
pub(super) fn of_crawl(rows: &[Row], names: &Names) -> Option<Picture> {
    let mut nodes: BTreeMap<&Peer, Node> = BTreeMap::new();
    let mut edges = BTreeSet::new();
    for row in rows {
        let (class, what) = match row.reachable {
            Reachable::Yes => ("s1", "reached directly"),
            Reachable::Relayed => ("s2", "reached through a relay"),
            Reachable::No => ("s3", "not reached"),
        };
        let name = names.show(&row.peer);
        nodes.insert(&row.peer, Node { class, what, name });
    }
    for row in rows {
        for other in row.neighbours.iter().filter(|other| **other != row.peer) {
            nodes.entry(other).or_insert_with(|| Node {
                class: "s0",
                what: "named by others alone",
                name: names.show(other),
            });
            edges.insert((row.peer.clone().min(other.clone()), row.peer.clone().max(other.clone())));
        }
    }
    draw("Peers and who is in whose routing table", nodes, &edges)
}

/// Of a recording: from each signer to the peer that was the first to hand over most of its messages, and from there to
/// the recorder.
pub(super) fn of_recording(recording: &Collector, names: &Names) -> Option<Picture> {
    let mut best: BTreeMap<&Peer, (&Peer, u64)> = BTreeMap::new();
    for ((signer, source), count) in &recording.paths {
        let held = best.entry(signer).or_insert((source, 0));
        if *count > held.1 {
            *held = (source, *count);
        }
    }
    if best.is_empty() {
        return None;
    }
    let recorder = Peer::new(b"recorder")?;
    let mut nodes: BTreeMap<&Peer, Node> = BTreeMap::new();
    nodes.insert(
        &recorder,
        Node {
            class: "s0",
            what: "the recorder",
            name: "recorder".to_owned(),
        },
    );
    let mut edges = BTreeSet::new();
    let path = |peer: &Peer| recording.peers.get(peer).and_then(|met| met.path);
    for (signer, (source, _)) in &best {
        for peer in [*signer, *source] {
            let (class, what) = match (recording.peers.contains_key(peer), path(peer)) {
                (true, Some(Path::Relayed)) => ("s2", "connected through a relay"),
                (true, _) => ("s1", "connected"),
                (false, _) => ("s3", "not connected"),
            };
            let name = names.show(peer);
            nodes.entry(peer).or_insert(Node { class, what, name });
        }
        edges.insert((recorder.clone(), (*source).clone()));
        if signer != source {
            edges.insert(((*source).clone(), (*signer).clone()));
        }
    }
    draw("Ways by which messages came to the recorder first", nodes, &edges)
}

fn draw(title: &str, nodes: BTreeMap<&Peer, Node>, edges: &BTreeSet<(Peer, Peer)>) -> Option<Picture> {
    if nodes.is_empty() {
        return None;
    }
    let mut degrees: BTreeMap<&Peer, usize> = nodes.keys().map(|peer| (*peer, 0)).collect();
    for peer in edges.iter().flat_map(|(from, to)| [from, to]) {
        degrees.entry(peer).and_modify(|degree| *degree += 1);
    }
    let mut order: Vec<(&Peer, usize)> = degrees.iter().map(|(peer, degree)| (*peer, *degree)).collect();
    order.sort_by_key(|(peer, degree)| (usize::MAX - degree, *peer));
    let (peers, all_edges) = (order.len(), edges.len());
    order.truncate(NODES);
    let index: BTreeMap<&Peer, usize> = order
        .iter()
        .enumerate()
        .map(|(index, (peer, _))| (*peer, index))
        .collect();
    let drawn: Vec<(usize, usize)> = edges
        .iter()
        .filter_map(|(from, to)| Some((*index.get(from)?, *index.get(to)?)))
        .take(EDGES)
        .collect();
    let is_cut = order.len() < peers || drawn.len() < all_edges;
    let note = is_cut.then(|| {
        let (nodes, lines) = (order.len(), drawn.len());
        format!("Drawn are the {nodes} of {peers} peers with most neighbours, and {lines} of {all_edges} lines.")
    });
    let nodes: Vec<(Node, usize)> = order
        .iter()
        .filter_map(|(peer, degree)| Some((nodes.get(peer)?.clone(), *degree)))
        .collect();
    let mut legend: Vec<(&'static str, &'static str)> = nodes.iter().map(|(node, _)| (node.class, node.what)).collect();
    legend.sort_unstable();
    legend.dedup();
    Some(Picture {
        svg: render(title, &nodes, &drawn),
        legend,
        peers,
        edges: all_edges,
        hubs: nodes
            .iter()
            .take(10)
            .map(|(node, degree)| (node.name.clone(), node.what, *degree))
            .collect(),
        note,
    })
}

fn render(title: &str, nodes: &[(Node, usize)], edges: &[(usize, usize)]) -> String {
    let places = layout(nodes.len(), edges);
    let title = escape(title);
    // Few lines may be stronger than many.
    let sparse = if edges.len() < 2 * nodes.len() { " sparse" } else { "" };
    let mut svg =
        format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\" class=\"graph{sparse}\">");
    for (from, to) in edges {
        let ((x1, y1), (x2, y2)) = (places[*from], places[*to]);
        let _never = write!(svg, "<path class=\"edge\" d=\"M{x1:.0} {y1:.0}L{x2:.0} {y2:.0}\"/>");
    }
    let most = nodes.iter().map(|(_, degree)| *degree).max().unwrap_or(1).max(1);
    for ((node, degree), (x, y)) in nodes.iter().zip(&places) {
        let radius = 3.5 + 6.5 * (*degree as f64 / most as f64).sqrt();
        let (class, what, name) = (node.class, node.what, escape(&node.name));
        let plural = if *degree == 1 { "neighbour" } else { "neighbours" };
        let _never = write!(
            svg,
            "<circle class=\"node {class}\" cx=\"{x:.0}\" cy=\"{y:.0}\" r=\"{radius:.1}\">\
             <title>{name}: {what}, {degree} {plural}</title></circle>"
        );
    }
    let mut named: Vec<(f64, f64)> = Vec::new();
    for ((node, degree), (x, y)) in nodes.iter().zip(&places).filter(|((_, degree), _)| *degree > 2) {
        // A name over a name could not be read.
        let is_near = |(other_x, other_y): &(f64, f64)| (x - other_x).abs() < 90.0 && (y - other_y).abs() < 20.0;
        if named.len() >= NAMED || named.iter().any(is_near) {
            continue;
        }
        named.push((*x, *y));
        let above = y - 6.0 - 6.5 * (*degree as f64 / most as f64).sqrt();
        let name = escape(&chart::cut(&node.name, 12));
        let _never = write!(
            svg,
            "<text class=\"tick middle halo\" x=\"{x:.0}\" y=\"{above:.0}\">{name}</text>"
        );
    }
    svg.push_str("</svg>");
    svg
}

/// The layout of Fruchterman and Reingold (1991), from a spiral, so that it needs no chance.
fn layout(nodes: usize, edges: &[(usize, usize)]) -> Vec<(f64, f64)> {
    let ideal = 0.75 * (WIDTH * HEIGHT / nodes.max(1) as f64).sqrt();
    let mut places: Vec<(f64, f64)> = (0..nodes)
        .map(|index| {
            // The golden angle spreads any number of them evenly.
            let (angle, radius) = (
                index as f64 * 2.399_963_229_728_653,
                ((index as f64 + 0.5) / nodes as f64).sqrt(),
            );
            (radius * angle.cos() * WIDTH / 2.2, radius * angle.sin() * HEIGHT / 2.2)
        })
        .collect();
    for round in 0..ROUNDS {
        let mut forces = vec![(0.0_f64, 0.0_f64); nodes];
        for one in 0..nodes {
            for other in one + 1..nodes {
                let (dx, dy) = (places[one].0 - places[other].0, places[one].1 - places[other].1);
                let square = (dx * dx + dy * dy).max(0.01);
                let push = ideal * ideal / square;
                forces[one] = (forces[one].0 + dx * push, forces[one].1 + dy * push);
                forces[other] = (forces[other].0 - dx * push, forces[other].1 - dy * push);
            }
        }
        for (one, other) in edges {
            let (dx, dy) = (places[*one].0 - places[*other].0, places[*one].1 - places[*other].1);
            let pull = (dx * dx + dy * dy).sqrt() / ideal;
            forces[*one] = (forces[*one].0 - dx * pull, forces[*one].1 - dy * pull);
            forces[*other] = (forces[*other].0 + dx * pull, forces[*other].1 + dy * pull);
        }
        let step = WIDTH / 12.0 * (1.0 - f64::from(round) / f64::from(ROUNDS));
        for (place, force) in places.iter_mut().zip(&forces) {
            // To the middle, a little, or parts that nothing holds would drift away.
            let (fx, fy) = (force.0 - place.0 * 0.9, force.1 - place.1 * 1.3);
            let length = (fx * fx + fy * fy).sqrt().max(0.01);
            let moved = length.min(step);
            *place = (place.0 + fx / length * moved, place.1 + fy / length * moved);
        }
    }
    into_view(places)
}

/// Stretches places to fill the view.
fn into_view(places: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    let bounds = |of: &dyn Fn(&(f64, f64)) -> f64| {
        let values = places.iter().map(of);
        let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), value| {
            (low.min(value), high.max(value))
        });
        (low, (high - low).max(1.0))
    };
    let ((left, width), (top, height)) = (bounds(&|place| place.0), bounds(&|place| place.1));
    let margin = 22.0;
    let (across, down) = ((WIDTH - 2.0 * margin) / width, (HEIGHT - 2.0 * margin) / height);
    // Stretched to the shape of the picture, but not out of its own.
    let (across, down) = (across.min(down * 1.6), down.min(across * 1.6));
    let (left_margin, top_margin) = ((WIDTH - width * across) / 2.0, (HEIGHT - height * down) / 2.0);
    places
        .iter()
        .map(|(x, y)| ((x - left) * across + left_margin, (y - top) * down + top_margin))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::Pseudonyms;
    use crate::synthetic;

    #[test]
    fn a_graph_is_drawn_alike_each_time_and_within_its_picture() {
        let edges: Vec<(usize, usize)> = (1..40).map(|node| (node / 3, node)).collect();
        let places = layout(40, &edges);
        assert_eq!(places, layout(40, &edges));
        assert!(
            places
                .iter()
                .all(|(x, y)| (0.0..=WIDTH).contains(x) && (0.0..=HEIGHT).contains(y))
        );
        let apart = |one: &(f64, f64), other: &(f64, f64)| (one.0 - other.0).hypot(one.1 - other.1);
        for (index, one) in places.iter().enumerate() {
            assert!(
                places[index + 1..].iter().all(|other| apart(one, other) > 4.0),
                "{index}"
            );
        }
    }

    #[test]
    fn a_large_crawl_is_cut_and_says_so() {
        let names = Names::Hidden(Pseudonyms::with_key([1; 32]));
        let picture = of_crawl(&synthetic::crawl(400, 1), &names).unwrap();
        assert_eq!(picture.peers, 400);
        assert_eq!(picture.svg.matches("<circle").count(), NODES);
        assert!(picture.note.unwrap().starts_with("Drawn are the 300 of 400 peers"));
        assert!(of_crawl(&[], &names).is_none());
    }
}

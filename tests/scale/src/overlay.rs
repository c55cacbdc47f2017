//! Connections, and the meshes on them.
//!
//! A node opens half of its connections, to peers drawn from all: those that lookups in the DHT led it to. It is also
//! connected with two bootstrap peers. GRAFT and PRUNE take effect at once.

use crate::node::Link;
use crate::setup::gossip::{BACKOFF, CREDIT, MESH, MESH_HIGH, MESH_LOW, MESH_OUTBOUND};
use crate::setup::node::BOOTSTRAPS;
use crate::wire::TOPICS;
use crate::world::World;

impl World {
    /// Connects all nodes, in random order.
    pub(crate) fn link_all(&mut self) {
        let nodes: Vec<u32> = (0..).take(self.setup.nodes).collect();
        let full = self.degree + 1 >= self.setup.nodes;
        let mut pairs: Vec<(u32, u32)> = Vec::new();
        for node in &nodes {
            if full {
                pairs.extend(nodes.iter().filter(|other| *other > node).map(|other| (*node, *other)));
                continue;
            }
            pairs.extend(self.bootstraps_of(*node).map(|bootstrap| (*node, bootstrap)));
            for _ in 0..self.degree / 2 {
                pairs.push((*node, nodes[self.rng.index(nodes.len())]));
            }
        }
        let count = pairs.len();
        for (from, to) in self.rng.some(&pairs, count) {
            self.link(from, to);
        }
    }

    /// The bootstrap peers of a node, one in each half of a network that is parted.
    pub(crate) fn bootstraps_of(&self, node: u32) -> impl Iterator<Item = u32> + use<> {
        let all = u32::try_from(self.setup.bootstraps()).unwrap_or(1);
        (0..)
            .take(BOOTSTRAPS)
            .map(move |number| (node + number) % all)
            .filter(move |bootstrap| *bootstrap != node)
    }

    /// Connects two nodes. Who needs peers in its mesh takes the other in.
    pub(crate) fn link(&mut self, from: u32, to: u32) -> bool {
        if from == to || self.nodes[from as usize].is_linked(to) || !self.reaches(from, to) {
            return false;
        }
        self.nodes[from as usize].links.push(Link {
            peer: to,
            outbound: true,
        });
        self.nodes[to as usize].links.push(Link {
            peer: from,
            outbound: false,
        });
        for topic in 0..TOPICS {
            for (one, other) in [(from, to), (to, from)] {
                if self.nodes[one as usize].mesh[topic].len() < MESH_LOW {
                    self.graft(one, other, topic);
                }
            }
        }
        true
    }

    /// One node takes the other into its mesh and asks it to do the same.
    fn graft(&mut self, from: u32, to: u32, topic: usize) {
        let size = self.wire.graft(topic);
        let (one, other) = self.two(from, to);
        if one.mesh[topic].contains(&to) {
            return;
        }
        one.sent.control[topic] += u64::from(size);
        other.received.control[topic] += u64::from(size);
        let outbound = other.links.iter().any(|link| link.peer == from && link.outbound);
        let takes = other.score(from) >= 0 && (other.mesh[topic].len() < MESH_HIGH || outbound);
        if takes {
            one.mesh[topic].push(to);
            if !other.mesh[topic].contains(&from) {
                other.mesh[topic].push(from);
            }
        } else {
            let until = self.now + BACKOFF;
            self.nodes[from as usize].backoff.push((topic, to, until));
        }
    }

    fn prune(&mut self, from: u32, to: u32, topic: usize) {
        let size = u64::from(self.wire.graft(topic));
        let until = self.now + BACKOFF;
        let (one, other) = self.two(from, to);
        for (node, peer) in [(&mut *one, to), (&mut *other, from)] {
            node.mesh[topic].retain(|it| *it != peer);
            node.backoff.push((topic, peer, until));
        }
        one.sent.control[topic] += size;
        other.received.control[topic] += size;
    }

    fn two(&mut self, one: u32, other: u32) -> (&mut crate::node::Node, &mut crate::node::Node) {
        let (low, high) = (one.min(other) as usize, one.max(other) as usize);
        let (left, right) = self.nodes.split_at_mut(high);
        if one < other {
            (&mut left[low], &mut right[0])
        } else {
            (&mut right[0], &mut left[low])
        }
    }

    /// Keeps a mesh within its bounds.
    pub(crate) fn keep_mesh(&mut self, node: u32, topic: usize) {
        let own = &self.nodes[node as usize];
        let bad: Vec<u32> = match own.offenders.is_empty() {
            true => Vec::new(),
            false => own.mesh[topic]
                .iter()
                .copied()
                .filter(|peer| own.score(*peer) < 0)
                .collect(),
        };
        for peer in bad {
            self.prune(node, peer, topic);
        }
        let held = self.nodes[node as usize].mesh[topic].len();
        if held < MESH_LOW {
            self.graft_some(node, topic, MESH - held, false);
        }
        let own = &self.nodes[node as usize];
        if own.mesh[topic].len() >= MESH_HIGH {
            let mut mesh = own.mesh[topic].clone();
            let count = mesh.len();
            mesh = self.rng.some(&mesh, count);
            let outbound = |world: &Self, peer: u32| {
                world.nodes[node as usize]
                    .links
                    .iter()
                    .any(|link| link.peer == peer && link.outbound)
            };
            let mut opened = mesh.iter().filter(|peer| outbound(self, **peer)).count();
            let mut excess = count - MESH;
            for peer in mesh {
                let is_opened = outbound(self, peer);
                if excess > 0 && !(is_opened && opened <= MESH_OUTBOUND) {
                    opened -= usize::from(is_opened);
                    excess -= 1;
                    self.prune(node, peer, topic);
                }
            }
        }
        let own = &self.nodes[node as usize];
        if own.mesh[topic].len() >= MESH_LOW {
            let opened = |peer: &&u32| own.links.iter().any(|link| link.peer == **peer && link.outbound);
            let opened = own.mesh[topic].iter().filter(opened).count();
            if opened < MESH_OUTBOUND {
                self.graft_some(node, topic, MESH_OUTBOUND - opened, true);
            }
        }
        let now = self.now;
        self.nodes[node as usize].backoff.retain(|(_, _, until)| *until > now);
    }

    fn graft_some(&mut self, node: u32, topic: usize, count: usize, outbound: bool) {
        let own = &self.nodes[node as usize];
        let able = own.links.iter().filter(|link| {
            (link.outbound || !outbound)
                && !own.mesh[topic].contains(&link.peer)
                && own.score(link.peer) >= 0
                && !own.backs_off(topic, link.peer, self.now)
        });
        let able: Vec<u32> = able.map(|link| link.peer).collect();
        for peer in self.rng.some(&able, count) {
            self.graft(node, peer, topic);
        }
    }

    /// Closes all connections of a node.
    pub(crate) fn unlink_all(&mut self, node: u32) {
        for link in std::mem::take(&mut self.nodes[node as usize].links) {
            self.nodes[link.peer as usize].unlink(node);
        }
        self.nodes[node as usize].mesh = Default::default();
    }
}

const _: () = assert!(CREDIT >= 0, "who did nothing wrong is taken into a mesh");

//! What the simulation knows of one node.

use std::collections::{HashMap, VecDeque};

use crate::judge::Judge;
use crate::setup::gossip::{CREDIT, HISTORY, REJECTS};
use crate::setup::node::{FORWARDED, FORWARDED_AT_ONCE};
use crate::wire::TOPICS;

/// A connection, as one end sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    pub(crate) peer: u32,
    /// Whether this end opened it.
    pub(crate) outbound: bool,
}

/// Bytes of one node by what they were for, in the time that is measured.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Traffic {
    /// Messages, by topic.
    pub(crate) data: [u64; TOPICS],
    /// What tells of messages and keeps the mesh, by topic.
    pub(crate) control: [u64; TOPICS],
    /// How many messages, by topic, each copy counted.
    pub(crate) copies: [u64; TOPICS],
}

/// A node.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) up: bool,
    pub(crate) hostile: bool,
    /// Which half it is in while the network is parted.
    pub(crate) side: u8,
    pub(crate) joined: u64,
    pub(crate) links: Vec<Link>,
    pub(crate) mesh: [Vec<u32>; TOPICS],
    /// Messages accepted in the last heartbeats, newest first.
    pub(crate) history: VecDeque<[Vec<u32>; TOPICS]>,
    /// Messages that wait for their judgement, and who sent each meanwhile.
    pub(crate) pending: HashMap<u32, Vec<u32>>,
    /// What was asked for, until when.
    pub(crate) asked: HashMap<u32, u64>,
    /// Peers that sent what was rejected, and how often.
    pub(crate) offenders: Vec<(u32, u32)>,
    /// Peers that are not grafted before a time, by topic.
    pub(crate) backoff: Vec<(usize, u32, u64)>,
    /// Microseconds at which its core and its line are free.
    pub(crate) core: u64,
    pub(crate) line: u64,
    pub(crate) judge: Judge,
    /// What it may still forward, in thousandths of a message, and when that was counted.
    pub(crate) forwards: (u64, u64),
    /// Number of its last ad.
    pub(crate) ads: u16,
    pub(crate) sent: Traffic,
    pub(crate) received: Traffic,
}

impl Node {
    pub(crate) fn new(judge: Judge, hostile: bool, side: u8) -> Self {
        Self {
            up: false,
            hostile,
            side,
            joined: 0,
            links: Vec::new(),
            mesh: Default::default(),
            history: VecDeque::from(vec![Default::default(); HISTORY]),
            pending: HashMap::new(),
            asked: HashMap::new(),
            offenders: Vec::new(),
            backoff: Vec::new(),
            core: 0,
            line: 0,
            judge,
            forwards: (FORWARDED_AT_ONCE * 1_000, 0),
            ads: 0,
            sent: Traffic::default(),
            received: Traffic::default(),
        }
    }

    pub(crate) fn is_linked(&self, peer: u32) -> bool {
        self.links.iter().any(|link| link.peer == peer)
    }

    /// Whether one more message of others may be forwarded.
    pub(crate) fn may_forward(&mut self, now: u64) -> bool {
        let (left, since) = self.forwards;
        let left = (left + (now - since) * FORWARDED).min(FORWARDED_AT_ONCE * 1_000);
        let may = left >= 1_000;
        self.forwards = (if may { left - 1_000 } else { left }, now);
        may
    }

    /// What it thinks of a peer: the most credit that there is, less the square of what was rejected.
    pub(crate) fn score(&self, peer: u32) -> i64 {
        let rejected = self
            .offenders
            .iter()
            .find(|(it, _)| *it == peer)
            .map_or(0, |(_, count)| *count);
        CREDIT - i64::from(rejected).pow(2)
    }

    /// Holds a rejected message against a peer.
    pub(crate) fn blame(&mut self, peer: u32) {
        match self.offenders.iter_mut().find(|(it, _)| *it == peer) {
            Some((_, count)) => *count = (*count + 1).min(REJECTS),
            None => self.offenders.push((peer, 1)),
        }
    }

    pub(crate) fn backs_off(&self, topic: usize, peer: u32, now: u64) -> bool {
        self.backoff
            .iter()
            .any(|(on, it, until)| *on == topic && *it == peer && *until > now)
    }

    /// Lets go of a peer.
    pub(crate) fn unlink(&mut self, peer: u32) {
        self.links.retain(|link| link.peer != peer);
        for mesh in &mut self.mesh {
            mesh.retain(|it| *it != peer);
        }
    }
}

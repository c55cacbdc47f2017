//! Messages from node to node: published to all connections, judged, forwarded in the mesh, named to some others, and
//! asked for by those who lack them.

use infernet_protocol::market::worker::Via;

use crate::judge::Verdict;
use crate::message::What;
use crate::setup::gossip::{
    FOLLOW_UP, FORWARD_WITHIN, HEARTBEAT, HISTORY, LAZY, NAMED, NO_GOSSIP, NO_PUBLISH, NOT_HEARD, PUBLISH_WITHIN,
};
use crate::setup::node::{JUDGE, QUEUE, UPLINK};
use crate::wire::TOPICS;
use crate::world::{Event, World};

/// IHAVE or IWANT.
#[derive(Debug)]
pub(crate) struct Ids {
    pub(crate) to: u32,
    pub(crate) from: u32,
    pub(crate) messages: Vec<u32>,
}

impl World {
    /// Puts bytes on a node's line; when the last of them has left, or null where that is too late.
    fn line(&mut self, from: u32, bytes: u32, within: u64) -> Option<u64> {
        if self.setup.loopback {
            return Some(0);
        }
        let node = &mut self.nodes[from as usize];
        let begins = node.line.max(self.now * 1_000);
        let waits = begins / 1_000 - self.now;
        if waits > within {
            self.tally.line_drops += 1;
            return None;
        }
        node.line = begins + u64::from(bytes) * 1_000 / UPLINK;
        Some(waits)
    }

    fn send(&mut self, from: u32, to: u32, message: u32, within: u64) {
        let (topic, size) = {
            let message = &self.messages[message as usize];
            (message.topic, self.wire.data(message.topic, message.size))
        };
        let Some(waits) = self.line(from, size, within) else {
            return;
        };
        let sent = &mut self.nodes[from as usize].sent;
        sent.data[topic] += u64::from(size);
        sent.copies[topic] += 1;
        if self.reaches(from, to) {
            let at = self.now + waits + self.way(from, to);
            self.wheel.put(at, Event::Deliver { to, from, message });
        }
    }

    /// Publishes a message of a node's own to all its connections.
    pub(crate) fn publish(&mut self, node: u32, message: u32) {
        let topic = self.messages[message as usize].topic;
        self.messages[message as usize].seen.put(node);
        let own = &mut self.nodes[node as usize];
        own.history[0][topic].push(message);
        let peers: Vec<u32> = own
            .links
            .iter()
            .map(|link| link.peer)
            .filter(|peer| own.score(*peer) > NO_PUBLISH)
            .collect();
        for peer in peers {
            self.send(node, peer, message, PUBLISH_WITHIN);
        }
    }

    pub(crate) fn on_deliver(&mut self, to: u32, from: u32, number: u32) {
        let message = &mut self.messages[number as usize];
        let node = &mut self.nodes[to as usize];
        if !node.up {
            return;
        }
        let topic = message.topic;
        node.received.data[topic] += u64::from(self.wire.data(topic, message.size));
        node.received.copies[topic] += 1;
        message.copies += 1;
        if !node.offenders.is_empty() && node.score(from) < NOT_HEARD {
            return;
        }
        if !message.seen.put(to) {
            if let Some(sources) = node.pending.get_mut(&number) {
                sources.push(from);
            }
            return;
        }
        let begins = node.core.max(self.now * 1_000);
        if begins - self.now * 1_000 > QUEUE * JUDGE {
            self.tally.queue_drops += 1;
            return;
        }
        node.core = begins + JUDGE;
        let at = node.core.div_ceil(1_000);
        node.pending.insert(number, vec![from]);
        self.wheel.put(
            at,
            Event::Judged {
                node: to,
                message: number,
            },
        );
    }

    pub(crate) fn on_judged(&mut self, to: u32, number: u32) {
        let now = self.instant();
        let node = &mut self.nodes[to as usize];
        let Some(sources) = node.pending.remove(&number) else {
            return;
        };
        if !node.up {
            return;
        }
        let message = &self.messages[number as usize];
        let offer = match &message.what {
            What::Bid(_, offer, _) | What::Rest(_, offer, _) => Some(&self.messages[*offer as usize]),
            _ => None,
        };
        let signer = self.population.node(message.author);
        let verdict = node.judge.judge(number, message, offer, &signer, now);
        match verdict {
            Verdict::Accept => {}
            Verdict::Ignore => return,
            Verdict::Reject => {
                node.blame(sources[0]);
                self.tally.blamed += u64::from(!self.nodes[sources[0] as usize].hostile);
                return;
            }
        }
        let topic = message.topic;
        self.messages[number as usize].on_taken(to, self.now);
        // A hostile node keeps to itself what it hears.
        let node = &mut self.nodes[to as usize];
        let may = node.may_forward(self.now);
        self.tally.not_forwarded += u64::from(!may);
        if may && !node.hostile {
            node.history[0][topic].push(number);
            let peers: Vec<u32> = node.mesh[topic]
                .iter()
                .copied()
                .filter(|peer| !sources.contains(peer))
                .collect();
            for peer in peers {
                self.send(to, peer, number, FORWARD_WITHIN);
            }
        }
        self.on_news(to, number);
    }

    fn on_news(&mut self, node: u32, number: u32) {
        match &self.messages[number as usize].what {
            What::Offer(_) => self.on_offer_heard(node, number, Via::Gossip),
            What::Bid(bid, offer, _) => {
                let (bid, offer) = (bid.clone(), *offer);
                self.on_bid_heard(node, offer, bid);
            }
            _ => {}
        }
    }

    pub(crate) fn on_heartbeat(&mut self, node: u32) {
        if !self.nodes[node as usize].up {
            return;
        }
        for topic in 0..TOPICS {
            self.keep_mesh(node, topic);
            if !self.nodes[node as usize].hostile {
                self.name_messages(node, topic);
            }
        }
        let now = self.now;
        let own = &mut self.nodes[node as usize];
        own.asked.retain(|_, until| *until > now);
        own.history.truncate(HISTORY - 1);
        own.history.push_front(Default::default());
        self.wheel.put(self.now + HEARTBEAT, Event::Heartbeat(node));
    }

    /// Tells some peers outside the mesh what was accepted lately.
    fn name_messages(&mut self, node: u32, topic: usize) {
        let own = &self.nodes[node as usize];
        let ids: Vec<u32> = own
            .history
            .iter()
            .take(NAMED)
            .flat_map(|beat| beat[topic].iter().copied())
            .collect();
        if ids.is_empty() {
            return;
        }
        let others: Vec<u32> = own
            .links
            .iter()
            .map(|link| link.peer)
            .filter(|peer| !own.mesh[topic].contains(peer))
            .filter(|peer| own.offenders.is_empty() || own.score(*peer) > NO_GOSSIP)
            .collect();
        let count = LAZY.max(others.len() * self.setup.lazy_share / 100);
        // What has been everywhere is named too, but nobody will ask for it.
        let open: Vec<u32> = ids
            .iter()
            .copied()
            .filter(|id| !self.messages[*id as usize].is_everywhere())
            .collect();
        let size = self.wire.have(topic, ids.len());
        for peer in self.rng.some(&others, count) {
            let Some(waits) = self.line(node, size, FORWARD_WITHIN) else {
                continue;
            };
            self.nodes[node as usize].sent.control[topic] += u64::from(size);
            if !self.reaches(node, peer) {
                continue;
            }
            self.nodes[peer as usize].received.control[topic] += u64::from(size);
            // Nothing is ever unseen, so what it has now it will have when it hears of it.
            let lacks = open
                .iter()
                .copied()
                .filter(|id| !self.messages[*id as usize].seen.has(peer));
            let messages: Vec<u32> = lacks.collect();
            if !messages.is_empty() {
                let at = self.now + waits + self.way(node, peer);
                self.wheel.put(
                    at,
                    Event::Have(Box::new(Ids {
                        to: peer,
                        from: node,
                        messages,
                    })),
                );
            }
        }
    }

    pub(crate) fn on_have(&mut self, ids: &Ids) {
        let Ids { to, from, messages } = ids;
        let own = &self.nodes[*to as usize];
        if !own.up || own.score(*from) < NO_GOSSIP {
            return;
        }
        let asks = messages
            .iter()
            .copied()
            .filter(|id| !self.messages[*id as usize].seen.has(*to) && !own.asked.contains_key(id));
        let messages: Vec<u32> = asks.collect();
        if messages.is_empty() {
            return;
        }
        let topic = self.messages[messages[0] as usize].topic;
        let size = self.wire.want(messages.len());
        let Some(waits) = self.line(*to, size, FORWARD_WITHIN) else {
            return;
        };
        let until = self.now + FOLLOW_UP;
        let own = &mut self.nodes[*to as usize];
        own.asked.extend(messages.iter().map(|id| (*id, until)));
        own.sent.control[topic] += u64::from(size);
        if self.reaches(*to, *from) {
            let at = self.now + waits + self.way(*to, *from);
            self.wheel.put(
                at,
                Event::Want(Box::new(Ids {
                    to: *from,
                    from: *to,
                    messages,
                })),
            );
        }
    }

    pub(crate) fn on_want(&mut self, ids: &Ids) {
        let Ids { to, from, messages } = ids;
        let own = &mut self.nodes[*to as usize];
        if !own.up {
            return;
        }
        let held = |id: &u32| {
            own.history
                .iter()
                .any(|beat| beat.iter().any(|topic| topic.contains(id)))
        };
        let messages: Vec<u32> = messages.iter().copied().filter(held).collect();
        if let Some(first) = messages.first() {
            let topic = self.messages[*first as usize].topic;
            self.nodes[*to as usize].received.control[topic] += u64::from(self.wire.want(messages.len()));
        }
        for message in messages {
            self.send(*to, *from, message, FORWARD_WITHIN);
        }
    }
}

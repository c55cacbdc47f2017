//! What the node asks for.

use bytes::Bytes;
use libp2p::gossipsub::{self, IdentTopic, MessageAcceptance, MessageId};
use libp2p::swarm::DialError as SwarmDialError;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::{Multiaddr, PeerId};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{AskReply, DialReply, EventLoop, READY_WAITERS};
use crate::conduct::Offence;
use crate::error::{AskError, DhtError, DialError, OpenError, PublishError, describe_dial};
use crate::event::Verdict;
use crate::exchange::Exchange;
use crate::gossip::MAX_GOSSIP;
use crate::handle::Command;

/// Exchanges that we have under way at once; an auction has eight.
const ASKS: usize = 1024;

/// Peers being dialled for a caller at once.
const DIALS: usize = 256;

/// Peers that are kept out; the oldest is let in again when another comes.
const BLOCKED: usize = 4096;

impl EventLoop {
    pub(super) fn on_command(&mut self, command: Command) {
        match command {
            Command::Publish { topic, data, reply } => {
                let _gone = reply.send(self.publish(topic, data));
            }
            Command::Judge { id, verdict } => self.judge(&id, verdict),
            Command::Dial { peer, addresses, reply } => self.dial(peer, addresses, reply),
            Command::Ask {
                exchange,
                peer,
                addresses,
                request,
                reply,
            } => {
                self.ask(exchange, peer, addresses, request, reply);
            }
            Command::Answer {
                exchange,
                channel,
                answer,
            } => {
                if self
                    .swarm
                    .behaviour_mut()
                    .exchange(exchange)
                    .send_response(channel, answer)
                    .is_ok()
                {
                    self.counters.asks_answered += 1;
                }
            }
            Command::Open { peer, addresses, reply } => {
                let addresses = self.permitted(self.peers.addresses(&peer, addresses));
                self.counters.streams_opened += 1;
                match self.swarm.behaviour_mut().streams.as_mut() {
                    Some(streams) => streams.open(peer, addresses, reply),
                    None => drop(reply.send(Err(OpenError::NotInThisRole))),
                }
            }
            // To store a record anywhere it would have to ask strangers: such a node is found by its ad.
            Command::Provide { reply, .. } if self.outbound_only => drop(reply.send(Ok(()))),
            Command::Providers { reply, .. } if self.outbound_only => drop(reply.send(Err(DhtError::NoPeers))),
            Command::Provide { digest, reply } => {
                let _gone = reply.send(self.dht.provide(&mut self.swarm.behaviour_mut().kad, digest));
            }
            Command::StopProviding { digest } => {
                self.dht.stop_providing(&mut self.swarm.behaviour_mut().kad, &digest);
            }
            Command::Providers { digest, reply } => {
                self.dht.look_up(&mut self.swarm.behaviour_mut().kad, &digest, reply);
            }
            Command::TryOwn { address, reply } => self.try_own(&address, reply),
            Command::Join { addresses } => self.join.tell(&addresses, Instant::now()),
            Command::RefreshTable { reply } => {
                let started = self.swarm.behaviour_mut().kad.bootstrap();
                let _gone = reply.send(started.map(drop).map_err(|_| DhtError::NoPeers));
            }
            Command::AddAddress { peer, address } => self.learn(peer, &[address]),
            Command::Disconnect { peer } => {
                // An error says that it is not connected, which is what was asked for.
                let _already = self.swarm.disconnect_peer_id(peer);
            }
            Command::Block { peer, blocked } => self.block(peer, blocked),
            Command::Conduct { peer, reply } => drop(reply.send(self.conduct_of(&peer))),
            Command::Held { reply } => drop(reply.send(self.held())),
            Command::Hits { reply } => drop(reply.send(self.hits())),
            Command::ListenAddrs { reply } => self.listen_addrs(reply),
            Command::Reached { reply } => drop(reply.send(self.reached())),
            Command::Situation { reply } => drop(reply.send(self.situation())),
            Command::Advertised { reply } => drop(reply.send(self.advertised())),
            Command::IsConnected { peer, reply } => drop(reply.send(self.swarm.is_connected(&peer))),
            Command::RoundTrip { peer, reply } => drop(reply.send(self.peers.round_trip(&peer))),
            Command::Peers { reply } => drop(reply.send(self.peers.infos())),
            Command::Counters { reply } => drop(reply.send(self.counters())),
        }
    }

    fn publish(&mut self, topic: String, data: Bytes) -> Result<(), PublishError> {
        let hash = IdentTopic::new(topic.as_str()).hash();
        let gossip = &mut self.swarm.behaviour_mut().gossip;
        if !gossip.topics().any(|known| *known == hash) {
            return Err(PublishError::UnknownTopic { topic });
        }
        if !self.limiter.may_publish(Instant::now()) {
            return Err(PublishError::Busy);
        }
        let len = data.len();
        match gossip.publish(hash, data) {
            Ok(_) => {
                self.counters.gossip_published += 1;
                Ok(())
            }
            Err(gossipsub::PublishError::NoPeersSubscribedToTopic) => Err(PublishError::NoPeers { topic }),
            Err(gossipsub::PublishError::Duplicate) => Err(PublishError::Duplicate),
            Err(gossipsub::PublishError::MessageTooLarge) => Err(PublishError::TooLarge { len, max: MAX_GOSSIP }),
            Err(error) => {
                tracing::debug!(%error, "a message was not published");
                Err(PublishError::Busy)
            }
        }
    }

    fn judge(&mut self, id: &MessageId, verdict: Verdict) {
        let Some(source) = self.judgments.settle(id) else {
            return;
        };
        match verdict {
            Verdict::Accept => {
                self.counters.gossip_accepted += 1;
                let forwards = self.limiter.may_forward(Instant::now());
                self.report(
                    id,
                    source,
                    match forwards {
                        true => MessageAcceptance::Accept,
                        false => MessageAcceptance::Ignore,
                    },
                );
            }
            Verdict::Reject => {
                self.counters.gossip_rejected += 1;
                if self.judgments.punish(source, Instant::now()) {
                    self.report(id, source, MessageAcceptance::Reject);
                } else {
                    self.report(id, source, MessageAcceptance::Ignore);
                }
                self.on_offence(source, Offence::BadGossip);
            }
            Verdict::Ignore => {
                self.counters.gossip_ignored += 1;
                self.ignore(id, source);
                let within = self.limiter.ignored(source, Instant::now());
                self.is_within(source, within, Offence::WorthlessGossip);
            }
            Verdict::Pass => {
                self.counters.gossip_unjudged += 1;
                self.ignore(id, source);
            }
        }
    }

    pub(super) fn ignore(&mut self, id: &MessageId, source: PeerId) {
        self.report(id, source, MessageAcceptance::Ignore);
    }

    fn report(&mut self, id: &MessageId, source: PeerId, acceptance: MessageAcceptance) {
        self.swarm
            .behaviour_mut()
            .gossip
            .report_message_validation_result(id, &source, acceptance);
    }

    fn dial(&mut self, peer: PeerId, addresses: Vec<Multiaddr>, reply: DialReply) {
        if self.swarm.is_connected(&peer) {
            let _gone = reply.send(Ok(()));
            return;
        }
        if self.dials.len() >= DIALS && !self.dials.contains_key(&peer) {
            let _gone = reply.send(Err(DialError::Busy));
            return;
        }
        let addresses = self.permitted(self.peers.addresses(&peer, addresses));
        let opts = DialOpts::peer_id(peer)
            .addresses(addresses)
            .extend_addresses_through_behaviour()
            .build();
        match self.swarm.dial(opts) {
            // Under way, by this dial or by another; its end is told to all who wait.
            Ok(()) | Err(SwarmDialError::DialPeerConditionFalse(_)) => {
                let waiting = self.dials.entry(peer).or_default();
                waiting.retain(|waiting| !waiting.is_closed());
                waiting.push(reply);
            }
            Err(error) => drop(reply.send(Err(dial_error(peer, &error)))),
        }
    }

    fn ask(&mut self, exchange: Exchange, peer: PeerId, addresses: Vec<Multiaddr>, request: Bytes, reply: AskReply) {
        if self.asks.len() >= ASKS || !self.limiter.may_ask(peer, Instant::now()) {
            let _gone = reply.send(Err(AskError::Busy));
            return;
        }
        self.counters.asks_sent += 1;
        self.peers.on_used(&peer, Instant::now());
        let addresses = self.permitted(self.peers.addresses(&peer, addresses));
        let id = self
            .swarm
            .behaviour_mut()
            .exchange(exchange)
            .send_request_with_addresses(&peer, request, addresses);
        self.asks.insert((exchange, id), reply);
    }

    /// Remembers addresses of a peer wherever a dial looks for them.
    pub(super) fn learn(&mut self, peer: PeerId, addresses: &[Multiaddr]) {
        self.peers.remember(peer, addresses);
    }

    fn block(&mut self, peer: PeerId, blocked: bool) {
        let list = &mut self.swarm.behaviour_mut().blocked;
        self.blocked.retain(|known| *known != peer);
        if !blocked {
            // Its conduct may be a reason of its own.
            if !self.conduct.is_out(&peer) {
                list.unblock_peer(peer);
            }
            return;
        }
        list.block_peer(peer);
        self.blocked.push_back(peer);
        if self.blocked.len() > BLOCKED
            && let Some(oldest) = self.blocked.pop_front()
        {
            list.unblock_peer(oldest);
        }
    }

    fn listen_addrs(&mut self, reply: oneshot::Sender<Vec<Multiaddr>>) {
        self.listeners.waiting.retain(|waiting| !waiting.is_closed());
        if self.listeners.waiting.len() < READY_WAITERS {
            self.listeners.waiting.push(reply);
        }
        if self.listeners.unbound.is_empty() && self.listeners.settled.is_none() {
            self.answer_listen_addrs();
        }
    }
}

pub(super) fn dial_error(peer: PeerId, error: &SwarmDialError) -> DialError {
    match error {
        SwarmDialError::NoAddresses => DialError::NoAddresses { peer },
        error => DialError::Unreachable {
            reason: describe_dial(error),
        },
    }
}

//! What the network does.

use bytes::Bytes;
use libp2p::core::ConnectedPoint;
use libp2p::request_response::{self, OutboundFailure};
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{ConnectionId, DialError as SwarmDialError, SwarmEvent};
use libp2p::{Multiaddr, PeerId, StreamProtocol, autonat, dcutr, gossipsub, identify, kad, mdns, ping, relay};
use tokio::time::Instant;

use super::EventLoop;
use super::commands::dial_error;
use crate::behaviour::{ASK_TIMEOUT, BehaviourEvent};
use crate::conduct::Offence;
use crate::error::AskError;
use crate::event::{Event, Reply, Ticket};
use crate::exchange::{Exchange, Oversized};
use crate::limits::Subnet;
use crate::paced::Told;
use crate::peers::furthest;
use crate::stream;
use crate::stream::behaviour::is_relayed;

/// What a peer speaks that calls back when asked (libp2p's `autonat-v2` specification).
const CALLS_BACK: StreamProtocol = StreamProtocol::new("/libp2p/autonat/2/dial-request");

/// Connected peers above which the local network's announcements are no longer followed by a dial.
const NEAR_PEERS: usize = 64;

impl EventLoop {
    pub(super) fn on_swarm_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour_event(event),
            SwarmEvent::ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                num_established,
                ..
            } => {
                self.on_established(peer_id, connection_id, &endpoint, num_established.get() == 1);
            }
            SwarmEvent::ConnectionClosed {
                peer_id,
                connection_id,
                num_established,
                cause,
                ..
            } => {
                tracing::debug!(%peer_id, ?cause, num_established, "connection closed");
                self.on_closed(peer_id, connection_id, num_established == 0);
            }
            SwarmEvent::OutgoingConnectionError {
                peer_id,
                connection_id,
                error,
            } => {
                self.on_dial_failed(peer_id, connection_id, &error);
            }
            SwarmEvent::IncomingConnectionError {
                send_back_addr, error, ..
            } => {
                tracing::debug!(%send_back_addr, %error, "incoming connection failed");
                self.on_incoming_failed(&error);
                self.on_not_let_in(&error);
            }
            SwarmEvent::NewListenAddr { listener_id, address } => {
                self.on_bound(listener_id);
                self.on_listening(listener_id, &address);
                self.tell(Event::NewListenAddr { address });
                self.tell_reachable();
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                self.tell(Event::ExpiredListenAddr { address });
                self.tell_reachable();
            }
            SwarmEvent::ListenerClosed {
                listener_id,
                addresses,
                reason,
            } => {
                if addresses.iter().all(is_relayed) {
                    tracing::debug!(?addresses, ?reason, "a relay lets go of us");
                } else {
                    tracing::warn!(?addresses, ?reason, "no longer listening");
                }
                self.on_bound(listener_id);
                self.relays.on_closed(listener_id, Instant::now());
                self.reserve(Instant::now());
                self.tell_reachable();
            }
            SwarmEvent::ListenerError { listener_id, error } => {
                tracing::warn!(%error, "listening goes on after an error");
                self.on_bound(listener_id);
            }
            SwarmEvent::ExternalAddrConfirmed { address } => {
                if !is_relayed(&address) {
                    tracing::info!(%address, "reachable from outside");
                }
                self.on_external();
            }
            SwarmEvent::ExternalAddrExpired { .. } => self.on_external(),
            _ => {}
        }
    }

    fn on_behaviour_event(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Gossip(Told::Event(event)) => self.on_gossip(event),
            BehaviourEvent::Gossip(Told::Flood(peer, bound)) => {
                self.limiter.hits.add(bound);
                self.on_offence(peer, Offence::GossipFlood);
            }
            BehaviourEvent::Identify(identify::Event::Received {
                connection_id,
                peer_id,
                info,
            }) => {
                self.on_identified(peer_id, connection_id, &info);
            }
            BehaviourEvent::Ping(ping::Event {
                peer,
                connection,
                result,
            }) => match result {
                Ok(round_trip) => self.peers.on_round_trip(peer, round_trip),
                Err(ping::Failure::Unsupported) => {}
                Err(error) => {
                    tracing::debug!(%peer, %error, "a connection is dead");
                    self.swarm.close_connection(connection);
                }
            },
            BehaviourEvent::AutonatClient(autonat::v2::client::Event {
                tested_addr, result, ..
            }) => {
                let reached = result.is_ok();
                tracing::debug!(address = %tested_addr, reached, "asked to be called back");
                self.nat.on_probed(&tested_addr, reached);
            }
            BehaviourEvent::Dcutr(dcutr::Event {
                remote_peer_id: peer,
                result,
            }) => match result {
                Ok(_) => self.counters.punched += 1,
                Err(error) => {
                    self.counters.not_punched += 1;
                    tracing::debug!(%peer, %error, "no direct way through the routers");
                }
            },
            BehaviourEvent::Kad(Told::Event(event)) => self.on_kad(event),
            BehaviourEvent::Kad(Told::Flood(peer, bound)) => {
                self.limiter.hits.add(bound);
                self.on_offence(peer, Offence::DhtFlood);
            }
            BehaviourEvent::Ad(event) => self.on_exchange(Exchange::Ad, event),
            BehaviourEvent::Offer(event) => self.on_exchange(Exchange::Offer, event),
            BehaviourEvent::Streams(stream::behaviour::Event::HostilePeer(peer)) => {
                self.counters.hostile_peers += 1;
                self.on_offence(peer, Offence::StreamFlood);
            }
            BehaviourEvent::Mdns(mdns::Event::Discovered(found)) => self.on_near(found),
            BehaviourEvent::RelayServer(event) => self.on_relaying(&event),
            BehaviourEvent::Upnp(event) => self.on_router(event),
            _ => {}
        }
    }

    fn on_established(&mut self, peer: PeerId, id: ConnectionId, endpoint: &ConnectedPoint, first: bool) {
        tracing::debug!(%peer, address = %endpoint.get_remote_address(), "connected");
        let was_relayed = self.peers.is_relayed(&peer);
        self.peers.on_established(peer, id, endpoint);
        self.join.on_established(peer, id);
        self.on_tried(id, None);
        if was_relayed && !endpoint.is_relayed() {
            self.tell(Event::Direct { peer });
        }
        for waiting in self.dials.remove(&peer).unwrap_or_default() {
            let _gone = waiting.send(Ok(()));
        }
        if first {
            if endpoint.is_listener() && !endpoint.is_relayed() {
                self.nat.on_called(endpoint.get_remote_address(), Instant::now());
            }
            self.tell(Event::Connected { peer });
            // How far the network extends may have changed, and with it what it means to be reached.
            self.on_external();
        }
    }

    fn on_closed(&mut self, peer: PeerId, id: ConnectionId, last: bool) {
        self.peers.on_closed(peer, id);
        if last {
            self.join.on_gone(peer, Instant::now());
            self.relays.on_gone(&peer);
            self.limiter.on_gone(&peer);
            self.served.remove(&peer);
            self.tell(Event::Disconnected { peer });
            self.on_external();
        }
    }

    fn on_dial_failed(&mut self, peer: Option<PeerId>, id: ConnectionId, error: &SwarmDialError) {
        tracing::debug!(?peer, %error, "dial failed");
        self.join.on_failed(id, error, Instant::now());
        self.on_tried(id, Some(error));
        let Some(peer) = peer else { return };
        for waiting in self.dials.remove(&peer).unwrap_or_default() {
            let _gone = waiting.send(Err(dial_error(peer, error)));
        }
    }

    fn on_identified(&mut self, peer: PeerId, id: ConnectionId, info: &identify::Info) {
        let within = self.limiter.identifies(peer, Instant::now());
        if !self.is_within(peer, within, Offence::IdentifyFlood) {
            return;
        }
        let listen = self.peers.on_identified(peer, id, info, &self.names);
        if let Some(address) = self.peers.called_from_listener(&peer, id) {
            self.nat.on_seen(address, &info.observed_addr);
            if info.protocols.contains(&CALLS_BACK) {
                self.nat.on_prober(address, Instant::now());
            }
        }
        if info.protocols.contains(&relay::HOP_PROTOCOL_NAME) {
            self.on_relay(peer);
        }
        // Only a peer that serves this network's DHT belongs in its table.
        let subnet = Subnet::of(peer, self.peers.seen_at(&peer));
        if info.protocols.contains(&self.names.kad) && !self.outbound_only && self.dht.may_enter(&peer, subnet) {
            for address in listen {
                self.swarm.behaviour_mut().kad.add_address(&peer, address);
            }
        }
    }

    fn on_gossip(&mut self, event: gossipsub::Event) {
        match event {
            gossipsub::Event::Message {
                propagation_source: source,
                message_id: id,
                message,
            } => {
                self.counters.gossip_received += 1;
                let within = self.limiter.message(source, message.data.len(), Instant::now());
                if !self.is_within(source, within, Offence::GossipFlood) {
                    self.ignore(&id, source);
                    return;
                }
                let topic = message.topic.into_string();
                let ticket = Ticket { id: id.clone() };
                let event = Event::Gossip {
                    topic,
                    source,
                    data: message.data.into(),
                    ticket,
                };
                if self.judgments.has_room() && self.try_tell(event).is_ok() {
                    self.judgments.owe(id, source, Instant::now());
                } else {
                    self.counters.gossip_dropped += 1;
                    self.ignore(&id, source);
                }
            }
            gossipsub::Event::Subscribed { peer_id: peer, topic } => {
                self.tell(Event::Subscribed {
                    peer,
                    topic: topic.into_string(),
                });
            }
            gossipsub::Event::SlowPeer { peer_id, .. } => tracing::debug!(%peer_id, "peer reads gossip slowly"),
            gossipsub::Event::Unsubscribed { .. } | gossipsub::Event::GossipsubNotSupported { .. } => {}
        }
    }

    fn on_kad(&mut self, event: kad::Event) {
        let (me, now) = (*self.swarm.local_peer_id(), Instant::now());
        let kad = &mut self.swarm.behaviour_mut().kad;
        match event {
            kad::Event::InboundRequest {
                request:
                    kad::InboundRequest::AddProvider {
                        record: Some(mut record),
                    },
            } => {
                // A provider sends only addresses that are confirmed from outside, and the DHT hands out no record
                // without one; the provider's own word on this connection fills the gap.
                if record.addresses.is_empty() {
                    record.addresses = furthest(self.peers.addresses(&record.provider, Vec::new()));
                }
                let subnet = Subnet::of(record.provider, self.peers.seen_at(&record.provider));
                if self.dht.on_record(kad, record, subnet, now) {
                    self.counters.providers_stored += 1;
                } else {
                    self.counters.providers_refused += 1;
                }
            }
            kad::Event::OutboundQueryProgressed { id, result, step, .. } => {
                for provider in self.dht.on_progress(kad, me, id, result, step.last) {
                    self.peers.remember(provider.peer, &provider.addresses);
                }
            }
            kad::Event::RoutingUpdated {
                peer,
                is_new_peer: true,
                old_peer,
                ..
            } => {
                let subnet = Subnet::of(peer, self.peers.seen_at(&peer));
                self.dht.on_entered(peer, subnet, old_peer);
                self.dht.on_new_peer(kad, now);
            }
            _ => {}
        }
    }

    fn on_exchange(&mut self, exchange: Exchange, event: request_response::Event<Bytes, Bytes>) {
        use request_response::{Event as Step, Message};
        match event {
            Step::Message {
                peer,
                message: Message::Request {
                    request: data, channel, ..
                },
                ..
            } => {
                let within = self.limiter.asks(peer, Instant::now());
                if !self.is_within(peer, within, Offence::AskFlood) {
                    return;
                }
                self.peers.on_used(&peer, Instant::now());
                let Some(commands) = self.own_commands.upgrade() else {
                    return;
                };
                let reply = Reply {
                    exchange,
                    channel,
                    commands,
                };
                if self
                    .try_tell(Event::Asked {
                        exchange,
                        peer,
                        data,
                        reply,
                    })
                    .is_err()
                {
                    self.counters.asks_dropped += 1;
                }
            }
            Step::Message {
                peer,
                message: Message::Response { request_id, response },
                ..
            } => {
                self.peers.on_used(&peer, Instant::now());
                if let Some(reply) = self.asks.remove(&(exchange, request_id)) {
                    let _gone = reply.send(Ok(response));
                }
            }
            Step::OutboundFailure { request_id, error, .. } => {
                if let Some(reply) = self.asks.remove(&(exchange, request_id)) {
                    let _gone = reply.send(Err(ask_error(exchange, error)));
                }
            }
            Step::InboundFailure { peer, error, .. } => tracing::debug!(%peer, ?exchange, %error, "exchange failed"),
            Step::ResponseSent { .. } => {}
        }
    }

    /// The local network names peers; those of a home or an office are few, and all are worth knowing.
    fn on_near(&mut self, found: Vec<(PeerId, Multiaddr)>) {
        for (peer, address) in found {
            self.learn(peer, std::slice::from_ref(&address));
            if self.peers.count() < NEAR_PEERS && Self::is_near(&address) {
                let opts = DialOpts::peer_id(peer).addresses(vec![address]).build();
                if let Err(error) = self.swarm.dial(opts) {
                    tracing::trace!(%peer, %error, "a peer nearby was not dialled");
                }
            }
        }
    }
}

fn ask_error(exchange: Exchange, failure: OutboundFailure) -> AskError {
    match failure {
        OutboundFailure::DialFailure => AskError::Unreachable,
        OutboundFailure::Timeout => AskError::Timeout { after: ASK_TIMEOUT },
        OutboundFailure::UnsupportedProtocols => AskError::Unsupported,
        OutboundFailure::ConnectionClosed => AskError::Declined {
            reason: "the connection was closed".to_owned(),
        },
        OutboundFailure::Io(error) => {
            let inner = error.get_ref();
            if inner.is_some_and(|inner| inner.is::<Oversized>()) {
                return AskError::AnswerTooLarge {
                    max: exchange.max_answer(),
                };
            }
            if stream::is_unsupported(&error) {
                return AskError::Unsupported;
            }
            AskError::Declined {
                reason: error.to_string(),
            }
        }
    }
}

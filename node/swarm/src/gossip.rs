//! Gossip: how gossipsub is set up, and the judgments that the node still owes.
//!
//! Implements "Gossip" of `specs/` for the carrier: anonymous messages known by the hash of their bytes, each forwarded
//! only after it was judged, and peers scored by what they forward.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use libp2p::PeerId;
use libp2p::gossipsub::{
    self, IdentTopic, MaxCountSubscriptionFilter, Message, MessageAuthenticity, MessageId, PeerScoreParams,
    PeerScoreThresholds, TopicHash, TopicScoreParams, ValidationMode, WhitelistSubscriptionFilter,
};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use crate::error::Error;
use crate::repeats::Tap;

/// Longest gossip message in bytes.
pub const MAX_GOSSIP: usize = 16 * 1024;

/// Room for the topic and the framing around a message of [`MAX_GOSSIP`].
const FRAMING: usize = 1024;

/// Bytes of the SHA-256 that make a message's id.
const ID_BYTES: usize = 20;

/// Time between two rounds of mesh upkeep and gossip about messages.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Heartbeats for which a message is kept to be forwarded or handed out again.
const HISTORY: usize = 6;

/// Time for the node to judge a message. It must lie inside [`HISTORY`] heartbeats, for afterwards there is nothing left
/// to forward.
const JUDGMENT_TIMEOUT: Duration = Duration::from_secs(4);

/// Judgments owed at once: the event queue, what the verifying pool holds, and what was handed out before.
const JUDGMENTS: usize = 4096;

/// How long a message's id is remembered, so that it goes round once. Longer than the tolerated clock skew and the
/// usual life of an offer together.
const REMEMBERED: Duration = Duration::from_secs(120);

/// Wanted peers in a topic's mesh, and its bounds. Networks smaller than the lower bound are a full mesh as soon as
/// they are connected: a subscriber is taken in at once as long as the mesh is below it.
const MESH: usize = 6;
const MESH_LOW: usize = 4;
const MESH_HIGH: usize = 12;
const MESH_OUTBOUND: usize = 2;

/// Peers outside the mesh to whom messages are named in each heartbeat. The library's default is a quarter of them, which
/// costs a well-connected node more than the messages themselves and brings nothing (`specs/scale.md`).
const NAMED_TO: usize = 6;

/// Messages that wait for one peer to read them; at [`MAX_GOSSIP`] each this is 4 MiB a peer at the worst.
const QUEUE_PER_PEER: usize = 256;

/// Messages in one packet from a peer.
const MESSAGES_PER_PACKET: usize = 256;

/// Ids in one control message: at 20 bytes and framing they fit the bound on control messages.
const IDS_PER_CONTROL: usize = 500;

/// Subscriptions that a peer may send in one packet.
const SUBSCRIPTIONS_PER_PACKET: usize = 100;

/// Scores at which a peer is no longer gossiped with, published to, listened to.
pub(crate) const THRESHOLDS: PeerScoreThresholds = PeerScoreThresholds {
    gossip_threshold: -20.0,
    publish_threshold: -40.0,
    graylist_threshold: -80.0,
    accept_px_threshold: 100.0,
    opportunistic_graft_threshold: 1.0,
};

/// Rejected messages that are held against one peer within [`INCIDENT_WINDOW`]. The penalty is the square of their
/// number: five stop gossip with the peer, nine silence it, and ten are where an incident ends, so that a version that
/// all peers misjudge in the same way costs minutes and not the network.
const REJECTS_PER_INCIDENT: u32 = 10;

/// The time over which a penalty falls to a tenth, and after which another incident may be counted.
const INCIDENT_WINDOW: Duration = Duration::from_secs(300);

/// Peers with rejected messages that are remembered; the oldest are forgotten first.
const OFFENDERS: usize = 1024;

/// Peers behind one address that are not yet suspicious: a lab or a company behind a NAT.
const PEERS_PER_IP: f64 = 32.0;

/// Breaches of gossipsub's own rules that are forgiven, and the weight of the square of what is above.
const BREACHES_FORGIVEN: f64 = 6.0;
const BREACH_WEIGHT: f64 = -1.0;

/// Dropped messages of a slow reader that are forgiven, and the weight of each above.
const SLOWNESS_FORGIVEN: f64 = 20.0;
const SLOWNESS_WEIGHT: f64 = -0.2;

/// Most credit that good conduct earns; it must not outweigh an incident.
const CREDIT: f64 = 10.0;

/// How long a peer's score outlives its connection, so that reconnecting does not wash it: until a tenth is left of a
/// penalty. Each takes over a kilobyte, also of a peer that did nothing, so that longer would let peers without number that
/// come and go fill the memory.
const SCORE_KEPT: Duration = INCIDENT_WINDOW;

/// Which subscriptions of peers are remembered.
pub(crate) type Filter = MaxCountSubscriptionFilter<WhitelistSubscriptionFilter>;

/// Gossipsub with our settings.
pub(crate) type Gossip = gossipsub::Behaviour<Tap, Filter>;

/// Sets up gossip and subscribes to `topics`; `tap` sees each message that comes.
pub(crate) fn behaviour(topics: &[String], tap: Tap) -> Result<Gossip, Error> {
    let wrong = |reason: &dyn std::fmt::Display| Error::Gossip(reason.to_string());
    let config = gossipsub::ConfigBuilder::default()
        .validation_mode(ValidationMode::Anonymous)
        .validate_messages()
        .message_id_fn(|message: &Message| message_id(&message.data))
        .max_transmit_size(MAX_GOSSIP + FRAMING)
        .max_publish_messages(MESSAGES_PER_PACKET)
        .max_control_messages_sent(IDS_PER_CONTROL)
        .connection_handler_queue_len(QUEUE_PER_PEER)
        .heartbeat_interval(HEARTBEAT)
        .heartbeat_initial_delay(HEARTBEAT)
        .history_length(HISTORY)
        .duplicate_cache_time(REMEMBERED)
        .mesh_n(MESH)
        .mesh_n_low(MESH_LOW)
        .mesh_n_high(MESH_HIGH)
        .mesh_outbound_min(MESH_OUTBOUND)
        .flood_publish(true)
        .gossip_lazy(NAMED_TO)
        .gossip_factor(0.0)
        .build()
        .map_err(|error| wrong(&error))?;
    let known: HashSet<TopicHash> = topics
        .iter()
        .map(|topic| IdentTopic::new(topic.as_str()).hash())
        .collect();
    let filter = MaxCountSubscriptionFilter {
        max_subscribed_topics: known.len(),
        max_subscriptions_per_request: SUBSCRIPTIONS_PER_PACKET,
        filter: WhitelistSubscriptionFilter(known),
    };
    let mut gossip =
        Gossip::new_with_subscription_filter_and_transform(MessageAuthenticity::Anonymous, config, filter, tap)
            .map_err(|error| wrong(&error))?;
    gossip
        .with_peer_score(score(topics), THRESHOLDS)
        .map_err(|error| wrong(&error))?;
    for topic in topics {
        gossip
            .subscribe(&IdentTopic::new(topic.as_str()))
            .map_err(|error| wrong(&error))?;
    }
    Ok(gossip)
}

fn message_id(data: &[u8]) -> MessageId {
    MessageId::new(&Sha256::digest(data)[..ID_BYTES])
}

fn score(topics: &[String]) -> PeerScoreParams {
    let decay = gossipsub::score_parameter_decay(INCIDENT_WINDOW);
    let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let topic = TopicScoreParams {
        topic_weight: 1.0,
        time_in_mesh_weight: 0.1,
        time_in_mesh_quantum: Duration::from_secs(1),
        time_in_mesh_cap: CREDIT,
        first_message_deliveries_weight: 0.5,
        first_message_deliveries_decay: decay,
        first_message_deliveries_cap: CREDIT,
        // Traffic is sparse, and a peer with nothing to say must not lose by it.
        mesh_message_deliveries_weight: 0.0,
        mesh_failure_penalty_weight: 0.0,
        invalid_message_deliveries_weight: -1.0,
        invalid_message_deliveries_decay: decay,
        ..TopicScoreParams::default()
    };
    PeerScoreParams {
        topics: topics
            .iter()
            .map(|name| (IdentTopic::new(name.as_str()).hash(), topic.clone()))
            .collect(),
        topic_score_cap: CREDIT,
        app_specific_weight: 0.0,
        ip_colocation_factor_weight: -5.0,
        ip_colocation_factor_threshold: PEERS_PER_IP,
        ip_colocation_factor_whitelist: loopback.into(),
        behaviour_penalty_weight: BREACH_WEIGHT,
        behaviour_penalty_threshold: BREACHES_FORGIVEN,
        behaviour_penalty_decay: decay,
        slow_peer_weight: SLOWNESS_WEIGHT,
        slow_peer_threshold: SLOWNESS_FORGIVEN,
        retain_score: SCORE_KEPT,
        ..PeerScoreParams::default()
    }
}

/// Messages that the node has been handed and has not judged.
#[derive(Debug, Default)]
pub(crate) struct Judgments {
    owed: HashMap<MessageId, PeerId>,
    /// In the order in which they fall due, including some that are judged already.
    due: VecDeque<(Instant, MessageId)>,
    offenders: HashMap<PeerId, Offence>,
}

#[derive(Debug)]
struct Offence {
    rejected: u32,
    since: Instant,
}

impl Judgments {
    /// Whether another message can be handed to the node.
    pub(crate) fn has_room(&self) -> bool {
        self.due.len() < JUDGMENTS
    }

    /// Judgments that are owed.
    pub(crate) fn len(&self) -> usize {
        self.owed.len()
    }

    /// Notes that the node owes a judgment of a message that `source` forwarded.
    pub(crate) fn owe(&mut self, id: MessageId, source: PeerId, now: Instant) {
        self.due.push_back((now + JUDGMENT_TIMEOUT, id.clone()));
        self.owed.insert(id, source);
    }

    /// Who forwarded the message, if its judgment is still owed; then no longer.
    pub(crate) fn settle(&mut self, id: &MessageId) -> Option<PeerId> {
        let source = self.owed.remove(id);
        while self.due.front().is_some_and(|(_, id)| !self.owed.contains_key(id)) {
            self.due.pop_front();
        }
        source
    }

    /// When the next judgment falls due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.due.front().map(|(at, _)| *at)
    }

    /// A judgment that is overdue, if any; it is then no longer owed.
    pub(crate) fn overdue(&mut self, now: Instant) -> Option<(MessageId, PeerId)> {
        while self.next_due().is_some_and(|at| at <= now) {
            let (_, id) = self.due.pop_front()?;
            if let Some(source) = self.owed.remove(&id) {
                return Some((id, source));
            }
        }
        None
    }

    /// Whether a rejected message is to be held against `source`, or its incident has cost enough.
    pub(crate) fn punish(&mut self, source: PeerId, now: Instant) -> bool {
        if self.offenders.len() >= OFFENDERS && !self.offenders.contains_key(&source) {
            let oldest = self
                .offenders
                .iter()
                .min_by_key(|(_, offence)| offence.since)
                .map(|(peer, _)| *peer);
            oldest.and_then(|peer| self.offenders.remove(&peer));
        }
        let offence = self.offenders.entry(source).or_insert(Offence {
            rejected: 0,
            since: now,
        });
        if now.duration_since(offence.since) > INCIDENT_WINDOW {
            *offence = Offence {
                rejected: 0,
                since: now,
            };
        }
        offence.rejected = offence.rejected.saturating_add(1);
        offence.rejected <= REJECTS_PER_INCIDENT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> MessageId {
        MessageId::new(&[n])
    }

    #[test]
    fn the_settings_are_consistent() {
        behaviour(&["a".to_owned(), "b".to_owned()], Tap::default()).unwrap();
        assert!(JUDGMENT_TIMEOUT < HEARTBEAT * u32::try_from(HISTORY - 1).unwrap());
        let worst = f64::from(REJECTS_PER_INCIDENT).powi(2);
        assert!(
            -worst < THRESHOLDS.graylist_threshold,
            "an incident at its worst silences a peer"
        );
        assert!(CREDIT < worst, "credit does not outweigh it");
    }

    #[test]
    fn an_id_is_the_start_of_the_hash() {
        assert_eq!(
            message_id(b"abc").to_string(),
            "ba7816bf8f01cfea414140de5dae2223b00361a3"
        );
    }

    #[tokio::test]
    async fn what_is_not_judged_in_time_falls_due_once_and_in_order() {
        let (mut judgments, peer) = (Judgments::default(), PeerId::random());
        let start = Instant::now();
        judgments.owe(id(1), peer, start);
        judgments.owe(id(2), peer, start + Duration::from_secs(1));
        judgments.owe(id(3), peer, start + Duration::from_secs(2));
        assert_eq!(judgments.settle(&id(1)), Some(peer));
        assert_eq!(judgments.settle(&id(1)), None, "a judgment is given once");
        assert_eq!(judgments.next_due(), Some(start + Duration::from_secs(5)));
        assert_eq!(judgments.overdue(start + JUDGMENT_TIMEOUT), None);
        assert_eq!(judgments.overdue(start + Duration::from_secs(6)).unwrap().0, id(2));
        assert_eq!(judgments.overdue(start + Duration::from_secs(6)).unwrap().0, id(3));
        assert_eq!(judgments.settle(&id(3)), None);
        assert_eq!(judgments.next_due(), None);
    }

    #[tokio::test]
    async fn an_incident_costs_a_peer_only_so_much() {
        let (mut judgments, peer, now) = (Judgments::default(), PeerId::random(), Instant::now());
        let held = (0..100).filter(|_| judgments.punish(peer, now)).count();
        assert_eq!(held, usize::try_from(REJECTS_PER_INCIDENT).unwrap());
        assert!(
            judgments.punish(PeerId::random(), now),
            "others are counted for themselves"
        );
        assert!(judgments.punish(peer, now + INCIDENT_WINDOW + Duration::from_secs(1)));
        for _ in 0..2 * OFFENDERS {
            judgments.punish(PeerId::random(), now);
        }
        assert!(judgments.offenders.len() <= OFFENDERS);
    }
}

//! Peers that push garbage as fast as they can: bare gossipsub, with none of the product's bounds, and messages that were
//! made beforehand, so that they cost their sender nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use infernet_protocol::auction::JobBid;
use infernet_protocol::capability::CapabilityAd;
use infernet_protocol::codec::{List, Text};
use infernet_protocol::names::INFERENCE;
use infernet_protocol::{Digest, Identity, JobId, Message, Millis, Network, Price, UnixMillis, Verified};
use infernet_swarm::{Multiaddr, PeerId};
use libp2p::gossipsub::{self, IdentTopic, MessageAuthenticity, PublishError, ValidationMode};
use libp2p::identity::{Keypair, secp256k1};
use libp2p::swarm::SwarmEvent;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::{Swarm, SwarmBuilder, noise, tcp, yamux};

use crate::hostile::now;

/// Messages of a kind that one peer has prepared.
const PREPARED: usize = 3_000;
/// Messages pushed, and their bytes, before the connection is looked after again: what waits only in its own memory floods
/// nobody.
const BATCH: usize = 32;
const BATCH_BYTES: usize = 256 * 1024;
/// A peer that was thrown out knocks again after this.
const KNOCKS_AGAIN: Duration = Duration::from_millis(500);
/// Longest packet that it sends itself; far above what the network takes.
const OVERSIZED: usize = 200 * 1024;

/// What a peer pushes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Garbage {
    /// Ads whose signature does not hold.
    Forged,
    /// Ads that are long over.
    Stale,
    /// Messages longer than the network takes.
    Oversized,
    /// One good ad over and over, in packets of its own.
    Replayed,
    /// Good ads of nodes that were invented for it, and bids of theirs for jobs that nobody offered.
    Sybil,
}

impl Garbage {
    /// All kinds.
    pub const ALL: [Self; 5] = [Self::Forged, Self::Stale, Self::Oversized, Self::Replayed, Self::Sybil];
}

/// A peer that pushes garbage.
#[derive(Debug)]
pub struct Flooder {
    /// Its name in the network.
    pub peer: PeerId,
    /// What it pushes.
    pub garbage: Garbage,
    /// Messages that it has pushed.
    pub pushed: Arc<AtomicU64>,
    /// When it was let in first.
    pub let_in: OnceLock<Instant>,
    keypair: Keypair,
    messages: Vec<(String, Vec<u8>)>,
}

impl Flooder {
    /// Prepares a peer; `number` makes its key.
    ///
    /// # Panics
    /// Never: the keys are good.
    #[must_use]
    pub fn new(number: u16, garbage: Garbage, network: &Network) -> Self {
        let mut secret = identity(u32::from(number) << 16).secret();
        let secret = secp256k1::SecretKey::try_from_bytes(&mut secret).expect("a good key");
        let keypair = Keypair::from(secp256k1::Keypair::from(secret));
        Self {
            peer: keypair.public().to_peer_id(),
            garbage,
            pushed: Arc::default(),
            let_in: OnceLock::new(),
            keypair,
            messages: prepare(u32::from(number) << 16, garbage, network),
        }
    }

    /// Pushes at a node until it is dropped; thrown out, it knocks again.
    pub async fn push(&self, at: Multiaddr, network: &Network) {
        let mut swarm = self.swarm(network);
        let (mut sent, mut connected) = (0, false);
        let mut knock = tokio::time::interval(KNOCKS_AGAIN);
        loop {
            tokio::select! {
                biased;
                event = swarm.select_next_some() => match event {
                    SwarmEvent::ConnectionEstablished { .. } => {
                        self.let_in.get_or_init(Instant::now);
                        connected = true;
                    }
                    SwarmEvent::ConnectionClosed { .. } => connected = false,
                    _ => {}
                },
                _ = knock.tick(), if !connected => {
                    // Refused, it comes back with the next tick.
                    let _refused = swarm.dial(DialOpts::unknown_peer_id().address(at.clone()).build());
                }
                () = tokio::task::yield_now(), if connected => self.push_some(&mut swarm, &mut sent),
            }
        }
    }

    fn push_some(&self, swarm: &mut Swarm<gossipsub::Behaviour>, sent: &mut usize) {
        let mut bytes = 0;
        for _ in 0..BATCH {
            let (topic, data) = &self.messages[*sent % self.messages.len()];
            bytes += data.len();
            if bytes > BATCH_BYTES {
                return;
            }
            match swarm.behaviour_mut().publish(IdentTopic::new(topic), data.clone()) {
                Ok(_) => {
                    *sent += 1;
                    self.pushed.fetch_add(1, Ordering::Relaxed);
                }
                // The way is full, or nobody listens yet.
                Err(PublishError::Duplicate) => *sent += 1,
                Err(_) => return,
            }
        }
    }

    fn swarm(&self, network: &Network) -> Swarm<gossipsub::Behaviour> {
        let config = gossipsub::ConfigBuilder::default()
            .validation_mode(ValidationMode::Anonymous)
            // Each sending is a message of its own to its sender, so that it repeats itself.
            .message_id_fn(|_| gossipsub::MessageId::new(&rand::random::<[u8; 16]>()))
            .max_transmit_size(OVERSIZED)
            .flood_publish(true)
            .build()
            .expect("a good configuration");
        let mut gossip =
            gossipsub::Behaviour::new(MessageAuthenticity::Anonymous, config).expect("a good configuration");
        for topic in [network.capability_topic(), network.jobs_topic(INFERENCE)] {
            gossip.subscribe(&IdentTopic::new(topic)).expect("a topic");
        }
        SwarmBuilder::with_existing_identity(self.keypair.clone())
            .with_tokio()
            .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
            .expect("a transport")
            .with_behaviour(|_| gossip)
            .expect("a behaviour")
            .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(600)))
            .build()
    }
}

/// A key of its own for each number.
fn identity(number: u32) -> Identity {
    let mut secret = [0xf1; 32];
    secret[28..].copy_from_slice(&number.to_be_bytes());
    Identity::from_secret(&secret).expect("a good key")
}

fn prepare(first: u32, garbage: Garbage, network: &Network) -> Vec<(String, Vec<u8>)> {
    let (ads, jobs) = (network.capability_topic(), network.jobs_topic(INFERENCE));
    let one = identity(first + 1);
    let numbers = first + 1..first + 1 + u32::try_from(PREPARED).unwrap_or(u32::MAX);
    match garbage {
        Garbage::Forged => {
            let good = sign(ad(now(), 0), &one, network);
            let forge = |number: u32| {
                let mut bytes = good.clone();
                // Among the last 64 bytes stands the signature.
                let at = bytes.len() - 8;
                bytes[at..at + 4].copy_from_slice(&number.to_be_bytes());
                (ads.clone(), bytes)
            };
            numbers.map(forge).collect()
        }
        Garbage::Stale => {
            let over = UnixMillis(now().0 - 3_600_000);
            let stale = |number: u32| (ads.clone(), sign(ad(over, number.into()), &one, network));
            numbers.map(stale).collect()
        }
        Garbage::Oversized => vec![(ads, vec![0x85; OVERSIZED - 1024])],
        Garbage::Replayed => vec![(ads, sign(ad(now(), 0), &one, network))],
        Garbage::Sybil => {
            let invent = |number: u32| {
                let sybil = identity(number);
                match number % 2 {
                    0 => (ads.clone(), sign(ad(now(), 0), &sybil, network)),
                    _ => (jobs.clone(), sign(bid(number), &sybil, network)),
                }
            };
            numbers.map(invent).collect()
        }
    }
}

fn sign<T: Message>(message: T, identity: &Identity, network: &Network) -> Vec<u8> {
    Verified::sign(message, identity, network, &[7; 32]).bytes().to_vec()
}

fn ad(issued_at: UnixMillis, number: u64) -> CapabilityAd {
    CapabilityAd {
        sequence: issued_at.0 + number,
        issued_at,
        interval: Millis(30_000),
        agent: Text::lossy("flooder"),
        tags: List::default(),
        addresses: List::default(),
        gpus: List::default(),
        models: List::default(),
        models_total: 0,
        slots: 0,
        rails: List::default(),
    }
}

fn bid(number: u32) -> JobBid {
    JobBid {
        job: JobId([9; 16]),
        offer: Digest([u8::try_from(number % 251).unwrap_or_default(); 32]),
        price: Price::FREE,
        ttft: Millis(1),
        speed: 1_000_000,
        queue: 0,
        addresses: List::default(),
        payees: List::default(),
        digest: None,
        at_once: 1,
        public: true,
    }
}

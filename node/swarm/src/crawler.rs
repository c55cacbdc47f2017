//! Walks the DHT: from some addresses to every peer that any peer names, each asked who it is and for all of its routing
//! table. It keeps no place in the network, serves nothing, and asks each peer a handful of questions.

pub(crate) mod find_node;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::{Duration, SystemTime};

use futures::StreamExt as _;
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::request_response::{self, ProtocolSupport};
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{self, ConnectionId, NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, identify, ping, relay};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::error::{Error, describe_dial};
use crate::names::Names;
use crate::peers::{ADDRESSES_PER_PEER, Reach, reach};
use crate::stream::behaviour::is_relayed;
use crate::transport;
use find_node::FindNode;

/// Peers visited at once.
const AT_ONCE: usize = 64;
/// Time for one peer, from its dial to its last answer.
const VISIT: Duration = Duration::from_secs(20);
/// Time for one answer.
const ANSWER: Duration = Duration::from_secs(5);
/// Peers of which anything is kept: ten times the largest network that this project is measured for.
const PEERS: usize = 100_000;
/// Questions differ in this many first bits: with twenty peers in an answer that lists tables of 80,000 peers whole.
const DEPTH: usize = 12;
/// Answers without news after which a peer has told all.
const NO_NEWS: usize = 2;
/// Between two looks at visits that take too long.
const SWEEP: Duration = Duration::from_secs(1);

/// What a walk found out about one peer.
#[derive(Debug, Clone)]
pub struct Found {
    /// The peer.
    pub peer: PeerId,
    /// Where it is said to be.
    pub addresses: Vec<Multiaddr>,
    /// What it says its program is.
    pub agent: Option<String>,
    /// Protocol ids it speaks.
    pub protocols: Vec<String>,
    /// Whether it was reached, and why not.
    pub reached: Reachability,
    /// Round trip to it.
    pub round_trip: Option<Duration>,
    /// Questions that were sent to it, and those that it answered.
    pub asked: u32,
    /// See `asked`.
    pub answered: u32,
    /// Peers in its routing table.
    pub neighbours: Vec<PeerId>,
    /// When it was first named.
    pub first_seen: SystemTime,
    /// When it was last named or answered.
    pub last_seen: SystemTime,
    /// Peers that are known by now, this one and those to come included.
    pub known: usize,
}

/// Whether a peer was reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reachability {
    /// Directly.
    Direct,
    /// It is said to be behind a relay, and was not dialled.
    Relayed,
    /// Not at all, for this reason.
    Unreached(String),
}

#[derive(NetworkBehaviour)]
struct Behaviour {
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    find: request_response::Behaviour<FindNode>,
    relay: relay::client::Behaviour,
}

/// A peer on its way from being named to being told.
#[derive(Debug)]
struct Visit {
    addresses: Vec<Multiaddr>,
    first_seen: SystemTime,
    last_seen: SystemTime,
    deadline: Option<Instant>,
    connected: bool,
    agent: Option<String>,
    protocols: Vec<String>,
    round_trip: Option<Duration>,
    asked: u32,
    answered: u32,
    neighbours: BTreeSet<PeerId>,
    /// The next question, and how many answers brought nothing new.
    depth: usize,
    no_news: usize,
    told: bool,
}

struct Walk {
    swarm: Swarm<Behaviour>,
    names: Names,
    keys: Vec<Vec<u8>>,
    visits: HashMap<PeerId, Visit>,
    waiting: VecDeque<PeerId>,
    /// Visits that go on, and dials to addresses that name no peer.
    open: usize,
    unnamed: HashMap<ConnectionId, Multiaddr>,
    found: mpsc::Sender<Found>,
}

/// Walks the network `network` from `addresses` on and hands over each peer when it is done with it. Ends when no peer is
/// left, or when nobody takes them any more.
///
/// # Errors
/// [`Error`]: a network's name or an encryption that does not work.
pub async fn crawl(network: &str, addresses: &[Multiaddr], found: mpsc::Sender<Found>) -> Result<(), Error> {
    let names = Names::new(network)?;
    let keypair = Keypair::generate_ed25519();
    let (transport, relay) = transport::build(&keypair)?;
    let find = request_response::Config::default().with_request_timeout(ANSWER);
    let agent = concat!("infernet-crawler/", env!("CARGO_PKG_VERSION")).to_owned();
    let behaviour = Behaviour {
        identify: identify::Behaviour::new(
            identify::Config::new(names.family.clone(), keypair.public())
                .with_agent_version(agent)
                .with_hide_listen_addrs(true)
                .with_cache_size(0),
        ),
        ping: ping::Behaviour::default(),
        find: request_response::Behaviour::with_codec(FindNode, [(names.kad.clone(), ProtocolSupport::Outbound)], find),
        relay,
    };
    let settings = swarm::Config::with_tokio_executor().with_idle_connection_timeout(VISIT);
    let mut walk = Walk {
        swarm: Swarm::new(transport, behaviour, keypair.public().to_peer_id(), settings),
        names,
        keys: keys(),
        visits: HashMap::new(),
        waiting: VecDeque::new(),
        open: 0,
        unnamed: HashMap::new(),
        found,
    };
    for address in addresses {
        walk.begin(address);
    }
    walk.run().await;
    Ok(())
}

/// For each beginning of a hash, a key whose hash has it.
fn keys() -> Vec<Vec<u8>> {
    let mut keys = vec![Vec::new(); 1 << DEPTH];
    let mut missing = keys.len();
    for number in 0u32.. {
        let key = number.to_be_bytes();
        let at = beginning(&Sha256::digest(key).into());
        if keys[at].is_empty() {
            keys[at] = key.to_vec();
            missing -= 1;
            if missing == 0 {
                break;
            }
        }
    }
    keys
}

/// The first bits of a hash.
fn beginning(hash: &[u8; 32]) -> usize {
    usize::from(u16::from_be_bytes([hash[0], hash[1]]) >> (16 - DEPTH))
}

impl Walk {
    async fn run(&mut self) {
        let mut sweep = tokio::time::interval(SWEEP);
        while self.open + self.waiting.len() + self.unnamed.len() > 0 {
            self.visit_more().await;
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_event(event).await,
                _ = sweep.tick() => self.give_up_late_ones().await,
                () = self.found.closed() => return,
            }
        }
    }

    /// An address to begin at; one that names no peer learns whose it is when it answers.
    fn begin(&mut self, address: &Multiaddr) {
        if let Some(Protocol::P2p(peer)) = address.iter().last() {
            self.learn(peer, vec![address.clone()]);
            return;
        }
        let opts = DialOpts::unknown_peer_id().address(address.clone()).build();
        let id = opts.connection_id();
        match self.swarm.dial(opts) {
            Ok(()) => {
                self.unnamed.insert(id, address.clone());
            }
            Err(error) => tracing::warn!(%address, %error, "an address to begin at cannot be dialled"),
        }
    }

    fn learn(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        let (now, room) = (SystemTime::now(), self.visits.len() < PEERS);
        if let Some(known) = self.visits.get_mut(&peer) {
            known.last_seen = now;
            for address in addresses {
                if !known.addresses.contains(&address) && known.addresses.len() < ADDRESSES_PER_PEER {
                    known.addresses.push(address);
                }
            }
        } else if room {
            let visit = Visit {
                addresses: addresses.into_iter().take(ADDRESSES_PER_PEER).collect(),
                first_seen: now,
                last_seen: now,
                deadline: None,
                connected: false,
                agent: None,
                protocols: Vec::new(),
                round_trip: None,
                asked: 0,
                answered: 0,
                neighbours: BTreeSet::new(),
                depth: 0,
                no_news: 0,
                told: false,
            };
            self.visits.insert(peer, visit);
            self.waiting.push_back(peer);
        }
    }

    async fn visit_more(&mut self) {
        while self.open < AT_ONCE
            && let Some(peer) = self.waiting.pop_front()
        {
            let Some(visit) = self.visits.get_mut(&peer).filter(|visit| !visit.told) else {
                continue;
            };
            self.open += 1;
            visit.deadline = Some(Instant::now() + VISIT);
            let direct = |address: &&Multiaddr| !is_relayed(address) && reach(address) > Reach::Nowhere;
            let addresses: Vec<_> = visit.addresses.iter().filter(direct).cloned().collect();
            if addresses.is_empty() && !visit.connected {
                let outcome = match visit.addresses.iter().any(is_relayed) {
                    true => Reachability::Relayed,
                    false => Reachability::Unreached("no address is known".to_owned()),
                };
                self.tell(peer, outcome).await;
                continue;
            }
            let opts = DialOpts::peer_id(peer).addresses(addresses).build();
            // A peer that is connected already is asked when it says who it is.
            if let Err(error) = self.swarm.dial(opts)
                && !self.swarm.is_connected(&peer)
            {
                self.tell(peer, Reachability::Unreached(describe_dial(&error))).await;
            }
        }
    }

    async fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::ConnectionEstablished {
                peer_id, connection_id, ..
            } => {
                if let Some(address) = self.unnamed.remove(&connection_id) {
                    self.learn(peer_id, vec![address]);
                }
                if let Some(visit) = self.visits.get_mut(&peer_id) {
                    visit.connected = true;
                }
            }
            SwarmEvent::OutgoingConnectionError {
                peer_id,
                connection_id,
                error,
            } => {
                if let Some(address) = self.unnamed.remove(&connection_id) {
                    tracing::warn!(%address, %error, "nobody answers at an address to begin at");
                }
                if let Some(peer) = peer_id
                    && !self.swarm.is_connected(&peer)
                {
                    self.tell(peer, Reachability::Unreached(describe_dial(&error))).await;
                }
            }
            SwarmEvent::ConnectionClosed {
                peer_id,
                num_established: 0,
                ..
            } => self.tell(peer_id, Reachability::Direct).await,
            SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. })) => {
                self.on_identified(peer_id, info).await;
            }
            SwarmEvent::Behaviour(BehaviourEvent::Ping(ping::Event {
                peer,
                result: Ok(round_trip),
                ..
            })) => {
                if let Some(visit) = self.visits.get_mut(&peer) {
                    visit.round_trip = Some(round_trip);
                }
            }
            SwarmEvent::Behaviour(BehaviourEvent::Find(request_response::Event::Message {
                peer,
                message: request_response::Message::Response { response, .. },
                ..
            })) => self.on_answer(peer, response).await,
            SwarmEvent::Behaviour(BehaviourEvent::Find(request_response::Event::OutboundFailure { peer, .. })) => {
                self.tell(peer, Reachability::Direct).await;
            }
            _ => {}
        }
    }

    async fn on_identified(&mut self, peer: PeerId, info: identify::Info) {
        let serves = info.protocols.contains(&self.names.kad);
        let Some(visit) = self.visits.get_mut(&peer) else {
            return;
        };
        let first = visit.agent.is_none();
        visit.agent = Some(info.agent_version);
        visit.protocols = info.protocols.iter().map(ToString::to_string).collect();
        visit.protocols.sort();
        self.learn(peer, info.listen_addrs);
        match serves {
            true if first => self.ask(peer),
            true => {}
            false => self.tell(peer, Reachability::Direct).await,
        }
    }

    /// The next question: for peers whose ids begin as this one's do, but for the bit at this depth.
    fn ask(&mut self, peer: PeerId) {
        let Some(visit) = self.visits.get_mut(&peer) else {
            return;
        };
        let own = beginning(&Sha256::digest(peer.to_bytes()).into());
        let flipped = own ^ (1 << (DEPTH - 1 - visit.depth));
        visit.depth += 1;
        visit.asked += 1;
        self.swarm
            .behaviour_mut()
            .find
            .send_request(&peer, self.keys[flipped].clone());
    }

    async fn on_answer(&mut self, peer: PeerId, answer: find_node::Answer) {
        let local = *self.swarm.local_peer_id();
        let Some(visit) = self.visits.get_mut(&peer) else {
            return;
        };
        visit.last_seen = SystemTime::now();
        visit.answered += 1;
        let before = visit.neighbours.len();
        let named = answer.iter().map(|(named, _)| *named);
        visit
            .neighbours
            .extend(named.filter(|named| *named != peer && *named != local));
        visit.no_news = match visit.neighbours.len() > before {
            true => 0,
            false => visit.no_news + 1,
        };
        let goes_on = visit.no_news < NO_NEWS && visit.depth < DEPTH;
        for (named, addresses) in answer {
            if named != local {
                self.learn(named, addresses);
            }
        }
        match goes_on {
            true => self.ask(peer),
            false => self.tell(peer, Reachability::Direct).await,
        }
    }

    async fn give_up_late_ones(&mut self) {
        let now = Instant::now();
        let late = |visit: &Visit| !visit.told && visit.deadline.is_some_and(|deadline| deadline <= now);
        let late: Vec<_> = self
            .visits
            .iter()
            .filter(|(_, visit)| late(visit))
            .map(|(peer, _)| *peer)
            .collect();
        for peer in late {
            let outcome = match self.swarm.is_connected(&peer) {
                true => Reachability::Direct,
                false => Reachability::Unreached("no answer in time".to_owned()),
            };
            self.tell(peer, outcome).await;
        }
    }

    /// Is done with a peer.
    async fn tell(&mut self, peer: PeerId, reached: Reachability) {
        let known = self.visits.len();
        let Some(visit) = self.visits.get_mut(&peer).filter(|visit| !visit.told) else {
            return;
        };
        visit.told = true;
        if visit.deadline.is_some() {
            self.open -= 1;
        }
        let found = Found {
            peer,
            addresses: visit.addresses.clone(),
            agent: visit.agent.clone(),
            protocols: visit.protocols.clone(),
            reached,
            round_trip: visit.round_trip,
            asked: visit.asked,
            answered: visit.answered,
            neighbours: visit.neighbours.iter().copied().collect(),
            first_seen: visit.first_seen,
            last_seen: visit.last_seen,
            known,
        };
        // It may not have been connected.
        let _already = self.swarm.disconnect_peer_id(peer);
        let _gone = self.found.send(found).await;
    }
}

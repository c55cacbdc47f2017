//! The protocols that a connection speaks, as one network behaviour.
//!
//! The derive is slow to compile, which is why this crate stands apart and changes rarely.

use std::sync::Arc;
use std::time::Duration;

use libp2p::allow_block_list::{self, BlockedPeers};
use libp2p::identity::Keypair;
use libp2p::request_response::ProtocolSupport;
use libp2p::swarm::NetworkBehaviour;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{autonat, dcutr, identify, kad, mdns, memory_connection_limits, ping, relay, request_response, upnp};
use rand::rngs::StdRng;

use crate::config::{Config, Role};
use crate::dht::Records;
use crate::direct_only::DirectOnly;
use crate::error::Error;
use crate::exchange::{Codec, Exchange};
use crate::gate::Gate;
use crate::gossip::{self, Gossip};
use crate::limits::{Bound, DHT_PACKETS, GOSSIP_PACKETS, MEMORY};
use crate::names::Names;
use crate::paced::Paced;
use crate::repeats::Tap;
use crate::stream;
use crate::stream::admission::Admission;

/// Provider records live this long; a node that is gone is forgotten within it.
pub(crate) const PROVIDER_TTL: Duration = Duration::from_secs(30 * 60);

/// Providers publish their records again this often.
const PROVIDER_INTERVAL: Duration = Duration::from_secs(10 * 60);

/// Time for a whole DHT lookup. Somebody waits for it; what is slower than this is of no use.
const QUERY_TIMEOUT: Duration = Duration::from_secs(15);

/// The routing table is refreshed this often.
const TABLE_REFRESH: Duration = Duration::from_secs(5 * 60);

/// Longest DHT packet in bytes: twenty peers or providers with eight addresses each.
const DHT_PACKET: usize = 16 * 1024;

/// Time for an exchange to be answered, at most; a caller's own limit is shorter.
pub(crate) const ASK_TIMEOUT: Duration = Duration::from_secs(10);

/// Exchanges under way on one connection, both directions.
const ASKS_PER_CONNECTION: usize = 64;

/// Round trips are measured this often. One that does not come back in time is a connection that is dead without either
/// side having been told, as after a network was parted; it is closed, and made anew.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Whether an address can be reached from outside is asked this often, while there are any of which it is not known.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// Addresses of which it is asked: TCP and QUIC over IPv4 and IPv6, as a few peers see them.
const PROBED: usize = 8;

/// What a relay carries for one circuit, in time and bytes: an offer exchange, and inference for those who have no other
/// way.
const CIRCUIT_DURATION: Duration = Duration::from_secs(10 * 60);
const CIRCUIT_BYTES: u64 = 64 * 1024 * 1024;

/// Circuits and reservations that a relay holds.
const CIRCUITS: usize = 256;
const CIRCUITS_PER_PEER: usize = 16;
const RESERVATIONS: usize = 1024;

/// All protocols of a node. Limits stand first, so that a connection they deny is denied before the others see it.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    pub(crate) gate: Gate,
    pub(crate) memory: memory_connection_limits::Behaviour,
    pub(crate) blocked: allow_block_list::Behaviour<BlockedPeers>,
    pub(crate) identify: identify::Behaviour,
    pub(crate) ping: ping::Behaviour,
    pub(crate) gossip: DirectOnly<Paced<Gossip>>,
    pub(crate) kad: DirectOnly<Paced<kad::Behaviour<Records>>>,
    pub(crate) ad: request_response::Behaviour<Codec>,
    pub(crate) offer: request_response::Behaviour<Codec>,
    pub(crate) streams: Toggle<stream::behaviour::Behaviour>,
    pub(crate) relay_client: relay::client::Behaviour,
    pub(crate) relay_server: Toggle<relay::Behaviour>,
    pub(crate) autonat_client: Toggle<autonat::v2::client::Behaviour>,
    pub(crate) autonat_server: Toggle<autonat::v2::server::Behaviour>,
    pub(crate) dcutr: Toggle<dcutr::Behaviour>,
    pub(crate) mdns: Toggle<mdns::tokio::Behaviour>,
    pub(crate) upnp: Toggle<upnp::tokio::Behaviour>,
}

impl Behaviour {
    pub(crate) fn new(
        config: &Config,
        names: &Names,
        keypair: &Keypair,
        relay_client: relay::client::Behaviour,
        admission: Arc<Admission>,
    ) -> Result<Self, Error> {
        let id = keypair.public().to_peer_id();
        let node = config.role == Role::Node;
        let tap = Tap::default();
        // What tells others where this machine is.
        let open = node && !config.outbound_only;
        let mdns = match config.mdns && !config.outbound_only {
            true => Some(mdns::tokio::Behaviour::new(mdns::Config::default(), id).map_err(Error::Multicast)?),
            false => None,
        };
        Ok(Self {
            gate: Gate::new(&config.limits, id),
            memory: memory_connection_limits::Behaviour::with_max_bytes(MEMORY),
            blocked: allow_block_list::Behaviour::default(),
            identify: identify::Behaviour::new(
                identify::Config::new(names.family.clone(), keypair.public())
                    .with_agent_version(config.agent.clone())
                    .with_push_listen_addr_updates(!config.outbound_only)
                    .with_hide_listen_addrs(config.outbound_only)
                    // Which of a peer's addresses are worth knowing is decided in `peers`, not by the library's cache.
                    .with_cache_size(0),
            ),
            ping: ping::Behaviour::new(
                ping::Config::new()
                    .with_interval(PING_INTERVAL)
                    .with_timeout(PING_TIMEOUT),
            ),
            gossip: DirectOnly::new(
                Paced::new(
                    gossip::behaviour(&config.topics, tap.clone())?,
                    Bound::GossipPackets,
                    GOSSIP_PACKETS,
                )
                .without_repeats(tap),
            ),
            kad: DirectOnly::new(Paced::new(dht(config, names, keypair), Bound::DhtPackets, DHT_PACKETS)),
            ad: exchange(Exchange::Ad, names),
            offer: exchange(Exchange::Offer, names),
            streams: node
                .then(|| stream::behaviour::Behaviour::new(names.inference.clone(), admission))
                .into(),
            relay_client,
            relay_server: (!node).then(|| relay_server(keypair)).into(),
            autonat_client: open.then(autonat_client).into(),
            autonat_server: (!node).then(autonat::v2::server::Behaviour::default).into(),
            dcutr: open.then(|| dcutr::Behaviour::new(id)).into(),
            mdns: mdns.into(),
            upnp: (config.upnp && !config.outbound_only)
                .then(upnp::tokio::Behaviour::default)
                .into(),
        })
    }

    /// The behaviour that carries an exchange.
    pub(crate) fn exchange(&mut self, exchange: Exchange) -> &mut request_response::Behaviour<Codec> {
        match exchange {
            Exchange::Ad => &mut self.ad,
            Exchange::Offer => &mut self.offer,
        }
    }
}

fn dht(config: &Config, names: &Names, keypair: &Keypair) -> kad::Behaviour<Records> {
    let id = keypair.public().to_peer_id();
    let store = Records::new(id, config.limits.provider_records);
    let mut settings = kad::Config::new(names.kad.clone());
    // A node that nobody may find has nothing to look for either: its table stays empty.
    let refresh = (!config.outbound_only).then_some(TABLE_REFRESH);
    settings
        .set_query_timeout(QUERY_TIMEOUT)
        .set_record_filtering(kad::StoreInserts::FilterBoth)
        .set_provider_record_ttl(Some(PROVIDER_TTL))
        .set_provider_publication_interval(Some(PROVIDER_INTERVAL))
        .set_replication_interval(None)
        .set_publication_interval(None)
        .set_caching(kad::Caching::Disabled)
        .set_max_packet_size(DHT_PACKET)
        // Peers enter the table when identify has told which of their addresses make sense.
        .set_kbucket_inserts(kad::BucketInserts::Manual)
        .set_periodic_bootstrap_interval(refresh);
    let mut kad = kad::Behaviour::with_config(id, store, settings);
    let server = match config.outbound_only {
        true => Some(false),
        false => config.kad_server.or((config.role == Role::Bootstrap).then_some(true)),
    };
    kad.set_mode(server.map(|server| if server { kad::Mode::Server } else { kad::Mode::Client }));
    kad
}

fn exchange(exchange: Exchange, names: &Names) -> request_response::Behaviour<Codec> {
    let protocol = match exchange {
        Exchange::Ad => &names.ad,
        Exchange::Offer => &names.offer,
    };
    let config = request_response::Config::default()
        .with_request_timeout(ASK_TIMEOUT)
        .with_max_concurrent_streams(ASKS_PER_CONNECTION);
    request_response::Behaviour::with_codec(Codec(exchange), [(protocol.clone(), ProtocolSupport::Full)], config)
}

fn autonat_client() -> autonat::v2::client::Behaviour {
    let config = autonat::v2::client::Config::default()
        .with_probe_interval(PROBE_INTERVAL)
        .with_max_candidates(PROBED);
    autonat::v2::client::Behaviour::new(rand::make_rng::<StdRng>(), config)
}

fn relay_server(keypair: &Keypair) -> relay::Behaviour {
    let config = relay::Config {
        max_reservations: RESERVATIONS,
        max_circuits: CIRCUITS,
        max_circuits_per_peer: CIRCUITS_PER_PEER,
        max_circuit_duration: CIRCUIT_DURATION,
        max_circuit_bytes: CIRCUIT_BYTES,
        ..relay::Config::default()
    };
    relay::Behaviour::new(keypair.public().to_peer_id(), config)
}

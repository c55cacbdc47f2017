//! Making a swarm from its configuration, and binding its sockets.

use std::collections::{HashMap, HashSet, VecDeque};
use std::future::Future;
use std::io;
use std::net::{IpAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;

use libp2p::core::transport::ListenerId;
use libp2p::core::upgrade::Version;
use libp2p::identity::{Keypair, secp256k1};
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId, Swarm, swarm};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::twins::Twins;
use super::{EventLoop, Listeners};
use crate::behaviour::Behaviour;
use crate::conduct::Conduct;
use crate::config::{COMMAND_QUEUE, Config, EVENT_QUEUE, IDLE_TIMEOUT, NEGOTIATING_STREAMS};
use crate::dht::Dht;
use crate::error::{Error, innermost};
use crate::event::{Counters, EventReceiver};
use crate::gossip::Judgments;
use crate::handle::Handle;
use crate::join::Join;
use crate::limits::Limiter;
use crate::names::Names;
use crate::nat::Nat;
use crate::peers::Peers;
use crate::relays::Relays;
use crate::stream::admission::Admission;
use crate::stream::behaviour::is_relayed;
use crate::transport;

/// Spawns the tasks of connections where they can be waited for.
struct Tracked(TaskTracker);

impl swarm::Executor for Tracked {
    fn exec(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self.0.spawn(future);
    }
}

/// Makes a swarm: its handle, its events, and the loop, which the caller spawns. Sockets are bound here.
///
/// # Errors
/// [`Error`]; an address that is taken or forbidden is one, an address family that the machine lacks is not, as long as
/// another address could be bound.
///
/// # Panics
/// Outside a tokio runtime with I/O and time.
pub fn new(config: Config) -> Result<(Handle, EventReceiver, EventLoop), Error> {
    let names = Names::new(&config.network)?;
    let keypair = keypair(config.secret)?;
    let local = keypair.public().to_peer_id();

    let (command_sender, commands) = mpsc::channel(COMMAND_QUEUE);
    let (events, event_receiver) = mpsc::channel(EVENT_QUEUE);
    let (accepted, inbound) = mpsc::channel(config.limits.accept_queue.max(1));
    let admission = Admission::new(accepted, &config.refusal, &config.limits);

    let tasks = TaskTracker::new();
    let (transport, relay_client) = transport::build(&keypair)?;
    let behaviour = Behaviour::new(&config, &names, &keypair, relay_client, Arc::clone(&admission))?;
    let settings = swarm::Config::with_executor(Tracked(tasks.clone()))
        .with_idle_connection_timeout(IDLE_TIMEOUT)
        .with_max_negotiating_inbound_streams(NEGOTIATING_STREAMS)
        .with_substream_upgrade_protocol_override(Version::V1Lazy);
    let mut swarm = Swarm::new(transport, behaviour, local, settings);
    let unbound = listen(&mut swarm, &config.listen)?;
    // Of a node that nobody may find none is told, by identify for one.
    for address in config.external.iter().filter(|_| !config.outbound_only) {
        swarm.add_external_address(address.clone());
    }

    // What is remembered are strangers, to whom such a node shows itself never.
    let remembered = if config.outbound_only {
        &[]
    } else {
        &config.remembered[..]
    };
    let event_loop = EventLoop {
        swarm,
        names,
        tasks,
        commands,
        own_commands: command_sender.downgrade(),
        events,
        backlog: VecDeque::new(),
        admission,
        judgments: Judgments::default(),
        limiter: Limiter::default(),
        conduct: Conduct::default(),
        peers: Peers::default(),
        join: Join::new(&config.bootstrap, remembered, Instant::now()),
        dht: Dht::default(),
        asks: HashMap::new(),
        dials: HashMap::new(),
        twins: Twins::default(),
        keep: config.limits.keep,
        trim_due: Instant::now(),
        served: HashMap::new(),
        blocked: VecDeque::new(),
        listeners: Listeners {
            unbound,
            ..Listeners::default()
        },
        relays: Relays::new(config.relays, config.outbound_only),
        nat: Nat::default(),
        outbound_only: config.outbound_only,
        named: named(&config),
        advertised: Vec::new(),
        counters: Counters::default(),
    };
    tracing::debug!(%local, role = ?config.role, "swarm made");
    Ok((
        Handle::new(command_sender, local),
        EventReceiver {
            events: event_receiver,
            inbound,
        },
        event_loop,
    ))
}

/// The libp2p key of a secp256k1 secret.
fn keypair(mut secret: [u8; 32]) -> Result<Keypair, Error> {
    let secret = secp256k1::SecretKey::try_from_bytes(&mut secret).map_err(|_| Error::Secret)?;
    Ok(secp256k1::Keypair::from(secret).into())
}

/// The id under which the network knows the owner of a secp256k1 secret.
///
/// # Errors
/// [`Error::Secret`].
pub fn peer_id(secret: [u8; 32]) -> Result<PeerId, Error> {
    Ok(keypair(secret)?.public().to_peer_id())
}

fn listen(swarm: &mut Swarm<Behaviour>, addresses: &[Multiaddr]) -> Result<HashSet<ListenerId>, Error> {
    for address in addresses {
        probe(address)?;
    }
    let mut unbound = HashSet::new();
    let mut failed = None;
    for address in addresses {
        match swarm.listen_on(address.clone()) {
            // A relay may take its time, or never answer; nobody waits for it.
            Ok(_) if is_relayed(address) => {}
            Ok(id) => {
                unbound.insert(id);
            }
            Err(error) => {
                let error = listen_error(address, &error);
                if !matches!(address.iter().next(), Some(Protocol::Ip6(ip)) if ip.is_unspecified()) {
                    return Err(error);
                }
                tracing::info!(%error, "going on without IPv6");
                failed.get_or_insert(error);
            }
        }
    }
    match failed {
        Some(error) if unbound.is_empty() => Err(error),
        _ => Ok(unbound),
    }
}

/// Where the user says that the node is: hosts of addresses to listen on, and of those that it has from outside.
fn named(config: &Config) -> Vec<Protocol<'static>> {
    let host = |address: &Multiaddr| address.iter().next().map(Protocol::acquire);
    let external = config.external.iter().filter_map(host);
    config.listen.iter().filter_map(named_ip).chain(external).collect()
}

/// The IP address of a listen address, where it is not all of them.
fn named_ip(address: &Multiaddr) -> Option<Protocol<'static>> {
    match address.iter().next()? {
        Protocol::Ip4(ip) if !ip.is_unspecified() => Some(Protocol::Ip4(ip)),
        Protocol::Ip6(ip) if !ip.is_unspecified() => Some(Protocol::Ip6(ip)),
        _ => None,
    }
}

/// Refuses a TCP port that another process listens on. The library's sockets share ports, so without this two nodes
/// would take each other's connections at random.
fn probe(address: &Multiaddr) -> Result<(), Error> {
    let mut parts = address.iter();
    let ip = match parts.next() {
        Some(Protocol::Ip4(ip)) => IpAddr::V4(ip),
        Some(Protocol::Ip6(ip)) => IpAddr::V6(ip),
        _ => return Ok(()),
    };
    match (parts.next(), parts.next()) {
        (Some(Protocol::Tcp(port)), None) if port != 0 => match TcpListener::bind((ip, port)) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(listen_error(address, &error)),
            // Other errors are met again when it counts.
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

fn listen_error(address: &Multiaddr, error: &(dyn std::error::Error + 'static)) -> Error {
    Error::Listen {
        address: address.clone(),
        reason: innermost(error),
    }
}

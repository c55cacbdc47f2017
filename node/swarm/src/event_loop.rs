//! The one task that owns the swarm.
//!
//! It awaits its `select!` and nothing else, and does no work that takes long. Local work goes first: the end, commands,
//! events that wait for the node, timers; then the network. A stream of commands cannot starve the network, because the
//! runtime lets a task take only so many messages before its channels yield.

mod commands;
mod network;

use std::collections::{HashMap, HashSet, VecDeque};
use std::future::Future;
use std::io;
use std::net::{IpAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use libp2p::core::transport::ListenerId;
use libp2p::core::upgrade::Version;
use libp2p::identity::{Keypair, secp256k1};
use libp2p::multiaddr::Protocol;
use libp2p::request_response::OutboundRequestId;
use libp2p::{Multiaddr, PeerId, Swarm, swarm};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::behaviour::Behaviour;
use crate::config::{
    COMMAND_QUEUE, Config, EVENT_BACKLOG, EVENT_QUEUE, IDLE_TIMEOUT, MUXED_STREAMS, NEGOTIATING_STREAMS, Role,
};
use crate::dht::Dht;
use crate::error::{AskError, DialError, Error, innermost};
use crate::event::{Counters, Event, EventReceiver};
use crate::exchange::Exchange;
use crate::gossip::Judgments;
use crate::handle::{Command, Handle};
use crate::join::Join;
use crate::names::Names;
use crate::peers::{Peers, Reach, reach};
use crate::stream::admission::Admission;
use crate::transport;

/// Time for connection tasks to end after the loop has.
const DRAIN: Duration = Duration::from_secs(2);

/// A listener on all interfaces reports them one by one; this long after the first, all have come.
const SETTLE: Duration = Duration::from_millis(20);

/// Callers that wait for addresses to be bound.
const READY_WAITERS: usize = 64;

type AskReply = oneshot::Sender<Result<Bytes, AskError>>;
type DialReply = oneshot::Sender<Result<(), DialError>>;

/// The task's state; see the module.
pub struct EventLoop {
    swarm: Swarm<Behaviour>,
    names: Names,
    /// All tasks of connections.
    tasks: TaskTracker,
    commands: mpsc::Receiver<Command>,
    /// For replies, which must not keep the loop alive.
    own_commands: mpsc::WeakSender<Command>,
    events: mpsc::Sender<Event>,
    /// Connection events that found the queue full.
    backlog: VecDeque<Event>,
    admission: Arc<Admission>,
    judgments: Judgments,
    peers: Peers,
    join: Join,
    dht: Dht,
    asks: HashMap<(Exchange, OutboundRequestId), AskReply>,
    dials: HashMap<PeerId, Vec<DialReply>>,
    blocked: VecDeque<PeerId>,
    listeners: Listeners,
    counters: Counters,
}

/// Which listeners are still to report an address, and who waits for that.
#[derive(Debug, Default)]
struct Listeners {
    unbound: HashSet<ListenerId>,
    settled: Option<Instant>,
    waiting: Vec<oneshot::Sender<Vec<Multiaddr>>>,
}

impl std::fmt::Debug for EventLoop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventLoop")
            .field("local", self.swarm.local_peer_id())
            .finish_non_exhaustive()
    }
}

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
    for address in &config.external {
        swarm.add_external_address(address.clone());
    }

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
        peers: Peers::default(),
        join: Join::new(&config.bootstrap, Instant::now()),
        dht: Dht::default(),
        asks: HashMap::new(),
        dials: HashMap::new(),
        blocked: VecDeque::new(),
        listeners: Listeners {
            unbound,
            ..Listeners::default()
        },
        counters: Counters::default(),
    };
    tracing::debug!(%local, role = ?config.role, streams = MUXED_STREAMS, relay = config.role == Role::Bootstrap, "swarm made");
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
            Ok(_) if crate::stream::behaviour::is_relayed(address) => {}
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

impl EventLoop {
    /// Runs until `cancel` is cancelled or the last [`Handle`] is gone, and then until the connections' tasks have ended.
    pub async fn run(mut self, cancel: CancellationToken) {
        loop {
            let due = self.next_due();
            tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                command = self.commands.recv() => match command {
                    Some(command) => self.on_command(command),
                    None => break,
                },
                () = room(&self.events), if !self.backlog.is_empty() => self.on_room(),
                () = sleep_until(due), if due.is_some() => self.on_timer(Instant::now()),
                event = self.swarm.select_next_some() => self.on_swarm_event(event),
            }
        }
        self.stop().await;
    }

    async fn stop(self) {
        let Self {
            swarm,
            tasks,
            commands,
            events,
            asks,
            dials,
            listeners,
            ..
        } = self;
        // Callers that wait learn of the end before the connections are taken down.
        drop((commands, events, asks, dials, listeners));
        drop(swarm);
        tasks.close();
        if tokio::time::timeout(DRAIN, tasks.wait()).await.is_err() {
            tracing::warn!(tasks = tasks.len(), "connections did not end in time");
        }
    }

    fn next_due(&self) -> Option<Instant> {
        [
            self.judgments.next_due(),
            self.join.next_due(),
            self.dht.next_due(),
            self.listeners.settled,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn on_timer(&mut self, now: Instant) {
        while let Some((id, source)) = self.judgments.overdue(now) {
            self.counters.gossip_unjudged += 1;
            self.ignore(&id, source);
        }
        while let Some(opts) = self.join.dial(now) {
            let id = opts.connection_id();
            if let Err(error) = self.swarm.dial(opts) {
                self.join.on_failed(id, &error, now);
            }
        }
        self.dht.on_timer(&mut self.swarm.behaviour_mut().kad, now);
        if self.listeners.settled.is_some_and(|at| at <= now) {
            self.listeners.settled = None;
            self.answer_listen_addrs();
        }
    }

    fn on_bound(&mut self, id: ListenerId) {
        self.listeners.unbound.remove(&id);
        if self.listeners.unbound.is_empty() {
            self.listeners.settled = Some(Instant::now() + SETTLE);
        }
    }

    fn answer_listen_addrs(&mut self) {
        let mut addresses: Vec<_> = self.swarm.listeners().cloned().collect();
        // What reaches furthest first, so that a person who copies one copies a useful one.
        addresses.sort_by_key(|address| (std::cmp::Reverse(reach(address)), address.to_string()));
        for waiting in self.listeners.waiting.drain(..) {
            let _gone = waiting.send(addresses.clone());
        }
    }

    /// The node takes events again, or never will.
    fn on_room(&mut self) {
        if let Some(event) = self.backlog.pop_front()
            && self.events.try_send(event).is_err()
        {
            self.backlog.clear();
        }
    }

    /// Hands the node an event that it must not miss.
    fn tell(&mut self, event: Event) {
        if let Err(event) = self.try_tell(event) {
            if self.events.is_closed() {
                return;
            }
            if self.backlog.len() >= EVENT_BACKLOG {
                self.counters.events_lost += 1;
            } else {
                self.backlog.push_back(event);
            }
        }
    }

    /// Hands the node an event if it has room, behind those that wait.
    #[expect(clippy::result_large_err, reason = "the event goes back to where it came from")]
    fn try_tell(&self, event: Event) -> Result<(), Event> {
        if !self.backlog.is_empty() {
            return Err(event);
        }
        self.events.try_send(event).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(event) | mpsc::error::TrySendError::Closed(event) => event,
        })
    }

    fn counters(&self) -> Counters {
        let streams = &self.admission.counters;
        Counters {
            streams_accepted: streams.accepted.load(Ordering::Relaxed),
            streams_refused: streams.refused.load(Ordering::Relaxed),
            streams_dropped: streams.dropped.load(Ordering::Relaxed),
            ..self.counters
        }
    }

    /// Whether a peer at `address` is worth dialling when the local network names it.
    fn is_near(address: &Multiaddr) -> bool {
        reach(address) == Reach::Private
    }
}

/// Ready when an event can be sent, or nobody receives any more.
async fn room(events: &mpsc::Sender<Event>) {
    let _closed = events.reserve().await;
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

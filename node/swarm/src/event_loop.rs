//! The one task that owns the swarm.
//!
//! It awaits its `select!` and nothing else, and does no work that takes long. Local work goes first: the end, commands,
//! events that wait for the node, timers; then the network. A stream of commands cannot starve the network, because the
//! runtime lets a task take only so many messages before its channels yield.

mod commands;
mod conduct;
mod network;
mod reaching;
mod setup;
mod trim;
mod twins;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use libp2p::core::transport::ListenerId;
use libp2p::multiaddr::Protocol;
use libp2p::request_response::OutboundRequestId;
use libp2p::{Multiaddr, PeerId, Swarm};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::behaviour::Behaviour;
use crate::conduct::Conduct;
use crate::config::EVENT_BACKLOG;
use crate::dht::Dht;
use crate::error::{AskError, DialError};
use crate::event::{Counters, Event};
use crate::exchange::Exchange;
use crate::gossip::Judgments;
use crate::handle::Command;
use crate::join::Join;
use crate::limits::Limiter;
use crate::names::Names;
use crate::nat::Nat;
use crate::peers::{Peers, Reach, reach};
use crate::relays::Relays;
use crate::stream::admission::Admission;
use crate::trim::Keep;

pub use setup::{new, peer_id};

use twins::Twins;

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
    limiter: Limiter,
    conduct: Conduct,
    peers: Peers,
    join: Join,
    dht: Dht,
    asks: HashMap<(Exchange, OutboundRequestId), AskReply>,
    dials: HashMap<PeerId, Vec<DialReply>>,
    /// Dials that tell whether another process has this node's key.
    twins: Twins,
    blocked: VecDeque<PeerId>,
    keep: Keep,
    /// When connections are looked at next.
    trim_due: Instant,
    /// Peers that this node relays for.
    served: HashMap<PeerId, trim::Served>,
    listeners: Listeners,
    relays: Relays,
    nat: Nat,
    outbound_only: bool,
    /// IP addresses that the user named to listen on.
    named: Vec<Protocol<'static>>,
    /// What the node was last told that it may advertise.
    advertised: Vec<Multiaddr>,
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

impl EventLoop {
    /// Runs until `cancel` is cancelled or the last [`Handle`](crate::Handle) is gone, and then until the connections' tasks have ended.
    pub async fn run(mut self, cancel: CancellationToken) {
        self.on_external();
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
            twins,
            listeners,
            ..
        } = self;
        // Callers that wait learn of the end before the connections are taken down.
        drop((commands, events, asks, dials, twins, listeners));
        drop(swarm);
        tasks.close();
        if tokio::time::timeout(DRAIN, tasks.wait()).await.is_err() {
            tracing::warn!(tasks = tasks.len(), "connections did not end in time");
        }
    }

    fn next_due(&self) -> Option<Instant> {
        [
            self.judgments.next_due(),
            self.join.next_due().filter(|_| self.is_bound()),
            self.dht.next_due(),
            self.relays.next_due(),
            self.conduct.next_due(),
            self.twins.next_due(),
            Some(self.trim_due),
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
        self.end_bans(now);
        self.trim(now);
        self.twins.tell(now);
        // A connection is made from the port on which the node listens, which routers and peers make use of.
        while self.is_bound()
            && let Some(opts) = self.join.dial(now)
        {
            let id = opts.connection_id();
            if let Err(error) = self.swarm.dial(opts) {
                self.join.on_failed(id, &error, now);
            }
        }
        self.dht.on_timer(&mut self.swarm.behaviour_mut().kad, now);
        self.reserve(now);
        if self.listeners.settled.is_some_and(|at| at <= now) {
            self.listeners.settled = None;
            self.answer_listen_addrs();
        }
    }

    /// Whether all listeners have their addresses, or have failed.
    fn is_bound(&self) -> bool {
        self.listeners.unbound.is_empty()
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
            banned: self.conduct.banned() as u64,
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

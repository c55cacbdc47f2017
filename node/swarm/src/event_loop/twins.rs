//! Whether another process uses this node's key: where its address is dialled, a peer answers that has our own id, and it is
//! not this process, which a router may lead back to itself.

use std::time::Duration;

use libp2p::Multiaddr;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{ConnectionId, DialError, ListenError};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::EventLoop;
use super::reaching::without_own;
use crate::stream::behaviour::is_relayed;

/// Addresses that are tried at once.
const TRIED: usize = 16;
/// Where this process has called itself, both of its ends see the connection fail within this time. The other end seldom
/// learns why: whoever calls hangs up as soon as it knows.
const BOTH_ENDS_WITHIN: Duration = Duration::from_millis(500);

/// Tries that are under way.
#[derive(Debug, Default)]
pub(super) struct Twins {
    dialled: Vec<(ConnectionId, oneshot::Sender<bool>)>,
    /// Answered with our own id; told when it is clear who that is.
    answered: Vec<(Instant, oneshot::Sender<bool>)>,
    /// When somebody last failed to come in, who may have been this process.
    not_let_in: Option<Instant>,
}

impl Twins {
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.answered.iter().map(|(due, _)| *due).min()
    }

    /// Tells who has waited long enough.
    pub(super) fn tell(&mut self, now: Instant) {
        for (due, reply) in self.answered.extract_if(.., |(due, _)| *due <= now) {
            // It was answered that much earlier; the other end may have learnt of it before.
            let may_be_itself = self.not_let_in.is_some_and(|at| at + BOTH_ENDS_WITHIN * 2 >= due);
            let _gone = reply.send(!may_be_itself);
        }
    }

    fn on_answered(&mut self, id: ConnectionId, is_own: bool, now: Instant) {
        let Some(at) = self.dialled.iter().position(|(dialled, _)| *dialled == id) else {
            return;
        };
        let (_, reply) = self.dialled.swap_remove(at);
        match is_own {
            true => self.answered.push((now + BOTH_ENDS_WITHIN, reply)),
            false => drop(reply.send(false)),
        }
    }
}

impl EventLoop {
    /// Dials an address of which somebody says that this node is there.
    pub(super) fn try_own(&mut self, address: &Multiaddr, reply: oneshot::Sender<bool>) {
        let me = *self.swarm.local_peer_id();
        let address = without_own(address, me);
        // A circuit leads to whoever holds the place, which may be this process; and a node that dials only its relays
        // dials nobody for this.
        let is_mine = {
            let mut known = self.swarm.listeners().chain(self.swarm.external_addresses());
            known.any(|own| without_own(own, me) == address)
        };
        self.twins.dialled.retain(|(_, reply)| !reply.is_closed());
        if is_mine || is_relayed(&address) || self.outbound_only || self.twins.dialled.len() >= TRIED {
            let _gone = reply.send(false);
            return;
        }
        let opts = DialOpts::unknown_peer_id().address(address).build();
        let id = opts.connection_id();
        match self.swarm.dial(opts) {
            Ok(()) => self.twins.dialled.push((id, reply)),
            Err(_) => drop(reply.send(false)),
        }
    }

    pub(super) fn on_tried(&mut self, id: ConnectionId, error: Option<&DialError>) {
        let is_own = matches!(error, Some(DialError::LocalPeerId { .. }));
        self.twins.on_answered(id, is_own, Instant::now());
    }

    /// Somebody could not come in.
    pub(super) fn on_not_let_in(&mut self, error: &ListenError) {
        if matches!(error, ListenError::LocalPeerId { .. } | ListenError::Transport(_)) {
            self.twins.not_let_in = Some(Instant::now());
        }
    }
}

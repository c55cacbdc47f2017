//! Whether another process uses this node's key: where its address is dialled, a peer answers that has our own id.

use libp2p::Multiaddr;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{ConnectionId, DialError};
use tokio::sync::oneshot;

use super::EventLoop;
use super::reaching::without_own;
use crate::stream::behaviour::is_relayed;

/// Addresses that are tried at once.
const TRIED: usize = 16;

impl EventLoop {
    /// Dials an address of which somebody says that this node is there.
    pub(super) fn try_own(&mut self, address: &Multiaddr, reply: oneshot::Sender<bool>) {
        let address = without_own(address, *self.swarm.local_peer_id());
        // A circuit leads to whoever holds the place, which may be this process; and a node that dials only its relays
        // dials nobody for this.
        let is_mine = self
            .swarm
            .listeners()
            .chain(self.swarm.external_addresses())
            .any(|own| without_own(own, *self.swarm.local_peer_id()) == address);
        self.twins.retain(|_, reply| !reply.is_closed());
        if is_mine || is_relayed(&address) || self.outbound_only || self.twins.len() >= TRIED {
            let _gone = reply.send(false);
            return;
        }
        let opts = DialOpts::unknown_peer_id().address(address).build();
        let id = opts.connection_id();
        match self.swarm.dial(opts) {
            Ok(()) => drop(self.twins.insert(id, reply)),
            Err(error) => drop(reply.send(is_own(&error))),
        }
    }

    pub(super) fn on_tried(&mut self, id: ConnectionId, error: Option<&DialError>) {
        if let Some(reply) = self.twins.remove(&id) {
            let _gone = reply.send(error.is_some_and(is_own));
        }
    }
}

fn is_own(error: &DialError) -> bool {
    matches!(error, DialError::LocalPeerId { .. })
}

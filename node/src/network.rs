//! What comes from the swarm, handed to whom it concerns. Nothing here waits for anything but the next event.

use std::sync::Arc;
use std::time::{Duration, Instant};

use infernet_protocol::NodeId;
use infernet_protocol::capability::{AdQuery, AdScope};
use infernet_protocol::codec;
use infernet_swarm::{Event, EventReceiver, Exchange, PeerId, Verdict};
use tokio::sync::Semaphore;
use tracing::{debug, warn};

use crate::node::Node;
use crate::store::Record;
use crate::{buyer, joining, worker};

/// Gossip messages that are verified at once; what comes beyond is not forwarded by us.
const VERIFYING: usize = 256;
/// Between two looks at what is over.
const SWEEP: Duration = Duration::from_secs(2);
/// Peers to come back to are written down this often at most: in a large network they change all the time.
const NOTED_EVERY: Duration = Duration::from_secs(10);

/// Takes the swarm's events until it stops.
pub(crate) async fn run(node: Arc<Node>, mut events: EventReceiver) {
    let verifying = Arc::new(Semaphore::new(VERIFYING));
    while let Some(event) = events.recv().await {
        match event {
            Event::Gossip {
                topic, data, ticket, ..
            } => {
                let Ok(place) = verifying.clone().try_acquire_owned() else {
                    let _ = node.swarm.judge(ticket, Verdict::Pass).await;
                    continue;
                };
                let judging = node.clone();
                node.tasks.spawn_until_cancelled("judge", async move {
                    let _place = place;
                    let by = judging.clone();
                    // Signatures are checked beside the runtime, so that a flood does not hold up answers.
                    let judged = tokio::task::spawn_blocking(move || by.market.judge(&by, &topic, &data)).await;
                    let _ = judging.swarm.judge(ticket, judged.unwrap_or(Verdict::Pass)).await;
                });
            }
            Event::Asked {
                exchange: Exchange::Offer,
                peer,
                data,
                reply,
            } => {
                let asked = node.clone();
                node.tasks.spawn_until_cancelled("bid", async move {
                    let answer = asked.market.answer_offer(&asked, peer, &data);
                    let _ = reply.send(answer.into()).await;
                });
            }
            Event::Asked {
                exchange: Exchange::Ad,
                data,
                reply,
                ..
            } => {
                if let Some(answer) = node.market.answer_ads(&data) {
                    let _ = reply.send(answer.into()).await;
                }
            }
            Event::Inbound(stream) => {
                drop(node.tasks.spawn("worker", worker::serve(node.clone(), stream)));
            }
            Event::Connected { peer } => {
                drop(node.tasks.spawn_until_cancelled("greet", greet(node.clone(), peer)));
            }
            Event::Reachable { addresses } => node.reachable_at(&addresses),
            Event::Direct { peer } => {
                debug!(%peer, "a direct way was found");
                if let Ok(worker) = NodeId::from_peer_id_bytes(&peer.to_bytes()) {
                    node.leases.leave_circuits(&worker);
                }
            }
            other => debug!(?other, "swarm"),
        }
    }
}

/// A new peer: whatever it knows of the market, and books that are open with it.
async fn greet(node: Arc<Node>, peer: PeerId) {
    let query = AdQuery {
        scope: AdScope::Known,
        model: None,
    };
    let asking = node.market.ask_ads(peer, &query);
    let evening = async {
        if let Ok(worker) = NodeId::from_peer_id_bytes(&peer.to_bytes()) {
            buyer::reconcile(node.clone(), worker).await;
        }
    };
    tokio::join!(asking, evening);
}

/// Lets go of what is over, keeps the books even with peers that stay, and notes what was learned.
pub(crate) async fn sweep(node: Arc<Node>, mut met: Vec<String>) {
    let mut noted: Option<Instant> = None;
    loop {
        tokio::time::sleep(SWEEP).await;
        node.provider.tick();
        node.leases.sweep(&node);
        node.leases.renew(&node);
        if let Ok(peers) = node.swarm.peers().await {
            let mut behind = node.leases.behind();
            let near = peers
                .iter()
                .filter_map(|peer| NodeId::from_peer_id_bytes(&peer.peer.to_bytes()).ok());
            let near: Vec<_> = near.filter(|worker| behind.remove(worker)).collect();
            // Who is not connected and advertises again is back.
            let back = behind.into_iter().filter(|worker| node.leases.is_back(worker, &node));
            for worker in near.into_iter().chain(back) {
                let evening = buyer::reconcile(node.clone(), worker);
                drop(node.tasks.spawn_until_cancelled("reconcile", evening));
            }
            let trips = peers.iter().filter_map(|peer| Some((peer.peer, peer.round_trip?)));
            node.market.measured_round_trips(trips);
            if noted.is_none_or(|noted| noted.elapsed() > NOTED_EVERY) {
                let now = joining::remember(&peers, &met);
                if now != met {
                    note_peers(&node, &now);
                    (met, noted) = (now, Some(Instant::now()));
                }
            }
        }
        keep_reputation(&node);
    }
}

/// Writes down whom this node can come back to.
fn note_peers(node: &Node, met: &[String]) {
    if let Err(error) = node.store.append(Record::Peers(met.to_vec())) {
        warn!(%error, "peers to come back to could not be written down");
    }
}

/// Writes down what changed in the reputation table.
pub(crate) fn keep_reputation(node: &Node) {
    if let Some(book) = node.market.tick()
        && let Err(error) = node.store.append(Record::Reputation(codec::to_vec(&book)))
    {
        warn!(%error, "what was learned of others could not be written down");
    }
}

//! The bootstrap node as a library: what it does with the swarm's events. The binary adds arguments, a home and the
//! ready line; the demo of `infernet` runs one in its own process.

mod forwarder;
mod observer;
mod status;

use std::sync::Arc;
use std::time::Duration;

use infernet_protocol::names::INFERENCE;
use infernet_protocol::{Identity, Network};
use infernet_swarm::{Config, Event, EventReceiver, Exchange, Handle, Role};
use tokio::sync::{Notify, watch};

pub use forwarder::Forwarder;
pub use observer::Observer;
pub use status::Status;

/// Between two looks at what may be forgotten, and two samples of a recording.
const SWEEP: Duration = Duration::from_secs(10);
/// Between two countings of what may be said in public.
const COUNT: Duration = Duration::from_secs(2);

/// How a bootstrap node's swarm is set up; where it listens is left to the caller.
#[must_use]
pub fn config(identity: &Identity, network: &Network) -> Config {
    let mut config = Config::new(identity.secret(), network.as_str(), Role::Bootstrap);
    config.topics = vec![network.capability_topic(), network.jobs_topic(INFERENCE)];
    config.agent = concat!("infernet-bootstrap/", env!("CARGO_PKG_VERSION")).to_owned();
    config
}

/// Judges gossip and answers questions for ads until the swarm stops.
pub async fn forward(network: Network, events: EventReceiver, swarm: Handle) {
    forward_observed(network, events, swarm, Watch::default()).await;
}

/// Who looks on.
#[derive(Debug, Default)]
pub struct Watch {
    /// Records what happens.
    pub observer: Option<Observer>,
    /// Told the public counts now and then.
    pub status: Option<watch::Sender<Status>>,
    /// Notified, it has what is recorded from now on written into another file.
    pub new_file: Arc<Notify>,
}

impl Watch {
    /// An observer looks on, if there is one, and nobody else yet.
    #[must_use]
    pub fn of(observer: Option<Observer>) -> Self {
        Self {
            observer,
            ..Self::default()
        }
    }
}

/// As [`forward`], and somebody looks on.
pub async fn forward_observed(network: Network, mut events: EventReceiver, swarm: Handle, watch: Watch) {
    let Watch {
        mut observer,
        status,
        new_file,
    } = watch;
    let mut count = tokio::time::interval(COUNT);
    let mut forwarder = Forwarder::new(network);
    let mut sweep = tokio::time::interval(SWEEP);
    loop {
        let event = tokio::select! {
            event = events.recv() => event,
            _ = count.tick(), if status.is_some() => {
                status.iter().for_each(|status| drop(status.send_replace(forwarder.status())));
                continue;
            }
            () = new_file.notified() => {
                observer.iter().for_each(Observer::begin_file);
                continue;
            }
            _ = sweep.tick() => {
                forwarder.tick();
                tracing::debug!(ads = forwarder.ads(), "remembered");
                if let Some(observer) = &mut observer
                    && let Ok(peers) = swarm.peers().await
                {
                    observer.on_sweep(&peers, forwarder.ads());
                }
                continue;
            }
        };
        if let (Some(observer), Some(event)) = (&mut observer, &event) {
            observer.on_event(event);
        }
        match event {
            Some(Event::Gossip {
                topic,
                source,
                data,
                ticket,
            }) => {
                let verdict = forwarder.judge(&topic, &data);
                if let Some(observer) = &observer {
                    observer.on_judged(&topic, &source, verdict, data);
                }
                // An error says that the swarm has stopped, and so will the events.
                let _stopped = swarm.judge(ticket, verdict).await;
            }
            Some(Event::Asked {
                exchange: Exchange::Ad,
                data,
                reply,
                ..
            }) => {
                if let Some(answer) = forwarder.answer(&data) {
                    let _stopped = reply.send(answer.into()).await;
                }
            }
            // It buys and sells nothing: dropped, an offer is answered by the end of the exchange.
            Some(_) => {}
            None => return,
        }
    }
}

//! Nodes to put a network together from.

use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use infernet_swarm::{Config, Event, EventReceiver, Handle, Multiaddr, PeerId, Role, StreamReader, StreamWriter};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Longest time that one expected thing may take, on a machine with other work.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The topic of every network here.
pub(crate) const TOPIC: &str = "c0mpute/test/v1";

/// A running swarm. Dropping it aborts its task.
pub(crate) struct Node {
    pub(crate) handle: Handle,
    pub(crate) events: EventReceiver,
    pub(crate) cancel: CancellationToken,
    pub(crate) task: JoinSet<()>,
}

/// A configuration with an identity of its own that listens on loopback.
pub(crate) fn config(role: Role) -> Config {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let mut secret = [7; 32];
    secret[30..].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    let mut config = Config::new(secret, "test", role);
    config.listen = vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()];
    config.topics = vec![TOPIC.to_owned()];
    config.refusal = "full".into();
    config
}

/// A node of its own.
pub(crate) fn node() -> Node {
    start(config(Role::Node))
}

/// A node that joins at `addresses`.
pub(crate) fn joining(addresses: Vec<Multiaddr>) -> Node {
    let mut config = config(Role::Node);
    config.bootstrap = addresses;
    start(config)
}

pub(crate) fn start(config: Config) -> Node {
    let (handle, events, event_loop) = infernet_swarm::new(config).unwrap();
    let (cancel, mut task) = (CancellationToken::new(), JoinSet::new());
    task.spawn(event_loop.run(cancel.clone()));
    Node {
        handle,
        events,
        cancel,
        task,
    }
}

/// Two connected nodes.
pub(crate) async fn pair() -> (Node, Node) {
    let (one, other) = (node(), node());
    one.handle.dial(other.id(), other.addresses().await).await.unwrap();
    (one, other)
}

impl Node {
    pub(crate) fn id(&self) -> PeerId {
        self.handle.local_peer_id()
    }

    pub(crate) async fn addresses(&self) -> Vec<Multiaddr> {
        soon(self.handle.listen_addrs()).await.unwrap()
    }

    /// The first event that `wanted` makes something of; others are dropped.
    pub(crate) async fn event<T>(&mut self, mut wanted: impl FnMut(Event) -> Option<T>) -> T {
        soon(async {
            loop {
                let event = self.events.recv().await.expect("the event loop runs");
                if let Some(found) = wanted(event) {
                    return found;
                }
            }
        })
        .await
    }

    pub(crate) async fn connected(&mut self, peer: PeerId) {
        self.event(|event| matches!(event, Event::Connected { peer: it } if it == peer).then_some(()))
            .await;
    }

    pub(crate) async fn disconnected(&mut self, peer: PeerId) {
        self.event(|event| matches!(event, Event::Disconnected { peer: it } if it == peer).then_some(()))
            .await;
    }

    pub(crate) async fn subscribed(&mut self, peer: PeerId) {
        self.event(|event| matches!(event, Event::Subscribed { peer: it, .. } if it == peer).then_some(()))
            .await;
    }

    /// The next direct stream that a peer opens.
    pub(crate) async fn inbound(&mut self) -> (PeerId, StreamReader, StreamWriter) {
        self.event(|event| match event {
            Event::Inbound(stream) => {
                let peer = stream.peer;
                let (reader, writer) = stream.split();
                Some((peer, reader, writer))
            }
            _ => None,
        })
        .await
    }

    /// Takes inbound streams and answers every frame with itself, for as long as the task set lives.
    pub(crate) fn echo(self) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut node = self;
            let mut streams = JoinSet::new();
            while let Some(event) = node.events.recv().await {
                if let Event::Inbound(stream) = event {
                    let (mut reader, mut writer) = stream.split();
                    streams.spawn(async move {
                        while let Ok(Some(frame)) = reader.next().await {
                            if writer.send(frame).await.is_err() {
                                break;
                            }
                        }
                    });
                }
            }
        });
        tasks
    }
}

/// `future`, or a failed test.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("it should have happened by now")
}

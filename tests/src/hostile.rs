//! A peer that keeps no rule: a bare swarm with a good key, whose messages are written by hand.
//!
//! It speaks the transport properly, so that what it says reaches the node under test, and signs with its own key,
//! so that what it claims is refused for what it is and not for a typing error.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use infernet_node::node::Node;
use infernet_node::runtime::Tasks;
use infernet_protocol::auction::{JobAccept, JobBid, JobOffer, OfferReply, Policy, Requirement, Volume};
use infernet_protocol::capability::{CapabilityAd, Class, Features, ModelAd};
use infernet_protocol::codec::{self, Blob, List, Text};
use infernet_protocol::market::lease::Papers;
use infernet_protocol::names::INFERENCE;
use infernet_protocol::stream::frames::{Body, BuyerFrame, Endpoint, Request, Start, WorkerFrame};
use infernet_protocol::{
    Identity, JobId, LeaseId, Message, Millis, ModelId, Network, NodeId, Price, RequestId, UnixMillis, Verified,
};
use infernet_swarm::{
    Config, DirectStream, Event, EventReceiver, Exchange, Handle, Multiaddr, PeerId, PublishError, Role, StreamReader,
    StreamWriter, Verdict,
};

use crate::network::{PATIENCE, settings};
use crate::processes::Process;

/// Aux randomness of signatures; a test's keys guard nothing.
const ENTROPY: [u8; 32] = [7; 32];

/// What it does with what others send it.
pub trait Conduct: Send + Sync + 'static {
    /// The answer to an offer.
    fn bid(&self, me: &Raw, offer: &Verified<JobOffer>) -> Option<Verified<JobBid>>;
    /// Frames that it answers a buyer's first request with; the stream is closed after them.
    fn answer(&self, request: &Request) -> Vec<Vec<u8>>;
}

/// Sells nothing.
#[derive(Clone, Copy, Debug)]
pub struct Buyer;

impl Conduct for Buyer {
    fn bid(&self, _: &Raw, _: &Verified<JobOffer>) -> Option<Verified<JobBid>> {
        None
    }

    fn answer(&self, _: &Request) -> Vec<Vec<u8>> {
        Vec::new()
    }
}

/// The peer.
#[derive(Clone, Debug)]
pub struct Raw {
    /// Its key.
    pub identity: Identity,
    /// Its network.
    pub network: Network,
    /// Its swarm.
    pub handle: Handle,
    /// Its tasks, which end with it.
    pub tasks: Tasks,
    heard: Arc<Mutex<Vec<Bytes>>>,
    asked: Arc<AtomicU64>,
    numbers: Arc<AtomicU64>,
}

/// A node that the peer turns to.
pub trait Dialled {
    /// Its key.
    fn id(&self) -> NodeId;
    /// Where it is.
    fn at(&self) -> impl Future<Output = Vec<Multiaddr>> + Send;
}

impl Dialled for Arc<Node> {
    fn id(&self) -> NodeId {
        Node::id(self)
    }

    async fn at(&self) -> Vec<Multiaddr> {
        self.listening().await.expect("it listens")
    }
}

impl Dialled for Process {
    fn id(&self) -> NodeId {
        NodeId::from_peer_id(self.peer_id()).expect("its own key")
    }

    async fn at(&self) -> Vec<Multiaddr> {
        vec![self.address().parse().expect("a good address")]
    }
}

/// Both halves of a direct stream.
#[derive(Debug)]
pub struct Line {
    /// What comes.
    pub reader: StreamReader,
    /// What goes.
    pub writer: StreamWriter,
}

impl Line {
    fn new(stream: DirectStream) -> Self {
        let (reader, writer) = stream.split();
        Self { reader, writer }
    }

    /// Sends frames in one write; whether they could be sent.
    pub async fn say(&mut self, frames: &[Vec<u8>]) -> bool {
        for frame in frames {
            if self.writer.send(frame).await.is_err() {
                return false;
            }
        }
        true
    }

    /// The next frame; `None` where the other side ended the stream.
    pub async fn hear(&mut self) -> Option<WorkerFrame> {
        let bytes = self.reader.next().await.ok().flatten()?;
        Some(WorkerFrame::from_bytes(&bytes).expect("an honest node's frames are well formed"))
    }

    /// Everything until the other side ends the stream, or fails the request.
    pub async fn rest(&mut self) -> Vec<WorkerFrame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.hear().await {
            let over = matches!(frame, WorkerFrame::Fail(_) | WorkerFrame::Receipt(_));
            frames.push(frame);
            if over {
                break;
            }
        }
        frames
    }
}

/// Unix milliseconds now.
#[must_use]
pub fn now() -> UnixMillis {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}

/// The libp2p name of a node.
#[must_use]
pub fn peer_of(node: NodeId) -> PeerId {
    PeerId::from_bytes(&node.peer_id_bytes()).expect("a node's key is a key")
}

impl Raw {
    /// Starts a peer whose key is `number` and that subscribes to every topic.
    pub async fn start(number: u8, bootstrap: &[Multiaddr], conduct: impl Conduct) -> Self {
        let settings = settings(number, bootstrap);
        let mut config = Config::new(settings.identity.secret(), settings.network.as_str(), Role::Node);
        config.listen = settings.listen;
        config.bootstrap = bootstrap.to_vec();
        config.topics = vec![
            settings.network.capability_topic(),
            settings.network.jobs_topic(INFERENCE),
        ];
        let (handle, events, event_loop) = infernet_swarm::new(config).expect("a swarm");
        let tasks = Tasks::new();
        tasks.spawn("swarm", event_loop.run(tasks.token()));
        let raw = Self {
            identity: settings.identity,
            network: settings.network,
            handle,
            tasks: tasks.clone(),
            heard: Arc::default(),
            asked: Arc::default(),
            numbers: Arc::default(),
        };
        tasks.spawn_until_cancelled("events", raw.clone().attend(events, Arc::new(conduct)));
        raw
    }

    async fn attend(self, mut events: EventReceiver, conduct: Arc<dyn Conduct>) {
        while let Some(event) = events.recv().await {
            match event {
                Event::Gossip { data, ticket, .. } => {
                    self.heard.lock().unwrap_or_else(PoisonError::into_inner).push(data);
                    let _ = self.handle.judge(ticket, Verdict::Accept).await;
                }
                Event::Asked {
                    exchange: Exchange::Offer,
                    data,
                    reply,
                    ..
                } => {
                    let offer = Verified::from_bytes(&data, &self.network);
                    let bid = offer.ok().and_then(|offer| conduct.bid(&self, &offer));
                    let answer = OfferReply {
                        bid: bid.map(|bid| Blob(bid.bytes().to_vec())),
                        decline: None,
                    };
                    let _ = reply.send(codec::to_vec(&answer).into()).await;
                }
                Event::Inbound(stream) => {
                    let (raw, conduct) = (self.clone(), conduct.clone());
                    self.tasks
                        .spawn_until_cancelled("serve", async move { raw.serve(stream, &*conduct).await });
                }
                _ => {}
            }
        }
    }

    async fn serve(&self, stream: DirectStream, conduct: &dyn Conduct) {
        let mut line = Line::new(stream);
        while let Ok(Some(frame)) = line.reader.next().await {
            if let Ok(BuyerFrame::Request(request)) = BuyerFrame::from_bytes(&frame) {
                self.asked.fetch_add(1, Ordering::Relaxed);
                line.say(&conduct.answer(&request)).await;
                return;
            }
        }
    }

    /// Every gossip message that it heard.
    #[must_use]
    pub fn heard(&self) -> Vec<Bytes> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many requests it was trusted with.
    #[must_use]
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// Never the same twice.
    fn number(&self) -> [u8; 16] {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed) + 1;
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.identity.node().as_bytes()[..8]);
        bytes[8..].copy_from_slice(&number.to_be_bytes());
        bytes
    }

    /// A message in its own name.
    #[must_use]
    pub fn sign<T: Message>(&self, message: T) -> Verified<T> {
        Verified::sign(message, &self.identity, &self.network, &ENTROPY)
    }

    // ---- as a buyer

    /// An offer that invites `provider`.
    #[must_use]
    pub fn offer(&self, provider: NodeId) -> Verified<JobOffer> {
        self.sign(JobOffer {
            job: JobId(self.number()),
            workload: Text::lossy(INFERENCE),
            requirement: Requirement {
                model: ModelId::new("scripted").expect("a good name"),
                digest: None,
                tags: List::default(),
                vram: None,
                context: 0,
                features: Features::CHAT,
                class: Class::A,
            },
            volume: Volume {
                input_tokens: 16,
                output_tokens: 16,
                requests: 100,
                at_once: 1,
                lease: Millis(60_000),
            },
            policy: Policy::Balanced,
            price_cap: Price::FREE,
            rails: List::default(),
            window: Millis(1_000),
            invited: List::first_of([provider]),
            open: 0,
            public: true,
            issued_at: now(),
            expires_at: now().after(Millis(30_000)),
        })
    }

    /// The node's bid for an offer.
    pub async fn bid(&self, node: &impl Dialled, offer: &Verified<JobOffer>) -> Verified<JobBid> {
        let answer = self.ask(node, Exchange::Offer, offer.bytes().to_vec()).await;
        let reply: OfferReply = codec::from_slice(&answer.expect("an answer")).expect("a reply");
        let bid = reply.bid.unwrap_or_else(|| panic!("no bid but {:?}", reply.decline));
        Verified::from_bytes(&bid.0, &self.network).expect("a good bid")
    }

    /// Asks in an exchange.
    pub async fn ask(&self, node: &impl Dialled, exchange: Exchange, question: Vec<u8>) -> Option<Bytes> {
        let at = node.at().await;
        let asked = self.handle.ask(
            exchange,
            peer_of(node.id()),
            at,
            question.into(),
            Duration::from_secs(10),
        );
        asked.await.ok()
    }

    /// An accept of a bid.
    #[must_use]
    pub fn accept(&self, offer: &Verified<JobOffer>, bid: &Verified<JobBid>) -> Verified<JobAccept> {
        self.sign(JobAccept {
            lease: LeaseId {
                job: offer.job,
                attempt: 0,
            },
            bid: bid.hash(),
            winner: bid.signer(),
            payer: None,
            issued_at: now(),
        })
    }

    /// Papers that are in order.
    pub async fn papers(&self, node: &impl Dialled) -> Papers {
        let offer = self.offer(node.id());
        let bid = self.bid(node, &offer).await;
        let accept = self.accept(&offer, &bid);
        Papers { offer, bid, accept }
    }

    /// A direct stream.
    pub async fn open(&self, node: &impl Dialled) -> Line {
        let at = node.at().await;
        let opened = async {
            // A node that was just offended hangs up, which may meet the next attempt.
            loop {
                if let Ok(stream) = self.handle.open(peer_of(node.id()), at.clone()).await {
                    return Line::new(stream);
                }
            }
        };
        tokio::time::timeout(PATIENCE, opened).await.expect("a stream")
    }

    /// A request and its body.
    #[must_use]
    pub fn request(&self) -> (Request, Vec<Vec<u8>>) {
        let body = br#"{"model":"scripted","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
        let request = Request {
            request: RequestId(self.number()),
            endpoint: Endpoint::ChatCompletions,
            salt: ENTROPY,
            length: body.len() as u64,
            continuation: None,
        };
        let frames = vec![
            BuyerFrame::from(request.clone()).to_bytes(),
            BuyerFrame::from(Body {
                bytes: Blob(body.to_vec()),
            })
            .to_bytes(),
        ];
        (request, frames)
    }

    // ---- as a provider

    /// An ad for the scripted model, free and fast.
    pub async fn ad(&self) -> Verified<CapabilityAd> {
        let model = ModelAd {
            id: ModelId::new("scripted").expect("a good name"),
            digest: None,
            context: 1 << 20,
            quantisation: Text::default(),
            features: Features::CHAT,
            price: Price::FREE,
            max_output: 4_096,
            ttft: Millis(1),
            speed: 1_000_000,
        };
        let at = self.handle.dialable_addrs().await.expect("it listens");
        self.sign(CapabilityAd {
            sequence: now().0,
            issued_at: now(),
            interval: Millis(30_000),
            agent: Text::default(),
            tags: List::first_of(
                ["c0mpute:role:infernet", "c0mpute:class:A"]
                    .iter()
                    .filter_map(|tag| Text::new(*tag).ok()),
            ),
            addresses: List::first_of(at.iter().filter_map(|address| Text::new(address.to_string()).ok())),
            gpus: List::default(),
            models: List::first_of([model]),
            models_total: 1,
            slots: 64,
            rails: List::default(),
        })
    }

    /// A bid at this price, faster than anybody.
    #[must_use]
    pub fn bid_at(&self, offer: &Verified<JobOffer>, price: Price) -> Verified<JobBid> {
        self.sign(JobBid {
            job: offer.job,
            offer: offer.hash(),
            price,
            ttft: Millis(1),
            speed: 1_000_000,
            queue: 0,
            addresses: List::default(),
            payees: List::default(),
            digest: None,
            at_once: 1,
            public: true,
        })
    }

    /// Publishes as soon as there is somebody to tell, which one that has just started has not.
    pub async fn publish(&self, topic: String, data: Vec<u8>) {
        let published = async {
            while let Err(PublishError::NoPeers { .. }) = self.handle.publish(topic.clone(), data.clone().into()).await
            {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, published)
            .await
            .expect("somebody listens");
    }
}

/// The frame that presents a lease.
#[must_use]
pub fn start(papers: &Papers) -> Vec<u8> {
    BuyerFrame::from(Start {
        accept: Blob(papers.accept.bytes().to_vec()),
        bid: Blob(papers.bid.bytes().to_vec()),
        offer: Blob(papers.offer.bytes().to_vec()),
    })
    .to_bytes()
}

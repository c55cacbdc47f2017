//! A copy of a recording in which nobody is named: for publication. Implements `specs/recording.md`, "Publications".
//!
//! Names become keyed hashes; the key is drawn for one publication and thrown away, so that a peer keeps its pseudonym
//! within it and in no other. Signatures and addresses are left out, since they would give names away.

use std::path::Path;

use hmac::{Hmac, KeyInit as _, Mac as _};
use infernet_protocol::auction::{JobAccept, JobBid, JobOffer, Payee, Payer};
use infernet_protocol::capability::{ADDRESSES, Address, CapabilityAd};
use infernet_protocol::codec::{List, Text};
use infernet_protocol::receipt::{Countersign, JobReceipt, Step};
use infernet_protocol::{Digest, JobId, LeaseId, Millis, Network, NodeId, RequestId};
use sha2::Sha256;

use crate::contents::{self, Content};
use crate::place::Place;
use crate::record::{Body, Header, Heard, PSEUDONYM_BYTES, Peer, PeerEvent, Published, Record, Unsigned, Verdict};
use crate::recording::{Limits, ReadError, Reader, Session, WriteError, Writer};

/// Prefix of the tags that the protocol defines; others may name somebody.
const TAGS: &str = "c0mpute:";
/// Programs of this project; the name of another may be its user's own.
const AGENT: &str = "infernet";
/// What any other is called.
const OTHER_AGENT: &str = "other";

/// The pseudonyms of one publication.
#[derive(Clone)]
pub struct Pseudonyms {
    key: [u8; 32],
}

impl std::fmt::Debug for Pseudonyms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pseudonyms").finish_non_exhaustive()
    }
}

impl Pseudonyms {
    /// Those of a key that nobody knows, this process aside.
    #[must_use]
    pub fn random() -> Self {
        Self::with_key(rand::random())
    }

    /// Those of a key, for tests: whoever knows it can tell who is who.
    #[must_use]
    pub fn with_key(key: [u8; 32]) -> Self {
        Self { key }
    }

    fn hash(&self, what: &str, name: &[u8]) -> [u8; 32] {
        // Any length is a key, so this does not fail.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.key) else {
            return [0; 32];
        };
        // No word holds a zero byte, so no two of (word, name) are hashed alike.
        mac.update(what.as_bytes());
        mac.update(&[0]);
        mac.update(name);
        mac.finalize().into_bytes().into()
    }

    fn short(&self, what: &str, name: &[u8]) -> [u8; PSEUDONYM_BYTES] {
        let mut short = [0; PSEUDONYM_BYTES];
        short.copy_from_slice(&self.hash(what, name)[..PSEUDONYM_BYTES]);
        short
    }

    /// A signer.
    #[must_use]
    pub fn node(&self, node: &NodeId) -> NodeId {
        NodeId(self.hash("peer", node.as_bytes()))
    }

    /// A peer; one that signs has the first half of its pseudonym as a signer.
    #[must_use]
    pub fn peer(&self, peer: &Peer) -> Peer {
        let hash = match NodeId::from_peer_id_bytes(peer.as_bytes()) {
            Ok(node) => self.node(&node).0,
            Err(_) => self.hash("peer", peer.as_bytes()),
        };
        Peer::of_signer(&NodeId(hash), true)
    }

    /// A hash by which messages name each other.
    fn digest(&self, digest: &Digest) -> Digest {
        Digest(self.hash("hash", &digest.0))
    }

    fn job(&self, job: &JobId) -> JobId {
        JobId(self.short("job", job.as_bytes()))
    }

    fn lease(&self, lease: &LeaseId) -> LeaseId {
        LeaseId {
            job: self.job(&lease.job),
            attempt: lease.attempt,
        }
    }

    fn wallet(&self, wallet: &Text<128>) -> Text<128> {
        Text::lossy(&hex::encode(self.short("wallet", wallet.as_str().as_bytes())))
    }

    /// The message under pseudonyms; `None` where it is of no kind that is known here.
    #[must_use]
    pub fn message(&self, message: &Unsigned) -> Option<Unsigned> {
        let content = match Content::of(message)? {
            Content::Ad(ad) => Content::Ad(CapabilityAd {
                agent: agent(&ad.agent),
                tags: List::first_of(ad.tags.iter().filter(|tag| tag.as_str().starts_with(TAGS)).cloned()),
                addresses: places(&ad.addresses),
                ..ad
            }),
            Content::Offer(offer) => Content::Offer(JobOffer {
                job: self.job(&offer.job),
                invited: List::first_of(offer.invited.iter().map(|node| self.node(node))),
                ..offer
            }),
            Content::Bid(bid) => Content::Bid(JobBid {
                job: self.job(&bid.job),
                offer: self.digest(&bid.offer),
                addresses: places(&bid.addresses),
                payees: List::first_of(bid.payees.iter().map(|payee| Payee {
                    rail: payee.rail.clone(),
                    address: self.wallet(&payee.address),
                })),
                ..bid
            }),
            Content::Accept(accept) => Content::Accept(JobAccept {
                lease: self.lease(&accept.lease),
                bid: self.digest(&accept.bid),
                winner: self.node(&accept.winner),
                payer: accept.payer.map(|payer| Payer {
                    wallet: self.wallet(&payer.wallet),
                    rail: payer.rail,
                }),
                ..accept
            }),
            Content::Receipt(receipt) => Content::Receipt(JobReceipt {
                lease: self.lease(&receipt.lease),
                prev: self.digest(&receipt.prev),
                step: Step {
                    request: RequestId(self.short("request", receipt.step.request.as_bytes())),
                    commitment: self.digest(&receipt.step.commitment),
                    ..receipt.step
                },
                ..receipt
            }),
            Content::Countersign(countersign) => Content::Countersign(Countersign {
                receipt: self.digest(&countersign.receipt),
                lease: self.lease(&countersign.lease),
                // For people, who may have written anything.
                note: Text::default(),
                ..countersign
            }),
        };
        Some(content.unsigned(self.node(&message.signer), self.digest(&message.hash)))
    }

    fn heard(&self, heard: &Heard) -> Published {
        // What was not accepted may hold anything, such as another's address under a name of its own.
        let messages = match heard.verdict {
            Verdict::Accept => contents::messages(&heard.data.0),
            Verdict::Ignore | Verdict::Reject | Verdict::Pass => List::default(),
        };
        let hidden: Option<Vec<Unsigned>> = messages.iter().map(|message| self.message(message)).collect();
        Published {
            topic: heard.topic.clone(),
            source: self.peer(&heard.source),
            verdict: heard.verdict,
            size: u32::try_from(heard.data.0.len()).unwrap_or(u32::MAX),
            messages: List::first_of(hidden.unwrap_or_default()),
        }
    }

    /// The record as it is published; `None` for a header, since a publication has its own.
    #[must_use]
    pub fn record(&self, record: Record) -> Option<Record> {
        let body = match record.body {
            Body::Header(_) => return None,
            Body::Heard(heard) => Body::Published(self.heard(&heard)),
            Body::Peer(event) => Body::Peer(PeerEvent {
                peer: self.peer(&event.peer),
                agent: event.agent.as_ref().map(agent),
                ..event
            }),
            // Published once more, under other pseudonyms.
            Body::Published(published) => Body::Published(Published {
                source: self.peer(&published.source),
                messages: List::first_of(published.messages.iter().filter_map(|message| self.message(message))),
                ..published
            }),
            body @ (Body::Sample(_) | Body::Lost(_)) => body,
        };
        Some(Record { at: record.at, body })
    }

    /// A session that tells as much of the recording as may be told.
    pub(crate) fn session(&self, header: &Header, network: Network) -> Session {
        Session {
            network,
            recorder: self.short("recorder", &header.recorder),
            recording: self.short("recording", &header.recording),
            agent: agent(&header.agent).as_str().to_owned(),
            sample_every: header.sample_every,
            is_publication: true,
        }
    }
}

/// The agent, if it is of this project: name and version, in a narrow alphabet.
#[must_use]
pub fn agent(agent: &Text<64>) -> Text<64> {
    let (name, version) = agent.as_str().split_once('/').unwrap_or_default();
    let is_ours = name == AGENT || name.strip_prefix(AGENT).is_some_and(|rest| rest == "-bootstrap");
    let is_version =
        (1..=16).contains(&version.len()) && version.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if is_ours && is_version {
        agent.clone()
    } else {
        Text::lossy(OTHER_AGENT)
    }
}

fn places(addresses: &List<Address, ADDRESSES>) -> List<Address, ADDRESSES> {
    let places = addresses.iter().filter_map(|address| Place::of(address.as_str()));
    List::first_of(places.map(|place| Text::lossy(&place.to_string())))
}

/// Why a recording cannot be published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The copy cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Its header names no network that could be.
    #[error("the recording names the network `{0}`, which cannot be; leave the file out")]
    Network(String),
}

/// What was published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Records written.
    pub records: u64,
    /// Gossip messages of which nothing but size and verdict is told.
    pub withheld: u64,
}

/// Writes a copy of a recording into `directory`; under pseudonyms, or without any as it was.
///
/// # Errors
/// [`PublishError`]; what was written by then stays.
pub fn publish(
    reader: &mut Reader,
    directory: &Path,
    pseudonyms: Option<&Pseudonyms>,
) -> Result<Outcome, PublishError> {
    let mut outcome = Outcome::default();
    let mut writer: Option<([u8; 16], Writer)> = None;
    while let Some(record) = reader.next().transpose()? {
        if let Body::Header(header) = &record.body {
            let is_next = writer
                .as_ref()
                .is_none_or(|(recording, _)| *recording != header.recording);
            if is_next {
                if let Some((_, writer)) = writer.take() {
                    writer.finish()?;
                }
                writer = Some((header.recording, begin(header, directory, pseudonyms)?));
            }
            continue;
        }
        let Some((_, writer)) = &mut writer else { continue };
        let copy = match pseudonyms {
            Some(pseudonyms) => pseudonyms.record(record),
            None => Some(record),
        };
        let Some(copy) = copy else { continue };
        if let Body::Published(published) = &copy.body
            && published.messages.is_empty()
        {
            outcome.withheld += 1;
        }
        writer.write(&copy)?;
        outcome.records += 1;
    }
    if let Some((_, writer)) = writer {
        writer.finish()?;
    }
    Ok(outcome)
}

fn begin(header: &Header, directory: &Path, pseudonyms: Option<&Pseudonyms>) -> Result<Writer, PublishError> {
    let name = header.network.as_str();
    let network = Network::new(name).map_err(|_| PublishError::Network(name.to_owned()))?;
    let session = match pseudonyms {
        Some(pseudonyms) => pseudonyms.session(header, network),
        None => Session {
            network,
            recorder: header.recorder,
            recording: header.recording,
            agent: header.agent.as_str().to_owned(),
            sample_every: header.sample_every,
            is_publication: header.is_publication(),
        },
    };
    let limits = Limits {
        // No kill is waited for here, and larger members are smaller files.
        member_age: Millis(u32::MAX),
        member_bytes: 4 * 1024 * 1024,
        ..Limits::keeping_all()
    };
    Ok(Writer::create(directory, session, limits)?)
}

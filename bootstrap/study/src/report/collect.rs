//! One pass over a recording: everything that the page tells of it, within bounds, whatever the recording holds.

use std::collections::{BTreeMap, BTreeSet};

use infernet_protocol::capability::CapabilityAd;
use infernet_protocol::codec::Text;
use infernet_protocol::{NodeId, UnixMillis};

use super::auctions::Auctions;
use super::spread::Spread;
use super::timeline::Timeline;
use crate::contents::{self, Content, Sort};
use crate::place::{Path, Transport};
use crate::record::{Body, Change, Header, Peer, PeerEvent, Published, Record, Sample, Unsigned, Verdict};

/// Peers, and signers of ads, that are counted one by one.
const PEERS: usize = 32_768;
/// Gaps that are listed.
const GAPS: usize = 256;
/// Pairs of a signer and the peer that handed its messages over.
const PATHS: usize = 131_072;
/// Networks, recorders and programs that are listed.
const LISTED: usize = 256;
/// A pause is a gap if it is longer than so many samples.
const SAMPLES_MISSED: u64 = 3;
/// And where no samples are taken, if it is longer than this.
const SILENCE: u64 = 300_000;

/// A peer of the recorder.
#[derive(Clone, Debug, Default)]
pub(super) struct Met {
    pub(super) agent: Option<Text<64>>,
    pub(super) transport: Option<Transport>,
    pub(super) path: Option<Path>,
    pub(super) is_connected: bool,
    /// Messages that it was the first to hand over.
    pub(super) messages: u64,
}

/// A signer of ads, by the last of them.
#[derive(Clone, Debug)]
pub(super) struct Provider {
    pub(super) ad: CapabilityAd,
    heard: UnixMillis,
}

/// A time of which nothing is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) from: UnixMillis,
    pub(super) to: UnixMillis,
    /// Whether another recording begins at its end: the recorder was not running.
    pub(super) is_restart: bool,
}

/// What a recording tells.
#[derive(Clone, Debug, Default)]
pub struct Collector {
    pub(super) networks: BTreeSet<String>,
    pub(super) recorders: BTreeSet<[u8; 16]>,
    pub(super) is_publication: bool,
    pub(super) first: Option<UnixMillis>,
    pub(super) last: Option<UnixMillis>,
    pub(super) records: u64,
    pub(super) bytes: u64,
    pub(super) lost: u64,
    pub(super) gaps: Vec<Gap>,
    /// Those beyond the bound, too.
    pub(super) gaps_total: u64,
    pub(super) missing: u64,
    pub(super) timeline: Timeline,
    pub(super) verdicts: BTreeMap<(Sort, Verdict), u64>,
    pub(super) peers: BTreeMap<Peer, Met>,
    pub(super) most_peers: u32,
    pub(super) round_trips: Spread,
    pub(super) providers: BTreeMap<NodeId, Provider>,
    /// From the date of an ad to when it was heard, and between two ads of one signer, in milliseconds.
    pub(super) ad_delay: Spread,
    pub(super) ad_every: Spread,
    pub(super) auctions: Auctions,
    /// Messages of a signer by the peer that was the first to hand them over.
    pub(super) paths: BTreeMap<(Peer, Peer), u64>,
    header: Option<Header>,
}

impl Collector {
    /// Takes the next record of a recording or a publication.
    pub fn take(&mut self, record: &Record) {
        let at = record.at;
        if let Body::Header(header) = &record.body {
            return self.on_header(header, at);
        }
        self.records += 1;
        self.first = Some(self.first.map_or(at, |first| first.min(at)));
        self.look_for_gap(at, false);
        match &record.body {
            Body::Header(_) => {}
            Body::Heard(heard) => {
                let messages = contents::messages(&heard.data.0);
                self.on_gossip(at, &heard.source, heard.verdict, heard.data.0.len() as u64, &messages);
            }
            Body::Published(Published {
                source,
                verdict,
                size,
                messages,
                ..
            }) => self.on_gossip(at, source, *verdict, u64::from(*size), messages),
            Body::Peer(event) => self.on_peer(event),
            Body::Sample(sample) => self.on_sample(at, sample),
            Body::Lost(lost) => self.lost = self.lost.saturating_add(lost.records),
        }
    }

    /// Records that were taken, headers aside.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Whether nothing was recorded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    fn on_header(&mut self, header: &Header, at: UnixMillis) {
        if self.networks.len() < LISTED {
            self.networks.insert(header.network.as_str().to_owned());
        }
        if self.recorders.len() < LISTED {
            self.recorders.insert(header.recorder);
        }
        self.is_publication |= header.is_publication();
        let is_restart = self
            .header
            .as_ref()
            .is_some_and(|last| last.recording != header.recording);
        if is_restart {
            self.look_for_gap(at, true);
            self.peers.values_mut().for_each(|met| met.is_connected = false);
        }
        self.header = Some(header.clone());
    }

    fn look_for_gap(&mut self, at: UnixMillis, is_restart: bool) {
        let from = self.last.unwrap_or(at);
        self.last = Some(from.max(at));
        let every = self
            .header
            .as_ref()
            .map_or(0, |header| u64::from(header.sample_every.0));
        let silence = if every == 0 { SILENCE } else { every * SAMPLES_MISSED };
        if at.since(from) <= silence {
            return;
        }
        self.gaps_total += 1;
        self.missing = self.missing.saturating_add(at.since(from));
        if self.gaps.len() < GAPS {
            self.gaps.push(Gap {
                from,
                to: at,
                is_restart,
            });
        }
    }

    fn met(&mut self, peer: &Peer) -> Option<&mut Met> {
        if self.peers.len() >= PEERS && !self.peers.contains_key(peer) {
            return None;
        }
        Some(self.peers.entry(peer.clone()).or_default())
    }

    fn on_peer(&mut self, event: &PeerEvent) {
        let Some(met) = self.met(&event.peer) else { return };
        met.is_connected = event.change != Change::Disconnected;
        if event.agent.is_some() {
            met.agent.clone_from(&event.agent);
        }
        if event.transport != Transport::Unknown {
            met.transport = Some(event.transport);
        }
        if event.path != Path::Unknown {
            met.path = Some(event.path);
        }
    }

    fn on_sample(&mut self, at: UnixMillis, sample: &Sample) {
        self.most_peers = self.most_peers.max(sample.peers);
        if let Some(round_trip) = sample.round_trip {
            self.round_trips.add(u64::from(round_trip.0));
        }
        let part = self.timeline.at(at);
        part.peers = part.peers.max(Some(sample.peers));
        part.relayed = part.relayed.max(Some(sample.relayed));
        part.ads = part.ads.max(Some(sample.ads));
    }

    fn on_gossip(&mut self, at: UnixMillis, source: &Peer, verdict: Verdict, bytes: u64, messages: &[Unsigned]) {
        let sort = Sort::of(messages);
        self.bytes = self.bytes.saturating_add(bytes);
        *self.verdicts.entry((sort, verdict)).or_default() += 1;
        self.timeline.at(at).gossip[sort as usize] += 1;
        if let Some(met) = self.met(source) {
            met.messages += 1;
        }
        // What the recorder did not believe tells nothing of the market.
        if verdict != Verdict::Accept {
            return;
        }
        let is_pseudonym = self.header.as_ref().is_some_and(Header::is_publication);
        if let Some(message) = messages.first() {
            let path = (Peer::of_signer(&message.signer, is_pseudonym), source.clone());
            if self.paths.len() < PATHS || self.paths.contains_key(&path) {
                *self.paths.entry(path).or_default() += 1;
            }
        }
        for message in messages {
            match Content::of(message) {
                Some(Content::Ad(ad)) => self.on_ad(ad, message.signer, at),
                Some(Content::Offer(offer)) => self.auctions.on_offer(&offer, message.hash, at),
                Some(Content::Bid(bid)) => self.auctions.on_bid(&bid, message.hash, at),
                Some(Content::Accept(accept)) => self.auctions.on_accept(&accept, at),
                Some(Content::Receipt(receipt)) => self.auctions.on_settled(&receipt),
                Some(Content::Countersign(_)) | None => {}
            }
        }
    }

    fn on_ad(&mut self, ad: CapabilityAd, signer: NodeId, at: UnixMillis) {
        let last = self.providers.get(&signer);
        // Of two recorders that hear an ad, the later one tells nothing new.
        if last.is_some_and(|last| last.ad.sequence >= ad.sequence) {
            return;
        }
        self.ad_delay.add(at.since(ad.issued_at));
        if let Some(last) = last {
            let every = at.since(last.heard);
            self.ad_every.add(every);
        } else if self.providers.len() >= PEERS {
            return;
        }
        self.providers.insert(signer, Provider { ad, heard: at });
    }
}

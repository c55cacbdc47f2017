//! Gossip messages, and who has which of them.

use infernet_protocol::Verified;
use infernet_protocol::auction::{JobBid, JobOffer};
use infernet_protocol::capability::CapabilityAd;
use infernet_protocol::market::gossip::Gossip;

use crate::judge::Verdict;
use crate::wire;

/// A set of nodes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bits(Vec<u64>);

impl Bits {
    pub(crate) fn new(nodes: usize) -> Self {
        Self(vec![0; nodes.div_ceil(64)])
    }

    pub(crate) fn has(&self, node: u32) -> bool {
        let word = self.0.get(node as usize / 64).copied().unwrap_or(u64::MAX);
        word >> (node % 64) & 1 == 1
    }

    /// Puts a node in; whether it was not in before.
    pub(crate) fn put(&mut self, node: u32) -> bool {
        let bit = 1 << (node % 64);
        match self.0.get_mut(node as usize / 64) {
            Some(word) if *word & bit == 0 => {
                *word |= bit;
                true
            }
            _ => false,
        }
    }
}

/// What a message is.
#[derive(Clone, Debug)]
pub(crate) enum What {
    /// The so-manieth ad of its author.
    Ad(Verified<CapabilityAd>, u16),
    /// An offer.
    Offer(Verified<JobOffer>),
    /// A bid for the offer in that message; whether it keeps to the offer and to its author's ad.
    Bid(Verified<JobBid>, u32, bool),
    /// The accept or the end of a deal: the message with its offer, and the worker where it must be known.
    Rest(Gossip, u32, Option<u32>),
    /// Bytes, and what became of them where they were read; once, since it depends on nothing else.
    Broken(Vec<u8>, Verdict),
}

/// A message and how far it got.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) what: What,
    pub(crate) author: u32,
    pub(crate) topic: usize,
    /// Bytes of data.
    pub(crate) size: u32,
    pub(crate) sent_at: u64,
    /// Who received it.
    pub(crate) seen: Bits,
    /// Who accepted it.
    pub(crate) taken: Bits,
    pub(crate) copies: u64,
    pub(crate) reached: u32,
    /// Nodes that were up when it was published.
    pub(crate) audience: u32,
    /// When half of them, and 99% of them, had accepted it.
    pub(crate) half: Option<u64>,
    pub(crate) most: Option<u64>,
    /// Share of those who were up all the time that got it, per mille; counted some seconds later.
    pub(crate) delivered: Option<u32>,
}

impl Message {
    pub(crate) fn new(what: What, author: u32, sent_at: u64, nodes: usize, audience: u32) -> Self {
        let topic = match &what {
            What::Ad(..) | What::Broken(..) => wire::ADS,
            _ => wire::JOBS,
        };
        let bytes = match &what {
            What::Ad(ad, _) => ad.bytes().len(),
            What::Offer(offer) => offer.bytes().len(),
            What::Bid(bid, ..) => bid.bytes().len(),
            What::Rest(gossip, ..) => gossip.to_bytes().len(),
            What::Broken(bytes, _) => bytes.len(),
        };
        Self {
            what,
            author,
            topic,
            size: u32::try_from(bytes).unwrap_or(0),
            sent_at,
            seen: Bits::new(nodes),
            taken: Bits::new(nodes),
            copies: 0,
            reached: 0,
            audience,
            half: None,
            most: None,
            delivered: None,
        }
    }

    /// The message as a forwarder reads it. It was signed by the real code and is not verified at each node.
    pub(crate) fn read(&self) -> Result<Gossip, Verdict> {
        match &self.what {
            What::Ad(ad, _) => Ok(Gossip::Ad(ad.clone())),
            What::Offer(offer) => Ok(Gossip::Offer(offer.clone())),
            What::Bid(bid, ..) => Ok(Gossip::Bid(bid.clone())),
            What::Rest(gossip, ..) => Ok(gossip.clone()),
            What::Broken(_, verdict) => Err(*verdict),
        }
    }

    /// Notes that one more node accepted it.
    pub(crate) fn on_taken(&mut self, node: u32, now: u64) {
        if !self.taken.put(node) {
            return;
        }
        self.reached += 1;
        let after = now - self.sent_at;
        if self.half.is_none() && self.reached * 2 >= self.audience {
            self.half = Some(after);
        }
        if self.most.is_none() && self.reached * 100 >= self.audience * 99 {
            self.most = Some(after);
        }
    }

    /// Whether it has been everywhere, so that nobody need be asked.
    pub(crate) fn is_everywhere(&self) -> bool {
        self.reached >= self.audience
    }

    /// Forgets who had it, once nobody hands it on any more.
    pub(crate) fn forget(&mut self) {
        self.seen = Bits::default();
        self.taken = Bits::default();
    }
}

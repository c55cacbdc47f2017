//! Somebody who hears everything that is gossiped and signs with a key of its own. Nothing of what it does may work;
//! the laws notice if anything does.

use std::rc::Rc;

use infernet_protocol::auction::{JobAccept, JobBid, JobOffer};
use infernet_protocol::market::gossip::Gossip;
use infernet_protocol::market::lease::Papers;
use infernet_protocol::receipt::{Countersign, JobReceipt, Status, Step, Total};
use infernet_protocol::{Digest, Identity, LeaseId, MicroUsd, Millis, RequestId, UnixMillis, Verified};

use super::buyer::BuyerNode;
use super::laws::Law;
use super::message::{Direct, Parcel};
use super::population::each;
use super::worker::WorkerNode;
use super::world::Net;

/// The attacker.
pub(super) struct Attacker {
    at: usize,
    identity: Identity,
}

impl Attacker {
    pub(super) fn new(at: usize, identity: Identity) -> Self {
        Self { at, identity }
    }

    /// Nobody has anything for it.
    pub(super) fn on_direct(&mut self, message: &Direct) -> Law {
        match message {
            Direct::Delivered(_) | Direct::Answer(_, _, Some(_)) => {
                Err("the attacker was served on somebody else's lease".to_owned())
            }
            _ => Ok(()),
        }
    }

    pub(super) fn act(&mut self, workers: &[WorkerNode], buyers: &[BuyerNode], net: &mut Net) {
        match net.rng.below(10) {
            0 | 1 => self.replay(net),
            2 => self.flip_a_bit(net),
            3 => self.forge_an_accept(net),
            4 => self.bid(net),
            5 => self.offer_out_of_time(net),
            _ => self.meddle(workers, buyers, net),
        }
    }

    fn overheard(&self, net: &mut Net) -> Option<Gossip> {
        let place = net.rng.index(net.overheard.len());
        net.overheard.get(place).cloned()
    }

    /// Says again what somebody said, perhaps long ago.
    fn replay(&self, net: &mut Net) {
        if let Some(gossip) = self.overheard(net) {
            net.publish_parcel(self.at, Parcel::Bytes(gossip.to_bytes()));
        }
    }

    fn flip_a_bit(&self, net: &mut Net) {
        if let Some(gossip) = self.overheard(net) {
            let mut bytes = gossip.to_bytes();
            let place = net.rng.index(bytes.len());
            bytes[place] ^= 1 << net.rng.below(8);
            net.publish_parcel(self.at, Parcel::Bytes(bytes));
        }
    }

    fn overheard_bid(&self, net: &Net) -> Option<(Verified<JobOffer>, Verified<JobBid>)> {
        net.overheard.iter().rev().find_map(|gossip| {
            let Gossip::Bid(bid) = gossip else { return None };
            net.overheard.iter().find_map(|other| match other {
                Gossip::Offer(offer) if offer.hash() == bid.offer => Some((offer.clone(), bid.clone())),
                _ => None,
            })
        })
    }

    fn accept(&self, bid: &Verified<JobBid>, attempt: u16, net: &mut Net) -> Verified<JobAccept> {
        let accept = JobAccept {
            lease: LeaseId { job: bid.job, attempt },
            bid: bid.hash(),
            winner: bid.signer(),
            payer: None,
            issued_at: net.at(self.at).wall,
        };
        let entropy = net.entropy();
        Verified::sign(accept, &self.identity, &net.network, &entropy)
    }

    /// Accepts a bid that was made to another.
    fn forge_an_accept(&self, net: &mut Net) {
        let Some((offer, bid)) = self.overheard_bid(net) else {
            return;
        };
        let accept = self.accept(&bid, 0, net);
        net.publish_parcel(self.at, Parcel::Bytes(accept.bytes().to_vec()));
        let (to, request) = (net.who[&bid.signer()], RequestId(net.rng.bytes()));
        let papers = Rc::new(Papers { offer, bid, accept });
        net.direct(self.at, to, Direct::Start(papers, request, 1));
    }

    /// Bids for an offer, invited by nobody and advertised nowhere.
    fn bid(&self, net: &mut Net) {
        let Some((offer, bid)) = self.overheard_bid(net) else {
            return;
        };
        let mut own = (*bid).clone();
        own.price = each(0);
        own.speed = u32::MAX;
        let entropy = net.entropy();
        let own = Verified::sign(own, &self.identity, &net.network, &entropy);
        if let Some(buyer) = net.who.get(&offer.signer()).copied() {
            net.direct(self.at, buyer, Direct::Bid(own.clone()));
        }
        net.publish_parcel(self.at, Parcel::Bytes(own.bytes().to_vec()));
    }

    /// Repeats somebody's offer under its own name, ten minutes ahead.
    fn offer_out_of_time(&self, net: &mut Net) {
        let Some((offer, _)) = self.overheard_bid(net) else {
            return;
        };
        let mut own = (*offer).clone();
        own.issued_at = UnixMillis(own.issued_at.0 + 600_000);
        own.expires_at = UnixMillis(own.expires_at.0 + 600_000);
        let entropy = net.entropy();
        let own = Verified::sign(own, &self.identity, &net.network, &entropy);
        net.publish_parcel(self.at, Parcel::Bytes(own.bytes().to_vec()));
    }

    /// Takes part in a lease of two others.
    fn meddle(&self, workers: &[WorkerNode], buyers: &[BuyerNode], net: &mut Net) {
        let leases: Vec<(LeaseId, (usize, usize))> = net.laws.leases().map(|(id, who)| (*id, *who)).collect();
        let chosen = net.rng.index(leases.len());
        let Some((lease, (buyer, worker))) = leases.get(chosen).copied() else {
            return;
        };
        let Some(book) = buyers[buyer - workers.len()].book(&lease) else {
            return;
        };
        let entropy = net.entropy();
        match net.rng.below(4) {
            0 => {
                let request = RequestId(net.rng.bytes());
                net.direct(
                    self.at,
                    worker,
                    Direct::Start(Rc::new(book.papers().clone()), request, 1),
                );
            }
            1 => net.direct(self.at, worker, Direct::Reconcile(book.clone().reconcile())),
            2 => {
                let receipt = book.ledger().entries().last().map(|entry| entry.receipt.hash());
                let sign = Countersign {
                    receipt: receipt.unwrap_or(Digest([0; 32])),
                    lease,
                    seq: book.ledger().next_seq().saturating_sub(1),
                    dispute: None,
                    note: Default::default(),
                    signed_at: net.at(self.at).wall,
                };
                let sign = Verified::sign(sign, &self.identity, &net.network, &entropy);
                net.direct(self.at, worker, Direct::Countersign(sign));
            }
            _ => {
                let receipt = forged_receipt(lease, book.ledger().next_seq(), book.ledger().head());
                let receipt = Verified::sign(receipt, &self.identity, &net.network, &entropy);
                net.direct(self.at, buyer, Direct::Receipt(receipt));
            }
        }
    }
}

fn forged_receipt(lease: LeaseId, seq: u32, prev: Digest) -> JobReceipt {
    let step = Step {
        request: RequestId([9; 16]),
        status: Status::Completed,
        input_tokens: 1,
        output_tokens: 1,
        ttft: Millis(1),
        duration: Millis(1),
        amount: MicroUsd(1),
        commitment: Digest([9; 32]),
    };
    JobReceipt {
        lease,
        seq,
        prev,
        step,
        total: Total::default().plus(&step),
        finished_at: UnixMillis(0),
    }
}

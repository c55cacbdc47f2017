//! A buyer and a worker who trade, and what one of them writes down.

use infernet_protocol::auction::{JobAccept, JobBid, JobOffer, Policy, Requirement, Volume};
use infernet_protocol::capability::{Class, Features};
use infernet_protocol::codec::{List, Text};
use infernet_protocol::receipt::ledger::{Deal, Ledger};
use infernet_protocol::receipt::{Dispute, Status, Step};
use infernet_protocol::{
    Digest, Identity, JobId, LeaseId, MicroUsd, Millis, ModelId, Network, Price, RequestId, UnixMillis, Verified,
};

use crate::clock;
use crate::store::{LeaseUsed, OpenLease, Record, RequestDropped, RequestMade, Side, Unreceipted};

pub(super) struct Party {
    pub(super) side: Side,
    pub(super) buyer: Identity,
    pub(super) worker: Identity,
    now: UnixMillis,
    seed: u8,
    offer: Verified<JobOffer>,
    bid: Verified<JobBid>,
    accept: Verified<JobAccept>,
    pub(super) ledger: Ledger,
    /// Requests with a receipt, in order.
    pub(super) receipted: Vec<RequestId>,
    /// The request whose provider was lost.
    pub(super) lost: Option<RequestId>,
}

fn sign<T: infernet_protocol::Message>(message: T, identity: &Identity) -> Verified<T> {
    Verified::sign(message, identity, &Network::default(), &[5; 32])
}

impl Party {
    pub(super) fn new(side: Side, seed: u8) -> Self {
        Self::made(side, seed, clock::wall())
    }

    pub(super) fn at(self, now: UnixMillis) -> Self {
        Self::made(self.side, self.seed, now)
    }

    fn made(side: Side, seed: u8, now: UnixMillis) -> Self {
        let buyer = Identity::from_secret(&[1; 32]).unwrap();
        let worker = Identity::from_secret(&[2; 32]).unwrap();
        let job = JobId([seed; 16]);
        let offer = sign(
            JobOffer {
                job,
                workload: Text::lossy("infernet.inference"),
                requirement: Requirement {
                    model: ModelId::new("demo").unwrap(),
                    digest: None,
                    tags: List::default(),
                    vram: None,
                    context: 512,
                    features: Features::CHAT,
                    class: Class::A,
                },
                volume: Volume {
                    input_tokens: 100,
                    output_tokens: 100,
                    requests: 1000,
                    at_once: 4,
                    lease: Millis(600_000),
                },
                policy: Policy::Balanced,
                price_cap: Price {
                    request: MicroUsd(7),
                    ..Price::FREE
                },
                rails: List::default(),
                window: Millis(500),
                invited: List::first_of([worker.node()]),
                open: 0,
                public: true,
                issued_at: now,
                expires_at: now.after(Millis(10_000)),
            },
            &buyer,
        );
        let bid = sign(
            JobBid {
                job,
                offer: offer.hash(),
                price: Price {
                    request: MicroUsd(7),
                    ..Price::FREE
                },
                ttft: Millis(10),
                speed: 1000,
                queue: 0,
                addresses: List::default(),
                payees: List::default(),
                digest: None,
                at_once: 4,
                public: true,
            },
            &worker,
        );
        let accept = sign(
            JobAccept {
                lease: LeaseId { job, attempt: 0 },
                bid: bid.hash(),
                winner: worker.node(),
                payer: None,
                issued_at: now,
            },
            &buyer,
        );
        Self {
            side,
            buyer,
            worker,
            now,
            seed,
            ledger: Ledger::new(Deal::new(&accept, &bid)),
            offer,
            bid,
            accept,
            receipted: Vec::new(),
            lost: None,
        }
    }

    pub(super) fn lease(&self) -> LeaseId {
        self.accept.lease
    }

    pub(super) fn opened(&self) -> Record {
        Record::lease_opened(self.side, &self.offer, &self.bid, &self.accept, self.now)
    }

    pub(super) fn id(&self, n: u16) -> RequestId {
        let mut id = [self.seed; 16];
        id[..2].copy_from_slice(&n.to_be_bytes());
        RequestId(id)
    }

    fn begun(&self, request: RequestId) -> Record {
        let lease = self.lease();
        match self.side {
            Side::Buyer => Record::RequestMade(RequestMade {
                lease,
                request,
                input_tokens_max: 100,
                output_tokens_max: 100,
                made_at: self.now,
            }),
            Side::Provider => Record::LeaseUsed(LeaseUsed {
                lease,
                request,
                used_at: self.now,
            }),
        }
    }

    /// A request from its beginning to its receipt and, with `verdict`, its countersignature.
    pub(super) fn request(&mut self, n: u16, verdict: Option<Option<Dispute>>) -> Vec<Record> {
        let request = self.id(n);
        let step = Step {
            request,
            status: Status::Completed,
            input_tokens: 10,
            output_tokens: 20,
            ttft: Millis(3),
            duration: Millis(9),
            amount: MicroUsd(7),
            commitment: Digest([4; 32]),
        };
        let receipt = sign(self.ledger.issue(step, self.now), &self.worker);
        self.ledger.file(receipt.clone()).unwrap();
        self.receipted.push(request);
        let mut records = vec![self.begun(request), Record::receipt(&receipt)];
        if let Some(dispute) = verdict {
            let mut verdict = self.ledger.judge(&receipt, None, self.now);
            verdict.dispute = dispute;
            let verdict = sign(verdict, &self.buyer);
            self.ledger.countersign(verdict.clone()).unwrap();
            records.push(Record::countersign(&verdict));
        }
        records
    }

    /// A request whose provider is lost in the middle; on the worker's side, one that never came to its receipt.
    pub(super) fn lose(&mut self, n: u16) -> Vec<Record> {
        let request = self.id(n);
        let mut records = vec![self.begun(request)];
        if self.side == Side::Buyer {
            self.lost = Some(request);
            records.push(Record::Unreceipted(Unreceipted {
                lease: self.lease(),
                request,
                next_frame: 3,
                input_tokens_max: 100,
                output_tokens_max: 50,
                commitment: Digest([8; 32]),
                lost_at: self.now,
            }));
        }
        records
    }

    /// Two receipts (the second not countersigned), a request that is lost, and one that was not taken.
    pub(super) fn whole_story(&mut self) -> Vec<Record> {
        let mut records = vec![self.opened()];
        records.extend(self.request(0, Some(None)));
        records.extend(self.request(1, None));
        records.extend(self.lose(2));
        records.push(self.begun(self.id(3)));
        records.push(Record::RequestDropped(RequestDropped {
            lease: self.lease(),
            request: self.id(3),
        }));
        records
    }

    /// Whether this is the lease as `whole_story` left it.
    pub(super) fn check(&self, found: &OpenLease) {
        assert_eq!(found.deal.lease(), self.lease());
        assert_eq!(found.deal.side, self.side);
        assert_eq!(
            (&found.deal.offer, &found.deal.bid, &found.deal.accept),
            (&self.offer, &self.bid, &self.accept)
        );
        assert_eq!(found.deal.ledger.entries(), self.ledger.entries());
        assert_eq!((found.opened_at, found.first_used_at), (self.now, Some(self.now)));
        assert_eq!(found.expires_at, self.now.after(Millis(1_200_000)));
        assert!(!found.suspended);
        match self.side {
            Side::Buyer => {
                assert_eq!((found.made.len(), found.used.len()), (3, 0));
                let lost = &found.unreceipted[&self.id(2)];
                assert_eq!((lost.next_frame, lost.seen().commitment), (3, Some(Digest([8; 32]))));
            }
            Side::Provider => {
                let used: Vec<_> = found.used.iter().copied().collect();
                assert_eq!(used, [self.id(0), self.id(1), self.id(2), self.id(3)]);
                assert_eq!(found.free.iter().copied().collect::<Vec<_>>(), [self.id(3)]);
                assert!(found.made.is_empty() && found.unreceipted.is_empty());
            }
        }
    }
}

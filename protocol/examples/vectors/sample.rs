//! One deal from ad to countersigned receipts, from fixed keys and times, and deals that break one rule each. The
//! vectors and the tests are made of these. Nothing here is random, so every run gives the same bytes.
#![allow(dead_code, reason = "each test takes what it needs")]
#![allow(clippy::unwrap_used, reason = "fixed values")]

use infernet_protocol::auction::{JobAccept, JobBid, JobOffer, Payee, Payer, Policy, Requirement, Volume};
use infernet_protocol::capability::{CapabilityAd, Class, Features, GpuGroup, GpuVendor, ModelAd, VramTier};
use infernet_protocol::codec::{Blob, List, Text, to_vec};
use infernet_protocol::receipt::chain::{EXPORT_VERSION, Export, ExportedReceipt};
use infernet_protocol::receipt::ledger::{Deal, Ledger};
use infernet_protocol::receipt::{Commitment, Countersign, Dispute, JobReceipt, Status, Step};
use infernet_protocol::signed::Message;
use infernet_protocol::{
    Digest, Identity, JobId, LeaseId, MicroUsd, Millis, ModelId, Network, Price, RequestId, UnixMillis, Verified,
};

/// When the deal happens.
pub(crate) const NOW: UnixMillis = UnixMillis(1_790_000_000_000);
/// Auxiliary randomness of every signature.
pub(crate) const ENTROPY: [u8; 32] = [0; 32];
/// What the provider asks.
pub(crate) const PRICE: Price = Price {
    input: MicroUsd(150_000),
    output: MicroUsd(600_000),
    request: MicroUsd(10),
};

/// Secret keys of the parties.
pub(crate) const BUYER: [u8; 32] = [0x11; 32];
pub(crate) const WORKER: [u8; 32] = [0x22; 32];
pub(crate) const STRANGER: [u8; 32] = [0x33; 32];

pub(crate) fn key(secret: [u8; 32]) -> Identity {
    Identity::from_secret(&secret).unwrap()
}

/// `N` bytes that count up from `first`.
pub(crate) fn count<const N: usize>(first: u8) -> [u8; N] {
    std::array::from_fn(|i| first.wrapping_add(u8::try_from(i).unwrap()))
}

pub(crate) fn text<const N: usize>(value: &str) -> Text<N> {
    Text::new(value).unwrap()
}

pub(crate) fn sign<T: Message>(message: T, who: &Identity, network: &Network) -> Verified<T> {
    Verified::sign(message, who, network, &ENTROPY)
}

pub(crate) fn model(id: &str) -> ModelAd {
    ModelAd {
        id: ModelId::new(id).unwrap(),
        digest: Some(Digest(count(0x40))),
        context: 4_096,
        quantisation: text("Q8_0"),
        features: Features::CHAT.with(Features::COMPLETIONS).with(Features::CONTINUE),
        price: PRICE,
        max_output: 1_024,
        ttft: Millis(120),
        speed: 42_500,
    }
}

pub(crate) fn ad() -> CapabilityAd {
    CapabilityAd {
        sequence: NOW.0,
        issued_at: NOW,
        interval: Millis(30_000),
        agent: text("infernet/0.1.0"),
        tags: List::first_of(["c0mpute:role:infernet", "c0mpute:gpu:nvidia", "c0mpute:class:A"].map(text)),
        addresses: List::first_of(["/ip4/203.0.113.7/tcp/46337", "/ip4/203.0.113.7/udp/46337/quic-v1"].map(text)),
        gpus: List::first_of([GpuGroup {
            vendor: GpuVendor::Nvidia,
            tier: VramTier::Large,
            model: text("GeForce RTX 4090"),
            count: 2,
        }]),
        models: List::first_of([
            model("qwen2.5:7b"),
            ModelAd {
                digest: None,
                quantisation: text(""),
                features: Features::EMBEDDINGS,
                price: Price::FREE,
                ttft: Millis(0),
                speed: 0,
                ..model("nomic-embed-text")
            },
        ]),
        models_total: 2,
        slots: 16,
        rails: List::first_of([text("evm:base:usdc")]),
    }
}

/// The ad by which a node leaves.
pub(crate) fn withdrawal() -> CapabilityAd {
    CapabilityAd {
        sequence: NOW.0 + 1,
        gpus: List::default(),
        models: List::default(),
        models_total: 0,
        slots: 0,
        addresses: List::default(),
        rails: List::default(),
        ..ad()
    }
}

pub(crate) fn offer() -> JobOffer {
    JobOffer {
        job: JobId(count(0xa0)),
        workload: text("infernet.inference"),
        requirement: Requirement {
            model: ModelId::new("qwen2.5:7b").unwrap(),
            digest: Some(Digest(count(0x40))),
            tags: List::first_of([text("c0mpute:gpu:nvidia")]),
            vram: Some(VramTier::Medium),
            context: 2_048,
            features: Features::CHAT,
            class: Class::A,
        },
        volume: Volume {
            input_tokens: 1_000,
            output_tokens: 500,
            requests: 8,
            at_once: 4,
            lease: Millis(300_000),
        },
        policy: Policy::Balanced,
        price_cap: Price {
            input: MicroUsd(200_000),
            output: MicroUsd(600_000),
            request: MicroUsd(10),
        },
        rails: List::first_of([text("evm:base:usdc")]),
        window: Millis(250),
        invited: List::first_of([key(WORKER).node(), key(STRANGER).node()]),
        open: 1_024,
        public: true,
        issued_at: NOW,
        expires_at: NOW.after(Millis(10_000)),
    }
}

/// An offer in which everything that may be absent is.
pub(crate) fn free_offer() -> JobOffer {
    JobOffer {
        requirement: Requirement {
            digest: None,
            tags: List::default(),
            vram: None,
            ..offer().requirement
        },
        price_cap: Price::FREE,
        rails: List::default(),
        invited: List::default(),
        open: 65_536,
        public: false,
        ..offer()
    }
}

pub(crate) fn bid(offer: &Verified<JobOffer>) -> JobBid {
    JobBid {
        job: offer.job,
        offer: offer.hash(),
        price: PRICE,
        ttft: Millis(140),
        speed: 40_000,
        queue: 0,
        addresses: List::first_of([text("/ip4/203.0.113.7/tcp/46337")]),
        payees: List::first_of([Payee {
            rail: text("evm:base:usdc"),
            address: text("0x52908400098527886E0F7030069857D2E4169EE7"),
        }]),
        digest: Some(Digest(count(0x40))),
        at_once: 4,
        public: true,
    }
}

pub(crate) fn accept(bid: &Verified<JobBid>) -> JobAccept {
    JobAccept {
        lease: LeaseId {
            job: bid.job,
            attempt: 0,
        },
        bid: bid.hash(),
        winner: bid.signer(),
        payer: Some(Payer {
            rail: text("evm:base:usdc"),
            wallet: text("0x8617E340B3D01FA5F11F306F4090FD50E238070D"),
        }),
        issued_at: NOW.after(Millis(180)),
    }
}

pub(crate) fn request(place: usize) -> RequestId {
    RequestId(count(0xc0 + u8::try_from(place).unwrap()))
}

/// Commitment to request `place` and its two Data frames.
pub(crate) fn commitment(place: usize) -> Commitment {
    let mut chain = Commitment::of_request(&count(0x60), &request(place), br#"{"messages":[]}"#);
    chain.add(0, b"data: {\"n\":0}\n\n");
    chain.add(1, b"data: [DONE]\n\n");
    chain
}

pub(crate) fn step(place: usize) -> Step {
    let (status, input_tokens, output_tokens) = match place {
        0 => (Status::Completed, 1_000, 500),
        1 => (Status::Cancelled, 7, 0),
        _ => (Status::Completed, 64, 32),
    };
    Step {
        request: request(place),
        status,
        input_tokens,
        output_tokens,
        ttft: Millis(118),
        duration: Millis(12_034),
        amount: PRICE.cost(input_tokens, output_tokens),
        commitment: commitment(place).digest(),
    }
}

pub(crate) fn countersign(receipt: &Verified<JobReceipt>) -> Countersign {
    Countersign {
        receipt: receipt.hash(),
        lease: receipt.lease,
        seq: receipt.seq,
        dispute: None,
        note: text(""),
        signed_at: receipt.finished_at.after(Millis(20)),
    }
}

pub(crate) fn dispute(receipt: &Verified<JobReceipt>) -> Countersign {
    Countersign {
        dispute: Some(Dispute::Tokens),
        note: text("more tokens than bytes"),
        ..countersign(receipt)
    }
}

/// The deal that all vectors tell: three receipts, the last one not countersigned yet.
pub(crate) struct Sample {
    pub(crate) network: Network,
    pub(crate) offer: Verified<JobOffer>,
    pub(crate) bid: Verified<JobBid>,
    pub(crate) accept: Verified<JobAccept>,
    pub(crate) ledger: Ledger,
}

impl Sample {
    pub(crate) fn new(network: &Network) -> Self {
        let (buyer, worker) = (key(BUYER), key(WORKER));
        let offer = sign(offer(), &buyer, network);
        let bid = sign(bid(&offer), &worker, network);
        let accept = sign(accept(&bid), &buyer, network);
        let mut ledger = Ledger::new(Deal::new(&accept, &bid));
        for place in 0..3 {
            let receipt = sign(ledger.issue(step(place), ended(place)), &worker, network);
            ledger.file(receipt.clone()).unwrap();
            if place < 2 {
                ledger
                    .countersign(sign(countersign(&receipt), &buyer, network))
                    .unwrap();
            }
        }
        Self {
            network: network.clone(),
            offer,
            bid,
            accept,
            ledger,
        }
    }

    pub(crate) fn export(&self) -> Export {
        Export::new(&self.network, &self.offer, &self.bid, &self.accept, &self.ledger)
    }

    pub(crate) fn receipt(&self, place: usize) -> Verified<JobReceipt> {
        self.ledger.entries()[place].receipt.clone()
    }
}

pub(crate) fn ended(place: usize) -> UnixMillis {
    UnixMillis(NOW.0 + 13_000 * (1 + place as u64))
}

/// A part of a deal in the making, handed to whoever wants to falsify it.
pub(crate) enum Part<'a> {
    Offer(&'a mut JobOffer),
    Bid(&'a mut JobBid),
    Accept(&'a mut JobAccept),
    /// Before the receipt is made of it, so that totals follow.
    Step(usize, &'a mut Step),
    Receipt(usize, &'a mut JobReceipt),
    Countersign(usize, &'a mut Countersign),
    /// Who signs the message of that name.
    Signer(&'static str, &'a mut Identity),
    /// The network that it is signed for.
    Network(&'static str, &'a mut Network),
    /// Everything, before the checksum.
    File(&'a mut Export),
}

/// Makes the file of a deal that `edit` has its hands in. Every signature, link and the checksum is made after the
/// edit, so that nothing gives the change away but the rule that it breaks.
pub(crate) fn forge(edit: fn(Part<'_>)) -> Vec<u8> {
    fn seal<T: Message>(name: &'static str, message: T, secret: [u8; 32], edit: fn(Part<'_>)) -> Verified<T> {
        let (mut who, mut network) = (key(secret), Network::default());
        edit(Part::Signer(name, &mut who));
        edit(Part::Network(name, &mut network));
        sign(message, &who, &network)
    }
    let mut draft = offer();
    edit(Part::Offer(&mut draft));
    let offer = seal("offer", draft, BUYER, edit);
    let mut draft = bid(&offer);
    edit(Part::Bid(&mut draft));
    let bid = seal("bid", draft, WORKER, edit);
    let mut draft = accept(&bid);
    edit(Part::Accept(&mut draft));
    let accept = seal("accept", draft, BUYER, edit);

    let mut receipts = Vec::new();
    let (mut prev, mut total) = (accept.hash(), Default::default());
    for place in 0..2 {
        let mut step = step(place);
        edit(Part::Step(place, &mut step));
        let mut draft = JobReceipt {
            lease: accept.lease,
            seq: u32::try_from(place).unwrap(),
            prev,
            step,
            total: infernet_protocol::receipt::Total::plus(&total, &step),
            finished_at: ended(place),
        };
        edit(Part::Receipt(place, &mut draft));
        let receipt = seal("receipt", draft, WORKER, edit);
        (prev, total) = (receipt.hash(), receipt.total);
        let mut draft = countersign(&receipt);
        edit(Part::Countersign(place, &mut draft));
        let sign = seal("countersign", draft, BUYER, edit);
        receipts.push(ExportedReceipt {
            receipt: Blob(receipt.bytes().to_vec()),
            countersign: Some(Blob(sign.bytes().to_vec())),
        });
    }
    let mut file = Export {
        version: EXPORT_VERSION,
        network: text("main"),
        offer: Blob(offer.bytes().to_vec()),
        bid: Blob(bid.bytes().to_vec()),
        accept: Blob(accept.bytes().to_vec()),
        receipts: List::first_of(receipts),
        checksum: Digest([0; 32]),
    };
    edit(Part::File(&mut file));
    file.checksum = Digest::of(&[&to_vec(&file)]);
    to_vec(&file)
}

/// A deal with one thing wrong.
pub(crate) struct False {
    /// For people.
    pub(crate) name: &'static str,
    /// The message that the check must name.
    pub(crate) part: &'static str,
    /// What the check must say of it.
    pub(crate) says: &'static str,
    /// The falsification.
    pub(crate) edit: fn(Part<'_>),
}

fn other_signer(part: Part<'_>, message: &str) {
    if let Part::Signer(name, who) = part
        && name == message
    {
        *who = key(STRANGER);
    }
}

/// One false deal for every rule of the offline check.
pub(crate) const FALSE_DEALS: &[False] = &[
    False {
        name: "bid above the cap",
        part: "bid",
        says: "asks more than the offer's cap",
        edit: |part| {
            if let Part::Bid(bid) = part {
                bid.price.output.0 += 1;
            }
        },
    },
    False {
        name: "bid for another job",
        part: "bid",
        says: "is for another job than the offer's",
        edit: |part| {
            if let Part::Bid(bid) = part {
                bid.job.0[0] ^= 1;
            }
        },
    },
    False {
        name: "bid for another offer",
        part: "bid",
        says: "answers another offer",
        edit: |part| {
            if let Part::Bid(bid) = part {
                bid.offer.0[31] ^= 1;
            }
        },
    },
    False {
        name: "bid grants more at once",
        part: "bid",
        says: "grants more at once than the offer asks",
        edit: |part| {
            if let Part::Bid(bid) = part {
                bid.at_once = 5;
            }
        },
    },
    False {
        name: "bid with other weights",
        part: "bid",
        says: "names other weights than the offer requires",
        edit: |part| {
            if let Part::Bid(bid) = part {
                bid.digest = None;
            }
        },
    },
    False {
        name: "accept for another job",
        part: "accept",
        says: "is for another job than the offer's",
        edit: |part| {
            if let Part::Accept(accept) = part {
                accept.lease.job.0[15] ^= 1;
            }
        },
    },
    False {
        name: "accept of a stranger",
        part: "accept",
        says: "is not signed by the offer's buyer",
        edit: |part| other_signer(part, "accept"),
    },
    False {
        name: "accept of another bid",
        part: "accept",
        says: "names another bid",
        edit: |part| {
            if let Part::Accept(accept) = part {
                accept.bid.0[0] ^= 1;
            }
        },
    },
    False {
        name: "accept of another winner",
        part: "accept",
        says: "names another winner than the bid's signer",
        edit: |part| {
            if let Part::Accept(accept) = part {
                accept.winner = key(STRANGER).node();
            }
        },
    },
    False {
        name: "receipt of another lease",
        part: "receipt 0",
        says: "is for another lease",
        edit: |part| {
            if let Part::Receipt(0, receipt) = part {
                receipt.lease.attempt = 1;
            }
        },
    },
    False {
        name: "receipt of a stranger",
        part: "receipt 0",
        says: "is not signed by the winner",
        edit: |part| other_signer(part, "receipt"),
    },
    False {
        name: "receipts in another order",
        part: "receipt 0",
        says: "is out of order",
        edit: |part| {
            if let Part::File(file) = part {
                file.receipts = List::first_of(file.receipts.iter().rev().cloned().collect::<Vec<_>>());
            }
        },
    },
    False {
        name: "receipt left out",
        part: "receipt 0",
        says: "is out of order",
        edit: |part| {
            if let Part::File(file) = part {
                file.receipts = List::first_of(file.receipts.iter().skip(1).cloned().collect::<Vec<_>>());
            }
        },
    },
    False {
        name: "receipt with another predecessor",
        part: "receipt 1",
        says: "does not follow the one before",
        edit: |part| {
            if let Part::Receipt(1, receipt) = part {
                receipt.prev.0[0] ^= 1;
            }
        },
    },
    False {
        name: "totals that do not add up",
        part: "receipt 1",
        says: "has totals that are not the sum of the steps",
        edit: |part| {
            if let Part::Receipt(1, receipt) = part {
                receipt.total.amount.0 += 1;
            }
        },
    },
    False {
        name: "step above the price",
        part: "receipt 0",
        says: "costs more than the bid's price",
        edit: |part| {
            if let Part::Step(0, step) = part {
                step.amount.0 += 1;
            }
        },
    },
    False {
        name: "request billed twice",
        part: "receipt 1",
        says: "bills a request a second time",
        edit: |part| {
            if let Part::Step(1, step) = part {
                step.request = request(0);
            }
        },
    },
    False {
        name: "more requests than offered",
        part: "receipt 1",
        says: "is one more than the offer's requests",
        edit: |part| {
            if let Part::Offer(offer) = part {
                offer.volume.requests = 1;
            }
        },
    },
    False {
        name: "countersignature of a stranger",
        part: "countersignature 0",
        says: "is not signed by the buyer",
        edit: |part| other_signer(part, "countersign"),
    },
    False {
        name: "countersignature of another place",
        part: "countersignature 0",
        says: "is for another receipt",
        edit: |part| {
            if let Part::Countersign(0, sign) = part {
                sign.seq = 1;
            }
        },
    },
    False {
        name: "countersignature of another receipt",
        part: "countersignature 1",
        says: "does not sign this receipt",
        edit: |part| {
            if let Part::Countersign(1, sign) = part {
                sign.receipt.0[0] ^= 1;
            }
        },
    },
    False {
        name: "countersignature of another lease",
        part: "countersignature 0",
        says: "does not sign this receipt",
        edit: |part| {
            if let Part::Countersign(0, sign) = part {
                sign.lease.attempt = 1;
            }
        },
    },
    False {
        name: "offer signed for another network",
        part: "offer",
        says: "signature does not verify",
        edit: |part| {
            if let Part::Network("offer", network) = part {
                *network = Network::new("test").unwrap();
            }
        },
    },
    False {
        name: "receipt that contradicts itself",
        part: "receipt 0",
        says: "receipt totals do not count its steps",
        edit: |part| {
            if let Part::Receipt(0, receipt) = part {
                receipt.total.requests = 2;
            }
        },
    },
    False {
        name: "accept where the bid belongs",
        part: "bid",
        says: "message kind 1025 does not belong here",
        edit: |part| {
            if let Part::File(file) = part {
                file.bid = file.accept.clone();
            }
        },
    },
    False {
        name: "network that has no name",
        part: "",
        says: "file has an unknown network name",
        edit: |part| {
            if let Part::File(file) = part {
                file.network = text("");
            }
        },
    },
    False {
        name: "file of a later version",
        part: "",
        says: "file has an unknown version",
        edit: |part| {
            if let Part::File(file) = part {
                file.version = 2;
            }
        },
    },
];

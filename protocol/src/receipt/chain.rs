//! The offline check of an exported deal: offer, bid, accept, every receipt and countersignature of the lease.
//!
//! A stranger who holds only these envelopes can check who dealt with whom, at what price, and that the totals are
//! the sums of their steps. Implements `specs/receipts.md`, "Exported receipts".

use crate::auction::{JobAccept, JobBid, JobOffer};
use crate::codec::{self, Blob, List, Malformed, Text};
use crate::ids::Digest;
use crate::names::{GOSSIP_BYTES, Network};
use crate::receipt::ledger::{Deal, Ledger};
use crate::receipt::{Countersign, JobReceipt, Total};
use crate::signed::{Message, Refused, Verified};

/// First member of an exported file.
pub const EXPORT_VERSION: u8 = 1;
/// Most receipts in one export: a lease of an hour at a request every 50 ms.
pub const EXPORT_RECEIPTS: usize = 72_000;

/// An envelope inside an export.
pub type EnvelopeBytes = Blob<GOSSIP_BYTES>;

wire_struct! {
    /// A deal as a file.
    pub struct Export {
        /// Always 1.
        pub version: u8,
        /// The network's name.
        pub network: Text<32>,
        /// The offer's envelope.
        pub offer: EnvelopeBytes,
        /// The bid's envelope.
        pub bid: EnvelopeBytes,
        /// The accept's envelope.
        pub accept: EnvelopeBytes,
        /// Each receipt with its countersignature, in order.
        pub receipts: List<ExportedReceipt, EXPORT_RECEIPTS>,
        /// SHA-256 of the file with 32 zero bytes here: catches damage in a place that no signature covers.
        pub checksum: Digest,
    }
}

wire_struct! {
    /// One receipt of an export.
    pub struct ExportedReceipt {
        /// The receipt's envelope.
        pub receipt: EnvelopeBytes,
        /// The countersignature's envelope, if there is one.
        pub countersign: Option<EnvelopeBytes>,
    }
}

/// What is wrong with an export, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The file is not an export.
    #[error("file is not an exported receipt: {0}")]
    File(Malformed),
    /// The file's version or network name is unknown.
    #[error("file has an unknown {0}")]
    Unknown(&'static str),
    /// The checksum differs.
    #[error("file is damaged: its checksum differs")]
    Checksum,
    /// A message is malformed or badly signed.
    #[error("{part}: {why}")]
    Message {
        /// Which message.
        part: String,
        /// What is wrong.
        why: Refused,
    },
    /// Two messages do not fit together.
    #[error("{part} {why}")]
    Mismatch {
        /// Which message.
        part: String,
        /// What does not fit.
        why: &'static str,
    },
}

/// A deal that holds together.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The network it was made on.
    pub network: Network,
    /// The offer.
    pub offer: Verified<JobOffer>,
    /// The bid.
    pub bid: Verified<JobBid>,
    /// The accept.
    pub accept: Verified<JobAccept>,
    /// Receipts and countersignatures.
    pub ledger: Ledger,
}

impl Checked {
    /// Sums over the receipts that both sides signed.
    #[must_use]
    pub fn settled_total(&self) -> Total {
        match self.ledger.settled().checked_sub(1) {
            Some(last) => self.ledger.entries()[last as usize].receipt.total,
            None => Total::default(),
        }
    }
}

impl Export {
    /// Puts a deal into a file.
    #[must_use]
    pub fn new(
        network: &Network,
        offer: &Verified<JobOffer>,
        bid: &Verified<JobBid>,
        accept: &Verified<JobAccept>,
        ledger: &Ledger,
    ) -> Self {
        let receipts = ledger.entries().iter().map(|entry| ExportedReceipt {
            receipt: Blob(entry.receipt.bytes().to_vec()),
            countersign: entry.countersign.as_ref().map(|sign| Blob(sign.bytes().to_vec())),
        });
        let mut export = Self {
            version: EXPORT_VERSION,
            network: Text::lossy(network.as_str()),
            offer: Blob(offer.bytes().to_vec()),
            bid: Blob(bid.bytes().to_vec()),
            accept: Blob(accept.bytes().to_vec()),
            receipts: List::first_of(receipts),
            checksum: Digest([0; 32]),
        };
        export.checksum = export.sum();
        export
    }

    /// The file's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::to_vec(self)
    }

    fn sum(&self) -> Digest {
        Digest::of(&[&codec::to_vec(&Self {
            checksum: Digest([0; 32]),
            ..self.clone()
        })])
    }
}

/// Checks a whole exported file with nothing but its bytes.
pub fn check(file: &[u8]) -> Result<Checked, Fault> {
    let export: Export = codec::from_slice(file).map_err(Fault::File)?;
    if export.version != EXPORT_VERSION {
        return Err(Fault::Unknown("version"));
    }
    let network = Network::new(export.network.as_str()).map_err(|_| Fault::Unknown("network name"))?;
    // Messages are checked before the checksum, so that a forged part is named and not only noticed.
    let offer = message::<JobOffer>("offer", &export.offer, &network)?;
    let bid = message::<JobBid>("bid", &export.bid, &network)?;
    let accept = message::<JobAccept>("accept", &export.accept, &network)?;
    check_deal(&offer, &bid, &accept)?;
    let mut ledger = Ledger::new(Deal::new(&accept, &bid));
    for (place, exported) in export.receipts.iter().enumerate() {
        if place >= offer.volume.requests as usize {
            return Err(mismatch(
                format!("receipt {place}"),
                "is one more than the offer's requests",
            ));
        }
        check_receipt(&mut ledger, place, exported, &network)?;
    }
    if export.checksum != export.sum() {
        return Err(Fault::Checksum);
    }
    Ok(Checked {
        network,
        offer,
        bid,
        accept,
        ledger,
    })
}

fn message<T: Message>(part: &str, bytes: &EnvelopeBytes, network: &Network) -> Result<Verified<T>, Fault> {
    Verified::from_bytes(&bytes.0, network).map_err(|why| Fault::Message {
        part: part.to_owned(),
        why,
    })
}

fn mismatch(part: impl Into<String>, why: &'static str) -> Fault {
    Fault::Mismatch { part: part.into(), why }
}

/// Whether three messages make one deal: the same job, the same parties, a price within the cap.
pub fn check_deal(
    offer: &Verified<JobOffer>,
    bid: &Verified<JobBid>,
    accept: &Verified<JobAccept>,
) -> Result<(), Fault> {
    let digest = &offer.requirement.digest;
    let rules = [
        (bid.job == offer.job, "bid", "is for another job than the offer's"),
        (bid.offer == offer.hash(), "bid", "answers another offer"),
        (
            bid.price.within(&offer.price_cap),
            "bid",
            "asks more than the offer's cap",
        ),
        (
            bid.at_once <= offer.volume.at_once,
            "bid",
            "grants more at once than the offer asks",
        ),
        (
            digest.is_none() || bid.digest == *digest,
            "bid",
            "names other weights than the offer requires",
        ),
        (
            accept.lease.job == offer.job,
            "accept",
            "is for another job than the offer's",
        ),
        (
            accept.signer() == offer.signer(),
            "accept",
            "is not signed by the offer's buyer",
        ),
        (accept.bid == bid.hash(), "accept", "names another bid"),
        (
            accept.winner == bid.signer(),
            "accept",
            "names another winner than the bid's signer",
        ),
    ];
    match rules.iter().find(|(holds, ..)| !holds) {
        Some((_, part, why)) => Err(mismatch(*part, why)),
        None => Ok(()),
    }
}

fn check_receipt(
    ledger: &mut Ledger,
    place: usize,
    exported: &ExportedReceipt,
    network: &Network,
) -> Result<(), Fault> {
    let part = format!("receipt {place}");
    let receipt = message::<JobReceipt>(&part, &exported.receipt, network)?;
    let step = &receipt.step;
    let due = ledger.deal().price.due(step.input_tokens, step.output_tokens);
    let rules = [
        (receipt.lease == ledger.deal().lease, "is for another lease"),
        (receipt.signer() == ledger.deal().worker, "is not signed by the winner"),
        (receipt.seq == ledger.next_seq(), "is out of order"),
        (receipt.prev == ledger.head(), "does not follow the one before"),
        (
            receipt.total == ledger.total().plus(step),
            "has totals that are not the sum of the steps",
        ),
        (step.amount <= due, "costs more than the bid's price"),
        (
            ledger.of_request(&step.request).is_none(),
            "bills a request a second time",
        ),
    ];
    if let Some((_, why)) = rules.iter().find(|(holds, _)| !holds) {
        return Err(mismatch(part, why));
    }
    ledger
        .file(receipt)
        .map_err(|_| mismatch(part, "does not fit the lease"))?;
    let Some(bytes) = &exported.countersign else {
        return Ok(());
    };
    let part = format!("countersignature {place}");
    let sign = message::<Countersign>(&part, bytes, network)?;
    if sign.seq as usize != place {
        return Err(mismatch(part, "is for another receipt"));
    }
    if sign.signer() != ledger.deal().buyer {
        return Err(mismatch(part, "is not signed by the buyer"));
    }
    ledger
        .countersign(sign)
        .map_err(|_| mismatch(part, "does not sign this receipt"))?;
    Ok(())
}

//! Every kind of message, forged in every way that needs no secret: none of them counts.

use infernet_protocol::auction::{JobAccept, JobBid, JobOffer};
use infernet_protocol::capability::CapabilityAd;
use infernet_protocol::codec::{Blob, from_slice, to_vec};
use infernet_protocol::receipt::{Countersign, JobReceipt};
use infernet_protocol::signed::{Any, Envelope, Message, Refused, Signed};
use infernet_protocol::{Network, Verified};

use crate::sample::{self, BUYER, STRANGER, Sample, WORKER, key, sign};

/// Kind numbers of all messages, and one that is none.
const KINDS: [u16; 7] = [0x0101, 0x0201, 0x0301, 0x0401, 0x0501, 0x0601, 0x0701];

fn each(mut visit: impl FnMut(&str, &dyn Forgery)) {
    let network = Network::default();
    let sample = Sample::new(&network);
    visit("ad", &sign(sample::ad(), &key(WORKER), &network));
    visit("offer", &sample.offer);
    visit("bid", &sample.bid);
    visit("accept", &sample.accept);
    visit("receipt", &sample.receipt(0));
    let countersign = sample.ledger.entries()[0].countersign.clone().unwrap();
    visit("countersign", &countersign);
}

/// A message of any kind, as something to forge.
trait Forgery {
    fn envelope(&self) -> Envelope;
    fn read(&self, bytes: &[u8], network: &Network) -> Result<(), Refused>;
    fn signed_by(&self, secret: [u8; 32], network: &Network) -> Vec<u8>;
    fn kind(&self) -> u16;
}

impl<T: Message> Forgery for Verified<T> {
    fn envelope(&self) -> Envelope {
        from_slice(self.bytes()).unwrap()
    }

    fn read(&self, bytes: &[u8], network: &Network) -> Result<(), Refused> {
        Signed::<T>::from_bytes(bytes)?.verify(network).map(drop)
    }

    fn signed_by(&self, secret: [u8; 32], network: &Network) -> Vec<u8> {
        sign(T::clone(self), &key(secret), network).bytes().to_vec()
    }

    fn kind(&self) -> u16 {
        T::KIND.number
    }
}

fn refused_both_ways(name: &str, message: &dyn Forgery, forged: &Envelope) -> Refused {
    let bytes = to_vec(forged);
    let by_kind = message.read(&bytes, &Network::default()).expect_err(name);
    Any::from_bytes(&bytes, &Network::default()).expect_err(name);
    by_kind
}

#[test]
fn the_true_ones_count() {
    each(|name, message| {
        let bytes = to_vec(&message.envelope());
        message.read(&bytes, &Network::default()).expect(name);
        Any::from_bytes(&bytes, &Network::default()).expect(name);
    });
}

#[test]
fn a_message_in_another_name_does_not_count() {
    each(|name, message| {
        for secret in [BUYER, WORKER, STRANGER] {
            let mut forged = message.envelope();
            if forged.signer == key(secret).node() {
                continue;
            }
            forged.signer = key(secret).node();
            assert_eq!(refused_both_ways(name, message, &forged), Refused::Signature, "{name}");
        }
    });
}

#[test]
fn a_message_of_another_network_does_not_count() {
    each(|name, message| {
        let elsewhere = message.signed_by(BUYER, &crate::other_network());
        assert_eq!(
            message.read(&elsewhere, &Network::default()),
            Err(Refused::Signature),
            "{name}"
        );
        assert_eq!(message.read(&elsewhere, &crate::other_network()), Ok(()), "{name}");
    });
}

#[test]
fn a_message_under_another_kind_does_not_count() {
    each(|name, message| {
        for kind in KINDS.into_iter().filter(|kind| *kind != message.kind()) {
            let mut forged = message.envelope();
            forged.kind = kind;
            assert_eq!(
                refused_both_ways(name, message, &forged),
                Refused::Kind(kind),
                "{name} as {kind:#06x}"
            );
        }
    });
}

/// The tag keeps kinds apart even where a payload could be read as either.
#[test]
fn a_signature_under_another_kind_does_not_count() {
    let network = Network::default();
    each(|name, message| {
        let mut forged = message.envelope();
        for other in ["ad", "offer", "bid", "accept", "receipt", "countersign"] {
            if network.signing_tag(other) == network.signing_tag(name) {
                continue;
            }
            for secret in [BUYER, WORKER] {
                forged.signer = key(secret).node();
                forged.signature = key(secret).sign(&network.signing_tag(other), &forged.payload.0, &sample::ENTROPY);
                assert_eq!(
                    refused_both_ways(name, message, &forged),
                    Refused::Signature,
                    "{name} signed as {other}"
                );
            }
        }
    });
}

#[test]
fn an_envelope_of_another_version_does_not_count() {
    each(|name, message| {
        let mut forged = message.envelope();
        forged.version = 2;
        assert_eq!(refused_both_ways(name, message, &forged), Refused::Version(2), "{name}");
    });
}

#[test]
fn a_payload_with_more_after_it_does_not_count_though_it_is_signed() {
    let names = ["ad", "offer", "bid", "accept", "receipt", "countersign"];
    each(|name, message| {
        assert!(names.contains(&name));
        let mut forged = message.envelope();
        forged.payload.0.push(0xf6);
        let tag = Network::default().signing_tag(name);
        forged.signer = key(BUYER).node();
        forged.signature = key(BUYER).sign(&tag, &forged.payload.0, &sample::ENTROPY);
        assert!(
            matches!(refused_both_ways(name, message, &forged), Refused::Malformed(_)),
            "{name}"
        );
    });
}

#[test]
fn a_payload_of_the_right_form_and_the_wrong_content_does_not_count() {
    fn contradicts<T: Message>(message: T) -> bool {
        let signed = sign(message, &key(BUYER), &Network::default());
        matches!(
            Verified::<T>::from_bytes(signed.bytes(), &Network::default()),
            Err(Refused::Content(_))
        )
    }
    let ad = |edit: fn(&mut CapabilityAd)| {
        let mut ad = sample::ad();
        edit(&mut ad);
        contradicts(ad)
    };
    assert!(ad(|ad| ad.interval.0 = 0));
    assert!(ad(|ad| ad.interval.0 = 1_200_001));
    assert!(!ad(|ad| ad.interval.0 = 1_200_000));
    assert!(ad(|ad| ad.sequence = ad.issued_at.0 + 30_001));
    assert!(!ad(|ad| ad.sequence = ad.issued_at.0 + 30_000));
    assert!(ad(|ad| ad.models_total = 1));
    assert!(ad(|ad| ad.slots = 0));
    assert!(ad(
        |ad| ad.models = [sample::model("a"), sample::model("a")].into_iter().collect_list()
    ));

    let offer = |edit: fn(&mut JobOffer)| {
        let mut offer = sample::offer();
        edit(&mut offer);
        contradicts(offer)
    };
    assert!(offer(|offer| offer.expires_at = offer.issued_at));
    assert!(offer(|offer| offer.expires_at.0 = offer.issued_at.0 + 60_001));
    assert!(!offer(|offer| offer.expires_at.0 = offer.issued_at.0 + 60_000));
    assert!(offer(|offer| offer.window.0 = 0));
    assert!(offer(|offer| offer.window.0 = 2_001));
    assert!(offer(|offer| offer.open = 65_537));
    assert!(offer(|offer| offer.volume.requests = 0));
    assert!(offer(|offer| offer.volume.at_once = 0));
    assert!(offer(|offer| offer.volume.at_once = 1_025));
    assert!(offer(|offer| offer.volume.lease.0 = 0));
    assert!(offer(|offer| offer.volume.lease.0 = 3_600_001));
    assert!(offer(
        |offer| offer.invited = [key(WORKER).node(), key(WORKER).node()].into_iter().collect_list()
    ));

    let sample = Sample::new(&Network::default());
    let mut bid: JobBid = JobBid::clone(&sample.bid);
    bid.at_once = 0;
    assert!(contradicts(bid));
    let mut receipt: JobReceipt = JobReceipt::clone(&sample.receipt(0));
    receipt.seq = 1;
    assert!(contradicts(receipt.clone()));
    receipt.seq = 0;
    receipt.total.amount.0 = receipt.step.amount.0 - 1;
    assert!(contradicts(receipt));
    // These two have no rule of their own; what they refer to decides.
    assert!(!contradicts(JobAccept::clone(&sample.accept)));
    assert!(!contradicts(Countersign::clone(
        sample.ledger.entries()[0].countersign.as_ref().unwrap()
    )));
}

trait CollectList<T> {
    fn collect_list<const N: usize>(self) -> infernet_protocol::codec::List<T, N>;
}

impl<T, I: Iterator<Item = T>> CollectList<T> for I {
    fn collect_list<const N: usize>(self) -> infernet_protocol::codec::List<T, N> {
        infernet_protocol::codec::List::first_of(self)
    }
}

#[test]
fn a_payload_above_the_limit_does_not_even_open() {
    let envelope = Envelope {
        version: 1,
        kind: 0x0201,
        signer: key(BUYER).node(),
        payload: Blob(vec![0; 16 * 1024 - 127]),
        signature: [0; 64],
    };
    assert!(matches!(
        infernet_protocol::signed::open(&to_vec(&envelope)),
        Err(Refused::Malformed(_))
    ));
}

//! One bit turned, one byte missing: in every message, frame and question of the vectors.

use infernet_protocol::auction::OfferReply;
use infernet_protocol::capability::{AdList, AdQuery};
use infernet_protocol::codec::{Wire, from_slice, to_vec};
use infernet_protocol::signed::Any;
use infernet_protocol::stream::{BuyerFrame, WorkerFrame};
use infernet_protocol::{Digest, Network};

use crate::frames;
use crate::sample::{self, BUYER, Sample, WORKER, key, sign};

fn flipped(bytes: &[u8]) -> impl Iterator<Item = (usize, Vec<u8>)> {
    (0..bytes.len() * 8).map(|bit| {
        let mut other = bytes.to_vec();
        other[bit / 8] ^= 1 << (bit % 8);
        (bit, other)
    })
}

fn envelopes() -> Vec<Vec<u8>> {
    let network = Network::default();
    let sample = Sample::new(&network);
    let receipt = sample.receipt(1);
    vec![
        sign(sample::withdrawal(), &key(WORKER), &network).bytes().to_vec(),
        sign(sample::free_offer(), &key(BUYER), &network).bytes().to_vec(),
        sample.bid.bytes().to_vec(),
        sample.accept.bytes().to_vec(),
        receipt.bytes().to_vec(),
        sign(sample::dispute(&receipt), &key(BUYER), &network).bytes().to_vec(),
    ]
}

#[test]
fn no_bit_of_an_envelope_can_be_turned() {
    for envelope in envelopes() {
        let hash = Digest::of(&[&envelope]);
        assert!(Any::from_bytes(&envelope, &Network::default()).is_ok());
        for (bit, other) in flipped(&envelope) {
            assert!(Any::from_bytes(&other, &Network::default()).is_err(), "bit {bit}");
            assert_ne!(Digest::of(&[&other]), hash, "bit {bit}");
        }
    }
}

#[test]
fn no_envelope_can_be_cut() {
    for envelope in envelopes() {
        for length in 0..envelope.len() {
            assert!(
                Any::from_bytes(&envelope[..length], &Network::default()).is_err(),
                "{length} bytes"
            );
        }
    }
}

/// A frame has no signature: with a bit turned it is refused, or it is another frame with that one encoding.
fn one_encoding<T: Wire + PartialEq + std::fmt::Debug>(bytes: &[u8], read: fn(&[u8]) -> Option<T>) {
    let value = read(bytes).expect("a vector");
    assert_eq!(to_vec(&value), bytes);
    for (bit, other) in flipped(bytes) {
        if let Some(read) = read(&other) {
            assert_ne!(read, value, "bit {bit}");
            assert_eq!(to_vec(&read), other, "bit {bit}");
        }
    }
    for length in 0..bytes.len() {
        assert!(read(&bytes[..length]).is_none(), "{length} bytes of a frame");
    }
    let longer = [bytes, &[0]].concat();
    assert!(read(&longer).is_none());
}

#[test]
fn every_frame_has_one_encoding() {
    let sample = Sample::new(&Network::default());
    for (_, _, frame) in frames::buyer(&sample) {
        one_encoding(&frame.to_bytes(), |bytes| BuyerFrame::from_bytes(bytes).ok());
    }
    for (_, _, frame) in frames::worker(&sample) {
        one_encoding(&frame.to_bytes(), |bytes| WorkerFrame::from_bytes(bytes).ok());
    }
}

#[test]
fn every_question_and_answer_has_one_encoding() {
    let sample = Sample::new(&Network::default());
    for query in [frames::own_ad_query(), frames::model_query()] {
        one_encoding(&to_vec(&query), |bytes| from_slice::<AdQuery>(bytes).ok());
    }
    one_encoding(&to_vec(&frames::ad_list(&sample)), |bytes| {
        from_slice::<AdList>(bytes).ok()
    });
    for reply in [frames::reply_with_bid(&sample), frames::reply_without()] {
        one_encoding(&to_vec(&reply), |bytes| from_slice::<OfferReply>(bytes).ok());
    }
}

#[test]
fn frames_of_one_side_are_not_those_of_the_other() {
    let sample = Sample::new(&Network::default());
    for (name, _, frame) in frames::buyer(&sample) {
        assert!(WorkerFrame::from_bytes(&frame.to_bytes()).is_err(), "{name}");
    }
    for (name, _, frame) in frames::worker(&sample) {
        assert!(BuyerFrame::from_bytes(&frame.to_bytes()).is_err(), "{name}");
    }
}

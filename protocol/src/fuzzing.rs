//! What must hold of any bytes that are taken for a message, a frame or a file: for `protocol/fuzz`, which feeds them
//! whatever reaches new code, and for the tests, which feed them a corpus and mutations of it.
//!
//! A function returns where its claims hold, whether the bytes were read or refused, and panics where they do not. What is
//! read is written back as the same bytes: nothing has two encodings.

use crate::auction::{JobAccept, JobBid, JobOffer, OfferReply};
use crate::capability::{AdList, AdQuery, CapabilityAd};
use crate::codec::{self, Wire};
use crate::market::gossip::{Gossip, Topic};
use crate::names::Network;
use crate::receipt::chain;
use crate::receipt::{Countersign, JobReceipt};
use crate::reputation::Book;
use crate::signed::{self, Any};
use crate::stream::frames::{BuyerFrame, WorkerFrame};

/// A value of the kind that the first byte names; whether it was read.
pub fn message(input: &[u8]) -> bool {
    let Some((kind, bytes)) = input.split_first() else {
        return false;
    };
    match kind.wrapping_sub(b'0') % 11 {
        0 => one::<CapabilityAd>(bytes),
        1 => one::<JobOffer>(bytes),
        2 => one::<JobBid>(bytes),
        3 => one::<JobAccept>(bytes),
        4 => one::<JobReceipt>(bytes),
        5 => one::<Countersign>(bytes),
        6 => one::<OfferReply>(bytes),
        7 => one::<AdQuery>(bytes),
        8 => one::<AdList>(bytes),
        9 => one::<Book>(bytes),
        _ => {
            let read = Any::from_bytes(bytes, &Network::default()).is_ok();
            assert!(!read || signed::open(bytes).is_ok(), "what verifies is an envelope");
            read
        }
    }
}

fn one<T: Wire>(bytes: &[u8]) -> bool {
    let Ok(value) = codec::from_slice::<T>(bytes) else {
        return false;
    };
    assert_eq!(codec::to_vec(&value), bytes, "there is one encoding");
    true
}

/// A message on either topic; whether it was read.
pub fn gossip(input: &[u8]) -> bool {
    let read = |topic| match Gossip::from_bytes(topic, input, &Network::default()) {
        Ok(gossip) => {
            assert_eq!(gossip.to_bytes(), input, "it is forwarded as it came");
            assert_eq!(gossip.topic(), topic, "it belongs where it was heard");
            true
        }
        Err(_) => false,
    };
    let (ads, jobs) = (read(Topic::Capability), read(Topic::Jobs));
    assert!(!(ads && jobs), "a message belongs on one topic");
    ads || jobs
}

/// A frame of either side; whether it was read as any.
pub fn frame(input: &[u8]) -> bool {
    let buyer = BuyerFrame::from_bytes(input).map(|frame| frame.to_bytes());
    let worker = WorkerFrame::from_bytes(input).map(|frame| frame.to_bytes());
    for written in [&buyer, &worker].into_iter().flatten() {
        assert_eq!(written, input, "there is one encoding");
    }
    buyer.is_ok() || worker.is_ok()
}

/// An exported deal; whether it holds.
pub fn export(input: &[u8]) -> bool {
    let Ok(checked) = chain::check(input) else { return false };
    let _total = checked.settled_total();
    true
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Mutations of each input.
    const MUTATIONS: usize = 300;

    fn corpus(target: &str) -> Vec<Vec<u8>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        let mut paths: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        paths.sort();
        paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
    }

    /// SplitMix64 (Steele, Lea and Flood 2014), which chooses the same mutations each time.
    struct Chance(u64);

    impl Chance {
        fn below(&mut self, bound: usize) -> usize {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            usize::try_from((z ^ (z >> 31)) % bound as u64).unwrap()
        }

        fn byte(&mut self) -> u8 {
            u8::try_from(self.below(256)).unwrap()
        }
    }

    /// The corpus, and what becomes of it when bytes are changed, taken out, doubled and cut off.
    fn replay(target: &str, holds: impl Fn(&[u8]) -> bool, read_at_least: usize) {
        let (inputs, mut chance) = (corpus(target), Chance(7));
        let read = inputs.iter().filter(|input| holds(input)).count();
        assert!(read >= read_at_least, "{read} of {} were read", inputs.len());
        for input in &inputs {
            for _ in 0..MUTATIONS {
                let mut input = input.clone();
                for _ in 0..=chance.below(3) {
                    let at = chance.below(input.len().max(1));
                    match chance.below(5) {
                        _ if input.is_empty() => input.push(chance.byte()),
                        0 => input[at] ^= 1 << chance.below(8),
                        1 => input[at] = chance.byte(),
                        2 => drop(input.remove(at)),
                        3 => input.insert(at, chance.byte()),
                        _ => input.truncate(at),
                    }
                }
                holds(&input);
            }
        }
    }

    #[test]
    fn messages_hold() {
        replay("message", message, 12);
    }

    #[test]
    fn gossip_holds() {
        replay("gossip", gossip, 5);
    }

    #[test]
    fn frames_hold() {
        replay("frame", frame, 15);
    }

    #[test]
    fn exports_hold() {
        replay("export", export, 1);
    }
}

//! Notices who sends the same gossip again and again. Gossipsub drops what it has seen before and tells nobody, so that
//! repeating one good message would cost its sender nothing.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use libp2p::gossipsub::{DataTransform, Message, RawMessage, TopicHash};

/// Messages of one peer that are told apart: twice this at most. At the usual rate of a network of ten thousand nodes
/// that is a few seconds, and at the worst some 10 kB a peer. Who has more to repeat meets `gossip_packets`.
const GENERATION: usize = 256;

/// Where gossipsub hands over each message that it decodes, before it asks whether it has seen it. It changes nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tap {
    /// Hashes under a key that no peer knows.
    marks: Arc<Mutex<Vec<u64>>>,
    key: RandomState,
}

impl Tap {
    /// What came since the last call.
    pub(crate) fn take(&self) -> Vec<u64> {
        std::mem::take(&mut self.marks.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl DataTransform for Tap {
    fn inbound_transform(&self, raw: RawMessage) -> io::Result<Message> {
        let mark = self.key.hash_one(&raw.data);
        self.marks.lock().unwrap_or_else(PoisonError::into_inner).push(mark);
        Ok(Message {
            source: raw.source,
            data: raw.data,
            sequence_number: raw.sequence_number,
            topic: raw.topic,
        })
    }

    fn outbound_transform(&self, _: &TopicHash, data: Vec<u8>) -> io::Result<Vec<u8>> {
        Ok(data)
    }
}

/// The last messages of one peer.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    young: HashSet<u64>,
    old: HashSet<u64>,
}

impl Recent {
    /// Notes a message; whether it is among the last.
    pub(crate) fn has_again(&mut self, mark: u64) -> bool {
        if self.young.contains(&mark) {
            return true;
        }
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        let again = self.old.contains(&mark);
        self.young.insert(mark);
        again
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_again_is_known_again_for_a_while() {
        let mut recent = Recent::default();
        assert!(!recent.has_again(1));
        assert!(recent.has_again(1));
        for mark in 2..u64::try_from(GENERATION).unwrap() + 2 {
            assert!(!recent.has_again(mark), "{mark}");
        }
        assert!(recent.has_again(1), "it is old and still known");
        for mark in 1000..3000 {
            recent.has_again(mark);
        }
        assert!(!recent.has_again(2));
        assert!(recent.young.len() + recent.old.len() <= 2 * GENERATION);
    }

    #[test]
    fn a_tap_hands_over_each_message_and_changes_none() {
        let tap = Tap::default();
        let raw = |data: &[u8]| RawMessage {
            source: None,
            data: data.to_vec(),
            sequence_number: None,
            topic: TopicHash::from_raw("a"),
            signature: None,
            key: None,
            validated: false,
        };
        assert_eq!(tap.inbound_transform(raw(b"one")).unwrap().data, b"one");
        tap.inbound_transform(raw(b"two")).unwrap();
        tap.inbound_transform(raw(b"one")).unwrap();
        let marks = tap.take();
        assert_eq!(
            (marks.len(), marks[0] == marks[2], marks[0] == marks[1]),
            (3, true, false)
        );
        assert!(tap.take().is_empty());
        assert_eq!(tap.outbound_transform(&TopicHash::from_raw("a"), vec![7]).unwrap(), [7]);
    }
}

//! Which provider has read the beginning of a conversation before: its cache makes the next answer begin sooner.
//!
//! A conversation is known by a hash over its first messages, keyed anew in every process, in memory alone. What is
//! remembered is a wish: a lease with another provider is used where that one is full or gone.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use infernet_inference::json::{Object, elements};
use infernet_protocol::NodeId;

/// Conversations remembered.
const REMEMBERED: usize = 4_096;
/// No engine keeps a prefix much longer.
const KEPT: Duration = Duration::from_secs(10 * 60);
/// Messages of one conversation that are looked at, from the last backwards.
const TURNS: usize = 64;

/// Hashes over the first one, two, three ... messages of a request, the whole last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prefixes(Vec<u64>);

impl Prefixes {
    /// Of a chat's body; none of anything else.
    #[must_use]
    pub fn of(model: &str, body: &[u8]) -> Self {
        static KEYS: OnceLock<RandomState> = OnceLock::new();
        let Some(messages) = Object::read(body).ok().and_then(|object| object.get("messages")) else {
            return Self::default();
        };
        let mut hasher = KEYS.get_or_init(RandomState::new).build_hasher();
        hasher.write(model.as_bytes());
        let hashes = elements(messages).map(|message| {
            hasher.write_usize(message.len());
            hasher.write(message);
            hasher.finish()
        });
        Self(hashes.collect())
    }
}

/// Who has read what.
#[derive(Debug, Default)]
pub(super) struct Affinity {
    readers: HashMap<u64, (NodeId, Instant)>,
}

impl Affinity {
    /// A provider has answered this request: it has all of it, and its first message, which others may share.
    pub(super) fn note(&mut self, prefixes: &Prefixes, provider: NodeId, now: Instant) {
        if self.readers.len() >= REMEMBERED {
            self.readers
                .retain(|_, (_, at)| now.saturating_duration_since(*at) < KEPT / 2);
        }
        if self.readers.len() >= REMEMBERED {
            self.readers.clear();
        }
        for hash in prefixes.0.first().into_iter().chain(prefixes.0.last()) {
            self.readers.insert(*hash, (provider, now));
        }
    }

    /// The provider that has read the most of this request.
    pub(super) fn reader_of(&self, prefixes: &Prefixes, now: Instant) -> Option<NodeId> {
        let known = prefixes.0.iter().rev().take(TURNS).chain(prefixes.0.first());
        let mut known = known.filter_map(|hash| self.readers.get(hash));
        known
            .find(|(_, at)| now.saturating_duration_since(*at) < KEPT)
            .map(|(provider, _)| *provider)
    }
}

#[cfg(test)]
mod tests {
    use infernet_protocol::Identity;

    use super::*;

    fn prefixes(messages: &[&str]) -> Prefixes {
        let messages: Vec<_> = messages
            .iter()
            .map(|text| serde_json::json!({"role": "user", "content": text}))
            .collect();
        Prefixes::of(
            "m",
            serde_json::json!({"model": "m", "messages": messages})
                .to_string()
                .as_bytes(),
        )
    }

    #[test]
    fn a_conversation_returns_to_who_has_read_it() {
        let [one, two] = [1, 2].map(|number| Identity::from_secret(&[number; 32]).unwrap().node());
        let (mut affinity, now) = (Affinity::default(), Instant::now());
        affinity.note(&prefixes(&["be brief", "hello"]), one, now);
        let next = prefixes(&["be brief", "hello", "hi", "and now?"]);
        assert_eq!(affinity.reader_of(&next, now), Some(one));
        affinity.note(&prefixes(&["be brief", "other"]), two, now);
        assert_eq!(affinity.reader_of(&next, now), Some(one), "the longest part counts");
        assert_eq!(
            affinity.reader_of(&prefixes(&["be brief", "new"]), now),
            Some(two),
            "a part of it is shared"
        );
        assert_eq!(affinity.reader_of(&prefixes(&["hello"]), now), None);
        assert_eq!(affinity.reader_of(&next, now + KEPT), None);
        assert_eq!(Prefixes::of("m", b"{}"), Prefixes::default());
    }

    #[test]
    fn it_stays_bounded() {
        let one = Identity::from_secret(&[1; 32]).unwrap().node();
        let mut affinity = Affinity::default();
        for number in 0..2 * REMEMBERED {
            affinity.note(&prefixes(&["same", &number.to_string()]), one, Instant::now());
        }
        assert!(affinity.readers.len() <= REMEMBERED + 1);
    }
}

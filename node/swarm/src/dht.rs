//! The DHT: what this node provides, whom it asks for, and which records of others it keeps.
//!
//! Only provider records exist on this network; values are neither stored nor asked for.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use libp2p::core::Endpoint;
use libp2p::kad::store::{MemoryStore, RecordStore as _};
use libp2p::kad::{self, GetProvidersOk, ProviderRecord, QueryId, QueryResult, RecordKey};
use libp2p::swarm::{ConnectionId, NetworkBehaviour as _};
use libp2p::{Multiaddr, PeerId};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::behaviour::PROVIDER_TTL;
use crate::error::DhtError;
use crate::event::Provider;
use crate::peers::ADDRESSES_PER_PEER;

/// Multihash code and length of SHA-256, which stand before the digest in a key.
const SHA2_256: [u8; 2] = [0x12, 0x20];

/// Keys that this node provides at most: 256 models, each under its own key and a shard.
const PROVIDED: usize = 512;

/// Keys that one other peer may have stored here.
const KEYS_PER_PROVIDER: usize = 512;

/// Lookups under way at once.
const LOOKUPS: usize = 64;

/// A lookup ends when this many providers are known.
const PROVIDERS_WANTED: usize = 64;

/// Records of others are swept this often.
const SWEEP: Duration = Duration::from_secs(60);

/// After a peer has entered a small table, what we provide is announced again, but not more often than this.
const ANNOUNCE_AGAIN: Duration = Duration::from_millis(500);

/// A table of up to this many peers is small: each newcomer is among the closest to every key.
const SMALL_TABLE: usize = 20;

type Kad = kad::Behaviour<MemoryStore>;
type LookupReply = oneshot::Sender<Result<Vec<Provider>, DhtError>>;

/// State beside the library's own.
#[derive(Debug, Default)]
pub(crate) struct Dht {
    provided: HashSet<[u8; 32]>,
    lookups: HashMap<QueryId, Lookup>,
    /// Records of others and when they end, by provider: the store itself neither forgets nor counts them.
    stored: HashMap<PeerId, HashMap<RecordKey, Instant>>,
    announce: Option<Instant>,
    sweep: Option<Instant>,
}

#[derive(Debug)]
struct Lookup {
    reply: LookupReply,
    found: Vec<Provider>,
}

fn key(digest: &[u8; 32]) -> RecordKey {
    RecordKey::new(&[SHA2_256.as_slice(), digest].concat())
}

fn is_key(key: &RecordKey) -> bool {
    let bytes = key.as_ref();
    bytes.len() == SHA2_256.len() + 32 && bytes.starts_with(&SHA2_256)
}

fn table_size(kad: &mut Kad) -> usize {
    kad.kbuckets().map(|bucket| bucket.num_entries()).sum()
}

impl Dht {
    pub(crate) fn provide(&mut self, kad: &mut Kad, digest: [u8; 32]) -> Result<(), DhtError> {
        if self.provided.len() >= PROVIDED && !self.provided.contains(&digest) {
            return Err(DhtError::Busy);
        }
        kad.start_providing(key(&digest)).map_err(|_| DhtError::Busy)?;
        self.provided.insert(digest);
        Ok(())
    }

    pub(crate) fn stop_providing(&mut self, kad: &mut Kad, digest: &[u8; 32]) {
        self.provided.remove(digest);
        kad.stop_providing(&key(digest));
    }

    pub(crate) fn look_up(&mut self, kad: &mut Kad, digest: &[u8; 32], reply: LookupReply) {
        if self.lookups.len() >= LOOKUPS {
            let _gone = reply.send(Err(DhtError::Busy));
        } else if table_size(kad) == 0 && self.stored.is_empty() {
            let _gone = reply.send(Err(DhtError::NoPeers));
        } else {
            let id = kad.get_providers(key(digest));
            self.lookups.insert(
                id,
                Lookup {
                    reply,
                    found: Vec::new(),
                },
            );
        }
    }

    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.announce.into_iter().chain(self.sweep).min()
    }

    pub(crate) fn on_timer(&mut self, kad: &mut Kad, now: Instant) {
        if self.announce.is_some_and(|at| at <= now) {
            self.announce = None;
            for digest in &self.provided {
                if let Err(error) = kad.start_providing(key(digest)) {
                    tracing::debug!(?error, "a key could not be announced again");
                }
            }
        }
        if self.sweep.is_some_and(|at| at <= now) {
            self.stored.retain(|peer, keys| {
                keys.retain(|key, end| {
                    let lives = *end > now;
                    if !lives {
                        kad.store_mut().remove_provider(key, peer);
                    }
                    lives
                });
                !keys.is_empty()
            });
            self.sweep = (!self.stored.is_empty()).then(|| now + SWEEP);
        }
    }

    /// A peer has entered the routing table.
    pub(crate) fn on_new_peer(&mut self, kad: &mut Kad, now: Instant) {
        if self.announce.is_none() && !self.provided.is_empty() && table_size(kad) <= SMALL_TABLE {
            self.announce = Some(now + ANNOUNCE_AGAIN);
        }
    }

    /// Keeps a record that its provider sent, or does not; says which.
    pub(crate) fn on_record(&mut self, kad: &mut Kad, mut record: ProviderRecord, now: Instant) -> bool {
        let keys = self.stored.get(&record.provider);
        let known = keys.is_some_and(|keys| keys.contains_key(&record.key));
        if !is_key(&record.key) || !known && keys.map_or(0, HashMap::len) >= KEYS_PER_PROVIDER {
            return false;
        }
        record.addresses.truncate(ADDRESSES_PER_PEER);
        let (provider, key) = (record.provider, record.key.clone());
        if kad.store_mut().add_provider(record).is_err() {
            return false;
        }
        self.stored.entry(provider).or_default().insert(key, now + PROVIDER_TTL);
        self.sweep.get_or_insert(now + SWEEP);
        true
    }

    /// Takes a step of a query; gives providers that it named, with the addresses that came with them.
    pub(crate) fn on_progress(
        &mut self,
        kad: &mut Kad,
        me: PeerId,
        id: QueryId,
        result: QueryResult,
        last: bool,
    ) -> Vec<Provider> {
        let QueryResult::GetProviders(result) = result else {
            return Vec::new();
        };
        let Some(lookup) = self.lookups.get_mut(&id) else {
            return Vec::new();
        };
        let mut news = Vec::new();
        if let Ok(GetProvidersOk::FoundProviders { providers, .. }) = result {
            for peer in providers.into_iter().filter(|peer| *peer != me) {
                if lookup.found.iter().all(|known| known.peer != peer) && lookup.found.len() < PROVIDERS_WANTED {
                    news.push(Provider {
                        peer,
                        addresses: addresses(kad, peer),
                    });
                    lookup.found.extend(news.last().cloned());
                }
            }
        }
        let enough = lookup.found.len() >= PROVIDERS_WANTED;
        if enough && let Some(mut query) = kad.query_mut(&id) {
            query.finish();
        }
        if (last || enough)
            && let Some(lookup) = self.lookups.remove(&id)
        {
            let _gone = lookup.reply.send(Ok(lookup.found));
        }
        news
    }
}

/// What the DHT would dial to reach `peer`, which includes what the records of the running lookup say of it.
fn addresses(kad: &mut Kad, peer: PeerId) -> Vec<Multiaddr> {
    let nobody = ConnectionId::new_unchecked(0);
    let mut known = kad
        .handle_pending_outbound_connection(nobody, Some(peer), &[], Endpoint::Dialer)
        .unwrap_or_default();
    known.dedup();
    known.truncate(ADDRESSES_PER_PEER);
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kad() -> Kad {
        let me = PeerId::random();
        kad::Behaviour::new(me, MemoryStore::new(me))
    }

    fn record(provider: PeerId, n: u16) -> ProviderRecord {
        let mut digest = [0; 32];
        digest[..2].copy_from_slice(&n.to_be_bytes());
        ProviderRecord {
            key: key(&digest),
            provider,
            expires: None,
            addresses: Vec::new(),
        }
    }

    #[test]
    fn a_key_is_a_sha256_multihash() {
        assert!(is_key(&key(&[7; 32])));
        assert_eq!(key(&[7; 32]).as_ref()[..3], [0x12, 0x20, 7]);
        assert!(!is_key(&RecordKey::new(&[0x12, 0x20, 1])));
        assert!(!is_key(&RecordKey::new(&[0; 34])));
    }

    #[tokio::test]
    async fn records_of_others_are_counted_and_forgotten_in_time() {
        let (mut kad, mut dht, peer, now) = (kad(), Dht::default(), PeerId::random(), Instant::now());
        let taken = (0..600)
            .filter(|n| dht.on_record(&mut kad, record(peer, *n), now))
            .count();
        assert_eq!(taken, KEYS_PER_PROVIDER);
        assert!(
            dht.on_record(&mut kad, record(peer, 0), now),
            "what is known may be renewed"
        );
        assert!(
            dht.on_record(&mut kad, record(PeerId::random(), 0), now),
            "others are counted for themselves"
        );
        let bad = ProviderRecord {
            key: RecordKey::new(b"x"),
            ..record(peer, 0)
        };
        assert!(!dht.on_record(&mut kad, bad, now));

        dht.on_timer(&mut kad, now + PROVIDER_TTL - Duration::from_secs(1));
        assert_eq!(kad.store_mut().providers(&record(peer, 0).key).len(), 2);
        dht.on_timer(&mut kad, dht.next_due().unwrap() + PROVIDER_TTL);
        assert!(kad.store_mut().providers(&record(peer, 0).key).is_empty());
        assert_eq!(dht.next_due(), None);
    }
}
